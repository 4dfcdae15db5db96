//! What headers say of an object to be: attributes, tags, conditions, and what is not built.

use http::{HeaderMap, StatusCode};
use trine_core::object::{Attributes, USER_METADATA_BYTES_MAX, WriteConditions};
use trine_core::request::ReadConditions;

use super::Call;
use crate::error::{Failure, invalid_argument, not_implemented, refuse};
use crate::text;

/// Tags of one object, and the longest of their halves in characters (Amazon S3, "Object tagging").
const TAGS_MAX: usize = 10;
const TAG_KEY_CHARACTERS_MAX: usize = 128;
const TAG_VALUE_CHARACTERS_MAX: usize = 256;

/// Headers that ask for what is not built. To ignore them would be a false promise.
const NOT_BUILT: [&str; 15] = [
    "x-amz-grant-full-control",
    "x-amz-grant-read",
    "x-amz-grant-read-acp",
    "x-amz-grant-write",
    "x-amz-grant-write-acp",
    "x-amz-if-match-last-modified-time",
    "x-amz-if-match-size",
    "x-amz-object-lock-legal-hold",
    "x-amz-object-lock-mode",
    "x-amz-object-lock-retain-until-date",
    "x-amz-server-side-encryption",
    "x-amz-server-side-encryption-aws-kms-key-id",
    "x-amz-server-side-encryption-customer-algorithm",
    "x-amz-server-side-encryption-customer-key",
    "x-amz-write-offset-bytes",
];

/// Refuse what is not built.
pub(super) fn check_built(headers: &HeaderMap) -> Result<(), Failure> {
    if let Some(name) = NOT_BUILT.iter().find(|name| headers.contains_key(**name)) {
        return Err(not_implemented(name));
    }
    if headers.get("x-amz-bucket-object-lock-enabled").is_some_and(|value| value != "false") {
        return Err(not_implemented("x-amz-bucket-object-lock-enabled"));
    }
    let text = |name: &str| headers.get(name).map(|value| value.to_str().unwrap_or_default());
    // Nobody but the owner has access, so that nobody else can own anything in a bucket.
    if text("x-amz-object-ownership").is_some_and(|value| value != "BucketOwnerEnforced") {
        return Err(not_implemented("x-amz-object-ownership other than BucketOwnerEnforced"));
    }
    match text("x-amz-acl") {
        None | Some("private" | "bucket-owner-full-control" | "bucket-owner-read") => {}
        Some(_) => return Err(not_implemented("x-amz-acl other than private")),
    }
    match text("x-amz-storage-class") {
        None | Some("STANDARD") => Ok(()),
        Some(_) => {
            let message = "The storage class you specified is not valid";
            Err(refuse(StatusCode::BAD_REQUEST, "InvalidStorageClass", message))
        }
    }
}

/// Everyone's buckets are private, so the owner that a client expects can only be itself.
pub(super) fn check_expected_owner(call: &Call) -> Result<(), Failure> {
    match call.headers.get("x-amz-expected-bucket-owner") {
        Some(value) if value.as_bytes() != call.key.owner.user.as_bytes() => {
            Err(refuse(StatusCode::FORBIDDEN, "AccessDenied", "Access Denied"))
        }
        _ => Ok(()),
    }
}

/// The attributes.
pub(super) fn attributes(headers: &HeaderMap) -> Result<Attributes, Failure> {
    Ok(Attributes {
        content_type: text_of(headers, "content-type")?,
        content_encoding: text_of(headers, "content-encoding")?.and_then(without_aws_chunked),
        content_language: text_of(headers, "content-language")?,
        content_disposition: text_of(headers, "content-disposition")?,
        cache_control: text_of(headers, "cache-control")?,
        expires: text_of(headers, "expires")?,
        website_redirect: website_redirect(headers)?,
        user_metadata: user_metadata(headers)?,
    })
}

/// The redirect, which a copy takes from nowhere else.
pub(super) fn website_redirect(headers: &HeaderMap) -> Result<Option<String>, Failure> {
    text_of(headers, "x-amz-website-redirect-location")
}

fn text_of(headers: &HeaderMap, name: &str) -> Result<Option<String>, Failure> {
    let Some(value) = headers.get(name).filter(|value| !value.is_empty()) else {
        return Ok(None);
    };
    match std::str::from_utf8(value.as_bytes()) {
        Ok(text) => Ok(Some(text.to_owned())),
        Err(_) => Err(invalid_argument(format!("The header {name} is not UTF-8."))),
    }
}

/// `aws-chunked` tells how the body came, not what the object is.
fn without_aws_chunked(encoding: String) -> Option<String> {
    let codings = encoding.split(',').map(str::trim);
    let kept: Vec<&str> = codings
        .filter(|coding| !coding.is_empty() && !coding.eq_ignore_ascii_case("aws-chunked"))
        .collect();
    if kept.is_empty() { None } else { Some(kept.join(",")) }
}

fn user_metadata(headers: &HeaderMap) -> Result<Vec<(String, String)>, Failure> {
    let mut metadata = Vec::new();
    let mut bytes = 0;
    for name in headers.keys() {
        let Some(short) = name.as_str().strip_prefix("x-amz-meta-") else { continue };
        let mut values = Vec::new();
        for value in headers.get_all(name) {
            let value = std::str::from_utf8(value.as_bytes());
            values.push(value.map_err(|_| invalid_argument(format!("{name} is not UTF-8.")))?);
        }
        let value = values.join(",");
        bytes += short.len() + value.len();
        metadata.push((short.to_owned(), value));
    }
    if bytes > USER_METADATA_BYTES_MAX {
        let message = "Your metadata headers exceed the maximum allowed metadata size";
        return Err(refuse(StatusCode::BAD_REQUEST, "MetadataTooLarge", message));
    }
    Ok(metadata)
}

/// The tags of `x-amz-tagging`.
pub(super) fn tags(headers: &HeaderMap) -> Result<Vec<(String, String)>, Failure> {
    let Some(value) = headers.get("x-amz-tagging") else { return Ok(Vec::new()) };
    let invalid = |message: &'static str| refuse(StatusCode::BAD_REQUEST, "InvalidTag", message);
    let tags = value.to_str().ok().and_then(text::pairs);
    let tags = tags.ok_or_else(|| invalid_argument("The header x-amz-tagging is malformed."))?;
    if tags.len() > TAGS_MAX {
        let message = "Object tags cannot be greater than 10";
        return Err(refuse(StatusCode::BAD_REQUEST, "BadRequest", message));
    }
    for (at, (key, value)) in tags.iter().enumerate() {
        if key.is_empty() || key.chars().count() > TAG_KEY_CHARACTERS_MAX {
            return Err(invalid("The TagKey you have provided is invalid"));
        }
        if value.chars().count() > TAG_VALUE_CHARACTERS_MAX {
            return Err(invalid("The TagValue you have provided is invalid"));
        }
        if tags[..at].iter().any(|(other, _)| other == key) {
            return Err(invalid("Cannot provide multiple Tags with the same key"));
        }
    }
    Ok(tags)
}

/// Conditions of a write.
pub(super) fn write_conditions(call: &Call) -> WriteConditions {
    WriteConditions {
        if_match: call.header("if-match").map(text::parse_tags),
        if_none_match: call.header("if-none-match").map(text::parse_tags),
    }
}

/// Conditions of a read. Malformed dates are ignored, as HTTP wants it.
pub(super) fn read_conditions(call: &Call) -> ReadConditions {
    ReadConditions {
        if_match: call.header("if-match").map(text::parse_tags),
        if_none_match: call.header("if-none-match").map(text::parse_tags),
        if_modified_since: call.header("if-modified-since").and_then(text::parse_http_date),
        if_unmodified_since: call.header("if-unmodified-since").and_then(text::parse_http_date),
    }
}

/// Bytes that the body has once it is unwrapped.
pub(super) fn body_length(headers: &HeaderMap) -> Result<u64, Failure> {
    let streaming = headers
        .get("x-amz-content-sha256")
        .is_some_and(|value| value.as_bytes().starts_with(b"STREAMING-"));
    let name = if streaming { "x-amz-decoded-content-length" } else { "content-length" };
    let Some(value) = headers.get(name) else {
        let message = "You must provide the Content-Length HTTP header.";
        return Err(refuse(StatusCode::LENGTH_REQUIRED, "MissingContentLength", message));
    };
    let length = value.to_str().ok().and_then(|value| value.parse().ok());
    length.ok_or_else(|| invalid_argument(format!("The header {name} is not a number.")))
}
