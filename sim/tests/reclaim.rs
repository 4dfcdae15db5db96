//! Named scenarios of reclaiming on the real machines: what holds freeing up or races it. In every run the
//! auditor sees that nothing is freed that is read or alive, and that nothing dead is left at the end.

use trine_sim::faults::FaultKind;
use trine_sim::faults::plan::{Episode, Victim};
use trine_sim::faults::swarm::{Frequency, Swarm};
use trine_sim::run::{Report, run};
use trine_sim::world::{GEOMETRY, Real, Setup, World};
use trine_sim::{MILLISECOND, Nanos, SECOND};

/// Few keys that are written, copied, read and deleted again and again, with bodies of some chunks.
fn churn(duration: Nanos) -> Swarm {
    let mut swarm = Swarm::calm(duration);
    (swarm.gateways, swarm.clients) = (3, 6);
    (swarm.hot_keys, swarm.cold_keys, swarm.body_max) = (3, 6, 70_000);
    (swarm.copies, swarm.redundancy) = (true, true);
    swarm.think.high = 60 * MILLISECOND;
    swarm
}

fn episodes(kind: FaultKind, victims: &[Victim], lasts: Nanos, every: Nanos) -> Vec<Episode> {
    let turns = (1..).map(|turn| turn * every).take_while(|at| *at < 6 * SECOND);
    let episode = |(at, victim): (Nanos, &Victim)| {
        let victim = *victim;
        Episode { at, lasts, kind, victim, variant: 0 }
    };
    turns.zip(victims.iter().cycle()).map(episode).collect()
}

fn reclaims(seed: u64, swarm: Swarm, plan: Vec<Episode>, freed_min: u64) -> Report {
    let report = run(Real, Setup { seed, swarm, plan, geometry: GEOMETRY }, None, World::run);
    assert_eq!(report.failure, None, "scenario with seed {:#x}", report.seed);
    assert!(report.counts.clean_after.is_some(), "nobody has looked");
    let freed = report.counts.chunks_freed;
    assert!(freed >= freed_min, "only {freed} chunks were freed");
    report
}

#[test]
fn without_faults_what_is_overwritten_and_deleted_is_freed() {
    for stores_per_zone in 1..=3 {
        let mut swarm = churn(6 * SECOND);
        swarm.stores_per_zone = stores_per_zone;
        let report = reclaims(1, swarm, Vec::new(), 100);
        let [objects, parts] = report.counts.copies_done;
        assert!(objects > 20, "copies race deletes: {objects} of objects, {parts} into parts");
    }
}

/// Their sessions stand, or are fenced with reads and commits in flight, which go on when they wake.
#[test]
fn gateways_are_paused_with_reads_and_commits_under_way() {
    for (seed, lasts) in [(2, SECOND), (3, 6 * SECOND)] {
        let victims = [Victim::Gateway(0), Victim::Gateway(1), Victim::Gateway(2)];
        let plan = episodes(FaultKind::GatewayPaused, &victims, lasts, 2 * SECOND);
        reclaims(seed, churn(7 * SECOND), plan, 50);
    }
}

#[test]
fn gateways_are_killed_in_the_middle_of_puts_and_copies() {
    let victims = [Victim::Gateway(0), Victim::Gateway(1), Victim::Gateway(2)];
    for seed in 5..7 {
        let plan =
            episodes(FaultKind::GatewayKilled, &victims, 200 * MILLISECOND, 700 * MILLISECOND);
        reclaims(seed, churn(7 * SECOND), plan, 50);
    }
}

/// Readers that stand still hold what they read, and nothing else.
#[test]
fn clients_go_away_and_stand_still() {
    let mut swarm = churn(7 * SECOND);
    swarm.set(FaultKind::ClientStalled, Frequency::Often);
    swarm.set(FaultKind::ClientCancelled, Frequency::Often);
    let report = reclaims(8, swarm, Vec::new(), 50);
    for kind in [FaultKind::ClientStalled, FaultKind::ClientCancelled] {
        assert!(report.counts.hits.of(kind) > 0, "{} never happened", kind.name());
    }
}

/// It comes back with all that was freed without it.
#[test]
fn a_zone_is_away_while_objects_are_deleted() {
    for (seed, kind) in [
        (9, FaultKind::ZoneCut),
        (10, FaultKind::ZonePowerLoss),
        (11, FaultKind::ZonePaused),
        (12, FaultKind::ZoneBlackHole),
    ] {
        let (at, lasts, victim) = (SECOND, 5 * SECOND, Victim::Zone(2));
        let plan = vec![Episode { at, lasts, kind, victim, variant: 0 }];
        reclaims(seed, churn(7 * SECOND), plan, 50);
    }
}

/// Requests and answers are lost and come twice.
#[test]
fn replies_are_lost_and_doubled() {
    let mut swarm = churn(7 * SECOND);
    for kind in [FaultKind::MessageLost, FaultKind::MessageDoubled, FaultKind::MessageOvertaken] {
        swarm.set(kind, Frequency::Often);
    }
    let report = reclaims(13, swarm, Vec::new(), 50);
    assert!(report.counts.hits.of(FaultKind::MessageLost) > 0);
}

/// Repair copies what others are freeing.
#[test]
fn stores_are_wiped_and_replaced_while_objects_are_deleted() {
    let victims = [Victim::Store(0), Victim::Store(1), Victim::Store(2)];
    let plan = episodes(FaultKind::StoreWiped, &victims[..2], 500 * MILLISECOND, 4 * SECOND);
    reclaims(14, churn(7 * SECOND), plan, 50);
}

/// All first voters are drained, then all machines lose power at once: every store and gateway that starts
/// again knows the first voters from its configuration, and none of those votes any more. They have written out no
/// table yet, so that they do not know what of their logs counts, nor who votes.
#[test]
fn all_votes_move_and_everybody_starts_again() {
    for seed in 10..18 {
        let mut swarm = Swarm::calm(8 * SECOND);
        (swarm.stores_per_zone, swarm.weak_zone, swarm.clients) = (3, 1, 2);
        (swarm.think.low, swarm.think.high) = (100 * MILLISECOND, 400 * MILLISECOND);
        (swarm.body_max, swarm.redundancy) = (2_000, true);
        let drain = |store: usize| Episode {
            at: SECOND + store as u64 * 100 * MILLISECOND,
            lasts: SECOND,
            kind: FaultKind::StoreDrained,
            victim: Victim::Store(store),
            variant: 1,
        };
        let mut plan: Vec<_> = (0..3).map(drain).collect();
        let (at, lasts, victim) = (4 * SECOND, SECOND, Victim::All);
        plan.push(Episode {
            at,
            lasts,
            kind: FaultKind::PowerLossEverywhere,
            victim,
            variant: seed,
        });
        let report = reclaims(seed, swarm, plan, 0);
        assert_eq!(report.counts.hits.of(FaultKind::StoreDrained), 3, "seed {seed}");
    }
}
