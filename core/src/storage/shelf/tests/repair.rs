//! Looking at copies, and putting a sound one in the place of one that is not.

use crate::disk::SECTOR;
use crate::message::{ChunkError, ChunkWrite};

use super::super::{Look, Looked};
use super::rig::{Image, Rig, chunk};

/// An image with some chunks, the first of them in more than one sector.
fn image() -> (Image, ChunkWrite) {
    let mut rig = Rig::start(Image::default(), 1, false);
    let first = chunk(1, 0, 10_000, 5);
    rig.write_chunk(1, &first);
    for n in 2..6 {
        rig.write_chunk(n, &chunk(n, 0, 10_000, 7));
    }
    rig.settle();
    assert!(rig.stored.values().all(Result::is_ok));
    (rig.crash(), first)
}

/// Where the second block of a chunk stands.
fn place(image: &Image, write: &ChunkWrite) -> u64 {
    let block = write.data.slice(4096..8192);
    *image.sectors.iter().find(|(_, sector)| **sector == block).expect("it was written").0
}

#[test]
fn a_sound_copy_is_indexed_checked_proven_and_given() {
    let (image, write) = image();
    let mut rig = Rig::start(image, 2, false);
    assert!(matches!(rig.look(1, write.chunk, Look::Index), Ok(Looked::Indexed)));
    let Ok(Looked::Checked(summary)) = rig.look(2, write.chunk, Look::Check) else {
        panic!("it is sound");
    };
    assert_eq!(summary.length, 10_000);
    assert!(matches!(rig.look(3, write.chunk, Look::Prove), Ok(Looked::Proven(_))));
    let Ok(Looked::Copied(copy)) = rig.look(4, write.chunk, Look::Copy) else {
        panic!("it is sound");
    };
    assert_eq!((&copy.owner, copy.epoch), (&write.owner, write.epoch));
    assert_eq!((&copy.data, &copy.checksums), (&write.data, &write.checksums));
    assert_eq!(copy.block_size, write.block_size);
    for how in [Look::Index, Look::Check, Look::Prove, Look::Copy] {
        let looked = rig.look(5, chunk(9, 0, 10, 0).chunk, how);
        assert_eq!(looked.err(), Some(ChunkError::Missing));
    }
}

/// One sector of damage must not become the loss of what stands behind it: blocks are read without the header.
#[test]
fn a_copy_whose_header_is_lost_is_not_written_over_after_a_restart() {
    for (checkpointed, unreadable) in [(false, false), (true, false), (false, true), (true, true)] {
        let mut rig = Rig::start(Image::default(), 1, false);
        let write = chunk(1, 0, 10_000, 5);
        rig.write_chunk(1, &write);
        rig.settle();
        if checkpointed {
            rig.checkpoint();
        }
        let mut image = rig.crash();
        let header = place(&image, &write) - 2 * SECTOR;
        if unreadable {
            image.bad.insert(header);
        } else {
            image.flip(header + 20);
        }
        let mut rig = Rig::start(image, 2, false);
        for n in 2..6 {
            rig.write_chunk(n, &chunk(n, 0, 10_000, 7));
        }
        rig.settle();
        assert!(rig.stored.values().all(Result::is_ok));
        assert_eq!(rig.read_chunk(9, &write), Ok(write.data.clone()), "{checkpointed}");
    }
}

#[test]
fn a_flipped_bit_anywhere_in_header_or_data_is_damage_and_an_unreadable_sector_an_error() {
    let (image, write) = image();
    let at = place(&image, &write);
    // Header, first, second and last block; behind the last byte there is only padding.
    let spots = [at - 2 * SECTOR, at - 2 * SECTOR + 200, at - SECTOR, at, at + SECTOR + 1807];
    for (op, spot) in (1..).zip(spots) {
        let mut rotten = image.clone();
        rotten.flip(spot);
        let mut rig = Rig::start(rotten, 2, false);
        for how in [Look::Check, Look::Prove, Look::Copy] {
            assert_eq!(rig.look(op, write.chunk, how).err(), Some(ChunkError::Damaged), "{spot}");
        }
        assert!(matches!(rig.look(op, write.chunk, Look::Index), Ok(Looked::Indexed)));
    }
    let mut rig = Rig::start(image.clone(), 2, false);
    rig.spoil(at);
    assert_eq!(rig.look(1, write.chunk, Look::Check).err(), Some(ChunkError::Io));
    assert_eq!(rig.read_chunk(2, &write), Err(ChunkError::Io));
    let mut rotten = image;
    rotten.flip(at);
    let mut rig = Rig::start(rotten, 2, false);
    assert_eq!(rig.read_chunk(2, &write), Err(ChunkError::Damaged));
}

#[test]
fn a_damaged_copy_is_replaced_by_the_same_bytes_only() {
    let (mut image, write) = image();
    image.flip(place(&image, &write));
    let mut rig = Rig::start(image, 2, false);
    rig.replace_chunk(1, &chunk(1, 0, 10_000, 6));
    rig.settle();
    assert_eq!(rig.stored[&1], Err(ChunkError::Invalid));
    rig.replace_chunk(2, &write);
    rig.settle();
    assert_eq!(rig.stored[&2], Ok(()));
    assert_eq!(rig.read_chunk(3, &write), Ok(write.data.clone()));
    assert!(matches!(rig.look(4, write.chunk, Look::Prove), Ok(Looked::Proven(_))));
}

#[test]
fn a_replaced_copy_survives_a_crash_at_every_completion() {
    let (mut image, write) = image();
    image.flip(place(&image, &write));
    let mut acknowledged = 0;
    for completions in 0.. {
        let mut rig = Rig::start(image.clone(), completions, false);
        let began = rig.completions;
        rig.replace_chunk(1, &write);
        let mut done = false;
        while rig.completions < began + completions && !done {
            done = !rig.step();
        }
        let stored = rig.stored.get(&1).is_some_and(Result::is_ok);
        acknowledged += u64::from(stored);
        let mut rig = Rig::start(rig.crash(), completions, false);
        let read = rig.read_chunk(2, &write);
        if stored {
            assert_eq!(read, Ok(write.data.clone()), "after {completions}");
        } else {
            assert!(matches!(&read, Err(ChunkError::Damaged)) || read.as_ref() == Ok(&write.data));
        }
        // And so it is in the life after.
        let mut rig = Rig::start(rig.crash(), completions, false);
        assert_eq!(rig.read_chunk(2, &write).is_ok(), read.is_ok());
        if done {
            break;
        }
    }
    assert!(acknowledged > 2, "some crashes come after the acknowledgement: {acknowledged}");
}
