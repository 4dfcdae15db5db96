//! One open request, of whatever kind.

use super::answers;
use super::audit::Audit;
use super::context::{Context, Input};
use super::copy::Copy;
use super::delete::DeleteMany;
use super::get::Get;
use super::list::List;
use super::put::{Purpose, Put};
use super::simple::{KeyCall, RootCall, Simple};
use crate::ids::BlobId;
use crate::request::{BodyDigest, Request};
use crate::time::Instant;

/// What a request is doing.
#[derive(Debug)]
pub(super) enum Work {
    /// It waits for a session; an empty body may have ended already.
    Waiting(Box<Request>, Option<BodyDigest>),
    /// One call.
    Simple(Box<Simple>),
    /// PutObject, UploadPart.
    Put(Box<Put>),
    /// CopyObject, UploadPartCopy.
    Copy(Box<Copy>),
    /// GetObject.
    Get(Box<Get>),
    /// A listing.
    List(Box<List>),
    /// DeleteObjects.
    DeleteMany(Box<DeleteMany>),
    /// An audit.
    Audit(Box<Audit>),
}

/// Whom a request waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WaitsFor {
    /// A live session.
    Session,
    /// Room in the body budget.
    Budget,
    /// Ranges or stores.
    Cluster,
    /// The client's bytes, or its taking of ours.
    Client,
}

/// What a request reads that may be deleted meanwhile.
#[derive(Debug)]
pub(super) enum Reading<'a> {
    /// Nothing.
    Nothing,
    /// It is not known, or too much to say: whatever stood when the request began.
    Anything,
    /// These blobs.
    Blobs(Vec<&'a BlobId>),
}

impl Work {
    /// What it reads.
    pub(super) fn reading(&self) -> Reading<'_> {
        match self {
            Self::Get(get) => get.reading(),
            Self::Copy(copy) => copy.reading(),
            Self::Audit(_) => Reading::Anything,
            Self::Waiting(..)
            | Self::Simple(_)
            | Self::Put(_)
            | Self::List(_)
            | Self::DeleteMany(_) => Reading::Nothing,
        }
    }

    /// Begin a request under a live session; `None` if it has been answered.
    pub(super) fn begin(cx: &mut Context<'_>, request: Request) -> Option<Self> {
        let key = |cx: &mut Context<'_>, path, call| {
            Some(Self::Simple(Box::new(Simple::key(cx, path, call))))
        };
        let root =
            |cx: &mut Context<'_>, call| Some(Self::Simple(Box::new(Simple::root(cx, call))));
        match request {
            Request::CreateBucket { bucket, owner } => root(cx, RootCall::Create { bucket, owner }),
            Request::DeleteBucket { bucket } => root(cx, RootCall::Delete { bucket }),
            Request::HeadBucket { bucket } => root(cx, RootCall::Head { bucket }),
            Request::ListBuckets { tenant } => {
                root(cx, RootCall::List { tenant, found: Vec::new() })
            }
            Request::Put(request) => {
                Put::new(cx, Purpose::Object(Box::new(request))).map(Box::new).map(Self::Put)
            }
            Request::UploadPart(request) => {
                Put::new(cx, Purpose::Part(Box::new(request))).map(Box::new).map(Self::Put)
            }
            Request::Copy(request) => Some(Self::Copy(Box::new(Copy::new(cx, request)))),
            Request::Get(request) => Some(Self::Get(Box::new(Get::new(cx, request)))),
            Request::Head(request) => {
                key(cx, request.path.clone(), KeyCall::Head(Box::new(request)))
            }
            Request::Delete { path, conditions } => key(cx, path, KeyCall::Delete(conditions)),
            Request::DeleteMany { bucket, keys } => {
                DeleteMany::new(cx, bucket, keys).map(Box::new).map(Self::DeleteMany)
            }
            Request::List(request) => List::objects(cx, request).map(Box::new).map(Self::List),
            Request::ListUploads(request) => {
                List::uploads(cx, request).map(Box::new).map(Self::List)
            }
            Request::ListParts(request) => {
                key(cx, request.path.clone(), KeyCall::ListParts(request))
            }
            Request::CreateUpload { path, owner, attributes, tags, checksum } => {
                key(cx, path, KeyCall::CreateUpload { owner, attributes, tags, checksum })
            }
            Request::CompleteUpload { path, upload, parts, conditions } => {
                key(cx, path, KeyCall::CompleteUpload { upload, parts, conditions })
            }
            Request::ReplaceStore { old, new } => root(cx, RootCall::ReplaceStore { old, new }),
            Request::AddStore { zone, store, weight } => {
                root(cx, RootCall::AddStore { zone, store, weight })
            }
            Request::SetWeight { store, weight } => root(cx, RootCall::SetWeight { store, weight }),
            Request::SetNode { node } => root(cx, RootCall::AskLevel(node)),
            Request::RaiseLevel { to } if !cx.shared.config.levels.contains(to) => {
                let error = answers::unspoken(to, cx.shared.config.levels);
                cx.reply(Err(error));
                None
            }
            Request::RaiseLevel { to } => root(cx, RootCall::RaiseLevel { to }),
            Request::Audit { after, limit } => {
                Audit::new(cx, after.as_ref(), limit).map(Box::new).map(Self::Audit)
            }
            Request::Directory => root(cx, RootCall::Directory),
            Request::AbortUpload { path, upload } => key(cx, path, KeyCall::AbortUpload(upload)),
        }
    }

    /// Go on; `None` if the request has come to its end.
    pub(super) fn on(self, cx: &mut Context<'_>, input: Input) -> Option<Self> {
        match self {
            Self::Waiting(request, ended) => {
                let ended = if let Input::BodyEnd(digest) = input { Some(digest) } else { ended };
                Some(Self::Waiting(request, ended))
            }
            Self::Simple(simple) => simple.on(cx, input).map(Box::new).map(Self::Simple),
            Self::Put(put) => put.on(cx, input).map(Box::new).map(Self::Put),
            Self::Copy(copy) => copy.on(cx, input).map(Box::new).map(Self::Copy),
            Self::Get(get) => get.on(cx, input).map(Box::new).map(Self::Get),
            Self::List(list) => list.on(cx, input).map(Box::new).map(Self::List),
            Self::DeleteMany(many) => many.on(cx, input).map(Box::new).map(Self::DeleteMany),
            Self::Audit(audit) => audit.on(cx, input).map(Box::new).map(Self::Audit),
        }
    }

    /// When there is something to do even if nothing happens.
    pub(super) fn wake_at(&self) -> Option<Instant> {
        match self {
            Self::Put(put) => put.wake_at(),
            Self::Copy(copy) => copy.wake_at(),
            Self::Get(get) => get.wake_at(),
            Self::Audit(audit) => audit.wake_at(),
            _ => None,
        }
    }

    /// Bytes in memory of which it is known that they must be reserved: those of copies.
    pub(super) fn bytes_in_hand(&self) -> u64 {
        match self {
            Self::Copy(copy) => copy.bytes_in_hand(),
            _ => 0,
        }
    }

    pub(super) fn waits_for(&self) -> WaitsFor {
        let (client, budget) = match self {
            Self::Waiting(..) => return WaitsFor::Session,
            Self::Put(put) => (put.waits_for_client(), put.waits_for_budget()),
            Self::Copy(copy) => (copy.waits_for_client(), copy.waits_for_budget()),
            Self::Get(get) => (get.waits_for_client(), get.waits_for_budget()),
            Self::Simple(_) | Self::List(_) | Self::DeleteMany(_) | Self::Audit(_) => {
                (false, false)
            }
        };
        match (client, budget) {
            (true, _) => WaitsFor::Client,
            (_, true) => WaitsFor::Budget,
            (false, false) => WaitsFor::Cluster,
        }
    }

    /// Whether the reply is out and its body follows.
    pub(super) fn has_replied(&self) -> bool {
        matches!(self, Self::Get(get) if get.has_replied())
    }
}
