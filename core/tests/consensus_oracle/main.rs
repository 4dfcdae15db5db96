//! TiKV's `raft` crate as an oracle: it and `consensus` go through the same schedules, and must agree
//! on who leads in which term, on every log, on what is committed and on what a read may see.
//!
//! The two say different things on the wire and have different timers, so a schedule does not name
//! messages. It is made of steps that mean the same to both: a partition of the replicas, "these hear
//! nobody for long, then this one times out first", a proposal, a read, a hand-over, a restart, a change of
//! members. Inside a step messages flow until none is left, each implementation's own, some of
//! them doubled, and in lossy steps many lost; then leaders that reach a quorum send heartbeats until all is repaired.
//!
//! Where the two differ for a reason, the schedules stay where they coincide:
//! - *A configuration is in force* at append here, at apply there. Members change only while all
//!   replicas are connected, and the joint phase of a swap is over at the end of its step. Joint quorums are
//!   met all the same: half of the schedules begin in a joint configuration, which ends with the first commit.
//! - *Reads before the first commit of a term* wait here and are dropped there: only the answers
//!   within the step of a read are compared.
//! - *A refused vote* carries commit indexes there, not here. So commit indexes are compared where a
//!   leader reaches a quorum; elsewhere ours must not be ahead.
//! - *A leader that is not among the new voters* hands over here, and leads on there. Only those who stay are elected.
//! - *Check-quorum* runs by time: leaders without a quorum send no heartbeats here, and step down in
//!   steps of silence only.

mod replicas;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use replicas::{Members, Ours, Replica, Theirs, View};
use trine_core::consensus::Tally;
use trine_core::ids::StoreId;
use trine_core::rng::Rng;

/// One step of a schedule.
#[derive(Clone, Debug)]
enum Step {
    /// Which replicas are connected: those with the same number.
    Partition(BTreeMap<u64, u64>),
    /// All that this one is connected with hear nothing for long; then it times out.
    Elect(u64),
    /// Each leader gets a proposal; of the messages, so many of 100 are lost.
    Propose(Vec<u8>, u64),
    /// Each leader is asked for a read.
    Read(u64),
    /// Each leader that reaches it hands over to this one.
    Transfer(u64),
    Restart(u64),
    /// With everybody connected, the leader puts the second in the place of the first.
    Replace(u64, u64),
    Rest,
}

struct Group<R: Replica> {
    replicas: BTreeMap<u64, R>,
    parts: BTreeMap<u64, u64>,
    members: Members,
    draw: Rng,
}

impl<R: Replica> Group<R> {
    fn new(seed: u64, members: &Members, ids: impl Iterator<Item = u64> + Clone) -> Self {
        Self {
            replicas: ids.clone().map(|id| (id, R::new(id, members))).collect(),
            parts: ids.map(|id| (id, 0)).collect(),
            members: members.clone(),
            draw: Rng::new(seed),
        }
    }

    fn view(&self) -> BTreeMap<u64, View> {
        self.replicas.iter().map(|(id, replica)| (*id, replica.view())).collect()
    }

    /// Those that `id` is connected with, itself among them.
    fn part_of(&self, id: u64) -> BTreeSet<u64> {
        let part = self.parts[&id];
        self.parts.iter().filter(|(_, of)| **of == part).map(|(id, _)| *id).collect()
    }

    fn leaders(&self) -> Vec<u64> {
        let leads = |id: &u64| self.replicas[id].leads();
        self.replicas.keys().copied().filter(leads).collect()
    }

    fn leads_by_quorum(&self, id: u64) -> bool {
        self.replicas[&id].leads() && self.members.is_quorum(&self.part_of(id))
    }

    fn replica(&mut self, id: u64) -> &mut R {
        self.replicas.get_mut(&id).expect("it is there")
    }

    /// Deliver messages until none is left.
    fn settle(&mut self, lost_percent: u64) {
        let mut queue = VecDeque::new();
        for _ in 0..100_000 {
            for replica in self.replicas.values_mut() {
                queue.extend(replica.drain());
            }
            let Some(message) = queue.pop_front() else { return };
            let (from, to) = R::ends(&message);
            let cut = self.parts.get(&from) != self.parts.get(&to);
            // When a probe that was lost is sent again differs, so such leaders reach nobody.
            let mute = self.replicas[&from].leads() && !self.leads_by_quorum(from);
            if cut || mute || self.draw.chance(lost_percent, 100) {
                continue;
            }
            if self.draw.chance(1, 20) {
                queue.push_back(message.clone());
            }
            self.replica(to).step(message);
        }
        panic!("messages without end");
    }

    fn each_leader(&mut self, act: impl Fn(&mut R)) {
        for leader in self.leaders() {
            act(self.replica(leader));
        }
    }

    fn take(&mut self, step: &Step) {
        let mut lost_percent = 0;
        match step {
            Step::Partition(parts) => self.parts.clone_from(parts),
            Step::Elect(id) => {
                for other in self.part_of(*id) {
                    self.replica(other).silence();
                }
                // What was said before the silence is lost.
                self.replicas.values_mut().for_each(|replica| drop(replica.drain()));
                if self.members.incoming.contains(id) {
                    self.replica(*id).time_out();
                }
            }
            Step::Propose(payload, lost) => {
                // What is lost is found again by heartbeats, which leaders without a quorum do not send.
                let repaired =
                    self.leaders().into_iter().all(|leader| self.leads_by_quorum(leader));
                lost_percent = if repaired { *lost } else { 0 };
                self.each_leader(|leader| leader.propose(payload));
            }
            Step::Read(token) => self.each_leader(|leader| leader.read(*token)),
            Step::Transfer(to) => {
                let part = self.part_of(*to);
                for leader in self.leaders() {
                    let fits = leader != *to && self.members.incoming.contains(to);
                    if fits && part.contains(&leader) && self.leads_by_quorum(leader) {
                        self.replica(leader).transfer(*to);
                    }
                }
            }
            Step::Restart(id) => self.replica(*id).restart(),
            Step::Replace(remove, add) => self.replace(*remove, *add),
            Step::Rest => {}
        }
        self.settle(lost_percent);
        self.repair();
        // What a schedule begins with ends with the first commit.
        let first_commit = self.replicas.values().any(|replica| replica.view().commit > 0);
        if first_commit {
            self.members.outgoing.clear();
        }
    }

    /// Heartbeats, until what was lost is found and all know what is committed.
    fn repair(&mut self) {
        for _ in 0..4 {
            for leader in self.leaders() {
                if self.leads_by_quorum(leader) {
                    self.replica(leader).beat();
                }
            }
            self.settle(0);
        }
    }

    fn replace(&mut self, remove: u64, add: u64) {
        let [leader] = self.leaders()[..] else { return };
        let all = self.part_of(leader).len() == self.replicas.len();
        let voters = &self.members.incoming;
        let fits = voters.contains(&remove) && !voters.contains(&add) && remove != leader;
        if !all || !fits || !self.members.outgoing.is_empty() {
            return;
        }
        self.replica(leader).add_learner(add);
        self.settle(0);
        self.repair();
        self.replica(leader).swap(remove, add);
        let at = self.members.incoming.iter().position(|id| *id == remove).expect("it votes");
        self.members.incoming[at] = add;
    }
}

fn draw_step(draw: &mut Rng, ids: &[u64], token: u64) -> Step {
    let id = ids[usize::try_from(draw.below(ids.len() as u64)).expect("it is small")];
    match draw.below(20) {
        0..=3 => {
            let whole = draw.chance(1, 3);
            let part = |_| if whole { 0 } else { draw.below(2) };
            let parts: Vec<u64> = ids.iter().map(part).collect();
            Step::Partition(ids.iter().copied().zip(parts).collect())
        }
        4..=8 => Step::Elect(id),
        9..=13 => {
            let lost = if draw.chance(1, 2) { 40 } else { 0 };
            Step::Propose(token.to_le_bytes().to_vec(), lost)
        }
        14..=15 => Step::Read(token),
        16 => Step::Transfer(id),
        17..=18 => Step::Restart(id),
        _ => {
            let other = ids[usize::try_from(draw.below(ids.len() as u64)).expect("it is small")];
            if draw.chance(1, 2) { Step::Replace(id, other) } else { Step::Rest }
        }
    }
}

/// How often what was compared, so that a schedule in which nothing happens is noticed.
#[derive(Debug, Default)]
struct Met {
    elections: u64,
    joint_elections: u64,
    commits: u64,
    truncations: u64,
    reads: u64,
    reads_refused: u64,
    transfers: u64,
    swaps: u64,
}

fn compare(seed: u64, met: &mut Met) {
    let mut draw = Rng::new(seed);
    let joint = draw.chance(1, 2);
    let members = if joint {
        Members { incoming: vec![1, 2, 4], outgoing: vec![1, 2, 3] }
    } else if draw.chance(1, 2) {
        Members { incoming: vec![1, 2, 3], outgoing: Vec::new() }
    } else {
        Members { incoming: vec![1, 2, 3, 4, 5], outgoing: Vec::new() }
    };
    let ids: Vec<u64> = (1..=members.incoming.len().max(3) as u64 + 1).collect();
    let mut ours = Group::<Ours>::new(seed, &members, ids.iter().copied());
    let mut theirs = Group::<Theirs>::new(seed, &members, ids.iter().copied());
    let mut history: Vec<Step> = Vec::new();
    let mut before = ours.view();
    for token in 1..60 {
        let step = draw_step(&mut draw, &ids, token);
        history.push(step.clone());
        let was_joint = !ours.members.outgoing.is_empty();
        ours.take(&step);
        theirs.take(&step);
        let context = || format!("seed {seed}, {members:?}, after {history:#?}");
        let (mine, other) = (ours.view(), theirs.view());
        for id in &ids {
            let (mine, other) = (&mine[id], &other[id]);
            // Who was swapped out is told less here and there.
            if !ours.members.incoming.contains(id) && ours.members.outgoing.is_empty() {
                continue;
            }
            assert_eq!((mine.leads, mine.term), (other.leads, other.term), "{id}: {}", context());
            assert_eq!(mine.log, other.log, "log of {id}: {}", context());
            let led = ours.part_of(*id).into_iter().any(|leader| ours.leads_by_quorum(leader));
            if led {
                assert_eq!(mine.commit, other.commit, "commit of {id}: {}", context());
            } else {
                assert!(mine.commit <= other.commit, "commit of {id}: {}", context());
            }
            let old = &before[id];
            met.elections += u64::from(mine.leads && !old.leads);
            met.joint_elections += u64::from(mine.leads && !old.leads && was_joint);
            met.commits += mine.commit - old.commit.min(mine.commit);
            let shared = mine.log.iter().zip(&old.log).take_while(|(new, old)| new == old).count();
            met.truncations += u64::from(shared < old.log.len());
        }
        if let Step::Read(token) = step {
            for (id, replica) in &ours.replicas {
                let mine = replica.reads().iter().find(|(read, _)| *read == token);
                let other = theirs.replicas[id].reads().iter().find(|(read, _)| *read == token);
                assert_eq!(mine, other, "read at {id}: {}", context());
                met.reads += u64::from(mine.is_some());
                met.reads_refused += u64::from(mine.is_none() && before[id].leads);
            }
        }
        met.transfers +=
            u64::from(matches!(step, Step::Transfer(to) if mine[&to].leads && !before[&to].leads));
        met.swaps += u64::from(
            matches!(step, Step::Replace(_, add) if ours.members.incoming.contains(&add)),
        );
        before = mine;
    }
}

#[test]
fn both_implementations_agree_on_random_schedules() {
    let mut met = Met::default();
    for seed in 0..600 {
        compare(seed, &mut met);
    }
    println!("{met:?}");
    let counts = [
        met.elections,
        met.joint_elections,
        met.commits,
        met.truncations,
        met.reads,
        met.reads_refused,
        met.transfers,
        met.swaps,
    ];
    assert!(counts.iter().all(|count| *count >= 20), "{met:?}");
}

/// Votes and acknowledgements of four replicas, all there can be, under plain and joint majorities.
#[test]
fn quorums_are_the_same() {
    let plain = |ids: &[u64]| Members { incoming: ids.to_vec(), outgoing: Vec::new() };
    let joint =
        |new: &[u64], old: &[u64]| Members { incoming: new.to_vec(), outgoing: old.to_vec() };
    let configurations =
        [plain(&[1]), plain(&[1, 2, 3]), joint(&[1, 2, 4], &[1, 2, 3]), joint(&[4], &[1, 2, 3])];
    for members in configurations {
        let ours = members.ours();
        let mut theirs = Theirs::new(1, &members);
        for case in 0..256_u64 {
            let digit = |id: StoreId| case >> (2 * (id.0 - 1)) & 3;
            let vote = |id| match digit(id) {
                0 => None,
                1 => Some(false),
                _ => Some(true),
            };
            let voters = theirs.node.raft.prs().conf().voters();
            let expected = format!("{:?}", voters.vote_result(|id| vote(StoreId(id))));
            let tally = match ours.tally(vote) {
                Tally::Won => "Won",
                Tally::Lost => "Lost",
                Tally::Pending => "Pending",
            };
            assert_eq!(tally, expected, "{members:?}, case {case}");
            let progress = theirs.node.raft.mut_prs();
            for id in 1..=4 {
                if let Some(peer) = progress.get_mut(id) {
                    peer.matched = digit(StoreId(id));
                }
            }
            let (expected, _) = progress.maximal_committed_index();
            assert_eq!(ours.reached(digit), expected, "{members:?}, case {case}");
        }
    }
}
