//! A connection of HTTP/1.1, with hyper at its end: whole requests with changes anywhere, or any bytes.
//!
//! Input: which request (1 byte; 0 for none); the size of pieces (1 byte); how many changes (1 byte) of 4 bytes
//! and so many more as they say; then bytes that follow on the connection.

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::support::client::{Plan, UNSIGNED, plan};
use super::{counted, run as run_async, with_object};
use hyper_util::rt::TokioIo;
use trine_s3::S3Http;

const CHANGES_MAX: usize = 16;
/// Bytes of a request and of all that follows it.
const BYTES_MAX: usize = 64 << 10;

pub(crate) fn run(input: &[u8]) -> bool {
    let [which, size, count, rest @ ..] = input else { return false };
    let mut rest = rest;
    let bases = bases();
    let base = usize::from(*which).checked_sub(1).map(|nth| &bases[nth % bases.len()]);
    let mut bytes = base.map(Plan::bytes).unwrap_or_default();
    for _ in 0..usize::from(*count).min(CHANGES_MAX) {
        let [op, low, high, len, behind @ ..] = rest else { break };
        let at = usize::from(u16::from_le_bytes([*low, *high]));
        rest = change(&mut bytes, *op, at, usize::from(*len), behind);
    }
    bytes.extend_from_slice(rest);
    bytes.truncate(BYTES_MAX);
    run_async(async {
        let service = with_object().await;
        let answers = exchange(&service, &bytes, usize::from(*size) * 16 + 1).await;
        let statuses = statuses(&answers);
        for status in &statuses {
            let known = matches!(
                status,
                100 | 200 | 204 | 206 | 304 | 400 | 403..=405 | 409 | 411..=414 | 416 | 431 | 501
            );
            assert!(known, "{status}: {}", String::from_utf8_lossy(&answers));
        }
        // The gateway is there, and the bucket.
        let list = super::tell(&service, &plan("GET", "/bucket", "").sign(), None).await;
        assert_eq!(list.status, 200, "{}", list.text);
        statuses.iter().any(|status| (200..400).contains(status))
    })
}

/// Requests of many kinds, some under a signature that leaves much unsigned.
fn bases() -> Vec<Plan> {
    let object = |method| plan(method, "/bucket/k", "");
    vec![
        object("GET").unsigned("range", "bytes=1-3").unsigned("if-none-match", "\"a\", W/\"b\""),
        object("PUT").body(b"hello, body"),
        object("PUT").payload(UNSIGNED).unsigned("content-type", "text/x-test").body(b"hello"),
        object("PUT").chunked(b"hello, chunk", 12, Some(("x-amz-checksum-crc32", "AAAAAA=="))),
        object("PUT").signed_chunks(&[b"one", b"two"], None),
        object("PUT").payload(UNSIGNED).transfer_chunked(&[b"one", b"two"]),
        object("PUT").payload(UNSIGNED).unsigned("expect", "100-continue").body(b"hello"),
        object("HEAD").unsigned("if-modified-since", "Tue, 14 Nov 2023 22:13:22 GMT"),
        plan("GET", "/bucket", "delimiter=%2F&list-type=2&max-keys=3&prefix=k"),
        plan("POST", "/bucket", "delete=")
            .payload(UNSIGNED)
            .body(b"<Delete><Object><Key>a&amp;b</Key></Object><Quiet>true</Quiet></Delete>"),
        plan("PUT", "/other", "").payload(UNSIGNED).body(b"<CreateBucketConfiguration/>"),
    ]
}

/// One change, at a place counted from the start, from the end of the head, or within the last header.
fn change<'a>(bytes: &mut Vec<u8>, op: u8, at: usize, len: usize, rest: &'a [u8]) -> &'a [u8] {
    let head = bytes.windows(4).position(|window| window == b"\r\n\r\n").unwrap_or(0);
    let from = match op >> 4 & 3 {
        0 => 0,
        1 => bytes[..head].iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1),
        2 => bytes[..head].iter().position(|byte| *byte == b'\n').map_or(0, |at| at + 1),
        _ => head,
    };
    let room = (bytes.len() - from).max(1);
    let at = (from + at % room).min(bytes.len());
    match op & 7 {
        0 if at < bytes.len() => bytes[at] ^= u8::try_from(len).unwrap().max(1),
        1 => bytes.truncate(at),
        2 => drop(bytes.drain(at..(at + len).min(bytes.len()))),
        3 => {
            let copy = bytes[at..(at + len).min(bytes.len())].to_vec();
            bytes.splice(at..at, copy);
        }
        4 => {
            // Headers of which only their lengths are remarkable.
            let more = format!("x-long: {}\r\n", "a".repeat(len * 64));
            let line = bytes[..head].iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
            bytes.splice(line..line, more.into_bytes());
        }
        _ => {
            let (insert, rest) = rest.split_at(len.min(rest.len()));
            bytes.splice(at..at, insert.iter().copied());
            return rest;
        }
    }
    rest
}

/// What the server says until it closes. The client writes pieces of this size, and then no more.
async fn exchange(service: &S3Http, bytes: &[u8], size: usize) -> Vec<u8> {
    let (client, server) = tokio::io::duplex(1 << 16);
    let served = hyper::server::conn::http1::Builder::new()
        .half_close(true)
        .serve_connection(TokioIo::new(server), service.clone());
    let (mut reader, mut writer) = tokio::io::split(client);
    let write = async {
        for piece in bytes.chunks(size.max(bytes.len() / 200).max(1)) {
            if writer.write_all(piece).await.is_err() {
                break;
            }
            tokio::task::yield_now().await;
        }
        let _ = writer.shutdown().await;
    };
    let mut answers = Vec::new();
    // Malformed requests end in errors of the server; that is their answer.
    let all = async { tokio::join!(served, write, reader.read_to_end(&mut answers)) };
    let polls_max = 2_000 + bytes.len();
    let within = tokio::time::timeout(std::time::Duration::from_secs(20), counted(all, polls_max));
    let _ = within.await.expect("the server neither answers nor closes");
    answers
}

/// Of every answer on the connection.
fn statuses(answers: &[u8]) -> Vec<u16> {
    let text = String::from_utf8_lossy(answers);
    let found = text.split("HTTP/1.1 ").skip(1);
    found.filter_map(|answer| answer.get(..3)?.parse().ok()).collect()
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let count = u8::try_from(bases().len()).unwrap();
    let mut seeds: Vec<Vec<u8>> = (1..=count).map(|which| vec![which, which * 7, 0]).collect();
    for which in 1..=count {
        for op in [0x00, 0x31, 0x12, 0x23, 0x34] {
            seeds.push(vec![which, 255, 1, op, which * 5, 0, 4]);
        }
    }
    let raws: [&[u8]; 8] = [
        b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n",
        b"GET / HTTP/1.0\r\n\r\n",
        b"GET http://localhost/bucket/k?acl HTTP/1.1\r\nhost: localhost\r\n\r\nGET / HTTP/1.1\r\nhost: a\r\n\r\n",
        b"PUT /bucket/k HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\ncontent-length: 5\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        b"OPTIONS * HTTP/1.1\r\nhost: localhost\r\norigin: http://a\r\naccess-control-request-method: PUT\r\n\r\n",
        b"CONNECT localhost:1 HTTP/1.1\r\nhost: localhost\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"POST /bucket HTTP/1.1\r\nhost: localhost\r\ncontent-type: multipart/form-data; boundary=a\r\ncontent-length: 20\r\n\r\n--a\r\nname\r\n\r\n--a--\r\n",
    ];
    seeds.extend(raws.iter().map(|raw| [&[0, 255, 0][..], raw].concat()));
    seeds
}
