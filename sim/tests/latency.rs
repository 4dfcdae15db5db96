//! Leaders and distance: how long the range is without a leader, that zones at any distance elect and
//! keep one, that a slow one hands over, and that partial cuts make nobody flap.
//!
//! Each claim is tried a few times only, to be quick. The figures of `docs/simulator.md` come from
//! `cargo test --release -p trine-sim --test latency -- --ignored --nocapture`, which tries more often.

use trine_sim::faults::FaultKind;
use trine_sim::faults::plan::{Episode, Victim};
use trine_sim::faults::swarm::{Flavour, Latency, Swarm};
use trine_sim::run::{Report, run};
use trine_sim::world::{GEOMETRY, Leader, Real, Setup, World};
use trine_sim::{MILLISECOND, Nanos, SECOND};

/// By then a new cluster has its first leader, at any distance.
const FIRST_ELECTION_MAX: Nanos = 15 * SECOND;
/// After this long round trips are known.
const SETTLED: Nanos = 3 * SECOND;

/// One-way latencies in ms between zones 0 and 1, 0 and 2, 1 and 2; a tenth of jitter comes on top.
type Distances = [u64; 3];

const NEAR: Distances = [1, 1, 1];
const DISTANCES: [Distances; 7] =
    [NEAR, [20, 20, 20], [80, 80, 80], [150, 150, 150], [1, 80, 80], [2, 20, 150], [150, 1, 150]];

fn exactly(millis: u64) -> Latency {
    let low = millis * MILLISECOND;
    Latency { low, high: low + low / 10 }
}

/// Seeds of each claim: few, since each run is long. Raise it to look harder.
const SEEDS: u64 = 1;

fn swarm(distances: Distances, duration: Nanos) -> Swarm {
    let mut swarm = Swarm::calm(duration);
    swarm.distances = Some(distances.map(exactly));
    swarm.gateways = 4;
    swarm.clients = 4;
    swarm
}

/// Run a scenario, then heal everything and judge all that clients saw.
fn scenario(
    seed: u64,
    swarm: Swarm,
    drive: impl FnOnce(&mut World<Real>) -> Result<(), String>,
) -> Report {
    let setup = Setup { seed, swarm, plan: Vec::new(), geometry: GEOMETRY };
    let report = run(Real, setup, None, |world| {
        time_until(world, FIRST_ELECTION_MAX, |world| world.leader().is_some())?;
        world.run_until(world.now() + SETTLED)?;
        drive(world)?;
        world.run()
    });
    assert_eq!(report.failure, None, "seed {seed:#x}");
    report
}

fn leader(world: &World<Real>) -> Result<Leader, String> {
    world.leader().ok_or_else(|| format!("nobody leads:\n{}", world.status().join("\n")))
}

fn strike(world: &mut World<Real>, kind: FaultKind, victim: Victim, variant: u64, lasts: Nanos) {
    world.strike(Episode { at: 0, lasts, kind, victim, variant });
}

/// How long it takes until `done` holds, to a millisecond.
fn time_until(
    world: &mut World<Real>,
    within: Nanos,
    done: impl Fn(&World<Real>) -> bool,
) -> Result<Nanos, String> {
    let begun = world.now();
    while !done(world) {
        if world.now() > begun + within {
            return Err(format!(
                "not within {} ms:\n{}",
                within / MILLISECOND,
                world.status().join("\n")
            ));
        }
        let before = world.now();
        world.run_until(before + MILLISECOND)?;
        if world.now() == before {
            return Err("the run is over".to_owned());
        }
    }
    Ok(world.now() - begun)
}

/// `for_long` passes, and the leader stays.
fn stays(world: &mut World<Real>, leader: Leader, for_long: Nanos) -> Result<(), String> {
    let end = world.now() + for_long;
    while world.now() < end {
        world.run_until(world.now() + 5 * MILLISECOND)?;
        if world.leader() != Some(leader) {
            return Err(format!(
                "{leader:?} did not stay, now {:?}:\n{}",
                world.leader(),
                world.status().join("\n")
            ));
        }
    }
    Ok(())
}

/// The gaps between the end of a leader and the beginning of the next, over some seeds, in ms,
/// ascending. `kind` strikes whoever leads.
fn gaps(distances: Distances, kind: FaultKind, seeds: u64, within: Nanos) -> Vec<Nanos> {
    let mut gaps = Vec::new();
    for seed in 0..seeds {
        // Four times the fault, each with what it may take and a rest.
        let rest = 3_500 * MILLISECOND;
        let duration = FIRST_ELECTION_MAX + SETTLED + 4 * (within.min(3 * SECOND) + rest);
        scenario(seed, swarm(distances, duration), |world| {
            for _ in 0..4 {
                let old = leader(world)?;
                strike(world, kind, Victim::Store(old.store), 1, 2 * SECOND);
                let replaced = |world: &World<Real>| {
                    world.leader().is_some_and(|new| new.store != old.store && new.term > old.term)
                };
                gaps.push(time_until(world, within, replaced)? / MILLISECOND);
                world.run_until(world.now() + rest)?;
            }
            Ok(())
        });
    }
    gaps.sort_unstable();
    let at = |part: usize| gaps[(gaps.len() - 1) * part / 100];
    println!(
        "{:>14}  {:>18}  n={:<3} median {:>4}  90 % {:>4}  worst {:>4} ms",
        format!("{distances:?}"),
        kind.name(),
        gaps.len(),
        at(50),
        at(90),
        at(100)
    );
    gaps
}

#[test]
fn leader_that_is_killed_is_replaced_within_some_tens_of_ms() {
    let gaps = gaps(NEAR, FaultKind::StoreKilled, 1, SECOND);
    assert!(gaps[gaps.len() / 2] <= 40, "{gaps:?}");
    assert!(gaps[gaps.len() - 1] <= 200, "{gaps:?}");
}

#[test]
fn leader_that_dies_silently_is_replaced_within_a_third_of_a_second() {
    for kind in [FaultKind::StorePowerLoss, FaultKind::StorePaused] {
        let gaps = gaps(NEAR, kind, 1, SECOND);
        assert!(gaps[gaps.len() / 2] <= 300, "{gaps:?}");
        assert!(gaps[gaps.len() - 1] <= 700, "{gaps:?}");
    }
}

#[test]
fn far_zones_replace_a_leader_within_some_round_trips() {
    for distances in &[[80, 80, 80], [150, 1, 150]] {
        let longest = *distances.iter().max().expect("there are three");
        for kind in [FaultKind::StoreKilled, FaultKind::StorePowerLoss] {
            // Each try takes at most two timeouts of 4 round trips and the votes' two, 1.3 for jitter.
            let one_try = (2 * 4 + 2) * 2 * longest * 13 / 10 + 400;
            let gaps = gaps(*distances, kind, 1, 6 * one_try * MILLISECOND);
            assert!(gaps[gaps.len() / 2] <= one_try, "{gaps:?}");
        }
    }
}

/// The table of `docs/simulator.md`.
#[test]
#[ignore = "prints figures; the tests above hold their bounds"]
fn table_of_gaps() {
    let near = [FaultKind::StoreKilled, FaultKind::StorePowerLoss, FaultKind::StorePaused];
    for kind in near {
        gaps(NEAR, kind, 5, SECOND);
    }
    for distances in [[20, 20, 20], [80, 80, 80], [1, 80, 80], [150, 1, 150]] {
        for kind in [FaultKind::StoreKilled, FaultKind::StorePowerLoss] {
            gaps(distances, kind, 2, 20 * SECOND);
        }
    }
}

#[test]
fn nobody_is_unseated_at_any_distance_while_all_is_well() {
    for (seed, distances) in (0..).zip(DISTANCES) {
        scenario(seed, swarm(distances, 12 * SECOND), |world| {
            let leader = leader(world)?;
            stays(world, leader, 6 * SECOND)
        });
    }
}

#[test]
fn nobody_is_unseated_on_asymmetric_ways() {
    for seed in 0..SEEDS {
        scenario(seed, swarm(NEAR, 20 * SECOND), |world| {
            for (from, to, millis) in
                [(0, 1, 150), (1, 0, 5), (0, 2, 1), (2, 0, 80), (1, 2, 40), (2, 1, 1)]
            {
                world.set_way(from, to, exactly(millis));
            }
            world.run_until(10 * SECOND)?;
            let leader = leader(world)?;
            stays(world, leader, 9 * SECOND)
        });
    }
}

#[test]
fn nobody_is_unseated_by_jitter() {
    for seed in 0..SEEDS {
        let mut swarm = swarm(NEAR, 16 * SECOND);
        // Most messages are quick, some take many times as long.
        swarm.distances = Some([Latency { low: 2 * MILLISECOND, high: 100 * MILLISECOND }; 3]);
        scenario(seed, swarm, |world| {
            let leader = leader(world)?;
            stays(world, leader, 10 * SECOND)
        });
    }
}

// Measured distances follow by at most doubling with each answer, so that a pause is not taken for
// distance: from 1 to 150 ms they need some ten answers, and elections cannot succeed meanwhile.
#[test]
fn timeouts_follow_distances_that_change_in_the_middle() {
    for (seed, clients) in [(0, 2), (1, 4)] {
        let mut swarm = swarm(NEAR, 50 * SECOND);
        swarm.clients = clients;
        scenario(seed, swarm, |world| {
            for millis in [80, 1, 150, 1] {
                for (from, to) in [(0, 1), (1, 0), (0, 2), (2, 0), (1, 2), (2, 1)] {
                    world.set_way(from, to, exactly(millis));
                }
                let changed_at = world.now();
                let (mut unrest_at, mut last) = (changed_at, world.leader());
                while world.now() < changed_at + 10 * SECOND {
                    world.run_until(world.now() + 50 * MILLISECOND)?;
                    let leader = world.leader();
                    if leader.is_none() || leader != last {
                        (unrest_at, last) = (world.now(), leader);
                    }
                }
                let settled_after = unrest_at - changed_at;
                println!("{millis} ms: settled after {} ms", settled_after / MILLISECOND);
                if settled_after > 8 * SECOND {
                    return Err(format!("{millis} ms: no rest after {settled_after} ns"));
                }
            }
            Ok(())
        });
    }
}

#[test]
fn leader_with_a_slow_or_hung_disk_hands_over_and_is_not_given_back() {
    // A hundred times slower; and so slow that no sync ends while the test looks.
    for (variant, sync) in [(2, MILLISECOND), (4, 20 * MILLISECOND)] {
        let mut times = Vec::new();
        for seed in 0..SEEDS {
            let mut swarm = swarm(NEAR, 14 * SECOND);
            swarm.disk_sync = Latency { low: sync, high: sync + sync / 2 };
            scenario(seed, swarm, |world| {
                let old = leader(world)?;
                let victim = Victim::Store(old.store);
                strike(world, FaultKind::DiskSlow, victim, variant, 6 * SECOND);
                let replaced =
                    |world: &World<Real>| world.leader().is_some_and(|new| new.store != old.store);
                times.push(time_until(world, 3 * SECOND, replaced)? / MILLISECOND);
                let new = leader(world)?;
                stays(world, new, 8 * SECOND)
            });
        }
        times.sort_unstable();
        println!("disk slow, variant {variant}: handed over after {times:?} ms");
    }
}

#[test]
fn leader_does_not_hand_over_when_all_disks_are_slow() {
    for seed in 0..SEEDS {
        scenario(seed, swarm(NEAR, 11 * SECOND), |world| {
            let leader = leader(world)?;
            for store in 0..3 {
                strike(world, FaultKind::DiskSlow, Victim::Store(store), 2, 6 * SECOND);
            }
            stays(world, leader, 6 * SECOND)
        });
    }
}

#[test]
fn nobody_flaps_and_all_gateways_serve_while_two_zones_are_cut_from_each_other() {
    // The leader's zone is cut from the next one, or the one before from the leader's, or it is the bridge.
    for offset in 0..3_u8 {
        for seed in 0..SEEDS {
            let mut swarm = swarm(NEAR, 11 * SECOND);
            swarm.flavour = Flavour::OneZone;
            let report = scenario(seed, swarm, |world| {
                let leader = leader(world)?;
                let zone = u8::try_from(leader.store).expect("it is below 3");
                let victim = Victim::Zone((zone + offset) % 3);
                strike(world, FaultKind::ZonesApart, victim, 1, 7 * SECOND);
                let served = world.counts().served;
                stays(world, leader, 6 * SECOND)?;
                let more = world.counts().served - served;
                if more < 200 {
                    return Err(format!("only {more} requests were served"));
                }
                Ok(())
            });
            println!(
                "zones apart ({offset}): longest request {} ms",
                report.counts.gap_max / MILLISECOND
            );
        }
    }
}

#[test]
fn leader_that_hears_nobody_steps_down_before_it_misleads_anyone_for_long() {
    for seed in 0..SEEDS {
        scenario(seed, swarm(NEAR, 13 * SECOND), |world| {
            let old = leader(world)?;
            strike(world, FaultKind::StorePaused, Victim::Store(old.store), 1, 3 * SECOND);
            world.run_until(world.now() + 3 * SECOND)?;
            let new = leader(world)?;
            if new.store == old.store {
                return Err("nobody took over from a paused leader".to_owned());
            }
            // The old one wakes up, and does not disturb the new one.
            stays(world, new, 6 * SECOND)
        });
    }
}
