//! The gateway's session: opened at the start, kept alive by beats, opened anew when fenced.
//!
//! ```text
//! Idle ──start──▶ Opening ──opened──▶ Live ──fenced──▶ Opening (next nonce)
//! ```

use core::fmt;

use crate::ids::{LogIndex, MapEpoch, SessionId};
use crate::level::Level;
use crate::message::Answer;
use crate::range::command::{Outcome, Rejection};
use crate::time::Instant;

use super::calls::Failure;

/// Where the session stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Session {
    /// The machine was not started.
    Idle,
    /// The cluster is asked for the `attempt`-th session of this life.
    Opening {
        /// Counts from 0.
        attempt: u64,
    },
    /// The session is live, as far as the gateway knows.
    Live {
        /// Counts from 0.
        attempt: u64,
        /// Which.
        id: SessionId,
        /// When the next beat goes out.
        beat_at: Instant,
        /// Whether a beat waits for its answer.
        beating: bool,
    },
}

impl fmt::Display for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Idle => f.write_str("idle"),
            Self::Opening { attempt } => write!(f, "opening (attempt {attempt})"),
            Self::Live { id, .. } => id.fmt(f),
        }
    }
}

/// What an answer to the session's own calls means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// A session has been opened.
    Opened(SessionId),
    /// The session lives.
    Live {
        /// The cluster map's present epoch.
        map: MapEpoch,
        /// What the leader has applied.
        applied: LogIndex,
    },
    /// The cluster is at a level that this gateway does not speak.
    Foreign(Level),
    /// The session is over, or could not be opened under this nonce.
    Over,
}

/// The nonce of an attempt: those of one life differ, and other lives have other first nonces.
pub(super) fn nonce(first: u128, attempt: u64) -> u128 {
    first.wrapping_add(u128::from(attempt))
}

/// Judge an answer to the session's own calls.
pub(super) fn judge(result: &Result<Answer, Failure>) -> Verdict {
    match result {
        Ok(Answer::Applied(Outcome::SessionOpened(id))) => Verdict::Opened(*id),
        Ok(Answer::Beat { live: true, map, applied }) => {
            Verdict::Live { map: *map, applied: *applied }
        }
        Ok(Answer::Applied(Outcome::Rejected(Rejection::LevelForeign { level }))) => {
            Verdict::Foreign(*level)
        }
        _ => Verdict::Over,
    }
}
