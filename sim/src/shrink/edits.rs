//! Smaller cases out of a case.

use std::ops::Range;

use trine_core::rare::Unusual;

use crate::case::Case;
use crate::faults::FaultKind;
use crate::faults::plan::Victim;
use crate::faults::strikes::{Moment, Place, Struck};
use crate::faults::swarm::{Flavour, Frequency, Latency};
use crate::workload::operation::{Operation, Wish};
use crate::{MILLISECOND, Nanos};

/// Keys that are tried as the only ones.
const KEYS_TRIED: usize = 6;
/// Left over of a pause that is cut.
const PAUSE: Nanos = 100 * MILLISECOND;

/// Where each operation stands, in order of time.
fn order(case: &Case) -> Vec<(usize, usize)> {
    let lists = case.operations.iter().enumerate();
    let places = lists.flat_map(|(client, list)| (0..list.len()).map(move |at| (client, at)));
    let mut places: Vec<_> = places.collect();
    places.sort_by_key(|(client, at)| (case.operations[*client][*at].due, *client, *at));
    places
}

/// Without the operations of this range, by their order in time.
pub(super) fn without_operations(case: &Case, range: Range<usize>) -> Case {
    let mut gone = order(case)[range].to_vec();
    gone.sort_unstable();
    let mut smaller = case.clone();
    for (client, at) in gone.into_iter().rev() {
        smaller.operations[client].remove(at);
    }
    smaller
}

/// Without the operations of some clients.
pub(super) fn without_clients_work(case: &Case, range: Range<usize>) -> Case {
    let mut smaller = case.clone();
    smaller.operations[range].iter_mut().for_each(Vec::clear);
    smaller
}

/// Without the operations that `stays` does not name, and without steps of uploads that go with them.
fn only(case: &Case, stays: impl Fn(&Operation) -> bool) -> Case {
    let mut smaller = case.clone();
    for list in &mut smaller.operations {
        let mut in_hand = false;
        list.retain(|planned| {
            let operation = &planned.operation;
            if operation.is_step() {
                return in_hand;
            }
            let stays = stays(operation);
            if let Operation::CreateUpload { .. } = operation {
                in_hand = stays;
            }
            stays
        });
    }
    smaller
}

/// What is left of some sorts of operations, and of single keys.
pub(super) fn by_sort(case: &Case) -> Vec<Case> {
    let names = |key: usize| {
        move |operation: &Operation| {
            let mut operation = operation.clone();
            operation.keys_mut().into_iter().any(|name| *name == key)
        }
    };
    let mut cases: Vec<Case> = (0..case.keys.len()).map(|key| only(case, names(key))).collect();
    // Keys of which much is said come first.
    cases.sort_by_key(|case| std::cmp::Reverse(case.operations()));
    cases.truncate(KEYS_TRIED);
    let is_write = |it: &Operation| {
        !matches!(it, Operation::Get { .. } | Operation::Head { .. } | Operation::List(_))
    };
    let is_of_objects = |it: &Operation| {
        !matches!(
            it,
            Operation::CreateBucket(_)
                | Operation::DeleteBucket(_)
                | Operation::HeadBucket(_)
                | Operation::ListBuckets
                | Operation::DeleteFullBucket
        )
    };
    let is_whole = |it: &Operation| !matches!(it, Operation::CreateUpload { .. });
    let is_no_copy = |it: &Operation| !matches!(it, Operation::Copy { .. });
    let is_no_delete =
        |it: &Operation| !matches!(it, Operation::Delete { .. } | Operation::DeleteMany { .. });
    cases.push(only(case, |it| is_write(it) && is_of_objects(it) && is_whole(it)));
    cases.push(only(case, |it| is_write(it) && is_of_objects(it)));
    cases.push(only(case, is_write));
    cases.push(only(case, is_of_objects));
    cases.push(only(case, is_whole));
    cases.push(only(case, is_no_copy));
    cases.push(only(case, is_no_delete));
    cases.retain(|smaller| smaller.operations() < case.operations());
    cases
}

pub(super) fn without_episodes(case: &Case, range: Range<usize>) -> Case {
    let mut smaller = case.clone();
    smaller.episodes.drain(range);
    smaller
}

/// How many small faults strike.
pub(super) fn strikes(case: &Case) -> usize {
    case.struck.values().map(|moments| moments.len()).sum()
}

pub(super) fn without_strikes(case: &Case, range: Range<usize>) -> Case {
    let all = case.struck.iter();
    let all = all.flat_map(|(key, moments)| moments.iter().map(move |moment| (*key, *moment)));
    let mut left = Struck::new();
    for (_, (key, moment)) in all.enumerate().filter(|(at, _)| !range.contains(at)) {
        left.entry(key).or_default().insert(moment);
    }
    Case { struck: left, ..case.clone() }
}

/// How often sites of the core fire.
pub(super) fn firings(case: &Case) -> usize {
    match &case.swarm.rare.unusual {
        Unusual::At(times) => times.values().map(Vec::len).sum(),
        Unusual::Never | Unusual::Drawn => 0,
    }
}

/// Without the firings of this range, site by site.
pub(super) fn without_firings(case: &Case, range: Range<usize>) -> Case {
    let mut smaller = case.clone();
    if let Unusual::At(times) = &mut smaller.swarm.rare.unusual {
        let mut number = 0..;
        for times in times.values_mut() {
            times.retain(|_| number.next().is_some_and(|number| !range.contains(&number)));
        }
        times.retain(|_, times| !times.is_empty());
    }
    if firings(&smaller) == 0 {
        smaller.swarm.rare.unusual = Unusual::Never;
    }
    smaller
}

/// Without small faults of this kind.
pub(super) fn without_kind(case: &Case, kind: FaultKind) -> Case {
    let mut smaller = case.clone();
    smaller.struck.retain(|(of, _), _| *of != kind);
    smaller.swarm.set(kind, Frequency::Off);
    smaller
}

/// Without what came after the failure.
pub(super) fn cut(case: &Case, failed: Nanos) -> Case {
    let mut smaller = case.clone();
    smaller.operations.iter_mut().for_each(|list| list.retain(|planned| planned.due <= failed));
    smaller.episodes.retain(|episode| episode.at <= failed);
    move_strikes(&mut smaller, &|moment| Some(moment).filter(|moment| moment.at <= failed));
    smaller
}

/// Every message, and every effect of a disk, takes as long as the shortest.
pub(super) fn shortest(case: &Case, network: bool, disk: bool) -> Case {
    let mut smaller = case.clone();
    let swarm = &mut smaller.swarm;
    let flat = |latency: &mut Latency| latency.high = latency.low;
    if network {
        flat(&mut swarm.near);
        flat(&mut swarm.far);
    }
    if disk {
        flat(&mut swarm.disk_read);
        flat(&mut swarm.disk_write);
        flat(&mut swarm.disk_sync);
    }
    Case { own_streams: true, ..smaller }
}

/// With other latencies and other seeds of the machines.
pub(super) fn seeded(case: &Case, seed: u64) -> Case {
    Case { seed, own_streams: true, ..case.clone() }
}

/// Changes of the world that make it simpler, one at a time.
pub(super) fn calmer_worlds(case: &Case) -> Vec<Case> {
    let mut worlds = Vec::new();
    let mut with = |change: &dyn Fn(&mut Case)| {
        let mut smaller = case.clone();
        change(&mut smaller);
        worlds.push(smaller);
    };
    with(&|it| {
        (it.swarm.clock_skew, it.swarm.clock_drift_ppm) = (0, 0);
        it.swarm.distances = None;
        it.swarm.late = None;
        FaultKind::ALL.iter().for_each(|kind| it.swarm.set(*kind, Frequency::Off));
    });
    with(&|it| (it.swarm.clock_skew, it.swarm.clock_drift_ppm) = (0, 0));
    with(&|it| it.swarm.distances = None);
    with(&|it| it.swarm.late = None);
    with(&|it| FaultKind::ALL.iter().for_each(|kind| it.swarm.set(*kind, Frequency::Off)));
    with(&|it| it.swarm.redundancy = false);
    with(&|it| it.swarm.rare.unusual = Unusual::Never);
    with(&|it| it.swarm.flavour = Flavour::Mixed);
    with(&|it| it.swarm.small_disk = None);
    with(&|it| it.swarm.empties = false);
    with(&|it| it.swarm.scrub_every = None);
    with(&|it| it.swarm.churn = false);
    with(&|it| it.swarm.large_part = false);
    worlds.retain(|world| world != case);
    worlds.extend(machines_fewer(case));
    worlds
}

fn machines_fewer(case: &Case) -> Vec<Case> {
    let mut worlds = Vec::new();
    let swarm = &case.swarm;
    if swarm.spares > 0 {
        worlds.push(resized(case, swarm.stores_per_zone, 0, swarm.gateways));
    }
    if swarm.stores_per_zone > 1 {
        worlds.push(resized(case, 1, swarm.spares, swarm.gateways));
        worlds.push(resized(case, swarm.stores_per_zone - 1, swarm.spares, swarm.gateways));
    }
    if swarm.gateways > 1 {
        worlds.push(resized(case, swarm.stores_per_zone, swarm.spares, 1));
        worlds.push(resized(case, swarm.stores_per_zone, swarm.spares, swarm.gateways - 1));
    }
    worlds
}

/// With fewer machines: what struck those that are gone is left out.
fn resized(case: &Case, stores_per_zone: usize, spares: usize, gateways: usize) -> Case {
    let mut smaller = case.clone();
    let before = (case.swarm.stores(), case.swarm.stores_max());
    let swarm = &mut smaller.swarm;
    (swarm.stores_per_zone, swarm.spares, swarm.gateways) = (stores_per_zone, spares, gateways);
    let (stores, stores_max) = (swarm.stores(), swarm.stores_max());
    let machine = |machine: usize| {
        if machine < before.0 {
            Some(machine).filter(|machine| *machine < stores)
        } else if machine < before.1 {
            Some(machine - before.0 + stores).filter(|machine| *machine < stores_max)
        } else {
            let gateway = machine - before.1;
            Some(stores_max + gateway).filter(|_| gateway < gateways)
        }
    };
    swarm.late = swarm.late.and_then(|(store, at)| Some((machine(store)?, at)));
    swarm.small_disk = swarm.small_disk.and_then(|(store, bytes)| Some((machine(store)?, bytes)));
    smaller.episodes.retain_mut(|episode| {
        let victim = match episode.victim {
            Victim::Store(store) => machine(store).map(Victim::Store),
            Victim::Gateway(gateway) => {
                Some(Victim::Gateway(gateway)).filter(|_| gateway < gateways)
            }
            Victim::Link(from, to) => {
                machine(from).zip(machine(to)).map(|(from, to)| Victim::Link(from, to))
            }
            Victim::Zone(_) | Victim::All => Some(episode.victim),
        };
        victim.is_some_and(|victim| {
            episode.victim = victim;
            true
        })
    });
    let struck = std::mem::take(&mut smaller.struck).into_iter();
    smaller.struck = struck
        .filter_map(|((kind, place), moments)| {
            let place = match place {
                Place::Machine(it) => Place::Machine(machine(it)?),
                Place::Link(from, to) => Place::Link(machine(from)?, machine(to)?),
                Place::Client(_) => place,
            };
            Some(((kind, place), moments))
        })
        .collect();
    for planned in smaller.operations.iter_mut().flatten() {
        planned.via %= gateways;
    }
    smaller
}

/// Without clients that do nothing. The first makes bucket and anchor, and reads all back at the end.
pub(super) fn without_idle_clients(case: &Case) -> Case {
    let mut smaller = case.clone();
    let stays = |client: usize| client == 0 || !case.operations[client].is_empty();
    let clients: Vec<usize> = (0..case.operations.len()).filter(|client| stays(*client)).collect();
    smaller.operations = clients.iter().map(|client| case.operations[*client].clone()).collect();
    smaller.swarm.clients = clients.len();
    let struck = std::mem::take(&mut smaller.struck).into_iter();
    smaller.struck = struck
        .filter_map(|((kind, place), moments)| match place {
            // The operator comes behind all clients.
            Place::Client(client) if client == case.swarm.clients => {
                Some(((kind, Place::Client(clients.len())), moments))
            }
            Place::Client(client) => {
                let place = clients.iter().position(|it| *it == client)?;
                Some(((kind, Place::Client(place)), moments))
            }
            _ => Some(((kind, place), moments)),
        })
        .collect();
    smaller
}

/// Latencies differ by so much that what is concurrent meets in many ways.
pub(super) fn uneven(case: &Case, seed: u64) -> Case {
    let mut other = seeded(case, seed);
    let swarm = &mut other.swarm;
    for latency in [
        &mut swarm.near,
        &mut swarm.far,
        &mut swarm.disk_read,
        &mut swarm.disk_write,
        &mut swarm.disk_sync,
    ] {
        latency.high = latency.high.max(latency.low * 4);
    }
    other
}

/// All is done by the first client, one after another.
pub(super) fn by_one_client(case: &Case) -> Case {
    let mut smaller = case.clone();
    let all = order(case).into_iter().map(|(client, at)| case.operations[client][at].clone());
    let all = all.collect();
    smaller.operations.iter_mut().for_each(Vec::clear);
    smaller.operations[0] = all;
    without_idle_clients(&smaller)
}

/// Without keys that nobody names, and at least one.
pub(super) fn without_idle_keys(case: &Case) -> Case {
    let mut smaller = case.clone();
    let anchor = case.keys.len() - 1;
    let mut used = vec![false; case.keys.len()];
    let mut lists = case.operations.clone();
    for planned in lists.iter_mut().flatten() {
        planned.operation.keys_mut().into_iter().for_each(|key| used[*key] = true);
        if let Operation::List(query) = &planned.operation {
            // Where a listing begins is the name of a key.
            let names = case.keys.iter().enumerate();
            names
                .filter(|(_, key)| query.after.as_ref() == Some(key))
                .for_each(|(at, _)| used[at] = true);
        }
    }
    used[anchor] = true;
    used[0] |= !used[..anchor].contains(&true);
    let left: Vec<usize> = (0..=anchor).filter(|key| used[*key]).collect();
    smaller.keys = left.iter().map(|key| case.keys[*key].clone()).collect();
    for planned in smaller.operations.iter_mut().flatten() {
        for key in planned.operation.keys_mut() {
            *key = left.iter().position(|it| it == key).unwrap_or_default();
        }
    }
    smaller
}

/// No body is longer than this.
pub(super) fn with_bodies_up_to(case: &Case, most: u64) -> Case {
    let mut smaller = case.clone();
    for planned in smaller.operations.iter_mut().flatten() {
        if let Some(len) = planned.operation.len_mut() {
            *len = (*len).min(most);
        }
    }
    smaller
}

/// One operation becomes plainer.
pub(super) fn plainer(case: &Case, number: usize) -> Vec<Case> {
    let Some((client, at)) = order(case).get(number).copied() else { return Vec::new() };
    let operation = &case.operations[client][at].operation;
    let mut choices = Vec::new();
    match operation {
        Operation::Put { key, len, wish, .. } => {
            for len in [1, 100, 2_000, 20_000].into_iter().filter(|it| it < len) {
                choices.push(Operation::Put { key: *key, len, wish: *wish, sized: true });
            }
            let plain = Operation::Put { key: *key, len: *len, wish: Wish::Always, sized: true };
            choices.push(plain);
        }
        Operation::Get { key, .. } => {
            choices.push(Operation::Get { key: *key, range: None, unless_seen: false });
        }
        Operation::Delete { key, .. } => {
            choices.push(Operation::Delete { key: *key, wish: Wish::Always });
        }
        Operation::DeleteMany { keys } if keys.len() > 1 => {
            choices.extend(keys.iter().map(|key| Operation::DeleteMany { keys: vec![*key] }));
        }
        Operation::Copy { source, key, .. } => {
            let (source, key) = (*source, *key);
            choices.push(Operation::Copy { source, key, wish: Wish::Always, checksum: false });
        }
        _ => {}
    }
    choices.retain(|choice| choice != operation);
    let with = |operation: Operation| {
        let mut plainer = case.clone();
        plainer.operations[client][at].operation = operation;
        plainer
    };
    choices.into_iter().map(with).collect()
}

/// Faults and operations go on only until the last of them, and a little longer.
pub(super) fn shorter(case: &Case) -> Vec<Case> {
    let dues = case.operations.iter().flatten().map(|planned| planned.due);
    let last = dues.max().unwrap_or(0);
    let begun = case.episodes.iter().map(|episode| episode.at).max().unwrap_or(0);
    let ended = case.episodes.iter().map(|episode| episode.at + episode.lasts).max().unwrap_or(0);
    let ends = [last.max(begun), last.max(ended)].map(|end| end + PAUSE);
    let shorter = ends.into_iter().filter(|end| *end < case.swarm.duration);
    let with = |duration| {
        let mut smaller = case.clone();
        smaller.swarm.duration = duration;
        smaller
    };
    shorter.map(with).collect()
}

/// Nothing happens for a while: less of that.
pub(super) fn without_pauses(case: &Case) -> Case {
    let mut smaller = case.clone();
    let mut moments: Vec<Nanos> = case.operations.iter().flatten().map(|it| it.due).collect();
    moments.extend(case.episodes.iter().flat_map(|it| [it.at, it.at + it.lasts]));
    moments.push(case.swarm.duration);
    moments.sort_unstable();
    // How much earlier each moment comes.
    let (mut before, mut earlier) = (0, 0);
    let mut shifts = Vec::new();
    for moment in moments {
        earlier += (moment - before).saturating_sub(PAUSE);
        before = moment;
        shifts.push((moment, earlier));
    }
    // Between two moments: as long behind the first as before, and not behind the second.
    let shifted = |at: Nanos| {
        let place = shifts.partition_point(|(moment, _)| *moment < at);
        let before = place.checked_sub(1).map_or(0, |place| shifts[place].1);
        let next = shifts.get(place).map_or(Nanos::MAX, |(moment, earlier)| moment - earlier);
        (at - before).min(next)
    };
    smaller.operations.iter_mut().flatten().for_each(|it| it.due = shifted(it.due));
    for episode in &mut smaller.episodes {
        let end = shifted(episode.at + episode.lasts);
        episode.at = shifted(episode.at);
        episode.lasts = end - episode.at;
    }
    move_strikes(&mut smaller, &|moment| Some(Moment { at: shifted(moment.at), ..moment }));
    smaller.swarm.duration = shifted(case.swarm.duration);
    smaller
}

/// Times to the millisecond.
pub(super) fn rounded(case: &Case) -> Case {
    let mut smaller = case.clone();
    let round = |at: &mut Nanos| *at = *at / MILLISECOND * MILLISECOND;
    smaller.operations.iter_mut().flatten().for_each(|it| round(&mut it.due));
    for episode in &mut smaller.episodes {
        round(&mut episode.at);
        round(&mut episode.lasts);
    }
    move_strikes(&mut smaller, &|mut moment| {
        round(&mut moment.at);
        Some(moment)
    });
    smaller
}

/// Small faults strike at other times, or not at all.
fn move_strikes(case: &mut Case, to: &dyn Fn(Moment) -> Option<Moment>) {
    for moments in case.struck.values_mut() {
        *moments = moments.iter().filter_map(|moment| to(*moment)).collect();
    }
    case.struck.retain(|_, moments| !moments.is_empty());
}
