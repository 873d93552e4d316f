//! PDF in: read by real workers that are locked in, as strangers' documents are.
#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

#[path = "common/worker.rs"]
mod common;
#[path = "common/pdf.rs"]
mod pdf;

use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use common::{Place, run, spec};
use flate2::Compression;
use flate2::write::ZlibEncoder;
use image::{GrayImage, Luma};
use inkpool::containers::session::{Session, Verdict, execute};
use inkpool::containers::slot_dir::SlotDir;
use inkpool::job::{Refusal, RefusalCode};
use inkpool::pipeline::spec::{OutputSpec, PdfSpec, PdfWhen, Presets, Spec};
use inkpool::pipeline::wire::Done;
use tokio_util::sync::CancellationToken;

const DEADLINE: Duration = Duration::from_secs(60);

fn with_pdf() -> Spec {
    let pdf = PdfSpec { name: "clean.pdf".to_owned(), when: PdfWhen::On, dpi_default: 300 };
    Spec { pdf: Some(pdf), ..spec() }
}

async fn work(place: &Place, bytes: &[u8], spec: Spec, deadline: Duration) -> (SlotDir, Session) {
    let (slot, mut worker) = place.start(0).await;
    let run = run(&slot, bytes, spec);
    let session = execute(worker.as_mut(), run, deadline, CancellationToken::new(), |_, _| {}).await;
    (slot, session)
}

async fn done(place: &Place, bytes: &[u8]) -> (SlotDir, Done) {
    let (slot, session) = work(place, bytes, with_pdf(), DEADLINE).await;
    let Verdict::Done(done) = session.verdict else { panic!("{session:?}") };
    (slot, *done)
}

async fn refused(bytes: &[u8]) -> Refusal {
    let (_, session) = work(&Place::new(), bytes, spec(), DEADLINE).await;
    assert!(session.reusable, "the worker lives on: {session:?}");
    let Verdict::Refused { stage, refusal } = session.verdict else { panic!("{session:?}") };
    assert_eq!(stage, "decode");
    assert!(refusal.remedy.is_some(), "{refusal:?}");
    refusal
}

fn clean(slot: &SlotDir, page: u32) -> image::DynamicImage {
    let name = if page == 1 { "clean.png".to_owned() } else { format!("p{page:04}/clean.png") };
    image::ImageReader::open(slot.path().join("out").join(name)).unwrap().decode().unwrap()
}

/// Gray noise that no filter would leave as it is.
fn scan(width: u32, height: u32) -> GrayImage {
    let mut seed = 7u32;
    GrayImage::from_fn(width, height, |_, _| {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        Luma([seed.to_be_bytes()[0]])
    })
}

/// A page that is one picture of gray samples, drawn by `matrix`.
fn scanned(picture: &GrayImage, paper: &str, matrix: &str) -> Vec<u8> {
    let (width, height) = picture.dimensions();
    let entries = format!(
        "/Type /XObject /Subtype /Image /Width {width} /Height {height} /ColorSpace /DeviceGray /BitsPerComponent 8"
    );
    let image = pdf::stream(&entries, picture.as_raw());
    pdf::page(paper, &format!("q {matrix} cm /I Do Q"), "/XObject << /I 5 0 R >>", vec![image])
}

#[tokio::test]
async fn text_is_drawn_at_300_dots_per_inch() {
    let place = Place::new();
    let (slot, done) = done(&place, &pdf::text(pdf::A4)).await;
    assert_eq!((done.width_px, done.height_px, done.pages_count), (2480, 3508, 1));
    let page = clean(&slot, 1);
    assert_eq!(page.color(), image::ColorType::L8, "black on white needs no colours");
    let page = page.to_luma8();
    let dark = page.pixels().filter(|level| level[0] < 64).count();
    assert!((20_000..400_000).contains(&dark), "{dark} dark pixels");
    assert_eq!(page.get_pixel(5, 5)[0], 255);
}

#[tokio::test]
async fn a_scan_comes_out_with_its_own_pixels() {
    let picture = scan(413, 585);
    let place = Place::new();
    let (slot, done_) = done(&place, &scanned(&picture, "0 0 297.36 421.2", "297.36 0 0 421.2 0 0")).await;
    assert_eq!((done_.width_px, done_.height_px), (413, 585));
    assert!(clean(&slot, 1).to_luma8() == picture, "not one pixel was resampled");
    // And once more through the PDF that was made of it.
    let bound = std::fs::read(slot.path().join("out/clean.pdf")).unwrap();
    let place = Place::new();
    let (slot, again) = done(&place, &bound).await;
    assert_eq!((again.width_px, again.height_px), (413, 585));
    assert!(clean(&slot, 1).to_luma8() == picture);
    let once_more = std::fs::read(slot.path().join("out/clean.pdf")).unwrap();
    assert_eq!(once_more.len(), bound.len(), "on paper of the same size");
}

#[tokio::test]
async fn a_page_that_is_turned_stands_upright() {
    let picture = scan(200, 100);
    let upright = scanned(&picture, "0 0 144 72", "144 0 0 72 0 0");
    let text = String::from_utf8_lossy(&upright).into_owned();
    assert!(text.contains("/MediaBox"));
    let turned: Vec<u8> = {
        let at = upright.windows(9).position(|at| at == b"/MediaBox").unwrap();
        [&upright[..at], b"/Rotate 90 ", &upright[at..]].concat()
    };
    let place = Place::new();
    let (slot, done) = done(&place, &turned).await;
    assert_eq!((done.width_px, done.height_px), (100, 200));
    assert!(clean(&slot, 1).to_luma8() == image::imageops::rotate90(&picture));
}

#[tokio::test]
async fn colours_stay_and_every_page_gets_a_picture_from_before() {
    let red = pdf::page("0 0 72 36", "1 0 0 rg 0 0 36 36 re f 0 0 1 rg 36 0 36 36 re f", "", Vec::new());
    let preset = Presets::builtin().unwrap().resolve("photo", &Default::default()).unwrap();
    let before: Option<OutputSpec> = preset.before;
    let place = Place::new();
    let (slot, session) = work(&place, &red, Spec { before, ..spec() }, DEADLINE).await;
    let Verdict::Done(done) = session.verdict else { panic!("{session:?}") };
    assert!(done.files.iter().any(|file| file.name == "before.webp"));
    let page = clean(&slot, 1).to_rgb8();
    assert_eq!(page.dimensions(), (300, 150));
    assert_eq!((page.get_pixel(20, 75).0, page.get_pixel(280, 75).0), ([255, 0, 0], [0, 0, 255]));
}

#[tokio::test]
async fn what_is_no_whole_document_is_refused() {
    let whole = pdf::text(pdf::A4);
    for (what, bytes) in [
        ("a header alone", b"%PDF-1.7\n".to_vec()),
        ("garbage", [b"%PDF-1.7\n".to_vec(), vec![0x5a; 4096], b"\n%%EOF\n".to_vec()].concat()),
        ("half of it", whole[..whole.len() / 2].to_vec()),
        ("all but its end", whole[..whole.len() - 8].to_vec()),
        ("no page", pdf::pages(0, pdf::A4)),
        ("a page tree that is its own branch", {
            let tree = "<< /Type /Pages /Kids [2 0 R] /Count 1 >>";
            pdf::file(&[pdf::object("<< /Type /Catalog /Pages 2 0 R >>"), pdf::object(tree)])
        }),
        ("a page that is none", {
            let tree = "<< /Type /Pages /Kids [9 0 R] /Count 1 >>";
            pdf::file(&[pdf::object("<< /Type /Catalog /Pages 2 0 R >>"), pdf::object(tree)])
        }),
        ("nothing but brackets", {
            let deep = format!("{}{}", "[".repeat(200_000), "]".repeat(200_000));
            pdf::file(&[pdf::object(&deep)])
        }),
    ] {
        let refusal = refused(&bytes).await;
        assert_eq!(refusal.code, RefusalCode::Malformed, "{what}: {refusal:?}");
    }
}

#[tokio::test]
async fn limits_hold_before_anything_is_drawn() {
    let many = refused(&pdf::pages(10_000, pdf::A4)).await;
    assert_eq!((many.code, many.measured.as_deref()), (RefusalCode::TooManyPages, Some("10000 pages")));
    let huge = refused(&pdf::pages(1, "0 0 14400 14400")).await;
    assert_eq!(huge.code, RefusalCode::TooManyPixels);
    let long = refused(&pdf::pages(1, "0 0 14400 10")).await;
    assert_eq!(long.code, RefusalCode::SideTooLong);
    // The last page is the large one.
    let total = refused(&pdf::pages(200, "0 0 2000 2000")).await;
    assert_eq!(total.code, RefusalCode::TooManyPixels, "{total:?}");
    assert!(total.detail.contains("together"), "{total:?}");
    let entries =
        "/Type /XObject /Subtype /Image /Width 100000 /Height 100000 /ColorSpace /DeviceGray /BitsPerComponent 1";
    let image = pdf::stream(&format!("{entries} /Filter /FlateDecode"), b"x\x9c\x03\0\0\0\0\x01");
    let bomb = pdf::page(pdf::A4, "q 500 0 0 500 0 0 cm /I Do Q", "/XObject << /I 5 0 R >>", vec![image]);
    let bomb = refused(&bomb).await;
    assert_eq!((bomb.code, bomb.measured.as_deref()), (RefusalCode::TooManyPixels, Some("10000000000 px")));
}

#[tokio::test]
async fn what_opens_with_a_password_only_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (plain, locked) = (folder.path().join("plain.pdf"), folder.path().join("locked.pdf"));
    std::fs::write(&plain, pdf::text(pdf::A4)).unwrap();
    let encrypt = |user: &str, to: &Path| {
        let status = Command::new("qpdf").args(["--encrypt", user, "owner", "256", "--"]).args([&plain, to]).status();
        assert!(status.unwrap().success(), "qpdf");
        std::fs::read(to).unwrap()
    };
    let refusal = refused(&encrypt("secret", &locked)).await;
    assert_eq!(refusal.code, RefusalCode::UnsupportedFeature);
    assert!(refusal.detail.contains("password"), "{refusal:?}");
    // What only asks readers not to change it can be read by everybody.
    let place = Place::new();
    let (_, done) = done(&place, &encrypt("", &folder.path().join("shut.pdf"))).await;
    assert_eq!(done.pages_count, 1);
}

#[tokio::test]
async fn forms_that_are_programs_are_refused_and_no_script_runs() {
    let xfa = pdf::with_catalog(
        "<< /Type /Catalog /Pages 2 0 R /NeedsRendering true /AcroForm << /Fields [] /XFA [(template) 5 0 R] >> >>",
        pdf::A4,
        "",
        "",
        vec![pdf::stream("", b"<template xmlns='http://www.xfa.org/schema/xfa-template/3.3/'/>")],
    );
    let refusal = refused(&xfa).await;
    assert_eq!(refusal.code, RefusalCode::UnsupportedFeature);
    assert!(refusal.detail.contains("XFA"), "{refusal:?}");
    let script = pdf::with_catalog(
        "<< /Type /Catalog /Pages 2 0 R /OpenAction << /S /JavaScript /JS (while \\(true\\) {}) >> \
         /Names << /JavaScript << /Names [(a) << /S /JavaScript /JS (while \\(true\\) {}) >>] >> >> >>",
        "0 0 72 72",
        "0 0 36 36 re f",
        "",
        Vec::new(),
    );
    let place = Place::new();
    let (slot, _) = done(&place, &script).await;
    assert_eq!(clean(&slot, 1).to_luma8().get_pixel(10, 290)[0], 0, "drawn as if it had no script");
}

/// A document may name other files, programs and addresses. None of them is opened.
#[tokio::test]
async fn what_lies_outside_is_not_reached() {
    let entries = "/Type /XObject /Subtype /Image /Width 8 /Height 8 /ColorSpace /DeviceGray /BitsPerComponent 8 \
                   /F (/etc/passwd)";
    let outside = pdf::with_catalog(
        "<< /Type /Catalog /Pages 2 0 R /OpenAction << /S /Launch /F (/bin/true) >> >>",
        "0 0 72 72",
        "q 72 0 0 72 0 0 cm /I Do Q",
        "/XObject << /I 5 0 R >>",
        vec![pdf::stream(entries, b"")],
    );
    let place = Place::new();
    let (slot, _) = done(&place, &outside).await;
    let page = clean(&slot, 1).to_luma8();
    let levels: std::collections::BTreeSet<u8> = page.pixels().map(|level| level[0]).collect();
    assert!(levels.len() <= 1, "something was drawn: {levels:?}");
}

/// Pictures of pictures of pictures: nobody knows beforehand how long they take, so the deadline ends them.
#[tokio::test]
async fn work_without_end_is_ended() {
    const LEVELS: usize = 12;
    let form = |next: usize| {
        let uses = "/X Do ".repeat(10);
        let resources = format!("/Resources << /XObject << /X {next} 0 R >> >>");
        pdf::stream(&format!("/Type /XObject /Subtype /Form /BBox [0 0 72 72] {resources}"), uses.as_bytes())
    };
    let mut forms: Vec<Vec<u8>> = (0..LEVELS).map(|level| form(6 + level)).collect();
    forms.push(pdf::stream("/Type /XObject /Subtype /Form /BBox [0 0 72 72]", b"0 0 9 9 re f"));
    let bomb = pdf::page("0 0 72 72", "/X Do", "/XObject << /X 5 0 R >>", forms);
    let begun = Instant::now();
    let (_, session) = work(&Place::new(), &bomb, spec(), Duration::from_secs(4)).await;
    assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", begun.elapsed());
    let Verdict::Lost(crash) = &session.verdict else { panic!("{session:?}") };
    // Whichever bound comes first on this machine: time, or the memory that every drawing of a form takes.
    let at_memory = crash.code == "crashed" && crash.peak_bytes.is_some_and(|peak| peak > 900_000_000);
    assert!(crash.code == "deadline" || at_memory, "{crash:?}");
    assert!(!session.reusable);
}

/// A form that draws itself is drawn once.
#[tokio::test]
async fn a_form_that_draws_itself_ends() {
    let form = "/Type /XObject /Subtype /Form /BBox [0 0 72 72] /Resources << /XObject << /X 5 0 R >> >>";
    let snake =
        pdf::page("0 0 72 72", "/X Do", "/XObject << /X 5 0 R >>", vec![pdf::stream(form, b"0 0 9 9 re f /X Do")]);
    let (_, session) = work(&Place::new(), &snake, spec(), DEADLINE).await;
    assert!(matches!(session.verdict, Verdict::Done(_) | Verdict::Refused { .. }), "{session:?}");
}

/// A few kilobytes that want gigabytes end the worker that was given them, and nothing else.
#[tokio::test]
async fn memory_is_bounded_whatever_a_document_says() {
    // Thirty million squares, each of which is an object.
    let squares = b"0 0 1 1 re f\n".repeat(100_000);
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::best());
    (0..300).for_each(|_| encoder.write_all(&squares).unwrap());
    let deflated = encoder.finish().unwrap();
    let mut objects = vec![
        pdf::object("<< /Type /Catalog /Pages 2 0 R >>"),
        pdf::object("<< /Type /Pages /Kids [3 0 R] /Count 1 >>"),
        pdf::object("<< /Type /Page /Parent 2 0 R /MediaBox [0 0 72 72] /Contents 4 0 R >>"),
    ];
    objects.push(pdf::stream("/Filter /FlateDecode", &deflated));
    let place = Place::new();
    let (_, session) = work(&place, &pdf::file(&objects), spec(), DEADLINE).await;
    println!("{:?} with {} bytes", session.verdict, deflated.len());
    match &session.verdict {
        Verdict::Done(done) => assert!(done.peak_bytes < common::MEMORY_BYTES_MAX, "{}", done.peak_bytes),
        Verdict::Lost(crash) => {
            assert!(crash.peak_bytes.is_none_or(|peak| peak < common::MEMORY_BYTES_MAX + (64 << 20)))
        }
        other @ (Verdict::Refused { .. } | Verdict::Fault { .. } | Verdict::Interrupted(_) | Verdict::Cancelled) => {
            panic!("{other:?}")
        }
    }
    // The next job is done as if nothing had been.
    let (slot, mut worker) = place.start(1).await;
    let run = run(&slot, &pdf::text("0 0 72 72"), spec());
    let session = execute(worker.as_mut(), run, DEADLINE, CancellationToken::new(), |_, _| {}).await;
    assert!(matches!(session.verdict, Verdict::Done(_)), "{session:?}");
}

#[tokio::test]
async fn without_pdfium_a_pdf_is_refused_with_what_to_do() {
    use inkpool::containers::process::{ProcessRuntime, ProcessSettings};
    let mut place = Place::new();
    let settings = ProcessSettings { pdfium: None, ..common::settings(&place.slots) };
    place.runtime = ProcessRuntime::new(settings).unwrap();
    let (_, session) = work(&place, &pdf::text(pdf::A4), spec(), DEADLINE).await;
    let Verdict::Refused { refusal, .. } = session.verdict else { panic!("{session:?}") };
    assert_eq!(refusal.code, RefusalCode::UnsupportedFormat);
    assert!(refusal.remedy.unwrap().contains("scripts/setup"));
}
