//! Keys with every awkward byte, from path to listing and back.

use std::fmt::Write as _;

use super::{is_error, with_bucket};
use crate::support::client::{Answer, memory, plan, under};
use trine_s3::front::Front;
use trine_s3::{Domains, S3Http};

/// As the canonical form of a path has it.
fn in_path(key: &str) -> String {
    encoded(key, b"-_.~/")
}

fn encoded(text: &str, kept: &[u8]) -> String {
    text.bytes().fold(String::new(), |mut out, byte| {
        if byte.is_ascii_alphanumeric() || kept.contains(&byte) {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
        out
    })
}

/// Keys that something between client and disk might mistake for something else.
fn awkward() -> Vec<String> {
    let mut keys: Vec<String> =
        (0..=0x7f_u8).map(|byte| format!("a{}b", char::from(byte))).collect();
    let more = [
        "/",
        "//",
        "/a",
        "a/",
        "a//b",
        "///a///",
        ".",
        "..",
        "../a",
        "a/../b",
        "a/./b",
        "./",
        "a/..",
        "%",
        "%2F",
        "%00",
        "%zz",
        "a%",
        "+",
        "a+b c",
        " ",
        " a",
        "a ",
        "?",
        "a?uploads",
        "a?versionId=1",
        "#",
        "&",
        "<a>",
        "]]>",
        "<![CDATA[x]]>",
        "&amp;",
        "&#x1;",
        "a;b=c",
        "\u{e9}",
        "e\u{301}",
        "\u{65e5}\u{672c}",
        "\u{1f600}",
        "\u{fffd}",
        "\u{fffe}",
        "\u{ffff}",
        "\u{feff}a",
        "\u{85}",
        "\u{2028}",
        "\u{202e}a",
        "\r\n",
        "\t",
        "a\r\nx-amz-evil: 1",
        "bucket/k",
        "\u{10ffff}",
    ];
    keys.extend(more.iter().map(|key| (*key).to_owned()));
    // The longest, in characters of one and of several bytes.
    keys.push("k".repeat(1024));
    keys.push("\u{65e5}".repeat(341) + "k");
    keys.push("%".repeat(1024));
    keys.sort();
    keys.dedup();
    keys
}

fn decoded(text: &str) -> String {
    let bytes: Vec<u8> = percent_encoding::percent_decode_str(text).collect();
    String::from_utf8(bytes).unwrap()
}

/// The texts of all elements `name`, as they are written.
fn texts(answer: &Answer, name: &str) -> Vec<String> {
    let text = answer.text();
    let (open, close) = (format!("<{name}>"), format!("</{name}>"));
    let parts = text.split(&open).skip(1);
    parts.map(|part| part.split_once(&close).unwrap().0.to_owned()).collect()
}

/// What a reader of XML that takes all character references makes of it.
fn unescaped(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, behind)) = rest.split_once('&') {
        out.push_str(before);
        let (entity, behind) = behind.split_once(';').unwrap();
        match entity {
            "amp" => out.push('&'),
            "lt" => out.push('<'),
            "gt" => out.push('>'),
            "quot" => out.push('"'),
            "apos" => out.push('\''),
            other => {
                let number = u32::from_str_radix(other.strip_prefix("#x").unwrap(), 16).unwrap();
                out.push(char::from_u32(number).unwrap());
            }
        }
        rest = behind;
    }
    out + rest
}

/// Whether XML 1.0 (2.2) has a way to write it.
fn xml_can_hold(key: &str) -> bool {
    key.chars().all(|character| {
        matches!(character, '\t' | '\n' | '\r' | ' '..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..)
    })
}

#[tokio::test]
async fn every_awkward_key_is_stored_read_listed_and_deleted() {
    let service = with_bucket().await;
    let keys = awkward();
    for key in &keys {
        let path = format!("/bucket/{}", in_path(key));
        let put = plan("PUT", &path, "").header("x-amz-meta-of", "it").body(key.as_bytes());
        let told = put.expect(&service).await;
        assert_eq!(told.status, 200, "{key:?}: {}", told.text());
        let get = plan("GET", &path, "").expect(&service).await;
        assert_eq!((get.status, get.body.as_slice()), (200, key.as_bytes()), "{key:?}");
        assert_eq!(plan("HEAD", &path, "").expect(&service).await.status, 200, "{key:?}");
    }
    for query in ["", "list-type=2"] {
        let list = plan("GET", "/bucket", query).expect(&service).await;
        let listed: Vec<String> = texts(&list, "Key").iter().map(|text| unescaped(text)).collect();
        assert_eq!(listed, keys, "in the order of bytes");
        // No raw byte that a reader of XML refuses or changes.
        let raw = |character: char| character < ' ' && character != '\n';
        assert!(!list.text().contains(raw), "{query}");
        assert_eq!(list.text().matches('\n').count(), 1, "only behind the declaration");
    }
    let list = plan("GET", "/bucket", "encoding-type=url&list-type=2").expect(&service).await;
    assert_eq!(list.element("EncodingType").as_deref(), Some("url"));
    let listed = texts(&list, "Key");
    assert_eq!(listed.iter().map(|text| decoded(text)).collect::<Vec<_>>(), keys);
    assert!(listed.iter().all(|text| text.is_ascii() && !text.contains([' ', '+', '<', '&'])));
    for (at, key) in keys.iter().enumerate() {
        // By path, or in a document, where documents can name it.
        if at % 2 == 0 || !xml_can_hold(key) {
            let path = format!("/bucket/{}", in_path(key));
            assert_eq!(plan("DELETE", &path, "").expect(&service).await.status, 204, "{key:?}");
            continue;
        }
        let mut xml = "<Delete><Object><Key>".to_owned();
        for character in key.chars() {
            let _ = write!(xml, "&#x{:x};", u32::from(character));
        }
        xml.push_str("</Key></Object></Delete>");
        let told = plan("POST", "/bucket", "delete=").body(xml.as_bytes()).expect(&service).await;
        let deleted = told.element("Deleted").and_then(|_| told.element("Key"));
        assert_eq!(deleted.map(|text| unescaped(&text)).as_ref(), Some(key), "{}", told.text());
    }
    let list = plan("GET", "/bucket", "").expect(&service).await;
    assert_eq!(texts(&list, "Key"), Vec::<String>::new());
}

#[tokio::test]
async fn keys_that_xml_cannot_hold_are_deleted_without_spoiling_the_answer() {
    let service = with_bucket().await;
    for path in ["/bucket/a%01b", "/bucket/k"] {
        plan("PUT", path, "").body(b"x").expect(&service).await;
    }
    // Raw, as boto3 writes it, and as a reference.
    for key in ["a\u{1}b", "a&#x1;b"] {
        let xml = format!(
            "<Delete><Object><Key>{key}</Key></Object><Object><Key>k</Key></Object></Delete>"
        );
        let told = plan("POST", "/bucket", "delete=").body(xml.as_bytes()).expect(&service).await;
        assert_eq!(texts(&told, "Key"), ["k"], "{}", told.text());
        assert!(!told.text().contains("&#x"), "{}", told.text());
    }
    let list = plan("GET", "/bucket", "").expect(&service).await;
    assert_eq!(texts(&list, "Key"), Vec::<String>::new());
    let made = plan("POST", "/bucket/a%01b", "uploads=").expect(&service).await;
    assert!(made.element("UploadId").is_some() && made.element("Key").is_none());
}

#[tokio::test]
async fn pages_go_on_behind_awkward_keys() {
    let service = with_bucket().await;
    let keys = awkward();
    for key in &keys {
        plan("PUT", &format!("/bucket/{}", in_path(key)), "").body(b"").expect(&service).await;
    }
    for (url, v2) in [(true, true), (true, false), (false, true)] {
        let mut listed = Vec::new();
        let mut after = String::new();
        loop {
            let mut query = after.clone();
            if url {
                query.push_str("&encoding-type=url");
            }
            if v2 {
                query.push_str("&list-type=2");
            }
            query.push_str("&max-keys=7");
            let mut parts: Vec<&str> = query.split('&').filter(|part| !part.is_empty()).collect();
            parts.sort_unstable();
            let page = plan("GET", "/bucket", &parts.join("&")).expect(&service).await;
            assert_eq!(page.status, 200, "{}", page.text());
            let of_page = texts(&page, "Key");
            let read = |text: &String| if url { decoded(text) } else { unescaped(text) };
            listed.extend(of_page.iter().map(read));
            if page.element("IsTruncated").as_deref() == Some("false") {
                break;
            }
            after = match page.element("NextContinuationToken") {
                Some(token) => format!("continuation-token={}", encoded(&token, b"-_.~")),
                // Without a delimiter the last key is the marker.
                None => format!("marker={}", encoded(listed.last().unwrap(), b"-_.~")),
            };
        }
        assert_eq!(listed, keys, "url={url} v2={v2}");
    }
    // Prefix, delimiter and start-after with characters of the same kind.
    for (query, key) in [
        ("list-type=2&prefix=a%0Ab", "a\nb"),
        ("list-type=2&max-keys=1&start-after=a%00b", "a\u{1}b"),
        ("list-type=2&prefix=a%2Bb%20c", "a+b c"),
        ("list-type=2&prefix=%25zz", "%zz"),
        ("list-type=2&prefix=%F0%9F%98%80", "\u{1f600}"),
    ] {
        let list = plan("GET", "/bucket", query).expect(&service).await;
        let listed: Vec<String> = texts(&list, "Key").iter().map(|text| unescaped(text)).collect();
        assert_eq!(listed, [key], "{query}: {}", list.text());
    }
    let list =
        plan("GET", "/bucket", "delimiter=%01&list-type=2&prefix=a%01").expect(&service).await;
    assert_eq!(list.element("Delimiter").as_deref(), Some("&#x1;"), "{}", list.text());
}

#[tokio::test]
async fn in_url_encoding_every_name_of_an_answer_is_encoded() {
    let service = with_bucket().await;
    for key in ["p q/a b", "p q/c d/e", "p q/\u{e9}+"] {
        plan("PUT", &format!("/bucket/{}", in_path(key)), "").body(b"").expect(&service).await;
    }
    let query = "delimiter=%2F&encoding-type=url&max-keys=2&prefix=p%20q%2F";
    let list = plan("GET", "/bucket", query).expect(&service).await;
    assert_eq!(texts(&list, "Prefix"), ["p%20q/", "p%20q/c%20d/"], "{}", list.text());
    assert_eq!(texts(&list, "Key"), ["p%20q/a%20b"]);
    assert_eq!(list.element("NextMarker").as_deref(), Some("p%20q/c%20d/"));
    let query = "encoding-type=url&list-type=2&start-after=p%20q%2Fa%20b";
    let list = plan("GET", "/bucket", query).expect(&service).await;
    assert_eq!(list.element("StartAfter").as_deref(), Some("p%20q/a%20b"));
    assert_eq!(texts(&list, "Key"), ["p%20q/c%20d/e", "p%20q/%C3%A9%2B"]);
    plan("POST", "/bucket/a%20%2B", "uploads=").expect(&service).await;
    let list = plan("GET", "/bucket", "encoding-type=url&uploads=").expect(&service).await;
    assert_eq!(texts(&list, "Key"), ["a%20%2B"], "{}", list.text());
    for query in ["encoding-type=base64&list-type=2", "encoding-type=URL"] {
        is_error(&plan("GET", "/bucket", query).expect(&service).await, 400, "InvalidArgument");
    }
}

#[tokio::test]
async fn keys_that_are_too_long_or_no_text_are_refused() {
    let service = with_bucket().await;
    for key in ["k".repeat(1025), "\u{65e5}".repeat(342), "k".repeat(5000)] {
        for method in ["PUT", "GET", "DELETE"] {
            let path = format!("/bucket/{}", in_path(&key));
            let plan = plan(method, &path, "");
            let told = if method == "PUT" { plan.body(b"x") } else { plan }.expect(&service).await;
            is_error(&told, 400, "KeyTooLongError");
        }
    }
    for path in ["/bucket/%FF", "/bucket/a%C3", "/bucket/%ED%A0%80", "/bucket/%C0%AF", "/%FF"] {
        let put = plan("PUT", path, "").body(b"x").expect(&service).await;
        is_error(&put, 400, "InvalidURI");
        is_error(&plan("GET", path, "").expect(&service).await, 400, "InvalidURI");
    }
    is_error(&plan("GET", "/bucket", "prefix=%FF").expect(&service).await, 400, "InvalidURI");
    let long = format!("/bucket/{}", "k".repeat(17 << 10));
    is_error(&plan("GET", &long, "").expect(&service).await, 414, "InvalidURI");
    assert_eq!(texts(&plan("GET", "/bucket", "").expect(&service).await, "Key").len(), 0);
}

async fn in_host() -> S3Http {
    let (front, calls) = Front::new();
    tokio::spawn(crate::support::run(calls));
    let service = under(front, Domains::parse(["s3.test"]).unwrap());
    let made = plan("PUT", "/", "").host("bucket.s3.test").expect(&service).await;
    assert_eq!(made.status, 200);
    service
}

#[tokio::test]
async fn with_the_bucket_in_the_host_a_key_may_begin_with_slashes() {
    let service = in_host().await;
    for key in ["/", "//", "/a", "a//b", "bucket/k", "..", "a+b", "a b", "%2F", "\u{1}"] {
        let path = format!("/{}", in_path(key));
        let put = plan("PUT", &path, "").host("bucket.s3.test").body(key.as_bytes());
        assert_eq!(put.expect(&service).await.status, 200, "{key:?}");
        // The same object by the other address.
        let get = plan("GET", &format!("/bucket/{}", in_path(key)), "").expect(&service).await;
        assert_eq!((get.status, get.body.as_slice()), (200, key.as_bytes()), "{key:?}");
    }
    let list = plan("GET", "/", "location=").host("bucket.s3.test").expect(&service).await;
    assert!(list.text().contains("LocationConstraint"), "{}", list.text());
    let list = plan("GET", "/", "").host("missing.s3.test").expect(&service).await;
    is_error(&list, 404, "NoSuchBucket");
    let list = plan("GET", "/", "").host("Bad_One.s3.test").expect(&service).await;
    is_error(&list, 400, "InvalidBucketName");
}

#[tokio::test]
async fn bucket_names_are_judged_and_never_echoed_raw() {
    let service = memory();
    for name in [
        "ab",
        "Upper",
        "a_b",
        "a..b",
        "-ab",
        "ab-",
        "192.168.0.1",
        "a%3Cb%3E",
        "%01bc",
        "a%20b",
        &"a".repeat(64),
    ] {
        let told = plan("PUT", &format!("/{name}"), "").expect(&service).await;
        is_error(&told, 400, "InvalidBucketName");
        assert!(!told.text().contains("a<b>") && !told.text().contains('\u{1}'), "{}", told.text());
    }
}
