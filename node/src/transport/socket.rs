//! One connection's bytes: frames in, with an ear for silence; frames out, many with one call.

use std::collections::VecDeque;
use std::fmt;
use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use trine_core::codec::DecodeError;
use trine_core::time::Instant;
use trine_core::wire::{LINK_KIND_MIN, PREFIX_BYTES, Prefix};

use super::link_frame::LINK_FRAME_BYTES_MAX;
use crate::runtime::Runtime;

/// Bytes read ahead on a control connection, where frames are small and many.
const READ_AHEAD_BYTES: usize = 64 << 10;
/// What an undelivered message costs beside its bytes.
const FRAME_COST: usize = 512;
/// Pieces of one vectored write; the kernel takes up to 1,024.
const WRITE_PIECES: usize = 128;

/// Why a connection is over.
#[derive(Debug)]
pub(crate) enum Lost {
    /// The link was closed, here.
    Closed,
    /// The peer closed it.
    Ended,
    /// The operating system says so: a reset, mostly.
    Io(io::Error),
    /// Nothing came in for this long.
    Silent(Duration),
    /// What came in is no frame.
    Garbage(DecodeError),
    /// The peer breaks a rule of the link.
    Rule(String),
}

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed => f.write_str("closed"),
            Self::Ended => f.write_str("the peer closed it"),
            Self::Io(error) => write!(f, "{error}"),
            Self::Silent(silence) => write!(f, "nothing was heard for {} ms", silence.as_millis()),
            Self::Garbage(error) => write!(f, "what came in is no frame: {error}"),
            Self::Rule(text) => f.write_str(text),
        }
    }
}

impl From<DecodeError> for Lost {
    fn from(error: DecodeError) -> Self {
        Self::Garbage(error)
    }
}

/// A frame as it came in, with the right to hold its bytes until it is delivered.
#[derive(Debug)]
pub(crate) struct RawFrame {
    pub(crate) prefix: Prefix,
    pub(crate) prefix_bytes: Bytes,
    pub(crate) header: Bytes,
    pub(crate) bulk: Bytes,
    /// None for frames of the link, which are small and not queued.
    pub(crate) permit: Option<OwnedSemaphorePermit>,
}

/// How long silence may last, and how often the peer should have spoken meanwhile.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    pub(crate) silence: Duration,
    pub(crate) keepalive: Duration,
}

/// The receiving end of a connection.
pub(crate) struct FrameReader<R: Runtime, S> {
    ear: Ear<R, S>,
    /// Read ahead; stays empty on a bulk connection.
    buffer: BytesMut,
    read_ahead: usize,
}

impl<R: Runtime, S: AsyncRead + Unpin> FrameReader<R, S> {
    /// `read_ahead`: whether frames are small and many. Where they are not, bulk goes from the socket
    /// into its own buffer, and prefix and header cost a call each.
    pub(crate) fn new(
        runtime: R,
        stream: S,
        read_ahead: bool,
        closed: watch::Receiver<Option<String>>,
        patience: Patience,
    ) -> Self {
        let read_ahead = if read_ahead { READ_AHEAD_BYTES } else { 0 };
        let ear = Ear::new(runtime, stream, closed, patience);
        Self { ear, buffer: BytesMut::with_capacity(read_ahead), read_ahead }
    }

    /// The next frame. Before room for it is made, it is held against the limits and waits until
    /// `budget` has room: nothing is read meanwhile, and TCP holds the peer back.
    ///
    /// # Errors
    /// [`Lost`]: the connection is over.
    pub(crate) async fn frame(&mut self, budget: &Arc<Semaphore>) -> Result<RawFrame, Lost> {
        let prefix_bytes = self.exactly(PREFIX_BYTES).await?;
        let prefix = Prefix::parse(&prefix_bytes)?;
        let permit = if prefix.kind >= LINK_KIND_MIN {
            if prefix.header_len > LINK_FRAME_BYTES_MAX || prefix.bulk_len > 0 {
                return Err(DecodeError::Invalid { what: "length of a link frame" }.into());
            }
            None
        } else {
            let cost = prefix.header_len + prefix.bulk_len + FRAME_COST;
            Some(self.ear.permit(budget, cost).await?)
        };
        let header = self.exactly(prefix.header_len).await?;
        let bulk = self.exactly(prefix.bulk_len).await?;
        Ok(RawFrame { prefix, prefix_bytes, header, bulk, permit })
    }

    /// This many bytes, in a buffer of their own.
    async fn exactly(&mut self, count: usize) -> Result<Bytes, Lost> {
        while self.buffer.len() < count && count <= self.read_ahead {
            self.buffer.reserve(self.read_ahead - self.buffer.len());
            self.ear.some(&mut self.buffer).await?;
        }
        // What was read ahead is copied out: control frames are small, and the log keeps slices of
        // them, which would else hold the whole buffer. Bulk is never read ahead.
        let ahead = self.buffer.len().min(count);
        let mut out = BytesMut::with_capacity(count);
        out.put_slice(&self.buffer[..ahead]);
        self.buffer.advance(ahead);
        while out.len() < count {
            let left = count - out.len();
            self.ear.some(&mut (&mut out).limit(left)).await?;
        }
        Ok(out.freeze())
    }
}

/// Reads, and notices that nothing comes.
struct Ear<R: Runtime, S> {
    runtime: R,
    stream: S,
    closed: watch::Receiver<Option<String>>,
    patience: Patience,
    heard: Instant,
    /// Fires when silence may have lasted too long; moved on when it fires, not at each read.
    timer: Pin<Box<dyn Future<Output = ()> + Send>>,
    timer_at: Instant,
    /// Whether this silence was given a second look.
    granted: bool,
}

impl<R: Runtime, S: AsyncRead + Unpin> Ear<R, S> {
    fn new(
        runtime: R,
        stream: S,
        closed: watch::Receiver<Option<String>>,
        patience: Patience,
    ) -> Self {
        let heard = runtime.now();
        let timer_at = heard + patience.silence;
        let timer = Box::pin(runtime.sleep_until(timer_at));
        Self { runtime, stream, closed, patience, heard, timer, timer_at, granted: false }
    }

    /// Append what the socket has; at least one byte.
    async fn some<B: BufMut>(&mut self, into: &mut B) -> Result<(), Lost> {
        loop {
            // What has arrived is read before silence is judged.
            let read = tokio::select! {
                biased;
                _ = self.closed.wait_for(Option::is_some) => return Err(Lost::Closed),
                read = self.stream.read_buf(into) => Some(read.map_err(Lost::Io)?),
                () = &mut self.timer => None,
            };
            match read {
                Some(0) => return Err(Lost::Ended),
                Some(_) => {
                    self.heard = self.runtime.now();
                    self.granted = false;
                    return Ok(());
                }
                None => self.judge_silence()?,
            }
        }
    }

    fn judge_silence(&mut self) -> Result<(), Lost> {
        let now = self.runtime.now();
        let dead_at = self.heard + self.patience.silence;
        let next = if now < dead_at {
            dead_at
        } else if now.since(self.timer_at) > self.patience.keepalive && !self.granted {
            // The timer itself is late: it was us who stood still (stopped, or short of processors).
            // What the peer has said meanwhile is about to be seen.
            self.granted = true;
            now + self.patience.keepalive * 2
        } else {
            return Err(Lost::Silent(now.since(self.heard)));
        };
        self.timer = Box::pin(self.runtime.sleep_until(next));
        self.timer_at = next;
        Ok(())
    }

    async fn permit(
        &mut self,
        budget: &Arc<Semaphore>,
        cost: usize,
    ) -> Result<OwnedSemaphorePermit, Lost> {
        let cost = u32::try_from(cost).expect("a frame is far below 4 GiB");
        if let Ok(permit) = budget.clone().try_acquire_many_owned(cost) {
            return Ok(permit);
        }
        let permit = tokio::select! {
            biased;
            _ = self.closed.wait_for(Option::is_some) => return Err(Lost::Closed),
            permit = budget.clone().acquire_many_owned(cost) => permit,
        };
        // Nobody listened meanwhile: that was our silence, not the peer's.
        self.heard = self.runtime.now();
        permit.map_err(|_| Lost::Closed)
    }
}

/// Write pieces, many with one call.
///
/// # Errors
/// The stream's.
pub(crate) async fn write_all<S: AsyncWrite + Unpin>(
    stream: &mut S,
    mut pieces: VecDeque<Bytes>,
) -> io::Result<()> {
    while !pieces.is_empty() {
        let slices: Vec<IoSlice<'_>> =
            pieces.iter().take(WRITE_PIECES).map(|piece| IoSlice::new(piece)).collect();
        let mut written = stream.write_vectored(&slices).await?;
        if written == 0 && slices.iter().any(|slice| !slice.is_empty()) {
            return Err(io::ErrorKind::WriteZero.into());
        }
        while let Some(piece) = pieces.front_mut() {
            if written < piece.len() {
                piece.advance(written);
                break;
            }
            written -= piece.len();
            pieces.pop_front();
        }
    }
    stream.flush().await
}
