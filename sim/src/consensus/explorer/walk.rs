//! What can happen next in a world, and how a walk chooses.

use trine_core::consensus::Change;
use trine_core::ids::StoreId;
use trine_core::rng::Rng;

use super::super::ghost::Broken;
use super::world::{Damage, Limits, SPARES_MAX, World, store};

/// Kinds of choices, each with its weight in a walk and its counter in the report.
pub(super) const KINDS: [&str; 18] = [
    "deliver",
    "persist",
    "deadline",
    "drop",
    "duplicate",
    "crash",
    "damage",
    "restart",
    "propose",
    "read",
    "fetch",
    "checkpoint",
    "link",
    "transfer",
    "change",
    "give up install",
    "wipe",
    "timing",
];

/// Kinds without which nothing goes on.
const ESSENTIAL_KINDS: usize = 3;

/// How often a kind is drawn until one is possible.
const DRAWS_MAX: usize = 8;

/// One thing that happens.
#[derive(Clone, Copy, Debug)]
pub(super) enum Choice {
    Deliver { message: usize, keep: bool },
    Persist { node: usize },
    Deadline { node: usize },
    Drop { message: usize },
    Crash { node: usize, damage: Damage },
    Restart { node: usize },
    Propose { node: usize },
    Read { node: usize },
    Fetch { node: usize },
    Checkpoint { node: usize, compact: bool },
    Link { a: usize, b: usize, up: bool, told: bool },
    Transfer { node: usize, to: usize },
    Change { node: usize, change: Change },
    GiveUpInstall { node: usize },
    Retime { node: usize, heartbeat_ms: u64 },
}

impl Choice {
    pub(super) fn carry_out(self, world: &mut World) -> Result<(), Broken> {
        match self {
            Self::Deliver { message, keep } => world.deliver(message, keep),
            Self::Persist { node } => world.finish_write(node),
            Self::Deadline { node } => world.deadline(node),
            Self::Drop { message } => {
                world.network.remove(message);
                Ok(())
            }
            Self::Crash { node, damage } => world.crash(node, damage),
            Self::Restart { node } => world.restart(node),
            Self::Propose { node } => world.propose(node),
            Self::Read { node } => world.read(node),
            Self::Fetch { node } => world.finish_fetch(node),
            Self::Checkpoint { node, compact } => world.checkpoint(node, compact),
            Self::Link { a, b, up, told } => world.link(a, b, up, told),
            Self::Transfer { node, to } => world.transfer(node, to),
            Self::Change { node, change } => world.change(node, change),
            Self::GiveUpInstall { node } => world.give_up_install(node),
            Self::Retime { node, heartbeat_ms } => world.retime(node, heartbeat_ms),
        }
    }
}

/// The weights of one walk (Groce et al., "Swarm testing", ISSTA 2012): each kind is off, rare or
/// frequent, so that no walk is the average of all.
#[derive(Clone, Debug)]
pub(super) struct Swarm {
    weights: [u64; KINDS.len()],
    /// In so many of 8 deliveries, an append with entries is lost instead: leaders then come and go
    /// with logs that differ.
    appends_lost: u64,
}

impl Swarm {
    pub(super) fn new(rng: &mut Rng) -> Self {
        let mut weights = [0; KINDS.len()];
        for (kind, weight) in weights.iter_mut().enumerate() {
            *weight = if kind < ESSENTIAL_KINDS {
                // Time passes slower than messages and writes do, or nobody ever leads for long.
                [[32, 64, 128], [32, 64, 128], [1, 4, 16]][kind][pick(rng, 3)]
            } else {
                [0, 0, 1, 3, 8][pick(rng, 5)]
            };
        }
        // Nothing comes of a walk that never proposes, or in which the dead stay dead.
        for needed in [7, 8] {
            weights[needed] = weights[needed].max(8);
        }
        // Suspect replicas elect nobody: in half of the walks disks are sound, so that leaders come and
        // go. In another half nobody changes membership or bounds.
        for (kinds, odds) in [([6, 16], 2), ([14, 17], 2)] {
            if rng.chance(1, odds) {
                kinds.iter().for_each(|kind| weights[*kind] = 0);
            }
        }
        Self { weights, appends_lost: [0, 0, 4, 7][pick(rng, 4)] }
    }

    /// The next choice, with its kind. `None` if none of a few that were drawn is possible now.
    pub(super) fn choose(&self, world: &World, rng: &mut Rng) -> Option<(usize, Choice)> {
        (0..DRAWS_MAX).find_map(|_| self.draw(world, rng))
    }

    fn draw(&self, world: &World, rng: &mut Rng) -> Option<(usize, Choice)> {
        let mut ticket = rng.below(self.weights.iter().sum());
        let kind = self.weights.iter().position(|weight| {
            let drawn = ticket < *weight;
            ticket = ticket.saturating_sub(*weight);
            drawn
        })?;
        let nodes = world.nodes.len();
        let node = pick(rng, nodes);
        let up = world.nodes[node].raft.is_some();
        let from_node = || (0..nodes).map(|i| (i + node) % nodes);
        let leader = from_node().find(|node| world.leads(*node));
        let writer = from_node().find(|node| world.writes(*node) > 0);
        let fetcher = from_node().find(|node| !world.nodes[*node].fetches.is_empty());
        let message = || (!world.network.is_empty()).then_some(world.network.len());
        let choice = match kind {
            0 => message().map(|n| {
                // Half of the deliveries are in order, the rest overtake.
                let message = if rng.chance(1, 2) { 0 } else { pick(rng, n) };
                if world.carries_entries(message) && rng.chance(self.appends_lost, 8) {
                    Choice::Drop { message }
                } else {
                    Choice::Deliver { message, keep: false }
                }
            }),
            1 => writer.map(|node| Choice::Persist { node }),
            2 => world
                .next_due(rng.chance(1, 2).then_some(node))
                .map(|node| Choice::Deadline { node }),
            3 => message().map(|n| Choice::Drop { message: pick(rng, n) }),
            4 => message().map(|n| Choice::Deliver { message: pick(rng, n), keep: true }),
            // Leaders crash more often than others: what they have not passed on is what matters.
            5 => leader
                .filter(|_| rng.chance(1, 2))
                .or(up.then_some(node))
                .map(|node| Choice::Crash { node, damage: crash(rng) }),
            6 => may_damage(world, node).then(|| Choice::Crash { node, damage: rot(rng) }),
            7 => (!up).then_some(Choice::Restart { node }),
            8 => leader.map(|node| Choice::Propose { node }),
            9 => leader.map(|node| Choice::Read { node }),
            10 => fetcher.map(|node| Choice::Fetch { node }),
            11 => up.then(|| Choice::Checkpoint { node, compact: rng.chance(1, 2) }),
            12 => Some(Choice::Link {
                a: node,
                b: (node + 1 + pick(rng, nodes - 1)) % nodes,
                up: rng.chance(1, 2),
                told: rng.chance(1, 2),
            }),
            13 => leader.map(|node| Choice::Transfer { node, to: pick(rng, nodes) }),
            14 => leader.and_then(|node| {
                let change = change(world, node, rng)?;
                Some(Choice::Change { node, change })
            }),
            15 => from_node()
                .find(|node| world.is_installing(*node))
                .map(|node| Choice::GiveUpInstall { node }),
            16 => may_damage(world, node).then(|| {
                let damage = Damage { wipe: true, ..crash(rng) };
                Choice::Crash { node, damage }
            }),
            _ => up.then(|| Choice::Retime { node, heartbeat_ms: [5, 10, 20][pick(rng, 3)] }),
        };
        choice.map(|choice| (kind, choice))
    }
}

/// A change that may make sense to a leader.
fn change(world: &World, leader: usize, rng: &mut Rng) -> Option<Change> {
    let members = world.membership(leader);
    let learner = any(rng, members.learners());
    match (learner, any(rng, members.voters())) {
        (Some(add), Some(remove)) if rng.chance(3, 4) => Some(Change::Swap { remove, add }),
        (Some(learner), _) if rng.chance(1, 2) => Some(Change::RemoveLearner(learner)),
        _ => {
            let all: Vec<StoreId> = (0..world.nodes.len()).map(store).collect();
            let spares = all.into_iter().filter(|id| members.members().all(|other| other != *id));
            any(rng, &spares.collect::<Vec<_>>()).map(Change::AddLearner)
        }
    }
}

fn any(rng: &mut Rng, ids: &[StoreId]) -> Option<StoreId> {
    (!ids.is_empty()).then(|| ids[pick(rng, ids.len())])
}

/// One suspect replica at a time: two of three can restore nobody.
fn may_damage(world: &World, node: usize) -> bool {
    world.nodes[node].raft.is_some()
        && (0..world.nodes.len()).all(|other| other == node || !world.is_suspect(other))
}

fn crash(rng: &mut Rng) -> Damage {
    Damage {
        writes_kept: pick(rng, 3),
        entries_kept: pick(rng, 2),
        cut: None,
        forget_state: false,
        wipe: false,
    }
}

fn rot(rng: &mut Rng) -> Damage {
    Damage { cut: Some(pick(rng, 4)), forget_state: rng.chance(1, 2), ..crash(rng) }
}

fn pick(rng: &mut Rng, bound: usize) -> usize {
    usize::try_from(rng.below(bound as u64)).expect("below a usize")
}

/// Limits at which every append is at a boundary, and such at which none is.
pub(super) fn limits(rng: &mut Rng) -> Limits {
    Limits {
        append_bytes: [1, 200, 1 << 16][pick(rng, 3)],
        in_flight: [1, 2, 8][pick(rng, 3)],
        cache_bytes: [0, 150, 1 << 16][pick(rng, 3)],
        uncommitted_bytes: [1, 300, 1 << 16][pick(rng, 3)],
        // A third of the walks is about three replicas only.
        spares: pick(rng, SPARES_MAX + 1),
    }
}

/// Everything worth trying next, for the exhaustive search.
pub(super) fn all(world: &World) -> Vec<Choice> {
    let mut choices: Vec<Choice> = (0..world.network.len())
        .flat_map(|message| [false, true].map(|keep| Choice::Deliver { message, keep }))
        .collect();
    let honest =
        Damage { writes_kept: 0, entries_kept: 0, cut: None, forget_state: false, wipe: false };
    for node in 0..world.nodes.len() {
        if world.nodes[node].raft.is_none() {
            choices.push(Choice::Restart { node });
            continue;
        }
        choices.push(Choice::Deadline { node });
        choices.push(Choice::Crash { node, damage: honest });
        if world.writes(node) > 0 {
            choices.push(Choice::Persist { node });
        }
        if may_damage(world, node) {
            let damage = Damage { cut: Some(1), forget_state: true, ..honest };
            choices.push(Choice::Crash { node, damage });
        }
        if !world.nodes[node].fetches.is_empty() {
            choices.push(Choice::Fetch { node });
        }
        if world.leads(node) {
            choices.push(Choice::Propose { node });
            choices.push(Choice::Read { node });
            let members = world.membership(node);
            let spare = (0..world.nodes.len())
                .map(store)
                .find(|id| members.members().all(|member| member != *id));
            choices.extend(spare.map(|id| Choice::Change { node, change: Change::AddLearner(id) }));
            if let Some(add) = members.learners().first().copied() {
                let swaps =
                    members.voters().iter().map(|remove| Change::Swap { remove: *remove, add });
                choices.extend(swaps.map(|change| Choice::Change { node, change }));
            }
        }
    }
    choices
}
