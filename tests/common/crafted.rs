//! Hostile and odd inputs, made byte by byte.

use std::io::{Cursor, Write};

use image::{DynamicImage, ImageFormat};

use super::pages;

/// A picture in a format, whole.
pub fn whole(format: ImageFormat) -> Vec<u8> {
    let picture = DynamicImage::ImageLuma8(pages::page(320, 240, 3));
    let picture = if format == ImageFormat::WebP { DynamicImage::ImageRgb8(picture.to_rgb8()) } else { picture };
    let mut bytes = Cursor::new(Vec::new());
    picture.write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

/// The first two thirds of it.
pub fn truncated(format: ImageFormat) -> Vec<u8> {
    let mut bytes = if format == ImageFormat::Tiff { tiff_pixels_last() } else { whole(format) };
    bytes.truncate(bytes.len() * 2 / 3);
    bytes
}

/// One entry of a TIFF directory.
fn entry(tag: u16, kind: u16, count: u32, value: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.extend_from_slice(&tag.to_le_bytes());
    bytes.extend_from_slice(&kind.to_le_bytes());
    bytes.extend_from_slice(&count.to_le_bytes());
    bytes.extend_from_slice(&value.to_le_bytes());
    bytes
}

fn directory(width: u32, height: u32, strip: u32, length: u32, next: u32) -> Vec<u8> {
    let entries = [
        entry(256, 4, 1, width),
        entry(257, 4, 1, height),
        entry(258, 3, 1, 8),
        entry(259, 3, 1, 1),
        entry(262, 3, 1, 1),
        entry(273, 4, 1, strip),
        entry(277, 3, 1, 1),
        entry(278, 4, 1, height),
        entry(279, 4, 1, length),
    ];
    let mut bytes = u16::try_from(entries.len()).unwrap().to_le_bytes().to_vec();
    bytes.extend(entries.concat());
    bytes.extend_from_slice(&next.to_le_bytes());
    bytes
}

/// A gray TIFF whose directory stands before its pixels, so that cutting it cuts pixels.
pub fn tiff_pixels_last() -> Vec<u8> {
    let head = 8 + 2 + 9 * 12 + 4;
    let mut bytes = b"II*\0\x08\0\0\0".to_vec();
    bytes.extend(directory(200, 100, head, 20_000, 0));
    bytes.extend(std::iter::repeat_n(200u8, 20_000));
    bytes
}

/// A TIFF whose directory names itself as the next one.
pub fn tiff_loop() -> Vec<u8> {
    let mut bytes = b"II*\0\x08\0\0\0".to_vec();
    bytes.extend(directory(16, 16, 122, 256, 8));
    bytes.extend(std::iter::repeat_n(200u8, 256));
    bytes
}

/// A TIFF of a few bytes that claims a page of 60,000 × 60,000 pixels.
pub fn tiff_bomb() -> Vec<u8> {
    let mut bytes = b"II*\0\x08\0\0\0".to_vec();
    bytes.extend(directory(60_000, 60_000, 122, 3_600_000_000, 0));
    bytes.extend(std::iter::repeat_n(0u8, 64));
    bytes
}

/// A GIF that claims a canvas of 65,535 × 65,535 pixels.
pub fn gif_bomb() -> Vec<u8> {
    let mut bytes = b"GIF89a\xff\xff\xff\xff\x80\0\0\0\0\0\xff\xff\xff".to_vec();
    bytes.extend_from_slice(b"\x2c\0\0\0\0\xff\xff\xff\xff\0\x02\x02\x44\x01\0\x3b");
    bytes
}

/// CRC-32 as PNG uses it.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0xEDB8_8320 & (0u32.wrapping_sub(crc & 1))))
    })
}

/// A PNG chunk.
pub fn chunk(kind: &[u8; 4], data: &[u8]) -> Vec<u8> {
    let body = [kind.as_slice(), data].concat();
    let length = u32::try_from(data.len()).unwrap().to_be_bytes();
    [&length, body.as_slice(), &crc32(&body).to_be_bytes()].concat()
}

/// A valid PNG of 30,000 × 30,000 pixels of one bit, about 100 kB.
pub fn png_bomb() -> Vec<u8> {
    let mut header = 30_000u32.to_be_bytes().to_vec();
    header.extend_from_slice(&30_000u32.to_be_bytes());
    header.extend_from_slice(&[1, 0, 0, 0, 0]);
    let mut bytes = b"\x89PNG\r\n\x1a\n".to_vec();
    bytes.extend(chunk(b"IHDR", &header));
    bytes.extend(chunk(b"IDAT", &stored(100_000)));
    bytes.extend(chunk(b"IEND", &[]));
    bytes
}

/// A zlib stream of stored zeros: enough to look at, far from whole.
fn stored(length: usize) -> Vec<u8> {
    let mut bytes = vec![0x78, 0x01];
    for _ in 0..length / 50_000 {
        bytes.extend_from_slice(&[0, 0x50, 0xC3, 0xAF, 0x3C]);
        bytes.extend(std::iter::repeat_n(0u8, 50_000));
    }
    bytes
}

/// A PNG with an animation of 5,000 frames behind its picture.
pub fn apng_bomb() -> Vec<u8> {
    let plain = pages::png(64, 64, 1);
    let mut bytes = plain[..33].to_vec();
    bytes.extend(chunk(b"acTL", &[5000u32.to_be_bytes(), 0u32.to_be_bytes()].concat()));
    bytes.extend_from_slice(&plain[33..plain.len() - 12]);
    for sequence in 0..5000u32 {
        let mut control = (sequence * 2).to_be_bytes().to_vec();
        for value in [64u32, 64, 0, 0] {
            control.extend_from_slice(&value.to_be_bytes());
        }
        control.extend_from_slice(&[0, 1, 0, 10, 0, 0]);
        bytes.extend(chunk(b"fcTL", &control));
        bytes.extend(chunk(b"fdAT", &(sequence * 2 + 1).to_be_bytes()));
    }
    bytes.extend(chunk(b"IEND", &[]));
    bytes
}

/// A JPEG with an EXIF block that holds a GPS position and the text `SECRET-PLACE`.
pub fn jpeg_with_gps() -> Vec<u8> {
    let plain = pages::jpeg(160, 120);
    let mut tiff = b"II*\0\x08\0\0\0".to_vec();
    // One entry in the first directory: the pointer to the GPS directory at 26.
    tiff.extend_from_slice(&1u16.to_le_bytes());
    tiff.extend(entry(0x8825, 4, 1, 26));
    tiff.extend_from_slice(&0u32.to_le_bytes());
    // GPS: latitude reference, and the area as text at 56.
    tiff.extend_from_slice(&2u16.to_le_bytes());
    tiff.extend(entry(1, 2, 2, u32::from(b'N')));
    tiff.extend(entry(0x1C, 7, 12, 56));
    tiff.extend_from_slice(&0u32.to_le_bytes());
    tiff.extend_from_slice(b"SECRET-PLACE");
    let mut segment = b"Exif\0\0".to_vec();
    segment.extend(tiff);
    let length = u16::try_from(segment.len() + 2).unwrap();
    let mut bytes = plain[..2].to_vec();
    bytes.extend_from_slice(&[0xFF, 0xE1]);
    bytes.write_all(&length.to_be_bytes()).unwrap();
    bytes.extend(segment);
    bytes.extend_from_slice(&plain[2..]);
    bytes
}
