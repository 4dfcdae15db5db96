//! Presigned requests of signature version 2, as boto3 makes them by default.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha1::Sha1;
use trine_s3::Domains;
use trine_s3::front::Front;

use super::{is_error, with_bucket};
use crate::support::client::{Answer, answer, exchange, plan, under};

const NEVER: &str = "99999999999";

/// A query that signs `text`, behind `parameters` (which end with `&`).
fn signed(text: &str, parameters: &str, expires: &str) -> String {
    let mut mac = Hmac::<Sha1>::new_from_slice(b"secret").unwrap();
    mac.update(text.as_bytes());
    let signature = STANDARD.encode(mac.finalize().into_bytes());
    let signature = signature.replace('+', "%2B").replace('/', "%2F").replace('=', "%3D");
    format!("{parameters}AWSAccessKeyId=key&Signature={signature}&Expires={expires}")
}

async fn tell(service: &trine_s3::S3Http, line: &str, headers: &str, body: &str) -> Answer {
    let length = body.len();
    let request = format!(
        "{line} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: {length}\r\n\
         {headers}\r\n{body}"
    );
    answer(&exchange(service, request.as_bytes()).await).expect("an answer")
}

#[tokio::test]
async fn a_presigned_request_of_version_2_does_what_was_signed() {
    let service = with_bucket().await;
    let text = format!("PUT\n\ntext/plain\n{NEVER}\nx-amz-meta-colour:red\n/bucket/a%20b%2B%C3%BC");
    // boto3 puts the signed headers into the query too.
    let query = signed(&text, "content-type=text%2Fplain&x-amz-meta-colour=red&", NEVER);
    let line = format!("PUT /bucket/a%20b%2B%C3%BC?{query}");
    let headers = "content-type: text/plain\r\nx-amz-meta-colour: red\r\n";
    assert_eq!(tell(&service, &line, headers, "hello").await.status, 200);
    assert_eq!(tell(&service, &line, "", "hullo").await.status, 200, "or only there");

    let text = format!(
        "GET\n\n\n{NEVER}\n/bucket/a%20b%2B%C3%BC?response-cache-control=no-store&\
         response-content-type=text/x; y=1"
    );
    let parameters = "response-content-type=text%2Fx%3B%20y%3D1&response-cache-control=no-store&";
    let line = format!("GET /bucket/a%20b%2B%C3%BC?{}", signed(&text, parameters, NEVER));
    let got = tell(&service, &line, "range: bytes=1-\r\n", "").await;
    assert_eq!((got.status, got.text().as_str()), (206, "ullo"));
    assert_eq!(got.header("content-type"), Some("text/x; y=1"));
    assert_eq!(got.header("cache-control"), Some("no-store"));
    assert_eq!(got.header("x-amz-meta-colour"), Some("red"));

    let text = format!("POST\n\n\n{NEVER}\n/bucket/k?uploads");
    let line = format!("POST /bucket/k?{}", signed(&text, "uploads&", NEVER));
    let created = tell(&service, &line, "", "").await;
    let upload = created.element("UploadId").unwrap();
    let text = format!("PUT\n\n\n{NEVER}\n/bucket/k?partNumber=1&uploadId={upload}");
    let parameters = format!("uploadId={upload}&partNumber=1&");
    let line = format!("PUT /bucket/k?{}", signed(&text, &parameters, NEVER));
    assert_eq!(tell(&service, &line, "", "part").await.status, 200);
    let text = format!("DELETE\n\n\n{NEVER}\n/bucket/a%20b%2B%C3%BC");
    let line = format!("DELETE /bucket/a%20b%2B%C3%BC?{}", signed(&text, "", NEVER));
    assert_eq!(tell(&service, &line, "", "").await.status, 204);
}

#[tokio::test]
async fn a_presigned_request_of_version_2_does_nothing_else() {
    let service = with_bucket().await;
    for key in ["k", "other"] {
        plan("PUT", &format!("/bucket/{key}"), "").body(b"x").expect(&service).await;
    }
    let text = |method: &str| format!("{method}\n\n\n{NEVER}\n/bucket/k");
    let get = signed(&text("GET"), "", NEVER);
    assert_eq!(tell(&service, &format!("GET /bucket/k?{get}"), "", "").await.status, 200);
    let put = signed(&text("PUT"), "", NEVER);
    let sub = |name: &str| format!("{name}&{get}");
    for (line, headers) in [
        (format!("GET /bucket/other?{get}"), ""),
        (format!("DELETE /bucket/k?{get}"), ""),
        (format!("GET /bucket/%6B?{get}"), ""),
        (format!("GET /bucket/k?{}", sub("tagging")), ""),
        (format!("GET /bucket/k?{}", sub("versionId=1")), ""),
        (format!("GET /bucket/k?{}", sub("response-content-type=text%2Fhtml")), ""),
        (format!("PUT /bucket/k?{put}"), "x-amz-copy-source: bucket/other\r\n"),
        (format!("PUT /bucket/k?{put}"), "x-amz-meta-a: b\r\n"),
        (format!("PUT /bucket/k?{put}"), "content-type: text/html\r\n"),
        (format!("PUT /bucket/k?x-amz-copy-source=bucket%2Fother&{put}"), ""),
        (format!("PUT /bucket/k?content-type=text%2Fhtml&{put}"), ""),
        (format!("GET /bucket/k?{}", get.replace("Expires=9", "Expires=8")), ""),
        (format!("GET /bucket/k?{}", get.replace("Signature=", "Signature=A")), ""),
    ] {
        let refused = tell(&service, &line, headers, "").await;
        is_error(&refused, 403, "SignatureDoesNotMatch");
    }
    let date = "x-amz-date: 20260101T000000Z\r\n";
    let refused = tell(&service, &format!("GET /bucket/k?{get}"), date, "").await;
    is_error(&refused, 403, "SignatureDoesNotMatch");
    let stranger = get.replace("AWSAccessKeyId=key", "AWSAccessKeyId=nobody");
    let refused = tell(&service, &format!("GET /bucket/k?{stranger}"), "", "").await;
    is_error(&refused, 403, "InvalidAccessKeyId");
    for expires in ["1", "0", "-1"] {
        let text = format!("GET\n\n\n{expires}\n/bucket/k");
        let line = format!("GET /bucket/k?{}", signed(&text, "", expires));
        is_error(&tell(&service, &line, "", "").await, 403, "AccessDenied");
    }
}

#[tokio::test]
async fn what_version_2_would_leave_unsigned_is_refused() {
    let service = with_bucket().await;
    let text = format!("GET\n\n\n{NEVER}\n/bucket");
    let list = signed(&text, "", NEVER);
    assert_eq!(tell(&service, &format!("GET /bucket?{list}"), "", "").await.status, 200);
    let auth = "authorization: AWS4-HMAC-SHA256 x\r\n";
    for (query, headers) in [
        (format!("prefix=a&{list}"), ""),
        (format!("list-type=2&{list}"), ""),
        (format!("x-id=ListObjects&{list}"), ""),
        (format!("uploads&uploads&{list}"), ""),
        (format!("X-Amz-Signature=0&{list}"), ""),
        (format!("x-amz-meta-%20=b&{list}"), ""),
        (list.clone(), auth),
    ] {
        let refused = tell(&service, &format!("GET /bucket?{query}"), headers, "").await;
        is_error(&refused, 400, "InvalidArgument");
    }
    for query in [
        list.replace("Expires=", "Expired="),
        list.replace("Signature=", "Sign="),
        list.replace("AWSAccessKeyId=", "Key="),
        format!("{list}&Expires=1"),
        list.replace(NEVER, "tomorrow"),
    ] {
        let refused = tell(&service, &format!("GET /bucket?{query}"), "", "").await;
        is_error(&refused, 403, "AccessDenied");
    }
}

#[tokio::test]
async fn version_2_signs_the_bucket_of_a_host() {
    let (front, calls) = Front::new();
    tokio::spawn(crate::support::run(calls));
    let service = under(front, Domains::parse(["s3.example.com"]).unwrap());
    assert_eq!(plan("PUT", "/bucket", "").expect(&service).await.status, 200);
    assert_eq!(plan("PUT", "/bucket/k", "").body(b"x").expect(&service).await.status, 200);
    let query = signed(&format!("GET\n\n\n{NEVER}\n/bucket/k"), "", NEVER);
    for (host, status) in [("bucket", 200), ("other", 403)] {
        let request = format!(
            "GET /k?{query} HTTP/1.1\r\nhost: {host}.s3.example.com:9000\r\nconnection: close\r\n\r\n"
        );
        let told = answer(&exchange(&service, request.as_bytes()).await).unwrap();
        assert_eq!(told.status, status, "{}", told.text());
    }
}
