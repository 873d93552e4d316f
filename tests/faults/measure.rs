//! Figures of a run out of its events.

use std::collections::BTreeMap;

use super::evidence::Event;

/// Starts that were cut short, and how long the last of them was without one.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Orphans {
    pub count: u32,
    /// From the fault, or from the start that was cut short if that came later, to the next start.
    pub seconds_max: f64,
}

/// A start is cut short when the job is queued again after it. `since_ms`: the fault, or for an outage of what everybody
/// needs the time when it was over.
pub fn orphans(events: &[Event], since_ms: i64) -> Orphans {
    let mut by_job: BTreeMap<&str, Vec<&Event>> = BTreeMap::new();
    for event in events {
        by_job.entry(&event.job).or_default().push(event);
    }
    let mut found = Orphans::default();
    for events in by_job.values() {
        for window in events.windows(3) {
            let [started, queued, again] = window else { continue };
            let cut = (started.state.as_str(), queued.state.as_str(), again.state.as_str());
            if cut != ("running", "queued", "running") {
                continue;
            }
            found.count += 1;
            let seconds = (again.at_ms - started.at_ms.max(since_ms)).max(0) as f64 / 1000.0;
            found.seconds_max = found.seconds_max.max(seconds);
        }
    }
    found
}

#[test]
fn an_orphan_counts_from_the_fault_or_from_its_start() {
    let event = |job: &str, state: &str, at_ms| Event {
        owner: String::new(),
        seq: at_ms,
        job: job.to_owned(),
        state: state.to_owned(),
        attempt: 0,
        node: None,
        at_ms,
    };
    let events = [
        event("cut", "queued", 0),
        event("whole", "queued", 0),
        event("cut", "running", 1_000),
        event("whole", "running", 1_000),
        event("whole", "succeeded", 9_000),
        event("cut", "queued", 30_000),
        event("cut", "running", 31_000),
        event("late", "queued", 4_000),
        event("late", "running", 5_000),
        event("late", "queued", 6_000),
        event("late", "running", 7_000),
    ];
    assert_eq!(orphans(&events, 2_000), Orphans { count: 2, seconds_max: 29.0 });
    assert_eq!(orphans(&events, 40_000), Orphans { count: 2, seconds_max: 0.0 });
}
