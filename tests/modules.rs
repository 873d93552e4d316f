//! Holds the dependency rule between modules: downward only, and no clock or environment in what is pure.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Who may use whom. `main` and `cli` may use what they like; `app` names every concrete type.
const MAY_USE: [(&str, &[&str]); 17] = [
    ("job", &[]),
    ("scheduling", &["job"]),
    ("pipeline", &["job"]),
    ("config", &[]),
    ("traces", &["job", "config"]),
    ("fault", &["config"]),
    ("store", &["job", "scheduling", "pipeline", "config", "fault"]),
    ("auth", &["job", "config", "store"]),
    ("bus", &["job", "config", "fault"]),
    ("blobs", &["job", "config", "fault"]),
    ("containers", &["job", "pipeline", "config", "fault", "store"]),
    ("cluster", &["job", "scheduling", "pipeline", "containers", "bus"]),
    ("webhooks", &["job", "config", "fault"]),
    ("worker", &["job", "pipeline", "config", "fault"]),
    ("producers", &["job", "config", "fault", "store", "bus", "blobs", "cluster", "http"]),
    (
        "http",
        &[
            "job",
            "scheduling",
            "pipeline",
            "config",
            "fault",
            "store",
            "auth",
            "bus",
            "blobs",
            "containers",
            "cluster",
            "webhooks",
            "traces",
        ],
    ),
    (
        "actors",
        &[
            "job",
            "scheduling",
            "pipeline",
            "config",
            "fault",
            "store",
            "bus",
            "blobs",
            "containers",
            "cluster",
            "webhooks",
            "traces",
        ],
    ),
];

/// Folders whose files may not read a clock, touch a file or know of actors.
const PURE: [&str; 3] = ["src/job", "src/scheduling", "src/pipeline/gate"];

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

fn all_sources() -> Vec<PathBuf> {
    let mut found = Vec::new();
    sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut found);
    found
}

fn module_of(path: &Path) -> String {
    let inside = path.strip_prefix(Path::new(env!("CARGO_MANIFEST_DIR")).join("src")).unwrap();
    let first = inside.components().next().unwrap().as_os_str().to_string_lossy();
    first.trim_end_matches(".rs").to_owned()
}

/// Modules named after `crate::` in code, comments left out; both `crate::a::b` and `crate::{a::b, c}`.
fn used(text: &str) -> BTreeSet<String> {
    let code: String = text.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n");
    let mut modules = BTreeSet::new();
    for rest in code.split("crate::").skip(1) {
        let word = |text: &str| text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
        if let Some(group) = rest.strip_prefix('{') {
            let mut depth = 0;
            let mut item = String::new();
            for c in group.chars() {
                match c {
                    '{' => depth += 1,
                    '}' if depth == 0 => break,
                    '}' => depth -= 1,
                    ',' if depth == 0 => {
                        modules.insert(word(std::mem::take(&mut item).trim()));
                    }
                    _ if depth == 0 => item.push(c),
                    _ => {}
                }
            }
            modules.insert(word(item.trim()));
        } else {
            modules.insert(word(rest));
        }
    }
    modules
}

#[test]
fn modules_use_only_what_lies_below() {
    let rules: BTreeMap<_, _> = MAY_USE.into_iter().collect();
    let mut wrong = Vec::new();
    for path in all_sources() {
        let module = module_of(&path);
        let Some(allowed) = rules.get(module.as_str()) else { continue };
        for used in used(&fs::read_to_string(&path).unwrap()) {
            let is_module = rules.contains_key(used.as_str()) || used == "app" || used == "cli";
            if is_module && used != module && !allowed.contains(&used.as_str()) {
                wrong.push(format!("{} uses {used}", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn adapters_do_not_know_each_other() {
    let pairs = [("src/store", "bus::"), ("src/store", "blobs::"), ("src/bus", "store::"), ("src/bus", "blobs::")];
    for (folder, other) in pairs {
        let mut found = Vec::new();
        sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join(folder), &mut found);
        for path in found {
            let text = fs::read_to_string(&path).unwrap();
            assert!(!text.contains(&format!("crate::{other}")), "{} uses {other}", path.display());
        }
    }
}

#[test]
fn pure_modules_have_no_clock_and_no_io() {
    let banned = ["SystemTime", "Instant::now", "std::fs", "tokio::", "ractor", "std::net", "std::env"];
    for folder in PURE {
        let mut found = Vec::new();
        sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join(folder), &mut found);
        for path in found {
            let text = fs::read_to_string(&path).unwrap();
            for word in banned {
                assert!(!text.contains(word), "{} holds {word}", path.display());
            }
        }
    }
}

#[test]
fn the_rule_sees_every_module() {
    let known: BTreeSet<_> = MAY_USE.iter().map(|(module, _)| (*module).to_owned()).collect();
    let top = ["main", "lib", "app", "cli", "telemetry"].map(str::to_owned);
    let found: BTreeSet<_> = all_sources().iter().map(|path| module_of(path)).collect();
    let unknown: Vec<_> = found.iter().filter(|module| !known.contains(*module) && !top.contains(module)).collect();
    assert!(unknown.is_empty(), "without a rule: {unknown:?}");
}

#[test]
fn the_reader_of_imports_understands_groups() {
    let text = "use crate::{bus::{A, B}, store};\nuse crate::job::State;\n// crate::http\n";
    assert_eq!(used(text), BTreeSet::from(["bus".to_owned(), "store".to_owned(), "job".to_owned()]));
}
