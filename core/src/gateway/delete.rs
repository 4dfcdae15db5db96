//! DeleteObjects: a command for each key, a few at a time; one result for each, in order.
//!
//! ```text
//! (bucket known) ─────────▶ Deleting ──all answered──▶ reply
//!       └─▶ LookingUp ───▶   │  ▲
//!               ▲            └──┘ once, if the range does not know the bucket's id
//! ```

use std::collections::VecDeque;

use super::answers;
use super::buckets::{BUCKET_TAG, BucketLookup};
use super::context::{Context, Input};
use crate::ids::BucketId;
use crate::object::{ObjectKey, Target, WriteConditions};
use crate::range::command::CommandBody;
use crate::request::{ApiError, BucketPath, Reply};

/// Commands in flight for one request.
const IN_FLIGHT_MAX: usize = 8;

/// A DeleteObjects request.
#[derive(Debug)]
pub(super) enum DeleteMany {
    /// The root range is asked for the bucket.
    LookingUp(Keys),
    /// Commands are in flight.
    Deleting {
        /// What is to be done and was done.
        keys: Keys,
        /// The bucket.
        bucket: BucketId,
        /// Commands without an answer.
        in_flight: usize,
        /// Keys whose command found the bucket's id unknown.
        unknown: VecDeque<usize>,
    },
}

/// The keys and what came of them.
#[derive(Debug)]
pub(super) struct Keys {
    lookup: BucketLookup,
    keys: Vec<ObjectKey>,
    results: Vec<Option<Result<(), ApiError>>>,
    /// Keys that no command has been sent for.
    left: VecDeque<usize>,
}

impl DeleteMany {
    /// Begin; `None` if there is nothing to do.
    pub(super) fn new(
        cx: &mut Context<'_>,
        path: BucketPath,
        keys: Vec<ObjectKey>,
    ) -> Option<Self> {
        let lookup = BucketLookup::new(path);
        let results = vec![None; keys.len()];
        let left = (0..keys.len()).collect();
        let mut keys = Keys { lookup, keys, results, left };
        match keys.lookup.begin(cx) {
            Some(bucket) => {
                Self::Deleting { keys, bucket: bucket.id, in_flight: 0, unknown: VecDeque::new() }
                    .go_on(cx)
            }
            None => Some(Self::LookingUp(keys)),
        }
    }

    /// Go on; `None` if the request has been answered.
    pub(super) fn on(self, cx: &mut Context<'_>, input: Input) -> Option<Self> {
        let Input::Answer { tag, result } = input else { return Some(self) };
        match self {
            Self::LookingUp(keys) if tag == BUCKET_TAG => match keys.lookup.answered(cx, result) {
                Ok(bucket) => Self::Deleting {
                    keys,
                    bucket: bucket.id,
                    in_flight: 0,
                    unknown: VecDeque::new(),
                }
                .go_on(cx),
                Err(error) => keys.finish(cx, &error),
            },
            Self::Deleting { mut keys, bucket, in_flight, mut unknown }
                if keys.results.get(tag).is_some_and(Option::is_none) =>
            {
                match answers::command(result) {
                    Ok(_) => keys.results[tag] = Some(Ok(())),
                    Err(Some(error)) => keys.results[tag] = Some(Err(error)),
                    Err(None) => unknown.push_back(tag),
                }
                Self::Deleting { keys, bucket, in_flight: in_flight - 1, unknown }.go_on(cx)
            }
            waiting => Some(waiting),
        }
    }

    fn go_on(self, cx: &mut Context<'_>) -> Option<Self> {
        let Self::Deleting { mut keys, bucket, mut in_flight, unknown } = self else {
            return Some(self);
        };
        // Once the id is unknown there is no use in asking for more keys under it.
        while in_flight < IN_FLIGHT_MAX && unknown.is_empty() {
            let Some(index) = keys.left.pop_front() else { break };
            let tenant = keys.lookup.path().tenant;
            let target = Target { tenant, bucket, key: keys.keys[index].clone() };
            let conditions = WriteConditions::default();
            cx.command(index, CommandBody::DeleteObject { target, conditions });
            in_flight += 1;
        }
        if in_flight > 0 {
            return Some(Self::Deleting { keys, bucket, in_flight, unknown });
        }
        if unknown.is_empty() {
            return keys.finish(cx, &ApiError::NoSuchBucket);
        }
        keys.left.extend(unknown);
        if keys.lookup.unknown(cx) {
            return Some(Self::LookingUp(keys));
        }
        keys.finish(cx, &ApiError::NoSuchBucket)
    }
}

impl Keys {
    /// Answer; keys that were never asked for get `error`, and if none was, so does the request.
    fn finish(self, cx: &mut Context<'_>, error: &ApiError) -> Option<DeleteMany> {
        let reply = if !self.keys.is_empty() && self.results.iter().all(Option::is_none) {
            Err(error.clone())
        } else {
            let or_error = |result: Option<_>| result.unwrap_or_else(|| Err(error.clone()));
            Ok(Reply::Deleted(self.results.into_iter().map(or_error).collect()))
        };
        cx.reply(reply);
        None
    }
}
