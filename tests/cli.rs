//! The command line as a newcomer meets it: help with examples, completions, manual pages, usage errors.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::process::{Command, Output};

fn inkpool(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_inkpool")).args(arguments).env_clear().output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn help_shows_every_command_with_examples_and_hides_the_worker() {
    let help = text(&inkpool(&["--help"]).stdout);
    for word in ["serve", "clean", "upload", "jobs", "doctor", "completions", "Examples:"] {
        assert!(help.contains(word), "{word}: {help}");
    }
    assert!(!help.contains("worker"), "{help}");
    for command in ["serve", "clean", "upload", "jobs", "doctor", "admin"] {
        let output = inkpool(&[command, "--help"]);
        assert!(output.status.success() && text(&output.stdout).contains("Examples:"), "{command}");
    }
}

#[test]
fn completions_and_manual_pages_are_made() {
    for shell in ["bash", "zsh", "fish"] {
        assert!(text(&inkpool(&["completions", shell]).stdout).contains("inkpool"), "{shell}");
    }
    let directory = tempfile::tempdir().unwrap();
    assert!(inkpool(&["man", directory.path().to_str().unwrap()]).status.success());
    let page = std::fs::read_to_string(directory.path().join("inkpool-clean.1")).unwrap();
    assert!(page.contains(".TH"), "{page}");
}

#[test]
fn a_wrong_command_line_or_setting_is_a_usage_error_in_one_line() {
    assert_eq!(inkpool(&["serve", "--slots", "many"]).status.code(), Some(2));
    assert_eq!(inkpool(&["nonsense"]).status.code(), Some(2));
    let output = inkpool(&["serve", "--slots", "1000", "--data", "unused"]);
    assert_eq!(output.status.code(), Some(2));
    let line = text(&output.stderr);
    assert!(line.contains("slots.count is 1000") && line.lines().count() == 1, "{line}");
}

#[test]
fn open_mode_listens_on_loopback_only() {
    let directory = tempfile::tempdir().unwrap();
    let output = inkpool(&["serve", "--listen", "0.0.0.0:0", "--data", directory.path().to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("has no login"), "{}", text(&output.stderr));
}
