//! Which stores a data directory has, without opening it: nothing is made, locked or written.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::{DataError, ZONES, node, parse, store_path};
use trine_core::ids::ZoneId;

/// The files of all stores that a data directory has or should have: those that `cluster.toml` or
/// `node.toml` names (but for those that were replaced), and without either those that have the usual
/// names. None if it is no data directory.
///
/// # Errors
/// [`DataError`] if one of these files cannot be read.
pub fn store_files(data: &Path) -> Result<Vec<PathBuf>, DataError> {
    let cluster = data.join("cluster.toml");
    if let Some(text) = read(&cluster)? {
        let (identity, _) = parse(&text, &cluster)?;
        return Ok(identity.stores().map(|(zone, _)| store_path(data, zone)).collect());
    }
    let at = data.join("node.toml");
    if let Some(text) = read(&at)? {
        return node::files_of(data, &text, &at);
    }
    let mut found: Vec<PathBuf> = (0..ZONES).map(|zone| store_path(data, ZoneId(zone))).collect();
    found.retain(|path| path.exists());
    for entry in fs::read_dir(data).map_err(DataError::io("list", data))? {
        let entry = entry.map_err(DataError::io("list", data))?;
        if node::is_usual(&entry.file_name().to_string_lossy()) {
            found.push(entry.path());
        }
    }
    found.sort();
    Ok(found)
}

fn read(path: &Path) -> Result<Option<String>, DataError> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(DataError::io("read", path)(error)),
    }
}
