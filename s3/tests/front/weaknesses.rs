//! Weaknesses of s3s 0.14.1, each shown twice: by s3s alone, and mended. A half that fails because s3s
//! no longer misbehaves says that a piece of the outer layer can go.

use bytes::Bytes;
use http_body_util::BodyExt;
use s3s::service::S3Service;
use trine_s3::S3Http;

use super::bare::bare;
use super::{is_error, with_bucket};
use crate::support::client::{Answer, Plan, Signed, UNSIGNED, answer, exchange, plan};
use crate::support::pieces::{Gauge, Pieces};

/// A request without a connection under it, so that its body is exactly these pieces.
fn request(signed: &Signed, body: Pieces) -> http::Request<Pieces> {
    let mut request = http::Request::builder().method(signed.method).uri(&signed.target);
    for (name, value) in &signed.headers {
        request = request.header(name, value);
    }
    request.body(body).unwrap()
}

async fn told(response: http::Response<trine_s3::ResponseBody>) -> Answer {
    let (parts, body) = response.into_parts();
    let lines =
        parts.headers.iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()));
    let head = lines.collect::<Vec<_>>().join("\r\n");
    let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    Answer { status: parts.status.as_u16(), head, body: body.to_vec() }
}

/// What s3s alone says, and the most bytes of the body that anybody held.
async fn by_bare(service: &S3Service, plan: &Plan, size: usize) -> (Answer, usize) {
    let (signed, gauge) = (plan.sign(), Gauge::default());
    let body = Pieces::of(&signed.body, size, &gauge);
    let request = request(&signed, body).map(s3s::Body::http_body_unsync);
    let response = service.call(request).await.unwrap();
    (told(response).await, gauge.peak())
}

/// The same of ours.
async fn by_ours(service: &S3Http, plan: &Plan, size: usize) -> (Answer, usize) {
    let (signed, gauge) = (plan.sign(), Gauge::default());
    let body = Pieces::of(&signed.body, size, &gauge);
    let response = service.serve(request(&signed, body)).await.unwrap();
    (told(response).await, gauge.peak())
}

#[tokio::test]
async fn unsigned_amz_headers() {
    let put = || {
        plan("PUT", "/bucket/k", "").body(b"mine").unsigned("x-amz-copy-source", "/other/secret")
    };
    let (service, seen) = bare();
    assert_eq!(put().expect(&service).await.status, 200);
    assert_eq!(seen.lock().unwrap().copies.len(), 1, "a PUT has become a copy");
    let presigned = plan("PUT", "/bucket/k", "").unsigned("x-amz-copy-source", "/other/secret");
    answer(&exchange(&service, &presigned.presigned(60)).await).unwrap();
    assert_eq!(seen.lock().unwrap().copies.len(), 2);

    let service = with_bucket().await;
    is_error(&put().expect(&service).await, 403, "AccessDenied");
    let refused = answer(&exchange(&service, &presigned.presigned(60)).await).unwrap();
    is_error(&refused, 403, "AccessDenied");
    assert_eq!(refused.element("HeadersNotSigned").as_deref(), Some("x-amz-copy-source"));
    is_error(&plan("GET", "/bucket/k", "").expect(&service).await, 404, "NoSuchKey");
}

#[tokio::test]
async fn a_giant_chunk_is_gathered() {
    const LENGTH: usize = 4 << 20;
    const FRAME: usize = 16 << 10;
    let data: Vec<u8> = (0..LENGTH).map(|at| u8::try_from(at % 251).unwrap()).collect();
    let unsigned = plan("PUT", "/bucket/k", "").chunked(&data, LENGTH, None);
    let signed = plan("PUT", "/bucket/k", "").signed_chunks(&[&data], None);
    for put in [unsigned, signed] {
        let (service, seen) = bare();
        let (told, peak) = by_bare(&service, &put, FRAME).await;
        assert_eq!(told.status, 200, "{}", told.text());
        assert!(peak >= LENGTH, "s3s holds all of it: {peak}");
        assert_eq!(seen.lock().unwrap().puts[0].0.len(), LENGTH);

        let service = with_bucket().await;
        let (told, peak) = by_ours(&service, &put, FRAME).await;
        assert_eq!(told.status, 200, "{}", told.text());
        // The gateway in memory copies: what is counted is what is on its way through the front. It
        // grants 100,000 bytes at a time.
        assert!(peak < 400_000, "{peak} bytes were held");
        assert!(plan("GET", "/bucket/k", "").expect(&service).await.body == data);
    }
}

#[tokio::test]
async fn a_short_aws_chunked_body_passes() {
    let put = plan("PUT", "/bucket/k", "").chunked(b"hell", 5, None);
    let (service, seen) = bare();
    assert_eq!(put.expect(&service).await.status, 200);
    assert_eq!(seen.lock().unwrap().puts[0].0, b"hell", "stored, a byte short");

    let service = with_bucket().await;
    is_error(&put.expect(&service).await, 400, "IncompleteBody");
    is_error(&plan("GET", "/bucket/k", "").expect(&service).await, 404, "NoSuchKey");
}

#[tokio::test]
async fn a_form_is_gathered_from_anybody() {
    const LENGTH: usize = 4 << 20;
    let file = vec![b'f'; LENGTH];
    let head = "--x\r\nContent-Disposition: form-data; name=\"key\"\r\n\r\nk\r\n--x\r\n\
                Content-Disposition: form-data; name=\"file\"; filename=\"f\"\r\n\r\n";
    let form = [head.as_bytes(), &file, b"\r\n--x--\r\n"].concat();
    let pieces = |gauge: &Gauge| {
        let request = http::Request::post("/bucket").header("host", "localhost");
        let request = request.header("content-type", "multipart/form-data; boundary=x");
        request.body(Pieces::of(&form, 16 << 10, gauge)).unwrap()
    };
    let gauge = Gauge::default();
    let (service, seen) = bare();
    let response = service.call(pieces(&gauge).map(s3s::Body::http_body_unsync)).await.unwrap();
    assert_eq!(response.status(), 403);
    // All of it was in memory before it was refused; the parser copies the last few KiB.
    assert!(gauge.peak() >= LENGTH / 10 * 9, "{}", gauge.peak());
    assert!(seen.lock().unwrap().puts.is_empty());

    let gauge = Gauge::default();
    let service = with_bucket().await;
    let told = told(service.serve(pieces(&gauge)).await.unwrap()).await;
    is_error(&told, 501, "NotImplemented");
    assert!(gauge.peak() <= 32 << 10, "{} bytes were held", gauge.peak());
    // Signed like any other request, it is not built either.
    let signed =
        plan("POST", "/bucket", "").header("content-type", "multipart/form-data; boundary=x");
    is_error(&signed.body(&form).expect(&service).await, 501, "NotImplemented");
}

#[tokio::test]
async fn content_encoding_keeps_aws_chunked() {
    let put =
        plan("PUT", "/bucket/k", "").header("content-encoding", "gzip,aws-chunked").body(b"zzz");
    let (service, seen) = bare();
    assert_eq!(put.expect(&service).await.status, 200);
    assert_eq!(seen.lock().unwrap().puts[0].1.as_deref(), Some("gzip,aws-chunked"));

    let service = with_bucket().await;
    assert_eq!(put.expect(&service).await.status, 200);
    let get = plan("GET", "/bucket/k", "").expect(&service).await;
    assert_eq!(get.header("content-encoding"), Some("gzip"));
}

#[tokio::test]
async fn checksums_are_not_verified() {
    let (bare, _) = bare();
    let service = with_bucket().await;
    for (name, value) in [
        ("content-md5", "AAAAAAAAAAAAAAAAAAAAAA=="),
        ("x-amz-checksum-crc32", "AAAAAA=="),
        ("x-amz-checksum-crc32c", "AAAAAA=="),
        ("x-amz-checksum-crc64nvme", "AAAAAAAAAAA="),
        ("x-amz-checksum-sha1", "AAAAAAAAAAAAAAAAAAAAAAAAAAA="),
        ("x-amz-checksum-sha256", "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="),
    ] {
        let put = plan("PUT", "/bucket/k", "").header(name, value).body(b"hello");
        assert_eq!(put.expect(&bare).await.status, 200, "{name}");
        is_error(&put.expect(&service).await, 400, "BadDigest");
    }
    is_error(&plan("GET", "/bucket/k", "").expect(&service).await, 404, "NoSuchKey");
}

#[tokio::test]
async fn malformed_ranges_and_dates_are_errors() {
    let (bare, _) = bare();
    let service = with_bucket().await;
    plan("PUT", "/bucket/k", "").body(b"0123456789").expect(&service).await;
    for (name, value) in [
        ("range", "bytes=abc"),
        ("range", "bytes=0-1,3-4"),
        ("range", "bytes=3-1"),
        ("if-modified-since", "yesterday"),
        ("if-unmodified-since", "Wed, 99 Oct 2015 07:28:00 GMT"),
    ] {
        let get = plan("GET", "/bucket/k", "").header(name, value);
        assert_eq!(get.expect(&bare).await.status, 400, "{name}: {value}");
        let answer = get.expect(&service).await;
        assert_eq!((answer.status, answer.body.len()), (200, 10), "{name}: {value}");
    }
}

#[tokio::test]
async fn a_list_of_tags_is_taken_for_one() {
    let (bare, seen) = bare();
    let service = with_bucket().await;
    let put = plan("PUT", "/bucket/k", "").body(b"x").expect(&service).await;
    let tags = format!("\"nothing\", {}", put.header("etag").unwrap());
    let get = plan("GET", "/bucket/k", "").header("if-none-match", &tags);
    get.expect(&bare).await;
    let understood = seen.lock().unwrap().if_none_match[0].clone();
    assert!(understood.contains("nothing\\\", \\\""), "one tag with a comma in it: {understood}");
    assert_eq!(get.expect(&service).await.status, 304);
}

#[tokio::test]
async fn the_status_of_a_handler_is_lost() {
    let (bare, _) = bare();
    // The handler says 202.
    let put = plan("PUT", "/bucket/k", "").body(b"x");
    assert_eq!(put.expect(&bare).await.status, 200);
    // Ours do not go that way: 206, 204, 304.
    let service = with_bucket().await;
    put.expect(&service).await;
    let get = plan("GET", "/bucket/k", "").header("range", "bytes=0-0");
    assert_eq!(get.expect(&service).await.status, 206);
    assert_eq!(plan("DELETE", "/bucket/k", "").expect(&service).await.status, 204);
}

#[tokio::test]
async fn a_control_character_breaks_a_listing() {
    let list = plan("GET", "/bucket", "list-type=2");
    let (bare, _) = bare();
    // Raw, which no reader of XML 1.0 takes.
    let told = list.expect(&bare).await;
    assert_eq!(told.element("Key").as_deref(), Some("a\u{1}b"));
    let service = with_bucket().await;
    plan("PUT", "/bucket/a%01b", "").body(b"x").expect(&service).await;
    let answer = list.expect(&service).await;
    assert_eq!((answer.status, answer.element("Key").as_deref()), (200, Some("a&#x1;b")));
}

#[tokio::test]
async fn an_error_of_head_has_a_body() {
    let head = plan("HEAD", "/bucket/missing", "");
    let (bare, _) = bare();
    // Before hyper: over HTTP/1 it drops the bytes, over HTTP/2 they break the stream.
    let (told, _) = by_bare(&bare, &head, 1).await;
    assert!(told.status == 404 && !told.body.is_empty(), "{told:?}");
    let service = with_bucket().await;
    let (told, _) = by_ours(&service, &head, 1).await;
    assert_eq!((told.status, told.body.len()), (404, 0));
    assert_eq!((told.header("content-type"), told.header("content-length")), (None, None));
}

#[tokio::test]
async fn two_slashes_are_no_bucket_name() {
    let list = plan("GET", "//", "");
    let (bare, seen) = bare();
    let answer = list.expect(&bare).await;
    assert_eq!(answer.element("Code").as_deref(), Some("InvalidBucketName"));
    assert_eq!(seen.lock().unwrap().listed, 0);
    let service = with_bucket().await;
    let answer = list.expect(&service).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.element("Name").as_deref(), Some("bucket"));
    // Only that: a key without a bucket is none.
    is_error(&plan("GET", "//k", "").expect(&service).await, 400, "InvalidBucketName");
    is_error(&plan("PUT", "//k", "").body(b"x").expect(&service).await, 400, "InvalidBucketName");
}

#[tokio::test]
async fn a_date_of_other_bytes_panics() {
    let list = plan("GET", "/", "").at("20261121T20 100Z");
    let (service, _) = bare();
    let signed = list.sign();
    let request = request(&signed, Pieces::of(b"", 1, &Gauge::default()));
    let request = request.map(s3s::Body::http_body_unsync);
    let served = tokio::spawn(async move { service.call(request).await.is_ok() });
    if cfg!(debug_assertions) {
        assert!(served.await.is_err_and(|error| error.is_panic()), "overflow is checked here");
    }
    is_error(&list.expect(&with_bucket().await).await, 403, "AccessDenied");
}

#[tokio::test]
async fn a_presigned_request_may_be_good_for_ever() {
    let put = plan("PUT", "/bucket/k", "").payload(UNSIGNED).body(b"x");
    let bytes = put.presigned(604_801);
    let (bare, _) = bare();
    assert_eq!(answer(&exchange(&bare, &bytes).await).unwrap().status, 200);
    let refused = answer(&exchange(&with_bucket().await, &bytes).await).unwrap();
    is_error(&refused, 400, "AuthorizationQueryParametersError");
}

#[tokio::test]
async fn tokens_are_not_looked_at() {
    let get = plan("GET", "/", "").header("x-amz-security-token", "anything");
    let (bare, _) = bare();
    assert_eq!(get.expect(&bare).await.status, 200);
    is_error(&get.expect(&with_bucket().await).await, 400, "InvalidToken");
}

#[tokio::test]
async fn version_2_opens_the_door() {
    // A signature of version 2 covers no body, and of the parameters only some. s3s takes it wherever it finds
    // a parameter `Signature`, and lets the others pass.
    let (bare, _) = bare();
    let service = with_bucket().await;
    let get = b"GET /?AWSAccessKeyId=key&Expires=99999999999&Signature=x&prefix=a HTTP/1.1\r\n\
                host: localhost\r\nconnection: close\r\n\r\n";
    let told = answer(&exchange(&bare, get).await).unwrap();
    assert_eq!(told.element("Code").as_deref(), Some("SignatureDoesNotMatch"), "it is computed");
    is_error(&answer(&exchange(&service, get).await).unwrap(), 400, "InvalidArgument");
    // Beside another signature.
    let query = "AWSAccessKeyId=key&Expires=99999999999&Signature=x";
    is_error(&plan("GET", "/", query).expect(&service).await, 400, "InvalidArgument");
    let header = b"GET / HTTP/1.1\r\nhost: x\r\nauthorization: AWS key:c2ln\r\n\
                   date: Sat, 21 Nov 2026 20:00:00 GMT\r\nconnection: close\r\n\r\n";
    is_error(&answer(&exchange(&service, header).await).unwrap(), 400, "InvalidRequest");
}

#[tokio::test]
async fn errors_lack_resource_and_ids() {
    let get = plan("GET", "/Bad_Bucket/k", "");
    let (bare, _) = bare();
    let told = get.expect(&bare).await;
    assert_eq!(told.element("Code").as_deref(), Some("InvalidBucketName"));
    assert!(told.header("x-amz-request-id").is_none() && told.element("Resource").is_none());
    let told = get.expect(&with_bucket().await).await;
    is_error(&told, 400, "InvalidBucketName");
    assert_eq!(told.element("Resource").as_deref(), Some("/Bad_Bucket/k"));
}

#[tokio::test]
async fn a_preflight_is_an_unknown_operation() {
    let options = b"OPTIONS /bucket/k HTTP/1.1\r\nhost: localhost\r\norigin: http://a.example\r\n\
                    access-control-request-method: PUT\r\nconnection: close\r\n\r\n";
    let (bare, _) = bare();
    let told = answer(&exchange(&bare, options).await).unwrap();
    assert_eq!(told.element("Code").as_deref(), Some("NotImplemented"), "{}", told.text());
    let told = answer(&exchange(&with_bucket().await, options).await).unwrap();
    is_error(&told, 403, "AccessForbidden");
    assert_eq!(told.element("Method").as_deref(), Some("PUT"));
    assert_eq!(told.element("ResourceType").as_deref(), Some("OBJECT"));
}

#[tokio::test]
async fn targets_signed_as_they_stand_do_not_match() {
    // curl before 8.3 signs `prefix=a/` where the canonical form is `prefix=a%2F`.
    let list = plan("GET", "/bucket", "list-type=2&prefix=a/");
    let (bare, _) = bare();
    assert_eq!(list.expect(&bare).await.element("Code").as_deref(), Some("SignatureDoesNotMatch"));
    assert_eq!(list.expect(&with_bucket().await).await.status, 200);
}

/// `Bytes` that are handed on are never copied, so that [`Gauge`] sees who holds them.
#[test]
fn the_gauge_counts_what_is_held() {
    let gauge = Gauge::default();
    let mut body = Pieces::of(b"abcdef", 3, &gauge);
    let mut frame = || {
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        match http_body::Body::poll_frame(std::pin::Pin::new(&mut body), &mut context) {
            std::task::Poll::Ready(Some(Ok(frame))) => frame.into_data().unwrap(),
            _ => Bytes::new(),
        }
    };
    let first = frame();
    drop(frame());
    assert_eq!(gauge.peak(), 6);
    drop(first);
    assert_eq!(frame(), Bytes::new());
}
