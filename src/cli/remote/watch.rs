//! Waits for the ends of jobs: events say them at once, and what no event said is asked for now and then.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::sync::oneshot;

use super::{Events, Job, RemoteError, Server};
use crate::job::JobId;

/// Jobs are asked for one by one, this often while events come in…
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// …and this often while none do (a proxy may hold them back): 20 requests a second are little for a server.
const LOOK_EVERY_BLIND: Duration = Duration::from_millis(50);
/// The same job is not asked for more often.
const LOOK_AGAIN: Duration = Duration::from_secs(2);
/// After an event stream has ended.
const RECONNECT: Duration = Duration::from_secs(1);

/// One job, for all who wait for it: images with the same bytes may have one together.
#[derive(Default)]
struct Pending {
    done: Vec<oneshot::Sender<Result<Value, RemoteError>>>,
    looked_at: Option<Instant>,
}

impl Pending {
    fn tell(self, answer: &Result<Value, RemoteError>) {
        for done in self.done {
            let _ = done.send(answer.clone());
        }
    }
}

/// All jobs that are waited for.
pub struct Watch<'a> {
    server: &'a Server,
    pending: RefCell<BTreeMap<JobId, Pending>>,
    connected: Cell<bool>,
    lost: RefCell<Option<RemoteError>>,
}

impl<'a> Watch<'a> {
    /// Waits for nothing yet.
    pub fn new(server: &'a Server) -> Self {
        Self { server, pending: RefCell::default(), connected: Cell::new(false), lost: RefCell::default() }
    }

    /// The job as it is in the end; `now` is as it was seen last. Needs [`Watch::run`] beside it.
    pub async fn end_of(&self, now: Value) -> Result<Value, RemoteError> {
        let job = Job::of(&now)?;
        if job.state.is_final() {
            return Ok(now);
        }
        if let Some(error) = &*self.lost.borrow() {
            return Err(error.clone());
        }
        let (done, ended) = oneshot::channel();
        self.pending.borrow_mut().entry(job.id).or_default().done.push(done);
        let _forget = Forget { watch: self, job: job.id };
        ended.await.unwrap_or_else(|_| Err(RemoteError::Failed("nobody watches the job any more".to_owned())))
    }

    /// Watches for ever. When the server is lost, all who wait are told.
    pub async fn run(&self) {
        tokio::select! {
            () = self.listen() => {}
            error = self.look() => {
                self.lost.replace(Some(error.clone()));
                let waiting = self.pending.take();
                for pending in waiting.into_values() {
                    pending.tell(&Err(error.clone()));
                }
            }
        }
        std::future::pending().await
    }

    /// Reads events, for ever. What goes wrong here is found out by [`Watch::look`].
    async fn listen(&self) {
        let mut after: Option<String> = None;
        loop {
            let url = self.server.url(["events"], &[]);
            if let Ok(mut events) = Events::open(self.server, url, after.as_deref()).await {
                self.connected.set(true);
                while let Ok(Some(event)) = events.next().await {
                    if event.kind == "job" {
                        self.seen(event.data);
                    }
                }
                after = events.last_id().map(str::to_owned).or(after);
            }
            self.connected.set(false);
            tokio::time::sleep(RECONNECT).await;
        }
    }

    /// Asks for jobs, the one first that was not asked for the longest, until the server is lost.
    async fn look(&self) -> RemoteError {
        loop {
            let pause = if self.connected.get() { LOOK_EVERY } else { LOOK_EVERY_BLIND };
            tokio::time::sleep(pause).await;
            let Some(id) = self.due() else { continue };
            let url = self.server.url(["jobs", &id.to_string()], &[]);
            match self.server.get::<Value>(url).await {
                Ok(object) => self.seen(object),
                // Deleted with its image, or the login has ended: that is how it ends for us.
                Err(error @ RemoteError::Refused(_)) if error.worth_another_try().is_none() => {
                    self.answer(id, Err(error));
                }
                Err(error) => return error,
            }
        }
    }

    fn due(&self) -> Option<JobId> {
        let mut pending = self.pending.borrow_mut();
        let (id, first) = pending.iter_mut().min_by_key(|(_, pending)| pending.looked_at)?;
        if first.looked_at.is_some_and(|at| at.elapsed() < LOOK_AGAIN) {
            return None;
        }
        first.looked_at = Some(Instant::now());
        Some(*id)
    }

    fn seen(&self, object: Value) {
        if let Ok(job) = Job::of(&object)
            && job.state.is_final()
        {
            self.answer(job.id, Ok(object));
        }
    }

    fn answer(&self, id: JobId, answer: Result<Value, RemoteError>) {
        let pending = self.pending.borrow_mut().remove(&id);
        if let Some(pending) = pending {
            pending.tell(&answer);
        }
    }
}

/// Whoever stops waiting leaves nothing behind.
struct Forget<'a, 'b> {
    watch: &'b Watch<'a>,
    job: JobId,
}

impl Drop for Forget<'_, '_> {
    fn drop(&mut self) {
        let mut pending = self.watch.pending.borrow_mut();
        if let Some(others) = pending.get_mut(&self.job) {
            others.done.retain(|done| !done.is_closed());
            if others.done.is_empty() {
                pending.remove(&self.job);
            }
        }
    }
}
