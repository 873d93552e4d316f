//! `docs/faults.md`: one line for each fault, written by the run that made it. The lines of other faults stay.

use std::path::Path;
use std::process::Command;

/// All faults, in the order of the table: name, and what it is.
pub const ROWS: [(&str, &str); 17] = [
    ("kill_node", "`kill -9` of a node, started again after 45 s"),
    ("stop_node", "SIGSTOP of a node for 60 s"),
    ("kill_worker", "`kill -9` of both workers of a node"),
    ("kill_postgres", "PostgreSQL killed, back after 10 s"),
    ("kill_nats", "NATS killed, back after 30 s"),
    ("wipe_nats", "NATS killed, back with an empty disk"),
    ("roll_back_nats", "NATS killed, back with its disk of 60 s before"),
    ("s3_unavailable", "S3 answers 503 for 60 s"),
    ("s3_hangs", "S3 takes requests and does not answer for 60 s"),
    ("cut_from_postgres", "a node cut off from PostgreSQL for 60 s"),
    ("cut_from_nats", "a node cut off from NATS for 60 s"),
    ("cut_from_s3", "a node cut off from S3 for 60 s"),
    ("full_disk", "the disk of a node's slots full for 60 s"),
    ("wrong_clock", "the clock of a node an hour ahead for 60 s (S3 refuses its signatures)"),
    ("kill_container", "a worker's container killed (Docker slots)"),
    ("kill_engine", "the Docker Engine killed, back after 30 s (Docker slots)"),
    ("rolling_restart", "all nodes stopped by SIGTERM and started again, one after the other"),
];

const HEAD: &str = "# Faults

Three nodes with two slots each, on a PostgreSQL, a NATS and an S3 server of the run's own, with a proxy between each node and each
service, take 5 uploads a second of small pages; every tenth keeps its slot for 3 s. One fault is made, and undone; when all jobs
have ended, a checker reads what the clients were told and what is in the ledger and in the bucket (`tests/faults/checker.rs`, itself
tested by seeded bugs). **This file is written by `scripts/faults`**, each line by `scripts/faults NAME`.

| column | meaning |
|---|---|
| accepted | uploads answered 202 |
| lost | of them without a good end, or without their bytes; must be 0 |
| twice | uploads with a second job, or a second result; must be 0 |
| other | further findings of the checker: numbers of events, moves of states, answers, attempts beyond those explained; must be 0 |
| again | tries of clients that were refused or not answered, and made again with the same key |
| orphans, s | starts that were cut short, and seconds until the last of them had the next one, counted from the fault, or where everybody was without a service, from its return; must be at most 35 |
| attempts | attempts spent beyond the first of each job, and how many the fault explains |
| leaks | left over 60 s after the last job ended: slot directories, files in them, workers and containers without an owner, connections, messages; must be 0 |
| objects | outputs of starts that did not win and could not be removed at once: the janitor takes them after `blobs.orphan_after_s` |

| name | fault | accepted | lost | twice | other | again | orphans, s | attempts | leaks | objects | measured |
|---|---|---|---|---|---|---|---|---|---|---|---|
";

/// Replaces one line. `cells` are those from `accepted` to `objects`.
pub fn write(name: &str, cells: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/faults.md");
    let before = std::fs::read_to_string(&path).unwrap_or_default();
    let mut text = HEAD.to_owned();
    for (row, what) in ROWS {
        let start = format!("| `{row}` |");
        let line = if row == name {
            format!("{start} {what} | {cells} | {} |", machine())
        } else {
            let kept = before.lines().find(|line| line.starts_with(&start));
            kept.map_or_else(|| format!("{start} {what} | not run | | | | | | | | | |"), str::to_owned)
        };
        text.push_str(&line);
        text.push('\n');
    }
    std::fs::write(path, text).unwrap();
}

/// When, on how many cores, and how busy they are.
fn machine() -> String {
    let date = Command::new("date").args(["-u", "+%F %H:%M"]).output().unwrap();
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let load = load.split(' ').next().unwrap_or_default();
    let all = std::fs::read_dir("/sys/devices/system/cpu").map_or(0, |entries| {
        let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        names.filter(|name| name.strip_prefix("cpu").is_some_and(|number| number.parse::<u32>().is_ok())).count()
    });
    format!("{}, {cores} of {all} cores, load {load}, debug build", String::from_utf8_lossy(&date.stdout).trim())
}
