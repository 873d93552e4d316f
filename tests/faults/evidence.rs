//! What is known after a run: the answers that the clients noted, and the final state of ledger and bucket. Plain data, so
//! that the checker can be tested with what never happened.

use std::collections::BTreeMap;

/// One answer to one try of an upload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Which upload; each is sent with the same key and the same bytes until it is accepted.
    pub upload: u32,
    pub node: usize,
    /// `None`: no answer came.
    pub status: Option<u16>,
    /// Of a 202.
    pub job: Option<String>,
}

/// A row of the table of jobs, with the hash of its image's row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    pub id: String,
    pub image: String,
    pub image_sha256: String,
    pub owner: String,
    pub state: String,
    pub starts: u32,
    pub attempt: u32,
    pub attempts_max: u32,
}

/// A row of the table of visible files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    pub job: String,
    pub start: u32,
    pub name: String,
    pub sha256: String,
}

/// An event: as the ledger keeps it, or as a watcher was sent it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    pub owner: String,
    pub seq: i64,
    pub job: String,
    pub state: String,
    pub attempt: u32,
    pub node: Option<String>,
    pub at_ms: i64,
}

/// Everything that the checker looks at.
#[derive(Debug, Clone, Default)]
pub struct Evidence {
    pub answers: Vec<Answer>,
    /// Hashes of the bytes that were sent, by upload.
    pub sent: BTreeMap<u32, String>,
    pub jobs: Vec<Job>,
    pub files: Vec<File>,
    /// Of the ledger, by owner and number.
    pub events: Vec<Event>,
    /// The last number of each owner.
    pub heads: BTreeMap<String, i64>,
    /// As one watcher was sent them, in the order in which they came; it goes on after a break with `Last-Event-ID`.
    pub watched: Vec<Event>,
    /// Hashes of the bytes in the bucket, by key.
    pub objects: BTreeMap<String, String>,
}

impl Evidence {
    /// Accepted uploads with the jobs that they were told.
    pub fn accepted(&self) -> impl Iterator<Item = (u32, &str)> {
        self.answers
            .iter()
            .filter(|answer| answer.status == Some(202))
            .filter_map(|a| Some((a.upload, a.job.as_deref()?)))
    }

    /// Attempts beyond the first of each job: what the fault cost.
    pub fn attempts_spent(&self) -> u32 {
        self.jobs.iter().map(|job| job.attempt.saturating_sub(1)).sum()
    }

    /// Keys of outputs that no visible file stands for.
    pub fn losing_objects(&self) -> usize {
        let visible: std::collections::BTreeSet<String> = self.files.iter().map(object_of).collect();
        self.objects.keys().filter(|key| key.starts_with("out/") && !visible.contains(*key)).count()
    }
}

/// Key of a visible file's bytes.
pub fn object_of(file: &File) -> String {
    format!("out/{}/{}/{}", file.job, file.start, file.name)
}
