//! What a local directory needs beside `object_store`: durable top directories, tidiness, a sweep after a crash.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::path::Path;

use super::AREAS;
use super::incoming::INCOMING;

/// Makes the directory and the top directories in it and flushes their entries. From there on `object_store` flushes each
/// file, each directory that it makes, and the parents of both.
pub(super) fn prepare(root: &Path) -> io::Result<()> {
    fs::create_dir_all(root)?;
    for area in AREAS.into_iter().chain([INCOMING]) {
        fs::create_dir_all(root.join(area))?;
    }
    let root = fs::canonicalize(root)?;
    for directory in root.ancestors().take(2) {
        File::open(directory)?.sync_all()?;
    }
    Ok(())
}

/// Removes the directories above `file` that are empty, but no top directory.
pub(super) fn remove_empty_parents(file: &Path) {
    for directory in file.ancestors().skip(1) {
        let top = directory.file_name().is_none_or(|name| AREAS.iter().any(|area| OsStr::new(area) == name));
        // It fails when something is in it, which is what ends the walk.
        if top || fs::remove_dir(directory).is_err() {
            break;
        }
    }
}

/// Removes files that `object_store` had not published yet, and directories that are empty then. Links are not followed.
pub(super) fn sweep(directory: &Path) -> io::Result<u64> {
    let mut swept = 0;
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            swept += sweep(&entry.path())?;
            // Fails when something is left in it, which is the rule.
            drop(fs::remove_dir(entry.path()));
        } else if is_staging(&entry.file_name()) {
            fs::remove_file(entry.path())?;
            swept += 1;
        }
    }
    Ok(swept)
}

/// `object_store` writes to `<name>#<number>` and renames; no key of ours holds a `#`.
fn is_staging(name: &OsStr) -> bool {
    name.to_str()
        .and_then(|name| name.rsplit_once('#'))
        .is_some_and(|(_, number)| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()))
}
