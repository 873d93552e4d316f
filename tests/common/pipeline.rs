//! Runs the engine in this process on bytes, and reads what comes out.
#![expect(clippy::unwrap_used, clippy::panic, clippy::cast_possible_truncation, reason = "helpers of tests")]

use std::path::{Path, PathBuf};

use image::{DynamicImage, RgbImage};
use inkpool::pipeline::engine::{Engine, EngineError, Reporter, locate};
use inkpool::pipeline::spec::{Overrides, Presets, Spec};
use inkpool::pipeline::wire::{Done, Run, RunLimits};

/// The bounds of `config/default.toml`.
pub const LIMITS: RunLimits =
    RunLimits { pixels_max: 100_000_000, side_px_max: 16_384, pages_max: 200, memory_bytes_max: 2 << 30 };

/// What a job left.
pub struct Outcome {
    pub done: Done,
    pub progress: Progress,
    folder: tempfile::TempDir,
}

/// What a job reported.
#[derive(Debug, Default)]
pub struct Progress {
    pub planned: Option<(u64, u64, u32)>,
    pub steps: Vec<(&'static str, f32)>,
}

impl Reporter for Progress {
    fn planned(&mut self, peak_bytes: u64, pixels_total: u64, pages: u32) {
        assert!(self.planned.replace((peak_bytes, pixels_total, pages)).is_none());
    }

    fn progress(&mut self, stage: &'static str, fraction: f32) {
        self.steps.push((stage, fraction));
    }
}

impl Outcome {
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join("out").join(name)
    }

    pub fn bytes(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.path(name)).unwrap()
    }

    pub fn image(&self, name: &str) -> DynamicImage {
        read(&self.path(name))
    }

    pub fn rgb(&self, name: &str) -> RgbImage {
        self.image(name).to_rgb8()
    }
}

/// An engine with the shipped network.
pub fn engine() -> Engine {
    let located = locate::find("", "", "").unwrap();
    Engine::load(&located.model, &located.model_sha256, &located.onnxruntime).unwrap()
}

/// An engine for presets without denoising.
pub fn plain_engine() -> Engine {
    let located = locate::find("", "", "").unwrap();
    Engine::load_without_network(&located.model, &located.model_sha256).unwrap()
}

/// One job within the default limits.
pub fn process(engine: &mut Engine, input: &[u8], preset: &str, set: &[(&str, &str)]) -> Result<Outcome, EngineError> {
    process_within(engine, input, preset, set, LIMITS)
}

/// One job of a preset.
pub fn process_within(
    engine: &mut Engine,
    input: &[u8],
    preset: &str,
    set: &[(&str, &str)],
    limits: RunLimits,
) -> Result<Outcome, EngineError> {
    let set: Overrides = set.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    process_spec(engine, input, Presets::builtin().unwrap().resolve(preset, &set).unwrap(), limits)
}

/// One job.
pub fn process_spec(engine: &mut Engine, input: &[u8], spec: Spec, limits: RunLimits) -> Result<Outcome, EngineError> {
    let folder = tempfile::tempdir().unwrap();
    let (input_directory, output_directory) = (folder.path().join("in"), folder.path().join("out"));
    std::fs::create_dir(&input_directory).unwrap();
    std::fs::create_dir(&output_directory).unwrap();
    std::fs::write(input_directory.join("input"), input).unwrap();
    let input_sha256 = "0".repeat(64);
    let run = Run { job: "test".to_owned(), spec, input: "input".to_owned(), input_sha256, limits };
    let mut progress = Progress::default();
    let done = engine.run(&run, &input_directory, &output_directory, &mut progress)?;
    Ok(Outcome { done, progress, folder })
}

/// A file of `tests/fixtures/pipeline`.
pub fn fixture_path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/pipeline").join(name)
}

/// Its bytes.
pub fn fixture(name: &str) -> Vec<u8> {
    std::fs::read(fixture_path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// Any image.
pub fn read(path: &Path) -> DynamicImage {
    image::ImageReader::open(path).unwrap().with_guessed_format().unwrap().decode().unwrap()
}

/// Root mean square difference, levels of 255.
pub fn rmse(one: &RgbImage, other: &RgbImage) -> f64 {
    assert_eq!(one.dimensions(), other.dimensions());
    let squares: f64 = one.iter().zip(other.iter()).map(|(a, b)| f64::from(a.abs_diff(*b)).powi(2)).sum();
    (squares / one.len() as f64).sqrt()
}

/// A scanned page of our own making: lines of dark strokes on uneven paper with a stain.
pub fn scanned_page(width: u32, height: u32) -> (image::GrayImage, image::GrayImage) {
    let is_ink = |x: u32, y: u32| {
        let (line, column) = (y % 24, x % 12);
        let is_word = !(x / 12 * 7 + y / 24 * 5).is_multiple_of(6);
        let margin = x > 24 && x + 24 < width && y > 24 && y + 24 < height;
        margin && is_word && (6..18).contains(&line) && (column < 3 || (column < 8 && (line - 6) % 5 < 2))
    };
    let mut seed = 12_345u32;
    let mut noise = || {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (seed >> 28) as u8
    };
    let paper = |x: u32, y: u32| {
        let stain = (f64::from(x) - f64::from(width) / 3.0).hypot(f64::from(y) - f64::from(height) / 2.0);
        let is_stained = (40.0..60.0).contains(&stain);
        210 - (x * 30 / width) as u8 - if is_stained { 45 } else { 0 }
    };
    let clean = image::GrayImage::from_fn(width, height, |x, y| image::Luma([if is_ink(x, y) { 0 } else { 255 }]));
    let noisy = image::GrayImage::from_fn(width, height, |x, y| {
        let level = if is_ink(x, y) { 35 } else { paper(x, y) };
        image::Luma([level.saturating_add(noise())])
    });
    (noisy, clean)
}

/// Any image as PNG.
pub fn png(image: &DynamicImage) -> Vec<u8> {
    let mut bytes = std::io::Cursor::new(Vec::new());
    image.write_to(&mut bytes, image::ImageFormat::Png).unwrap();
    bytes.into_inner()
}
