//! The oracles: what clients saw, and whether a correct store could have shown it.
//!
//! They share no code with what they check. [`register`] decides linearizability per key,
//! [`listing`] what a page must show, [`agreement`] whether replicas hold the same state,
//! [`redundancy`] whether all copies are there, [`custody`] whether stores keep what they acknowledged;
//! [`ledger`] whether the log's entries come to what they say, [`promises`] whether machines keep to what they tell
//! each other; [`history`] collects what the others read.

pub mod agreement;
pub mod custody;
pub mod examine;
pub mod history;
pub mod ledger;
pub mod listing;
pub mod promises;
pub mod redundancy;
pub mod register;
