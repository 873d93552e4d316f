//! A small disk of its own below a directory, that can be filled.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Some pages at once fit.
const SIZE: &str = "size=8m";

/// Unmounted with the value.
pub struct Disk {
    path: PathBuf,
}

impl Disk {
    /// Needs root.
    pub fn mount(path: &Path) -> Self {
        std::fs::create_dir_all(path).unwrap();
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", SIZE, "tmpfs"]).arg(path).output().unwrap();
        assert!(mounted.status.success(), "{mounted:?}");
        Self { path: path.to_owned() }
    }

    /// Until not a byte is free.
    pub fn fill(&self) {
        let mut file = std::fs::File::create(self.path.join("filler")).unwrap();
        let block = vec![1; 4096];
        while std::io::Write::write_all(&mut file, &block).is_ok() {}
    }

    pub fn free(&self) {
        std::fs::remove_file(self.path.join("filler")).unwrap();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.path).status();
    }
}
