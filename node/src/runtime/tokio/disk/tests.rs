//! The file disk on real files: reads, writes, syncs, trims, locks, and what goes wrong.

use std::fs::File;
use std::sync::mpsc;

use bytes::Bytes;
use proptest::prelude::*;
use trine_core::disk::{DiskError, DiskOutput, DiskResult, SECTOR};

use super::open::Opened;
use super::*;

/// A disk whose completions the test waits for.
struct Rig {
    disk: FileDisk,
    done: mpsc::Receiver<(DiskToken, DiskResult)>,
    next: u64,
    _directory: tempfile::TempDir,
}

const CAPACITY: u64 = 64 << 20;

impl Rig {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let (sender, done) = mpsc::channel();
        let sink: DiskSink = Arc::new(move |token, result| sender.send((token, result)).unwrap());
        let disk = FileDisk::open(&directory.path().join("store"), CAPACITY, sink).unwrap();
        Self { disk, done, next: 0, _directory: directory }
    }

    fn start(&mut self, op: DiskOp) -> DiskToken {
        self.next += 1;
        self.disk.submit(DiskToken(self.next), op);
        DiskToken(self.next)
    }

    fn run(&mut self, op: DiskOp) -> DiskResult {
        let token = self.start(op);
        let (finished, result) = self.done.recv().unwrap();
        assert_eq!(finished, token);
        result
    }

    fn read(&mut self, offset: u64, len: u64) -> Bytes {
        match self.run(DiskOp::Read { offset, len }) {
            Ok(DiskOutput::Read(bytes)) => bytes,
            other => panic!("{other:?}"),
        }
    }
}

/// A file for which the file system has nothing but its page cache.
fn buffered(file: File) -> Opened {
    Opened { file, direct: None }
}

fn sectors(fill: u8, count: usize) -> Bytes {
    Bytes::from(vec![fill; count * 4096])
}

#[test]
fn what_was_never_written_reads_as_zeros_even_behind_the_end() {
    let mut rig = Rig::new();
    assert_eq!(rig.read(0, SECTOR), sectors(0, 1));
    assert_eq!(rig.read(CAPACITY - SECTOR, 3 * SECTOR), sectors(0, 3));
    assert_eq!(rig.read(CAPACITY * 4, SECTOR), sectors(0, 1));
}

#[test]
fn a_write_of_more_parts_than_one_call_takes_is_whole() {
    let mut rig = Rig::new();
    // 3,000 parts of odd lengths, some empty, that fill whole sectors together.
    let mut parts: Vec<Bytes> = (0..3000_usize)
        .map(|n| Bytes::from(vec![u8::try_from(n % 251).unwrap(); n % 17]))
        .collect();
    let len: usize = parts.iter().map(Bytes::len).sum();
    parts.push(Bytes::from(vec![7; len.next_multiple_of(4096) - len]));
    let expected: Vec<u8> = parts.iter().flatten().copied().collect();
    assert_eq!(rig.run(DiskOp::Write { offset: SECTOR, parts }), Ok(DiskOutput::Written));
    assert_eq!(rig.read(SECTOR, expected.len() as u64), expected);
}

#[test]
fn a_trimmed_span_reads_as_zeros_and_takes_writes_again() {
    let mut rig = Rig::new();
    let write = |fill| DiskOp::Write { offset: 0, parts: vec![sectors(fill, 8)] };
    rig.run(write(1)).unwrap();
    assert_eq!(rig.run(DiskOp::Trim { offset: SECTOR, len: 2 * SECTOR }), Ok(DiskOutput::Trimmed));
    assert_eq!(rig.read(0, SECTOR), sectors(1, 1));
    assert_eq!(rig.read(SECTOR, 2 * SECTOR), sectors(0, 2));
    assert_eq!(rig.read(3 * SECTOR, SECTOR), sectors(1, 1));
    rig.run(write(2)).unwrap();
    assert_eq!(rig.read(0, 8 * SECTOR), sectors(2, 8));
}

#[test]
fn space_is_reserved_ahead_of_writes_and_given_back_by_trims() {
    use std::os::unix::fs::MetadataExt;
    let mut rig = Rig::new();
    let path = rig._directory.path().join("store");
    let allocated = || path.metadata().unwrap().blocks() * 512;
    assert_eq!(path.metadata().unwrap().len(), CAPACITY);
    assert!(allocated() < ahead::STEP, "a new disk is sparse");
    rig.run(DiskOp::Write { offset: ahead::STEP, parts: vec![sectors(1, 1)] }).unwrap();
    assert!(allocated() >= ahead::STEP, "{} bytes are allocated", allocated());
    rig.run(DiskOp::Trim { offset: ahead::STEP, len: ahead::STEP }).unwrap();
    assert!(allocated() < ahead::STEP, "{} bytes are allocated", allocated());
    rig.run(DiskOp::Write { offset: ahead::STEP + SECTOR, parts: vec![sectors(1, 1)] }).unwrap();
    assert!(allocated() >= ahead::STEP, "{} bytes are allocated", allocated());
    assert_eq!(path.metadata().unwrap().len(), CAPACITY, "the length says the capacity");
}

#[test]
fn offsets_behind_the_largest_file_are_errors() {
    let mut rig = Rig::new();
    let far = u64::MAX - u64::MAX % SECTOR;
    for op in [
        DiskOp::Read { offset: far, len: 2 * SECTOR },
        DiskOp::Read { offset: 0, len: u64::MAX - u64::MAX % SECTOR },
        DiskOp::Write { offset: far, parts: vec![sectors(1, 1)] },
        DiskOp::Write { offset: 1 << 62, parts: vec![sectors(1, 1)] },
        DiskOp::Trim { offset: far, len: 2 * SECTOR },
        DiskOp::Trim { offset: 0, len: 0 },
    ] {
        let result = rig.run(op.clone());
        assert!(result.is_err(), "{op:?}: {result:?}");
    }
}

#[test]
fn a_full_device_is_no_space_and_other_errors_keep_the_systems_text() {
    // Nothing can be reserved on /dev/full, and writes to it end in ENOSPC.
    let worker = Worker::new(buffered(File::options().write(true).open("/dev/full").unwrap()));
    let write = DiskOp::Write { offset: 0, parts: vec![sectors(1, 1)] };
    assert_eq!(worker.execute(write, &mut Scratch::default()), Err(DiskError::NoSpace));
    let Err(DiskError::Io(text)) =
        worker.execute(DiskOp::Read { offset: 0, len: SECTOR }, &mut Scratch::default())
    else {
        panic!("the file is open for writing only");
    };
    assert!(text.contains("Bad file descriptor"), "{text}");
}

#[test]
fn where_nothing_goes_past_the_page_cache_writes_go_through_it() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store");
    let file = File::options().read(true).write(true).create_new(true).open(&path).unwrap();
    // It takes nothing but small numbers, and says EINVAL to all else.
    let direct = File::options().write(true).open("/proc/self/oom_score_adj").unwrap();
    let worker = Worker::new(Opened { file, direct: Some(direct) });
    for fill in 1..3 {
        let write = DiskOp::Write { offset: 0, parts: vec![sectors(fill, 20)] };
        assert_eq!(worker.execute(write, &mut Scratch::default()), Ok(DiskOutput::Written));
        assert_eq!(std::fs::read(&path).unwrap(), sectors(fill, 20));
    }
}

#[test]
fn after_a_failed_sync_writes_trims_and_syncs_are_refused() {
    // The end of a pipe cannot be synced.
    let (_reader, writer) = std::io::pipe().unwrap();
    let worker = Worker::new(buffered(File::from(std::os::fd::OwnedFd::from(writer))));
    let Err(DiskError::Io(first)) = worker.execute(DiskOp::Sync, &mut Scratch::default()) else {
        panic!("a pipe cannot be synced");
    };
    assert!(first.contains("Invalid argument"), "{first}");
    for op in [
        DiskOp::Sync,
        DiskOp::Write { offset: 0, parts: vec![sectors(1, 1)] },
        DiskOp::Trim { offset: 0, len: SECTOR },
    ] {
        let Err(DiskError::Io(text)) = worker.execute(op.clone(), &mut Scratch::default()) else {
            panic!("{op:?} is not refused");
        };
        assert!(text.contains("refused after a failed sync"), "{text}");
    }
}

#[test]
fn a_dropped_disk_finishes_its_queue() {
    let mut rig = Rig::new();
    for n in 0..64 {
        rig.start(DiskOp::Write { offset: n * SECTOR, parts: vec![sectors(3, 1)] });
    }
    drop(rig.disk);
    assert_eq!(rig.done.iter().filter(|(_, result)| result.is_ok()).count(), 64);
}

#[test]
fn a_disk_in_use_is_refused_by_name_and_free_after_its_drop() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store");
    let (sender, done) = mpsc::channel::<()>();
    let sink: DiskSink = Arc::new(move |_, _| drop(sender.clone()));
    let disk = FileDisk::open(&path, CAPACITY, sink.clone()).unwrap();
    let error = FileDisk::open(&path, CAPACITY, sink.clone()).unwrap_err().to_string();
    assert!(error.contains(&path.display().to_string()), "{error}");
    assert!(error.contains("--data"), "{error}");
    drop((disk, sink));
    // The workers have let go of the file when the last sink is gone.
    assert!(done.recv().is_err());
    FileDisk::open(&path, CAPACITY, Arc::new(|_, _| {})).unwrap();
}

#[test]
fn what_is_not_a_file_is_refused_by_name() {
    let directory = tempfile::tempdir().unwrap();
    let error =
        FileDisk::open(directory.path(), CAPACITY, Arc::new(|_, _| {})).unwrap_err().to_string();
    assert!(error.contains("not a regular file"), "{error}");
    let missing = directory.path().join("missing/store");
    let error = FileDisk::open(&missing, CAPACITY, Arc::new(|_, _| {})).unwrap_err().to_string();
    assert!(error.contains("missing/store"), "{error}");
}

#[test]
fn a_longer_file_keeps_its_length_and_its_bytes() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store");
    std::fs::write(&path, vec![9; 3 * 4096]).unwrap();
    drop(FileDisk::open(&path, SECTOR, Arc::new(|_, _| {})).unwrap());
    assert_eq!(std::fs::read(&path).unwrap(), vec![9; 3 * 4096]);
}

/// Sectors of the model that random effects are compared with.
const MODEL_SECTORS: u64 = 900;

fn any_op() -> impl Strategy<Value = DiskOp> {
    // Small ones, such as go past the page cache, and such as take several pieces there.
    let sectors = prop_oneof![3 => 1..9_u64, 2 => 15..40_u64, 1 => 270..600_u64];
    let span = (0..MODEL_SECTORS, sectors)
        .prop_map(|(start, len)| (start * SECTOR, len.min(MODEL_SECTORS - start) * SECTOR));
    let cut = (1..90_000_usize, any::<u8>());
    prop_oneof![
        (span.clone(), cut).prop_map(|((offset, len), (cut, fill))| {
            let bytes: Vec<u8> =
                (0..len).map(|n| fill.wrapping_add(u8::try_from(n / 512 % 256).unwrap())).collect();
            let parts = bytes.chunks(cut).map(Bytes::copy_from_slice).collect();
            DiskOp::Write { offset, parts }
        }),
        span.clone().prop_map(|(offset, len)| DiskOp::Read { offset, len }),
        span.prop_map(|(offset, len)| DiskOp::Trim { offset, len }),
        Just(DiskOp::Sync),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]

    #[test]
    fn random_effects_do_what_they_do_to_a_vector(ops in prop::collection::vec(any_op(), 1..64)) {
        let mut rig = Rig::new();
        let mut model = vec![0; usize::try_from(MODEL_SECTORS * SECTOR).unwrap()];
        let span = |offset: u64, len: u64| {
            let start = usize::try_from(offset).unwrap();
            start..start + usize::try_from(len).unwrap()
        };
        for op in ops {
            let result = rig.run(op.clone());
            match op {
                DiskOp::Write { offset, parts } => {
                    let bytes = parts.concat();
                    model[span(offset, bytes.len() as u64)].copy_from_slice(&bytes);
                    prop_assert_eq!(result, Ok(DiskOutput::Written));
                }
                DiskOp::Read { offset, len } => {
                    let expected = Bytes::copy_from_slice(&model[span(offset, len)]);
                    prop_assert_eq!(result, Ok(DiskOutput::Read(expected)));
                }
                DiskOp::Trim { offset, len } => {
                    model[span(offset, len)].fill(0);
                    prop_assert_eq!(result, Ok(DiskOutput::Trimmed));
                }
                DiskOp::Sync => prop_assert_eq!(result, Ok(DiskOutput::Synced)),
            }
        }
    }
}
