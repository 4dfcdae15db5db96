//! Bodies on their way: plain, or in the chunks of `aws-chunked`. Their bytes are not copied.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use sha2::{Digest, Sha256};

use super::super::content::Body;
use super::sign::ChunkSigner;

/// What goes to the socket at once, at most.
const FRAME_BYTES: usize = 256 << 10;
/// Bytes of a chunk of `aws-chunked`, as SDKs have it.
const CHUNK_BYTES: u64 = 64 << 10;
/// The checksum that goes with bodies.
pub(crate) const CHECKSUM: &str = "x-amz-checksum-crc32";
/// Hexadecimal digits of a signature.
const SIGNATURE_CHARS: u64 = 64;

/// The body of a request.
#[derive(Debug)]
pub(crate) struct Payload {
    kind: Kind,
    /// Bytes that have not yet been handed over.
    left: u64,
}

#[derive(Debug)]
enum Kind {
    /// Nothing, or an XML document.
    Document(Bytes),
    Plain {
        body: Body,
        at: u64,
    },
    Chunked(Box<Chunked>),
}

#[derive(Debug)]
struct Chunked {
    body: Body,
    at: u64,
    /// If chunks are signed.
    signer: Option<ChunkSigner>,
    /// If a checksum follows as a trailer.
    crc32: Option<crc32fast::Hasher>,
    /// Frames of the chunk that was begun.
    ready: VecDeque<Bytes>,
    ended: bool,
}

impl Payload {
    pub(crate) fn document(document: Bytes) -> Self {
        Self { left: document.len() as u64, kind: Kind::Document(document) }
    }

    pub(crate) fn plain(body: Body) -> Self {
        Self { left: body.len(), kind: Kind::Plain { body, at: 0 } }
    }

    /// In chunks: signed if there is a `signer`, and with a checksum at the end if `checksum`.
    pub(crate) fn chunked(body: Body, signer: Option<ChunkSigner>, checksum: bool) -> Self {
        let left = chunked_len(body.len(), signer.is_some(), checksum);
        let crc32 = checksum.then(crc32fast::Hasher::new);
        let ready = VecDeque::with_capacity(8);
        let chunked = Chunked { body, at: 0, signer, crc32, ready, ended: false };
        Self { left, kind: Kind::Chunked(Box::new(chunked)) }
    }

    fn next(&mut self) -> Option<Bytes> {
        let frame = match &mut self.kind {
            Kind::Document(document) => std::mem::take(document),
            Kind::Plain { body, at } => {
                let piece = body.piece(*at, FRAME_BYTES);
                *at += piece.len() as u64;
                piece
            }
            Kind::Chunked(chunked) => chunked.next().unwrap_or_default(),
        };
        self.left = self.left.saturating_sub(frame.len() as u64);
        (!frame.is_empty()).then_some(frame)
    }
}

impl Chunked {
    fn next(&mut self) -> Option<Bytes> {
        if self.ready.is_empty() && !self.ended {
            self.chunk();
        }
        self.ready.pop_front()
    }

    /// Make the next chunk; the last one is empty.
    fn chunk(&mut self) {
        let end = self.body.len().min(self.at + CHUNK_BYTES);
        let len = end - self.at;
        // The place of the head, which tells the hash of what follows.
        self.ready.push_back(Bytes::new());
        let mut sha256 = Sha256::new();
        while self.at < end {
            let left = usize::try_from(end - self.at).expect("a chunk is small");
            let piece = self.body.piece(self.at, left);
            if self.signer.is_some() {
                sha256.update(&piece);
            }
            if let Some(crc32) = &mut self.crc32 {
                crc32.update(&piece);
            }
            self.at += piece.len() as u64;
            self.ready.push_back(piece);
        }
        self.ready[0] = match &mut self.signer {
            Some(signer) => {
                let signature = signer.chunk(&sha256.finalize().into());
                format!("{len:x};chunk-signature={signature}\r\n").into()
            }
            None => format!("{len:x}\r\n").into(),
        };
        if len > 0 {
            self.ready.push_back(Bytes::from_static(b"\r\n"));
        } else {
            self.ended = true;
            let trailers = self.trailers();
            self.ready.push_back(trailers);
        }
    }

    /// Trailers and the empty line after them.
    fn trailers(&mut self) -> Bytes {
        let Some(crc32) = self.crc32.take() else { return Bytes::from_static(b"\r\n") };
        let value = encode_crc32(crc32.finalize());
        match &mut self.signer {
            Some(signer) => {
                let signature = signer.trailer(&format!("{CHECKSUM}:{value}\n"));
                format!("{CHECKSUM}:{value}\r\nx-amz-trailer-signature:{signature}\r\n\r\n").into()
            }
            None => format!("{CHECKSUM}:{value}\r\n\r\n").into(),
        }
    }
}

/// A CRC-32 as S3 writes it.
pub(crate) fn encode_crc32(value: u32) -> String {
    STANDARD.encode(value.to_be_bytes())
}

/// The length of a body in chunks.
fn chunked_len(len: u64, signed: bool, checksum: bool) -> u64 {
    let signature = if signed { ";chunk-signature=".len() as u64 + SIGNATURE_CHARS } else { 0 };
    let head = |len: u64| {
        let digits = u64::from((67 - (len | 1).leading_zeros()) / 4);
        digits + signature + 2
    };
    let (full, rest) = (len / CHUNK_BYTES, len % CHUNK_BYTES);
    let mut sum = full * (head(CHUNK_BYTES) + CHUNK_BYTES + 2) + head(0) + 2;
    if rest > 0 {
        sum += head(rest) + rest + 2;
    }
    if checksum {
        // Base64 of 4 bytes has 8 characters.
        sum += CHECKSUM.len() as u64 + 1 + 8 + 2;
        if signed {
            sum += "x-amz-trailer-signature:".len() as u64 + SIGNATURE_CHARS + 2;
        }
    }
    sum
}

impl HttpBody for Payload {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.next().map(|bytes| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::content::Content;
    use super::*;

    fn sent(mut payload: Payload) -> Vec<u8> {
        let promised = payload.left;
        let mut all = Vec::new();
        while let Some(bytes) = payload.next() {
            all.extend_from_slice(&bytes);
        }
        assert_eq!(all.len() as u64, promised, "{:?}", String::from_utf8_lossy(&all));
        assert!(payload.is_end_stream());
        all
    }

    #[test]
    fn a_chunked_body_has_the_promised_length_and_its_bytes() {
        let content = Content::new(1, 10_000);
        for len in [0, 1, 15, 16, 255, 256, 65_535, 65_536, 65_537, 200_000] {
            let body = content.object(&[len], 5);
            let plain = sent(Payload::plain(body.clone()));
            for checksum in [false, true] {
                let mut rest = &sent(Payload::chunked(body.clone(), None, checksum))[..];
                let mut data = Vec::new();
                loop {
                    let end = rest.windows(2).position(|it| it == b"\r\n").unwrap();
                    let digits = std::str::from_utf8(&rest[..end]).unwrap();
                    let len = usize::from_str_radix(digits, 16).unwrap();
                    rest = &rest[end + 2..];
                    if len == 0 {
                        break;
                    }
                    data.extend_from_slice(&rest[..len]);
                    rest = rest[len..].strip_prefix(b"\r\n").unwrap();
                }
                assert_eq!(data, plain);
                let crc = encode_crc32(crc32fast::hash(&plain));
                let expected =
                    if checksum { format!("{CHECKSUM}:{crc}\r\n\r\n") } else { "\r\n".into() };
                assert_eq!(rest, expected.as_bytes());
            }
        }
    }
}
