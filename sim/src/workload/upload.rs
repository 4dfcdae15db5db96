//! A multipart upload, step by step.

use std::collections::{BTreeMap, VecDeque};

use bytes::{Bytes, BytesMut};
use trine_core::ids::Order;
use trine_core::object::{ETag, PART_BYTES_MIN};
use trine_core::request::{
    ApiError, ListEntry, ListPartsRequest, ListUploadsRequest, ObjectPath, PartRequest, Reply,
    Request,
};

use super::choose::write_conditions;
use super::operation::{Operation, Wish};
use super::{BUCKET, Ending, Intent, Job, Phase, Script, Workload, body, bucket};
use crate::checkers::register::{Condition, ValueFacts, ValueId};
use crate::random::Draw;

/// An upload that a client has begun.
#[derive(Clone, Debug)]
pub(super) struct Upload {
    pub(super) key: usize,
    pub(super) value: ValueId,
    pub(super) order: Order,
    /// Parts that were acknowledged.
    pub(super) parts: BTreeMap<u16, (ETag, Bytes)>,
    /// Whether some step's outcome is not known: then it is only aborted.
    pub(super) doubtful: bool,
    steps: VecDeque<Step>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Part { number: u16, len: u64 },
    CopyPart { number: u16 },
    ListParts,
    ListUploads,
    CompleteTooSmall,
    Complete,
    Abort,
}

impl Upload {
    /// Plan the steps. `large`: with a part of the least size of all but the last.
    pub(super) fn plan(
        key: usize,
        value: ValueId,
        order: Order,
        (large, copying): (bool, bool),
        draw: &mut Draw,
    ) -> Self {
        let mut steps = VecDeque::new();
        let count = u16::try_from(draw.between(1, 3)).expect("it is at most 3");
        if large {
            steps.push_back(Step::Part { number: 1, len: PART_BYTES_MIN });
            steps.push_back(Step::Part { number: 7, len: draw.skewed(0, 40_000) });
        } else {
            for number in 1..=count {
                steps.push_back(Step::Part { number: number * 3, len: draw.skewed(0, 40_000) });
            }
            if draw.one_in(3) {
                // Once more: the last commit wins.
                steps.push_back(Step::Part { number: 3, len: draw.skewed(0, 5_000) });
            }
        }
        if copying && draw.one_in(2) {
            // The last part, or in place of one.
            let number = *draw.pick(&[3, 6, 8, 9, 12]);
            steps.push_back(Step::CopyPart { number });
        }
        if draw.one_in(3) {
            steps.push_back(Step::ListParts);
        }
        if draw.one_in(4) {
            steps.push_back(Step::ListUploads);
        }
        if !large && count > 1 && draw.one_in(2) {
            steps.push_back(Step::CompleteTooSmall);
        }
        steps.push_back(if draw.one_in(5) { Step::Abort } else { Step::Complete });
        Self { key, value, order, parts: BTreeMap::new(), doubtful: false, steps }
    }

    /// On a key that is fought over, some completions are conditional.
    fn wish(&self) -> Wish {
        if self.value.0.is_multiple_of(3) { Wish::IfAbsent } else { Wish::Always }
    }

    /// Whether a completion of all parts must be refused: one that is not the last is too small.
    fn is_too_small(&self) -> bool {
        let small = |part: &&(ETag, Bytes)| (part.1.len() as u64) < PART_BYTES_MIN;
        self.parts.len() > 1 && self.parts.values().rev().skip(1).any(|part| small(&part))
    }

    /// The parts that Complete names: all large ones and the last. A subset is allowed, and a small
    /// part may only be the last.
    fn chosen(&self) -> Vec<(u16, ETag, Bytes)> {
        let last = self.parts.keys().next_back();
        self.parts
            .iter()
            .filter(|(number, (_, bytes))| {
                Some(*number) == last || bytes.len() as u64 >= PART_BYTES_MIN
            })
            .map(|(number, (etag, bytes))| (*number, *etag, bytes.clone()))
            .collect()
    }
}

impl Workload {
    /// The next step of the client's upload.
    pub(super) fn choose_step(&mut self, client: usize, draw: &mut Draw) -> Operation {
        let Script::Upload(upload) = &mut self.clients[client].1 else {
            unreachable!("it is called while an upload is in hand")
        };
        let next = if upload.doubtful { None } else { upload.steps.pop_front() };
        let wish = upload.wish();
        match next.unwrap_or(Step::Abort) {
            Step::Part { number, len } => Operation::Part { number, len, identity: draw.bits() },
            Step::CopyPart { number } => self.choose_copy_part(draw, number),
            Step::ListParts => Operation::ListParts,
            Step::ListUploads => Operation::ListUploads,
            Step::CompleteTooSmall => Operation::CompleteTooSmall,
            Step::Complete => Operation::Complete { wish },
            Step::Abort => Operation::Abort,
        }
    }

    /// The request of a step, as far as it can be made of the upload in the client's hand: one whose state is
    /// not known is only aborted, and what has no parts cannot be completed.
    pub(super) fn job_of_step(&mut self, client: usize, step: Operation) -> Job {
        let Script::Upload(upload) = &self.clients[client].1 else {
            unreachable!("steps are only taken while an upload is in hand")
        };
        let upload = (**upload).clone();
        let (path, order) = (self.path(upload.key), upload.order);
        let step = if upload.doubtful { Operation::Abort } else { step };
        match step {
            Operation::Part { number, len, identity } => {
                let bytes = body::content(identity, len);
                let length = Some(len);
                let request =
                    Request::UploadPart(PartRequest { path, upload: order, number, length });
                Job { request, body: Some(bytes.clone()), intent: Intent::Part { number, bytes } }
            }
            Operation::CopyPart { source, number, range } => {
                self.copy_part((source, upload.key), order, number, range)
            }
            Operation::ListParts => {
                let list = ListPartsRequest { path, upload: order, after: 0, parts_max: 1_000 };
                Job { request: Request::ListParts(list), body: None, intent: Intent::ListParts }
            }
            Operation::ListUploads => {
                let request = list_uploads(self.keys[upload.key].as_str());
                Job { request, body: None, intent: Intent::ListUploads }
            }
            Operation::CompleteTooSmall if upload.is_too_small() => {
                let parts = upload.parts.iter().map(|(number, (etag, _))| (*number, *etag));
                let request = Request::CompleteUpload {
                    path,
                    upload: order,
                    parts: parts.collect(),
                    conditions: write_conditions(Condition::Always),
                };
                Job { request, body: None, intent: Intent::CompleteTooSmall }
            }
            Operation::CompleteTooSmall if !upload.parts.is_empty() => {
                let condition = self.condition(upload.key, upload.wish());
                self.complete(&upload, condition)
            }
            Operation::Complete { wish } if !upload.parts.is_empty() => {
                let condition = self.condition(upload.key, wish);
                self.complete(&upload, condition)
            }
            _ => Job {
                request: Request::AbortUpload { path, upload: order },
                body: None,
                intent: Intent::Abort,
            },
        }
    }

    fn complete(&mut self, upload: &Upload, condition: Condition) -> Job {
        let parts = upload.chosen();
        let mut whole = BytesMut::new();
        for (_, _, bytes) in &parts {
            whole.extend_from_slice(bytes);
        }
        let tags: Vec<_> = parts.iter().map(|(_, etag, _)| *etag).collect();
        let (etag, length) = (body::upload_etag(&tags), whole.len() as u64);
        let facts = ValueFacts { etag, length, content: body::etag(&whole), known: true };
        self.history.set_facts(upload.value, facts);
        self.bodies[upload.value.0 as usize] = Some(whole.freeze());
        let request = Request::CompleteUpload {
            path: self.path(upload.key),
            upload: upload.order,
            parts: parts.iter().map(|(number, etag, _)| (*number, *etag)).collect(),
            conditions: write_conditions(condition),
        };
        Job { request, body: None, intent: Intent::Complete { condition } }
    }

    /// Client 0 aborts the uploads that are left.
    pub(super) fn abort_next(&self) -> Job {
        let (request, intent) = match self.uploads_left.front() {
            None => (list_uploads(""), Intent::LastUploads),
            Some((key, upload)) => {
                let path = ObjectPath { bucket: bucket(BUCKET), key: key.clone() };
                (Request::AbortUpload { path, upload: *upload }, Intent::LastAbort)
            }
        };
        Job { request, body: None, intent }
    }

    /// What came of that.
    pub(super) fn aborted_next(&mut self, ending: &Ending) {
        match &ending.reply {
            Some(Ok(Reply::Uploads(page))) => {
                self.uploads_left.extend(page.entries.iter().filter_map(|entry| match entry {
                    ListEntry::Item(listed) => Some((listed.key.clone(), listed.upload.order)),
                    ListEntry::Prefix(_) => None,
                }));
                if self.uploads_left.is_empty() {
                    self.phase = match self.empties {
                        true => Phase::Empty { next: 0 },
                        false => Phase::Verify { next: 0 },
                    };
                }
            }
            Some(Ok(_) | Err(ApiError::NoSuchUpload)) => drop(self.uploads_left.pop_front()),
            _ => {}
        }
    }
}

fn list_uploads(prefix: &str) -> Request {
    Request::ListUploads(ListUploadsRequest {
        bucket: bucket(BUCKET),
        prefix: prefix.to_owned(),
        delimiter: None,
        key_after: None,
        upload_after: None,
        uploads_max: 1_000,
    })
}
