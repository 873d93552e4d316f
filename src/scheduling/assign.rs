//! Which delivered job goes to which slot, and how many more to pull.

use crate::job::Lane;

/// A delivery the scheduler holds, not claimed yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Held {
    /// The scheduler's name for it; rises with the time of arrival.
    pub ticket: u64,
    /// Where it came from.
    pub lane: Lane,
}

/// What the scheduler sees.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    /// Whether the node takes jobs (it does not while it drains, or with more than half of its slots out of use).
    pub taking: bool,
    /// Slots that are warm and without a job.
    pub free_slots: Vec<u32>,
    /// Deliveries without a slot.
    pub held: Vec<Held>,
}

/// What to do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Decision {
    /// Claim this delivery for this slot.
    pub assign: Vec<(u64, u32)>,
    /// Pull this many at most, from now on.
    pub pull: usize,
    /// Put these back on the bus.
    pub give_back: Vec<u64>,
}

/// Interactive deliveries first, each lane in order of arrival, to the lowest free slot: low slots stay warm, high ones
/// rest. What is left over waits for the next free slot; on a node that takes no jobs everything goes back.
#[must_use]
pub fn decide(snapshot: &Snapshot) -> Decision {
    let mut held = snapshot.held.clone();
    held.sort_by_key(|delivery| (delivery.lane, delivery.ticket));
    if !snapshot.taking {
        return Decision {
            give_back: held.into_iter().map(|delivery| delivery.ticket).collect(),
            ..Decision::default()
        };
    }
    let mut slots = snapshot.free_slots.clone();
    slots.sort_unstable();
    slots.dedup();
    let pull = slots.len().saturating_sub(held.len());
    let assign = held.iter().map(|delivery| delivery.ticket).zip(slots).collect();
    Decision { assign, pull, give_back: Vec::new() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn snapshot() -> impl Strategy<Value = Snapshot> {
        let slots = prop::collection::vec(0u32..20, 0..20);
        let held = prop::collection::btree_set(0u64..100, 0..20);
        (any::<bool>(), slots, held, any::<u64>()).prop_map(|(taking, free_slots, tickets, lanes)| {
            let lane = |ticket: u64| if lanes >> (ticket % 64) & 1 == 0 { Lane::Interactive } else { Lane::Bulk };
            let held = tickets.into_iter().map(|ticket| Held { ticket, lane: lane(ticket) }).collect();
            Snapshot { taking, free_slots, held }
        })
    }

    proptest! {
        #[test]
        fn nothing_is_used_twice_and_nothing_is_idle(snapshot in snapshot()) {
            let decision = decide(&snapshot);
            let slots: BTreeSet<_> = snapshot.free_slots.iter().copied().collect();
            let used: BTreeSet<_> = decision.assign.iter().map(|pair| pair.1).collect();
            let tickets: BTreeSet<_> = decision.assign.iter().map(|pair| pair.0).collect();
            prop_assert_eq!(used.len(), decision.assign.len());
            prop_assert_eq!(tickets.len(), decision.assign.len());
            prop_assert!(used.is_subset(&slots));
            if snapshot.taking {
                prop_assert_eq!(decision.assign.len(), slots.len().min(snapshot.held.len()));
                prop_assert_eq!(decision.assign.len() + decision.pull, slots.len());
            } else {
                prop_assert!(decision.assign.is_empty() && decision.pull == 0);
                prop_assert_eq!(decision.give_back.len(), snapshot.held.len());
            }
        }

        #[test]
        fn interactive_goes_first(snapshot in snapshot()) {
            let lane = |ticket: u64| snapshot.held.iter().find(|held| held.ticket == ticket).map(|held| held.lane);
            let lanes: Vec<_> = decide(&snapshot).assign.iter().map(|pair| lane(pair.0)).collect();
            prop_assert!(lanes.is_sorted());
        }
    }
}
