//! What a client asks next.

use trine_core::object::{Attributes, ETag, TagMatch, WriteConditions};
use trine_core::request::{
    ByteRange, GetRequest, ListRequest, PutRequest, ReadConditions, Request,
};

use super::copy::origin;
use super::operation::{Operation, Planned, Wish};
use super::upload::Upload;
use super::{
    BUCKET, Intent, Job, PASSING_BUCKETS, Phase, Script, Source, TENANT, Workload, bucket, owner,
};
use crate::Nanos;
use crate::checkers::listing::Query;
use crate::checkers::register::{Condition, ValueId};
use crate::random::Draw;

/// Sizes at the edges of inline bodies, blocks and chunks ([`trine_core::cluster::Cut::SIMULATION`]).
const EDGES: [u64; 16] = [
    0, 1, 7, 1_023, 1_024, 1_025, 4_095, 4_096, 4_097, 8_192, 16_383, 16_384, 16_385, 32_768,
    32_769, 65_537,
];

/// How many keys are deleted with one request when all are.
const EMPTIED_AT_ONCE: usize = 40;

impl Workload {
    /// What `client` asks next; `None` if it has nothing to do now. It was `due` then, and asks by way of the
    /// gateway `via`: this is written down with what it asks, if anything is.
    pub fn next(&mut self, client: usize, now: Nanos, (due, via): (Nanos, usize)) -> Option<Job> {
        match self.phase {
            Phase::Open => self.next_open(client, now, (due, via)),
            _ if client > 0 => None,
            Phase::CreateBucket => Some(create_bucket(BUCKET)),
            Phase::PutAnchor => {
                let anchor = self.anchor();
                Some(self.put(anchor, 3_000, Condition::Always, true))
            }
            Phase::AbortUploads => Some(self.abort_next()),
            Phase::Empty { next } => {
                let keys = (next..self.anchor()).take(EMPTIED_AT_ONCE).collect();
                Some(self.job(client, Operation::DeleteMany { keys }))
            }
            Phase::Verify { next } => Some(self.get(next, None, None)),
            Phase::VerifyListing => Some(match &self.clients[client].1 {
                Script::Listing(query) => list(query.clone()),
                _ => list(Query { keys_max: 1_000, ..Query::default() }),
            }),
            Phase::Over => None,
        }
    }

    fn next_open(&mut self, client: usize, now: Nanos, (due, via): (Nanos, usize)) -> Option<Job> {
        if let Script::Listing(query) = &self.clients[client].1 {
            return Some(list(query.clone()));
        }
        let operation = if let Source::Given(_) = self.source {
            if self.planned(client)?.due > now {
                return None;
            }
            let Source::Given(lists) = &mut self.source else { return None };
            lists[client].pop_front()?.operation
        } else {
            // The stream is taken out while it is used, so that the rest of `self` can be too.
            let mut draw = self.clients[client].0.clone();
            let operation = match &self.clients[client].1 {
                Script::Upload(_) => self.choose_step(client, &mut draw),
                _ => self.choose(&mut draw),
            };
            self.clients[client].0 = draw;
            operation
        };
        if let Source::Recorded(lists) = &mut self.source {
            lists[client].push(Planned { due, via, operation: operation.clone() });
        }
        Some(self.job(client, operation))
    }

    /// What `client` is to do next, if that is given. Steps of an upload that it does not have are passed over.
    pub fn planned(&mut self, client: usize) -> Option<&Planned> {
        if self.phase != Phase::Open {
            return None;
        }
        let (Source::Given(lists), Some((_, script))) =
            (&mut self.source, self.clients.get(client))
        else {
            return None;
        };
        match script {
            Script::Listing(_) => return None,
            Script::Upload(_) => {}
            Script::None => {
                while lists[client].front().is_some_and(|head| head.operation.is_step()) {
                    lists[client].pop_front();
                }
            }
        }
        lists[client].front()
    }

    fn choose(&self, draw: &mut Draw) -> Operation {
        if self.churn && draw.one_in(2) {
            let key = draw.index(4.min(self.anchor()));
            return match draw.between(0, 5) {
                0..=1 => {
                    let (len, wish) =
                        (draw.between(self.body_max / 2, self.body_max), Wish::Always);
                    Operation::Put { key, len, wish, sized: true }
                }
                2..=4 => Operation::Get { key, range: None, unless_seen: false },
                _ => Operation::Delete { key, wish: Wish::Always },
            };
        }
        if self.copying && draw.one_in(5) {
            return self.choose_copy(draw);
        }
        match draw.between(0, 99) {
            0..=27 => {
                let (key, len) = (self.any_key(draw), self.any_len(draw));
                let wish = any_wish(draw);
                Operation::Put { key, len, wish, sized: draw.one_in(2) }
            }
            28..=54 => {
                let key = self.any_key(draw);
                let range = draw.one_in(3).then(|| self.any_range(draw));
                Operation::Get { key, range, unless_seen: draw.one_in(12) }
            }
            55..=60 => Operation::Head { key: self.any_key(draw) },
            61..=70 => {
                let key = self.any_key(draw);
                let wish = if draw.one_in(5) { Wish::IfSeen } else { Wish::Always };
                Operation::Delete { key, wish }
            }
            71..=73 => {
                let mut keys: Vec<_> =
                    (0..draw.between(1, 6)).map(|_| self.any_key(draw)).collect();
                keys.sort_unstable();
                keys.dedup();
                Operation::DeleteMany { keys }
            }
            74..=83 => Operation::List(self.any_query(draw)),
            84..=92 => Operation::CreateUpload { key: self.any_key(draw) },
            93..=98 => any_bucket_operation(draw),
            _ => Operation::DeleteFullBucket,
        }
    }

    /// The request that an operation makes.
    fn job(&mut self, client: usize, operation: Operation) -> Job {
        match operation {
            Operation::CreateBucket(name) => create_bucket(name),
            Operation::DeleteBucket(name) => Job {
                request: Request::DeleteBucket { bucket: bucket(name) },
                body: None,
                intent: Intent::DeleteBucket(name),
            },
            Operation::HeadBucket(name) => Job {
                request: Request::HeadBucket { bucket: bucket(name) },
                body: None,
                intent: Intent::HeadBucket(name),
            },
            Operation::ListBuckets => Job {
                request: Request::ListBuckets { tenant: TENANT },
                body: None,
                intent: Intent::ListBuckets,
            },
            Operation::DeleteFullBucket => Job {
                request: Request::DeleteBucket { bucket: bucket(BUCKET) },
                body: None,
                intent: Intent::DeleteFullBucket,
            },
            Operation::Put { key, len, wish, sized } => {
                let condition = self.condition(key, wish);
                self.put(key, len, condition, sized)
            }
            Operation::Get { key, range, unless_seen } => {
                let unless = unless_seen.then(|| self.tags.get(&key).copied()).flatten();
                self.get(key, range, unless)
            }
            Operation::Head { key } => {
                let request = Request::Head(self.get_request(key, None, None));
                Job { request, body: None, intent: Intent::Head { key } }
            }
            Operation::Delete { key, wish } => {
                let condition = self.condition(key, wish);
                let (path, conditions) = (self.path(key), write_conditions(condition));
                let intent = Intent::Delete { key, condition };
                Job { request: Request::Delete { path, conditions }, body: None, intent }
            }
            Operation::DeleteMany { keys } => {
                let names = keys.iter().map(|key| self.keys[*key].clone()).collect();
                let request = Request::DeleteMany { bucket: bucket(BUCKET), keys: names };
                Job { request, body: None, intent: Intent::DeleteMany { keys } }
            }
            Operation::List(query) => list(query),
            Operation::Copy { source, key, wish, checksum } => {
                let condition = self.condition(key, wish);
                self.copy(source, key, condition, checksum)
            }
            Operation::CreateUpload { key } => self.create_upload(key),
            step => self.job_of_step(client, step),
        }
    }

    pub(super) fn put(
        &mut self,
        key: usize,
        len: u64,
        condition: Condition,
        length_known: bool,
    ) -> Job {
        let (value, bytes) = self.new_value(key, len);
        let request = Request::Put(PutRequest {
            path: self.path(key),
            owner: owner(),
            attributes: attributes(value),
            tags: self.first_tags(value),
            conditions: write_conditions(condition),
            length: length_known.then_some(len),
        });
        Job { request, body: Some(bytes), intent: Intent::Put { key, value, condition } }
    }

    fn get(&self, key: usize, range: Option<ByteRange>, unless: Option<ETag>) -> Job {
        let request = Request::Get(self.get_request(key, range, unless));
        Job { request, body: None, intent: Intent::Get { key, range, unless } }
    }

    fn get_request(
        &self,
        key: usize,
        range: Option<ByteRange>,
        unless: Option<ETag>,
    ) -> GetRequest {
        let if_none_match = unless.map(|etag| TagMatch::Tags(vec![etag]));
        GetRequest {
            path: self.path(key),
            range,
            part_number: None,
            conditions: ReadConditions { if_none_match, ..ReadConditions::default() },
        }
    }

    fn create_upload(&mut self, key: usize) -> Job {
        // What the object will be is known when its parts are chosen; its name is given now.
        let (value, _) = self.new_value(key, 0);
        self.bodies[value.0 as usize] = None;
        let request = Request::CreateUpload {
            path: self.path(key),
            owner: owner(),
            attributes: attributes(value),
            tags: self.first_tags(value),
            checksum: None,
        };
        Job { request, body: None, intent: Intent::CreateUpload { key, value } }
    }

    /// Continue with the parts of an upload that was just begun.
    pub(super) fn begin_upload(&mut self, client: usize, upload: Upload) {
        self.clients[client].1 = Script::Upload(Box::new(upload));
    }

    /// What tells copies of a value apart from copies of others.
    fn first_tags(&self, value: ValueId) -> Vec<(String, String)> {
        if self.copying { origin(value) } else { Vec::new() }
    }

    /// The anchor is never chosen.
    pub(super) fn any_key(&self, draw: &mut Draw) -> usize {
        let hot = usize::try_from(self.hot_keys).expect("there are few hot keys");
        if draw.one_in(2) { draw.index(hot) } else { draw.index(self.anchor()) }
    }

    fn any_len(&self, draw: &mut Draw) -> u64 {
        let len = if draw.one_in(2) { *draw.pick(&EDGES) } else { draw.skewed(0, self.body_max) };
        len.min(self.body_max)
    }

    /// What a wish comes to now.
    pub(super) fn condition(&self, key: usize, wish: Wish) -> Condition {
        match wish {
            Wish::Always => Condition::Always,
            Wish::IfAbsent => Condition::IfAbsent,
            Wish::IfPresent => Condition::IfPresent,
            // Compare-and-set against a tag that was seen lately, which it may still have.
            Wish::IfSeen => {
                self.tags.get(&key).map_or(Condition::IfAbsent, |etag| Condition::IfTag(*etag))
            }
        }
    }

    fn any_range(&self, draw: &mut Draw) -> ByteRange {
        let first = draw.skewed(0, self.body_max);
        match draw.between(0, 3) {
            0 => ByteRange::Suffix { length: first },
            1 => ByteRange::From { first, last: None },
            _ => ByteRange::From { first, last: Some(first + draw.skewed(0, self.body_max)) },
        }
    }

    fn any_query(&self, draw: &mut Draw) -> Query {
        let prefixes = ["", "", "a", "a/", "dir/", "hot-", "ü", "nothing"];
        let delimiter = draw.one_in(2).then(|| (*draw.pick(&["/", "/", "-"])).to_owned());
        // Behind a marker inside a common prefix implementations differ: there it is not used.
        let marker = delimiter.is_none() && draw.one_in(4);
        let after = marker.then(|| self.keys[draw.index(self.keys.len())].as_str().to_owned());
        let keys_max = *draw.pick(&[1, 2, 3, 10, 1_000, 1_000, 0]);
        Query { prefix: (*draw.pick(&prefixes)).to_owned(), delimiter, after, keys_max }
    }
}

pub(super) fn any_wish(draw: &mut Draw) -> Wish {
    match draw.between(0, 9) {
        0..=1 => Wish::IfAbsent,
        2..=3 => Wish::IfSeen,
        4 if draw.one_in(2) => Wish::IfPresent,
        _ => Wish::Always,
    }
}

fn any_bucket_operation(draw: &mut Draw) -> Operation {
    let name = *draw.pick(&PASSING_BUCKETS);
    match draw.between(0, 4) {
        0..=1 => Operation::CreateBucket(name),
        2 => Operation::DeleteBucket(name),
        3 => Operation::HeadBucket(name),
        _ => Operation::ListBuckets,
    }
}

fn create_bucket(name: &'static str) -> Job {
    Job {
        request: Request::CreateBucket { bucket: bucket(name), owner: owner() },
        body: None,
        intent: Intent::CreateBucket(name),
    }
}

fn list(query: Query) -> Job {
    let request = Request::List(ListRequest {
        bucket: bucket(BUCKET),
        prefix: query.prefix.clone(),
        delimiter: query.delimiter.clone(),
        after: query.after.clone(),
        keys_max: u32::try_from(query.keys_max).expect("a page has at most 1,000 names"),
    });
    Job { request, body: None, intent: Intent::List { query } }
}

pub(super) fn write_conditions(condition: Condition) -> WriteConditions {
    let (if_match, if_none_match) = match condition {
        Condition::Always => (None, None),
        Condition::IfAbsent => (None, Some(TagMatch::Any)),
        Condition::IfPresent => (Some(TagMatch::Any), None),
        Condition::IfTag(etag) => (Some(TagMatch::Tags(vec![etag])), None),
    };
    WriteConditions { if_match, if_none_match }
}

/// Values are told apart by what stands here: empty bodies all have one tag.
pub(super) fn attributes(value: ValueId) -> Attributes {
    let user_metadata = vec![("value".to_owned(), value.0.to_string())];
    Attributes { user_metadata, ..Attributes::default() }
}
