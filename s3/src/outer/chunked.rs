//! `aws-chunked` bodies on their way to s3s, which unwraps them.
//!
//! s3s gathers each chunk whole before it hands it on, and does not count. So large chunks are cut
//! into small ones here, unsigned ones as they are, signed ones with new signatures ([`super::chain`]);
//! and both are held against the announced length. Chunk lines are read, data is not copied.
//! Source: Amazon S3, "Signature calculations: transferring payload in multiple chunks".

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll};

use bytes::{Buf, Bytes};
use http_body::Frame;
use s3s::StdError;

use super::chain::{Chain, ChainError};
use crate::transfer::{Fault, Shared};

/// Largest piece of a chunk that is cut.
const CHUNK_BYTES_MAX: usize = 64 << 10;
/// Largest signed chunk that goes on as it is: s3s holds it in memory until its signature is
/// verified. SDKs cut their bodies into 64 KiB or 128 KiB.
const WHOLE_CHUNK_BYTES_MAX: u64 = 128 << 10;
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
    Line {
        line: Vec<u8>,
    },
    Data {
        left: u64,
        cut: bool,
    },
    Break {
        seen: usize,
        cut: bool,
    },
    /// `held` is what waits for its end, to be signed anew.
    Trailers {
        bytes: usize,
        held: Option<Vec<u8>>,
    },
    Ended,
    Failed,
}

/// An `aws-chunked` body, re-framed and counted.
pub(super) struct ChunkedBody<B> {
    inner: B,
    framing: Framing,
    /// Of signed chunks; `None` if s3s refuses the request before it reads the body.
    chain: Option<Chain>,
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
    pub(super) fn new(
        inner: B,
        framing: Framing,
        expected: u64,
        chain: Option<Chain>,
        shared: Arc<Shared>,
    ) -> Self {
        Self {
            inner,
            framing,
            chain,
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
                    self.begin_chunk(&line)?;
                }
            }
            State::Data { left, cut } => {
                let cut = *cut;
                let fits = usize::try_from(*left).unwrap_or(usize::MAX);
                let take = self.input.len().min(fits).min(CHUNK_BYTES_MAX);
                *left -= take as u64;
                let last = *left == 0;
                let data = self.input.split_to(take);
                if last {
                    self.state = State::Break { seen: 0, cut };
                }
                self.hand_on(data, cut);
                if let Some(chain) = self.chain.as_mut().filter(|_| last && cut) {
                    chain.end()?;
                }
            }
            State::Break { seen, cut } => {
                if self.input.get_u8() != b"\r\n"[*seen] {
                    return Err(Fault::Framing);
                }
                *seen += 1;
                if *seen == 2 {
                    if !*cut {
                        self.ready.push_back(Bytes::from_static(b"\r\n"));
                    }
                    self.state = State::Line { line: Vec::new() };
                }
            }
            State::Trailers { bytes, held } => {
                *bytes += self.input.len();
                if *bytes > TRAILER_BYTES_MAX {
                    return Err(Fault::Framing);
                }
                let input = std::mem::take(&mut self.input);
                match held {
                    Some(held) => held.extend_from_slice(&input),
                    None => self.ready.push_back(input),
                }
            }
            State::Ended | State::Failed => self.input.clear(),
        }
        Ok(())
    }

    /// Data of a chunk: a chunk of its own if that one is cut.
    fn hand_on(&mut self, data: Bytes, cut: bool) {
        if !cut {
            return self.ready.push_back(data);
        }
        let line = match &mut self.chain {
            None => format!("{:x}\r\n", data.len()),
            Some(chain) => chunk_line(data.len() as u64, &chain.piece(&data)),
        };
        self.ready.push_back(Bytes::from(line));
        self.ready.push_back(data);
        self.ready.push_back(Bytes::from_static(b"\r\n"));
    }

    fn begin_chunk(&mut self, line: &[u8]) -> Result<(), Fault> {
        let (length, signature) = parse_line(line).ok_or(Fault::Framing)?;
        self.seen = self.seen.saturating_add(length);
        if self.seen > self.expected {
            return Err(Fault::Long);
        }
        if length == 0 && self.seen < self.expected {
            return Err(Fault::Short);
        }
        let cut = match self.framing {
            Framing::Unsigned => {
                if length == 0 {
                    self.ready.push_back(Bytes::from_static(b"0\r\n"));
                }
                true
            }
            Framing::Signed => self.begin_signed(length, signature.ok_or(Fault::Framing)?)?,
        };
        let held = self.chain.as_ref().is_some_and(Chain::parted).then(Vec::new);
        self.state = match length {
            0 => State::Trailers { bytes: 0, held },
            left => State::Data { left, cut },
        };
        Ok(())
    }

    /// Begin a signed chunk; whether it is cut.
    fn begin_signed(&mut self, length: u64, signature: &str) -> Result<bool, Fault> {
        let parted = self.chain.as_ref().is_some_and(Chain::parted);
        if !parted && length <= WHOLE_CHUNK_BYTES_MAX {
            self.ready.push_back(Bytes::from(chunk_line(length, signature)));
            if let Some(chain) = &mut self.chain {
                chain.pass(signature);
            }
            return Ok(false);
        }
        // Without a chain s3s has refused the request, and asks for no body.
        let chain = self.chain.as_mut().ok_or(Fault::Framing)?;
        chain.begin(signature);
        if length == 0 {
            chain.end()?;
            let line = chunk_line(0, &chain.piece(b""));
            self.ready.push_back(Bytes::from(line));
        }
        Ok(true)
    }

    /// The input has ended.
    fn end(&mut self) -> Result<(), Fault> {
        let State::Trailers { held, .. } = std::mem::replace(&mut self.state, State::Ended) else {
            return Err(Fault::Short);
        };
        if let (Some(held), Some(chain)) = (held, &mut self.chain) {
            let trailers = chain.trailers(&held)?;
            self.ready.push_back(Bytes::from(trailers));
        }
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

impl From<ChainError> for Fault {
    fn from(error: ChainError) -> Self {
        match error {
            ChainError::Mismatch => Self::ChunkSignature,
            ChainError::Malformed => Self::Framing,
        }
    }
}

fn chunk_line(length: u64, signature: &str) -> String {
    format!("{length:x};chunk-signature={signature}\r\n")
}

/// Length and signature in `HEX[;chunk-signature=SIGNATURE]CRLF`.
fn parse_line(line: &[u8]) -> Option<(u64, Option<&str>)> {
    let line = std::str::from_utf8(line).ok()?.strip_suffix("\r\n")?;
    let (digits, extension) = match line.split_once(';') {
        Some((digits, extension)) => (digits, Some(extension)),
        None => (line, None),
    };
    let plain = (1..=16).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_hexdigit());
    let length = if plain { u64::from_str_radix(digits, 16).ok()? } else { return None };
    let hexadecimal = |it: &&str| it.len() == 64 && it.bytes().all(|b| b.is_ascii_hexdigit());
    let signature = extension.and_then(|it| it.strip_prefix("chunk-signature="));
    Some((length, signature.filter(hexadecimal)))
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
            if let Some(bytes) = this.ready.pop_front() {
                return Poll::Ready(Some(Ok(Frame::data(bytes))));
            }
            if matches!(this.state, State::Ended | State::Failed) {
                return Poll::Ready(None);
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
                None => {
                    if let Err(fault) = this.end() {
                        return this.fail(fault);
                    }
                }
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
        let mut body = ChunkedBody::new(inner, framing, expected, None, shared.clone());
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
        let signature = "5a".repeat(32);
        let whole = format!(
            "3;chunk-signature={signature}\r\nabc\r\n0;chunk-signature={signature}\r\n\r\n"
        );
        let whole = whole.as_bytes();
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
    }
}
