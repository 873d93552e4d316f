//! Signatures as Standard Webhooks has them: HMAC-SHA256 over `id.timestamp.body`, by every secret that is good now.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use rand::TryRngCore;
use rand::rngs::OsRng;
use ring::hmac;

/// What a secret begins with, so that scanners find those that were published by mistake.
const PREFIX: &str = "whsec_";
const SECRET_BYTES: usize = 32;

/// A fresh secret: 256 random bits.
#[must_use]
pub fn fresh_secret() -> String {
    let mut bytes = [0u8; SECRET_BYTES];
    // Without randomness there is no secret to hand out, and nothing to fall back to.
    #[expect(
        clippy::expect_used,
        reason = "the kernel gives random bytes once it has started; there is no way on without"
    )]
    OsRng.try_fill_bytes(&mut bytes).expect("random bytes of the kernel");
    format!("{PREFIX}{}", BASE64.encode(bytes))
}

/// The value of `webhook-signature`: one signature for each secret, a space between.
#[must_use]
pub fn signature(secrets: &[String], id: &str, timestamp_s: i64, body: &str) -> String {
    let signed = format!("{id}.{timestamp_s}.{body}");
    let signatures = secrets.iter().map(|secret| {
        let key = secret.strip_prefix(PREFIX).and_then(|key| BASE64.decode(key).ok());
        // A secret that is none of ours still signs, by its letters.
        let key = key.unwrap_or_else(|| secret.as_bytes().to_vec());
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &key), signed.as_bytes());
        format!("v1,{}", BASE64.encode(tag.as_ref()))
    });
    signatures.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_known_message_has_its_known_signature() {
        // The example of the Standard Webhooks libraries.
        let secrets = ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".to_owned()];
        let said = signature(&secrets, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, "{\"test\": 2432232314}");
        assert_eq!(said, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
        let two = signature(&[secrets[0].clone(), fresh_secret()], "x", 1, "{}");
        assert_eq!(two.split(' ').filter(|one| one.len() == "v1,".len() + 44).count(), 2);
    }

    #[test]
    fn secrets_are_long_and_differ() {
        let (one, two) = (fresh_secret(), fresh_secret());
        assert_ne!(one, two);
        assert_eq!(one.len(), PREFIX.len() + 44);
    }
}
