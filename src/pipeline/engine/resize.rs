//! Shrinks and crops.

use fast_image_resize::images::{Image, ImageRef};
use fast_image_resize::{FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer};

use super::bitmap::Bitmap;
use crate::pipeline::geometry::{Rect, Size};
use crate::pipeline::plan::Layout;

/// A part of the page at another size. Opacity is multiplied in while samples are mixed.
///
/// # Errors
/// One sentence; only if the plan and the page disagree.
pub fn resize(page: &Bitmap, crop: Rect, size: Size) -> Result<Bitmap, String> {
    let kind = match page.layout {
        Layout::Gray => PixelType::U8,
        Layout::Rgb => PixelType::U8x3,
        Layout::Rgba | Layout::Cmyk => PixelType::U8x4,
    };
    let source = ImageRef::new(page.size.width_px, page.size.height_px, &page.pixels, kind)
        .map_err(|error| error.to_string())?;
    let mut target = Image::new(size.width_px, size.height_px, kind);
    let options = ResizeOptions::new()
        .resize_alg(ResizeAlg::Convolution(FilterType::Lanczos3))
        .crop(crop.left_px.into(), crop.top_px.into(), crop.size.width_px.into(), crop.size.height_px.into())
        .use_alpha(page.layout == Layout::Rgba);
    Resizer::new().resize(&source, &mut target, &options).map_err(|error| error.to_string())?;
    Ok(Bitmap { size, layout: page.layout, pixels: target.into_vec() })
}
