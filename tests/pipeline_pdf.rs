//! The PDF of all pages: read by other programs, which must find in it the pixels of every `clean.png` and nothing else.
#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

#[path = "common/pipeline.rs"]
#[expect(dead_code, reason = "other tests use the rest")]
mod pipeline;

use std::io::Cursor;
use std::path::Path;
use std::process::Command;

use image::{DynamicImage, GrayImage, RgbImage};
use tiff::encoder::{Rational, TiffEncoder, colortype};
use tiff::tags::ResolutionUnit;

use inkpool::pipeline::spec::{Overrides, Presets};

use self::pipeline::{
    LIMITS, Outcome, fixture, fixture_path, plain_engine, png, process, process_spec, read, scanned_page,
};

const OFF: (&str, &str) = ("denoise", "off");

fn pair((key, value): (&str, &str)) -> (String, String) {
    (key.to_owned(), value.to_owned())
}

/// What a program says. scripts/test installs those that are asked.
fn says(program: &str, arguments: &[&str], file: &Path) -> String {
    let output = Command::new(program).args(arguments).arg(file).output();
    let output = output.unwrap_or_else(|error| panic!("{program} (Debian: qpdf, poppler-utils): {error}"));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{program}: {text}{}", String::from_utf8_lossy(&output.stderr));
    text
}

/// Draws a page with as many pixels as it has.
fn drawn(pdf: &Path, page: usize, size: (u32, u32)) -> RgbImage {
    let folder = tempfile::tempdir().unwrap();
    let (page, width, height) = (page.to_string(), size.0.to_string(), size.1.to_string());
    let to = folder.path().join("page");
    let arguments = ["-png", "-singlefile", "-f", &page, "-l", &page, "-scale-to-x", &width, "-scale-to-y", &height];
    let output = Command::new("pdftoppm").args(arguments).arg(pdf).arg(&to).output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    read(&to.with_extension("png")).to_rgb8()
}

fn name(page: usize) -> String {
    if page == 1 { "clean.png".to_owned() } else { format!("p{page:04}/clean.png") }
}

/// Has other programs look at the PDF of a job.
fn holds_the_pages(outcome: &Outcome) {
    let pdf = outcome.path("clean.pdf");
    let checked = says("qpdf", &["--check"], &pdf);
    assert!(checked.contains("No syntax or stream encoding errors found"), "{checked}");
    let info = says("pdfinfo", &[], &pdf);
    let pages = outcome.done.pages_count as usize;
    assert!(info.lines().any(|line| line.starts_with("Pages:") && line.ends_with(&format!(" {pages}"))), "{info}");
    for said in ["Title", "Author", "Creator", "Producer", "CreationDate", "ModDate"] {
        assert!(!info.contains(said), "{info}");
    }
    for page in 1..=pages {
        let clean = outcome.rgb(&name(page));
        assert!(drawn(&pdf, page, clean.dimensions()) == clean, "page {page} has other pixels than its PNG");
    }
    let facts = outcome.done.files.iter().find(|file| file.name == "clean.pdf").unwrap();
    assert_eq!((facts.content_type.as_str(), facts.width_px, facts.height_px), ("application/pdf", 0, 0));
    assert_eq!(facts.size_bytes, outcome.bytes("clean.pdf").len() as u64);
    let manifest: serde_json::Value = serde_json::from_slice(&outcome.bytes("manifest.json")).unwrap();
    let listed = manifest["files"].as_array().unwrap().iter().find(|file| file["name"] == "clean.pdf").unwrap();
    assert_eq!(listed["sha256"], facts.sha256);
}

fn has_pdf(outcome: &Outcome) -> bool {
    outcome.done.files.iter().any(|file| file.name == "clean.pdf")
}

/// Gray pages with their resolution, dots per inch.
fn chapter(pages: &[(&GrayImage, u32)]) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    let mut encoder = TiffEncoder::new(&mut bytes).unwrap();
    for (page, dpi) in pages {
        let mut image = encoder.new_image::<colortype::Gray8>(page.width(), page.height()).unwrap();
        image.resolution(ResolutionUnit::Inch, Rational { n: *dpi, d: 1 });
        image.write_data(page.as_raw()).unwrap();
    }
    bytes.into_inner()
}

#[test]
fn several_pages_are_bound_without_loss() {
    let mut engine = plain_engine();
    let outcome = process(&mut engine, &fixture("pages.tiff"), "document", &[OFF]).unwrap();
    assert_eq!(outcome.done.pages_count, 3);
    holds_the_pages(&outcome);
    let again = process(&mut engine, &fixture("pages.tiff"), "document", &[OFF]).unwrap();
    assert!(outcome.bytes("clean.pdf") == again.bytes("clean.pdf"), "the same input makes the same bytes");
    // The PDF is that of the pages, no larger than they are.
    let pages: usize = (1..=3).map(|page| outcome.bytes(&name(page)).len()).sum();
    assert!(outcome.bytes("clean.pdf").len() < pages + 3 * 700 + 500);
}

#[test]
fn one_page_is_bound_only_if_asked() {
    let mut engine = plain_engine();
    let one = |engine: &mut _, set: &[(&str, &str)]| process(engine, &fixture("gray.png"), "document", set).unwrap();
    assert!(!has_pdf(&one(&mut engine, &[OFF])));
    holds_the_pages(&one(&mut engine, &[OFF, ("pdf", "on")]));
    assert!(!has_pdf(&process(&mut engine, &fixture("pages.tiff"), "document", &[OFF, ("pdf", "off")]).unwrap()));
    assert!(!has_pdf(&process(&mut engine, &fixture("pages.tiff"), "photo", &[]).unwrap()));
}

/// Gray, black and white, colour, and what is transparent: on paper it is white.
#[test]
fn every_kind_of_page_can_be_bound() {
    let mut engine = plain_engine();
    for name in ["gray.tiff", "fax4.tiff", "bilevel.png", "plain.tiff", "turned.tiff", "cmyk.jpg", "palette.png"] {
        holds_the_pages(&process(&mut engine, &fixture(name), "document", &[OFF, ("pdf", "on")]).unwrap());
    }
    let outcome = process(&mut engine, &fixture("bilevel.png"), "document", &[OFF, ("pdf", "on")]).unwrap();
    let listed = says("pdfimages", &["-list"], &outcome.path("clean.pdf"));
    let bits = listed.lines().nth(2).unwrap().split_whitespace().nth(7).unwrap();
    assert_eq!(bits, "1", "{listed}");
    let outcome = process(&mut engine, &fixture("alpha.webp"), "document", &[OFF, ("pdf", "on")]).unwrap();
    let clean = outcome.image("clean.png").to_rgba8();
    assert!(clean.pixels().any(|pixel| pixel[3] < 255));
    let drawn = drawn(&outcome.path("clean.pdf"), 1, clean.dimensions());
    for (pixel, clear) in drawn.pixels().zip(clean.pixels()).filter(|(_, clear)| clear[3] == 0) {
        assert_eq!(pixel.0, [255; 3], "{clear:?}");
    }
}

#[test]
fn paper_has_its_true_size() {
    let (a4, half) = (scanned_page(1654, 2339).0, scanned_page(600, 900).0);
    let mut engine = plain_engine();
    // What no scanner has is not believed: 300 it is then.
    let outcome = process(&mut engine, &chapter(&[(&a4, 200), (&half, 100), (&half, 3)]), "document", &[OFF]).unwrap();
    let sizes = says("pdfinfo", &["-f", "1", "-l", "3"], &outcome.path("clean.pdf"));
    let sizes: Vec<&str> = sizes.lines().filter(|line| line.starts_with("Page ") && line.contains(" size:")).collect();
    let expected = ["595.44 x 842.04 pts", "432 x 648 pts", "144 x 216 pts"];
    for (line, expected) in sizes.iter().zip(expected) {
        assert!(line.contains(expected), "{line}, not {expected}");
    }
    assert_eq!(sizes.len(), 3, "{sizes:?}");
}

/// No more than one page is held, however many there are.
#[test]
fn many_pages_take_no_more_memory_than_one() {
    let page = scanned_page(1600, 2000).0;
    let mut engine = plain_engine();
    let mut spec = Presets::builtin().unwrap().resolve("document", &Overrides::from([pair(OFF)])).unwrap();
    // WebP would take most of the time.
    spec.outputs.retain(|output| output.name == "clean.png");
    spec.before = None;
    let mut peak = |count: usize| {
        let input = chapter(&vec![(&page, 200); count]);
        let outcome = process_spec(&mut engine, &input, spec.clone(), LIMITS).unwrap();
        let planned = outcome.progress.planned.unwrap().0;
        // The input lies in the memory of this process as well.
        (outcome.done.peak_bytes - input.len() as u64, planned, outcome.bytes("clean.pdf").len())
    };
    let (two, planned_two, _) = peak(2);
    let (many, planned_many, size) = peak(20);
    assert_eq!(planned_two, planned_many);
    assert!(size > 30 << 20, "{size} bytes would be seen");
    assert!(many < two + (16 << 20), "{two} → {many}");
}

/// A small picture of what browsers cannot show, upright and in its colours.
#[test]
fn what_browsers_cannot_show_is_shown_as_it_was() {
    let mut engine = plain_engine();
    let upright = read(&fixture_path("scene.png")).to_rgb8();
    let close = |outcome: &Outcome, name: &str| {
        let before = outcome.rgb(name);
        assert_eq!(before.dimensions(), upright.dimensions(), "{name}");
        assert!(pipeline::rmse(&before, &upright) < 12.0, "{name}");
    };
    let outcome = process(&mut engine, &fixture("turned.tiff"), "document", &[OFF]).unwrap();
    close(&outcome, "before.webp");
    let outcome = process(&mut engine, &fixture("rgb.ppm"), "photo", &[]).unwrap();
    close(&outcome, "before.webp");
    let outcome = process(&mut engine, &fixture("pages.tiff"), "document", &[OFF]).unwrap();
    for page in ["before.webp", "p0002/before.webp", "p0003/before.webp"] {
        assert!(outcome.done.files.iter().any(|file| file.name == page), "{page}");
    }
    let wide = DynamicImage::ImageLuma8(scanned_page(3000, 600).0);
    let shown = process(&mut engine, &png(&wide), "document", &[OFF]).unwrap();
    assert!(shown.done.files.iter().all(|file| file.name != "before.webp"), "browsers show PNG");
    let outcome = process(&mut engine, &chapter(&[(&wide.to_luma8(), 300)]), "document", &[OFF]).unwrap();
    assert_eq!(outcome.rgb("before.webp").dimensions(), (2048, 410));
}
