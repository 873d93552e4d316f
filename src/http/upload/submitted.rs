//! Images that come over the bus: a program has put the bytes into the object store and says so in a message. They are looked
//! at as an announced upload is, and copied to a key of their own.

use std::sync::Arc;

use axum::http::HeaderMap;
use serde::Deserialize;
use sha2::{Digest, Sha256};

use super::accept::{Answered, fingerprint};
use super::asked::Asked;
use super::receive::Received;
use super::{KEY_BYTES_MAX, Upload, admit, is_key};
use crate::blobs::{BlobError, Key};
use crate::http::AppState;
use crate::http::filename::sanitise;
use crate::http::limits::busy;
use crate::http::problem::{Kind, Problem};
use crate::http::quota;
use crate::http::shapes::{Item, Items};
use crate::job::{Lane, OwnerId, RefusalCode};
use crate::pipeline::spec::Overrides;
use crate::store::producers::Submitted;
use crate::traces::Moment;

/// The schema that is read here.
const SCHEMA: &str = "inkpool.submit/1";

/// Longest name in a header of an answer, bytes.
const KNOWN_BYTES_MAX: usize = 512;

/// What a program says of the bytes that it has put. See `docs/events/submit.json`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Message {
    schema: String,
    object_key: String,
    sha256: String,
    size_bytes: u64,
    filename: String,
    #[serde(default)]
    preset: String,
    #[serde(default)]
    set: Overrides,
    #[serde(default)]
    lane: Option<Lane>,
    #[serde(default)]
    idempotency_key: Option<String>,
}

/// A submission that was taken.
#[derive(Debug, Clone)]
pub struct Taken {
    /// The image with its job.
    pub item: Item,
    /// False when it had been taken before: nothing was written now.
    pub is_new: bool,
}

/// What the sender of a message will know the answer by, as far as the message can be read.
#[must_use]
pub fn known_by(payload: &[u8]) -> Option<Submitted> {
    let message: serde_json::Value = serde_json::from_slice(payload).ok()?;
    let text = |name: &str| {
        let text = message.get(name).and_then(serde_json::Value::as_str);
        text.filter(|text| text.len() <= KNOWN_BYTES_MAX).map(str::to_owned)
    };
    Some(Submitted { object_key: text("object_key")?, idempotency_key: text("idempotency_key") })
}

/// Turns a message and the bytes that it names into an image and a job, once.
///
/// # Errors
/// A problem below 500 stands for good: the message is wrong. One from 500 on is ours, and passes.
pub async fn submit(state: &AppState, owner: &str, payload: &[u8]) -> Result<Taken, Problem> {
    let message = read(payload, state.config.producers.message_bytes_max)?;
    let owner = known_owner(state, owner).await?;
    check(state, &message)?;
    let Some(object) = Key::incoming(owner, &message.object_key) else {
        return Err(Problem::invalid(format!(
            "object_key is incoming/{owner}/ and then names of letters, digits, dots, dashes and underscores."
        )));
    };
    // Without a key the message itself is one; with a space, so that it is none that a client can send.
    let key = message.idempotency_key.clone();
    let key = key.unwrap_or_else(|| format!("submission {}", hex::encode(Sha256::digest(payload))));
    admit(state, owner, &HeaderMap::new(), u64::MAX, Some(&key)).await?;
    let places = state.config.http.uploads_max;
    let place = Arc::clone(&state.uploads).try_acquire_owned().map_err(|_| busy("uploads", places))?;
    let Message { preset, set, lane, object_key, idempotency_key, .. } = message.clone();
    let upload = Upload {
        state: state.clone(),
        owner,
        asked: Asked { preset, set, lane, dedup: false, filename: None },
        key: Some(key),
        bytes_max: 0,
        is_form: false,
        stored: Vec::new(),
        submitted: Some(Submitted { object_key, idempotency_key }),
        upload: None,
        began: Moment::now(),
        _place: place,
    };
    let taken = state.task(upload.take_submitted(message, object.clone())).await?;
    if let Err(error) = state.blobs.delete(&object).await {
        tracing::warn!(key = %object.path(), %error, "what was submitted is left to the janitor");
    }
    Ok(taken)
}

fn read(payload: &[u8], bytes_max: usize) -> Result<Message, Problem> {
    if payload.len() > bytes_max {
        let refused = Kind::Refused(RefusalCode::BodyTooLarge);
        return Err(Problem::new(refused, "The message is too long; the bytes of the image go to the object store.")
            .figures(format!("{bytes_max} bytes"), format!("{} bytes", payload.len())));
    }
    let wrong =
        |error: serde_json::Error| Problem::new(Kind::InvalidJson, format!("The message cannot be read: {error}"));
    let message: serde_json::Value = serde_json::from_slice(payload).map_err(wrong)?;
    // Said first: another schema may have other fields.
    if message["schema"] != SCHEMA {
        return Err(Problem::invalid(format!("The schema of the message is not {SCHEMA}.")));
    }
    let message: Message = serde_json::from_value(message).map_err(wrong)?;
    debug_assert_eq!(message.schema, SCHEMA, "it was looked at");
    Ok(message)
}

/// Whoever may publish to the subject of an owner acts for them; here it is only seen to that there is such an owner.
async fn known_owner(state: &AppState, name: &str) -> Result<OwnerId, Problem> {
    let unknown = || Problem::not_found("owner").remedy("GET /api/v1/session names the owner of an account.");
    // Other spellings of the same id are other subjects, and other directories.
    let owner = name.parse().ok().filter(|owner: &OwnerId| owner.to_string() == name).ok_or_else(unknown)?;
    let is_known = if state.auth.is_some() { state.ledger.owner_known(owner).await? } else { owner == OwnerId::LOCAL };
    is_known.then_some(owner).ok_or_else(unknown)
}

/// What can be refused before the store is asked.
fn check(state: &AppState, message: &Message) -> Result<(), Problem> {
    let bytes_max = state.config.http.body_bytes_max;
    if message.size_bytes == 0 {
        return Err(Problem::new(Kind::Refused(RefusalCode::EmptyBody), "The image has no bytes."));
    }
    if message.size_bytes > bytes_max {
        return Err(Problem::body_too_large(bytes_max, format!("{} bytes", message.size_bytes)));
    }
    if message.sha256.len() != 64 || !message.sha256.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(Problem::invalid("sha256 is not 64 hexadecimal digits."));
    }
    if message.idempotency_key.as_deref().is_some_and(|key| !is_key(key)) {
        return Err(Problem::invalid(format!("An idempotency_key has 1 to {KEY_BYTES_MAX} visible ASCII characters.")));
    }
    state.presets.resolve(&message.preset, &message.set)?;
    Ok(())
}

impl Upload {
    async fn take_submitted(mut self, message: Message, object: Key) -> Result<Taken, Problem> {
        let filename = sanitise(&message.filename);
        let sha256 = message.sha256.to_ascii_lowercase();
        let key = self.key.clone().unwrap_or_default();
        // Looked for first: the object is removed when its row is there.
        if let Some(answered) = self.answered_before(&key, &filename, &sha256).await? {
            return taken(answered.items, false);
        }
        quota::admit(&self.state, self.owner, quota::upload_of(message.size_bytes)).await?;
        let answered = match self.receive_submitted(&filename, message.size_bytes, &sha256, &object).await {
            Ok(received) => self.accept(vec![received]).await,
            // Another delivery of the same message may have taken it meanwhile: a slow server gets it twice at once.
            Err(problem) => match self.answered_before(&key, &filename, &sha256).await {
                Ok(answered) => answered.ok_or(problem),
                Err(problem) => Err(problem),
            },
        };
        let is_new = answered.as_ref().is_ok_and(|answered| answered.is_new);
        taken(self.settle(answered).await?, is_new)
    }

    async fn answered_before(&self, key: &str, filename: &str, sha256: &str) -> Result<Option<Answered>, Problem> {
        let Some(earlier) = self.state.ledger.recall(self.owner, key).await? else { return Ok(None) };
        let spec = self.state.presets.resolve(&self.asked.preset, &self.asked.set)?;
        let spec = serde_json::to_value(spec).map_err(|error| Problem::internal(&error))?;
        let same = fingerprint(&spec, self.asked.lane, &[(&filename.to_owned(), &sha256.to_owned())]);
        self.replay(earlier, Some(&same)).await.map(Some)
    }

    async fn receive_submitted(
        &mut self,
        filename: &str,
        size_bytes: u64,
        sha256: &str,
        object: &Key,
    ) -> Result<Received, Problem> {
        let Key::Incoming { owner, name } = object else { return Err(Problem::internal(&"another kind of key")) };
        let object = match self.state.blobs.get_incoming(*owner, name).await {
            Err(BlobError::NotFound) => {
                let problem = Problem::new(Kind::NotUploaded, "There are no bytes under this object_key.");
                return Err(problem.remedy("Put the bytes first, then publish the message."));
            }
            object => object?,
        };
        if object.size_bytes != size_bytes {
            return Err(Problem::upload_differs(format!("{} bytes, not {size_bytes}", object.size_bytes)));
        }
        let broken = |error: std::io::Error| Problem::unavailable(&error);
        let image = self.store(filename, object.stream, broken).await?;
        if image.sha256 != sha256 {
            return Err(Problem::upload_differs(format!("SHA-256 {}, not {sha256}", image.sha256)));
        }
        Ok(Received { filename: filename.to_owned(), outcome: Ok(image) })
    }
}

fn taken(items: Items, is_new: bool) -> Result<Taken, Problem> {
    let item = items.items.into_iter().next().ok_or_else(|| Problem::internal(&"an answer without an item"))?;
    match item.error {
        Some(problem) => Err(problem),
        None => Ok(Taken { item, is_new }),
    }
}
