//! A naive S3 in maps, which shares no code with the range: what commands come to, and listings.

use std::collections::{BTreeMap, BTreeSet};

use md5::{Digest, Md5};

use crate::cluster::{Node, ZoneMap};
use crate::ids::*;
use crate::level::Level;
use crate::object::*;
use crate::range::command::*;
use crate::time::WallTime;

type Place = (u64, String);

/// Version, epoch, stores, voters, retired stores and live sessions.
pub(super) type Plain = (LogIndex, u64, Vec<u64>, Vec<u64>, Vec<u64>, Vec<u64>);

#[derive(Clone, Debug)]
pub(super) struct Object {
    pub(super) etag: ETag,
    pub(super) length: u64,
    pub(super) order: Order,
    pub(super) modified: WallTime,
    pub(super) inline: Option<bytes::Bytes>,
    pub(super) blobs: Vec<BlobId>,
}

#[derive(Clone, Debug)]
pub(super) struct Part {
    pub(super) etag: ETag,
    pub(super) length: u64,
    pub(super) blob: Option<BlobId>,
}

#[derive(Debug)]
struct Session {
    gateway: GatewayId,
    nonce: u128,
    watermark: u64,
    outcomes: BTreeMap<u64, Outcome>,
    speaks: u32,
}

#[derive(Debug, Default)]
pub(super) struct Model {
    clock: WallTime,
    buckets: BTreeMap<String, (u64, Owner)>,
    buckets_made: u64,
    pub(super) objects: BTreeMap<Place, Object>,
    pub(super) uploads: BTreeMap<(u64, String, Order), BTreeMap<u16, Part>>,
    completed: BTreeMap<(u64, String, Order), (WallTime, Outcome)>,
    sessions: BTreeMap<u64, Session>,
    sessions_made: u64,
    ever: BTreeSet<(Place, BlobId)>,
    /// The stores of each zone, slot by slot; none before the cluster is founded.
    zones: Vec<Vec<u64>>,
    voters: Vec<u64>,
    /// The feature level.
    level: u32,
    replaced: Vec<(u64, u64)>,
    /// How much each store is to take; 1 for those that nothing was said of.
    weights: BTreeMap<u64, u32>,
    /// The epochs that were followed by a change of slots or weights, while that is not proven.
    moving: Vec<u64>,
    moved: u64,
    /// By its id: zone, name, and whether it has left.
    nodes: BTreeMap<u32, (u8, String, bool)>,
    /// The entry that last changed the stores or the live sessions.
    changed: LogIndex,
}

impl Model {
    /// Version, epoch, stores, voters, retired stores and live sessions, once there is a map.
    pub(super) fn directory(&self) -> Option<Plain> {
        let retired = self.replaced.iter().map(|(old, _)| *old).collect();
        let live = self.sessions.keys().copied().collect();
        let stores = self.stores();
        let some = (self.changed, self.epoch(), stores, self.voters.clone(), retired, live);
        (!self.zones.is_empty()).then_some(some)
    }

    /// Each replacement, and each change of slots or weights, raises it by one.
    pub(super) fn epoch(&self) -> u64 {
        1 + self.replaced.len() as u64 + self.moved
    }

    /// The epochs whose layouts still count beside the present one.
    pub(super) fn moving(&self) -> &[u64] {
        &self.moving
    }

    pub(super) fn nodes(&self) -> &BTreeMap<u32, (u8, String, bool)> {
        &self.nodes
    }

    fn node(&mut self, order: Order, node: &Node) -> Result<Outcome, Rejection> {
        if usize::from(node.zone.0) >= self.zones.len() {
            return Err(Rejection::NoSuchZone);
        }
        if node.id == 0 {
            return Err(Rejection::Malformed);
        }
        let now = (node.zone.0, node.name.clone(), node.left);
        for (id, (zone, name, left)) in &self.nodes {
            let other = *id != node.id && !left && !node.left && *name == node.name;
            let changed = *id == node.id && (*zone, name, *left) != (now.0, &now.1, now.2);
            if other || changed && (*left || *zone != now.0) {
                return Err(Rejection::NodeInUse);
            }
        }
        if self.nodes.get(&node.id) != Some(&now) {
            self.nodes.insert(node.id, now);
            self.level = self.level.max(2);
            self.changes(order);
        }
        Ok(Outcome::Done)
    }

    pub(super) fn weight(&self, store: u64) -> u32 {
        self.weights.get(&store).copied().unwrap_or(1)
    }

    fn moves(&mut self, order: Order) -> Result<Outcome, Rejection> {
        self.moving.push(self.epoch());
        self.moved += 1;
        self.changes(order);
        Ok(Outcome::Done)
    }

    fn add(&mut self, order: Order, zone: u8, new: u64, weight: u32) -> Result<Outcome, Rejection> {
        let count = self.zones.len();
        if count == 0 {
            return Err(Rejection::NoSuchZone);
        }
        if new == 0 {
            return Err(Rejection::Malformed);
        }
        if weight == 0 || weight > 1 << 24 {
            return Err(Rejection::BadWeight);
        }
        let at = usize::from(zone);
        if at >= count {
            return Err(Rejection::NoSuchZone);
        }
        if self.zones[at].contains(&new) && self.weight(new) == weight {
            return Ok(Outcome::Done);
        }
        if self.stores().contains(&new) {
            return Err(Rejection::StoreInUse);
        }
        if self.replaced.iter().any(|(old, _)| *old == new) {
            return Err(Rejection::StoreRetired);
        }
        if self.moving.len() == 8 {
            return Err(Rejection::Unproven);
        }
        self.zones[at].push(new);
        self.weights.insert(new, weight);
        self.moves(order)
    }

    fn weigh(&mut self, order: Order, store: u64, weight: u32) -> Result<Outcome, Rejection> {
        if !self.zones.is_empty() && weight > 1 << 24 {
            return Err(Rejection::BadWeight);
        }
        let zone = self.zones.iter().find(|stores| stores.contains(&store));
        let zone = zone.ok_or(Rejection::NoSuchStore)?;
        if self.weight(store) == weight {
            return Ok(Outcome::Done);
        }
        if weight == 0 && zone.iter().all(|other| *other == store || self.weight(*other) == 0) {
            return Err(Rejection::LastOfZone);
        }
        if self.moving.len() == 8 {
            return Err(Rejection::Unproven);
        }
        if weight == 0 && self.level > 1 {
            // Who takes most, and the last of these, votes for it from now on.
            let most =
                zone.iter().filter(|other| **other != store).map(|id| self.weight(*id)).max();
            let last = zone.iter().rfind(|id| **id != store && Some(self.weight(**id)) == most);
            let heir = *last.expect("one takes data, as was asked above");
            for voter in self.voters.iter_mut().filter(|voter| **voter == store) {
                *voter = heir;
            }
        }
        self.weights.insert(store, weight);
        self.moves(order)
    }

    fn prove(&mut self, order: Order, epoch: u64) -> Result<Outcome, Rejection> {
        if self.zones.is_empty() || epoch > self.epoch() {
            return Err(Rejection::Malformed);
        }
        let before = self.moving.len();
        self.moving.retain(|moving| *moving >= epoch);
        if self.moving.len() < before {
            self.changes(order);
        }
        Ok(Outcome::Done)
    }

    pub(super) fn level(&self) -> u32 {
        self.level
    }

    fn raise(&mut self, order: Order, to: u32, spoken: &[StoreId]) -> Result<Outcome, Rejection> {
        if self.level == 0 {
            return Err(Rejection::Malformed);
        }
        if to < self.level {
            return Err(Rejection::LevelGoesDown { level: Level(self.level) });
        }
        let stores = self.stores();
        let silent = stores.iter().find(|store| spoken.iter().all(|other| other.0 != **store));
        let mut sessions = self.sessions.values();
        let behind = sessions.find(|session| session.speaks < to).map(|session| session.gateway);
        match (silent, behind) {
            _ if to == self.level => return Ok(Outcome::Done),
            (Some(store), _) => return Err(Rejection::LevelNotSpoken { store: StoreId(*store) }),
            (_, Some(gateway)) => return Err(Rejection::LevelNotSpokenBy { gateway }),
            (None, None) => {}
        }
        self.level = to;
        self.changes(order);
        Ok(Outcome::Done)
    }

    fn open(&mut self, order: Order, gateway: GatewayId, nonce: u128, speaks: u32) -> Outcome {
        let same = |state: &Session| state.gateway == gateway && state.nonce == nonce;
        if let Some((id, _)) = self.sessions.iter().find(|(_, state)| same(state)) {
            return Outcome::SessionOpened(SessionId(*id));
        }
        self.sessions.retain(|_, state| state.gateway != gateway);
        self.sessions_made += 1;
        self.changes(order);
        let session = Session { gateway, nonce, watermark: 0, outcomes: BTreeMap::new(), speaks };
        self.sessions.insert(self.sessions_made, session);
        Outcome::SessionOpened(SessionId(self.sessions_made))
    }

    pub(super) fn stores(&self) -> Vec<u64> {
        self.zones.iter().flatten().copied().collect()
    }

    pub(super) fn bucket_id(&self, name: &str) -> Option<u64> {
        self.buckets.get(name).map(|(id, _)| *id)
    }

    pub(super) fn sessions_made(&self) -> u64 {
        self.sessions_made
    }

    fn changes(&mut self, order: Order) {
        if !self.zones.is_empty() {
            self.changed = order.index;
        }
    }

    pub(super) fn apply(&mut self, index: LogIndex, batch: &Batch) -> Vec<Outcome> {
        self.clock = self.clock.max(batch.clock);
        let day = 86_400_000;
        let now = self.clock.as_millis();
        self.completed.retain(|_, (kept, _)| kept.as_millis() + day > now);
        let mut outcomes = Vec::new();
        for (position, command) in batch.commands.iter().enumerate() {
            let order = Order { index, position: u32::try_from(position).unwrap() };
            outcomes.push(self.command(order, command));
        }
        outcomes
    }

    fn command(&mut self, order: Order, command: &Command) -> Outcome {
        let Origin::Session { session, sequence, watermark } = command.origin else {
            return self.effect(order, &command.body).unwrap_or_else(Outcome::Rejected);
        };
        let Some(state) = self.sessions.get_mut(&session.0) else {
            return Outcome::Rejected(Rejection::Fenced);
        };
        if sequence.0 < state.watermark {
            return Outcome::Rejected(Rejection::Answered);
        }
        state.watermark = state.watermark.max(watermark.0);
        let watermark = state.watermark;
        state.outcomes.retain(|sequence, _| *sequence >= watermark);
        if let Some(outcome) = state.outcomes.get(&sequence.0) {
            return outcome.clone();
        }
        let outcome = self.effect(order, &command.body).unwrap_or_else(Outcome::Rejected);
        if let Some(state) = self.sessions.get_mut(&session.0) {
            state.outcomes.insert(sequence.0, outcome.clone());
        }
        outcome
    }

    fn bucket(&self, target: &Target) -> Result<Place, Rejection> {
        match self.buckets.values().any(|(id, _)| *id == target.bucket.0) {
            true => Ok((target.bucket.0, target.key.as_str().to_owned())),
            false => Err(Rejection::NoSuchBucket),
        }
    }

    fn holds(&self, place: &Place, conditions: &WriteConditions) -> Result<(), Rejection> {
        let named = |tags: &TagMatch, etag: ETag| match tags {
            TagMatch::Any => true,
            TagMatch::Tags(tags) => tags.contains(&etag),
        };
        let there = self.objects.get(place);
        match (&conditions.if_match, there) {
            (Some(_), None) => return Err(Rejection::NoSuchKey),
            (Some(tags), Some(object)) if !named(tags, object.etag) => {
                return Err(Rejection::PreconditionFailed);
            }
            _ => {}
        }
        match (&conditions.if_none_match, there) {
            (Some(tags), Some(object)) if named(tags, object.etag) => {
                Err(Rejection::PreconditionFailed)
            }
            _ => Ok(()),
        }
    }

    /// Bucket, key and version of every object.
    pub(super) fn versions(&self) -> Vec<(u64, String, Order)> {
        let object = |(place, object): (&Place, &Object)| (place.0, place.1.clone(), object.order);
        self.objects.iter().map(object).collect()
    }

    /// Blobs that are referenced, and how often.
    pub(super) fn live_blobs(&self) -> BTreeMap<(Place, BlobId), u32> {
        let mut counts = BTreeMap::new();
        for (place, object) in &self.objects {
            for blob in &object.blobs {
                *counts.entry((place.clone(), *blob)).or_default() += 1;
            }
        }
        for ((bucket, key, _), parts) in &self.uploads {
            for blob in parts.values().filter_map(|part| part.blob) {
                *counts.entry(((*bucket, key.clone()), blob)).or_default() += 1;
            }
        }
        counts
    }

    /// Blobs that were referenced, and are no more.
    pub(super) fn dead_blobs(&self) -> BTreeSet<(Place, BlobId)> {
        let live = self.live_blobs();
        self.ever.iter().filter(|blob| !live.contains_key(*blob)).cloned().collect()
    }

    fn admit(&mut self, place: &Place, body: &NewBody) -> Result<Option<BlobId>, Rejection> {
        let NewBody::Blob(blob) = body else { return Ok(None) };
        let has_floor = self.epoch() > 1;
        let of_zone =
            |stores: &&Vec<u64>| stores.iter().any(|id| blob.stores.contains(&StoreId(*id)));
        let stale = (has_floor && blob.epoch.0 < self.epoch())
            || (!self.zones.is_empty() && self.zones.iter().filter(of_zone).count() < 2);
        if stale {
            return Err(Rejection::StaleEpoch);
        }
        match self.dead_blobs().contains(&(place.clone(), blob.blob)) {
            true => Err(Rejection::Malformed),
            false => Ok(Some(blob.blob)),
        }
    }

    fn effect(&mut self, order: Order, body: &CommandBody) -> Result<Outcome, Rejection> {
        match body {
            CommandBody::OpenSession { gateway, nonce } => {
                Ok(self.open(order, *gateway, *nonce, 1))
            }
            CommandBody::OpenSpeaking { gateway, nonce, levels } => {
                if self.level > 0 && (levels.min.0 > self.level || levels.max.0 < self.level) {
                    return Err(Rejection::LevelForeign { level: Level(self.level) });
                }
                Ok(self.open(order, *gateway, *nonce, levels.max.0))
            }
            CommandBody::FenceSession { session } => {
                if self.sessions.remove(&session.0).is_some() {
                    self.changes(order);
                }
                Ok(Outcome::Done)
            }
            CommandBody::FoundCluster { map } => {
                if self.zones.is_empty() {
                    let slots =
                        |zone: &ZoneMap| zone.slots.iter().map(|slot| slot.store.0).collect();
                    let zones: Vec<Vec<u64>> = map.zones.iter().map(slots).collect();
                    if zones.iter().flatten().any(|store| *store == 0) {
                        return Err(Rejection::Malformed);
                    }
                    self.voters = zones.iter().map(|stores| stores[0]).collect();
                    self.zones = zones;
                    self.level = map.level.0;
                    self.changes(order);
                }
                Ok(Outcome::Done)
            }
            CommandBody::ForgetGarbage { blobs } => {
                let dead = self.dead_blobs();
                for OwnedBlob { blob, owner } in blobs {
                    let place = (owner.bucket.0, owner.key.as_str().to_owned());
                    if dead.contains(&(place.clone(), *blob)) {
                        self.ever.remove(&(place, *blob));
                    }
                }
                Ok(Outcome::Done)
            }
            CommandBody::ReplaceStore { old, new } => self.replace(order, old.0, new.0),
            CommandBody::AddStore { zone, store, weight } => {
                self.add(order, zone.0, store.0, *weight)
            }
            CommandBody::SetWeight { store, weight } => self.weigh(order, store.0, *weight),
            CommandBody::SetNode { node } => self.node(order, node),
            CommandBody::ProveMap { epoch } => self.prove(order, epoch.0),
            CommandBody::RaiseLevel { to, spoken } => self.raise(order, to.0, &spoken.0),
            CommandBody::CreateBucket { name, owner, .. } => {
                if let Some((_, before)) = self.buckets.get(name.as_str()) {
                    return Err(match before == owner {
                        true => Rejection::BucketAlreadyOwnedByYou,
                        false => Rejection::BucketAlreadyExists,
                    });
                }
                self.buckets_made += 1;
                let bucket = (self.buckets_made, owner.clone());
                self.buckets.insert(name.as_str().to_owned(), bucket);
                Ok(Outcome::Done)
            }
            CommandBody::DeleteBucket { name, .. } => {
                let (id, _) = self.buckets.get(name.as_str()).ok_or(Rejection::NoSuchBucket)?;
                let used = self.objects.keys().any(|(bucket, _)| bucket == id)
                    || self.uploads.keys().any(|(bucket, ..)| bucket == id);
                if used {
                    return Err(Rejection::BucketNotEmpty);
                }
                self.buckets.remove(name.as_str());
                Ok(Outcome::Done)
            }
            CommandBody::PutObject { target, conditions, object } => {
                let place = self.bucket(target)?;
                let blob = self.admit(&place, &object.body)?;
                self.holds(&place, conditions)?;
                let inline = match &object.body {
                    NewBody::Inline(bytes) => Some(bytes.clone()),
                    NewBody::Blob(_) => None,
                };
                self.ever.extend(blob.map(|blob| (place.clone(), blob)));
                let new = Object {
                    etag: object.etag,
                    length: object.length,
                    order,
                    modified: self.clock,
                    inline,
                    blobs: blob.into_iter().collect(),
                };
                self.objects.insert(place, new);
                Ok(Outcome::Put { etag: object.etag, checksum: None, order })
            }
            CommandBody::CopyObject { target, conditions, object } => {
                let (target, conditions) = (target.clone(), conditions.clone());
                let put = CommandBody::PutObject { target, conditions, object: object.clone() };
                self.effect(order, &put)?;
                Ok(Outcome::Copied { etag: object.etag, checksum: None, modified: self.clock })
            }
            CommandBody::CopyPart { target, upload, number, part } => {
                let (target, upload, number) = (target.clone(), *upload, *number);
                let put = CommandBody::PutPart { target, upload, number, part: part.clone() };
                self.effect(order, &put)?;
                Ok(Outcome::Copied { etag: part.etag, checksum: None, modified: self.clock })
            }
            CommandBody::ChangeObject { target, version, conditions, tags, .. } => {
                let place = self.bucket(target)?;
                if tags.len() > 10 {
                    return Err(Rejection::Malformed);
                }
                self.holds(&place, conditions)?;
                let modified = self.clock;
                match self.objects.get_mut(&place) {
                    Some(object) if object.order == *version => {
                        (object.order, object.modified) = (order, modified);
                        Ok(Outcome::Copied { etag: object.etag, checksum: None, modified })
                    }
                    _ => Err(Rejection::OtherVersion),
                }
            }
            CommandBody::DeleteObject { target, conditions } => {
                let place = self.bucket(target)?;
                self.holds(&place, conditions)?;
                self.objects.remove(&place);
                Ok(Outcome::Done)
            }
            CommandBody::CreateUpload { target, .. } => {
                let (bucket, key) = self.bucket(target)?;
                self.uploads.insert((bucket, key, order), BTreeMap::new());
                Ok(Outcome::Upload(order))
            }
            CommandBody::PutPart { target, upload, number, part } => {
                let place = self.bucket(target)?;
                if *number == 0 || *number > 10_000 {
                    return Err(Rejection::Malformed);
                }
                let at = (place.0, place.1.clone(), *upload);
                if !self.uploads.contains_key(&at) {
                    return Err(Rejection::NoSuchUpload);
                }
                let blob = self.admit(&place, &part.body)?;
                self.ever.extend(blob.map(|blob| (place, blob)));
                let new = Part { etag: part.etag, length: part.length, blob };
                self.uploads.entry(at).or_default().insert(*number, new);
                Ok(Outcome::Put { etag: part.etag, checksum: None, order })
            }
            CommandBody::CompleteUpload { target, upload, parts, conditions } => {
                self.complete(order, target, *upload, parts, conditions)
            }
            CommandBody::AbortUpload { target, upload } => {
                let (bucket, key) = self.bucket(target)?;
                match self.uploads.remove(&(bucket, key, *upload)) {
                    Some(_) => Ok(Outcome::Done),
                    None => Err(Rejection::NoSuchUpload),
                }
            }
        }
    }

    fn replace(&mut self, order: Order, old: u64, new: u64) -> Result<Outcome, Rejection> {
        if self.zones.is_empty() {
            return Err(Rejection::NoSuchStore);
        }
        if new == 0 {
            return Err(Rejection::Malformed);
        }
        let gone = |store: u64| self.replaced.iter().find(|(gone, _)| *gone == store);
        match gone(old) {
            Some((_, by)) if *by == new => return Ok(Outcome::Done),
            Some(_) => return Err(Rejection::StoreRetired),
            None => {}
        }
        if !self.stores().contains(&old) {
            return Err(Rejection::NoSuchStore);
        }
        if self.stores().contains(&new) {
            return Err(Rejection::StoreInUse);
        }
        if gone(new).is_some() {
            return Err(Rejection::StoreRetired);
        }
        for place in self.zones.iter_mut().flatten().chain(&mut self.voters) {
            if *place == old {
                *place = new;
            }
        }
        let weight = self.weight(old);
        self.weights.insert(new, weight);
        self.replaced.push((old, new));
        self.changes(order);
        Ok(Outcome::Done)
    }

    fn complete(
        &mut self,
        order: Order,
        target: &Target,
        upload: Order,
        asked: &[(u16, ETag)],
        conditions: &WriteConditions,
    ) -> Result<Outcome, Rejection> {
        let place = self.bucket(target)?;
        if asked.is_empty() {
            return Err(Rejection::Malformed);
        }
        let at = (place.0, place.1.clone(), upload);
        let Some(there) = self.uploads.get(&at) else {
            return match self.completed.get(&at) {
                Some((_, outcome)) => Ok(outcome.clone()),
                None => Err(Rejection::NoSuchUpload),
            };
        };
        if asked.windows(2).any(|pair| pair[0].0 >= pair[1].0) {
            return Err(Rejection::InvalidPartOrder);
        }
        for (number, etag) in asked {
            if there.get(number).is_none_or(|part| part.etag != *etag) {
                return Err(Rejection::InvalidPart { number: *number });
            }
        }
        for (number, _) in &asked[..asked.len() - 1] {
            let length = there[number].length;
            if length < 5 * 1024 * 1024 {
                return Err(Rejection::EntityTooSmall { number: *number, length });
            }
        }
        self.holds(&place, conditions)?;
        let parts: Vec<_> = asked.iter().map(|(number, _)| there[number].clone()).collect();
        let digests: Vec<u8> = asked.iter().flat_map(|(_, etag)| etag.md5).collect();
        let count = u16::try_from(parts.len()).unwrap();
        let object = Object {
            etag: ETag { md5: Md5::digest(&digests).into(), parts: count },
            length: parts.iter().map(|part| part.length).sum(),
            order,
            modified: self.clock,
            inline: None,
            blobs: parts.iter().filter_map(|part| part.blob).collect(),
        };
        let outcome = Outcome::Put { etag: object.etag, checksum: None, order };
        self.objects.insert(place, object);
        self.uploads.remove(&at);
        self.completed.insert(at, (self.clock, outcome.clone()));
        Ok(outcome)
    }

    /// All of a listing: keys (`true`) and common prefixes, of `keys` in order.
    pub(super) fn list<'a>(
        keys: impl Iterator<Item = &'a str>,
        request: &ScanRequest,
    ) -> Vec<(bool, String)> {
        let mut found: Vec<(bool, String)> = Vec::new();
        for key in keys {
            let behind = match &request.start {
                ScanStart::First => true,
                ScanStart::AtKey(start) => key >= start.as_str(),
                ScanStart::AfterKey(start) => key > start.as_str(),
                ScanStart::AfterPrefix(start) => {
                    key > start.as_str() && !key.starts_with(start.as_str())
                }
            };
            let Some(rest) = key.strip_prefix(request.prefix.as_str()).filter(|_| behind) else {
                continue;
            };
            let rolled = request.delimiter.as_deref().and_then(|delimiter| {
                let (head, _) = rest.split_once(delimiter)?;
                Some(format!("{}{head}{delimiter}", request.prefix))
            });
            match rolled {
                Some(prefix) if found.contains(&(false, prefix.clone())) => {}
                Some(prefix) => found.push((false, prefix)),
                None => found.push((true, key.to_owned())),
            }
        }
        found
    }
}
