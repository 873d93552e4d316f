//! Settings: typed, validated, read once. The only reader of the environment.

mod access;
mod archive;
mod bus;
mod nodes;
mod producers;
mod traces;
mod tus;
mod webhooks;

pub use access::{AuthMode, Hidden, Registration};
pub use archive::Archive;
pub use producers::Producers;
pub use traces::Traces;
pub use tus::Tus;
pub use webhooks::Webhooks;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use figment::Figment;
use figment::providers::{Env, Format, Toml};
use serde::{Deserialize, Serialize};

/// The defaults that the program carries, so that one binary is enough.
pub const DEFAULTS: &str = include_str!("../config/default.toml");

/// What can be wrong with settings.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A file or variable cannot be read or has the wrong type.
    #[error("{0}")]
    Read(#[from] Box<figment::Error>),
    /// A value out of its bounds.
    #[error("{key} is {value}: {why}")]
    Invalid {
        /// Section and key.
        key: &'static str,
        /// As given.
        value: String,
        /// The rule.
        why: &'static str,
    },
}

/// All settings. Meaning and reason of each stand in `config/default.toml`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "every key is explained in config/default.toml")]
pub struct Config {
    pub data: PathBuf,
    pub http: Http,
    pub auth: Auth,
    pub admin: Admin,
    pub quotas: access::quotas::Quotas,
    pub limits: Limits,
    pub jobs: Jobs,
    pub bus: Bus,
    pub relay: Relay,
    pub producers: Producers,
    pub slots: Slots,
    pub actors: Actors,
    pub janitor: Janitor,
    pub nodes: Nodes,
    pub store: Store,
    pub blobs: Blobs,
    pub uploads: Uploads,
    pub tus: Tus,
    pub archive: Archive,
    pub webhooks: Webhooks,
    pub models: Models,
    pub traces: Traces,
    pub log: Log,
    #[serde(skip)]
    pub aws: Aws,
}

/// The usual `AWS_*` variables: credentials, region, endpoint. Never shown, never written.
#[derive(Clone, Default)]
pub struct Aws(pub BTreeMap<String, String>);

impl std::fmt::Debug for Aws {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

macro_rules! section {
    ($(#[$doc:meta])* $name:ident { $($field:ident: $kind:ty),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Serialize, Deserialize)]
        #[serde(deny_unknown_fields)]
        #[expect(missing_docs, reason = "every key is explained in config/default.toml")]
        pub struct $name { $(pub $field: $kind),* }
    };
}

section!(
    /// `[http]`
    Http {
        listen: String,
        hosts: Vec<String>,
        body_bytes_max: u64,
        parts_max: usize,
        header_bytes_max: usize,
        idle_timeout_s: u64,
        request_timeout_s: u64,
        connections_max: usize,
        requests_max: usize,
        uploads_max: usize,
        event_streams_max: usize,
        page_items_default: u32,
        page_items_max: u32,
    }
);
section!(
    /// `[auth]`
    Auth {
        mode: AuthMode,
        registration: Registration,
        invitation_h: u32,
        password_chars_min: usize,
        password_score_min: u8,
        argon2_memory_kib: u32,
        argon2_passes: u32,
        argon2_lanes: u32,
        hashes_at_once: usize,
        hashes_waiting_max: usize,
        session_idle_h: u32,
        session_max_h: u32,
        accounts_max: u64,
        sessions_max: u64,
        tokens_max: u64,
        invitations_max: u64,
        tries_per_account: u32,
        try_per_account_s: u64,
        tries_per_address: u32,
        try_per_address_s: u64,
        throttle_buckets: u64,
        look_again_s: u64,
        forwarded_hops: usize,
        insecure_http: bool,
        metrics_public: bool,
    }
);
section!(
    /// `[admin]`
    Admin { username: String, password: Hidden }
);
section!(
    /// `[limits]`
    Limits { page_pixels_max: u64, side_px_max: u32, pages_max: u32, frames_max: u32 }
);
section!(
    /// `[jobs]`
    Jobs {
        queue_jobs_max: u64,
        bulk_from_jobs: u64,
        attempts_max: u32,
        crashes_max: u32,
        deadline_base_s: u64,
        deadline_per_megapixel_s: u64,
        deadline_unknown_megapixels: u64,
        events_keep_h: u64,
    }
);
section!(
    /// `[bus]`
    Bus {
        url: String,
        user: String,
        password: String,
        credentials_file: PathBuf,
        ca_file: PathBuf,
        client_cert_file: PathBuf,
        client_key_file: PathBuf,
        tls: bool,
        replicas: usize,
        timeout_ms: u64,
        ack_wait_s: u64,
        in_progress_every_s: u64,
        duplicate_window_s: u64,
        lane_messages_max: usize,
        window_per_slot: usize,
    }
);
section!(
    /// `[relay]`
    Relay { waiting_per_owner: u32, owners_max: u32, interactive_per_bulk: u32, poll_s: u64, compare_every_s: u64 }
);
section!(
    /// `[slots]`
    Slots {
        runtime: Runtime,
        count: u32,
        count_max: u32,
        start_timeout_s: u64,
        memory_bytes_max: u64,
        memory_total_bytes_max: u64,
        open_files_max: u64,
        free_bytes_min: u64,
        recycle_after_jobs: u32,
        recycle_after_s: u64,
        quarantine_starts: u32,
        quarantine_window_s: u64,
        quarantine_s: u64,
        restart_backoff_min_ms: u64,
        restart_backoff_max_ms: u64,
        drain_s: u64,
        docker: Docker,
    }
);
section!(
    /// `[slots.docker]`
    Docker {
        host: String,
        image: String,
        cluster: String,
        host_directory: String,
        runtime: String,
        cpus: f64,
        pids_max: u32,
        tmpfs_bytes_max: u64,
        parallel_max: usize,
        call_timeout_s: u64,
        list_every_s: u64,
    }
);
section!(
    /// `[actors]`
    Actors { ping_every_s: u64, ping_timeout_s: u64, restarts_max: u32, restart_window_s: u64 }
);
section!(
    /// `[janitor]`
    Janitor { every_s: u64, orphan_after_s: u64, batch: u32 }
);
section!(
    /// `[nodes]`
    Nodes { lease_s: u64, renew_every_s: u64, fence_s: u64, rescue_every_s: u64 }
);
section!(
    /// `[store]`
    Store {
        url: String,
        busy_timeout_ms: u64,
        readers: u32,
        writers: u32,
        batch_max: usize,
        queue_max: usize,
        statement_timeout_ms: u64,
        events_poll_ms: u64,
    }
);
section!(
    /// `[blobs]`
    Blobs {
        url: String,
        endpoint: String,
        public_endpoint: String,
        region: String,
        path_style: bool,
        part_bytes: usize,
        puts_max: usize,
        connect_timeout_s: u64,
        request_timeout_s: u64,
        retry_s: u64,
        probe_timeout_s: u64,
        probe_wait_max_s: u64,
        orphan_after_s: u64,
        orphans_every_s: u64,
        free_bytes_min: u64,
    }
);
section!(
    /// `[uploads]`
    Uploads { expires_s: u64, open_max: u64 }
);
section!(
    /// `[models]`
    Models { directory: String, onnxruntime: String, pdfium: String }
);
section!(
    /// `[log]`
    Log { filter: String, format: LogFormat }
);

/// Key, value, whether it is as it should be, and what that is.
type Rule = (&'static str, u64, bool, &'static str);

/// How slots run their workers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Runtime {
    /// A sandboxed child process.
    Process,
    /// A container.
    Docker,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// Text on a terminal, JSON elsewhere.
    Auto,
    /// For people.
    Text,
    /// For machines.
    Json,
}

impl Config {
    /// Defaults, then `file`, then the environment (a `.env` file in the working directory is read first).
    ///
    /// # Errors
    /// [`ConfigError`] naming the key.
    pub fn load(file: Option<&Path>) -> Result<Self, ConfigError> {
        // A missing .env is the usual case; one that cannot be read must not pass silently.
        match dotenvy::dotenv() {
            Ok(_) => {}
            Err(error) if error.not_found() => {}
            Err(error) => {
                return Err(ConfigError::Read(Box::new(figment::Error::from(format!(".env: {error}")))));
            }
        }
        let mut figment = Figment::from(Toml::string(DEFAULTS));
        if let Some(file) = file {
            figment = figment.merge(Toml::file_exact(file));
        }
        // Other names with this prefix (of tools, of tests) are no settings.
        let setting = |name: &figment::value::UncasedStr| {
            name == "data" || (name.as_str().contains("__") && !name.starts_with("admin__"))
        };
        let environment = Env::prefixed("INKPOOL_").filter(setting).split("__");
        let mut config: Self = figment.merge(environment).extract().map_err(Box::new)?;
        config.aws = aws();
        config.admin.read_environment();
        config.validate()?;
        Ok(config)
    }

    /// The defaults alone, for tests and for commands without a server.
    ///
    /// # Errors
    /// [`ConfigError`] if the built-in defaults are wrong, which a test excludes.
    pub fn defaults() -> Result<Self, ConfigError> {
        Figment::from(Toml::string(DEFAULTS)).extract().map_err(|error| ConfigError::Read(Box::new(error)))
    }

    /// Checks what types cannot say.
    ///
    /// # Errors
    /// The first key that breaks a rule.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let rules: [Rule; 15] = [
            ("http.body_bytes_max", self.http.body_bytes_max, self.http.body_bytes_max > 0, "at least 1"),
            (
                "http.header_bytes_max",
                self.http.header_bytes_max as u64,
                self.http.header_bytes_max >= 8192,
                "at least 8192, the buffer of the HTTP parser",
            ),
            ("http.page_items_max", self.http.page_items_max.into(), self.http.page_items_max >= 1, "at least 1"),
            (
                "limits.side_px_max",
                self.limits.side_px_max.into(),
                (1..=16_384).contains(&self.limits.side_px_max),
                "1 to 16384",
            ),
            (
                "limits.frames_max",
                self.limits.frames_max.into(),
                self.limits.frames_max == 1,
                "only the first frame of an animation is processed",
            ),
            ("jobs.attempts_max", self.jobs.attempts_max.into(), self.jobs.attempts_max >= 1, "at least 1"),
            ("jobs.crashes_max", self.jobs.crashes_max.into(), self.jobs.crashes_max >= 1, "at least 1"),
            (
                "slots.count",
                self.slots.count.into(),
                self.slots.count <= self.slots.count_max,
                "at most slots.count_max",
            ),
            ("slots.open_files_max", self.slots.open_files_max, self.slots.open_files_max >= 32, "at least 32"),
            (
                "blobs.part_bytes",
                self.blobs.part_bytes as u64,
                self.blobs.part_bytes >= 5 << 20,
                "at least 5 MiB, the least that S3 takes",
            ),
            ("blobs.puts_max", self.blobs.puts_max as u64, self.blobs.puts_max >= 1, "at least 1"),
            (
                "blobs.orphan_after_s",
                self.blobs.orphan_after_s,
                self.blobs.orphan_after_s > self.http.request_timeout_s,
                "above http.request_timeout_s: an upload on its way has no row yet",
            ),
            ("store.batch_max", self.store.batch_max as u64, self.store.batch_max >= 1, "at least 1"),
            (
                "store.statement_timeout_ms",
                self.store.statement_timeout_ms,
                (1..=60_000).contains(&self.store.statement_timeout_ms),
                "1 to 60000: events of a commit are looked for no longer than that",
            ),
            ("store.events_poll_ms", self.store.events_poll_ms, self.store.events_poll_ms >= 10, "at least 10"),
        ];
        let sections = self
            .nodes
            .rules()
            .into_iter()
            .chain(self.bus_rules())
            .chain(self.docker_rules())
            .chain(self.access_rules())
            .chain(self.archive_rules())
            .chain(self.trace_rules())
            .chain(self.producer_rules())
            .chain(self.tus_rules())
            .chain(self.webhook_rules());
        match rules.into_iter().chain(sections).find(|rule| !rule.2) {
            Some((key, value, _, why)) => Err(ConfigError::Invalid { key, value: value.to_string(), why }),
            None => Ok(()),
        }
    }

    fn docker_rules(&self) -> [(&'static str, u64, bool, &'static str); 3] {
        let docker = &self.slots.docker;
        let parallel = docker.parallel_max;
        [
            ("slots.docker.parallel_max", parallel as u64, (1..=64).contains(&parallel), "1 to 64"),
            ("slots.docker.call_timeout_s", docker.call_timeout_s, docker.call_timeout_s >= 1, "at least 1"),
            ("slots.docker.list_every_s", docker.list_every_s, docker.list_every_s >= 1, "at least 1"),
        ]
    }

    /// Slots to start with: as set, or one for each core.
    #[must_use]
    pub fn slots_count(&self) -> u32 {
        if self.slots.count > 0 {
            return self.slots.count;
        }
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        u32::try_from(cores).unwrap_or(1).min(self.slots.count_max)
    }

    /// Where nodes of this data directory have their slot directories.
    #[must_use]
    pub fn slots_directory(&self) -> PathBuf {
        let elsewhere = &self.slots.docker.host_directory;
        if self.slots.runtime == Runtime::Docker && !elsewhere.is_empty() {
            return PathBuf::from(elsewhere);
        }
        self.data.join("slots")
    }

    /// Deadline of one attempt at an image of `pixels` (all pages together), if known.
    #[must_use]
    pub fn deadline(&self, pixels: Option<u64>) -> Duration {
        let megapixels = pixels.map_or(self.jobs.deadline_unknown_megapixels, |pixels| pixels.div_ceil(1_000_000));
        Duration::from_secs(self.jobs.deadline_base_s + self.jobs.deadline_per_megapixel_s.saturating_mul(megapixels))
    }
}

/// `AWS_*` of the environment (and of `.env`, which has been read by then).
#[expect(clippy::disallowed_methods, reason = "this file is the reader of the environment")]
fn aws() -> Aws {
    let text = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
        Some((name.into_string().ok()?, value.into_string().ok()?))
    };
    Aws(std::env::vars_os().filter_map(text).filter(|(name, _)| name.starts_with("AWS_")).collect())
}

/// Where a test wants this process to die, see [`crate::fault`].
#[cfg(feature = "fault-points")]
#[must_use]
#[expect(clippy::disallowed_methods, reason = "this file is the reader of the environment")]
pub fn fault() -> Option<String> {
    std::env::var("INKPOOL_FAULT").ok()
}

/// The PostgreSQL server of the tests, which `scripts/services` starts.
#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "this file is the reader of the environment")]
pub(crate) fn test_postgres() -> Option<String> {
    std::env::var("INKPOOL_TEST_POSTGRES").ok()
}

#[cfg(test)]
mod tests;
