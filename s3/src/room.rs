//! Room for documents: the XML that requests bring and answers carry, and bodies that are hashed
//! before their signature is known to be good. They pass by the gateway's budget of bodies, so that
//! they have one of their own, shared fairly between tenants. What finds no room is told to slow
//! down at once: documents are short, and nothing here can wait for a time.

use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use s3s::{Body, StdError};
use trine_core::fair::{Admission, Fair};
use trine_core::ids::TenantId;

use crate::error::{Failure, slow_down};

/// A document that is read takes so many times its bytes: as it came, as a tree, as it is asked.
const COPIES: u64 = 3;

/// Room for documents. Cheap to clone.
#[derive(Clone)]
pub struct Room(Arc<Mutex<State>>);

struct State {
    fair: Fair<Option<TenantId>, u64>,
    next: u64,
}

/// So much of the room, until it is dropped.
pub(crate) struct Permit {
    room: Room,
    number: u64,
}

impl Room {
    /// Room for so many bytes.
    pub fn new(bytes_max: u64) -> Self {
        Self(Arc::new(Mutex::new(State { fair: Fair::new(bytes_max, 0), next: 0 })))
    }

    /// Bytes in use, and how many there may be.
    pub fn bytes(&self) -> (u64, u64) {
        let state = self.lock();
        (state.fair.used(), state.fair.total())
    }

    /// Room to read a document of `bytes`, for as long as the permit lives. A tenant that is not known
    /// yet is one of its own.
    ///
    /// # Errors
    /// 503 `SlowDown`.
    pub(crate) fn to_read(&self, tenant: Option<TenantId>, bytes: u64) -> Result<Permit, Failure> {
        self.claim(tenant, bytes.saturating_mul(COPIES))
    }

    /// Room for an answer, likewise.
    pub(crate) fn to_answer(&self, tenant: TenantId, bytes: u64) -> Result<Permit, Failure> {
        self.claim(Some(tenant), bytes)
    }

    fn claim(&self, tenant: Option<TenantId>, amount: u64) -> Result<Permit, Failure> {
        let mut state = self.lock();
        state.next += 1;
        let number = state.next;
        match state.fair.claim(&tenant, number, amount, amount) {
            Admission::Granted(_) => {
                drop(state);
                Ok(Permit { room: self.clone(), number })
            }
            Admission::Queued | Admission::Refused => {
                Err(slow_down("Please reduce your request rate: too many documents are in hand."))
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Each change is one call of the sums, which check themselves.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Room {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Room").field(&self.bytes()).finish()
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.room.lock().fair.release(self.number);
    }
}

/// A document on its way to the client, with its room.
pub(crate) fn held(document: Bytes, permit: Permit) -> Body {
    Body::http_body_unsync(Held { document, _permit: permit })
}

struct Held {
    document: Bytes,
    _permit: Permit,
}

impl http_body::Body for Held {
    type Data = Bytes;
    type Error = StdError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, StdError>>> {
        let document = std::mem::take(&mut self.document);
        Poll::Ready((!document.is_empty()).then(|| Ok(Frame::data(document))))
    }

    fn is_end_stream(&self) -> bool {
        self.document.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.document.len() as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_finds_no_room_is_told_to_slow_down_and_others_are_not() {
        let room = Room::new(800);
        let (one, other) = (Some(TenantId(1)), Some(TenantId(2)));
        let held: Vec<_> = (0..7).filter_map(|_| room.to_read(one, 33).ok()).collect();
        assert_eq!(held.len(), 7);
        assert!(room.to_read(one, 33).is_err(), "an eighth is not lent");
        let small = room.to_read(other, 33);
        assert!(small.is_ok());
        assert_eq!(room.bytes(), (8 * 99, 800));
        drop((held, small));
        assert_eq!(room.bytes(), (0, 800));
    }
}
