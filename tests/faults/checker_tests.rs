//! Seeded bugs: a good run is changed as a broken program would have it, and the checker must say what is wrong.

use std::collections::BTreeSet;

use super::checker::{Allowed, Finding, check};
use super::evidence::{Answer, Event, Evidence, File, Job};

const OWNER: &str = "owner";

fn event(seq: i64, job: u32, state: &str, attempt: u32) -> Event {
    let (owner, job, state) = (OWNER.to_owned(), format!("job-{job}"), state.to_owned());
    Event { owner, seq, job, state, attempt, node: Some("node-1".to_owned()), at_ms: 1000 * seq }
}

/// Three uploads: a plain one, one whose first answer was lost, one that was handed back once.
fn good() -> Evidence {
    let mut evidence = Evidence::default();
    let mut seq = 0;
    for number in 0..3 {
        let (id, image, sha256) = (format!("job-{number}"), format!("image-{number}"), format!("sent-{number}"));
        if number == 1 {
            evidence.answers.push(Answer { upload: number, node: 0, status: None, job: None });
            evidence.answers.push(Answer { upload: number, node: 1, status: Some(503), job: None });
        }
        evidence.answers.push(Answer { upload: number, node: 2, status: Some(202), job: Some(id.clone()) });
        evidence.sent.insert(number, sha256.clone());
        let starts = if number == 2 { 2 } else { 1 };
        let mut says = |state: &str, attempt| {
            seq += 1;
            evidence.events.push(event(seq, number, state, attempt));
        };
        says("queued", 0);
        says("running", 1);
        if number == 2 {
            says("queued", 0);
            says("running", 1);
        }
        says("succeeded", 1);
        for name in ["full.webp", "manifest.json"] {
            let file =
                File { job: id.clone(), start: starts, name: name.to_owned(), sha256: format!("{name}-{number}") };
            evidence.objects.insert(format!("out/{id}/{starts}/{name}"), file.sha256.clone());
            evidence.files.push(file);
        }
        evidence.objects.insert(format!("img/{image}/original"), sha256.clone());
        evidence.jobs.push(Job {
            id,
            image,
            image_sha256: sha256,
            owner: OWNER.to_owned(),
            state: "succeeded".to_owned(),
            starts,
            attempt: 1,
            attempts_max: 5,
        });
    }
    evidence.heads.insert(OWNER.to_owned(), seq);
    evidence.watched = evidence.events[4..].to_vec();
    evidence
}

/// What is found after a change, beyond what a good run shows.
fn found(change: impl FnOnce(&mut Evidence)) -> BTreeSet<Finding> {
    let mut evidence = good();
    change(&mut evidence);
    check(&evidence, Allowed::default())
}

macro_rules! catches {
    ($found:expr, $($finding:ident),+) => {{
        let found = $found;
        $(assert!(found.iter().any(|finding| matches!(finding, Finding::$finding(_))), "{found:?}");)+
    }};
}

#[test]
fn a_good_run_has_no_finding() {
    assert_eq!(found(|_| {}), BTreeSet::new());
}

#[test]
fn seed_1_an_accepted_job_is_lost() {
    catches!(found(|run| drop(run.jobs.remove(1))), Lost);
    catches!(found(|run| run.jobs[1].state = "released".to_owned()), Lost);
    catches!(found(|run| run.files.retain(|file| file.job != "job-1")), Lost);
}

#[test]
fn seed_2_a_result_is_published_twice() {
    // Files of a start that did not win.
    let late = |run: &mut Evidence| {
        let mut file = run.files.last().unwrap().clone();
        (file.start, file.name) = (1, "late.webp".to_owned());
        run.objects.insert("out/job-2/1/late.webp".to_owned(), file.sha256.clone());
        run.files.push(file);
    };
    catches!(found(late), Twice);
    // A second success of one job.
    let again = |run: &mut Evidence| {
        run.events.push(event(12, 2, "succeeded", 1));
        run.heads.insert(OWNER.to_owned(), 12);
    };
    catches!(found(again), Twice, Move);
    // A second job for one upload, told or not.
    catches!(found(|run| run.answers.retain(|answer| answer.upload != 0)), Twice);
    let told = |run: &mut Evidence| {
        run.answers.push(Answer { upload: 0, node: 1, status: Some(202), job: Some("job-1".to_owned()) });
    };
    catches!(found(told), Twice);
}

#[test]
fn seed_3_an_attempt_is_spent_by_a_loss_that_is_not_the_jobs() {
    let spent = |run: &mut Evidence| {
        // It was handed back, and paid for it.
        run.jobs[2].attempt = 2;
        run.events[8].attempt = 1;
        run.events[9].attempt = 2;
        run.events[10].attempt = 2;
        run.watched = Vec::new();
    };
    let only: Vec<_> = found(spent).into_iter().collect();
    assert!(matches!(only[..], [Finding::Spent(_)]), "{only:?}");
    let mut paid = good();
    spent(&mut paid);
    assert_eq!(check(&paid, Allowed { attempts_spent: 1 }), BTreeSet::new());
    catches!(found(|run| run.jobs[0].attempt = 6), Spent, Move);
}

#[test]
fn seed_4_the_number_of_an_event_is_used_again() {
    catches!(found(|run| run.events[5].seq = 5), Numbering);
    // The ledger went back and gave a number again, which a watcher had seen as something else.
    catches!(found(|run| run.watched[0].job = "job-2".to_owned()), Numbering);
    catches!(found(|run| drop(run.watched.remove(2))), Numbering);
    catches!(found(|run| drop(run.events.remove(3))), Numbering, Move);
    catches!(found(|run| run.heads.values_mut().for_each(|head| *head += 1)), Numbering);
}

#[test]
fn seed_5_bytes_are_not_what_their_row_says() {
    catches!(found(|run| run.files[0].sha256 = "other".to_owned()), Bytes);
    catches!(found(|run| drop(run.objects.remove("img/image-1/original"))), Bytes);
    let swapped = |run: &mut Evidence| {
        run.jobs[0].image_sha256 = "sent-1".to_owned();
        run.objects.insert("img/image-0/original".to_owned(), "sent-1".to_owned());
    };
    catches!(found(swapped), Bytes);
}

#[test]
fn moves_that_the_table_does_not_know_are_seen() {
    catches!(found(|run| run.events[1].state = "succeeded".to_owned()), Move);
    catches!(found(|run| run.jobs[0].state = "failed".to_owned()), Move, EndedBadly);
    catches!(found(|run| run.events[1].attempt = 2), Move);
}

#[test]
fn an_answer_must_be_one_that_a_client_can_act_on() {
    let said = |status| move |run: &mut Evidence| run.answers[1].status = Some(status);
    catches!(found(said(500)), Answer);
    catches!(found(said(404)), Answer);
    assert_eq!(found(said(507)), BTreeSet::new());
}
