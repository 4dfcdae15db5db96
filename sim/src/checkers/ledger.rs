//! What the log says, held against what came of it: a model of its own of sessions, of the map and of references,
//! moved by each entry when it is applied first.
//!
//! - A command of a session that is over changes nothing, and one of a live session is never refused as such.
//! - What is referenced was placed under the newest map that moved data, and acknowledged in two zones of it.
//! - A blob that was referenced is freed only after a leader has told a store that it is dead.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use trine_core::codec::Wire;
use trine_core::ids::{BlobId, ChunkId, GatewayId, LogIndex, MapEpoch, SessionId, StoreId, ZoneId};
use trine_core::object::{BlobRef, NewBody, OwnedBlob};
use trine_core::range::command::{Batch, Command, CommandBody, Origin, Outcome, Rejection};

/// Zones in which stores of the map must have acknowledged what is referenced.
const ZONES_SAFE: usize = 2;

/// Something that others have to judge.
#[derive(Debug, PartialEq, Eq)]
pub enum Event {
    /// Dead blobs are forgotten: they must be freed.
    Forgotten(Vec<OwnedBlob>),
    /// The map of an epoch is proven: these were referenced before it changed last, and must be in their places.
    Proven(MapEpoch, Vec<ChunkId>),
}

/// A session that is live.
#[derive(Clone, Copy, Debug)]
struct Session {
    gateway: GatewayId,
    nonce: u128,
}

/// What is known of a blob that was referenced.
#[derive(Clone, Copy, Debug)]
struct Referenced {
    at: LogIndex,
    length: u64,
    chunk_size: u32,
}

/// The model of one range.
#[derive(Debug, Default)]
pub struct Ledger {
    applied: LogIndex,
    live: BTreeMap<SessionId, Session>,
    /// The newest that was ever opened.
    newest: SessionId,
    stores: BTreeMap<StoreId, (ZoneId, u32)>,
    epoch: MapEpoch,
    /// Blobs that are placed under an older map are refused.
    floor: MapEpoch,
    /// When the map changed last, if that is not proven.
    changed: Option<LogIndex>,
    referenced: BTreeMap<BlobId, Referenced>,
    /// Of which a leader has said that they are dead.
    told: BTreeSet<BlobId>,
    /// Chunks that are freed in this step and were referenced.
    freed: Vec<ChunkId>,
}

impl Ledger {
    /// The newest entry that anybody has applied.
    pub fn applied_index(&self) -> LogIndex {
        self.applied
    }

    /// A replica has applied an entry. Only the first who does is judged; the others are compared with it.
    ///
    /// # Errors
    /// What is wrong.
    pub fn applied(
        &mut self,
        index: LogIndex,
        batch: Option<&Bytes>,
        outcomes: &[Outcome],
    ) -> Result<Vec<Event>, String> {
        if index <= self.applied {
            return Ok(Vec::new());
        }
        if index != self.applied.next() {
            return Err(format!("{index} is applied, and nobody has applied what is before it"));
        }
        self.applied = index;
        let Some(batch) = batch else { return Ok(Vec::new()) };
        let batch = Batch::from_bytes(batch).map_err(|error| format!("{index}: {error}"))?;
        if batch.commands.len() != outcomes.len() {
            return Err(format!(
                "{index} has {} commands, and other outcomes",
                batch.commands.len()
            ));
        }
        let mut events = Vec::new();
        for (command, outcome) in batch.commands.iter().zip(outcomes) {
            self.session(command, outcome).map_err(|wrong| format!("{index}: {wrong}"))?;
            if !matches!(outcome, Outcome::Rejected(_)) {
                let event = self.takes_effect(index, &command.body, outcome);
                events.extend(event.map_err(|wrong| format!("{index}: {wrong}"))?);
            }
        }
        Ok(events)
    }

    fn session(&self, command: &Command, outcome: &Outcome) -> Result<(), String> {
        let Origin::Session { session, sequence, .. } = command.origin else { return Ok(()) };
        let refused = *outcome == Outcome::Rejected(Rejection::Fenced);
        match (self.live.contains_key(&session), refused) {
            (true, false) | (false, true) => Ok(()),
            (true, true) => {
                Err(format!("{session} is live, and its {sequence} is refused as fenced"))
            }
            (false, false) => {
                Err(format!("{session} is over, and came to {outcome:?} by its {sequence}"))
            }
        }
    }

    fn takes_effect(
        &mut self,
        index: LogIndex,
        body: &CommandBody,
        outcome: &Outcome,
    ) -> Result<Option<Event>, String> {
        match body {
            CommandBody::OpenSession { gateway, nonce }
            | CommandBody::OpenSpeaking { gateway, nonce, .. } => {
                let Outcome::SessionOpened(id) = outcome else { return Ok(None) };
                self.open(*id, *gateway, *nonce)?;
            }
            CommandBody::FenceSession { session } => drop(self.live.remove(session)),
            CommandBody::FoundCluster { map } if self.stores.is_empty() => {
                let slots = map.zones.iter().flat_map(|zone| {
                    zone.slots.iter().map(|slot| (slot.store, (zone.zone, slot.weight)))
                });
                self.stores.extend(slots);
                self.epoch = map.epoch;
            }
            CommandBody::ReplaceStore { old, new } => {
                if let Some(slot) = self.stores.remove(old) {
                    self.stores.insert(*new, slot);
                    self.map_changed(index);
                }
            }
            CommandBody::AddStore { zone, store, weight } if !self.stores.contains_key(store) => {
                self.stores.insert(*store, (*zone, *weight));
                self.map_changed(index);
            }
            CommandBody::SetWeight { store, weight } => {
                let slot = self.stores.get_mut(store).filter(|(_, before)| before != weight);
                if let Some((_, before)) = slot {
                    *before = *weight;
                    self.map_changed(index);
                }
            }
            CommandBody::ProveMap { epoch } if *epoch == self.epoch => {
                let before = self.before_change();
                return Ok(self.changed.take().map(|_| Event::Proven(*epoch, before)));
            }
            CommandBody::ForgetGarbage { blobs } => {
                return Ok(Some(Event::Forgotten(blobs.clone())));
            }
            CommandBody::PutObject { object, .. } | CommandBody::CopyObject { object, .. } => {
                self.refers(index, &object.body)?;
            }
            CommandBody::PutPart { part, .. } | CommandBody::CopyPart { part, .. } => {
                self.refers(index, &part.body)?;
            }
            _ => {}
        }
        Ok(None)
    }

    fn open(&mut self, id: SessionId, gateway: GatewayId, nonce: u128) -> Result<(), String> {
        if let Some(before) = self.live.get(&id) {
            let same = before.gateway == gateway && before.nonce == nonce;
            return if same { Ok(()) } else { Err(format!("{id} is opened for two gateways")) };
        }
        if id <= self.newest {
            return Err(format!("{id} is opened, and was before"));
        }
        self.newest = id;
        self.live.retain(|_, session| session.gateway != gateway);
        self.live.insert(id, Session { gateway, nonce });
        Ok(())
    }

    fn map_changed(&mut self, index: LogIndex) {
        self.epoch = MapEpoch(self.epoch.0 + 1);
        self.floor = self.epoch;
        self.changed = Some(index);
    }

    fn refers(&mut self, at: LogIndex, body: &NewBody) -> Result<(), String> {
        let NewBody::Blob(blob) = body else { return Ok(()) };
        let BlobRef { blob: id, length, chunk_size, epoch, stores, .. } = blob;
        if self.referenced.contains_key(id) {
            return Ok(());
        }
        self.referenced.insert(*id, Referenced { at, length: *length, chunk_size: *chunk_size });
        if *epoch < self.floor {
            return Err(format!(
                "{id} was placed under map {epoch}, which {} has replaced",
                self.floor
            ));
        }
        let zones = stores.iter().filter_map(|store| Some(self.stores.get(store)?.0));
        let zones: BTreeSet<ZoneId> = zones.collect();
        match zones.len() < ZONES_SAFE && !self.stores.is_empty() {
            true => {
                Err(format!("{id} is referenced, and {} zones of the map have it", zones.len()))
            }
            false => Ok(()),
        }
    }

    /// A leader says that blobs are dead.
    pub fn told(&mut self, blobs: &[BlobId]) {
        self.told.extend(blobs);
    }

    /// A store frees a chunk.
    pub fn frees(&mut self, chunk: ChunkId) {
        if self.referenced.contains_key(&chunk.blob) {
            self.freed.push(chunk);
        }
    }

    /// A step of a store is over: a leader tells itself first.
    ///
    /// # Errors
    /// What it freed was alive once, and nobody has said that it died.
    pub fn judge_freed(&mut self) -> Result<(), String> {
        let mut freed = std::mem::take(&mut self.freed).into_iter();
        match freed.find(|chunk| !self.told.contains(&chunk.blob)) {
            Some(chunk) => {
                Err(format!("frees {chunk}, which was referenced, and no leader has called dead"))
            }
            None => Ok(()),
        }
    }

    /// Chunks that were referenced before the newest map that is not proven.
    fn before_change(&self) -> Vec<ChunkId> {
        let Some(changed) = self.changed else { return Vec::new() };
        let before = self.referenced.iter().filter(|(_, it)| it.at < changed);
        let chunks = before.flat_map(|(blob, Referenced { length, chunk_size, .. })| {
            let count = length.div_ceil(u64::from((*chunk_size).max(1)));
            let count = u32::try_from(count).unwrap_or(u32::MAX);
            (0..count).map(|number| ChunkId { blob: *blob, number })
        });
        chunks.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use trine_core::cluster::{ClusterMap, Slot, ZoneMap};
    use trine_core::ids::{BlobSequence, CommitSequence};
    use trine_core::time::WallTime;

    const SESSION: SessionId = SessionId(1);

    fn apply(
        ledger: &mut Ledger,
        origin: Origin,
        body: CommandBody,
        outcome: Outcome,
    ) -> Result<Vec<Event>, String> {
        let commands = vec![Command { origin, body }];
        let batch = Batch { clock: WallTime::from_millis(1), commands };
        let index = ledger.applied_index().next();
        ledger.applied(index, Some(&batch.to_bytes()), &[outcome])
    }

    fn of_session(sequence: u64) -> Origin {
        let sequence = CommitSequence(sequence);
        Origin::Session { session: SESSION, sequence, watermark: CommitSequence(1) }
    }

    fn opened() -> Ledger {
        let mut ledger = Ledger::default();
        let zones = (0..3).map(|zone| ZoneMap {
            zone: ZoneId(zone),
            slots: vec![Slot { store: StoreId(u64::from(zone) + 1), weight: 1 }],
        });
        let map = Box::new(ClusterMap::bootstrap(1, zones.collect()));
        let found = CommandBody::FoundCluster { map };
        apply(&mut ledger, Origin::System, found, Outcome::Done).unwrap();
        let open = CommandBody::OpenSession { gateway: GatewayId(1), nonce: 7 };
        apply(&mut ledger, Origin::System, open, Outcome::SessionOpened(SESSION)).unwrap();
        ledger
    }

    fn abort() -> CommandBody {
        CommandBody::ForgetGarbage { blobs: Vec::new() }
    }

    #[test]
    fn a_session_acts_until_it_is_fenced() {
        let mut ledger = opened();
        assert!(apply(&mut ledger, of_session(1), abort(), Outcome::Done).is_ok());
        let refused = || Outcome::Rejected(Rejection::Fenced);
        assert!(apply(&mut ledger, of_session(2), abort(), refused()).is_err(), "it is live");
        let open = CommandBody::OpenSession { gateway: GatewayId(1), nonce: 8 };
        apply(&mut ledger, Origin::System, open, Outcome::SessionOpened(SessionId(2))).unwrap();
        assert!(apply(&mut ledger, of_session(3), abort(), refused()).is_ok());
        assert!(apply(&mut ledger, of_session(4), abort(), Outcome::Done).is_err());
    }

    #[test]
    fn what_was_referenced_is_freed_after_a_leader_has_called_it_dead() {
        let mut ledger = Ledger::default();
        let blob = BlobId { session: SESSION, sequence: BlobSequence(1) };
        let chunk = ChunkId { blob, number: 0 };
        let frees = |ledger: &mut Ledger| {
            ledger.frees(chunk);
            ledger.judge_freed()
        };
        assert_eq!(frees(&mut ledger), Ok(()), "it never was referenced");
        let referenced = Referenced { at: LogIndex(1), length: 5, chunk_size: 4 };
        ledger.referenced.insert(blob, referenced);
        assert!(frees(&mut ledger).is_err());
        ledger.told(&[blob]);
        assert_eq!(frees(&mut ledger), Ok(()));
        ledger.map_changed(LogIndex(2));
        assert_eq!(ledger.before_change().len(), 2);
    }

    #[test]
    fn a_map_that_is_asked_for_again_has_not_changed() {
        let mut ledger = opened();
        let (zone, store) = (ZoneId(1), StoreId(9));
        let mut add = |weight| {
            let add = CommandBody::AddStore { zone, store, weight };
            apply(&mut ledger, Origin::System, add, Outcome::Done).unwrap();
            ledger.epoch
        };
        let first = add(3);
        assert_eq!(add(3), first);
        assert_eq!(ledger.floor, first);
        let proven = CommandBody::ProveMap { epoch: first };
        let mut prove = || apply(&mut ledger, Origin::System, proven.clone(), Outcome::Done);
        assert_eq!(prove(), Ok(vec![Event::Proven(first, Vec::new())]));
        assert_eq!(prove(), Ok(Vec::new()), "it is proven already");
    }
}
