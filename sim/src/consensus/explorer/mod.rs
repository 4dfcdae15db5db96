//! A search for runs of a few replicas that break a promise of consensus.
//!
//! Random walks with swarm weights go far; from where some of them have come, an exhaustive search
//! tries everything that can happen in the next few steps. The ghost looks on at every step, and
//! every walk ends in peace: all replicas up, all links good, and then everything must converge
//! (all entries committed everywhere, suspect replicas trusted, reads answered).
//!
//! The same configuration finds the same things: a finding is its walk's seed.

mod walk;
mod world;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

use trine_core::consensus::{Mutants, Raft, Role};
use trine_core::rng::Rng;

use super::ghost::Broken;
use walk::{Choice, KINDS, Swarm};
use world::{World, place};

/// Rounds of "deliver all, write all, wait" in which peace must bring convergence.
const PEACE_ROUNDS_MAX: usize = 400;

/// Choices shown of a finding, the last ones.
const TRACE_LEN: usize = 60;

/// How much to search.
#[derive(Clone, Copy, Debug)]
pub struct ExploreConfig {
    /// Of the first walk; the others follow.
    pub seed: u64,
    /// Random walks.
    pub walks: u64,
    /// Steps of each.
    pub steps: usize,
    /// After every so many walks, an exhaustive search from somewhere on the way; 0 for none.
    pub exhaustive_every: u64,
    /// Steps of the exhaustive search.
    pub depth: usize,
    /// States that each exhaustive search may visit.
    pub states_max: usize,
    /// What replicas do wrong.
    pub mutants: Mutants,
}

impl ExploreConfig {
    /// A few seconds of work in a debug build.
    pub const SHORT: Self = Self {
        seed: 1,
        walks: 400,
        steps: 400,
        exhaustive_every: 40,
        depth: 4,
        states_max: 1500,
        mutants: Mutants::none(),
    };
}

/// What a search came to.
#[derive(Clone, Debug)]
pub struct Report {
    /// Walks that were finished.
    pub walks: u64,
    /// Steps of all walks.
    pub steps: u64,
    /// States of the exhaustive searches.
    pub states: u64,
    /// How often each kind of choice was made, by name.
    pub kinds: BTreeMap<&'static str, u64>,
    /// Entries committed, over all walks.
    pub committed: u64,
    /// The first broken promise. The search ends with it.
    pub finding: Option<Finding>,
}

/// A broken promise.
#[derive(Clone, Debug)]
pub struct Finding {
    /// Of the walk: `explore` with this seed and one walk finds it again.
    pub seed: u64,
    /// The broken promise, or the failed assertion.
    pub what: String,
    /// The last choices.
    pub trace: Vec<String>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} walks, {} steps, {} states searched, {} entries committed;",
            self.walks, self.steps, self.states, self.committed
        )?;
        for (kind, count) in &self.kinds {
            write!(f, " {kind} {count}")?;
        }
        if let Some(Finding { seed, what, trace }) = &self.finding {
            write!(f, "\nseed={seed:#x}: {what}\n  {}", trace.join("\n  "))?;
        }
        Ok(())
    }
}

/// Search.
pub fn explore(config: ExploreConfig) -> Report {
    let mut report = Report {
        walks: 0,
        steps: 0,
        states: 0,
        kinds: KINDS.iter().map(|kind| (*kind, 0)).collect(),
        committed: 0,
        finding: None,
    };
    for number in 0..config.walks {
        let seed = config.seed + number;
        let mut trace = Vec::new();
        let exhaustive =
            config.exhaustive_every != 0 && seed.is_multiple_of(config.exhaustive_every);
        let walk = || walk_once(&config, seed, exhaustive, &mut report, &mut trace);
        // A failed assertion of a replica is a finding like any other.
        let what = match catch_unwind(AssertUnwindSafe(walk)) {
            Ok(Ok(())) => {
                report.walks += 1;
                continue;
            }
            Ok(Err(broken)) => broken,
            Err(panic) => panic_text(panic.as_ref()),
        };
        let shown = trace.len().saturating_sub(TRACE_LEN);
        report.finding = Some(Finding { seed, what, trace: trace.split_off(shown) });
        break;
    }
    report
}

/// What a panic says.
pub(super) fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
    format!("assertion failed: {}", text.unwrap_or("(no text)"))
}

fn walk_once(
    config: &ExploreConfig,
    seed: u64,
    exhaustive: bool,
    report: &mut Report,
    trace: &mut Vec<String>,
) -> Result<(), Broken> {
    let mut rng = Rng::new(seed);
    let swarm = Swarm::new(&mut rng);
    let mut world = World::new(walk::limits(&mut rng), config.mutants, rng.next_u64());
    let search_at = rng.below(config.steps as u64);
    for step in 0..config.steps as u64 {
        if exhaustive && step == search_at {
            report.states += search(config, &world, trace)?;
        }
        if let Some((kind, choice)) = swarm.choose(&world, &mut rng) {
            trace.push(format!("{choice:?}"));
            choice.carry_out(&mut world)?;
            *report.kinds.entry(KINDS[kind]).or_default() += 1;
        }
        report.steps += 1;
    }
    trace.push("peace".to_owned());
    make_peace(&mut world)?;
    report.committed += world.ghost.committed();
    Ok(())
}

/// Everything that can happen in the next steps, breadth first, each state once.
fn search(config: &ExploreConfig, start: &World, trace: &mut Vec<String>) -> Result<u64, Broken> {
    let mut known = BTreeSet::from([start.fingerprint()]);
    let mut frontier: Vec<(World, Vec<Choice>)> = vec![(start.clone(), Vec::new())];
    for _ in 0..config.depth {
        let mut next = Vec::new();
        for (world, path) in &frontier {
            for choice in walk::all(world) {
                if known.len() >= config.states_max {
                    return Ok(known.len() as u64);
                }
                let mut world = world.clone();
                let mut path = path.clone();
                path.push(choice);
                if let Err(broken) = choice.carry_out(&mut world) {
                    trace.extend(path.iter().map(|choice| format!("{choice:?}")));
                    return Err(broken);
                }
                if known.insert(world.fingerprint()) {
                    next.push((world, path));
                }
            }
        }
        frontier = next;
    }
    Ok(known.len() as u64)
}

/// No more faults: everything must come right.
fn make_peace(world: &mut World) -> Result<(), Broken> {
    let nodes = world.nodes.len();
    for node in 0..nodes {
        world.restart(node)?;
    }
    for (a, b) in (0..nodes).flat_map(|a| (0..a).map(move |b| (a, b))) {
        world.link(a, b, true, true)?;
    }
    let mut proposed = false;
    for _ in 0..PEACE_ROUNDS_MAX {
        settle(world)?;
        if let Some(leader) = (0..nodes).find(|node| world.leads(*node)) {
            if proposed && has_converged(world) {
                return Ok(());
            }
            if !proposed {
                world.propose(leader)?;
                world.read(leader)?;
                proposed = true;
            }
        }
        wait(world)?;
    }
    let nodes: Vec<String> =
        world.nodes.iter().flat_map(|node| node.raft.as_ref().map(Raft::status)).collect();
    let reads = world.ghost.reads_open();
    Err(format!("peace does not bring convergence: {} reads open; {}", reads, nodes.join("; ")))
}

/// Deliver and write until nothing is under way.
fn settle(world: &mut World) -> Result<(), Broken> {
    let mut steps = 0;
    loop {
        let busy = (0..world.nodes.len())
            .find(|node| world.writes(*node) > 0 || !world.nodes[*node].fetches.is_empty());
        if let Some(node) = busy {
            world.finish_write(node)?;
            world.finish_fetch(node)?;
        } else if !world.network.is_empty() {
            world.deliver(0, false)?;
        } else {
            return Ok(());
        }
        steps += 1;
        if steps > 10_000 {
            return Err("replicas talk without end, and no time passes".to_owned());
        }
    }
}

/// Let time pass until the next deadline.
fn wait(world: &mut World) -> Result<(), Broken> {
    world.next_due(None).map_or(Ok(()), |node| world.deadline(node))
}

/// Whether one replica leads, and all members of its configuration have all of its log.
fn has_converged(world: &World) -> bool {
    let rafts = || world.nodes.iter().flat_map(|node| &node.raft);
    let mut leaders = rafts().filter(|raft| raft.role() == Role::Leader);
    let (Some(leader), None) = (leaders.next(), leaders.next()) else { return false };
    let members = leader.membership();
    let agree = members.members().all(|member| {
        world.nodes[place(member)].raft.as_ref().is_some_and(|raft| {
            (raft.term(), raft.last_index()) == (leader.term(), leader.last_index())
                && raft.commit() == leader.last_index()
                && raft.membership() == members
                && !raft.is_suspect()
                && raft.leader() == leader.leader()
        })
    });
    agree && !members.is_joint() && world.ghost.reads_open() == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_search_breaks_no_promise_and_meets_every_kind_of_event() {
        let report = explore(ExploreConfig::SHORT);
        assert!(report.finding.is_none(), "{report}");
        assert!(report.kinds.values().all(|count| *count > 0), "{report}");
        assert!(report.committed > 1000, "{report}");
        assert!(report.states > 1000, "{report}");
    }

    #[test]
    fn the_same_seed_makes_the_same_search() {
        let config = ExploreConfig { walks: 10, exhaustive_every: 0, ..ExploreConfig::SHORT };
        assert_eq!(explore(config).to_string(), explore(config).to_string());
    }
}
