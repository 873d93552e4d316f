//! Bytes that programs outside have put below `incoming/<owner>/`: read once, never trusted to stay as they are.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use futures::stream::StreamExt;
use object_store::GetOptions;
use object_store::path::Path;
use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags};
use tokio_util::io::ReaderStream;

use super::{BlobError, Blobs, Key, ObjectBytes, from_io, from_store};
use crate::job::OwnerId;

/// The directory at the top.
pub(super) const INCOMING: &str = "incoming";
/// Longest key, bytes.
const KEY_BYTES_MAX: usize = 512;
/// Bytes of one chunk of a stream.
const CHUNK_BYTES: usize = 128 << 10;

impl Key {
    /// The key of an object that a program has put for `owner`. `None` unless it is `incoming/<owner>/` and then names of letters,
    /// digits, dots, dashes and underscores, none of them `.` or `..`: such a name is the same on a disk, in a bucket and in
    /// a header.
    #[must_use]
    pub fn incoming(owner: OwnerId, object_key: &str) -> Option<Self> {
        let name = object_key.strip_prefix(&format!("{INCOMING}/{owner}/"))?;
        let is_plain = |part: &str| {
            let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
            !part.is_empty() && part != "." && part != ".." && part.bytes().all(plain)
        };
        let fits = object_key.len() <= KEY_BYTES_MAX && name.split('/').all(is_plain);
        fits.then(|| Self::Incoming { owner, name: name.to_owned() })
    }
}

impl Blobs {
    /// An object that a program outside has put. On a disk it must be a regular file with one name, reached without a link.
    ///
    /// # Errors
    /// [`BlobError::NotFound`], also for what is no such file; [`BlobError::Unavailable`].
    pub async fn get_incoming(&self, owner: OwnerId, name: &str) -> Result<ObjectBytes, BlobError> {
        let key = Key::Incoming { owner, name: name.to_owned() };
        let Some(local) = &self.local else { return self.get_path(&key.path(), GetOptions::default()).await };
        self.in_reach()?;
        let root = local.path_to_filesystem(&Path::from(INCOMING)).map_err(from_store)?;
        let below = format!("{owner}/{name}");
        let opened = tokio::task::spawn_blocking(move || open_beneath(&root, &below)).await;
        let opened = opened.map_err(|error| BlobError::Unavailable(error.to_string()))?;
        let (file, size_bytes) = opened.map_err(|error| from_io(&error))?.ok_or(BlobError::NotFound)?;
        let file = tokio::io::AsyncReadExt::take(tokio::fs::File::from_std(file), size_bytes);
        let stream = ReaderStream::with_capacity(file, CHUNK_BYTES).boxed();
        Ok(ObjectBytes { size_bytes, range: 0..size_bytes, stream })
    }
}

/// The file and its length; `None` where there is nothing that may be read.
fn open_beneath(root: &std::path::Path, below: &str) -> io::Result<Option<(std::fs::File, u64)>> {
    let directory = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root: OwnedFd = rustix::fs::openat(CWD, root, directory, Mode::empty())?;
    // Not blocking: to open a pipe would wait for whoever writes into it.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let opened = match rustix::fs::openat2(root.as_fd(), below, flags, Mode::empty(), resolve) {
        Ok(opened) => opened,
        Err(error) => {
            use rustix::io::Errno;
            // Nothing there, a link on the way, a file where a directory should be, a socket.
            let nothing = [Errno::NOENT, Errno::LOOP, Errno::XDEV, Errno::NOTDIR, Errno::NXIO, Errno::NAMETOOLONG];
            return if nothing.contains(&error) { Ok(None) } else { Err(error.into()) };
        }
    };
    let facts = rustix::fs::fstat(&opened)?;
    let is_plain = FileType::from_raw_mode(facts.st_mode) == FileType::RegularFile && facts.st_nlink == 1;
    let size_bytes = u64::try_from(facts.st_size).unwrap_or(0);
    Ok(is_plain.then(|| (std::fs::File::from(opened), size_bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_lead_nowhere_else() {
        let owner = OwnerId::LOCAL;
        let key = |rest: &str| Key::incoming(owner, &format!("incoming/{owner}/{rest}"));
        for good in ["a", "2026/11/scan-1_a.PNG", "..a", "a..b", "-"] {
            let key = key(good).unwrap();
            assert_eq!(key.path().as_ref(), format!("incoming/{owner}/{good}"));
            assert_eq!(Key::parse(&key.path()), Some(key));
        }
        for bad in [
            "", "/", "a/", "/a", "a//b", ".", "..", "../x", "a/../b", "a/./b", "a b", "a%2e", "a\\b", "é", "a\n", "a#1",
        ] {
            assert_eq!(key(bad), None, "{bad:?}");
        }
        assert_eq!(key(&"a".repeat(600)), None);
        for other in ["incoming/x/a", "img/a", "/incoming/a", &format!("incoming/{}/a", OwnerId::fresh())] {
            assert_eq!(Key::incoming(owner, other), None, "{other}");
        }
    }

    #[tokio::test]
    async fn on_a_disk_only_plain_files_are_read() {
        use futures::TryStreamExt;
        let directory = tempfile::tempdir().unwrap();
        let settings = crate::config::Config::defaults().unwrap().blobs;
        let blobs = Blobs::local(&settings, directory.path()).unwrap();
        let owner = OwnerId::LOCAL;
        let folder = directory.path().join("incoming").join(owner.to_string());
        std::fs::create_dir_all(folder.join("deep")).unwrap();
        std::fs::write(folder.join("deep/a"), b"bytes").unwrap();
        let object = blobs.get_incoming(owner, "deep/a").await.unwrap();
        assert_eq!(object.size_bytes, 5);
        assert_eq!(object.stream.try_collect::<Vec<_>>().await.unwrap().concat(), b"bytes");

        std::fs::write(directory.path().join("secret"), b"not yours").unwrap();
        std::os::unix::fs::symlink(directory.path().join("secret"), folder.join("link")).unwrap();
        std::os::unix::fs::symlink(directory.path(), folder.join("out")).unwrap();
        std::fs::hard_link(directory.path().join("secret"), folder.join("twin")).unwrap();
        rustix::fs::mknodat(CWD, folder.join("pipe"), FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        for name in ["link", "out/secret", "twin", "pipe", "deep", "none", "deep/a/b"] {
            let got = blobs.get_incoming(owner, name).await;
            assert!(matches!(got, Err(BlobError::NotFound)), "{name}: {:?}", got.map(|object| object.size_bytes));
        }
        blobs.delete(&Key::Incoming { owner, name: "deep/a".to_owned() }).await.unwrap();
        assert!(folder.join("deep").is_dir(), "directories of others stay");
    }
}
