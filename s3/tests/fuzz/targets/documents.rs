//! The documents of DeleteObjects, CompleteMultipartUpload and CreateBucket.
//!
//! Input: which of them (1 byte), and the document.

use super::support::client::plan;
use super::{run as run_async, tell, with_object, with_upload};

pub(crate) fn run(input: &[u8]) -> bool {
    let Some((which, document)) = input.split_first() else { return false };
    run_async(async {
        let service = with_object().await;
        let plan = match which % 3 {
            0 => plan("POST", "/bucket", "delete="),
            1 => {
                let upload = with_upload(&service).await;
                plan("POST", "/bucket/k", &format!("uploadId={upload}"))
            }
            _ => plan("PUT", "/another", ""),
        };
        let signed = plan.body(document).sign();
        let told = tell(&service, &signed, document.chunks(1000).map(<[u8]>::to_vec)).await;
        let known = matches!(told.status, 200 | 400 | 404 | 501);
        assert!(known && (told.status == 200 || !told.code.is_empty()), "{}", told.text);
        // Whatever it was: what it names is gone, or there as it was.
        let get = plan_get().sign();
        let object = tell(&service, &get, None).await;
        let whole = match object.status {
            200 => object.bytes == b"0123456789" || (which % 3 == 1 && object.bytes == b"part"),
            404 => which % 3 == 0 && told.status == 200,
            _ => false,
        };
        assert!(whole, "{} {}", object.status, object.text);
        told.status == 200
    })
}

fn plan_get() -> super::support::client::Plan {
    plan("GET", "/bucket/k", "")
}

/// The lines of the corpus with answers.
pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for line in include_str!("../../corpus/documents.txt").lines() {
        let mut fields = line.splitn(3, ' ');
        let which = match fields.next() {
            Some("delete") => 0,
            Some("complete") => 1,
            Some("create") => 2,
            _ => continue,
        };
        let Some(document) = fields.nth(1) else { continue };
        seeds.push([&[which], document.as_bytes()].concat());
    }
    let complete = "<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>\"4d1d6cf1f2d5ec6e6fb0b9ffb48d3ed1\"</ETag></Part></CompleteMultipartUpload>";
    seeds.push([&[1], complete.as_bytes()].concat());
    seeds
}
