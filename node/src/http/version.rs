//! Which HTTP a client speaks: HTTP/2 with prior knowledge begins with a preface that no HTTP/1 request
//! is (RFC 9113, section 3.4).

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};

const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

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
pub(super) async fn read<S>(mut stream: S) -> io::Result<(Version, Begun<S>)>
where
    S: AsyncRead + Unpin,
{
    let mut bytes = [0; PREFACE.len()];
    let mut len = 0;
    while len < PREFACE.len() && bytes[..len] == PREFACE[..len] {
        match stream.read(&mut bytes[len..]).await? {
            // HTTP/1 has its own words for a connection that ends.
            0 => break,
            more => len += more,
        }
    }
    let version = if bytes == *PREFACE { Version::Two } else { Version::One };
    Ok((version, Begun { bytes, at: 0, len, stream }))
}

/// A stream of which something was read already.
#[derive(Debug)]
pub(super) struct Begun<S> {
    bytes: [u8; PREFACE.len()],
    /// What was read and not given again: from here on...
    at: usize,
    /// ...to here.
    len: usize,
    stream: S,
}

impl<S: AsyncRead + Unpin> AsyncRead for Begun<S> {
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

impl<S: AsyncWrite + Unpin> AsyncWrite for Begun<S> {
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
