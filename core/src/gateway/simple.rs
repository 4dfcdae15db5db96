//! Requests of one call, with or without a bucket to be looked up before.
//!
//! ```text
//! (bucket known) ───────────────▶ Calling ──▶ reply
//!       └─▶ LookingUp ──bucket──▶   │  ▲
//!               ▲                   └──┘ once, if the range does not know the bucket's id
//! ```

use super::answers;
use super::buckets::{BUCKET_TAG, BucketLookup};
use super::calls::Failure;
use super::conditions;
use super::context::{Context, Input};
use super::ranges;
use crate::cluster::Node;
use crate::ids::{BucketId, Order, StoreId, TenantId, ZoneId};
use crate::level::{self, Level};
use crate::message::Answer;
use crate::object::{
    Attributes, BucketName, BucketRecord, ChecksumAlgorithm, ETag, ObjectKey, ObjectRecord, Owner,
    Target, WriteConditions,
};
use crate::range::command::{CommandBody, Read, ReadReply, Spoken};
use crate::request::{ApiError, BucketPath, GetRequest, ListPartsRequest, ObjectPath, Page, Reply};

/// Buckets of one page that the root range is asked for.
const BUCKETS_PAGE: u32 = 1000;

/// What is asked of a key in a bucket.
#[derive(Debug)]
pub(super) enum KeyCall {
    Delete(WriteConditions),
    CreateUpload {
        owner: Owner,
        attributes: Attributes,
        tags: Vec<(String, String)>,
        checksum: Option<(ChecksumAlgorithm, bool)>,
    },
    CompleteUpload {
        upload: Order,
        parts: Vec<(u16, ETag)>,
        conditions: WriteConditions,
    },
    AbortUpload(Order),
    ListParts(ListPartsRequest),
    Head(Box<GetRequest>),
}

/// What is asked of the root range.
#[derive(Debug)]
pub(super) enum RootCall {
    Create {
        bucket: BucketPath,
        owner: Owner,
    },
    Delete {
        bucket: BucketPath,
    },
    Head {
        bucket: BucketPath,
    },
    List {
        tenant: TenantId,
        found: Vec<BucketRecord>,
    },
    ReplaceStore {
        old: StoreId,
        new: StoreId,
    },
    AddStore {
        zone: ZoneId,
        store: StoreId,
        weight: u32,
    },
    SetWeight {
        store: StoreId,
        weight: u32,
    },
    /// What the cluster's level is, for what it takes a level to ask.
    AskLevel(Node),
    SetNode {
        node: Node,
    },
    RaiseLevel {
        to: Level,
    },
    Directory,
}

/// A request of one call.
#[derive(Debug)]
pub(super) enum Simple {
    /// The root range is asked for the bucket.
    LookingUp { lookup: BucketLookup, key: ObjectKey, call: KeyCall },
    /// The range is asked.
    Calling { lookup: BucketLookup, key: ObjectKey, call: KeyCall },
    /// The root range is asked about buckets.
    Root(RootCall),
}

impl Simple {
    /// Begin a request about a key.
    pub(super) fn key(cx: &mut Context<'_>, path: ObjectPath, call: KeyCall) -> Self {
        let mut lookup = BucketLookup::new(path.bucket);
        match lookup.begin(cx) {
            Some(bucket) => Self::call(cx, lookup, path.key, call, bucket.id),
            None => Self::LookingUp { lookup, key: path.key, call },
        }
    }

    /// Begin a request about buckets.
    pub(super) fn root(cx: &mut Context<'_>, call: RootCall) -> Self {
        call.send(cx);
        Self::Root(call)
    }

    /// Go on; `None` if the request has been answered.
    pub(super) fn on(self, cx: &mut Context<'_>, input: Input) -> Option<Self> {
        let Input::Answer { tag, result } = input else { return Some(self) };
        match self {
            Self::LookingUp { lookup, key, call } if tag == BUCKET_TAG => {
                match lookup.answered(cx, result) {
                    Ok(bucket) => Some(Self::call(cx, lookup, key, call, bucket.id)),
                    Err(error) => {
                        cx.reply(Err(error));
                        None
                    }
                }
            }
            Self::Calling { mut lookup, key, call } if tag != BUCKET_TAG => {
                let reply = match call.reply(result) {
                    Ok(reply) => Ok(reply),
                    Err(Some(error)) => Err(error),
                    Err(None) if lookup.unknown(cx) => {
                        return Some(Self::LookingUp { lookup, key, call });
                    }
                    Err(None) => Err(ApiError::NoSuchBucket),
                };
                cx.reply(reply);
                None
            }
            Self::Root(call) => call.on(cx, result).map(Self::Root),
            waiting => Some(waiting),
        }
    }

    fn call(
        cx: &mut Context<'_>,
        lookup: BucketLookup,
        key: ObjectKey,
        call: KeyCall,
        bucket: BucketId,
    ) -> Self {
        let target = Target { tenant: lookup.path().tenant, bucket, key: key.clone() };
        call.send(cx, target);
        Self::Calling { lookup, key, call }
    }
}

type CallResult = Result<Answer, Failure>;

impl KeyCall {
    fn send(&self, cx: &mut Context<'_>, target: Target) {
        let body = match self {
            Self::Head(_) => return cx.read(0, Read::Object { target, with_body: false }),
            Self::ListParts(request) => {
                let ListPartsRequest { upload, after, parts_max, .. } = *request;
                // S3 gives an empty page, not a truncated one, if none is asked for; the one part
                // tells whether the upload exists.
                let limit = parts_max.max(1);
                return cx.read(0, Read::Parts { target, upload, after, limit });
            }
            Self::Delete(conditions) => {
                CommandBody::DeleteObject { target, conditions: conditions.clone() }
            }
            Self::CreateUpload { owner, attributes, tags, checksum } => CommandBody::CreateUpload {
                target,
                owner: owner.clone(),
                attributes: attributes.clone(),
                tags: tags.clone(),
                checksum: *checksum,
            },
            Self::CompleteUpload { upload, parts, conditions } => CommandBody::CompleteUpload {
                target,
                upload: *upload,
                parts: parts.clone(),
                conditions: conditions.clone(),
            },
            Self::AbortUpload(upload) => CommandBody::AbortUpload { target, upload: *upload },
        };
        cx.command(0, body);
    }

    /// `Err(None)`: the range does not know the bucket's id.
    fn reply(&self, result: CallResult) -> Result<Reply, Option<ApiError>> {
        let expected = match self {
            Self::Head(request) => return head_reply(request, result),
            Self::ListParts(request) => return parts_reply(request, result),
            Self::Delete(_) | Self::AbortUpload(_) => |reply: &Reply| matches!(reply, Reply::Done),
            Self::CreateUpload { .. } => |reply: &Reply| matches!(reply, Reply::Upload(_)),
            Self::CompleteUpload { .. } => |reply: &Reply| matches!(reply, Reply::Put { .. }),
        };
        let reply = answers::command(result)?;
        if expected(&reply) { Ok(reply) } else { Err(Some(answers::unexpected())) }
    }
}

fn head_reply(request: &GetRequest, result: CallResult) -> Result<Reply, Option<ApiError>> {
    let record = match answers::read(result).map_err(Some)? {
        ReadReply::Object(Some((record, _))) => record,
        ReadReply::Object(None) => return Err(Some(ApiError::NoSuchKey)),
        ReadReply::NoSuchBucket => return Err(None),
        _ => return Err(Some(answers::unexpected())),
    };
    Ok(object_reply(request, record).map_err(Some)?.0)
}

/// The head of a reply to GetObject and HeadObject, and which bytes it announces.
pub(super) fn object_reply(
    request: &GetRequest,
    record: Box<ObjectRecord>,
) -> Result<(Reply, ranges::Span), ApiError> {
    if record.delete_marker {
        return Err(ApiError::NoSuchKey);
    }
    conditions::evaluate(&request.conditions, &record)?;
    let span = ranges::span(request, &record)?;
    let ranges::Span { first, length, partial, parts } = span;
    Ok((Reply::Object { record, first, length, partial, parts }, span))
}

fn parts_reply(request: &ListPartsRequest, result: CallResult) -> Result<Reply, Option<ApiError>> {
    let (upload, mut parts, more) = match answers::read(result).map_err(Some)? {
        ReadReply::Parts(Some(found)) => found,
        ReadReply::Parts(None) => return Err(Some(ApiError::NoSuchUpload)),
        ReadReply::NoSuchBucket => return Err(None),
        _ => return Err(Some(answers::unexpected())),
    };
    let limit = usize::try_from(request.parts_max).unwrap_or(usize::MAX);
    let truncated = limit > 0 && (more || parts.len() > limit);
    parts.truncate(limit);
    Ok(Reply::Parts { upload, page: Page { entries: parts, truncated } })
}

impl RootCall {
    fn send(&self, cx: &mut Context<'_>) {
        match self {
            Self::Create { bucket, owner } => {
                let BucketPath { tenant, name } = bucket.clone();
                cx.command(0, CommandBody::CreateBucket { tenant, name, owner: owner.clone() });
            }
            Self::Delete { bucket } => {
                let BucketPath { tenant, name } = bucket.clone();
                cx.command(0, CommandBody::DeleteBucket { tenant, name });
            }
            Self::Head { bucket } => {
                let BucketPath { tenant, name } = bucket.clone();
                cx.read(0, Read::Bucket { tenant, name });
            }
            Self::List { tenant, found } => {
                let after: Option<BucketName> = found.last().map(|bucket| bucket.name.clone());
                cx.read(0, Read::Buckets { tenant: *tenant, after, limit: BUCKETS_PAGE });
            }
            Self::ReplaceStore { old, new } => {
                cx.command(0, CommandBody::ReplaceStore { old: *old, new: *new });
            }
            Self::AddStore { zone, store, weight } => {
                let (zone, store, weight) = (*zone, *store, *weight);
                cx.command(0, CommandBody::AddStore { zone, store, weight });
            }
            Self::SetWeight { store, weight } => {
                cx.command(0, CommandBody::SetWeight { store: *store, weight: *weight });
            }
            Self::SetNode { node } => cx.command(0, CommandBody::SetNode { node: node.clone() }),
            Self::RaiseLevel { to } => {
                // The leader knows which stores speak it.
                let spoken = Spoken::default();
                cx.command(0, CommandBody::RaiseLevel { to: *to, spoken });
            }
            Self::Directory | Self::AskLevel(_) => cx.read(0, Read::Directory),
        }
    }

    fn on(self, cx: &mut Context<'_>, result: CallResult) -> Option<Self> {
        let reply = match self {
            Self::Create { .. } => answers::command(result),
            Self::ReplaceStore { old, new } => answers::replaced(old, new, result).map_err(Some),
            Self::AddStore { zone, store, .. } => answers::added(zone, store, result).map_err(Some),
            Self::SetWeight { store, .. } => answers::weighed(store, result).map_err(Some),
            Self::SetNode { node } => answers::node_set(&node, result).map_err(Some),
            Self::RaiseLevel { to } => answers::raised(to, result).map_err(Some),
            Self::AskLevel(node) => match answers::directory(result) {
                Ok(directory) if level::allows(directory.map.level, level::NODES) => {
                    let next = Self::SetNode { node };
                    next.send(cx);
                    return Some(next);
                }
                Ok(directory) => {
                    let what = "nodes that join, move or leave";
                    Err(Some(answers::below(directory.map.level, level::NODES, what)))
                }
                Err(error) => Err(Some(error)),
            },
            Self::Delete { bucket } => {
                cx.shared.buckets.forget(&bucket);
                answers::command(result)
            }
            Self::Head { bucket } => match answers::read(result) {
                Ok(ReadReply::Bucket(Some(record))) => {
                    cx.shared.buckets.learn(&bucket, record.clone());
                    Ok(Reply::Bucket(record))
                }
                Ok(ReadReply::Bucket(None)) => {
                    cx.shared.buckets.forget(&bucket);
                    Err(None)
                }
                Ok(_) => Err(Some(answers::unexpected())),
                Err(error) => Err(Some(error)),
            },
            Self::List { tenant, mut found } => match answers::read(result) {
                Ok(ReadReply::Buckets(page, more)) => {
                    let advances = page.first().is_some_and(|first| {
                        found.last().is_none_or(|last| last.name < first.name)
                    });
                    found.extend(page);
                    if more && advances {
                        let next = Self::List { tenant, found };
                        next.send(cx);
                        return Some(next);
                    }
                    if more { Err(Some(answers::unexpected())) } else { Ok(Reply::Buckets(found)) }
                }
                Ok(_) => Err(Some(answers::unexpected())),
                Err(error) => Err(Some(error)),
            },
            Self::Directory => answers::directory(result).map(Reply::Directory).map_err(Some),
        };
        cx.reply(reply.map_err(|error| error.unwrap_or(ApiError::NoSuchBucket)));
        None
    }
}
