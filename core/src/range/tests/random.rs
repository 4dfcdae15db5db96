//! Random histories: two replicas that miss and freeze at different moments, and the model.

use std::collections::BTreeMap;

use super::model::{Model, Plain};
use super::support::*;
use crate::cluster::Node;
use crate::codec::Wire;
use crate::directory::Directory;
use crate::hash::{StateHash, ValueHash};
use crate::ids::*;
use crate::level::Level;
use crate::object::*;
use crate::range::BlobState;
use crate::range::command::*;
use crate::range::keys::Key;
use crate::range::records::{BlobCount, Garbage};
use crate::request::ListEntry;
use crate::rng::Rng;

const KEYS: [&str; 24] = [
    "a",
    "a/",
    "a/b",
    "a/b/c",
    "a/b+",
    "a+b",
    "a b",
    "a\0",
    "a\0b",
    "a\u{1}",
    "a\u{1}/x",
    "ab",
    "foo/",
    "foo+1/",
    "foo/1",
    "foo/1/2",
    "z\u{7f}",
    "z\u{7f}\0",
    "ä",
    "ä/ö",
    "日本/語",
    "日本",
    "\0",
    "\u{10ffff}/x",
];
const PREFIXES: [&str; 10] = ["", "a", "a/", "a/b", "foo", "foo/", "\0", "ä", "日", "nothing"];
const DELIMITERS: [Option<&str>; 7] =
    [None, Some("/"), Some("b"), Some("\0"), Some("o/"), Some("語"), Some("+")];

/// What a batch of histories must contain, or the test has lost its reach.
const MUST_HAPPEN: [&str; 60] = [
    "AbortUpload Done",
    "AddStore Done",
    "AddStore Rejected(BadWeight",
    "AddStore Rejected(NoSuchZone",
    "AddStore Rejected(StoreInUse",
    "AddStore Rejected(StoreRetired",
    "AbortUpload Rejected(NoSuchUpload",
    "ChangeObject Copied",
    "ChangeObject Rejected(Malformed",
    "ChangeObject Rejected(OtherVersion",
    "ChangeObject Rejected(PreconditionFailed",
    "CompleteUpload Put",
    "CompleteUpload Rejected(EntityTooSmall",
    "CompleteUpload Rejected(InvalidPart",
    "CompleteUpload Rejected(InvalidPartOrder",
    "CompleteUpload Rejected(NoSuchKey",
    "CompleteUpload Rejected(PreconditionFailed",
    "CopyObject Copied",
    "CopyObject Rejected(StaleEpoch",
    "CopyPart Copied",
    "ForgetGarbage Done",
    "CreateBucket Done",
    "CreateBucket Rejected(BucketAlreadyExists",
    "CreateUpload Upload(Order",
    "DeleteBucket Done",
    "DeleteBucket Rejected(BucketNotEmpty",
    "DeleteObject Done",
    "DeleteObject Rejected(PreconditionFailed",
    "FoundCluster Done",
    "FoundCluster Rejected(Malformed",
    "OpenSession SessionOpened(ses",
    "OpenSpeaking Rejected(LevelForeign",
    "OpenSpeaking SessionOpened(ses",
    "ProveMap Done",
    "ProveMap Rejected(Malformed",
    "PutObject Put",
    "PutObject Rejected(Answered",
    "PutObject Rejected(Fenced",
    "PutObject Rejected(Malformed",
    "PutObject Rejected(PreconditionFailed",
    "PutObject Rejected(StaleEpoch",
    "PutPart Put",
    "PutPart Rejected(StaleEpoch",
    "RaiseLevel Done",
    "RaiseLevel Rejected(LevelGoesDown",
    "RaiseLevel Rejected(LevelNotSpoken",
    "RaiseLevel Rejected(LevelNotSpokenBy",
    "RaiseLevel Rejected(Malformed",
    "ReplaceStore Done",
    "ReplaceStore Rejected(NoSuchStore",
    "ReplaceStore Rejected(StoreInUse",
    "ReplaceStore Rejected(StoreRetired",
    "SetNode Done",
    "SetNode Rejected(Malformed",
    "SetNode Rejected(NoSuchZone",
    "SetNode Rejected(NodeInUse",
    "SetWeight Done",
    "SetWeight Rejected(BadWeight",
    "SetWeight Rejected(LastOfZone",
    "SetWeight Rejected(NoSuchStore",
];

struct World {
    rng: Rng,
    model: Model,
    replicas: [Replica; 2],
    sent: Vec<Command>,
    sessions: u64,
    next_sequence: BTreeMap<u64, u64>,
    next_blob: u64,
    uploads: Vec<(u64, String, Order)>,
    tags: u64,
    clock: u64,
    /// How often each kind of command had each kind of outcome.
    seen: BTreeMap<String, u64>,
}

impl World {
    fn new(seed: u64) -> Self {
        Self {
            rng: Rng::new(seed),
            model: Model::default(),
            replicas: [Replica::new(seed, 60), Replica::new(seed + 1, 0)],
            sent: Vec::new(),
            sessions: 1,
            next_sequence: BTreeMap::new(),
            next_blob: 0,
            uploads: vec![(1, "a".to_owned(), Order::default())],
            tags: 0,
            clock: 1,
            seen: BTreeMap::new(),
        }
    }

    fn pick<T: Clone>(&mut self, items: &[T]) -> T {
        let at = self.rng.below(items.len() as u64);
        items[usize::try_from(at).unwrap()].clone()
    }

    fn key(&mut self) -> &'static str {
        self.pick(&KEYS)
    }

    fn conditions(&mut self) -> WriteConditions {
        let tags = |world: &mut Self| match world.rng.below(3) {
            0 => TagMatch::Any,
            _ => TagMatch::Tags(vec![etag(world.rng.below(world.tags.max(1)))]),
        };
        match self.rng.below(8) {
            0 => WriteConditions { if_match: Some(tags(self)), if_none_match: None },
            1 => WriteConditions { if_match: None, if_none_match: Some(tags(self)) },
            _ => WriteConditions::default(),
        }
    }

    fn blob(&mut self) -> BlobRef {
        let sequence = match self.rng.chance(1, 10) {
            true => self.rng.below(self.next_blob + 1),
            false => {
                self.next_blob += 1;
                self.next_blob
            }
        };
        let length = [5 << 20, (5 << 20) + 1, 100][usize::try_from(sequence % 3).unwrap()];
        let mut blob = blob(sequence, length);
        let stores = self.model.stores();
        if !stores.is_empty() {
            blob.stores = (0..4).map(|_| StoreId(self.pick(&stores))).collect();
        }
        blob.epoch = MapEpoch(self.model.epoch() - self.rng.below(20) / 19);
        blob
    }

    /// A store, most often one that was or is in the map.
    fn store(&mut self) -> u64 {
        self.rng.below(9 + self.model.epoch())
    }

    /// Mostly one that makes sense.
    fn weight(&mut self) -> u32 {
        self.pick(&[0, 0, 0, 0, 1, 2, 1 << 24, (1 << 24) + 1])
    }

    fn node_change(&mut self) -> CommandBody {
        let id = u32::try_from(self.rng.below(6)).unwrap();
        // Of most nodes it is the zone that they are in.
        let zone = u8::try_from(u64::from(id + 2) + self.rng.below(8) / 7).unwrap() % 4;
        let name = self.pick(&["d", "e", "f"]);
        set_node(Node { left: self.rng.chance(1, 8), ..node(id, zone, name) })
    }

    /// Of all stores the leader has heard, mostly.
    fn level_change(&mut self) -> CommandBody {
        let mut spoken: Vec<StoreId> = self.model.stores().into_iter().map(StoreId).collect();
        if !spoken.is_empty() && self.rng.chance(1, 3) {
            let silent = usize::try_from(self.rng.below(spoken.len() as u64)).unwrap();
            spoken.remove(silent);
        }
        raise(1 + u32::try_from(self.rng.below(4)).unwrap(), spoken)
    }

    fn map_change(&mut self) -> CommandBody {
        match self.rng.below(20) {
            18..=19 => return self.level_change(),
            0..=5 => return replace(self.store(), self.store()),
            6..=8 => {
                let zone = u8::try_from(self.rng.below(4)).unwrap();
                return add(zone, self.store(), self.weight());
            }
            9..=13 => return set_weight(self.store(), self.weight()),
            // Too seldom to keep up with the changes always.
            16..=17 => return self.node_change(),
            14 if self.rng.chance(1, 2) => return prove(self.rng.below(self.model.epoch() + 2)),
            _ => {}
        }
        let mut map = first_map();
        map.level = Level(1 + u32::try_from(self.rng.below(2)).unwrap());
        let zone = usize::try_from(self.rng.below(3)).unwrap();
        // Most often a store that no other map has, so that it shows which map was the first; never
        // a store's place among the voters.
        map.zones[zone].slots[1].store = StoreId(self.rng.below(3) * 20);
        found(map)
    }

    fn body(&mut self) -> CommandBody {
        let bucket = 1 + self.rng.below(3);
        let bucket_name = self.pick(&["one", "two", "six"]);
        self.tags += 1;
        let tag = self.tags;
        match self.rng.below(125) {
            100..=102 | 115..=122 => self.map_change(),
            0 => CommandBody::OpenSession {
                gateway: GatewayId(self.rng.below(3)),
                nonce: self.rng.below(4).into(),
            },
            1..=2 => {
                let newest = 1 + u32::try_from(self.rng.below(30).min(3)).unwrap();
                let levels = levels(1 + u32::from(self.rng.chance(1, 8) && newest > 1), newest);
                let (gateway, nonce) = (GatewayId(self.rng.below(3)), self.rng.below(4).into());
                CommandBody::OpenSpeaking { gateway, nonce, levels }
            }
            3 => {
                CommandBody::FenceSession { session: SessionId(self.rng.below(self.sessions + 2)) }
            }
            4..=6 => create_bucket(bucket_name, "alice"),
            7 => create_bucket(bucket_name, "bob"),
            8 | 123..=124 => delete_bucket(bucket_name),
            9..=24 => {
                let (key, conditions) = (self.key(), self.conditions());
                put_if(bucket, key, tag, conditions)
            }
            25..=36 => {
                let (key, blob) = (self.key(), self.blob());
                let put = put_blob(bucket, key, tag, blob);
                if self.rng.chance(1, 3) { copied(put) } else { put }
            }
            103..=110 => self.change(),
            111..=114 => self.forget(),
            37..=52 => CommandBody::DeleteObject {
                target: target(bucket, self.key()),
                conditions: self.conditions(),
            },
            53..=60 => create_upload(bucket, self.key()),
            61..=80 => {
                let uploads = self.uploads.clone();
                let (bucket, key, upload) = self.pick(&uploads);
                let number = u16::try_from(self.rng.below(5)).unwrap();
                let blob = match self.rng.chance(1, 8) {
                    true => None,
                    false => Some(self.blob()),
                };
                // Few tags, so that Complete often names the right one.
                let put = put_part(bucket, &key, upload, number, u64::from(number), blob);
                if self.rng.chance(1, 4) { copied(put) } else { put }
            }
            81..=93 => {
                let uploads = self.uploads.clone();
                let (bucket, key, upload) = self.pick(&uploads);
                let mut parts = Vec::new();
                for number in 0..5 {
                    if self.rng.chance(1, 3) {
                        let tag = u64::from(number) + self.rng.below(20) / 19;
                        parts.push((number, etag(tag)));
                    }
                }
                if self.rng.chance(1, 20) {
                    parts.reverse();
                }
                CommandBody::CompleteUpload {
                    target: target(bucket, &key),
                    upload,
                    parts,
                    conditions: self.conditions(),
                }
            }
            _ => {
                let uploads = self.uploads.clone();
                let (bucket, key, upload) = self.pick(&uploads);
                CommandBody::AbortUpload { target: target(bucket, &key), upload }
            }
        }
    }

    /// What the range says of blobs is what the model says.
    fn check_blobs(&mut self) {
        let (rows_max, mut found, mut from) = (1 + self.rng.below(9), Vec::new(), None);
        loop {
            let rows_max = u32::try_from(rows_max).unwrap();
            let limit = usize::try_from(1 + self.rng.below(5)).unwrap();
            let replica = &self.replicas[0];
            let page =
                replica.look(|range, rows| range.dead_blobs(rows, from.as_ref(), limit, rows_max));
            assert!(page.found.len() <= limit);
            found.extend(page.found.into_iter().map(|dead| {
                ((dead.owner.bucket.0, dead.owner.key.as_str().to_owned()), dead.blob.blob)
            }));
            match page.next {
                None => break,
                next => assert!(core::mem::replace(&mut from, next.clone()) < next),
            }
        }
        assert_eq!(found, self.model.dead_blobs().into_iter().collect::<Vec<_>>());
        let replica = &self.replicas[0];
        let state = |(bucket, key): &(u64, String), blob| {
            let owned = OwnedBlob { blob, owner: target(*bucket, key) };
            replica.look(|range, rows| range.blob_state(rows, &owned))
        };
        for (place, blob) in self.model.live_blobs().into_keys() {
            assert_eq!(state(&place, blob), BlobState::Referenced);
            let nowhere = (place.0 + 100, place.1);
            assert_eq!(state(&nowhere, blob), BlobState::Unknown);
        }
        for (place, blob) in self.model.dead_blobs() {
            assert_eq!(state(&place, blob), BlobState::Dead);
        }
    }

    /// Mostly of what is dead, and sometimes of what is not.
    fn forget(&mut self) -> CommandBody {
        let mut blobs: Vec<_> = self.model.dead_blobs().into_iter().collect();
        if self.rng.chance(1, 3) {
            blobs.extend(self.model.live_blobs().into_keys());
        }
        let owned = |((bucket, key), blob): ((u64, String), BlobId)| OwnedBlob {
            blob,
            owner: target(bucket, &key),
        };
        let take = blobs.len().min(usize::try_from(self.rng.below(4)).unwrap());
        let blobs = (0..take).map(|_| owned(self.pick(&blobs))).collect();
        CommandBody::ForgetGarbage { blobs }
    }

    /// Mostly of an object that is there, and mostly of the version that is there.
    fn change(&mut self) -> CommandBody {
        let versions = self.model.versions();
        let there = !versions.is_empty() && self.rng.chance(9, 10);
        let (bucket, key, mut version) =
            if there { self.pick(&versions) } else { (1, self.key().to_owned(), Order::default()) };
        if self.rng.chance(1, 5) {
            version.position += 1;
        }
        let tags = usize::try_from(self.rng.below(12)).unwrap();
        match change(bucket, &key, version, tags) {
            CommandBody::ChangeObject { target, version, owner, attributes, tags, .. } => {
                CommandBody::ChangeObject {
                    target,
                    version,
                    conditions: self.conditions(),
                    owner,
                    attributes,
                    tags,
                }
            }
            other => other,
        }
    }

    fn command(&mut self) -> Command {
        if !self.sent.is_empty() && self.rng.chance(1, 5) {
            let sent = self.sent.clone();
            return self.pick(&sent);
        }
        let body = self.body();
        let origin = match self.rng.chance(1, 4) {
            true => Origin::System,
            false => {
                let live: Vec<_> = self.replicas[0].range.live_sessions().collect();
                let session = match live.is_empty() || self.rng.chance(1, 10) {
                    true => 1 + self.rng.below(self.sessions + 1),
                    false => self.pick(&live).0.0,
                };
                let sequence = self.next_sequence.entry(session).or_default();
                *sequence += 1;
                let sequence = *sequence;
                origin(session, sequence, sequence.saturating_sub(self.rng.below(12)))
            }
        };
        Command { origin, body }
    }

    fn step(&mut self) {
        self.clock += match self.rng.chance(1, 40) {
            true => 50_000_000,
            false => self.rng.below(1000),
        };
        let clock = self.clock.saturating_sub(self.rng.below(2000));
        let commands: Vec<_> = (0..self.rng.below(6)).map(|_| self.command()).collect();
        self.sent.extend(commands.clone());
        let excess = self.sent.len().saturating_sub(40);
        self.sent.drain(..excess);
        let batch = batch(clock, commands);
        let batch = Batch::from_bytes(&batch.to_bytes()).unwrap();
        let index = self.replicas[0].range.applied().next();
        let expected = self.model.apply(index, &batch);
        for replica in &mut self.replicas {
            let outcomes = replica.apply(&batch);
            assert_eq!(outcomes, expected, "{index}: {:#?}", batch.commands);
        }
        for (command, outcome) in batch.commands.iter().zip(&expected) {
            let words = |text: String| {
                let end = |c: char| !c.is_alphanumeric() && c != '(';
                text.split(end).next().map(ToOwned::to_owned).unwrap_or_default()
            };
            let kind = words(format!("{:?}", command.body));
            *self.seen.entry(format!("{kind} {}", words(format!("{outcome:?}")))).or_default() += 1;
            match (outcome, &command.body) {
                (Outcome::SessionOpened(session), _) => {
                    self.sessions = self.sessions.max(session.0);
                }
                (Outcome::Upload(order), CommandBody::CreateUpload { target, .. }) => {
                    let place = (target.bucket.0, target.key.as_str().to_owned(), *order);
                    self.uploads.push(place);
                    let excess = self.uploads.len().saturating_sub(6);
                    self.uploads.drain(..excess);
                }
                _ => {}
            }
        }
        let [a, b] = &mut self.replicas;
        assert_eq!(a.range.state_hash(), b.range.state_hash());
        for replica in [&*a, &*b] {
            let directory = replica.range.directory();
            if let Some(map) = directory.as_ref().map(|it| &it.map) {
                assert_eq!(map.level.0, self.model.level());
                let moving: Vec<u64> = map.unproven.iter().map(|layout| layout.epoch.0).collect();
                assert_eq!(moving, self.model.moving());
                let nodes = map.nodes.iter().cloned();
                let nodes = nodes.map(|node| (node.id, (node.zone.0, node.name, node.left)));
                assert!(nodes.eq(self.model.nodes().clone()), "{:?}", map.nodes);
                let slots = map.zones.iter().flat_map(|zone| &zone.slots);
                for slot in slots {
                    assert_eq!(slot.weight, self.model.weight(slot.store.0), "{}", slot.store);
                }
            }
            assert_eq!(directory.as_ref().map(|it| it.sessions.next.0), {
                directory.is_some().then_some(self.model.sessions_made() + 1)
            });
            assert_eq!(directory.map(plain), self.model.directory());
        }
        if self.rng.chance(1, 10) {
            a.reload();
        }
    }

    /// Every blob that is referenced, page by page.
    fn compare_audit(&mut self) {
        let mut found = BTreeMap::new();
        let mut after = None;
        loop {
            let limit = 1 + u32::try_from(self.rng.below(5)).unwrap();
            let ReadReply::Audit(page) = self.replicas[0].read(&Read::Audit { after, limit })
            else {
                panic!("not an audit");
            };
            assert!(page.rows.len() <= limit as usize);
            for row in &page.rows {
                let bucket = self.model.bucket_id(&row.bucket).expect("a bucket's name");
                for blob in &row.blobs {
                    let place = (bucket, row.key.as_str().to_owned());
                    *found.entry((place, blob.blob)).or_default() += 1;
                }
            }
            after = page.next.clone();
            // Any row's place is as good as the end of a page.
            if let (Some(row), true) = (page.rows.last(), self.rng.chance(1, 2)) {
                after = Some(row.at.clone());
            }
            if page.next.is_none() && after.is_none() {
                break;
            }
        }
        assert_eq!(found, self.model.live_blobs());
    }

    fn compare_rows(&mut self) {
        let replica = &self.replicas[0];
        let mut hash = StateHash::default();
        let mut counts = BTreeMap::new();
        let mut dead = Vec::new();
        for (raw, (value, _)) in &replica.rows.map {
            let key = Key::decode(raw).unwrap();
            assert_eq!(key.encode(), raw);
            if !matches!(key, Key::Header | Key::Session { .. }) {
                hash.insert(raw, ValueHash::of(value));
            }
            match key {
                Key::Blob { target, blob } => {
                    let count = BlobCount::from_bytes(value).unwrap().count;
                    counts.insert(((target.bucket.0, target.key.as_str().to_owned()), blob), count);
                }
                Key::Garbage { target, blob } => {
                    assert_eq!(Garbage::from_bytes(value).unwrap().blob.blob, blob);
                    dead.push(((target.bucket.0, target.key.as_str().to_owned()), blob));
                }
                _ => {}
            }
        }
        assert_eq!(hash, replica.range.header.tree_hash, "the hash follows the rows");
        assert_eq!(counts, self.model.live_blobs());
        assert_eq!(dead, self.model.dead_blobs().into_iter().collect::<Vec<_>>());
        self.check_blobs();
    }

    fn compare_objects(&self) {
        for bucket in 1..4 {
            for key in KEYS {
                let read = Read::Object { target: target(bucket, key), with_body: true };
                let reply = self.replicas[0].read(&read);
                let expected = self.model.objects.get(&(bucket, key.to_owned()));
                match (reply, expected) {
                    (ReadReply::Object(Some((record, inline))), Some(object)) => {
                        assert_eq!(record.etag, object.etag);
                        assert_eq!(record.length, object.length);
                        assert_eq!(record.order, object.order);
                        assert_eq!(record.modified, object.modified);
                        assert_eq!(inline, object.inline);
                    }
                    (ReadReply::Object(None) | ReadReply::NoSuchBucket, None) => {}
                    (reply, expected) => panic!("{key:?}: {reply:?}, not {expected:?}"),
                }
            }
        }
    }

    fn request(&mut self) -> ScanRequest {
        let bucket = 1 + self.rng.below(3);
        let prefix = self.pick(&PREFIXES);
        let delimiter = self.pick(&DELIMITERS);
        let key = self.key().to_owned();
        let start = match self.rng.below(5) {
            0 | 1 => ScanStart::First,
            2 => ScanStart::AtKey(key),
            3 => ScanStart::AfterKey(key),
            _ => ScanStart::AfterPrefix(self.pick(&PREFIXES[1..]).to_owned()),
        };
        let limit = 1 + u32::try_from(self.rng.below(5)).unwrap();
        ScanRequest { start, limit, ..scan(bucket, prefix, delimiter) }
    }

    fn compare_listing(&mut self) {
        let mut request = self.request();
        let bucket = request.bucket.0;
        let keys = self.model.objects.keys().filter(|(id, _)| *id == bucket);
        let expected = Model::list(keys.map(|(_, key)| key.as_str()), &request);
        let mut found = Vec::new();
        let first = request.clone();
        loop {
            match self.replicas[0].read(&Read::Scan(request.clone())) {
                ReadReply::NoSuchBucket => break,
                ReadReply::Scan(Scanned { entries, next }) => {
                    assert!(entries.len() <= request.limit as usize);
                    found.extend(entries.into_iter().map(|entry| match entry {
                        ListEntry::Item(item) => (true, item.key.as_str().to_owned()),
                        ListEntry::Prefix(prefix) => (false, prefix),
                    }));
                    let Some(next) = next else { break };
                    assert_ne!(next, request.start, "a scan gets on");
                    request.start = next;
                }
                reply => panic!("{reply:?}"),
            }
        }
        assert_eq!(found, expected, "{first:?}");
    }

    fn compare_uploads(&mut self) {
        let mut request = self.request();
        let bucket = request.bucket.0;
        let there: Vec<_> = self.model.uploads.keys().filter(|(id, ..)| *id == bucket).collect();
        let names = Model::list(there.iter().map(|(_, key, _)| key.as_str()), &request);
        let mut expected: Vec<(String, Option<Order>)> = Vec::new();
        for (is_key, name) in names {
            match is_key {
                false => expected.push((name, None)),
                true if expected.iter().any(|(before, _)| *before == name) => {}
                true => expected.extend(
                    there
                        .iter()
                        .filter(|(_, key, _)| *key == name)
                        .map(|(_, key, order)| (key.clone(), Some(*order))),
                ),
            }
        }
        let mut found = Vec::new();
        let mut upload_after = None;
        let first = request.clone();
        loop {
            let read = Read::Uploads { scan: request.clone(), upload_after };
            match self.replicas[0].read(&read) {
                ReadReply::NoSuchBucket => break,
                ReadReply::Uploads(Scanned { entries, next }) => {
                    assert!(entries.len() <= request.limit as usize);
                    found.extend(entries.into_iter().map(|entry| match entry {
                        ListEntry::Item(item) => {
                            (item.key.as_str().to_owned(), Some(item.upload.order))
                        }
                        ListEntry::Prefix(prefix) => (prefix, None),
                    }));
                    let Some(next) = next else { break };
                    upload_after = match (&next, found.last()) {
                        (ScanStart::AtKey(key), Some((last, order))) => {
                            assert_eq!(key, last);
                            *order
                        }
                        _ => None,
                    };
                    request.start = next;
                }
                reply => panic!("{reply:?}"),
            }
        }
        assert_eq!(found, expected, "{first:?}");
    }
}

/// A directory as the model says it.
fn plain(directory: Directory) -> Plain {
    let Directory { version, map, sessions } = directory;
    let ids = |stores: &[StoreId]| stores.iter().map(|store| store.0).collect::<Vec<u64>>();
    let stores: Vec<StoreId> = map.stores().map(|(_, store)| store).collect();
    let live: Vec<u64> = sessions.live.iter().map(|session| session.0).collect();
    assert_eq!(sessions.floor.0, live.first().copied().unwrap_or(sessions.next.0));
    (version, map.epoch.0, ids(&stores), ids(&map.voters), ids(&map.retired), live)
}

#[test]
fn random_histories_agree_with_the_model_whatever_misses_and_freezes_there_are() {
    let mut seen = BTreeMap::new();
    for seed in 0..40 {
        let mut world = World::new(seed);
        for step in 0..300 {
            world.step();
            world.compare_listing();
            world.compare_uploads();
            if step % 20 == 0 {
                world.compare_audit();
                world.compare_rows();
                world.compare_objects();
            }
        }
        world.compare_rows();
        world.compare_objects();
        for (what, count) in world.seen {
            *seen.entry(what).or_insert(0) += count;
        }
    }
    for what in MUST_HAPPEN {
        assert!(seen.contains_key(what), "no history has {what}: {seen:#?}");
    }
}

#[test]
fn equal_logs_give_equal_rows() {
    let rows = |seed| {
        let mut world = World::new(seed);
        (0..200).for_each(|_| world.step());
        let [a, b] = &mut world.replicas;
        a.reload();
        b.reload();
        let strip = |replica: &Replica| -> Vec<_> {
            replica.rows.map.iter().map(|(key, (value, _))| (key.clone(), value.clone())).collect()
        };
        assert_eq!(strip(a), strip(b));
        strip(a)
    };
    assert_eq!(rows(7), rows(7));
}
