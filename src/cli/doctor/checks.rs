//! One function for each item.

use std::fs::File;
use std::net::{SocketAddr, ToSocketAddrs};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::time::{Duration, SystemTime};

use serde::Deserialize;

use super::Finding;
use crate::app;
use crate::blobs::Blobs;
use crate::cli::place::hash;
use crate::config::{AuthMode, Config, Runtime};
use crate::job::Lane;
use crate::pipeline::engine::locate;
use crate::pipeline::wire::Isolation;
use crate::store::look::{self, Look};

/// Clocks of a cluster may differ by this much without harm: S3 allows 15 minutes, leases are kept by the database.
const CLOCK_AHEAD_MAX_MS: i64 = 5_000;
/// A server on this machine answers at once.
const ANSWER_MAX: Duration = Duration::from_secs(5);

/// What is allowed, but not wise.
pub fn settings(config: &Config) -> Finding {
    if let Err(error) = app::check_access(config) {
        return Finding::error(&error, "See README, Accounts.");
    }
    if config.auth.mode == AuthMode::Accounts && config.auth.insecure_http {
        return Finding::warn(
            "auth.insecure_http: sessions go over plain HTTP",
            "Put a proxy with a certificate in front, and set it to false.",
        );
    }
    let mode = if config.auth.mode == AuthMode::Open { "open, this machine only" } else { "accounts" };
    Finding::pass(format!("{mode}; listens on {}", config.http.listen))
}

/// Whether it can be written, and whether others can read what is secret.
pub fn data(config: &Config) -> Finding {
    let data = &config.data;
    let shown = data.display();
    if !data.exists() {
        let parent = data.ancestors().find(|folder| folder.exists()).unwrap_or(Path::new("/"));
        return match probe(parent) {
            Ok(()) => Finding::pass(format!("{shown} will be made at the first start")),
            Err(error) => Finding::fail(format!("{shown} cannot be made: {error}"), "Make it, for the server's user."),
        };
    }
    if let Err(error) = probe(data) {
        return Finding::fail(format!("{shown} cannot be written: {error}"), "Give it to the server's user.");
    }
    let secret = data.join("secret");
    match secret.metadata() {
        Ok(facts) if facts.permissions().mode() & 0o077 != 0 => {
            let mode = facts.permissions().mode() & 0o777;
            Finding::fail(
                format!("{} has mode {mode:04o}", secret.display()),
                "chmod 600: whoever has it can sign uploads.",
            )
        }
        Ok(facts) if facts.uid() != rustix::process::geteuid().as_raw() => Finding::warn(
            format!("{shown} belongs to user {}, and you are another", facts.uid()),
            "Run the doctor as the server's user.",
        ),
        Ok(_) | Err(_) => Finding::pass(shown.to_string()),
    }
}

/// Writes a file and removes it.
fn probe(folder: &Path) -> std::io::Result<()> {
    let path = folder.join(format!(".inkpool-doctor-{}", uuid::Uuid::new_v4()));
    File::create_new(&path)?;
    std::fs::remove_file(path)
}

/// Room for uploads.
pub fn disk(config: &Config) -> Finding {
    let existing = config.data.ancestors().find(|folder| folder.exists()).unwrap_or(Path::new("/"));
    let room = match rustix::fs::statvfs(existing) {
        Ok(room) => room,
        Err(error) => return Finding::fail(error.to_string(), "Look at the file system of the data directory."),
    };
    let free = room.f_bavail.saturating_mul(room.f_frsize);
    let (least, shown) = (config.blobs.free_bytes_min, free >> 20);
    if free < least {
        return Finding::fail(
            format!("{shown} MiB are free, and uploads are refused below {} MiB", least >> 20),
            "Delete images, make room, or lower blobs.free_bytes_min.",
        );
    }
    if free < least.saturating_mul(2) {
        return Finding::warn(
            format!("{shown} MiB are free, of {} MiB that must stay", least >> 20),
            "Make room soon.",
        );
    }
    if room.f_files > 0 && room.f_favail < 10_000 {
        return Finding::warn(
            format!("{} files can still be made", room.f_favail),
            "The file system runs out of inodes.",
        );
    }
    Finding::pass(format!("{shown} MiB are free"))
}

async fn look_at_ledger(config: &Config) -> anyhow::Result<Option<Look>> {
    let store = &config.store;
    if !store.url.is_empty() {
        return Ok(Some(look::postgres(&store.url).await?));
    }
    let file = config.data.join(app::SQLITE_FILE);
    if file.exists() { Ok(Some(look::sqlite(&file).await?)) } else { Ok(None) }
}

/// Whether it can be read, and by this version of the program.
pub async fn ledger(config: &Config) -> Finding {
    let look = match look_at_ledger(config).await {
        Ok(Some(look)) => look,
        Ok(None) => return Finding::pass("a SQLite file that the first start will make"),
        Err(error) => return Finding::error(&error, "See docs/operations.md: backup and restore."),
    };
    let Look { database, level, level_known, .. } = look;
    match level {
        None => Finding::pass(format!("{database}, empty; the first start makes its tables")),
        Some(level) if level < level_known => Finding::warn(
            format!("{database}, level {level}; this program brings it to {level_known} at its start"),
            "Make a backup before the upgrade.",
        ),
        Some(level) if level > level_known => Finding::warn(
            format!("{database}, level {level}; a later program has been here, this one knows {level_known}"),
            "Run the doctor of that version.",
        ),
        Some(level) => Finding::pass(format!("{database}, level {level}")),
    }
}

/// Whether every operation works.
pub async fn blobs(config: &Config) -> Finding {
    if config.blobs.url.is_empty() {
        let objects = config.data.join("objects");
        if !objects.exists() {
            return Finding::pass("a directory that the first start will make");
        }
        return match probe(&objects) {
            Ok(()) => Finding::pass(objects.display().to_string()),
            Err(error) => Finding::fail(format!("{}: {error}", objects.display()), "Give it to the server's user."),
        };
    }
    let checked = async {
        let blobs = Blobs::connect(&config.blobs, &config.aws, Path::new(""))?;
        anyhow::Ok(blobs.check().await?)
    };
    match checked.await {
        Ok(()) => Finding::pass(format!("{}: lists, puts, gets, deletes", config.blobs.url)),
        Err(error) => Finding::error(&error, "Look at blobs.url, blobs.endpoint and the AWS_* variables."),
    }
}

/// Whether it can be reached and has its streams.
pub async fn bus(config: &Config) -> Finding {
    let asked = async {
        let bus = app::bus(config).await?;
        // A server starts without it; whether it is there shows only when it is asked.
        for lane in Lane::ALL {
            bus.depth(lane).await?;
        }
        bus.close().await;
        anyhow::Ok(())
    };
    match asked.await {
        Ok(()) => {
            Finding::pass(if config.bus.url == app::EMBEDDED { "in the process" } else { "NATS JetStream answers" })
        }
        Err(error) => {
            Finding::error(&error, "Look at bus.url and its credentials; work goes on by the ledger meanwhile.")
        }
    }
}

/// Whether this machine's clock can be right.
pub async fn clock(config: &Config) -> Finding {
    let now = SystemTime::now();
    let program = std::env::current_exe().and_then(|program| program.metadata()?.modified());
    if program.is_ok_and(|built| built > now + Duration::from_secs(60)) {
        return Finding::fail(
            "it is earlier than the day this program was written",
            "Set the clock; run an NTP client.",
        );
    }
    match look_at_ledger(config).await {
        Ok(Some(Look { clock_ahead_ms: Some(ahead_ms), .. })) if ahead_ms.abs() > CLOCK_AHEAD_MAX_MS => Finding::warn(
            format!(
                "the database's clock differs by {:.1} s",
                Duration::from_millis(ahead_ms.unsigned_abs()).as_secs_f32()
            ),
            "Run an NTP client on both.",
        ),
        Ok(Some(Look { clock_ahead_ms: Some(ahead_ms), .. })) => {
            Finding::pass(format!("differs from the database's by {ahead_ms} ms"))
        }
        Ok(_) | Err(_) => Finding::pass("later than this program; there is no other clock to compare it with"),
    }
}

/// Whether they are there, and whether the network is the one that belongs to its digest.
pub fn model(config: &Config) -> Finding {
    let located = match locate::find(&config.models.directory, &config.models.onnxruntime, &config.models.pdfium) {
        Ok(located) => located,
        Err(error) => return Finding::fail(error.to_string(), "Run scripts/setup, or set models.*."),
    };
    match hash(&located.model) {
        Ok((_, found)) if found == located.model_sha256 => {
            let (model, library) = (located.model.display(), located.onnxruntime.display());
            let found = format!("{model} ({}…), {library}", found.get(..12).unwrap_or_default());
            match &located.pdfium {
                Some(pdfium) => Finding::pass(format!("{found}, {}", pdfium.display())),
                None => Finding::warn(
                    format!("{found}; no PDFium: PDF is refused"),
                    "Run scripts/setup, or set models.pdfium, if people shall send PDF.",
                ),
            }
        }
        Ok((_, found)) => Finding::fail(
            format!("{} has SHA-256 {found}, not that of the file beside it", located.model.display()),
            "Install it again: a network that is not what it says cleans nothing.",
        ),
        Err(error) => Finding::fail(format!("{}: {error}", located.model.display()), "Let the server's user read it."),
    }
}

/// Starts a worker, which loads the network and locks itself in, and looks at what it got.
pub async fn worker(config: &Config) -> Finding {
    let started = async {
        let bench = super::hostile::Bench::set_up(config).await?;
        let mut worker = bench.start().await?;
        let isolation = worker.hello().isolation.clone();
        worker.kill().await;
        anyhow::Ok(isolation)
    };
    match started.await {
        Ok(isolation) => judge(&isolation, config.slots.runtime),
        Err(error) => Finding::error(&error, "Its own words above say why; `inkpool serve` would not start either."),
    }
}

fn judge(isolation: &Isolation, runtime: Runtime) -> Finding {
    let layers = [
        ("system call filter", isolation.seccomp),
        ("no new privileges", isolation.no_new_privileges),
        ("no capabilities", isolation.no_capabilities),
        ("network of its own", isolation.own_network),
        ("root of its own", isolation.own_root),
        ("Landlock", isolation.landlock_abi > 0),
    ];
    let names = |wanted: bool| layers.iter().filter(|layer| layer.1 == wanted).map(|layer| layer.0).collect::<Vec<_>>();
    let (there, missing) = (names(true).join(", "), names(false).join(", "));
    // A file system of its own comes by either of the two.
    let is_bounded = isolation.own_root || isolation.landlock_abi > 0 || runtime == Runtime::Docker;
    if !isolation.seccomp || !isolation.no_new_privileges || !is_bounded {
        return Finding::fail(format!("missing: {missing}"), "Use a kernel with seccomp and Landlock (5.13 or newer).");
    }
    if missing.is_empty() {
        return Finding::pass(there);
    }
    Finding::warn(
        format!("{there}; missing: {missing}"),
        "A newer kernel, or user namespaces, would add what is missing.",
    )
}

#[derive(Deserialize)]
struct NotReady {
    #[serde(default)]
    reasons: Vec<String>,
}

/// What a server at the address of the settings says of itself.
pub async fn server(config: &Config) -> Finding {
    let Some(address) = reachable(&config.http.listen) else {
        return Finding::warn(format!("{} is no address", config.http.listen), "Set http.listen.");
    };
    // Fails when a provider is there already, which is as good.
    drop(rustls::crypto::ring::default_provider().install_default());
    let client = http_client::Client::builder().timeout(ANSWER_MAX).no_proxy().build();
    let Ok(client) = client else { return Finding::warn("no HTTP client", "This is a fault of the program.") };
    let answer = client.get(format!("http://{address}/readyz")).send().await;
    match answer {
        Err(_) => Finding::pass(format!("none answers at {address}")),
        Ok(answer) if answer.status().is_success() => Finding::pass(format!("one at {address} is ready")),
        Ok(answer) => {
            let status = answer.status();
            let body = answer.bytes().await.unwrap_or_default();
            let reasons = serde_json::from_slice::<NotReady>(&body).map_or_else(|_| Vec::new(), |told| told.reasons);
            Finding::fail(format!("one at {address} answers {status}. {}", reasons.join(" ")), "See its log.")
        }
    }
}

/// Where to call a server that listens there.
fn reachable(listen: &str) -> Option<SocketAddr> {
    let mut address = listen.to_socket_addrs().ok()?.next()?;
    if address.ip().is_unspecified() {
        address.set_ip(if address.is_ipv4() { [127, 0, 0, 1].into() } else { std::net::Ipv6Addr::LOCALHOST.into() });
    }
    Some(address)
}
