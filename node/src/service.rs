//! The service behind HTTP: S3, with the root key pair.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use trine_core::ids::TenantId;
use trine_core::object::Owner;
use trine_node::app::{AppError, Process};
use trine_node::config::{Config, RootKey};
use trine_node::runtime::Runtime;
use trine_s3::{Key, S3Config, S3Http, StaticKeys};

/// S3 for whoever signs with the root key pair, in the default tenant.
///
/// # Errors
/// If the operating system has no randomness to give.
pub(crate) fn s3(
    runtime: &impl Runtime,
    process: &Process<impl Runtime>,
    config: &Config,
    key: &RootKey,
) -> Result<S3Http, AppError> {
    let owner = Owner { tenant: TenantId(0), user: "root".to_owned() };
    let root = Key { secret: key.secret.clone(), owner, tenant: TenantId(0) };
    let keys = StaticKeys::new().with(key.access.clone(), root);
    let mut first = [0; 8];
    runtime.random(&mut first).map_err(AppError::Random)?;
    let next = AtomicU64::new(u64::from_le_bytes(first));
    // An odd step passes through all 2^64 ids before it comes to one again.
    let request_id = move || next.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
    let mut s3 = S3Config::new(Arc::new(keys), Arc::new(request_id));
    s3.region.clone_from(&config.region);
    s3.domains.clone_from(&config.domains);
    s3.https = config.tls.is_some();
    s3.documents = process.documents();
    Ok(trine_s3::service(process.front(), s3))
}
