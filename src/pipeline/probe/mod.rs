//! What the header says, read before a pixel is decoded. Pure Rust, bounded reads, no memory by a header's claim.

mod flat;
pub mod jpeg;
mod reader;
mod sniff;
pub mod tiff;

use std::io::{self, Read, Seek};

pub use self::sniff::{SUPPORTED, sniff};
use super::wire::RunLimits;
use crate::job::{Refusal, RefusalCode};

/// Image formats that are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Format {
    /// JPEG.
    Jpeg,
    /// PNG and APNG (first frame).
    Png,
    /// WebP (first frame).
    Webp,
    /// TIFF, every page.
    Tiff,
    /// Windows bitmap.
    Bmp,
    /// GIF (first frame).
    Gif,
    /// PBM, PGM, PPM, PAM.
    Pnm,
    /// PDF, every page. What is in it only a worker finds out.
    Pdf,
}

impl Format {
    /// All of them.
    pub const ALL: [Self; 8] =
        [Self::Jpeg, Self::Png, Self::Webp, Self::Tiff, Self::Bmp, Self::Gif, Self::Pnm, Self::Pdf];

    /// Media type.
    #[must_use]
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Jpeg => "image/jpeg",
            Self::Png => "image/png",
            Self::Webp => "image/webp",
            Self::Tiff => "image/tiff",
            Self::Bmp => "image/bmp",
            Self::Gif => "image/gif",
            Self::Pnm => "image/x-portable-anymap",
            Self::Pdf => "application/pdf",
        }
    }
}

/// The header of one page; sizes as stored, before EXIF orientation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PageHead {
    /// Pixels.
    pub width_px: u32,
    /// Pixels.
    pub height_px: u32,
    /// Place in the chain of a TIFF's directories, which also has thumbnails and masks; 0 for other formats.
    pub index: u32,
}

/// What a header says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probe {
    /// By content, never by name.
    pub format: Format,
    /// At least one; none for a PDF, whose structure is read behind the sandbox alone.
    pub pages: Vec<PageHead>,
}

/// Bytes that [`sniff`] wants to see, if the input has as many.
pub const SNIFF_BYTES: usize = 64;

/// What a header reader gives: sizes, or what is wrong.
type Head<T> = Result<T, HeadError>;

/// Why a header cannot be read.
#[derive(Debug)]
enum HeadError {
    /// The input ends too early or cannot be read.
    Io(io::Error),
    /// As it shall be told.
    Refused(Refusal),
}

impl From<io::Error> for HeadError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<Refusal> for HeadError {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

fn malformed<T>(detail: &str) -> Head<T> {
    Err(HeadError::Refused(Refusal::new(RefusalCode::Malformed, detail)))
}

fn unsupported<T>(detail: &str) -> Head<T> {
    Err(HeadError::Refused(Refusal::new(RefusalCode::UnsupportedFeature, detail)))
}

/// Reads headers and holds the limits on pixels, sides and pages.
///
/// # Errors
/// A refusal with figures.
pub fn probe(input: &mut (impl Read + Seek), limits: &RunLimits) -> Result<Probe, Refusal> {
    let probe = read(input, limits).map_err(|error| match error {
        HeadError::Refused(refusal) => refusal,
        HeadError::Io(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
            Refusal::new(RefusalCode::Malformed, "The file ends within its header.")
        }
        HeadError::Io(_) => Refusal::new(RefusalCode::Malformed, "The header cannot be read."),
    })?;
    for page in &probe.pages {
        check_page(page, limits)?;
    }
    Ok(probe)
}

fn read<R: Read + Seek>(input: &mut R, limits: &RunLimits) -> Head<Probe> {
    let mut input = reader::Reader::new(input)?;
    let head = input.peek(SNIFF_BYTES)?;
    let format = sniff(&head)?;
    let single = |(width_px, height_px)| vec![PageHead { width_px, height_px, index: 0 }];
    let pages = match format {
        Format::Jpeg => single(jpeg::size(&mut input)?),
        Format::Png => single(flat::png(&mut input)?),
        Format::Webp => single(flat::webp(&mut input)?),
        Format::Bmp => single(flat::bmp(&mut input)?),
        Format::Gif => single(flat::gif(&mut input)?),
        Format::Pnm => single(flat::pnm(&mut input)?),
        Format::Tiff => tiff::pages(&mut input, limits.pages_max)?,
        Format::Pdf => Vec::new(),
    };
    if pages.iter().any(|page| page.width_px == 0 || page.height_px == 0) {
        return malformed("The header says that the image has no pixels.");
    }
    Ok(Probe { format, pages })
}

fn check_page(page: &PageHead, limits: &RunLimits) -> Result<(), Refusal> {
    let pixels = u64::from(page.width_px) * u64::from(page.height_px);
    let size = format!("{} × {} px", page.width_px, page.height_px);
    if pixels > limits.pixels_max {
        return Err(Refusal::new(RefusalCode::TooManyPixels, format!("The image has {size}."))
            .figures(format!("{} px", limits.pixels_max), format!("{pixels} px"))
            .remedy("Send a smaller image, or cut it into pages."));
    }
    let side = page.width_px.max(page.height_px);
    if side > limits.side_px_max {
        return Err(Refusal::new(RefusalCode::SideTooLong, format!("The image has {size}."))
            .figures(format!("{} px", limits.side_px_max), format!("{side} px"))
            .remedy("Send a smaller image, or cut it into pages."));
    }
    Ok(())
}
