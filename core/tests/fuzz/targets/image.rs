//! What fuzzing begins from: the disk of a store that has lived, with a list of everything on it that has a
//! checksum, and what stores have said to each other.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use bytes::Bytes;
use trine_core::codec::Wire;
use trine_core::consensus::MessageBody;
use trine_core::hash::Checksum;
use trine_core::ids::{
    BlobId, BlobSequence, BucketId, ChunkId, LogIndex, MapEpoch, SessionId, StoreId, TenantId,
};
use trine_core::message::{ChunkWrite, Message};
use trine_core::object::{
    Attributes, BucketName, ETag, NewBody, NewObject, ObjectKey, Owner, Target, WriteConditions,
};
use trine_core::range::command::{CommandBody, Outcome};
use trine_core::storage::journal::{FrameHeader, Identity, Record};
use trine_core::storage::layout::{
    JOURNAL_START, SUPERBLOCK_COPIES, segments_start, superblock_offset,
};
use trine_core::storage::superblock::field;

use super::frames;
use super::solo::{CLUSTER, Disk, GATEWAY, GEOMETRY, STORE, Solo};

#[path = "../../rig/mod.rs"]
pub(crate) mod rig;
#[path = "../../samples/mod.rs"]
mod samples;

pub(crate) const SECTOR: usize = 4096;
const OBJECTS: u64 = 40;
const ROUNDS: u64 = 6;
const CHUNKS: u64 = 24;
pub(crate) const BLOCK_SIZE: u32 = 4096;

/// A format with a checksum.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    Superblock,
    Frame,
    SegmentHeader,
    ChunkHeader,
    Block,
    Piece,
}

/// Something on the disk that has a checksum.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sealed {
    pub(crate) kind: Kind,
    /// Offset on the disk.
    pub(crate) at: u64,
    pub(crate) len: usize,
    /// Where its checksum stands.
    sum_at: usize,
    /// What the checksum covers begins here; the checksum itself is left out.
    from: usize,
    seed: u64,
    /// Journal position of a frame.
    pub(crate) position: u64,
}

/// The disk.
pub(crate) struct Image {
    pub(crate) disk: Disk,
    /// As it was some time before.
    pub(crate) older: Disk,
    pub(crate) sealed: Vec<Sealed>,
    pub(crate) sectors: Vec<u64>,
    pub(crate) chunks: Vec<ChunkId>,
    pub(crate) session: SessionId,
    /// Of the session's next command.
    pub(crate) sequence: u64,
}

/// It is made once.
pub(crate) fn image() -> &'static Image {
    static IMAGE: LazyLock<Image> = LazyLock::new(make);
    &IMAGE
}

pub(crate) fn target(number: u64) -> Target {
    let key = ObjectKey::parse(&format!("key-{number}")).expect("a fair key");
    Target { tenant: TenantId(0), bucket: BucketId(1), key }
}

/// What version `round` of an object holds: its number and round, again and again.
fn content(number: u64, round: u64) -> Vec<u8> {
    let len = 100 + (number * 131 + round * 977) % 3000;
    let word = (number << 8 | round).to_le_bytes();
    word.into_iter().cycle().take(usize::try_from(len).expect("small")).collect()
}

/// Whether an object ever held this.
pub(crate) fn was_written(number: u64, bytes: &[u8]) -> bool {
    (0..=ROUNDS).any(|round| content(number, round) == bytes)
}

/// Another version, as a client might write it now.
pub(crate) fn put(number: u64, round: u64) -> CommandBody {
    let bytes = content(number, round);
    CommandBody::PutObject {
        target: target(number),
        conditions: WriteConditions::default(),
        object: Box::new(NewObject {
            length: bytes.len() as u64,
            etag: ETag::default(),
            checksum: None,
            owner: Owner::default(),
            attributes: Attributes::default(),
            tags: Vec::new(),
            body: NewBody::Inline(bytes.into()),
        }),
    }
}

/// The bytes of a chunk.
pub(crate) fn chunk_data(chunk: ChunkId) -> Bytes {
    let sequence = chunk.blob.sequence.0;
    let len = usize::try_from(3000 + sequence * 700).expect("small");
    Bytes::from(sequence.to_be_bytes().into_iter().cycle().take(len).collect::<Vec<u8>>())
}

fn make() -> Image {
    let mut solo = Solo::start(Disk::new());
    match solo.command(CommandBody::OpenSession { gateway: GATEWAY, nonce: 1 }) {
        Outcome::SessionOpened(session) => solo.session = session,
        other => panic!("{other:?}"),
    }
    let name = BucketName::parse("a-bucket").expect("a fair name");
    let create = CommandBody::CreateBucket { tenant: TenantId(0), name, owner: Owner::default() };
    assert_eq!(solo.command(create), Outcome::Done);
    let mut chunks = Vec::new();
    let mut older = Disk::new();
    for round in 0..ROUNDS {
        for number in 0..OBJECTS {
            let outcome = solo.command(put(number, round));
            assert!(matches!(outcome, Outcome::Put { .. }), "{outcome:?}");
            if number % 9 == 4 {
                let conditions = WriteConditions::default();
                solo.command(CommandBody::DeleteObject { target: target(number), conditions });
            }
        }
        for _ in 0..CHUNKS / ROUNDS {
            chunks.push(write_chunk(&mut solo, chunks.len() as u64));
        }
        match round {
            2 => solo.restart(),
            4 => older = solo.disk.clone(),
            _ => {}
        }
    }
    assert!(solo.halted.is_none());
    let (disk, session, sequence) = (solo.disk, solo.session, solo.sequence);
    let sealed = catalogue(&disk);
    let sectors = disk.keys().copied().collect();
    Image { disk, older, sealed, sectors, chunks, session, sequence }
}

fn write_chunk(solo: &mut Solo, sequence: u64) -> ChunkId {
    let blob = BlobId { session: solo.session, sequence: BlobSequence(sequence) };
    let chunk = ChunkId { blob, number: 0 };
    let data = chunk_data(chunk);
    let blocks = (0..).zip(data.chunks(BLOCK_SIZE as usize));
    let checksums =
        blocks.map(|(number, block)| Checksum::of_block(chunk, number, block)).collect();
    for _ in 0..100 {
        let call = solo.call();
        let (owner, epoch, block_size) = (target(sequence), MapEpoch(1), BLOCK_SIZE);
        let checksums = Vec::clone(&checksums);
        let data = data.clone();
        let write = ChunkWrite { call, chunk, owner, epoch, block_size, data, checksums };
        let written = solo.exchange(Message::ChunkWrite(write), 300, |message| match message {
            Message::ChunkWritten(written) => Some(written.result().is_ok()),
            _ => None,
        });
        if written == Some(true) {
            return chunk;
        }
        (0..50).for_each(|_| assert!(solo.turn()));
    }
    panic!("chunk {sequence} is refused: {}", solo.status());
}

/// Bytes of the disk.
pub(crate) fn read(disk: &Disk, at: u64, len: usize) -> Vec<u8> {
    let start = at / SECTOR as u64 * SECTOR as u64;
    let skip = usize::try_from(at - start).expect("within a sector");
    let mut bytes = Vec::with_capacity(skip + len + SECTOR);
    let mut sector = start;
    while bytes.len() < skip + len {
        bytes.extend_from_slice(disk.get(&sector).map_or(&[0; SECTOR][..], |bytes| bytes));
        sector += SECTOR as u64;
    }
    bytes.drain(..skip);
    bytes.truncate(len);
    bytes
}

/// Change bytes of the disk.
pub(crate) fn write(disk: &mut Disk, at: u64, bytes: &[u8]) {
    let mut done = 0;
    while done < bytes.len() {
        let place = at + done as u64;
        let sector = place / SECTOR as u64 * SECTOR as u64;
        let inside = usize::try_from(place - sector).expect("within a sector");
        let count = (SECTOR - inside).min(bytes.len() - done);
        let mut old = disk.get(&sector).map_or_else(|| vec![0; SECTOR], |bytes| bytes.to_vec());
        old[inside..inside + count].copy_from_slice(&bytes[done..done + count]);
        disk.insert(sector, old.into());
        done += count;
    }
}

impl Sealed {
    /// Make the checksum right again.
    pub(crate) fn seal(&self, disk: &mut Disk) {
        let mut bytes = read(disk, self.at, self.len);
        match self.kind {
            Kind::Frame => {
                super::journal::seal_records(&mut bytes, self.position);
                super::journal::seal_frame(&mut bytes, self.position);
            }
            _ => {
                let sum = self.sum(&bytes);
                bytes[self.sum_at..self.sum_at + 8].copy_from_slice(&sum.0.to_le_bytes());
            }
        }
        write(disk, self.at, &bytes);
    }

    fn sum(&self, bytes: &[u8]) -> Checksum {
        let before = self.from.min(self.sum_at)..self.sum_at;
        let after = self.from.max(self.sum_at + 8)..bytes.len();
        Checksum::of_parts(self.seed, [&bytes[before], &bytes[after]])
    }

    fn verifies(&self, disk: &Disk) -> bool {
        let bytes = read(disk, self.at, self.len);
        bytes[self.sum_at..self.sum_at + 8] == self.sum(&bytes).0.to_le_bytes()
    }
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

/// The seed of what stands in a segment (docs/disk-format-segments.md).
fn seed(segment: u32, generation: u64, at: u64) -> u64 {
    let mut identity = STORE.0.to_le_bytes().to_vec();
    identity.extend(segment.to_le_bytes());
    identity.extend(generation.to_le_bytes());
    identity.extend(at.to_le_bytes());
    Checksum::of(0, &identity).0
}

fn catalogue(disk: &Disk) -> Vec<Sealed> {
    let mut found = Vec::new();
    for copy in 0..SUPERBLOCK_COPIES {
        let (at, sum_at, seed) = (superblock_offset(copy), field::CHECKSUM, copy as u64);
        let kind = Kind::Superblock;
        found.push(Sealed { kind, at, len: SECTOR, sum_at, from: 0, seed, position: 0 });
    }
    for frame in frames_on(disk) {
        let at = JOURNAL_START + frame.position % GEOMETRY.journal;
        let (kind, len, position) = (Kind::Frame, frame.len as usize, frame.position);
        found.push(Sealed { kind, at, len, sum_at: 16, from: 0, seed: 0, position });
    }
    let area = segments_start(&GEOMETRY);
    let mut runs = BTreeSet::new();
    let segments: BTreeMap<u32, Vec<u8>> = (0..)
        .map_while(|segment: u32| {
            let at = area + u64::from(segment) * GEOMETRY.segment;
            (at + GEOMETRY.segment <= GEOMETRY.capacity).then(|| (segment, read(disk, at, SECTOR)))
        })
        .filter(|(_, header)| header[8..16] == *b"TRINESEG")
        .collect();
    for (segment, header) in &segments {
        let (kind, at) = (Kind::SegmentHeader, area + u64::from(*segment) * GEOMETRY.segment);
        let (seed, sum_at) = (seed(*segment, 0, 0), 4088);
        found.push(Sealed { kind, at, len: SECTOR, sum_at, from: 0, seed, position: 0 });
        runs.insert(u64_at(header, 24));
    }
    for (segment, header) in &segments {
        let (start, generation) =
            (area + u64::from(*segment) * GEOMETRY.segment, u64_at(header, 24));
        let mut inside = SECTOR as u64;
        while inside < GEOMETRY.segment {
            let bytes = read(disk, start + inside, SECTOR.min(bytes_left(inside)));
            let (kind, len, sum_at, from, seed) = match header[1] {
                1 => {
                    let len = u32_at(&bytes, 4).clamp(4096, 1 << 16) as usize;
                    (Kind::ChunkHeader, len, 88, 0, seed(*segment, generation, inside))
                }
                2 => {
                    let len = 24 + u32_at(&bytes, 4) as usize;
                    (Kind::Piece, len, 16, 24, seed(*segment, generation, inside))
                }
                _ => {
                    let number = u32_at(&bytes, 4);
                    let seed = seed(u32::MAX, generation, number.into());
                    (Kind::Block, SECTOR, 16, 0, seed)
                }
            };
            let sealed = Sealed { kind, at: start + inside, len, sum_at, from, seed, position: 0 };
            let there = len <= bytes_left(inside) && sealed.verifies(disk);
            if there {
                found.push(sealed);
            }
            match kind {
                Kind::Piece if there => inside += len as u64,
                Kind::Piece => break,
                _ => inside += SECTOR as u64,
            }
            if bytes_left(inside) < 96 {
                break;
            }
        }
    }
    found
}

fn bytes_left(inside: u64) -> usize {
    usize::try_from(GEOMETRY.segment - inside).expect("a segment is small")
}

/// The journal's frames.
fn frames_on(disk: &Disk) -> Vec<FrameHeader> {
    let identity = Identity { cluster: CLUSTER, store: STORE };
    let mut frames = Vec::new();
    for at in (0..GEOMETRY.journal).step_by(SECTOR) {
        let head = read(disk, JOURNAL_START + at, SECTOR);
        let position = u64_at(&head, 32);
        if head[8..16] == *b"TRINEJNL" && position % GEOMETRY.journal == at {
            let bytes = read(disk, JOURNAL_START + at, u32_at(&head, 40) as usize);
            frames.extend(FrameHeader::decode(identity, position, &bytes));
        }
    }
    frames.sort_by_key(|frame| frame.position);
    frames
}

fn records() -> Vec<Record> {
    let disk = &image().disk;
    let mut records = Vec::new();
    for frame in frames_on(disk) {
        let at = JOURNAL_START + frame.position % GEOMETRY.journal;
        let bytes = Bytes::from(read(disk, at, frame.len as usize));
        let found = frame.records(STORE, &bytes).expect("a frame of our own");
        records.extend(found.into_iter().map(|(record, _)| record));
    }
    records
}

/// Records of each kind, as they stand in frames; those of a kind that are longest and shortest.
pub(crate) fn frames_of_records() -> Vec<Vec<u8>> {
    let mut kinds: BTreeMap<u8, Vec<Vec<u8>>> = BTreeMap::new();
    for record in records() {
        let mut out = trine_core::codec::Encoder::new();
        record.encode_header(STORE, 0, &mut out);
        let mut bytes = out.finish().to_vec();
        bytes.extend_from_slice(record.payload().map_or(&[], |payload| payload));
        kinds.entry(bytes[0]).or_default().push(bytes);
    }
    let mut out = Vec::new();
    for mut samples in kinds.into_values() {
        samples.sort_by_key(Vec::len);
        out.extend([samples[0].clone(), samples[samples.len() / 2].clone()]);
    }
    let all = out.concat();
    out.push(all);
    out
}

/// Edits of each kind, the shortest and one in the middle.
pub(crate) fn edits() -> Vec<Bytes> {
    let mut kinds: BTreeMap<u8, Vec<Bytes>> = BTreeMap::new();
    for record in records() {
        if let Record::Edit(edit) = record {
            kinds.entry(edit[1]).or_default().push(edit);
        }
    }
    let mut out = Vec::new();
    for mut samples in kinds.into_values() {
        samples.sort_by_key(Bytes::len);
        out.extend([samples[0].clone(), samples[samples.len() / 2].clone()]);
    }
    out
}

/// A few of each kind of sealed thing.
pub(crate) fn sealed_samples() -> Vec<(Kind, Vec<u8>)> {
    let Image { disk, sealed, .. } = image();
    let mut counts = BTreeMap::new();
    let mut out = Vec::new();
    for thing in sealed {
        let bytes = read(disk, thing.at, thing.len);
        let count = counts.entry((thing.kind, bytes[1])).or_insert(0);
        *count += 1;
        if *count <= 3 {
            out.push((thing.kind, bytes));
        }
    }
    out
}

/// What stores and gateways say to each other: a sample of every kind, and of what three stores said when one
/// of them had been away.
pub(crate) fn traffic() -> Vec<Message> {
    let mut cluster = rig::Cluster::new(3);
    cluster.found();
    cluster.write(60, 300);
    cluster.stop(StoreId(3));
    cluster.write(2 * rig::LAG, 300);
    cluster.start(StoreId(3));
    cluster.until_equal(&[StoreId(1), StoreId(2), StoreId(3)]);
    let mut messages: Vec<Message> =
        samples::samples().into_iter().map(|(_, message)| message).collect();
    // Of each shape, which the kind and the first bytes tell, two of different lengths.
    let mut shapes: BTreeMap<(u8, Option<u8>), BTreeMap<usize, Message>> = BTreeMap::new();
    for message in core::mem::take(&mut cluster.sent) {
        let bytes = frames::seed(&message);
        let body = match &message {
            Message::Consensus { messages, .. } => {
                messages.first().map(|(_, message)| message.body.to_bytes()[0])
            }
            _ => bytes.get(22).copied(),
        };
        shapes.entry((bytes[1], body)).or_default().insert(bytes.len(), message);
    }
    for sizes in shapes.into_values() {
        let last = sizes.last_key_value().map(|(len, _)| *len);
        messages.extend(
            sizes
                .into_iter()
                .filter(|(len, _)| *len < 3000 || Some(*len) == last)
                .take(2)
                .map(|it| it.1),
        );
    }
    messages
}

/// What is inside of messages and entries: bytes that are formats of their own.
pub(crate) fn inner_values() -> Vec<Vec<u8>> {
    let mut out = Vec::new();
    for record in records() {
        if let Record::Entry { entry, .. } = &record {
            out.push(entry.to_bytes().to_vec());
            out.push(entry.payload.to_vec());
        }
    }
    for message in traffic() {
        let whole = frames::seed(&message);
        // Behind both endpoints and what names the call.
        for skip in [22, 30, 38, 46, 54, 55, 56, 57] {
            out.extend(whole.get(skip..).map(<[u8]>::to_vec));
        }
        if let Message::Consensus { messages, .. } = message {
            for (_, message) in messages {
                out.push(message.to_bytes().to_vec());
                out.push(message.body.to_bytes().to_vec());
                if let MessageBody::Snapshot { data, membership, .. } = message.body {
                    out.extend([data.to_vec(), membership.to_bytes().to_vec()]);
                }
            }
        }
    }
    out.push(LogIndex(7).to_bytes().to_vec());
    out.sort();
    out.dedup();
    out
}
