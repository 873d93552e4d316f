//! URLs with which a client puts an object past this server: length, hash and type are bound by what is signed.

use std::collections::BTreeMap;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use rusty_s3::{Credentials, S3Action, actions::PutObject};

use super::{BlobError, Blobs, Key, Written};

/// The header with the SHA-256 of the body, base64, as S3 has it.
pub const CHECKSUM_HEADER: &str = "x-amz-checksum-sha256";

/// Headers that a client must send with the bytes, exactly these; everything they say is signed.
#[must_use]
pub fn bound_headers(expected: &Written, content_type: &str) -> BTreeMap<&'static str, String> {
    let digest = hex::decode(&expected.sha256).unwrap_or_default();
    BTreeMap::from([
        ("content-length", expected.size_bytes.to_string()),
        ("content-type", content_type.to_owned()),
        // A URL that was used cannot be used again.
        ("if-none-match", "*".to_owned()),
        (CHECKSUM_HEADER, BASE64.encode(digest)),
    ])
}

impl Blobs {
    /// A URL to put this object, and nothing else, straight into the bucket; `None` where there is no bucket.
    ///
    /// # Errors
    /// [`BlobError::Unavailable`] when there are no credentials, [`BlobError::Down`].
    pub async fn presign_put(
        &self,
        key: &Key,
        expected: &Written,
        content_type: &str,
        expires_in: Duration,
    ) -> Result<Option<String>, BlobError> {
        let Some(s3) = &self.s3 else { return Ok(None) };
        self.in_reach()?;
        let credential = s3.store.credentials().get_credential().await.map_err(|error| self.failed(error))?;
        let (id, secret) = (credential.key_id.clone(), credential.secret_key.clone());
        let credentials = match credential.token.clone() {
            Some(token) => Credentials::new_with_token(id, secret, token),
            None => Credentials::new(id, secret),
        };
        let path = s3.full(&key.path());
        // `object_store` signs URLs as well, but not the length.
        let mut put = PutObject::new(&s3.public, Some(&credentials), path.as_ref());
        for (name, value) in bound_headers(expected, content_type) {
            put.headers_mut().insert(name, value);
        }
        Ok(Some(put.sign(expires_in).into()))
    }
}
