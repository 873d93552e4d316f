//! Pixels in memory, and the plain changes of their layout.

use crate::pipeline::geometry::Size;
use crate::pipeline::plan::Layout;

/// Rows from top to bottom without gaps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bitmap {
    /// Extent.
    pub size: Size,
    /// Of each pixel.
    pub layout: Layout,
    /// `size.pixels() * layout.bytes()` bytes.
    pub pixels: Vec<u8>,
}

impl Bitmap {
    /// Bytes of a pixel.
    #[must_use]
    pub const fn pixel_bytes(&self) -> usize {
        match self.layout {
            Layout::Gray => 1,
            Layout::Rgb => 3,
            Layout::Rgba | Layout::Cmyk => 4,
        }
    }

    /// Bytes of a row.
    #[must_use]
    pub const fn row_bytes(&self) -> usize {
        self.size.width_px as usize * self.pixel_bytes()
    }

    /// Transparent parts become white paper. Nothing for what has no opacity.
    pub fn flatten(&mut self) {
        if self.layout != Layout::Rgba {
            return;
        }
        self.narrow(Layout::Rgb, |pixel, out| {
            let opacity = u32::from(pixel[3]);
            for (sample, out) in pixel.iter().zip(out) {
                let blended = u32::from(*sample) * opacity + 255 * (255 - opacity);
                *out = byte((blended + 127) / 255);
            }
        });
    }

    /// Drops opacity where every pixel has all of it: encoders then need not look at it.
    pub fn drop_full_opacity(&mut self) {
        if self.layout == Layout::Rgba && self.pixels.chunks_exact(4).all(|pixel| pixel[3] == 255) {
            self.narrow(Layout::Rgb, |pixel, out| out.copy_from_slice(&pixel[..3]));
        }
    }

    /// Colours become brightness, weighted as in Rec. 601 (what JPEG and the training pages use).
    pub fn drop_colour(&mut self) {
        self.flatten();
        if self.layout == Layout::Rgb {
            self.narrow(Layout::Gray, |pixel, out| out[0] = luma(pixel));
        }
    }

    /// Rewrites every pixel to a layout of fewer bytes, in place, and gives the rest of the memory back.
    pub fn narrow(&mut self, layout: Layout, change: impl Fn(&[u8], &mut [u8])) {
        let from = self.pixel_bytes();
        self.layout = layout;
        let to = self.pixel_bytes();
        let mut out = [0u8; 4];
        let pixels = self.pixels.len() / from;
        for index in 0..pixels {
            change(&self.pixels[index * from..(index + 1) * from], &mut out[..to]);
            self.pixels[index * to..(index + 1) * to].copy_from_slice(&out[..to]);
        }
        self.pixels.truncate(pixels * to);
        self.pixels.shrink_to_fit();
    }
}

/// Brightness of red, green and blue, Rec. 601.
#[must_use]
pub fn luma(pixel: &[u8]) -> u8 {
    let weighted = 19_595 * u32::from(pixel[0]) + 38_470 * u32::from(pixel[1]) + 7_471 * u32::from(pixel[2]);
    byte((weighted + 32_768) >> 16)
}

/// A number that is known to fit; larger ones become 255.
#[must_use]
pub fn byte(value: u32) -> u8 {
    u8::try_from(value).unwrap_or(u8::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(layout: Layout, pixels: &[u8]) -> Bitmap {
        Bitmap { size: Size::new(1, 1), layout, pixels: pixels.to_vec() }
    }

    #[test]
    fn transparent_becomes_white() {
        for (pixel, flat) in [([0, 0, 0, 0], [255; 3]), ([10, 20, 30, 255], [10, 20, 30]), ([0, 0, 0, 128], [127; 3])] {
            let mut bitmap = one(Layout::Rgba, &pixel);
            bitmap.flatten();
            assert_eq!((bitmap.layout, &bitmap.pixels[..]), (Layout::Rgb, &flat[..]));
        }
    }

    #[test]
    fn luma_of_gray_is_itself() {
        for level in 0..=255u8 {
            assert_eq!(luma(&[level; 3]), level);
        }
        assert_eq!((luma(&[255, 0, 0]), luma(&[0, 255, 0]), luma(&[0, 0, 255])), (76, 150, 29));
    }
}
