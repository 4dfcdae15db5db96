//! The HTTP front, point by point as `docs/s3-front.md` lists them. One binary for many cases.

mod answers;
mod bare;
mod bodies;
mod http2;
mod keys;
mod presigned_v2;
mod probes;
mod properties;
mod signing;
mod weaknesses;

use crate::support::client::{Answer, plan, with_bucket};

/// An error whose document is complete.
fn is_error(answer: &Answer, status: u16, code: &str) {
    let text = answer.text();
    assert_eq!((answer.status, answer.element("Code").as_deref()), (status, Some(code)), "{text}");
    let id = answer.header("x-amz-request-id").expect("every answer has an id");
    let host = answer.header("x-amz-id-2").expect("every answer has a host id");
    assert_eq!(answer.element("RequestId").as_deref(), Some(id), "{text}");
    assert_eq!(answer.element("HostId").as_deref(), Some(host), "{text}");
    assert!(answer.element("Resource").is_some(), "{text}");
    assert!(answer.element("Message").is_some_and(|message| !message.is_empty()), "{text}");
    assert_eq!(answer.header("content-type"), Some("application/xml"), "{text}");
}

#[test]
fn every_test_that_the_documentation_names_is_there() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = std::fs::read_to_string(root.join("../docs/s3-front.md")).unwrap();
    let named: Vec<(&str, &str)> = page
        .split('`')
        .filter_map(|word| word.split_once("::"))
        .filter(|(file, test)| *file != "s3s" && *file != "file" && !test.is_empty())
        .collect();
    assert!(named.len() > 50, "{named:?}");
    for (file, test) in named {
        let path = root.join(format!("tests/{file}.rs"));
        let text = std::fs::read_to_string(&path).unwrap_or_else(|_| panic!("no {path:?}"));
        assert!(text.contains(&format!("fn {test}(")), "{file} has no {test}");
    }
}
