//! Damage to the files of stores.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Where the superblock's copies are, and how long each is (`docs/disk-format.md`).
pub(crate) const COPIES: [u64; 4] = [0, 65_536, 131_072, 196_608];
pub(crate) const COPY_LEN: usize = 4096;

/// The file of a zone's store in an all-in-one process: `zone-a`.
pub(crate) fn store(data: &Path, zone: &str) -> File {
    let path = data.join(zone).join("store");
    fs::OpenOptions::new().read(true).write(true).open(path).unwrap()
}

/// Invert bytes, so that they differ from what was there, whatever it was. Done twice, it is undone.
pub(crate) fn damage(file: &File, at: u64, len: usize) {
    let mut bytes = vec![0; len];
    file.read_exact_at(&mut bytes, at).unwrap();
    bytes.iter_mut().for_each(|byte| *byte = !*byte);
    file.write_all_at(&bytes, at).unwrap();
}
