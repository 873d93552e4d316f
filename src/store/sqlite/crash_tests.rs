//! `kill -9` while submissions and whole lives of jobs are being committed: what was acknowledged is there, whole.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::store::suite;

const CHILD: &str = "store::sqlite::crash_tests::child";
/// Each with the file that the rounds before left behind.
const ROUNDS: u32 = 6;
const OWNER: OwnerId = OwnerId::LOCAL;

async fn open(path: &Path) -> Arc<dyn Ledger> {
    let settings = config::Config::defaults().unwrap().store;
    Arc::new(super::open(path, &settings).await.unwrap())
}

/// Not a test of its own: the process that is killed. It reads the path from standard input and says on standard output
/// what was acknowledged, one line each, until it dies.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "the child process of the test below"]
async fn child() {
    let mut path = String::new();
    std::io::stdin().read_line(&mut path).unwrap();
    if path.trim().is_empty() {
        return;
    }
    let ledger = open(Path::new(path.trim())).await;
    let workers = (0..4).map(|_| {
        let ledger = Arc::clone(&ledger);
        tokio::spawn(async move {
            for count in 1.. {
                let items: Vec<_> = (0..count % 3 + 1).map(|_| suite::item(OWNER)).collect();
                let Accepted::Created(created) = ledger.accept(suite::request(OWNER, items)).await.unwrap() else {
                    panic!("refused")
                };
                for (_, job) in &created {
                    say(job.id, State::Queued);
                }
                let job = &created[0].1;
                let start = suite::start(&ledger, job).await;
                say(job.id, State::Running);
                ledger.finish(job.id, start, suite::success()).await.unwrap();
                say(job.id, State::Succeeded);
            }
        })
    });
    futures::future::join_all(workers).await;
}

fn say(job: JobId, state: State) {
    let mut out = std::io::stdout().lock();
    // In one write: a line is said whole or not at all.
    out.write_all(format!("@{job} {state}\n").as_bytes()).and_then(|()| out.flush()).unwrap();
}

/// Runs a child, kills it `after` its first word, and returns what it said last of each job.
fn run_and_kill(path: &Path, after: Duration) -> BTreeMap<JobId, State> {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", CHILD, "--ignored", "--nocapture"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    writeln!(child.stdin.take().unwrap(), "{}", path.display()).unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    let mut said = BTreeMap::new();
    let mut hear = |line: &str| {
        let Some((job, state)) = line.rsplit_once('@').and_then(|(_, word)| word.split_once(' ')) else { return false };
        said.insert(job.parse().unwrap(), State::parse(state).unwrap());
        true
    };
    let spoke = lines.by_ref().any(|line| hear(&line));
    std::thread::sleep(after);
    child.kill().unwrap();
    child.wait().unwrap();
    for line in lines {
        hear(&line);
    }
    assert!(spoke, "the child never came to its work");
    said
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_survives_kill_9() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("ledger.db");
    let mut said = BTreeMap::new();
    for round in 0..ROUNDS {
        let after = Duration::from_millis(u64::from(rand::random_range(0..80 * (round + 1))));
        let (child_path, before) = (path.clone(), said.len());
        let heard = tokio::task::spawn_blocking(move || run_and_kill(&child_path, after)).await.unwrap();
        said.extend(heard);
        assert!(said.len() > before);
        let ledger = open(&path).await;
        check(&ledger, &said).await;
        // What the dead process held is lost; the next round starts from there.
        ledger.recover(&suite::holder().node, "another").await.unwrap();
        said.values_mut().filter(|state| **state == State::Running).for_each(|state| *state = State::Queued);
        ledger.close().await;
    }
}

async fn check(ledger: &Arc<dyn Ledger>, said: &BTreeMap<JobId, State>) {
    let jobs = ledger.jobs(OWNER, JobFilter::default(), None, 1_000_000).await.unwrap();
    let rows: BTreeMap<JobId, &JobRow> = jobs.iter().map(|job| (job.id, job)).collect();
    for (id, least) in said {
        let row = rows.get(id).unwrap_or_else(|| panic!("{id} was acknowledged as {least} and is gone"));
        assert!(row.state >= *least, "{id} was acknowledged as {least} and is {}", row.state);
    }
    let waiting = suite::waiting_ids(ledger).await;
    for row in rows.values() {
        assert_eq!(waiting.contains(&row.id), row.state == State::Queued, "the outbox of {}", row.id);
        let files = ledger.files(OWNER, row.image_id).await.unwrap().len();
        assert_eq!(files, if row.state == State::Succeeded { 2 } else { 0 }, "{}", row.id);
        let last = ledger.events_after(OWNER, Some(row.id), 0, 100).await.unwrap().pop().unwrap();
        let seen = if row.state == State::Released { "queued" } else { row.state.as_str() };
        assert_eq!(last.kind, seen, "{}", row.id);
        assert!(ledger.image(OWNER, row.image_id).await.unwrap().is_some());
    }
}
