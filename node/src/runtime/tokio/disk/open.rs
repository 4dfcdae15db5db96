//! Makes, opens and locks the file of a disk.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use super::super::super::DiskOpenError;

/// Open for reading and writing, locked against other processes, `capacity` bytes long (sparse).
///
/// A file that is longer stays so: its superblock knows what is in use. When this returns, the
/// file's existence and length are durable, and so is its entry in the directory.
pub(super) fn open(path: &Path, capacity: u64) -> Result<File, DiskOpenError> {
    let fail = |action| move |error| DiskOpenError::Io { action, path: path.to_owned(), error };
    if path.metadata().is_ok_and(|metadata| !metadata.is_file()) {
        return Err(DiskOpenError::NotAFile { path: path.to_owned() });
    }
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        // Whoever can read it can read every object.
        .mode(0o600)
        .open(path)
        .map_err(fail("open"))?;
    lock(&file, path)?;
    let len = file.metadata().map_err(fail("examine"))?.len();
    if len < capacity {
        file.set_len(capacity).map_err(|error| match error.kind() {
            io::ErrorKind::FileTooLarge | io::ErrorKind::InvalidInput => {
                DiskOpenError::TooLarge { path: path.to_owned(), capacity }
            }
            _ => fail("set the length of")(error),
        })?;
        file.sync_all().map_err(fail("sync"))?;
    }
    // Always, not only when it was made: the crash of an earlier start may have come in between.
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    crate::files::sync_directory(directory.unwrap_or(Path::new(".")))
        .map_err(fail("sync the directory of"))?;
    Ok(file)
}

/// An exclusive `flock`; the kernel drops it with the descriptor, however the process ends.
fn lock(file: &File, path: &Path) -> Result<(), DiskOpenError> {
    match crate::files::try_lock(file) {
        Ok(true) => Ok(()),
        Ok(false) => Err(DiskOpenError::Locked { path: path.to_owned() }),
        Err(error) => Err(DiskOpenError::Io { action: "lock", path: path.to_owned(), error }),
    }
}
