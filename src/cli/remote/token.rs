//! Tokens kept in a file, one for each server, as `.netrc` keeps passwords.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use http_client::Url;

use super::RemoteError;

/// Below the home directory.
const USUAL_PLACE: &str = ".config/inkpool/tokens";
/// A line for each server: this is a thousand of them.
const FILE_BYTES_MAX: u64 = 128 * 1024;
/// Permissions of everybody but the owner.
const OTHERS: u32 = 0o077;

/// The token for this server in the named file, or in the usual one, which need not be there.
pub fn find(named: Option<&Path>, server: &Url) -> Result<Option<String>, RemoteError> {
    let usual = || std::env::home_dir().map(|home| home.join(USUAL_PLACE));
    let Some(path) = named.map(PathBuf::from).or_else(usual) else { return Ok(None) };
    let unreadable = |error: std::io::Error| RemoteError::Usage(format!("{}: {error}", path.display()));
    let file = match File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && named.is_none() => return Ok(None),
        Err(error) => return Err(unreadable(error)),
    };
    check(&file, &path)?;
    let mut text = String::new();
    file.take(FILE_BYTES_MAX).read_to_string(&mut text).map_err(unreadable)?;
    look_up(&text, server).map_err(|why| RemoteError::Usage(format!("{}: {why}", path.display())))
}

/// Refuses a file that others can read, or could have written.
fn check(file: &File, path: &Path) -> Result<(), RemoteError> {
    let wrong = |why: String| Err(RemoteError::Usage(format!("{}: {why}", path.display())));
    let facts = match file.metadata() {
        Ok(facts) => facts,
        Err(error) => return wrong(error.to_string()),
    };
    if !facts.is_file() {
        return wrong("is no file".to_owned());
    }
    if facts.mode() & OTHERS != 0 {
        let mode = facts.mode() & 0o777;
        return wrong(format!("has mode {mode:04o}, so others may read the tokens; chmod 600 {}", path.display()));
    }
    let owner = facts.uid();
    if owner != rustix::process::geteuid().as_raw() {
        return wrong(format!("belongs to user {owner}, not to you"));
    }
    Ok(())
}

/// `machine HOST[:PORT] token SECRET`, in words; what follows a `#` at the start of a word is a comment.
fn look_up(text: &str, server: &Url) -> Result<Option<String>, String> {
    let host = server.host_str().unwrap_or_default();
    let port = server.port_or_known_default().unwrap_or_default();
    let with_port = format!("{host}:{port}");
    let (mut found, mut exact) = (None, false);
    let mut machine: Option<&str> = None;
    let mut words = text.lines().flat_map(|line| line.split_whitespace().take_while(|word| !word.starts_with('#')));
    while let Some(word) = words.next() {
        let value = words.next().ok_or_else(|| format!("there is nothing after the last `{}`", printed(word)))?;
        match word {
            "machine" => machine = Some(value),
            // As `.netrc` calls them; a name is not needed here.
            "login" | "account" => {}
            "token" | "password" => match machine {
                None => return Err("a token stands before the first `machine`".to_owned()),
                Some(machine) if machine.eq_ignore_ascii_case(&with_port) => {
                    (found, exact) = (Some(value.to_owned()), true);
                }
                Some(machine) if !exact && machine.eq_ignore_ascii_case(host) => found = Some(value.to_owned()),
                Some(_) => {}
            },
            _ => return Err(format!("`{}` is not machine, token, login or account", printed(word))),
        }
    }
    Ok(found)
}

/// A word of the file in a message: it may be a token that stands in the wrong place.
fn printed(word: &str) -> String {
    if word.len() > 12 { "…".to_owned() } else { word.to_owned() }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn url(text: &str) -> Url {
        text.parse().unwrap()
    }

    #[test]
    fn the_token_is_that_of_the_host_and_port() {
        let text =
            "# mine\nmachine ink.example.org token one\nmachine ink.example.org:8443\n  login ada\n  token two # x\n";
        let found = |server| look_up(text, &url(server)).unwrap();
        assert_eq!(found("https://ink.example.org").as_deref(), Some("one"));
        assert_eq!(found("https://INK.example.org:8443/ink/").as_deref(), Some("two"));
        assert_eq!(found("https://ink.example.org.evil.example"), None);
        assert_eq!(found("https://example.org"), None);
    }

    #[test]
    fn mistakes_are_told_without_secrets() {
        let server = url("http://a");
        for text in ["token x", "machine", "machine a secret x", "inkpool_0123456789abcdef x"] {
            let told = look_up(text, &server).unwrap_err();
            assert!(!told.contains("0123456789"), "{told}");
        }
    }

    #[test]
    fn a_file_that_others_can_read_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("tokens");
        std::fs::write(&path, "machine a token x").unwrap();
        for mode in [0o644, 0o640, 0o604, 0o620, 0o700 | 0o010] {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            let told = find(Some(&path), &url("http://a")).unwrap_err().to_string();
            assert!(told.contains("chmod 600"), "{told}");
        }
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        assert_eq!(find(Some(&path), &url("http://a")).unwrap().as_deref(), Some("x"));
        assert!(find(Some(&directory.path().join("none")), &url("http://a")).is_err());
    }
}
