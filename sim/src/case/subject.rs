//! What can be run, recorded, made small and looked at: a seed, or a recorded case.

use trine_core::rare::Bug;

use super::{Case, fired, record, run_real};
use crate::Nanos;
use crate::run::Report;
use crate::seed::Seed;
use crate::trace::Sink;
use crate::world::Real;

/// What to run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    /// What the seed draws.
    Seed(Seed),
    /// What is written down.
    Case(Box<Case>),
}

impl Subject {
    /// Run it, and give its case.
    pub fn record(self, planted: Option<Bug>, sink: Option<Sink>) -> (Report, Case) {
        match self {
            Self::Seed(seed) => {
                let mut setup = seed.setup();
                setup.swarm.rare.planted = planted;
                record(Real, setup, sink)
            }
            Self::Case(mut case) => {
                case.swarm.rare.planted = planted.or(case.swarm.rare.planted);
                let report = run_real(&case, sink, Nanos::MAX);
                case.swarm.rare.unusual = fired(&report.counts);
                (report, *case)
            }
        }
    }
}
