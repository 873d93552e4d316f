//! What a worker must not break at: images that lie, that are cut off, and that want everything.

/// One of them.
pub struct Hostile {
    /// For the report.
    pub name: &'static str,
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// Whether it may be processed all the same.
    pub may_pass: bool,
}

const PNG: &[u8] = b"\x89PNG\r\n\x1a\n";

/// All of them.
pub fn all() -> Vec<Hostile> {
    let refused = |name, bytes| Hostile { name, bytes, may_pass: false };
    let good = good();
    let lying_length = [PNG, &[0xff; 4], b"IHDR", &[0; 13]].concat();
    vec![
        refused("no image", b"#!/bin/sh\nrm -rf /\n".to_vec()),
        refused("PNG of 900 megapixels", png(30_000, 30_000, &stored_zeros(100_000))),
        refused("PNG as wide as a number can be", png(0x7fff_ffff, 1, &stored_zeros(0))),
        refused("PNG cut in its pixels", good.get(..good.len() * 2 / 3).unwrap_or_default().to_vec()),
        refused("PNG with a length that lies", lying_length),
        refused("PNG of noise", png(200, 200, &noise(5_000))),
        Hostile { name: "PNG with a hundred thousand chunks", bytes: many_chunks(&good), may_pass: true },
        refused("TIFF that names itself as its next page", tiff(16, 16, 8)),
        refused("TIFF of 3,600 megapixels", tiff(60_000, 60_000, 0)),
        refused("TIFF that begins outside of itself", b"II*\0\xff\xff\xff\xff".to_vec()),
        refused(
            "GIF of 4,300 megapixels",
            b"GIF89a\xff\xff\xff\xff\x80\0\0\0\0\0\xff\xff\xff\x2c\0\0\0\0\xff\xff\xff\xff\0\x02\x02\x44\x01\0\x3b"
                .to_vec(),
        ),
        refused("JPEG of 4,300 megapixels", jpeg(0xffff, 0xffff)),
        refused("JPEG of noise", [&jpeg(64, 64)[..], &noise(5_000)].concat()),
        refused(
            "WebP with a length that lies",
            [&b"RIFF\xff\xff\xff\xffWEBPVP8 \xff\xff\xff\x7f"[..], &noise(500)].concat(),
        ),
        refused(
            "BMP of noise",
            [
                &b"BM\xff\xff\xff\x7f\0\0\0\0\x36\0\0\0\x28\0\0\0\xff\xff\xff\x7f\xff\xff\xff\x7f\x01\0\x18\0"[..],
                &noise(500),
            ]
            .concat(),
        ),
        refused("PNM of a thousand digits", [&b"P5 "[..], &[b'9'; 1000], b" 1 255\n"].concat()),
    ]
}

/// A page that must come out whole, whatever came before it.
pub fn good() -> Vec<u8> {
    let (width, height) = (64_u32, 48_u32);
    let ink = |x: u32, y: u32| if y % 16 > 10 && x % 12 < 4 { 30_u8 } else { 220 };
    // Each row begins with its filter, none; the rows are stored without compression.
    let rows: Vec<u8> =
        (0..height).flat_map(|y| std::iter::once(0).chain((0..width).map(move |x| ink(x, y)))).collect();
    image(width, height, 8, &zlib(&rows))
}

fn png(width: u32, height: u32, data: &[u8]) -> Vec<u8> {
    image(width, height, 1, data)
}

/// A gray PNG.
fn image(width: u32, height: u32, depth: u8, data: &[u8]) -> Vec<u8> {
    let header = [&width.to_be_bytes()[..], &height.to_be_bytes(), &[depth, 0, 0, 0, 0]].concat();
    [PNG, &chunk(*b"IHDR", &header), &chunk(*b"IDAT", data), &chunk(*b"IEND", &[])].concat()
}

fn chunk(kind: [u8; 4], data: &[u8]) -> Vec<u8> {
    let length = u32::try_from(data.len()).unwrap_or(u32::MAX).to_be_bytes();
    let body = [&kind[..], data].concat();
    [&length[..], &body, &crc32(&body).to_be_bytes()].concat()
}

/// CRC-32 as PNG uses it.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0xEDB8_8320 & (0_u32.wrapping_sub(crc & 1))))
    })
}

/// A zlib stream of stored blocks, whole.
fn zlib(bytes: &[u8]) -> Vec<u8> {
    let mut stream = vec![0x78, 0x01];
    let mut blocks = bytes.chunks(0xffff).peekable();
    while let Some(block) = blocks.next() {
        let length = u16::try_from(block.len()).unwrap_or(u16::MAX);
        stream.push(u8::from(blocks.peek().is_none()));
        stream.extend_from_slice(&length.to_le_bytes());
        stream.extend_from_slice(&(!length).to_le_bytes());
        stream.extend_from_slice(block);
    }
    let (a, b) = bytes.iter().fold((1_u32, 0_u32), |(a, b), byte| {
        let a = (a + u32::from(*byte)) % 65_521;
        (a, (b + a) % 65_521)
    });
    stream.extend_from_slice(&((b << 16) | a).to_be_bytes());
    stream
}

/// The beginning of a stream of zeros: enough to look at, far from whole.
fn stored_zeros(length: usize) -> Vec<u8> {
    let whole = zlib(&vec![0; length]);
    whole.get(..whole.len().saturating_sub(4)).unwrap_or_default().to_vec()
}

fn many_chunks(good: &[u8]) -> Vec<u8> {
    // After the signature (8 bytes) and IHDR (25 bytes).
    let (head, rest) = good.split_at(33.min(good.len()));
    [head, &chunk(*b"tEXt", b"a\0b").repeat(100_000), rest].concat()
}

fn tiff(width: u32, height: u32, next: u32) -> Vec<u8> {
    let entry = |tag: u16, kind: u16, value: u32| {
        [&tag.to_le_bytes()[..], &kind.to_le_bytes(), &1_u32.to_le_bytes(), &value.to_le_bytes()].concat()
    };
    let pixels = width.saturating_mul(height);
    let entries = [
        entry(256, 4, width),
        entry(257, 4, height),
        entry(258, 3, 8),
        entry(259, 3, 1),
        entry(262, 3, 1),
        entry(273, 4, 122),
        entry(277, 3, 1),
        entry(278, 4, height),
        entry(279, 4, pixels),
    ];
    [&b"II*\0\x08\0\0\0\x09\0"[..], &entries.concat(), &next.to_le_bytes(), &[200; 256]].concat()
}

/// The headers of a gray JPEG, without tables.
fn jpeg(width: u16, height: u16) -> Vec<u8> {
    let (width, height) = (width.to_be_bytes(), height.to_be_bytes());
    let frame = [&b"\xff\xd8\xff\xc0\0\x0b\x08"[..], &height, &width, b"\x01\x01\x11\0"].concat();
    [&frame[..], b"\xff\xda\0\x08\x01\x01\0\0\x3f\0"].concat()
}

/// The same noise each time.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x2545_f491_u32;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state.to_le_bytes()[1]
    };
    (0..length).map(|_| next()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_good_page_is_good_and_the_others_are_not_empty() {
        let reader = image::ImageReader::new(std::io::Cursor::new(good())).with_guessed_format().unwrap();
        let page = reader.decode().unwrap();
        assert_eq!((page.width(), page.height()), (64, 48));
        assert!(all().iter().all(|hostile| !hostile.bytes.is_empty()));
    }
}
