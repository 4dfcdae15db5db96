//! What the service is told when it is built: credentials, names of its own, limits.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use trine_core::ids::TenantId;
use trine_core::object::Owner;

use crate::domains::Domains;
use crate::room::Room;

/// Largest XML document of a request, in bytes: 10,000 parts of a CompleteMultipartUpload with a
/// checksum each, or 1,000 keys of a DeleteObjects, all of them at their longest.
pub const XML_BYTES_MAX: usize = 4 << 20;
/// Bytes of documents in hand, if nothing else is said: eight of the largest, each with what it is taken
/// apart into.
pub const DOCUMENT_BYTES_MAX: u64 = 96 << 20;
/// Largest header section of a request, names and values, in bytes (Amazon allows 8 KiB of which
/// 2 KiB are user metadata; signatures and proxies add to it).
pub const HEADER_BYTES_MAX: usize = 16 << 10;
/// Largest request target, in bytes: a key of 1,024 bytes, each percent-encoded, in path and marker,
/// and a presigned query.
pub const URI_BYTES_MAX: usize = 16 << 10;

/// A key pair's secret and whose requests it signs.
#[derive(Clone)]
pub struct Key {
    /// The secret access key.
    pub secret: String,
    /// Who owns what is made with it.
    pub owner: Owner,
    /// Whose buckets it sees.
    pub tenant: TenantId,
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The secret stays out of logs.
        let Self { secret: _, owner, tenant } = self;
        f.debug_struct("Key").field("owner", owner).field("tenant", tenant).finish_non_exhaustive()
    }
}

/// Looks credentials up. Called for each request, so it must not block.
pub trait Keys: Send + Sync + 'static {
    /// The key of an access key id; `None` answers `InvalidAccessKeyId`.
    fn secret(&self, access_key: &str) -> Option<Key>;
}

/// A fixed set of credentials.
#[derive(Clone, Debug, Default)]
pub struct StaticKeys {
    keys: BTreeMap<String, Key>,
}

impl StaticKeys {
    /// No credentials.
    pub fn new() -> Self {
        Self::default()
    }

    /// Add one. An access key that was there is replaced.
    #[must_use]
    pub fn with(mut self, access_key: impl Into<String>, key: Key) -> Self {
        self.keys.insert(access_key.into(), key);
        self
    }
}

impl Keys for StaticKeys {
    fn secret(&self, access_key: &str) -> Option<Key> {
        self.keys.get(access_key).cloned()
    }
}

/// How the service is set up.
#[derive(Clone)]
pub struct S3Config {
    /// The region that buckets are said to be in. Requests may be signed for any.
    pub region: String,
    /// Credentials.
    pub keys: Arc<dyn Keys>,
    /// Base domains, under which a host names a bucket.
    pub domains: Domains,
    /// Whether clients come over TLS: shown in the address of a completed upload.
    pub https: bool,
    /// Room for documents.
    pub documents: Room,
    /// Gives each request its id: unique in the process, from a seed in simulations.
    pub request_id: Arc<dyn Fn() -> u64 + Send + Sync>,
}

impl S3Config {
    /// The defaults: region `us-east-1`, path-style addresses only.
    pub fn new(keys: Arc<dyn Keys>, request_id: Arc<dyn Fn() -> u64 + Send + Sync>) -> Self {
        let documents = Room::new(DOCUMENT_BYTES_MAX);
        let (region, domains) = ("us-east-1".to_owned(), Domains::default());
        Self { region, keys, domains, https: false, documents, request_id }
    }
}

impl fmt::Debug for S3Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("S3Config")
            .field("region", &self.region)
            .field("domains", &self.domains)
            .finish_non_exhaustive()
    }
}
