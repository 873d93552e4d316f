//! One run: cluster, load, fault, quiet, judgement, and the line of the table.

use std::collections::BTreeSet;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::checker::{Allowed, Finding, check};
use super::cluster::{Cluster, short_leases};
use super::collect;
use super::common::server::{Options, PATIENCE};
use super::common::{nats, postgres};
use super::evidence::Evidence;
use super::leaks;
use super::load::Load;
use super::measure::{Orphans, orphans};
use super::table;

/// After a fault all jobs must have ended within this time.
const QUIET_MAX: Duration = Duration::from_secs(300);
/// Then nothing may be left over after this time.
const LEAKS_MAX: Duration = Duration::from_secs(60);
const ORPHAN_SECONDS_MAX: f64 = 35.0;

pub struct Run {
    name: &'static str,
    pub cluster: Cluster,
    pub load: Load,
    /// Times of the defaults, and a line in the table.
    pub full: bool,
    /// What orphans are counted from.
    since_ms: i64,
    /// Further leaks that this fault may leave.
    pub look: Box<dyn Fn() -> Vec<String>>,
}

/// `INKPOOL_FAULTS=full` is what `scripts/faults` sets.
#[expect(clippy::disallowed_methods, reason = "a setting of the tests, not one of the program")]
fn is_full() -> bool {
    std::env::var("INKPOOL_FAULTS").is_ok_and(|value| value == "full")
}

pub fn now_ms() -> i64 {
    i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap()
}

impl Run {
    /// A cluster under load; `None`, with a word, where the services cannot be started.
    pub async fn begin(name: &'static str) -> Option<Self> {
        Self::begin_with(name, |_, options| options, |_| {}).await
    }

    /// The same with changed options, and something to do before the nodes start.
    pub async fn begin_with(
        name: &'static str,
        mut shape: impl FnMut(usize, Options) -> Options,
        prepare: impl FnOnce(&mut Cluster),
    ) -> Option<Self> {
        let full = is_full();
        let has_services = nats::is_installed() && postgres::is_installed();
        if !(full || has_services) {
            eprintln!("not run: PostgreSQL or nats-server is not installed; scripts/test does that");
            return None;
        }
        if full {
            // Stays if this run never comes to its end.
            table::write(name, "broken off | | | | | | | |");
        }
        // Where the ledger itself is away, short leases would run out with it.
        let short = !full && name != "kill_postgres";
        let timed = |options| if short { short_leases(options) } else { options };
        let mut cluster = Cluster::new(|number, options| shape(number, timed(options))).await;
        prepare(&mut cluster);
        cluster.start_nodes();
        for node in &cluster.nodes {
            ready(node.server.as_ref().unwrap()).await;
        }
        let load = Load::start(cluster.addresses());
        let mut run = Self { name, cluster, load, full, since_ms: now_ms(), look: Box::new(Vec::new) };
        run.hold(10, 3).await;
        Some(run)
    }

    /// Lets the load go on, seconds.
    pub async fn hold(&mut self, full: u64, short: u64) {
        tokio::time::sleep(Duration::from_secs(if self.full { full } else { short })).await;
    }

    /// Waits until this node works on a page that keeps it busy for a while.
    pub async fn until_busy(&self, node: usize) {
        let name = self.cluster.nodes[node].name();
        let mut database = self.cluster.postgres.connect().await;
        let began = Instant::now();
        let mut asked = Instant::now();
        loop {
            let slow = self.load.log.slow.lock().unwrap().clone();
            if collect::is_busy(&mut database, &name, &slow, now_ms()).await {
                return;
            }
            assert!(
                began.elapsed() < PATIENCE,
                "node {node} works on nothing: {:?}",
                self.cluster.keep_logs(self.name)
            );
            if asked.elapsed() > Duration::from_secs(4) {
                self.load.slow_page().await;
                asked = Instant::now();
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Orphans are counted from here: the fault, or its end where everybody was without a service.
    pub fn mark(&mut self) {
        self.since_ms = now_ms();
    }

    /// No further load; waits for the end of all jobs, and judges. `spent` attempts are explained by the fault.
    pub async fn end(mut self, spent: u32) {
        let evidence = self.settle().await;
        let left = self.leaks().await;
        let found = check(&evidence, Allowed { attempts_spent: spent });
        let orphans = orphans(&evidence.events, self.since_ms);
        let line = self.line(&evidence, &found, orphans, spent, &left);
        if self.full {
            table::write(self.name, &line);
        }
        eprintln!("{}: {line}", self.name);
        let fine = found.is_empty() && left.is_empty() && orphans.seconds_max <= ORPHAN_SECONDS_MAX;
        let logs = self.cluster.keep_logs(self.name);
        assert!(fine, "{found:#?}\nleft over: {left:#?}\n{orphans:?}\nthe nodes said: {}", logs.display());
    }

    /// Waits until all uploads are accepted and all jobs have ended; what is known then.
    pub async fn settle(&mut self) -> Evidence {
        self.load.stop().await;
        let mut database = self.cluster.postgres.connect().await;
        let began = Instant::now();
        while collect::unfinished(&mut database).await.unwrap() > 0 && began.elapsed() < QUIET_MAX {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        // The watcher may be between two nodes.
        let began = Instant::now();
        loop {
            let head: Option<i64> =
                sqlx::query_scalar("SELECT max(seq) FROM event_heads").fetch_one(&mut database).await.unwrap();
            let seen = self.load.log.watched.lock().unwrap().last().map(|event| event.seq);
            if head == seen || began.elapsed() > PATIENCE {
                break;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        collect::evidence(&self.cluster, &self.load).await
    }

    async fn leaks(&self) -> Vec<String> {
        let began = Instant::now();
        loop {
            let mut left = leaks::look(&self.cluster).await;
            left.extend((self.look)());
            if left.is_empty() || began.elapsed() > LEAKS_MAX {
                return left;
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }

    fn line(
        &self,
        evidence: &Evidence,
        found: &BTreeSet<Finding>,
        orphans: Orphans,
        spent: u32,
        left: &[String],
    ) -> String {
        let accepted: BTreeSet<u32> = evidence.accepted().map(|(upload, _)| upload).collect();
        let count = |of: fn(&Finding) -> bool| found.iter().filter(|finding| of(finding)).count();
        let lost = count(|f| matches!(f, Finding::Lost(_) | Finding::EndedBadly(_) | Finding::Bytes(_)));
        let twice = count(|f| matches!(f, Finding::Twice(_)));
        let other = found.len() - lost - twice;
        let cut = if orphans.count == 0 {
            "none".to_owned()
        } else {
            format!("{}, {:.1}", orphans.count, orphans.seconds_max)
        };
        format!(
            "{} | {lost} | {twice} | {other} | {} | {cut} | {} of {spent} | {} | {}",
            accepted.len(),
            self.load.tried_again(),
            evidence.attempts_spent(),
            left.len(),
            evidence.losing_objects(),
        )
    }
}

async fn ready(server: &super::common::server::Server) {
    let began = Instant::now();
    while server.get("/readyz").await["ready"] != true {
        assert!(began.elapsed() < PATIENCE, "it does not get ready\n{}", server.log());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
