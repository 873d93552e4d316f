//! What to work on: files as they are named, and the images below folders.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use anyhow::Context;

use crate::pipeline::probe::{SNIFF_BYTES, sniff};

/// Folders within folders: more is a mistake, or a trap.
const DEPTH_MAX: usize = 64;
/// Images of one call.
const IMAGES_MAX: usize = 1_000_000;

/// One image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Input {
    /// Where its bytes are; `None` is standard input.
    pub path: Option<PathBuf>,
    /// Its place below the folder that was named; its name, if it was named itself.
    pub below: PathBuf,
}

impl Input {
    /// For messages.
    pub fn shown(&self) -> String {
        self.path.as_ref().map_or_else(|| "-".to_owned(), |path| path.display().to_string())
    }
}

/// Replaces folders by the images in them, in the order of their names. What is named itself is taken as it is, so that
/// an error is told about it. In folders, hidden entries, links, what is no image, and what an earlier call made there are
/// left out; so is the folder `output`. What an earlier call made is told by the names of the outputs in `made`.
pub fn expand(named: &[PathBuf], output: Option<&Path>, made: &[String]) -> anyhow::Result<Vec<Input>> {
    let mut found = Vec::new();
    let search = Search { output: output.and_then(|output| output.canonicalize().ok()), made };
    for path in named {
        if path.as_os_str() == "-" {
            found.push(Input { path: None, below: PathBuf::from("stdin") });
        } else if path.is_dir() {
            search.folder(path, Path::new(""), DEPTH_MAX, &mut found).with_context(|| path.display().to_string())?;
        } else {
            let below = path.file_name().map_or_else(|| path.clone(), PathBuf::from);
            found.push(Input { path: Some(path.clone()), below });
        }
    }
    Ok(found)
}

struct Search<'a> {
    output: Option<PathBuf>,
    made: &'a [String],
}

impl Search<'_> {
    fn folder(&self, folder: &Path, below: &Path, depth: usize, found: &mut Vec<Input>) -> anyhow::Result<()> {
        anyhow::ensure!(depth > 0, "more than {DEPTH_MAX} folders within each other");
        if self.output.is_some() && folder.canonicalize().ok() == self.output {
            return Ok(());
        }
        let mut entries = std::fs::read_dir(folder)?.collect::<io::Result<Vec<_>>>()?;
        entries.sort_by_key(std::fs::DirEntry::file_name);
        for entry in entries {
            let (name, kind) = (entry.file_name(), entry.file_type()?);
            if name.as_encoded_bytes().starts_with(b".") {
                continue;
            }
            let below = below.join(&name);
            if kind.is_dir() {
                self.folder(&entry.path(), &below, depth - 1, found)?;
            } else if kind.is_file() && !self.made_here(&below) && is_image(&entry.path()) {
                anyhow::ensure!(found.len() < IMAGES_MAX, "more than {IMAGES_MAX} images");
                found.push(Input { path: Some(entry.path()), below });
            }
        }
        Ok(())
    }

    fn made_here(&self, name: &Path) -> bool {
        let name = name.as_os_str().as_encoded_bytes();
        self.made.iter().any(|output| name.ends_with(format!(".{output}").as_bytes()))
    }
}

/// Files that cannot be read count as images, so that an error is told about them.
fn is_image(path: &Path) -> bool {
    let mut head = Vec::with_capacity(SNIFF_BYTES);
    match File::open(path).and_then(|file| file.take(SNIFF_BYTES as u64).read_to_end(&mut head)) {
        Ok(_) => sniff(&head).is_ok(),
        Err(_) => true,
    }
}

/// Places below the output folder: without their endings, unless two inputs differ in nothing else.
pub fn names(inputs: &[Input]) -> Vec<PathBuf> {
    let short = |input: &Input| input.below.with_extension("");
    let place = |input: &Input| (input.path.as_ref().and_then(|path| path.parent().map(Path::to_owned)), short(input));
    let mut counts = BTreeMap::new();
    for input in inputs {
        *counts.entry(place(input)).or_insert(0u32) += 1;
    }
    inputs
        .iter()
        .map(|input| if counts.get(&place(input)) == Some(&1) { short(input) } else { input.below.clone() })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PNG: &[u8] = b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR\0\0\0\x01\0\0\0\x01\x08\0\0\0\0";

    #[test]
    fn folders_are_searched_in_order() {
        let base = tempfile::tempdir().unwrap();
        let path = |name: &str| base.path().join(name);
        std::fs::create_dir_all(path("a/deep")).unwrap();
        std::fs::create_dir_all(path("cleaned")).unwrap();
        for name in ["b.png", "a/deep/c.png", "a/z.png", ".hidden.png", "b.clean.png", "cleaned/x.png"] {
            std::fs::write(path(name), PNG).unwrap();
        }
        std::fs::write(path("notes.txt"), "no image").unwrap();
        std::os::unix::fs::symlink(path("b.png"), path("link.png")).unwrap();
        let named = [base.path().to_owned(), path("notes.txt"), PathBuf::from("-")];
        let found = expand(&named, Some(&path("cleaned")), &["clean.png".to_owned()]).unwrap();
        let below: Vec<_> = found.iter().map(|input| input.below.to_str().unwrap()).collect();
        assert_eq!(below, ["a/deep/c.png", "a/z.png", "b.png", "notes.txt", "stdin"]);
    }
}
