//! The protocol between a slot and its worker: frames of JSON on the worker's standard input and output, or on a Unix
//! socket that a worker in a container connects to.
//!
//! A frame is its length in bytes (u32, big endian), then that many bytes of JSON. Both ends refuse a frame above
//! [`FRAME_BYTES_MAX`]. The worker says [`FromWorker::Hello`] once it is locked down, and nothing before.

use std::io::{self, Read, Write};

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::gate::Report;
use super::spec::Spec;
use crate::job::Refusal;

/// Version of this protocol; a slot refuses a worker that speaks another.
pub const PROTOCOL: u32 = 2;
/// No message needs more: 200 pages with five files each are about 300 kB.
pub const FRAME_BYTES_MAX: usize = 1024 * 1024;

/// First frame of each connection that a worker in a container makes: who it is and what the connection is for.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Knock {
    /// Known to nobody but the worker that was started for this slot.
    pub token: String,
    /// What follows.
    pub stream: Stream,
}

/// The connections of a worker, in the order in which they are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stream {
    /// Lines of its log.
    Log,
    /// Frames in both directions.
    Frames,
}

/// What a slot says.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ToWorker {
    /// Process one image; one at a time.
    Run(Box<Run>),
    /// The memory that the plan asks for is reserved: decode.
    Go,
}

/// One job, as the worker sees it: no owner, no credentials, no path outside its directories.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Run {
    /// Echoed in logs only.
    pub job: String,
    /// What to make.
    pub spec: Spec,
    /// Name of the input below `in/`.
    pub input: String,
    /// SHA-256 of the input, hex, for the manifest.
    pub input_sha256: String,
    /// Bounds to hold.
    pub limits: RunLimits,
}

/// What a job may use beyond its plan: fragments of the allocator and buffers inside the codecs that no plan counts. So much
/// less than a worker may have can a plan ask for, bytes.
pub const SLACK_BYTES: u64 = 64 * 1024 * 1024;

/// Bounds of one job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunLimits {
    /// Pixels of one page.
    pub pixels_max: u64,
    /// Length of a side, pixels.
    pub side_px_max: u32,
    /// Pages of one input.
    pub pages_max: u32,
    /// Memory a plan may ask for, bytes.
    pub memory_bytes_max: u64,
}

/// What a worker says. All of it is untrusted.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum FromWorker {
    /// First message, after lock-down.
    Hello(Hello),
    /// The plan stands: what the job will cost. Sent before a pixel is decoded; the worker waits for [`ToWorker::Go`].
    Planned {
        /// Most memory the job will hold at once, bytes.
        peak_bytes: u64,
        /// Memory the worker may use from here on, with what it held before, bytes.
        #[serde(default)]
        limit_bytes: u64,
        /// Pixels of all pages together.
        pixels_total: u64,
        /// Pages.
        pages: u32,
    },
    /// Where the job is.
    Progress {
        /// The step: `decode`, `denoise`, `resize`, `encode`, ….
        stage: String,
        /// Share of the whole job done, 0..1.
        fraction: f32,
    },
    /// Finished; the files lie below `out/`.
    Done(Box<Done>),
    /// The input can never be processed.
    Refused {
        /// The step.
        stage: String,
        /// Why, with figures.
        refusal: Refusal,
    },
    /// Something failed that may pass.
    Fault {
        /// The step.
        stage: String,
        /// One sentence, without paths.
        detail: String,
    },
}

/// Who the worker is and how it is locked in.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Hello {
    /// [`PROTOCOL`].
    pub protocol: u32,
    /// Program version.
    pub version: String,
    /// SHA-256 of the network, hex.
    pub model_sha256: String,
    /// What this kernel gave.
    pub isolation: Isolation,
}

/// The layers between a worker and the machine.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Isolation {
    /// Landlock ABI in force; 0 where the kernel has none.
    pub landlock_abi: u32,
    /// Whether the system call filter is in force.
    pub seccomp: bool,
    /// Whether privileges can no longer be gained.
    pub no_new_privileges: bool,
    /// Whether it runs in a network namespace of its own.
    pub own_network: bool,
    /// Whether its slot directory is its root directory, so that no other path has a name.
    #[serde(default)]
    pub own_root: bool,
    /// Whether it holds no capability, not even as root.
    #[serde(default)]
    pub no_capabilities: bool,
    /// Resource limits in force, such as `nofile=256`.
    pub rlimits: Vec<String>,
}

/// The worker's account of a finished job.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Done {
    /// Width of the first page, upright, pixels.
    pub width_px: u32,
    /// Height of the first page, upright, pixels.
    pub height_px: u32,
    /// Pages processed.
    pub pages_count: u32,
    /// Every file below `out/`.
    pub files: Vec<OutFile>,
    /// Wall time of each stage, milliseconds.
    pub timings_ms: Vec<(String, u64)>,
    /// When each stage began for the first time, and the sum of what was spent in it, microseconds since the worker began.
    #[serde(default)]
    pub stages: Vec<(String, u64, u64)>,
    /// Peak resident memory, bytes.
    pub peak_bytes: u64,
    /// Verdict of the do-no-harm gate, where one was reached.
    #[serde(default)]
    pub gate: Option<Report>,
}

/// One output.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutFile {
    /// Name below `out/`, `/` between folders: `clean.png`, `p0002/clean.png`.
    pub name: String,
    /// Media type.
    pub content_type: String,
    /// Length, bytes.
    pub size_bytes: u64,
    /// SHA-256, hex.
    pub sha256: String,
    /// Width, pixels; 0 for what is no image.
    pub width_px: u32,
    /// Height, pixels; 0 for what is no image.
    pub height_px: u32,
}

/// Writes one frame and flushes.
///
/// # Errors
/// Of the stream, or `InvalidData` when the message is above the bound.
pub fn write_frame<T: Serialize>(to: &mut impl Write, message: &T) -> io::Result<()> {
    to.write_all(&encode(message)?)?;
    to.flush()
}

/// The bytes of one frame.
///
/// # Errors
/// `InvalidData` when the message is above the bound.
pub fn encode<T: Serialize>(message: &T) -> io::Result<Vec<u8>> {
    let body = serde_json::to_vec(message).map_err(io::Error::other)?;
    let length = u32::try_from(body.len()).ok().filter(|_| body.len() <= FRAME_BYTES_MAX);
    let length = length.ok_or_else(|| too_long(body.len()))?;
    let mut frame = Vec::with_capacity(4 + body.len());
    frame.extend_from_slice(&length.to_be_bytes());
    frame.extend_from_slice(&body);
    Ok(frame)
}

/// Reads one frame; `None` at a clean end of the stream.
///
/// # Errors
/// Of the stream, or `InvalidData` for a frame that is too long or no message.
pub fn read_frame<T: DeserializeOwned>(from: &mut impl Read) -> io::Result<Option<T>> {
    let mut head = [0u8; 4];
    match from.read_exact(&mut head) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error),
    }
    let mut body = vec![0u8; checked_length(head)?];
    from.read_exact(&mut body)?;
    decode(&body).map(Some)
}

/// The length that a frame's first four bytes announce.
///
/// # Errors
/// `InvalidData` above the bound.
pub fn checked_length(head: [u8; 4]) -> io::Result<usize> {
    let length = usize::try_from(u32::from_be_bytes(head)).unwrap_or(usize::MAX);
    if length > FRAME_BYTES_MAX { Err(too_long(length)) } else { Ok(length) }
}

/// The message in a frame's body.
///
/// # Errors
/// `InvalidData` when it is no message.
pub fn decode<T: DeserializeOwned>(body: &[u8]) -> io::Result<T> {
    serde_json::from_slice(body).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

fn too_long(length: usize) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("frame of {length} bytes, at most {FRAME_BYTES_MAX}"))
}
