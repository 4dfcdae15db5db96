//! Requests that were signed over their target as it stands on the wire.
//!
//! Signature version 4 wants path and query in canonical form: each byte that is not unreserved
//! percent-encoded, parameters sorted, `=` behind every name. curl before 8.3 signs what it sends
//! instead, and s3s compares with the canonical form only. Such a signature is as good: whoever made
//! it has the secret, and it fixes every byte of the target. It is verified here, and the request is
//! signed anew, in canonical form, for s3s, which judges everything else (dates, scope, body).
//!
//! A request whose signature does not verify here goes on as it came. Nothing can be gained by
//! taking a canonical signature for one of this kind: the target under it would have to be the
//! canonical one, byte for byte.
//!
//! Source: Amazon S3, "Signature calculations for the Authorization header"; curl 7.88,
//! `lib/http_aws_sigv4.c`.

use std::collections::BTreeSet;
use std::fmt::Write;

use hmac::{Hmac, KeyInit, Mac};
use http::header::AUTHORIZATION;
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use sha2::{Digest, Sha256};
use time::OffsetDateTime;

use crate::config::Keys;
use crate::text;

const ALGORITHM: &str = "AWS4-HMAC-SHA256";
/// What a canonical path leaves as it is.
const PATH: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~').remove(b'/');
/// What a canonical query leaves as it is.
const QUERY: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// Sign the request in canonical form, if it has a valid signature over another form.
///
/// `x-amz-content-sha256` must be there. Nothing but the signature in `Authorization` changes.
pub(super) fn canonicalize(parts: &mut Parts, keys: &dyn Keys) {
    if let Some(authorization) = canonical_authorization(parts, keys) {
        parts.headers.insert(AUTHORIZATION, authorization);
    }
}

/// The `Authorization` of the canonical form; `None` if the request is to stay as it is.
fn canonical_authorization(parts: &Parts, keys: &dyn Keys) -> Option<HeaderValue> {
    let sent = Target {
        path: parts.uri.path().to_owned(),
        query: parts.uri.query().unwrap_or_default().to_owned(),
    };
    let canonical = sent.canonical()?;
    if sent == canonical {
        return None;
    }
    let mut values = parts.headers.get_all(AUTHORIZATION).iter();
    let (Some(value), None) = (values.next(), values.next()) else { return None };
    let authorization = Authorization::parse(value.to_str().ok()?)?;
    let payload = parts.headers.get("x-amz-content-sha256")?.to_str().ok()?;
    if payload.starts_with("STREAMING-AWS4-") {
        // The chunks' signatures follow from the one that is there.
        return None;
    }
    let date = parts.headers.get("x-amz-date")?.to_str().ok()?;
    let headers = canonical_headers(&parts.headers, authorization.signed_headers)?;
    let key = authorization.signing_key(&keys.secret(authorization.access_key)?.secret)?;
    let Authorization { signed_headers: names, scope, .. } = authorization;
    let signed = Signed { method: &parts.method, headers: &headers, names, payload, date, scope };
    // Compares in constant time.
    signed.mac(&key, &sent)?.verify_slice(&authorization.signature).ok()?;
    let signature = hex(&signed.mac(&key, &canonical)?.finalize().into_bytes());
    HeaderValue::from_str(&format!("{}{signature}", authorization.before_signature)).ok()
}

/// Sign a request that somebody has vouched for, all but its body, as one that was made `now`; `None` if
/// it is no text.
pub(super) fn sign(
    parts: &mut Parts,
    access_key: &str,
    secret: &str,
    region: &str,
    now: OffsetDateTime,
) -> Option<()> {
    const PAYLOAD: &str = "UNSIGNED-PAYLOAD";
    let day = format!("{:04}{:02}{:02}", now.year(), u8::from(now.month()), now.day());
    let date = format!("{day}T{:02}{:02}{:02}Z", now.hour(), now.minute(), now.second());
    parts.headers.insert("x-amz-date", HeaderValue::from_str(&date).ok()?);
    parts.headers.insert("x-amz-content-sha256", HeaderValue::from_static(PAYLOAD));
    let names = parts.headers.keys().map(HeaderName::as_str);
    let names: BTreeSet<&str> =
        names.filter(|name| *name == "host" || name.starts_with("x-amz-")).collect();
    let names = names.into_iter().collect::<Vec<_>>().join(";");
    let before = format!(
        "{ALGORITHM} Credential={access_key}/{day}/{region}/s3/aws4_request, \
         SignedHeaders={names}, Signature="
    );
    // Of its own signature it has none yet.
    let authorization = Authorization::parse(&before)?;
    let target = Target {
        path: parts.uri.path().to_owned(),
        query: parts.uri.query().unwrap_or_default().to_owned(),
    };
    let headers = canonical_headers(&parts.headers, &names)?;
    let key = authorization.signing_key(secret)?;
    let to_sign = Signed {
        method: &parts.method,
        headers: &headers,
        names: &names,
        payload: PAYLOAD,
        date: &date,
        scope: authorization.scope,
    };
    let signature = hex(&to_sign.mac(&key, &target.canonical()?)?.finalize().into_bytes());
    parts
        .headers
        .insert(AUTHORIZATION, HeaderValue::from_str(&format!("{before}{signature}")).ok()?);
    Some(())
}

/// What is signed beside the target.
struct Signed<'a> {
    method: &'a Method,
    /// In canonical form.
    headers: &'a str,
    names: &'a str,
    payload: &'a str,
    date: &'a str,
    scope: &'a str,
}

impl Signed<'_> {
    fn mac(&self, key: &[u8], target: &Target) -> Option<Hmac<Sha256>> {
        let Self { method, headers, names, payload, date, scope } = self;
        let Target { path, query } = target;
        let request = format!("{method}\n{path}\n{query}\n{headers}\n{names}\n{payload}");
        let hash = hex(&Sha256::digest(request.as_bytes()));
        keyed(key, &format!("{ALGORITHM}\n{date}\n{scope}\n{hash}"))
    }
}

/// What a request names, in some form.
#[derive(Debug, PartialEq, Eq)]
struct Target {
    path: String,
    query: String,
}

impl Target {
    /// The same in canonical form; `None` if it is not UTF-8.
    fn canonical(&self) -> Option<Self> {
        let path = utf8_percent_encode(&text::url_decode(&self.path)?, PATH).to_string();
        let encode = |text: &str| utf8_percent_encode(text, QUERY).to_string();
        let mut pairs: Vec<(String, String)> = text::pairs(&self.query)?
            .iter()
            .map(|(name, value)| (encode(name), encode(value)))
            .collect();
        // Stable, and by names only: s3s leaves the values of one name in their order.
        pairs.sort_by(|a, b| a.0.cmp(&b.0));
        let pairs: Vec<String> =
            pairs.iter().map(|(name, value)| format!("{name}={value}")).collect();
        Some(Self { path, query: pairs.join("&") })
    }
}

/// The fields of an `Authorization` header.
pub(super) struct Authorization<'a> {
    pub(super) access_key: &'a str,
    /// `DATE/REGION/SERVICE/aws4_request`.
    pub(super) scope: &'a str,
    signed_headers: &'a str,
    pub(super) signature: Vec<u8>,
    /// Everything up to the signature, which stands last.
    before_signature: &'a str,
}

impl<'a> Authorization<'a> {
    pub(super) fn parse(value: &'a str) -> Option<Self> {
        let (before, signature) = value.split_once("Signature=")?;
        let fields = before.strip_prefix(ALGORITHM)?;
        let field = |name: &str| fields.split(',').find_map(|it| it.trim().strip_prefix(name));
        let (access_key, scope) = field("Credential=")?.split_once('/')?;
        Some(Self {
            access_key,
            scope,
            signed_headers: field("SignedHeaders=")?,
            signature: unhex(signature.trim())?,
            before_signature: &value[..before.len() + "Signature=".len()],
        })
    }

    /// The key that a secret gives for this scope.
    pub(super) fn signing_key(&self, secret: &str) -> Option<Vec<u8>> {
        let parts: Vec<&str> = self.scope.split('/').collect();
        if parts.len() != 4 || parts[3] != "aws4_request" {
            return None;
        }
        let mut key = format!("AWS4{secret}").into_bytes();
        for part in parts {
            key = keyed(&key, part)?.finalize().into_bytes().to_vec();
        }
        Some(key)
    }
}

/// `name:value` of each signed header, a line each; `None` if one is missing or not text.
fn canonical_headers(headers: &HeaderMap, signed: &str) -> Option<String> {
    let mut out = String::new();
    for name in signed.split(';') {
        let values: Option<Vec<String>> =
            headers.get_all(name).iter().map(canonical_value).collect();
        let values = values.filter(|values| !values.is_empty())?;
        let _ = writeln!(out, "{name}:{}", values.join(","));
    }
    Some(out)
}

fn canonical_value(value: &HeaderValue) -> Option<String> {
    let text = std::str::from_utf8(value.as_bytes()).ok()?;
    Some(text.split_whitespace().collect::<Vec<_>>().join(" "))
}

/// An HMAC over `text`.
pub(super) fn keyed(key: &[u8], text: &str) -> Option<Hmac<Sha256>> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).ok()?;
    mac.update(text.as_bytes());
    Some(mac)
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut out, byte| {
        let _ = write!(out, "{byte:02x}");
        out
    })
}

/// Bytes of hexadecimal text; `None` if it is none.
pub(super) fn unhex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let pairs = text.as_bytes().chunks(2);
    pairs
        .map(|pair| match pair {
            [high, low] => Some(digit(*high)? << 4 | digit(*low)?),
            _ => None,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_take_their_canonical_form() {
        for (path, query, canonical_path, canonical_query) in [
            ("/b", "prefix=a/b&list-type=2", "/b", "list-type=2&prefix=a%2Fb"),
            ("/b/k", "uploads", "/b/k", "uploads="),
            ("/b/a%2fb=c", "", "/b/a/b%3Dc", ""),
            ("/b/%C3%A4~", "x=1&x=0&&a+b=%7e", "/b/%C3%A4~", "a%20b=~&x=1&x=0"),
        ] {
            let target = Target { path: path.to_owned(), query: query.to_owned() };
            let canonical = target.canonical().unwrap();
            let expected =
                Target { path: canonical_path.to_owned(), query: canonical_query.to_owned() };
            assert_eq!(canonical, expected);
            assert_eq!(canonical.canonical(), Some(expected), "a canonical form stays as it is");
        }
        let broken = Target { path: "/b/%ff".to_owned(), query: String::new() };
        assert_eq!(broken.canonical(), None);
    }

    #[test]
    fn hexadecimal_of_odd_length_or_other_characters_is_nothing() {
        assert_eq!(unhex("00fF"), Some(vec![0, 255]));
        assert_eq!(unhex("00f"), None);
        assert_eq!(unhex("+1"), None);
        assert_eq!(unhex("\u{e4}"), None);
    }
}
