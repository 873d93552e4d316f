//! Several nodes on one database.

use std::collections::BTreeMap;
use std::time::Duration;

use uuid::Uuid;

use super::*;

fn all(fresh: &Fresh) -> Vec<Arc<dyn Ledger>> {
    std::iter::once(&fresh.ledger).chain(&fresh.peers).map(Arc::clone).collect()
}

/// Eight claimers on all nodes try each of 400 jobs, each in its own order.
pub(crate) async fn every_job_is_claimed_once(fresh: &Fresh) {
    const CLAIMERS: usize = 8;
    let (nodes, owner) = (all(fresh), OwnerId::fresh());
    let items = (0..400).map(|_| item(owner)).collect();
    let Accepted::Created(created) = fresh.ledger.accept(request(owner, items)).await.unwrap() else {
        panic!("not created")
    };
    let jobs: Vec<JobId> = created.iter().map(|(_, job)| job.id).collect();
    let claiming = (0..CLAIMERS).map(|claimer| {
        let (ledger, mut jobs) = (Arc::clone(&nodes[claimer % nodes.len()]), jobs.clone());
        let (from, count) = (claimer * 50, jobs.len());
        jobs.rotate_left(from % count);
        tokio::spawn(async move {
            let mut won = Vec::new();
            for job in jobs {
                let holder = Holder {
                    node: format!("node-{claimer}"),
                    incarnation: "first".to_owned(),
                    slot: 0,
                    memory_bytes_max: None,
                };
                match ledger.claim(job, 0, holder).await.unwrap() {
                    Claim::Won { job, .. } => won.push((job.id, job.node.clone())),
                    Claim::Gone(state) => assert_eq!(state, Some(State::Running)),
                    Claim::TooLarge(needed) => panic!("nobody said that it needs {needed} bytes"),
                }
            }
            won
        })
    });
    let won = futures::future::join_all(claiming).await.into_iter().flat_map(Result::unwrap);
    let mut holders: BTreeMap<JobId, Vec<Option<String>>> = BTreeMap::new();
    won.for_each(|(job, node)| holders.entry(job).or_default().push(node));
    assert_eq!(holders.len(), jobs.len());
    for row in fresh.ledger.jobs(owner, JobFilter::default(), None, 1000).await.unwrap() {
        assert_eq!((row.state, row.starts, row.attempt), (State::Running, 1, 1));
        assert_eq!(holders[&row.id], [row.node], "won once, by the one in the row");
    }
    assert_eq!(fresh.ledger.events_after(owner, None, 0, 1000).await.unwrap().len(), 2 * jobs.len());
}

pub(crate) async fn a_key_raced_for_is_won_once(fresh: &Fresh) {
    let (nodes, owner) = (all(fresh), OwnerId::fresh());
    for round in 0..10 {
        let asked = (0..8).map(|number| {
            let key = format!("k{round}");
            let answer = json!(number);
            let idempotency = Some(Idempotency { key, fingerprint: "f".to_owned(), answer });
            nodes[number % nodes.len()].accept(Submission { idempotency, ..request(owner, vec![item(owner)]) })
        });
        let answers = futures::future::join_all(asked).await;
        let created = answers.iter().filter(|answer| matches!(answer, Ok(Accepted::Created(_)))).count();
        let replayed = answers.iter().filter(|answer| matches!(answer, Ok(Accepted::Replayed(_)))).count();
        assert_eq!((created, replayed), (1, 7), "{answers:?}");
    }
    assert_eq!(fresh.ledger.images(owner, None, 100).await.unwrap().len(), 10);
}

/// Either the job came first and went with the image, or it found none.
pub(crate) async fn what_is_deleted_gets_no_job(fresh: &Fresh) {
    let (nodes, owner) = (all(fresh), OwnerId::fresh());
    for _ in 0..20 {
        let first = submit(&nodes[0], owner).await;
        let again = NewJob { image_id: first.image_id, ..item(owner).1 };
        let last = nodes.last().unwrap();
        let (deleted, added) =
            tokio::join!(nodes[0].delete_image(owner, first.image_id), last.process_again(again, limits()));
        assert!(deleted.unwrap().is_some());
        assert!(matches!(added, Ok(None | Some(Admission::Created(_)))), "{added:?}");
        assert_eq!(fresh.ledger.jobs(owner, JobFilter::default(), None, 10).await.unwrap(), []);
    }
}

const LONG: Duration = Duration::from_secs(3600);

async fn names(ledger: &Arc<dyn Ledger>) -> Vec<String> {
    ledger.nodes().await.unwrap().into_iter().map(|node| node.name).collect()
}

pub(crate) async fn leases_are_renewed_and_run_out(fresh: &Fresh) {
    let (ledger, other) = (&fresh.ledger, &fresh.peers[0]);
    let (first, second) = (Uuid::new_v4(), Uuid::new_v4());
    ledger.enlist("node-a", first, LONG).await.unwrap();
    other.enlist("node-b", second, LONG).await.unwrap();
    let view = json!({"slots": 3});
    assert_eq!(ledger.renew("node-a", first, view.clone(), LONG).await.unwrap(), Renewal::Renewed(None));
    let nodes = other.nodes().await.unwrap();
    assert_eq!(nodes[0], NodeRow { name: "node-a".to_owned(), view: view.clone() });
    assert_eq!(nodes[1].name, "node-b");
    // Over at once, and back with the next renewal.
    ledger.renew("node-a", first, view.clone(), Duration::ZERO).await.unwrap();
    assert_eq!(names(other).await, ["node-b"]);
    ledger.renew("node-a", first, view.clone(), LONG).await.unwrap();
    assert_eq!(names(other).await, ["node-a", "node-b"]);
    // A later process of the same name; the earlier one cannot give back what is not its own.
    ledger.enlist("node-a", second, LONG).await.unwrap();
    assert_eq!(ledger.renew("node-a", first, view, LONG).await.unwrap(), Renewal::NameTaken);
    ledger.leave("node-a", first).await.unwrap();
    assert_eq!(names(other).await, ["node-a", "node-b"]);
    ledger.leave("node-a", second).await.unwrap();
    assert_eq!(names(other).await, ["node-b"]);
}

pub(crate) async fn a_wish_is_heard_once(fresh: &Fresh) {
    let (ledger, other) = (&fresh.ledger, &fresh.peers[0]);
    let process = Uuid::new_v4();
    let wish = NodeWish { slots: Some(4), draining: None };
    assert!(!other.wish("node-a", wish).await.unwrap(), "no such node");
    ledger.enlist("node-a", process, LONG).await.unwrap();
    assert!(other.wish("node-a", wish).await.unwrap());
    let renew = || ledger.renew("node-a", process, json!(null), LONG);
    assert_eq!(renew().await.unwrap(), Renewal::Renewed(Some(wish)));
    assert_eq!(renew().await.unwrap(), Renewal::Renewed(None));
    ledger.renew("node-a", process, json!(null), Duration::ZERO).await.unwrap();
    assert!(!other.wish("node-a", wish).await.unwrap(), "a node without a lease hears nothing");
}

/// All look at once; each job is put back by one of them.
pub(crate) async fn jobs_of_lost_nodes_are_rescued(fresh: &Fresh) {
    let (ledger, owner) = (&fresh.ledger, OwnerId::fresh());
    let process = Uuid::new_v4();
    for name in ["node-a", "node-b"] {
        ledger.enlist(name, process, LONG).await.unwrap();
    }
    let mut held = Vec::new();
    for node in ["node-a", "node-b"] {
        for _ in 0..10 {
            let job = submit(ledger, owner).await;
            assert!(ledger.release(job.id, node).await.unwrap());
            let holder =
                Holder { node: node.to_owned(), incarnation: "first".to_owned(), slot: 0, memory_bytes_max: None };
            assert!(matches!(ledger.claim(job.id, 0, holder).await.unwrap(), Claim::Won { .. }));
            held.push(job);
        }
    }
    let on_its_bus = submit(ledger, owner).await;
    assert!(ledger.release(on_its_bus.id, "node-b").await.unwrap());
    assert_eq!(ledger.rescue(true).await.unwrap(), [], "all live");
    let later = submit(ledger, owner).await;
    tokio::time::sleep(Duration::from_millis(5)).await;
    ledger.renew("node-b", process, json!(null), Duration::ZERO).await.unwrap();
    let rescued = futures::future::join_all(all(fresh).iter().map(|node| node.rescue(false))).await;
    let mut rescued: Vec<_> = rescued.into_iter().flat_map(Result::unwrap).collect();
    rescued.sort();
    let lost: Vec<_> = held[10..].iter().map(|job| (job.id, State::Queued)).collect();
    assert_eq!(rescued, lost);
    let first = lost.iter().map(|(job, _)| *job).chain([later.id]).collect::<Vec<_>>();
    assert_eq!(waiting_ids(ledger).await, first, "what was lost does not wait again for those who came later");
    for job in &held[..10] {
        assert_eq!(row(ledger, job).await.state, State::Running);
    }
    let back = row(ledger, &held[10]).await;
    assert_eq!((back.attempt, back.starts, back.crashes), (1, 1, 0), "spent, but nobody is to blame");
    assert_eq!(back.error.unwrap().code, "node_lost");
    assert_eq!(row(ledger, &on_its_bus).await.state, State::Released, "on a bus that all share");
    assert_eq!(ledger.rescue(true).await.unwrap(), [(on_its_bus.id, State::Queued)]);
    // What the lost node still says has no effect.
    assert_eq!(ledger.finish(held[10].id, 1, success()).await.unwrap(), Finished::Stale);
}

pub(crate) async fn a_cancel_reaches_the_node_that_works(fresh: &Fresh) {
    let (ledger, other, owner) = (&fresh.ledger, &fresh.peers[0], OwnerId::fresh());
    let job = in_state(ledger, owner, State::Running).await;
    in_state(ledger, owner, State::Running).await;
    assert_eq!(ledger.asked_to_stop("node-a").await.unwrap(), []);
    assert!(matches!(other.cancel(owner, job.id).await.unwrap(), Some(Cancelled::Asked(_))));
    assert_eq!(ledger.asked_to_stop("node-a").await.unwrap(), [job.id]);
    assert_eq!(ledger.asked_to_stop("node-b").await.unwrap(), []);
    ledger.finish(job.id, 1, Finish::Cancelled).await.unwrap();
    assert_eq!(ledger.asked_to_stop("node-a").await.unwrap(), []);
}
