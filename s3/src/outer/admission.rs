//! What must hold before a request is looked at: limits, and that the signature covers what matters.

use std::fmt::Write;
use std::sync::Arc;

use bytes::Bytes;
use http::header::HOST;
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use s3s::{Body, StdError};
use sha2::{Digest, Sha256};

use super::chain::Chain;
use super::chunked::{ChunkedBody, Framing};
use super::watched::Watched;
use super::{presigned, presigned_v2, resign};
use crate::config::{HEADER_BYTES_MAX, S3Config, URI_BYTES_MAX};
use crate::digest::{Claims, Verifier};
use crate::error::{Failure, not_implemented, refuse};
use crate::text;
use crate::transfer::{self, Shared};

/// Largest body that is hashed here, before its signature is verified, because the client did not
/// say its hash. Clients that do this (curl before 8.0) send small ones.
const UNHASHED_BYTES_MAX: usize = 1 << 20;

/// Check a request and make its body safe to hand to s3s.
pub(super) async fn admit<B>(
    request: http::Request<B>,
    shared: &Arc<Shared>,
    config: &S3Config,
) -> Result<http::Request<Body>, Failure>
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<StdError>,
{
    let (mut parts, body) = request.into_parts();
    name_host(&mut parts);
    // First of all, so that it is not lost if the request is refused.
    let body = Watched::new(body, parts.headers.contains_key(http::header::EXPECT), shared.clone());
    check_limits(&parts)?;
    check_preflight(&parts)?;
    check_form(&parts)?;
    let mut query = Query::of(&parts)?;
    // s3s looks for these first, whatever else there is.
    if presigned_v2::is_meant(&query.0) {
        presigned_v2::convert(&mut parts, &query.0, config)?;
        query = Query::of(&parts)?;
    }
    check_signature_coverage(&parts, &query)?;
    check_token(&parts, &query)?;
    presigned::take_headers(&query.0, &mut parts.headers)?;
    check_dates(&parts, &query)?;
    check_scope(&parts, &query, &config.region)?;
    let framing = framing(&parts.headers)?;
    parts.extensions.insert(shared.clone());
    if parts.headers.contains_key(http::header::AUTHORIZATION)
        && !parts.headers.contains_key("x-amz-content-sha256")
    {
        let body = hash_payload(&mut parts.headers, body, shared, config).await?;
        resign::canonicalize(&mut parts, config.keys.as_ref());
        return Ok(http::Request::from_parts(parts, Body::from(body)));
    }
    resign::canonicalize(&mut parts, config.keys.as_ref());
    let body = match framing {
        None => Body::http_body_unsync(body),
        Some((framing, length)) => {
            let signed = framing == Framing::Signed;
            let chain = if signed { Chain::of(&parts, config.keys.as_ref()) } else { None };
            let body = ChunkedBody::new(body, framing, length, chain, shared.clone());
            Body::http_body_unsync(body)
        }
    };
    Ok(http::Request::from_parts(parts, body))
}

/// The parameters, decoded.
struct Query(Vec<(String, String)>);

impl Query {
    fn of(parts: &http::request::Parts) -> Result<Self, Failure> {
        let pairs = text::pairs(parts.uri.query().unwrap_or_default());
        let message = "The query is not UTF-8.";
        pairs.map(Self).ok_or_else(|| refuse(StatusCode::BAD_REQUEST, "InvalidURI", message))
    }

    /// All values of a parameter.
    fn all<'a>(&'a self, name: &'static str) -> impl Iterator<Item = &'a str> {
        let named = self.0.iter().filter(move |(other, _)| other == name);
        named.map(|(_, value)| value.as_str())
    }

    fn get(&self, name: &'static str) -> Option<&str> {
        self.all(name).next()
    }
}

/// HTTP/2 has the host in the target. Everything behind looks for the header, signatures too.
fn name_host(parts: &mut http::request::Parts) {
    let newer = parts.version > http::Version::HTTP_11;
    let Some(authority) = parts.uri.authority().filter(|_| newer) else { return };
    if let Ok(host) = HeaderValue::from_str(authority.as_str()) {
        parts.headers.entry(HOST).or_insert(host);
    }
}

/// Browsers ask, unsigned, whether other sites may. No bucket has rules that allow it.
fn check_preflight(parts: &http::request::Parts) -> Result<(), Failure> {
    if parts.method != Method::OPTIONS {
        return Ok(());
    }
    if !parts.headers.contains_key(http::header::ORIGIN) {
        let message = "Insufficient information. Origin request header needed.";
        return Err(refuse(StatusCode::BAD_REQUEST, "BadRequest", message));
    }
    let asked = parts.headers.get(http::header::ACCESS_CONTROL_REQUEST_METHOD);
    let Some(asked) = asked.and_then(|method| method.to_str().ok()) else {
        let message = "Invalid Access-Control-Request-Method: null";
        return Err(refuse(StatusCode::BAD_REQUEST, "BadRequest", message));
    };
    let message = "CORSResponse: CORS is not enabled for this bucket.";
    let failure = refuse(StatusCode::FORBIDDEN, "AccessForbidden", message);
    let bucket_only = !parts.uri.path().trim_matches('/').contains('/');
    let kind = if bucket_only { "BUCKET" } else { "OBJECT" };
    Err(failure.with("Method", asked).with("ResourceType", kind))
}

/// Tokens belong to temporary credentials, and there are none.
fn check_token(parts: &http::request::Parts, query: &Query) -> Result<(), Failure> {
    let header = parts.headers.get("x-amz-security-token").is_some_and(|value| !value.is_empty());
    if header || query.all("X-Amz-Security-Token").any(|value| !value.is_empty()) {
        let message = "The provided token is malformed or otherwise invalid.";
        return Err(refuse(StatusCode::BAD_REQUEST, "InvalidToken", message));
    }
    Ok(())
}

fn check_limits(parts: &http::request::Parts) -> Result<(), Failure> {
    let target = parts.uri.path_and_query().map_or(0, |target| target.as_str().len());
    if target > URI_BYTES_MAX {
        let message = "The request target is too long.";
        return Err(refuse(StatusCode::URI_TOO_LONG, "InvalidURI", message));
    }
    let bytes: usize =
        parts.headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
    if bytes > HEADER_BYTES_MAX {
        let message = "Your request header section exceeds the maximum allowed size.";
        return Err(refuse(StatusCode::BAD_REQUEST, "RequestHeaderSectionTooLarge", message));
    }
    Ok(())
}

/// The headers under the request's one signature must be all `x-amz-*` headers and the host: s3s
/// verifies what is signed, and believes the rest too.
fn check_signature_coverage(parts: &http::request::Parts, query: &Query) -> Result<(), Failure> {
    let presigned = query.get("X-Amz-Signature").is_some();
    let authorization = parts.headers.get(http::header::AUTHORIZATION);
    let signed = match (authorization, presigned) {
        (Some(_), true) => {
            let message = "Only one auth mechanism allowed; only the X-Amz-Algorithm query \
                           parameter, Signature query string parameter or the Authorization header \
                           should be specified";
            return Err(refuse(StatusCode::BAD_REQUEST, "InvalidArgument", message));
        }
        (None, false) => {
            presigned::check(&query.0)?;
            return Err(refuse(StatusCode::FORBIDDEN, "AccessDenied", "Access Denied"));
        }
        (None, true) => {
            presigned::check(&query.0)?;
            query.get("X-Amz-SignedHeaders").unwrap_or_default().to_owned()
        }
        (Some(value), false) => {
            let value = value.to_str().unwrap_or_default();
            let fields = value.strip_prefix("AWS4-HMAC-SHA256").ok_or_else(wrong_mechanism)?;
            let names =
                fields.split(',').find_map(|field| field.trim().strip_prefix("SignedHeaders="));
            names.unwrap_or_default().to_owned()
        }
    };
    let covers = |name: &str| signed.split(';').any(|other| other.trim() == name);
    let uncovered: Vec<&str> = parts
        .headers
        .keys()
        .map(http::HeaderName::as_str)
        .filter(|name| name.starts_with("x-amz-") && !covers(name))
        // It can only make a presigned request fail; some clients send it on their own.
        .filter(|name| !(presigned && *name == "x-amz-content-sha256"))
        .collect();
    if uncovered.is_empty() && covers("host") {
        return Ok(());
    }
    let message = "There were headers present in the request which were not signed";
    let failure = refuse(StatusCode::FORBIDDEN, "AccessDenied", message);
    Err(failure.with("HeadersNotSigned", uncovered.join(", ")))
}

/// s3s 0.14.1 subtracts `'0'` from each byte of a date before it looks whether that is a digit, which
/// panics where overflow is checked. No other date reaches it.
fn check_dates(parts: &http::request::Parts, query: &Query) -> Result<(), Failure> {
    let digits = |text: &[u8]| text.iter().all(u8::is_ascii_digit);
    let moment = |text: &[u8]| text.len() == 16 && digits(&text[..8]) && digits(&text[9..15]);
    let scope = |credential: &str| {
        credential.split('/').nth(1).is_some_and(|day| day.len() == 8 && digits(day.as_bytes()))
    };
    let header = |name: &str| parts.headers.get_all(name).into_iter();
    let good = header("x-amz-date").all(|value| moment(value.as_bytes()))
        && query.all("X-Amz-Date").all(|value| moment(value.as_bytes()))
        && query.all("X-Amz-Credential").all(scope)
        && header("authorization").all(|value| {
            let fields = value.to_str().unwrap_or_default().split_once("Credential=");
            fields.is_some_and(|(_, credential)| scope(credential))
        });
    if good {
        return Ok(());
    }
    let message = "AWS authentication requires a valid Date or x-amz-date header";
    Err(refuse(StatusCode::FORBIDDEN, "AccessDenied", message))
}

/// What a signature is for. s3s would take one for another service, and knows regions by their shape:
/// requests may be signed for any that has it; for others the client is told ours, as Amazon does, and
/// s3cmd (which begins with `US`) tries again with it.
fn check_scope(parts: &http::request::Parts, query: &Query, region: &str) -> Result<(), Failure> {
    let authorization = parts.headers.get(http::header::AUTHORIZATION);
    let authorization = authorization.and_then(|value| value.to_str().ok()).unwrap_or_default();
    let header = authorization
        .split_once("Credential=")
        .and_then(|(_, scope)| scope.split(',').next())
        .map(str::trim);
    let (code, what, credential) = match (header, query.get("X-Amz-Credential")) {
        (Some(scope), _) => {
            ("AuthorizationHeaderMalformed", "The authorization header is malformed", scope)
        }
        (None, Some(scope)) => (
            "AuthorizationQueryParametersError",
            "Error parsing the X-Amz-Credential parameter",
            scope,
        ),
        (None, None) => return Ok(()),
    };
    let mut fields = credential.rsplit('/').skip(1);
    let (service, signed_for) =
        (fields.next().unwrap_or_default(), fields.next().unwrap_or_default());
    if service != "s3" {
        let message =
            format!("{what}; incorrect service \"{service}\". This endpoint belongs to \"s3\".");
        return Err(refuse(StatusCode::BAD_REQUEST, code, message));
    }
    if signed_for.is_empty() || s3s::region::Region::new(signed_for.into()).is_ok() {
        return Ok(());
    }
    let message = format!("{what}; the region '{signed_for}' is wrong; expecting '{region}'");
    Err(refuse(StatusCode::BAD_REQUEST, code, message).with("Region", region))
}

/// Plain SigV4 needs no `x-amz-content-sha256`; s3s does. What the signature covers is then the hash
/// of the body, so it is computed here, and s3s finds out whether it is the one that was signed.
async fn hash_payload(
    headers: &mut HeaderMap,
    body: Watched,
    shared: &Shared,
    config: &S3Config,
) -> Result<Bytes, Failure> {
    let announced = http_body::Body::size_hint(&body).exact();
    if announced.is_none_or(|length| length > UNHASHED_BYTES_MAX as u64) {
        let message = "Missing required header for this request: x-amz-content-sha256";
        return Err(refuse(StatusCode::BAD_REQUEST, "InvalidRequest", message));
    }
    let length = announced.unwrap_or(UNHASHED_BYTES_MAX as u64);
    let _room = config.documents.to_read(None, length)?;
    let body = Body::http_body_unsync(body);
    let verifier = Verifier::new(Claims::default());
    let body = transfer::gather(body, UNHASHED_BYTES_MAX, verifier, None, shared).await?;
    let mut hash = String::with_capacity(64);
    for byte in Sha256::digest(&body) {
        let _ = write!(hash, "{byte:02x}");
    }
    let hash = HeaderValue::from_str(&hash).expect("hexadecimal digits are ASCII");
    headers.insert("x-amz-content-sha256", hash);
    Ok(body)
}

fn wrong_mechanism() -> Failure {
    let message = "The authorization mechanism you have provided is not supported. \
                   Please use AWS4-HMAC-SHA256.";
    refuse(StatusCode::BAD_REQUEST, "InvalidRequest", message)
}

/// Browser uploads would be gathered in memory by s3s. Their signature is within the form, so that they are
/// refused before one is looked for.
fn check_form(parts: &http::request::Parts) -> Result<(), Failure> {
    let form = parts.headers.get(http::header::CONTENT_TYPE).is_some_and(|value| {
        value.as_bytes().to_ascii_lowercase().starts_with(b"multipart/form-data")
    });
    if parts.method == Method::POST && form {
        return Err(not_implemented("POST of a form"));
    }
    Ok(())
}

/// Whether the body is `aws-chunked`, and how many bytes it must unwrap to.
fn framing(headers: &HeaderMap) -> Result<Option<(Framing, u64)>, Failure> {
    let framing = match headers.get("x-amz-content-sha256").map(HeaderValue::as_bytes) {
        Some(b"STREAMING-UNSIGNED-PAYLOAD-TRAILER") => Framing::Unsigned,
        Some(value) if value.starts_with(b"STREAMING-") => Framing::Signed,
        _ => return Ok(None),
    };
    let length = headers.get("x-amz-decoded-content-length").ok_or_else(|| {
        let message = "You must provide the x-amz-decoded-content-length HTTP header.";
        refuse(StatusCode::LENGTH_REQUIRED, "MissingContentLength", message)
    })?;
    let length = length.to_str().ok().and_then(|length| length.parse().ok()).ok_or_else(|| {
        let message = "x-amz-decoded-content-length is not a number.";
        refuse(StatusCode::BAD_REQUEST, "InvalidArgument", message)
    })?;
    Ok(Some((framing, length)))
}
