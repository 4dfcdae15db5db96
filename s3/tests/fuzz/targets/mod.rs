//! The targets: each takes any bytes, makes requests of them, and asserts what must hold for the answers. `cargo
//! fuzz` calls them from `s3/fuzz/`, and `main.rs` beside this folder replays the corpora under `cargo test`.

#![allow(clippy::unwrap_used, reason = "a test's helpers outside of its functions")]
#![allow(dead_code, reason = "each fuzzer uses one target of them")]

use std::future::{Future, poll_fn};
use std::pin::pin;

use http_body_util::BodyExt;
use trine_s3::S3Http;

mod chunked;
mod documents;
mod http1;
mod requests;
mod signatures;
#[path = "../../support/mod.rs"]
mod support;
#[path = "../../../../core/tests/fuzz/target.rs"]
mod target;

use support::client::{Signed, memory, plan};
use support::pieces::{Gauge, Pieces};
pub(crate) use target::Target;

/// Memory that any input may take: the gateway with what it keeps, the service, a connection, and a body of
/// the largest size that a target makes; twice, where two are compared.
const FIXED: usize = 6 << 20;
/// And for each byte of input: documents are taken apart, and answered.
const PER_BYTE: usize = 256;

const fn usual(
    name: &'static str,
    run: fn(&[u8]) -> bool,
    seeds: fn() -> Vec<Vec<u8>>,
    passing_percent_min: u64,
) -> Target {
    Target { name, run, seeds, per_byte: PER_BYTE, fixed: FIXED, passing_percent_min }
}

pub(crate) const TARGETS: [Target; 5] = [
    usual("http", http1::run, http1::seeds, 12),
    usual("chunked", chunked::run, chunked::seeds, 10),
    usual("documents", documents::run, documents::seeds, 2),
    // None may pass.
    usual("signatures", signatures::run, signatures::seeds, 0),
    usual("requests", requests::run, requests::seeds, 12),
];

/// The target of this name.
pub(crate) fn target(name: &str) -> Target {
    TARGETS.into_iter().find(|target| target.name == name).expect("it is in the list")
}

/// Where tasks can be spawned.
fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

/// A service with the bucket `bucket` in which is `k`, ten bytes.
async fn with_object() -> S3Http {
    let service = memory();
    for put in [plan("PUT", "/bucket", ""), plan("PUT", "/bucket/k", "").body(b"0123456789")] {
        let told = tell(&service, &put.sign(), Some(put.sign().body)).await;
        assert_eq!(told.status, 200);
    }
    service
}

/// An upload of `k` with its first part.
async fn with_upload(service: &S3Http) -> String {
    let create = plan("POST", "/bucket/k", "uploads=").sign();
    let text = tell(service, &create, None).await.text;
    let (_, rest) = text.split_once("<UploadId>").unwrap();
    let upload = rest.split_once('<').unwrap().0.to_owned();
    let part = plan("PUT", "/bucket/k", &format!("partNumber=1&uploadId={upload}")).body(b"part");
    let part = part.sign();
    assert_eq!(tell(service, &part, Some(part.body.clone())).await.status, 200);
    upload
}

/// An answer.
struct Told {
    status: u16,
    /// What its document says, if it is an error's.
    code: String,
    text: String,
    bytes: Vec<u8>,
    /// The most bytes of the request's body that were held.
    held: usize,
}

/// Polls of a request that are no sign of a loop: some for each piece of its body, and some.
const POLLS_PER_PIECE: usize = 24;

/// Ask the service; no network is between.
async fn tell(
    service: &S3Http,
    signed: &Signed,
    pieces: impl IntoIterator<Item = Vec<u8>>,
) -> Told {
    let gauge = Gauge::default();
    let mut request = http::Request::builder().method(signed.method).uri(&signed.target);
    for (name, value) in &signed.headers {
        request = request.header(name, value);
    }
    let pieces: Vec<Vec<u8>> = pieces.into_iter().collect();
    let bytes: usize = pieces.iter().map(Vec::len).sum();
    let polls_max = 200 + POLLS_PER_PIECE * (pieces.len() + bytes / 1024);
    let request = request.body(Pieces::new(pieces, &gauge)).expect("a target makes fair headers");
    let answered = async {
        let response = service.serve(request).await.expect("an answer");
        let (parts, body) = response.into_parts();
        (parts, body.collect().await.map(|body| body.to_bytes()).unwrap_or_default())
    };
    let (parts, body) = counted(answered, polls_max).await;
    let text = String::from_utf8_lossy(&body).into_owned();
    let code = text.split_once("<Code>").and_then(|(_, rest)| rest.split_once('<'));
    let code = code.map_or(String::new(), |(code, _)| code.to_owned());
    let status = parts.status.as_u16();
    assert!(status != 500, "{} {}: {text}", signed.method, signed.target);
    Told { status, code, text, bytes: body.to_vec(), held: gauge.peak() }
}

/// A future that must be ready after so many polls.
async fn counted<T>(future: impl Future<Output = T>, polls_max: usize) -> T {
    let mut future = pin!(future);
    let mut polls = 0;
    poll_fn(move |context| {
        polls += 1;
        assert!(polls <= polls_max, "{polls_max} polls and no answer: it loops");
        future.as_mut().poll(context)
    })
    .await
}
