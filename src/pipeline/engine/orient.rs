//! Turns a page upright.

use super::bitmap::Bitmap;
use crate::pipeline::geometry::Orientation;

/// Side of the blocks in which sides are exchanged: source and target rows of a block stay in the first cache.
const BLOCK_PX: usize = 64;

/// Turns the page as its EXIF orientation says. Only a change of sides needs memory for a second page.
pub fn apply(bitmap: &mut Bitmap, orientation: Orientation) {
    match orientation {
        Orientation::Upright => {}
        Orientation::Mirrored => mirror(bitmap),
        Orientation::Flipped => flip(bitmap),
        Orientation::HalfTurn => {
            mirror(bitmap);
            flip(bitmap);
        }
        Orientation::Transposed => transpose(bitmap),
        Orientation::QuarterRight => {
            transpose(bitmap);
            mirror(bitmap);
        }
        Orientation::Transversed => {
            transpose(bitmap);
            mirror(bitmap);
            flip(bitmap);
        }
        Orientation::QuarterLeft => {
            transpose(bitmap);
            flip(bitmap);
        }
    }
}

fn mirror(bitmap: &mut Bitmap) {
    let (row_bytes, pixel_bytes) = (bitmap.row_bytes(), bitmap.pixel_bytes());
    let width = row_bytes / pixel_bytes;
    for row in bitmap.pixels.chunks_exact_mut(row_bytes) {
        for left in 0..width / 2 {
            let right = width - 1 - left;
            for sample in 0..pixel_bytes {
                row.swap(left * pixel_bytes + sample, right * pixel_bytes + sample);
            }
        }
    }
}

fn flip(bitmap: &mut Bitmap) {
    let row_bytes = bitmap.row_bytes();
    let height = bitmap.size.height_px as usize;
    let (upper, lower) = bitmap.pixels.split_at_mut(height / 2 * row_bytes);
    for (above, below) in upper.chunks_exact_mut(row_bytes).zip(lower.chunks_exact_mut(row_bytes).rev()) {
        above.swap_with_slice(below);
    }
}

fn transpose(bitmap: &mut Bitmap) {
    let pixel_bytes = bitmap.pixel_bytes();
    let (width, height) = (bitmap.size.width_px as usize, bitmap.size.height_px as usize);
    let mut turned = vec![0u8; bitmap.pixels.len()];
    for top in (0..height).step_by(BLOCK_PX) {
        for left in (0..width).step_by(BLOCK_PX) {
            for y in top..(top + BLOCK_PX).min(height) {
                for x in left..(left + BLOCK_PX).min(width) {
                    let from = (y * width + x) * pixel_bytes;
                    let to = (x * height + y) * pixel_bytes;
                    turned[to..to + pixel_bytes].copy_from_slice(&bitmap.pixels[from..from + pixel_bytes]);
                }
            }
        }
    }
    bitmap.pixels = turned;
    bitmap.size = bitmap.size.transposed();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::geometry::Size;
    use crate::pipeline::plan::Layout;

    /// What each EXIF value must become: `abc` over `def`, as shown by the figures of the EXIF standard.
    #[test]
    fn each_exif_value_turns_as_the_standard_says() {
        let cases = [
            (1, "abcdef", 3),
            (2, "cbafed", 3),
            (3, "fedcba", 3),
            (4, "defabc", 3),
            (5, "adbecf", 2),
            (6, "daebfc", 2),
            (7, "fcebda", 2),
            (8, "cfbead", 2),
        ];
        for (value, expected, width) in cases {
            let orientation = Orientation::from_exif(value);
            let mut gray = Bitmap { size: Size::new(3, 2), layout: Layout::Gray, pixels: b"abcdef".to_vec() };
            apply(&mut gray, orientation);
            assert_eq!((&gray.pixels[..], gray.size.width_px), (expected.as_bytes(), width), "{value}");
            assert_eq!(gray.size, orientation.applied(Size::new(3, 2)));
            let tripled = |text: &str| text.bytes().flat_map(|byte| [byte, byte + 1, byte + 2]).collect::<Vec<_>>();
            let mut rgb = Bitmap { size: Size::new(3, 2), layout: Layout::Rgb, pixels: tripled("abcdef") };
            apply(&mut rgb, orientation);
            assert_eq!(rgb.pixels, tripled(expected), "{value}");
        }
    }
}
