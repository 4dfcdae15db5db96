//! Small files that must survive a crash whole: written aside, synced, renamed, directory synced.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

/// Replace `path` by `contents`. After a crash the file is the old one or the new one, never a mix;
/// when this returns, it is the new one for good.
///
/// # Errors
/// The operating system's; the old file is then still there.
pub fn write_atomic(path: &Path, contents: &[u8], mode: u32) -> io::Result<()> {
    let aside = aside(path);
    // A rest of an interrupted write may have another mode: make the file anew.
    match fs::remove_file(&aside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&aside)?;
    file.write_all(contents)?;
    file.sync_all()?;
    fs::rename(&aside, path)?;
    sync_directory(parent(path))
}

/// Make a directory, and those above it that are missing; when this returns they are durable.
///
/// # Errors
/// The operating system's.
pub fn create_directory(path: &Path, mode: u32) -> io::Result<()> {
    if path.is_dir() {
        // It may be the work of a start that crashed before its sync. Above a directory that this
        // user cannot have made, there is nothing to sync.
        return match sync_directory(parent(path)) {
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
            result => result,
        };
    }
    let above = parent(path);
    if above != path && !above.is_dir() {
        create_directory(above, mode)?;
    }
    match DirBuilder::new().mode(mode).create(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists || !path.is_dir() => Err(error),
        _ => sync_directory(above),
    }
}

/// Make durable which files a directory has.
///
/// # Errors
/// The operating system's.
pub fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// Lock against other processes, without waiting; `false` if another holds the lock. The kernel
/// drops it with the descriptor, however the process ends.
///
/// # Errors
/// The operating system's, where the file system cannot lock.
pub fn try_lock(file: &File) -> io::Result<bool> {
    match flock(file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(true),
        Err(Errno::WOULDBLOCK) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Lock against processes that would change the file, without waiting; `false` if one of them holds it.
/// Others that only read may hold it too.
///
/// # Errors
/// The operating system's, where the file system cannot lock.
pub fn try_lock_shared(file: &File) -> io::Result<bool> {
    match flock(file, FlockOperation::NonBlockingLockShared) {
        Ok(()) => Ok(true),
        Err(Errno::WOULDBLOCK) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

fn parent(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn aside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    name.into()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_file_is_replaced_whole_with_its_mode() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("key");
        write_atomic(&path, b"one", 0o600).unwrap();
        write_atomic(&path, b"two", 0o600).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1, "nothing is left aside");
    }

    #[test]
    fn the_rest_of_an_interrupted_write_does_no_harm() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("key");
        fs::write(aside(&path), b"half of a wri").unwrap();
        fs::set_permissions(aside(&path), fs::Permissions::from_mode(0o644)).unwrap();
        write_atomic(&path, b"whole", 0o600).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"whole");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn directories_are_made_with_those_above() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a/b/c");
        create_directory(&path, 0o700).unwrap();
        create_directory(&path, 0o700).unwrap();
        assert!(path.is_dir());
    }

    #[test]
    fn a_directory_below_a_file_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        fs::write(&path, b"").unwrap();
        assert!(create_directory(&path.join("data"), 0o700).is_err());
        assert!(create_directory(&path, 0o700).is_err());
    }

    #[test]
    fn a_lock_is_held_by_one_descriptor() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lock");
        let one = File::create(&path).unwrap();
        let two = File::create(&path).unwrap();
        assert!(try_lock(&one).unwrap());
        assert!(!try_lock(&two).unwrap());
        drop(one);
        assert!(try_lock(&two).unwrap());
    }
}
