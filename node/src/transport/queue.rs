//! What waits to be sent on one connection: bounded in frames and in bytes.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use trine_core::wire::Frame;

/// Bytes that wait on a control connection: 70 ms of a gigabit, which is how long a heartbeat may
/// stand behind appends. While less than half of it waits, a frame of any size is taken.
pub const CONTROL_QUEUE_BYTES_MAX: usize = 8 << 20;
/// Frames that wait on a control connection.
pub const CONTROL_QUEUE_FRAMES_MAX: usize = 8192;
/// Bytes kept back on a control connection for frames of at most [`SMALL_FRAME_BYTES`], so that
/// heartbeats still go when appends have filled the rest.
pub const CONTROL_RESERVE_BYTES: usize = 1 << 20;
/// Frames kept back, likewise.
pub const CONTROL_RESERVE_FRAMES: usize = 1024;
/// Bytes that wait on a bulk connection: 32 chunks of 1 MiB.
pub const BULK_QUEUE_BYTES_MAX: usize = 32 << 20;
/// Frames that wait on a bulk connection.
pub const BULK_QUEUE_FRAMES_MAX: usize = 1024;
/// The largest frame that may use the reserve: heartbeats, votes, acknowledgements, refusals.
pub const SMALL_FRAME_BYTES: usize = 1024;

/// Frames taken out for one write.
const BATCH_FRAMES: usize = 64;
/// Bytes taken out for one write (or one frame, if it is larger).
const BATCH_BYTES: usize = 1 << 20;

/// How much may wait.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) bytes: usize,
    pub(crate) frames: usize,
    pub(crate) reserve_bytes: usize,
    pub(crate) reserve_frames: usize,
}

impl Limits {
    pub(crate) const CONTROL: Self = Self {
        bytes: CONTROL_QUEUE_BYTES_MAX,
        frames: CONTROL_QUEUE_FRAMES_MAX,
        reserve_bytes: CONTROL_RESERVE_BYTES,
        reserve_frames: CONTROL_RESERVE_FRAMES,
    };
    pub(crate) const BULK: Self = Self {
        bytes: BULK_QUEUE_BYTES_MAX,
        frames: BULK_QUEUE_FRAMES_MAX,
        reserve_bytes: 0,
        reserve_frames: 0,
    };
}

/// The queue was full; the frame was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Full;

/// A queue with many senders and one writer.
#[derive(Debug)]
pub(crate) struct SendQueue {
    limits: Limits,
    state: Mutex<State>,
    ready: Notify,
}

#[derive(Debug, Default)]
struct State {
    frames: VecDeque<Frame>,
    bytes: usize,
    /// The last ping to answer. Earlier ones need no answer any more.
    pong: Option<u64>,
}

/// What to write next.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    pub(crate) frames: Vec<Frame>,
    pub(crate) pong: Option<u64>,
}

impl SendQueue {
    pub(crate) fn new(limits: Limits) -> Self {
        Self { limits, state: Mutex::default(), ready: Notify::new() }
    }

    /// Add a frame at the end.
    ///
    /// # Errors
    /// [`Full`] if there is no room: the newest is refused, because what waits is nearer to its
    /// receiver, and order is kept.
    pub(crate) fn push(&self, frame: Frame) -> Result<(), Full> {
        let len = frame.head.len() + frame.bulk.len();
        let (mut bytes_max, mut frames_max) = (self.limits.bytes, self.limits.frames);
        if len <= SMALL_FRAME_BYTES {
            bytes_max += self.limits.reserve_bytes;
            frames_max += self.limits.reserve_frames;
        }
        let mut state = self.lock();
        let fits = state.bytes <= self.limits.bytes / 2 || state.bytes + len <= bytes_max;
        if !fits || state.frames.len() >= frames_max {
            return Err(Full);
        }
        state.bytes += len;
        state.frames.push_back(frame);
        drop(state);
        self.ready.notify_one();
        Ok(())
    }

    /// Answer this ping, before all that waits.
    pub(crate) fn pong(&self, number: u64) {
        self.lock().pong = Some(number);
        self.ready.notify_one();
    }

    /// What to write next, at once; empty if nothing waits. What was taken is no longer counted.
    pub(crate) fn take(&self) -> Batch {
        let mut state = self.lock();
        let mut batch = Batch { frames: Vec::new(), pong: state.pong.take() };
        let mut bytes = 0;
        while let Some(frame) = state.frames.front() {
            let len = frame.head.len() + frame.bulk.len();
            let full = batch.frames.len() >= BATCH_FRAMES || bytes + len > BATCH_BYTES;
            if full && !batch.frames.is_empty() {
                break;
            }
            bytes += len;
            batch.frames.extend(state.frames.pop_front());
        }
        state.bytes -= bytes;
        batch
    }

    /// Ends when something was added since it last ended.
    pub(crate) async fn ready(&self) {
        self.ready.notified().await;
    }

    /// Bytes that wait.
    pub(crate) fn bytes(&self) -> usize {
        self.lock().bytes
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic in between leaves a count that is off, at worst.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Batch {
    pub(crate) fn is_empty(&self) -> bool {
        self.frames.is_empty() && self.pong.is_none()
    }
}
