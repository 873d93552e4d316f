//! The `document` preset on a scanned page of our own making, and the geometry of both presets.
#![expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "pictures made up of small numbers")]

#[path = "common/pipeline.rs"]
#[expect(dead_code, reason = "other tests use the rest")]
mod pipeline;

use image::DynamicImage;
use inkpool::pipeline::engine::EngineError;
use inkpool::pipeline::gate::Verdict;
use inkpool::pipeline::spec::{Overrides, Presets};

use self::pipeline::{LIMITS, engine, plain_engine, png, process, process_spec, rmse, scanned_page};

#[test]
fn a_scanned_page_comes_out_clean() {
    let (noisy, clean) = scanned_page(540, 420);
    let input = DynamicImage::ImageLuma8(noisy.clone());
    let outcome = process(&mut engine(), &png(&input), "document", &[]).unwrap();
    let names: Vec<&str> = outcome.done.files.iter().map(|file| file.name.as_str()).collect();
    assert_eq!(names, ["thumb.webp", "clean.png", "clean.webp", "manifest.json"]);
    let gate = outcome.done.gate.clone().unwrap();
    assert_eq!((gate.verdict, gate.pages_review.len(), gate.regions.len()), (Verdict::Clean, 0, 0), "{gate:?}");
    assert!(gate.strokes > 100 && gate.ink_recall > 0.99, "{gate:?}");
    let manifest: serde_json::Value = serde_json::from_slice(&outcome.bytes("manifest.json")).unwrap();
    assert_eq!(manifest["gate"][0]["verdict"], "clean", "{manifest}");
    let cleaned = outcome.image("clean.png");
    assert_eq!(cleaned.color(), image::ColorType::L8);
    assert_eq!((cleaned.width(), cleaned.height()), (540, 420));
    let truth = DynamicImage::ImageLuma8(clean.clone()).to_rgb8();
    let (before, after) = (rmse(&input.to_rgb8(), &truth), rmse(&cleaned.to_rgb8(), &truth));
    assert!(after < before / 2.0 && after < 32.0, "{before} → {after}");
    // Paper is white, letters are still there.
    let mean = |ink: u8| {
        let levels = cleaned.to_luma8();
        let of = levels
            .pixels()
            .zip(clean.pixels())
            .filter(|(_, truth)| truth[0] == ink)
            .map(|(level, _)| f64::from(level[0]));
        let (sum, count) = of.fold((0.0, 0.0), |(sum, count), level| (sum + level, count + 1.0));
        sum / count
    };
    assert!(mean(255) > 245.0 && mean(0) < 70.0, "{} {}", mean(255), mean(0));
    assert!(rmse(&outcome.rgb("clean.webp"), &cleaned.to_rgb8()) < 8.0);
    assert_eq!((outcome.image("thumb.webp").width(), outcome.image("thumb.webp").height()), (320, 249));
}

/// What needs no cleaning is not touched: the network would soften its letters.
#[test]
fn a_page_that_is_clean_already_stays_as_it_is() {
    let (_, clean) = scanned_page(540, 420);
    let outcome = process(&mut engine(), &png(&DynamicImage::ImageLuma8(clean.clone())), "document", &[]).unwrap();
    assert!(outcome.image("clean.png").to_luma8() == clean);
    let gate = outcome.done.gate.clone().unwrap();
    assert_eq!((gate.verdict, gate.clean_change), (Verdict::Clean, Some(0.0)), "{gate:?}");
    assert!(outcome.done.timings_ms.iter().all(|(stage, _)| stage != "denoise"), "{:?}", outcome.done.timings_ms);
}

/// A page without marks becomes gray, whatever the tint of its paper.
#[test]
fn a_tinted_page_becomes_gray_by_itself() {
    let (noisy, _) = scanned_page(320, 256);
    let tint = |level: u8, percent: u32| u8::try_from(u32::from(level) * percent / 100).unwrap();
    let page = image::RgbImage::from_fn(320, 256, |x, y| {
        let level = noisy.get_pixel(x, y)[0];
        image::Rgb([level, tint(level, 93), tint(level, 74)])
    });
    let outcome = process(&mut engine(), &png(&DynamicImage::ImageRgb8(page)), "document", &[]).unwrap();
    assert_eq!(outcome.image("clean.png").color(), image::ColorType::L8);
}

#[test]
fn coloured_marks_stay_when_asked_and_unasked() {
    let (noisy, _) = scanned_page(320, 256);
    let mut page = DynamicImage::ImageLuma8(noisy).to_rgb8();
    for pixel in page.pixels_mut() {
        // Yellowed paper.
        pixel[2] = u8::try_from(u32::from(pixel[2]) * 4 / 5).unwrap();
    }
    for (x, y) in (60..120).flat_map(|x| (4..12).map(move |y| (x, y))) {
        page.put_pixel(x, y, image::Rgb([190, 40, 40]));
    }
    let mut engine = engine();
    let input = png(&DynamicImage::ImageRgb8(page));
    let kept = process(&mut engine, &input, "document", &[("denoise", "keep")]).unwrap().rgb("clean.png");
    let paper = kept.get_pixel(160, 250);
    assert!(paper.0.iter().all(|sample| *sample > 235), "{paper:?}");
    let mark = kept.get_pixel(90, 8);
    assert!(i32::from(mark[0]) - i32::from(mark[2]) > 60, "{mark:?}");
    let gray = process(&mut engine, &input, "document", &[("denoise", "gray")]).unwrap();
    assert_eq!(gray.image("clean.png").color(), image::ColorType::L8);
    let unasked = process(&mut engine, &input, "document", &[]).unwrap();
    assert!(unasked.rgb("clean.png") == kept, "the mark is seen without being asked");
}

/// Larger than a tile in both directions; memory follows the plan.
#[test]
fn a_page_of_many_tiles_is_cleaned_within_the_planned_memory() {
    let (noisy, _) = scanned_page(1_700, 2_300);
    let outcome = process(&mut engine(), &png(&DynamicImage::ImageLuma8(noisy)), "document", &[]).unwrap();
    let (planned, pixels, pages) = outcome.progress.planned.unwrap();
    assert_eq!((pixels, pages), (1_700 * 2_300, 1));
    assert!(outcome.done.peak_bytes <= planned, "{} > {planned}", outcome.done.peak_bytes);
    let shares: Vec<f32> = outcome.progress.steps.iter().map(|step| step.1).collect();
    assert!(shares.is_sorted() && shares.last() == Some(&1.0));
    let of_denoise = outcome.progress.steps.iter().filter(|step| step.0 == "denoise").count();
    assert!(of_denoise >= 6, "{of_denoise}");
}

/// Strokes twice as wide on a large page: half the resolution has them all, and the page comes out as sharp as it was.
#[test]
fn wide_strokes_on_a_large_page_are_cleaned_at_half_the_resolution() {
    let twice = |page: &image::GrayImage| image::GrayImage::from_fn(1_700, 2_360, |x, y| *page.get_pixel(x / 2, y / 2));
    let (noisy, clean) = scanned_page(850, 1_180);
    let (noisy, clean) = (twice(&noisy), twice(&clean));
    let outcome = process(&mut engine(), &png(&DynamicImage::ImageLuma8(noisy)), "document", &[]).unwrap();
    let (planned, _, _) = outcome.progress.planned.unwrap();
    assert!(outcome.done.peak_bytes <= planned, "{} > {planned}", outcome.done.peak_bytes);
    // One for its begin, and one for its only tile; at its own resolution it has six.
    let of_denoise = outcome.progress.steps.iter().filter(|step| step.0 == "denoise").count();
    assert_eq!(of_denoise, 2);
    let truth = DynamicImage::ImageLuma8(clean).to_rgb8();
    let error = rmse(&outcome.rgb("clean.png"), &truth);
    assert!(error < 20.0, "{error}");
}

#[test]
fn sides_are_as_the_presets_say_and_nothing_is_enlarged() {
    let mut engine = plain_engine();
    for (width, height, crop, thumb) in [
        (1_200, 800, 512, (320, 213)),
        (300, 1_000, 300, (96, 320)),
        (40, 30, 30, (40, 30)),
        (1, 1, 1, (1, 1)),
        (700, 1, 1, (320, 1)),
    ] {
        let image = DynamicImage::ImageRgb8(image::RgbImage::from_fn(width, height, |x, y| {
            image::Rgb([(x * 200 / width) as u8, (y * 200 / height) as u8, 90])
        }));
        let outcome = process(&mut engine, &png(&image), "photo", &[]).unwrap();
        let size = |name: &str| (outcome.image(name).width(), outcome.image(name).height());
        assert_eq!(size("full.webp"), (width, height));
        assert_eq!(size("crop.webp"), (crop, crop));
        assert_eq!(size("thumb.webp"), thumb);
        assert!(rmse(&outcome.rgb("full.webp"), &image.to_rgb8()) < 6.0);
    }
}

/// A JPEG of which only small files are wanted is shrunk while it is decoded; the picture is the same.
#[test]
fn a_large_jpeg_gives_the_same_small_files() {
    let (width, height) = (1_600usize, 1_200usize);
    let wave = |x: usize, y: usize| ((x as f64 / 90.0).sin() * 60.0 + (y as f64 / 70.0).cos() * 60.0 + 128.0) as u8;
    let pixels: Vec<u8> =
        (0..height).flat_map(|y| (0..width).flat_map(move |x| [wave(x, y), wave(y, x), wave(x + y, y)])).collect();
    let image =
        turbojpeg::Image { pixels: &pixels[..], width, pitch: width * 3, height, format: turbojpeg::PixelFormat::RGB };
    let jpeg = turbojpeg::compress(image, 92, turbojpeg::Subsamp::Sub2x2).unwrap();
    let mut spec = Presets::builtin().unwrap().resolve("photo", &Overrides::new()).unwrap();
    let whole = process_spec(&mut plain_engine(), &jpeg, spec.clone(), LIMITS).unwrap();
    spec.outputs.retain(|output| output.name == "thumb.webp");
    let outcome = process_spec(&mut plain_engine(), &jpeg, spec, LIMITS).unwrap();
    assert_eq!((outcome.done.width_px, outcome.done.height_px), (1_600, 1_200));
    let apart = rmse(&outcome.rgb("thumb.webp"), &whole.rgb("thumb.webp"));
    assert!(apart < 3.0, "{apart}");
    let full = image::RgbImage::from_raw(1_600, 1_200, pixels).unwrap();
    let small = image::imageops::resize(&full, 320, 240, image::imageops::FilterType::Lanczos3);
    assert!(rmse(&outcome.rgb("thumb.webp"), &small) < 4.0);
}

#[test]
fn denoising_without_a_network_is_a_fault_of_ours() {
    let (noisy, _) = scanned_page(64, 64);
    let error = process(&mut plain_engine(), &png(&DynamicImage::ImageLuma8(noisy)), "document", &[]).err().unwrap();
    assert!(matches!(error, EngineError::Fault { stage: "denoise", .. }), "{error}");
}
