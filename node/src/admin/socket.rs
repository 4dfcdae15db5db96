//! The Unix socket `DATA/admin.sock`: who may open it may do everything, so only its owner may.

use std::ffi::OsStr;
use std::fs::{self, File, Permissions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tokio::net::{UnixListener, UnixStream};

/// The name of the socket in a data directory.
pub const NAME: &str = "admin.sock";

/// What fits into a socket's address, less its final NUL; longer paths are reached through the
/// directory's descriptor.
const PATH_BYTES_MAX: usize = 107;

/// A listening socket. Dropped, its file is removed.
#[derive(Debug)]
pub(crate) struct Socket {
    pub(super) listener: UnixListener,
    path: PathBuf,
}

impl Socket {
    /// Listen at `path`, for this user alone. What a dead process left there is replaced; that none
    /// is alive is what the data directory's lock says.
    ///
    /// # Errors
    /// The operating system's.
    pub(crate) fn bind(path: &Path) -> io::Result<Self> {
        let mut aside = path.as_os_str().to_owned();
        aside.push(".new");
        let aside = PathBuf::from(aside);
        match fs::remove_file(&aside) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let (address, _directory) = address(&aside)?;
        let listener = UnixListener::bind(address)?;
        // Before it has the name that clients look for.
        fs::set_permissions(&aside, Permissions::from_mode(0o600))?;
        fs::rename(&aside, path)?;
        Ok(Self { listener, path: path.to_owned() })
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        // Left behind, it would only be replaced by the next start.
        let _ = fs::remove_file(&self.path);
    }
}

/// Connect to the socket at `path`.
///
/// # Errors
/// The operating system's.
pub(super) async fn connect(path: &Path) -> io::Result<UnixStream> {
    let (address, _directory) = address(path)?;
    UnixStream::connect(address).await
}

/// A path that fits into a socket's address, and the descriptor that must be open while it is used.
fn address(path: &Path) -> io::Result<(PathBuf, Option<File>)> {
    if path.as_os_str().len() <= PATH_BYTES_MAX {
        return Ok((path.to_owned(), None));
    }
    let name = path.file_name().unwrap_or(OsStr::new(NAME));
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let directory = File::open(directory.unwrap_or(Path::new(".")))?;
    let short = PathBuf::from(format!("/proc/self/fd/{}", directory.as_raw_fd())).join(name);
    Ok((short, Some(directory)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
    }

    #[test]
    fn it_is_for_its_owner_alone_replaces_what_was_left_and_goes_with_its_process() {
        runtime().block_on(async {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join(NAME);
            fs::write(&path, b"left by a crash").unwrap();
            let socket = Socket::bind(&path).unwrap();
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
            connect(&path).await.unwrap();
            drop(socket);
            assert!(!path.exists());
            assert!(connect(&path).await.is_err());
        });
    }

    #[test]
    fn a_path_longer_than_a_socket_address_does() {
        runtime().block_on(async {
            let directory = tempfile::tempdir().unwrap();
            let folder = directory.path().join("x".repeat(200));
            fs::create_dir(&folder).unwrap();
            let path = folder.join(NAME);
            let _socket = Socket::bind(&path).unwrap();
            connect(&path).await.unwrap();
            assert!(path.exists());
        });
    }
}
