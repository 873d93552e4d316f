//! The segments of a JPEG before its first scan: size, and where EXIF, ICC and Adobe's marker lie.

use std::io::{Read, Seek};

use super::reader::{Order, Reader};
use super::{Head, malformed, unsupported};

/// Segments before the first scan; a photo has about 20, of an ICC profile at most 255.
const SEGMENTS_MAX: usize = 4096;

/// Width and height as stored, pixels.
pub(super) fn size<R: Read + Seek>(input: &mut Reader<'_, R>) -> Head<(u32, u32)> {
    let mut offset = 2u64;
    for _ in 0..SEGMENTS_MAX {
        input.go_to(offset)?;
        if input.byte()? != 0xff {
            return malformed("The JPEG has bytes between its segments.");
        }
        let marker = input.byte()?;
        // Fill bytes and markers without a body.
        if marker == 0xff {
            offset += 1;
            continue;
        }
        if matches!(marker, 0x01 | 0xd0..=0xd7) {
            offset += 2;
            continue;
        }
        if matches!(marker, 0xd8..=0xda) {
            return malformed("The JPEG has no frame header.");
        }
        let length = input.u16(Order::Big)?;
        if is_frame(marker) {
            return frame(input);
        }
        if length < 2 {
            return malformed("The JPEG has a segment without a length.");
        }
        offset += 2 + u64::from(length);
    }
    malformed("The JPEG has too many segments before its frame header.")
}

const fn is_frame(marker: u8) -> bool {
    matches!(marker, 0xc0..=0xcf) && !matches!(marker, 0xc4 | 0xc8 | 0xcc)
}

fn frame<R: Read + Seek>(input: &mut Reader<'_, R>) -> Head<(u32, u32)> {
    let bits = input.byte()?;
    let height = input.u16(Order::Big)?;
    let width = input.u16(Order::Big)?;
    if bits != 8 {
        return unsupported("JPEG with more than 8 bits for each colour is not supported.");
    }
    if height == 0 {
        return unsupported("JPEG that states its height after the image is not supported.");
    }
    Ok((width.into(), height.into()))
}

/// What the segments before the first scan say beside the size. Slices of the input.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Segments<'a> {
    /// The TIFF structure of the first EXIF segment.
    pub exif: Option<&'a [u8]>,
    /// Density of JFIF: its unit (1: inch, 2: centimetre), then both directions.
    pub density: Option<(u8, u16, u16)>,
    /// Pieces of the ICC profile with their number, in the order of the file.
    pub icc: Vec<(u8, &'a [u8])>,
    /// Whether Adobe's marker is there: CMYK is then stored inverted.
    pub adobe: bool,
    /// Colour components of the first scan; fewer than the image has means that a decoder holds all coefficients at once.
    pub first_scan_components: u8,
}

/// Walks the segments of a whole JPEG. Stops without error where they end or are damaged.
#[must_use]
pub fn segments(jpeg: &[u8]) -> Segments<'_> {
    let mut found = Segments::default();
    let mut rest = jpeg.get(2..).unwrap_or_default();
    for _ in 0..SEGMENTS_MAX {
        match rest {
            [0xff, 0xff, ..] => rest = &rest[1..],
            [0xff, 0x01 | 0xd0..=0xd7, ..] => rest = &rest[2..],
            [0xff, 0xda, _, _, components, ..] => {
                found.first_scan_components = *components;
                return found;
            }
            [0xff, 0xd8..=0xda, ..] => return found,
            [0xff, marker, high, low, body @ ..] => {
                let length = usize::from(u16::from_be_bytes([*high, *low])).saturating_sub(2);
                let Some((segment, next)) = body.split_at_checked(length) else { return found };
                note(&mut found, *marker, segment);
                rest = next;
            }
            _ => return found,
        }
    }
    found
}

fn note<'a>(found: &mut Segments<'a>, marker: u8, segment: &'a [u8]) {
    match marker {
        0xe0 if found.density.is_none() => {
            if let Some([_, _, unit, a, b, c, d, ..]) = segment.strip_prefix(b"JFIF\0") {
                found.density = Some((*unit, u16::from_be_bytes([*a, *b]), u16::from_be_bytes([*c, *d])));
            }
        }
        0xe1 if found.exif.is_none() => found.exif = segment.strip_prefix(b"Exif\0\0"),
        0xe2 => {
            if let Some([number, _count, piece @ ..]) = segment.strip_prefix(b"ICC_PROFILE\0") {
                found.icc.push((*number, piece));
            }
        }
        0xee if segment.starts_with(b"Adobe") => found.adobe = true,
        _ => {}
    }
}

/// Whether an end marker follows the last scan: what a cut-off file lacks.
#[must_use]
pub fn has_end(jpeg: &[u8]) -> bool {
    jpeg.windows(2).rev().any(|pair| pair == [0xff, 0xd9])
}
