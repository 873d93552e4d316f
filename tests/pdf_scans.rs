//! Scans as PDF carries them: their pixels, and that the plan asks for the memory that PDFium takes.
//! `cargo nextest run --features fault-points --test pdf_scans --no-capture` prints the figures.
#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

#[path = "common/worker.rs"]
mod common;
#[path = "common/pdf.rs"]
mod pdf;

use std::io::Write;
use std::path::Path;
use std::time::Duration;

use common::{Place, run, spec};
use flate2::Compression;
use flate2::write::ZlibEncoder;
use image::codecs::jpeg::JpegEncoder;
use image::{DynamicImage, RgbImage};
use inkpool::containers::session::{Verdict, execute};
use inkpool::containers::slot_dir::SlotDir;
use inkpool::pipeline::wire::Done;
use tokio_util::sync::CancellationToken;

const DEADLINE: Duration = Duration::from_secs(300);
/// A4 at 300 and at 600 dots per inch.
const FINE: (u32, u32) = (2480, 3508);
const FINEST: (u32, u32) = (4960, 7016);
const WHOLE_PAGE: &str = "q 595.2 0 0 841.92 0 0 cm /I Do Q";
const PICTURE: &str = "/XObject << /I 5 0 R >>";

async fn work(place: &Place, bytes: &[u8], memory_bytes_max: Option<u64>) -> (SlotDir, Verdict) {
    let (slot, mut worker) = place.start(0).await;
    let mut run = run(&slot, bytes, spec());
    run.limits.memory_bytes_max = memory_bytes_max.unwrap_or(run.limits.memory_bytes_max);
    let session = execute(worker.as_mut(), run, DEADLINE, CancellationToken::new(), |_, _| {}).await;
    (slot, session.verdict)
}

async fn done(bytes: &[u8]) -> (DynamicImage, Done) {
    let place = Place::new();
    let (slot, verdict) = work(&place, bytes, None).await;
    let Verdict::Done(done) = verdict else { panic!("{verdict:?}") };
    (image::ImageReader::open(slot.path().join("out/clean.png")).unwrap().decode().unwrap(), *done)
}

/// What the plan asks for: a worker that may have nothing says it.
async fn planned_bytes(bytes: &[u8]) -> u64 {
    let (_, verdict) = work(&Place::new(), bytes, Some(1)).await;
    let Verdict::Refused { refusal, .. } = verdict else { panic!("{verdict:?}") };
    refusal.measured.unwrap().trim_end_matches(" bytes").parse().unwrap()
}

fn deflated(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// Paper with something on every row; no two samples of a pixel are the same.
fn coloured((width, height): (u32, u32)) -> RgbImage {
    let low = |value: u32| value.to_le_bytes()[0];
    RgbImage::from_fn(width, height, |x, y| {
        let shade = low((x / 8 * 7 + y / 8 * 13) % 60);
        image::Rgb([250 - shade, 240 - shade, 225 - shade])
    })
}

fn picture((width, height): (u32, u32), space: &str, bits: u8, filter: &str, bytes: &[u8]) -> Vec<u8> {
    let entries = format!(
        "/Type /XObject /Subtype /Image /Width {width} /Height {height} /ColorSpace /{space} /BitsPerComponent {bits} {filter}"
    );
    pdf::stream(&entries, bytes)
}

fn scan(pictures: Vec<Vec<u8>>) -> Vec<u8> {
    pdf::page(pdf::A4, WHOLE_PAGE, PICTURE, pictures)
}

fn jpeg(size: (u32, u32)) -> Vec<u8> {
    let mut bytes = Vec::new();
    let encoder = JpegEncoder::new_with_quality(&mut bytes, 90);
    coloured(size).write_with_encoder(encoder).unwrap();
    picture(size, "DeviceRGB", 8, "/Filter /DCTDecode", &bytes)
}

fn gray(size: (u32, u32)) -> Vec<u8> {
    let samples = DynamicImage::from(coloured(size)).to_luma8();
    picture(size, "DeviceGray", 8, "/Filter /FlateDecode", &deflated(&samples))
}

/// With opacity, which stands in a second picture.
fn masked(size: (u32, u32)) -> Vec<Vec<u8>> {
    let filter = "/Filter /FlateDecode /SMask 6 0 R";
    vec![picture(size, "DeviceRGB", 8, filter, &deflated(&coloured(size))), gray(size)]
}

/// Bits one after the other.
#[derive(Default)]
struct Bits {
    bytes: Vec<u8>,
    count: usize,
}

impl Bits {
    fn push(&mut self, code: &str) {
        for bit in code.bytes() {
            if self.count.is_multiple_of(8) {
                self.bytes.push(0);
            }
            if let Some(last) = self.bytes.last_mut().filter(|_| bit == b'1') {
                *last |= 0x80 >> (self.count % 8);
            }
            self.count += 1;
        }
    }
}

/// A fax of group 4 (T.6): stripes of eight white and eight black pixels, by hand. The first row says where they begin, every
/// further one that nothing has changed.
fn fax((width, height): (u32, u32)) -> Vec<u8> {
    let (mut bits, stripes) = (Bits::default(), width / 16);
    assert_eq!(stripes * 16, width);
    (0..stripes).for_each(|_| bits.push("00110011000101"));
    let row = "1".repeat(stripes as usize * 2);
    (1..height).for_each(|_| bits.push(&row));
    bits.push("000000000001000000000001");
    let filter = format!("/Filter /CCITTFaxDecode /DecodeParms << /K -1 /Columns {width} /Rows {height} >>");
    picture((width, height), "DeviceGray", 1, &filter, &bits.bytes)
}

fn jpeg2000(mode: &str, more: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/fixtures/pdf/{mode}.jp2"));
    let bytes = std::fs::read(path).unwrap();
    picture(FINE, "DeviceRGB", 8, &format!("/Filter /JPXDecode {more}"), &bytes)
}

/// Something transparent within something transparent.
fn layers(depth: usize, paper: &str) -> Vec<u8> {
    let states = "/ExtGState << /G << /ca 0.5 /BM /Multiply >> >>";
    let form = |level: usize| {
        let is_last = level + 1 == depth;
        let inner = if is_last { String::new() } else { format!("/XObject << /X {} 0 R >>", 6 + level) };
        let draw = if is_last { "" } else { "/X Do" };
        let entries = format!(
            "/Type /XObject /Subtype /Form /BBox [{paper}] /Group << /S /Transparency /I true /K true >> /Resources << {inner} {states} >>"
        );
        pdf::stream(&entries, format!("/G gs 1 0 0 rg 0 0 500 800 re f {draw}").as_bytes())
    };
    pdf::page(paper, "/G gs /X Do", &format!("/XObject << /X 5 0 R >> {states}"), (0..depth).map(form).collect())
}

fn many(pictures: Vec<Vec<u8>>) -> Vec<u8> {
    let count = pictures.len();
    let content: String =
        (0..count).map(|one| format!("q 100 0 0 100 {} {} cm /I{one} Do Q ", one % 5 * 110, one / 5 * 110)).collect();
    let names: String = (0..count).map(|one| format!("/I{one} {} 0 R ", 5 + one)).collect();
    pdf::page(pdf::A4, &content, &format!("/XObject << {names} >>"), pictures)
}

#[tokio::test]
async fn a_fax_comes_out_with_its_own_pixels() {
    let size = (4960, 700);
    let page = pdf::page("0 0 595.2 84", "q 595.2 0 0 84 0 0 cm /I Do Q", PICTURE, vec![fax(size)]);
    let (clean, done) = done(&page).await;
    assert_eq!((done.width_px, done.height_px), size);
    let clean = clean.to_luma8();
    let wrong = clean.enumerate_pixels().filter(|(x, _, level)| level[0] != if x % 16 < 8 { 255 } else { 0 }).count();
    assert_eq!(wrong, 0, "of {}", clean.len());
}

#[tokio::test]
async fn a_photograph_comes_out_with_its_own_pixels() {
    let size = (1240, 1754);
    let (clean, done) = done(&scan(vec![jpeg(size)])).await;
    assert_eq!((done.width_px, done.height_px), size);
    let (clean, sent) = (clean.to_rgb8(), coloured(size));
    let off = clean.iter().zip(sent.iter()).map(|(one, other)| u64::from(one.abs_diff(*other))).sum::<u64>();
    assert!(off < sent.len() as u64 * 3, "{off} of {}: JPEG is off by one or two", sent.len());
}

#[tokio::test]
async fn scans_in_jpeg_2000_are_read() {
    let (clean, done) = done(&scan(vec![jpeg2000("rgb", "")])).await;
    assert_eq!((done.width_px, done.height_px), FINE);
    let clean = clean.to_rgb8();
    let near =
        |x, y, colour: [u8; 3]| clean.get_pixel(x, y).0.iter().zip(colour).all(|(one, other)| one.abs_diff(other) < 6);
    assert!(near(100, 100, [250, 244, 230]) && near(500, 315, [40, 36, 48]), "{:?}", clean.get_pixel(500, 315));
}

#[tokio::test]
async fn the_plan_asks_for_what_is_taken() {
    let cases: [(&str, Vec<u8>); 13] = [
        ("text", pdf::text(pdf::A4)),
        ("gray, 600 dpi", scan(vec![gray(FINEST)])),
        ("JPEG, 300 dpi", scan(vec![jpeg(FINE)])),
        ("JPEG, 600 dpi", scan(vec![jpeg(FINEST)])),
        ("fax, 600 dpi", scan(vec![fax(FINEST)])),
        ("with opacity, 600 dpi", scan(masked(FINEST))),
        ("JPEG 2000, 300 dpi", scan(vec![jpeg2000("rgb", "")])),
        ("JPEG 2000 with opacity, 300 dpi", scan(vec![jpeg2000("rgba", "/SMaskInData 1")])),
        ("ten pictures of 9 megapixels", many((0..10).map(|_| jpeg(FINE)).collect())),
        ("five in JPEG 2000", many((0..5).map(|_| jpeg2000("rgb", "")).collect())),
        ("one layer, A4", layers(1, pdf::A4)),
        ("six layers, A4", layers(6, pdf::A4)),
        ("two layers, A3", layers(2, "0 0 841.92 1190.4")),
    ];
    let mut short = Vec::new();
    for (what, bytes) in cases {
        let (planned, (_, done)) = (planned_bytes(&bytes).await, done(&bytes).await);
        let (planned_mb, peak_mb) = (planned / 1_000_000, done.peak_bytes / 1_000_000);
        println!("| {what} | {} × {} | {planned_mb} MB | {peak_mb} MB |", done.width_px, done.height_px);
        if done.peak_bytes > planned {
            short.push(what);
        }
    }
    assert_eq!(short, [""; 0], "these take more than was planned");
}
