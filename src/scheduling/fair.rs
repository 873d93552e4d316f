//! Which waiting jobs are released to the bus next: max-min fair between owners, interactive before bulk.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::job::{JobId, Lane, OwnerId};

/// A job that waits for release.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    /// Which.
    pub job: JobId,
    /// Whose.
    pub owner: OwnerId,
    /// Where it goes.
    pub lane: Lane,
    /// Starts so far: part of the message id, so that a later start is no duplicate.
    pub starts: u32,
    /// Since when it waits.
    pub since_ms: i64,
    /// Jobs of the same owner that are released or running now.
    pub owner_in_flight: u64,
    /// What its plan is known to ask for, bytes, when that was too much for a node.
    pub memory_needed_bytes: Option<u64>,
}

/// What is remembered between rounds.
#[derive(Debug, Clone, Default)]
pub struct Turns {
    clock: u64,
    last_served: BTreeMap<OwnerId, u64>,
    interactive_since_bulk: u32,
}

/// Owners remembered at most; beyond that the longest unserved are forgotten, which only makes them go first.
const OWNERS_REMEMBERED_MAX: usize = 10_000;

type Queues = BTreeMap<(Lane, OwnerId), VecDeque<JobId>>;

/// At most `room` jobs of `waiting`, in the order of release. One bulk job is let through after every
/// `interactive_per_bulk` interactive ones. Among the owners of a lane the one with the fewest jobs in flight goes
/// first, then the one served longest ago; within an owner the oldest job.
#[must_use]
pub fn release_order(waiting: &[Waiting], room: usize, interactive_per_bulk: u32, turns: &mut Turns) -> Vec<JobId> {
    let mut in_flight: BTreeMap<OwnerId, u64> = BTreeMap::new();
    let mut queues = sorted(waiting, &mut in_flight);
    let mut order = Vec::new();
    while order.len() < room {
        let Some(lane) = next_lane(&queues, interactive_per_bulk, turns) else { break };
        let owners = queues.keys().filter(|key| key.0 == lane).map(|key| key.1);
        let first = owners.min_by_key(|owner| {
            (in_flight.get(owner).copied().unwrap_or(0), turns.last_served.get(owner).copied().unwrap_or(0), *owner)
        });
        let Some(owner) = first else { break };
        let Some(queue) = queues.get_mut(&(lane, owner)) else { break };
        order.extend(queue.pop_front());
        if queue.is_empty() {
            queues.remove(&(lane, owner));
        }
        *in_flight.entry(owner).or_default() += 1;
        turns.served(owner, lane);
    }
    order
}

fn sorted(waiting: &[Waiting], in_flight: &mut BTreeMap<OwnerId, u64>) -> Queues {
    let mut by_age: Vec<&Waiting> = waiting.iter().collect();
    by_age.sort_by_key(|job| (job.since_ms, job.job));
    let mut seen = BTreeSet::new();
    let mut queues = Queues::new();
    for job in by_age {
        if seen.insert(job.job) {
            in_flight.insert(job.owner, job.owner_in_flight);
            queues.entry((job.lane, job.owner)).or_default().push_back(job.job);
        }
    }
    queues
}

fn next_lane(queues: &Queues, interactive_per_bulk: u32, turns: &Turns) -> Option<Lane> {
    let has = |lane| queues.keys().any(|key| key.0 == lane);
    match (has(Lane::Interactive), has(Lane::Bulk)) {
        (true, true) if turns.interactive_since_bulk >= interactive_per_bulk => Some(Lane::Bulk),
        (true, _) => Some(Lane::Interactive),
        (false, true) => Some(Lane::Bulk),
        (false, false) => None,
    }
}

impl Turns {
    fn served(&mut self, owner: OwnerId, lane: Lane) {
        self.clock += 1;
        self.last_served.insert(owner, self.clock);
        self.interactive_since_bulk = match lane {
            Lane::Interactive => self.interactive_since_bulk.saturating_add(1),
            Lane::Bulk => 0,
        };
        if self.last_served.len() > OWNERS_REMEMBERED_MAX {
            let horizon = self.clock.saturating_sub(OWNERS_REMEMBERED_MAX as u64 / 2);
            self.last_served.retain(|_, served| *served > horizon);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use uuid::Uuid;

    fn job(number: u128, owner: u128, lane: Lane, in_flight: u64) -> Waiting {
        Waiting {
            job: JobId(Uuid::from_u128(number)),
            owner: OwnerId(Uuid::from_u128(owner)),
            lane,
            starts: 0,
            since_ms: i64::try_from(number).unwrap(),
            owner_in_flight: in_flight,
            memory_needed_bytes: None,
        }
    }

    fn waiting() -> impl Strategy<Value = Vec<Waiting>> {
        prop::collection::vec((0u128..6, any::<bool>()), 0..60).prop_map(|jobs| {
            let lane = |bulk| if bulk { Lane::Bulk } else { Lane::Interactive };
            let numbered = jobs.into_iter().enumerate();
            numbered
                .map(|(number, (owner, bulk))| {
                    job(number as u128, owner, lane(bulk), u64::try_from(owner).unwrap_or(0))
                })
                .collect()
        })
    }

    proptest! {
        #[test]
        fn releases_as_many_as_it_can_and_none_twice(jobs in waiting(), room in 0usize..80) {
            let order = release_order(&jobs, room, 8, &mut Turns::default());
            prop_assert_eq!(order.len(), room.min(jobs.len()));
            prop_assert_eq!(order.iter().collect::<BTreeSet<_>>().len(), order.len());
        }

        #[test]
        fn within_an_owner_and_lane_the_oldest_goes_first(jobs in waiting(), room in 0usize..80) {
            let order = release_order(&jobs, room, 8, &mut Turns::default());
            for (lane, owner) in jobs.iter().map(|job| (job.lane, job.owner)).collect::<BTreeSet<_>>() {
                let mine = |id: &&JobId| jobs.iter().any(|j| j.job == **id && j.owner == owner && j.lane == lane);
                let released: Vec<_> = order.iter().filter(mine).collect();
                prop_assert!(released.is_sorted());
            }
        }

        #[test]
        fn an_idle_owner_is_served_before_a_busy_one(busy in 1u64..100, queued in 1u128..50) {
            let mut jobs: Vec<_> = (0..queued).map(|n| job(n, 1, Lane::Interactive, busy)).collect();
            jobs.push(job(10_000, 2, Lane::Interactive, 0));
            let order = release_order(&jobs, 1, 8, &mut Turns::default());
            prop_assert_eq!(order, vec![JobId(Uuid::from_u128(10_000))]);
        }

        #[test]
        fn bulk_passes_within_its_share(per_bulk in 1u32..10, rounds in 1usize..5) {
            let mut jobs: Vec<_> = (0..200).map(|n| job(n, n % 3, Lane::Interactive, 0)).collect();
            jobs.extend((1000..1010).map(|n| job(n, 9, Lane::Bulk, 0)));
            let mut turns = Turns::default();
            let span = per_bulk as usize + 1;
            let order = release_order(&jobs, span * rounds, per_bulk, &mut turns);
            let bulk = order.iter().filter(|id| id.0 >= Uuid::from_u128(1000)).count();
            prop_assert_eq!(bulk, rounds);
        }

        #[test]
        fn owners_with_equal_load_take_turns(owners in 2u128..6, each in 1usize..10) {
            let jobs: Vec<_> = (0..owners * 10).map(|n| job(n, n % owners, Lane::Interactive, 0)).collect();
            let order = release_order(&jobs, each * owners as usize, 8, &mut Turns::default());
            for owner in 0..owners {
                let got = order.iter().filter(|id| id.0.as_u128() % owners == owner).count();
                prop_assert_eq!(got, each);
            }
        }
    }
}
