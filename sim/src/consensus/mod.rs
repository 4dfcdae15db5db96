//! Consensus under test: what must always hold ([`ghost`]), and a search for runs in which it does
//! not ([`explorer`]).

pub mod explorer;
pub mod ghost;
pub(crate) mod plain;
