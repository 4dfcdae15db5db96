//! Signed requests of any shape: methods, paths, queries, ranges, dates, conditions, sources of copies.
//!
//! Input: lines. The first is the method's first letter and the path; the second is the query, as it is before
//! it is encoded; then headers (`r: bytes=0-3`), by the letters of [`HEADERS`]; an empty line; the body.

use std::fmt::Write as _;

use super::support::client::plan;
use super::{run as run_async, tell, with_object, with_upload};

/// Headers by their letters. Those that begin with `x-amz-` are signed, others are added later.
const HEADERS: [(u8, &str); 26] = [
    (b'a', "x-amz-acl"),
    (b'b', "x-amz-bypass-governance-retention"),
    (b'c', "x-amz-checksum-crc32"),
    (b'd', "if-modified-since"),
    (b'e', "content-encoding"),
    (b'f', "x-amz-checksum-algorithm"),
    (b'g', "x-amz-tagging"),
    (b'h', "x-amz-tagging-directive"),
    (b'i', "if-none-match"),
    (b'j', "x-amz-copy-source-range"),
    (b'k', "x-amz-copy-source-if-match"),
    (b'l', "x-amz-copy-source-if-modified-since"),
    (b'm', "if-match"),
    (b'n', "x-amz-meta-n"),
    (b'o', "x-amz-object-attributes"),
    (b'p', "x-amz-checksum-mode"),
    (b'q', "x-amz-max-parts"),
    (b'r', "range"),
    (b's', "x-amz-copy-source"),
    (b't', "content-type"),
    (b'u', "if-unmodified-since"),
    (b'v', "if-range"),
    (b'w', "x-amz-website-redirect-location"),
    (b'x', "expires"),
    (b'y', "content-md5"),
    (b'z', "x-amz-metadata-directive"),
];

pub(crate) fn run(input: &[u8]) -> bool {
    let mut lines = input.splitn(32, |byte| *byte == b'\n');
    let (Some(first), Some(query)) = (lines.next(), lines.next()) else { return false };
    let Some((letter, path)) = first.split_first() else { return false };
    let method = match letter {
        b'P' => "PUT",
        b'H' => "HEAD",
        b'D' => "DELETE",
        b'O' => "OPTIONS",
        b'S' => "POST",
        _ => "GET",
    };
    let mut headers = Vec::new();
    let mut body = Vec::new();
    while let Some(line) = lines.next() {
        let (Some(letter), value) = (line.first(), line.get(3..).unwrap_or_default()) else {
            body = lines.collect::<Vec<_>>().join(&b'\n');
            break;
        };
        let name = HEADERS.iter().find(|(of, _)| of == letter).map(|(_, name)| *name);
        // A signer trims values and makes one space of several; that is not what is looked for here.
        let value = String::from_utf8_lossy(value).split_whitespace().collect::<Vec<_>>().join(" ");
        if let Some(name) = name
            && value.bytes().all(|byte| (b' '..=b'~').contains(&byte))
            && !headers.iter().any(|(other, _)| *other == name)
        {
            headers.push((name, value));
        }
    }
    run_async(async {
        let service = with_object().await;
        let upload = match query.windows(6).any(|window| window == b"UPLOAD") {
            true => with_upload(&service).await,
            false => String::new(),
        };
        let mut plan =
            plan(method, &format!("/{}", encode(path, b"-_.~/")), &pairs(query, &upload));
        for (name, value) in &headers {
            plan = match name.starts_with("x-amz-") {
                true => plan.header(name, value),
                false => plan.unsigned(name, value),
            };
        }
        if matches!(method, "PUT" | "POST") {
            plan = plan.body(&body);
        }
        let signed = plan.sign();
        if signed.target.parse::<http::Uri>().is_err() {
            return false;
        }
        let told = tell(&service, &signed, body.chunks(100).map(<[u8]>::to_vec)).await;
        let known = matches!(
            told.status,
            200 | 204 | 206 | 304 | 400 | 403 | 404 | 405 | 409 | 411 | 412 | 416 | 501
        );
        assert!(known, "{method} {}: {} {}", signed.target, told.status, told.text);
        let is_error = told.status >= 400 && method != "HEAD";
        assert!(!is_error || !told.code.is_empty(), "{}: {}", told.status, told.text);
        if method == "HEAD" || told.status == 304 {
            assert!(told.bytes.is_empty(), "a body that nobody expects: {}", told.text);
        }
        // A part of the object is a part of the object.
        if method == "GET" && told.status == 206 && path == b"bucket/k" {
            let whole: &[u8] = b"0123456789";
            assert!(whole.windows(told.bytes.len().max(1)).any(|part| part == told.bytes));
        }
        let list = super::plan("GET", "/bucket", "").sign();
        let list = tell(&service, &list, None).await.status;
        assert!(list == 200 || (list == 404 && method == "DELETE"), "{list}");
        told.status < 400
    })
}

fn encode(bytes: &[u8], kept: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut out, byte| {
        if byte.is_ascii_alphanumeric() || kept.contains(byte) {
            out.push(char::from(*byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
        out
    })
}

/// In canonical form.
fn pairs(query: &[u8], upload: &str) -> String {
    let mut pairs: Vec<String> = query
        .split(|byte| *byte == b'&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let at = pair.iter().position(|byte| *byte == b'=').unwrap_or(pair.len());
            let value = pair.get(at + 1..).unwrap_or_default();
            let value = if value == b"UPLOAD" { upload.as_bytes() } else { value };
            format!("{}={}", encode(&pair[..at], b"-_.~"), encode(value, b"-_.~"))
        })
        .collect();
    pairs.sort();
    pairs.join("&")
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let mut seeds: Vec<Vec<u8>> = [
        "Gbucket/k\n\n",
        "Gbucket/k\n\nr: bytes=1-3\n",
        "Gbucket/k\n\nr: bytes=-3\nv: \"781e5e245d69b566979b86e28d23f2c7\"",
        "Gbucket/k\n\ni: \"781e5e245d69b566979b86e28d23f2c7\", W/\"x\"",
        "Gbucket/k\n\nm: *\nu: Tue, 14 Nov 2023 22:13:22 GMT",
        "Hbucket/k\n\nd: Tue, 14 Nov 2023 22:13:22 GMT\np: ENABLED",
        "Gbucket/k\nresponse-content-type=a/b&partNumber=1\n",
        "Gbucket/k\nattributes\no: ETag,ObjectParts\nq: 3",
        "Gbucket\nlist-type=2&prefix=k&delimiter=/&max-keys=2&start-after=a&encoding-type=url\n",
        "Gbucket\nmarker=a&prefix=&delimiter=b\n",
        "Gbucket\nlist-type=2&continuation-token=AAAA\n",
        "Gbucket\nuploads&key-marker=a&upload-id-marker=b\n",
        "Gbucket/k\nuploadId=UPLOAD&max-parts=2&part-number-marker=1\n",
        "Pbucket/k\npartNumber=2&uploadId=UPLOAD\n\nbody",
        "Pbucket/k\npartNumber=2&uploadId=UPLOAD\ns: /bucket/k\nj: bytes=0-3",
        "Dbucket/k\nuploadId=UPLOAD\n",
        "Pbucket/other\n\ns: bucket/k\nk: \"x\"\nz: REPLACE\nn: v",
        "Pbucket/other\n\ns: /bucket/%6b?versionId=null\nl: Tue, 14 Nov 2023 22:13:22 GMT",
        "Pbucket/k\n\nt: a/b\ng: a=b&c=d\nn: meta\nx: 0\ny: 1B2M2Y8AsgTpgAmY7PhCfg==\n",
        "Pbucket/k\n\nc: AAAAAA==\nf: CRC32\n\nhello",
        "Pbucket/k\n\nm: \"x\"\n\nhello",
        "Pbucket/k\n\ni: *\n\nhello",
        "Dbucket/k\n\n",
        "Dbucket\n\n",
        "Pa-new-bucket\n\na: private\n",
        "Sbucket/k\nuploads\nf: SHA256\n",
        "Gbucket\nacl\n",
        "Gbucket/k\ntagging\n",
        "G\n\n",
        "Obucket/k\n\n",
        "Gbucket//../%\u{0}\n\n",
    ]
    .iter()
    .map(|seed| seed.as_bytes().to_vec())
    .collect();
    for line in include_str!("../../corpus/ranges.txt").lines().skip(1).step_by(4) {
        seeds.push(format!("Gbucket/k\n\nr: {line}").into_bytes());
    }
    for line in include_str!("../../corpus/dates.txt").lines().skip(1).step_by(4) {
        seeds.push(format!("Gbucket/k\n\nd: {line}\nu: {line}").into_bytes());
    }
    seeds
}
