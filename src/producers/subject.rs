//! Subjects of events.

use crate::job::{JobId, OwnerId};

/// Where an event goes.
pub(super) fn of_event(owner: OwnerId, job: JobId, kind: &str) -> String {
    format!("inkpool.events.{owner}.{job}.{kind}")
}
