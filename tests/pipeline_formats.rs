//! Every variant of every format comes out as the same picture, upright, in sRGB, and without what was said about it.
#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

#[path = "common/pipeline.rs"]
#[expect(dead_code, reason = "other tests use the rest")]
mod pipeline;

use image::RgbImage;
use inkpool::pipeline::engine::Engine;
use sha2::{Digest, Sha256};

use self::pipeline::{Outcome, fixture, fixture_path, plain_engine, process, read, rmse};

fn scene() -> RgbImage {
    read(&fixture_path("scene.png")).to_rgb8()
}

/// Brightness as Pillow and JPEG weigh it.
fn gray(image: &RgbImage) -> RgbImage {
    levels(image, |level| level)
}

fn bilevel(image: &RgbImage) -> RgbImage {
    levels(image, |level| if level > 128 { 255 } else { 0 })
}

fn levels(image: &RgbImage, change: impl Fn(u8) -> u8) -> RgbImage {
    let mut gray = image.clone();
    for pixel in gray.pixels_mut() {
        let [red, green, blue] = pixel.0.map(u32::from);
        pixel.0 = [change(u8::try_from((19_595 * red + 38_470 * green + 7_471 * blue + 32_768) >> 16).unwrap()); 3];
    }
    gray
}

/// Pixels of an input without any loss of ours: the `document` preset as PNG, not denoised.
fn decoded(engine: &mut Engine, name: &str) -> RgbImage {
    let outcome = process(engine, &fixture(name), "document", &[("denoise", "off")]);
    outcome.unwrap_or_else(|error| panic!("{name}: {error}")).rgb("clean.png")
}

#[test]
fn every_variant_shows_the_same_picture() {
    let mut engine = plain_engine();
    let (colour, gray, bilevel) = (scene(), gray(&scene()), bilevel(&scene()));
    // Name, what it shows, and how far lossy coding or few colours may be off.
    let cases: [(&str, &RgbImage, f64); 43] = [
        ("scene.png", &colour, 0.0),
        ("gray.png", &gray, 1.0),
        ("gray16.png", &gray, 1.0),
        ("bilevel.png", &bilevel, 0.0),
        ("palette.png", &colour, 8.0),
        ("palette4.png", &colour, 16.0),
        ("animated.png", &colour, 0.0),
        ("text-chunk.png", &colour, 0.0),
        ("interlaced.gif", &colour, 8.0),
        ("animated.gif", &colour, 8.0),
        ("animated.webp", &colour, 0.0),
        ("lossless.webp", &colour, 0.0),
        ("lossy.webp", &colour, 9.0),
        ("baseline.jpg", &colour, 9.0),
        ("progressive.jpg", &colour, 9.0),
        ("444.jpg", &colour, 4.0),
        ("gray.jpg", &gray, 4.0),
        ("cmyk.jpg", &colour, 4.0),
        ("plain.tiff", &colour, 0.0),
        ("lzw.tiff", &colour, 0.0),
        ("deflate.tiff", &colour, 0.0),
        ("packbits.tiff", &colour, 0.0),
        ("jpeg.tiff", &colour, 12.0),
        ("big.tiff", &colour, 0.0),
        ("tiled.tiff", &colour, 0.0),
        ("planar.tiff", &colour, 0.0),
        ("turned.tiff", &colour, 0.0),
        ("palette.tiff", &colour, 8.0),
        ("cmyk.tiff", &colour, 1.0),
        ("gray.tiff", &gray, 1.0),
        ("gray16.tiff", &gray, 1.0),
        ("gray4.tiff", &gray, 8.0),
        ("white-is-zero.tiff", &gray, 1.0),
        ("bilevel.tiff", &bilevel, 0.0),
        ("fax4.tiff", &bilevel, 0.0),
        ("pages.tiff", &colour, 0.0),
        ("24.bmp", &colour, 0.0),
        ("palette.bmp", &colour, 8.0),
        ("bilevel.bmp", &bilevel, 0.0),
        ("rgb.ppm", &colour, 0.0),
        ("gray.pgm", &gray, 1.0),
        ("bilevel.pbm", &bilevel, 0.0),
        ("exif1.jpg", &colour, 4.0),
    ];
    let far: Vec<String> = cases
        .into_iter()
        .map(|(name, expected, tolerance)| (name, rmse(&decoded(&mut engine, name), expected), tolerance))
        .filter(|(_, distance, tolerance)| distance > tolerance)
        .map(|(name, distance, tolerance)| format!("{name}: {distance:.2} > {tolerance}"))
        .collect();
    assert!(far.is_empty(), "{far:#?}");
}

/// Photoshop's way: YCCK with Adobe's marker, inks inverted.
#[test]
fn ycck_jpeg_shows_the_same_picture() {
    let scene = scene();
    let inverted: Vec<u8> = scene.pixels().flat_map(|pixel| [pixel[0], pixel[1], pixel[2], 255]).collect();
    let mut compressor = turbojpeg::Compressor::new().unwrap();
    compressor.set_quality(95).unwrap();
    compressor.set_subsamp(turbojpeg::Subsamp::None).unwrap();
    let (width, height) = (scene.width() as usize, scene.height() as usize);
    let format = turbojpeg::PixelFormat::CMYK;
    let image = turbojpeg::Image { pixels: &inverted[..], width, pitch: width * 4, height, format };
    let jpeg = compressor.compress_to_vec(image).unwrap();
    let header = turbojpeg::read_header(&jpeg).unwrap();
    assert_eq!(header.colorspace, turbojpeg::Colorspace::YCCK);
    let outcome = process(&mut plain_engine(), &jpeg, "document", &[("denoise", "off")]).unwrap();
    let distance = rmse(&outcome.rgb("clean.png"), &scene);
    assert!(distance < 4.0, "{distance}");
}

#[test]
fn every_exif_orientation_stands_upright() {
    let mut engine = plain_engine();
    let names = (1..=8).map(|value| format!("exif{value}.jpg"));
    for name in names.chain(["exif6.png".to_owned(), "exif6.webp".to_owned()]) {
        let outcome = process(&mut engine, &fixture(&name), "photo", &[]).unwrap();
        assert_eq!((outcome.done.width_px, outcome.done.height_px), (96, 64), "{name}");
        let distance = rmse(&decoded(&mut engine, &name), &scene());
        assert!(distance < 4.0, "{name}: {distance}");
    }
}

#[test]
fn a_broken_exif_block_is_ignored() {
    let mut jpeg = fixture("exif6.jpg");
    let at = jpeg.windows(6).position(|window| window == b"Exif\0\0").unwrap();
    jpeg[at + 6..at + 40].fill(0xee);
    let outcome = process(&mut plain_engine(), &jpeg, "photo", &[]).unwrap();
    assert_eq!((outcome.done.width_px, outcome.done.height_px), (64, 96));
}

#[test]
fn profiles_are_applied() {
    let mut engine = plain_engine();
    for name in ["profile.png", "profile.jpg", "profile.tiff", "profile.webp"] {
        let distance = rmse(&decoded(&mut engine, name), &scene());
        assert!(distance < 6.0, "{name}: {distance}");
    }
}

#[test]
fn transparent_parts_become_paper_in_documents_and_stay_in_photos() {
    let mut engine = plain_engine();
    for name in ["rgba.png", "gray-alpha.png", "rgba.tiff", "alpha.webp"] {
        let photo = process(&mut engine, &fixture(name), "photo", &[]).unwrap();
        let full = photo.image("full.webp");
        assert!(full.color().has_alpha(), "{name}");
        assert_eq!(full.to_rgba8().get_pixel(50, 5)[3], 0, "{name}");
        assert_eq!(full.to_rgba8().get_pixel(80, 10)[3], 255, "{name}");
    }
    let mut engine = pipeline::engine();
    for name in ["rgba.png", "gray-alpha.png"] {
        let document = process(&mut engine, &fixture(name), "document", &[("denoise", "keep")]).unwrap();
        let clean = document.image("clean.png");
        assert!(!clean.color().has_alpha(), "{name}");
        assert!(clean.to_luma8().get_pixel(50, 8)[0] > 200, "{name}");
    }
}

#[test]
fn every_page_of_a_tiff_has_its_files() {
    let outcome = process(&mut plain_engine(), &fixture("pages.tiff"), "photo", &[]).unwrap();
    assert_eq!(outcome.done.pages_count, 3);
    assert_eq!((outcome.done.width_px, outcome.done.height_px), (96, 64));
    let size = |name: &str| {
        let file = outcome.done.files.iter().find(|file| file.name == name).unwrap();
        (file.width_px, file.height_px)
    };
    assert_eq!((size("full.webp"), size("p0002/full.webp"), size("p0003/full.webp")), ((96, 64), (96, 64), (48, 64)));
    assert_eq!((size("p0003/crop.webp"), size("p0003/thumb.webp")), ((48, 48), (48, 64)));
    // Three files of each page, its picture from before, and the account of it all.
    assert_eq!(outcome.done.files.len(), 13);
    assert!(rmse(&outcome.rgb("p0002/full.webp"), &gray(&scene())) < 9.0);
}

/// What a page was written as already is written again as it is: the same part of the same page at the same size, and nothing else.
#[test]
fn equal_files_of_a_page_are_equal_to_the_byte() {
    let outcome = process(&mut plain_engine(), &fixture("pages.tiff"), "photo", &[]).unwrap();
    let digest = |name: &str| {
        let file = outcome.done.files.iter().find(|file| file.name == name).unwrap();
        assert_eq!(file.sha256, hex::encode(Sha256::digest(outcome.bytes(name))), "{name}");
        file.sha256.clone()
    };
    for page in ["", "p0002/", "p0003/"] {
        let [full, crop, thumb] = ["full.webp", "crop.webp", "thumb.webp"].map(|name| digest(&format!("{page}{name}")));
        assert_eq!(full, thumb, "{page}");
        assert_ne!(full, crop, "{page}");
    }
    assert_ne!(digest("full.webp"), digest("p0002/full.webp"));
}

/// Neither places nor names nor texts of the input come out, in no file.
#[test]
fn metadata_is_left_behind() {
    let mut engine = plain_engine();
    let secrets: [&[u8]; 7] = [b"SECRET", b"Exif", b"/etc/passwd", b"root:", b"tEXt", b"iCCP", b"ICCP"];
    for name in ["exif6.jpg", "exif6.png", "exif6.webp", "text-chunk.png", "profile.png", "profile.webp"] {
        let input = fixture(name);
        assert!(secrets.iter().any(|secret| contains(&input, secret) || contains(&input, b"EXIF")), "{name}");
        for preset in ["photo", "document"] {
            let outcome = process(&mut engine, &input, preset, &[("denoise", "off")]).unwrap();
            for file in &outcome.done.files {
                let output = outcome.bytes(&file.name);
                for secret in secrets.iter().chain(&[&b"EXIF"[..]]) {
                    assert!(!contains(&output, secret), "{name} → {}", file.name);
                }
            }
        }
    }
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

/// What the worker says of its files is true.
#[test]
fn files_are_as_announced() {
    let outcome: Outcome = process(&mut plain_engine(), &fixture("baseline.jpg"), "photo", &[]).unwrap();
    let manifest: serde_json::Value = serde_json::from_slice(&outcome.bytes("manifest.json")).unwrap();
    assert_eq!(manifest["schema"], "inkpool.manifest/1");
    assert_eq!(manifest["input_sha256"], "0".repeat(64));
    assert_eq!(manifest["spec"]["preset"], "photo");
    assert!(manifest["model_sha256"].is_null());
    assert_eq!(manifest["files"].as_array().unwrap().len() + 1, outcome.done.files.len());
    for file in &outcome.done.files {
        let bytes = outcome.bytes(&file.name);
        assert_eq!(bytes.len() as u64, file.size_bytes);
        assert_eq!(hex::encode(Sha256::digest(&bytes)), file.sha256);
        if file.content_type != "application/json" {
            let image = read(&outcome.path(&file.name));
            assert_eq!((image.width(), image.height()), (file.width_px, file.height_px));
        }
    }
}
