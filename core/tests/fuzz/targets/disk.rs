//! A store that starts on a damaged disk: an attacker's, or a bad one's.
//!
//! Input: a byte of flags, then changes of 10 bytes each to the disk of a store that has lived
//! ([`super::image`]): bits, numbers, whole sectors, in whatever has a checksum, which is made right again
//! unless a flag says no; frames of the journal are chained anew.
//!
//! The store must end recovery within so many steps, with a reason or open. Open, it serves only bytes that
//! were written (unless what lies under checksums was forged); and it opens again.

use std::collections::BTreeSet;

use bytes::Bytes;
use trine_core::message::{Answer, Ask, ChunkRead, Message};
use trine_core::range::command::{Outcome, Read, ReadReply};
use trine_core::storage::journal::frame_field;
use trine_core::storage::superblock::field;

use super::image::{self, BLOCK_SIZE, Image, Kind, SECTOR, Sealed};
use super::input::Input;
use super::journal::seal_frame;
use super::look;
use super::solo::{Disk, Solo};

/// Checksums stay as they are.
const UNSEALED: u8 = 1;
/// Frames behind a changed one still name the checksum of the one before.
const UNCHAINED: u8 = 2;
const CHANGE_BYTES: usize = 10;
const CHANGES_MAX: usize = 24;
/// Recovery reads a disk of 65 MiB, at worst sector by sector.
const STEPS_TO_OPEN_MAX: u64 = 40_000;

/// What a number in a format becomes.
const NUMBERS: [u64; 16] = [
    0,
    1,
    2,
    7,
    4095,
    4096,
    0xffff,
    0x7fff_ffff,
    0xffff_ffff,
    1 << 32,
    1 << 40,
    i64::MAX as u64,
    1 << 63,
    u64::MAX - 4095,
    u64::MAX - 1,
    u64::MAX,
];

pub(crate) fn run(input: &[u8]) -> bool {
    let mut input = Input::new(input);
    let image = image::image();
    let flags = input.u8();
    let (mut disk, mut unreadable) = (image.disk.clone(), BTreeSet::new());
    let mut forged = false;
    let untouched = input.is_empty();
    for _ in 0..CHANGES_MAX {
        if input.is_empty() {
            break;
        }
        let mut change = Input::new(input.bytes(CHANGE_BYTES));
        forged |= apply(&mut change, flags, image, &mut disk, &mut unreadable);
    }
    if forged && flags & UNCHAINED == 0 {
        chain(image, &mut disk);
    }
    let inspected = look::inspect(&disk, &unreadable, image, forged, untouched);
    let mut solo = Solo::start(disk);
    (solo.session, solo.sequence) = (image.session, image.sequence);
    solo.unreadable = unreadable;
    if !opens(&mut solo) {
        return false;
    }
    assert!(inspected, "a store opens on what no inspection opens");
    let (sound, served) = serves(&mut solo, image, forged);
    assert!(!untouched || served == SERVED_ALL, "a sound disk: {served} of {SERVED_ALL} served");
    solo.restart();
    let again = opens(&mut solo);
    // Forged records may contradict each other in ways that show only when they are applied.
    assert!(again || forged || !sound, "it opened once: {:?}", solo.halted);
    true
}

/// Whether it opens. If not, it says why.
fn opens(solo: &mut Solo) -> bool {
    let open = solo.until(STEPS_TO_OPEN_MAX, |solo| solo.halted.is_some() || solo.is_open());
    if let Some(reason) = &solo.halted {
        assert!(!reason.is_empty());
        return false;
    }
    let (steps, operations) = (solo.steps, solo.operations);
    assert!(open, "not open after {steps} steps and {operations} operations: {}", solo.status());
    true
}

/// Objects and chunks that are asked for, and a command.
const SERVED_ALL: u32 = 4 + 5 + 1;

/// Ask for objects and chunks. Whether the store goes on, and how much was served.
fn serves(solo: &mut Solo, image: &Image, forged: bool) -> (bool, u32) {
    let mut served = 0;
    let leads = solo.until(300, Solo::leads);
    for number in [0, 5, 17, 39].into_iter().filter(|_| leads) {
        let read = Read::Object { target: image::target(number), with_body: true };
        if let Some(Answer::Read(ReadReply::Object(Some((_, Some(bytes)))))) =
            solo.ask(Ask::Read(read), 200)
        {
            let written = forged || image::was_written(number, &bytes);
            served += 1;
            assert!(written, "object {number} was never that: {} bytes", bytes.len());
        }
    }
    for chunk in image.chunks.iter().step_by(5) {
        let (call, data) = (solo.call(), image::chunk_data(*chunk));
        let blocks = u32::try_from(data.len()).expect("small").div_ceil(BLOCK_SIZE);
        let (session, chunk) = (image.session, *chunk);
        let read = ChunkRead { call, session, chunk, first_block: 0, blocks };
        let found = solo.exchange(Message::ChunkRead(read), 200, |message| match message {
            Message::ChunkData(found) => Some(found.result.clone().ok()),
            _ => None,
        });
        if let Some(Some((bytes, _))) = found {
            served += 1;
            assert!(bytes == data, "a wrong chunk is served: {chunk}");
        }
    }
    if leads && solo.halted.is_none() {
        let put = image::put(17, 6);
        let outcome = solo.try_command(put, 3);
        served += u32::from(matches!(outcome, Some(Outcome::Put { .. })));
        let expected = matches!(outcome, None | Some(Outcome::Put { .. } | Outcome::Rejected(_)));
        assert!(expected || forged, "{outcome:?}");
    }
    (solo.halted.is_none(), served)
}

/// One change. Whether bytes under a checksum were changed, and the checksum made right.
fn apply(
    change: &mut Input<'_>,
    flags: u8,
    image: &Image,
    disk: &mut Disk,
    unreadable: &mut BTreeSet<u64>,
) -> bool {
    let op = change.u8() % 12;
    let kind = change.u8();
    if op >= 6 {
        let sector = image.sectors[change.pick(image.sectors.len())];
        let other = image.sectors[change.pick(image.sectors.len())];
        move_sectors(op, (sector, other), image, disk, unreadable);
        return false;
    }
    let thing = pick(image, kind, change.u16());
    let mut bytes = image::read(disk, thing.at, thing.len);
    let at = usize::from(change.u16());
    // Headers first: they are where numbers are.
    let at = if op.is_multiple_of(2) { at % bytes.len().min(256) } else { at % bytes.len() };
    let value = change.u8();
    match op {
        0 | 1 => bytes[at] ^= value.max(1),
        2 | 3 => {
            let number = NUMBERS[usize::from(value) % NUMBERS.len()].to_le_bytes();
            let width = if value & 0x80 == 0 { 8 } else { 4 };
            let at = at / 4 * 4;
            let end = bytes.len().min(at + width);
            bytes[at..end].copy_from_slice(&number[..end - at]);
        }
        _ => {
            // What stands in another of its kind, in its place.
            let other = pick(image, kind, u16::from(value));
            let other = image::read(&image.disk, other.at, other.len);
            let len = bytes.len().min(other.len());
            bytes[..len].copy_from_slice(&other[..len]);
        }
    }
    if thing.kind == Kind::Superblock {
        // Another geometry is another disk; the target `superblock` has that.
        let sound = image::read(&image.disk, thing.at, thing.len);
        bytes[field::CAPACITY..field::PREPARED]
            .copy_from_slice(&sound[field::CAPACITY..field::PREPARED]);
    }
    image::write(disk, thing.at, &bytes);
    if flags & UNSEALED == 0 {
        thing.seal(disk);
    }
    flags & UNSEALED == 0
}

/// The `nth` thing of a kind.
fn pick(image: &Image, kind: u8, nth: u16) -> &Sealed {
    let kinds = [
        Kind::Superblock,
        Kind::Frame,
        Kind::SegmentHeader,
        Kind::ChunkHeader,
        Kind::Block,
        Kind::Piece,
    ];
    let kind = kinds[usize::from(kind) % kinds.len()];
    let count = image.sealed.iter().filter(|thing| thing.kind == kind).count();
    let mut of_kind = image.sealed.iter().filter(|thing| thing.kind == kind);
    of_kind.nth(usize::from(nth) % count).expect("there are some of each kind")
}

fn move_sectors(
    op: u8,
    (sector, other): (u64, u64),
    image: &Image,
    disk: &mut Disk,
    unreadable: &mut BTreeSet<u64>,
) {
    let at = |disk: &Disk, sector| disk.get(&sector).cloned().unwrap_or(ZEROS);
    match op {
        6 => {
            let (one, two) = (at(disk, sector), at(disk, other));
            disk.insert(sector, two);
            disk.insert(other, one);
        }
        7 => drop(disk.insert(sector, at(disk, other))),
        8 => drop(disk.remove(&sector)),
        // A write that was lost.
        9 => drop(disk.insert(sector, at(&image.older, sector))),
        10 => drop(unreadable.insert(sector)),
        _ => {
            // The file was cut off.
            disk.split_off(&sector);
        }
    }
}

const ZEROS: Bytes = Bytes::from_static(&[0; SECTOR]);

/// Have each frame of the journal name the checksum of the one before.
fn chain(image: &Image, disk: &mut Disk) {
    let mut before: Option<(u64, u64)> = None;
    for frame in image.sealed.iter().filter(|thing| thing.kind == Kind::Frame) {
        let mut bytes = image::read(disk, frame.at, frame.len);
        let stored = |bytes: &[u8], at: usize| {
            u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
        };
        let old = stored(&bytes, frame_field::CHECKSUM);
        let previous = stored(&bytes, frame_field::PREVIOUS);
        let sum = match before {
            Some((end, sum)) if end == frame.position && previous != sum => {
                bytes[frame_field::PREVIOUS..][..8].copy_from_slice(&sum.to_le_bytes());
                let sum = seal_frame(&mut bytes, frame.position);
                image::write(disk, frame.at, &bytes);
                sum
            }
            _ => old,
        };
        before = Some((frame.position + frame.len as u64, sum));
    }
}

/// One change of each sort, sealed and not, and some together.
pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = vec![vec![0]];
    for op in 0..12_u8 {
        for kind in 0..6_u8 {
            if op >= 6 && kind > 1 {
                continue;
            }
            let change =
                [op, kind, op.wrapping_mul(37).wrapping_add(kind), 0, 24 + 8 * kind, 0, 9, 0, 0, 0];
            seeds.push([&[0], &change[..]].concat());
            seeds.push([&[UNSEALED | UNCHAINED], &change[..]].concat());
        }
    }
    seeds
}
