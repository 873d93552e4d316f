//! `Range` of RFC 9110 for one range of bytes. Pure.

use std::ops::Range;

/// What a `Range` header asks of a file of a known length.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    /// Everything: no header, another unit, several ranges, or nonsense, which RFC 9110 says to ignore.
    All,
    /// These bytes, not empty.
    Part(Range<u64>),
    /// No byte of the file.
    Nothing,
}

/// Reads a `Range` header for a file of `size` bytes.
#[must_use]
pub fn wanted(header: Option<&str>, size: u64) -> Wanted {
    let Some((first, last)) =
        header.and_then(|text| text.trim().strip_prefix("bytes=")).and_then(|set| set.split_once('-'))
    else {
        return Wanted::All;
    };
    let (first, last) = (first.trim(), last.trim());
    let number = |text: &str| {
        // Parsing alone would also take a sign.
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        digits.then(|| text.parse::<u64>().unwrap_or(u64::MAX))
    };
    let part = match (number(first), number(last)) {
        (None, Some(suffix)) if first.is_empty() => size.saturating_sub(suffix)..size,
        (Some(from), None) if last.is_empty() => from..size,
        (Some(from), Some(to)) if from <= to => from..to.saturating_add(1).min(size),
        _ => return Wanted::All,
    };
    if part.start < part.end { Wanted::Part(part) } else { Wanted::Nothing }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_every_form() {
        assert_eq!(wanted(None, 10), Wanted::All);
        assert_eq!(wanted(Some("bytes=0-3"), 10), Wanted::Part(0..4));
        assert_eq!(wanted(Some("bytes=7-"), 10), Wanted::Part(7..10));
        assert_eq!(wanted(Some("bytes=-4"), 10), Wanted::Part(6..10));
        assert_eq!(wanted(Some("bytes=-40"), 10), Wanted::Part(0..10));
        assert_eq!(wanted(Some("bytes=5-99999999999999999999999"), 10), Wanted::Part(5..10));
        assert_eq!(wanted(Some("bytes=10-"), 10), Wanted::Nothing);
        assert_eq!(wanted(Some("bytes=-0"), 10), Wanted::Nothing);
        for nonsense in ["bytes=4-2", "bytes=0-1,3-4", "lines=0-1", "bytes=a-b", "bytes=-", "bytes=+1-2", ""] {
            assert_eq!(wanted(Some(nonsense), 10), Wanted::All, "{nonsense}");
        }
    }

    proptest! {
        #[test]
        fn never_leaves_the_file(header in "bytes=[0-9]{0,4}-[0-9]{0,4}", size in 0u64..2000) {
            if let Wanted::Part(part) = wanted(Some(&header), size) {
                prop_assert!(part.start < part.end && part.end <= size);
            }
        }
    }
}
