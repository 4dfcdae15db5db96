//! S3 over HTTP: requests in, core requests out, and back.
//!
//! A request passes three layers. [`outer`] works on plain HTTP: limits, headers that are under no
//! signature, `aws-chunked` framing, request ids, the last word on every error. Then `s3s` verifies
//! the signature and unwraps signed payloads. Then `ops` reads the operation, asks the gateway
//! through [`front`], and writes the answer.
//!
//! The operations hang on s3s's `S3Route`, not on its typed `S3` trait: the typed layer answers 400
//! to malformed `Range` and date headers, which Amazon ignores, and cannot write a listing with
//! control characters. Those headers are often signed, so that nothing in front of s3s may mend
//! them. What has no operation here falls through to the typed trait, which says 501.
//!
//! The service runs on any executor: it neither spawns nor sleeps, and reads no clock but through
//! s3s, which compares signature times with the wall clock.

pub mod config;
mod digest;
mod domains;
mod error;
pub mod front;
mod ops;
pub mod outer;
mod room;
mod text;
mod transfer;
mod xml;

pub use config::{Key, Keys, S3Config, StaticKeys};
pub use domains::{DomainError, Domains};
pub use outer::{S3Http, ServeError, service};
pub use room::Room;
/// The body of a response. Its error type converts into a boxed error, as hyper wants it.
pub use s3s::Body as ResponseBody;
