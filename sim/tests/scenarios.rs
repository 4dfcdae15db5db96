//! Named scenarios on the real machines: one fault, placed where it hurts, and the promise that
//! must hold then.

use trine_core::cluster::Geometry;
use trine_core::disk::Room;
use trine_core::storage::layout::{JOURNAL_START, SUPERBLOCK_COPIES, superblock_offset};
use trine_sim::faults::FaultKind;
use trine_sim::faults::plan::{Episode, Victim};
use trine_sim::faults::swarm::{Flavour, Latency, REPAIRS, Swarm};
use trine_sim::run::{Report, run};
use trine_sim::world::{GEOMETRY, Real, Setup, World};
use trine_sim::{MILLISECOND, Nanos, SECOND};

fn busy(duration: Nanos) -> Swarm {
    let mut swarm = Swarm::calm(duration);
    swarm.gateways = 3;
    swarm.clients = 6;
    swarm.think.high = 60 * MILLISECOND;
    swarm
}

fn episode(at: Nanos, lasts: Nanos, kind: FaultKind, victim: Victim) -> Episode {
    Episode { at, lasts, kind, victim, variant: 0 }
}

fn assert_clean(report: &Report) {
    assert_eq!(report.failure, None, "scenario with seed {:#x}", report.seed);
    assert!(report.counts.operations > 200, "only {} operations", report.counts.operations);
}

fn assert_hit(report: &Report, kind: FaultKind) {
    assert!(report.counts.hits.of(kind) > 0, "{} never happened", kind.name());
}

/// `victim` fails for most of the run; all gateways that are not part of it serve on, and nobody
/// waits longer than the world allows ([`Flavour::OneZone`]).
fn serves_on(seed: u64, mut swarm: Swarm, kind: FaultKind, victim: Victim, variant: u64) {
    swarm.flavour = Flavour::OneZone;
    let fails = episode(2 * SECOND, swarm.duration - 2 * SECOND, kind, victim);
    let plan = vec![Episode { variant, ..fails }];
    let report = run(Real, Setup { seed, swarm, plan, geometry: GEOMETRY }, None, World::run);
    assert_clean(&report);
    assert_hit(&report, kind);
}

fn one_zone_fails(kind: FaultKind) {
    for zone in 0..3 {
        // Which direction is cut is the only choice.
        let variants = if kind == FaultKind::ZoneCutOneWay { 2 } else { 1 };
        for variant in 0..variants {
            let seed = u64::from(zone) * 2 + variant;
            serves_on(seed, busy(12 * SECOND), kind, Victim::Zone(zone), variant);
        }
    }
}

/// Bodies of several chunks, of uploads too, are copied on and on while a zone is lost.
#[test]
fn copies_go_on_while_a_zone_is_gone() {
    for (seed, kind) in [(1, FaultKind::ZoneKilled), (2, FaultKind::ZoneBlackHole)] {
        let mut swarm = busy(12 * SECOND);
        (swarm.flavour, swarm.copies, swarm.body_max) = (Flavour::OneZone, true, 70_000);
        let plan = vec![episode(2 * SECOND, 8 * SECOND, kind, Victim::Zone(0))];
        let report = run(Real, Setup { seed, swarm, plan, geometry: GEOMETRY }, None, World::run);
        assert_clean(&report);
        assert_hit(&report, kind);
        let [objects, parts] = report.counts.copies_done;
        assert!(objects > 50 && parts > 3, "{objects} copies of objects, {parts} into parts");
    }
}

/// Each link between two machines (three stores, then three gateways), in both directions: 24 runs,
/// therefore short ones under less load.
fn one_link_fails(kind: FaultKind) {
    let swarm = || {
        let mut swarm = busy(7 * SECOND);
        swarm.think.high = 200 * MILLISECOND;
        swarm
    };
    for store in 0..3 {
        for other in (0..6).filter(|other| *other != store) {
            serves_on(100 + other as u64, swarm(), kind, Victim::Link(store, other), 0);
            if other >= 3 {
                serves_on(200 + other as u64, swarm(), kind, Victim::Link(other, store), 0);
            }
        }
    }
}

#[test]
fn reads_and_writes_go_on_with_a_zone_killed() {
    one_zone_fails(FaultKind::ZoneKilled);
}

#[test]
fn reads_and_writes_go_on_with_a_zone_dark() {
    one_zone_fails(FaultKind::ZonePowerLoss);
}

#[test]
fn reads_and_writes_go_on_with_a_zone_cut_off() {
    one_zone_fails(FaultKind::ZoneCut);
}

#[test]
fn reads_and_writes_go_on_with_a_zone_in_a_black_hole() {
    one_zone_fails(FaultKind::ZoneBlackHole);
}

#[test]
fn reads_and_writes_go_on_with_a_zone_gone_for_ever() {
    one_zone_fails(FaultKind::ZoneGone);
}

#[test]
fn reads_and_writes_go_on_with_a_link_in_a_black_hole() {
    one_link_fails(FaultKind::LinkBlackHole);
}

#[test]
fn reads_and_writes_go_on_with_a_link_cut_one_way() {
    one_link_fails(FaultKind::LinkCutOneWay);
}

#[test]
fn reads_and_writes_go_on_with_a_link_slow() {
    one_link_fails(FaultKind::LinkSlow);
}

#[test]
fn reads_and_writes_go_on_with_a_zone_cut_one_way() {
    one_zone_fails(FaultKind::ZoneCutOneWay);
}

#[test]
fn reads_and_writes_go_on_with_two_zones_apart() {
    one_zone_fails(FaultKind::ZonesApart);
}

#[test]
fn reads_and_writes_go_on_with_a_zone_paused() {
    one_zone_fails(FaultKind::ZonePaused);
}

#[test]
fn power_loss_in_all_zones_during_writes_loses_no_acknowledged_write() {
    for seed in 0..6 {
        let dark = |at| episode(at, 200 * MILLISECOND, FaultKind::PowerLossEverywhere, Victim::All);
        let plan = vec![dark(3 * SECOND), dark(5 * SECOND), dark(5_300 * MILLISECOND)];
        let report = run(
            Real,
            Setup { seed, swarm: busy(8 * SECOND), plan, geometry: GEOMETRY },
            None,
            World::run,
        );
        assert_clean(&report);
    }
}

#[test]
fn all_processes_killed_twenty_times_during_writes_lose_nothing() {
    let kill = |n: u64| {
        let at = SECOND + n * 700 * MILLISECOND;
        episode(at, 100 * MILLISECOND, FaultKind::StoreKilled, Victim::All)
    };
    let plan = (0..20).map(kill).collect();
    let report = run(
        Real,
        Setup { seed: 1, swarm: busy(16 * SECOND), plan, geometry: GEOMETRY },
        None,
        World::run,
    );
    assert_clean(&report);
}

/// A first voter's whole disk is emptied while nobody who could remember it runs, and it comes back
/// with the same identity before the only store that has the newest writes.
#[test]
fn an_emptied_first_voter_loses_no_acknowledged_write() {
    for (seed, [emptied, lagging, away]) in
        (0..).zip([[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]])
    {
        let of = |at, until, kind, store| {
            episode(at * MILLISECOND, (until - at) * MILLISECOND, kind, Victim::Store(store))
        };
        let mut plan = vec![
            of(3_000, 5_200, FaultKind::StoreKilled, lagging),
            of(5_000, 8_000, FaultKind::StorePowerLoss, away),
            of(5_050, 5_300, FaultKind::StoreEmptied, emptied),
        ];
        plan.sort_by_key(|episode| episode.at);
        let setup = Setup { seed, swarm: busy(12 * SECOND), plan, geometry: GEOMETRY };
        let report = run(Real, setup, None, World::run);
        assert_clean(&report);
        assert_hit(&report, FaultKind::StoreEmptied);
    }
}

/// The cluster begins when its last zone is there; a disk that is emptied before that is no loss.
#[test]
fn a_cluster_begins_with_its_last_zone_though_disks_are_emptied_meanwhile() {
    for late in 0..3 {
        let mut swarm = busy(10 * SECOND);
        swarm.late = Some((late, 3 * SECOND));
        let other = (late + 1) % 3;
        let empty = |at| {
            let (at, lasts) = (at * MILLISECOND, 100 * MILLISECOND);
            episode(at, lasts, FaultKind::StoreEmptied, Victim::Store(other))
        };
        // At last while it begins.
        let plan = vec![empty(500), empty(1_500), empty(3_002)];
        let setup = Setup { seed: late as u64, swarm, plan, geometry: GEOMETRY };
        let report = run(Real, setup, None, World::run);
        assert_clean(&report);
        assert_hit(&report, FaultKind::StoreLate);
    }
}

/// The clients read everything back, however late their bucket was made.
#[test]
fn faults_that_end_before_anything_was_served_do_not_hold_up_the_end() {
    let setup = Setup { seed: 3, swarm: busy(MILLISECOND), plan: Vec::new(), geometry: GEOMETRY };
    let report = run(Real, setup, None, World::run);
    assert_eq!(report.failure, None);
}

/// A run at whose end all copies must be there.
fn audited(seed: u64, plan: Vec<Episode>, stores_per_zone: usize) -> Report {
    let mut swarm = busy(8 * SECOND);
    swarm.redundancy = true;
    swarm.stores_per_zone = stores_per_zone;
    // So many that most objects live to the end.
    swarm.cold_keys = 200;
    run(Real, Setup { seed, swarm, plan, geometry: GEOMETRY }, None, World::run)
}

/// What a fault has cost is repaired; as long as nothing repairs, the audit must find it.
fn assert_repaired(report: &Report) {
    if REPAIRS {
        assert_clean(report);
        assert!(report.counts.redundant_after.is_some(), "nobody has looked");
    } else {
        let failure =
            report.failure.as_deref().expect("nothing repairs yet, so copies are missing");
        assert!(failure.contains("has no sound copy"), "{failure}");
    }
}

#[test]
fn without_faults_every_copy_is_there_at_the_end() {
    for stores_per_zone in 1..=3 {
        let report = audited(70, Vec::new(), stores_per_zone);
        assert_clean(&report);
        assert!(report.counts.redundant_after.is_some(), "nobody has looked");
    }
}

#[test]
fn copies_that_a_dark_zone_missed_are_there_again() {
    for stores_per_zone in 1..=3 {
        let dark = episode(SECOND, 5 * SECOND, FaultKind::ZonePowerLoss, Victim::Zone(2));
        let report = audited(71, vec![dark], stores_per_zone);
        assert_hit(&report, FaultKind::ZonePowerLoss);
        assert_repaired(&report);
    }
}

#[test]
fn copies_that_rot_are_there_again() {
    for kind in [FaultKind::ByteRotted, FaultKind::SectorRotted] {
        let rot = |n: u64| episode(7 * SECOND + n * MILLISECOND, 0, kind, Victim::Store(1));
        let report = audited(72, (0..400).map(rot).collect(), 1);
        assert_hit(&report, kind);
        assert_repaired(&report);
    }
}

/// Zones 1 ms, 80 ms and 80 ms apart, one way: same build, other times in its configuration.
#[test]
fn zones_one_and_eighty_milliseconds_apart_work_with_a_zone_dark() {
    for zone in 0..3 {
        let mut swarm = busy(12 * SECOND);
        swarm.flavour = Flavour::OneZone;
        let far = |ms| Latency { low: ms * MILLISECOND, high: ms * MILLISECOND * 5 / 4 };
        swarm.distances = Some([far(1), far(80), far(80)]);
        let fails = episode(2 * SECOND, 10 * SECOND, FaultKind::ZonePowerLoss, Victim::Zone(zone));
        let setup =
            Setup { seed: 80 + u64::from(zone), swarm, plan: vec![fails], geometry: GEOMETRY };
        let report = run(Real, setup, None, World::run);
        assert_clean(&report);
        assert_hit(&report, FaultKind::ZonesFar);
    }
}

/// Stop `store` in the middle of a busy run, damage what `choose` finds, start it, run on.
fn damage(store: usize, choose: impl Fn(&mut World<Real>, usize, &str) -> u64) {
    let mut swarm = busy(12 * SECOND);
    swarm.cold_keys = 200;
    let geometry = GEOMETRY;
    let setup = Setup { seed: 40 + store as u64, swarm, plan: Vec::new(), geometry };
    let report = run(Real, setup, None, |world| {
        world.run_until(6 * SECOND)?;
        let status = world.store_status(store);
        world.stop_store(store);
        let offset = choose(world, store, &status);
        world.disk(store).flip(offset);
        world.start_damaged_store(store);
        world.run()
    });
    assert_clean(&report);
}

/// Two numbers with two dots between them behind `name` in what a store says of itself.
fn span_of(status: &str, name: &str) -> (u64, u64) {
    let (_, rest) = status.split_once(name).unwrap_or_else(|| panic!("no {name} in {status}"));
    let numbers = rest.split(' ').next().expect("something follows");
    let (from, to) = numbers.split_once("..").expect("a span");
    let number = |text: &str| text.trim_start_matches('i').parse().expect("a number");
    (number(from), number(to))
}

/// The number or index behind `name` in what a store says of itself.
fn counter_of(status: &str, name: &str) -> u64 {
    let (_, rest) = status.split_once(name).unwrap_or_else(|| panic!("no {name} in {status}"));
    let number = rest.split(' ').next().expect("something follows");
    number.trim_start_matches('i').parse().expect("a number")
}

/// The sector of a store's journal so many eighths of the way from its tail to its head.
fn sector_of_journal(status: &str, eighths: u64) -> u64 {
    let (tail, head) = span_of(status, "journal ");
    assert!(tail > 0, "nothing was given up yet: {status}");
    let position = tail + (head - 1 - tail) * eighths / 8;
    JOURNAL_START + position % GEOMETRY.journal
}

/// The middle one of the sectors of `store` in which an object's key stands.
fn sector_with_key(world: &mut World<Real>, store: usize, place: impl Fn(u64) -> bool) -> u64 {
    let mut found = world.disk(store).find(b"hot-0");
    found.retain(|offset| place(*offset));
    assert!(!found.is_empty(), "the run has written nothing there");
    found[found.len() / 2]
}

/// Before, in or behind the checkpoint: with the first frame all is lost.
#[test]
fn damaged_journal_is_repaired_from_the_other_voters() {
    for store in 0..3 {
        for eighths in [0, 2, 4, 6, 7] {
            damage(store, |_, _, status| sector_of_journal(status, eighths) + 100);
        }
    }
}

/// The store finds that the log has gone on without what it lacks, and takes rows.
#[test]
fn a_store_that_was_away_until_its_place_in_the_log_was_gone_gets_rows() {
    for store in 0..3 {
        let mut swarm = busy(16 * SECOND);
        swarm.cold_keys = 200;
        let setup = Setup { seed: 90 + store as u64, swarm, plan: Vec::new(), geometry: GEOMETRY };
        let report = run(Real, setup, None, |world| {
            world.run_until(3 * SECOND)?;
            let (_, held) = span_of(&world.store_status(store), "log=");
            world.stop_store(store);
            world.run_until(14 * SECOND)?;
            for other in (0..3).filter(|other| *other != store) {
                let (base, _) = span_of(&world.store_status(other), "log=");
                if base <= held {
                    return Err(format!("store {other} still has what store {store} lacks"));
                }
            }
            world.start_store(store);
            world.run()
        });
        assert_clean(&report);
    }
}

/// One zone was away while the disk of another was copied and went on; when it comes back, that disk has been set back.
/// Only the third knows, and it is far away: the two must not elect before they have heard it (0xdf85e9c7).
#[test]
fn a_disk_that_was_set_back_gives_no_vote_before_those_have_spoken_who_know() {
    for seed in 0..4 {
        let setup = Setup {
            seed: 500 + seed,
            swarm: busy(10 * SECOND),
            plan: Vec::new(),
            geometry: GEOMETRY,
        };
        let report = run(Real, setup, None, |world| {
            world.run_until(2 * SECOND)?;
            world.stop_store(2);
            world.run_until(3 * SECOND)?;
            world.copy_disk(1);
            world.run_until(5_500 * MILLISECOND)?;
            let apart = FaultKind::LinkBlackHole;
            world.strike(episode(0, 510 * MILLISECOND, apart, Victim::Link(1, 2)));
            world.start_store(2);
            world.run_until(5_900 * MILLISECOND)?;
            for to in [1, 2] {
                let far = 200 * MILLISECOND;
                world.set_way(0, to, Latency { low: far, high: far + MILLISECOND });
            }
            world.run_until(6 * SECOND)?;
            world.put_copy(1);
            world.run_until(8 * SECOND)?;
            match world.last_halt(1) {
                Some(reason) if reason.contains("set back") => world.run(),
                other => Err(format!("store 1 does not say that it was set back, but {other:?}")),
            }
        });
        assert_clean(&report);
    }
}

/// A ring so short that checkpoints and superblocks are written all the time.
#[test]
fn power_loss_everywhere_while_a_short_journal_wraps_loses_nothing() {
    for seed in 0..8 {
        let dark = |n: u64| {
            let at = SECOND + n * 437 * MILLISECOND;
            episode(at, 100 * MILLISECOND, FaultKind::PowerLossEverywhere, Victim::All)
        };
        let geometry = Geometry { journal: 640 << 10, ..GEOMETRY };
        let plan = (0..20).map(dark).collect();
        let setup = Setup { seed: 100 + seed, swarm: busy(11 * SECOND), plan, geometry };
        let report = run(Real, setup, None, World::run);
        assert_eq!(report.failure, None, "seed {seed}");
        assert!(report.counts.journal_rounds >= 3, "{} rounds", report.counts.journal_rounds);
    }
}

/// Its entries are not committed for it, and chunks go on coming: their records fill the ring many times.
/// In every other run the process is killed again and again meanwhile.
#[test]
fn a_store_that_is_cut_from_its_leader_takes_chunks_all_the_time() {
    for seed in 0..6 {
        let mut swarm = busy(12 * SECOND);
        swarm.body_max = 70_000;
        swarm.flavour = Flavour::OneZone;
        swarm.gateways = 3;
        let setup = Setup { seed: 120 + seed, swarm, plan: Vec::new(), geometry: GEOMETRY };
        let report = run(Real, setup, None, |world| {
            world.run_until(2 * SECOND)?;
            let leader = world.leader().ok_or("nobody leads")?.store;
            // Each zone is the victim together with the one behind it.
            let (victim, cut) = match seed % 2 {
                0 => (leader, (leader + 1) % 3),
                _ => ((leader + 2) % 3, (leader + 2) % 3),
            };
            let waits = |status: &str| span_of(status, "log=").1 > counter_of(status, "commit=");
            while !waits(&world.store_status(cut)) {
                world.run_until(world.now() + MILLISECOND)?;
            }
            let zone = Victim::Zone(u8::try_from(victim).expect("it is below 3"));
            world.strike(episode(0, 8 * SECOND, FaultKind::ZonesApart, zone));
            let mut written_again = 0;
            for step in 1..=30 {
                world.run_until(world.now() + 250 * MILLISECOND)?;
                written_again += counter_of(&world.store_status(cut), "again=");
                if seed >= 3 && step % 4 == 0 {
                    world.stop_store(cut);
                    world.start_store(cut);
                }
            }
            if seed < 3 && written_again == 0 {
                return Err(format!("nothing was written again: {}", world.store_status(cut)));
            }
            world.run()
        });
        assert_clean(&report);
        assert!(report.counts.journal_rounds >= 6, "{} rounds", report.counts.journal_rounds);
    }
}

#[test]
fn damaged_superblock_copy_is_outvoted_by_another() {
    for store in 0..3 {
        damage(store, |world, store, _| {
            world.disk(store).written().next().expect("it is formatted") + 8
        });
    }
}

#[test]
fn store_without_any_superblock_refuses_to_start_while_the_others_serve() {
    let mut swarm = busy(10 * SECOND);
    swarm.cold_keys = 200;
    let setup = Setup { seed: 50, swarm, plan: Vec::new(), geometry: GEOMETRY };
    let report = run(Real, setup, None, |world| {
        world.run_until(4 * SECOND)?;
        world.stop_store(0);
        for copy in 0..SUPERBLOCK_COPIES {
            world.disk(0).flip(superblock_offset(copy) + 8);
        }
        world.start_damaged_store(0);
        world.run_until(4_100 * MILLISECOND)?;
        let refusal = world.last_halt(0).ok_or("store 0 started without a superblock")?;
        if !refusal.contains("superblock") {
            return Err(format!("the refusal says too little: {refusal}"));
        }
        let served = world.counts().served;
        world.run_until(9 * SECOND)?;
        let more = world.counts().served - served;
        if more < 200 {
            Err(format!("only {more} requests were served without it"))
        } else {
            Ok(())
        }
    });
    assert_clean(&report);
}

#[test]
fn damaged_tree_block_ends_in_recovery() {
    let end = JOURNAL_START + GEOMETRY.journal;
    damage(1, |world, store, _| sector_with_key(world, store, |offset| offset >= end) + 100);
}

#[test]
fn damaged_chunk_is_served_from_another_zone() {
    for store in 0..3 {
        damage(store, |world, store, _| {
            let workload = world.workload();
            let bodies: Vec<_> = (0..workload.values())
                .filter_map(|value| workload.body_of(value))
                .filter(|body| body.len() > 8_192)
                .map(|body| body.slice(4_200..4_264))
                .collect();
            let disk = world.disk(store);
            // The newest are likely to be current still.
            let found = bodies.iter().rev().find_map(|body| disk.find(body).first().copied());
            found.expect("some large body is on the disk") + 200
        });
    }
}

/// Clients write until nothing more fits; then they are told so, and go on reading and deleting.
fn filled(geometry: Geometry) {
    let mut swarm = busy(20 * SECOND);
    swarm.body_max = 70_000;
    swarm.cold_keys = 200;
    let report = run(Real, Setup { seed: 60, swarm, plan: Vec::new(), geometry }, None, |world| {
        let before = until_full(world, 14 * SECOND)?;
        let (served, deleted) = (world.counts().served, world.counts().deletes_done);
        world.run_until(before + 4 * SECOND)?;
        let more = world.counts().served - served;
        if more < 100 {
            return Err(format!("only {more} requests were served when full"));
        }
        let deleted = world.counts().deletes_done - deleted;
        if deleted < 10 {
            let refused = world.counts().deletes_refused;
            return Err(format!("only {deleted} deletes were done when full, {refused} refused"));
        }
        world.run()
    });
    assert_clean(&report);
}

#[test]
fn a_journal_many_times_shorter_than_what_is_written_refuses_nothing() {
    let geometry = Geometry { journal: 640 << 10, ..GEOMETRY };
    let mut swarm = busy(20 * SECOND);
    swarm.cold_keys = 200;
    let setup = Setup { seed: 60, swarm, plan: Vec::new(), geometry };
    let report = run(Real, setup, None, World::run);
    assert_clean(&report);
    assert_eq!(report.counts.refused_full, 0);
    assert!(report.counts.journal_rounds >= 9, "{} rounds", report.counts.journal_rounds);
}

/// Run until writes are refused; the time then.
fn until_full(world: &mut World<Real>, latest: Nanos) -> Result<Nanos, String> {
    let mut at = SECOND;
    while world.counts().refused_full < 3 {
        if at > latest {
            return Err(format!("nothing is full:\n{}", world.status().join("\n")));
        }
        world.run_until(at)?;
        at += 100 * MILLISECOND;
    }
    Ok(at)
}

#[test]
fn full_disk_refuses_writes_and_serves_reads_and_deletes() {
    let segments = 40 * GEOMETRY.segment;
    let capacity = JOURNAL_START + GEOMETRY.journal + segments;
    filled(Geometry { capacity, ..GEOMETRY });
}

/// The disk of one zone is smaller than the others: it fills up, and nobody is refused anything. If
/// its store led, it hands over.
#[test]
fn one_full_zone_refuses_nothing() {
    for zone in 0..3 {
        let mut swarm = busy(14 * SECOND);
        swarm.body_max = 70_000;
        // So many that hardly any is overwritten: space of those comes back.
        swarm.cold_keys = 1500;
        // The full zone can never have all copies.
        swarm.redundancy = false;
        let store = usize::try_from(zone).expect("a small number");
        let capacity = JOURNAL_START + GEOMETRY.journal + 40 * GEOMETRY.segment;
        swarm.small_disk = Some((store, capacity));
        let setup = Setup { seed: 70 + zone, swarm, plan: Vec::new(), geometry: GEOMETRY };
        let report = run(Real, setup, None, |world| {
            // What is deleted gives room again, so that it may not be full at any one moment.
            let mut was_full = false;
            for at in (1..=130).map(|turn| turn * 100 * MILLISECOND) {
                world.run_until(at)?;
                was_full |= world.room(store).is_some_and(|room| room < Room::Data);
            }
            let counts = world.counts();
            if counts.refused_full > 0 {
                return Err(format!("{} requests were refused", counts.refused_full));
            }
            if !was_full {
                return Err(format!("the disk was never full: {}", world.store_status(store)));
            }
            let puts = counts.puts_done;
            if puts < 100 {
                return Err(format!("only {puts} puts were done"));
            }
            world.run()
        });
        assert_clean(&report);
    }
}

/// A store is added, or drained: at once, whatever the episode's end says.
fn moves(at: Nanos, kind: FaultKind, store: usize) -> Episode {
    Episode { variant: 1, ..episode(at, SECOND, kind, Victim::Store(store)) }
}

/// One store in each zone at first, and one that can be added.
fn growing(duration: Nanos) -> Swarm {
    let mut swarm = busy(duration);
    (swarm.spares, swarm.cold_keys, swarm.body_max) = (3, 60, 70_000);
    swarm
}

/// So many stores were added and drained; all copies were in their places in the end, and the map proven.
fn assert_moved(report: &Report, added: u64, drained: u64) {
    assert_clean(report);
    let of = |kind| report.counts.hits.of(kind);
    assert_eq!((of(FaultKind::StoreAdded), of(FaultKind::StoreDrained)), (added, drained));
    assert!(report.counts.redundant_after.is_some() && report.counts.proven_after.is_some());
}

#[test]
fn a_store_is_added_to_each_zone_in_turn_under_load() {
    for seed in 0..3 {
        let add = |n: usize| moves((2 + 3 * n as u64) * SECOND, FaultKind::StoreAdded, 3 + n);
        let plan = (0..3).map(add).collect();
        let swarm = growing(12 * SECOND);
        let report = run(Real, Setup { seed, swarm, plan, geometry: GEOMETRY }, None, World::run);
        assert_moved(&report, 3, 0);
    }
}

/// All at once, so that no zone's present owner has a chunk; and each first store is drained at once,
/// so that all chunks of all zones move.
#[test]
fn all_data_of_all_zones_moves_at_once_under_load() {
    for seed in 0..3 {
        let add = |n: usize| moves((4_000 + n as u64) * MILLISECOND, FaultKind::StoreAdded, 3 + n);
        let drain = |n: usize| moves((4_010 + n as u64) * MILLISECOND, FaultKind::StoreDrained, n);
        let plan = (0..3).map(add).chain((0..3).map(drain)).collect();
        let swarm = growing(12 * SECOND);
        let report = run(Real, Setup { seed, swarm, plan, geometry: GEOMETRY }, None, World::run);
        assert_moved(&report, 3, 3);
    }
}

/// Two stores in each zone, of which the second ones, that do not vote, soon have everything. They are
/// drained, and the third ones that come go away again and again before they have got anything: as long as
/// they have not compared with the former owners, the move is not over. The world takes drained stores
/// away when it is.
#[test]
fn former_owners_count_until_the_new_ones_have_everything() {
    for seed in 0..3 {
        let add = |n: usize| moves((8_000 + n as u64) * MILLISECOND, FaultKind::StoreAdded, 6 + n);
        let drain =
            |at: u64, n: usize| moves((at + n as u64) * MILLISECOND, FaultKind::StoreDrained, n);
        // Each stays away for a while, but for the moments between two kills.
        let kill = |n: usize, k: u64| {
            let at = (8_050 + n as u64 + k * 550) * MILLISECOND;
            episode(at, 500 * MILLISECOND, FaultKind::StoreKilled, Victim::Store(6 + n))
        };
        let mut plan: Vec<Episode> =
            (0..3).map(|n| drain(1_500, n)).chain((0..3).map(add)).collect();
        plan.extend((3..6).map(|n| drain(8_100, n)));
        plan.extend((0..3).flat_map(|n| (0..11).map(move |k| kill(n, k))));
        plan.sort_by_key(|episode| episode.at);
        let mut swarm = growing(14 * SECOND);
        swarm.stores_per_zone = 2;
        let report = run(Real, Setup { seed, swarm, plan, geometry: GEOMETRY }, None, World::run);
        assert_moved(&report, 3, 6);
    }
}

#[test]
fn a_store_is_drained_under_load() {
    for (seed, store) in (0..).zip(0..3) {
        let mut swarm = growing(9 * SECOND);
        (swarm.spares, swarm.stores_per_zone) = (0, 2);
        let plan = vec![moves(3 * SECOND, FaultKind::StoreDrained, store)];
        let report = run(Real, Setup { seed, swarm, plan, geometry: GEOMETRY }, None, World::run);
        assert_moved(&report, 0, 1);
    }
}

/// Each zone dies while data of one moves, whichever of them it is: right after the change, when its new
/// owners have little or nothing. All is read on, and the move ends when the zone is back.
#[test]
fn a_zone_dies_while_data_moves() {
    for grows in 0..3 {
        for dies in 0..3_u8 {
            let mut swarm = growing(10 * SECOND);
            swarm.flavour = Flavour::Mixed;
            let plan = vec![
                moves(3_000 * MILLISECOND, FaultKind::StoreAdded, 3 + grows),
                moves(3_050 * MILLISECOND, FaultKind::StoreDrained, grows),
                episode(
                    3_100 * MILLISECOND,
                    4 * SECOND,
                    FaultKind::ZonePowerLoss,
                    Victim::Zone(dies),
                ),
            ];
            let seed = grows as u64 * 3 + u64::from(dies);
            let setup = Setup { seed, swarm, plan, geometry: GEOMETRY };
            let report = run(Real, setup, None, World::run);
            assert_moved(&report, 1, 1);
            assert_hit(&report, FaultKind::ZonePowerLoss);
        }
    }
}

/// A former owner is lost for ever while what it had moves, and its place filled anew: the other zones
/// have all of it, and the proof waits for nobody who is gone.
#[test]
fn a_former_owner_is_replaced_while_data_moves() {
    for zone in 0..3 {
        let mut swarm = growing(12 * SECOND);
        swarm.weak_zone = u8::try_from(zone).expect("there are three zones");
        let plan = vec![
            moves(3_000 * MILLISECOND, FaultKind::StoreAdded, 3 + zone),
            moves(3_050 * MILLISECOND, FaultKind::StoreDrained, zone),
            episode(3_100 * MILLISECOND, SECOND, FaultKind::StoreWiped, Victim::Store(zone)),
        ];
        let setup = Setup { seed: zone as u64, swarm, plan, geometry: GEOMETRY };
        let report = run(Real, setup, None, World::run);
        assert_moved(&report, 1, 1);
        assert_hit(&report, FaultKind::StoreWiped);
    }
}
