//! Tests of the range: against a naive model, codecs against mutated bytes, sessions, listings.

mod codecs;
mod model;
mod pages;
mod random;
mod scripted;
mod support;
