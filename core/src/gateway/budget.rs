//! The budget of body bytes in hand: who holds how much, and who waits for it, first come first
//! served. What a request reserves it gives back in one piece when it ends.

use std::collections::{BTreeMap, VecDeque};

use crate::ids::RequestId;

/// Requests that may wait for the budget; beyond it a client is told to slow down. Waiting requests
/// hold no body bytes, so that the bound is on patience rather than on memory.
const WAITING_MAX: usize = 256;

/// Reservations of body bytes.
#[derive(Debug)]
pub(super) struct Budget {
    total: u64,
    used: u64,
    held: BTreeMap<RequestId, u64>,
    waiting: VecDeque<(RequestId, u64)>,
}

/// What came of asking for a reservation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Admission {
    /// The bytes are reserved.
    Granted,
    /// The request stands in the queue; [`Budget::admit`] will name it.
    Queued,
    /// The queue is full.
    Refused,
}

impl Budget {
    pub(super) fn new(total: u64) -> Self {
        Self { total, used: 0, held: BTreeMap::new(), waiting: VecDeque::new() }
    }

    /// Ask for `bytes`. A request asks once.
    pub(super) fn reserve(&mut self, id: RequestId, bytes: u64) -> Admission {
        assert!(!self.held.contains_key(&id), "a request reserves once");
        if self.waiting.is_empty() && self.fits(bytes) {
            self.grant(id, bytes);
            return Admission::Granted;
        }
        if self.waiting.len() >= WAITING_MAX {
            return Admission::Refused;
        }
        self.waiting.push_back((id, bytes));
        Admission::Queued
    }

    /// Grant the first waiting request what it asked for, if there is room now.
    pub(super) fn admit(&mut self) -> Option<RequestId> {
        let (id, bytes) = *self.waiting.front()?;
        if !self.fits(bytes) {
            return None;
        }
        self.waiting.pop_front();
        self.grant(id, bytes);
        Some(id)
    }

    /// Give back all that a request holds or waits for.
    pub(super) fn release(&mut self, id: RequestId) {
        if let Some(bytes) = self.held.remove(&id) {
            self.used -= bytes;
        } else {
            self.waiting.retain(|(waiting, _)| *waiting != id);
        }
    }

    pub(super) fn used(&self) -> u64 {
        self.used
    }

    pub(super) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    pub(super) fn check(&self, is_open: impl Fn(RequestId) -> bool) {
        assert_eq!(self.used, self.held.values().sum::<u64>(), "the budget's sum is its parts");
        assert!(self.used <= self.total || self.held.len() == 1, "the budget is kept");
        assert!(self.waiting.len() <= WAITING_MAX, "the queue is bounded");
        assert!(self.held.keys().all(|id| is_open(*id)), "only open requests hold bytes");
        assert!(self.waiting.iter().all(|(id, _)| is_open(*id)), "only open requests wait");
    }

    /// A request alone may have more than there is: it could never run otherwise.
    fn fits(&self, bytes: u64) -> bool {
        self.used == 0 || self.used.saturating_add(bytes) <= self.total
    }

    fn grant(&mut self, id: RequestId, bytes: u64) {
        self.used += bytes;
        self.held.insert(id, bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiting_requests_are_admitted_in_order_and_none_overtakes() {
        let mut budget = Budget::new(100);
        assert_eq!(budget.reserve(RequestId(1), 80), Admission::Granted);
        assert_eq!(budget.reserve(RequestId(2), 50), Admission::Queued);
        assert_eq!(budget.reserve(RequestId(3), 10), Admission::Queued);
        assert_eq!(budget.admit(), None);
        budget.release(RequestId(1));
        assert_eq!(budget.admit(), Some(RequestId(2)));
        assert_eq!(budget.admit(), Some(RequestId(3)));
        assert_eq!(budget.used(), 60);
        budget.check(|_| true);
    }

    #[test]
    fn a_request_alone_may_exceed_the_budget() {
        let mut budget = Budget::new(10);
        assert_eq!(budget.reserve(RequestId(1), 80), Admission::Granted);
        assert_eq!(budget.reserve(RequestId(2), 1), Admission::Queued);
        budget.release(RequestId(2));
        budget.release(RequestId(1));
        assert_eq!((budget.used(), budget.waiting()), (0, 0));
    }

    #[test]
    fn a_full_queue_refuses() {
        let mut budget = Budget::new(1);
        assert_eq!(budget.reserve(RequestId(0), 1), Admission::Granted);
        for id in 1..=WAITING_MAX as u64 {
            assert_eq!(budget.reserve(RequestId(id), 1), Admission::Queued);
        }
        assert_eq!(budget.reserve(RequestId(9_999), 1), Admission::Refused);
    }
}
