//! One door to all decoders: facts from the headers first, then one page after the other.

use std::fs::File;
use std::io::BufReader;

use image::codecs::{bmp::BmpDecoder, gif::GifDecoder, pnm::PnmDecoder, webp::WebPDecoder};
use image::{ColorType, ImageDecoder, ImageError, Limits};

use super::bitmap::Bitmap;
use super::colour;
use super::decode_jpeg::Jpeg;
use super::decode_pdf::{self, Pdf};
use super::decode_png::Png;
use super::decode_tiff::Tiff;
use crate::job::{Refusal, RefusalCode};
use crate::pipeline::geometry::{Orientation, Size};
use crate::pipeline::plan::{Layout, PageFacts};
use crate::pipeline::probe::{Format, Probe};
use crate::pipeline::wire::RunLimits;

/// Metadata larger than this is no profile and no EXIF block, bytes.
pub const METADATA_BYTES_MAX: usize = 16 << 20;

/// A page as the decoder gives it.
#[derive(Debug)]
pub struct Decoded {
    /// Pixels as stored.
    pub bitmap: Bitmap,
    /// ICC profile, not yet applied.
    pub icc: Option<Vec<u8>>,
}

/// Pages of an open input.
pub trait Source {
    /// How many; at least one.
    fn pages_count(&self) -> usize {
        1
    }

    /// What the header of page `number` (from 0) says.
    ///
    /// # Errors
    /// A refusal; the page can never be decoded.
    fn facts(&mut self, number: usize) -> Result<PageFacts, Refusal>;

    /// Decodes page `number`, to `layout` and by `1 / shrink` where the facts say that this is possible.
    ///
    /// # Errors
    /// A refusal; the page can never be decoded.
    fn decode(&mut self, number: usize, layout: Layout, shrink: u32) -> Result<Decoded, Refusal>;
}

/// The decoder for what the probe found; a PDF is read with `pdf`.
///
/// # Errors
/// A refusal; the input can never be decoded.
pub fn open(
    file: File,
    probe: &Probe,
    limits: &RunLimits,
    pdf: Option<decode_pdf::Library>,
) -> Result<Box<dyn Source>, Refusal> {
    if probe.format == Format::Pdf {
        return Ok(Box::new(Pdf::open(file, limits, pdf.ok_or_else(no_pdf)?)?));
    }
    let first = probe.pages.first().ok_or_else(|| malformed("The input has no page."))?;
    Ok(match probe.format {
        Format::Jpeg => Box::new(Jpeg::open(file)?),
        Format::Png => Box::new(Png::new(file)),
        Format::Tiff => Box::new(Tiff::open(file, &probe.pages, limits)?),
        Format::Webp | Format::Bmp | Format::Gif | Format::Pnm | Format::Pdf => {
            Box::new(Flat { file, format: probe.format, size: Size::new(first.width_px, first.height_px) })
        }
    })
}

/// There is no PDFium.
pub fn no_pdf() -> Refusal {
    Refusal::new(RefusalCode::UnsupportedFormat, "This is a PDF document, and PDFium is not installed here.")
        .remedy("Have the administrator run scripts/setup, or set models.pdfium; or send the pages as images.")
}

/// The bytes contradict themselves or end too early.
pub fn malformed(detail: impl Into<String>) -> Refusal {
    Refusal::new(RefusalCode::Malformed, detail).remedy("Send the image again; if it was cut off, export it anew.")
}

/// The file is valid, but not for this program.
pub fn unsupported(detail: impl Into<String>) -> Refusal {
    Refusal::new(RefusalCode::UnsupportedFeature, detail).remedy("Save it as an 8-bit PNG, JPEG or TIFF.")
}

/// The EXIF orientation in a TIFF structure; a damaged block says nothing.
#[must_use]
pub fn orientation(exif: Option<Vec<u8>>) -> Orientation {
    let Some(block) = exif.filter(|block| block.len() <= METADATA_BYTES_MAX) else { return Orientation::Upright };
    // Some writers keep the prefix of JPEG's segment in other containers.
    let block = block.strip_prefix(b"Exif\0\0").map(<[u8]>::to_vec).unwrap_or(block);
    let parsed = match exif::Reader::new().continue_on_error(true).read_raw(block) {
        Ok(parsed) => Some(parsed),
        Err(error) => error.distill_partial_result(|_| {}).ok(),
    };
    let field = parsed.as_ref().and_then(|exif| exif.get_field(exif::Tag::Orientation, exif::In::PRIMARY));
    field.and_then(|field| field.value.get_uint(0)).map_or(Orientation::Upright, Orientation::from_exif)
}

/// WebP, BMP, GIF and PNM by the `image` crate.
#[derive(Debug)]
struct Flat {
    file: File,
    format: Format,
    size: Size,
}

impl Flat {
    fn decoder(&self) -> Result<Box<dyn ImageDecoder + '_>, Refusal> {
        use std::io::{Seek, SeekFrom};
        (&self.file).seek(SeekFrom::Start(0)).map_err(|_| malformed("The input cannot be read."))?;
        let input = BufReader::new(&self.file);
        let mut decoder: Box<dyn ImageDecoder + '_> = match self.format {
            Format::Webp => Box::new(WebPDecoder::new(input).map_err(refusal)?),
            Format::Bmp => Box::new(BmpDecoder::new(input).map_err(refusal)?),
            Format::Gif => Box::new(GifDecoder::new(input).map_err(refusal)?),
            Format::Jpeg | Format::Png | Format::Tiff | Format::Pnm | Format::Pdf => {
                Box::new(PnmDecoder::new(input).map_err(refusal)?)
            }
        };
        let mut limits = Limits::default();
        limits.max_image_width = Some(self.size.width_px);
        limits.max_image_height = Some(self.size.height_px);
        // The frame, a canvas to put it on, and what lies beside them in the file.
        limits.max_alloc = Some(self.size.pixels() * 16 + METADATA_BYTES_MAX as u64);
        decoder.set_limits(limits).map_err(refusal)?;
        if decoder.dimensions() != (self.size.width_px, self.size.height_px) {
            return Err(malformed("The headers contradict each other."));
        }
        Ok(decoder)
    }
}

impl Source for Flat {
    fn facts(&mut self, _number: usize) -> Result<PageFacts, Refusal> {
        let mut decoder = self.decoder()?;
        let (layout, stored_bytes) = layout(decoder.color_type())?;
        let pixels = self.size.pixels();
        // 16-bit samples and gray with opacity are decoded as stored first; WebP and GIF put a frame on a canvas.
        let as_stored = if stored_bytes == layout.bytes() { 0 } else { pixels * stored_bytes };
        let canvas = if matches!(self.format, Format::Webp | Format::Gif) { pixels * 8 } else { 0 };
        Ok(PageFacts {
            stored: self.size,
            orientation: orientation(decoder.exif_metadata().ok().flatten()),
            layout,
            has_icc: colour::is_needed(decoder.icc_profile().ok().flatten().as_deref()),
            luma_at_decode: false,
            shrinks_at_decode: false,
            decoder_bytes: as_stored + canvas,
            resolution: None,
            is_shown_by_browsers: self.format != Format::Pnm,
        })
    }

    fn decode(&mut self, _number: usize, _layout: Layout, _shrink: u32) -> Result<Decoded, Refusal> {
        let mut decoder = self.decoder()?;
        let icc = decoder.icc_profile().ok().flatten().filter(|icc| icc.len() <= METADATA_BYTES_MAX);
        let kind = decoder.color_type();
        let bytes = usize::try_from(decoder.total_bytes()).map_err(|_| malformed("The image is too large."))?;
        let mut stored = vec![0u8; bytes];
        decoder.read_image_boxed(&mut stored).map_err(refusal)?;
        Ok(Decoded { bitmap: eight_bits(self.size, kind, stored)?, icc })
    }
}

/// What a colour type becomes, and the bytes of a pixel as the decoder stores it.
fn layout(kind: ColorType) -> Result<(Layout, u64), Refusal> {
    let layout = match kind {
        ColorType::L8 | ColorType::L16 => Layout::Gray,
        ColorType::La8 | ColorType::La16 | ColorType::Rgba8 | ColorType::Rgba16 => Layout::Rgba,
        ColorType::Rgb8 | ColorType::Rgb16 => Layout::Rgb,
        ColorType::Rgb32F | ColorType::Rgba32F | _ => {
            return Err(unsupported("Samples of this kind are not supported."));
        }
    };
    Ok((layout, kind.bytes_per_pixel().into()))
}

fn eight_bits(size: Size, kind: ColorType, stored: Vec<u8>) -> Result<Bitmap, Refusal> {
    let (layout, _) = layout(kind)?;
    let is_wide = kind.bytes_per_pixel() / kind.channel_count() == 2;
    let samples = if is_wide { high_bytes(stored) } else { stored };
    let pixels = if kind.channel_count() == 2 { gray_with_opacity(&samples) } else { samples };
    Ok(Bitmap { size, layout, pixels })
}

/// 16-bit samples in this machine's order become 8-bit ones, in place.
#[must_use]
pub fn high_bytes(mut samples: Vec<u8>) -> Vec<u8> {
    for index in 0..samples.len() / 2 {
        let [high, _] = u16::from_ne_bytes([samples[2 * index], samples[2 * index + 1]]).to_be_bytes();
        samples[index] = high;
    }
    samples.truncate(samples.len() / 2);
    samples.shrink_to_fit();
    samples
}

/// Gray and opacity become red, green, blue and opacity.
#[must_use]
pub fn gray_with_opacity(samples: &[u8]) -> Vec<u8> {
    samples.chunks_exact(2).flat_map(|pair| [pair[0], pair[0], pair[0], pair[1]]).collect()
}

fn refusal(error: ImageError) -> Refusal {
    match error {
        ImageError::Unsupported(_) => unsupported("The image uses a variant of its format that is not supported."),
        ImageError::Limits(_) => malformed("The image claims more than its header announced."),
        ImageError::Decoding(_) | ImageError::Encoding(_) | ImageError::Parameter(_) | ImageError::IoError(_) => {
            malformed("The image is damaged or cut off.")
        }
    }
}
