//! From stored files to rows and the answer.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::Upload;
use super::receive::Received;
use crate::http::AppState;
use crate::http::images::view;
use crate::http::limits::queue_full;
use crate::http::problem::{Kind, Problem};
use crate::http::quota;
use crate::http::shapes::{self, Image, Item, Items};
use crate::job::{ImageId, JobId, OwnerId};
use crate::store::{Accepted, Idempotency, ImageRow, JobRow, NewImage, NewJob, Recalled, Submission, job_object};
use crate::traces::{self, Moment, Span};

/// What is answered.
pub struct Answered {
    /// One for each file.
    pub items: Items,
    /// Whether rows were written for what this request stored.
    pub is_new: bool,
}

/// An item as an idempotency row keeps it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(untagged)]
enum Kept {
    Accepted {
        image: ImageId,
        job: JobId,
        /// The image that was asked for, where another that is there already would do.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        asked: Option<ImageId>,
    },
    Refused {
        filename: String,
        error: Box<Problem>,
    },
}

impl Upload {
    /// Commits what was received, or says why not.
    pub async fn accept(&self, received: Vec<Received>) -> Result<Answered, Problem> {
        let spec = self.state.presets.resolve(&self.asked.preset, &self.asked.set)?;
        let preset = spec.preset.clone();
        let spec = serde_json::to_value(spec).map_err(|error| Problem::internal(&error))?;
        let fingerprint = self.key.is_some().then(|| fingerprint(&spec, self.asked.lane, &named(&received)));
        let mut kept = Vec::with_capacity(received.len());
        let mut items: Vec<(NewImage, NewJob)> = Vec::new();
        for Received { filename, outcome } in received {
            match outcome {
                Ok(image) => {
                    let (preset, spec) = (preset.clone(), spec.clone());
                    let (id, image_id) = (JobId::fresh(), image.id);
                    let job = NewJob { id, owner: self.owner, image_id, preset, spec, lane: self.asked.lane };
                    let asked = self.asked.dedup.then_some(image_id);
                    kept.push(Kept::Accepted { image: image_id, job: id, asked });
                    items.push((image, job));
                }
                Err(error) => kept.push(Kept::Refused { filename, error: Box::new(error) }),
            }
        }
        if let ([], Some(Kept::Refused { error, .. })) = (&items[..], kept.first()) {
            return Err(Problem::clone(error));
        }
        let wanted = items.len() as u64;
        let idempotency = match (&self.key, fingerprint) {
            (Some(key), Some(fingerprint)) => {
                let answer = serde_json::to_value(&kept).map_err(|error| Problem::internal(&error))?;
                Some(Idempotency { key: key.clone(), fingerprint, answer })
            }
            _ => None,
        };
        let asked = idempotency.as_ref().map(|idempotency| idempotency.fingerprint.clone());
        let limits = self.state.queue_limits();
        let submitted = self.submitted.clone();
        let (owner, upload, dedup) = (self.owner, self.upload, self.asked.dedup);
        let submission = Submission { owner, items, idempotency, submitted, upload, dedup, limits };
        crate::fault::hit("upload-durable");
        let committing = Moment::now();
        match self.state.ledger.accept(submission).await? {
            Accepted::Created(rows) => {
                rows.iter().for_each(|(image, job)| self.trace(image, job, committing));
                crate::fault::hit("upload-committed");
                if crate::fault::told("forget-accepted") {
                    for (image, _) in &rows {
                        self.state.ledger.delete_image(self.owner, image.id).await?;
                    }
                }
                self.state.control.work_arrived();
                Ok(Answered { items: fresh(&self.state, owner, kept, rows).await?, is_new: true })
            }
            Accepted::Replayed(earlier) => self.replay(earlier, asked.as_deref()).await,
            Accepted::QueueFull(full) => Err(queue_full(&self.state, full, wanted).await),
            Accepted::QuotaReached(full) => Err(quota::reached(&self.state, &full).await),
        }
    }

    /// The trace of a job begins with its upload.
    fn trace(&self, image: &ImageRow, job: &JobRow, committing: Moment) {
        let root = traces::root(job.id);
        drop(Span::since(committing, job.id, Some(root), "commit"));
        let mut span = Span::since(self.began, job.id, None, "upload").with_id(root);
        span.tell("inkpool.bytes", image.size_bytes);
        span.tell("inkpool.content_type", image.content_type.as_str());
        span.tell("inkpool.preset", job.preset.as_str());
    }

    /// Answers as before, if it is the same request.
    pub async fn replay(&self, earlier: Recalled, fingerprint: Option<&str>) -> Result<Answered, Problem> {
        if Some(earlier.fingerprint.as_str()) != fingerprint {
            return Err(Problem::new(
                Kind::IdempotencyKeyReused,
                "This key was used for other files or other settings.",
            )
            .remedy("Use a fresh key for each request, and the same one only to send the same request again."));
        }
        Ok(Answered { items: items_now(&self.state, self.owner, earlier).await?, is_new: false })
    }
}

/// An earlier answer with its images and jobs as they are now.
pub async fn items_now(state: &AppState, owner: OwnerId, earlier: Recalled) -> Result<Items, Problem> {
    let kept: Vec<Kept> = serde_json::from_value(earlier.answer).map_err(|error| Problem::internal(&error))?;
    let mut items = Vec::with_capacity(kept.len());
    for kept in kept {
        items.push(match kept {
            Kept::Refused { filename, error } => refused(filename, *error),
            Kept::Accepted { image, job, asked } => {
                let was_there = asked.is_some_and(|asked| asked != image);
                let image = state.ledger.image(owner, image).await?;
                let job = state.ledger.job(owner, job).await?;
                match image.zip(job) {
                    Some((image, job)) => accepted(view(state, owner, &image).await?, &job, was_there),
                    None => refused(String::new(), Problem::new(Kind::NotFound, "It was deleted since.")),
                }
            }
        });
    }
    Ok(Items { items })
}

async fn fresh(
    state: &AppState,
    owner: OwnerId,
    kept: Vec<Kept>,
    rows: Vec<(ImageRow, JobRow)>,
) -> Result<Items, Problem> {
    // Rows come back in the order in which they were handed over.
    let mut rows = rows.into_iter();
    let mut items = Vec::with_capacity(kept.len());
    for kept in kept {
        match kept {
            Kept::Refused { filename, error } => items.push(refused(filename, *error)),
            Kept::Accepted { asked, .. } => {
                let Some((image, job)) = rows.next() else { break };
                let was_there = asked.is_some_and(|asked| asked != image.id);
                let shown =
                    if was_there { view(state, owner, &image).await? } else { shapes::image(&image, Vec::new()) };
                items.push(accepted(shown, &job, was_there));
            }
        }
    }
    Ok(Items { items })
}

/// An image with its job, for an answer.
pub fn accepted(image: Image, job: &JobRow, deduplicated: bool) -> Item {
    Item { image: Some(image), job: Some(job_object(job)), filename: None, error: None, deduplicated }
}

fn refused(filename: String, error: Problem) -> Item {
    error.count();
    Item {
        image: None,
        job: None,
        filename: Some(filename).filter(|name| !name.is_empty()),
        error: Some(error),
        deduplicated: false,
    }
}

/// Names of files, each with what it is: its hash, or why it was refused.
fn named(received: &[Received]) -> Vec<(&String, &String)> {
    received
        .iter()
        .map(|file| match &file.outcome {
            Ok(image) => (&file.filename, &image.sha256),
            Err(problem) => (&file.filename, &problem.code),
        })
        .collect()
}

/// SHA-256 over everything that makes the request what it is.
pub fn fingerprint(spec: &serde_json::Value, lane: Option<crate::job::Lane>, files: &[(&String, &String)]) -> String {
    let request = serde_json::json!({ "spec": spec, "lane": lane, "files": files });
    hex::encode(Sha256::digest(request.to_string()))
}
