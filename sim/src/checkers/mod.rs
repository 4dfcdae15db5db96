//! The oracles: what clients saw, and whether a correct store could have shown it.
//!
//! They share no code with what they check. [`register`] decides linearizability per key,
//! [`listing`] what a page must show, [`agreement`] whether replicas hold the same state,
//! [`redundancy`] whether all copies are there; [`history`] collects what the others read.

pub mod agreement;
pub mod history;
pub mod listing;
pub mod redundancy;
pub mod register;
