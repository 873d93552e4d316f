//! How webhooks are brought: which URLs and addresses they may have, signatures, one attempt, the waits between. Rows and
//! claims are in [`crate::store::webhooks`], the actor in `actors/webhooks.rs`.

pub mod address;
pub mod outlet;
pub mod retry;
pub mod sign;
pub mod target;

pub use outlet::{Outlet, OutletError, Parcel, Reply};
pub use target::{Guard, Lookup, Target, TargetError};
