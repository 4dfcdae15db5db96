//! Sub-resources, as Amazon answers for what was never configured.

use super::{is_error, with_bucket};
use crate::support::client::{Plan, memory, plan};

/// Settings of a bucket whose absence is an error, and whether DELETE takes them away.
const UNSET: [(&str, &str, bool); 11] = [
    ("cors", "NoSuchCORSConfiguration", true),
    ("encryption", "ServerSideEncryptionConfigurationNotFoundError", true),
    ("lifecycle", "NoSuchLifecycleConfiguration", true),
    ("object-lock", "ObjectLockConfigurationNotFoundError", false),
    ("ownershipControls", "OwnershipControlsNotFoundError", true),
    ("policy", "NoSuchBucketPolicy", true),
    ("policyStatus", "NoSuchBucketPolicy", false),
    ("publicAccessBlock", "NoSuchPublicAccessBlockConfiguration", true),
    ("replication", "ReplicationConfigurationNotFoundError", true),
    ("tagging", "NoSuchTagSet", true),
    ("website", "NoSuchWebsiteConfiguration", true),
];

/// Settings whose absence is a document with nothing in it, or with what holds for every bucket.
const DOCUMENTS: [(&str, &str, &str); 5] = [
    ("accelerate", "AccelerateConfiguration", ""),
    ("logging", "BucketLoggingStatus", ""),
    ("notification", "NotificationConfiguration", ""),
    ("requestPayment", "RequestPaymentConfiguration", "<Payer>BucketOwner</Payer>"),
    ("versioning", "VersioningConfiguration", ""),
];

/// What is not built at all.
const OTHERS: [&str; 10] = [
    "abac",
    "analytics",
    "events",
    "intelligent-tiering",
    "inventory",
    "metadataConfiguration",
    "metadataTable",
    "metrics",
    "session",
    "versions",
];

fn asked(method: &'static str, path: &str, name: &str) -> Plan {
    let plan = plan(method, path, &format!("{name}="));
    if method == "PUT" || method == "POST" { plan.body(b"<X/>") } else { plan }
}

#[tokio::test]
async fn a_bucket_has_the_settings_of_an_unconfigured_one() {
    let service = with_bucket().await;
    for (name, code, _) in UNSET {
        let answer = asked("GET", "/bucket", name).expect(&service).await;
        is_error(&answer, 404, code);
        assert_eq!(answer.element("BucketName").as_deref(), Some("bucket"), "{name}");
    }
    for (name, root, inside) in DOCUMENTS {
        let answer = asked("GET", "/bucket", name).expect(&service).await;
        assert_eq!(answer.status, 200, "{name}: {}", answer.text());
        let open = format!("<{root} xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">");
        assert!(answer.text().ends_with(&format!("{open}{inside}</{root}>")), "{}", answer.text());
        assert_eq!(answer.header("content-type"), Some("application/xml"));
    }
    let acl = asked("GET", "/bucket", "acl").expect(&service).await;
    let grant = acl.element("AccessControlList").unwrap();
    assert!(grant.contains("xsi:type=\"CanonicalUser\"><ID>tester</ID>"), "{grant}");
    assert!(grant.contains("<Permission>FULL_CONTROL</Permission>"), "{grant}");
    assert_eq!(acl.element("Owner").unwrap(), "<ID>tester</ID><DisplayName>tester</DisplayName>");
    let location = asked("GET", "/bucket", "location").expect(&service).await;
    assert_eq!((location.status, location.element("Code")), (200, None));
}

#[tokio::test]
async fn a_bucket_that_is_not_there_has_none() {
    let service = memory();
    let documents = DOCUMENTS.iter().map(|(name, ..)| *name).chain(["acl", "location"]);
    for name in UNSET.iter().map(|(name, ..)| *name).chain(documents) {
        let answer = asked("GET", "/missing", name).expect(&service).await;
        is_error(&answer, 404, "NoSuchBucket");
        is_error(&asked("GET", "/Bad_Name", name).expect(&service).await, 400, "InvalidBucketName");
    }
    for (name, _, removable) in UNSET {
        if removable {
            is_error(
                &asked("DELETE", "/missing", name).expect(&service).await,
                404,
                "NoSuchBucket",
            );
        }
    }
}

#[tokio::test]
async fn what_is_not_there_can_be_taken_away_and_nothing_can_be_set() {
    let service = with_bucket().await;
    plan("PUT", "/bucket/k", "").body(b"x").expect(&service).await;
    for (name, _, removable) in UNSET {
        let answer = asked("DELETE", "/bucket", name).expect(&service).await;
        if removable {
            assert_eq!((answer.status, answer.body.len()), (204, 0), "{name}");
        } else {
            is_error(&answer, 501, "NotImplemented");
        }
    }
    let documents = DOCUMENTS.iter().map(|(name, ..)| *name).chain(["acl"]).chain(OTHERS);
    for name in UNSET.iter().map(|(name, ..)| *name).chain(documents) {
        is_error(&asked("PUT", "/bucket", name).expect(&service).await, 501, "NotImplemented");
        is_error(&asked("POST", "/bucket", name).expect(&service).await, 501, "NotImplemented");
        let head = asked("HEAD", "/bucket", name).expect(&service).await;
        assert!(matches!(head.status, 405 | 501) && head.body.is_empty(), "{name}: {head:?}");
    }
    // Neither emptied nor deleted, whatever was asked.
    assert_eq!(plan("GET", "/bucket/k", "").expect(&service).await.status, 200);
}

#[tokio::test]
async fn what_is_not_built_says_so() {
    let service = with_bucket().await;
    plan("PUT", "/bucket/k", "").body(b"x").expect(&service).await;
    for name in OTHERS {
        for (method, path) in [
            ("GET", "/bucket"),
            ("DELETE", "/bucket"),
            ("GET", "/bucket/k"),
            ("DELETE", "/bucket/k"),
        ] {
            let answer = asked(method, path, name).expect(&service).await;
            is_error(&answer, 501, "NotImplemented");
            assert!(answer.element("Message").unwrap().contains(name), "{}", answer.text());
        }
    }
    for (method, name) in [
        ("PUT", "tagging"),
        ("DELETE", "tagging"),
        ("PUT", "acl"),
        ("PUT", "retention"),
        ("PUT", "legal-hold"),
        ("POST", "restore"),
        ("POST", "select"),
        ("GET", "torrent"),
        ("PUT", "renameObject"),
        ("GET", "policy"),
        ("PUT", "cors"),
    ] {
        let answer = asked(method, "/bucket/k", name).expect(&service).await;
        is_error(&answer, 501, "NotImplemented");
    }
    assert_eq!(plan("GET", "/bucket/k", "").expect(&service).await.text(), "x");
}

#[tokio::test]
async fn methods_without_a_meaning_are_refused_and_do_nothing() {
    let service = with_bucket().await;
    plan("PUT", "/bucket/k", "").body(b"x").expect(&service).await;
    for (method, path, query, kind) in [
        ("PUT", "/", "", "SERVICE"),
        ("DELETE", "/", "", "SERVICE"),
        ("POST", "/", "", "SERVICE"),
        ("POST", "/bucket", "", "BUCKET"),
        ("PATCH", "/bucket", "", "BUCKET"),
        // These would pass for CreateBucket, DeleteBucket and PutObject.
        ("PUT", "/bucket", "location=", "BUCKET"),
        ("DELETE", "/bucket", "location=", "BUCKET"),
        ("DELETE", "/bucket", "uploads=", "BUCKET"),
        ("DELETE", "/bucket", "delete=", "BUCKET"),
        ("PUT", "/bucket", "delete=", "BUCKET"),
        ("PUT", "/bucket/k", "uploads=", "OBJECT"),
        ("DELETE", "/bucket/k", "uploads=", "OBJECT"),
        ("POST", "/bucket/k", "", "OBJECT"),
        ("PATCH", "/bucket/k", "", "OBJECT"),
    ] {
        let answer = plan(method, path, query).body(b"").expect(&service).await;
        is_error(&answer, 405, "MethodNotAllowed");
        assert_eq!(
            answer.element("ResourceType").as_deref(),
            Some(kind),
            "{method} {path}?{query}"
        );
        assert_eq!(answer.element("Method").as_deref(), Some(method));
    }
    assert_eq!(plan("GET", "/bucket/k", "").expect(&service).await.text(), "x");
    // Parameters that nobody knows are ignored, as on Amazon.
    let get = plan("GET", "/bucket/k", "foo=bar&x-id=GetObject").expect(&service).await;
    assert_eq!(get.status, 200);
}

#[tokio::test]
async fn an_object_has_its_owner_its_tags_and_no_lock() {
    let service = with_bucket().await;
    let put = plan("PUT", "/bucket/k", "").header("x-amz-tagging", "a=1&b=%3C2%3E").body(b"x");
    assert_eq!(put.expect(&service).await.status, 200);
    let tags = asked("GET", "/bucket/k", "tagging").expect(&service).await;
    let set =
        "<Tag><Key>a</Key><Value>1</Value></Tag><Tag><Key>b</Key><Value>&lt;2&gt;</Value></Tag>";
    assert_eq!(tags.element("TagSet").as_deref(), Some(set), "{}", tags.text());
    let acl = asked("GET", "/bucket/k", "acl").expect(&service).await;
    assert!(acl.text().contains("<Permission>FULL_CONTROL</Permission>"), "{}", acl.text());
    for name in ["retention", "legal-hold"] {
        let answer = asked("GET", "/bucket/k", name).expect(&service).await;
        is_error(&answer, 400, "InvalidRequest");
        assert!(answer.text().contains("missing Object Lock Configuration"));
    }
    for name in ["acl", "tagging", "retention", "legal-hold"] {
        is_error(&asked("GET", "/bucket/none", name).expect(&service).await, 404, "NoSuchKey");
        is_error(&asked("GET", "/missing/k", name).expect(&service).await, 404, "NoSuchBucket");
        let long = format!("/bucket/{}", "k".repeat(1025));
        is_error(&asked("GET", &long, name).expect(&service).await, 400, "KeyTooLongError");
    }
}

#[tokio::test]
async fn attributes_of_an_object_are_told_as_far_as_they_are_asked_for() {
    let service = with_bucket().await;
    let put =
        plan("PUT", "/bucket/k", "").header("x-amz-checksum-crc32", "NhCmhg==").body(b"hello");
    let put = put.expect(&service).await;
    assert_eq!(put.status, 200, "{}", put.text());
    let ask = |names: &str| {
        plan("GET", "/bucket/k", "attributes=").header("x-amz-object-attributes", names)
    };
    let all = ask("ETag,Checksum, ObjectParts,StorageClass,ObjectSize").expect(&service).await;
    assert_eq!(all.status, 200, "{}", all.text());
    let etag = put.header("etag").unwrap().trim_matches('"').to_owned();
    assert_eq!(all.element("ETag"), Some(etag), "without quotes");
    assert_eq!(all.element("ChecksumCRC32").as_deref(), Some("NhCmhg=="));
    assert_eq!(all.element("ChecksumType").as_deref(), Some("FULL_OBJECT"));
    assert_eq!(all.element("ObjectSize").as_deref(), Some("5"));
    assert_eq!(all.element("StorageClass").as_deref(), Some("STANDARD"));
    assert_eq!(all.element("ObjectParts"), None, "it has no parts");
    assert!(all.header("last-modified").is_some());
    let one = ask("ObjectSize").expect(&service).await;
    assert!(one.element("ETag").is_none() && one.element("ObjectSize").is_some());
    is_error(&ask("ETag,Nothing").expect(&service).await, 400, "InvalidArgument");
    let none = plan("GET", "/bucket/k", "attributes=").expect(&service).await;
    is_error(&none, 400, "InvalidRequest");
    let missing = plan("GET", "/bucket/none", "attributes=");
    let missing = missing.header("x-amz-object-attributes", "ETag").expect(&service).await;
    is_error(&missing, 404, "NoSuchKey");
    let number = ask("ObjectParts").header("x-amz-max-parts", "-1").expect(&service).await;
    is_error(&number, 400, "InvalidArgument");
}
