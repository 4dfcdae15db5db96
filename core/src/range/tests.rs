//! Tests of the range: against a naive model, codecs against mutated bytes, sessions, listings.

mod codecs;
mod levels;
mod model;
#[allow(clippy::cast_possible_truncation, reason = "numbers in tests are small")]
mod pages;
mod random;
mod scripted;
mod support;
