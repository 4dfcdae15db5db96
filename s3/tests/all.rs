//! The S3 service as clients see it. One binary, since to build it takes longer than all its tests.

#![allow(clippy::unwrap_used, reason = "a test's helpers outside of its functions")]

mod copies;
mod curl;
mod front;
mod http;
mod multipart;
mod mutation;
mod refusal;
mod signatures;
mod support;
