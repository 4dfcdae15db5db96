//! What clients asked and were told, key by key, and the verdict over it.

use std::collections::BTreeMap;

use super::register::{self, Operation, ValueFacts, ValueId, Verdict};

/// Everything that clients saw.
#[derive(Debug, Default)]
pub struct History {
    values: Vec<ValueFacts>,
    registers: BTreeMap<String, Vec<Operation>>,
    stamp: u64,
}

impl History {
    /// A new value; its facts can be set until it is first written.
    pub fn add_value(&mut self, facts: ValueFacts) -> ValueId {
        let id = u32::try_from(self.values.len()).expect("a run writes fewer values");
        self.values.push(facts);
        ValueId(id)
    }

    /// What is known of a value; `None` if there is no such value.
    pub fn facts(&self, value: ValueId) -> Option<ValueFacts> {
        self.values.get(value.0 as usize).copied()
    }

    /// The value of an upload is known only when its parts are chosen.
    pub fn set_facts(&mut self, value: ValueId, facts: ValueFacts) {
        self.values[value.0 as usize] = facts;
    }

    /// The next stamp of a call or return.
    pub fn stamp(&mut self) -> u64 {
        self.stamp += 1;
        self.stamp
    }

    /// Record an operation on the register `name`.
    pub fn record(&mut self, name: &str, operation: Operation) {
        match self.registers.get_mut(name) {
            Some(operations) => operations.push(operation),
            None => {
                self.registers.insert(name.to_owned(), vec![operation]);
            }
        }
    }

    /// Check every register. Says how many could not be decided.
    ///
    /// # Errors
    /// Names the register and the operation that no order explains, with its neighbours in time.
    pub fn check(&self) -> Result<u64, String> {
        let mut undecided = 0;
        for (name, operations) in &self.registers {
            match register::check(operations, &self.values) {
                Verdict::Linearizable => {}
                Verdict::Undecided => undecided += 1,
                Verdict::Violation { operation, possible } => {
                    return Err(self.explain(name, operations, &operation, &possible));
                }
            }
        }
        Ok(undecided)
    }

    fn explain(
        &self,
        name: &str,
        operations: &[Operation],
        culprit: &Operation,
        possible: &[Option<ValueId>],
    ) -> String {
        let mut near: Vec<_> =
            operations.iter().filter(|operation| operation.call <= culprit.ret).collect();
        near.sort_unstable_by_key(|operation| operation.call);
        let shown = near.len().saturating_sub(16);
        let lines: Vec<_> = near[shown..]
            .iter()
            .map(|operation| {
                format!("\n    {}..{} {:?}", operation.call, operation.ret, operation.action)
            })
            .collect();
        format!(
            "{name:?} is not linearizable: {:?} ({}..{}) fits none of {possible:?}; before it:{}",
            culprit.action,
            culprit.call,
            culprit.ret,
            lines.concat()
        )
    }
}
