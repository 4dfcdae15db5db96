//! Who asks: `Authorization` headers and presigned queries of any shape. None may open.
//!
//! Input: 0 for a header, 1 for a query (1 byte); the value of `x-amz-date` up to a line feed; the value of
//! `Authorization`, or the query. `SCOPE`, `SIGNATURE` and `DATE` stand for what is fair now.

use super::support::client::{Signed, UNSIGNED};
use super::support::signing::Moment;
use super::{run as run_async, tell, with_object};

pub(crate) fn run(input: &[u8]) -> bool {
    let Some((which, rest)) = input.split_first() else { return false };
    let at = rest.iter().position(|byte| *byte == b'\n').unwrap_or(0);
    let (date, value) = (fair(&rest[..at]), fair(rest.get(at + 1..).unwrap_or_default()));
    let mut headers = vec![
        ("host".to_owned(), "localhost".to_owned()),
        ("x-amz-content-sha256".to_owned(), UNSIGNED.to_owned()),
    ];
    let mut target = "/bucket/k".to_owned();
    if http::HeaderValue::from_str(&date).is_ok() {
        headers.push(("x-amz-date".to_owned(), date));
    }
    if which % 2 == 0 {
        if http::HeaderValue::from_str(&value).is_err() {
            return false;
        }
        headers.push(("authorization".to_owned(), value));
    } else {
        target = format!("{target}?{value}");
        if target.parse::<http::Uri>().is_err() {
            return false;
        }
    }
    let signed = Signed { method: "GET", target, headers, body: Vec::new() };
    run_async(async {
        let service = with_object().await;
        let told = tell(&service, &signed, None).await;
        // 501 is a signature of version 2 or 4A at its most.
        assert!(matches!(told.status, 400 | 403 | 501), "{}: {}", signed.target, told.status);
        assert!(!told.code.is_empty() && !told.text.contains("0123456789"), "{}", told.text);
    });
    true
}

fn fair(bytes: &[u8]) -> String {
    let moment = Moment::now();
    String::from_utf8_lossy(bytes)
        .replace("SCOPE", &moment.scope())
        .replace("DATE", &moment.date)
        .replace("SIGNATURE", &"a".repeat(64))
}

/// The lines of the corpus, and queries of the same.
pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for line in include_str!("../../corpus/authorization.txt").lines().skip(1) {
        seeds.push([b"\0DATE\n", line.as_bytes()].concat());
    }
    let query = "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=key%2FSCOPE&X-Amz-Date=DATE&X-Amz-Expires=600&X-Amz-SignedHeaders=host&X-Amz-Signature=SIGNATURE";
    for query in [query, &query.replace("600", "-1"), &format!("{query}&versionId=1"), "acl", ""] {
        seeds.push([b"\x01DATE\n", query.as_bytes()].concat());
    }
    // Dates that are none, where s3s looks at them.
    for date in ["20261122T00000 Z", "2026\u{7f}\u{7f}22T000000Z", "-0261122T000000Z"] {
        let value = "AWS4-HMAC-SHA256 Credential=key/SCOPE,SignedHeaders=host;x-amz-content-sha256;x-amz-date,Signature=SIGNATURE";
        seeds.push(format!("\0{date}\n{value}").into_bytes());
        seeds.push(format!("\u{1}\n{}", query.replace("DATE", date)).into_bytes());
    }
    let old = "AWSAccessKeyId=key&Signature=SIGNATURE&Expires=1999999999";
    seeds.push([b"\x01DATE\n", old.as_bytes()].concat());
    seeds
}
