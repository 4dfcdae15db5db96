//! Makes, opens and locks the file of a disk.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use rustix::fs::OFlags;

use super::super::super::DiskOpenError;

/// The file of a disk.
#[derive(Debug)]
pub(super) struct Opened {
    /// Reads and writes through the page cache, and syncs.
    pub(super) file: File,
    /// The same file, for writes past the page cache; `None` where the file system has no such thing.
    pub(super) direct: Option<File>,
}

/// Open for reading and writing, locked against other processes, `capacity` bytes long (sparse).
///
/// A file that is longer stays so: its superblock knows what is in use. When this returns, the
/// file's existence and length are durable, and so is its entry in the directory.
pub(super) fn open(path: &Path, capacity: u64) -> Result<Opened, DiskOpenError> {
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
    let direct = open_direct(path, &file);
    Ok(Opened { file, direct })
}

/// A second descriptor of the same file, for writes past the page cache.
fn open_direct(path: &Path, file: &File) -> Option<File> {
    let flags = i32::try_from(OFlags::DIRECT.bits()).ok()?;
    let direct = OpenOptions::new().write(true).custom_flags(flags).open(path).ok()?;
    let inode = |file: &File| file.metadata().map(|metadata| (metadata.dev(), metadata.ino())).ok();
    let is_same = inode(&direct).is_some() && inode(&direct) == inode(file);
    is_same.then_some(direct)
}

/// An exclusive `flock`; the kernel drops it with the descriptor, however the process ends.
fn lock(file: &File, path: &Path) -> Result<(), DiskOpenError> {
    match crate::files::try_lock(file) {
        Ok(true) => Ok(()),
        Ok(false) => Err(DiskOpenError::Locked { path: path.to_owned() }),
        Err(error) => Err(DiskOpenError::Io { action: "lock", path: path.to_owned(), error }),
    }
}
