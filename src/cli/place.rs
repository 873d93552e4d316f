//! Files that are there whole or not at all: written under a temporary name, then renamed. And room for what is worked on.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

const COPY_BYTES: usize = 256 * 1024;

/// A file under a temporary name, removed unless it is kept.
#[derive(Debug)]
pub struct Temporary {
    path: PathBuf,
    /// Where it is to be.
    pub place: PathBuf,
}

impl Drop for Temporary {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

impl Temporary {
    /// An empty file beside `place`, whose folders are made.
    pub fn create(place: &Path) -> io::Result<(Self, File)> {
        let folder = place.parent().filter(|folder| !folder.as_os_str().is_empty());
        let folder = folder.unwrap_or_else(|| Path::new("."));
        std::fs::create_dir_all(folder)?;
        let path = folder.join(format!(".inkpool-{}.tmp", uuid::Uuid::new_v4()));
        let file = File::create_new(&path)?;
        Ok((Self { path, place: place.to_owned() }, file))
    }

    /// A copy of `from`, if its bytes are those of the hash.
    pub fn write(mut from: File, sha256: &str, place: &Path) -> io::Result<Self> {
        let (temporary, mut to) = Self::create(place)?;
        let (_, found) = copy(&mut from, &mut to)?;
        if found != sha256 {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "it changed after it was checked"));
        }
        to.sync_all()?;
        Ok(temporary)
    }

    /// Gives it its name.
    pub fn keep(&self, overwrite: bool) -> io::Result<()> {
        if overwrite { std::fs::rename(&self.path, &self.place) } else { self.keep_new() }
    }

    /// Renames, but never onto a file that exists.
    fn keep_new(&self) -> io::Result<()> {
        use rustix::fs::{CWD, RenameFlags, renameat_with};
        use rustix::io::Errno;
        match renameat_with(CWD, &self.path, CWD, &self.place, RenameFlags::NOREPLACE) {
            Ok(()) => Ok(()),
            // Some file systems have no such rename: the check is all that is left.
            Err(Errno::INVAL | Errno::NOSYS) if self.place.symlink_metadata().is_err() => {
                std::fs::rename(&self.path, &self.place)
            }
            Err(Errno::INVAL | Errno::NOSYS) => Err(io::ErrorKind::AlreadyExists.into()),
            Err(error) => Err(error.into()),
        }
    }
}

/// Copies and hashes. Returns length and SHA-256, hex.
pub fn copy(mut from: impl Read, to: &mut impl Write) -> io::Result<(u64, String)> {
    let mut hash = Sha256::new();
    let mut buffer = vec![0u8; COPY_BYTES];
    let mut copied = 0u64;
    loop {
        let length = match from.read(&mut buffer) {
            Ok(0) => break,
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        let bytes = buffer.get(..length).unwrap_or_default();
        hash.update(bytes);
        to.write_all(bytes)?;
        copied += length as u64;
    }
    Ok((copied, hex::encode(hash.finalize())))
}

/// Length and SHA-256, hex.
pub fn hash(path: &Path) -> io::Result<(u64, String)> {
    copy(File::open(path)?, &mut io::sink())
}

/// A private directory that goes with this value.
pub struct Room(pub PathBuf);

impl Room {
    /// Among the temporary files, with a name that begins like this.
    pub fn create(name: &str) -> io::Result<Self> {
        use std::os::unix::fs::DirBuilderExt;
        let path = std::env::temp_dir().join(format!("{name}-{}", uuid::Uuid::new_v4()));
        std::fs::DirBuilder::new().mode(0o700).create(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        // Workers are gone by now. What cannot be removed is left to whoever cleans the temporary directory.
        let _ = crate::containers::slot_dir::remove_others(&self.0, 0);
        let _ = std::fs::remove_dir(&self.0);
    }
}
