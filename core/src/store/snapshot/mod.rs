//! Catching up by state instead of log: one replica holds its table as it was after some entry, the
//! other pulls it page by page and puts it into place by one journal record.
//!
//! ```text
//! leader                                         follower
//! NeedSnapshot ─ freeze ─ view of runs ≤ s
//!        ── consensus Snapshot { s, offer } ──▶  InstallSnapshot
//!        ◀───────────── Pages { from, window } ─ (only rows newer than its table, if that is sound)
//!        ── Rows { from, to, … } ─────────────▶  staged runs, hash of the rows
//!                                                … last page: hashes compared, edit, installed
//! ```
//!
//! A replica whose table is lost, but not its log, asks for a state by itself ([`taker`]).
//! Nothing is taken over by halves: a crash, a lost giver or a wrong hash leaves the old state.

mod giver;
mod taker;

pub(super) use giver::{Giver, gone};
pub(super) use taker::Taker;
