//! One seed, from its number to its verdict.

use std::backtrace::Backtrace;
use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;

use crate::Nanos;
use crate::case::Case;
use crate::faults::swarm::Swarm;
use crate::trace::Sink;
use crate::world::choices::{Choices, Recording};
use crate::world::{Counts, Maker, Setup, World};

/// Frames of the stack that a panic is reported with.
const FRAMES_SHOWN: usize = 12;

/// What came of a seed.
#[derive(Clone, Debug)]
pub struct Report {
    /// The seed.
    pub seed: u64,
    /// What broke, if anything did.
    pub failure: Option<String>,
    /// Hash of the trace: equal for every run of the seed at one commit.
    pub hash: u64,
    /// Events in the trace.
    pub events: u64,
    /// Simulated time.
    pub simulated: Nanos,
    /// What was counted.
    pub counts: Counts,
    /// How the run was configured.
    pub swarm: Swarm,
}

impl Report {
    /// Of a run that could not be ended: a planted mistake may also break what reports it.
    pub(crate) fn without_an_end(case: &Case) -> Self {
        Self {
            seed: case.seed,
            failure: Some("the run could not even be ended".to_owned()),
            hash: 0,
            events: 0,
            simulated: 0,
            counts: Counts::default(),
            swarm: case.swarm.clone(),
        }
    }
}

/// Run a world as `drive` says. A panic in it is a failure of the run.
pub fn run<M: Maker>(
    maker: M,
    setup: Setup,
    sink: Option<Sink>,
    drive: impl FnOnce(&mut World<M>) -> Result<(), String>,
) -> Report {
    play(maker, setup, Choices::default(), sink, drive).0
}

/// The same, with choices that are given, or to be written down; those are returned.
pub fn play<M: Maker>(
    maker: M,
    setup: Setup,
    choices: Choices,
    sink: Option<Sink>,
    drive: impl FnOnce(&mut World<M>) -> Result<(), String>,
) -> (Report, Recording) {
    install_hook();
    let (seed, swarm) = (setup.seed, setup.swarm.clone());
    let mut world = None;
    KEEPING.set(true);
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        let world = world.insert(World::with_choices(maker, setup, choices, sink));
        drive(world)
    }));
    KEEPING.set(false);
    let rare = trine_core::rare::end();
    let failure = match outcome {
        Ok(result) => result.err(),
        Err(_) => Some(LAST_PANIC.with(RefCell::take).unwrap_or_else(|| "a panic".to_owned())),
    };
    let (hash, events) = world.as_ref().map_or((0, 0), World::trace);
    let simulated = world.as_ref().map_or(0, World::now);
    let recording = world.as_ref().map(World::recording).unwrap_or_default();
    let counts = world.map(|world| world.counts().clone()).unwrap_or_default();
    let counts = Counts { rare, ..counts };
    (Report { seed, failure, hash, events, simulated, counts, swarm }, recording)
}

thread_local! {
    static LAST_PANIC: RefCell<Option<String>> = const { RefCell::new(None) };
    static KEEPING: Cell<bool> = const { Cell::new(false) };
}

/// Keep what a panic says for the report, instead of printing it, while a thread runs a seed.
fn install_hook() {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if KEEPING.get() {
                let text = format!("{info}\n{}", own_frames());
                LAST_PANIC.with_borrow_mut(|last| *last = Some(text));
            } else {
                before(info);
            }
        }));
    });
}

/// The frames of the present stack that are in this workspace, innermost first.
fn own_frames() -> String {
    let stack = Backtrace::force_capture().to_string();
    let mut lines = stack.lines().map(str::trim).peekable();
    let mut own = Vec::new();
    while let Some(line) = lines.next() {
        let at =
            lines.peek().filter(|next| next.starts_with("at ./") || next.contains("/core/src/"));
        if let Some(at) = at
            && !at.contains("/rustc/")
        {
            own.push(format!("    {line} {at}"));
        }
    }
    own.truncate(FRAMES_SHOWN);
    own.join("\n")
}
