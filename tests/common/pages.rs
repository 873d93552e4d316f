//! Small images made in code.

use std::io::Cursor;

use image::{GrayImage, ImageFormat, Luma, RgbImage};

/// A gray page with dark strokes on stained paper; `seed` makes it differ.
pub fn page(width: u32, height: u32, seed: u32) -> GrayImage {
    GrayImage::from_fn(width, height, |x, y| {
        let stroke = (x / 3 + seed).is_multiple_of(7) && (y / 9).is_multiple_of(2);
        let stain = (x + seed) / 16 % 8 * 3 + (y + seed) / 24 % 6 * 3;
        Luma([if stroke { 30 } else { low_byte(190 + stain) }])
    })
}

fn low_byte(value: u32) -> u8 {
    value.to_le_bytes()[0]
}

/// The page as PNG.
pub fn png(width: u32, height: u32, seed: u32) -> Vec<u8> {
    encode(&image::DynamicImage::ImageLuma8(page(width, height, seed)), ImageFormat::Png)
}

/// A colour picture as JPEG.
pub fn jpeg(width: u32, height: u32) -> Vec<u8> {
    let picture = RgbImage::from_fn(width, height, |x, y| image::Rgb([low_byte(x), low_byte(y), low_byte(x + y)]));
    encode(&image::DynamicImage::ImageRgb8(picture), ImageFormat::Jpeg)
}

fn encode(picture: &image::DynamicImage, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    picture.write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

/// A valid PNG with a text chunk of this keyword and text, put before its pixels.
pub fn png_with_text(keyword: &str, text: &str, seed: u32) -> Vec<u8> {
    let plain = png(64, 64, seed);
    let mut data = keyword.as_bytes().to_vec();
    data.push(0);
    data.extend_from_slice(text.as_bytes());
    let chunk = super::crafted::chunk(b"tEXt", &data);
    // After the signature (8 bytes) and IHDR (25 bytes).
    [&plain[..33], &chunk, &plain[33..]].concat()
}
