//! Pixels become files. Nothing of the input but its pixels is written.

use std::borrow::Cow;
use std::io::Write;

use webp::{PixelLayout, WebPConfig};

use super::bitmap::Bitmap;
use crate::pipeline::plan::Layout;
use crate::pipeline::spec::OutputFormat;

/// libwebp's own default between speed (0) and size (6).
const WEBP_METHOD: i32 = 4;
/// Above this libwebp keeps no list of tokens: on a page full of text it grows past what the plan has counted (100
/// megapixels of text failed for it), and saves less than a third of the time.
const WEBP_TOKENS_PIXELS_MAX: u64 = 32_000_000;

/// Encodes the page into `file`.
///
/// # Errors
/// One sentence.
pub fn encode(page: &Bitmap, format: OutputFormat, file: &mut impl Write) -> Result<(), String> {
    match format {
        OutputFormat::Png => png(page, file).map_err(|error| error.to_string()),
        OutputFormat::Webp { quality } => webp(page, quality, file),
    }
}

fn png(page: &Bitmap, file: &mut impl Write) -> Result<(), png::EncodingError> {
    let mut encoder = png::Encoder::new(file, page.size.width_px, page.size.height_px);
    encoder.set_color(match page.layout {
        Layout::Gray => png::ColorType::Grayscale,
        Layout::Rgb => png::ColorType::Rgb,
        Layout::Rgba | Layout::Cmyk => png::ColorType::Rgba,
    });
    encoder.set_depth(png::BitDepth::Eight);
    encoder.set_compression(png::Compression::Balanced);
    let mut writer = encoder.write_header()?;
    writer.write_image_data(&page.pixels)?;
    writer.finish()
}

fn webp(page: &Bitmap, quality: u8, file: &mut impl Write) -> Result<(), String> {
    let (pixels, layout) = match page.layout {
        Layout::Gray => (Cow::Owned(page.pixels.iter().flat_map(|level| [*level; 3]).collect()), PixelLayout::Rgb),
        Layout::Rgb => (Cow::Borrowed(&page.pixels[..]), PixelLayout::Rgb),
        Layout::Rgba | Layout::Cmyk => (Cow::Borrowed(&page.pixels[..]), PixelLayout::Rgba),
    };
    let mut config = WebPConfig::new().map_err(|()| "libwebp has another version than its header".to_owned())?;
    config.quality = quality.into();
    config.method = WEBP_METHOD;
    let pixels_count = u64::from(page.size.width_px) * u64::from(page.size.height_px);
    config.low_memory = i32::from(pixels_count > WEBP_TOKENS_PIXELS_MAX);
    let encoder = webp::Encoder::new(&pixels, layout, page.size.width_px, page.size.height_px);
    let encoded = encoder.encode_advanced(&config).map_err(|error| format!("libwebp: {error:?}"))?;
    file.write_all(&encoded).map_err(|error| error.to_string())
}
