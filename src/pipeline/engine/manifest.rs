//! `manifest.json`: what was made, of what, by what.

use serde::Serialize;

use crate::pipeline::gate::PageReport;
use crate::pipeline::spec::Spec;
use crate::pipeline::wire::OutFile;

/// Its name below `out/`.
pub const FILE: &str = "manifest.json";

/// The content of `manifest.json`.
#[derive(Debug, Serialize)]
pub struct Manifest<'a> {
    /// `inkpool.manifest/1`.
    pub schema: &'static str,
    /// Version of the program.
    pub version: &'static str,
    /// SHA-256 of the network, hex; none where the spec uses none.
    pub model_sha256: Option<&'a str>,
    /// SHA-256 of the input, hex.
    pub input_sha256: &'a str,
    /// What was asked.
    pub spec: &'a Spec,
    /// Every other file.
    pub files: &'a [OutFile],
    /// The verdict on every page that was cleaned.
    pub gate: &'a [PageReport],
}

/// The schema's name and version.
pub const SCHEMA: &str = "inkpool.manifest/1";
