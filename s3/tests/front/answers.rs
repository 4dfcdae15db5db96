//! Answers as Amazon gives them: ranges, conditions, checksums on request, ids on everything.

use super::{is_error, with_bucket};
use crate::support::client::{Answer, answer, exchange, plan};

#[tokio::test]
async fn ranges_are_honoured_ignored_or_refused() {
    let service = with_bucket().await;
    plan("PUT", "/bucket/k", "").body(b"0123456789").expect(&service).await;
    plan("PUT", "/bucket/empty", "").body(b"").expect(&service).await;
    for (range, body, content_range) in [
        ("bytes=0-0", "0", "bytes 0-0/10"),
        ("bytes=2-4", "234", "bytes 2-4/10"),
        ("bytes=7-", "789", "bytes 7-9/10"),
        ("bytes=7-99", "789", "bytes 7-9/10"),
        ("bytes=-3", "789", "bytes 7-9/10"),
        ("bytes=-99", "0123456789", "bytes 0-9/10"),
        ("bytes=0-18446744073709551616", "0123456789", "bytes 0-9/10"),
        ("bytes= 2 - 4 ", "234", "bytes 2-4/10"),
    ] {
        for method in ["GET", "HEAD"] {
            let get = plan(method, "/bucket/k", "").header("range", range).expect(&service).await;
            assert_eq!(get.status, 206, "{range}");
            assert_eq!(get.header("content-range"), Some(content_range), "{range}");
            assert_eq!(get.header("content-length"), Some(body.len().to_string().as_str()));
            assert_eq!(get.text(), if method == "GET" { body } else { "" });
        }
    }
    for range in include_str!("../corpus/ranges.txt").lines().filter(|it| !it.starts_with('#')) {
        let get = plan("GET", "/bucket/k", "").header("range", range).expect(&service).await;
        assert_eq!((get.status, get.body.len()), (200, 10), "{range:?}");
        assert_eq!(get.header("content-range"), None, "{range:?}");
    }
    for (key, range, length) in [
        ("k", "bytes=10-", "10"),
        ("k", "bytes=10-12", "10"),
        ("k", "bytes=-0", "10"),
        ("k", "bytes=99999999999999999999-", "10"),
        ("empty", "bytes=0-", "0"),
        ("empty", "bytes=-1", "0"),
    ] {
        let path = format!("/bucket/{key}");
        let get = plan("GET", &path, "").header("range", range).expect(&service).await;
        is_error(&get, 416, "InvalidRange");
        assert_eq!(get.element("ActualObjectSize").as_deref(), Some(length));
        assert_eq!(get.header("content-range"), Some(format!("bytes */{length}").as_str()));
        let head = plan("HEAD", &path, "").header("range", range).expect(&service).await;
        assert_eq!((head.status, head.body.len()), (416, 0), "{range}");
    }
}

#[tokio::test]
async fn a_range_of_another_version_is_dropped() {
    let service = with_bucket().await;
    let put = plan("PUT", "/bucket/k", "").body(b"0123456789").expect(&service).await;
    let tag = put.header("etag").unwrap().to_owned();
    let head = plan("HEAD", "/bucket/k", "").expect(&service).await;
    let date = head.header("last-modified").unwrap().to_owned();
    let ask = async |method, range: &str, condition: &str| {
        let plan = plan(method, "/bucket/k", "").header("range", range);
        plan.header("if-range", condition).expect(&service).await
    };
    for condition in [&tag, &date] {
        let part = ask("GET", "bytes=2-4", condition).await;
        assert_eq!((part.status, part.text().as_str()), (206, "234"), "{condition}");
        assert_eq!(ask("HEAD", "bytes=2-4", condition).await.status, 206);
        is_error(&ask("GET", "bytes=10-", condition).await, 416, "InvalidRange");
    }
    let weak = format!("W/{tag}");
    for condition in [
        "\"0123456789abcdef0123456789abcdef\"",
        &weak,
        "Sat, 01 Jan 2000 00:00:00 GMT",
        "nonsense",
        "*",
    ] {
        for range in ["bytes=2-4", "bytes=10-"] {
            let whole = ask("GET", range, condition).await;
            assert_eq!((whole.status, whole.text().as_str()), (200, "0123456789"), "{condition}");
            assert_eq!(whole.header("content-range"), None);
            assert_eq!(ask("HEAD", range, condition).await.status, 200);
        }
    }
}

#[tokio::test]
async fn conditions_are_lists_of_tags_and_dates_that_may_be_malformed() {
    let service = with_bucket().await;
    let put = plan("PUT", "/bucket/k", "").body(b"x").expect(&service).await;
    let tag = put.header("etag").unwrap().to_owned();
    let bare = tag.trim_matches('"').to_owned();
    let other = "\"0123456789abcdef0123456789abcdef\"";
    let ask = async |name: &str, value: &str| {
        plan("GET", "/bucket/k", "").header(name, value).expect(&service).await
    };
    for value in [
        tag.clone(),
        bare,
        "*".to_owned(),
        format!("{other}, {tag}"),
        format!("\"a,b\",W/{tag}"),
        format!(",,{tag},"),
        format!("W/{tag}"),
    ] {
        let not_modified = ask("if-none-match", &value).await;
        assert_eq!((not_modified.status, not_modified.body.len()), (304, 0), "{value}");
        assert_eq!(not_modified.header("etag"), Some(tag.as_str()));
        assert!(not_modified.header("last-modified").is_some());
        assert_eq!(not_modified.header("content-type"), None);
        assert_eq!(ask("if-match", &value).await.status, 200, "{value}");
    }
    for value in [other, "\"\"", "nonsense", "\"a\", \"b\"", "W/"] {
        assert_eq!(ask("if-none-match", value).await.status, 200, "{value}");
        is_error(&ask("if-match", value).await, 412, "PreconditionFailed");
    }
    for value in include_str!("../corpus/dates.txt").lines().filter(|it| !it.starts_with('#')) {
        assert_eq!(ask("if-modified-since", value).await.status, 200, "{value}");
        assert_eq!(ask("if-unmodified-since", value).await.status, 200, "{value}");
    }
    assert_eq!(ask("if-modified-since", "Sun, 01 Jan 2034 00:00:00 GMT").await.status, 304);
    assert_eq!(ask("if-modified-since", "Sat, 01 Jan 2000 00:00:00 GMT").await.status, 200);
}

#[tokio::test]
async fn checksums_are_told_only_when_asked_for_and_only_of_the_whole() {
    let service = with_bucket().await;
    let put = plan("PUT", "/bucket/k", "").header("x-amz-checksum-crc32", "NhCmhg==");
    assert_eq!(put.body(b"hello").expect(&service).await.status, 200);
    let shown = |answer: &Answer| answer.header("x-amz-checksum-crc32").map(str::to_owned);
    for method in ["GET", "HEAD"] {
        let ask = || plan(method, "/bucket/k", "");
        assert_eq!(shown(&ask().expect(&service).await), None);
        let enabled = || ask().header("x-amz-checksum-mode", "ENABLED");
        let whole = enabled().expect(&service).await;
        assert_eq!(shown(&whole).as_deref(), Some("NhCmhg=="));
        assert_eq!(whole.header("x-amz-checksum-type"), Some("FULL_OBJECT"));
        assert_eq!(shown(&enabled().header("range", "bytes=0-1").expect(&service).await), None);
    }
}

#[tokio::test]
async fn every_answer_has_its_own_ids() {
    let service = with_bucket().await;
    plan("PUT", "/bucket/k", "").body(b"x").expect(&service).await;
    let mut ids = Vec::new();
    for (method, path, query) in [
        ("GET", "/", ""),
        ("GET", "/bucket", ""),
        ("GET", "/bucket/k", ""),
        ("HEAD", "/bucket/k", ""),
        ("HEAD", "/bucket/none", ""),
        ("HEAD", "/missing", ""),
        ("PUT", "/bucket/k", ""),
        ("GET", "/bucket", "policy="),
        ("GET", "/bucket", "versions="),
        ("PATCH", "/bucket", ""),
        ("DELETE", "/bucket/k", ""),
        ("DELETE", "/bucket", ""),
    ] {
        let plan = plan(method, path, query);
        let plan = if method == "PUT" { plan.body(b"x") } else { plan };
        let told = plan.expect(&service).await;
        ids.push(told.header("x-amz-request-id").expect("an id").to_owned());
        assert!(told.header("x-amz-id-2").is_some() && told.header("server") == Some("Trine"));
    }
    let before = ids.len();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), before, "no two alike");
}

#[tokio::test]
async fn the_resource_of_an_error_is_what_was_asked_for_and_harmless() {
    let service = with_bucket().await;
    let get = plan("GET", "/bucket/a%20%26%3Cb%3E", "").expect(&service).await;
    is_error(&get, 404, "NoSuchKey");
    assert_eq!(get.element("Resource").as_deref(), Some("/bucket/a &amp;&lt;b&gt;"));
    // As it came, if XML cannot hold it: a client must be able to read what went wrong.
    let get = plan("GET", "/bucket/a%20%01", "").expect(&service).await;
    assert_eq!(get.element("Resource").as_deref(), Some("/bucket/a%20%01"));
    let get = plan("GET", "/%FF", "").expect(&service).await;
    assert_eq!(get.element("Resource").as_deref(), Some("/%FF"));
}

#[tokio::test]
async fn preflights_are_refused_without_a_signature() {
    let service = with_bucket().await;
    for (path, headers, status, code) in [
        (
            "/bucket",
            "origin: http://a\r\naccess-control-request-method: GET\r\n",
            403,
            "AccessForbidden",
        ),
        (
            "/bucket/k",
            "origin: http://a\r\naccess-control-request-method: PUT\r\n",
            403,
            "AccessForbidden",
        ),
        ("/bucket/k", "origin: http://a\r\n", 400, "BadRequest"),
        ("/bucket/k", "", 400, "BadRequest"),
        ("/", "access-control-request-method: GET\r\n", 400, "BadRequest"),
    ] {
        let request =
            format!("OPTIONS {path} HTTP/1.1\r\nhost: x\r\n{headers}connection: close\r\n\r\n");
        let told = answer(&exchange(&service, request.as_bytes()).await).unwrap();
        is_error(&told, status, code);
        assert_eq!(told.header("access-control-allow-origin"), None);
    }
}
