//! What a disk may do at a power cut and after, one behaviour at a time.

use super::*;

struct Bench {
    disk: SimDisk,
    draw: Draw,
    hits: Hits,
    tokens: u64,
}

impl Bench {
    fn new(seed: u64) -> Self {
        let disk = SimDisk::new(64 * SECTOR);
        Self { disk, draw: Draw::new(seed, 0), hits: Hits::default(), tokens: 0 }
    }

    fn start(&mut self, op: DiskOp, fails: bool) -> DiskToken {
        self.tokens += 1;
        self.disk.start(DiskToken(self.tokens), op, fails);
        DiskToken(self.tokens)
    }

    fn finish(&mut self, token: DiskToken) -> Option<DiskResult> {
        self.disk.finish(token, &mut self.draw, &mut self.hits)
    }

    fn run(&mut self, op: DiskOp) -> DiskResult {
        let token = self.start(op, false);
        self.finish(token).expect("nothing has crashed")
    }

    fn write(&mut self, sector: u64, fill: u8) {
        assert_eq!(self.run(filled(sector, fill)), Ok(DiskOutput::Written));
    }

    fn read(&mut self, sector: u64) -> u8 {
        match self.run(DiskOp::Read { offset: sector * SECTOR, len: SECTOR }) {
            Ok(DiskOutput::Read(bytes)) => {
                assert!(bytes.iter().all(|byte| *byte == bytes[0]));
                bytes[0]
            }
            other => panic!("{other:?}"),
        }
    }

    fn lose_power(&mut self, survival: Survival) {
        self.disk.power_lost(survival, &mut self.draw, &mut self.hits);
    }
}

fn filled(sector: u64, fill: u8) -> DiskOp {
    let part = Bytes::from(vec![fill; index(SECTOR)]);
    DiskOp::Write { offset: sector * SECTOR, parts: vec![part] }
}

#[test]
fn a_lost_write_is_reported_and_synced_and_the_old_content_stays() {
    let mut bench = Bench::new(8);
    bench.write(5, 1);
    assert_eq!(bench.run(DiskOp::Sync), Ok(DiskOutput::Synced));
    let token = bench.start(filled(5, 2), false);
    bench.disk.lie(token, Lie::Lost);
    assert_eq!(bench.finish(token), Some(Ok(DiskOutput::Written)));
    assert_eq!(bench.run(DiskOp::Sync), Ok(DiskOutput::Synced));
    assert_eq!(bench.read(5), 1);
    bench.lose_power(Survival::All);
    assert_eq!(bench.read(5), 1);
    assert_eq!(bench.hits.of(FaultKind::WriteLost), 1);
}

#[test]
fn of_a_lost_write_all_sectors_but_one_are_written() {
    let mut bench = Bench::new(9);
    let part = Bytes::from(vec![7; 4 * index(SECTOR)]);
    let token = bench.start(DiskOp::Write { offset: SECTOR, parts: vec![part] }, false);
    bench.disk.lie(token, Lie::Lost);
    assert_eq!(bench.finish(token), Some(Ok(DiskOutput::Written)));
    let written = (1..5).filter(|sector| bench.read(*sector) == 7).count();
    assert_eq!(written, 3);
}

#[test]
fn a_misdirected_write_damages_nothing_before_the_place_that_is_named() {
    for seed in 0..50 {
        let mut bench = Bench::new(seed);
        for sector in 0..20 {
            bench.write(sector, 1);
        }
        let token = bench.start(filled(15, 2), false);
        bench.disk.lie(token, Lie::Misdirected(10 * SECTOR));
        assert_eq!(bench.finish(token), Some(Ok(DiskOutput::Written)));
        let changed: Vec<u64> = (0..20).filter(|sector| bench.read(*sector) == 2).collect();
        assert!(
            changed.len() <= 1 && changed.iter().all(|at| *at >= 10 && *at != 15),
            "{changed:?}"
        );
        assert_eq!(bench.read(15), 1, "where it was to go the old content stays");
        assert_eq!(bench.hits.of(FaultKind::WriteMisdirected), 1);
    }
}

#[test]
fn a_write_that_fails_does_not_lie_too() {
    let mut bench = Bench::new(3);
    let token = bench.start(filled(5, 2), true);
    bench.disk.lie(token, Lie::Lost);
    assert!(matches!(bench.finish(token), Some(Err(_))));
    assert_eq!(bench.hits.of(FaultKind::WriteLost), 0);
}

#[test]
fn a_restored_image_is_what_was_durable_when_it_was_taken() {
    let mut bench = Bench::new(4);
    bench.write(1, 1);
    assert_eq!(bench.run(DiskOp::Sync), Ok(DiskOutput::Synced));
    bench.write(1, 2);
    bench.write(2, 2);
    let image = bench.disk.image();
    assert_eq!(bench.run(DiskOp::Sync), Ok(DiskOutput::Synced));
    bench.write(1, 3);
    bench.write(9, 3);
    bench.disk.restore(image);
    assert_eq!([1, 2, 9].map(|sector| bench.read(sector)), [1, 0, 0]);
    bench.lose_power(Survival::Mixed);
    assert_eq!([1, 2, 9].map(|sector| bench.read(sector)), [1, 0, 0]);
}

#[test]
fn synced_write_survives_every_power_loss() {
    for survival in [Survival::All, Survival::None, Survival::Mixed, Survival::Prefix] {
        let mut bench = Bench::new(1);
        bench.write(3, 7);
        assert_eq!(bench.run(DiskOp::Sync), Ok(DiskOutput::Synced));
        bench.lose_power(survival);
        assert_eq!(bench.read(3), 7);
    }
}

#[test]
fn sync_does_not_cover_a_write_that_completes_after_it_was_issued() {
    let mut bench = Bench::new(1);
    let write = bench.start(filled(3, 7), false);
    let sync = bench.start(DiskOp::Sync, false);
    assert_eq!(bench.finish(write), Some(Ok(DiskOutput::Written)));
    assert_eq!(bench.finish(sync), Some(Ok(DiskOutput::Synced)));
    bench.lose_power(Survival::None);
    assert_eq!(bench.read(3), 0);
    assert_eq!(bench.hits.of(FaultKind::SectorLost), 1);
}

#[test]
fn killed_process_leaves_its_writes_visible_and_a_later_power_loss_takes_them() {
    let mut bench = Bench::new(1);
    bench.write(3, 7);
    bench.disk.process_killed(&mut bench.draw, &mut bench.hits);
    assert_eq!(bench.read(3), 7);
    bench.lose_power(Survival::None);
    assert_eq!(bench.read(3), 0);
}

#[test]
fn overwritten_unsynced_sector_may_come_back_as_any_of_its_contents() {
    let mut seen = BTreeSet::new();
    for seed in 0..60 {
        let mut bench = Bench::new(seed);
        bench.write(3, 1);
        bench.run(DiskOp::Sync).expect("it does not fail");
        bench.write(3, 2);
        bench.write(3, 3);
        bench.lose_power(Survival::Mixed);
        seen.insert(bench.read(3));
    }
    assert_eq!(seen.into_iter().collect::<Vec<_>>(), [1, 2, 3]);
}

#[test]
fn write_in_flight_at_a_crash_may_be_there_in_part() {
    let mut torn = 0;
    for seed in 0..60 {
        let mut bench = Bench::new(seed);
        let parts = vec![Bytes::from(vec![9; index(8 * SECTOR)])];
        let token = bench.start(DiskOp::Write { offset: 0, parts }, false);
        bench.lose_power(Survival::All);
        assert_eq!(bench.finish(token), None);
        torn += bench.hits.of(FaultKind::WriteTorn);
    }
    assert!(torn > 10);
}

#[test]
fn failed_sync_leaves_each_sector_durable_or_lost() {
    let mut seen = BTreeSet::new();
    for seed in 0..40 {
        let mut bench = Bench::new(seed);
        bench.write(3, 7);
        let sync = bench.start(DiskOp::Sync, true);
        assert!(matches!(bench.finish(sync), Some(Err(DiskError::Io(_)))));
        let before = bench.read(3);
        bench.lose_power(Survival::None);
        assert_eq!(bench.read(3), before);
        seen.insert(before);
    }
    assert_eq!(seen.into_iter().collect::<Vec<_>>(), [0, 7]);
}

#[test]
fn unreadable_sector_fails_until_it_is_written() {
    let mut bench = Bench::new(1);
    bench.write(3, 7);
    bench.disk.make_unreadable(3 * SECTOR);
    let read = DiskOp::Read { offset: 2 * SECTOR, len: 2 * SECTOR };
    assert!(bench.run(read).is_err());
    bench.write(3, 8);
    assert_eq!(bench.read(3), 8);
}

#[test]
#[should_panic(expected = "in flight together")]
fn two_writes_in_flight_over_one_sector_are_refused() {
    let mut bench = Bench::new(1);
    bench.start(filled(3, 1), false);
    bench.start(filled(3, 2), false);
}

#[test]
#[should_panic(expected = "behind the end")]
fn write_behind_the_end_is_refused() {
    Bench::new(1).start(filled(64, 1), false);
}

#[test]
fn damage_is_found_by_content_and_read_back() {
    let mut bench = Bench::new(1);
    bench.write(5, 0x21);
    bench.run(DiskOp::Sync).expect("it does not fail");
    assert_eq!(bench.disk.find(&[0x21; 100]), [5 * SECTOR]);
    bench.disk.flip(5 * SECTOR);
    match bench.run(DiskOp::Read { offset: 5 * SECTOR, len: SECTOR }) {
        Ok(DiskOutput::Read(bytes)) => assert_eq!(bytes[..2], [0xde, 0x21]),
        other => panic!("{other:?}"),
    }
}
