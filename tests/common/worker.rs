//! Real workers for tests: this build of the program, with the network and ONNX Runtime of the repository.
#![allow(dead_code, reason = "each test binary uses another part")]
#![expect(clippy::expect_used, clippy::unwrap_used, reason = "a test that cannot be set up fails")]

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use inkpool::containers::process::{ProcessRuntime, ProcessSettings};
use inkpool::containers::slot_dir::SlotDir;
use inkpool::containers::{SlotId, SlotRuntime, StartOrder, Worker};
use inkpool::pipeline::engine::locate;
use inkpool::pipeline::spec::{Denoise, OutputFormat, OutputSize, OutputSpec, Spec};
use inkpool::pipeline::wire::{Run, RunLimits};

/// Memory of a worker of these tests, bytes.
pub const MEMORY_BYTES_MAX: u64 = 1024 * 1024 * 1024;
/// Length of a file that a worker of these tests may write, bytes.
pub const FILE_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// A runtime with a directory of its own.
pub struct Place {
    /// Starts workers.
    pub runtime: ProcessRuntime,
    /// `slots` of the runtime.
    pub slots: PathBuf,
    _base: tempfile::TempDir,
}

/// What a runtime in `slots` needs.
pub fn settings(slots: &Path) -> ProcessSettings {
    let located = locate::find("", "", "").expect("the network and ONNX Runtime: run scripts/setup");
    ProcessSettings {
        program: env!("CARGO_BIN_EXE_inkpool").into(),
        slots: slots.to_owned(),
        model: located.model,
        model_sha256: located.model_sha256,
        onnxruntime: located.onnxruntime,
        pdfium: located.pdfium,
        network: true,
    }
}

impl Place {
    /// A fresh one.
    pub fn new() -> Self {
        // What workers say belongs to the output of a test that fails.
        let _ = tracing_subscriber::fmt().with_writer(std::io::stderr).with_ansi(false).try_init();
        let base = tempfile::tempdir().unwrap();
        let slots = base.path().join("slots/node");
        std::fs::create_dir_all(&slots).unwrap();
        Self { runtime: ProcessRuntime::new(settings(&slots)).unwrap(), slots, _base: base }
    }

    /// The directory of a slot, prepared.
    pub fn slot(&self, slot: u32) -> SlotDir {
        let slot = SlotDir::new(&self.slots, slot);
        slot.prepare().unwrap();
        slot
    }

    /// A worker that has said hello.
    pub async fn start(&self, slot: u32) -> (SlotDir, Box<dyn Worker>) {
        let directory = self.slot(slot);
        let worker = self.runtime.start(order(&directory, slot)).await.unwrap();
        (directory, worker)
    }
}

/// An order with bounds that fit the images of these tests.
pub fn order(directory: &SlotDir, slot: u32) -> StartOrder {
    static GENERATION: AtomicU64 = AtomicU64::new(1);
    StartOrder {
        id: SlotId { slot, generation: GENERATION.fetch_add(1, Ordering::SeqCst) },
        directory: directory.path().to_owned(),
        start_timeout: Duration::from_secs(60),
        memory_bytes_max: MEMORY_BYTES_MAX,
        open_files_max: 256,
        file_bytes_max: FILE_BYTES_MAX,
    }
}

/// Bounds of one job.
pub fn limits() -> RunLimits {
    RunLimits { pixels_max: 100_000_000, side_px_max: 16_384, pages_max: 200, memory_bytes_max: MEMORY_BYTES_MAX }
}

/// A spec that needs no network: one lossless file.
pub fn spec() -> Spec {
    let clean = OutputSpec { name: "clean.png".to_owned(), format: OutputFormat::Png, size: OutputSize::Same };
    Spec { preset: "test".to_owned(), denoise: Denoise::Off, outputs: vec![clean], pdf: None, before: None }
}

/// Puts an image into the slot and says what to do with it.
pub fn run(slot: &SlotDir, bytes: &[u8], spec: Spec) -> Run {
    use sha2::Digest;
    slot.create_input("input").unwrap().write_all(bytes).unwrap();
    Run {
        job: "test".to_owned(),
        spec,
        input: "input".to_owned(),
        input_sha256: hex::encode(sha2::Sha256::digest(bytes)),
        limits: limits(),
    }
}

/// A gray PNG of 64 × 48 px; with `fault`, one that makes a worker with fault points act it out.
pub fn page(fault: Option<&str>) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, 64, 48);
    encoder.set_color(png::ColorType::Grayscale);
    encoder.set_depth(png::BitDepth::Eight);
    if let Some(fault) = fault {
        encoder.add_text_chunk("inkpool-fault".to_owned(), fault.to_owned()).unwrap();
    }
    let pixels: Vec<u8> = (0..64u32 * 48).map(|pixel| u8::try_from(pixel % 251).unwrap()).collect();
    let mut writer = encoder.write_header().unwrap();
    writer.write_image_data(&pixels).unwrap();
    writer.finish().unwrap();
    bytes
}
