//! What the headers of the protocol say. Nothing here asks anybody.

use axum::http::{HeaderMap, HeaderName};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use ring::digest;

use super::{METHOD_OVERRIDE, UPLOAD_CHECKSUM, UPLOAD_METADATA};
use crate::http::problem::{Kind, Problem};
use crate::http::upload::asked::Asked;

/// Algorithms of checksums.
pub const ALGORITHMS: &str = "sha1,sha256";
/// Longest `Upload-Metadata`, bytes: a name of 255 letters of four bytes each takes 1360.
const METADATA_BYTES_MAX: usize = 4096;

/// The one value of a header, if it is there.
pub fn one<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a str>, Problem> {
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else { return Ok(None) };
    match (value.to_str(), values.next()) {
        (Ok(value), None) => Ok(Some(value.trim())),
        _ => Err(Problem::invalid(format!("The header {name} is there once, in ASCII."))),
    }
}

/// A number of bytes.
pub fn bytes(headers: &HeaderMap, name: &HeaderName) -> Result<u64, Problem> {
    let value =
        one(headers, name)?.filter(|value| !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()));
    let wrong = || Problem::invalid(format!("The header {name} is a number of bytes, and is needed."));
    // As a length in the ledger: what does not fit there is too long for every limit.
    value.map(|value| value.parse::<i64>().map_or(i64::MAX as u64, i64::unsigned_abs)).ok_or_else(wrong)
}

/// The method that a client meant that can only send POST.
pub fn method(headers: &HeaderMap) -> Result<&str, Problem> {
    Ok(one(headers, &METHOD_OVERRIDE)?.unwrap_or_default())
}

/// What a client says of an upload, as it came, and what that asks for. Names that mean nothing here are let be: clients
/// write what they like.
pub fn metadata(headers: &HeaderMap) -> Result<(String, Asked), Problem> {
    let text = one(headers, &UPLOAD_METADATA)?.unwrap_or_default();
    if text.len() > METADATA_BYTES_MAX {
        return Err(Problem::invalid("Upload-Metadata is too long.")
            .figures(format!("{METADATA_BYTES_MAX} bytes"), format!("{} bytes", text.len())));
    }
    let mut asked = Asked::default();
    let mut seen = std::collections::BTreeSet::new();
    for pair in text.split(',').map(str::trim).filter(|_| !text.is_empty()) {
        let (name, value) = pair.split_once(' ').unwrap_or((pair, ""));
        if name.is_empty() || !seen.insert(name) {
            return Err(Problem::invalid("Upload-Metadata has names, each once, and after each a space and Base64."));
        }
        if !(matches!(name, "filename" | "preset" | "lane" | "dedup") || name.starts_with("set.")) {
            continue;
        }
        let value = BASE64.decode(value.trim()).ok().and_then(|value| String::from_utf8(value).ok());
        let value = value.ok_or_else(|| {
            let shown: String = name.chars().take(40).collect();
            Problem::invalid(format!("In Upload-Metadata the value of {shown} is not UTF-8 in Base64."))
        })?;
        if name == "filename" { asked.filename = Some(value) } else { asked.put(name, value)? }
    }
    Ok((text.to_owned(), asked))
}

/// Whether what was said of an upload asks for what is there already to do.
pub fn asks_for_dedup(metadata: &str) -> bool {
    let value = metadata.split(',').find_map(|pair| pair.trim().strip_prefix("dedup "));
    let value = value.and_then(|value| BASE64.decode(value.trim()).ok());
    value.is_some_and(|value| value.eq_ignore_ascii_case(b"true"))
}

/// What the bytes of a request must come to.
pub struct Checksum {
    so_far: digest::Context,
    expected: Vec<u8>,
    algorithm: &'static str,
}

impl Checksum {
    /// As a request announces it, if it does.
    pub fn of(headers: &HeaderMap) -> Result<Option<Self>, Problem> {
        let Some(value) = one(headers, &UPLOAD_CHECKSUM)? else { return Ok(None) };
        let wrong = || {
            Problem::invalid("Upload-Checksum is the name of an algorithm, a space, and the checksum in Base64.")
                .figures(ALGORITHMS, value.chars().take(100).collect::<String>())
        };
        let (name, expected) = value.split_once(' ').ok_or_else(wrong)?;
        let (name, algorithm) = match name {
            "sha1" => ("sha1", &digest::SHA1_FOR_LEGACY_USE_ONLY),
            "sha256" => ("sha256", &digest::SHA256),
            _ => return Err(wrong()),
        };
        let expected = BASE64.decode(expected.trim()).map_err(|_| wrong())?;
        if expected.len() != algorithm.output_len() {
            return Err(wrong());
        }
        Ok(Some(Self { so_far: digest::Context::new(algorithm), expected, algorithm: name }))
    }

    /// Takes in the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.so_far.update(bytes);
    }

    /// Whether these were all, and the right ones.
    pub fn verify(self) -> Result<(), Problem> {
        let found = self.so_far.finish();
        if found.as_ref() == self.expected {
            return Ok(());
        }
        let shown = |bytes: &[u8]| format!("{} {}", self.algorithm, BASE64.encode(bytes));
        Err(Problem::new(
            Kind::ChecksumDiffers,
            "The bytes are not those that the checksum stands for, and are thrown away.",
        )
        .figures(shown(&self.expected), shown(found.as_ref()))
        .remedy("Send them again from the offset that HEAD tells."))
    }
}

/// A time as HTTP writes it.
pub fn date(at_ms: i64) -> String {
    let format = time::macros::format_description!(
        "[weekday repr:short], [day] [month repr:short] [year] [hour]:[minute]:[second] GMT"
    );
    let at = time::OffsetDateTime::from_unix_timestamp(at_ms.div_euclid(1000));
    at.unwrap_or(time::OffsetDateTime::UNIX_EPOCH).format(&format).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::super::UPLOAD_LENGTH;
    use super::*;

    fn with(name: HeaderName, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(name, value.parse().unwrap())])
    }

    #[test]
    fn metadata_is_read_as_the_protocol_has_it() {
        let read = |value: &str| metadata(&with(UPLOAD_METADATA, value));
        let (text, asked) =
            read("filename 0YHQutCw0L0ucG5n,preset cGhvdG8=, set.quality NzA=,relativePath bnVsbA==,is_confidential")
                .unwrap();
        assert!(text.starts_with("filename 0YHQ"));
        assert_eq!((asked.filename.as_deref(), asked.preset.as_str()), (Some("скан.png"), "photo"));
        assert_eq!(asked.set["quality"], "70");
        assert_eq!(metadata(&HeaderMap::new()).unwrap().1, Asked::default());
        let (text, asked) = read("filename YQ==, dedup dHJ1ZQ==").unwrap();
        assert!(asked.dedup && asks_for_dedup(&text) && !asks_for_dedup("filename YQ==,dedup ZmFsc2U="));
        for wrong in ["filename %%%", "filename /w==", "preset cGhvdG8=,preset cGhvdG8=", ",", "lane ZmFzdA=="] {
            assert_eq!(read(wrong).unwrap_err().code, "invalid_parameter", "{wrong}");
        }
        assert_eq!(read(&format!("filename {}", "YWFh".repeat(1100))).unwrap_err().code, "invalid_parameter");
    }

    #[test]
    fn lengths_are_whole_numbers() {
        let read = |value: &str| bytes(&with(UPLOAD_LENGTH, value), &UPLOAD_LENGTH).ok();
        assert_eq!((read("0"), read("67108864"), read(" 7 ")), (Some(0), Some(67_108_864), Some(7)));
        assert_eq!(read("99999999999999999999999"), Some(i64::MAX.unsigned_abs()));
        for wrong in ["", "-1", "+1", "1.5", "0x10", "1 2"] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn checksums_hold_and_do_not() {
        let of = |value: &str| Checksum::of(&with(UPLOAD_CHECKSUM, value));
        for sum in ["sha1 Kq5sNclPz7QV2+lfQIuc6R7oRu0=", "sha256 uU0nuZNNPgilLlLX2n2r+sSE7+N6U4DukIj3rOLvzek="] {
            let mut checksum = of(sum).unwrap().unwrap();
            checksum.update(b"hello ");
            checksum.update(b"world");
            checksum.verify().unwrap();
            let mut checksum = of(sum).unwrap().unwrap();
            checksum.update(b"hello worle");
            assert_eq!(checksum.verify().unwrap_err().status, 460);
        }
        for wrong in ["", "sha1", "md5 XrY7u+Ae7tCTyyK7j1rNww==", "sha1 XrY7u+Ae7tCTyyK7j1rNww==", "sha256 %"] {
            assert_eq!(of(wrong).err().map(|problem| problem.status), Some(400), "{wrong}");
        }
    }

    #[test]
    fn dates_are_those_of_http() {
        assert_eq!(date(784_111_777_000), "Sun, 06 Nov 1994 08:49:37 GMT");
    }
}
