//! Deterministic simulator: three zones of stores, gateways and clients in one thread, under faults.
//!
//! A seed decides everything: latencies, faults, what clients do. [`run::run`] runs one world
//! and says whether every promise held; the binary (`cargo sim run`, `cargo sim replay SEED`) runs
//! many, and shows one.
//!
//! Reading order: [`random`], [`trace`] → [`faults`] → [`disk`], [`network`] → [`checkers`] →
//! [`workload`] → [`world`] → [`run`] → [`bugs`], [`case`] → [`crash`], [`shrink`], [`view`],
//! [`timeline`]. Checkers share no code
//! with what they check.

pub mod bugs;
pub mod case;
pub mod checkers;
pub mod consensus;
pub mod crash;
pub mod disk;
pub mod faults;
pub mod network;
pub mod random;
pub mod run;
pub mod seed;
pub mod shrink;
pub mod timeline;
pub mod trace;
pub mod view;
pub mod workload;
pub mod world;

/// Simulated time, and spans of it: nanoseconds since the run began.
pub type Nanos = u64;
/// One microsecond.
pub const MICROSECOND: Nanos = 1_000;
/// One millisecond.
pub const MILLISECOND: Nanos = 1_000_000;
/// One second.
pub const SECOND: Nanos = 1_000_000_000;
