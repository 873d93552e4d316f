//! Several nodes on one database.

use std::collections::BTreeMap;

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
                let holder = Holder { node: format!("node-{claimer}"), incarnation: "first".to_owned(), slot: 0 };
                match ledger.claim(job, 0, holder).await.unwrap() {
                    Claim::Won { job, .. } => won.push((job.id, job.node.clone())),
                    Claim::Gone(state) => assert_eq!(state, Some(State::Running)),
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
