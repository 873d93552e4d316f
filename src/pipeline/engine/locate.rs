//! Finds the network and ONNX Runtime: where the settings say, beside the binary, or in the repository it was built in.

use std::path::{Path, PathBuf};

/// File name of the network.
pub const MODEL_FILE: &str = "denoise.onnx";
/// The library's name begins like this; a version may follow.
const RUNTIME_PREFIX: &str = "libonnxruntime.so";
/// The library of PDFium.
const PDFIUM_FILE: &str = "libpdfium.so";
/// The setting that says that no PDF shall be read.
pub const PDFIUM_OFF: &str = "off";
/// `target/debug/deps/test` lies four folders below its repository; two more leave room for a target triple.
const ANCESTORS_MAX: usize = 6;

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Located {
    /// The network.
    pub model: PathBuf,
    /// Its expected SHA-256, hex, from the file beside it.
    pub model_sha256: String,
    /// The shared library of ONNX Runtime.
    pub onnxruntime: PathBuf,
    /// The shared library of PDFium. Without it no PDF is read.
    pub pdfium: Option<PathBuf>,
}

/// What was not found, and where it was looked for.
#[derive(Debug, thiserror::Error)]
pub enum LocateError {
    /// No network.
    #[error("{MODEL_FILE} was not found in {looked_in}; set models.directory")]
    Model {
        /// Folders, comma separated.
        looked_in: String,
    },
    /// The network has no readable digest beside it.
    #[error("{path} does not hold a SHA-256")]
    Digest {
        /// Where it should be.
        path: PathBuf,
    },
    /// No ONNX Runtime.
    #[error("{RUNTIME_PREFIX} was not found in {looked_in}; run scripts/setup or set models.onnxruntime")]
    Runtime {
        /// Folders, comma separated.
        looked_in: String,
    },
    /// No PDFium where the settings say.
    #[error(
        "{PDFIUM_FILE} was not found in {looked_in}; run scripts/setup and leave models.pdfium empty, or correct it"
    )]
    Pdfium {
        /// The setting.
        looked_in: String,
    },
    /// The path of this program is unknown.
    #[error("the path of this program is unknown: {0}")]
    Program(#[from] std::io::Error),
}

/// Finds the network and ONNX Runtime, and PDFium if it is there. The settings are a folder, and for the libraries also a
/// file; empty means: look for it.
///
/// # Errors
/// [`LocateError`] naming the folders.
pub fn find(models_directory: &str, onnxruntime: &str, pdfium: &str) -> Result<Located, LocateError> {
    let program = std::env::current_exe()?;
    Ok(Located { pdfium: pdfium_from(&program, pdfium)?, ..find_from(&program, models_directory, onnxruntime)? })
}

/// Finds PDFium. `off` says that none shall be used. Another setting that leads nowhere is an error; without one it may be
/// missing.
///
/// # Errors
/// [`LocateError::Pdfium`].
pub fn find_pdfium(pdfium: &str) -> Result<Option<PathBuf>, LocateError> {
    pdfium_from(&std::env::current_exe()?, pdfium)
}

fn pdfium_from(program: &Path, setting: &str) -> Result<Option<PathBuf>, LocateError> {
    if setting == PDFIUM_OFF {
        return Ok(None);
    }
    let folders = folders(setting, &around(program), &["lib", "vendor/pdfium/lib"]);
    let named = Path::new(setting);
    let mut found = folders.iter().map(|folder| folder.join(PDFIUM_FILE)).filter(|path| path.is_file());
    match found.next().or_else(|| named.is_file().then(|| named.to_owned())) {
        None if !setting.is_empty() => Err(LocateError::Pdfium { looked_in: setting.to_owned() }),
        found => Ok(found),
    }
}

fn around(program: &Path) -> Vec<&Path> {
    program.ancestors().skip(1).take(ANCESTORS_MAX).collect()
}

fn find_from(program: &Path, models_directory: &str, onnxruntime: &str) -> Result<Located, LocateError> {
    let around = around(program);
    let model_folders = folders(models_directory, &around, &["models"]);
    let model = model_folders
        .iter()
        .map(|folder| folder.join(MODEL_FILE))
        .find(|path| path.is_file())
        .ok_or_else(|| LocateError::Model { looked_in: listed(&model_folders) })?;
    let model_sha256 = read_digest(&model)?;
    let runtime_file = Path::new(onnxruntime);
    let onnxruntime = if !onnxruntime.is_empty() && runtime_file.is_file() {
        runtime_file.to_owned()
    } else {
        let runtime_folders = folders(onnxruntime, &around, &["lib", "vendor/onnxruntime/lib"]);
        runtime_folders
            .iter()
            .find_map(|folder| library_in(folder))
            .ok_or_else(|| LocateError::Runtime { looked_in: listed(&runtime_folders) })?
    };
    Ok(Located { model, model_sha256, onnxruntime, pdfium: None })
}

fn folders(setting: &str, around: &[&Path], below: &[&str]) -> Vec<PathBuf> {
    if !setting.is_empty() {
        return vec![PathBuf::from(setting)];
    }
    around.iter().flat_map(|folder| below.iter().map(|name| folder.join(name))).collect()
}

fn listed(folders: &[PathBuf]) -> String {
    folders.iter().map(|folder| folder.display().to_string()).collect::<Vec<_>>().join(", ")
}

fn read_digest(model: &Path) -> Result<String, LocateError> {
    let mut name = model.as_os_str().to_owned();
    name.push(".sha256");
    let path = PathBuf::from(name);
    let text = std::fs::read_to_string(&path).unwrap_or_default();
    // The format of sha256sum: digest, spaces, file name.
    let digest = text.split_whitespace().next().unwrap_or_default().to_ascii_lowercase();
    let is_digest = digest.len() == 64 && digest.bytes().all(|byte| byte.is_ascii_hexdigit());
    if is_digest { Ok(digest) } else { Err(LocateError::Digest { path }) }
}

/// The library in a folder; of several versions the one whose name sorts last.
fn library_in(folder: &Path) -> Option<PathBuf> {
    let entries = std::fs::read_dir(folder).ok()?;
    let names = entries.filter_map(Result::ok).map(|entry| entry.path());
    names
        .filter(|path| path.file_name().and_then(|name| name.to_str()).is_some_and(|n| n.starts_with(RUNTIME_PREFIX)))
        .filter(|path| path.is_file())
        .max()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn deployment() -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for folder in ["models", "vendor/onnxruntime/lib", "target/release"] {
            std::fs::create_dir_all(root.path().join(folder)).unwrap();
        }
        std::fs::write(root.path().join("models/denoise.onnx"), "x").unwrap();
        let digest = format!("{}  denoise.onnx\n", "A".repeat(64));
        std::fs::write(root.path().join("models/denoise.onnx.sha256"), digest).unwrap();
        std::fs::write(root.path().join("vendor/onnxruntime/lib/libonnxruntime.so.1.31.1"), "x").unwrap();
        root
    }

    #[test]
    fn finds_what_lies_in_the_repository_above_the_binary() {
        let root = deployment();
        let found = find_from(&root.path().join("target/release/inkpool"), "", "").unwrap();
        assert_eq!(found.model, root.path().join("models/denoise.onnx"));
        assert_eq!(found.model_sha256, "a".repeat(64));
        assert_eq!(found.onnxruntime, root.path().join("vendor/onnxruntime/lib/libonnxruntime.so.1.31.1"));
    }

    #[test]
    fn settings_win_and_are_not_searched_beyond() {
        let root = deployment();
        let program = root.path().join("target/release/inkpool");
        let empty = root.path().join("target");
        let error = find_from(&program, &empty.display().to_string(), "").unwrap_err();
        assert!(matches!(error, LocateError::Model { .. }), "{error}");
        let file = root.path().join("vendor/onnxruntime/lib/libonnxruntime.so.1.31.1");
        assert_eq!(find_from(&program, "", &file.display().to_string()).unwrap().onnxruntime, file);
    }

    #[test]
    fn pdfium_may_be_missing_unless_it_is_named() {
        let root = deployment();
        let program = root.path().join("target/release/inkpool");
        assert_eq!(pdfium_from(&program, "").unwrap(), None);
        let file = root.path().join("vendor/pdfium/lib/libpdfium.so");
        assert!(matches!(pdfium_from(&program, &file.display().to_string()), Err(LocateError::Pdfium { .. })));
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(&file, "x").unwrap();
        for setting in ["".to_owned(), file.display().to_string(), file.parent().unwrap().display().to_string()] {
            assert_eq!(pdfium_from(&program, &setting).unwrap().as_ref(), Some(&file), "{setting}");
        }
        assert_eq!(pdfium_from(&program, PDFIUM_OFF).unwrap(), None);
    }

    #[test]
    fn a_network_without_digest_is_not_used() {
        let root = deployment();
        std::fs::write(root.path().join("models/denoise.onnx.sha256"), "none").unwrap();
        let error = find_from(&root.path().join("target/release/inkpool"), "", "").unwrap_err();
        assert!(matches!(error, LocateError::Digest { .. }), "{error}");
    }
}
