//! Bad input is refused with the stated reason, before it can cost anything.
#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

#[path = "common/pipeline.rs"]
#[expect(dead_code, reason = "other tests use the rest")]
mod pipeline;

use std::io::Cursor;

use inkpool::job::{Refusal, RefusalCode};
use inkpool::pipeline::engine::EngineError;
use inkpool::pipeline::probe::probe;
use inkpool::pipeline::wire::RunLimits;

use self::pipeline::{LIMITS, fixture, plain_engine, process, process_within};

fn refusal(input: &[u8], limits: RunLimits) -> (&'static str, Refusal) {
    match process_within(&mut plain_engine(), input, "photo", &[], limits).map(|outcome| outcome.done) {
        Err(EngineError::Refused { stage, refusal }) => (stage, refusal),
        other => panic!("{other:?}"),
    }
}

/// A decoder that fills up what is missing would give half a page that looks whole.
#[test]
fn cut_off_files_are_refused() {
    let mut engine = plain_engine();
    let names = [
        "baseline.jpg",
        "progressive.jpg",
        "444.jpg",
        "gray.jpg",
        "cmyk.jpg",
        "scene.png",
        "gray.png",
        "palette.png",
        "animated.png",
        "lossy.webp",
        "lossless.webp",
        "alpha.webp",
        "animated.webp",
        "plain.tiff",
        "lzw.tiff",
        "deflate.tiff",
        "packbits.tiff",
        "jpeg.tiff",
        "big.tiff",
        "fax4.tiff",
        "tiled.tiff",
        "pages.tiff",
        "24.bmp",
        "palette.bmp",
        "bilevel.bmp",
        "interlaced.gif",
        "rgb.ppm",
        "gray.pgm",
        "bilevel.pbm",
    ];
    let mut passed = Vec::new();
    for name in names {
        let whole = fixture(name);
        // Of an animation the first frame alone counts.
        let shares: &[usize] = if name.starts_with("animated") { &[30] } else { &[30, 60, 90] };
        for share in shares {
            match process(&mut engine, &whole[..whole.len() * share / 100], "photo", &[]) {
                Err(EngineError::Refused { stage: "decode", refusal }) if refusal.code == RefusalCode::Malformed => {}
                other => passed.push((name, share, other.map(|outcome| outcome.done.files.len()))),
            }
        }
    }
    assert!(passed.is_empty(), "{passed:#?}");
}

/// A PNG header with a body of zeros, compressed a thousandfold.
fn png_bomb(width: u32, height: u32, rows: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, width, height);
    encoder.set_color(png::ColorType::Grayscale);
    encoder.set_depth(png::BitDepth::One);
    let mut writer = encoder.write_header().unwrap();
    let mut stream = writer.stream_writer().unwrap();
    for _ in 0..rows {
        std::io::Write::write_all(&mut stream, &vec![0; width.div_ceil(8) as usize]).unwrap();
    }
    drop(stream);
    drop(writer);
    bytes
}

#[test]
fn a_png_of_900_megapixels_is_refused_by_its_header() {
    let bomb = png_bomb(30_000, 30_000, 30_000);
    assert!(bomb.len() < 500_000, "{}", bomb.len());
    let (stage, refusal) = refusal(&bomb, LIMITS);
    assert_eq!((stage, refusal.code), ("decode", RefusalCode::TooManyPixels));
    assert_eq!(refusal.limit.as_deref(), Some("100000000 px"));
    assert_eq!(refusal.measured.as_deref(), Some("900000000 px"));
    assert!(refusal.remedy.is_some());
}

#[test]
fn a_long_thin_image_is_refused_by_its_side() {
    let (_, refusal) = refusal(&png_bomb(20_000, 10, 10), LIMITS);
    assert_eq!(refusal.code, RefusalCode::SideTooLong);
    assert_eq!((refusal.limit.as_deref(), refusal.measured.as_deref()), (Some("16384 px"), Some("20000 px")));
}

#[test]
fn a_plan_above_the_memory_of_a_worker_is_refused_with_both_figures() {
    let limits = RunLimits { memory_bytes_max: 150 << 20, ..LIMITS };
    let (_, refusal) = refusal(&png_bomb(9_000, 9_000, 9_000), limits);
    assert_eq!(refusal.code, RefusalCode::NeedsTooMuchMemory);
    assert_eq!(refusal.limit.as_deref(), Some("157286400 bytes"));
    assert!(refusal.measured.unwrap().ends_with(" bytes"));
}

/// A canvas within the limits, but a frame that says it is far larger.
#[test]
fn a_gif_whose_frame_is_larger_than_its_canvas_costs_nothing() {
    let mut gif = fixture("interlaced.gif");
    // The image descriptor: 0x2c, left, top, width, height.
    let at = gif.windows(9).position(|window| window == [0x2c, 0, 0, 0, 0, 96, 0, 64, 0]).unwrap();
    gif[at + 5..at + 9].fill(0xff);
    let (stage, refusal) = refusal(&gif, LIMITS);
    assert_eq!((stage, refusal.code), ("decode", RefusalCode::Malformed));
    let mut canvas = fixture("interlaced.gif");
    canvas[6..10].fill(0xff);
    assert_eq!(self::refusal(&canvas, LIMITS).1.code, RefusalCode::TooManyPixels);
}

/// The directory of a little-endian TIFF as Pillow writes it, and its entries.
fn directory(tiff: &[u8]) -> (usize, usize) {
    let at = u32::from_le_bytes(tiff[4..8].try_into().unwrap()) as usize;
    (at, usize::from(u16::from_le_bytes(tiff[at..at + 2].try_into().unwrap())))
}

fn set_entry(tiff: &mut [u8], tag: u16, value: u32) {
    let (at, entries) = directory(tiff);
    let entry =
        (0..entries).map(|index| at + 2 + 12 * index).find(|entry| tiff[*entry..entry + 2] == tag.to_le_bytes());
    let entry = entry.unwrap();
    let is_short = tiff[entry + 2] == 3;
    if is_short {
        tiff[entry + 8..entry + 10].copy_from_slice(&u16::try_from(value).unwrap().to_le_bytes());
    } else {
        tiff[entry + 8..entry + 12].copy_from_slice(&value.to_le_bytes());
    }
}

#[test]
fn a_tiff_whose_directories_loop_is_refused() {
    let mut tiff = fixture("plain.tiff");
    let (at, entries) = directory(&tiff);
    let next = at + 2 + 12 * entries;
    tiff[next..next + 4].copy_from_slice(&u32::try_from(at).unwrap().to_le_bytes());
    let (stage, refusal) = refusal(&tiff, LIMITS);
    assert_eq!((stage, refusal.code), ("decode", RefusalCode::Malformed));
    assert!(refusal.detail.contains("circle"), "{}", refusal.detail);
}

#[test]
fn a_tiff_with_more_pages_than_allowed_is_refused_with_both_figures() {
    let (_, refusal) = refusal(&fixture("pages.tiff"), RunLimits { pages_max: 2, ..LIMITS });
    assert_eq!(refusal.code, RefusalCode::TooManyPages);
    assert_eq!((refusal.limit.as_deref(), refusal.measured.as_deref()), (Some("2 pages"), Some("at least 3 pages")));
}

#[test]
fn tiff_bombs_are_refused() {
    const WIDTH: u16 = 256;
    const HEIGHT: u16 = 257;
    const ROWS_PER_STRIP: u16 = 278;
    let mut large = fixture("deflate.tiff");
    set_entry(&mut large, WIDTH, 60_000);
    set_entry(&mut large, HEIGHT, 60_000);
    assert_eq!(refusal(&large, LIMITS).1.code, RefusalCode::TooManyPixels);
    // Within the limits by its size, but without the bytes for it.
    let mut hollow = fixture("deflate.tiff");
    set_entry(&mut hollow, WIDTH, 9_000);
    set_entry(&mut hollow, HEIGHT, 9_000);
    set_entry(&mut hollow, ROWS_PER_STRIP, 9_000);
    assert_eq!(refusal(&hollow, LIMITS).1.code, RefusalCode::Malformed);
    // Tiles of two gigapixels for a page of a few.
    let mut tiled = fixture("tiled.tiff");
    set_entry(&mut tiled, 322, 65_520);
    set_entry(&mut tiled, 323, 65_520);
    let code = refusal(&tiled, LIMITS).1.code;
    assert!(matches!(code, RefusalCode::Malformed | RefusalCode::NeedsTooMuchMemory), "{code:?}");
}

#[test]
fn an_animated_png_of_many_frames_costs_its_first() {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, 1_000, 1_000);
    encoder.set_color(png::ColorType::Grayscale);
    encoder.set_animated(500, 0).unwrap();
    let mut writer = encoder.write_header().unwrap();
    for _ in 0..500 {
        writer.write_image_data(&vec![200; 1_000_000]).unwrap();
    }
    writer.finish().unwrap();
    let outcome = process(&mut plain_engine(), &bytes, "photo", &[]).unwrap();
    assert_eq!((outcome.done.pages_count, outcome.done.width_px), (1, 1_000));
    assert!(outcome.done.peak_bytes < 200 << 20, "{}", outcome.done.peak_bytes);
}

/// A scan of nothing costs a pass over the whole image each.
#[test]
fn a_jpeg_of_a_thousand_scans_is_refused() {
    let jpeg = fixture("progressive.jpg");
    // The last scan, again and again.
    let starts: Vec<usize> = (0..jpeg.len() - 1).filter(|at| jpeg[*at..at + 2] == [0xff, 0xda]).collect();
    let (last, end) = (*starts.last().unwrap(), jpeg.len() - 2);
    let mut bomb = jpeg[..end].to_vec();
    for _ in 0..1_000 {
        bomb.extend_from_slice(&jpeg[last..end]);
    }
    bomb.extend_from_slice(&[0xff, 0xd9]);
    assert_eq!(refusal(&bomb, LIMITS).1.code, RefusalCode::Malformed);
}

/// No header makes the probe panic, loop or take memory: it reads single fields only, and any input ends it.
mod arbitrary {
    use proptest::prelude::*;

    use super::*;

    const NAMES: [&str; 12] = [
        "baseline.jpg",
        "exif6.jpg",
        "scene.png",
        "lossy.webp",
        "lossless.webp",
        "animated.webp",
        "plain.tiff",
        "big.tiff",
        "pages.tiff",
        "24.bmp",
        "interlaced.gif",
        "rgb.ppm",
    ];

    fn holds(input: &[u8]) -> Result<(), TestCaseError> {
        if let Ok(found) = probe(&mut Cursor::new(input), &LIMITS) {
            prop_assert!(!found.pages.is_empty() && found.pages.len() <= LIMITS.pages_max as usize);
            for page in found.pages {
                prop_assert!(page.width_px >= 1 && page.height_px >= 1);
                prop_assert!(u64::from(page.width_px) * u64::from(page.height_px) <= LIMITS.pixels_max);
            }
        }
        Ok(())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        #[test]
        fn bytes(input in prop::collection::vec(any::<u8>(), 0..512)) {
            holds(&input)?;
        }

        #[test]
        fn headers(name in prop::sample::select(&NAMES[..]), flips in prop::collection::vec((0usize..400, any::<u8>()), 1..8),
                   length in 0usize..4_000) {
            let mut input = fixture(name);
            input.truncate(length.max(12));
            for (at, value) in flips {
                if let Some(byte) = input.get_mut(at) {
                    *byte = value;
                }
            }
            holds(&input)?;
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(300))]

        /// The same through all decoders: the engine answers, and lives.
        #[test]
        fn whole_files(name in prop::sample::select(&NAMES[..]), flips in prop::collection::vec((0usize..4_000, any::<u8>()), 1..6)) {
            let mut input = fixture(name);
            for (at, value) in flips {
                let length = input.len();
                input[at % length] = value;
            }
            let limits = RunLimits { pixels_max: 1_000_000, ..LIMITS };
            match process_within(&mut plain_engine(), &input, "photo", &[], limits) {
                Ok(_) | Err(EngineError::Refused { .. }) => {}
                Err(error) => prop_assert!(false, "{error}"),
            }
        }
    }
}
