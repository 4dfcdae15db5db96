//! What both share: where the server is, bytes that follow from a seed, awkward keys.

use std::collections::BTreeSet;

use bytes::Bytes;
use sha2::{Digest, Sha256};

/// Over what clients put in one piece, with a last part that is not whole.
pub(crate) const BIG: usize = (20 << 20) + 12_345;

/// Keys that something on the way might mistake for something else.
pub(crate) const AWKWARD: [&str; 12] = [
    "a b",
    "a+b",
    "a%20b",
    "100%",
    "ä/ö",
    "日本語",
    "q'&<>\"",
    "#h",
    "x?y=z",
    "a=b;c,d",
    "(1)!*~",
    ".hidden",
];

/// A variable of the environment that the suite sets.
pub(crate) fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set"))
}

/// The version in the lock file, from which this was built.
pub(crate) fn locked_version(name: &str) -> Option<&'static str> {
    let named = format!("name = \"{name}\"\nversion = \"");
    let (_, rest) = include_str!("../Cargo.lock").split_once(&named)?;
    rest.split_once('"').map(|(version, _)| version)
}

/// Bytes that do not compress (SplitMix64).
pub(crate) fn data(len: usize, seed: u64) -> Bytes {
    let mut state = seed;
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bytes.extend_from_slice(&(z ^ (z >> 31)).to_le_bytes());
    }
    bytes.truncate(len);
    bytes.into()
}

/// Compare by SHA-256: what differs may be large.
#[track_caller]
pub(crate) fn same(got: &[u8], wanted: &[u8]) {
    assert_eq!(got.len(), wanted.len(), "the lengths differ");
    assert_eq!(Sha256::digest(got), Sha256::digest(wanted), "the bytes differ");
}

/// 1,100 keys in three folders, and the awkward ones, as a listing has them.
pub(crate) fn many() -> BTreeSet<String> {
    let plain = (0..1_100).map(|n| format!("many/{}/{n:04}", n % 3));
    plain.chain(AWKWARD.map(|key| format!("many/{key}"))).collect()
}

/// Folders of these keys below `many/`.
pub(crate) fn folders(keys: &BTreeSet<String>) -> BTreeSet<String> {
    let below = keys.iter().filter_map(|key| key.strip_prefix("many/")?.split_once('/'));
    below.map(|(folder, _)| format!("many/{folder}/")).collect()
}

/// A request without credentials of its own: curl, as its status and what it got.
pub(crate) async fn curl(arguments: &[&str]) -> (u16, Vec<u8>) {
    let mut command = tokio::process::Command::new("curl");
    command.args(["--silent", "--show-error", "--globoff", "--write-out", "%{stderr}%{http_code}"]);
    if let Ok(ca) = std::env::var("SSL_CERT_FILE") {
        command.args(["--cacert", &ca]);
    }
    let output = command.args(arguments).output().await.expect("curl is installed");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let status = String::from_utf8_lossy(&output.stderr).trim().parse().expect("a status");
    (status, output.stdout)
}

/// Write down what comes next.
pub(crate) fn step(words: &str) {
    println!("{words}");
}
