//! Adds up the copies of one disk, blob by blob.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use trine_core::ids::{BlobId, ChunkId, StoreId};
use trine_core::inspect::{
    BlobUse, Checked, ChunkFault, CopyPage, CopyState, HeaderFault, Root, Unreadable,
};
use trine_core::object::Target;
use trine_core::request::AuditError;

use super::file::FileMedium;
use super::schema::{BadCopy, Copies, Line, Share};

/// Blobs that are named because no row names them.
const NO_ROW_MAX: usize = 1000;

/// The list of all copies, as it is written.
#[derive(Debug)]
pub(super) struct List(BufWriter<File>);

impl List {
    /// A new file: nothing is written over.
    pub(super) fn create(path: &Path) -> io::Result<Self> {
        Ok(Self(BufWriter::new(File::options().write(true).create_new(true).open(path)?)))
    }

    fn line(&mut self, line: &Line) -> io::Result<()> {
        serde_json::to_writer(&mut self.0, line)?;
        self.0.write_all(b"\n")
    }

    /// All of it is written.
    pub(super) fn end(mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// The copies of one disk so far.
#[derive(Debug)]
pub(super) struct Tally {
    store: StoreId,
    pub(super) copies: Copies,
    /// Copies that are not sound.
    pub(super) faults: BTreeMap<ChunkId, AuditError>,
    blob: Option<Blob>,
}

/// The blob whose copies are coming.
#[derive(Debug)]
struct Blob {
    id: BlobId,
    of: Option<BlobUse>,
    owner: Option<Target>,
    chunks: u64,
    bytes: u64,
    sound: u64,
}

/// What adding up needs besides.
#[derive(Debug, Default)]
pub(super) struct Aids {
    /// Knows whose blobs are; given up when its rows cannot be read.
    pub(super) root: Option<Root<FileMedium>>,
    pub(super) root_failed: Option<Unreadable>,
    /// The list, until it cannot be written.
    pub(super) list: Option<List>,
    pub(super) list_failed: Option<io::Error>,
}

impl Aids {
    fn use_of(&mut self, owner: &Target, blob: BlobId) -> Option<BlobUse> {
        match self.root.as_mut()?.use_of(owner, blob) {
            Ok(of) => Some(of),
            Err(error) => {
                self.root = None;
                self.root_failed = Some(error);
                None
            }
        }
    }

    fn tell(&mut self, line: impl FnOnce() -> Line) {
        let Some(list) = &mut self.list else { return };
        if let Err(error) = list.line(&line()) {
            self.list = None;
            self.list_failed = Some(error);
        }
    }
}

impl Tally {
    /// Of a store's disk.
    pub(super) fn new(store: StoreId) -> Self {
        Self { store, copies: Copies::default(), faults: BTreeMap::new(), blob: None }
    }

    /// Whose disk it is.
    pub(super) fn store(&self) -> StoreId {
        self.store
    }

    /// Take some copies, behind those before.
    pub(super) fn take(&mut self, page: CopyPage, aids: &mut Aids) {
        self.copies.read_bytes += page.bytes_read;
        for checked in page.copies {
            if self.blob.as_ref().is_none_or(|blob| blob.id != checked.chunk.blob) {
                self.end_blob(aids);
            }
            self.copy(checked, aids);
        }
    }

    fn copy(&mut self, checked: Checked, aids: &mut Aids) {
        let Checked { chunk, place, owner, state } = checked;
        let bytes = place.map_or(0, |place| u64::from(place.length));
        let blob = self.blob.get_or_insert(Blob {
            id: chunk.blob,
            of: None,
            owner: None,
            chunks: 0,
            bytes: 0,
            sound: 0,
        });
        blob.chunks += 1;
        blob.bytes += bytes;
        if blob.owner.is_none()
            && let Some(owner) = &owner
        {
            blob.of = aids.use_of(owner, chunk.blob);
            blob.owner = Some(owner.clone());
        }
        if state == CopyState::Sound {
            blob.sound += 1;
            self.copies.sound += 1;
        }
        self.copies.total.chunks += 1;
        self.copies.total.bytes += bytes;
        let misplaced = aids
            .root
            .as_ref()
            .and_then(Root::map)
            .is_some_and(|map| map.places(chunk).iter().all(|place| place.store != self.store));
        if misplaced {
            self.copies.misplaced.chunks += 1;
            self.copies.misplaced.bytes += bytes;
        }
        let whose = owner.as_ref().map(name);
        if let Some(error) = state.audit_error() {
            let contradicts = Some(HeaderFault::Contradicts);
            let header = match &state {
                CopyState::Faulty(ChunkFault { header, .. }) => *header,
                _ => None,
            };
            self.copies.contradicting += u64::from(header == contradicts);
            self.faults.insert(chunk, error);
            self.copies.bad.push(BadCopy {
                chunk: chunk.to_string(),
                offset: place.map(|place| place.offset),
                length: place.map(|place| place.length),
                owner: whose.clone(),
                error: state.to_string(),
            });
        }
        let store = self.store.0;
        aids.tell(|| Line::Copy {
            store,
            chunk: chunk.to_string(),
            segment: place.map(|place| place.segment),
            offset: place.map(|place| place.offset),
            length: place.map(|place| place.length),
            block_size: place.map(|place| place.block_size),
            owner: whose,
            state: state.to_string(),
        });
    }

    /// There are no more copies of this blob.
    pub(super) fn end_blob(&mut self, aids: &mut Aids) {
        let Some(Blob { id, of, chunks, bytes, sound, .. }) = self.blob.take() else { return };
        let copies = &mut self.copies;
        copies.total.blobs += 1;
        let (share, text): (&mut Share, _) = match of {
            Some(BlobUse::Referenced) => (&mut copies.referenced, "referenced"),
            Some(BlobUse::Garbage) => (&mut copies.garbage, "garbage"),
            Some(BlobUse::NoRow) => {
                if copies.no_row_blobs.len() < NO_ROW_MAX {
                    copies.no_row_blobs.push(id.to_string());
                }
                (&mut copies.no_row, "no row")
            }
            None => (&mut copies.unknown, "unknown"),
        };
        share.blobs += 1;
        share.chunks += chunks;
        share.bytes += bytes;
        let (store, blob) = (self.store.0, id.to_string());
        aids.tell(|| Line::Blob { store, blob, chunks, bytes, sound, of: text });
    }
}

/// Bucket id and key.
fn name(owner: &Target) -> String {
    format!("{}/{}", owner.bucket, owner.key.as_str())
}
