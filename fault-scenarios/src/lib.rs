//! Scenario files for the whole stack: what fails when, as data.
//!
//! Nothing is here yet. This crate is the place of the full-stack simulation (the production shell
//! over simulated networks and disks) and of the files that one scenario shares between it, the
//! core's simulator and real processes. Named scenarios of the core are in `sim/tests/scenarios.rs`.
