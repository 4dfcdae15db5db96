//! Carries out one disk effect on a file, to its end: short reads and writes go on, interrupted
//! calls are made again, and every error comes back as a value.

use std::fs::File;
use std::io::{self, IoSlice};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use rustix::buffer::spare_capacity;
use rustix::fs::{FallocateFlags, fallocate, fdatasync};
use rustix::io::{Errno, pread, pwritev};
use trine_core::disk::{DiskError, DiskOp, DiskOutput, DiskResult};

use super::ahead::Ahead;
use super::open::Opened;

/// Slices that one `pwritev` takes (`IOV_MAX` on Linux).
const SLICES_MAX: usize = 1024;

/// Bytes of zeros written at a time where holes cannot be punched.
const ZEROS: usize = 1 << 20;

/// Writes of so many bytes go past the page cache. The copy into it, and its writing back, cost five
/// times the CPU and half of the throughput (docs/performance.md); what is smaller is read again soon, or
/// shares a sync that flushes it anyway.
const DIRECT_MIN: usize = 64 << 10;

/// Most bytes of one write past the page cache: a chunk with its header, so that it is one.
const PIECE: usize = (1 << 20) + (64 << 10);

/// What such a write must be a multiple of, and its memory aligned to.
const ALIGNMENT: usize = 4096;

/// The file and what is known about it, shared by the workers of a disk.
#[derive(Debug)]
pub(super) struct Worker {
    file: File,
    direct: Option<File>,
    /// The file system had said that it can, and could not.
    direct_failed: AtomicBool,
    ahead: Ahead,
    /// What the first failed sync said. The kernel reports a lost write once and then forgets it,
    /// so that a later sync would succeed without the data being there.
    failed_sync: OnceLock<String>,
}

impl Worker {
    /// Effects go to this file.
    pub(super) fn new(Opened { file, direct }: Opened) -> Self {
        let (ahead, direct_failed) = (Ahead::default(), AtomicBool::new(false));
        Self { file, direct, direct_failed, ahead, failed_sync: OnceLock::new() }
    }

    /// Carry out `op`.
    pub(super) fn execute(&self, op: DiskOp, scratch: &mut Scratch) -> DiskResult {
        match op {
            DiskOp::Read { offset, len } => self.read(offset, len).map(DiskOutput::Read),
            DiskOp::Write { offset, parts } => {
                self.write(offset, &parts, scratch).map(|()| DiskOutput::Written)
            }
            DiskOp::Sync => self.sync().map(|()| DiskOutput::Synced),
            DiskOp::Trim { offset, len } => self.trim(offset, len).map(|()| DiskOutput::Trimmed),
        }
    }

    fn read(&self, offset: u64, len: u64) -> Result<Bytes, DiskError> {
        let len = usize::try_from(len)
            .map_err(|_| DiskError::Io(format!("read of {len} bytes: more than memory")))?;
        end_of(offset, len)?;
        // Read into memory that was not cleared before: for a chunk that is a pass over 1 MiB less.
        let mut buffer = Vec::with_capacity(len);
        while buffer.len() < len {
            let at = offset + buffer.len() as u64;
            match pread(&self.file, spare_capacity(&mut buffer), at) {
                // The end of the file: what was never written is zeros.
                Ok(0) => buffer.resize(len, 0),
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(os_error("read", offset, len, error)),
            }
        }
        // The allocator may have given more than was asked for.
        buffer.truncate(len);
        Ok(Bytes::from(buffer))
    }

    fn write(&self, offset: u64, parts: &[Bytes], scratch: &mut Scratch) -> Result<(), DiskError> {
        self.refuse_after_failed_sync()?;
        let len = parts.iter().map(Bytes::len).sum();
        let end = end_of(offset, len)?;
        self.ahead
            .reserve(&self.file, offset..end)
            .map_err(|error| os_error("reserve space", offset, len, error))?;
        let is_aligned = len.is_multiple_of(ALIGNMENT) && offset.is_multiple_of(ALIGNMENT as u64);
        if let Some(direct) = &self.direct
            && len >= DIRECT_MIN
            && is_aligned
            && !self.direct_failed.load(Ordering::Relaxed)
        {
            match scratch.write_past_cache(direct, offset, parts) {
                Ok(()) => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
                    self.direct_failed.store(true, Ordering::Relaxed);
                }
                Err(error) => return Err(io_error("write", offset, len, &error)),
            }
        }
        let mut slices: Vec<IoSlice<'_>> =
            parts.iter().filter(|part| !part.is_empty()).map(|part| IoSlice::new(part)).collect();
        let mut rest = slices.as_mut_slice();
        let mut at = offset;
        while !rest.is_empty() {
            match pwritev(&self.file, &rest[..rest.len().min(SLICES_MAX)], at) {
                Ok(0) => {
                    return Err(DiskError::Io(format!("write at {at}: the device takes no bytes")));
                }
                Ok(count) => {
                    at += count as u64;
                    IoSlice::advance_slices(&mut rest, count);
                }
                Err(Errno::INTR) => {}
                Err(error) => return Err(os_error("write", offset, len, error)),
            }
        }
        assert_eq!(at, end, "a write ends where its parts do");
        Ok(())
    }

    fn sync(&self) -> Result<(), DiskError> {
        self.refuse_after_failed_sync()?;
        loop {
            match fdatasync(&self.file) {
                Ok(()) => return self.refuse_after_failed_sync(),
                Err(Errno::INTR) => {}
                Err(error) => {
                    let text = format!("fdatasync: {}", io::Error::from(error));
                    return Err(DiskError::Io(self.failed_sync.get_or_init(|| text).clone()));
                }
            }
        }
    }

    fn trim(&self, offset: u64, len: u64) -> Result<(), DiskError> {
        self.refuse_after_failed_sync()?;
        let span = offset..offset.checked_add(len).ok_or_else(|| beyond(offset))?;
        let hole = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        loop {
            match fallocate(&self.file, hole, offset, len) {
                Ok(()) => {
                    self.ahead.released(span);
                    return Ok(());
                }
                Err(Errno::INTR) => {}
                Err(Errno::OPNOTSUPP | Errno::NOSYS) => return self.write_zeros(span),
                Err(error) => {
                    return Err(DiskError::Io(format!(
                        "trim of {len} bytes at {offset}: {}",
                        io::Error::from(error)
                    )));
                }
            }
        }
    }

    /// For file systems without holes: what is trimmed must read as zeros.
    fn write_zeros(&self, span: Range<u64>) -> Result<(), DiskError> {
        // Behind the end of the file there are zeros already.
        let file_len =
            self.file.metadata().map_err(|error| DiskError::Io(error.to_string()))?.len();
        let end = span.end.min(file_len);
        let zeros = vec![0; ZEROS];
        let mut at = span.start;
        while at < end {
            let len = usize::try_from(end - at).unwrap_or(ZEROS).min(ZEROS);
            match self.file.write_at(&zeros[..len], at) {
                Ok(0) => {
                    return Err(DiskError::Io(format!("trim at {at}: the device takes no bytes")));
                }
                Ok(count) => at += count as u64,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(io_error("trim", at, len, &error)),
            }
        }
        Ok(())
    }

    fn refuse_after_failed_sync(&self) -> Result<(), DiskError> {
        match self.failed_sync.get() {
            None => Ok(()),
            Some(text) => Err(DiskError::Io(format!("refused after a failed sync: {text}"))),
        }
    }
}

/// Memory of a worker, aligned as writes past the page cache need it. Taken with the first of them.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    bytes: Vec<u8>,
}

impl Scratch {
    /// Write `parts`, at `offset`, piece by piece.
    ///
    /// # Errors
    /// The operating system's: `InvalidInput` if the file system does not take such writes.
    fn write_past_cache(&mut self, file: &File, offset: u64, parts: &[Bytes]) -> io::Result<()> {
        self.bytes.resize(PIECE + ALIGNMENT, 0);
        let start = self.bytes.as_ptr().align_offset(ALIGNMENT);
        let piece = &mut self.bytes[start..start + PIECE];
        let (mut at, mut filled) = (offset, 0);
        for part in parts {
            let mut rest = &part[..];
            while !rest.is_empty() {
                let (now, later) = rest.split_at(rest.len().min(PIECE - filled));
                piece[filled..filled + now.len()].copy_from_slice(now);
                (filled, rest) = (filled + now.len(), later);
                if filled == PIECE {
                    file.write_all_at(piece, at)?;
                    (at, filled) = (at + PIECE as u64, 0);
                }
            }
        }
        if filled > 0 { file.write_all_at(&piece[..filled], at) } else { Ok(()) }
    }
}

/// The end of a span of bytes, which must be a valid file offset.
fn end_of(offset: u64, len: usize) -> Result<u64, DiskError> {
    offset
        .checked_add(len as u64)
        .filter(|end| i64::try_from(*end).is_ok())
        .ok_or_else(|| beyond(offset))
}

fn beyond(offset: u64) -> DiskError {
    DiskError::Io(format!("offset {offset}: behind the largest file"))
}

fn io_error(action: &str, offset: u64, len: usize, error: &io::Error) -> DiskError {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => DiskError::NoSpace,
        _ => DiskError::Io(format!("{action} of {len} bytes at {offset}: {error}")),
    }
}

fn os_error(action: &str, offset: u64, len: usize, error: Errno) -> DiskError {
    io_error(action, offset, len, &io::Error::from(error))
}
