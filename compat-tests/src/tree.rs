//! Trees of files: made from a seed, and compared by SHA-256.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

/// What a tree should look like.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Files in all.
    pub files: usize,
    /// Files per folder.
    pub per_folder: usize,
    /// Bytes in all, about: most files are small, a few hold most of the bytes, as in real trees.
    pub bytes: u64,
}

/// Write a tree of this shape below `folder`.
///
/// # Panics
/// If it cannot be written.
pub fn make(folder: &Path, shape: Shape, seed: u64) {
    let mut state = seed;
    let mean = shape.bytes / shape.files.max(1) as u64;
    for number in 0..shape.files {
        let place = folder
            .join(format!("folder {:03}", number / shape.per_folder))
            .join(format!("file+{number:05}.bin"));
        fs::create_dir_all(place.parent().expect("it is in a folder"))
            .expect("target/ is writable");
        // One file in 64 is 32 times the mean, the others about half of it.
        let draw = next(&mut state);
        let len = if draw.is_multiple_of(64) { mean * 32 } else { draw % mean.max(1) };
        fs::write(place, bytes(&mut state, len)).expect("target/ is writable");
    }
}

/// SHA-256 of each file below `folder`, by its path there.
///
/// # Panics
/// If it cannot be read.
pub fn digests(folder: &Path) -> BTreeMap<PathBuf, String> {
    let mut digests = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(at) = folders.pop() {
        for entry in fs::read_dir(&at).unwrap_or_else(|error| panic!("{}: {error}", at.display())) {
            let path = entry.expect("a folder can be read").path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let content = fs::read(&path).expect("a file can be read");
                let name = path.strip_prefix(folder).expect("it is below").to_owned();
                digests.insert(name, hex(&Sha256::digest(&content)));
            }
        }
    }
    digests
}

/// Lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// `len` bytes that do not compress.
pub fn bytes(state: &mut u64, len: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while (bytes.len() as u64) < len {
        bytes.extend_from_slice(&next(state).to_le_bytes());
    }
    bytes.truncate(usize::try_from(len).expect("files fit in memory"));
    bytes
}

/// SplitMix64.
pub fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
