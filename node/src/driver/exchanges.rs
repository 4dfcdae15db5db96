//! Which handler waits for which request's replies.

use std::collections::BTreeMap;

use tokio::sync::mpsc;
use trine_core::ids::RequestId;
use trine_core::request::{Reply, Request};
use trine_s3::front::FrontReply;

/// The open exchanges of a gateway. Their number is bounded by the gateway's `requests_max` and by
/// the connections that HTTP takes.
#[derive(Debug, Default)]
pub(super) struct Exchanges {
    open: BTreeMap<RequestId, Exchange>,
}

#[derive(Debug)]
struct Exchange {
    replies: mpsc::UnboundedSender<FrontReply>,
    /// Whether a body follows a reply with an object (a GET's does, a HEAD's does not).
    body_follows: bool,
}

impl Exchanges {
    /// Replies to `request` go to `replies`.
    pub(super) fn open(
        &mut self,
        id: RequestId,
        request: &Request,
        replies: mpsc::UnboundedSender<FrontReply>,
    ) {
        let body_follows = matches!(request, Request::Get(_));
        let earlier = self.open.insert(id, Exchange { replies, body_follows });
        assert!(earlier.is_none(), "{id} is used twice");
    }

    /// The handler is gone.
    pub(super) fn cancel(&mut self, id: RequestId) {
        self.open.remove(&id);
    }

    /// Pass a reply on. The exchange is forgotten with its last one; what comes for an exchange that
    /// is gone is dropped.
    pub(super) fn reply(&mut self, id: RequestId, reply: FrontReply) {
        let Some(exchange) = self.open.get(&id) else { return };
        let last = match &reply {
            FrontReply::NeedBody(_) | FrontReply::Body(_) | FrontReply::Copying(_) => false,
            FrontReply::Reply(Ok(Reply::Object { .. })) => !exchange.body_follows,
            FrontReply::Reply(_)
            | FrontReply::BodyEnd
            | FrontReply::BodyFailed(_)
            | FrontReply::Disconnect(_) => true,
        };
        // A handler that is gone sends a `Cancel` by being dropped, which may still be under way.
        let _ = exchange.replies.send(reply);
        if last {
            self.open.remove(&id);
        }
    }

    /// Whether no handler waits.
    pub(super) fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// How many handlers wait.
    pub(super) fn len(&self) -> usize {
        self.open.len()
    }
}
