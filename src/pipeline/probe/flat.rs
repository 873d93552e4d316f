//! Headers of formats that hold one canvas: PNG, WebP, BMP, GIF, PNM.

use std::io::{Read, Seek};

use super::reader::{Order, Reader};
use super::{Head, malformed};

/// Comments in the header of a PNM may be long, but not endless, bytes.
const PNM_HEADER_BYTES_MAX: u64 = 4096;

/// Width and height, pixels.
type Size = (u32, u32);

pub(super) fn png<R: Read + Seek>(input: &mut Reader<'_, R>) -> Head<Size> {
    input.go_to(8)?;
    let length = input.u32(Order::Big)?;
    if length != 13 || input.take()? != *b"IHDR" {
        return malformed("The PNG does not begin with its header.");
    }
    Ok((input.u32(Order::Big)?, input.u32(Order::Big)?))
}

pub(super) fn gif<R: Read + Seek>(input: &mut Reader<'_, R>) -> Head<Size> {
    input.go_to(6)?;
    Ok((input.u16(Order::Little)?.into(), input.u16(Order::Little)?.into()))
}

pub(super) fn bmp<R: Read + Seek>(input: &mut Reader<'_, R>) -> Head<Size> {
    input.go_to(14)?;
    if input.u32(Order::Little)? == 12 {
        return Ok((input.u16(Order::Little)?.into(), input.u16(Order::Little)?.into()));
    }
    let width = i32::from_le_bytes(input.take()?);
    // A negative height says that the rows go from top to bottom.
    let height = i32::from_le_bytes(input.take()?).unsigned_abs();
    match u32::try_from(width) {
        Ok(width) => Ok((width, height)),
        Err(_) => malformed("The BMP has a negative width."),
    }
}

pub(super) fn webp<R: Read + Seek>(input: &mut Reader<'_, R>) -> Head<Size> {
    input.go_to(12)?;
    let kind: [u8; 4] = input.take()?;
    let _length = input.u32(Order::Little)?;
    match &kind {
        b"VP8 " => {
            let frame: [u8; 10] = input.take()?;
            if frame[3..6] != [0x9d, 0x01, 0x2a] {
                return malformed("The WebP has no key frame.");
            }
            let side = |low: usize| u32::from(u16::from_le_bytes([frame[low], frame[low + 1]]) & 0x3fff);
            Ok((side(6), side(8)))
        }
        b"VP8L" => {
            if input.byte()? != 0x2f {
                return malformed("The WebP has a damaged lossless header.");
            }
            let bits = input.u32(Order::Little)?;
            Ok(((bits & 0x3fff) + 1, ((bits >> 14) & 0x3fff) + 1))
        }
        b"VP8X" => {
            let _flags: [u8; 4] = input.take()?;
            let sides: [u8; 6] = input.take()?;
            let side = |low: usize| u32::from_le_bytes([sides[low], sides[low + 1], sides[low + 2], 0]) + 1;
            Ok((side(0), side(3)))
        }
        _ => malformed("The WebP holds no image."),
    }
}

pub(super) fn pnm<R: Read + Seek>(input: &mut Reader<'_, R>) -> Head<Size> {
    let head = input.peek(usize::try_from(PNM_HEADER_BYTES_MAX.min(input.length())).unwrap_or(0))?;
    let mut tokens = tokens(head.get(2..).unwrap_or_default());
    if head.get(1) != Some(&b'7') {
        return match (tokens.next().and_then(number), tokens.next().and_then(number)) {
            (Some(width), Some(height)) => Ok((width, height)),
            _ => malformed("The PNM header has no size."),
        };
    }
    let (mut width, mut height) = (None, None);
    while let Some(token) = tokens.next() {
        match token {
            b"WIDTH" => width = tokens.next().and_then(number),
            b"HEIGHT" => height = tokens.next().and_then(number),
            b"ENDHDR" => break,
            _ => {}
        }
    }
    match (width, height) {
        (Some(width), Some(height)) => Ok((width, height)),
        _ => malformed("The PAM header has no size."),
    }
}

/// Words between white space, comments left out.
fn tokens(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(|byte| *byte == b'\n')
        .map(|line| line.split(|byte| *byte == b'#').next().unwrap_or_default())
        .flat_map(|line| line.split(u8::is_ascii_whitespace))
        .filter(|token| !token.is_empty())
}

fn number(token: &[u8]) -> Option<u32> {
    std::str::from_utf8(token).ok()?.parse().ok()
}
