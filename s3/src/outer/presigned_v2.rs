//! Presigned requests of signature version 2: what boto3 makes for `us-east-1` if nobody tells it
//! otherwise.
//!
//! Only query strings, since only there clients still use it by themselves; `Authorization: AWS …` is
//! refused. The signature is verified here, over the target as it stands on the wire, and the request is
//! signed anew for s3s as one of version 4 that was made now, whose body nobody vouches for: as with a
//! presigned request of version 4.
//!
//! The old signature covers of the parameters only those that name a sub-resource. What else there is
//! would be believed unsigned; so it is refused. What it covers of the headers is every `x-amz-*`,
//! `Content-MD5` and `Content-Type`, and boto3 puts those that were signed into the query, from where they
//! are taken if they are no headers.
//!
//! Source: Amazon S3, "Signing and authenticating REST requests (AWS signature version 2)".

use std::collections::BTreeMap;
use std::fmt::Write;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use http::header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderName};
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{HeaderValue, StatusCode};
use sha1::Sha1;
use time::OffsetDateTime;

use super::{presigned, resign};
use crate::config::S3Config;
use crate::error::{Failure, invalid_argument, refuse};
use crate::text;

/// The parameters that sign.
const SIGNING: [&str; 3] = ["AWSAccessKeyId", "Signature", "Expires"];

/// The parameters that are signed.
const SUB_RESOURCES: [&str; 35] = [
    "accelerate",
    "acl",
    "analytics",
    "cors",
    "defaultObjectAcl",
    "delete",
    "inventory",
    "lifecycle",
    "location",
    "logging",
    "metrics",
    "notification",
    "object-lock",
    "partNumber",
    "policy",
    "replication",
    "requestPayment",
    "response-cache-control",
    "response-content-disposition",
    "response-content-encoding",
    "response-content-language",
    "response-content-type",
    "response-expires",
    "restore",
    "select",
    "select-type",
    "storageClass",
    "tagging",
    "torrent",
    "uploadId",
    "uploads",
    "versionId",
    "versioning",
    "versions",
    "website",
];

/// Whether a query means to sign in this way.
pub(super) fn is_meant(query: &[(String, String)]) -> bool {
    query.iter().any(|(name, _)| name == "Signature" || name == "AWSAccessKeyId")
}

/// Verify the signature, and put one of version 4 in its place.
///
/// # Errors
/// 400 if the parameters are not those of such a request, 403 if it is over or not signed so.
pub(super) fn convert(
    parts: &mut Parts,
    query: &[(String, String)],
    config: &S3Config,
) -> Result<(), Failure> {
    let request = Presigned::read(parts, query)?;
    let now = OffsetDateTime::now_utc();
    if now.unix_timestamp() > request.expires {
        let message = "Request has expired";
        return Err(refuse(StatusCode::FORBIDDEN, "AccessDenied", message));
    }
    let key = config.keys.secret(request.access_key).ok_or_else(|| {
        let message = "The AWS Access Key Id you provided does not exist in our records.";
        refuse(StatusCode::FORBIDDEN, "InvalidAccessKeyId", message)
    })?;
    let mismatch = || {
        let message = "The request signature we calculated does not match the signature you \
                       provided. Check your key and signing method.";
        refuse(StatusCode::FORBIDDEN, "SignatureDoesNotMatch", message)
    };
    let to_sign = request.text_to_sign(parts, config).ok_or_else(mismatch)?;
    let mut mac = Hmac::<Sha1>::new_from_slice(key.secret.as_bytes()).map_err(|_| mismatch())?;
    mac.update(to_sign.as_bytes());
    let signature = STANDARD.decode(request.signature).map_err(|_| mismatch())?;
    // Compares in constant time.
    mac.verify_slice(&signature).map_err(|_| mismatch())?;
    let Presigned { access_key, headers, kept, .. } = request;
    for (name, value) in headers {
        // What else was signed speaks of a body that was not there then.
        if presigned::is_header(name.as_str()) || !name.as_str().starts_with("x-amz-") {
            parts.headers.insert(name, value);
        }
    }
    let target = if kept.is_empty() {
        parts.uri.path().to_owned()
    } else {
        format!("{}?{kept}", parts.uri.path())
    };
    let mut uri = parts.uri.clone().into_parts();
    uri.path_and_query = Some(PathAndQuery::try_from(target).map_err(|_| mismatch())?);
    parts.uri = http::Uri::from_parts(uri).map_err(|_| mismatch())?;
    resign::sign(parts, access_key, &key.secret, &config.region, now).ok_or_else(mismatch)
}

/// A request whose query signs it.
struct Presigned<'a> {
    access_key: &'a str,
    signature: &'a str,
    /// Seconds since 1970.
    expires: i64,
    /// Those among the parameters.
    headers: Vec<(HeaderName, HeaderValue)>,
    /// By name, with their values if they have a `=`.
    sub_resources: BTreeMap<&'a str, Option<&'a str>>,
    /// The query of the sub-resources alone, as it came.
    kept: String,
}

impl<'a> Presigned<'a> {
    fn read(parts: &Parts, query: &'a [(String, String)]) -> Result<Self, Failure> {
        let values = |name: &str| query.iter().filter(|(other, _)| other == name).count();
        if SIGNING.iter().any(|name| values(name) != 1) {
            let message = "Query-string authentication requires the Signature, Expires and \
                           AWSAccessKeyId parameters";
            return Err(refuse(StatusCode::FORBIDDEN, "AccessDenied", message));
        }
        if parts.headers.contains_key(AUTHORIZATION) || values("X-Amz-Signature") > 0 {
            let message = "Only one auth mechanism allowed; only the X-Amz-Algorithm query \
                           parameter, Signature query string parameter or the Authorization header \
                           should be specified";
            return Err(refuse(StatusCode::BAD_REQUEST, "InvalidArgument", message));
        }
        let value = |name: &str| {
            query.iter().find(|(other, _)| other == name).map_or("", |(_, value)| value.as_str())
        };
        let expires = value("Expires").parse().map_err(|_| {
            let message = "Invalid date (should be seconds since epoch)";
            refuse(StatusCode::FORBIDDEN, "AccessDenied", message)
        })?;
        let mut request = Self {
            access_key: value("AWSAccessKeyId"),
            signature: value("Signature"),
            expires,
            headers: Vec::new(),
            sub_resources: BTreeMap::new(),
            kept: String::new(),
        };
        // The raw form has as many pairs as the decoded one, and in the same order.
        let raw = parts.uri.query().unwrap_or_default();
        for ((name, value), raw) in query.iter().zip(text::raw_pairs(raw)) {
            if SIGNING.contains(&name.as_str()) {
                continue;
            }
            let lower = name.to_ascii_lowercase();
            if lower.starts_with("x-amz-") || lower == "content-type" || lower == "content-md5" {
                request.take_header(parts, &lower, value)?;
            } else if SUB_RESOURCES.contains(&name.as_str()) {
                let value = raw.contains('=').then_some(value.as_str());
                if request.sub_resources.insert(name, value).is_some() {
                    return Err(invalid_argument(format!("The parameter {name} is there twice.")));
                }
                if !request.kept.is_empty() {
                    request.kept.push('&');
                }
                request.kept.push_str(raw);
            } else {
                let message = format!(
                    "A presigned request of signature version 2 cannot have the parameter {name}, \
                     which it does not sign. Please use AWS4-HMAC-SHA256 (signature_version='s3v4')."
                );
                return Err(invalid_argument(message));
            }
        }
        Ok(request)
    }

    /// A header that stands among the parameters, unless the client sent it as one.
    fn take_header(&mut self, parts: &Parts, name: &str, value: &str) -> Result<(), Failure> {
        let wrong = || invalid_argument(format!("The parameter {name} is no header."));
        let header = HeaderName::from_bytes(name.as_bytes()).map_err(|_| wrong())?;
        let value = HeaderValue::from_bytes(value.as_bytes()).map_err(|_| wrong())?;
        let differs = parts.headers.get_all(&header).iter().any(|other| *other != value)
            || self.headers.iter().any(|(other, _)| *other == header);
        if differs {
            let message = format!("The header {name} is not what was signed.");
            return Err(invalid_argument(message));
        }
        self.headers.push((header, value));
        Ok(())
    }

    /// What the client signed; `None` if some of it is no text.
    fn text_to_sign(&self, parts: &Parts, config: &S3Config) -> Option<String> {
        let mut headers = parts.headers.clone();
        for (name, value) in &self.headers {
            headers.insert(name, value.clone());
        }
        let one = |name: HeaderName| match headers.get(name) {
            Some(value) => value.to_str().ok(),
            None => Some(""),
        };
        let (md5, kind) = (one(HeaderName::from_static("content-md5"))?, one(CONTENT_TYPE)?);
        let mut out = format!("{}\n{md5}\n{kind}\n{}\n", parts.method, self.expires);
        let mut names: Vec<&HeaderName> =
            headers.keys().filter(|name| name.as_str().starts_with("x-amz-")).collect();
        names.sort_by_key(|name| name.as_str());
        for name in names {
            let values: Result<Vec<&str>, _> =
                headers.get_all(name).iter().map(HeaderValue::to_str).collect();
            let values: Vec<&str> = values.ok()?.into_iter().map(str::trim).collect();
            let _ = writeln!(out, "{name}:{}", values.join(","));
        }
        let host = headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
        if let Some(bucket) = config.domains.bucket(host) {
            out.push('/');
            out.push_str(&bucket);
        }
        out.push_str(parts.uri.path());
        for (at, (name, value)) in self.sub_resources.iter().enumerate() {
            out.push(if at == 0 { '?' } else { '&' });
            out.push_str(name);
            if let Some(value) = value {
                out.push('=');
                out.push_str(value);
            }
        }
        Some(out)
    }
}
