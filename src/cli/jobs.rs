//! `inkpool jobs`: what became of uploads.

use std::io::Write;

use clap::{Args, Subcommand};
use http_client::Method;
use serde::Deserialize;
use serde_json::Value;

use super::remote::{Events, Job, RemoteArgs, RemoteError, Server, Watch, refusal};
use super::{Exit, complain, explain, plain};
use crate::job::{JobId, State};

const EXAMPLES: &str = "\
Examples:
  inkpool jobs list --state failed --server https://ink.example.org
  inkpool jobs show 0199a3f0-5d1e-7c52-9d6c-7a3f1f0c9b11
  inkpool jobs watch                            everything of this account, until Ctrl-C
  inkpool jobs watch JOB JOB                    until these have ended
  inkpool jobs list --state failed --json | jq -r .id | xargs inkpool jobs retry

Exit codes: 0 done; 1 something failed, or is not there; 2 usage; 3 a watched job was refused; 4 the server cannot be reached.";

/// Items of a page of a list: servers give 500 unless they are told otherwise.
const PAGE: usize = 100;

/// Looks at jobs, cancels them and tries them again.
#[derive(Debug, Clone, Args)]
#[command(after_help = EXAMPLES)]
pub struct JobsArgs {
    #[command(flatten)]
    remote: Shared,
    #[command(subcommand)]
    command: JobsCommand,
}

/// What every command takes, before or after its name.
#[derive(Debug, Clone, Args)]
struct Shared {
    #[command(flatten)]
    server: RemoteArgs,
    /// Print one JSON object for each result on standard output
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, Clone, Subcommand)]
enum JobsCommand {
    /// Lists jobs, newest first.
    List {
        /// Only those: queued, released, running, succeeded, failed, cancelled
        #[arg(long, value_parser = state)]
        state: Option<State>,
        /// So many at most
        #[arg(long, value_name = "N", default_value_t = 50)]
        limit: usize,
    },
    /// Shows jobs with all that is known of them.
    Show {
        /// Which
        #[arg(required = true, value_name = "JOB")]
        ids: Vec<JobId>,
    },
    /// Says what happens, as it happens; until these jobs have ended, or without any until Ctrl-C.
    Watch {
        /// Which
        #[arg(value_name = "JOB")]
        ids: Vec<JobId>,
    },
    /// Cancels jobs.
    Cancel {
        /// Which
        #[arg(required = true, value_name = "JOB")]
        ids: Vec<JobId>,
    },
    /// Queues failed or cancelled jobs again.
    Retry {
        /// Which
        #[arg(required = true, value_name = "JOB")]
        ids: Vec<JobId>,
    },
}

fn state(name: &str) -> Result<State, String> {
    let known = || State::ALL.map(State::as_str).join(", ");
    State::parse(name).ok_or_else(|| format!("there are {}", known()))
}

/// Runs the command.
pub fn run(args: &JobsArgs) -> Exit {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return complain(&error.to_string(), Exit::Failed),
    };
    let done = runtime.block_on(async {
        let server = Server::new(&args.remote.server)?;
        if server.exposes_token() {
            complain("the token goes over plain HTTP, where others on the way can read it", Exit::Done);
        }
        let jobs = Jobs { server: &server, json: args.remote.json };
        match &args.command {
            JobsCommand::List { state, limit } => jobs.list(*state, *limit).await,
            JobsCommand::Show { ids } => jobs.each(ids, Method::GET, "").await,
            JobsCommand::Cancel { ids } => jobs.each(ids, Method::POST, "cancel").await,
            JobsCommand::Retry { ids } => jobs.each(ids, Method::POST, "retry").await,
            JobsCommand::Watch { ids } if ids.is_empty() => jobs.follow().await,
            JobsCommand::Watch { ids } => jobs.watch(ids).await,
        }
    });
    done.unwrap_or_else(|error| complain(&error.to_string(), error.exit()))
}

#[derive(Deserialize)]
struct Page {
    items: Vec<Value>,
    next_cursor: Option<String>,
}

struct Jobs<'a> {
    server: &'a Server,
    json: bool,
}

impl Jobs<'_> {
    async fn list(&self, state: Option<State>, limit: usize) -> Result<Exit, RemoteError> {
        let (mut left, mut cursor) = (limit, None::<String>);
        while left > 0 {
            let count = left.min(PAGE).to_string();
            let mut query = vec![("limit", count.as_str())];
            query.extend(state.map(|state| ("state", state.as_str())));
            query.extend(cursor.as_deref().map(|cursor| ("cursor", cursor)));
            let page: Page = self.server.get(self.server.url(["jobs"], &query)).await?;
            for object in page.items.iter().take(left) {
                if !self.tell(object)? {
                    return Ok(Exit::Done);
                }
            }
            left = left.saturating_sub(page.items.len());
            match page.next_cursor {
                Some(next) if !page.items.is_empty() => cursor = Some(next),
                Some(_) | None => break,
            }
        }
        Ok(Exit::Done)
    }

    /// Asks for each of the jobs; one that cannot be had does not stop the others.
    async fn each(&self, ids: &[JobId], method: Method, verb: &str) -> Result<Exit, RemoteError> {
        let mut worst = Exit::Done;
        for id in ids {
            let id = id.to_string();
            let path = ["jobs", &id, verb].into_iter().filter(|part| !part.is_empty());
            let url = self.server.url(path, &[]);
            match self.server.document::<Value>(method.clone(), url, None).await {
                Ok(object) => {
                    self.tell(&object)?;
                }
                Err(error) if error.concerns_all() => return Err(error),
                Err(error) => worst = worst.max(complain(&format!("{id}: {error}"), error.exit())),
            }
        }
        Ok(worst)
    }

    async fn watch(&self, ids: &[JobId]) -> Result<Exit, RemoteError> {
        let watch = Watch::new(self.server);
        let all = async {
            let each = ids.iter().map(|id| self.end_of(&watch, *id));
            let ends = futures::future::join_all(each).await;
            ends.into_iter().max().unwrap_or(Exit::Done)
        };
        tokio::select! {
            exit = all => Ok(exit),
            () = watch.run() => Ok(Exit::Failed),
        }
    }

    async fn end_of(&self, watch: &Watch<'_>, id: JobId) -> Exit {
        let ended = async {
            let url = self.server.url(["jobs", &id.to_string()], &[]);
            let object = watch.end_of(self.server.get(url).await?).await?;
            self.tell(&object)?;
            Job::of(&object)
        };
        match ended.await {
            Ok(job) if job.state == State::Succeeded => Exit::Done,
            Ok(job) if job.error.as_ref().is_some_and(|error| refusal(&error.code).is_some()) => Exit::Refused,
            Ok(_) => Exit::Failed,
            Err(error) => complain(&format!("{id}: {error}"), error.exit()),
        }
    }

    /// Tells what happens until nobody reads on, or the server is away for too long.
    async fn follow(&self) -> Result<Exit, RemoteError> {
        let mut after: Option<String> = None;
        loop {
            let url = self.server.url(["events"], &[]);
            let open = async || Events::open(self.server, url.clone(), after.as_deref()).await;
            let mut events = self.server.again_while_it_helps(open).await?;
            // A stream that breaks off is opened again, and goes on after what was told.
            while let Ok(Some(event)) = events.next().await {
                if event.kind == "job" && !self.tell(&event.data)? {
                    return Ok(Exit::Done);
                }
            }
            after = events.last_id().map(str::to_owned).or(after);
        }
    }

    /// One line for a job; false when nobody reads any more.
    fn tell(&self, object: &Value) -> Result<bool, RemoteError> {
        let text = if self.json { object.to_string() } else { line(object, &Job::of(object)?) };
        Ok(writeln!(std::io::stdout(), "{text}").is_ok())
    }
}

/// `ID  state  preset  when  why`
fn line(object: &Value, job: &Job) -> String {
    let text = |name: &str| plain(object.get(name).and_then(Value::as_str).unwrap_or_default());
    let state = match (job.state, object.get("progress").and_then(Value::as_f64)) {
        (State::Running, Some(share)) => format!("running {:3.0}%", share.clamp(0.0, 1.0) * 100.0),
        (state, _) => state.to_string(),
    };
    let mut line = format!("{}  {state:12}  {:10}  {}", job.id, text("preset"), text("created_at"));
    if let Some(error) = &job.error {
        let why = explain(&error.detail, error.limit.as_deref(), error.measured.as_deref(), error.remedy.as_deref());
        line.push_str("  ");
        line.push_str(&why);
    }
    line
}
