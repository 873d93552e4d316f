//! Names of uploads: what may be shown and sent back, made from what a client claims. Pure.

/// Longest name kept, bytes: what file systems take.
pub const FILENAME_BYTES_MAX: usize = 255;
/// The name of an upload whose own name has nothing left.
const NAMELESS: &str = "image";

/// The last path component of `claimed` without control and bidirectional characters, at most
/// [`FILENAME_BYTES_MAX`] bytes, never empty. The result names nothing on any disk; it is for people and for downloads.
#[must_use]
pub fn sanitise(claimed: &str) -> String {
    let last = claimed.rsplit(['/', '\\']).next().unwrap_or_default();
    let kept: String = last.chars().filter(|&character| !is_unsafe(character)).collect();
    let trimmed = kept.trim();
    let mut end = trimmed.len().min(FILENAME_BYTES_MAX);
    while !trimmed.is_char_boundary(end) {
        end -= 1;
    }
    let name = trimmed[..end].trim_end();
    if name.chars().all(|character| character == '.') { NAMELESS.to_owned() } else { name.to_owned() }
}

/// Control characters, and those that turn the direction of what follows: `photo\u{202e}gnp.exe` reads as `photoexe.png`.
fn is_unsafe(character: char) -> bool {
    character.is_control()
        || matches!(character,
            '\u{061c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

/// The name under which an output is saved: `scan.jpg` and `p0002/clean.png` make `scan.p0002.clean.png`.
#[must_use]
pub fn of_output(original: &str, output: &str) -> String {
    let stem = original.rsplit_once('.').map_or(original, |(stem, _)| stem);
    let tail = output.replace('/', ".");
    let mut end = stem.len().min(FILENAME_BYTES_MAX.saturating_sub(tail.len() + 1));
    while !stem.is_char_boundary(end) {
        end -= 1;
    }
    sanitise(&format!("{}.{tail}", &stem[..end]))
}

/// `Content-Disposition` (RFC 6266) with a plain name for old clients and the exact one in UTF-8 (RFC 8187).
#[must_use]
pub fn content_disposition(attachment: bool, name: &str) -> String {
    let kind = if attachment { "attachment" } else { "inline" };
    let plain: String = name
        .chars()
        .map(|character| match character {
            '"' | '\\' | '%' => '_',
            ' '..='~' => character,
            _ => '_',
        })
        .collect();
    let mut exact = String::with_capacity(name.len() * 3);
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || b"!#$&+-.^_`|~".contains(&byte) {
            exact.push(char::from(byte));
        } else {
            exact.push('%');
            exact.push_str(&hex::encode_upper([byte]));
        }
    }
    format!("{kind}; filename=\"{plain}\"; filename*=UTF-8''{exact}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;
    use proptest::prelude::*;

    #[test]
    fn keeps_what_is_harmless() {
        assert_eq!(sanitise("Seite 1 – Ärger.tif"), "Seite 1 – Ärger.tif");
        assert_eq!(sanitise(".hidden.png"), ".hidden.png");
    }

    #[test]
    fn takes_away_what_is_not() {
        assert_eq!(sanitise("../../etc/passwd"), "passwd");
        assert_eq!(sanitise("C:\\scans\\a.png"), "a.png");
        assert_eq!(sanitise("a\0b\r\nSet-Cookie: x.png"), "abSet-Cookie: x.png");
        assert_eq!(sanitise("photo\u{202e}gnp.exe"), "photognp.exe");
        for nothing in ["", "..", "/", "a/", "\u{200f}", " \t "] {
            assert_eq!(sanitise(nothing), "image", "{nothing:?}");
        }
    }

    #[test]
    fn outputs_are_named_after_their_original() {
        assert_eq!(of_output("scan.jpg", "clean.png"), "scan.clean.png");
        assert_eq!(of_output("scan", "p0002/clean.png"), "scan.p0002.clean.png");
        assert!(of_output(&"ä".repeat(200), "thumb.webp").ends_with(".thumb.webp"));
    }

    #[test]
    fn disposition_carries_both_names() {
        assert_eq!(
            content_disposition(true, "Ä \"x\".png"),
            "attachment; filename=\"_ _x_.png\"; filename*=UTF-8''%C3%84%20%22x%22.png"
        );
    }

    proptest! {
        #[test]
        fn whatever_is_claimed_the_name_is_safe(claimed in any::<String>()) {
            let name = sanitise(&claimed);
            prop_assert!(!name.is_empty() && name.len() <= FILENAME_BYTES_MAX);
            prop_assert!(!name.contains(['/', '\\', '\0', '\r', '\n']));
            prop_assert!(name != "." && name != "..");
            prop_assert_eq!(sanitise(&name), name.clone());
            let header = content_disposition(true, &name);
            prop_assert!(HeaderValue::from_str(&header).is_ok());
            prop_assert_eq!(header.matches('"').count(), 2);
            prop_assert!(of_output(&name, "p0002/clean.png").len() <= FILENAME_BYTES_MAX);
        }

        #[test]
        fn long_names_end_at_a_character(name in "[äöü€a-z]{0,400}") {
            prop_assert!(sanitise(&name).len() <= FILENAME_BYTES_MAX);
        }
    }
}
