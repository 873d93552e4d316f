//! `inkpool admin store verify`: whether every row has its object, whole.

use std::io::Write;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Context;
use futures::StreamExt;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::json;
use sha2::{Digest, Sha256};

use crate::blobs::{BlobError, Blobs, Key};
use crate::store::{Ledger, Listed, Stored};

/// Rows looked at in one page.
const PAGE: u32 = 500;
/// Objects read at once: what one disk reads well, and an S3 server does not notice.
const AT_ONCE: usize = 4;

/// What is wrong with an object.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Fault {
    Missing,
    Size(u64),
    Hash(String),
    Unreadable(String),
}

impl Fault {
    fn word(&self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Size(_) => "size_differs",
            Self::Hash(_) => "hash_differs",
            Self::Unreadable(_) => "unreadable",
        }
    }

    fn sentence(&self, listed: &Listed) -> String {
        match self {
            Self::Missing => "is missing".to_owned(),
            Self::Size(found) => format!("has {found} bytes, not {}", listed.size_bytes),
            Self::Hash(found) => format!("has SHA-256 {found}, not {}", listed.sha256),
            Self::Unreadable(why) => format!("cannot be read: {why}"),
        }
    }
}

/// Compares the ledger with the object store.
pub struct Verify<'a> {
    pub ledger: &'a dyn Ledger,
    pub blobs: &'a Blobs,
    /// Lengths alone.
    pub quick: bool,
    pub json: bool,
    seen: AtomicU64,
    bytes: AtomicU64,
    faults: AtomicU64,
}

impl<'a> Verify<'a> {
    /// Nothing is looked at yet.
    pub fn new(ledger: &'a dyn Ledger, blobs: &'a Blobs, quick: bool, json: bool) -> Self {
        let zero = AtomicU64::default;
        Self { ledger, blobs, quick, json, seen: zero(), bytes: zero(), faults: zero() }
    }

    /// Looks at everything; the number of objects with a fault.
    pub async fn run(&self) -> anyhow::Result<u64> {
        let style = ProgressStyle::with_template("{spinner} {pos} objects  {bytes_per_sec}")
            .unwrap_or_else(|_| ProgressStyle::default_spinner());
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr()).with_style(style);
        let mut after = None;
        loop {
            let page = self.ledger.originals(after, PAGE).await.context("the ledger")?;
            self.page(&page, &bar).await?;
            match page.last() {
                Some(Listed { stored: Stored::Original(id), .. }) => after = Some(*id),
                Some(_) | None => break,
            }
        }
        let mut after = None;
        loop {
            let page = self.ledger.outputs(after, PAGE).await.context("the ledger")?;
            self.page(&page, &bar).await?;
            match page.last() {
                Some(Listed { stored: Stored::Output { job, ordinal, .. }, .. }) => after = Some((*job, *ordinal)),
                Some(_) | None => break,
            }
        }
        bar.finish_and_clear();
        self.sum_up()
    }

    async fn page(&self, page: &[Listed], bar: &ProgressBar) -> anyhow::Result<()> {
        let mut looks =
            futures::stream::iter(page.iter().map(|listed| async move { (listed, self.look(listed).await) }))
                .buffer_unordered(AT_ONCE);
        while let Some((listed, fault)) = looks.next().await {
            self.seen.fetch_add(1, Ordering::Relaxed);
            bar.inc(1);
            if let Some(fault) = fault {
                bar.suspend(|| self.tell(listed, &fault))?;
            }
        }
        Ok(())
    }

    async fn look(&self, listed: &Listed) -> Option<Fault> {
        let fault = match self.measure(listed).await {
            Ok(fault) => fault,
            Err(BlobError::NotFound) => Some(Fault::Missing),
            Err(error) => Some(Fault::Unreadable(error.to_string())),
        };
        match fault {
            // A server beside us may have deleted it since its row was read.
            Some(Fault::Missing) if !self.is_listed(listed).await => None,
            fault => fault,
        }
    }

    async fn measure(&self, listed: &Listed) -> Result<Option<Fault>, BlobError> {
        let key = key(&listed.stored);
        if self.quick {
            let size_bytes = self.blobs.head(&key).await?;
            return Ok((size_bytes != listed.size_bytes).then_some(Fault::Size(size_bytes)));
        }
        let object = self.blobs.get_stream(&key).await?;
        if object.size_bytes != listed.size_bytes {
            return Ok(Some(Fault::Size(object.size_bytes)));
        }
        let (mut hash, mut stream) = (Sha256::new(), object.stream);
        while let Some(piece) = stream.next().await {
            match piece {
                Ok(piece) => {
                    self.bytes.fetch_add(piece.len() as u64, Ordering::Relaxed);
                    hash.update(&piece);
                }
                Err(error) => return Ok(Some(Fault::Unreadable(error.to_string()))),
            }
        }
        let found = hex::encode(hash.finalize());
        Ok((found != listed.sha256).then_some(Fault::Hash(found)))
    }

    /// Whether its row is still there. If nobody can say, it is.
    async fn is_listed(&self, listed: &Listed) -> bool {
        let known = match &listed.stored {
            Stored::Original(id) => self.ledger.image_known(*id).await,
            Stored::Output { job, start, .. } => self.ledger.start_known(*job, *start).await,
        };
        known.unwrap_or(true)
    }

    fn tell(&self, listed: &Listed, fault: &Fault) -> anyhow::Result<()> {
        self.faults.fetch_add(1, Ordering::Relaxed);
        let object = key(&listed.stored).path().to_string();
        let mut out = std::io::stdout();
        if self.json {
            let told = json!({"object": object, "fault": fault.word(), "detail": fault.sentence(listed)});
            return writeln!(out, "{told}").context("standard output");
        }
        writeln!(out, "{object} {}", fault.sentence(listed)).context("standard output")
    }

    fn sum_up(&self) -> anyhow::Result<u64> {
        let [seen, bytes, faults] = [&self.seen, &self.bytes, &self.faults].map(|count| count.load(Ordering::Relaxed));
        let mut out = std::io::stdout();
        if self.json {
            let told = json!({"objects": seen, "bytes_read": bytes, "faults": faults});
            writeln!(out, "{told}").context("standard output")?;
        } else {
            writeln!(out, "{seen} objects, {faults} with a fault").context("standard output")?;
        }
        Ok(faults)
    }
}

fn key(stored: &Stored) -> Key {
    match stored {
        Stored::Original(id) => Key::Original(*id),
        Stored::Output { job, start, name, .. } => Key::Output { job: *job, start: *start, name: name.clone() },
    }
}
