//! The check at the start: every operation once, so that what is wrong is said by its name before work is taken.

use futures::StreamExt;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutPayload};

use super::{Blobs, chain, explain};

/// What the object of the check holds.
const SAMPLE: &str = "inkpool";

/// An operation that the store does not carry out.
#[derive(Debug, thiserror::Error)]
#[error("cannot {operation}: {reason} ({detail})")]
pub struct CheckError {
    /// What was tried.
    pub operation: &'static str,
    /// For people.
    pub reason: &'static str,
    /// What the store said.
    pub detail: String,
}

impl Blobs {
    /// Lists, puts, gets and deletes an object of its own; on S3 only, a directory was made ready when it was opened.
    ///
    /// # Errors
    /// The first operation that failed, and why.
    pub async fn check(&self) -> Result<(), CheckError> {
        let Some(s3) = &self.s3 else { return Ok(()) };
        let failed = |operation| {
            move |error: object_store::Error| CheckError { operation, reason: explain(&error), detail: chain(&error) }
        };
        // First, since its answer has a body that says what is wrong.
        s3.store.list(Some(&s3.prefix)).next().await.transpose().map_err(failed("list objects"))?;
        let path = Path::from(format!("check/{}", uuid::Uuid::now_v7()));
        let put = || self.store.put_opts(&path, PutPayload::from_static(SAMPLE.as_bytes()), PutMode::Create.into());
        put().await.map_err(failed("put an object"))?;
        let again = put().await;
        let read = async { self.store.get(&path).await?.bytes().await }.await;
        self.store.delete(&path).await.map_err(failed("delete an object"))?;
        if read.map_err(failed("get an object"))? != SAMPLE {
            let (reason, detail) = ("it gives other bytes than it was given", String::new());
            return Err(CheckError { operation: "get an object", reason, detail });
        }
        match again {
            Err(object_store::Error::AlreadyExists { .. }) => {}
            Ok(_) => {
                let (reason, detail) = ("the condition is ignored", "If-None-Match".to_owned());
                return Err(CheckError { operation: "put on a condition", reason, detail });
            }
            Err(error) => return Err(failed("put on a condition")(error)),
        }
        if let Err(error) = s3.unfinished().await {
            tracing::warn!(
                %error,
                "unfinished uploads cannot be listed here: give the bucket a lifecycle rule that ends them"
            );
        }
        Ok(())
    }
}
