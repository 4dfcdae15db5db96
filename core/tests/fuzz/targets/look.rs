//! An inspection of the same damaged disk ([`super::disk`]), which must end, and call nothing sound that was
//! never written.

use std::collections::BTreeSet;

use bytes::{Bytes, BytesMut};
use trine_core::cluster::ROOT_RANGE;
use trine_core::disk::DiskError;
use trine_core::ids::ChunkId;
use trine_core::inspect::{CopyState, Depth, Disk, Medium, OpenError, Root};

use super::image::{self, Image, SECTOR};
use super::solo;

/// Copies of one page: few, so that there are several pages.
const PAGE_COPIES: usize = 7;
/// Every sector of a disk of 65 MiB a few times: recovery, rows, copies, headers.
const READS_MAX: u64 = 100_000;

/// A disk in memory that counts reads.
#[derive(Debug)]
struct Counted<'a> {
    disk: &'a solo::Disk,
    unreadable: &'a BTreeSet<u64>,
    reads: u64,
}

impl Medium for Counted<'_> {
    fn read(&mut self, offset: u64, len: u64) -> Result<Bytes, DiskError> {
        self.reads += 1;
        assert!(self.reads <= READS_MAX, "an inspection that does not end");
        if self.unreadable.range(offset..offset + len).next().is_some() {
            return Err(DiskError::Io("unreadable".to_owned()));
        }
        let mut bytes = BytesMut::new();
        for at in (offset..offset + len).step_by(SECTOR) {
            bytes.extend_from_slice(self.disk.get(&at).map_or(&[0; SECTOR][..], |sector| sector));
        }
        Ok(bytes.freeze())
    }
}

/// Inspect the disk. Whether it could be opened.
pub(super) fn inspect(
    disk: &solo::Disk,
    unreadable: &BTreeSet<u64>,
    image: &Image,
    forged: bool,
    untouched: bool,
) -> bool {
    let medium = || Counted { disk, unreadable, reads: 0 };
    let mut opened = match Disk::open(medium()) {
        Ok(opened) => opened,
        Err(error) => {
            assert!(!error.to_string().is_empty() && !untouched, "{error}");
            // A store would format it.
            return error == OpenError::Blank;
        }
    };
    let mut sound = opened.check_segments().is_ok_and(|faults| faults.is_empty())
        && opened.tables().is_ok_and(|tables| tables.iter().all(|table| !table.broken))
        && opened.journal().damaged_at.is_none()
        && opened.superblock_faults().next().is_none();
    let copies = copies(&mut opened, &medium(), forged);
    sound &= copies.is_some_and(|(copies, bad)| copies >= image.chunks.len() && bad == 0);
    let mut again = Disk::open(medium()).expect("it opened once");
    let (report, range) = again.replica(ROOT_RANGE);
    assert_eq!(report.state.is_ok(), range.is_some());
    let adds_up = range.as_ref().and_then(|range| again.add_up(range).ok());
    sound &= adds_up.is_some_and(|rows| rows.adds_up && rows.bad == 0 && rows.objects > 0);
    if let Some(range) = range {
        let mut root = Root::new(again, range);
        let mut disks = [(root.store(), &mut opened)].into_iter().collect();
        let audited = root.audit(&mut disks, &Default::default(), |_| {});
        sound &= audited.is_ok_and(|audit| audit.objects > 0);
    }
    assert!(!untouched || sound, "a sound disk: {report:?}");
    true
}

/// How many copies there are, and how many are not sound; `None` if the index cannot be read.
fn copies(
    opened: &mut Disk<Counted<'_>>,
    medium: &Counted<'_>,
    forged: bool,
) -> Option<(usize, usize)> {
    let (mut next, mut before) = (Some(ChunkId::default()), None);
    let (mut all, mut bad) = (0, 0);
    while let Some(from) = next {
        let page = opened.copies(from, before, PAGE_COPIES, Depth::Blocks).ok()?;
        assert!(!page.copies.is_empty() || page.next.is_none());
        for checked in &page.copies {
            assert!(before < Some(checked.chunk), "chunks ascend");
            before = Some(checked.chunk);
            all += 1;
            bad += usize::from(checked.state != CopyState::Sound);
            if let (CopyState::Sound, Some(place), false) = (&checked.state, checked.place, forged)
            {
                let len = place.length as usize;
                let bytes = image::read(medium.disk, place.offset, len);
                assert!(bytes == image::chunk_data(checked.chunk), "{}", checked.chunk);
            }
        }
        next = page.next;
    }
    Some((all, bad))
}
