//! TIFF, page by page and piece by piece: bilevel to 16 bits, gray, colour, palette, ink, strips and tiles.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};

use tiff::ColorType;
use tiff::decoder::ifd::Value;
use tiff::decoder::{Decoder, DecodingResult, Limits};
use tiff::tags::{ExtraSamples, PlanarConfiguration, Tag};

use super::bitmap::{Bitmap, byte};
use super::colour;
use super::decode::{Decoded, METADATA_BYTES_MAX, Source, malformed, unsupported};
use crate::job::Refusal;
use crate::pipeline::geometry::{Orientation, Size};
use crate::pipeline::plan::{Layout, PageFacts};
use crate::pipeline::probe::{PageHead, tiff::palettes};
use crate::pipeline::resolution::Resolution;
use crate::pipeline::wire::RunLimits;

/// Units of a resolution.
const PER_INCH: u16 = 2;
const PER_CENTIMETRE: u16 = 3;

/// An open TIFF.
pub struct Tiff {
    decoder: Decoder<BufReader<Shown>>,
    pages: Vec<PageHead>,
}

/// How the samples of a page become pixels.
#[derive(Debug, Clone)]
struct Reading {
    size: Size,
    /// Bits of a sample: 1, 2, 4, 8 or 16.
    bits: u32,
    /// Samples stored for each pixel.
    samples: usize,
    /// Of the result.
    layout: Layout,
    kind: Kind,
    /// Each colour lies in pieces of its own.
    is_planar: bool,
}

#[derive(Debug, Clone, PartialEq)]
enum Kind {
    Gray,
    GrayAlpha,
    /// 8-bit colours by index.
    Palette(Vec<[u8; 3]>),
    Rgb,
    /// With opacity; `true` if it is multiplied into the colours.
    Rgba(bool),
    YCbCr,
    Cmyk,
}

impl Tiff {
    /// Opens a file that passed the probe.
    ///
    /// # Errors
    /// A refusal; it can never be decoded.
    pub fn open(mut file: File, pages: &[PageHead], limits: &RunLimits) -> Result<Self, Refusal> {
        let hidden = palettes(&mut BufReader::new(&mut file), limits)?;
        file.rewind().map_err(|_| malformed("The input cannot be read."))?;
        let shown = BufReader::new(Shown { file, at: 0, hidden });
        let mut bounds = Limits::default();
        bounds.ifd_value_size = METADATA_BYTES_MAX;
        bounds.decoding_buffer_size = usize::try_from(limits.memory_bytes_max).unwrap_or(usize::MAX);
        bounds.intermediate_buffer_size = bounds.decoding_buffer_size;
        let decoder = Decoder::new(shown).map_err(refusal)?.with_limits(bounds);
        Ok(Self { decoder, pages: pages.to_vec() })
    }

    fn go_to(&mut self, number: usize) -> Result<Reading, Refusal> {
        let page = *self.pages.get(number).ok_or_else(|| malformed("The TIFF has no such page."))?;
        self.decoder.seek_to_image(page.index as usize).map_err(refusal)?;
        if self.decoder.dimensions().map_err(refusal)? != (page.width_px, page.height_px) {
            return Err(malformed("The TIFF's directories contradict each other."));
        }
        self.reading(Size::new(page.width_px, page.height_px))
    }

    fn reading(&mut self, size: Size) -> Result<Reading, Refusal> {
        let colour = self.decoder.colortype().map_err(refusal)?;
        let palette = self.palette()?;
        let planar = self.decoder.find_tag_unsigned::<u16>(Tag::PlanarConfiguration).map_err(refusal)?;
        let is_premultiplied = self.has_premultiplied_opacity();
        let (kind, layout) = match colour {
            ColorType::Gray(_) => match palette {
                Some(palette) => (Kind::Palette(palette), Layout::Rgb),
                None => (Kind::Gray, Layout::Gray),
            },
            ColorType::GrayA(_) => (Kind::GrayAlpha, Layout::Rgba),
            ColorType::Multiband { num_samples: 2, .. } if self.has_opacity() => (Kind::GrayAlpha, Layout::Rgba),
            ColorType::Multiband { .. } => (Kind::Gray, Layout::Gray),
            ColorType::RGB(_) => (Kind::Rgb, Layout::Rgb),
            ColorType::RGBA(_) => (Kind::Rgba(is_premultiplied), Layout::Rgba),
            ColorType::YCbCr(_) => (Kind::YCbCr, Layout::Rgb),
            ColorType::CMYK(_) | ColorType::CMYKA(_) => (Kind::Cmyk, Layout::Cmyk),
            ColorType::Palette(_) | ColorType::Lab(_) | _ => {
                return Err(unsupported("TIFF with this kind of colours is not supported."));
            }
        };
        let bits = u32::from(colour.bit_depth());
        let samples = self.decoder.find_tag_unsigned::<u16>(Tag::SamplesPerPixel).map_err(refusal)?;
        let is_packed = bits < 8;
        let is_single = colour.num_samples() == 1;
        if ![1, 2, 4, 8, 16].contains(&bits) || (is_packed && !is_single) {
            return Err(unsupported(format!("TIFF with {bits} bits for each of several samples is not supported.")));
        }
        Ok(Reading {
            size,
            bits,
            samples: samples.unwrap_or(1).into(),
            layout,
            kind,
            is_planar: planar == Some(PlanarConfiguration::Planar.to_u16()),
        })
    }

    /// Colours of a palette page: 16 bits each, all reds first.
    fn palette(&mut self) -> Result<Option<Vec<[u8; 3]>>, Refusal> {
        let Some(map) = self.decoder.find_tag(Tag::ColorMap).map_err(refusal)? else { return Ok(None) };
        let map = map.into_u16_vec().map_err(refusal)?;
        let count = map.len() / 3;
        let high = |value: u16| value.to_be_bytes()[0];
        Ok(Some((0..count).map(|i| [high(map[i]), high(map[count + i]), high(map[2 * count + i])]).collect()))
    }

    fn icc(&mut self) -> Option<Vec<u8>> {
        self.decoder.find_tag(Tag::IccProfile).ok().flatten().and_then(|icc| icc.into_u8_vec().ok())
    }

    fn first_extra_sample(&mut self) -> Option<u16> {
        self.decoder.find_tag_unsigned_vec::<u16>(Tag::ExtraSamples).ok().flatten()?.first().copied()
    }

    /// The default unit is the inch.
    fn resolution(&mut self) -> Option<Resolution> {
        let unit = self.decoder.find_tag_unsigned::<u16>(Tag::ResolutionUnit).ok().flatten();
        let per_inch = match unit.unwrap_or(PER_INCH) {
            PER_INCH => 1.0,
            PER_CENTIMETRE => 2.54,
            _ => return None,
        };
        let mut number = |tag| match self.decoder.find_tag(tag).ok().flatten()? {
            Value::Rational(above, below) if below > 0 => Some(f64::from(above) / f64::from(below) * per_inch),
            Value::Rational(..) | _ => None,
        };
        Resolution::stated(number(Tag::XResolution)?, number(Tag::YResolution)?)
    }

    fn has_opacity(&mut self) -> bool {
        self.has_premultiplied_opacity() || self.first_extra_sample() == Some(ExtraSamples::UnassociatedAlpha.to_u16())
    }

    fn has_premultiplied_opacity(&mut self) -> bool {
        self.first_extra_sample() == Some(ExtraSamples::AssociatedAlpha.to_u16())
    }
}

impl Source for Tiff {
    fn pages_count(&self) -> usize {
        self.pages.len()
    }

    fn facts(&mut self, number: usize) -> Result<PageFacts, Refusal> {
        let reading = self.go_to(number)?;
        let orientation = self.decoder.find_tag_unsigned::<u32>(Tag::Orientation).ok().flatten().unwrap_or(1);
        let (width, height) = self.decoder.chunk_dimensions();
        // A strip may say that it is higher than the page.
        let piece = Size::new(width, height.min(reading.size.height_px)).pixels();
        let stored_bytes = (u64::from(reading.bits) * reading.samples as u64).div_ceil(8);
        Ok(PageFacts {
            stored: reading.size,
            orientation: Orientation::from_exif(orientation),
            layout: reading.layout,
            has_icc: colour::is_needed(self.icc().as_deref()),
            luma_at_decode: false,
            shrinks_at_decode: false,
            // A piece as stored, once more while a JPEG or fax inside it is decoded, and its compressed bytes.
            decoder_bytes: piece.saturating_mul(stored_bytes).saturating_mul(3),
            resolution: self.resolution(),
            is_shown_by_browsers: false,
        })
    }

    fn decode(&mut self, number: usize, _layout: Layout, _shrink: u32) -> Result<Decoded, Refusal> {
        let reading = self.go_to(number)?;
        let icc = self.icc();
        let bytes = reading.size.pixels() * reading.layout.bytes();
        let bytes = usize::try_from(bytes).map_err(|_| malformed("The image is too large."))?;
        let mut bitmap = Bitmap { size: reading.size, layout: reading.layout, pixels: vec![0; bytes] };
        let (piece_width, piece_height) = self.decoder.chunk_dimensions();
        let columns = reading.size.width_px.div_ceil(piece_width);
        let rows = reading.size.height_px.div_ceil(piece_height.min(reading.size.height_px));
        let planes = if reading.is_planar { u32::try_from(reading.samples).unwrap_or(u32::MAX) } else { 1 };
        for plane in 0..planes {
            for piece in 0..columns.saturating_mul(rows) {
                let index = plane.saturating_mul(columns).saturating_mul(rows).saturating_add(piece);
                let size = self.decoder.chunk_data_dimensions(index);
                let data = eight_bits(self.decoder.read_chunk(index).map_err(refusal)?)?;
                let corner = (piece % columns * piece_width, (piece / columns).saturating_mul(piece_height));
                place(&reading, &data, corner, size, plane as usize, &mut bitmap)?;
            }
        }
        finish(&reading, &mut bitmap);
        Ok(Decoded { bitmap, icc })
    }
}

fn eight_bits(piece: DecodingResult) -> Result<Vec<u8>, Refusal> {
    match piece {
        DecodingResult::U8(samples) => Ok(samples),
        DecodingResult::U16(samples) => Ok(samples.into_iter().map(|sample| sample.to_be_bytes()[0]).collect()),
        DecodingResult::U32(_)
        | DecodingResult::U64(_)
        | DecodingResult::F16(_)
        | DecodingResult::F32(_)
        | DecodingResult::F64(_)
        | DecodingResult::I8(_)
        | DecodingResult::I16(_)
        | DecodingResult::I32(_)
        | DecodingResult::I64(_) => {
            Err(unsupported("TIFF with signed, 32-bit or floating point samples is not supported."))
        }
    }
}

/// Puts the samples of a piece to their pixels.
fn place(
    reading: &Reading,
    data: &[u8],
    (left, top): (u32, u32),
    (width, height): (u32, u32),
    plane: usize,
    page: &mut Bitmap,
) -> Result<(), Refusal> {
    let stored = if reading.is_planar { 1 } else { reading.samples };
    let bits = reading.bits.min(8) as usize;
    let line_bytes = (width as usize * stored * bits).div_ceil(8);
    let kept = page.pixel_bytes();
    let row_bytes = page.row_bytes();
    let cut_off = || malformed("The TIFF is cut off.");
    for (line, y) in (top..top.saturating_add(height)).enumerate() {
        let source = data.get(line * line_bytes..(line + 1) * line_bytes).ok_or_else(cut_off)?;
        let start = y as usize * row_bytes + left as usize * kept;
        let target = page.pixels.get_mut(start..start + width as usize * kept).ok_or_else(cut_off)?;
        match &reading.kind {
            Kind::Palette(colours) => {
                let colour = |value: u8| colours.get(usize::from(value)).copied().unwrap_or_default();
                unpack(source, bits, target, |value, out| out.copy_from_slice(&colour(value)), 3);
            }
            Kind::Gray if bits < 8 => unpack(source, bits, target, |value, out| out[0] = scaled(value, bits), 1),
            Kind::Gray | Kind::GrayAlpha | Kind::Rgb | Kind::Rgba(_) | Kind::YCbCr | Kind::Cmyk => {
                let skipped = if reading.is_planar { plane } else { 0 };
                for (samples, pixel) in source.chunks_exact(stored).zip(target.chunks_exact_mut(kept)) {
                    for (sample, out) in samples.iter().zip(pixel.iter_mut().skip(skipped)) {
                        *out = *sample;
                    }
                }
            }
        }
    }
    Ok(())
}

/// Samples of less than a byte, the first in the highest bits.
fn unpack(source: &[u8], bits: usize, target: &mut [u8], put: impl Fn(u8, &mut [u8]), kept: usize) {
    let mask = byte((1u32 << bits) - 1);
    for (index, pixel) in target.chunks_exact_mut(kept).enumerate() {
        let at = index * bits;
        let shift = 8 - bits - at % 8;
        put((source[at / 8] >> shift) & mask, pixel);
    }
}

/// A sample of `bits` on the scale of 255.
fn scaled(value: u8, bits: usize) -> u8 {
    byte(u32::from(value) * 255 / ((1 << bits) - 1))
}

/// What concerns whole pixels, once all planes are there.
fn finish(reading: &Reading, page: &mut Bitmap) {
    match reading.kind {
        Kind::YCbCr => page.pixels.chunks_exact_mut(3).for_each(from_ycbcr),
        Kind::Rgba(true) => page.pixels.chunks_exact_mut(4).for_each(|pixel| {
            let opacity = u32::from(pixel[3]);
            for sample in &mut pixel[..3] {
                *sample = (u32::from(*sample) * 255 + opacity / 2).checked_div(opacity).map_or(255, byte);
            }
        }),
        // Two samples lie at the start of each pixel of four.
        Kind::GrayAlpha => page.pixels.chunks_exact_mut(4).for_each(|pixel| {
            pixel.copy_from_slice(&[pixel[0], pixel[0], pixel[0], pixel[1]]);
        }),
        Kind::Gray | Kind::Palette(_) | Kind::Rgb | Kind::Rgba(false) | Kind::Cmyk => {}
    }
}

/// Full-range Rec. 601, as in JPEG.
fn from_ycbcr(pixel: &mut [u8]) {
    let (y, cb, cr) = (i32::from(pixel[0]), i32::from(pixel[1]) - 128, i32::from(pixel[2]) - 128);
    let clamped = |value: i32| u8::try_from((value + 32_768).div_euclid(65_536).clamp(0, 255)).unwrap_or(0);
    pixel[0] = clamped((y << 16) + 91_881 * cr);
    pixel[1] = clamped((y << 16) - 22_554 * cb - 46_802 * cr);
    pixel[2] = clamped((y << 16) + 116_130 * cb);
}

fn refusal(error: tiff::TiffError) -> Refusal {
    match error {
        tiff::TiffError::UnsupportedError(_) => unsupported("TIFF of this kind is not supported."),
        tiff::TiffError::LimitsExceeded => malformed("The TIFF claims more than an image of its size needs."),
        tiff::TiffError::FormatError(_)
        | tiff::TiffError::IoError(_)
        | tiff::TiffError::IntSizeError
        | tiff::TiffError::UsageError(_) => malformed("The TIFF is damaged or cut off."),
    }
}

/// The file as the decoder shall see it: the decoder knows no palette, so such pages say that they are gray, and their
/// indices come out as they are.
struct Shown {
    file: File,
    at: u64,
    /// Places of two bytes that say "palette", in either order of bytes.
    hidden: Vec<u64>,
}

/// Photometric interpretation: 3 is palette, 1 is gray with black as 0.
const PALETTE: u8 = 3;
const BLACK_IS_ZERO: u8 = 1;

impl Read for Shown {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.file.read(buffer)?;
        for place in self.hidden.iter().flat_map(|place| [*place, *place + 1]) {
            let inside = place.checked_sub(self.at).and_then(|index| usize::try_from(index).ok());
            if let Some(byte) = inside.and_then(|index| buffer[..length].get_mut(index))
                && *byte == PALETTE
            {
                *byte = BLACK_IS_ZERO;
            }
        }
        self.at += length as u64;
        Ok(length)
    }
}

impl Seek for Shown {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.at = self.file.seek(to)?;
        Ok(self.at)
    }
}
