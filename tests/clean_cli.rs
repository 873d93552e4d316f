//! `inkpool clean` as users call it: the real program, its exit codes, what it writes and what it leaves alone.

#![expect(clippy::unwrap_used, reason = "a test that cannot be set up fails")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// A folder to work in, with a temporary directory of its own inside.
struct Desk(tempfile::TempDir);

impl Desk {
    fn new() -> Self {
        let desk = Self(tempfile::tempdir().unwrap());
        std::fs::create_dir(desk.path("tmp")).unwrap();
        desk
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn page(&self, name: &str) -> PathBuf {
        std::fs::create_dir_all(self.path(name).parent().unwrap()).unwrap();
        std::fs::write(self.path(name), png(None)).unwrap();
        self.path(name)
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_inkpool"));
        command.arg("clean").args(args).current_dir(self.0.path()).env("TMPDIR", self.path("tmp"));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn clean(&self, args: &[&str]) -> Output {
        let output = self.command(args).output().unwrap();
        assert_eq!(self.list("tmp"), [""; 0], "left in the temporary directory by {args:?}");
        output
    }

    /// All files below a folder, sorted.
    fn list(&self, folder: &str) -> Vec<String> {
        let mut found = Vec::new();
        let mut folders = vec![self.path(folder)];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).into_iter().flatten() {
                let path = entry.unwrap().path();
                if path.is_dir() && path != self.path("tmp") {
                    folders.push(path);
                } else if path != self.path("tmp") {
                    found.push(path.strip_prefix(self.0.path()).unwrap().display().to_string());
                }
            }
        }
        found.sort();
        found
    }
}

fn png(fault: Option<&str>) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, 64, 48);
    encoder.set_color(png::ColorType::Grayscale);
    encoder.set_depth(png::BitDepth::Eight);
    if let Some(fault) = fault {
        encoder.add_text_chunk("inkpool-fault".to_owned(), fault.to_owned()).unwrap();
    }
    // Eight strokes on gray paper.
    let is_ink = |x: u32, y: u32| y % 20 >= 8 && x % 12 < 3 && (7..58).contains(&x);
    let pixels: Vec<u8> = (0..48).flat_map(|y| (0..64).map(move |x| if is_ink(x, y) { 40 } else { 215 })).collect();
    let mut writer = encoder.write_header().unwrap();
    writer.write_image_data(&pixels).unwrap();
    writer.finish().unwrap();
    bytes
}

fn size(path: &Path) -> (u32, u32) {
    let reader = image::ImageReader::open(path).unwrap().with_guessed_format().unwrap();
    reader.into_dimensions().unwrap()
}

fn errors(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_page_is_cleaned_beside_itself() {
    let desk = Desk::new();
    desk.page("page.png");
    let output = desk.clean(&["page.png"]);
    assert_eq!(output.status.code(), Some(0), "{}", errors(&output));
    assert!(output.stdout.is_empty());
    assert_eq!(desk.list("."), ["page.clean.png", "page.png"]);
    assert_eq!(size(&desk.path("page.clean.png")), (64, 48));
    assert_ne!(std::fs::read(desk.path("page.clean.png")).unwrap(), png(None));
}

#[test]
fn what_exists_is_replaced_only_when_asked() {
    let desk = Desk::new();
    desk.page("page.png");
    std::fs::write(desk.path("page.clean.png"), b"mine").unwrap();
    let output = desk.clean(&["page.png"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(errors(&output).contains("--overwrite"), "{}", errors(&output));
    assert_eq!(std::fs::read(desk.path("page.clean.png")).unwrap(), b"mine");
    assert_eq!(desk.clean(&["page.png", "--overwrite"]).status.code(), Some(0));
    assert_eq!(size(&desk.path("page.clean.png")), (64, 48));
}

#[test]
fn the_ending_chooses_the_file() {
    let desk = Desk::new();
    desk.page("page.png");
    for (preset, file) in [("document", "a.png"), ("document", "a.webp"), ("photo", "b.webp")] {
        let output = desk.clean(&["page.png", "-o", file, "--preset", preset]);
        assert_eq!(output.status.code(), Some(0), "{}", errors(&output));
        assert_eq!(size(&desk.path(file)), (64, 48));
    }
    let output = desk.clean(&["page.png", "-o", "b.png", "--preset", "photo"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(errors(&output).contains(".webp"), "{}", errors(&output));
    assert_eq!(desk.list("."), ["a.png", "a.webp", "b.webp", "page.png"]);
}

#[test]
fn all_pages_come_as_one_pdf() {
    let desk = Desk::new();
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/pipeline/pages.tiff");
    std::fs::copy(fixture, desk.path("chapter.tif")).unwrap();
    desk.page("page.png");
    for input in ["chapter.tif", "page.png"] {
        let output = desk.clean(&[input, "-o", "out.pdf", "--overwrite"]);
        assert_eq!(output.status.code(), Some(0), "{}", errors(&output));
        assert!(std::fs::read(desk.path("out.pdf")).unwrap().starts_with(b"%PDF-1.4\n"));
    }
    assert_eq!(desk.clean(&["page.png", "-o", "out.pdf"]).status.code(), Some(1), "it exists");
    assert_eq!(desk.list("."), ["chapter.tif", "out.pdf", "page.png"]);
    // The PDF is an input as well, and in a folder everything comes out but what a page of a server needs.
    let output = desk.clean(&["out.pdf", "chapter.tif", "-o", "made/"]);
    assert_eq!(output.status.code(), Some(0), "{}", errors(&output));
    let made = desk.list("made");
    assert!(made.contains(&"made/chapter/clean.pdf".to_owned()), "{made:?}");
    assert!(made.contains(&"made/out/clean.png".to_owned()), "{made:?}");
    assert!(!made.iter().any(|name| name.ends_with("before.webp") || name == "made/out/clean.pdf"), "{made:?}");
}

#[test]
fn a_folder_gets_every_file_of_every_image() {
    let desk = Desk::new();
    for name in ["in/a/page.png", "in/page.png", "in/other.png"] {
        desk.page(name);
    }
    std::fs::write(desk.path("in/notes.txt"), b"no image").unwrap();
    let output = desk.clean(&["in", "-o", "out", "--jobs", "2"]);
    assert_eq!(output.status.code(), Some(0), "{}", errors(&output));
    let files = |folder: &str| {
        ["clean.png", "clean.webp", "manifest.json", "thumb.webp"].map(|name| format!("out/{folder}/{name}")).to_vec()
    };
    assert_eq!(desk.list("out"), [files("a/page"), files("other"), files("page")].concat());
}

#[test]
fn a_refused_input_stops_nothing_and_leaves_nothing() {
    let desk = Desk::new();
    desk.page("good.png");
    std::fs::write(desk.path("empty.png"), b"").unwrap();
    std::fs::write(desk.path("drawing.svg"), b"<svg xmlns='http://www.w3.org/2000/svg'/>").unwrap();
    let half = png(None);
    std::fs::write(desk.path("half.png"), &half[..half.len() / 2]).unwrap();
    let output = desk.clean(&["empty.png", "drawing.svg", "half.png", "good.png", "-o", "out"]);
    assert_eq!(output.status.code(), Some(3), "{}", errors(&output));
    let told = errors(&output);
    for name in ["empty.png", "drawing.svg", "half.png"] {
        assert_eq!(told.lines().filter(|line| line.contains(name) && line.contains("refused")).count(), 1, "{told}");
    }
    assert!(desk.list("out").iter().all(|name| name.starts_with("out/good/")), "{:?}", desk.list("out"));
    assert!(!desk.path("out/half").exists());
}

#[test]
fn limits_are_named_with_what_was_measured_and_what_to_do() {
    let desk = Desk::new();
    desk.page("page.png");
    let output = desk.command(&["page.png", "--json"]).env("INKPOOL_LIMITS__PAGE_PIXELS_MAX", "1000").output().unwrap();
    assert_eq!(output.status.code(), Some(3), "{}", errors(&output));
    let object: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(object["state"], "refused");
    assert_eq!(object["error"]["code"], "too_many_pixels");
    assert_eq!(object["error"]["limit"], "1000 px");
    assert_eq!(object["error"]["measured"], "3072 px");
    assert!(object["error"]["remedy"].is_string());
    assert_eq!(errors(&output).lines().count(), 1, "{}", errors(&output));
    let output = desk.command(&["page.png"]).env("INKPOOL_HTTP__BODY_BYTES_MAX", "100").output().unwrap();
    assert_eq!(output.status.code(), Some(3), "{}", errors(&output));
    assert!(errors(&output).contains("limit 100 bytes"), "{}", errors(&output));
}

#[test]
fn json_is_one_object_for_each_input() {
    use sha2::Digest;
    let desk = Desk::new();
    desk.page("a.png");
    let output = desk.clean(&["a.png", "missing.png", "--json", "-o", "out"]);
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stdout).unwrap();
    let mut objects: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    objects.sort_by_key(|object| object["input"].to_string());
    assert_eq!(objects.len(), 2);
    assert_eq!((&objects[0]["state"], &objects[1]["state"]), (&"succeeded".into(), &"failed".into()));
    assert_eq!(objects[1]["error"]["code"], "unreadable");
    assert!(objects[0]["gate"]["verdict"].is_string() && objects[1]["gate"].is_null(), "{objects:?}");
    let files = objects[0]["files"].as_array().unwrap();
    assert_eq!(files.len(), 4);
    for file in files {
        let bytes = std::fs::read(desk.path(file["path"].as_str().unwrap())).unwrap();
        assert_eq!(file["size_bytes"], bytes.len());
        assert_eq!(file["sha256"], hex::encode(sha2::Sha256::digest(&bytes)));
    }
}

#[test]
fn standard_input_is_an_input() {
    let desk = Desk::new();
    desk.page("page.png");
    let mut command = desk.command(&["-", "-o", "out.png"]);
    command.stdin(std::fs::File::open(desk.path("page.png")).unwrap());
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", errors(&output));
    assert_eq!(size(&desk.path("out.png")), (64, 48));
    assert_eq!(desk.clean(&["-"]).status.code(), Some(2));
}

#[test]
fn wrong_usage_is_told_before_any_work() {
    let desk = Desk::new();
    desk.page("a/page.png");
    desk.page("b/page.png");
    for args in [
        vec!["a/page.png", "--preset", "nope"],
        vec!["a/page.png", "--set", "quality=1000"],
        vec!["a/page.png", "--set", "quality"],
        vec!["a/page.png", "-o", "no-ending"],
        vec!["a/page.png", "b/page.png", "-o", "out"],
        vec![],
    ] {
        let output = desk.clean(&args);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {}", errors(&output));
    }
    assert_eq!(desk.list("."), ["a/page.png", "b/page.png"]);
}

#[cfg(feature = "fault-points")]
mod faults {
    use std::time::{Duration, Instant};

    use super::*;

    fn until(what: &str, mut holds: impl FnMut() -> bool) {
        let began = Instant::now();
        while !holds() {
            assert!(began.elapsed() < Duration::from_secs(20), "{what}: not within twenty seconds");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Pids of workers whose slot lies below a folder.
    fn workers(below: &Path) -> Vec<String> {
        let below = below.display().to_string();
        let processes = std::fs::read_dir("/proc").unwrap().filter_map(|entry| {
            let pid = entry.ok()?.file_name().into_string().ok()?;
            let line = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).ok()?;
            (line.contains("\0worker\0") && line.contains(&below)).then_some(pid)
        });
        processes.collect()
    }

    /// Starts a call whose worker hangs.
    fn hanging(desk: &Desk) -> std::process::Child {
        std::fs::write(desk.path("hang.png"), png(Some("hang"))).unwrap();
        let child = desk.command(&["hang.png"]).spawn().unwrap();
        until("a worker", || !workers(&desk.path("tmp")).is_empty());
        child
    }

    #[test]
    fn an_image_that_kills_its_worker_fails_alone() {
        let desk = Desk::new();
        std::fs::write(desk.path("poison.png"), png(Some("crash"))).unwrap();
        std::fs::write(desk.path("liar.png"), png(Some("lie-hash"))).unwrap();
        desk.page("good.png");
        let output = desk.clean(&["poison.png", "liar.png", "good.png", "-o", "out", "--jobs", "1", "--json"]);
        assert_eq!(output.status.code(), Some(1));
        let text = String::from_utf8(output.stdout).unwrap();
        let objects: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(objects[0]["error"]["signal"], "SIGABRT", "{text}");
        assert_eq!(objects[1]["error"]["code"], "untrusted_output", "{text}");
        assert_eq!(objects[2]["state"], "succeeded", "{text}");
    }

    #[test]
    fn a_worker_does_not_outlive_a_parent_that_is_killed() {
        let desk = Desk::new();
        let mut child = hanging(&desk);
        // SIGKILL: the parent can do nothing about its worker any more.
        child.kill().unwrap();
        child.wait().unwrap();
        until("the worker is gone", || workers(&desk.path("tmp")).is_empty());
    }

    #[test]
    fn an_interrupt_ends_in_order() {
        let desk = Desk::new();
        let child = hanging(&desk);
        let pid = nix::unistd::Pid::from_raw(child.id().try_into().unwrap());
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGINT).unwrap();
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        assert!(errors(&output).contains("interrupted"), "{}", errors(&output));
        assert!(workers(&desk.path("tmp")).is_empty());
        assert_eq!(desk.list("tmp"), [""; 0]);
        assert_eq!(desk.list("."), ["hang.png"]);
    }
}
