//! What holds for any input: how a body is split makes no difference, garbage neither panics nor hangs
//! nor is held beyond a bound, and every document has an answer.

use std::fmt::Write as _;

use http_body_util::BodyExt;
use proptest::prelude::*;
use trine_s3::S3Http;

use crate::support::client::{Plan, Signed, UNSIGNED, UNSIGNED_CHUNKS, memory, plan};
use crate::support::pieces::{Gauge, Pieces};
use crate::support::signing::Moment;

/// Largest piece of a body, as a connection's buffer might give it.
const PIECE_MAX: usize = 48 << 10;
/// Most bytes of a body that are in memory at a time: a signed chunk that goes on as it is (128 KiB), what
/// the gateway of the tests grants (100,000), and pieces on their way.
const HELD_MAX: usize = (128 << 10) + 100_000 + 4 * PIECE_MAX;

/// So many cases, unless `PROPTEST_CASES` asks for more.
fn config(cases: u32) -> ProptestConfig {
    let default = ProptestConfig::default();
    let cases = if std::env::var_os("PROPTEST_CASES").is_some() { default.cases } else { cases };
    ProptestConfig { cases, ..default }
}

/// Run it where tasks can be spawned.
fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

async fn with_bucket() -> S3Http {
    let service = memory();
    plan("PUT", "/bucket", "").expect(&service).await;
    service
}

/// `bytes`, cut at these places.
fn cut(bytes: &[u8], places: &[prop::sample::Index]) -> Vec<Vec<u8>> {
    let mut places: Vec<usize> = places.iter().map(|place| place.index(bytes.len() + 1)).collect();
    places.extend([0, bytes.len()]);
    places.sort_unstable();
    let pieces = places.windows(2).map(|ends| &bytes[ends[0]..ends[1]]);
    pieces.flat_map(|piece| piece.chunks(PIECE_MAX)).map(<[u8]>::to_vec).collect()
}

/// The status of the answer and the code of its document; and the most bytes of the body held.
async fn tell(service: &S3Http, signed: &Signed, pieces: Vec<Vec<u8>>) -> (u16, String, usize) {
    let gauge = Gauge::default();
    let mut request = http::Request::builder().method(signed.method).uri(&signed.target);
    for (name, value) in &signed.headers {
        request = request.header(name, value);
    }
    let request = request.body(Pieces::new(pieces, &gauge)).unwrap();
    let served = tokio::time::timeout(std::time::Duration::from_secs(20), service.serve(request));
    let response = served.await.expect("no endless loop").expect("an answer");
    let (parts, body) = response.into_parts();
    let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    let text = String::from_utf8_lossy(&body).into_owned();
    let code = text.split_once("<Code>").and_then(|(_, rest)| rest.split_once('<'));
    (parts.status.as_u16(), code.map_or(String::new(), |(code, _)| code.to_owned()), gauge.peak())
}

async fn stored(service: &S3Http) -> Option<Vec<u8>> {
    let get = plan("GET", "/bucket/k", "").expect(service).await;
    (get.status == 200).then_some(get.body)
}

fn data(length: usize) -> Vec<u8> {
    (0..length).map(|at| u8::try_from((at * 31 + at / 257) % 256).unwrap()).collect()
}

#[derive(Clone, Copy, Debug)]
enum Mode {
    Unsigned,
    Signed,
    SignedTrailer,
}

fn chunked(mode: Mode, chunks: &[&[u8]]) -> Plan {
    let whole = chunks.concat();
    let crc = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32IsoHdlc, &whole);
    let crc = u32::try_from(crc).unwrap().to_be_bytes();
    let value = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, crc);
    let trailer = Some(("x-amz-checksum-crc32", value.as_str()));
    let put = plan("PUT", "/bucket/k", "");
    match mode {
        Mode::Unsigned => {
            let mut body = Vec::new();
            for chunk in chunks.iter().filter(|chunk| !chunk.is_empty()) {
                body.extend_from_slice(format!("{:X}\r\n", chunk.len()).as_bytes());
                body.extend_from_slice(chunk);
                body.extend_from_slice(b"\r\n");
            }
            body.extend_from_slice(format!("0\r\nx-amz-checksum-crc32:{value}\r\n\r\n").as_bytes());
            put.payload(UNSIGNED_CHUNKS)
                .header("x-amz-trailer", "x-amz-checksum-crc32")
                .header("x-amz-decoded-content-length", &whole.len().to_string())
                .body(&body)
        }
        Mode::Signed => put.signed_chunks(&without_empty(chunks), None),
        Mode::SignedTrailer => put.signed_chunks(&without_empty(chunks), trailer),
    }
}

fn without_empty<'a>(chunks: &[&'a [u8]]) -> Vec<&'a [u8]> {
    chunks.iter().filter(|chunk| !chunk.is_empty()).copied().collect()
}

/// What an aws-chunked body might be made of, in any order.
fn shards() -> impl Strategy<Value = Vec<u8>> {
    let shard = prop_oneof![
        Just(b"5\r\nhello\r\n".to_vec()),
        Just(b"0\r\n".to_vec()),
        Just(b"0\r\n\r\n".to_vec()),
        Just(b"\r\n".to_vec()),
        Just(b"\r".to_vec()),
        Just(b"\n".to_vec()),
        Just(b";".to_vec()),
        Just(b"x-amz-checksum-crc32:NhCmhg==\r\n".to_vec()),
        Just(b"x-amz-trailer-signature:".to_vec()),
        Just(b":\r\n".to_vec()),
        Just(b"5;chunk-signature=".to_vec()),
        Just(b"0;chunk-signature=".to_vec()),
        Just(b"30000;chunk-signature=".to_vec()),
        Just(vec![b'a'; 64]),
        Just(b"ffffffffffffffff\r\n".to_vec()),
        Just(b"00000000000000005\r\n".to_vec()),
        Just(b"0000000000000005\r\n".to_vec()),
        Just(b"-1\r\n".to_vec()),
        Just(b"30000\r\n".to_vec()),
        Just(vec![0; 0x30000]),
        Just(vec![b'f'; 70_000]),
        prop::collection::vec(any::<u8>(), 0..20),
        "[0-9a-f]{1,3}\r\n".prop_map(String::into_bytes),
    ];
    prop::collection::vec(shard, 0..12).prop_map(|shards| shards.concat())
}

proptest! {
    #![proptest_config(config(48))]

    #[test]
    fn however_a_body_is_split_it_is_stored_alike(
        mode in prop::sample::select(vec![Mode::Unsigned, Mode::Signed, Mode::SignedTrailer]),
        sizes in prop::collection::vec(
            prop_oneof![0_usize..20, 65_530_usize..65_540, 131_060_usize..131_080, 0_usize..400_000],
            1..5,
        ),
        places in prop::collection::vec(any::<prop::sample::Index>(), 0..12),
    ) {
        let whole = data(sizes.iter().sum());
        let mut rest = whole.as_slice();
        let mut chunks = Vec::new();
        for size in &sizes {
            let (chunk, behind) = rest.split_at(*size);
            chunks.push(chunk);
            rest = behind;
        }
        let signed = chunked(mode, &chunks).sign();
        let (told, bytes) = run(async {
            let service = with_bucket().await;
            let told = tell(&service, &signed, cut(&signed.body, &places)).await;
            (told, stored(&service).await)
        });
        prop_assert_eq!((told.0, told.1.as_str()), (200, ""));
        prop_assert!(told.2 < HELD_MAX, "{} bytes held", told.2);
        prop_assert!(bytes == Some(whole));
    }

    #[test]
    fn garbage_in_chunks_has_one_answer_however_it_is_split(
        bytes in shards(),
        signed in any::<bool>(),
        length in prop::sample::select(vec![0_usize, 5, 10, 0x30000, 0x30005, 1 << 40]),
        places in prop::collection::vec(any::<prop::sample::Index>(), 0..12),
    ) {
        let payload =
            if signed { "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER" } else { UNSIGNED_CHUNKS };
        let request = plan("PUT", "/bucket/k", "")
            .payload(payload)
            .header("x-amz-trailer", "x-amz-checksum-crc32")
            .header("x-amz-decoded-content-length", &length.to_string())
            .body(&bytes)
            .sign();
        let (one, other, found) = run(async {
            let service = with_bucket().await;
            let one = tell(&service, &request, cut(&bytes, &places)).await;
            let found = stored(&service).await;
            let other = tell(&with_bucket().await, &request, cut(&bytes, &[])).await;
            (one, other, found)
        });
        prop_assert_eq!((one.0, &one.1), (other.0, &other.1));
        prop_assert!(one.2 < HELD_MAX, "{} bytes held", one.2);
        match one.0 {
            200 => prop_assert_eq!(found.map(|bytes| bytes.len()), Some(length)),
            400 | 403 => prop_assert!(found.is_none()),
            other => prop_assert!(false, "{} {}", other, one.1),
        }
    }

    #[test]
    fn an_authorization_of_any_shape_is_refused(
        value in prop::collection::vec(
            prop_oneof![
                Just("AWS4-HMAC-SHA256".to_owned()),
                Just("AWS4-HMAC-SHA256 ".to_owned()),
                Just("AWS ".to_owned()),
                Just("Credential=".to_owned()),
                Just("SignedHeaders=".to_owned()),
                Just("Signature=".to_owned()),
                Just("host;x-amz-content-sha256;x-amz-date".to_owned()),
                Just("key".to_owned()),
                Just(format!("key/{}", Moment::now().scope())),
                Just("/us-east-1/s3/aws4_request".to_owned()),
                Just("a".repeat(64)),
                Just(",".to_owned()),
                Just(";".to_owned()),
                Just("/".to_owned()),
                Just("=".to_owned()),
                "[ -~]{0,8}",
                "\\PC{0,4}",
            ],
            0..12,
        ),
        date in prop_oneof![Just(Moment::now().date), "[0-9TZ]{0,20}", "\\PC{0,16}"],
    ) {
        let value = value.concat();
        let Ok(header) = http::HeaderValue::from_bytes(value.as_bytes()) else { return Ok(()) };
        let Ok(date) = http::HeaderValue::from_bytes(date.as_bytes()) else { return Ok(()) };
        let request = http::Request::builder()
            .uri("/bucket/k")
            .header("host", "localhost")
            .header("x-amz-date", date)
            .header("x-amz-content-sha256", UNSIGNED)
            .header("authorization", header)
            .body(Pieces::new([], &Gauge::default()))
            .unwrap();
        let status = run(async { with_bucket().await.serve(request).await.unwrap().status() });
        // 501 is a signature of version 2 or 4A at its most.
        prop_assert!(matches!(status.as_u16(), 400 | 403), "{value}: {status}");
    }

    #[test]
    fn a_document_of_any_shape_has_an_answer(
        text in prop::collection::vec(
            prop_oneof![
                Just("<Delete>".to_owned()), Just("</Delete>".to_owned()),
                Just("<Object>".to_owned()), Just("</Object>".to_owned()),
                Just("<Key>k</Key>".to_owned()), Just("<Key>".to_owned()), Just("</Key>".to_owned()),
                Just("<CompleteMultipartUpload>".to_owned()),
                Just("</CompleteMultipartUpload>".to_owned()),
                Just("<Part>".to_owned()), Just("</Part>".to_owned()),
                Just("<PartNumber>1</PartNumber>".to_owned()), Just("<ETag>x</ETag>".to_owned()),
                Just("<CreateBucketConfiguration>".to_owned()),
                Just("</CreateBucketConfiguration>".to_owned()),
                Just("<?xml version=\"1.0\"?>".to_owned()), Just("<!DOCTYPE a [<!ENTITY b \"c\">]>".to_owned()),
                Just("&b;".to_owned()), Just("&#0;".to_owned()), Just("&#x110000;".to_owned()),
                Just("<![CDATA[".to_owned()), Just("]]>".to_owned()), Just("<!--".to_owned()),
                Just("-->".to_owned()), Just("<a/>".to_owned()), Just("\u{feff}".to_owned()),
                "[ -~]{0,8}", "\\PC{0,4}",
            ],
            0..16,
        ),
    ) {
        let text = text.concat();
        run(async {
            let service = with_bucket().await;
            let upload = plan("POST", "/bucket/k", "uploads=").expect(&service).await;
            let upload = format!("uploadId={}", upload.element("UploadId").unwrap());
            for (method, path, query) in [
                ("POST", "/bucket", "delete="),
                ("POST", "/bucket/k", upload.as_str()),
                ("PUT", "/another", ""),
            ] {
                let signed = plan(method, path, query).body(text.as_bytes()).sign();
                let (status, code, _) = tell(&service, &signed, vec![text.clone().into()]).await;
                let known = matches!(status, 200 | 400 | 404 | 501);
                assert!(known, "{method} {path}: {status} {code}: {text}");
                assert!(status == 200 || !code.is_empty(), "{status}: {text}");
            }
        });
    }

    #[test]
    fn a_target_of_any_shape_has_an_answer(
        method in prop::sample::select(vec!["GET", "HEAD", "PUT", "POST", "DELETE", "PATCH", "OPTIONS"]),
        path in prop::collection::vec(any::<u8>(), 0..12),
        names in prop::collection::vec(
            prop_oneof![
                prop::sample::select(vec![
                    "acl", "uploads", "uploadId", "partNumber", "delete", "location", "versionId",
                    "list-type", "max-keys", "prefix", "marker", "continuation-token", "tagging",
                    "encoding-type", "delimiter", "policy", "versioning", "attributes", "events",
                    "key-marker", "upload-id-marker", "response-content-type", "max-parts",
                ]).prop_map(str::to_owned),
                "[ -~]{0,6}",
            ],
            0..4,
        ),
        values in prop::collection::vec(prop_oneof![Just(String::new()), Just("2".to_owned()), "\\PC{0,4}"], 4),
    ) {
        let encode = |bytes: &[u8], kept: &[u8]| bytes.iter().fold(String::new(), |mut out, byte| {
            if byte.is_ascii_alphanumeric() || kept.contains(byte) {
                out.push(char::from(*byte));
            } else {
                let _ = write!(out, "%{byte:02X}");
            }
            out
        });
        let mut pairs: Vec<String> = names.iter().zip(&values).map(|(name, value)| {
            format!("{}={}", encode(name.as_bytes(), b"-_.~"), encode(value.as_bytes(), b"-_.~"))
        }).collect();
        pairs.sort();
        let path = format!("/{}", encode(&path, b"-_.~/"));
        run(async {
            let service = with_bucket().await;
            for path in [path.as_str(), &format!("/bucket{path}")] {
                let signed = plan(method, path, &pairs.join("&")).body(b"").sign();
                let (status, code, _) = tell(&service, &signed, Vec::new()).await;
                let ok = matches!(status, 200 | 204 | 400 | 403 | 404 | 405 | 409 | 411 | 412 | 501);
                assert!(ok, "{method} {path} {pairs:?}: {status} {code}");
            }
        });
    }
}

#[test]
fn documents_of_the_corpus_have_the_answers_beside_them() {
    run(async {
        let service = with_bucket().await;
        for line in include_str!("../corpus/documents.txt").lines() {
            let mut fields = line.splitn(3, ' ');
            let (Some(operation), Some(expected), Some(text)) =
                (fields.next().filter(|it| *it != "#"), fields.next(), fields.next())
            else {
                continue;
            };
            let upload = plan("POST", "/bucket/k", "uploads=").expect(&service).await;
            let upload = format!("uploadId={}", upload.element("UploadId").unwrap());
            let plan = match operation {
                "delete" => plan("POST", "/bucket", "delete="),
                "complete" => plan("POST", "/bucket/k", &upload),
                "create" => plan("PUT", "/another", ""),
                other => panic!("no such operation: {other}"),
            };
            let told = plan.body(text.as_bytes()).expect(&service).await;
            let code = told.element("Code").filter(|_| told.status != 200);
            let code = code.unwrap_or_else(|| told.status.to_string());
            assert_eq!(code, expected, "{line}: {}", told.text());
            super::plan("DELETE", "/another", "").expect(&service).await;
        }
    });
}
