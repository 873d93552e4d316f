//! The format by its first bytes.

use super::Format;
use crate::job::{Refusal, RefusalCode};

/// What is read, for messages.
pub const SUPPORTED: &str = "JPEG, PNG, WebP, TIFF, BMP, GIF, PNM and PDF";

/// First bytes of what is known but not read, with a name for people.
const OTHERS: [(&[u8], &str); 13] = [
    (b"%!PS", "a PostScript document"),
    (b"\xff\x0a", "a JPEG XL image"),
    (b"\0\0\0\x0cJXL \r\n\x87\n", "a JPEG XL image"),
    (b"\0\0\0\x0cjP  \r\n\x87\n", "a JPEG 2000 image"),
    (b"\xff\x4f\xff\x51", "a JPEG 2000 image"),
    (b"PK\x03\x04", "a ZIP archive or office document"),
    (b"PK\x05\x06", "an empty ZIP archive"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"8BPS", "a Photoshop document"),
    (b"\0\0\x01\0", "a Windows icon"),
    (b"\x76\x2f\x31\x01", "an OpenEXR image"),
    (b"AT&TFORM", "a DjVu document"),
    (b"#?RADIANCE", "a Radiance HDR image"),
];

/// The format by its first bytes.
///
/// # Errors
/// [`RefusalCode::EmptyBody`], [`RefusalCode::UnsupportedFormat`] naming what was recognised and what is supported.
pub fn sniff(head: &[u8]) -> Result<Format, Refusal> {
    if head.is_empty() {
        return Err(Refusal::new(RefusalCode::EmptyBody, "The upload is empty.").remedy("Send an image."));
    }
    supported(head).ok_or_else(|| {
        let what = recognised(head).unwrap_or("not an image that is known");
        Refusal::new(RefusalCode::UnsupportedFormat, format!("This is {what}."))
            .remedy(format!("Supported are {SUPPORTED}."))
    })
}

fn supported(head: &[u8]) -> Option<Format> {
    let starts = |magic: &[u8]| head.starts_with(magic);
    if starts(b"\xff\xd8\xff") {
        Some(Format::Jpeg)
    } else if starts(b"\x89PNG\r\n\x1a\n") {
        Some(Format::Png)
    } else if starts(b"RIFF") && head.get(8..12) == Some(b"WEBP") {
        Some(Format::Webp)
    } else if starts(b"II*\0") || starts(b"MM\0*") || starts(b"II+\0") || starts(b"MM\0+") {
        Some(Format::Tiff)
    } else if starts(b"GIF87a") || starts(b"GIF89a") {
        Some(Format::Gif)
    } else if starts(b"%PDF-") {
        Some(Format::Pdf)
    } else if is_bmp(head) {
        Some(Format::Bmp)
    } else if is_pnm(head) {
        Some(Format::Pnm)
    } else {
        None
    }
}

/// `BM` alone begins many a text; the length of the second header tells.
fn is_bmp(head: &[u8]) -> bool {
    let header_length = head.get(14..18).map(|bytes| [bytes[0], bytes[1], bytes[2], bytes[3]]).map(u32::from_le_bytes);
    head.starts_with(b"BM") && header_length.is_some_and(|length| [12, 40, 52, 56, 64, 108, 124].contains(&length))
}

fn is_pnm(head: &[u8]) -> bool {
    matches!(head, [b'P', b'1'..=b'7', next, ..] if next.is_ascii_whitespace() || *next == b'#')
}

fn recognised(head: &[u8]) -> Option<&'static str> {
    if let Some((_, name)) = OTHERS.iter().find(|(magic, _)| head.starts_with(magic)) {
        return Some(name);
    }
    if head.get(4..8) == Some(b"ftyp") {
        return Some(match head.get(8..12) {
            Some(b"avif" | b"avis") => "an AVIF image",
            Some(b"heic" | b"heix" | b"hevc" | b"hevx" | b"heim" | b"heis" | b"mif1" | b"msf1") => "an HEIC image",
            _ => "a video or another ISO media file",
        });
    }
    let text = head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(head).trim_ascii_start().to_ascii_lowercase();
    if text.starts_with(b"<svg") || text.starts_with(b"<!doctype svg") {
        Some("an SVG drawing")
    } else if text.starts_with(b"<?xml") {
        Some("an SVG drawing or another XML document")
    } else if text.starts_with(b"<!doctype html") || text.starts_with(b"<html") || text.starts_with(b"<head") {
        Some("an HTML page")
    } else if !head.contains(&0) && std::str::from_utf8(head.get(..head.len().saturating_sub(3))?).is_ok() {
        Some("text")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_is_recognised_by_content() {
        let bmp = b"BM\x46\0\0\0\0\0\0\0\x36\0\0\0\x28\0\0\0\x01\0\0\0";
        let cases: [(&[u8], Format); 11] = [
            (b"\xff\xd8\xff\xe0\0\x10JFIF", Format::Jpeg),
            (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", Format::Png),
            (b"RIFF\0\0\0\0WEBPVP8 ", Format::Webp),
            (b"II*\0\x08\0\0\0", Format::Tiff),
            (b"MM\0+\0\x08\0\0", Format::Tiff),
            (b"GIF89a", Format::Gif),
            (b"%PDF-1.7\n", Format::Pdf),
            (bmp, Format::Bmp),
            (b"P6\n# made by\n3 2\n255\n", Format::Pnm),
            (b"P1 1 1 0", Format::Pnm),
            (b"P7\nWIDTH 1\n", Format::Pnm),
        ];
        for (head, format) in cases {
            assert_eq!(sniff(head), Ok(format));
        }
    }

    #[test]
    fn what_is_not_read_is_named() {
        let cases: [(&[u8], &str); 11] = [
            (b"<svg xmlns='x'>", "SVG"),
            (b"\xef\xbb\xbf\n<?xml version='1.0'?>", "SVG"),
            (b"\n%PDF-1.7\n", "text"),
            (b"\0\0\0\x18ftypheic\0\0\0\0mif1", "HEIC"),
            (b"\0\0\0\x1cftypavif\0\0\0\0", "AVIF"),
            (b"\xff\x0a\xfa", "JPEG XL"),
            (b"PK\x03\x04\x14\0", "ZIP"),
            (b"<!DOCTYPE html><html>", "HTML"),
            (b"BMW is a maker of cars and motorcycles", "text"),
            (b"P9 is no image", "text"),
            (b"\x01\x02\x03\x80\0\0\0", "not an image"),
        ];
        for (head, name) in cases {
            let refusal = sniff(head).unwrap_err();
            assert_eq!(refusal.code, RefusalCode::UnsupportedFormat);
            assert!(refusal.detail.contains(name), "{}", refusal.detail);
            assert!(refusal.remedy.unwrap().contains("JPEG, PNG, WebP, TIFF"));
        }
        assert_eq!(sniff(b"").unwrap_err().code, RefusalCode::EmptyBody);
    }
}
