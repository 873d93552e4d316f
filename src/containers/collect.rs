//! What a worker left below `out/`, checked before a byte of it is stored.
//!
//! Everything it announced must be there and nothing else: regular files with one name, opened without following a link,
//! with names of the spec, of the announced length and hash, and (for images) of the announced kind and size by their own
//! header. The worker may still be alive and still write: a file that is handed out is open, so no name can be changed
//! under the caller, but its bytes could be. So whoever stores them compares length and hash once more.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read, Seek};
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{CWD, FileType, Mode, OFlags};
use sha2::{Digest, Sha256};

use super::slot_dir::{OUTPUT, entries, open_directory};
use crate::job::Crash;
use crate::pipeline::probe::{Format, probe};
use crate::pipeline::spec::Spec;
use crate::pipeline::wire::{Done, OutFile, RunLimits};

/// The account of a job, one for each.
pub const MANIFEST: &str = "manifest.json";
/// A manifest of 200 pages with five files each has about 300 kB.
const MANIFEST_BYTES_MAX: u64 = 4 * 1024 * 1024;
const READ_BYTES: usize = 128 * 1024;

/// Bounds on outputs.
#[derive(Debug, Clone, Copy)]
pub struct OutputLimits {
    /// Length of one file, bytes.
    pub file_bytes_max: u64,
    /// All files of a job together, bytes.
    pub total_bytes_max: u64,
}

/// One checked output.
#[derive(Debug)]
pub struct Collected {
    /// As announced, and found true.
    pub facts: OutFile,
    /// Open for reading, at its first byte.
    pub file: File,
}

/// Opens and checks the outputs of a job below `directory/out`. Blocks for as long as reading and hashing all takes.
///
/// # Errors
/// A crash with code `untrusted_output`: the worker must not be used again.
pub fn collect(
    directory: &Path,
    spec: &Spec,
    done: &Done,
    pages: &RunLimits,
    limits: OutputLimits,
) -> Result<Vec<Collected>, Box<Crash>> {
    check(directory, spec, done, pages, limits).map_err(|why| {
        Box::new(Crash {
            code: "untrusted_output".to_owned(),
            detail: format!("the worker's output was refused: {why}"),
            stage: Some("publish".to_owned()),
            signal: None,
            peak_bytes: None,
            limit: None,
        })
    })
}

fn check(
    directory: &Path,
    spec: &Spec,
    done: &Done,
    pages: &RunLimits,
    limits: OutputLimits,
) -> Result<Vec<Collected>, String> {
    if done.pages_count == 0 || done.pages_count > pages.pages_max {
        return Err(format!("{} pages", done.pages_count));
    }
    let (wanted, allowed) = names(spec, done.pages_count);
    let announced: BTreeSet<String> = done.files.iter().map(|file| file.name.clone()).collect();
    if announced.len() != done.files.len() || !announced.is_superset(&wanted) || !announced.is_subset(&allowed) {
        return Err("it announces other files than were asked for".to_owned());
    }
    let total = done.files.iter().map(|file| file.size_bytes).fold(0u64, u64::saturating_add);
    if total > limits.total_bytes_max {
        return Err(format!("{total} bytes in all, at most {}", limits.total_bytes_max));
    }
    let out = open_directory(CWD, directory.join(OUTPUT)).map_err(|error| error.to_string())?;
    nothing_else(&out, &announced)?;
    let mut collected = Vec::with_capacity(done.files.len());
    for facts in &done.files {
        let file = open(&out, facts, limits).map_err(|why| format!("{}: {why}", facts.name))?;
        let file = verify(file, facts, pages).map_err(|why| format!("{}: {why}", facts.name))?;
        collected.push(Collected { facts: facts.clone(), file });
    }
    Ok(collected)
}

/// Every name that a job of this spec and so many pages makes, and with them those that it may make: whether the first page
/// gets a picture from before depends on its format.
fn names(spec: &Spec, pages_count: u32) -> (BTreeSet<String>, BTreeSet<String>) {
    let place = |page: u32, name: &str| if page == 1 { name.to_owned() } else { format!("p{page:04}/{name}") };
    let pages = || 1..=pages_count;
    let of_page = |page: u32| spec.outputs.iter().map(move |output| place(page, &output.name));
    let pdf = spec.pdf_of(pages_count as usize).map(|pdf| pdf.name.clone());
    let before = |page: u32| spec.before.iter().map(move |output| place(page, &output.name));
    let mut wanted: BTreeSet<String> = pages().flat_map(of_page).chain(pdf).chain([MANIFEST.to_owned()]).collect();
    wanted.extend(pages().skip(1).flat_map(before));
    let allowed = wanted.iter().cloned().chain(pages().take(1).flat_map(before)).collect();
    (wanted, allowed)
}

/// That there is no file and no folder which the names do not account for.
fn nothing_else(out: &OwnedFd, expected: &BTreeSet<String>) -> Result<(), String> {
    let broken = |error: io::Error| error.to_string();
    for (name, kind) in entries(out).map_err(broken)? {
        let name = name.to_str().map_err(|_| "a file whose name is no text")?;
        if kind == FileType::RegularFile && expected.contains(name) {
            continue;
        }
        let folder = format!("{name}/");
        let wanted = expected.range(folder.clone()..).next().is_some_and(|next| next.starts_with(&folder));
        if kind != FileType::Directory || !wanted {
            return Err("a file that was not asked for".to_owned());
        }
        let inside = open_directory(out, name).and_then(|inside| entries(&inside)).map_err(broken)?;
        for (inner, kind) in inside {
            let known = inner.to_str().is_ok_and(|inner| expected.contains(&format!("{folder}{inner}")));
            if !known || kind != FileType::RegularFile {
                return Err("a file that was not asked for".to_owned());
            }
        }
    }
    Ok(())
}

/// Opens one output. Its name is one of [`names`]: at most one folder, no `..`.
fn open(out: &OwnedFd, facts: &OutFile, limits: OutputLimits) -> Result<File, String> {
    let broken = |error: io::Error| error.to_string();
    // A FIFO would block the opening, and a link lead elsewhere.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let opened = match facts.name.split_once('/') {
        Some((folder, name)) => {
            let folder = open_directory(out, folder).map_err(broken)?;
            rustix::fs::openat(folder, name, flags, Mode::empty())
        }
        None => rustix::fs::openat(out, facts.name.as_str(), flags, Mode::empty()),
    };
    let file = opened.map_err(|error| broken(error.into()))?;
    let found = rustix::fs::fstat(&file).map_err(|error| broken(error.into()))?;
    if FileType::from_raw_mode(found.st_mode) != FileType::RegularFile || found.st_nlink != 1 {
        return Err("not a regular file of its own".to_owned());
    }
    let length = u64::try_from(found.st_size).unwrap_or(u64::MAX);
    if length != facts.size_bytes {
        return Err(format!("{length} bytes, announced {}", facts.size_bytes));
    }
    let most = if facts.name == MANIFEST { MANIFEST_BYTES_MAX } else { limits.file_bytes_max };
    if length > most {
        return Err(format!("{length} bytes, at most {most}"));
    }
    Ok(file.into())
}

/// Reads the file once for its hash, and its header for its kind and size.
fn verify(mut file: File, facts: &OutFile, pages: &RunLimits) -> Result<File, String> {
    let broken = |error: io::Error| error.to_string();
    let mut hash = Sha256::new();
    let mut buffer = vec![0u8; READ_BYTES];
    // One more than announced shows that it grew.
    let mut left = facts.size_bytes + 1;
    while left > 0 {
        let length = (&mut file).take(left).read(&mut buffer).map_err(broken)?;
        if length == 0 {
            break;
        }
        left -= length as u64;
        hash.update(buffer.get(..length).unwrap_or_default());
    }
    if left != 1 {
        return Err("it changed while it was read".to_owned());
    }
    if hex::encode(hash.finalize()) != facts.sha256 {
        return Err("its bytes have another hash than announced".to_owned());
    }
    file.rewind().map_err(broken)?;
    if facts.name == MANIFEST {
        if facts.content_type != "application/json" {
            return Err(format!("announced as {}", facts.content_type));
        }
        serde_json::from_reader::<_, serde::de::IgnoredAny>(io::BufReader::new(&mut file))
            .map_err(|_| "it is no JSON".to_owned())?;
    } else if facts.name.ends_with(".pdf") {
        verify_pdf(&mut file, facts)?;
    } else {
        verify_image(&mut file, facts, pages)?;
    }
    file.rewind().map_err(broken)?;
    Ok(file)
}

fn verify_image(file: &mut File, facts: &OutFile, pages: &RunLimits) -> Result<(), String> {
    let found = probe(file, pages).map_err(|refusal| refusal.detail)?;
    let kind = found.format.content_type();
    if kind != facts.content_type || !facts.name.ends_with(extension(found.format)) {
        return Err(format!("it is {kind}, announced {}", facts.content_type));
    }
    match found.pages.as_slice() {
        [page] if (page.width_px, page.height_px) == (facts.width_px, facts.height_px) => Ok(()),
        [page] => Err(format!(
            "{} x {} px, announced {} x {} px",
            page.width_px, page.height_px, facts.width_px, facts.height_px
        )),
        more => Err(format!("{} pages", more.len())),
    }
}

/// A PDF by its first and last bytes. No reader is asked here: it would parse what a stranger may have written. So it is
/// also never shown by the server, only sent to be saved.
fn verify_pdf(file: &mut File, facts: &OutFile) -> Result<(), String> {
    const FIRST: &[u8] = b"%PDF-1.4\n";
    const LAST: &[u8; 7] = b"\n%%EOF\n";
    let broken = |error: io::Error| error.to_string();
    if facts.content_type != "application/pdf" || (facts.width_px, facts.height_px) != (0, 0) {
        return Err(format!("announced as {} of {} x {} px", facts.content_type, facts.width_px, facts.height_px));
    }
    let mut first = [0; FIRST.len()];
    file.read_exact(&mut first).map_err(broken)?;
    let mut last = [0; LAST.len()];
    file.seek(io::SeekFrom::End(-7)).and_then(|_| file.read_exact(&mut last)).map_err(broken)?;
    if first == FIRST && last == *LAST { Ok(()) } else { Err("it is no PDF".to_owned()) }
}

/// How names of outputs of that kind end; what is never made has none.
fn extension(format: Format) -> &'static str {
    match format {
        Format::Png => ".png",
        Format::Webp => ".webp",
        Format::Jpeg | Format::Tiff | Format::Bmp | Format::Gif | Format::Pnm | Format::Pdf => "/",
    }
}
