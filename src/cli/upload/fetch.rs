//! Results come back into a folder that mirrors what was uploaded.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Component, Path, PathBuf};

use http_client::Method;
use serde::Deserialize;
use sha2::{Digest, Sha256};

use super::report::Written;
use super::{Batch, Input};
use crate::cli::inputs::names;
use crate::cli::place::{Temporary, hash};
use crate::cli::remote::RemoteError;
use crate::job::ImageId;

/// The upload itself, which is there already.
pub const ORIGINAL: &str = "original";
/// Files of one image: 200 pages with a handful each.
const FILES_MAX: usize = 10_000;

/// What was fetched of one image.
pub struct Fetched {
    /// Each file.
    pub files: Vec<Written>,
    /// Holds them all.
    pub folder: PathBuf,
}

#[derive(Debug, Deserialize)]
struct ImageFiles {
    files: Vec<RemoteFile>,
}

#[derive(Debug, Clone, Deserialize)]
struct RemoteFile {
    name: String,
    size_bytes: u64,
    sha256: String,
}

/// The folder for the results of each input; no two share one.
pub fn places(inputs: &[Input], out: Option<&Path>) -> Result<Vec<Option<PathBuf>>, String> {
    let Some(out) = out else { return Ok(vec![None; inputs.len()]) };
    let mut taken: BTreeMap<PathBuf, String> = BTreeMap::new();
    let mut places = Vec::with_capacity(inputs.len());
    for (input, name) in inputs.iter().zip(names(inputs)) {
        let place = out.join(name);
        if let Some(other) = taken.insert(place.clone(), input.shown()) {
            return Err(format!("{other} and {} would both be written to {}", input.shown(), place.display()));
        }
        places.push(Some(place));
    }
    Ok(places)
}

impl Batch<'_> {
    /// Fetches all files of an image but the original.
    pub(super) async fn fetch(&self, image: ImageId, folder: &Path) -> Result<Fetched, RemoteError> {
        let _place = self.fetching.acquire().await.map_err(|error| RemoteError::Failed(error.to_string()))?;
        let listed: ImageFiles = self.server.get(self.url(["images", &image.to_string()], &[])).await?;
        if listed.files.len() > FILES_MAX {
            return Err(RemoteError::Failed(format!("the image has more than {FILES_MAX} files")));
        }
        let mut files = Vec::new();
        for file in listed.files.into_iter().filter(|file| file.name != ORIGINAL) {
            let place = below(folder, &file.name).ok_or_else(|| {
                RemoteError::Failed("a file of the server has a name that leads elsewhere".to_owned())
            })?;
            if !self.is_there(&file, &place).await? {
                self.server.again_while_it_helps(async || self.fetch_once(image, &file, &place).await).await?;
            }
            files.push(Written { path: place, name: file.name, size_bytes: file.size_bytes, sha256: file.sha256 });
        }
        Ok(Fetched { files, folder: folder.to_owned() })
    }

    /// Whether an earlier call has fetched it. Another file of that name is an error, unless it may be replaced.
    async fn is_there(&self, file: &RemoteFile, place: &Path) -> Result<bool, RemoteError> {
        let looked = place.to_owned();
        let found = tokio::task::spawn_blocking(move || {
            if looked.symlink_metadata().is_err() { Ok(None) } else { hash(&looked).map(Some) }
        });
        let found = found.await.unwrap_or_else(|error| Err(std::io::Error::other(error)));
        match found.map_err(|error| at(place, &error))? {
            None => Ok(false),
            Some((_, sha256)) if sha256 == file.sha256 => Ok(true),
            Some(_) if self.args.overwrite => Ok(false),
            Some(_) => Err(RemoteError::Failed(format!("{} exists; --overwrite replaces it", place.display()))),
        }
    }

    async fn fetch_once(&self, image: ImageId, file: &RemoteFile, place: &Path) -> Result<(), RemoteError> {
        let image = image.to_string();
        let path = ["images", &image, "files"].into_iter().chain(file.name.split('/'));
        let request = self.server.request(Method::GET, self.url(path, &[]));
        let silent = |_| self.server.unreachable("it has fallen silent");
        let answered = tokio::time::timeout(super::super::remote::SILENCE_MAX, self.server.send_once(request)).await;
        let mut response = answered.map_err(silent)??;
        let unwritable = |error: std::io::Error| at(place, &error);
        let (temporary, mut to) = Temporary::create(place).map_err(unwritable)?;
        let (mut hash, mut left) = (Sha256::new(), file.size_bytes);
        while let Some(piece) = self.server.piece(&mut response).await? {
            left = left.checked_sub(piece.len() as u64).ok_or_else(|| changed(file))?;
            hash.update(&piece);
            to.write_all(&piece).map_err(unwritable)?;
        }
        if left > 0 || hex::encode(hash.finalize()) != file.sha256 {
            return Err(changed(file));
        }
        to.sync_all().and_then(|()| temporary.keep(self.args.overwrite)).map_err(unwritable)
    }
}

fn at(place: &Path, error: &std::io::Error) -> RemoteError {
    RemoteError::Failed(format!("{}: {error}", place.display()))
}

fn changed(file: &RemoteFile) -> RemoteError {
    RemoteError::Failed(format!("{} is not what the server had listed; process it again?", file.name))
}

/// The place of a file, unless its name leads out of the folder.
fn below(folder: &Path, name: &str) -> Option<PathBuf> {
    let path = Path::new(name);
    let is_plain = |part: Component<'_>| {
        matches!(part, Component::Normal(part) if part.to_str().is_some_and(|part| {
            !part.starts_with('.') && !part.chars().any(char::is_control)
        }))
    };
    (!name.is_empty() && path.components().all(is_plain)).then(|| folder.join(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_leads_out_of_the_folder() {
        let folder = Path::new("out");
        assert_eq!(below(folder, "p0002/clean.png"), Some(PathBuf::from("out/p0002/clean.png")));
        for name in ["", "/etc/passwd", "../x", "a/../../x", ".bashrc", "a/.ssh/x", "a\nb", "."] {
            assert_eq!(below(folder, name), None, "{name:?}");
        }
    }
}
