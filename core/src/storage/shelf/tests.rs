//! The shelf on a disk in memory that forgets, at a crash, all that `disk` says it may forget.

mod compact;
mod crash;
mod ingest;
mod model;
mod reclaim;
mod repair;
pub(super) mod rig;
