//! AWS Signature Version 4, in headers and over the chunks of `aws-chunked` bodies.
//!
//! Sources: "Authenticating Requests (AWS Signature Version 4)" of the S3 API Reference, and there
//! "Signature calculations: transferring payload in multiple chunks" and its page on trailers.
//! The key of a day and the text of a second are kept, so that a request costs two hashes and one
//! HMAC.

use std::fmt::Write;
use std::time::{SystemTime, UNIX_EPOCH};

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use time::OffsetDateTime;

/// The SHA-256 of nothing.
pub(crate) const EMPTY_SHA256: &str =
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/// A key pair and the region that it signs for.
#[derive(Clone)]
pub(crate) struct Credentials {
    pub(crate) access: String,
    pub(crate) secret: String,
    pub(crate) region: String,
}

/// What is signed of a request.
pub(crate) struct Canonical<'a> {
    pub(crate) method: &'a str,
    /// Percent-encoded, as it is sent.
    pub(crate) path: &'a str,
    /// Percent-encoded and sorted; `name=` for a name without value.
    pub(crate) query: &'a str,
    /// Lower case and sorted by name.
    pub(crate) headers: &'a [(&'a str, &'a str)],
    /// `x-amz-content-sha256`.
    pub(crate) payload: &'a str,
}

/// Signs one request after another.
pub(crate) struct Signer {
    credentials: Credentials,
    moment: Moment,
    key: [u8; 32],
    /// Kept, so that a request makes no new ones.
    canonical: String,
    names: String,
}

/// A second, as signatures have it, and what follows from its day.
#[derive(Clone, Default)]
struct Moment {
    unix_s: u64,
    /// `20130524T000000Z`.
    stamp: String,
    /// `20130524/us-east-1/s3/aws4_request`.
    scope: String,
}

/// The signature of a request, and what its chunks are signed with.
pub(crate) struct Signed {
    /// The value of `Authorization`.
    pub(crate) authorization: String,
    pub(crate) signature: String,
}

impl Signer {
    pub(crate) fn new(credentials: Credentials) -> Self {
        let (canonical, names) = (String::with_capacity(1024), String::with_capacity(256));
        Self { credentials, moment: Moment::default(), key: [0; 32], canonical, names }
    }

    /// Go to a moment: the value of `x-amz-date` is what comes back.
    pub(crate) fn at(&mut self, now: SystemTime) -> &str {
        let unix_s = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        if self.moment.unix_s != unix_s || self.moment.stamp.is_empty() {
            self.turn(unix_s);
        }
        &self.moment.stamp
    }

    fn turn(&mut self, unix_s: u64) {
        // What lies beyond year 9999 is no date of SigV4's.
        let seconds = i64::try_from(unix_s).unwrap_or_default();
        let date =
            OffsetDateTime::from_unix_timestamp(seconds).unwrap_or(OffsetDateTime::UNIX_EPOCH);
        let (year, month, day) = (date.year(), u8::from(date.month()), date.day());
        let (hour, minute, second) = date.to_hms();
        let day = format!("{year:04}{month:02}{day:02}");
        let stamp = format!("{day}T{hour:02}{minute:02}{second:02}Z");
        if !self.moment.stamp.starts_with(&day) {
            let Credentials { secret, region, .. } = &self.credentials;
            self.moment.scope = format!("{day}/{region}/s3/aws4_request");
            let first = hmac(format!("AWS4{secret}").as_bytes(), day.as_bytes());
            let parts = [region.as_str(), "s3", "aws4_request"];
            self.key = parts.iter().fold(first, |key, part| hmac(&key, part.as_bytes()));
        }
        (self.moment.unix_s, self.moment.stamp) = (unix_s, stamp);
    }

    /// Sign for the moment of the last [`Self::at`].
    pub(crate) fn sign(&mut self, request: &Canonical<'_>) -> Signed {
        let Canonical { method, path, query, headers, payload } = request;
        debug_assert!(headers.is_sorted(), "{headers:?}");
        let (text, names) = (&mut self.canonical, &mut self.names);
        text.clear();
        names.clear();
        for part in [method, "\n", path, "\n", query, "\n"] {
            text.push_str(part);
        }
        for (name, value) in *headers {
            for part in [name, ":", value.trim(), "\n"] {
                text.push_str(part);
            }
            names.push_str(if names.is_empty() { "" } else { ";" });
            names.push_str(name);
        }
        for part in ["\n", names.as_str(), "\n", payload] {
            text.push_str(part);
        }
        let digest = hex(&Sha256::digest(text.as_bytes()));
        text.clear();
        let Moment { stamp, scope, .. } = &self.moment;
        for part in ["AWS4-HMAC-SHA256\n", stamp, "\n", scope, "\n", &digest] {
            text.push_str(part);
        }
        let signature = hex(&hmac(&self.key, text.as_bytes()));
        let access = &self.credentials.access;
        let authorization = format!(
            "AWS4-HMAC-SHA256 Credential={access}/{scope}, SignedHeaders={names}, \
             Signature={signature}"
        );
        Signed { authorization, signature }
    }

    /// What signs the chunks of a request that was just signed.
    pub(crate) fn chunks(&self, signed: &Signed) -> ChunkSigner {
        let Moment { stamp, scope, .. } = &self.moment;
        ChunkSigner {
            key: self.key,
            frame: format!("{stamp}\n{scope}\n"),
            previous: signed.signature.clone(),
        }
    }
}

/// The chain of signatures over a body's chunks.
#[derive(Debug)]
pub(crate) struct ChunkSigner {
    key: [u8; 32],
    /// Time and scope.
    frame: String,
    previous: String,
}

impl ChunkSigner {
    /// The signature of the next chunk, given its bytes' SHA-256.
    pub(crate) fn chunk(&mut self, sha256: &[u8; 32]) -> &str {
        let hash = hex(sha256);
        let Self { frame, previous, .. } = self;
        let text = format!("AWS4-HMAC-SHA256-PAYLOAD\n{frame}{previous}\n{EMPTY_SHA256}\n{hash}");
        self.previous = hex(&hmac(&self.key, text.as_bytes()));
        &self.previous
    }

    /// The signature of the trailers, given as `name:value\n`.
    pub(crate) fn trailer(&mut self, trailers: &str) -> &str {
        let hash = hex(&Sha256::digest(trailers.as_bytes()));
        let Self { frame, previous, .. } = self;
        let text = format!("AWS4-HMAC-SHA256-TRAILER\n{frame}{previous}\n{hash}");
        self.previous = hex(&hmac(&self.key, text.as_bytes()));
        &self.previous
    }
}

fn hmac(key: &[u8], text: &[u8]) -> [u8; 32] {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    mac.update(text);
    mac.finalize().into_bytes().into()
}

/// Lower-case hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        text.push(char::from(DIGITS[usize::from(byte >> 4)]));
        text.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
    text
}

/// Append a query parameter, encoded as signatures want it.
pub(crate) fn push_query(query: &mut String, name: &str, value: &str) {
    if !query.is_empty() {
        query.push('&');
    }
    // Writing to a string cannot fail.
    let _ = write!(query, "{name}={}", encode(value, STRICT));
}

/// A path, with everything encoded but slashes and what RFC 3986 calls unreserved.
pub(crate) fn encode_path(path: &str) -> String {
    encode(path, PATH).to_string()
}

const STRICT: &percent_encoding::AsciiSet =
    &percent_encoding::NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
const PATH: &percent_encoding::AsciiSet = &STRICT.remove(b'/');

fn encode<'a>(
    text: &'a str,
    set: &'static percent_encoding::AsciiSet,
) -> percent_encoding::PercentEncode<'a> {
    percent_encoding::utf8_percent_encode(text, set)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// 2013-05-24T00:00:00Z, and the key pair, of all examples in the S3 API Reference.
    const MOMENT: Duration = Duration::from_secs(1_369_353_600);
    const DATE: (&str, &str) = ("x-amz-date", "20130524T000000Z");

    fn signer() -> Signer {
        let [access, secret, region] =
            ["AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", "us-east-1"]
                .map(str::to_owned);
        let mut signer = Signer::new(Credentials { access, secret, region });
        assert_eq!(signer.at(UNIX_EPOCH + MOMENT), DATE.1);
        signer
    }

    fn signature(method: &str, path: &str, query: &str, headers: &[(&str, &str)]) -> String {
        let payload = headers.iter().find(|(name, _)| *name == "x-amz-content-sha256").unwrap().1;
        let request = Canonical { method, path, query, headers, payload };
        let signed = signer().sign(&request);
        assert!(signed.authorization.ends_with(&signed.signature));
        signed.signature
    }

    #[test]
    fn requests_are_signed_as_in_the_published_examples() {
        let host = ("host", "examplebucket.s3.amazonaws.com");
        let empty = ("x-amz-content-sha256", EMPTY_SHA256);
        let get = [host, ("range", "bytes=0-9"), empty, DATE];
        assert_eq!(
            signature("GET", "/test.txt", "", &get),
            "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41"
        );
        let hash = hex(&Sha256::digest(b"Welcome to Amazon S3."));
        let put = [
            ("date", "Fri, 24 May 2013 00:00:00 GMT"),
            host,
            ("x-amz-content-sha256", hash.as_str()),
            DATE,
            ("x-amz-storage-class", "REDUCED_REDUNDANCY"),
        ];
        assert_eq!(
            signature("PUT", &encode_path("/test$file.text"), "", &put),
            "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd"
        );
        assert_eq!(
            signature("GET", "/", "lifecycle=", &[host, empty, DATE]),
            "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543"
        );
        let mut query = String::new();
        push_query(&mut query, "max-keys", "2");
        push_query(&mut query, "prefix", "J");
        assert_eq!(
            signature("GET", "/", &query, &[host, empty, DATE]),
            "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7"
        );
    }

    #[test]
    fn chunks_are_signed_as_in_the_published_example() {
        let payload = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD";
        let headers = [
            ("content-encoding", "aws-chunked"),
            ("content-length", "66824"),
            ("host", "s3.amazonaws.com"),
            ("x-amz-content-sha256", payload),
            DATE,
            ("x-amz-decoded-content-length", "66560"),
            ("x-amz-storage-class", "REDUCED_REDUNDANCY"),
        ];
        let path = "/examplebucket/chunkObject.txt";
        let mut signer = signer();
        let request = Canonical { method: "PUT", path, query: "", headers: &headers, payload };
        let signed = signer.sign(&request);
        assert_eq!(
            signed.signature,
            "4f232c4386841ef735655705268965c44a0e4690baa4adea153f7db9fa80a0a9"
        );
        let mut chunks = signer.chunks(&signed);
        for (length, expected) in [
            (65536, "ad80c730a21e5b8d04586a2213dd63b9a0e99e0e2307b0ade35a65485a288648"),
            (1024, "0055627c9e194cb4542bae2aa5492e3c1575bbb81b612b7d234b86a503ef5497"),
            (0, "b6c6ea8a5354eaf15b3cb7646744f4275b71ea724fed81ceb9323e279d449df9"),
        ] {
            let hash = Sha256::digest(vec![b'a'; length]).into();
            assert_eq!(chunks.chunk(&hash), expected);
        }
    }

    #[test]
    fn the_key_follows_the_day_and_the_stamp_the_second() {
        let mut signer = signer();
        let key = signer.key;
        assert_eq!(
            signer.at(UNIX_EPOCH + MOMENT + Duration::from_secs(86_399)),
            "20130524T235959Z"
        );
        assert_eq!(signer.key, key);
        assert_eq!(
            signer.at(UNIX_EPOCH + MOMENT + Duration::from_secs(86_400)),
            "20130525T000000Z"
        );
        assert_ne!(signer.key, key);
        assert_eq!(signer.at(UNIX_EPOCH), "19700101T000000Z");
    }

    #[test]
    fn targets_are_encoded_as_signatures_want_it() {
        assert_eq!(encode_path("/b/ä b/~c+d=%"), "/b/%C3%A4%20b/~c%2Bd%3D%25");
        let mut query = String::new();
        push_query(&mut query, "continuation-token", "a/b+c=");
        push_query(&mut query, "uploads", "");
        assert_eq!(query, "continuation-token=a%2Fb%2Bc%3D&uploads=");
    }
}
