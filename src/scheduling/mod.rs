//! Policies: synchronous functions of a snapshot and a clock. No actor, no I/O, no time of their own.
//!
//! Wanted properties, each held by a property test beside the code:
//!
//! * [`fair`]: work conserving; first come, first served within an owner and lane; an owner with nothing in flight goes
//!   before one with something; bulk never starves behind interactive.
//! * [`assign`]: no job and no slot is used twice; nothing is assigned while the node does not take jobs; never more is
//!   pulled than there are slots without a job.
//! * [`slot`]: at most one job and one worker at a time; a slot is offered only while it is warm; quarantine ends.
//! * [`rounds`]: one round and one timer at a time, however often somebody asks.
//! * [`restart`]: at most so many restarts within any window.

pub mod assign;
pub mod fair;
pub mod restart;
pub mod rounds;
pub mod slot;
