//! spec (what was asked) → plan (what will be done, computed from the header) → engine (does it).

pub mod engine;
pub mod gate;
pub mod geometry;
pub mod plan;
pub mod probe;
pub mod resolution;
pub mod spec;
pub mod wire;
