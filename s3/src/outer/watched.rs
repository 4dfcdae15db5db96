//! The body as it comes from the connection: its failures noted, its rest not lost.
//!
//! A client that did not ask for `100 Continue` sends its whole body before it reads the answer. If
//! the request is refused early and the connection closed, the bytes on their way meet a closed
//! socket, which resets the connection, and the client sees that instead of the answer. So what is
//! left of a refused body is read and thrown away before the answer goes out, up to a bound.
//!
//! What is not read even then would be taken for the next request, so that hyper closes the
//! connection after the answer. The answer must say so (`Connection: close`, RFC 9112, section 9.6):
//! a client that keeps the connection would send its next request just as it is closed, and could not
//! know whether that took effect.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context as TaskContext, Poll, ready};

use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};
use s3s::{Body, StdError};

use crate::transfer::{Fault, Shared};

/// Most that is read of a refused body, in bytes: two parts of the size that SDKs upload by default,
/// and more. Of longer ones nothing is read; clients ask for `100 Continue` before they send those.
pub(super) const DRAIN_BYTES_MAX: u64 = 32 << 20;

/// A body from the connection. Dropped before its end, it leaves the rest in [`Shared::leftover`].
pub(super) struct Watched {
    /// Empty only within `drop`.
    inner: Body,
    /// The client waits for `100 Continue`, which hyper sends when the body is first polled.
    held_back: bool,
    shared: Arc<Shared>,
}

impl Watched {
    /// `expects` is whether the client waits for `100 Continue`.
    pub(super) fn new<B>(body: B, expects: bool, shared: Arc<Shared>) -> Self
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<StdError>,
    {
        let inner = Body::http_body_unsync(Boxed(Box::pin(body)));
        let watched = Self { inner, held_back: expects, shared };
        watched.note_end(false);
        watched
    }

    fn note_end(&self, ended: bool) {
        if ended || self.inner.is_end_stream() {
            self.shared.body_ended.store(true, Ordering::Relaxed);
        }
    }
}

/// A body whose errors are boxed, as s3s wants them.
struct Boxed<B>(Pin<Box<B>>);

impl<B> http_body::Body for Boxed<B>
where
    B: http_body::Body<Data = Bytes>,
    B::Error: Into<StdError>,
{
    type Data = Bytes;
    type Error = StdError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut TaskContext<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, StdError>>> {
        let frame = ready!(self.0.as_mut().poll_frame(context));
        Poll::Ready(frame.map(|result| result.map_err(Into::into)))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.0.size_hint()
    }
}

impl http_body::Body for Watched {
    type Data = Bytes;
    type Error = StdError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut TaskContext<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, StdError>>> {
        self.held_back = false;
        let frame = ready!(Pin::new(&mut self.inner).poll_frame(context));
        self.note_end(frame.is_none());
        Poll::Ready(frame.map(|result| {
            result.inspect_err(|_| {
                // The first fault is the cause of the others.
                let _ = self.shared.fault.set(Fault::Transport);
            })
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        if self.held_back || self.inner.is_end_stream() {
            return;
        }
        if let Ok(mut leftover) = self.shared.leftover.lock() {
            *leftover = Some(std::mem::take(&mut self.inner));
        }
    }
}

/// Read what is left of a refused request's body, within [`DRAIN_BYTES_MAX`].
pub(super) async fn drain(shared: &Shared) {
    let leftover = shared.leftover.lock().ok().and_then(|mut leftover| leftover.take());
    let Some(mut body) = leftover else { return };
    if body.size_hint().lower() > DRAIN_BYTES_MAX || shared.fault.get() == Some(&Fault::Transport) {
        return;
    }
    let mut left = DRAIN_BYTES_MAX;
    loop {
        match poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await {
            Some(Ok(frame)) => {
                let len = frame.data_ref().map_or(0, |bytes| bytes.len() as u64);
                let Some(rest) = left.checked_sub(len) else { return };
                left = rest;
            }
            Some(Err(_)) => return,
            None => return shared.body_ended.store(true, Ordering::Relaxed),
        }
    }
}

/// Whether the body is read to its end, so that the connection can take another request.
pub(super) fn is_over(shared: &Shared) -> bool {
    shared.body_ended.load(Ordering::Relaxed)
}
