//! The schedule of the big faults of a run, drawn before it begins.
//!
//! What makes a run recoverable: zones fail for long only one after another, never two at a time;
//! crashes may strike anywhere, for they lose nothing that was synced; what lasts for ever (a zone
//! that is gone, rot) strikes one zone of a run only, the weak one ([`Swarm::weak_zone`]): whatever
//! was acknowledged has a good copy elsewhere. [`Episode`]s of zones do not overlap, short faults of
//! single machines fall where they will.

use super::FaultKind;
use super::swarm::{FOCUSED, Flavour, Frequency, NEWEST, Swarm};
use crate::random::Draw;
use crate::{MILLISECOND, Nanos, SECOND};

/// Which part of the world a fault strikes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Victim {
    /// A zone, 0 to 2.
    Zone(u8),
    /// A store, by its place among the stores.
    Store(usize),
    /// A gateway, by its place among the gateways.
    Gateway(usize),
    /// The link from a machine to another: stores come first, then gateways.
    Link(usize, usize),
    /// Everything.
    All,
}

/// A fault that begins and, after a while, ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Episode {
    /// When it begins, from the start of the run.
    pub at: Nanos,
    /// How long it lasts; a crash: until the restart. Nothing for what is there at once for good.
    pub lasts: Nanos,
    /// What happens.
    pub kind: FaultKind,
    /// To whom.
    pub victim: Victim,
    /// Chooses among variants: which direction is cut, what a power loss keeps.
    pub variant: u64,
}

const ZONE_KINDS: [FaultKind; 8] = [
    FaultKind::ZoneCut,
    FaultKind::ZoneBlackHole,
    FaultKind::ZoneCutOneWay,
    FaultKind::ZonesApart,
    FaultKind::ZoneSlow,
    FaultKind::ZoneKilled,
    FaultKind::ZonePowerLoss,
    FaultKind::ZonePaused,
];

const MACHINE_KINDS: [FaultKind; 21] = [
    FaultKind::LinkReset,
    FaultKind::LinkBlackHole,
    FaultKind::LinkCutOneWay,
    FaultKind::LinkSlow,
    FaultKind::StoreCut,
    FaultKind::GatewayCut,
    FaultKind::StoreKilled,
    FaultKind::StorePowerLoss,
    FaultKind::PowerLossEverywhere,
    FaultKind::RestartStorm,
    FaultKind::StorePaused,
    FaultKind::GatewayKilled,
    FaultKind::GatewayPaused,
    FaultKind::DiskSlow,
    FaultKind::ByteRotted,
    FaultKind::SectorRotted,
    FaultKind::StoreWiped,
    FaultKind::StoreEmptied,
    FaultKind::StoreAdded,
    FaultKind::StoreDrained,
    FaultKind::JournalRotted,
];

/// The schedule of `seed`, in order of time.
pub fn draw(seed: u64, swarm: &Swarm, stores: usize, gateways: usize) -> Vec<Episode> {
    let mut draw = Draw::new(seed, 2);
    let mut episodes = match swarm.flavour {
        Flavour::OneZone => one_long_episode(&mut draw, swarm),
        Flavour::Mixed => zones_one_after_another(&mut draw, swarm),
    };
    for kind in [FaultKind::ZoneGone, FaultKind::ZoneReplaced] {
        if swarm.flavour == Flavour::Mixed && swarm.knob(kind) != Frequency::Off {
            let (at, victim) =
                (draw.between(SECOND, swarm.duration), Victim::Zone(swarm.weak_zone));
            let lasts = draw.skewed(0, 4 * SECOND);
            episodes.push(Episode { at, lasts, kind, victim, variant: draw.bits() });
        }
    }
    // Those that came last move no draw of the others.
    let mut last = Draw::new(seed, 11);
    let striking =
        |kind: &FaultKind| !matches!(kind, FaultKind::WriteLost | FaultKind::WriteMisdirected);
    let old = MACHINE_KINDS.into_iter().map(|kind| (kind, false));
    for (kind, is_new) in old.chain(NEWEST.into_iter().filter(striking).map(|kind| (kind, true))) {
        let draw = if is_new { &mut last } else { &mut draw };
        let count = match swarm.knob(kind) {
            Frequency::Off => 0,
            Frequency::Rare => 1,
            Frequency::Often => draw.between(2, 5),
        };
        for _ in 0..count {
            episodes.push(machine_episode(draw, swarm, kind, stores, gateways));
        }
    }
    if swarm.rolls() {
        episodes.extend(upgrade(&mut Draw::new(seed, 13), swarm, gateways));
    }
    let mut focused = Draw::new(seed, 15);
    for kind in FOCUSED {
        let count = match swarm.knob(kind) {
            Frequency::Off => 0,
            Frequency::Rare => 1,
            Frequency::Often => focused.between(2, 3),
        };
        let mut episode = || machine_episode(&mut focused, swarm, kind, stores, gateways);
        episodes.extend((0..count).map(|_| episode()));
    }
    episodes.sort_by_key(|episode| episode.at);
    episodes
}

/// All machines of the beginning are upgraded, one after the other. Who goes back is upgraded again before the last.
fn upgrade(draw: &mut Draw, swarm: &Swarm, gateways: usize) -> Vec<Episode> {
    let stores = (0..swarm.stores()).map(Victim::Store);
    let mut left: Vec<Victim> = stores.chain((0..gateways).map(Victim::Gateway)).collect();
    let first = draw.between(SECOND, swarm.duration / 3);
    let step = (swarm.duration / 10 * 9 - first) / left.len() as u64;
    let mut episodes = Vec::new();
    let mut episode = |draw: &mut Draw, kind, at, victim| {
        let lasts = draw.skewed(10 * MILLISECOND, 600 * MILLISECOND);
        episodes.push(Episode { at, lasts, kind, victim, variant: draw.bits() });
    };
    let mut upgraded = Vec::new();
    while !left.is_empty() {
        let victim = left.swap_remove(draw.index(left.len()));
        let at = first + step * upgraded.len() as u64 + draw.between(0, step / 2);
        upgraded.push((at, victim));
        episode(draw, FaultKind::MachineUpgraded, at, victim);
    }
    let (last, _) = upgraded.pop().expect("there are machines");
    if swarm.knob(FaultKind::UpgradeRolledBack) != Frequency::Off {
        let (at, victim) = *draw.pick(&upgraded);
        let quarter = (last - at) / 4;
        episode(draw, FaultKind::UpgradeRolledBack, at + quarter, victim);
        episode(draw, FaultKind::MachineUpgraded, at + 3 * quarter, victim);
    }
    if swarm.knob(FaultKind::LevelRaisedEarly) != Frequency::Off {
        for _ in 0..draw.between(1, 3) {
            let at = draw.between(first, last);
            episode(draw, FaultKind::LevelRaisedEarly, at, Victim::All);
        }
    }
    episodes
}

fn enabled(swarm: &Swarm) -> Vec<FaultKind> {
    ZONE_KINDS.into_iter().filter(|kind| swarm.knob(*kind) != Frequency::Off).collect()
}

fn zone(draw: &mut Draw) -> Victim {
    Victim::Zone(*draw.pick(&[0, 1, 2]))
}

/// The zone fails a second or two into the run and stays so until its end, or for ever.
fn one_long_episode(draw: &mut Draw, swarm: &Swarm) -> Vec<Episode> {
    let at = draw.between(SECOND, 3 * SECOND);
    let lasts = swarm.duration - at;
    let kinds = ZONE_KINDS.into_iter().chain([FaultKind::ZoneGone, FaultKind::ZoneReplaced]);
    kinds
        .filter(|kind| swarm.knob(*kind) != Frequency::Off)
        .take(1)
        .map(|kind| Episode { at, lasts, kind, victim: zone(draw), variant: draw.bits() })
        .collect()
}

fn zones_one_after_another(draw: &mut Draw, swarm: &Swarm) -> Vec<Episode> {
    let kinds = enabled(swarm);
    let mut episodes = Vec::new();
    let mut at = draw.between(100 * MILLISECOND, 2 * SECOND);
    while !kinds.is_empty() && at < swarm.duration {
        let kind = *draw.pick(&kinds);
        let longest = if swarm.knob(kind) == Frequency::Often { 2 } else { 4 } * SECOND;
        let lasts = draw.skewed(50 * MILLISECOND, longest);
        episodes.push(Episode { at, lasts, kind, victim: zone(draw), variant: draw.bits() });
        at += lasts + draw.skewed(50 * MILLISECOND, longest);
    }
    episodes
}

fn machine_episode(
    draw: &mut Draw,
    swarm: &Swarm,
    kind: FaultKind,
    stores: usize,
    gateways: usize,
) -> Episode {
    let victim = match kind {
        FaultKind::PowerLossEverywhere | FaultKind::LinksSwizzled => Victim::All,
        FaultKind::ClientsReset => Victim::Gateway(draw.index(gateways)),
        FaultKind::ClockStepped => match draw.index(stores + gateways) {
            store if store < stores => Victim::Store(store),
            gateway => Victim::Gateway(gateway - stores),
        },
        FaultKind::GatewayCut
        | FaultKind::GatewayKilled
        | FaultKind::GatewayPaused
        | FaultKind::GatewayFenced => Victim::Gateway(draw.index(gateways)),
        FaultKind::LinkBlackHole | FaultKind::LinkCutOneWay | FaultKind::LinkSlow => {
            link(draw, stores, gateways)
        }
        // They last: see the module's text.
        FaultKind::ByteRotted
        | FaultKind::DiskRotting
        | FaultKind::JournalRotted
        | FaultKind::SectorRotted
        | FaultKind::StoreWiped
        | FaultKind::ImageRestored
        | FaultKind::StoreEmptied => {
            let zone = usize::from(swarm.weak_zone);
            Victim::Store(zone + 3 * draw.index((stores - zone).div_ceil(3)))
        }
        FaultKind::StoreAdded => Victim::Store(swarm.stores() + draw.index(swarm.spares)),
        _ => Victim::Store(draw.index(stores)),
    };
    let longest = match kind {
        FaultKind::RestartStorm => 300 * MILLISECOND,
        FaultKind::DiskSlow
        | FaultKind::LinkBlackHole
        | FaultKind::LinkCutOneWay
        | FaultKind::StoreWiped
        | FaultKind::ImageRestored
        | FaultKind::LinksSwizzled
        | FaultKind::StoreDrained => 4 * SECOND,
        _ => SECOND,
    };
    // While the cluster begins, and at any time.
    let early = kind == FaultKind::StoreEmptied && draw.one_in(2);
    let moves = matches!(kind, FaultKind::StoreAdded | FaultKind::StoreDrained);
    let from = if moves { SECOND } else { 10 * MILLISECOND };
    Episode {
        at: draw.between(from, if early { SECOND } else { swarm.duration }),
        lasts: match kind {
            // A session ends 5 s after its last beat.
            FaultKind::GatewayFenced => draw.between(5 * SECOND, 7 * SECOND),
            _ => draw.skewed(5 * MILLISECOND, longest),
        },
        kind,
        victim,
        variant: draw.bits(),
    }
}

/// From a store to another or to a gateway, or the other way round. Gateways have no links with each
/// other.
fn link(draw: &mut Draw, stores: usize, gateways: usize) -> Victim {
    let store = draw.index(stores);
    let other = draw.index(stores + gateways - 1);
    let other = if other >= store { other + 1 } else { other };
    if draw.one_in(2) { Victim::Link(store, other) } else { Victim::Link(other, store) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_zones_fail_at_the_same_time() {
        for seed in 0..300 {
            let swarm = Swarm::draw(seed);
            let plan = draw(seed, &swarm, 3, 2);
            let mut zone_free_at = 0;
            for episode in plan.iter().filter(|episode| ZONE_KINDS.contains(&episode.kind)) {
                assert!(episode.at >= zone_free_at, "seed {seed}: {episode:?} overlaps");
                zone_free_at = episode.at + episode.lasts;
            }
        }
    }

    #[test]
    fn nobody_goes_back_once_the_last_machine_is_new() {
        let mut backs = 0;
        for seed in 0..300 {
            let swarm = Swarm::draw(seed);
            if !swarm.rolls() {
                continue;
            }
            let plan = draw(seed, &swarm, swarm.stores_max(), 2);
            let upgrades = || plan.iter().filter(|it| it.kind == FaultKind::MachineUpgraded);
            let machines = swarm.stores() + 2;
            let mut firsts: Vec<Episode> = Vec::new();
            for episode in upgrades() {
                if firsts.iter().all(|first| first.victim != episode.victim) {
                    firsts.push(*episode);
                }
            }
            assert_eq!(firsts.len(), machines, "seed {seed}: each is upgraded");
            let last = firsts.last().expect("there are machines").at;
            assert!(last < swarm.duration);
            for back in plan.iter().filter(|it| it.kind == FaultKind::UpgradeRolledBack) {
                let again = upgrades().find(|it| it.victim == back.victim && it.at > back.at);
                assert!(again.is_some_and(|again| again.at <= last), "seed {seed}: {back:?}");
                backs += 1;
            }
        }
        assert!(backs > 5);
    }

    #[test]
    fn what_lasts_for_ever_strikes_one_zone_only() {
        for seed in 0..300 {
            let swarm = Swarm::draw(seed);
            for episode in draw(seed, &swarm, 7, 2) {
                let weak = usize::from(swarm.weak_zone);
                match (episode.kind, episode.victim) {
                    (
                        FaultKind::ByteRotted
                        | FaultKind::DiskRotting
                        | FaultKind::SectorRotted
                        | FaultKind::StoreWiped
                        | FaultKind::ImageRestored
                        | FaultKind::StoreEmptied,
                        Victim::Store(store),
                    ) => {
                        assert!(store < 7 && store % 3 == weak, "seed {seed}: {episode:?}");
                    }
                    (FaultKind::ZoneGone | FaultKind::ZoneReplaced, Victim::Zone(zone)) => {
                        let alone = swarm.flavour == Flavour::OneZone;
                        assert!(alone || usize::from(zone) == weak, "seed {seed}: {episode:?}");
                    }
                    (kind, _) => assert!(
                        ![FaultKind::ZoneGone, FaultKind::ByteRotted].contains(&kind),
                        "seed {seed}: {episode:?}"
                    ),
                }
            }
        }
    }
}
