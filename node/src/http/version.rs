//! Which HTTP a client speaks: HTTP/2 with prior knowledge begins with a preface that no HTTP/1 request
//! is (RFC 9113, section 3.4).

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};

const PREFACE_BYTES: usize = 24;
const PREFACE: &[u8; PREFACE_BYTES] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// What a client speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Version {
    /// HTTP/1.0 or HTTP/1.1, or nothing that is HTTP.
    One,
    /// HTTP/2.
    Two,
}

/// Read as much as tells, which is one byte of a request of HTTP/1 mostly. What was read is read again
/// from the stream that comes back.
pub(super) async fn read<S>(stream: S) -> io::Result<(Version, Begun<S, PREFACE_BYTES>)>
where
    S: AsyncRead + Unpin,
{
    let mut stream = Begun::new(stream);
    while PREFACE.starts_with(stream.seen()) && stream.seen().len() < PREFACE.len() {
        // HTTP/1 has its own words for a connection that ends.
        if !stream.see_more().await? {
            break;
        }
    }
    let version = if stream.seen() == PREFACE { Version::Two } else { Version::One };
    Ok((version, stream))
}

/// A stream of which up to `N` bytes were looked at.
#[derive(Debug)]
pub(super) struct Begun<S, const N: usize> {
    bytes: [u8; N],
    /// What was seen and not read yet: from here on...
    at: usize,
    /// ...to here.
    len: usize,
    stream: S,
}

impl<S, const N: usize> Begun<S, N> {
    pub(super) fn new(stream: S) -> Self {
        Self { bytes: [0; N], at: 0, len: 0, stream }
    }

    fn seen(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

impl<S: AsyncRead + Unpin, const N: usize> Begun<S, N> {
    /// Look at more; `false` if the stream has ended.
    async fn see_more(&mut self) -> io::Result<bool> {
        let more = self.stream.read(&mut self.bytes[self.len..]).await?;
        self.len += more;
        Ok(more > 0)
    }
}

impl<S: AsyncRead + Unpin> Begun<S, 1> {
    /// The first byte, if there is one.
    pub(super) async fn peek(&mut self) -> io::Result<Option<u8>> {
        Ok(self.see_more().await?.then_some(self.bytes[0]))
    }
}

impl<S: AsyncRead + Unpin, const N: usize> AsyncRead for Begun<S, N> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.at < this.len {
            let take = (this.len - this.at).min(buffer.remaining());
            buffer.put_slice(&this.bytes[this.at..this.at + take]);
            this.at += take;
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut this.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin, const N: usize> AsyncWrite for Begun<S, N> {
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
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
