//! Linearizability of one key: a register that is written (perhaps on a condition), deleted, read.
//!
//! "Just in time" linearization (Lowe, "Testing for linearizability", 2017; after Wing and Gong,
//! 1993): walk through calls and returns in order and keep every configuration that explains what
//! was seen so far. Only when an operation returns must it have taken effect; only then are pending
//! operations put before it. An operation with unknown outcome stays pending for ever: it may take
//! effect once, at any time after its call, or never.
//!
//! What keeps this small: of two configurations with the same value, the one that has used fewer
//! unknown operations can do all that the other can. Unknown operations that do the same, such as deletes,
//! take effect in the order of their calls: they cannot be told apart. Nor can values that nobody names,
//! so that they are one.

use std::collections::{BTreeMap, BTreeSet};

use trine_core::object::ETag;

/// A value that was written once: its place in the list of all values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ValueId(pub u32);

/// What is known of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ValueFacts {
    /// Its entity tag.
    pub etag: ETag,
    /// Its bytes.
    pub length: u64,
    /// The tag that a copy of its bytes has.
    pub content: ETag,
    /// Whether the others are known.
    pub known: bool,
}

impl ValueFacts {
    /// Of a copy, until somebody has seen what it took.
    pub const UNKNOWN: Self = {
        let etag = ETag { md5: [0; 16], parts: 0 };
        Self { etag, length: 0, content: etag, known: false }
    };
}

/// What a read saw.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// Nothing.
    Absent,
    /// This value.
    Value(ValueId),
    /// Some value with this tag and, if known, this length.
    Tagged(ETag, Option<u64>),
    /// Some value whose bytes have this tag.
    Content(ETag),
}

/// On what a write or delete depends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// Nothing.
    Always,
    /// There is no value.
    IfAbsent,
    /// There is a value.
    IfPresent,
    /// There is a value with this tag.
    IfTag(ETag),
}

/// What became of a write or delete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was acknowledged.
    Done,
    /// Its condition did not hold.
    Refused,
    /// Nobody knows.
    Unknown,
}

/// What was asked, and what came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Put a value (`Some`) or delete (`None`).
    Write(Option<ValueId>, Condition, Outcome),
    /// Read.
    Read(Seen),
}

/// One operation of a history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Operation {
    /// When it was called. All calls and returns of a history have different stamps.
    pub call: u64,
    /// When it returned. Of no meaning for an unknown outcome.
    pub ret: u64,
    /// What it was.
    pub action: Action,
}

/// What the checker found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// There is an order that explains everything.
    Linearizable,
    /// There is none: at the return of this operation, none of these values fits.
    Violation {
        /// The operation that cannot be explained.
        operation: Operation,
        /// What the register could have held before.
        possible: Vec<Option<ValueId>>,
    },
    /// Too many configurations to tell.
    Undecided,
}

/// Configurations looked at for one return before the checker gives up.
const CONFIGURATIONS_MAX: usize = 200_000;
/// Operations with known outcome that overlap at one moment.
const OVERLAP_MAX: usize = 64;

/// Whether `operations` on a register that was empty at first are linearizable. `values` holds the
/// facts of each [`ValueId`].
///
/// # Panics
/// If more than 64 operations with known outcome overlap.
pub fn check(operations: &[Operation], values: &[ValueFacts]) -> Verdict {
    let operations = without_names_that_nobody_uses(operations, values);
    let mut moments = Vec::with_capacity(operations.len() * 2);
    for operation in &operations {
        moments.push((operation.call, operation, false));
        if !is_unknown(operation) {
            moments.push((operation.ret, operation, true));
        }
    }
    moments.sort_unstable_by_key(|(stamp, ..)| *stamp);
    let mut search =
        Search { values, open: [None; OVERLAP_MAX], unknown: Vec::new(), twins: Vec::new() };
    let mut configurations = vec![Configuration { value: None, done: 0, used: Vec::new() }];
    for (_, operation, returns) in moments {
        if !returns {
            search.call(operation);
            continue;
        }
        match search.give_back(operation, &configurations) {
            None => return Verdict::Undecided,
            Some(next) if next.is_empty() => {
                let mut possible: Vec<_> = configurations.iter().map(|c| c.value).collect();
                possible.sort_unstable();
                possible.dedup();
                return Verdict::Violation { operation: *operation, possible };
            }
            Some(next) => configurations = next,
        }
    }
    Verdict::Linearizable
}

/// The same history, in which all unknown writes of values that no read has seen and no condition names, of which
/// there are many after a gateway was killed, write one and the same of them.
fn without_names_that_nobody_uses(
    operations: &[Operation],
    values: &[ValueFacts],
) -> Vec<Operation> {
    let (mut seen, mut tags) = (BTreeSet::new(), BTreeSet::new());
    let mut name = |etag: ETag| tags.insert((etag.md5, etag.parts));
    for operation in operations {
        match operation.action {
            Action::Read(Seen::Value(value)) => drop(seen.insert(value)),
            Action::Read(Seen::Tagged(etag, _) | Seen::Content(etag))
            | Action::Write(_, Condition::IfTag(etag), _) => drop(name(etag)),
            Action::Read(Seen::Absent) | Action::Write(..) => {}
        }
    }
    let is_named = |value: ValueId| {
        let facts = &values[value.0 as usize];
        let named = |etag: ETag| tags.contains(&(etag.md5, etag.parts));
        !facts.known || seen.contains(&value) || named(facts.etag) || named(facts.content)
    };
    let mut nameless = None;
    let mut rename = |operation: &Operation| match operation.action {
        Action::Write(Some(value), condition, Outcome::Unknown) if !is_named(value) => {
            let value = *nameless.get_or_insert(value);
            let action = Action::Write(Some(value), condition, Outcome::Unknown);
            Operation { action, ..*operation }
        }
        _ => *operation,
    };
    operations.iter().map(&mut rename).collect()
}

fn is_unknown(operation: &Operation) -> bool {
    matches!(operation.action, Action::Write(_, _, Outcome::Unknown))
}

/// One explanation of what was seen so far.
#[derive(Clone, Debug)]
struct Configuration {
    value: Option<ValueId>,
    /// Open operations that have taken effect, by slot.
    done: u64,
    /// Unknown operations that have taken effect, by place, ascending.
    used: Vec<u32>,
}

struct Search<'a> {
    values: &'a [ValueFacts],
    /// Operations that were called and have not returned.
    open: [Option<&'a Operation>; OVERLAP_MAX],
    unknown: Vec<&'a Operation>,
    /// For each of them the last before it that does the same.
    twins: Vec<Option<u32>>,
}

impl<'a> Search<'a> {
    fn call(&mut self, operation: &'a Operation) {
        if is_unknown(operation) {
            let twin = self.unknown.iter().rposition(|other| other.action == operation.action);
            self.twins.push(twin.map(|place| u32::try_from(place).expect("few operations")));
            self.unknown.push(operation);
        } else {
            let slot = self.open.iter_mut().find(|slot| slot.is_none());
            *slot.expect("there are fewer clients than slots") = Some(operation);
        }
    }

    /// All configurations in which `operation` has taken effect, reached from `from`. `None` if
    /// there are too many.
    fn give_back(
        &mut self,
        operation: &Operation,
        from: &[Configuration],
    ) -> Option<Vec<Configuration>> {
        let is_it = |open: &Option<&Operation>| open.is_some_and(|o| std::ptr::eq(o, operation));
        let slot = self.open.iter().position(is_it).expect("it was called before");
        let mut frontier = Frontier::default();
        let mut reached = Frontier::default();
        for configuration in from {
            frontier.add(configuration.clone());
        }
        let mut steps = 0;
        while let Some(configuration) = frontier.next() {
            steps += 1;
            if steps > CONFIGURATIONS_MAX {
                return None;
            }
            if configuration.done & (1 << slot) != 0 {
                let done = configuration.done & !(1 << slot);
                reached.add(Configuration { done, ..configuration });
                continue;
            }
            self.extend(&configuration, &mut frontier);
        }
        self.open[slot] = None;
        Some(reached.all())
    }

    /// Let each operation that may take effect now do so.
    fn extend(&self, configuration: &Configuration, frontier: &mut Frontier) {
        for (slot, open) in self.open.iter().enumerate() {
            let Some(operation) = open else { continue };
            if configuration.done & (1 << slot) == 0
                && let Some(value) = self.apply(&operation.action, configuration.value)
            {
                let done = configuration.done | (1 << slot);
                let used = configuration.used.clone();
                frontier.add(Configuration { value, done, used });
            }
        }
        for ((place, operation), twin) in (0..).zip(&self.unknown).zip(&self.twins) {
            let Err(at) = configuration.used.binary_search(&place) else { continue };
            if twin.is_some_and(|twin| configuration.used.binary_search(&twin).is_err()) {
                continue;
            }
            if let Some(value) = self.apply(&operation.action, configuration.value)
                && value != configuration.value
            {
                let mut used = configuration.used.clone();
                used.insert(at, place);
                frontier.add(Configuration { value, done: configuration.done, used });
            }
        }
    }

    /// The value after `action`, if what came of it fits to `value`.
    fn apply(&self, action: &Action, value: Option<ValueId>) -> Option<Option<ValueId>> {
        match action {
            Action::Write(new, condition, outcome) => {
                let (can, cannot) = self.holds(*condition, value);
                match outcome {
                    Outcome::Done | Outcome::Unknown if can => Some(*new),
                    Outcome::Refused | Outcome::Unknown if cannot => Some(value),
                    _ => None,
                }
            }
            Action::Read(seen) => self.fits(*seen, value).then_some(value),
        }
    }

    /// Whether a condition can hold, and whether it can fail: both, if the value is not known.
    fn holds(&self, condition: Condition, value: Option<ValueId>) -> (bool, bool) {
        let facts = value.map(|value| self.facts(value));
        let holds = match (condition, facts) {
            (Condition::IfTag(_), Some(facts)) if !facts.known => return (true, true),
            (Condition::Always, _) => true,
            (Condition::IfAbsent, facts) => facts.is_none(),
            (Condition::IfPresent, facts) => facts.is_some(),
            (Condition::IfTag(etag), facts) => facts.is_some_and(|facts| facts.etag == etag),
        };
        (holds, !holds)
    }

    fn fits(&self, seen: Seen, value: Option<ValueId>) -> bool {
        match (seen, value) {
            (Seen::Absent, None) => true,
            (Seen::Value(seen), Some(value)) => seen == value,
            (Seen::Tagged(etag, length), Some(value)) => {
                let facts = self.facts(value);
                let fits = length.is_none_or(|length| facts.length == length);
                !facts.known || facts.etag == etag && fits
            }
            (Seen::Content(content), Some(value)) => {
                let facts = self.facts(value);
                !facts.known || facts.content == content
            }
            (Seen::Absent, Some(_)) => false,
            (Seen::Value(_) | Seen::Tagged(..) | Seen::Content(_), None) => false,
        }
    }

    fn facts(&self, value: ValueId) -> &ValueFacts {
        &self.values[value.0 as usize]
    }
}

/// Configurations to look at, without those that another one covers.
#[derive(Default)]
struct Frontier {
    known: BTreeMap<(Option<ValueId>, u64), Vec<Vec<u32>>>,
    queue: std::collections::VecDeque<Configuration>,
}

impl Frontier {
    fn add(&mut self, configuration: Configuration) {
        let known = self.known.entry((configuration.value, configuration.done)).or_default();
        if known.iter().any(|used| is_subset(used, &configuration.used)) {
            return;
        }
        known.retain(|used| !is_subset(&configuration.used, used));
        known.push(configuration.used.clone());
        self.queue.push_back(configuration);
    }

    fn next(&mut self) -> Option<Configuration> {
        self.queue.pop_front()
    }

    fn all(self) -> Vec<Configuration> {
        let known = self.known.into_iter();
        known
            .flat_map(|((value, done), sets)| {
                sets.into_iter().map(move |used| Configuration { value, done, used })
            })
            .collect()
    }
}

/// Whether every element of `small` is in `large`; both ascend.
fn is_subset(small: &[u32], large: &[u32]) -> bool {
    small.len() <= large.len() && small.iter().all(|place| large.binary_search(place).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: ValueId = ValueId(0);
    const B: ValueId = ValueId(1);
    const C: ValueId = ValueId(2);

    fn values() -> Vec<ValueFacts> {
        (0..64)
            .map(|n| {
                let (etag, length) = (ETag { md5: [n; 16], parts: 0 }, u64::from(n));
                ValueFacts { etag, length, content: etag, known: n < 60 }
            })
            .collect()
    }

    fn put(call: u64, ret: u64, value: ValueId) -> Operation {
        Operation {
            call,
            ret,
            action: Action::Write(Some(value), Condition::Always, Outcome::Done),
        }
    }

    fn lost_put(call: u64, value: ValueId) -> Operation {
        let action = Action::Write(Some(value), Condition::Always, Outcome::Unknown);
        Operation { call, ret: 0, action }
    }

    fn delete(call: u64, ret: u64) -> Operation {
        Operation { call, ret, action: Action::Write(None, Condition::Always, Outcome::Done) }
    }

    fn read(call: u64, ret: u64, seen: Seen) -> Operation {
        Operation { call, ret, action: Action::Read(seen) }
    }

    fn conditional(call: u64, ret: u64, value: ValueId, c: Condition, o: Outcome) -> Operation {
        Operation { call, ret, action: Action::Write(Some(value), c, o) }
    }

    fn is_good(operations: &[Operation]) -> bool {
        match check(operations, &values()) {
            Verdict::Linearizable => true,
            Verdict::Violation { .. } => false,
            Verdict::Undecided => panic!("undecided"),
        }
    }

    #[test]
    fn sequence_of_writes_and_reads_is_linearizable() {
        assert!(is_good(&[
            read(1, 2, Seen::Absent),
            put(3, 4, A),
            read(5, 6, Seen::Value(A)),
            delete(7, 8),
            read(9, 10, Seen::Absent),
        ]));
    }

    #[test]
    fn stale_read_after_an_acknowledged_write_is_a_violation() {
        assert!(!is_good(&[put(1, 2, A), put(3, 4, B), read(5, 6, Seen::Value(A))]));
    }

    #[test]
    fn lost_write_is_a_violation() {
        assert!(!is_good(&[put(1, 2, A), read(3, 4, Seen::Absent)]));
    }

    #[test]
    fn overlapping_read_may_see_old_or_new_but_not_go_back() {
        let old_then_new =
            [put(1, 2, A), put(3, 10, B), read(4, 5, Seen::Value(A)), read(6, 7, Seen::Value(B))];
        assert!(is_good(&old_then_new));
        let new_then_old =
            [put(1, 2, A), put(3, 10, B), read(4, 5, Seen::Value(B)), read(6, 7, Seen::Value(A))];
        assert!(!is_good(&new_then_old));
    }

    #[test]
    fn unknown_write_may_take_effect_late_once_or_never() {
        let late = [lost_put(1, A), put(2, 3, B), read(4, 5, Seen::Value(B))];
        assert!(is_good(&late));
        let mut later = late.to_vec();
        later.push(read(6, 7, Seen::Value(A)));
        assert!(is_good(&later));
        later.extend([put(8, 9, C), read(10, 11, Seen::Value(A))]);
        assert!(!is_good(&later), "it took effect twice");
    }

    #[test]
    fn unknown_write_does_not_take_effect_before_its_call() {
        assert!(!is_good(&[read(1, 2, Seen::Value(A)), lost_put(3, A)]));
    }

    #[test]
    fn of_two_creations_only_one_succeeds() {
        let both = [
            conditional(1, 4, A, Condition::IfAbsent, Outcome::Done),
            conditional(2, 5, B, Condition::IfAbsent, Outcome::Done),
        ];
        assert!(!is_good(&both));
        let one = [
            conditional(1, 4, A, Condition::IfAbsent, Outcome::Refused),
            conditional(2, 5, B, Condition::IfAbsent, Outcome::Done),
            read(6, 7, Seen::Value(B)),
        ];
        assert!(is_good(&one));
    }

    #[test]
    fn refusal_needs_something_that_was_there() {
        let refused = conditional(1, 4, A, Condition::IfAbsent, Outcome::Refused);
        assert!(!is_good(&[refused]));
        // A write whose outcome nobody knows explains it.
        assert!(is_good(&[lost_put(0, B), refused]));
    }

    #[test]
    fn compare_and_set_fits_only_the_value_it_names() {
        let etag = values()[0].etag;
        let swap = conditional(5, 6, C, Condition::IfTag(etag), Outcome::Done);
        assert!(is_good(&[put(1, 2, A), swap, read(7, 8, Seen::Value(C))]));
        assert!(!is_good(&[put(1, 2, A), put(3, 4, B), swap]));
    }

    #[test]
    fn listing_sees_tag_and_length() {
        let facts = values()[1];
        assert!(is_good(&[put(1, 2, B), read(3, 4, Seen::Tagged(facts.etag, Some(1)))]));
        assert!(!is_good(&[put(1, 2, B), read(3, 4, Seen::Tagged(facts.etag, Some(2)))]));
    }

    #[test]
    fn copied_bytes_must_have_been_there_while_the_copy_ran() {
        let copy = |call, ret| read(call, ret, Seen::Content(values()[0].content));
        assert!(is_good(&[put(1, 2, A), copy(3, 4), put(5, 6, B)]));
        assert!(is_good(&[put(1, 2, A), put(3, 6, B), copy(4, 5)]));
        assert!(!is_good(&[put(1, 2, A), put(3, 4, B), copy(5, 6)]));
        assert!(!is_good(&[copy(1, 2), put(3, 4, A)]));
    }

    #[test]
    fn a_value_that_nobody_has_seen_may_have_any_tag_but_is_there() {
        let unseen = ValueId(63);
        let (known, tag) = (values()[0].etag, Seen::Tagged(values()[1].etag, None));
        assert!(is_good(&[put(1, 2, unseen), read(3, 4, tag)]));
        assert!(!is_good(&[put(1, 2, unseen), read(3, 4, Seen::Absent)]));
        for outcome in [Outcome::Done, Outcome::Refused] {
            let swap = conditional(3, 4, B, Condition::IfTag(known), outcome);
            assert!(is_good(&[put(1, 2, unseen), swap]));
        }
        let create = conditional(3, 4, B, Condition::IfAbsent, Outcome::Done);
        assert!(!is_good(&[put(1, 2, unseen), create]));
    }

    #[test]
    fn many_unknown_writes_are_decided_quickly() {
        let mut operations: Vec<_> =
            (0..60).map(|n| lost_put(u64::from(n) * 10, ValueId(n))).collect();
        for n in 0..60 {
            let stamp = 1_000 + u64::from(n) * 10;
            operations.push(read(stamp, stamp + 5, Seen::Value(ValueId(59 - n))));
        }
        assert!(is_good(&operations));
        operations.push(read(5_000, 5_001, Seen::Value(ValueId(30))));
        assert!(!is_good(&operations));
    }

    /// After a gateway was killed with many requests in hand.
    #[test]
    fn unknown_writes_that_cannot_be_told_apart_are_decided_quickly() {
        let mut operations: Vec<_> = (0..30).map(|n| lost_put(u64::from(n), ValueId(n))).collect();
        let lost_delete = |call| {
            let action = Action::Write(None, Condition::Always, Outcome::Unknown);
            Operation { call, ret: 0, action }
        };
        operations.extend((30..60).map(lost_delete));
        let shows = |n: u64| {
            let stamp = 1_000 + n * 10;
            match n.is_multiple_of(2) {
                true => conditional(stamp, stamp + 5, C, Condition::IfAbsent, Outcome::Refused),
                false => read(stamp, stamp + 5, Seen::Absent),
            }
        };
        // There and gone again, thirty times; and there once more, for which there is no write left.
        operations.extend((0..60).map(shows));
        assert!(is_good(&operations));
        operations.push(shows(60));
        assert!(!is_good(&operations));
        // One that was seen is one of its own.
        operations.pop();
        operations.push(read(5_000, 5_001, Seen::Value(ValueId(7))));
        assert!(!is_good(&operations));
        operations.truncate(60 + 58);
        operations.push(read(5_000, 5_001, Seen::Value(ValueId(7))));
        assert!(is_good(&operations));
    }
}
