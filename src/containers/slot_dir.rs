//! The directory of one slot: `in/` and `out/`, emptied and checked between jobs.
//!
//! `in/` and `out/` themselves stay as long as the worker lives: its Landlock rules are bound to these two directories,
//! not to their names. What a worker left in them is hostile until proven otherwise: nothing here follows a link, and
//! no depth of folders costs stack or descriptors.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, RawMode};

use super::RuntimeError;

/// The directory's part that the worker reads.
pub const INPUT: &str = "in";
/// The directory's part that the worker writes.
pub const OUTPUT: &str = "out";

const PRIVATE: RawMode = 0o700;
/// Of the two parts and the input where another user must reach them; the directory above keeps everybody else out.
const READABLE: RawMode = 0o755;
const WRITABLE: RawMode = 0o777;
const READABLE_FILE: RawMode = 0o644;
/// Entries of a directory that are looked at in one go: a worker may have made millions.
const LISTED_MAX: usize = 1000;
/// Listings after which emptying is given up: somebody must still be writing. More than a worker can make folders within
/// its deadline.
const LISTINGS_MAX: u32 = 10_000_000;

/// The directory of one slot.
#[derive(Debug, Clone)]
pub struct SlotDir {
    path: PathBuf,
    for_other_user: bool,
}

impl SlotDir {
    /// The directory of slot `slot` below `slots`, which is `<data>/slots/<node>`. Nothing is created yet.
    #[must_use]
    pub fn new(slots: &Path, slot: u32) -> Self {
        Self { path: slots.join(slot.to_string()), for_other_user: false }
    }

    /// Whether the worker is another user than this process, and gets its two parts as mounts.
    #[must_use]
    pub fn for_other_user(self, for_other_user: bool) -> Self {
        Self { for_other_user, ..self }
    }

    /// What a [`super::StartOrder`] names.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Path of the input `name`.
    #[must_use]
    pub fn input(&self, name: &str) -> PathBuf {
        self.path.join(INPUT).join(name)
    }

    /// Makes the directory if it is not there, empties it, and checks that it is private, real and empty.
    /// Blocks: run it where that is allowed.
    ///
    /// # Errors
    /// [`RuntimeError::Directory`]: the slot must not be used.
    pub fn prepare(&self) -> Result<(), RuntimeError> {
        std::fs::create_dir_all(&self.path).map_err(|error| self.error("cannot be made", &error))?;
        let open = |mode: RawMode| if self.for_other_user { mode } else { PRIVATE };
        for (part, mode) in [(".", PRIVATE), (INPUT, open(READABLE)), (OUTPUT, open(WRITABLE))] {
            make(&self.path.join(part), mode).map_err(|error| self.error(part, &error))?;
        }
        self.clear()
    }

    /// Empties `in/` and `out/` and checks that they are empty. Blocks.
    ///
    /// # Errors
    /// [`RuntimeError::Directory`]: the slot must not be used again before [`Self::prepare`] succeeds.
    pub fn clear(&self) -> Result<(), RuntimeError> {
        for part in [INPUT, OUTPUT] {
            let path = self.path.join(part);
            empty(&path).map_err(|error| self.error(part, &error))?;
        }
        Ok(())
    }

    /// Removes the directory. No worker may use it any more. Blocks.
    ///
    /// # Errors
    /// Of the file system.
    pub fn remove(&self) -> io::Result<()> {
        match open_directory(CWD, &self.path) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        }
        empty(&self.path)?;
        std::fs::remove_dir(&self.path)
    }

    /// Creates the input `name`, which must not be there.
    ///
    /// # Errors
    /// Of the file system.
    pub fn create_input(&self, name: &str) -> io::Result<std::fs::File> {
        let folder = open_directory(CWD, self.path.join(INPUT))?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(rustix::fs::openat(folder, name, flags, Mode::RUSR | Mode::WUSR)?.into())
    }

    /// Lets the worker read the input `name`, if it is another user.
    ///
    /// # Errors
    /// Of the file system.
    pub fn show_input(&self, name: &str) -> io::Result<()> {
        if !self.for_other_user {
            return Ok(());
        }
        let folder = open_directory(CWD, self.path.join(INPUT))?;
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::openat(folder, name, flags, Mode::empty())?;
        Ok(rustix::fs::fchmod(file, Mode::from_raw_mode(READABLE_FILE))?)
    }

    fn error(&self, what: &str, error: &dyn std::fmt::Display) -> RuntimeError {
        RuntimeError::Directory(format!("{}: {what}: {error}", self.path.display()))
    }
}

/// Removes the directories of slots `from` and above, and of other shapes, below `slots`. Blocks. Returns how many.
///
/// # Errors
/// Of the file system. No worker may use them any more.
pub fn remove_others(slots: &Path, from: u32) -> io::Result<u64> {
    let folder = match open_directory(CWD, slots) {
        Ok(folder) => folder,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        Err(error) => return Err(error),
    };
    let mut removed = 0;
    for (name, kind) in entries(&folder)? {
        let wanted = name.to_str().ok().and_then(|name| name.parse::<u32>().ok()).is_some_and(|slot| slot < from);
        if wanted && kind == FileType::Directory {
            continue;
        }
        if kind == FileType::Directory {
            let inner = open_directory(&folder, name.as_c_str())?;
            empty_open(&inner)?;
            rustix::fs::unlinkat(&folder, name.as_c_str(), AtFlags::REMOVEDIR)?;
        } else {
            rustix::fs::unlinkat(&folder, name.as_c_str(), AtFlags::empty())?;
        }
        removed += 1;
    }
    Ok(removed)
}

/// Makes a directory, or checks the one that is there.
fn make(path: &Path, mode: RawMode) -> io::Result<()> {
    match rustix::fs::mkdir(path, Mode::from_raw_mode(mode)) {
        Ok(()) | Err(rustix::io::Errno::EXIST) => {}
        Err(error) => return Err(error.into()),
    }
    let directory = open_directory(CWD, path)?;
    // The creation mask may have taken more than it should, or an older release given less.
    rustix::fs::fchmod(&directory, Mode::from_raw_mode(mode))?;
    let found = rustix::fs::fstat(&directory)?;
    if found.st_uid != rustix::process::geteuid().as_raw() {
        return Err(io::Error::other(format!("belongs to user {}", found.st_uid)));
    }
    Ok(())
}

/// Empties a directory and checks that it is empty then.
fn empty(path: &Path) -> io::Result<()> {
    let folder = open_directory(CWD, path)?;
    empty_open(&folder)?;
    if entries(&folder)?.is_empty() { Ok(()) } else { Err(io::Error::other("something is writing into it")) }
}

/// Removes everything below an open directory. Goes down and up again with one descriptor, so that neither stack nor
/// descriptors grow with depth; on the way up it checks that it comes to where it came from.
fn empty_open(top: &OwnedFd) -> io::Result<()> {
    let mut here = rustix::io::fcntl_dupfd_cloexec(top, 0)?;
    let mut above = Vec::new();
    for _ in 0..LISTINGS_MAX {
        let found = entries(&here)?;
        if found.is_empty() {
            let Some(parent) = above.pop() else { return Ok(()) };
            here = open_directory(&here, "..")?;
            if identity(&here)? != parent {
                return Err(io::Error::other("a folder was moved while it was emptied"));
            }
        } else if let Some(full) = remove_entries(&here, &found)? {
            let below = open_directory(&here, full)?;
            above.push(identity(&here)?);
            here = below;
        }
    }
    Err(io::Error::other("it does not become empty"))
}

/// Removes files and empty folders up to the first folder that is not empty, which is returned.
fn remove_entries<'a>(folder: &OwnedFd, found: &'a [(CString, FileType)]) -> io::Result<Option<&'a CStr>> {
    for (name, kind) in found {
        let flags = if *kind == FileType::Directory { AtFlags::REMOVEDIR } else { AtFlags::empty() };
        match rustix::fs::unlinkat(folder, name.as_c_str(), flags) {
            Ok(()) => {}
            Err(rustix::io::Errno::NOTEMPTY) => return Ok(Some(name)),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(None)
}

/// Device and number of an open directory.
fn identity(folder: &OwnedFd) -> io::Result<(u64, u64)> {
    let facts = rustix::fs::fstat(folder)?;
    Ok((facts.st_dev, facts.st_ino))
}

/// Opens a directory, never through a link.
pub(super) fn open_directory(at: impl AsFd, path: impl rustix::path::Arg) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(at, path, flags, Mode::empty())?)
}

/// The first [`LISTED_MAX`] names and kinds in a directory, without `.` and `..`. Kinds are of the entries themselves, not of what they link to.
pub(super) fn entries(folder: &OwnedFd) -> io::Result<Vec<(CString, FileType)>> {
    let mut found = Vec::new();
    for entry in Dir::read_from(folder)? {
        let entry = entry?;
        if found.len() == LISTED_MAX {
            break;
        }
        let name = entry.file_name();
        if name == c"." || name == c".." {
            continue;
        }
        let mut kind = entry.file_type();
        if kind == FileType::Unknown {
            let facts = rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW)?;
            kind = FileType::from_raw_mode(facts.st_mode);
        }
        found.push((name.to_owned(), kind));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn slot() -> (tempfile::TempDir, SlotDir) {
        let base = tempfile::tempdir().unwrap();
        let slot = SlotDir::new(&base.path().join("slots"), 3);
        slot.prepare().unwrap();
        (base, slot)
    }

    #[test]
    fn it_is_private_and_empty() {
        let (_base, slot) = slot();
        for part in [".", "in", "out"] {
            let path = slot.path().join(part);
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o700);
        }
        fs::set_permissions(slot.path().join("out"), fs::Permissions::from_mode(0o777)).unwrap();
        fs::write(slot.path().join("in/input"), b"x").unwrap();
        slot.prepare().unwrap();
        assert_eq!(fs::metadata(slot.path().join("out")).unwrap().permissions().mode() & 0o7777, 0o700);
        assert_eq!(fs::read_dir(slot.path().join("in")).unwrap().count(), 0);
    }

    #[test]
    fn links_are_removed_not_followed() {
        let (base, slot) = slot();
        let outside = base.path().join("outside");
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("kept"), b"x").unwrap();
        symlink(&outside, slot.path().join("out/folder")).unwrap();
        symlink(outside.join("kept"), slot.path().join("out/file")).unwrap();
        slot.clear().unwrap();
        assert!(outside.join("kept").exists());
        assert_eq!(fs::read_dir(slot.path().join("out")).unwrap().count(), 0);
    }

    #[test]
    fn a_link_in_place_of_a_part_is_refused() {
        let (base, slot) = slot();
        let outside = base.path().join("outside");
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("kept"), b"x").unwrap();
        fs::remove_dir(slot.path().join("out")).unwrap();
        symlink(&outside, slot.path().join("out")).unwrap();
        assert!(matches!(slot.prepare(), Err(RuntimeError::Directory(_))));
        assert!(slot.clear().is_err());
        assert!(outside.join("kept").exists());
    }

    #[test]
    fn the_parts_keep_their_identity() {
        use std::os::unix::fs::MetadataExt;
        let (_base, slot) = slot();
        let before = fs::metadata(slot.path().join("out")).unwrap().ino();
        fs::write(slot.path().join("out/clean.png"), b"x").unwrap();
        slot.clear().unwrap();
        assert_eq!(fs::metadata(slot.path().join("out")).unwrap().ino(), before);
    }

    #[test]
    fn depth_costs_nothing() {
        let (_base, slot) = slot();
        // Far deeper than a path can name, and than a stack could recurse on a small thread.
        let mut folder = open_directory(CWD, slot.path().join("out")).unwrap();
        for _ in 0..500 {
            rustix::fs::mkdirat(&folder, "a-folder-x", Mode::from_raw_mode(0o700)).unwrap();
            folder = open_directory(&folder, "a-folder-x").unwrap();
        }
        drop(folder);
        let small = std::thread::Builder::new().stack_size(64 * 1024);
        let slot_there = slot.clone();
        small.spawn(move || slot_there.clear().unwrap()).unwrap().join().unwrap();
        assert_eq!(fs::read_dir(slot.path().join("out")).unwrap().count(), 0);
    }

    #[test]
    fn many_files_are_removed() {
        let (_base, slot) = slot();
        for part in ["out", "out/p0001"] {
            fs::create_dir_all(slot.path().join(part)).unwrap();
            for number in 0..2 * LISTED_MAX + 5 {
                fs::write(slot.path().join(part).join(number.to_string()), b"").unwrap();
            }
        }
        slot.clear().unwrap();
        assert_eq!(fs::read_dir(slot.path().join("out")).unwrap().count(), 0);
    }

    #[test]
    fn others_are_removed() {
        let (base, slot) = slot();
        let slots = base.path().join("slots");
        fs::create_dir_all(slots.join("7/in/deep")).unwrap();
        fs::write(slots.join("leftover"), b"x").unwrap();
        assert_eq!(remove_others(&slots, 4).unwrap(), 2);
        assert!(slot.path().exists());
        slot.remove().unwrap();
        slot.remove().unwrap();
        assert!(!slot.path().exists());
        assert_eq!(remove_others(&base.path().join("nothing"), 4).unwrap(), 0);
    }

    #[test]
    fn an_input_is_made_once() {
        let (_base, slot) = slot();
        slot.create_input("input").unwrap();
        assert_eq!(fs::metadata(slot.input("input")).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(slot.create_input("input").unwrap_err().kind(), io::ErrorKind::AlreadyExists);
    }
}
