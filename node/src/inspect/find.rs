//! From what was named on the command line to the files of stores.

use std::path::{Path, PathBuf};

use crate::data::offline;

use super::schema::Failure;

/// The files of stores.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) files: Vec<PathBuf>,
    /// Files that a data directory says were made, and that are not there.
    pub(super) missing: Vec<PathBuf>,
    pub(super) failures: Vec<Failure>,
}

/// Find the stores of all `paths`.
pub(super) fn find(paths: &[PathBuf]) -> Found {
    let mut found = Found::default();
    for path in paths {
        if !path.is_dir() {
            found.files.push(path.clone());
            continue;
        }
        match offline::store_files(path) {
            Ok(files) if files.is_empty() => {
                let text = "it is no data directory: it has no store, and neither cluster.toml nor \
                            node.toml";
                found.failures.push(Failure::new(path, text.to_owned()));
            }
            Ok(files) => {
                let (there, gone): (Vec<_>, Vec<_>) = files.into_iter().partition(|it| it.exists());
                found.files.extend(there);
                found.missing.extend(gone);
            }
            Err(error) => found.failures.push(Failure::new(path, error.to_string())),
        }
    }
    twice(&mut found);
    found
}

/// A file that was named twice, perhaps in two spellings, counts once.
fn twice(found: &mut Found) {
    let real = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let mut seen = std::collections::BTreeSet::new();
    found.files.retain(|path| seen.insert(real(path)));
}
