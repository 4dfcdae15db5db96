//! Why nothing could be measured, for the person who wanted to.

use std::fmt;
use std::io;
use std::path::PathBuf;

use super::client::answer::Failure;

/// What ends a `trine bench` before its results.
#[derive(Debug)]
pub enum BenchError {
    /// An option cannot be meant as it was given.
    Option(String),
    /// The endpoint cannot be used at all.
    Endpoint {
        /// Its URL.
        endpoint: String,
        /// What went wrong, and what to do.
        what: String,
    },
    /// What was to be read, listed or deleted could not be written first.
    Prepare {
        /// The object.
        key: String,
        /// What the last attempt said.
        what: String,
    },
    /// A process that was to be watched is not there.
    Server(String),
    /// Results could not be written.
    Write(PathBuf, io::Error),
    /// The operating system refuses a thread or a signal handler.
    System(io::Error),
    /// A part of this program has ended unexpectedly.
    Broken(String),
}

impl BenchError {
    /// What it means that the first request, to the bucket, failed so.
    pub(crate) fn of_first(endpoint: &str, bucket: &str, failure: &Failure) -> Self {
        let advice = match failure {
            Failure::Connect(_) => "nobody answers there: is the server running?",
            Failure::Timeout => "it accepts connections, and does not answer",
            Failure::Tls(_) => "does it speak https there, and is its CA known? see --ca-bundle",
            Failure::Broken(_) => "does it speak S3 over http there (not https)?",
            Failure::Refused { code, status, .. } => match (code.as_deref(), status) {
                (Some("InvalidAccessKeyId"), _) => {
                    "it does not know this access key: see --access-key, AWS_ACCESS_KEY_ID"
                }
                (Some("SignatureDoesNotMatch"), _) => {
                    "the secret key is wrong: see --secret-key, AWS_SECRET_ACCESS_KEY"
                }
                (Some("AuthorizationHeaderMalformed"), _) => "is the region right? see --region",
                (Some("RequestTimeTooSkewed"), _) => "this machine's clock is wrong, or its own",
                (Some("NoSuchBucket"), _) => "the bucket is missing: --create-bucket true makes it",
                (Some("AccessDenied"), _) | (None, 403) => "this key may not use the bucket",
                (None, _) => "is this an S3 endpoint?",
                _ => "the bucket cannot be used",
            },
            Failure::Wrong(_) | Failure::Stopped => "the answer is not S3's",
        };
        let what = format!("bucket {bucket}: {failure}; {advice}");
        Self::Endpoint { endpoint: endpoint.to_owned(), what }
    }
}

impl fmt::Display for BenchError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Option(what) => out.write_str(what),
            Self::Endpoint { endpoint, what } => write!(out, "{endpoint}: {what}"),
            Self::Prepare { key, what } => {
                write!(out, "cannot write what is to be measured: put {key:?}: {what}")
            }
            Self::Server(what) => write!(out, "--server-pid: {what}"),
            Self::Write(path, error) => write!(out, "--json {}: {error}", path.display()),
            Self::System(error) => write!(out, "the operating system refuses: {error}"),
            Self::Broken(what) => write!(out, "a worker has ended: {what}"),
        }
    }
}

impl std::error::Error for BenchError {}
