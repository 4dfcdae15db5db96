//! Bodies on their way in: chunks of any size, signed or not, trailers, and clients that ask first.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use crc_fast::CrcAlgorithm;
use sha1::Sha1;
use sha2::{Digest, Sha256};
use trine_core::effects::GatewayEvent;
use trine_core::request::{ApiError, Request};
use trine_s3::S3Http;
use trine_s3::front::{Front, FrontCall, FrontReply};

use super::{is_error, with_bucket};
use crate::support::client::{
    Answer, Plan, UNSIGNED, UNSIGNED_CHUNKS, answer, exchange, plan, service,
};

fn put() -> Plan {
    plan("PUT", "/bucket/k", "")
}

fn data(length: usize) -> Vec<u8> {
    (0..length).map(|at| u8::try_from((at * 7 + at / 1009) % 256).unwrap()).collect()
}

async fn tell(service: &S3Http, bytes: &[u8]) -> Answer {
    answer(&exchange(service, bytes).await).expect("an answer")
}

async fn is_stored(service: &S3Http, expected: &[u8]) {
    let get = plan("GET", "/bucket/k", "").expect(service).await;
    assert!(get.status == 200 && get.body == expected, "{} of {}", get.body.len(), expected.len());
    assert_eq!(get.header("content-encoding"), None);
    assert_eq!(plan("DELETE", "/bucket/k", "").expect(service).await.status, 204);
}

async fn is_refused(service: &S3Http, bytes: &[u8], status: u16, code: &str) {
    is_error(&tell(service, bytes).await, status, code);
    assert_eq!(plan("HEAD", "/bucket/k", "").expect(service).await.status, 404);
}

/// Each algorithm's header or trailer and its value for `data`.
fn checksums(data: &[u8]) -> Vec<(&'static str, String)> {
    let crc = |algorithm, width: usize| {
        let sum = crc_fast::checksum(algorithm, data).to_be_bytes();
        STANDARD.encode(&sum[8 - width..])
    };
    vec![
        ("x-amz-checksum-crc32", crc(CrcAlgorithm::Crc32IsoHdlc, 4)),
        ("x-amz-checksum-crc32c", crc(CrcAlgorithm::Crc32Iscsi, 4)),
        ("x-amz-checksum-crc64nvme", crc(CrcAlgorithm::Crc64Nvme, 8)),
        ("x-amz-checksum-sha1", STANDARD.encode(Sha1::digest(data))),
        ("x-amz-checksum-sha256", STANDARD.encode(Sha256::digest(data))),
    ]
}

/// Another byte there: a digit, so that a signature stays hexadecimal.
fn spoil(bytes: &mut [u8], at: usize) {
    bytes[at] = if bytes[at] == b'0' { b'1' } else { b'0' };
}

/// Where `what` stands, for the last time.
fn find(bytes: &[u8], what: &[u8]) -> usize {
    bytes.windows(what.len()).rposition(|window| window == what).expect("it is there")
}

#[tokio::test]
async fn signed_chunks_larger_than_any_buffer_are_cut_and_still_verified() {
    let service = with_bucket().await;
    let whole = data(700_001);
    // Small ones before and behind: the chains part at the first large one and stay apart.
    let cuts: [&[usize]; 5] = [
        &[700_001],
        &[65_536, 634_465],
        &[300_000, 65_536, 334_465],
        &[131_073, 568_928],
        &[1, 700_000],
    ];
    for sizes in cuts {
        let mut rest = whole.as_slice();
        let mut chunks = Vec::new();
        for size in sizes {
            let (chunk, behind) = rest.split_at(*size);
            chunks.push(chunk);
            rest = behind;
        }
        let right = put().signed_chunks(&chunks, None).bytes();
        let told = tell(&service, &right).await;
        assert_eq!(told.status, 200, "{sizes:?}: {}", told.text());
        is_stored(&service, &whole).await;
        let body = right.windows(4).position(|window| window == b"\r\n\r\n").unwrap() + 4;
        // One bit of any chunk's data, and of any chunk's signature.
        let mut at = body;
        for size in sizes {
            let line = right[at..].iter().position(|byte| *byte == b'\n').unwrap() + 1;
            for spoilt in [at + line + size / 2, at + line + size - 1, at + line - 10] {
                let mut wrong = right.clone();
                spoil(&mut wrong, spoilt);
                is_refused(&service, &wrong, 403, "SignatureDoesNotMatch").await;
            }
            at += line + size + 2;
        }
        // And the signature of the last, empty one.
        let mut wrong = right.clone();
        let last = wrong.len() - 8;
        spoil(&mut wrong, last);
        is_refused(&service, &wrong, 403, "SignatureDoesNotMatch").await;
    }
}

#[tokio::test]
async fn signed_trailers_behind_large_chunks_are_verified_by_signature_and_checksum() {
    let service = with_bucket().await;
    let whole = data(400_000);
    for (name, value) in checksums(&whole) {
        let right = put().signed_chunks(&[&whole], Some((name, &value))).bytes();
        let told = tell(&service, &right).await;
        assert_eq!(
            (told.status, told.header(name)),
            (200, Some(value.as_str())),
            "{}",
            told.text()
        );
        is_stored(&service, &whole).await;
        let first = if value.starts_with('A') { "B" } else { "A" };
        let wrong = format!("{first}{}", &value[1..]);
        let signed = put().signed_chunks(&[&whole], Some((name, &wrong))).bytes();
        is_refused(&service, &signed, 400, "BadDigest").await;
        let mut altered = right.clone();
        let at = find(&altered, format!("{name}:{value}").as_bytes());
        altered[at + name.len() + 1] = first.as_bytes()[0];
        is_refused(&service, &altered, 403, "SignatureDoesNotMatch").await;
        let mut unsigned = right.clone();
        let at = find(&unsigned, b"x-amz-trailer-signature:") + 30;
        spoil(&mut unsigned, at);
        is_refused(&service, &unsigned, 403, "SignatureDoesNotMatch").await;
    }
}

#[tokio::test]
async fn a_signed_body_without_its_trailer_or_end_stores_nothing() {
    let service = with_bucket().await;
    let whole = data(300_000);
    for chunks in [vec![whole.as_slice()], whole.chunks(65_536).collect::<Vec<_>>()] {
        let (name, value) = checksums(&whole).remove(0);
        let right = put().signed_chunks(&chunks, Some((name, &value)));
        let signed = right.sign();
        let trailer = find(&signed.body, name.as_bytes());
        let last = find(&signed.body, b"0;chunk-signature=");
        for (end, status, code) in [
            (trailer, 400, "MalformedTrailerError"),
            (last, 400, "IncompleteBody"),
            (last - 2, 400, "IncompleteBody"),
            (1000, 400, "IncompleteBody"),
        ] {
            let mut request = format!("PUT {} HTTP/1.1\r\nconnection: close\r\n", signed.target);
            for (name, value) in signed.headers.iter().filter(|(name, _)| name != "content-length")
            {
                request.push_str(&format!("{name}: {value}\r\n"));
            }
            request.push_str(&format!("content-length: {end}\r\n\r\n"));
            let bytes = [request.as_bytes(), &signed.body[..end]].concat();
            is_refused(&service, &bytes, status, code).await;
        }
    }
}

/// What the AWS SDK for C++ sends, and with it pyarrow: no length, aws-chunked within HTTP's chunks, a
/// trailer, and the question whether to go on.
fn pyarrow(whole: &[u8], trailer: (&str, &str), pieces: usize) -> Plan {
    let mut body = Vec::new();
    if !whole.is_empty() {
        body.extend_from_slice(format!("{:x}\r\n", whole.len()).as_bytes());
        body.extend_from_slice(whole);
        body.extend_from_slice(b"\r\n");
    }
    body.extend_from_slice(format!("0\r\n{}:{}\r\n\r\n", trailer.0, trailer.1).as_bytes());
    let pieces: Vec<&[u8]> = body.chunks(body.len().div_ceil(pieces)).collect();
    put()
        .payload(UNSIGNED_CHUNKS)
        .header("x-amz-decoded-content-length", &whole.len().to_string())
        .header("x-amz-trailer", trailer.0)
        .header("content-encoding", "aws-chunked")
        .header("content-type", "application/octet-stream")
        .unsigned("expect", "100-continue")
        .transfer_chunked(&pieces)
}

#[tokio::test]
async fn a_body_without_length_in_two_framings_with_a_trailer_is_stored() {
    let service = with_bucket().await;
    for length in [0, 1, 70_000, 300_000] {
        let whole = data(length);
        for (name, value) in checksums(&whole) {
            let right = pyarrow(&whole, (name, &value), 7);
            let raw = exchange(&service, &right.bytes()).await;
            assert!(raw.starts_with(b"HTTP/1.1 100 Continue\r\n"), "it asked");
            let told = answer(&raw).unwrap();
            assert_eq!(
                (told.status, told.header(name)),
                (200, Some(value.as_str())),
                "{}",
                told.text()
            );
            is_stored(&service, &whole).await;
        }
        let (name, _) = checksums(&whole).remove(2);
        let wrong = pyarrow(&whole, (name, "AAAAAAAAAAE="), 3);
        is_refused(&service, &wrong.bytes(), 400, "BadDigest").await;
    }
    // Cut off within: nothing is stored, whoever noticed.
    let whole = data(70_000);
    let (name, value) = checksums(&whole).remove(2);
    let bytes = pyarrow(&whole, (name, &value), 7).bytes();
    for end in [bytes.len() - 5, bytes.len() - 40, bytes.len() - 30_000] {
        exchange(&service, &bytes[..end]).await;
        assert_eq!(plan("HEAD", "/bucket/k", "").expect(&service).await.status, 404);
    }
}

#[tokio::test]
async fn trailers_that_cannot_be_verified_are_refused() {
    let service = with_bucket().await;
    let chunked = |name, value| put().chunked(b"hello", 5, Some((name, value)));
    let unknown = chunked("x-amz-checksum-xxhash64", "AAAAAAAAAAA=").bytes();
    is_refused(&service, &unknown, 400, "InvalidRequest").await;
    let two = chunked("x-amz-checksum-crc32,x-amz-checksum-sha1", "NhCmhg==").bytes();
    is_refused(&service, &two, 400, "InvalidRequest").await;
    let malformed = chunked("x-amz-checksum-crc32", "nonsense").bytes();
    is_refused(&service, &malformed, 400, "InvalidRequest").await;
    let header = put().header("x-amz-checksum-xxhash64", "AAAAAAAAAAA=").body(b"hello").bytes();
    is_refused(&service, &header, 501, "NotImplemented").await;
    let two = put().header("x-amz-checksum-crc32", "NhCmhg==");
    let two = two.header("x-amz-checksum-crc32c", "mnG7TA==").body(b"hello").bytes();
    is_refused(&service, &two, 400, "InvalidRequest").await;
    let odd = put().payload("STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD");
    let odd = odd.header("x-amz-decoded-content-length", "5").body(b"hello").bytes();
    is_refused(&service, &odd, 501, "NotImplemented").await;
    let odd = put().payload("STREAMING-SOMETHING");
    let odd = odd.header("x-amz-decoded-content-length", "5").body(b"hello").bytes();
    is_refused(&service, &odd, 403, "SignatureDoesNotMatch").await;
    let presigned = put().unsigned("x-amz-content-sha256", UNSIGNED_CHUNKS);
    let presigned = presigned.unsigned("x-amz-decoded-content-length", "5").body(b"hello");
    is_refused(&service, &presigned.presigned(60), 403, "AccessDenied").await;
}

#[tokio::test]
async fn lengths_that_are_none_are_refused() {
    let service = with_bucket().await;
    for length in ["", "-1", "x", "1e3", "99999999999999999999999999", "+5", "5 5"] {
        let put = put()
            .payload(UNSIGNED_CHUNKS)
            .header("x-amz-trailer", "x-amz-checksum-crc32")
            .header("x-amz-decoded-content-length", length)
            .body(b"5\r\nhello\r\n0\r\nx-amz-checksum-crc32:NhCmhg==\r\n\r\n");
        let told = put.expect(&service).await;
        assert!(
            told.status == 400 || (told.status == 200 && length == "+5"),
            "{length:?}: {}",
            told.text()
        );
    }
    let large = put()
        .payload(UNSIGNED_CHUNKS)
        .header("x-amz-trailer", "x-amz-checksum-crc32")
        .header("x-amz-decoded-content-length", &((5_u64 << 30) + 1).to_string())
        .body(b"");
    is_error(&large.expect(&service).await, 400, "EntityTooLarge");
}

#[tokio::test]
async fn who_asks_first_is_told_to_go_on_only_if_the_body_is_wanted() {
    let memory = with_bucket().await;
    let ask = |plan: Plan| plan.unsigned("expect", "100-continue").body(b"hello");
    let refused: Vec<(Vec<u8>, u16, &str)> = vec![
        (ask(put()).at("20200101T000000Z").bytes(), 403, "RequestTimeTooSkewed"),
        (ask(put().unsigned("x-amz-acl", "private")).bytes(), 403, "AccessDenied"),
        (ask(plan("PUT", "/missing/k", "")).bytes(), 404, "NoSuchBucket"),
        (ask(plan("PUT", "/Bad_Bucket/k", "")).bytes(), 400, "InvalidBucketName"),
        (ask(put().header("content-md5", "x")).bytes(), 400, "InvalidDigest"),
        (ask(put().header("x-amz-storage-class", "X")).bytes(), 400, "InvalidStorageClass"),
        (ask(put().header("x-amz-acl", "public-read")).bytes(), 501, "NotImplemented"),
        (ask(plan("PUT", "/bucket", "policy=")).bytes(), 501, "NotImplemented"),
        (ask(plan("PATCH", "/bucket/k", "")).bytes(), 405, "MethodNotAllowed"),
    ];
    let mut forged = ask(put()).bytes();
    let at = find(&forged, b"Signature=") + 12;
    spoil(&mut forged, at);
    let refused = refused.into_iter().chain([(forged, 403, "SignatureDoesNotMatch")]);
    for (mut bytes, status, code) in refused {
        // The client waits with its body, and for the answer.
        bytes.truncate(bytes.len() - b"hello".len());
        let raw = exchange(&memory, &bytes).await;
        assert!(!raw.starts_with(b"HTTP/1.1 100"), "{code}");
        let told = answer(&raw).expect("an answer without the body");
        is_error(&told, status, code);
        assert_eq!(told.header("connection"), Some("close"), "{code}: its body may still come");
    }
    // What the gateway refuses: full disks, and no room.
    for (error, status, code) in [
        (ApiError::StorageFull("full".to_owned()), 507, "InsufficientStorage"),
        (ApiError::SlowDown("no room".to_owned()), 503, "SlowDown"),
        (ApiError::Unavailable("zones".to_owned()), 503, "ServiceUnavailable"),
    ] {
        let (front, mut calls) = Front::new();
        let service = service(front);
        let mut bytes = ask(put()).bytes();
        bytes.truncate(bytes.len() - b"hello".len());
        let sent = tokio::spawn(async move { exchange(&service, &bytes).await });
        let Some(FrontCall::Open { replies, request: Request::Put(_), .. }) = calls.recv().await
        else {
            panic!("no request")
        };
        replies.send(FrontReply::Reply(Err(error))).unwrap();
        let raw = sent.await.unwrap();
        assert!(!raw.starts_with(b"HTTP/1.1 100"), "{code}");
        is_error(&answer(&raw).unwrap(), status, code);
        let more = calls.recv().await;
        assert!(
            !matches!(
                more,
                Some(FrontCall::Event(GatewayEvent::Body { .. } | GatewayEvent::BodyEnd { .. }))
            ),
            "{more:?}"
        );
    }
}

/// awscli 1.46 hung for a minute: it had put an empty object, with `Expect`, and had the answer without
/// `100 Continue`, which hyper says only before a body that is not empty. botocore then takes each answer on
/// that connection for one without a status line.
#[tokio::test]
async fn a_connection_ends_with_the_answer_that_comes_instead_of_100_continue() {
    let service = with_bucket().await;
    let asks = |plan: Plan| plan.unsigned("expect", "100-continue");
    let empty = || put().unsigned("content-length", "0");
    for (first, continued, answers) in
        [(asks(empty()), 0, 1), (empty(), 0, 2), (asks(put().body(b"hello")), 1, 2)]
    {
        let first = String::from_utf8(first.bytes()).unwrap().replace("connection: close\r\n", "");
        let both = [first.into_bytes(), plan("HEAD", "/bucket/k", "").bytes()].concat();
        let told = String::from_utf8(exchange(&service, &both).await).unwrap();
        let count = |what| told.matches(what).count();
        assert_eq!(count("HTTP/1.1 100"), continued, "{told}");
        assert_eq!(count("HTTP/1.1 200"), answers, "{told}");
        assert_eq!(told.to_lowercase().matches("connection: close").count(), 1, "{told}");
    }
}

#[tokio::test]
async fn plain_bodies_need_a_length() {
    let service = with_bucket().await;
    for payload in [UNSIGNED.to_owned(), crate::support::signing::hash(b"hello")] {
        let put = put().payload(&payload).transfer_chunked(&[b"hello"]);
        is_refused(&service, &put.bytes(), 411, "MissingContentLength").await;
    }
}
