//! A store: one disk, the replicas on it, and the chunks that it keeps.
//!
//! ```text
//!            Start                     Open                        Halt
//! Waiting ──────────▶ Opening ──────────────────▶ Serving ──────────────────▶ Halted
//!                        │  superblock, journal,                                ▲
//!                        └──────────────────────────────────────────────────────┘
//! ```
//!
//! It promises what `ARCHITECTURE.md` lists for stores, above all: nothing is called stored before it
//! is durable, nothing is answered from a replica that is not known to be up to date. It leaves to
//! gateways which stores a chunk goes to, and to [`range`](crate::range) what commands mean.

mod apply;
mod calls;
mod chunks;
mod collect;
mod directory;
mod fencing;
mod founding;
mod gate;
mod hearing;
mod hello;
mod membership;
mod observe;
mod probe;
mod proving;
mod pulse;
mod reads;
mod reclaim;
mod repair;
mod replica;
mod report;
mod scrub;
mod serving;
mod snapshot;
mod truncation;

pub use crate::storage::{Merged, Written};
pub use observe::{Observation, needs_durable_state};
pub use probe::{ReplicaProbe, StoreProbe};
pub use reclaim::ReclaimReport;
pub use repair::RepairReport;
pub use report::{DiskReport, RangeReport, StoreLife, StoreReport};
pub use scrub::ScrubReport;

use crate::cluster::StoreConfig;
use crate::effects::{Effect, Effects, Now, StoreEvent};
#[cfg(feature = "invariants")]
use crate::ids::RangeId;
use crate::ids::{Endpoint, ZoneId};
use crate::storage::{Opened, Storage, StorageEvent};
use crate::time::Deadline;
use serving::Serving;

/// The store machine.
#[derive(Debug)]
pub struct Store {
    config: StoreConfig,
    life: Life,
}

#[derive(Debug)]
enum Life {
    /// Not started.
    Waiting,
    /// The disk is being recovered. Messages are dropped: their senders ask again.
    Opening {
        storage: Box<Storage>,
        /// Links that came up meanwhile; they are greeted once the incarnation is durable.
        links: Vec<Endpoint>,
    },
    /// At work.
    Serving(Box<Serving>),
    /// Stopped for good.
    Halted(String),
}

impl Store {
    /// A machine that waits for its `Start` event.
    pub fn new(config: StoreConfig) -> Self {
        Self { config, life: Life::Waiting }
    }

    /// Take one event; see the crate's calling contract.
    pub fn step(&mut self, now: Now, event: StoreEvent, fx: &mut Effects) {
        let life = core::mem::replace(&mut self.life, Life::Waiting);
        self.life = match life {
            Life::Waiting => match event {
                StoreEvent::Start => {
                    let mut storage = Box::new(Storage::new(&self.config));
                    storage.start(fx);
                    Life::Opening { storage, links: Vec::new() }
                }
                _ => Life::Waiting,
            },
            Life::Opening { storage, links } => self.opening(now, storage, links, event, fx),
            Life::Serving(mut serving) => match serving.step(now, event, fx) {
                Ok(()) => Life::Serving(serving),
                Err(reason) => self.halt(reason, fx),
            },
            Life::Halted(reason) => Life::Halted(reason),
        };
    }

    fn opening(
        &self,
        now: Now,
        mut storage: Box<Storage>,
        mut links: Vec<Endpoint>,
        event: StoreEvent,
        fx: &mut Effects,
    ) -> Life {
        match event {
            StoreEvent::Disk { token, result } => {
                storage.on_disk(token, &result, fx);
                while let Some(event) = storage.next_event() {
                    match event {
                        StorageEvent::Open(opened) => {
                            return self.serve(now, storage, opened, &links, fx);
                        }
                        StorageEvent::Halt(reason) => return self.halt(reason, fx),
                        StorageEvent::Note(note) => fx.push(Effect::Note(note)),
                        // Nothing was asked of the disk yet but to open.
                        _ => {}
                    }
                }
                Life::Opening { storage, links }
            }
            StoreEvent::LinkUp(peer) => {
                links.retain(|link| *link != peer);
                links.push(peer);
                Life::Opening { storage, links }
            }
            StoreEvent::LinkDown(peer) => {
                links.retain(|link| *link != peer);
                Life::Opening { storage, links }
            }
            StoreEvent::Start | StoreEvent::Deadline | StoreEvent::Message(_) => {
                Life::Opening { storage, links }
            }
        }
    }

    fn serve(
        &self,
        now: Now,
        storage: Box<Storage>,
        opened: Opened,
        links: &[Endpoint],
        fx: &mut Effects,
    ) -> Life {
        match Serving::new(now, self.config.clone(), storage, opened, fx) {
            Ok(mut serving) => {
                for link in links {
                    serving.greet(now, *link, false, fx);
                }
                Life::Serving(Box::new(serving))
            }
            Err(reason) => self.halt(reason, fx),
        }
    }

    fn halt(&self, reason: String, fx: &mut Effects) -> Life {
        let reason =
            format!("{} in zone {}: {reason}", self.config.store, self.config.zone.letter());
        fx.push(Effect::Halt { reason: reason.clone() });
        Life::Halted(reason)
    }

    /// When to call with `Deadline`, and why.
    pub fn next_deadline(&self) -> Option<Deadline> {
        match &self.life {
            Life::Serving(serving) => serving.next_deadline(),
            Life::Waiting | Life::Opening { .. } | Life::Halted(_) => None,
        }
    }

    /// Check the machine's invariants.
    ///
    /// # Panics
    /// If one does not hold: that is a bug in Trine.
    pub fn check(&self) {
        if let Life::Serving(serving) = &self.life {
            serving.check();
        }
    }

    /// One line for operators and traces.
    pub fn status(&self) -> String {
        let id = self.config.store;
        match &self.life {
            Life::Waiting => format!("{id} waiting"),
            Life::Opening { .. } => format!("{id} opening"),
            Life::Serving(serving) => format!("{id} {}", serving.status()),
            Life::Halted(reason) => format!("{id} halted: {reason}"),
        }
    }

    /// Where it stands.
    pub fn zone(&self) -> ZoneId {
        self.config.zone
    }

    /// Whether the disk is recovered and the store takes part.
    pub fn is_serving(&self) -> bool {
        matches!(self.life, Life::Serving(_))
    }

    /// What checkers compare; `None` while the store does not serve.
    pub fn probe(&self) -> Option<StoreProbe<'_>> {
        match &self.life {
            Life::Serving(serving) => Some(StoreProbe(serving)),
            Life::Waiting | Life::Opening { .. } | Life::Halted(_) => None,
        }
    }

    /// What the replicas did in the last step, in order.
    #[cfg(feature = "invariants")]
    pub fn drain_observations(&mut self) -> Vec<(RangeId, Observation)> {
        match &mut self.life {
            Life::Serving(serving) => serving.host.observer.drain(),
            Life::Waiting | Life::Opening { .. } | Life::Halted(_) => Vec::new(),
        }
    }
}
