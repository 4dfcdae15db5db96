//! Bucket names to bucket ids, and the calls that concern buckets as a whole.
//!
//! A known id is cached, absence never is. A range that does not know a cached id makes the gateway
//! ask the root range once more: the name may have been made anew.

use std::collections::BTreeMap;

use super::answers;
use super::calls::Failure;
use super::context::Context;
use crate::message::Answer;
use crate::object::BucketRecord;
use crate::range::command::{Read, ReadReply};
use crate::request::{ApiError, BucketPath};

/// Names in the cache. At some 200 bytes each that is less than 1 MiB.
const CACHED_MAX: usize = 4096;

/// The tag of a request's question for its bucket.
pub(super) const BUCKET_TAG: usize = usize::MAX;

/// Buckets by name.
#[derive(Debug, Default)]
pub(super) struct BucketCache {
    buckets: BTreeMap<BucketPath, BucketRecord>,
}

impl BucketCache {
    pub(super) fn find(&self, path: &BucketPath) -> Option<&BucketRecord> {
        self.buckets.get(path)
    }

    pub(super) fn learn(&mut self, path: &BucketPath, record: BucketRecord) {
        // A full cache starts anew: rare, and simpler than knowing which name was used last.
        if self.buckets.len() >= CACHED_MAX && !self.buckets.contains_key(path) {
            self.buckets.clear();
        }
        self.buckets.insert(path.clone(), record);
    }

    pub(super) fn forget(&mut self, path: &BucketPath) {
        self.buckets.remove(path);
    }

    /// Names that are known, and how many may be.
    pub(super) fn names(&self) -> (usize, usize) {
        (self.buckets.len(), CACHED_MAX)
    }

    pub(super) fn check(&self) {
        assert!(self.buckets.len() <= CACHED_MAX, "the bucket cache is bounded");
    }
}

/// A request's way from its bucket's name to the id.
#[derive(Clone, Debug)]
pub(super) struct BucketLookup {
    path: BucketPath,
    asked_root: bool,
}

impl BucketLookup {
    pub(super) fn new(path: BucketPath) -> Self {
        Self { path, asked_root: false }
    }

    pub(super) fn path(&self) -> &BucketPath {
        &self.path
    }

    /// The bucket from the cache; else the root range is asked.
    pub(super) fn begin(&mut self, cx: &mut Context<'_>) -> Option<BucketRecord> {
        if let Some(record) = cx.shared.buckets.find(&self.path)
            && !buggify!(BucketForgotten)
        {
            return Some(record.clone());
        }
        self.ask(cx);
        None
    }

    /// The root range's answer.
    pub(super) fn answered(
        &self,
        cx: &mut Context<'_>,
        result: Result<Answer, Failure>,
    ) -> Result<BucketRecord, ApiError> {
        match answers::read(result)? {
            ReadReply::Bucket(Some(record)) => {
                cx.shared.buckets.learn(&self.path, record.clone());
                Ok(record)
            }
            ReadReply::Bucket(None) => {
                cx.shared.buckets.forget(&self.path);
                Err(ApiError::NoSuchBucket)
            }
            _ => Err(answers::unexpected()),
        }
    }

    /// The range does not know the id. Whether the root range is asked again; if not, the bucket is
    /// gone.
    pub(super) fn unknown(&mut self, cx: &mut Context<'_>) -> bool {
        cx.shared.buckets.forget(&self.path);
        if self.asked_root {
            return false;
        }
        self.ask(cx);
        true
    }

    fn ask(&mut self, cx: &mut Context<'_>) {
        self.asked_root = true;
        let BucketPath { tenant, name } = self.path.clone();
        cx.read(BUCKET_TAG, Read::Bucket { tenant, name });
    }
}
