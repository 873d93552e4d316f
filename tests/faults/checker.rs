//! Judges a run by what clients were told and what is there in the end. Pure: evidence in, findings out.
//!
//! Nothing of the program is used to judge it; the rules are those of the promises, written down a second time.

use std::collections::{BTreeMap, BTreeSet};

use super::evidence::{Event, Evidence, Job, object_of};

/// What the fault may cost.
#[derive(Debug, Clone, Copy, Default)]
pub struct Allowed {
    /// Attempts beyond the first, all jobs together.
    pub attempts_spent: u32,
}

/// A broken promise.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Finding {
    /// An accepted upload has no job, no bytes, or no end.
    Lost(String),
    /// A good page did not end well.
    EndedBadly(String),
    /// One upload has more than one visible result.
    Twice(String),
    /// More attempts were spent than the fault explains.
    Spent(String),
    /// Numbers of an owner's events have a gap, go back, or mean two things.
    Numbering(String),
    /// A job changed its state in a way that the table does not know.
    Move(String),
    /// Bytes are not what their row says.
    Bytes(String),
    /// An answer that no client can make sense of.
    Answer(String),
}

/// Answers that a client may get while something is broken: try again.
const COME_BACK: [u16; 4] = [408, 429, 503, 507];

/// All broken promises, in order.
pub fn check(evidence: &Evidence, allowed: Allowed) -> BTreeSet<Finding> {
    let mut findings = BTreeSet::new();
    answers(evidence, &mut findings);
    ends(evidence, &mut findings);
    results(evidence, &mut findings);
    attempts(evidence, allowed, &mut findings);
    numbers(evidence, &mut findings);
    moves(evidence, &mut findings);
    bytes(evidence, &mut findings);
    findings
}

fn answers(evidence: &Evidence, findings: &mut BTreeSet<Finding>) {
    for answer in &evidence.answers {
        let fine = match answer.status {
            Some(202) => answer.job.is_some(),
            Some(status) => COME_BACK.contains(&status),
            None => true,
        };
        if !fine {
            findings.insert(Finding::Answer(format!("upload {}: {:?}", answer.upload, answer.status)));
        }
    }
    let mut told: BTreeMap<u32, &str> = BTreeMap::new();
    for (upload, job) in evidence.accepted() {
        let first = told.entry(upload).or_insert(job);
        if *first != job {
            findings.insert(Finding::Twice(format!("upload {upload} was told job {first} and job {job}")));
        }
    }
}

/// Every accepted upload has a job that ended well, and its bytes are those that were sent.
fn ends(evidence: &Evidence, findings: &mut BTreeSet<Finding>) {
    let jobs: BTreeMap<&str, &Job> = evidence.jobs.iter().map(|job| (job.id.as_str(), job)).collect();
    for (upload, id) in evidence.accepted() {
        let Some(job) = jobs.get(id) else {
            findings.insert(Finding::Lost(format!("upload {upload}: there is no job {id}")));
            continue;
        };
        match job.state.as_str() {
            "succeeded" => {}
            "failed" | "cancelled" => drop(findings.insert(Finding::EndedBadly(format!("job {id} is {}", job.state)))),
            other => drop(findings.insert(Finding::Lost(format!("job {id} is still {other}")))),
        }
        if evidence.sent.get(&upload) != Some(&job.image_sha256) {
            findings.insert(Finding::Bytes(format!("the image of upload {upload} is not what was sent")));
        }
    }
}

/// One job for each upload, one success for each job, and the files of one start.
fn results(evidence: &Evidence, findings: &mut BTreeSet<Finding>) {
    let told: BTreeSet<&str> = evidence.accepted().map(|(_, job)| job).collect();
    for job in evidence.jobs.iter().filter(|job| !told.contains(job.id.as_str())) {
        // Every upload is sent until it is accepted: a job that nobody was told of is one upload's second.
        findings.insert(Finding::Twice(format!("nobody was told of job {}", job.id)));
    }
    for job in &evidence.jobs {
        let of_job = || evidence.files.iter().filter(|file| file.job == job.id);
        let starts: BTreeSet<u32> = of_job().map(|file| file.start).collect();
        let names: BTreeSet<&str> = of_job().map(|file| file.name.as_str()).collect();
        if starts.len() > 1 || names.len() < of_job().count() {
            findings.insert(Finding::Twice(format!("job {} shows files of starts {starts:?}", job.id)));
        }
        let succeeded =
            evidence.events.iter().filter(|event| event.job == job.id && event.state == "succeeded").count();
        if succeeded > 1 {
            findings.insert(Finding::Twice(format!("job {} succeeded {succeeded} times", job.id)));
        }
        if job.state == "succeeded" && !starts.contains(&job.starts) {
            findings.insert(Finding::Lost(format!("job {} succeeded and shows no file of its last start", job.id)));
        }
    }
}

fn attempts(evidence: &Evidence, allowed: Allowed, findings: &mut BTreeSet<Finding>) {
    for job in &evidence.jobs {
        if job.attempt > job.attempts_max || job.attempt > job.starts {
            let Job { id, attempt, starts, attempts_max, .. } = job;
            findings.insert(Finding::Spent(format!("job {id}: {attempt} of {attempts_max} in {starts} starts")));
        }
    }
    let spent = evidence.attempts_spent();
    if spent > allowed.attempts_spent {
        findings.insert(Finding::Spent(format!("{spent} attempts where {} are explained", allowed.attempts_spent)));
    }
}

/// Numbers of each owner run from 1 to the head; a watcher sees them in order, without a gap, and with the same meaning.
fn numbers(evidence: &Evidence, findings: &mut BTreeSet<Finding>) {
    let mut by_owner: BTreeMap<&str, Vec<&Event>> = BTreeMap::new();
    for event in &evidence.events {
        by_owner.entry(&event.owner).or_default().push(event);
    }
    for (owner, events) in &mut by_owner {
        events.sort_by_key(|event| event.seq);
        let mut expected = 1;
        for event in events {
            if event.seq != expected {
                let what = if event.seq < expected { "is used twice" } else { "comes after a gap" };
                findings.insert(Finding::Numbering(format!("{owner}: {} {what}", event.seq)));
            }
            expected = event.seq + 1;
        }
        if evidence.heads.get(*owner).is_some_and(|head| *head != expected - 1) {
            findings.insert(Finding::Numbering(format!("{owner}: the last event is {}, not the head", expected - 1)));
        }
    }
    let kept: BTreeMap<(&str, i64), &Event> = evidence.events.iter().map(|e| ((e.owner.as_str(), e.seq), e)).collect();
    let mut last: Option<i64> = None;
    for event in &evidence.watched {
        if last.is_some_and(|last| event.seq != last + 1) {
            let last = last.unwrap_or_default();
            findings.insert(Finding::Numbering(format!("a watcher saw {} after {last}", event.seq)));
        }
        last = Some(event.seq);
        let same = kept.get(&(event.owner.as_str(), event.seq));
        if same.is_none_or(|kept| (&kept.job, &kept.state, kept.attempt) != (&event.job, &event.state, event.attempt)) {
            findings.insert(Finding::Numbering(format!("number {} meant something else to a watcher", event.seq)));
        }
    }
}

/// What may follow what in the events of one job.
fn may_follow(before: Option<&Event>, now: &Event) -> bool {
    let Some(before) = before else { return now.state == "queued" && now.attempt == 0 };
    match (before.state.as_str(), now.state.as_str()) {
        ("queued", "running") => now.attempt == before.attempt + 1,
        // Spent, or handed back.
        ("running", "queued") => now.attempt == before.attempt || now.attempt + 1 == before.attempt,
        ("running", "succeeded" | "failed" | "cancelled") => now.attempt == before.attempt,
        ("queued", "cancelled") => true,
        _ => false,
    }
}

fn moves(evidence: &Evidence, findings: &mut BTreeSet<Finding>) {
    let mut last: BTreeMap<&str, &Event> = BTreeMap::new();
    let mut events: Vec<&Event> = evidence.events.iter().collect();
    events.sort_by_key(|event| event.seq);
    for event in events {
        let before = last.insert(&event.job, event);
        if !may_follow(before, event) {
            let from = before.map_or("nothing", |before| before.state.as_str());
            let text = format!("job {}: {from} → {} with attempt {}", event.job, event.state, event.attempt);
            findings.insert(Finding::Move(text));
        }
    }
    for job in &evidence.jobs {
        let told = last.get(job.id.as_str()).map(|event| (event.state.as_str(), event.attempt));
        // A release is no event.
        let same = told == Some((job.state.as_str(), job.attempt)) || job.state == "released";
        if !same {
            findings.insert(Finding::Move(format!("job {} is {}, its last event says {told:?}", job.id, job.state)));
        }
    }
}

/// Every visible file has an object with the hash that its row says, and so has every image.
fn bytes(evidence: &Evidence, findings: &mut BTreeSet<Finding>) {
    for file in &evidence.files {
        let key = object_of(file);
        if evidence.objects.get(&key) != Some(&file.sha256) {
            findings.insert(Finding::Bytes(format!("{key} is missing or not what its row says")));
        }
    }
    for job in &evidence.jobs {
        let key = format!("img/{}/original", job.image);
        if evidence.objects.get(&key) != Some(&job.image_sha256) {
            findings.insert(Finding::Bytes(format!("{key} is missing or not what its row says")));
        }
    }
}
