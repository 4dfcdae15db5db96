//! CopyObject and UploadPartCopy over real HTTP, against a gateway in memory or a scripted one.

use crate::support::client::{Answer, Plan, memory, plan, service};
use md5::{Digest, Md5};
use trine_core::effects::GatewayEvent;
use trine_core::object::ETag;
use trine_core::request::{ApiError, Copying, Reply, Request};
use trine_core::time::WallTime;
use trine_s3::S3Http;
use trine_s3::front::{Front, FrontCall, FrontReply};

const COPY: &str = "x-amz-copy-source";

async fn with_bucket() -> S3Http {
    let service = memory();
    assert_eq!(plan("PUT", "/bucket", "").expect(&service).await.status, 200);
    service
}

fn body(length: u32) -> Vec<u8> {
    (0..length).map(|at| u8::try_from(at * 31 % 251).unwrap()).collect()
}

fn tag(bytes: &[u8]) -> String {
    let hex: String = Md5::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("\"{hex}\"")
}

fn is_error(answer: &Answer, status: u16, code: &str) {
    let text = answer.text();
    assert_eq!((answer.status, answer.element("Code").as_deref()), (status, Some(code)), "{text}");
}

async fn ok(plan: Plan, service: &S3Http) -> Answer {
    let answer = plan.expect(service).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer
}

fn put(path: &str, bytes: &[u8]) -> Plan {
    plan("PUT", path, "").body(bytes)
}

fn copy(from: &str, to: &str) -> Plan {
    plan("PUT", to, "").header(COPY, from).body(b"")
}

#[tokio::test]
async fn a_copy_has_bytes_tag_and_words_of_its_source() {
    let service = with_bucket().await;
    let bytes = body(200_000);
    let source = put("/bucket/a%20b", &bytes)
        .header("content-type", "text/plain")
        .header("x-amz-meta-colour", "blue")
        .header("x-amz-website-redirect-location", "/elsewhere")
        .header("x-amz-tagging", "k=v");
    ok(source, &service).await;
    for from in ["/bucket/a%20b", "bucket/a%20b", "bucket%2Fa%20b", "bucket/a%20b?versionId=null"] {
        let answer = ok(copy(from, "/bucket/copy"), &service).await;
        assert_eq!(answer.header("content-type"), Some("application/xml"));
        let quoted = tag(&bytes).replace('"', "&quot;");
        assert_eq!(answer.element("ETag").as_deref(), Some(quoted.as_str()));
        let modified = answer.element("LastModified").unwrap();
        assert!(answer.text().contains("<CopyObjectResult xmlns="), "{}", answer.text());
        let got = ok(plan("GET", "/bucket/copy", ""), &service).await;
        assert_eq!((got.body == bytes, got.header("etag")), (true, Some(tag(&bytes).as_str())));
        assert_eq!(got.header("content-type"), Some("text/plain"));
        assert_eq!(got.header("x-amz-meta-colour"), Some("blue"));
        assert_eq!(got.header("x-amz-tagging-count"), Some("1"));
        assert_eq!(got.header("x-amz-website-redirect-location"), None);
        let listed = ok(plan("GET", "/bucket", "list-type=2"), &service).await.text();
        assert!(listed.contains(&modified), "{modified} in {listed}");
    }
}

#[tokio::test]
async fn directives_say_whose_words_a_copy_has() {
    let service = with_bucket().await;
    let source =
        put("/bucket/k", b"abc").header("x-amz-meta-a", "1").header("x-amz-tagging", "k=v");
    ok(source, &service).await;
    let replaced = copy("bucket/k", "/bucket/copy")
        .header("x-amz-metadata-directive", "REPLACE")
        .header("x-amz-tagging-directive", "REPLACE")
        .header("x-amz-tagging", "x=1&y=2")
        .header("x-amz-website-redirect-location", "/there")
        .header("content-type", "image/png")
        .header("x-amz-meta-b", "2");
    ok(replaced, &service).await;
    let got = ok(plan("HEAD", "/bucket/copy", ""), &service).await;
    assert_eq!(got.header("content-type"), Some("image/png"));
    assert_eq!((got.header("x-amz-meta-a"), got.header("x-amz-meta-b")), (None, Some("2")));
    assert_eq!(got.header("x-amz-tagging-count"), Some("2"));
    assert_eq!(got.header("x-amz-website-redirect-location"), Some("/there"));
    // What is said beside a directive to copy is not heard.
    let kept = copy("bucket/k", "/bucket/copy")
        .header("x-amz-metadata-directive", "COPY")
        .header("x-amz-tagging", "x=1&y=2")
        .header("x-amz-meta-b", "2");
    ok(kept, &service).await;
    let got = ok(plan("HEAD", "/bucket/copy", ""), &service).await;
    assert_eq!((got.header("x-amz-meta-a"), got.header("x-amz-meta-b")), (Some("1"), None));
    assert_eq!(got.header("x-amz-tagging-count"), Some("1"));
    for (name, value) in [("x-amz-metadata-directive", "SOME"), ("x-amz-tagging-directive", "copy")]
    {
        let refused = copy("bucket/k", "/bucket/copy").header(name, value);
        is_error(&refused.expect(&service).await, 400, "InvalidArgument");
    }
}

#[tokio::test]
async fn a_copy_onto_itself_must_change_something() {
    let service = with_bucket().await;
    ok(put("/bucket/k", b"abc"), &service).await;
    for from in ["bucket/k", "/bucket/%6B", "bucket/k?versionId=null"] {
        let refused = copy(from, "/bucket/k").expect(&service).await;
        is_error(&refused, 400, "InvalidRequest");
        let message = "This copy request is illegal because it is trying to copy an object to \
                       itself without changing the object&apos;s metadata, storage class, website \
                       redirect location or encryption attributes.";
        let said = refused.element("Message").unwrap().replace('\'', "&apos;");
        assert_eq!(said, message);
    }
    for (name, value) in [
        ("x-amz-metadata-directive", "REPLACE"),
        ("x-amz-tagging-directive", "REPLACE"),
        ("x-amz-storage-class", "STANDARD"),
        ("x-amz-website-redirect-location", "/x"),
        ("x-amz-checksum-algorithm", "SHA256"),
    ] {
        ok(copy("bucket/k", "/bucket/k").header(name, value), &service).await;
    }
    assert_eq!(ok(plan("GET", "/bucket/k", ""), &service).await.body, b"abc");
}

#[tokio::test]
async fn conditions_of_the_source_that_fail_answer_412() {
    let service = with_bucket().await;
    ok(put("/bucket/k", b"abc"), &service).await;
    let modified = ok(plan("HEAD", "/bucket/k", ""), &service).await;
    let modified = modified.header("last-modified").unwrap().to_owned();
    let (tag, other) = (tag(b"abc"), tag(b"other"));
    let (old, far) = ("Wed, 21 Oct 2015 07:28:00 GMT", "Wed, 21 Oct 2065 07:28:00 GMT");
    let (matches, none) = ("x-amz-copy-source-if-match", "x-amz-copy-source-if-none-match");
    let since = "x-amz-copy-source-if-modified-since";
    let unmodified = "x-amz-copy-source-if-unmodified-since";
    for (headers, status) in [
        (vec![(matches, tag.as_str())], 200),
        (vec![(matches, other.as_str())], 412),
        (vec![(none, other.as_str())], 200),
        (vec![(none, tag.as_str())], 412),
        (vec![(none, "*")], 412),
        (vec![(since, old)], 200),
        (vec![(since, modified.as_str())], 412),
        (vec![(since, far)], 412),
        (vec![(unmodified, modified.as_str())], 200),
        (vec![(unmodified, old)], 412),
        (vec![(since, "yesterday")], 200),
        // The tag decides where both are given.
        (vec![(matches, tag.as_str()), (unmodified, old)], 200),
        (vec![(none, tag.as_str()), (since, old)], 412),
    ] {
        let mut asked = copy("bucket/k", "/bucket/copy");
        for (name, value) in &headers {
            asked = asked.header(name, value);
        }
        let answer = asked.expect(&service).await;
        assert_eq!(answer.status, status, "{headers:?}: {}", answer.text());
        if status == 412 {
            is_error(&answer, 412, "PreconditionFailed");
        }
    }
    let exists = copy("bucket/k", "/bucket/copy").header("if-none-match", "*");
    is_error(&exists.expect(&service).await, 412, "PreconditionFailed");
    let other = copy("bucket/k", "/bucket/copy").header("if-match", &other);
    is_error(&other.expect(&service).await, 412, "PreconditionFailed");
}

#[tokio::test]
async fn sources_that_are_missing_or_malformed_are_refused() {
    let service = with_bucket().await;
    ok(put("/bucket/k", b"abc"), &service).await;
    let long = format!("bucket/{}", "x".repeat(1025));
    for (from, status, code) in [
        ("bucket/nothing", 404, "NoSuchKey"),
        ("elsewhere/k", 404, "NoSuchBucket"),
        ("bucket", 400, "InvalidArgument"),
        ("/bucket/", 400, "InvalidArgument"),
        ("/", 400, "InvalidArgument"),
        ("B_/k", 400, "InvalidArgument"),
        ("bucket/%FF", 400, "InvalidArgument"),
        ("bucket/k?versionId=abc", 400, "InvalidArgument"),
        (long.as_str(), 400, "KeyTooLongError"),
    ] {
        let answer = copy(from, "/bucket/copy").expect(&service).await;
        assert_eq!(answer.status, status, "{from}: {}", answer.text());
        is_error(&answer, status, code);
    }
    for (name, value, status, code) in [
        ("x-amz-storage-class", "GLACIERS", 400, "InvalidStorageClass"),
        ("x-amz-server-side-encryption", "AES256", 501, "NotImplemented"),
        (
            "x-amz-copy-source-server-side-encryption-customer-algorithm",
            "AES256",
            501,
            "NotImplemented",
        ),
        ("x-amz-checksum-algorithm", "MD4", 400, "InvalidRequest"),
        ("x-amz-source-expected-bucket-owner", "somebody", 403, "AccessDenied"),
        ("x-amz-expected-bucket-owner", "somebody", 403, "AccessDenied"),
    ] {
        let refused = copy("bucket/k", "/bucket/copy").header(name, value);
        is_error(&refused.expect(&service).await, status, code);
    }
    assert_eq!(plan("HEAD", "/bucket/copy", "").expect(&service).await.status, 404);
    // An unsigned header must not make a copy of a put.
    let smuggled = put("/bucket/copy", b"").unsigned(COPY, "bucket/k");
    is_error(&smuggled.expect(&service).await, 403, "AccessDenied");
    let with_body = plan("PUT", "/bucket/copy", "").header(COPY, "bucket/k").body(b"abc");
    is_error(&with_body.expect(&service).await, 400, "MaxMessageLengthExceeded");
    // On anything but an object's PUT the header names no operation.
    let get = plan("GET", "/bucket/k", "").header(COPY, "bucket/k").expect(&service).await;
    assert_eq!(get.status, 501, "{}", get.text());
}

#[tokio::test]
async fn checksums_are_of_the_copied_bytes() {
    let service = with_bucket().await;
    let bytes = body(123_456);
    ok(put("/bucket/k", &bytes).header("x-amz-sdk-checksum-algorithm", "CRC32"), &service).await;
    let crc = |algorithm, width: usize| {
        use base64::Engine;
        let sum = crc_fast::checksum(algorithm, &bytes).to_be_bytes();
        base64::engine::general_purpose::STANDARD.encode(&sum[8 - width..])
    };
    let kept = crc(crc_fast::CrcAlgorithm::Crc32IsoHdlc, 4);
    let chosen = crc(crc_fast::CrcAlgorithm::Crc64Nvme, 8);
    for (algorithm, element, header, value) in [
        (None, "ChecksumCRC32", "x-amz-checksum-crc32", &kept),
        (Some("CRC64NVME"), "ChecksumCRC64NVME", "x-amz-checksum-crc64nvme", &chosen),
    ] {
        let mut asked = copy("bucket/k", "/bucket/copy");
        if let Some(algorithm) = algorithm {
            asked = asked.header("x-amz-checksum-algorithm", algorithm);
        }
        let answer = ok(asked, &service).await;
        assert_eq!(answer.element(element).as_ref(), Some(value));
        assert_eq!(answer.element("ChecksumType").as_deref(), Some("FULL_OBJECT"));
        let head = plan("HEAD", "/bucket/copy", "").header("x-amz-checksum-mode", "ENABLED");
        assert_eq!(ok(head, &service).await.header(header), Some(value.as_str()));
    }
}

#[tokio::test]
async fn parts_are_copied_by_ranges_and_joined() {
    let service = with_bucket().await;
    let bytes = body(6 << 20);
    ok(put("/bucket/k", &bytes), &service).await;
    let create =
        plan("POST", "/bucket/joined", "uploads=").header("x-amz-checksum-algorithm", "CRC32C");
    let upload = ok(create, &service).await.element("UploadId").unwrap();
    let part = |number: u16, range: Option<&str>| {
        let query = format!("partNumber={number}&uploadId={upload}");
        let asked = plan("PUT", "/bucket/joined", &query).header(COPY, "/bucket/k").body(b"");
        match range {
            Some(range) => asked.header("x-amz-copy-source-range", range),
            None => asked,
        }
    };
    let mut listed = String::new();
    for (number, range, expected) in
        [(1, None, &bytes[..]), (2, Some("bytes=5-12345"), &bytes[5..=12_345])]
    {
        let answer = ok(part(number, range), &service).await;
        assert!(answer.text().contains("<CopyPartResult xmlns="), "{}", answer.text());
        let quoted = tag(expected).replace('"', "&quot;");
        assert_eq!(answer.element("ETag").as_deref(), Some(quoted.as_str()));
        assert!(answer.element("ChecksumCRC32C").is_some());
        assert!(answer.element("LastModified").is_some());
        let line = format!("<Part><PartNumber>{number}</PartNumber><ETag>{quoted}</ETag></Part>");
        listed.push_str(&line);
    }
    for range in ["bytes=0-", "bytes=-5", "0-5", "bytes=5-3", "bytes=0-1,3-4", "bytes=a-b"] {
        is_error(&part(3, Some(range)).expect(&service).await, 400, "InvalidArgument");
    }
    let end = format!("bytes=0-{}", bytes.len());
    is_error(&part(3, Some(&end)).expect(&service).await, 416, "InvalidRange");
    for (query, status, code) in [
        ("partNumber=0&uploadId=x", 400, "InvalidArgument"),
        ("partNumber=1&uploadId=x", 404, "NoSuchUpload"),
    ] {
        let asked = plan("PUT", "/bucket/joined", query).header(COPY, "/bucket/k").body(b"");
        is_error(&asked.expect(&service).await, status, code);
    }
    let document = format!("<CompleteMultipartUpload>{listed}</CompleteMultipartUpload>");
    let join = plan("POST", "/bucket/joined", &format!("uploadId={upload}"));
    ok(join.body(document.as_bytes()), &service).await;
    let whole = [&bytes[..], &bytes[5..=12_345]].concat();
    let got = ok(plan("GET", "/bucket/joined", ""), &service).await;
    assert!(got.body == whole);
    assert!(got.header("etag").unwrap().ends_with("-2\""));
    // A copy of it is one object with the MD5 of its bytes.
    ok(copy("bucket/joined", "/bucket/one"), &service).await;
    let got = ok(plan("GET", "/bucket/one", ""), &service).await;
    assert_eq!((got.body == whole, got.header("etag")), (true, Some(tag(&whole).as_str())));
}

/// What a scripted gateway answers to a copy; whether it was cancelled is told behind.
async fn scripted(script: Vec<FrontReply>) -> (Option<Answer>, bool) {
    let (front, mut calls) = Front::new();
    let gateway = tokio::spawn(async move {
        let Some(FrontCall::Open { replies, request: Request::Copy(_), .. }) = calls.recv().await
        else {
            panic!("no copy")
        };
        for reply in script {
            tokio::task::yield_now().await;
            let _ = replies.send(reply);
        }
        let mut cancelled = false;
        while let Ok(Some(call)) =
            tokio::time::timeout(std::time::Duration::from_millis(300), calls.recv()).await
        {
            cancelled |= matches!(call, FrontCall::Event(GatewayEvent::Cancel { .. }));
        }
        cancelled
    });
    let service = service(front);
    let answer = copy("bucket/k", "/bucket/copy").send(&service).await;
    drop(service);
    (answer, gateway.await.unwrap())
}

fn alive() -> FrontReply {
    FrontReply::Copying(Copying::Alive)
}

fn begun() -> FrontReply {
    FrontReply::Copying(Copying::Begun { length: 5, hash: None })
}

#[tokio::test]
async fn a_long_copy_is_answered_with_white_space_before_its_result() {
    let modified = WallTime::from_millis(1_445_412_480_000);
    let done = Reply::Copied { etag: ETag { md5: [7; 16], parts: 0 }, checksum: None, modified };
    let script = vec![begun(), alive(), alive(), alive(), FrontReply::Reply(Ok(done))];
    let (answer, cancelled) = scripted(script).await;
    let answer = answer.unwrap();
    assert_eq!((answer.status, cancelled), (200, false));
    assert_eq!(answer.header("transfer-encoding"), Some("chunked"));
    let text = answer.text();
    assert!(text.contains("<CopyObjectResult xmlns="), "{text}");
    assert_eq!(text.matches("<?xml").count(), 1, "{text}");
    assert!(text.find("<?xml").unwrap() < text.find(" \r\n").unwrap(), "{text}");
    assert_eq!(answer.element("LastModified").as_deref(), Some("2015-10-21T07:28:00.000Z"));
}

#[tokio::test]
async fn a_long_copy_that_fails_has_its_error_in_the_document() {
    let error = ApiError::SlowDown("busy".to_owned());
    let script = vec![begun(), alive(), FrontReply::Reply(Err(error.clone()))];
    let (answer, _) = scripted(script).await;
    let answer = answer.unwrap();
    assert_eq!((answer.status, answer.element("Code").as_deref()), (200, Some("SlowDown")));
    assert_eq!(answer.text().matches("<?xml").count(), 1);
    // Before the first white space it is an error like all others.
    let (answer, _) = scripted(vec![begun(), FrontReply::Reply(Err(error))]).await;
    is_error(&answer.unwrap(), 503, "SlowDown");
    let too_large = FrontReply::Reply(Err(ApiError::EntityTooLarge));
    let answer = scripted(vec![too_large]).await.0.unwrap();
    is_error(&answer, 400, "InvalidRequest");
    let message = "The specified copy source is larger than the maximum allowable size for a \
                   copy source: 5368709120";
    assert_eq!(answer.element("Message").as_deref(), Some(message));
}

#[tokio::test]
async fn a_copy_of_unknown_outcome_breaks_the_connection() {
    let broken = || FrontReply::Disconnect("fenced".to_owned());
    let (answer, _) = scripted(vec![begun(), broken()]).await;
    assert!(answer.is_none(), "{answer:?}");
    let (answer, _) = scripted(vec![begun(), alive(), broken()]).await;
    let text = answer.unwrap().text();
    assert!(!text.contains("Result") && !text.ends_with("0\r\n\r\n"), "{text}");
    // More bytes than were announced are nobody's.
    let body = FrontReply::Body(bytes::Bytes::from_static(b"too much"));
    let (answer, cancelled) = scripted(vec![begun(), body]).await;
    assert!(answer.is_none() && cancelled);
}
