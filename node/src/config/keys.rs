//! The root key pair.

use std::fmt;
use std::io;

use serde::{Deserialize, Serialize};

use crate::runtime::Runtime;

/// 32 characters that cannot be taken for each other and need no quoting anywhere.
const ALPHABET: [u8; 32] = *b"ABCDEFGHJKLMNPQRSTUVWXYZ23456789";

/// Characters of a made access key.
const ACCESS_LEN: usize = 20;

/// Characters of a made secret key: 200 bits.
const SECRET_LEN: usize = 40;

/// The key pair that may do everything.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RootKey {
    /// Names the pair.
    #[serde(rename = "access_key")]
    pub access: String,
    /// Signs requests.
    #[serde(rename = "secret_key")]
    pub secret: String,
}

impl RootKey {
    /// A new pair from the runtime's CSPRNG.
    ///
    /// # Errors
    /// The operating system's, if it has no randomness to give.
    pub fn generate(runtime: &impl Runtime) -> io::Result<Self> {
        let mut bytes = [0; ACCESS_LEN + SECRET_LEN];
        runtime.random(&mut bytes)?;
        // 32 divides 256: no character is likelier than another.
        let text: String =
            bytes.iter().map(|b| char::from(ALPHABET[usize::from(b % 32)])).collect();
        let (access, secret) = text.split_at(ACCESS_LEN);
        Ok(Self { access: access.to_owned(), secret: secret.to_owned() })
    }

    /// Whether `text` can be an access key: it stands in headers and logs.
    pub fn is_access_key(text: &str) -> bool {
        let fits = |c: char| c.is_ascii_alphanumeric() || ['.', '_', '-'].contains(&c);
        (3..=128).contains(&text.len()) && text.chars().all(fits)
    }

    /// Whether `text` can be a secret key.
    pub fn is_secret_key(text: &str) -> bool {
        (8..=128).contains(&text.len()) && text.chars().all(|c| c.is_ascii_graphic())
    }
}

impl fmt::Debug for RootKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RootKey({}, secret not shown)", self.access)
    }
}
