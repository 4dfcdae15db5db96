//! Bytes on their way into segments: given out in writes of whole sectors, as they become complete.

use bytes::{Bytes, BytesMut};

use crate::disk::SECTOR;

/// A write: byte offset on the disk, and the parts.
pub(crate) type DiskWrite = (u64, Vec<Bytes>);

/// No segment is free.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NoSegment;

/// Bytes of a write: few enough that other work on the disk is not held up.
const WRITE_BYTES: u64 = 1 << 20;

/// A sequence of bytes that goes to one place of the disk after the other.
#[derive(Debug, Default)]
pub(crate) struct Stream {
    /// Where what waits goes: a sector of the disk.
    offset: u64,
    parts: Vec<Bytes>,
    bytes: u64,
    ready: Vec<DiskWrite>,
}

impl Stream {
    /// Go on at this byte of the disk, the begin of a sector. What waits is complete.
    pub(crate) fn begin(&mut self, offset: u64) {
        self.end();
        self.offset = offset;
    }

    /// Add bytes.
    pub(crate) fn push(&mut self, part: Bytes) {
        self.bytes += part.len() as u64;
        self.parts.push(part);
        if self.bytes >= WRITE_BYTES {
            self.give_sectors();
        }
    }

    /// What waits is complete: it is padded to whole sectors.
    pub(crate) fn end(&mut self) {
        let padding = self.bytes.next_multiple_of(SECTOR) - self.bytes;
        if padding > 0 {
            const ZEROS: &[u8] = &[0; 4096];
            let padding = usize::try_from(padding).expect("under a sector");
            self.parts.push(Bytes::from_static(&ZEROS[..padding]));
            self.bytes += padding as u64;
        }
        self.give_sectors();
    }

    /// Writes that are complete.
    pub(crate) fn take(&mut self) -> Vec<DiskWrite> {
        core::mem::take(&mut self.ready)
    }

    /// Whether there are writes that are complete.
    pub(crate) fn is_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// Bytes that wait.
    pub(crate) fn bytes(&self) -> u64 {
        let ready = self.ready.iter().flat_map(|(_, parts)| parts);
        self.bytes + ready.map(|part| part.len() as u64).sum::<u64>()
    }

    /// Give out all whole sectors; the rest of a sector waits for more.
    fn give_sectors(&mut self) {
        let whole = self.bytes / SECTOR * SECTOR;
        if whole == 0 {
            return;
        }
        let mut rest = self.bytes - whole;
        let mut tail = Vec::new();
        while rest > 0 {
            let mut part = self.parts.pop().expect("the parts make up the bytes");
            let len = part.len() as u64;
            if len > rest {
                let kept = usize::try_from(len - rest).expect("within a part");
                tail.push(part.split_off(kept));
                self.parts.push(part);
                rest = 0;
            } else {
                rest -= len;
                tail.push(part);
            }
        }
        self.ready.push((self.offset, core::mem::take(&mut self.parts)));
        self.offset += whole;
        self.bytes -= whole;
        // Under a sector: copied, so that it does not hold on to what is written.
        let mut copy = BytesMut::new();
        tail.iter().rev().for_each(|part| copy.extend_from_slice(part));
        if !copy.is_empty() {
            self.parts.push(copy.freeze());
        }
    }
}
