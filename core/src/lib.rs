//! Trine's replication and storage core: what a store and a gateway do, without doing any I/O.
//!
//! # The calling contract
//!
//! Two machines have the same shape: [`store::Store`], which takes [`effects::StoreEvent`]s, and
//! [`gateway::Gateway`], which takes [`effects::GatewayEvent`]s. A runtime (the simulator, or the tokio
//! shell) owns one of them and runs this loop, where `Event` is the machine's own:
//!
//! ```text
//! machine.step(now, Event::Start, &mut effects);
//! loop {
//!     for effect in effects.drain() {
//!         // 1. Carry it out, or start it; its end comes back as an event later.
//!     }
//!     // 2. Wait for the next event, no longer than until machine.next_deadline().
//!     //    If the deadline comes first, the event is Event::Deadline.
//!     machine.step(now, event, &mut effects);
//! }
//! ```
//!
//! - `step` is infallible and does a bounded amount of work. It is never re-entered, and never asks
//!   to be called again: what it waits for comes as an event.
//! - Drain the effects completely between two steps. What they start may end in any order, within a
//!   step and across steps: a machine that needs an order waits for the end of the first. Only what
//!   makes up one request's reply (`Reply`, `BodyOut`, `BodyEnd`, `BodyFailed`) reaches the client in
//!   the order in which it came out.
//! - `now` never goes back. Wall-clock time is data.
//! - After [`effects::Effect::Halt`] the machine must not be stepped again. A store halts when it can no
//!   longer keep a promise (a failed sync, a damaged superblock); starting it anew recovers it.
//! - One instance is driven by one thread. There are no locks, no globals, no hidden inputs: the same
//!   configuration and events give the same effects, byte for byte. (What a simulated run is asked for, under
//!   the feature `rare`, is an input of that run: [`rare`].)
//!
//! # Reading order
//!
//! What a simulator may ask for (`rare`) → feature levels ([`level`]) → leaf vocabulary ([`codec`], [`ids`], [`time`], [`hash`], [`rng`], [`disk`], [`rows`], [`object`],
//! [`checksum`], [`cluster`], [`placement`], [`directory`], [`request`], [`fair`], [`memory`]) → [`consensus`] → [`range`] →
//! [`message`] and its bytes ([`wire`]) → [`effects`] → [`storage`] → [`gateway`] and [`store`]; [`inspect`] beside
//! these. Nothing earlier imports anything later, but for one type: the proof [`storage::Durable`] is named by all who must show it.

#[macro_use]
pub mod rare;

pub mod checksum;
pub mod cluster;
pub mod codec;
pub mod consensus;
pub mod directory;
pub mod disk;
pub mod effects;
pub mod fair;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
pub mod gateway;
pub mod hash;
pub mod ids;
pub mod inspect;
pub mod level;
pub mod memory;
pub mod message;
pub mod object;
pub mod placement;
pub mod range;
pub mod request;
pub mod rng;
pub mod rows;
pub mod storage;
pub mod store;
pub mod time;
pub mod wire;
