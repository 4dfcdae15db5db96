//! The Unix socket `DATA/admin.sock`: who may open it may do everything, so only its owner may.

use std::ffi::OsStr;
use std::fs::{self, DirBuilder, File, Permissions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
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
        let (listener, aside) = bind_aside(path)?;
        fs::set_permissions(&aside, Permissions::from_mode(0o600))?;
        fs::rename(&aside, path)?;
        fs::remove_dir(private(path))?;
        Ok(Self { listener, path: path.to_owned() })
    }
}

/// A listener in a directory that nobody else can enter: between its making and the setting of its mode, a
/// socket has whatever mode the process's mask leaves it.
fn bind_aside(path: &Path) -> io::Result<(UnixListener, PathBuf)> {
    let private = private(path);
    let aside = private.join(NAME);
    for removed in [fs::remove_file(&aside), fs::remove_dir(&private)] {
        match removed {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    DirBuilder::new().mode(0o700).create(&private)?;
    let (address, _directory) = address(&aside)?;
    Ok((UnixListener::bind(address)?, aside))
}

/// Where a socket is made before it has its name.
fn private(path: &Path) -> PathBuf {
    let mut private = path.as_os_str().to_owned();
    private.push(".new");
    PathBuf::from(private)
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
            assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1, "nothing is left aside");
            drop(socket);
            assert!(!path.exists());
            assert!(connect(&path).await.is_err());
        });
    }

    /// Between bind and chmod, others could connect to it in a data directory that they may enter.
    #[test]
    fn nobody_else_reaches_it_before_it_has_its_mode() {
        runtime().block_on(async {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join(NAME);
            // Left by a crash, and open to others.
            fs::create_dir(private(&path)).unwrap();
            fs::set_permissions(private(&path), Permissions::from_mode(0o755)).unwrap();
            fs::write(private(&path).join(NAME), b"").unwrap();
            let (_listener, aside) = bind_aside(&path).unwrap();
            assert!(!path.exists());
            let mode = fs::metadata(aside.parent().unwrap()).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o700);
            drop(Socket::bind(&path).unwrap());
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
