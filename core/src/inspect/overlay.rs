//! What recovery writes, kept in memory above a disk that is only read.

use std::collections::BTreeMap;

use bytes::{Bytes, BytesMut};

use super::Medium;
use crate::disk::{DiskError, DiskOp, DiskOutput, DiskResult, SECTOR};

/// A sector, as a length in memory.
const SECTOR_BYTES: usize = 4096;
const _: () = assert!(SECTOR_BYTES as u64 == SECTOR);

/// A disk, and sectors that were written over it.
#[derive(Debug)]
pub(super) struct Overlay<M> {
    medium: M,
    /// By number; `None` for one of zeros, of which recovery writes many.
    written: BTreeMap<u64, Option<Bytes>>,
}

impl<M: Medium> Overlay<M> {
    /// Nothing is written yet.
    pub(super) fn new(medium: M) -> Self {
        Self { medium, written: BTreeMap::new() }
    }

    /// Carry an effect out.
    pub(super) fn carry_out(&mut self, op: &DiskOp) -> DiskResult {
        match op {
            DiskOp::Read { offset, len } => self.read(*offset, *len).map(DiskOutput::Read),
            DiskOp::Write { offset, parts } => {
                self.write(*offset, parts);
                Ok(DiskOutput::Written)
            }
            DiskOp::Sync => Ok(DiskOutput::Synced),
            DiskOp::Trim { offset, len } => {
                let first = offset / SECTOR;
                self.written.extend((first..first + len / SECTOR).map(|sector| (sector, None)));
                Ok(DiskOutput::Trimmed)
            }
        }
    }

    /// Read what is on the medium itself.
    pub(super) fn below(&mut self, offset: u64, len: u64) -> Result<Bytes, DiskError> {
        self.medium.read(offset, len)
    }

    /// Read what is there now.
    pub(super) fn read(&mut self, offset: u64, len: u64) -> Result<Bytes, DiskError> {
        let sectors = offset / SECTOR..(offset + len) / SECTOR;
        let below = self.medium.read(offset, len);
        if let Ok(bytes) = &below
            && bytes.len() as u64 != len
        {
            return Err(DiskError::Io(format!("{} bytes came, {len} were asked for", bytes.len())));
        }
        let covered = self.written.range(sectors.clone()).count() as u64;
        if covered == 0 || (below.is_err() && covered < sectors.end - sectors.start) {
            return below;
        }
        let mut whole = match below {
            Ok(bytes) => BytesMut::from(&bytes[..]),
            Err(_) => {
                let len = usize::try_from(len).map_err(|_| DiskError::Io("too long".to_owned()))?;
                BytesMut::zeroed(len)
            }
        };
        for (sector, bytes) in self.written.range(sectors.clone()) {
            let at = usize::try_from((sector - sectors.start) * SECTOR).expect("within the read");
            match bytes {
                Some(bytes) => whole[at..at + SECTOR_BYTES].copy_from_slice(bytes),
                None => whole[at..at + SECTOR_BYTES].fill(0),
            }
        }
        Ok(whole.freeze())
    }

    fn write(&mut self, offset: u64, parts: &[Bytes]) {
        let mut sector = offset / SECTOR;
        let mut gathered = BytesMut::with_capacity(SECTOR_BYTES);
        for part in parts {
            let mut rest = &part[..];
            while !rest.is_empty() {
                let taken = rest.len().min(SECTOR_BYTES - gathered.len());
                gathered.extend_from_slice(&rest[..taken]);
                rest = &rest[taken..];
                if gathered.len() == SECTOR_BYTES {
                    let bytes = gathered.split().freeze();
                    let zeros = bytes.iter().all(|byte| *byte == 0);
                    self.written.insert(sector, (!zeros).then(|| Bytes::copy_from_slice(&bytes)));
                    sector += 1;
                }
            }
        }
    }
}
