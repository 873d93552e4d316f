//! PNG; of an APNG the default image.

use std::fs::File;
use std::io::{BufReader, Seek, SeekFrom};

use png::{ColorType, Transformations};

use super::bitmap::Bitmap;
use super::colour;
use super::decode::{Decoded, METADATA_BYTES_MAX, Source, gray_with_opacity, malformed, orientation};
use crate::job::Refusal;
use crate::pipeline::geometry::Size;
use crate::pipeline::plan::{Layout, PageFacts};
use crate::pipeline::resolution::Resolution;

/// An open PNG.
#[derive(Debug)]
pub struct Png {
    file: File,
}

impl Png {
    /// Of a file that passed the probe.
    #[must_use]
    pub const fn new(file: File) -> Self {
        Self { file }
    }

    fn reader(&self) -> Result<png::Reader<BufReader<&File>>, Refusal> {
        (&self.file).seek(SeekFrom::Start(0)).map_err(|_| malformed("The input cannot be read."))?;
        let limits = png::Limits { bytes: METADATA_BYTES_MAX };
        let mut decoder = png::Decoder::new_with_limits(BufReader::new(&self.file), limits);
        // Palette, 1 to 4 bits, 16 bits and transparent colours all become 8-bit samples.
        decoder.set_transformations(Transformations::normalize_to_color8());
        // Text is not even read: nothing of it can come out.
        decoder.set_ignore_text_chunk(true);
        decoder.read_info().map_err(refusal)
    }
}

impl Source for Png {
    fn facts(&mut self, _number: usize) -> Result<PageFacts, Refusal> {
        let reader = self.reader()?;
        let info = reader.info();
        let layout = layout(reader.output_color_type().0);
        let stored = Size::new(info.width, info.height);
        // Gray with opacity is decoded as stored first.
        let as_stored = if reader.output_color_type().0 == ColorType::GrayscaleAlpha { 2 * stored.pixels() } else { 0 };
        Ok(PageFacts {
            stored,
            orientation: orientation(info.exif_metadata.as_ref().map(|block| block.to_vec())),
            layout,
            has_icc: colour::is_needed(info.icc_profile.as_deref()),
            luma_at_decode: false,
            shrinks_at_decode: false,
            decoder_bytes: as_stored,
            resolution: info.pixel_dims.and_then(resolution),
            is_shown_by_browsers: true,
        })
    }

    fn decode(&mut self, _number: usize, _layout: Layout, _shrink: u32) -> Result<Decoded, Refusal> {
        let mut reader = self.reader()?;
        let size = Size::new(reader.info().width, reader.info().height);
        let icc = reader.info().icc_profile.as_ref().map(|icc| icc.to_vec());
        let kind = reader.output_color_type().0;
        let bytes = reader.output_buffer_size().ok_or_else(|| malformed("The image is too large."))?;
        let mut stored = vec![0u8; bytes];
        reader.next_frame(&mut stored).map_err(refusal)?;
        let pixels = if kind == ColorType::GrayscaleAlpha { gray_with_opacity(&stored) } else { stored };
        Ok(Decoded { bitmap: Bitmap { size, layout: layout(kind), pixels }, icc })
    }
}

fn resolution(stated: png::PixelDimensions) -> Option<Resolution> {
    match stated.unit {
        png::Unit::Meter => Resolution::per_metre(stated.xppu.into(), stated.yppu.into()),
        png::Unit::Unspecified => None,
    }
}

const fn layout(kind: ColorType) -> Layout {
    match kind {
        ColorType::Grayscale => Layout::Gray,
        ColorType::Rgb | ColorType::Indexed => Layout::Rgb,
        ColorType::GrayscaleAlpha | ColorType::Rgba => Layout::Rgba,
    }
}

fn refusal(error: png::DecodingError) -> Refusal {
    malformed(match error {
        png::DecodingError::IoError(_) => "The PNG is cut off.",
        png::DecodingError::LimitsExceeded => "The PNG holds metadata of a size that no image needs.",
        png::DecodingError::Format(_) | png::DecodingError::Parameter(_) => "The PNG is damaged.",
    })
}
