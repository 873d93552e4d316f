//! Files below `out/`, hashed while they are written.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use sha2::{Digest, Sha256};

use crate::pipeline::geometry::Size;
use crate::pipeline::wire::OutFile;

/// A new file that knows its length and digest.
#[derive(Debug)]
pub struct Sink {
    file: BufWriter<Hashed>,
    name: String,
    /// Bytes taken, of which some may not be in the file yet.
    written: u64,
}

#[derive(Debug)]
struct Hashed {
    file: File,
    digest: Sha256,
    size_bytes: u64,
}

impl Write for Hashed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.digest.update(&bytes[..written]);
        self.size_bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Sink {
    /// Creates `name` below `directory`, and its folder. An existing file is an error.
    ///
    /// # Errors
    /// Of the file system.
    pub fn create(directory: &Path, name: &str) -> io::Result<Self> {
        let path = directory.join(name);
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        let hashed = Hashed { file: File::create_new(path)?, digest: Sha256::new(), size_bytes: 0 };
        Ok(Self { file: BufWriter::with_capacity(256 * 1024, hashed), name: name.to_owned(), written: 0 })
    }

    /// Bytes written so far.
    #[must_use]
    pub const fn written(&self) -> u64 {
        self.written
    }

    /// Writes what is left and tells what the file has become.
    ///
    /// # Errors
    /// Of the file system.
    pub fn finish(self, content_type: &str, size: Size) -> io::Result<OutFile> {
        let hashed = self.file.into_inner().map_err(io::IntoInnerError::into_error)?;
        Ok(OutFile {
            name: self.name,
            content_type: content_type.to_owned(),
            size_bytes: hashed.size_bytes,
            sha256: hex::encode(hashed.digest.finalize()),
            width_px: size.width_px,
            height_px: size.height_px,
        })
    }
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.written += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}
