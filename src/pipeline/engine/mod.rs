//! The only decode, encode and inference code.

mod bind;
mod bitmap;
mod colour;
mod decode;
mod decode_jpeg;
mod decode_pdf;
mod decode_png;
mod decode_tiff;
pub mod denoise;
mod encode;
mod halves;
mod keep;
pub mod locate;
mod manifest;
mod marks;
mod memory;
mod orient;
mod pdf_load;
mod resize;
mod review;
mod run;
mod sink;
mod tiles;

use std::path::Path;

use sha2::{Digest, Sha256};

pub use self::decode::no_pdf;
use self::denoise::Network;
use self::memory::Meter;
use self::run::Worker;
use super::wire::{Done, Run};
use crate::job::Refusal;

/// Why a run did not end well.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EngineError {
    /// The input can never be processed.
    #[error("{stage}: {refusal}")]
    Refused {
        /// The step.
        stage: &'static str,
        /// Why.
        refusal: Refusal,
    },
    /// Something failed that may pass.
    #[error("{stage}: {detail}")]
    Fault {
        /// The step.
        stage: &'static str,
        /// One sentence, without paths.
        detail: String,
    },
}

/// Why an engine cannot start.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The network cannot be read.
    #[error("the network cannot be read: {0}")]
    Read(#[from] std::io::Error),
    /// The network is not the one that was shipped.
    #[error("the network has SHA-256 {found}, expected {expected}")]
    Digest {
        /// Of the file beside it.
        expected: String,
        /// Of its bytes.
        found: String,
    },
    /// ONNX Runtime refuses.
    #[error("ONNX Runtime: {0}")]
    Network(String),
    /// PDFium cannot be loaded.
    #[error("PDFium: {0}")]
    Pdf(String),
}

/// What a run reports while it works.
pub trait Reporter {
    /// The plan stands; called once, before a pixel is decoded.
    fn planned(&mut self, peak_bytes: u64, pixels_total: u64, pages: u32);
    /// Where it is: the step, and the share of the whole that is done, 0..1.
    fn progress(&mut self, stage: &'static str, fraction: f32);
}

/// Decoders, encoders and the network, loaded once for a worker.
pub struct Engine {
    network: Option<Network>,
    /// Without it a PDF is refused.
    pdf: Option<decode_pdf::Library>,
    model_sha256: String,
    meter: Meter,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine")
            .field("network", &self.network)
            .field("reads_pdf", &self.pdf.is_some())
            .finish_non_exhaustive()
    }
}

impl Engine {
    /// Checks the network at `model` against its digest (hex) and loads it with the library `onnxruntime`. Every file the
    /// engine needs is open afterwards; a run opens only its input and its outputs.
    ///
    /// # Errors
    /// [`LoadError`].
    pub fn load(model: &Path, expected_sha256: &str, onnxruntime: &Path) -> Result<Self, LoadError> {
        let (graph, model_sha256) = checked(model, expected_sha256)?;
        let network = Network::load(&graph, onnxruntime).map_err(LoadError::Network)?;
        Ok(Self { network: Some(network), pdf: None, model_sha256, meter: Meter::open() })
    }

    /// As [`Engine::load`], without ONNX Runtime: for work that is known to need no network. A run with denoising is a
    /// fault. Saves a short-lived process about 0.1 s and 60 MB.
    ///
    /// # Errors
    /// [`LoadError`].
    pub fn load_without_network(model: &Path, expected_sha256: &str) -> Result<Self, LoadError> {
        let (_, model_sha256) = checked(model, expected_sha256)?;
        Ok(Self { network: None, pdf: None, model_sha256, meter: Meter::open() })
    }

    /// With the library `pdfium`, to read PDF. Only a process that is about to lock itself in may ask for it: no other
    /// should let that library see what strangers send.
    ///
    /// # Errors
    /// [`LoadError::Pdf`].
    pub fn with_pdf(mut self, pdfium: &Path) -> Result<Self, LoadError> {
        self.pdf = Some(decode_pdf::load(pdfium).map_err(LoadError::Pdf)?);
        Ok(self)
    }

    /// SHA-256 of the network, hex.
    #[must_use]
    pub fn model_sha256(&self) -> &str {
        &self.model_sha256
    }

    /// Processes one input below `input_directory` into files below `output_directory`.
    ///
    /// # Errors
    /// [`EngineError`].
    pub fn run(
        &mut self,
        run: &Run,
        input_directory: &Path,
        output_directory: &Path,
        reporter: &mut dyn Reporter,
    ) -> Result<Done, EngineError> {
        self.meter.restart();
        let mut done = Worker::new(self, run, output_directory, reporter).work(input_directory)?;
        done.peak_bytes = self.meter.peak_bytes();
        Ok(done)
    }
}

fn checked(model: &Path, expected_sha256: &str) -> Result<(Vec<u8>, String), LoadError> {
    let graph = std::fs::read(model)?;
    let found = hex::encode(Sha256::digest(&graph));
    if found == expected_sha256 {
        Ok((graph, found))
    } else {
        Err(LoadError::Digest { expected: expected_sha256.to_owned(), found })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loads_the_shipped_network_and_no_other() {
        let located = locate::find("", "", "").unwrap();
        let engine = Engine::load(&located.model, &located.model_sha256, &located.onnxruntime).unwrap();
        assert_eq!(engine.model_sha256(), located.model_sha256);
        let error = Engine::load(&located.model, &"0".repeat(64), &located.onnxruntime).unwrap_err();
        assert!(matches!(error, LoadError::Digest { .. }), "{error}");
    }
}
