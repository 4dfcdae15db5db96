//! What must hold of the parameters of a presigned request, beyond what s3s looks at: it accepts any
//! validity, and names no parameter that is missing. And headers among the parameters: SDKs (JavaScript's
//! and Go's) move `x-amz-*` headers into the query that they sign, and S3 takes them from there.
//!
//! Source: Amazon S3, "Authenticating requests: using query parameters", and the messages of its
//! `AuthorizationQueryParametersError`.

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use crate::error::{Failure, invalid_argument, refuse};

/// Longest validity of a presigned request: seven days.
const EXPIRES_SECONDS_MAX: u64 = 7 * 24 * 60 * 60;

/// All parameters of signature version 4 in a query.
const PARAMETERS: [&str; 6] = [
    "X-Amz-Algorithm",
    "X-Amz-Credential",
    "X-Amz-Signature",
    "X-Amz-Date",
    "X-Amz-SignedHeaders",
    "X-Amz-Expires",
];

/// Parameters that are no headers: those of the signature, and what speaks of a body that was not there
/// when the request was signed (JavaScript's SDK signs the checksum of an empty one).
const NO_HEADERS: [&str; 12] = [
    "x-amz-algorithm",
    "x-amz-content-sha256",
    "x-amz-credential",
    "x-amz-date",
    "x-amz-decoded-content-length",
    "x-amz-expires",
    "x-amz-sdk-checksum-algorithm",
    "x-amz-security-token",
    "x-amz-signature",
    "x-amz-signedheaders",
    "x-amz-trailer",
    "x-amz-user-agent",
];

/// Take headers from the parameters of a presigned request, whose signature covers them there.
///
/// # Errors
/// 400 if one cannot be a header, or is there as a header already.
pub(super) fn take_headers(
    query: &[(String, String)],
    headers: &mut HeaderMap,
) -> Result<(), Failure> {
    if !query.iter().any(|(name, _)| name == "X-Amz-Signature") {
        return Ok(());
    }
    for (name, value) in query {
        let name = name.to_ascii_lowercase();
        if !is_header(&name) {
            continue;
        }
        let header = HeaderName::from_bytes(name.as_bytes()).ok();
        let value = HeaderValue::from_bytes(value.as_bytes()).ok();
        match (header, value) {
            (Some(header), Some(value)) if !headers.contains_key(&header) => {
                headers.insert(header, value);
            }
            _ => {
                let message = format!("The parameter {name} cannot be taken for a header.");
                return Err(invalid_argument(message));
            }
        }
    }
    Ok(())
}

/// Whether a parameter stands for a header of the request to come. `name` is in lower case.
pub(super) fn is_header(name: &str) -> bool {
    let of_body = name.starts_with("x-amz-checksum-") && name != "x-amz-checksum-mode";
    name.starts_with("x-amz-") && !of_body && !NO_HEADERS.contains(&name)
}

/// Check the parameters, if there are any of this kind.
pub(super) fn check(query: &[(String, String)]) -> Result<(), Failure> {
    let values = |name: &str| query.iter().filter(|(other, _)| other == name).count();
    let wrong = |message: &str| {
        refuse(StatusCode::BAD_REQUEST, "AuthorizationQueryParametersError", message)
    };
    // Any of these says that the query is meant to sign; the others might be there by themselves.
    if values("X-Amz-Algorithm") + values("X-Amz-Signature") + values("X-Amz-Credential") == 0 {
        return Ok(());
    }
    if PARAMETERS.iter().any(|name| values(name) != 1) {
        let message = "Query-string authentication version 4 requires the X-Amz-Algorithm, \
                       X-Amz-Credential, X-Amz-Signature, X-Amz-Date, X-Amz-SignedHeaders, and \
                       X-Amz-Expires parameters.";
        return Err(wrong(message));
    }
    let value = |name: &str| {
        query.iter().find(|(other, _)| other == name).map_or("", |(_, value)| value.as_str())
    };
    if value("X-Amz-Algorithm") != "AWS4-HMAC-SHA256" {
        return Err(wrong("X-Amz-Algorithm only supports \"AWS4-HMAC-SHA256\""));
    }
    let expires = value("X-Amz-Expires");
    let digits = expires.strip_prefix('-').unwrap_or(expires);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(wrong("X-Amz-Expires should be a number"));
    }
    if expires.starts_with('-') {
        return Err(wrong("X-Amz-Expires must be non-negative"));
    }
    if digits.parse().map_or(true, |seconds: u64| seconds > EXPIRES_SECONDS_MAX) {
        let message = "X-Amz-Expires must be less than a week (in seconds); that is, the given \
                       X-Amz-Expires must be less than 604800 seconds";
        return Err(wrong(message));
    }
    Ok(())
}
