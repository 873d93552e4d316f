//! Signed paths of this server, for uploads that are announced first. They promise what a presigned URL of an object store
//! does: whoever has one may put exactly the bytes that were announced, for a short time, and nothing else.

use ring::hmac;

use crate::blobs::Written;
use crate::job::UploadId;

/// Signs and verifies with the secret of this data directory.
#[derive(Debug)]
pub struct UrlSigner(hmac::Key);

impl UrlSigner {
    /// With this secret.
    #[must_use]
    pub fn new(secret: &[u8; 32]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, secret))
    }

    /// The path for one upload; `expires_at_s` is in seconds since 1970.
    pub fn path(&self, id: UploadId, expected: &Written, content_type: &str, expires_at_s: i64) -> String {
        let signature = hmac::sign(&self.0, text(id, expected, content_type, expires_at_s).as_bytes());
        let signature = hex::encode(signature.as_ref());
        format!("/api/v1/uploads/{id}/content?expires={expires_at_s}&signature={signature}")
    }

    /// Whether `signature` stands for exactly this.
    pub fn verifies(
        &self,
        signature: &str,
        id: UploadId,
        expected: &Written,
        content_type: &str,
        expires_at_s: i64,
    ) -> bool {
        let Ok(signature) = hex::decode(signature) else { return false };
        hmac::verify(&self.0, text(id, expected, content_type, expires_at_s).as_bytes(), &signature).is_ok()
    }
}

/// No part can hold a line end, so no two uploads have the same text.
fn text(id: UploadId, expected: &Written, content_type: &str, expires_at_s: i64) -> String {
    let Written { size_bytes, sha256 } = expected;
    format!("PUT\n{id}\n{expires_at_s}\n{size_bytes}\n{sha256}\n{content_type}")
}
