//! Repair, step by step.
