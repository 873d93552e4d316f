//! What both databases share: the statements, the moves of a job, rows, and the tasks that write. An adapter opens a
//! database and puts a [`SqlLedger`] together.

pub(in crate::store) mod accept;
mod accounts;
mod dead_letters;
mod deliveries;
pub(in crate::store) mod events;
pub(in crate::store) mod housekeeping;
mod inventory;
mod ledger;
pub(in crate::store) mod migrate;
pub(in crate::store) mod moves;
pub(in crate::store) mod nodes;
pub(in crate::store) mod owners;
pub(in crate::store) mod producers;
mod progress;
pub(in crate::store) mod query;
pub(in crate::store) mod quotas;
pub(in crate::store) mod relay;
mod resumable;
mod rows;
pub(in crate::store) mod running;
mod uploads;
mod webhooks;
pub(in crate::store) mod writer;

pub use ledger::SqlLedger;
pub(in crate::store) use ledger::WATCH_EVENTS_MAX;
