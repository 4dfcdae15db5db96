//! Copies: of objects, and into parts of uploads.
//!
//! Which version of its source a copy took is known only afterwards. A copy gets the name of a new value,
//! and what stands under it is found out from its entity tag, which is that of the bytes: they must be
//! those of some value of the source, and the source must have held such a value while the copy ran. Tags
//! are copied too and name the value from which the bytes first came, so that words and bytes
//! of two versions cannot be mixed unnoticed. What a copy of unknown outcome took is found out when somebody
//! sees it.

use bytes::Bytes;
use trine_core::ids::Order;
use trine_core::object::{ChecksumAlgorithm, ETag, ObjectRecord};
use trine_core::request::{
    ApiError, CopiedObject, CopyPurpose, CopyRequest, ReadConditions, Reply, Request,
};

use super::choose::{any_wish, attributes, write_conditions};
use super::judge::Stamps;
use super::operation::Operation;
use super::{Ending, Intent, Job, Workload, body, owner};
use crate::checkers::register::{Condition, Seen, ValueFacts, ValueId};
use crate::random::Draw;

/// Copies of unknown outcome whose source is read late, as far as the checker of histories has room for
/// operations that last long.
const LATE_READS_MAX: u32 = 16;

/// A copy that was asked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked {
    /// The key of the source.
    pub(super) source: usize,
    /// When: a stamp before it was.
    pub(super) call: u64,
}

/// The tags of what is put first: they stay with every copy of it.
pub(super) fn origin(value: ValueId) -> Vec<(String, String)> {
    vec![("origin".to_owned(), value.0.to_string())]
}

impl Workload {
    /// Copy some object over another, or onto itself.
    pub(super) fn choose_copy(&self, draw: &mut Draw) -> Operation {
        let (source, key) = (self.any_key(draw), self.any_key(draw));
        let key = if draw.one_in(6) { source } else { key };
        let wish = any_wish(draw);
        Operation::Copy { source, key, wish, checksum: draw.one_in(3) }
    }

    pub(super) fn copy(
        &mut self,
        source: usize,
        key: usize,
        condition: Condition,
        checksum: bool,
    ) -> Job {
        let value = self.history.add_value(ValueFacts::UNKNOWN);
        self.bodies.push(None);
        self.values_of.entry(key).or_default().push(value);
        let call = self.history.stamp();
        self.copies.insert(value, Asked { source, call });
        let object = CopiedObject {
            owner: owner(),
            attributes: Some(attributes(value)),
            website_redirect: None,
            tags: None,
            checksum: checksum.then_some(ChecksumAlgorithm::Crc32),
            conditions: write_conditions(condition),
        };
        let request = Request::Copy(CopyRequest {
            source: self.path(source),
            source_conditions: ReadConditions::default(),
            path: self.path(key),
            purpose: CopyPurpose::Object(Box::new(object)),
        });
        Job { request, body: None, intent: Intent::Copy { source, key, value, condition } }
    }

    /// Copy bytes of some object into a part of an upload.
    pub(super) fn choose_copy_part(&self, draw: &mut Draw, number: u16) -> Operation {
        let source = self.any_key(draw);
        let range = draw.one_in(2).then(|| {
            let first = draw.skewed(0, self.body_max);
            (first, first + draw.skewed(0, self.body_max))
        });
        Operation::CopyPart { source, number, range }
    }

    pub(super) fn copy_part(
        &self,
        (source, key): (usize, usize),
        upload: Order,
        number: u16,
        range: Option<(u64, u64)>,
    ) -> Job {
        let request = Request::Copy(CopyRequest {
            source: self.path(source),
            source_conditions: ReadConditions::default(),
            path: self.path(key),
            purpose: CopyPurpose::Part { upload, number, range },
        });
        Job { request, body: None, intent: Intent::CopyPart { source, number, range } }
    }

    /// A CopyObject has ended.
    pub(super) fn copied(
        &mut self,
        (source, key): (usize, usize),
        value: ValueId,
        condition: Condition,
        stamps: Stamps,
        ending: &Ending,
    ) -> Result<(), String> {
        let (from, to) = (self.register(source), self.register(key));
        match &ending.reply {
            Some(Ok(Reply::Copied { etag, .. })) => {
                let bytes = self.content(source, *etag).ok_or_else(|| {
                    format!("{to}: copied with tag {etag}, which no version of {from} has")
                })?;
                let facts = self.history.facts(value).filter(|facts| facts.known);
                if facts.is_some_and(|facts| facts.etag != *etag) {
                    return Err(format!("{to}: copied with tag {etag}, and seen with another"));
                }
                if !ending.body.is_empty() && ending.body != bytes {
                    return Err(format!("{to}: other bytes were hashed than {from} had"));
                }
                self.learn(value, *etag, bytes);
                self.tags.insert(key, *etag);
                self.read(&from, Seen::Content(*etag), stamps);
                self.write(&to, Some(value), condition, stamps, ending)
            }
            // Of the source, unless the condition asks for an object where the copy goes.
            Some(Err(ApiError::NoSuchKey)) => {
                if matches!(condition, Condition::Always | Condition::IfAbsent) {
                    self.read(&from, Seen::Absent, stamps);
                }
                Ok(())
            }
            _ => self.write(&to, Some(value), condition, stamps, ending),
        }
    }

    /// An UploadPartCopy has ended: the part's bytes, if it is there.
    pub(super) fn copied_part(
        &mut self,
        source: usize,
        range: Option<(u64, u64)>,
        stamps: Stamps,
        ending: &Ending,
    ) -> Result<Option<(ETag, Bytes)>, String> {
        let from = self.register(source);
        match &ending.reply {
            Some(Ok(Reply::Copied { etag, .. })) => {
                let cut = |bytes: &Bytes| match range {
                    None => Some(bytes.clone()),
                    Some((first, last)) if last < bytes.len() as u64 => {
                        let at = |offset: u64| usize::try_from(offset).expect("bodies are small");
                        Some(bytes.slice(at(first)..at(last) + 1))
                    }
                    Some(_) => None,
                };
                let mut contents = Vec::new();
                let mut part = None;
                for value in self.candidates(source) {
                    let Some(whole) = self.bodies[value.0 as usize].as_ref() else { continue };
                    let Some(bytes) = cut(whole).filter(|it| body::etag(it) == *etag) else {
                        continue;
                    };
                    contents.extend(self.history.facts(value).map(|facts| facts.content));
                    part = Some(bytes);
                }
                let part = part.ok_or_else(|| {
                    format!("{range:?} copied with tag {etag}, as in no version of {from}")
                })?;
                contents.sort_unstable();
                contents.dedup();
                // Few bytes may stand in several values at that place.
                if let [content] = contents[..] {
                    self.read(&from, Seen::Content(content), stamps);
                }
                Ok(Some((*etag, part)))
            }
            Some(Err(ApiError::NoSuchKey)) => {
                self.read(&from, Seen::Absent, stamps);
                Ok(None)
            }
            Some(Err(ApiError::InvalidRange { length })) => match range {
                Some((_, last)) if last >= *length => Ok(None),
                _ => Err(format!("{from}: {range:?} is invalid for {length} bytes")),
            },
            _ => Ok(None),
        }
    }

    /// Find out what a copy took, now that it is seen; `seen` is when that had happened.
    pub(super) fn found_out(
        &mut self,
        value: ValueId,
        record: &ObjectRecord,
        seen: Stamps,
    ) -> Result<(), String> {
        let asked = *self
            .copies
            .get(&value)
            .ok_or_else(|| format!("{value:?} was read, and is neither known nor a copy"))?;
        let bytes = self.content(asked.source, record.etag).ok_or_else(|| {
            let from = self.register(asked.source);
            format!("{value:?} has tag {}, which no version of {from} has", record.etag)
        })?;
        self.learn(value, record.etag, bytes);
        if self.late_reads < LATE_READS_MAX {
            self.late_reads += 1;
            let from = self.register(asked.source);
            let stamps = Stamps { call: asked.call, ret: seen.ret };
            self.read(&from, Seen::Content(record.etag), stamps);
        }
        Ok(())
    }

    /// The words of a copy must be those of the version whose bytes it has.
    pub(super) fn check_origin(
        &self,
        value: ValueId,
        facts: ValueFacts,
        record: &ObjectRecord,
    ) -> Result<(), String> {
        let origin = match record.tags.as_slice() {
            [(name, id)] if name == "origin" => id.parse().ok().map(ValueId),
            _ => None,
        };
        let of_origin = origin.and_then(|origin| self.history.facts(origin));
        match of_origin {
            Some(first) if first.known && first.content == facts.content => Ok(()),
            _ => Err(format!("{value:?}: its tags {:?} are of another version", record.tags)),
        }
    }

    fn learn(&mut self, value: ValueId, etag: ETag, bytes: Bytes) {
        let length = bytes.len() as u64;
        let facts = ValueFacts { etag, length, content: etag, known: true };
        self.history.set_facts(value, facts);
        self.bodies[value.0 as usize] = Some(bytes);
    }

    /// The bytes with this tag that some value of a key has.
    fn content(&self, source: usize, etag: ETag) -> Option<Bytes> {
        let has = |value: &ValueId| {
            self.history.facts(*value).is_some_and(|facts| facts.known && facts.content == etag)
        };
        let found = self.candidates(source).into_iter().filter(has);
        found.filter_map(|value| self.bodies[value.0 as usize].clone()).next()
    }

    /// Values that a key may have had. If one of them is a copy that nobody has seen, that may be any.
    fn candidates(&self, key: usize) -> Vec<ValueId> {
        let Some(own) = self.values_of.get(&key) else { return Vec::new() };
        let unseen = |value: &ValueId| self.history.facts(*value).is_some_and(|it| !it.known);
        if own.iter().any(unseen) {
            return self.values_of.values().flatten().copied().collect();
        }
        own.clone()
    }
}
