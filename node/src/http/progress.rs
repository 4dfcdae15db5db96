//! Notices connections on which nothing moves any more: a client that sends half of a request, or
//! takes half of an answer, and then nothing, would hold its place for ever.
//!
//! Only the stream is watched, so that it holds for every kind of request. It leaves to others to
//! tell the client why: a connection that is given up is broken.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::runtime::Runtime;

/// A stream that counts the reads and writes that succeed.
#[derive(Debug)]
pub(super) struct Counted<S> {
    stream: S,
    moves: Arc<AtomicU64>,
}

/// How often something has moved on a [`Counted`] stream.
#[derive(Clone, Debug)]
pub(super) struct Moves(Arc<AtomicU64>);

impl<S> Counted<S> {
    /// Count what moves on `stream`.
    pub(super) fn new(stream: S) -> (Self, Moves) {
        let moves = Arc::new(AtomicU64::new(0));
        (Self { stream, moves: moves.clone() }, Moves(moves))
    }
}

impl Moves {
    /// Ends when nothing has moved for `limit`, at the latest for twice of it.
    pub(super) async fn stalled(self, runtime: impl Runtime, limit: Duration) {
        loop {
            let before = self.0.load(Ordering::Relaxed);
            runtime.sleep_until(runtime.now() + limit).await;
            if self.0.load(Ordering::Relaxed) == before {
                return;
            }
        }
    }
}

impl<S: Unpin> Counted<S> {
    fn counted<T>(
        &mut self,
        poll: impl FnOnce(Pin<&mut S>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        let result = poll(Pin::new(&mut self.stream));
        if matches!(result, Poll::Ready(Ok(_))) {
            self.moves.fetch_add(1, Ordering::Relaxed);
        }
        result
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Counted<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.counted(|stream| stream.poll_read(context, buffer))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Counted<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.counted(|stream| stream.poll_write(context, bytes))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.counted(|stream| stream.poll_write_vectored(context, slices))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Not counted: a socket has nothing to flush, and says so at once.
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
