//! A disk in memory that does what it is asked, at once.

use std::collections::BTreeMap;

use bytes::{Bytes, BytesMut};
use trine_core::disk::{DiskOp, DiskOutput};

/// Sectors that were written and not trimmed, by offset.
pub(crate) type Disk = BTreeMap<u64, Bytes>;

/// Sectors are of so many bytes.
const SECTOR: usize = 4096;

/// Carry an operation out.
pub(crate) fn carry_out(disk: &mut Disk, op: DiskOp) -> DiskOutput {
    match op {
        DiskOp::Read { offset, len } => {
            let mut bytes = BytesMut::new();
            for at in (offset..offset + len).step_by(SECTOR) {
                bytes.extend_from_slice(disk.get(&at).map_or(&[0; SECTOR][..], |sector| sector));
            }
            DiskOutput::Read(bytes.freeze())
        }
        DiskOp::Write { offset, parts } => {
            let bytes = Bytes::from(parts.concat());
            for at in (0..bytes.len()).step_by(SECTOR) {
                disk.insert(offset + at as u64, bytes.slice(at..at + SECTOR));
            }
            DiskOutput::Written
        }
        DiskOp::Sync => DiskOutput::Synced,
        DiskOp::Trim { offset, len } => {
            disk.retain(|at, _| *at < offset || *at >= offset + len);
            DiskOutput::Trimmed
        }
    }
}
