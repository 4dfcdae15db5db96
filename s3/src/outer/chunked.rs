//! `aws-chunked` bodies on their way to s3s, which unwraps them.
//!
//! s3s gathers each chunk whole before it hands it on, and does not count. So unsigned chunks, which
//! no signature covers, are cut into small ones here; signed chunks pass as they are, up to a bound;
//! and both are held against the announced length. Chunk lines are read, data is not copied.
//! Source: Amazon S3, "Signature calculations: transferring payload in multiple chunks".

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll};

use bytes::{Buf, Bytes};
use http_body::Frame;
use s3s::StdError;

use crate::transfer::{Fault, Shared};

/// Largest chunk that is handed on of an unsigned one.
const CHUNK_BYTES_MAX: usize = 64 << 10;
/// Largest signed chunk: it is held in memory until its signature is verified.
const SIGNED_CHUNK_BYTES_MAX: u64 = 8 << 20;
/// Longest line before a chunk: a length and a signature extension.
const LINE_BYTES_MAX: usize = 256;
/// Trailers, with their signature.
const TRAILER_BYTES_MAX: usize = 16 << 10;

/// Who vouches for the chunks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    /// Nobody: the framing may be changed.
    Unsigned,
    /// Each chunk has a signature.
    Signed,
}

/// Where in the framing the next byte stands.
///
/// ```text
/// Line ──length > 0──▶ Data ──all there──▶ Break ──CR LF──▶ Line
///   └────length = 0──▶ Trailers, to the end
/// ```
#[derive(Debug)]
enum State {
    Line { line: Vec<u8> },
    Data { left: u64 },
    Break { seen: usize },
    Trailers { bytes: usize },
    Failed,
}

/// An `aws-chunked` body, re-framed and counted.
pub(super) struct ChunkedBody<B> {
    inner: B,
    framing: Framing,
    expected: u64,
    seen: u64,
    state: State,
    /// What came in and is not looked at yet.
    input: Bytes,
    /// What is ready to go on: at most a frame's worth.
    ready: VecDeque<Bytes>,
    shared: Arc<Shared>,
}

impl<B> ChunkedBody<B> {
    pub(super) fn new(inner: B, framing: Framing, expected: u64, shared: Arc<Shared>) -> Self {
        Self {
            inner,
            framing,
            expected,
            seen: 0,
            state: State::Line { line: Vec::new() },
            input: Bytes::new(),
            ready: VecDeque::new(),
            shared,
        }
    }

    /// Look at some of the input.
    fn advance(&mut self) -> Result<(), Fault> {
        match &mut self.state {
            State::Line { line } => {
                let end = self.input.iter().position(|byte| *byte == b'\n');
                let take = end.map_or(self.input.len(), |at| at + 1);
                if line.len() + take > LINE_BYTES_MAX {
                    return Err(Fault::Framing);
                }
                line.extend_from_slice(&self.input[..take]);
                self.input.advance(take);
                if end.is_some() {
                    let line = std::mem::take(line);
                    self.begin_chunk(line)?;
                }
            }
            State::Data { left } => {
                let fits = usize::try_from(*left).unwrap_or(usize::MAX);
                let take = self.input.len().min(fits).min(CHUNK_BYTES_MAX);
                *left -= take as u64;
                let last = *left == 0;
                let data = self.input.split_to(take);
                match self.framing {
                    Framing::Signed => self.ready.push_back(data),
                    Framing::Unsigned => {
                        self.ready.push_back(Bytes::from(format!("{take:x}\r\n")));
                        self.ready.push_back(data);
                        self.ready.push_back(Bytes::from_static(b"\r\n"));
                    }
                }
                if last {
                    self.state = State::Break { seen: 0 };
                }
            }
            State::Break { seen } => {
                if self.input.get_u8() != b"\r\n"[*seen] {
                    return Err(Fault::Framing);
                }
                *seen += 1;
                if *seen == 2 {
                    if self.framing == Framing::Signed {
                        self.ready.push_back(Bytes::from_static(b"\r\n"));
                    }
                    self.state = State::Line { line: Vec::new() };
                }
            }
            State::Trailers { bytes } => {
                *bytes += self.input.len();
                if *bytes > TRAILER_BYTES_MAX {
                    return Err(Fault::Framing);
                }
                self.ready.push_back(std::mem::take(&mut self.input));
            }
            State::Failed => self.input.clear(),
        }
        Ok(())
    }

    fn begin_chunk(&mut self, line: Vec<u8>) -> Result<(), Fault> {
        let length = chunk_length(&line).ok_or(Fault::Framing)?;
        if self.framing == Framing::Signed && length > SIGNED_CHUNK_BYTES_MAX {
            return Err(Fault::ChunkTooLarge);
        }
        self.seen = self.seen.saturating_add(length);
        if self.seen > self.expected {
            return Err(Fault::Long);
        }
        if length == 0 && self.seen < self.expected {
            return Err(Fault::Short);
        }
        if length == 0 || self.framing == Framing::Signed {
            self.ready.push_back(Bytes::from(line));
        }
        self.state =
            if length == 0 { State::Trailers { bytes: 0 } } else { State::Data { left: length } };
        Ok(())
    }

    fn fail(&mut self, fault: Fault) -> Poll<Option<Result<Frame<Bytes>, StdError>>> {
        self.state = State::Failed;
        self.ready.clear();
        self.input.clear();
        // The first fault is the cause of the others.
        let _ = self.shared.fault.set(fault);
        Poll::Ready(Some(Err(format!("aws-chunked body: {fault:?}").into())))
    }
}

/// The length in `HEX[;extension]CRLF`.
fn chunk_length(line: &[u8]) -> Option<u64> {
    let line = std::str::from_utf8(line).ok()?.strip_suffix("\r\n")?;
    let digits = line.split(';').next().unwrap_or(line);
    let plain = (1..=16).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_hexdigit());
    if plain { u64::from_str_radix(digits, 16).ok() } else { None }
}

impl<B> http_body::Body for ChunkedBody<B>
where
    B: http_body::Body<Data = Bytes, Error = StdError> + Unpin,
{
    type Data = Bytes;
    type Error = StdError;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut TaskContext<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, StdError>>> {
        let this = self.get_mut();
        loop {
            if matches!(this.state, State::Failed) {
                return Poll::Ready(None);
            }
            if let Some(bytes) = this.ready.pop_front() {
                return Poll::Ready(Some(Ok(Frame::data(bytes))));
            }
            if this.input.has_remaining() {
                if let Err(fault) = this.advance() {
                    return this.fail(fault);
                }
                continue;
            }
            match std::task::ready!(Pin::new(&mut this.inner).poll_frame(context)) {
                Some(Ok(frame)) => this.input = frame.into_data().unwrap_or_default(),
                Some(Err(error)) => {
                    this.state = State::Failed;
                    return Poll::Ready(Some(Err(error)));
                }
                None if matches!(this.state, State::Trailers { .. }) => return Poll::Ready(None),
                None => return this.fail(Fault::Short),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::{BodyExt, StreamBody};

    use super::*;

    /// What comes out of `pieces`, or what is wrong with them.
    async fn pass(framing: Framing, expected: u64, pieces: &[&[u8]]) -> Result<Vec<Bytes>, Fault> {
        let shared = Arc::new(Shared::default());
        let frames: Vec<Result<Frame<Bytes>, StdError>> =
            pieces.iter().map(|piece| Ok(Frame::data(Bytes::copy_from_slice(piece)))).collect();
        let inner = StreamBody::new(Queue(frames.into()));
        let mut body = ChunkedBody::new(inner, framing, expected, shared.clone());
        let mut out = Vec::new();
        while let Some(frame) = body.frame().await {
            match frame {
                Ok(frame) => out.push(frame.into_data().unwrap()),
                Err(_) => return Err(*shared.fault.get().unwrap()),
            }
        }
        Ok(out)
    }

    struct Queue(VecDeque<Result<Frame<Bytes>, StdError>>);

    impl futures_core::Stream for Queue {
        type Item = Result<Frame<Bytes>, StdError>;

        fn poll_next(
            mut self: Pin<&mut Self>,
            _: &mut TaskContext<'_>,
        ) -> Poll<Option<Self::Item>> {
            Poll::Ready(self.0.pop_front())
        }
    }

    #[tokio::test]
    async fn one_giant_unsigned_chunk_becomes_small_ones() {
        let data = vec![7; 3 * CHUNK_BYTES_MAX + 5];
        let head = format!("{:x}\r\n", data.len());
        let pieces: [&[u8]; 3] =
            [head.as_bytes(), &data, b"\r\n0\r\nx-amz-checksum-crc32:x\r\n\r\n"];
        let out = pass(Framing::Unsigned, data.len() as u64, &pieces).await.unwrap();
        assert!(out.iter().all(|bytes| bytes.len() <= CHUNK_BYTES_MAX));
        let text = out.concat();
        assert!(text.starts_with(b"10000\r\n\x07"));
        assert!(
            text.ends_with(b"\r\n5\r\n\x07\x07\x07\x07\x07\r\n0\r\nx-amz-checksum-crc32:x\r\n\r\n")
        );
    }

    #[tokio::test]
    async fn bytes_that_arrive_one_by_one_are_framed_alike() {
        let whole = b"3;chunk-signature=a\r\nabc\r\n0;chunk-signature=b\r\n\r\n";
        let pieces: Vec<&[u8]> = whole.chunks(1).collect();
        let out = pass(Framing::Signed, 3, &pieces).await.unwrap();
        assert_eq!(out.concat(), whole);
    }

    #[tokio::test]
    async fn short_long_and_broken_bodies_are_told_apart() {
        let cases: [(&[u8], Fault); 7] = [
            (b"3\r\nabc\r\n0\r\n\r\n", Fault::Short),
            (b"4\r\nabcd\r\n", Fault::Short),
            (b"5\r\nabcde\r\n0\r\n\r\n", Fault::Long),
            (b"ffffffffffffffff\r\n", Fault::Long),
            (b"4\r\nabcdX", Fault::Framing),
            (b"+4\r\nabcd\r\n0\r\n\r\n", Fault::Framing),
            (b"", Fault::Short),
        ];
        for (body, fault) in cases {
            assert_eq!(pass(Framing::Unsigned, 4, &[body]).await, Err(fault), "{body:?}");
        }
        let giant = b"800001;chunk-signature=a\r\n";
        assert_eq!(pass(Framing::Signed, 1 << 30, &[giant]).await, Err(Fault::ChunkTooLarge));
    }
}
