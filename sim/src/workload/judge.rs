//! What came of a request: judged at once where it can be, else written into the history.

use bytes::Bytes;
use trine_core::object::{ETag, ObjectRecord};
use trine_core::request::{ApiError, ByteRange, ListEntry, ListedObject, Page, Reply};

use super::upload::Upload;
use super::{ANCHOR, Ending, Intent, Job, PASSING_BUCKETS, Phase, Script, Workload};
use crate::checkers::listing::{self, Line, Query};
use crate::checkers::register::{Action, Condition, Operation, Outcome, Seen, ValueFacts, ValueId};

/// When the request was made and when it ended, in stamps of the history.
#[derive(Clone, Copy, Debug)]
pub struct Stamps {
    /// Before the gateway saw it.
    pub call: u64,
    /// After its reply was there.
    pub ret: u64,
}

/// What a write without a reply of its own kind means.
enum WriteEnd {
    /// It has this outcome.
    Known(Outcome),
    /// It never took effect and never will.
    Never,
}

impl Workload {
    /// `client`'s request has ended.
    ///
    /// # Errors
    /// Says what a correct store could not have answered.
    pub fn finished(
        &mut self,
        client: usize,
        job: Job,
        stamps: Stamps,
        ending: &Ending,
    ) -> Result<(), String> {
        let Job { intent, .. } = job;
        if let Some(Err(error)) = &ending.reply {
            refuse_nonsense(&intent, error)?;
        }
        let served = ending.is_served();
        match &intent {
            Intent::CreateBucket(name) => {
                let value = self.bucket_value();
                self.write(
                    &bucket_register(name),
                    Some(value),
                    Condition::IfAbsent,
                    stamps,
                    ending,
                )?;
                let exists =
                    matches!(ending.reply, Some(Ok(_) | Err(ApiError::BucketAlreadyOwnedByYou)));
                if self.phase == Phase::CreateBucket && exists {
                    self.phase = Phase::PutAnchor;
                }
            }
            Intent::DeleteBucket(name) => {
                self.write(&bucket_register(name), None, Condition::IfPresent, stamps, ending)?;
            }
            Intent::HeadBucket(name) => self.head_bucket(name, stamps, ending),
            Intent::ListBuckets => self.list_buckets(stamps, ending)?,
            Intent::DeleteFullBucket => {
                if matches!(ending.reply, Some(Ok(_))) {
                    return Err("a bucket that holds an object was deleted".to_owned());
                }
            }
            Intent::Put { key, value, condition } => {
                self.put_ended(*key, *value, *condition, stamps, ending)?;
            }
            Intent::Get { key, range, unless } => {
                self.got(*key, *range, *unless, stamps, ending)?;
                self.verified(*key, served && ending.body_whole || is_missing(ending));
            }
            Intent::Head { key } => self.headed(*key, stamps, ending)?,
            Intent::Delete { key, condition } => {
                self.write(&self.register(*key), None, *condition, stamps, ending)?;
            }
            Intent::DeleteMany { keys } => self.deleted_many(keys, stamps, ending)?,
            Intent::List { query } => self.listed(client, query, stamps, ending)?,
            Intent::CreateUpload { key, value } => {
                if let Some(Ok(Reply::Upload(order))) = ending.reply {
                    let large = std::mem::take(&mut self.large_part);
                    let draw = &mut self.clients[client].0;
                    let kind = (large, self.copying);
                    let upload = Upload::plan(*key, *value, order, kind, draw);
                    self.begin_upload(client, upload);
                }
            }
            // What is refused as nonsense is none: the operator makes no mistakes.
            Intent::Operate => {}
            Intent::LastUploads | Intent::LastAbort => self.aborted_next(ending),
            Intent::Copy { source, key, value, condition } => {
                self.copied((*source, *key), *value, *condition, stamps, ending)?;
            }
            Intent::Part { .. }
            | Intent::CopyPart { .. }
            | Intent::ListParts
            | Intent::ListUploads
            | Intent::CompleteTooSmall
            | Intent::Complete { .. }
            | Intent::Abort => self.upload_step_ended(client, &intent, stamps, ending)?,
        }
        Ok(())
    }

    pub(super) fn register(&self, key: usize) -> String {
        format!("object {}", self.keys[key])
    }

    /// Buckets are registers too; the value says only that it exists.
    fn bucket_value(&mut self) -> ValueId {
        self.bodies.push(None);
        let etag = ETag::default();
        self.history.add_value(ValueFacts { etag, length: 0, content: etag, known: true })
    }

    /// Record a write or delete as what came of it.
    pub(super) fn write(
        &mut self,
        register: &str,
        value: Option<ValueId>,
        condition: Condition,
        stamps: Stamps,
        ending: &Ending,
    ) -> Result<(), String> {
        let outcome = match write_end(ending)? {
            WriteEnd::Known(outcome) => outcome,
            WriteEnd::Never => return Ok(()),
        };
        if outcome == Outcome::Refused && condition == Condition::Always {
            return Err(format!("{register}: refused without a condition: {:?}", ending.reply));
        }
        let action = Action::Write(value, condition, outcome);
        self.history.record(register, Operation { call: stamps.call, ret: stamps.ret, action });
        Ok(())
    }

    pub(super) fn read(&mut self, register: &str, seen: Seen, stamps: Stamps) {
        let action = Action::Read(seen);
        self.history.record(register, Operation { call: stamps.call, ret: stamps.ret, action });
    }

    fn head_bucket(&mut self, name: &str, stamps: Stamps, ending: &Ending) {
        let seen = match &ending.reply {
            Some(Ok(_)) => Seen::Tagged(ETag::default(), None),
            Some(Err(ApiError::NoSuchBucket)) => Seen::Absent,
            _ => return,
        };
        self.read(&bucket_register(name), seen, stamps);
    }

    fn list_buckets(&mut self, stamps: Stamps, ending: &Ending) -> Result<(), String> {
        let Some(Ok(Reply::Buckets(buckets))) = &ending.reply else { return Ok(()) };
        let names: Vec<_> = buckets.iter().map(|bucket| bucket.name.as_str()).collect();
        if !names.is_sorted() {
            return Err(format!("buckets are not in order: {names:?}"));
        }
        if !names.contains(&super::BUCKET) {
            return Err(format!("the main bucket is not among {names:?}"));
        }
        for name in PASSING_BUCKETS {
            let there = names.contains(&name);
            let seen = if there { Seen::Tagged(ETag::default(), None) } else { Seen::Absent };
            self.read(&bucket_register(name), seen, stamps);
        }
        Ok(())
    }

    fn put_ended(
        &mut self,
        key: usize,
        value: ValueId,
        condition: Condition,
        stamps: Stamps,
        ending: &Ending,
    ) -> Result<(), String> {
        let facts = self.history.facts(value).expect("the value was made for this request");
        if let Some(Ok(Reply::Put { etag, .. })) = &ending.reply {
            self.tags.insert(key, *etag);
            if *etag != facts.etag {
                return Err(format!("a put was answered with tag {etag}, it is {}", facts.etag));
            }
            if self.phase == Phase::PutAnchor {
                let verify = Phase::Verify { next: 0 };
                self.phase = if self.verifying { verify } else { Phase::Open };
            }
        }
        self.write(&self.register(key), Some(value), condition, stamps, ending)
    }

    fn headed(&mut self, key: usize, stamps: Stamps, ending: &Ending) -> Result<(), String> {
        match &ending.reply {
            Some(Ok(Reply::Object { record, .. })) => {
                let value = self.identify(key, record, stamps)?;
                self.read(&self.register(key), Seen::Value(value), stamps);
            }
            Some(Err(ApiError::NoSuchKey)) => {
                self.read(&self.register(key), Seen::Absent, stamps);
            }
            _ => {}
        }
        Ok(())
    }

    fn got(
        &mut self,
        key: usize,
        range: Option<ByteRange>,
        unless: Option<ETag>,
        stamps: Stamps,
        ending: &Ending,
    ) -> Result<(), String> {
        let register = self.register(key);
        match &ending.reply {
            Some(Ok(Reply::Object { record, first, length, partial, .. })) => {
                let value = self.identify(key, record, stamps)?;
                self.check_body(value, (*first, *length), ending)?;
                if self.phase == (Phase::Verify { next: key }) && ending.body_whole {
                    let bytes = Bytes::copy_from_slice(&ending.body);
                    self.redundancy.object(&register, &record.body, &bytes)?;
                }
                let expected = expected_span(range, record.length).ok_or_else(|| {
                    format!("{register}: {range:?} of {} bytes was served", record.length)
                })?;
                if (*first, *length) != expected || *partial != range.is_some() {
                    return Err(format!(
                        "{register}: {range:?} of {} bytes was answered with {length} bytes from \
                         {first} (partial: {partial})",
                        record.length
                    ));
                }
                if unless.is_some_and(|etag| etag == record.etag) {
                    return Err(format!("{register}: served although its tag is the known one"));
                }
                self.read(&register, Seen::Value(value), stamps);
            }
            Some(Err(ApiError::NoSuchKey)) => self.read(&register, Seen::Absent, stamps),
            Some(Err(ApiError::NotModified { etag, .. })) => {
                if unless != Some(*etag) {
                    return Err(format!("{register}: not modified, with tag {etag}"));
                }
                self.read(&register, Seen::Tagged(*etag, None), stamps);
            }
            Some(Err(ApiError::InvalidRange { length }))
                if expected_span(range, *length).is_some() =>
            {
                return Err(format!("{register}: {range:?} is invalid for {length} bytes"));
            }
            _ => {}
        }
        Ok(())
    }

    /// Which value a record is of. Its tag and length must be that value's.
    fn identify(
        &mut self,
        key: usize,
        record: &ObjectRecord,
        stamps: Stamps,
    ) -> Result<ValueId, String> {
        let name = self.register(key);
        let metadata = &record.attributes.user_metadata;
        let id = match metadata.as_slice() {
            [(name, id)] if name == "value" => id.parse().ok().map(ValueId),
            _ => None,
        };
        let id = id.ok_or_else(|| format!("{name}: metadata {metadata:?} was never written"))?;
        let facts = self.history.facts(id).ok_or_else(|| format!("{name}: no value {id:?}"))?;
        if !facts.known {
            self.found_out(id, record, stamps)?;
        }
        let facts = self.history.facts(id).ok_or_else(|| format!("{name}: no value {id:?}"))?;
        if self.copying {
            self.check_origin(id, facts, record)?;
        }
        if (record.etag, record.length) != (facts.etag, facts.length) {
            return Err(format!(
                "{name}: {id:?} has tag {} and {} bytes, it was written with {} and {}",
                record.etag, record.length, facts.etag, facts.length
            ));
        }
        self.tags.insert(key, record.etag);
        Ok(id)
    }

    /// No wrong byte, even if the body broke off.
    fn check_body(
        &self,
        value: ValueId,
        (first, length): (u64, u64),
        ending: &Ending,
    ) -> Result<(), String> {
        let body = self.bodies[value.0 as usize].as_ref();
        let body = body.ok_or_else(|| format!("{value:?} was read, but never completed"))?;
        let received = ending.body.len() as u64;
        if received > length || (ending.body_whole && received != length) {
            return Err(format!("{value:?}: {received} bytes of body, {length} were announced"));
        }
        let start = usize::try_from(first).unwrap_or(usize::MAX);
        let expected = start.checked_add(ending.body.len()).and_then(|end| body.get(start..end));
        let expected = expected.ok_or_else(|| format!("{value:?}: bytes behind its end"))?;
        match ending.body.iter().zip(expected).position(|(got, wanted)| got != wanted) {
            Some(at) => Err(format!("{value:?}: byte {} is wrong", first + at as u64)),
            None => Ok(()),
        }
    }

    /// The next key to read back, if this one was.
    fn verified(&mut self, key: usize, read: bool) {
        if read && self.phase == (Phase::Verify { next: key }) {
            let next = key + 1;
            let more = next < self.keys.len();
            self.phase = if more { Phase::Verify { next } } else { Phase::VerifyListing };
        }
    }

    fn deleted_many(
        &mut self,
        keys: &[usize],
        stamps: Stamps,
        ending: &Ending,
    ) -> Result<(), String> {
        let Some(Ok(Reply::Deleted(results))) = &ending.reply else {
            for key in keys {
                self.write(&self.register(*key), None, Condition::Always, stamps, ending)?;
            }
            return Ok(());
        };
        if results.len() != keys.len() {
            return Err(format!("{} keys to delete, {} results", keys.len(), results.len()));
        }
        for (key, result) in keys.iter().zip(results) {
            let reply = Some(result.clone().map(|()| Reply::Done));
            let ending = Ending { reply, sent_whole: true, ..Ending::default() };
            self.write(&self.register(*key), None, Condition::Always, stamps, &ending)?;
        }
        if let Phase::Empty { next } = self.phase
            && results.iter().all(Result::is_ok)
        {
            let next = next + keys.len();
            let more = next < self.anchor();
            self.phase = if more { Phase::Empty { next } } else { Phase::Verify { next: 0 } };
        }
        Ok(())
    }

    fn listed(
        &mut self,
        client: usize,
        query: &Query,
        stamps: Stamps,
        ending: &Ending,
    ) -> Result<(), String> {
        self.clients[client].1 = Script::None;
        let Some(Ok(Reply::List(page))) = &ending.reply else { return Ok(()) };
        let lines = lines(page);
        let known = |line: &Line| match line {
            Line::Key(name, ..) => self.keys.iter().any(|key| key.as_str() == name),
            Line::Prefix(prefix) => self.keys.iter().any(|key| key.as_str().starts_with(prefix)),
        };
        if let Some(line) = lines.iter().find(|line| !known(line)) {
            return Err(format!("{:?} was never written", line.name()));
        }
        listing::check_shape(query, &lines, page.truncated)
            .map_err(|wrong| format!("{wrong}; in a page for {query:?}"))?;
        for key in 0..self.keys.len() {
            let seen = listing::observe(query, &lines, page.truncated, self.keys[key].as_str());
            if let Some(seen) = seen {
                if seen == Seen::Absent && self.keys[key].as_str() == ANCHOR {
                    return Err(format!("the anchor is missing in a page for {query:?}"));
                }
                self.read(&self.register(key), seen, stamps);
            }
        }
        match lines.last() {
            Some(last) if page.truncated => {
                let query = Query { after: Some(last.name().to_owned()), ..query.clone() };
                self.clients[client].1 = Script::Listing(query);
            }
            _ if self.phase == Phase::VerifyListing => self.phase = Phase::Over,
            _ => {}
        }
        Ok(())
    }

    fn upload_step_ended(
        &mut self,
        client: usize,
        intent: &Intent,
        stamps: Stamps,
        ending: &Ending,
    ) -> Result<(), String> {
        // A run that is being verified has dropped its uploads.
        let Script::Upload(mut upload) = std::mem::take(&mut self.clients[client].1) else {
            return Ok(());
        };
        let gone = matches!(ending.reply, Some(Err(ApiError::NoSuchUpload)));
        if gone && !upload.doubtful && !matches!(intent, Intent::Abort) {
            return Err(format!("upload {} is gone before its end: {intent:?}", upload.order));
        }
        match (intent, &ending.reply) {
            (Intent::Part { number, bytes }, Some(Ok(Reply::Put { etag, .. }))) => {
                if *etag != super::body::etag(bytes) {
                    return Err(format!("part {number} was answered with tag {etag}"));
                }
                upload.parts.insert(*number, (*etag, bytes.clone()));
            }
            (
                Intent::CopyPart { source, number, range },
                Some(
                    Ok(Reply::Copied { .. })
                    | Err(ApiError::NoSuchKey | ApiError::InvalidRange { .. }),
                ),
            ) => {
                let part = self.copied_part(*source, *range, stamps, ending)?;
                upload.parts.extend(part.map(|part| (*number, part)));
            }
            (Intent::ListParts, Some(Ok(Reply::Parts { page, .. }))) => {
                let got: Vec<_> =
                    page.entries.iter().map(|part| (part.number, part.etag, part.length)).collect();
                let expected = upload.parts.iter();
                let expected: Vec<_> = expected
                    .map(|(number, (etag, bytes))| (*number, *etag, bytes.len() as u64))
                    .collect();
                if got != expected || page.truncated {
                    return Err(format!("parts {got:?} are listed, {expected:?} were put"));
                }
            }
            (Intent::ListUploads, Some(Ok(Reply::Uploads(page)))) => {
                let is_it = |entry: &ListEntry<trine_core::request::ListedUpload>| {
                    matches!(entry, ListEntry::Item(listed)
                        if listed.upload.order == upload.order
                            && listed.key == self.keys[upload.key])
                };
                if !page.entries.iter().any(is_it) {
                    return Err(format!("upload {} is not listed", upload.order));
                }
            }
            (Intent::CompleteTooSmall, Some(Err(ApiError::EntityTooSmall { .. }))) => {}
            (Intent::CompleteTooSmall, Some(Ok(_))) => {
                return Err("an upload with a small part in its middle was completed".to_owned());
            }
            (Intent::Complete { condition }, reply) => {
                let facts = self.history.facts(upload.value).expect("it was made for the upload");
                if let Some(Ok(Reply::Put { etag, .. })) = reply {
                    self.tags.insert(upload.key, *etag);
                    if *etag != facts.etag {
                        return Err(format!("completed as {etag}, it is {}", facts.etag));
                    }
                }
                let register = self.register(upload.key);
                self.write(&register, Some(upload.value), *condition, stamps, ending)?;
                // A completion that was refused leaves the upload; one nobody knows of is left alone.
                let refused = matches!(reply, Some(Err(ApiError::PreconditionFailed)));
                if !refused {
                    return Ok(());
                }
                upload.doubtful = true;
            }
            (Intent::Abort, _) => return Ok(()),
            _ => upload.doubtful = true,
        }
        self.clients[client].1 = Script::Upload(upload);
        Ok(())
    }
}

fn bucket_register(name: &str) -> String {
    format!("bucket {name}")
}

fn is_missing(ending: &Ending) -> bool {
    matches!(ending.reply, Some(Err(ApiError::NoSuchKey)))
}

/// What a write's reply says about its effect.
fn write_end(ending: &Ending) -> Result<WriteEnd, String> {
    let Some(reply) = &ending.reply else {
        // Without its verified end, a body is never committed.
        let never = !ending.sent_whole;
        return Ok(if never { WriteEnd::Never } else { WriteEnd::Known(Outcome::Unknown) });
    };
    match reply {
        Ok(_) if !ending.sent_whole => {
            Err("a put was acknowledged before its body had ended".to_owned())
        }
        Ok(_) => Ok(WriteEnd::Known(Outcome::Done)),
        Err(
            ApiError::PreconditionFailed
            | ApiError::NoSuchKey
            | ApiError::NoSuchBucket
            | ApiError::BucketAlreadyOwnedByYou,
        ) => Ok(WriteEnd::Known(Outcome::Refused)),
        Err(ApiError::SlowDown(_) | ApiError::StorageFull(_)) => Ok(WriteEnd::Never),
        Err(_) if !ending.sent_whole => Ok(WriteEnd::Never),
        Err(_) => Ok(WriteEnd::Known(Outcome::Unknown)),
    }
}

/// Errors that no correct store gives to these requests.
fn refuse_nonsense(intent: &Intent, error: &ApiError) -> Result<(), String> {
    let passing =
        matches!(intent, Intent::CreateBucket(_) | Intent::DeleteBucket(_) | Intent::HeadBucket(_));
    let conditional = match intent {
        Intent::Put { condition, .. }
        | Intent::Copy { condition, .. }
        | Intent::Delete { condition, .. }
        | Intent::Complete { condition } => *condition != Condition::Always,
        _ => false,
    };
    let upload = matches!(
        intent,
        Intent::Part { .. }
            | Intent::CopyPart { .. }
            | Intent::ListParts
            | Intent::CompleteTooSmall
            | Intent::Complete { .. }
            | Intent::Abort
            | Intent::LastAbort
    );
    let fits = match error {
        ApiError::NoSuchBucket | ApiError::BucketAlreadyOwnedByYou => passing,
        ApiError::BucketNotEmpty => matches!(intent, Intent::DeleteFullBucket),
        // An abort after a completion that nobody knows of; see the steps of uploads.
        ApiError::NoSuchUpload => upload,
        ApiError::EntityTooSmall { .. } => matches!(intent, Intent::CompleteTooSmall),
        ApiError::NotModified { .. } => matches!(intent, Intent::Get { unless: Some(_), .. }),
        ApiError::InvalidRange { .. } => matches!(
            intent,
            Intent::Get { range: Some(_), .. } | Intent::CopyPart { range: Some(_), .. }
        ),
        // The operator sees whether it should have been.
        ApiError::InvalidArgument(_) => matches!(intent, Intent::Operate),
        ApiError::NoSuchKey => {
            conditional
                || matches!(
                    intent,
                    Intent::Get { .. }
                        | Intent::Head { .. }
                        | Intent::Copy { .. }
                        | Intent::CopyPart { .. }
                )
        }
        ApiError::PreconditionFailed => conditional,
        ApiError::StorageFull(_) => !matches!(
            intent,
            Intent::HeadBucket(_)
                | Intent::ListBuckets
                | Intent::Get { .. }
                | Intent::Head { .. }
                | Intent::List { .. }
                | Intent::ListParts
                | Intent::ListUploads
                | Intent::LastUploads
        ),
        ApiError::SlowDown(_) | ApiError::Unavailable(_) => true,
        ApiError::BucketAlreadyExists
        | ApiError::InvalidPart { .. }
        | ApiError::InvalidPartNumber
        | ApiError::InvalidPartOrder
        | ApiError::EntityTooLarge
        | ApiError::IncompleteBody
        | ApiError::Internal(_) => false,
    };
    if fits { Ok(()) } else { Err(format!("{intent:?} was answered with {error:?}")) }
}

/// First byte and length of what a range means (RFC 9110, section 14.1.2); `None`: unsatisfiable.
fn expected_span(range: Option<ByteRange>, length: u64) -> Option<(u64, u64)> {
    match range {
        None => Some((0, length)),
        Some(ByteRange::From { first, .. }) if first >= length => None,
        Some(ByteRange::From { first, last }) => {
            let end = last.map_or(length, |last| length.min(last + 1));
            Some((first, end - first))
        }
        Some(ByteRange::Suffix { length: 0 }) => None,
        Some(ByteRange::Suffix { .. }) if length == 0 => None,
        Some(ByteRange::Suffix { length: suffix }) => {
            let count = suffix.min(length);
            Some((length - count, count))
        }
    }
}

fn lines(page: &Page<ListEntry<ListedObject>>) -> Vec<Line> {
    let line = |entry: &ListEntry<ListedObject>| match entry {
        ListEntry::Item(object) => {
            Line::Key(object.key.as_str().to_owned(), object.etag, object.length)
        }
        ListEntry::Prefix(prefix) => Line::Prefix(prefix.clone()),
    };
    page.entries.iter().map(line).collect()
}
