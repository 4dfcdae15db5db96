//! Signatures of `aws-chunked` chunks, each of which follows from the one before it.
//!
//! s3s verifies them, and gathers each chunk whole to do so. A large chunk is cut into small ones
//! here, which need signatures of their own. So there are two chains: the client's, which is verified
//! here, and ours, which s3s verifies. Both begin with the signature of the request, and whether that
//! one is good, s3s decides. While chunks are small both chains are one, and nothing is computed here.
//!
//! The pieces of a chunk go on before its own signature is verified. That is as good: nothing of a
//! body takes effect before its end, and a chunk that fails here fails the body.
//!
//! Source: Amazon S3, "Signature calculations for the Authorization header: transferring payload in
//! multiple chunks" and "including trailing headers".

use std::fmt;

use hmac::{Hmac, Mac};
use http::header::AUTHORIZATION;
use http::request::Parts;
use sha2::{Digest, Sha256};

use super::resign::{Authorization, hex, keyed, unhex};
use crate::config::Keys;

/// SHA-256 of nothing: chunks have no headers.
const NO_HEADERS: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
const TRAILER_SIGNATURE: &str = "x-amz-trailer-signature";

/// The two chains of one request.
pub(super) struct Chain {
    key: Vec<u8>,
    /// Date and scope, as they stand in what is signed.
    moment: String,
    client: String,
    /// `None` while it is the client's.
    ours: Option<String>,
    hash: Sha256,
    claimed: String,
}

/// What the client signed is not what came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ChainError {
    Mismatch,
    Malformed,
}

impl fmt::Debug for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The key stays out of logs.
        f.debug_struct("Chain").field("ours", &self.ours).finish_non_exhaustive()
    }
}

impl Chain {
    /// The chains of a request; `None` if s3s will refuse it.
    pub(super) fn of(parts: &Parts, keys: &dyn Keys) -> Option<Self> {
        let mut values = parts.headers.get_all(AUTHORIZATION).iter();
        let (Some(value), None) = (values.next(), values.next()) else { return None };
        let authorization = Authorization::parse(value.to_str().ok()?)?;
        let key = authorization.signing_key(&keys.secret(authorization.access_key)?.secret)?;
        let date = parts.headers.get("x-amz-date")?.to_str().ok()?;
        Some(Self {
            key,
            moment: format!("{date}\n{}", authorization.scope),
            client: hex(&authorization.signature),
            ours: None,
            hash: Sha256::new(),
            claimed: String::new(),
        })
    }

    /// Whether the chains have parted, so that every chunk must be signed anew.
    pub(super) fn parted(&self) -> bool {
        self.ours.is_some()
    }

    /// A chunk goes on as it is: s3s verifies its signature.
    pub(super) fn pass(&mut self, claimed: &str) {
        claimed.clone_into(&mut self.client);
    }

    /// A chunk with this signature begins, and is to be cut.
    pub(super) fn begin(&mut self, claimed: &str) {
        if self.ours.is_none() {
            self.ours = Some(self.client.clone());
        }
        self.hash = Sha256::new();
        claimed.clone_into(&mut self.claimed);
    }

    /// The next piece of the chunk that has begun: the signature under which it goes on.
    pub(super) fn piece(&mut self, data: &[u8]) -> String {
        self.hash.update(data);
        let previous = self.ours.as_deref().unwrap_or(&self.client);
        let signature = self.mac("PAYLOAD", &chunk_text(previous, &Sha256::digest(data)));
        let signature = hex(&signature.finalize().into_bytes());
        self.ours = Some(signature.clone());
        signature
    }

    /// The chunk is over: it must be what the client signed.
    pub(super) fn end(&mut self) -> Result<(), ChainError> {
        let hash = std::mem::take(&mut self.hash).finalize();
        let text = chunk_text(&self.client, &hash);
        self.verify("PAYLOAD", &text, &self.claimed)?;
        self.client = std::mem::take(&mut self.claimed);
        Ok(())
    }

    /// Trailers, as they came: verified, and signed anew.
    pub(super) fn trailers(&mut self, block: &[u8]) -> Result<Vec<u8>, ChainError> {
        let text = std::str::from_utf8(block).map_err(|_| ChainError::Malformed)?;
        let mut claimed = None;
        let mut trailers = Vec::new();
        for line in text.lines().filter(|line| !line.is_empty()) {
            let (name, value) = line.split_once(':').ok_or(ChainError::Malformed)?;
            let value = value.trim_matches([' ', '\t', '\r']);
            let name = name.to_ascii_lowercase();
            match name.as_str() {
                TRAILER_SIGNATURE if claimed.is_some() => return Err(ChainError::Malformed),
                TRAILER_SIGNATURE => claimed = Some(value),
                _ => trailers.push((name, value)),
            }
        }
        if trailers.is_empty() && claimed.is_none() {
            return Ok(block.to_vec());
        }
        trailers.sort();
        let canonical: String =
            trailers.iter().map(|(name, value)| format!("{name}:{value}\n")).collect();
        let hash = hex(&Sha256::digest(canonical.as_bytes()));
        let text = |previous: &str| format!("{previous}\n{hash}");
        self.verify("TRAILER", &text(&self.client), claimed.ok_or(ChainError::Malformed)?)?;
        let previous = self.ours.as_deref().unwrap_or(&self.client);
        let signature = hex(&self.mac("TRAILER", &text(previous)).finalize().into_bytes());
        let lines = canonical.replace('\n', "\r\n");
        Ok(format!("{lines}{TRAILER_SIGNATURE}:{signature}\r\n\r\n").into_bytes())
    }

    fn mac(&self, kind: &str, text: &str) -> Hmac<Sha256> {
        let text = format!("AWS4-HMAC-SHA256-{kind}\n{}\n{text}", self.moment);
        keyed(&self.key, &text).expect("HMAC takes keys of any length")
    }

    fn verify(&self, kind: &str, text: &str, claimed: &str) -> Result<(), ChainError> {
        let claimed = unhex(claimed).ok_or(ChainError::Mismatch)?;
        // Compares in constant time.
        self.mac(kind, text).verify_slice(&claimed).map_err(|_| ChainError::Mismatch)
    }
}

fn chunk_text(previous: &str, hash: &[u8]) -> String {
    format!("{previous}\n{NO_HEADERS}\n{}", hex(hash))
}
