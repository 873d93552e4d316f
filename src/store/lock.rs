//! One server for one data directory.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};

/// The directory in which everything of a node lives.
pub struct DataDir;

/// Held for as long as the server runs; the system lets go of it even after `kill -9`.
#[derive(Debug)]
pub struct DataLock {
    _file: File,
}

/// Why a data directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another process holds it.
    #[error(
        "another server{} uses the data directory {}: stop it, or give this one its own with --data",
        pid.map(|pid| format!(" (process {pid})")).unwrap_or_default(), directory.display()
    )]
    Held {
        /// Which directory.
        directory: PathBuf,
        /// Who holds it, if it said so.
        pid: Option<u32>,
    },
    /// It cannot be made, read or written.
    #[error("the data directory {} cannot be used: {source}", directory.display())]
    Unusable {
        /// Which directory.
        directory: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

impl DataDir {
    /// Makes the directory if need be, and locks it.
    ///
    /// # Errors
    /// [`LockError`], in one line for people.
    pub fn lock(directory: &Path) -> Result<DataLock, LockError> {
        let unusable = |source| LockError::Unusable { directory: directory.to_owned(), source };
        let mut file = open(directory).map_err(unusable)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut text = String::new();
                // Only to be helpful: the holder may be about to write it.
                let pid = file.read_to_string(&mut text).ok().and_then(|_| text.trim().parse().ok());
                return Err(LockError::Held { directory: directory.to_owned(), pid });
            }
            Err(TryLockError::Error(source)) => return Err(unusable(source)),
        }
        write_pid(&mut file).map_err(unusable)?;
        Ok(DataLock { _file: file })
    }
}

fn open(directory: &Path) -> std::io::Result<File> {
    fs::create_dir_all(directory)?;
    // A new directory is only as durable as its entry in its parent.
    for directory in fs::canonicalize(directory)?.ancestors().take(2) {
        File::open(directory)?.sync_all()?;
    }
    OpenOptions::new().read(true).write(true).create(true).truncate(false).open(directory.join("lock"))
}

fn write_pid(file: &mut File) -> std::io::Result<()> {
    file.set_len(0)?;
    file.rewind()?;
    writeln!(file, "{}", std::process::id())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_server_is_refused_and_told_who_holds_it() {
        let root = tempfile::tempdir().unwrap();
        let directory = root.path().join("deep/data");
        let lock = DataDir::lock(&directory).unwrap();
        let refused = DataDir::lock(&directory).unwrap_err();
        assert!(matches!(refused, LockError::Held { pid, .. } if pid == Some(std::process::id())), "{refused}");
        assert_eq!(refused.to_string().lines().count(), 1);
        assert!(refused.to_string().contains(&format!("process {}", std::process::id())));
        drop(lock);
        DataDir::lock(&directory).unwrap();
    }

    #[test]
    fn what_is_no_directory_is_refused() {
        let file = tempfile::NamedTempFile::new().unwrap();
        assert!(matches!(DataDir::lock(file.path()), Err(LockError::Unusable { .. })));
    }
}
