//! Every way to sign and every checksum, end to end over real HTTP: what is right is stored as it was
//! sent, and what is not stores nothing.

use crate::support::client::{Answer, Plan, answer, exchange, memory, plan};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use crc_fast::CrcAlgorithm;
use sha1::{Digest, Sha1};
use sha2::Sha256;
use trine_s3::S3Http;

const DATA: &[u8] = b"some bytes, in two chunks";

async fn with_bucket() -> S3Http {
    let service = memory();
    assert_eq!(plan("PUT", "/bucket", "").expect(&service).await.status, 200);
    service
}

async fn tell(service: &S3Http, bytes: &[u8]) -> Answer {
    answer(&exchange(service, bytes).await).expect("an answer")
}

async fn is_stored(service: &S3Http, expected: &[u8]) {
    let get = plan("GET", "/bucket/k", "").expect(service).await;
    assert_eq!((get.status, get.body.as_slice()), (200, expected));
    assert_eq!(plan("DELETE", "/bucket/k", "").expect(service).await.status, 204);
}

async fn is_refused(service: &S3Http, bytes: &[u8], status: u16, code: &str) {
    let refused = tell(service, bytes).await;
    let told = (refused.status, refused.element("Code"));
    assert_eq!(told, (status, Some(code.to_owned())), "{}", refused.text());
    assert_eq!(plan("HEAD", "/bucket/k", "").expect(service).await.status, 404);
}

fn put() -> Plan {
    plan("PUT", "/bucket/k", "")
}

/// The header or trailer of each checksum of `DATA`, and its value.
fn checksums() -> Vec<(&'static str, String)> {
    let crc = |algorithm, width: usize| {
        let sum = crc_fast::checksum(algorithm, DATA).to_be_bytes();
        STANDARD.encode(&sum[8 - width..])
    };
    vec![
        ("x-amz-checksum-crc32", crc(CrcAlgorithm::Crc32IsoHdlc, 4)),
        ("x-amz-checksum-crc32c", crc(CrcAlgorithm::Crc32Iscsi, 4)),
        ("x-amz-checksum-crc64nvme", crc(CrcAlgorithm::Crc64Nvme, 8)),
        ("x-amz-checksum-sha1", STANDARD.encode(Sha1::digest(DATA))),
        ("x-amz-checksum-sha256", STANDARD.encode(Sha256::digest(DATA))),
    ]
}

/// The same with another value of the same length.
fn spoilt(value: &str) -> String {
    let first = if value.starts_with('A') { "B" } else { "A" };
    format!("{first}{}", &value[1..])
}

/// `bytes` with the last occurrence of `from` replaced by `to`, which is as long.
fn altered(bytes: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let at = bytes.windows(from.len()).rposition(|window| window == from).unwrap();
    let mut out = bytes.to_vec();
    out[at..at + from.len()].copy_from_slice(to);
    out
}

#[tokio::test]
async fn checksums_in_headers_are_verified_and_told_back() {
    let service = with_bucket().await;
    for (name, value) in checksums() {
        let answer = put().header(name, &value).body(DATA).expect(&service).await;
        assert_eq!((answer.status, answer.header(name)), (200, Some(value.as_str())), "{name}");
        let head = plan("HEAD", "/bucket/k", "").header("x-amz-checksum-mode", "ENABLED");
        assert_eq!(head.expect(&service).await.header(name), Some(value.as_str()));
        is_stored(&service, DATA).await;
        let wrong = put().header(name, &spoilt(&value)).body(DATA).bytes();
        is_refused(&service, &wrong, 400, "BadDigest").await;
    }
}

#[tokio::test]
async fn checksums_in_unsigned_trailers_are_verified_and_told_back() {
    let service = with_bucket().await;
    for (name, value) in checksums() {
        let right = put().chunked(DATA, DATA.len(), Some((name, &value)));
        let answer = right.expect(&service).await;
        assert_eq!((answer.status, answer.header(name)), (200, Some(value.as_str())), "{name}");
        is_stored(&service, DATA).await;
        let wrong = put().chunked(DATA, DATA.len(), Some((name, &spoilt(&value)))).bytes();
        is_refused(&service, &wrong, 400, "BadDigest").await;
    }
}

#[tokio::test]
async fn signed_chunks_are_stored_and_altered_ones_are_not() {
    let service = with_bucket().await;
    let right = put().signed_chunks(&[&DATA[..10], &DATA[10..]], None).bytes();
    assert_eq!(tell(&service, &right).await.status, 200);
    is_stored(&service, DATA).await;
    let other_data = altered(&right, b"two chunks", b"2wo chunks");
    is_refused(&service, &other_data, 403, "SignatureDoesNotMatch").await;
    let mut swapped = put().signed_chunks(&[b"one", b"two"], None).bytes();
    for (from, to) in [(b"two", b"xxx"), (b"one", b"two"), (b"xxx", b"one")] {
        swapped = altered(&swapped, from, to);
    }
    is_refused(&service, &swapped, 403, "SignatureDoesNotMatch").await;
    // The last chunk, which is empty, and its signature are missing.
    let head = right.windows(4).position(|window| window == b"\r\n\r\n").unwrap() + 4;
    let cut = &right[..right.len() - "0;chunk-signature=\r\n\r\n".len() - 64];
    let announced = (right.len() - head).to_string();
    let width = announced.len();
    let shorter = format!("content-length: {:0width$}", cut.len() - head);
    let cut = altered(cut, format!("content-length: {announced}").as_bytes(), shorter.as_bytes());
    is_refused(&service, &cut, 400, "IncompleteBody").await;
}

#[tokio::test]
async fn signed_trailers_are_verified_twice_by_signature_and_by_checksum() {
    let service = with_bucket().await;
    for (name, value) in checksums() {
        let chunks: [&[u8]; 2] = [&DATA[..10], &DATA[10..]];
        let right = put().signed_chunks(&chunks, Some((name, &value))).bytes();
        let answer = tell(&service, &right).await;
        assert_eq!((answer.status, answer.header(name)), (200, Some(value.as_str())), "{name}");
        is_stored(&service, DATA).await;
        let wrong = spoilt(&value);
        let unsigned = altered(&right, value.as_bytes(), wrong.as_bytes());
        is_refused(&service, &unsigned, 403, "SignatureDoesNotMatch").await;
        let signed = put().signed_chunks(&chunks, Some((name, &wrong))).bytes();
        is_refused(&service, &signed, 400, "BadDigest").await;
    }
}

#[tokio::test]
async fn presigned_requests_do_what_was_signed_and_nothing_else() {
    let service = with_bucket().await;
    let upload = put().body(DATA).presigned(600);
    assert_eq!(tell(&service, &upload).await.status, 200);
    let get = tell(&service, &plan("GET", "/bucket/k", "").presigned(600)).await;
    assert_eq!((get.status, get.body.as_slice()), (200, DATA));
    is_stored(&service, DATA).await;
    let typed = put().header("content-type", "text/x-test").body(DATA).presigned(600);
    assert_eq!(tell(&service, &typed).await.status, 200);
    let get = plan("GET", "/bucket/k", "").expect(&service).await;
    assert_eq!(get.header("content-type"), Some("text/x-test"));
    is_stored(&service, DATA).await;

    let other_type = altered(&typed, b"text/x-test", b"text/y-test");
    is_refused(&service, &other_type, 403, "SignatureDoesNotMatch").await;
    let other_key =
        altered(&plan("PUT", "/bucket/a", "").body(DATA).presigned(600), b"/a?", b"/k?");
    is_refused(&service, &other_key, 403, "SignatureDoesNotMatch").await;
    let longer = altered(&upload, b"Expires=600", b"Expires=900");
    is_refused(&service, &longer, 403, "SignatureDoesNotMatch").await;
    let unsigned_header = put().unsigned("x-amz-meta-a", "1").body(DATA).presigned(600);
    is_refused(&service, &unsigned_header, 403, "AccessDenied").await;
}
