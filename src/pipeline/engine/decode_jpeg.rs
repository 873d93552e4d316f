//! JPEG by libjpeg-turbo: baseline, progressive, arithmetic; gray, colour and ink.

use std::fs::File;
use std::io::Read;

use turbojpeg::{Colorspace, Decompressor, Image, PixelFormat, ScalingFactor, Subsamp};

use super::bitmap::Bitmap;
use super::colour;
use super::decode::{Decoded, Source, malformed, orientation};
use crate::job::Refusal;
use crate::pipeline::geometry::Size;
use crate::pipeline::plan::{Layout, PageFacts};
use crate::pipeline::probe::jpeg::{has_end, segments};
use crate::pipeline::resolution::Resolution;

/// Progressive files have about 10 scans; thousands of empty ones are an attack on time.
const SCANS_MAX: u32 = 100;
/// The one warning of the decoder that a whole image may come with: padding of careless writers.
const HARMLESS_WARNING: &str = "extraneous bytes before marker";

/// What stands for "unknown" (EXIF 2.3, 4.6.4).
const UNKNOWN_DPI: u16 = 72;

/// An open JPEG. Its compressed bytes are held: the decoder takes no stream.
#[derive(Debug)]
pub struct Jpeg {
    bytes: Vec<u8>,
}

impl Jpeg {
    /// Reads the file.
    ///
    /// # Errors
    /// A refusal if it cannot be read.
    pub fn open(mut file: File) -> Result<Self, Refusal> {
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(|_| malformed("The input cannot be read."))?;
        Ok(Self { bytes })
    }

    fn header(&self) -> Result<turbojpeg::DecompressHeader, Refusal> {
        turbojpeg::read_header(&self.bytes).map_err(refusal)
    }

    /// The profile, put together from its pieces.
    fn icc(&self) -> Option<Vec<u8>> {
        let mut pieces = segments(&self.bytes).icc;
        pieces.sort_by_key(|piece| piece.0);
        let profile = pieces.into_iter().flat_map(|piece| piece.1).copied().collect::<Vec<u8>>();
        Some(profile).filter(|profile| !profile.is_empty())
    }
}

impl Source for Jpeg {
    fn facts(&mut self, _number: usize) -> Result<PageFacts, Refusal> {
        let header = self.header()?;
        let segments = segments(&self.bytes);
        let side = |side: usize| u32::try_from(side).map_err(|_| malformed("The image is too large."));
        let stored = Size::new(side(header.width)?, side(header.height)?);
        let layout = layout(header.colorspace);
        let has_icc = colour::is_needed(self.icc().as_deref());
        // Progressive files and those with one scan for each colour are held as 16-bit coefficients.
        let is_buffered =
            header.is_progressive || u64::from(segments.first_scan_components) < components(header.colorspace);
        let coefficients = if is_buffered { coefficient_bytes(&header, stored) } else { 0 };
        Ok(PageFacts {
            stored,
            orientation: orientation(segments.exif.map(<[u8]>::to_vec)),
            layout,
            has_icc,
            luma_at_decode: !has_icc && layout == Layout::Rgb,
            shrinks_at_decode: !header.is_lossless,
            decoder_bytes: self.bytes.len() as u64 + coefficients,
            resolution: segments.density.and_then(resolution),
            is_shown_by_browsers: true,
        })
    }

    fn decode(&mut self, _number: usize, wanted: Layout, shrink: u32) -> Result<Decoded, Refusal> {
        let header = self.header()?;
        let (format, layout) = match (layout(header.colorspace), wanted) {
            (Layout::Cmyk, _) => (PixelFormat::CMYK, Layout::Cmyk),
            (_, Layout::Gray) => (PixelFormat::GRAY, Layout::Gray),
            _ => (PixelFormat::RGB, Layout::Rgb),
        };
        let scaling = ScalingFactor::new(1, shrink as usize);
        let scaled = header.scaled(scaling);
        let pitch = scaled.width * format.size();
        let mut pixels = vec![0u8; pitch * scaled.height];
        let image = Image { pixels: &mut pixels[..], width: scaled.width, pitch, height: scaled.height, format };
        let mut decoder = Decompressor::new().map_err(refusal)?;
        decoder.set_scan_limit(SCANS_MAX).map_err(refusal)?;
        decoder.set_scaling_factor(scaling).map_err(refusal)?;
        match decoder.decompress(&self.bytes, image) {
            Err(turbojpeg::Error::TurboJpegError(warning))
                if warning.contains(HARMLESS_WARNING) && has_end(&self.bytes) => {}
            other => other.map_err(refusal)?,
        }
        if layout == Layout::Cmyk && segments(&self.bytes).adobe {
            pixels.iter_mut().for_each(|ink| *ink = 255 - *ink);
        }
        let side = |side: usize| u32::try_from(side).unwrap_or(0);
        let size = Size::new(side(scaled.width), side(scaled.height));
        Ok(Decoded { bitmap: Bitmap { size, layout, pixels }, icc: self.icc() })
    }
}

/// Of JFIF's density; 72 dots per inch is what programs write that know none.
fn resolution((unit, x, y): (u8, u16, u16)) -> Option<Resolution> {
    let per_inch = match unit {
        1 => 1.0,
        2 => 2.54,
        _ => return None,
    };
    let known = (unit, x) != (1, UNKNOWN_DPI);
    Resolution::stated(f64::from(x) * per_inch, f64::from(y) * per_inch).filter(|_| known)
}

const fn layout(colour: Colorspace) -> Layout {
    match colour {
        Colorspace::Gray => Layout::Gray,
        Colorspace::RGB | Colorspace::YCbCr => Layout::Rgb,
        Colorspace::CMYK | Colorspace::YCCK => Layout::Cmyk,
    }
}

const fn components(colour: Colorspace) -> u64 {
    match colour {
        Colorspace::Gray => 1,
        Colorspace::RGB | Colorspace::YCbCr => 3,
        Colorspace::CMYK | Colorspace::YCCK => 4,
    }
}

/// Two bytes for each sample; the colour planes may be smaller than the image.
fn coefficient_bytes(header: &turbojpeg::DecompressHeader, stored: Size) -> u64 {
    let all = 2 * components(header.colorspace) * stored.pixels();
    let is_halved = header.subsamp == Subsamp::Sub2x2 && header.colorspace == Colorspace::YCbCr;
    if is_halved { all / 2 } else { all }
}

fn refusal(error: turbojpeg::Error) -> Refusal {
    let turbojpeg::Error::TurboJpegError(message) = error else { return malformed("The JPEG is damaged.") };
    let message = message.to_ascii_lowercase();
    if message.contains("premature end") {
        malformed("The JPEG is cut off.")
    } else if message.contains("scans") {
        malformed("The JPEG has more scans than any image needs.")
    } else {
        malformed("The JPEG is damaged.")
    }
}
