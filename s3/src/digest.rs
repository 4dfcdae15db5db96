//! Digests of a body: computed while its bytes go by, compared with what the client claims.
//!
//! MD5 is always computed, since it is the entity tag. One additional checksum is computed if the
//! client names one. Nothing is copied: each frame is read once by each hash and handed on.

use bytes::Bytes;
use crc_fast::CrcAlgorithm;
use http::{HeaderMap, StatusCode};
use md5::Md5;
use sha1::Sha1;
use sha2::{Digest, Sha256};
use trine_core::object::{ChecksumAlgorithm, ObjectChecksum};
use trine_core::request::BodyDigest;

use crate::error::{Failure, not_implemented, refuse};
use crate::text;

/// Every algorithm, and the name that follows `x-amz-checksum-`.
pub(crate) const ALGORITHMS: [(ChecksumAlgorithm, &str); 5] = [
    (ChecksumAlgorithm::Crc32, "crc32"),
    (ChecksumAlgorithm::Crc32c, "crc32c"),
    (ChecksumAlgorithm::Sha1, "sha1"),
    (ChecksumAlgorithm::Sha256, "sha256"),
    (ChecksumAlgorithm::Crc64Nvme, "crc64nvme"),
];

/// The name in lower case, as it stands in headers.
pub(crate) fn name(algorithm: ChecksumAlgorithm) -> &'static str {
    ALGORITHMS.iter().find(|(other, _)| *other == algorithm).map_or("", |(_, name)| name)
}

/// What a checksum covers, as S3 writes it.
pub(crate) fn kind(full_object: bool) -> &'static str {
    if full_object { "FULL_OBJECT" } else { "COMPOSITE" }
}

/// The checksum of an object as headers and documents show it: a composite one of so many parts has
/// their number behind it.
pub(crate) fn shown(checksum: &ObjectChecksum, parts: u16) -> String {
    let value = text::base64(&checksum.value);
    if checksum.full_object { value } else { format!("{value}-{parts}") }
}

/// The algorithm of a name, in any case.
pub(crate) fn algorithm(name: &str) -> Option<ChecksumAlgorithm> {
    let same = |(_, other): &&(_, &str)| other.eq_ignore_ascii_case(name.trim());
    ALGORITHMS.iter().find(same).map(|(algorithm, _)| *algorithm)
}

/// What the client claims about a body.
#[derive(Debug, Default)]
pub(crate) struct Claims {
    content_md5: Option<Vec<u8>>,
    /// With the digest, unless it comes in a trailer or is left to us.
    checksum: Option<(ChecksumAlgorithm, Option<Vec<u8>>)>,
    in_trailer: bool,
}

impl Claims {
    /// Read the headers.
    pub(crate) fn of(headers: &HeaderMap) -> Result<Self, Failure> {
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let mut claims = Self::default();
        if let Some(value) = headers.get("content-md5") {
            let digest = value.to_str().ok().and_then(text::parse_base64);
            let digest = digest.filter(|digest| digest.len() == 16);
            claims.content_md5 = Some(digest.ok_or_else(|| {
                let message = "The Content-MD5 you specified was invalid.";
                refuse(StatusCode::BAD_REQUEST, "InvalidDigest", message)
            })?);
        }
        for (algorithm, name) in ALGORITHMS {
            if let Some(value) = headers.get(format!("x-amz-checksum-{name}")) {
                if claims.checksum.is_some() {
                    let message = "Expecting a single x-amz-checksum- header.";
                    return Err(refuse(StatusCode::BAD_REQUEST, "InvalidRequest", message));
                }
                let digest = parse_checksum(algorithm, value)?;
                claims.checksum = Some((algorithm, Some(digest)));
            }
        }
        check_known(headers)?;
        if claims.checksum.is_none() {
            let trailer = trailing_checksum(headers)?;
            claims.in_trailer = trailer.is_some();
            let named = trailer.or_else(|| text("x-amz-sdk-checksum-algorithm"));
            claims.checksum = named.and_then(algorithm).map(|algorithm| (algorithm, None));
        }
        Ok(claims)
    }

    /// Nothing is claimed, and this is to be computed.
    pub(crate) fn to_compute(checksum: Option<ChecksumAlgorithm>) -> Self {
        let checksum = checksum.map(|algorithm| (algorithm, None));
        Self { content_md5: None, checksum, in_trailer: false }
    }

    /// Only what is claimed about a document whose checksum headers speak of something else.
    pub(crate) fn of_document(headers: &HeaderMap) -> Result<Self, Failure> {
        let mut only_md5 = HeaderMap::new();
        if let Some(value) = headers.get("content-md5") {
            only_md5.insert("content-md5", value.clone());
        }
        Self::of(&only_md5)
    }

    /// The claims, with what the trailers say.
    fn with_trailers(mut self, trailers: Option<&HeaderMap>) -> Result<Self, Failure> {
        if !self.in_trailer {
            return Ok(self);
        }
        if let Some((algorithm, digest)) = &mut self.checksum {
            let value = trailers
                .and_then(|trailers| trailers.get(format!("x-amz-checksum-{}", name(*algorithm))));
            let Some(value) = value else {
                let message = "The trailer that x-amz-trailer announced did not come.";
                return Err(refuse(StatusCode::BAD_REQUEST, "MalformedTrailerError", message));
            };
            *digest = Some(parse_checksum(*algorithm, value)?);
        }
        Ok(self)
    }
}

/// A checksum that is not known here would go unverified: it is refused.
fn check_known(headers: &HeaderMap) -> Result<(), Failure> {
    for name in headers.keys() {
        let Some(short) = name.as_str().strip_prefix("x-amz-checksum-") else { continue };
        if !matches!(short, "algorithm" | "mode" | "type") && algorithm(short).is_none() {
            return Err(not_implemented(name.as_str()));
        }
    }
    Ok(())
}

/// The name of the checksum that `x-amz-trailer` announces.
fn trailing_checksum(headers: &HeaderMap) -> Result<Option<&str>, Failure> {
    let values = headers.get_all("x-amz-trailer").iter();
    let names = values.flat_map(|value| value.to_str().unwrap_or_default().split(','));
    let mut checksums = names.filter_map(|name| name.trim().strip_prefix("x-amz-checksum-"));
    let Some(name) = checksums.next() else { return Ok(None) };
    if algorithm(name).is_none() || checksums.next().is_some() {
        let message = "The value specified in the x-amz-trailer header is not supported";
        return Err(refuse(StatusCode::BAD_REQUEST, "InvalidRequest", message));
    }
    Ok(Some(name))
}

fn parse_checksum(
    algorithm: ChecksumAlgorithm,
    value: &http::HeaderValue,
) -> Result<Vec<u8>, Failure> {
    let digest = value.to_str().ok().and_then(|text| parse_value(algorithm, text));
    digest.ok_or_else(|| {
        let message = format!("Value for x-amz-checksum-{} header is invalid.", name(algorithm));
        refuse(StatusCode::BAD_REQUEST, "InvalidRequest", message)
    })
}

/// A checksum as it stands in headers and documents; `None` if it cannot be of this algorithm.
pub(crate) fn parse_value(algorithm: ChecksumAlgorithm, text: &str) -> Option<Vec<u8>> {
    let length = match algorithm {
        ChecksumAlgorithm::Crc32 | ChecksumAlgorithm::Crc32c => 4,
        ChecksumAlgorithm::Crc64Nvme => 8,
        ChecksumAlgorithm::Sha1 => 20,
        ChecksumAlgorithm::Sha256 => 32,
    };
    text::parse_base64(text).filter(|digest| digest.len() == length)
}

/// One additional checksum in the making.
#[derive(Debug)]
enum Checksum {
    Crc(crc_fast::Digest),
    Sha1(Sha1),
    Sha256(Sha256),
}

impl Checksum {
    fn new(algorithm: ChecksumAlgorithm) -> Self {
        match algorithm {
            ChecksumAlgorithm::Sha1 => Self::Sha1(Sha1::new()),
            ChecksumAlgorithm::Sha256 => Self::Sha256(Sha256::new()),
            ChecksumAlgorithm::Crc32 => Self::crc(CrcAlgorithm::Crc32IsoHdlc),
            ChecksumAlgorithm::Crc32c => Self::crc(CrcAlgorithm::Crc32Iscsi),
            ChecksumAlgorithm::Crc64Nvme => Self::crc(CrcAlgorithm::Crc64Nvme),
        }
    }

    fn crc(algorithm: CrcAlgorithm) -> Self {
        Self::Crc(crc_fast::Digest::new(algorithm))
    }

    fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Crc(digest) => digest.update(bytes),
            Self::Sha1(digest) => Digest::update(digest, bytes),
            Self::Sha256(digest) => Digest::update(digest, bytes),
        }
    }

    fn finish(self, algorithm: ChecksumAlgorithm) -> Bytes {
        match self {
            Self::Crc(digest) => {
                let crc = digest.finalize().to_be_bytes();
                let width = if algorithm == ChecksumAlgorithm::Crc64Nvme { 8 } else { 4 };
                Bytes::copy_from_slice(&crc[8 - width..])
            }
            Self::Sha1(digest) => Bytes::copy_from_slice(&digest.finalize()),
            Self::Sha256(digest) => Bytes::copy_from_slice(&digest.finalize()),
        }
    }
}

/// Hashes a body and holds the result against the claims.
#[derive(Debug)]
pub(crate) struct Verifier {
    claims: Claims,
    md5: Md5,
    checksum: Option<Checksum>,
}

impl Verifier {
    /// Begin a body.
    pub(crate) fn new(claims: Claims) -> Self {
        let checksum = claims.checksum.as_ref().map(|(algorithm, _)| Checksum::new(*algorithm));
        Self { claims, md5: Md5::new(), checksum }
    }

    /// The next bytes.
    pub(crate) fn update(&mut self, bytes: &[u8]) {
        self.md5.update(bytes);
        if let Some(checksum) = &mut self.checksum {
            checksum.update(bytes);
        }
    }

    /// The end: everything that was claimed must hold.
    pub(crate) fn finish(self, trailers: Option<&HeaderMap>) -> Result<BodyDigest, Failure> {
        let claims = self.claims.with_trailers(trailers)?;
        let md5: [u8; 16] = self.md5.finalize().into();
        if claims.content_md5.is_some_and(|claimed| claimed != md5) {
            let message = "The Content-MD5 you specified did not match what we received.";
            return Err(refuse(StatusCode::BAD_REQUEST, "BadDigest", message));
        }
        let checksum = match (claims.checksum, self.checksum) {
            (Some((algorithm, claimed)), Some(checksum)) => {
                let value = checksum.finish(algorithm);
                if claimed.is_some_and(|claimed| claimed != value) {
                    let name = name(algorithm).to_uppercase();
                    let message =
                        format!("The {name} you specified did not match the calculated checksum.");
                    return Err(refuse(StatusCode::BAD_REQUEST, "BadDigest", message));
                }
                Some(ObjectChecksum { algorithm, full_object: true, value })
            }
            _ => None,
        };
        Ok(BodyDigest { md5, checksum })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| (http::HeaderName::from_static(name), value.parse().unwrap()))
            .collect()
    }

    #[test]
    fn known_digests_of_every_algorithm_are_accepted() {
        // The check values of "123456789" (CRC catalogue; FIPS 180-4).
        for (name, digest) in [
            ("x-amz-checksum-crc32", "y/Q5Jg=="),
            ("x-amz-checksum-crc32c", "4waSgw=="),
            ("x-amz-checksum-crc64nvme", "rosUhgp5mIg="),
            ("x-amz-checksum-sha1", "98O8HYCOBHMq32eZZczDTKeuNEE="),
            ("x-amz-checksum-sha256", "FeKw08M4keuw8e9gnsQZQgwg4yDOlMZfvIwzEkSOsiU="),
        ] {
            let claims = Claims::of(&headers(&[(name, digest)])).unwrap();
            let mut verifier = Verifier::new(claims);
            verifier.update(b"1234");
            verifier.update(b"56789");
            if let Err(failure) = verifier.finish(None) {
                panic!("{name}: {failure:?}");
            }
        }
    }

    #[test]
    fn an_announced_trailer_that_does_not_come_is_refused() {
        let claims = Claims::of(&headers(&[("x-amz-trailer", "x-amz-checksum-crc32")])).unwrap();
        assert!(Verifier::new(claims).finish(None).is_err());
    }

    #[test]
    fn a_wrong_md5_is_a_bad_digest() {
        let claims = Claims::of(&headers(&[("content-md5", "AAAAAAAAAAAAAAAAAAAAAA==")])).unwrap();
        let Err(Failure::Refused(refusal)) = Verifier::new(claims).finish(None) else {
            panic!("accepted")
        };
        assert_eq!(refusal.code, "BadDigest");
        assert!(Claims::of(&headers(&[("content-md5", "short")])).is_err());
    }
}
