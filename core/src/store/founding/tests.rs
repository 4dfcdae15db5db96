//! First voters that say hello to each other in any order, on disks that are emptied meanwhile.

use super::*;
use crate::rng::Rng;

const ALL: [StoreId; 3] = [StoreId(7), StoreId(2), StoreId(5)];

/// A first voter whose disk has this birth and says this of the beginning.
fn store(own: StoreId, birth: u64, begun: Births) -> Founding {
    let founders = ALL.to_vec();
    let state = if begun.is_empty() {
        let births = BTreeMap::from([(own, DiskBirth(birth))]);
        State::Blank { births, said: BTreeMap::new(), emptied: None, doubted: false, news: true }
    } else {
        State::Begun(begun)
    };
    Founding { own, founders, birth: DiskBirth(birth), suspect: false, state }
}

fn tell(from: &Founding, to: &mut Founding) {
    to.hear(from.own, &from.statement(false));
}

fn births(of: [u64; 3]) -> Births {
    ALL.into_iter().zip(of.map(DiskBirth)).collect()
}

fn agreed(of: &Founding) -> Option<&Births> {
    match &of.state {
        State::Agreed { births, .. } => Some(births),
        _ => None,
    }
}

fn emptied(of: &Founding) -> bool {
    matches!(of.state, State::Blank { emptied: Some(_), .. })
}

#[test]
fn blank_disks_agree_once_each_has_heard_of_all() {
    let [mut a, mut b, mut c] =
        [(0, 1), (1, 2), (2, 3)].map(|(place, birth)| store(ALL[place], birth, Births::new()));
    assert_eq!(a.waits_for(), [ALL[1], ALL[2]]);
    tell(&b, &mut a);
    tell(&c, &mut a);
    assert_eq!(agreed(&a), None, "they have not heard of each other");
    tell(&a, &mut b);
    tell(&c, &mut b);
    tell(&b, &mut a);
    assert_eq!(agreed(&a), None, "store 5 has heard of nobody");
    tell(&a, &mut c);
    tell(&b, &mut c);
    assert_eq!(agreed(&c), Some(&births([1, 2, 3])));
    tell(&c, &mut a);
    assert_eq!(agreed(&a), Some(&births([1, 2, 3])));
    assert_eq!(a.in_order(&births([1, 2, 3])), [1, 2, 3].map(DiskBirth), "as in the map");
}

#[test]
fn a_word_given_before_a_disk_was_emptied_does_not_count_for_the_new_one() {
    // Q says "blank" to R, and begins with S, whose disk is emptied then.
    let mut q = store(ALL[0], 1, Births::new());
    let mut r = store(ALL[1], 2, Births::new());
    let s = store(ALL[2], 3, Births::new());
    for (from, to) in [(&s, &mut q), (&s, &mut r)] {
        tell(from, to);
    }
    tell(&r, &mut q);
    tell(&q, &mut r);
    let mut new = store(ALL[2], 4, Births::new());
    tell(&new, &mut r);
    assert_eq!(r.waits_for(), [ALL[0], ALL[2]], "what Q said was said of another disk");
    tell(&r, &mut new);
    tell(&q, &mut new);
    tell(&new, &mut r);
    assert_eq!((agreed(&r), agreed(&new)), (None, None));
    // Nothing has begun with the old disk: when Q has heard of the new one, all agree to that.
    tell(&new, &mut q);
    tell(&r, &mut q);
    tell(&q, &mut new);
    tell(&q, &mut r);
    assert_eq!(agreed(&q), Some(&births([1, 2, 4])));
    assert_eq!(agreed(&q), agreed(&r));
}

#[test]
fn a_disk_with_which_the_cluster_began_goes_on_and_another_does_not() {
    let b = store(ALL[1], 2, births([1, 2, 3]));
    let mut missed = store(ALL[0], 1, Births::new());
    tell(&b, &mut missed);
    assert_eq!(agreed(&missed), Some(&births([1, 2, 3])));
    let mut other = store(ALL[0], 9, Births::new());
    tell(&b, &mut other);
    assert!(emptied(&other));
    // Who does not know the disks (it was emptied itself, or is no first voter) says as much.
    let mut blank = store(ALL[0], 1, Births::new());
    blank.hear(StoreId(40), &Beginning::Begun(Vec::new()));
    assert!(emptied(&blank));
    // Half a list proves nothing.
    let mut blank = store(ALL[0], 1, Births::new());
    blank.hear(ALL[1], &Beginning::Begun(vec![(ALL[0], DiskBirth(1))]));
    assert!(emptied(&blank));
}

/// An older image of the disk has its birth too.
#[test]
fn a_distrusted_disk_agrees_with_blank_ones_and_is_suspect_beside_others() {
    let doubted = |place: usize, birth| {
        let mut store = store(ALL[place], birth, Births::new());
        let State::Blank { doubted, .. } = &mut store.state else { unreachable!() };
        *doubted = true;
        store
    };
    let mut back = doubted(0, 1);
    tell(&store(ALL[1], 2, births([1, 2, 3])), &mut back);
    assert!(emptied(&back));
    let (mut a, mut b, mut c) =
        (doubted(0, 1), store(ALL[1], 2, Births::new()), store(ALL[2], 3, Births::new()));
    for _ in 0..2 {
        tell(&b, &mut a);
        tell(&c, &mut a);
        tell(&a, &mut b);
        tell(&c, &mut b);
        tell(&a, &mut c);
        tell(&b, &mut c);
    }
    assert_eq!([&a, &b, &c].map(agreed), [Some(&births([1, 2, 3])); 3]);
}

#[test]
fn what_makes_no_sense_is_not_heard() {
    let mut a = store(ALL[0], 1, Births::new());
    let strange = Beginning::Blank(vec![(ALL[0], DiskBirth(1)), (StoreId(40), DiskBirth(5))]);
    a.hear(StoreId(40), &strange);
    a.hear(ALL[0], &Beginning::Blank(vec![(ALL[0], DiskBirth(8))]));
    a.hear(ALL[1], &Beginning::Blank(Vec::new()));
    a.hear(ALL[1], &Beginning::Unknown);
    assert_eq!(a.waits_for(), [ALL[1], ALL[2]]);
    assert!(!emptied(&a) && agreed(&a).is_none());
}

/// Hellos that are lost, doubled, late and out of order; disks emptied at any time, but never the disk
/// of a second store once one that has acted is gone: as the promise has it, one zone is lost.
#[test]
fn no_two_disks_of_a_store_ever_take_part_unvouched() {
    let (mut begun_runs, mut refused, mut again) = (0, 0, 0);
    for seed in 0..4_000 {
        let mut rng = Rng::new(seed);
        let mut next = 1;
        let mut fresh = |place: usize| {
            next += 1;
            store(ALL[place], next, Births::new())
        };
        let mut stores = [fresh(0), fresh(1), fresh(2)];
        let mut under_way: Vec<(usize, usize, Beginning)> = Vec::new();
        // The disks that have acted together with another: what they promised binds.
        let mut bound: BTreeMap<StoreId, DiskBirth> = BTreeMap::new();
        let mut lost: Option<usize> = None;
        for _ in 0..300 {
            let (from, to) = (pick(&mut rng), pick(&mut rng));
            match rng.below(8) {
                0..=2 if from != to => {
                    under_way.push((from, to, stores[from].statement(false)));
                }
                3..=5 if !under_way.is_empty() => {
                    let at = usize::try_from(rng.below(under_way.len() as u64)).expect("small");
                    // Some are delivered again later.
                    let (from, to, told) = under_way[at].clone();
                    if rng.chance(5, 6) {
                        under_way.swap_remove(at);
                    }
                    stores[to].hear(ALL[from], &told);
                }
                6 => {
                    let state = &mut stores[from].state;
                    if let State::Agreed { births, .. } = state {
                        *state = State::Begun(core::mem::take(births));
                    }
                }
                _ if rng.chance(1, 8) && lost.is_none_or(|lost| lost == from) => {
                    lost = (!bound.is_empty() || lost.is_some()).then_some(from);
                    stores[from] = fresh(from);
                }
                _ => {}
            }
            // Two that have begun, each on its disk, act together.
            let acting: Vec<usize> =
                (0..3).filter(|at| matches!(stores[*at].state, State::Begun(_))).collect();
            if acting.len() >= 2 {
                begun_runs += 1;
                for at in acting {
                    let birth = stores[at].birth;
                    let before = *bound.entry(ALL[at]).or_insert(birth);
                    assert_eq!(before, birth, "seed {seed}: {} acts on two disks", ALL[at]);
                }
            }
            refused += u32::from(stores.iter().any(emptied));
            again += u32::from(lost.is_none() && stores.iter().any(|one| one.birth.0 > 4));
        }
    }
    assert!(begun_runs > 1000 && refused > 1000 && again > 1000, "{begun_runs} {refused} {again}");
}

fn pick(rng: &mut Rng) -> usize {
    usize::try_from(rng.below(3)).expect("small")
}
