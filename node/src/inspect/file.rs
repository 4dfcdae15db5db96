//! The file of a disk, opened so that nothing can be written to it.

use std::fmt;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use trine_core::disk::DiskError;
use trine_core::inspect::{Medium, OpenError};

use crate::files;

/// Why a disk cannot be inspected.
#[derive(Debug)]
pub(super) enum FileError {
    Io { action: &'static str, path: PathBuf, error: io::Error },
    NotAFile { path: PathBuf },
    Empty { path: PathBuf },
    InUse { path: PathBuf },
    Disk { path: PathBuf, error: OpenError },
}

impl FileError {
    pub(super) fn path(&self) -> &Path {
        match self {
            Self::Io { path, .. }
            | Self::NotAFile { path }
            | Self::Empty { path }
            | Self::InUse { path }
            | Self::Disk { path, .. } => path,
        }
    }

    pub(super) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |error| Self::Io { action, path, error }
    }
}

impl fmt::Display for FileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io { action, error, .. } => write!(f, "cannot {action} it: {error}"),
            Self::NotAFile { .. } => f.write_str("it is neither a file nor a directory"),
            Self::Empty { .. } => f.write_str("it is empty: no store was ever started on it"),
            Self::InUse { .. } => f.write_str(
                "a running trine process uses it: stop the process first, or ask it by `trine admin \
                 audit`",
            ),
            Self::Disk { error, .. } => error.fmt(f),
        }
    }
}

impl std::error::Error for FileError {}

/// A file that is only read. While it is open no store can be started on it.
#[derive(Debug)]
pub(super) struct FileMedium {
    file: File,
    len: u64,
}

impl FileMedium {
    /// Open a disk's file for reading.
    pub(super) fn open(path: &Path) -> Result<Self, FileError> {
        // Before it is opened: to open a pipe would wait.
        let metadata = path.metadata().map_err(FileError::io("open", path))?;
        if !metadata.is_file() {
            return Err(FileError::NotAFile { path: path.to_owned() });
        }
        let file = File::open(path).map_err(FileError::io("open", path))?;
        match files::try_lock_shared(&file) {
            Ok(true) => {}
            Ok(false) => return Err(FileError::InUse { path: path.to_owned() }),
            Err(error) => return Err(FileError::io("lock", path)(error)),
        }
        let len = file.metadata().map_err(FileError::io("examine", path))?.len();
        match len {
            0 => Err(FileError::Empty { path: path.to_owned() }),
            len => Ok(Self { file, len }),
        }
    }

    /// Bytes of the file.
    pub(super) fn len(&self) -> u64 {
        self.len
    }
}

impl Medium for FileMedium {
    fn read(&mut self, offset: u64, len: u64) -> Result<Bytes, DiskError> {
        if offset.checked_add(len).is_none_or(|end| end > self.len) {
            let text = format!("{len} bytes at {offset}: the file ends at {}", self.len);
            return Err(DiskError::Io(text));
        }
        let len = usize::try_from(len).map_err(|_| DiskError::Io("more than memory".to_owned()))?;
        let mut bytes = vec![0; len];
        match self.file.read_exact_at(&mut bytes, offset) {
            Ok(()) => Ok(Bytes::from(bytes)),
            Err(error) => Err(DiskError::Io(format!("read of {len} bytes at {offset}: {error}"))),
        }
    }
}
