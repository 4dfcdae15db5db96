//! TLS on accepted connections. Who speaks plain HTTP to a TLS port is told so, in plain HTTP.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::version::Begun;

/// The first byte of a TLS connection: the content type of a handshake (RFC 8446, section 5.1).
const HANDSHAKE: u8 = 22;

/// What somebody gets who speaks HTTP without TLS.
const PLAIN_HTTP: &[u8] = b"HTTP/1.1 400 Bad Request\r\n\
    Content-Type: text/plain\r\n\
    Content-Length: 56\r\n\
    Connection: close\r\n\
    \r\n\
    This endpoint speaks HTTPS: use https:// with this port.";

/// A connection, with TLS or without.
#[derive(Debug)]
pub(super) enum Secured<S> {
    Plain(S),
    Tls(Box<TlsStream<Begun<S, 1>>>),
}

/// Begin a connection: with the handshake, if there is to be TLS.
pub(super) async fn begin<S>(stream: S, tls: Option<&TlsAcceptor>) -> io::Result<Secured<S>>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let Some(tls) = tls else {
        return Ok(Secured::Plain(stream));
    };
    let mut stream = Begun::new(stream);
    match stream.peek().await? {
        Some(HANDSHAKE) => Ok(Secured::Tls(Box::new(tls.accept(stream).await?))),
        Some(letter) if letter.is_ascii_uppercase() => {
            stream.write_all(PLAIN_HTTP).await?;
            stream.shutdown().await?;
            Err(io::Error::new(io::ErrorKind::InvalidData, "plain HTTP on a TLS port"))
        }
        Some(_) => Err(io::Error::new(io::ErrorKind::InvalidData, "this is no TLS")),
        None => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Secured<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(context, buffer),
            Self::Tls(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Secured<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write_vectored(context, slices),
            Self::Tls(stream) => Pin::new(stream).poll_write_vectored(context, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(stream) => stream.is_write_vectored(),
            Self::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(context),
            Self::Tls(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}
