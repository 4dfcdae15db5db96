//! Signature version 4 from the client's side, with the key `key` and its secret `secret`.

use std::fmt::Write as _;

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};

/// SHA-256 in hexadecimal.
pub fn hash(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut out, byte| {
        let _ = write!(out, "{byte:02x}");
        out
    })
}

fn hmac(key: &[u8], data: &str) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).unwrap();
    mac.update(data.as_bytes());
    mac.finalize().into_bytes().to_vec()
}

/// What a request's signature covers, in the form that is signed.
pub struct Canonical<'a> {
    pub method: &'a str,
    pub path: &'a str,
    pub query: &'a str,
    /// Sorted, with lower-case names.
    pub headers: &'a [(String, String)],
    pub payload: &'a str,
}

impl Canonical<'_> {
    pub fn signed_headers(&self) -> String {
        let names: Vec<&str> = self.headers.iter().map(|(name, _)| name.as_str()).collect();
        names.join(";")
    }

    fn text(&self) -> String {
        let mut out = format!("{}\n{}\n{}\n", self.method, self.path, self.query);
        for (name, value) in self.headers {
            let _ = writeln!(out, "{name}:{}", value.trim());
        }
        let _ = write!(out, "\n{}\n{}", self.signed_headers(), self.payload);
        out
    }
}

/// When something is signed.
pub struct Moment {
    /// As in `x-amz-date`.
    pub date: String,
}

impl Moment {
    pub fn now() -> Self {
        let now = time::OffsetDateTime::now_utc();
        let day = format!("{:04}{:02}{:02}", now.year(), u8::from(now.month()), now.day());
        let date = format!("{day}T{:02}{:02}{:02}Z", now.hour(), now.minute(), now.second());
        Self { date }
    }

    pub fn scope(&self) -> String {
        format!("{}/us-east-1/s3/aws4_request", &self.date[..8])
    }

    /// The signature of a request.
    pub fn sign_request(&self, request: &Canonical<'_>) -> String {
        self.sign("AWS4-HMAC-SHA256", &hash(request.text().as_bytes()))
    }

    /// The signature of a chunk that follows what has the signature `previous`.
    pub fn sign_chunk(&self, previous: &str, data: &[u8]) -> String {
        let rest = format!("{previous}\n{}\n{}", hash(b""), hash(data));
        self.sign("AWS4-HMAC-SHA256-PAYLOAD", &rest)
    }

    /// The signature of trailers, each `name:value` and a line feed.
    pub fn sign_trailers(&self, previous: &str, trailers: &str) -> String {
        let rest = format!("{previous}\n{}", hash(trailers.as_bytes()));
        self.sign("AWS4-HMAC-SHA256-TRAILER", &rest)
    }

    fn sign(&self, algorithm: &str, rest: &str) -> String {
        let to_sign = format!("{algorithm}\n{}\n{}\n{rest}", self.date, self.scope());
        let mut key = b"AWS4secret".to_vec();
        for part in self.scope().split('/') {
            key = hmac(&key, part);
        }
        hex(&hmac(&key, &to_sign))
    }
}
