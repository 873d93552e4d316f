//! From stored files to rows and the answer.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::Upload;
use super::receive::Received;
use crate::http::AppState;
use crate::http::images::view;
use crate::http::limits::queue_full;
use crate::http::problem::{Kind, Problem};
use crate::http::shapes::{self, Image, Item, Items};
use crate::job::{ImageId, JobId, OwnerId};
use crate::store::{Accepted, Idempotency, ImageRow, JobRow, NewImage, NewJob, Recalled, Submission, job_object};

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
    Accepted { image: ImageId, job: JobId },
    Refused { filename: String, error: Box<Problem> },
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
                    kept.push(Kept::Accepted { image: image_id, job: id });
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
        let submission = Submission { owner: self.owner, items, idempotency, submitted, limits };
        crate::fault::hit("upload-durable");
        match self.state.ledger.accept(submission).await? {
            Accepted::Created(rows) => {
                crate::fault::hit("upload-committed");
                if crate::fault::told("forget-accepted") {
                    for (image, _) in &rows {
                        self.state.ledger.delete_image(self.owner, image.id).await?;
                    }
                }
                self.state.control.work_arrived();
                Ok(Answered { items: fresh(kept, &rows), is_new: true })
            }
            Accepted::Replayed(earlier) => self.replay(earlier, asked.as_deref()).await,
            Accepted::QueueFull(full) => Err(queue_full(&self.state, full, wanted).await),
        }
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
            Kept::Accepted { image, job } => {
                let image = state.ledger.image(owner, image).await?;
                let job = state.ledger.job(owner, job).await?;
                match image.zip(job) {
                    Some((image, job)) => accepted(view(state, owner, &image).await?, &job),
                    None => refused(String::new(), Problem::new(Kind::NotFound, "It was deleted since.")),
                }
            }
        });
    }
    Ok(Items { items })
}

fn fresh(kept: Vec<Kept>, rows: &[(ImageRow, JobRow)]) -> Items {
    let mut rows = rows.iter();
    let item = |kept| match kept {
        Kept::Refused { filename, error } => Some(refused(filename, *error)),
        // Rows come back in the order in which they were handed over.
        Kept::Accepted { .. } => rows.next().map(|(image, job)| accepted(shapes::image(image, Vec::new()), job)),
    };
    Items { items: kept.into_iter().filter_map(item).collect() }
}

fn accepted(image: Image, job: &JobRow) -> Item {
    Item { image: Some(image), job: Some(job_object(job)), filename: None, error: None }
}

fn refused(filename: String, error: Problem) -> Item {
    error.count();
    Item { image: None, job: None, filename: Some(filename).filter(|name| !name.is_empty()), error: Some(error) }
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
