//! Closes connections so that the last answer arrives.
//!
//! A server that closes a socket while bytes of the client are under way (a body that it refused to
//! read) makes the kernel answer them with a reset, and the reset throws away what the client has not
//! read yet: the refusal itself. So the way out is closed first, and the way in read until the client
//! closes too (RFC 9112, section 9.6), within bounds.

use std::fmt;
use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::Stopped;
use crate::runtime::Runtime;

/// How long a client may take to close its end. It only has to read an answer that is there.
const LINGER_MAX: Duration = Duration::from_secs(2);

/// Bytes that are read and thrown away at a time.
const SCRATCH_BYTES: usize = 8 << 10;

/// A stream whose shutdown waits, for a bounded time, until the other end closes too.
pub(super) struct Lingering<S> {
    stream: S,
    state: State,
}

enum State {
    /// How to wait, once that is to be done.
    Open(Box<dyn FnOnce() -> Limit + Send>),
    /// The way out is being closed.
    Closing(Limit),
    /// The way out is closed.
    Waiting(Limit),
    Done,
}

/// Ends when there has been enough waiting.
type Limit = Pin<Box<dyn Future<Output = ()> + Send>>;

impl<S> Lingering<S> {
    /// Linger on `stream`, but not once the server stops.
    pub(super) fn new(stream: S, runtime: &impl Runtime, mut stopped: Stopped) -> Self {
        let runtime = runtime.clone();
        let limit = move || -> Limit {
            Box::pin(async move {
                tokio::select! {
                    biased;
                    () = stopped.wait() => {}
                    () = runtime.sleep_until(runtime.now() + LINGER_MAX) => {}
                }
            })
        };
        Self { stream, state: State::Open(Box::new(limit)) }
    }
}

impl<S: fmt::Debug> fmt::Debug for Lingering<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lingering").field("stream", &self.stream).finish_non_exhaustive()
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Lingering<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Lingering<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        loop {
            match core::mem::replace(&mut this.state, State::Done) {
                State::Open(limit) => this.state = State::Closing(limit()),
                State::Closing(limit) => match Pin::new(&mut this.stream).poll_shutdown(context) {
                    Poll::Pending => {
                        this.state = State::Closing(limit);
                        return Poll::Pending;
                    }
                    Poll::Ready(result) => {
                        result?;
                        this.state = State::Waiting(limit);
                    }
                },
                State::Waiting(mut limit) => {
                    if limit.as_mut().poll(context).is_ready() {
                        return Poll::Ready(Ok(()));
                    }
                    let read = poll_discard(&mut this.stream, context);
                    if read.is_pending() {
                        this.state = State::Waiting(limit);
                    }
                    ready!(read);
                    return Poll::Ready(Ok(()));
                }
                State::Done => return Poll::Ready(Ok(())),
            }
        }
    }
}

/// Read until the other end closes, or breaks the connection.
fn poll_discard(stream: &mut (impl AsyncRead + Unpin), context: &mut Context<'_>) -> Poll<()> {
    let mut scratch = [0; SCRATCH_BYTES];
    loop {
        let mut buffer = ReadBuf::new(&mut scratch);
        let read = ready!(Pin::new(&mut *stream).poll_read(context, &mut buffer));
        if read.is_err() || buffer.filled().is_empty() {
            return Poll::Ready(());
        }
    }
}
