//! Who may ask: clock skew, presigned requests, and what a signature must look like.

use super::{is_error, with_bucket};
use crate::support::client::{Answer, UNSIGNED, answer, exchange, plan};
use crate::support::signing::Moment;

/// So many seconds from now, as `x-amz-date` writes it.
fn shifted(seconds: i64) -> String {
    let at = time::OffsetDateTime::now_utc() + time::Duration::seconds(seconds);
    let day = format!("{:04}{:02}{:02}", at.year(), u8::from(at.month()), at.day());
    format!("{day}T{:02}{:02}{:02}Z", at.hour(), at.minute(), at.second())
}

async fn tell(service: &trine_s3::S3Http, bytes: &[u8]) -> Answer {
    answer(&exchange(service, bytes).await).expect("an answer")
}

#[tokio::test]
async fn clocks_may_differ_by_a_quarter_of_an_hour() {
    let service = with_bucket().await;
    for seconds in [-840, -5, 5, 840] {
        let list = plan("GET", "/", "").at(&shifted(seconds)).expect(&service).await;
        assert_eq!(list.status, 200, "{seconds}: {}", list.text());
    }
    for seconds in [-86_400, -960, 960, 86_400] {
        let put = plan("PUT", "/bucket/k", "").at(&shifted(seconds)).body(b"x");
        is_error(&put.expect(&service).await, 403, "RequestTimeTooSkewed");
    }
    is_error(&plan("GET", "/bucket/k", "").expect(&service).await, 404, "NoSuchKey");
}

#[tokio::test]
async fn a_presigned_request_holds_as_long_as_it_says() {
    let service = with_bucket().await;
    plan("PUT", "/bucket/k", "").body(b"x").expect(&service).await;
    let get = |seconds: i64| plan("GET", "/bucket/k", "").at(&shifted(seconds));
    // A week, to the last day of it.
    for (since, expires) in [(0, 1), (-50, 60), (-604_000, 604_800), (600, 60)] {
        let told = tell(&service, &get(since).presigned(expires)).await;
        assert_eq!(told.status, 200, "{since} {expires}: {}", told.text());
    }
    for (since, expires) in [(-61, 60), (-604_900, 604_800), (-2, 0)] {
        is_error(&tell(&service, &get(since).presigned(expires)).await, 403, "AccessDenied");
    }
    // Signed in the future.
    is_error(&tell(&service, &get(1200).presigned(60)).await, 403, "RequestTimeTooSkewed");
    for expires in ["604801", "99999999999999999999999", "-1", "", "abc", "1e3", "0x10"] {
        let told = tell(&service, &get(0).presigned(expires)).await;
        is_error(&told, 400, "AuthorizationQueryParametersError");
    }
}

#[tokio::test]
async fn a_presigned_request_has_all_its_parameters_once() {
    let service = with_bucket().await;
    let good = String::from_utf8(plan("GET", "/", "").presigned(60)).unwrap();
    assert_eq!(tell(&service, good.as_bytes()).await.status, 200);
    let (line, rest) = good.split_once(" HTTP/1.1").unwrap();
    let query = line.split_once('?').unwrap().1;
    for parameter in query.split('&') {
        let others: Vec<&str> = query.split('&').filter(|other| *other != parameter).collect();
        let without = format!("GET /?{} HTTP/1.1{rest}", others.join("&"));
        let told = tell(&service, without.as_bytes()).await;
        is_error(&told, 400, "AuthorizationQueryParametersError");
        let twice = format!("GET /?{query}&{parameter} HTTP/1.1{rest}");
        let told = tell(&service, twice.as_bytes()).await;
        is_error(&told, 400, "AuthorizationQueryParametersError");
    }
    let other = good.replace("AWS4-HMAC-SHA256", "AWS4-ECDSA-P256-SHA256");
    let told = tell(&service, other.as_bytes()).await;
    is_error(&told, 400, "AuthorizationQueryParametersError");
    let both = plan("GET", "/", query).bytes();
    is_error(&tell(&service, &both).await, 400, "InvalidArgument");
}

#[tokio::test]
async fn headers_among_the_parameters_of_a_presigned_request_count() {
    let service = with_bucket().await;
    let put = |query| plan("PUT", "/bucket/k", query).body(b"x").presigned(60);
    let query = "x-amz-checksum-crc32=AAAAAA%3D%3D&x-amz-meta-one=a%20b&\
                 x-amz-sdk-checksum-algorithm=CRC32&x-amz-tagging=t%3D1&x-id=PutObject";
    let told = tell(&service, &put(query)).await;
    assert_eq!(told.status, 200, "{}", told.text());
    let head = plan("HEAD", "/bucket/k", "").expect(&service).await;
    assert_eq!(head.header("x-amz-meta-one"), Some("a b"));
    assert_eq!(head.header("x-amz-tagging-count"), Some("1"));
    // What is not built must not be ignored, wherever it stands.
    for (query, status, code) in [
        ("x-amz-acl=public-read", 501, "NotImplemented"),
        ("x-amz-server-side-encryption=AES256", 501, "NotImplemented"),
        ("x-amz-storage-class=GLACIER", 400, "InvalidStorageClass"),
        ("x-amz-meta-a=%0A", 400, "InvalidArgument"),
        ("x-amz-meta-%20=1", 400, "InvalidArgument"),
        ("x-amz-meta-a=1&x-amz-meta-a=2", 400, "InvalidArgument"),
    ] {
        is_error(&tell(&service, &put(query)).await, status, code);
    }
    let twice = plan("PUT", "/bucket/k", "x-amz-meta-a=1").header("x-amz-meta-a", "2");
    is_error(&tell(&service, &twice.body(b"x").presigned(60)).await, 400, "InvalidArgument");
    // Altered, or not presigned, they are what they were.
    let altered = String::from_utf8(put("x-amz-meta-a=1")).unwrap();
    let altered = altered.replace("meta-a=1", "meta-a=2");
    is_error(&tell(&service, altered.as_bytes()).await, 403, "SignatureDoesNotMatch");
    let plain = plan("PUT", "/bucket/k", "x-amz-meta-a=1").body(b"x").expect(&service).await;
    assert_eq!(plain.status, 200);
    let head = plan("HEAD", "/bucket/k", "").expect(&service).await;
    assert_eq!(head.header("x-amz-meta-a"), None);
}

#[tokio::test]
async fn authorizations_of_odd_shapes_are_refused_with_a_document() {
    let service = with_bucket().await;
    let now = Moment::now();
    let scope = now.scope();
    let signature = "a".repeat(64);
    let good_shape = format!(
        "AWS4-HMAC-SHA256 Credential=key/{scope},SignedHeaders=host;x-amz-content-sha256;x-amz-date,\
         Signature={signature}"
    );
    let corpus = include_str!("../corpus/authorization.txt")
        .lines()
        .filter(|line| !line.starts_with('#') && !line.is_empty());
    let corpus = corpus.map(|line| line.replace("SCOPE", &scope).replace("SIGNATURE", &signature));
    for value in corpus.chain([good_shape]) {
        let request = format!(
            "GET / HTTP/1.1\r\nhost: localhost\r\nx-amz-date: {}\r\nx-amz-content-sha256: \
             {UNSIGNED}\r\nauthorization: {value}\r\nconnection: close\r\n\r\n",
            now.date
        );
        let told = tell(&service, request.as_bytes()).await;
        assert!(matches!(told.status, 400 | 403), "{value}: {}", told.text());
        assert!(told.element("RequestId").is_some(), "{value}: {}", told.text());
    }
}
