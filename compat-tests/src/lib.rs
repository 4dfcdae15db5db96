//! Real S3 clients, unmodified, against a real endpoint.
//!
//! This crate sees only what a user sees: the `trine` binary, its endpoint, and clients from pip. One test
//! is of another kind: it looks at a page of `cargo sim timeline` in a real browser.
//! Nothing of Trine is linked in. Three clients run in `cargo test --workspace`; the long commands
//! (`clients`, `tree-sync`, `kill-nine`) are binaries of this crate, named in the README.

pub mod browser;
pub mod clients;
pub mod cluster;
pub mod fetch;
pub mod liar;
mod ports;
pub mod proxy;
pub mod server;
pub mod suite;
pub mod tree;

use std::path::{Path, PathBuf};

/// The workspace.
pub fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("a member has a workspace").to_owned()
}

/// Where built and fetched things go: `target/`, or what `CARGO_TARGET_DIR` says.
pub fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace().join("target"), PathBuf::from)
}

/// A fresh folder below `target/compat/`.
///
/// # Panics
/// If it cannot be made.
pub fn scratch(name: &str) -> PathBuf {
    let folder = target().join("compat").join(format!("{name}-{}", std::process::id()));
    if folder.exists() {
        std::fs::remove_dir_all(&folder).expect("an old scratch folder can be removed");
    }
    std::fs::create_dir_all(&folder).expect("a scratch folder can be made below target/");
    folder
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::net::TcpListener;

    use super::ports::free_port;

    #[test]
    fn no_port_is_given_twice() {
        let taken = TcpListener::bind(("127.0.0.1", free_port())).unwrap();
        let ports: BTreeSet<u16> = (0..50).map(|_| free_port()).collect();
        assert_eq!(ports.len(), 50);
        assert!(!ports.contains(&taken.local_addr().unwrap().port()));
    }
}
