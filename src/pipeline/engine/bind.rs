//! The PDF of all pages, written page by page: no more than one page is ever held.
//!
//! A PDF takes the compressed rows of a PNG as they are (filter `FlateDecode`, predictor 15). So the pixels of a page that has
//! been written as PNG are copied from there, without loss and without work. Pages of nothing but black and white take one
//! bit for each pixel. Nothing but pixels and the size of the paper is written: no date, no names, no metadata.

use std::fs::File;
use std::io::{self, BufReader, Write};
use std::path::Path;

use super::bitmap::{Bitmap, byte};
use super::sink::Sink;
use crate::pipeline::geometry::Size;
use crate::pipeline::plan::Layout;
use crate::pipeline::wire::OutFile;

/// Media type.
pub const CONTENT_TYPE: &str = "application/pdf";
/// The line after the version has bytes above 127, so that no transfer takes the file for text.
const HEADER: &[u8] = b"%PDF-1.4\n%\xe2\xe3\xcf\xd3\n";
/// The image ends this far from the edges of the paper, points: 0.02 of a pixel at most. Poppler draws one that ends exactly at
/// the edge of a pixel one pixel too large, which changes all of them.
const INSET_PT: f64 = 0.0002;
const CATALOG: usize = 1;
const PAGES: usize = 2;
/// Objects of a page: itself, its content, its image, the length of its image.
const OBJECTS_PER_PAGE: usize = 4;

/// A PDF on its way.
#[derive(Debug)]
pub struct Binder {
    sink: Sink,
    /// Where each object begins; the first has the number 1.
    offsets: Vec<u64>,
    pages_count: usize,
}

/// How the pixels of a page are kept.
#[derive(Debug, Clone, Copy)]
struct Coding {
    space: &'static str,
    colours: u8,
    bits: u8,
}

const GRAY: Coding = Coding { space: "DeviceGray", colours: 1, bits: 8 };
const COLOUR: Coding = Coding { space: "DeviceRGB", colours: 3, bits: 8 };
const BILEVEL: Coding = Coding { space: "DeviceGray", colours: 1, bits: 1 };

impl Binder {
    /// Begins `name` below `directory`.
    ///
    /// # Errors
    /// Of the file system.
    pub fn create(directory: &Path, name: &str) -> io::Result<Self> {
        let mut sink = Sink::create(directory, name)?;
        sink.write_all(HEADER)?;
        // The first two objects are written last, when the pages are known.
        Ok(Self { sink, offsets: vec![0; PAGES], pages_count: 0 })
    }

    /// Adds a page on paper of so many points. `png` is a file with the pixels of the page, if there is one.
    ///
    /// # Errors
    /// Of the file system and of the encoder.
    pub fn add(&mut self, page: &Bitmap, (width, height): (f64, f64), png: Option<&Path>) -> io::Result<()> {
        let first = PAGES + 1 + self.pages_count * OBJECTS_PER_PAGE;
        let (content, image, length) = (first + 1, first + 2, first + 3);
        let (inner_width, inner_height) = (number(width - 2.0 * INSET_PT), number(height - 2.0 * INSET_PT));
        let (width, height) = (number(width), number(height));
        self.object(&format!(
            "<< /Type /Page /Parent {PAGES} 0 R /MediaBox [0 0 {width} {height}] /Contents {content} 0 R \
             /Resources << /XObject << /I {image} 0 R >> >> >>"
        ))?;
        let drawing = format!("q {inner_width} 0 0 {inner_height} {INSET_PT} {INSET_PT} cm /I Do Q");
        self.object(&format!("<< /Length {} >>\nstream\n{drawing}\nendstream", drawing.len()))?;
        let written = self.image(page, png, length)?;
        self.object(&written.to_string())?;
        self.pages_count += 1;
        Ok(())
    }

    /// Writes what is left.
    ///
    /// # Errors
    /// Of the file system.
    pub fn finish(mut self) -> io::Result<OutFile> {
        self.begin(CATALOG)?;
        writeln!(self.sink, "<< /Type /Catalog /Pages {PAGES} 0 R >>\nendobj")?;
        self.begin(PAGES)?;
        write!(self.sink, "<< /Type /Pages /Count {} /Kids [", self.pages_count)?;
        for page in 0..self.pages_count {
            write!(self.sink, " {} 0 R", PAGES + 1 + page * OBJECTS_PER_PAGE)?;
        }
        write!(self.sink, " ] >>\nendobj\n")?;
        let start = self.sink.written();
        let size = self.offsets.len() + 1;
        // Every line of the table has 20 bytes.
        write!(self.sink, "xref\n0 {size}\n0000000000 65535 f \n")?;
        for offset in &self.offsets {
            writeln!(self.sink, "{offset:010} 00000 n ")?;
        }
        write!(self.sink, "trailer\n<< /Size {size} /Root {CATALOG} 0 R >>\nstartxref\n{start}\n%%EOF\n")?;
        self.sink.finish(CONTENT_TYPE, Size::new(0, 0))
    }

    fn begin(&mut self, number: usize) -> io::Result<()> {
        if let Some(offset) = self.offsets.get_mut(number - 1) {
            *offset = self.sink.written();
        }
        writeln!(self.sink, "{number} 0 obj")
    }

    /// Writes the next object.
    fn object(&mut self, text: &str) -> io::Result<()> {
        self.offsets.push(0);
        self.begin(self.offsets.len())?;
        writeln!(self.sink, "{text}\nendobj")
    }

    /// Writes the image of a page; its length, which is returned, stands in an object of its own.
    fn image(&mut self, page: &Bitmap, png: Option<&Path>, length: usize) -> io::Result<u64> {
        let is_bilevel = is_bilevel(page);
        let coding = match page.layout {
            Layout::Gray if is_bilevel => BILEVEL,
            Layout::Gray => GRAY,
            Layout::Rgb | Layout::Rgba | Layout::Cmyk => COLOUR,
        };
        let Size { width_px, height_px } = page.size;
        let Coding { space, colours, bits } = coding;
        self.offsets.push(0);
        self.begin(self.offsets.len())?;
        write!(
            self.sink,
            "<< /Type /XObject /Subtype /Image /Width {width_px} /Height {height_px} /ColorSpace /{space} \
             /BitsPerComponent {bits} /Filter /FlateDecode /DecodeParms << /Predictor 15 /Colors {colours} \
             /BitsPerComponent {bits} /Columns {width_px} >> /Length {length} 0 R >>\nstream\n"
        )?;
        let mut rows = Rows::new(&mut self.sink);
        match (page.layout, png) {
            (Layout::Gray, _) if is_bilevel => encode(page.size, BILEVEL, &packed(page), &mut rows)?,
            (Layout::Gray | Layout::Rgb, Some(png)) => {
                io::copy(&mut BufReader::new(File::open(png)?), &mut rows)?;
            }
            (Layout::Gray | Layout::Rgb | Layout::Cmyk, _) => encode(page.size, coding, &page.pixels, &mut rows)?,
            (Layout::Rgba, _) => {
                let mut opaque = page.clone();
                opaque.flatten();
                encode(page.size, coding, &opaque.pixels, &mut rows)?;
            }
        }
        let written = rows.written;
        write!(self.sink, "\nendstream\nendobj\n")?;
        Ok(written)
    }
}

/// A number of points, as short as it can be said without an error that a printer could show. Never more than it is: drawn
/// pixels are rounded up.
fn number(points: f64) -> String {
    let text = format!("{:.4}", (points * 1e4 + 1e-3).floor() / 1e4);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// Whether a gray page has nothing but black and white.
fn is_bilevel(page: &Bitmap) -> bool {
    page.layout == Layout::Gray && page.pixels.iter().all(|level| matches!(level, 0 | 255))
}

/// One bit for each pixel of a bilevel page, rows padded to bytes.
fn packed(page: &Bitmap) -> Vec<u8> {
    let width = (page.size.width_px as usize).max(1);
    let bits =
        |eight: &[u8]| eight.iter().zip(0u32..).fold(0, |bits, (level, at)| bits | u32::from(level & 1) << (7 - at));
    page.pixels.chunks(width).flat_map(|row| row.chunks(8).map(|eight| byte(bits(eight)))).collect()
}

fn encode(size: Size, coding: Coding, pixels: &[u8], rows: &mut Rows<'_>) -> io::Result<()> {
    let mut encoder = png::Encoder::new(rows, size.width_px, size.height_px);
    encoder.set_color(if coding.colours == 1 { png::ColorType::Grayscale } else { png::ColorType::Rgb });
    encoder.set_depth(if coding.bits == 1 { png::BitDepth::One } else { png::BitDepth::Eight });
    encoder.set_compression(png::Compression::Balanced);
    if coding.bits == 1 {
        // Differences of packed pixels are no smaller than the pixels.
        encoder.set_filter(png::Filter::NoFilter);
    }
    let mut writer = encoder.write_header()?;
    writer.write_image_data(pixels)?;
    Ok(writer.finish()?)
}

/// Takes a PNG and passes on its compressed rows alone.
struct Rows<'a> {
    to: &'a mut Sink,
    /// Bytes passed on.
    written: u64,
    /// Of the signature, and of the checksum and the head of the next chunk, as far as it has come.
    head: Vec<u8>,
    head_bytes: usize,
    /// What is left of this chunk's body.
    body_bytes: usize,
    is_wanted: bool,
}

/// Length and kind.
const CHUNK_HEAD_BYTES: usize = 8;
const SIGNATURE_BYTES: usize = 8;
const CHECKSUM_BYTES: usize = 4;

impl<'a> Rows<'a> {
    fn new(to: &'a mut Sink) -> Self {
        let head_bytes = SIGNATURE_BYTES + CHUNK_HEAD_BYTES;
        Self { to, written: 0, head: Vec::with_capacity(head_bytes), head_bytes, body_bytes: 0, is_wanted: false }
    }

    /// The head of a chunk is complete.
    fn enter(&mut self) -> io::Result<()> {
        let Some((_, [a, b, c, d, kind @ ..])) = self.head.split_last_chunk::<CHUNK_HEAD_BYTES>() else {
            return Err(io::ErrorKind::InvalidData.into());
        };
        self.body_bytes = usize::try_from(u32::from_be_bytes([*a, *b, *c, *d])).map_err(io::Error::other)?;
        self.is_wanted = kind == b"IDAT";
        self.head.clear();
        self.head_bytes = CHECKSUM_BYTES + CHUNK_HEAD_BYTES;
        Ok(())
    }
}

impl Write for Rows<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.body_bytes > 0 {
            let (body, _) = bytes.split_at(self.body_bytes.min(bytes.len()));
            if self.is_wanted {
                self.to.write_all(body)?;
                self.written += body.len() as u64;
            }
            self.body_bytes -= body.len();
            return Ok(body.len());
        }
        let (part, _) = bytes.split_at((self.head_bytes - self.head.len()).min(bytes.len()));
        self.head.extend_from_slice(part);
        if self.head.len() == self.head_bytes {
            self.enter()?;
        }
        Ok(part.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gray(width_px: u32, height_px: u32, level: impl Fn(u32) -> u8) -> Bitmap {
        let pixels = (0..width_px * height_px).map(level).collect();
        Bitmap { size: Size::new(width_px, height_px), layout: Layout::Gray, pixels }
    }

    fn bound(pages: &[Bitmap]) -> Vec<u8> {
        let folder = tempfile::tempdir().unwrap();
        let mut binder = Binder::create(folder.path(), "all.pdf").unwrap();
        for page in pages {
            binder.add(page, (595.2, 841.92), None).unwrap();
        }
        let facts = binder.finish().unwrap();
        let bytes = std::fs::read(folder.path().join("all.pdf")).unwrap();
        assert_eq!(facts.size_bytes, bytes.len() as u64);
        bytes
    }

    /// What a page is compressed to, as the file says it, by the number of its object.
    fn stream(pdf: &[u8], number: usize) -> Vec<u8> {
        let find = |what: &[u8], from: usize| from + pdf[from..].windows(what.len()).position(|at| at == what).unwrap();
        let object = find(format!("\n{number} 0 obj").as_bytes(), 0);
        let start = find(b"stream\n", object) + 7;
        let length = find(format!("\n{} 0 obj\n", number + 1).as_bytes(), start);
        let digits = &pdf[length + format!("\n{} 0 obj\n", number + 1).len()..find(b"\nendobj", length + 1)];
        let length: usize = std::str::from_utf8(digits).unwrap().parse().unwrap();
        assert_eq!(&pdf[start + length..start + length + 10], b"\nendstream");
        pdf[start..start + length].to_vec()
    }

    #[test]
    fn places_of_objects_are_those_that_the_table_says() {
        let pages = [gray(20, 30, |at| byte(at % 251)), gray(9, 5, |at| if at % 3 == 0 { 255 } else { 0 })];
        let pdf = bound(&pages);
        assert_eq!(pdf, bound(&pages), "the same pages make the same bytes");
        let text = String::from_utf8_lossy(&pdf);
        let start: usize = text.rsplit("startxref\n").next().unwrap().lines().next().unwrap().parse().unwrap();
        let table = std::str::from_utf8(&pdf[start..]).unwrap();
        let lines: Vec<&str> = table.lines().skip(3).take_while(|line| line.ends_with(" n ")).collect();
        assert_eq!(lines.len(), PAGES + 2 * OBJECTS_PER_PAGE);
        for (line, number) in lines.iter().zip(1..) {
            let offset: usize = line[..10].parse().unwrap();
            assert!(pdf[offset..].starts_with(format!("{number} 0 obj\n").as_bytes()), "{number}");
        }
    }

    #[test]
    fn a_bilevel_page_takes_a_bit_for_each_pixel() {
        let page = gray(11, 2, |at| if at % 2 == 0 { 255 } else { 0 });
        assert_eq!(packed(&page), [0b1010_1010, 0b1010_0000, 0b0101_0101, 0b0100_0000]);
        let pdf = bound(&[page]);
        assert!(String::from_utf8_lossy(&pdf).contains("/BitsPerComponent 1 "));
        // A stream of zlib.
        assert_eq!(stream(&pdf, 5)[0], 0x78);
    }

    #[test]
    fn only_the_rows_of_a_png_are_taken() {
        let folder = tempfile::tempdir().unwrap();
        let page = gray(300, 200, |at| byte(at * 7 % 256));
        let path = folder.path().join("page.png");
        let mut encoder = png::Encoder::new(File::create(&path).unwrap(), 300, 200);
        encoder.set_color(png::ColorType::Grayscale);
        encoder.add_text_chunk("Author".to_owned(), "nobody's business".to_owned()).unwrap();
        let mut writer = encoder.write_header().unwrap();
        writer.write_image_data(&page.pixels).unwrap();
        writer.finish().unwrap();
        let mut binder = Binder::create(folder.path(), "all.pdf").unwrap();
        binder.add(&page, (72.0, 48.0), Some(&path)).unwrap();
        binder.finish().unwrap();
        let pdf = std::fs::read(folder.path().join("all.pdf")).unwrap();
        assert!(!String::from_utf8_lossy(&pdf).contains("Author"));
        assert_eq!(stream(&pdf, 5)[0], 0x78);
    }

    #[test]
    fn points_are_said_shortly() {
        assert_eq!([number(595.2), number(14_400.0), number(1.0 / 3.0)], ["595.2", "14400", "0.3333"]);
    }
}
