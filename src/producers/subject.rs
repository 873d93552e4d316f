//! Subjects of events, and what becomes an event.

use crate::job::{JobId, OwnerId, State};
use crate::store::{EventRow, rfc3339};

/// Where an event goes.
pub(super) fn of_event(owner: OwnerId, job: JobId, kind: &str) -> String {
    format!("inkpool.events.{owner}.{job}.{kind}")
}

/// The kinds under which a row of the ledger is told, in this order. A job that has just been made is `accepted` before it is
/// `queued`, and one that succeeded with pages to look at is up for `review` as well.
pub(super) fn kinds(event: &EventRow) -> Vec<&str> {
    let is = |state: State| event.kind == state.as_str();
    // Nothing else queues a job at the very time at which it was made.
    let is_new = event.body["created_at"] == rfc3339(event.at_ms).as_str() && event.body["attempt"] == 0;
    if is(State::Queued) && is_new {
        return vec!["accepted", event.kind.as_str()];
    }
    if is(State::Succeeded) && event.body["gate"]["verdict"] == "review" {
        return vec![event.kind.as_str(), "review"];
    }
    // Between relay and slot a job waits as before.
    if is(State::Released) { Vec::new() } else { vec![event.kind.as_str()] }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn told(kind: &str, at_ms: i64, body: Value) -> Vec<String> {
        let event = EventRow { seq: 1, owner: OwnerId::LOCAL, job: JobId::fresh(), kind: kind.to_owned(), body, at_ms };
        kinds(&event).into_iter().map(str::to_owned).collect()
    }

    #[test]
    fn a_row_is_told_as_what_it_means() {
        let body = |verdict: &str| json!({"created_at": rfc3339(5000), "attempt": 0, "gate": {"verdict": verdict}});
        assert_eq!(told("queued", 5000, body("clean")), ["accepted", "queued"]);
        assert_eq!(told("queued", 9000, body("clean")), ["queued"]);
        assert_eq!(told("succeeded", 9000, body("clean")), ["succeeded"]);
        assert_eq!(told("succeeded", 9000, body("kept_original")), ["succeeded"]);
        assert_eq!(told("succeeded", 9000, body("review")), ["succeeded", "review"]);
        assert_eq!(told("released", 9000, body("clean")), [""; 0]);
    }
}
