//! Multipart uploads over real HTTP, against a gateway in memory.

use crate::support::client::{Answer, Plan, over_tls, plan, under, with_bucket};
use trine_s3::front::Front;
use trine_s3::{Domains, S3Http};

fn is_error(answer: &Answer, status: u16, code: &str) {
    let text = answer.text();
    assert_eq!((answer.status, answer.element("Code").as_deref()), (status, Some(code)), "{text}");
}

/// An upload of `bucket/k`, and the tag of its first part, `hello`.
async fn one_part(service: &S3Http) -> (String, String) {
    let create = plan("POST", "/bucket/k", "uploads=").expect(service).await;
    let upload = create.element("UploadId").unwrap();
    let query = format!("partNumber=1&uploadId={upload}");
    let part = plan("PUT", "/bucket/k", &query).body(b"hello").expect(service).await;
    assert_eq!(part.status, 200, "{}", part.text());
    (upload, part.header("etag").unwrap().to_owned())
}

fn complete(path: &str, upload: &str, tag: &str) -> Plan {
    let document = format!(
        "<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>{tag}</ETag></Part>\
         </CompleteMultipartUpload>"
    );
    plan("POST", path, &format!("uploadId={upload}")).body(document.as_bytes())
}

#[tokio::test]
async fn the_location_of_a_completed_upload_is_under_the_name_the_client_used() {
    let (front, calls) = Front::new();
    tokio::spawn(crate::support::run(calls));
    let service = under(front, Domains::parse(["s3.test"]).unwrap());
    assert_eq!(plan("PUT", "/bucket", "").expect(&service).await.status, 200);
    for (path, host, proxied, location) in [
        ("/bucket/k", "s3.test:9000", false, "http://s3.test:9000/bucket/k"),
        ("/bucket/k", "10.0.0.1:80", false, "http://10.0.0.1:80/bucket/k"),
        ("/bucket/k", "s3.test", true, "https://s3.test/bucket/k"),
        ("/k", "bucket.s3.test:9000", false, "http://bucket.s3.test:9000/k"),
    ] {
        let (upload, tag) = one_part(&service).await;
        let mut plan = complete(path, &upload, &tag).host(host);
        if proxied {
            plan = plan.unsigned("x-forwarded-proto", "https");
        }
        let answer = plan.expect(&service).await;
        assert_eq!(answer.element("Location").as_deref(), Some(location), "{}", answer.text());
        assert_eq!(answer.element("Bucket").as_deref(), Some("bucket"));
    }
}

#[tokio::test]
async fn over_tls_the_location_of_a_completed_upload_is_an_https_url() {
    let service = over_tls();
    assert_eq!(plan("PUT", "/bucket", "").expect(&service).await.status, 200);
    let (upload, tag) = one_part(&service).await;
    let answer = complete("/bucket/k", &upload, &tag).expect(&service).await;
    let location = answer.element("Location").unwrap();
    assert!(location.starts_with("https://"), "{location}");
}

/// What is sent as a part: its number, its bytes, and a checksum header.
type Part<'a> = (u16, &'a [u8], &'a str);

/// An upload of `bucket/k` with these parts; their tags and checksums.
async fn upload(
    service: &S3Http,
    create: &[(&str, &str)],
    parts: &[Part<'_>],
) -> (String, Vec<(String, String)>) {
    let mut plan_of_create = plan("POST", "/bucket/k", "uploads=");
    for (name, value) in create {
        plan_of_create = plan_of_create.header(name, value);
    }
    let upload = plan_of_create.expect(service).await.element("UploadId").unwrap();
    let mut tags = Vec::new();
    for (number, bytes, checksum) in parts {
        let query = format!("partNumber={number}&uploadId={upload}");
        let put = plan("PUT", "/bucket/k", &query)
            .header("x-amz-sdk-checksum-algorithm", &checksum.to_uppercase())
            .body(bytes);
        let answer = put.expect(service).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        let value = answer.header(&format!("x-amz-checksum-{checksum}")).unwrap_or_default();
        tags.push((answer.header("etag").unwrap().to_owned(), value.to_owned()));
    }
    (upload, tags)
}

/// The request that joins parts `1..`, each with further elements.
fn join(upload: &str, parts: &[(String, String)]) -> Plan {
    let part = |(at, (tag, more)): (usize, &(String, String))| {
        format!("<Part><PartNumber>{}</PartNumber><ETag>{tag}</ETag>{more}</Part>", at + 1)
    };
    let parts: String = parts.iter().enumerate().map(part).collect();
    let document = format!("<CompleteMultipartUpload>{parts}</CompleteMultipartUpload>");
    plan("POST", "/bucket/k", &format!("uploadId={upload}")).body(document.as_bytes())
}

fn crc(algorithm: crc_fast::CrcAlgorithm, bytes: &[u8], width: usize) -> String {
    use base64::Engine;
    let sum = crc_fast::checksum(algorithm, bytes).to_be_bytes();
    base64::engine::general_purpose::STANDARD.encode(&sum[8 - width..])
}

#[tokio::test]
async fn an_object_size_is_held_against_the_parts() {
    let service = with_bucket().await;
    let (upload, tags) = upload(&service, &[], &[(1, b"hello", "crc32")]).await;
    let tags = [(tags[0].0.clone(), String::new())];
    for (size, code) in [("6", "InvalidRequest"), ("many", "InvalidArgument")] {
        let refused = join(&upload, &tags).header("x-amz-mp-object-size", size);
        is_error(&refused.expect(&service).await, 400, code);
    }
    assert_eq!(plan("HEAD", "/bucket/k", "").expect(&service).await.status, 404);
    let right = join(&upload, &tags).header("x-amz-mp-object-size", "5");
    assert_eq!(right.expect(&service).await.status, 200);
    // The upload is gone: who comes late hears it from the gateway.
    let late = join(&upload, &tags).header("x-amz-mp-object-size", "5");
    is_error(&late.expect(&service).await, 404, "NoSuchUpload");
}

#[tokio::test]
async fn checksums_of_listed_parts_must_be_those_of_the_stored_ones() {
    let service = with_bucket().await;
    let (upload, tags) = upload(&service, &[], &[(1, b"hello", "crc32")]).await;
    let (tag, sum) = &tags[0];
    assert_eq!(sum, "NhCmhg==");
    for wrong in [
        "<ChecksumCRC32>AAAAAA==</ChecksumCRC32>",
        "<ChecksumCRC32>nonsense</ChecksumCRC32>",
        "<ChecksumCRC32></ChecksumCRC32>",
        // The part was stored without this one.
        "<ChecksumCRC32C>mnG7TA==</ChecksumCRC32C>",
    ] {
        let refused = join(&upload, &[(tag.clone(), wrong.to_owned())]).expect(&service).await;
        is_error(&refused, 400, "InvalidPart");
        assert_eq!(refused.element("PartNumber").as_deref(), Some("1"));
    }
    let right = format!("<ChecksumCRC32>{sum}</ChecksumCRC32>");
    assert_eq!(join(&upload, &[(tag.clone(), right)]).expect(&service).await.status, 200);
}

#[tokio::test]
async fn a_checksum_of_the_object_is_judged_from_those_of_its_parts() {
    use crc_fast::CrcAlgorithm::{Crc32Iscsi, Crc64Nvme};
    let service = with_bucket().await;
    let first: Vec<u8> = (0..5_u32 << 18).flat_map(u32::to_le_bytes).collect();
    let whole = [first.as_slice(), b"tail"].concat();
    let full = [("x-amz-checksum-algorithm", "CRC32C"), ("x-amz-checksum-type", "FULL_OBJECT")];
    let composite = [("x-amz-checksum-algorithm", "CRC32C")];
    let nvme = [("x-amz-checksum-algorithm", "CRC64NVME")];
    let raw = |part: &[u8]| {
        let crc = u32::try_from(crc_fast::checksum(Crc32Iscsi, part)).unwrap();
        crc.to_be_bytes()
    };
    let of_sums = crc(Crc32Iscsi, &[raw(&first), raw(b"tail")].concat(), 4);
    for (create, name, value, right) in [
        (&full[..], "crc32c", crc(Crc32Iscsi, &whole, 4), true),
        (&full[..], "crc32c", of_sums.clone(), false),
        (&composite[..], "crc32c", of_sums.clone(), true),
        (&composite[..], "crc32c", format!("{of_sums}-2"), true),
        (&composite[..], "crc32c", format!("{of_sums}-3"), false),
        (&composite[..], "crc32c", crc(Crc32Iscsi, &whole, 4), false),
        (&nvme[..], "crc64nvme", crc(Crc64Nvme, &whole, 8), true),
        (&nvme[..], "crc64nvme", crc(Crc64Nvme, b"tail", 8), false),
    ] {
        let parts: [Part<'_>; 2] = [(1, &first, name), (2, b"tail", name)];
        let (upload, tags) = upload(&service, create, &parts).await;
        let tags: Vec<_> = tags.into_iter().map(|(tag, _)| (tag, String::new())).collect();
        let header = format!("x-amz-checksum-{name}");
        let answer = join(&upload, &tags).header(&header, &value).expect(&service).await;
        match right {
            true => assert_eq!(answer.status, 200, "{name} {value}: {}", answer.text()),
            false => is_error(&answer, 400, "BadDigest"),
        }
    }
}

#[tokio::test]
async fn the_checksum_of_a_joined_object_is_kept_and_told_back() {
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    use crc_fast::CrcAlgorithm::{Crc32Iscsi, Crc32IsoHdlc, Crc64Nvme};
    use sha1::Digest;
    let service = with_bucket().await;
    let first: Vec<u8> = (0..5_u32 << 18).flat_map(u32::to_le_bytes).collect();
    let whole = [first.as_slice(), b"tail"].concat();
    let raw = |name: &str, bytes: &[u8]| match name {
        "crc32" => crc(Crc32IsoHdlc, bytes, 4),
        "crc32c" => crc(Crc32Iscsi, bytes, 4),
        "crc64nvme" => crc(Crc64Nvme, bytes, 8),
        "sha1" => STANDARD.encode(sha1::Sha1::digest(bytes)),
        _ => STANDARD.encode(sha2::Sha256::digest(bytes)),
    };
    for (name, asked, full) in [
        ("crc32", Some("FULL_OBJECT"), true),
        ("crc32", Some("COMPOSITE"), false),
        ("crc32", None, false),
        ("crc32c", Some("FULL_OBJECT"), true),
        ("crc32c", None, false),
        ("crc64nvme", None, true),
        ("sha1", None, false),
        ("sha256", Some("COMPOSITE"), false),
    ] {
        let algorithm = name.to_uppercase();
        let mut create = vec![("x-amz-checksum-algorithm", algorithm.as_str())];
        create.extend(asked.map(|asked| ("x-amz-checksum-type", asked)));
        let parts: [Part<'_>; 2] = [(1, &first, name), (2, b"tail", name)];
        let (upload, tags) = upload(&service, &create, &parts).await;
        let values: Vec<u8> =
            tags.iter().flat_map(|(_, value)| STANDARD.decode(value).unwrap()).collect();
        let expected = match full {
            true => raw(name, &whole),
            false => format!("{}-2", raw(name, &values)),
        };
        let kind = if full { "FULL_OBJECT" } else { "COMPOSITE" };
        let tags: Vec<_> = tags.into_iter().map(|(tag, _)| (tag, String::new())).collect();
        let joined = join(&upload, &tags).expect(&service).await;
        let element = format!("Checksum{algorithm}");
        assert_eq!(joined.element(&element), Some(expected.clone()), "{}", joined.text());
        assert_eq!(joined.element("ChecksumType").as_deref(), Some(kind));
        let header = format!("x-amz-checksum-{name}");
        for method in ["GET", "HEAD"] {
            let ask = plan(method, "/bucket/k", "").header("x-amz-checksum-mode", "ENABLED");
            let told = ask.expect(&service).await;
            assert_eq!(told.header(&header), Some(expected.as_str()), "{name} {kind}");
            assert_eq!(told.header("x-amz-checksum-type"), Some(kind));
            assert_eq!(plan(method, "/bucket/k", "").expect(&service).await.header(&header), None);
        }
        let ask = plan("GET", "/bucket/k", "attributes=");
        let told = ask.header("x-amz-object-attributes", "Checksum,ObjectParts");
        let told = told.expect(&service).await;
        let bare = expected.split('-').next().map(str::to_owned);
        assert_eq!(
            (told.element(&element), told.element("PartsCount").as_deref()),
            (bare, Some("2"))
        );
    }
}

#[tokio::test]
async fn a_checksum_of_the_object_that_nothing_can_judge_is_not_implemented() {
    let service = with_bucket().await;
    let (upload, tags) = upload(&service, &[], &[(1, b"hello", "crc32")]).await;
    let tags = [(tags[0].0.clone(), String::new())];
    let other = join(&upload, &tags).header("x-amz-checksum-crc64nvme", "AAAAAAAAAAA=");
    is_error(&other.expect(&service).await, 501, "NotImplemented");
    for (name, value) in [
        ("x-amz-checksum-crc32", "AAAA"),
        ("x-amz-checksum-crc32", "NhCmhg==-many"),
        ("x-amz-checksum-type", "SOME"),
    ] {
        let malformed = join(&upload, &tags).header(name, value).expect(&service).await;
        is_error(&malformed, 400, "InvalidRequest");
    }
}
