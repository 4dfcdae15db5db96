//! The service over real HTTP, against a gateway in memory. What closes a gap of s3s has its test in
//! `front/weaknesses.rs`, beside what s3s does alone.

use crate::support::client::{Answer, UNSIGNED, memory, plan, service, under};
use trine_core::effects::GatewayEvent;
use trine_core::request::{ApiError, Reply, Request};
use trine_s3::front::{Front, FrontCall, FrontReply};
use trine_s3::{Domains, Room, S3Http};

async fn with_bucket() -> S3Http {
    let service = memory();
    assert_eq!(plan("PUT", "/bucket", "").expect(&service).await.status, 200);
    service
}

fn is_error(answer: &Answer, status: u16, code: &str) {
    let text = answer.text();
    assert_eq!(answer.status, status, "{text}");
    assert!(text.contains(&format!("<Code>{code}</Code>")), "{text}");
    let id = answer.header("x-amz-request-id").expect("every answer has an id");
    assert!(text.contains(&format!("<RequestId>{id}</RequestId>")), "{text}");
    assert!(text.contains("<HostId>") && text.contains("<Resource>"), "{text}");
    assert!(text.contains("<Message>"), "{text}");
}

#[tokio::test]
async fn what_is_put_comes_back_with_its_attributes() {
    let service = with_bucket().await;
    let body: Vec<u8> = (0..300_000_u32).flat_map(u32::to_le_bytes).collect();
    let put = plan("PUT", "/bucket/a%20key", "")
        .header("content-type", "text/x-test")
        .header("x-amz-meta-one", "1")
        .header("expires", "never, as it came")
        .body(&body);
    let answer = put.expect(&service).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let etag = answer.header("etag").unwrap().to_owned();
    let get = plan("GET", "/bucket/a%20key", "").expect(&service).await;
    assert_eq!(get.status, 200);
    assert!(get.body == body, "the same bytes");
    assert_eq!(get.header("etag"), Some(etag.as_str()));
    assert_eq!(get.header("content-type"), Some("text/x-test"));
    assert_eq!(get.header("x-amz-meta-one"), Some("1"));
    assert_eq!(get.header("expires"), Some("never, as it came"));
    let head = plan("HEAD", "/bucket/a%20key", "").expect(&service).await;
    assert_eq!(head.header("content-length"), Some("1200000"));
    assert!(head.body.is_empty());
}

#[tokio::test]
async fn aws_chunked_bodies_are_held_against_their_length() {
    // s3s 0.14.1 does not notice the short one.
    let service = with_bucket().await;
    let send =
        |data: &'static [u8], decoded| plan("PUT", "/bucket/k", "").chunked(data, decoded, None);
    is_error(&send(b"hell", 5).expect(&service).await, 400, "IncompleteBody");
    is_error(&send(b"hello!", 5).expect(&service).await, 400, "InvalidRequest");
    is_error(&plan("GET", "/bucket/k", "").expect(&service).await, 404, "NoSuchKey");
    assert_eq!(send(b"hello", 5).expect(&service).await.status, 200);
    let get = plan("GET", "/bucket/k", "").expect(&service).await;
    assert_eq!((get.text().as_str(), get.header("content-encoding")), ("hello", None));
}

#[tokio::test]
async fn a_giant_unsigned_chunk_with_a_trailing_checksum_is_stored() {
    let service = with_bucket().await;
    let data = vec![0; 1 << 20];
    let good = Some(("x-amz-checksum-crc32", "pzjqHA=="));
    let put = |trailer| plan("PUT", "/bucket/k", "").chunked(&data, data.len(), trailer);
    let bad = put(Some(("x-amz-checksum-crc32", "AAAAAA=="))).expect(&service).await;
    is_error(&bad, 400, "BadDigest");
    let answer = put(good).expect(&service).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.header("x-amz-checksum-crc32"), Some("pzjqHA=="));
}

#[tokio::test]
async fn wrong_digests_are_refused_and_store_nothing() {
    let service = with_bucket().await;
    let put = || plan("PUT", "/bucket/k", "").body(b"hello");
    let zero = "0".repeat(64);
    for (plan, code) in [
        (put().payload(&zero), "XAmzContentSHA256Mismatch"),
        (put().header("content-md5", "AAAAAAAAAAAAAAAAAAAAAA=="), "BadDigest"),
        (put().header("content-md5", "nonsense"), "InvalidDigest"),
        (put().header("x-amz-checksum-crc32", "AAAAAA=="), "BadDigest"),
        (put().header("x-amz-checksum-sha256", "AAAA"), "InvalidRequest"),
    ] {
        is_error(&plan.expect(&service).await, 400, code);
    }
    is_error(&plan("GET", "/bucket/k", "").expect(&service).await, 404, "NoSuchKey");
}

#[tokio::test]
async fn requests_without_signature_length_or_meaning_are_refused() {
    let service = with_bucket().await;
    let anonymous = b"GET /bucket/k HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
    let raw = crate::support::client::exchange(&service, anonymous).await;
    is_error(&crate::support::client::answer(&raw).unwrap(), 403, "AccessDenied");
    let lengthless = plan("PUT", "/bucket/k", "").payload(UNSIGNED);
    is_error(&lengthless.expect(&service).await, 411, "MissingContentLength");
    let class = plan("PUT", "/bucket/k", "").header("x-amz-storage-class", "GLACIER").body(b"");
    is_error(&class.expect(&service).await, 400, "InvalidStorageClass");
    let sse = plan("PUT", "/bucket/k", "").header("x-amz-server-side-encryption", "AES256");
    is_error(&sse.body(b"").expect(&service).await, 501, "NotImplemented");
    is_error(&plan("GET", "/bucket", "versions=").expect(&service).await, 501, "NotImplemented");
    let long = plan("PUT", "/bucket/k", "").header("x-amz-meta-a", &"a".repeat(2048)).body(b"");
    is_error(&long.expect(&service).await, 400, "MetadataTooLarge");
}

#[tokio::test]
async fn pages_of_a_listing_join_without_gaps() {
    let service = with_bucket().await;
    for key in ["a/1", "a/2", "b", "c/1", "d"] {
        plan("PUT", &format!("/bucket/{key}"), "").body(b"").expect(&service).await;
    }
    let first = plan("GET", "/bucket", "delimiter=%2F&list-type=2&max-keys=2");
    let first = first.expect(&service).await.text();
    assert!(first.contains("<KeyCount>2</KeyCount><IsTruncated>true</IsTruncated>"), "{first}");
    assert!(first.contains("<CommonPrefixes><Prefix>a/</Prefix></CommonPrefixes>"), "{first}");
    let token = first.split_once("<NextContinuationToken>").unwrap().1.split_once('<').unwrap().0;
    let query =
        format!("continuation-token={}&delimiter=%2F&list-type=2", token.replace('=', "%3D"));
    let second = plan("GET", "/bucket", &query).expect(&service).await.text();
    assert!(second.contains("<Key>d</Key>") && second.contains("<Prefix>c/</Prefix>"), "{second}");
    assert!(
        !second.contains("<Prefix>a/</Prefix>") && !second.contains("<Key>b</Key>"),
        "{second}"
    );
    let none = plan("GET", "/bucket", "max-keys=0").expect(&service).await.text();
    assert!(none.contains("<IsTruncated>false</IsTruncated>") && !none.contains("<Key>"), "{none}");
}

#[tokio::test]
async fn hosts_under_a_base_domain_name_buckets_and_others_do_not() {
    let (front, calls) = Front::new();
    tokio::spawn(crate::support::run(calls));
    let service = under(front, Domains::parse(["s3.test"]).unwrap());
    assert_eq!(plan("PUT", "/", "").host("Bucket.s3.test:9000").expect(&service).await.status, 200);
    let put = plan("PUT", "/a/key", "").host("bucket.s3.test").body(b"x");
    assert_eq!(put.expect(&service).await.status, 200);
    for host in ["localhost:9000", "s3.test:9000", "127.0.0.1", "other.example"] {
        let get = plan("GET", "/bucket/a/key", "").host(host).expect(&service).await;
        assert_eq!((get.status, get.text().as_str()), (200, "x"), "{host}");
    }
}

#[tokio::test]
async fn the_body_is_asked_for_only_when_the_gateway_has_room() {
    let (front, mut calls) = Front::new();
    let service = service(front);
    let put = plan("PUT", "/bucket/k", "").unsigned("expect", "100-continue").body(b"hello");
    let sent = tokio::spawn(async move { put.send(&service).await });
    let Some(FrontCall::Open { replies, request: Request::Put(_), .. }) = calls.recv().await else {
        panic!("no request")
    };
    // No credit: nothing of the body may come in.
    let early = tokio::time::timeout(std::time::Duration::from_millis(50), calls.recv()).await;
    assert!(early.is_err(), "{early:?}");
    let mut got = Vec::new();
    for credit in [2, 3] {
        replies.send(FrontReply::NeedBody(credit)).unwrap();
        let Some(FrontCall::Event(GatewayEvent::Body { bytes, .. })) = calls.recv().await else {
            panic!("no body")
        };
        assert_eq!(bytes.len() as u64, credit);
        got.extend_from_slice(&bytes);
    }
    assert_eq!(got, b"hello");
    let end = calls.recv().await;
    assert!(matches!(end, Some(FrontCall::Event(GatewayEvent::BodyEnd { .. }))), "{end:?}");
    replies.send(FrontReply::Reply(Err(ApiError::StorageFull("full".to_owned())))).unwrap();
    is_error(&sent.await.unwrap().unwrap(), 507, "InsufficientStorage");
}

#[tokio::test]
async fn who_is_told_to_slow_down_hears_when_to_come_again() {
    let (front, mut calls) = Front::new();
    let service = service(front);
    let put = plan("PUT", "/bucket/k", "").unsigned("expect", "100-continue").body(b"hello");
    let sent = tokio::spawn(async move { put.send(&service).await });
    let Some(FrontCall::Open { replies, .. }) = calls.recv().await else { panic!("no request") };
    replies.send(FrontReply::Reply(Err(ApiError::SlowDown("no room".to_owned())))).unwrap();
    let answer = sent.await.unwrap().unwrap();
    is_error(&answer, 503, "SlowDown");
    assert_eq!(answer.header("retry-after"), Some("1"));
    assert!(!answer.head.contains("100 Continue"), "{}", answer.head);
}

#[tokio::test]
async fn documents_beyond_their_room_are_refused_and_the_room_is_given_back() {
    let (front, calls) = Front::new();
    tokio::spawn(crate::support::run(calls));
    let documents = Room::new(3 * 600);
    let service = crate::support::client::with_room(front, documents.clone());
    plan("PUT", "/bucket", "").expect(&service).await;
    let delete = |keys: usize| {
        let key = "<Object><Key>k</Key></Object>";
        let xml = format!("<Delete>{}</Delete>", key.repeat(keys));
        plan("POST", "/bucket", "delete=").body(xml.as_bytes())
    };
    // One whose gateway does not answer has some of the room; alone a document may exceed it.
    let (silent, gateway) = Front::new();
    let silent = crate::support::client::with_room(silent, documents.clone());
    let one = delete(1);
    let held = tokio::spawn(async move { one.send(&silent).await });
    while documents.bytes().0 == 0 {
        tokio::task::yield_now().await;
    }
    let answer = delete(100).send(&service).await.unwrap();
    is_error(&answer, 503, "SlowDown");
    // It is given back when the gateway is gone, and with it the request.
    drop(gateway);
    assert!(held.await.unwrap().is_none());
    let answer = delete(5).send(&service).await.unwrap();
    assert_ne!(answer.status, 503, "{}", answer.text());
    assert_eq!(documents.bytes(), (0, 3 * 600));
}

#[tokio::test]
async fn an_unknown_outcome_breaks_the_connection_without_an_answer() {
    let (front, mut calls) = Front::new();
    let service = service(front);
    let delete = plan("DELETE", "/bucket/k", "");
    let sent = tokio::spawn(async move { delete.send(&service).await });
    let Some(FrontCall::Open { replies, .. }) = calls.recv().await else { panic!("no request") };
    replies.send(FrontReply::Disconnect("no zone answers".to_owned())).unwrap();
    assert!(sent.await.unwrap().is_none());
}

#[tokio::test]
async fn a_body_that_fails_on_its_way_out_ends_short_of_its_length() {
    let service = with_bucket().await;
    plan("PUT", "/bucket/k", "").body(b"hello").expect(&service).await;
    let (front, mut gateway) = Front::new();
    let broken = crate::support::client::service(front);
    let reply = {
        let (front, calls) = Front::new();
        tokio::spawn(crate::support::run(calls));
        let memory = crate::support::client::service(front.clone());
        plan("PUT", "/bucket", "").expect(&memory).await;
        plan("PUT", "/bucket/k", "").body(b"hello").expect(&memory).await;
        record_of(&front).await
    };
    let sent = tokio::spawn(async move { plan("GET", "/bucket/k", "").send(&broken).await });
    let Some(FrontCall::Open { replies, .. }) = gateway.recv().await else { panic!("no request") };
    replies.send(FrontReply::Reply(Ok(reply))).unwrap();
    replies.send(FrontReply::Body(bytes::Bytes::from_static(b"he"))).unwrap();
    replies.send(FrontReply::BodyFailed("no copy is whole".to_owned())).unwrap();
    let answer = sent.await.unwrap();
    assert!(answer.is_none_or(|answer| {
        answer.header("content-length") == Some("5") && answer.body.len() < 5
    }));
}

/// The reply to a GET of `bucket/k`.
async fn record_of(front: &Front) -> Reply {
    use trine_core::object::{BucketName, ObjectKey};
    use trine_core::request::{BucketPath, GetRequest, ObjectPath, ReadConditions};
    let bucket = BucketPath {
        tenant: trine_core::ids::TenantId(0),
        name: BucketName::parse("bucket").unwrap(),
    };
    let path = ObjectPath { bucket, key: ObjectKey::parse("k").unwrap() };
    let conditions = ReadConditions::default();
    let get = GetRequest { path, range: None, part_number: None, conditions };
    match front.open(Request::Get(get)).unwrap().next().await {
        Some(FrontReply::Reply(Ok(reply))) => reply,
        other => panic!("no reply: {other:?}"),
    }
}
