//! Consensus under test: what must always hold ([`ghost`]), a search for runs in which it does not
//! ([`explorer`]), and whether these would find mistakes ([`gate`]).

pub mod explorer;
pub mod gate;
pub mod ghost;
pub(crate) mod plain;
