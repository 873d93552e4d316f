//! Fills the ledger of a PostgreSQL with jobs that wait, and measures what it costs to choose, release, claim and accept one: what
//! `scripts/bench queue` is made of. Everything goes through the program's own ledger.
//!
//! `queue fill URL JOBS OWNERS PAGE OBJECTS` writes JOBS jobs of OWNERS owners, every third of them bulk, on copies (hard links) of the
//! image PAGE below the directory OBJECTS. The first owner has half of the jobs, and they came first.
//! `queue cost SMALL LARGE ROUNDS` measures on the databases at both URLs by turns, and prints a line of JSON. The queues stay as long as
//! they are: for each job that was claimed another one is submitted. Needs pg_stat_statements in both.
#![expect(clippy::print_stdout, clippy::unwrap_used, clippy::panic, reason = "a measuring tool")]

use std::path::Path;
use std::str::FromStr;
use std::time::Instant;

use inkpool::config::{self, Config};
use inkpool::job::{ImageId, JobId, Lane, OwnerId};
use inkpool::pipeline::spec::Presets;
use inkpool::store::{
    Accepted, Claim, Finish, Holder, Ledger, Measured, NewImage, NewJob, QueueLimits, SqlLedger, Submission, Waiting,
    postgres,
};
use serde_json::json;
use sha2::{Digest, Sha256};
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions, PgConnection};

/// Images of one request: as many as the server takes in one.
const REQUEST_IMAGES: usize = 100;
/// ext4 takes 65,000 links to a file.
const LINKS_MAX: usize = 60_000;
/// Jobs that are chosen, released and claimed in a row on one side.
const AT_ONCE: usize = 8;
/// What is measured: choosing for one place, as the relay does when a slot has taken a job, and for several, then what becomes of
/// those. Another job takes the place of each that has ended.
const STEPS: [&str; 5] = ["choose for 1", "choose for 8", "release", "claim", "accept"];
/// Owners that the relay looks at, as in the defaults.
const OWNERS_MAX: u32 = 256;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    match arguments[..] {
        ["fill", url, jobs, owners, page, objects] => {
            runtime.block_on(fill(
                url,
                jobs.parse().unwrap(),
                owners.parse().unwrap(),
                page.as_ref(),
                objects.as_ref(),
            ));
        }
        ["cost", small, large, rounds] => runtime.block_on(cost([small, large], rounds.parse().unwrap())),
        _ => panic!("usage: queue fill URL JOBS OWNERS PAGE OBJECTS | queue cost SMALL LARGE ROUNDS"),
    }
}

async fn open(url: &str) -> SqlLedger {
    let settings: config::Store = Config::defaults().unwrap().store;
    postgres::open(url, &settings).await.unwrap()
}

/// What all jobs are made of.
struct Template {
    size_bytes: u64,
    sha256: String,
    spec: serde_json::Value,
}

impl Template {
    fn of(page: &[u8]) -> Self {
        let spec = Presets::builtin().unwrap().resolve("photo", &Default::default()).unwrap();
        let sha256 = hex::encode(Sha256::digest(page));
        Self { size_bytes: page.len() as u64, sha256, spec: serde_json::to_value(spec).unwrap() }
    }

    fn item(&self, owner: OwnerId, lane: Lane) -> (NewImage, NewJob) {
        let image = NewImage {
            id: ImageId::fresh(),
            filename: "page.png".to_owned(),
            content_type: "image/png".to_owned(),
            size_bytes: self.size_bytes,
            sha256: self.sha256.clone(),
            width_px: Some(64),
            height_px: Some(64),
            pages_count: Some(1),
            pixels: None,
        };
        let (id, image_id, spec) = (JobId::fresh(), image.id, self.spec.clone());
        (image, NewJob { id, owner, image_id, preset: "photo".to_owned(), spec, lane: Some(lane) })
    }
}

async fn submit(ledger: &SqlLedger, owner: OwnerId, items: Vec<(NewImage, NewJob)>) {
    let limits =
        QueueLimits { queue_jobs_max: 1_000_000, bulk_from_jobs: 50, attempts_max: 5, crashes_max: 3, quota: None };
    let submission =
        Submission { owner, items, idempotency: None, submitted: None, upload: None, dedup: false, limits };
    let Accepted::Created(_) = ledger.accept(submission).await.unwrap() else {
        panic!("the ledger takes no more jobs")
    };
}

async fn fill(url: &str, jobs: usize, owners: usize, page: &Path, objects: &Path) {
    let ledger = open(url).await;
    let bytes = std::fs::read(page).unwrap();
    let template = Template::of(&bytes);
    let owners: Vec<OwnerId> = (0..owners).map(|_| OwnerId::fresh()).collect();
    let mut linked = 0usize;
    let mut source = page.to_owned();
    let mut number = 0;
    while number < jobs {
        // The first half is one owner's; of the rest everybody has some in turn.
        let whose =
            if number < jobs / 2 { 0 } else { number / REQUEST_IMAGES.min(jobs / owners.len() / 2) % owners.len() };
        let count = REQUEST_IMAGES.min(jobs / owners.len() / 2).min(jobs - number).max(1);
        let lane = |number: usize| if number % 3 == 2 { Lane::Bulk } else { Lane::Interactive };
        let items: Vec<_> = (number..number + count).map(|number| template.item(owners[whose], lane(number))).collect();
        for (image, _) in &items {
            if linked.is_multiple_of(LINKS_MAX) {
                source = objects.join(format!("source-{linked}"));
                std::fs::write(&source, &bytes).unwrap();
            }
            linked += 1;
            let directory = objects.join("img").join(image.id.to_string());
            std::fs::create_dir_all(&directory).unwrap();
            std::fs::hard_link(&source, directory.join("original")).unwrap();
        }
        submit(&ledger, owners[whose], items).await;
        number += count;
    }
    ledger.close().await;
}

/// What PostgreSQL has counted for the statements of jobs on one database.
#[derive(Clone, Copy, Default)]
struct Counted {
    buffers: f64,
    server_ms: f64,
}

struct Side {
    ledger: SqlLedger,
    counters: PgConnection,
    template: Template,
    /// For each of [`STEPS`].
    client_ms: [Vec<f64>; 5],
    counted: [Counted; 5],
    slot: u32,
}

impl Side {
    async fn open(url: &str) -> Self {
        let counters = PgConnectOptions::from_str(url).unwrap().connect().await.unwrap();
        let (ledger, template) = (open(url).await, Template::of(b"nobody reads it"));
        Self { ledger, counters, template, client_ms: Default::default(), counted: Default::default(), slot: 0 }
    }

    /// Without what tells watchers of events, which has its own pace.
    async fn counted(&mut self) -> Counted {
        let sql = "SELECT coalesce(sum(shared_blks_hit + shared_blks_read), 0)::float8, \
                   coalesce(sum(total_exec_time + total_plan_time), 0)::float8 FROM pg_stat_statements \
                   WHERE dbid = (SELECT oid FROM pg_database WHERE datname = current_database()) \
                   AND query !~ 'pg_notify|FROM events|FROM event_heads|pg_stat_statements'";
        let (buffers, server_ms): (f64, f64) = sqlx::query_as(sql).fetch_one(&mut self.counters).await.unwrap();
        Counted { buffers, server_ms }
    }

    async fn note(&mut self, step: usize, before: Counted) {
        let after = self.counted().await;
        self.counted[step].buffers += after.buffers - before.buffers;
        self.counted[step].server_ms += after.server_ms - before.server_ms;
    }

    /// One row of choosing, releasing and claiming, each by itself; `None` for a round that does not count.
    async fn round(&mut self, counts: bool) {
        let now_ms = i64::try_from(std::time::UNIX_EPOCH.elapsed().unwrap().as_millis()).unwrap() + 1000;
        let mut times: [Vec<f64>; 5] = Default::default();
        let mut chosen: Vec<Waiting> = Vec::new();
        for (step, room) in [(0, 1), (1, AT_ONCE)] {
            let before = self.counted().await;
            for _ in 0..AT_ONCE {
                let began = Instant::now();
                chosen = self.ledger.waiting(now_ms, u32::try_from(room).unwrap(), OWNERS_MAX).await.unwrap();
                times[step].push(began.elapsed().as_secs_f64() * 1000.0);
            }
            self.note(step, before).await;
        }
        chosen.truncate(AT_ONCE);
        let before = self.counted().await;
        for job in &chosen {
            let began = Instant::now();
            assert!(self.ledger.release(job.job, "bench").await.unwrap());
            times[2].push(began.elapsed().as_secs_f64() * 1000.0);
        }
        self.note(2, before).await;
        let before = self.counted().await;
        let mut claimed = Vec::new();
        for job in &chosen {
            self.slot += 1;
            let (node, incarnation) = ("bench".to_owned(), "bench".to_owned());
            let holder = Holder { node, incarnation, slot: self.slot, memory_bytes_max: None };
            let began = Instant::now();
            let claim = self.ledger.claim(job.job, job.starts, holder).await.unwrap();
            times[3].push(began.elapsed().as_secs_f64() * 1000.0);
            let Claim::Won { job, .. } = claim else { panic!("{claim:?}") };
            claimed.push(*job);
        }
        self.note(3, before).await;
        for job in &claimed {
            let measured = Measured { width_px: 64, height_px: 64, pages_count: 1 };
            let end = Finish::Succeeded { files: Vec::new(), measured, gate: None };
            self.ledger.finish(job.id, job.starts, end).await.unwrap();
        }
        let before = self.counted().await;
        for job in claimed {
            let item = self.template.item(job.owner, job.lane);
            let began = Instant::now();
            submit(&self.ledger, job.owner, vec![item]).await;
            times[4].push(began.elapsed().as_secs_f64() * 1000.0);
        }
        self.note(4, before).await;
        if counts {
            self.client_ms.iter_mut().zip(times).for_each(|(all, more)| all.extend(more));
        } else {
            self.counted = Default::default();
        }
    }

    async fn waiting_now(&self) -> u64 {
        self.ledger.counts().await.unwrap().values().sum()
    }
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}

async fn cost(urls: [&str; 2], rounds: usize) {
    let mut sides = [Side::open(urls[0]).await, Side::open(urls[1]).await];
    // The first statements of a connection are planned for their values; and caches are cold.
    for round in 0..rounds + 2 {
        let [small, large] = &mut sides;
        let (first, second) = if round % 2 == 0 { (small, large) } else { (large, small) };
        first.round(round >= 2).await;
        second.round(round >= 2).await;
    }
    let mut steps = Vec::new();
    for (step, name) in STEPS.into_iter().enumerate() {
        let [small, large] = &sides;
        let pairs = small.client_ms[step].iter().zip(&large.client_ms[step]);
        let ratios: Vec<f64> = pairs.map(|(small, large)| large / small).collect();
        let of = |side: &Side| {
            let count = side.client_ms[step].len() as f64;
            let Counted { buffers, server_ms } = side.counted[step];
            json!({ "client_ms": median(&side.client_ms[step]), "server_ms": server_ms / count, "buffers": buffers / count })
        };
        let (ratio, pairs) = (median(&ratios), ratios.len());
        steps.push(json!({ "step": name, "small": of(small), "large": of(large), "ratio": ratio, "pairs": pairs }));
    }
    let queued = [sides[0].waiting_now().await, sides[1].waiting_now().await];
    println!("{}", json!({ "queued": queued, "steps": steps }));
    for side in sides {
        side.ledger.close().await;
    }
}
