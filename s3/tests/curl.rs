//! What `curl --aws-sigv4 aws:amz:us-east-1:s3` of versions before 8.3 sends: the target signed as it
//! stands on the wire, and no `x-amz-content-sha256`.

use crate::support::client::{Answer, answer, exchange, memory, plan};
use crate::support::signing::{Canonical, Moment, hash};
use trine_s3::S3Http;

/// A request as curl 7.88 writes it. `signed` is the target that is signed; `sent` goes out.
fn curl(method: &str, signed: &str, sent: &str, headers: &[(&str, &str)], body: &str) -> Vec<u8> {
    let moment = Moment::now();
    let own = |(name, value): &(&str, &str)| (name.to_lowercase(), (*value).to_owned());
    let mut covered: Vec<(String, String)> = headers.iter().map(own).collect();
    covered.push(("host".to_owned(), "localhost:9000".to_owned()));
    covered.push(("x-amz-date".to_owned(), moment.date.clone()));
    covered.sort();
    let (path, query) = signed.split_once('?').unwrap_or((signed, ""));
    let payload = hash(body.as_bytes());
    let request = Canonical { method, path, query, headers: &covered, payload: &payload };
    let mut out = format!(
        "{method} {sent} HTTP/1.1\r\nHost: localhost:9000\r\nAuthorization: AWS4-HMAC-SHA256 \
         Credential=key/{}, SignedHeaders={}, Signature={}\r\nX-Amz-Date: {}\r\n\
         User-Agent: curl/7.88.1\r\nAccept: */*\r\nConnection: close\r\n",
        moment.scope(),
        request.signed_headers(),
        moment.sign_request(&request),
        moment.date
    );
    for (name, value) in headers {
        out.push_str(&format!("{name}: {value}\r\n"));
    }
    if !body.is_empty() {
        out.push_str(&format!("Content-Length: {}\r\n", body.len()));
    }
    out.push_str("\r\n");
    out.push_str(body);
    out.into_bytes()
}

async fn run(
    service: &S3Http,
    method: &str,
    target: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> Answer {
    let request = curl(method, target, target, headers, body);
    answer(&exchange(service, &request).await).expect("an answer")
}

#[tokio::test]
async fn the_commands_of_a_curl_tour_work_as_printed() {
    let service = memory();
    let config = r#"{"epochs": 100, "batch_size": 32}"#;
    let json = ("Content-Type", "application/json");
    let large: String = "0123456789abcdef".repeat(1024);
    let made = run(&service, "PUT", "/my-bucket", &[], "").await;
    assert_eq!(made.status, 200, "{}", made.text());
    let put = run(&service, "PUT", "/my-bucket/config.json", &[json], config).await;
    assert_eq!(put.status, 200, "{}", put.text());
    let get = run(&service, "GET", "/my-bucket/config.json", &[], "").await;
    assert_eq!((get.status, get.text().as_str()), (200, config));
    assert_eq!(get.header("content-type"), Some("application/json"));
    let head = run(&service, "HEAD", "/my-bucket/config.json", &[], "").await;
    assert_eq!((head.status, head.header("content-length")), (200, Some("33")));
    for key in ["/my-bucket/large-file.bin", "/my-bucket/models/a", "/my-bucket/models/b"] {
        assert_eq!(run(&service, "PUT", key, &[json], &large).await.status, 200);
    }
    let range = ("Range", "bytes=0-1023");
    let part = run(&service, "GET", "/my-bucket/large-file.bin", &[range], "").await;
    assert_eq!((part.status, part.text().as_str()), (206, &large[..1024]));
    let list = run(&service, "GET", "/my-bucket?list-type=2&prefix=models/", &[], "").await;
    assert_eq!(list.status, 200, "{}", list.text());
    assert!(list.text().contains("<KeyCount>2</KeyCount>"), "{}", list.text());
    assert!(list.text().contains("<Key>models/b</Key>"), "{}", list.text());
    for key in ["config.json", "large-file.bin", "models/a", "models/b"] {
        let gone = run(&service, "DELETE", &format!("/my-bucket/{key}"), &[], "").await;
        assert_eq!(gone.status, 204, "{}", gone.text());
    }
    assert_eq!(run(&service, "DELETE", "/my-bucket", &[], "").await.status, 204);
}

#[tokio::test]
async fn other_forms_that_curl_signs_as_they_stand_are_accepted() {
    let service = memory();
    assert_eq!(run(&service, "PUT", "/my-bucket", &[], "").await.status, 200);
    // Parameters out of order, a name without `=`, lower-case escapes, reserved characters.
    for (method, target, status) in [
        ("GET", "/my-bucket?prefix=a/&delimiter=/&list-type=2", 200),
        ("GET", "/my-bucket?uploads", 200),
        ("POST", "/my-bucket/k?uploads", 200),
        ("PUT", "/my-bucket/a%2fb=c", 200),
        ("GET", "/my-bucket/a/b=c?x=%7e", 200),
        ("GET", "/my-bucket?prefix=a+b", 200),
    ] {
        let body = if method == "PUT" { "body" } else { "" };
        let answer = run(&service, method, target, &[], body).await;
        assert_eq!(answer.status, status, "{method} {target}: {}", answer.text());
    }
}

#[tokio::test]
async fn a_signature_over_one_target_opens_no_other() {
    let service = memory();
    assert_eq!(run(&service, "PUT", "/my-bucket", &[], "").await.status, 200);
    let signed = "/my-bucket?list-type=2&prefix=models/";
    for sent in [
        // The same request in another spelling is another one on the wire.
        "/my-bucket?prefix=models/&list-type=2",
        "/my-bucket?list-type=2&prefix=model%73/",
        "/my-bucket?list-type=2&prefix=other/",
        "/my-bucket?list-type=2&prefix=models/&max-keys=1",
        "/other-bucket?list-type=2&prefix=models/",
        "/my-bucket/?list-type=2&prefix=models/",
    ] {
        let raw = exchange(&service, &curl("GET", signed, sent, &[], "")).await;
        let refused = answer(&raw).unwrap();
        assert_eq!(refused.status, 403, "{sent}: {}", refused.text());
        assert!(refused.text().contains("<Code>SignatureDoesNotMatch</Code>"), "{sent}");
    }
    let mut forged = curl("GET", signed, signed, &[], "");
    let at = forged.windows(10).position(|window| window == b"Signature=").unwrap() + 10;
    forged[at] = if forged[at] == b'0' { b'1' } else { b'0' };
    assert_eq!(answer(&exchange(&service, &forged).await).unwrap().status, 403);
    let body =
        String::from_utf8(curl("PUT", "/my-bucket/a=", "/my-bucket/a=", &[], "abc")).unwrap();
    let body = body.replace("abc", "abd");
    assert_eq!(answer(&exchange(&service, body.as_bytes()).await).unwrap().status, 403);
}

#[tokio::test]
async fn unsigned_headers_stay_forbidden_when_the_target_is_signed_as_it_stands() {
    let service = memory();
    plan("PUT", "/my-bucket", "").expect(&service).await;
    let copy = plan("PUT", "/my-bucket/k", "x=/").unsigned("x-amz-copy-source", "/b/secret");
    let answer = copy.body(b"").expect(&service).await;
    assert_eq!(answer.status, 403);
    assert!(answer.text().contains("<HeadersNotSigned>x-amz-copy-source</HeadersNotSigned>"));
}
