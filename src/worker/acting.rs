//! Breaks the worker the way its input asks for: a PNG with the text chunk `inkpool-fault` (feature `fault-points`).
//!
//! | text | what the worker does |
//! |---|---|
//! | `crash` | aborts |
//! | `exit` | exits with code 3 |
//! | `hang` | never answers |
//! | `slow` | waits for three seconds, then does its work |
//! | `oom` | asks for memory until it has none |
//! | `protocol` | writes what is no frame |
//! | `huge-file` | writes a file above its limit |
//! | `flood` | writes to its log without end |
//! | `lie-length`, `lie-hash`, `lie-size` | announces another length, hash, width than its first file has |
//! | `unannounced` | leaves a file that it does not announce |
//! | `probe` | tries what it must not be able to do, and answers `fault` with the account, also in `out/probe.json` |

use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;
use std::time::Duration;

use crate::pipeline::wire::FromWorker;

/// What to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    Crash,
    Exit,
    Hang,
    Slow,
    Oom,
    Protocol,
    HugeFile,
    Flood,
    LieLength,
    LieHash,
    LieSize,
    Unannounced,
    Probe,
}

const ACTS: [(&str, Act); 13] = [
    ("crash", Act::Crash),
    ("exit", Act::Exit),
    ("hang", Act::Hang),
    ("slow", Act::Slow),
    ("oom", Act::Oom),
    ("protocol", Act::Protocol),
    ("huge-file", Act::HugeFile),
    ("flood", Act::Flood),
    ("lie-length", Act::LieLength),
    ("lie-hash", Act::LieHash),
    ("lie-size", Act::LieSize),
    ("unannounced", Act::Unannounced),
    ("probe", Act::Probe),
];

/// The text chunk stands before the pixels.
const HEAD_BYTES: u64 = 1024;

/// What the input asks for, if it does.
pub fn wanted(input: &Path) -> std::io::Result<Option<Act>> {
    let mut head = Vec::new();
    File::open(input)?.take(HEAD_BYTES).read_to_end(&mut head)?;
    let key = b"tEXtinkpool-fault\0";
    let Some(at) = head.windows(key.len()).position(|window| window == key) else { return Ok(None) };
    let text = head.get(at + key.len()..).unwrap_or_default();
    Ok(ACTS.into_iter().find(|(name, _)| text.starts_with(name.as_bytes())).map(|(_, act)| act))
}

/// What is acted out in place of the work.
pub fn before(act: Act, channel: &mut File, output: &Path) -> anyhow::Result<()> {
    let stage = FromWorker::Progress { stage: "decode".to_owned(), fraction: 0.1 };
    crate::pipeline::wire::write_frame(channel, &stage)?;
    match act {
        Act::Crash => std::process::abort(),
        Act::Exit => std::process::exit(3),
        Act::Hang => loop {
            std::thread::sleep(Duration::from_secs(3600));
        },
        Act::Slow => std::thread::sleep(Duration::from_secs(3)),
        Act::Oom => exhaust(),
        Act::Protocol => {
            channel.write_all(b"Segmentation fault, and so much more\n")?;
            channel.flush()?;
            std::thread::sleep(Duration::from_secs(3600));
        }
        Act::Flood => flood(),
        Act::HugeFile => {
            // Sparse up to its last byte, which is above any limit: SIGXFSZ.
            let file = File::create(output.join("huge"))?;
            std::os::unix::fs::FileExt::write_at(&file, b"x", u64::from(u32::MAX) * 64)?;
        }
        Act::LieLength | Act::LieHash | Act::LieSize | Act::Unannounced | Act::Probe => {}
    }
    Ok(())
}

/// What is done to an answer.
pub fn after(act: Act, answer: &mut FromWorker, output: &Path) {
    let FromWorker::Done(done) = answer else { return };
    match act {
        Act::Unannounced => {
            let _ = std::fs::write(output.join("extra.bin"), b"unannounced");
        }
        Act::LieLength | Act::LieHash | Act::LieSize => {
            let Some(file) = done.files.first_mut() else { return };
            if act == Act::LieLength {
                file.size_bytes += 1;
            } else if act == Act::LieHash {
                file.sha256 = "0".repeat(64);
            } else {
                file.width_px += 1;
            }
        }
        Act::Crash
        | Act::Exit
        | Act::Hang
        | Act::Slow
        | Act::Oom
        | Act::Protocol
        | Act::HugeFile
        | Act::Flood
        | Act::Probe => {}
    }
}

fn exhaust() {
    let mut held: Vec<Vec<u8>> = Vec::new();
    loop {
        held.push(vec![1; 16 * 1024 * 1024]);
        // Slow enough that the peak is seen from outside.
        std::thread::sleep(Duration::from_millis(10));
        if held.len() > 1_000_000 {
            return;
        }
    }
}

#[expect(clippy::print_stderr, reason = "standard error is the worker's log")]
fn flood() {
    for _ in 0..20_000 {
        eprintln!("{}", "flood ".repeat(500));
    }
}
