//! The chain of a TIFF's directories, walked with bounds before any decoder sees it. Classic and BigTIFF.

use std::collections::HashSet;
use std::io::{Read, Seek};

use super::reader::{Order, Reader};
use super::{Head, HeadError, PageHead, malformed};
use crate::job::{Refusal, RefusalCode};
use crate::pipeline::wire::RunLimits;

/// Thumbnails and masks are directories too: as many again for each page, and some for a single page.
const DIRECTORIES_PER_PAGE: u64 = 4;
/// Entries of one directory; writers use about 20.
const ENTRIES_MAX: u64 = 4096;

const PHOTOMETRIC: u16 = 262;
/// Value of the photometric interpretation: indices into a colour map.
const PALETTE: u64 = 3;
const NEW_SUBFILE_TYPE: u16 = 254;
const IMAGE_WIDTH: u16 = 256;
const IMAGE_LENGTH: u16 = 257;
/// Bits of `NewSubfileType`: a thumbnail of another page; a transparency mask.
const NOT_A_PAGE: u64 = 0b101;

/// How numbers and directories of one file are written.
#[derive(Debug, Clone, Copy)]
struct Dialect {
    order: Order,
    is_big: bool,
}

/// What matters of one directory.
#[derive(Debug, Default)]
struct Directory {
    width: Option<u64>,
    height: Option<u64>,
    subfile: u64,
    /// Where the two bytes lie that say that pixels are indices into a colour map.
    palette_at: Option<u64>,
}

/// Places of the photometric interpretation (16 bits) in directories whose pixels are indices into a colour map.
///
/// # Errors
/// None for an input that passed the probe.
pub fn palettes<R: Read + Seek>(input: &mut R, limits: &RunLimits) -> Result<Vec<u64>, Refusal> {
    let found = Reader::new(input).map_err(HeadError::from).and_then(|mut input| walk(&mut input, limits.pages_max));
    match found {
        Ok(directories) => Ok(directories.iter().filter_map(|directory| directory.palette_at).collect()),
        Err(_) => Err(Refusal::new(RefusalCode::Malformed, "The TIFF's list of pages is damaged.")),
    }
}

/// Every page, in order.
pub(super) fn pages<R: Read + Seek>(input: &mut Reader<'_, R>, pages_max: u32) -> Head<Vec<PageHead>> {
    let directories = walk(input, pages_max)?;
    let pages = directories.iter().zip(0..).filter(|(directory, _)| directory.subfile & NOT_A_PAGE == 0);
    let pages = pages.map(|(directory, index)| page(directory, index)).collect::<Head<Vec<_>>>()?;
    if pages.is_empty() { malformed("The TIFF has no page.") } else { Ok(pages) }
}

/// Every directory of the chain.
fn walk<R: Read + Seek>(input: &mut Reader<'_, R>, pages_max: u32) -> Head<Vec<Directory>> {
    let (dialect, mut offset) = dialect(input)?;
    let mut seen = HashSet::new();
    let mut directories = Vec::new();
    let mut pages = 0;
    while offset != 0 {
        if !seen.insert(offset) {
            return malformed("The TIFF's list of pages goes round in a circle.");
        }
        let (directory, next) = directory(input, dialect, offset)?;
        pages += u64::from(directory.subfile & NOT_A_PAGE == 0);
        directories.push(directory);
        let all = directories.len() as u64;
        if pages > u64::from(pages_max) || all > (u64::from(pages_max) + 1) * DIRECTORIES_PER_PAGE {
            return Err(too_many(all, pages_max));
        }
        offset = next;
    }
    Ok(directories)
}

fn too_many(pages: u64, pages_max: u32) -> HeadError {
    HeadError::Refused(
        Refusal::new(RefusalCode::TooManyPages, "The TIFF has too many pages.")
            .figures(format!("{pages_max} pages"), format!("at least {pages} pages"))
            .remedy("Cut the file into parts."),
    )
}

fn page(directory: &Directory, index: u32) -> Head<PageHead> {
    let side = |value: Option<u64>| value.and_then(|value| u32::try_from(value).ok());
    match (side(directory.width), side(directory.height)) {
        (Some(width_px), Some(height_px)) => Ok(PageHead { width_px, height_px, index }),
        _ => malformed("A page of the TIFF has no size."),
    }
}

fn dialect<R: Read + Seek>(input: &mut Reader<'_, R>) -> Head<(Dialect, u64)> {
    input.go_to(0)?;
    let order = if input.take()? == *b"MM" { Order::Big } else { Order::Little };
    if input.u16(order)? == 42 {
        let first = input.u32(order)?;
        return Ok((Dialect { order, is_big: false }, first.into()));
    }
    if input.u16(order)? != 8 || input.u16(order)? != 0 {
        return malformed("The BigTIFF header is damaged.");
    }
    let first = input.u64(order)?;
    Ok((Dialect { order, is_big: true }, first))
}

/// Reads one directory; the offset of the next follows it.
fn directory<R: Read + Seek>(input: &mut Reader<'_, R>, dialect: Dialect, offset: u64) -> Head<(Directory, u64)> {
    let Dialect { order, is_big } = dialect;
    if offset >= input.length() {
        return malformed("The TIFF names a page behind its end; it is cut off.");
    }
    input.go_to(offset)?;
    let entries = if is_big { input.u64(order)? } else { input.u16(order)?.into() };
    if entries == 0 || entries > ENTRIES_MAX {
        return malformed("A page of the TIFF has a damaged directory.");
    }
    let mut directory = Directory::default();
    let (head_bytes, entry_bytes, value_at) = if is_big { (8, 20, 12) } else { (2, 12, 8) };
    for entry in 0..entries {
        let tag = input.u16(order)?;
        let kind = input.u16(order)?;
        let value = entry_value(input, dialect, kind)?;
        match tag {
            IMAGE_WIDTH => directory.width = value,
            IMAGE_LENGTH => directory.height = value,
            PHOTOMETRIC if value == Some(PALETTE) => {
                directory.palette_at = Some(offset + head_bytes + entry * entry_bytes + value_at);
            }
            NEW_SUBFILE_TYPE => directory.subfile = value.unwrap_or(0),
            _ => {}
        }
    }
    let next = if is_big { input.u64(order)? } else { input.u32(order)?.into() };
    Ok((directory, next))
}

/// The single number of an entry, if it is one; the entry is passed either way.
fn entry_value<R: Read + Seek>(input: &mut Reader<'_, R>, dialect: Dialect, kind: u16) -> Head<Option<u64>> {
    let Dialect { order, is_big } = dialect;
    let count = if is_big { input.u64(order)? } else { input.u32(order)?.into() };
    let mut value = [0u8; 8];
    if is_big {
        value = input.take()?;
    } else {
        value[..4].copy_from_slice(&input.take::<4>()?);
    }
    let number = |width: usize| {
        let mut bytes = [0u8; 8];
        match order {
            Order::Little => bytes[..width].copy_from_slice(&value[..width]),
            Order::Big => bytes[8 - width..].copy_from_slice(&value[..width]),
        }
        match order {
            Order::Little => u64::from_le_bytes(bytes),
            Order::Big => u64::from_be_bytes(bytes),
        }
    };
    // Kinds: 1 byte, 3 short, 4 long, 16 long of BigTIFF.
    Ok(match (count, kind) {
        (1, 1) => Some(number(1)),
        (1, 3) => Some(number(2)),
        (1, 4) => Some(number(4)),
        (1, 16) if is_big => Some(number(8)),
        _ => None,
    })
}
