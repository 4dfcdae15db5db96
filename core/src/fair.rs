//! A bounded resource shared fairly between tenants: bytes, or places.
//!
//! Each *active* tenant (one that holds something or waits) has a share: the whole, divided by the
//! active tenants and one more, so that there is room for the next one to come. Within its share a
//! tenant may have all that is there; beyond it, it borrows, which it may only
//! - as long as nobody waits who is below their own share, and
//! - up to the *reserve*, an eighth of the whole, which is never lent.
//!
//! What is lent is not taken back by force: it comes back as its holder lets go, and is not lent
//! again while somebody waits for their share. So a flood of one tenant delays another's request by
//! no more than it takes what is lent to come back, and a small one not at all while the reserve
//! lasts. Borrowers are served by who holds least, and then by who came first: progressive filling
//! (Bertsekas and Gallager, "Data Networks", 1992, 6.5.2). Among the claims of one tenant the first
//! comes first.
//!
//! The queue is shared in the same way: a claim that finds it full takes the place of the newest
//! claim of whoever has most claims in it, unless that is its own tenant.
//!
//! Pure: no clock, no callbacks. Whoever waits too long is withdrawn by [`Fair::release`].

use std::collections::{BTreeMap, VecDeque};

/// The part of the whole that is never lent: one in so many.
const RESERVE: u64 = 8;

/// Who holds how much of a resource, and who waits for it.
#[derive(Debug)]
pub struct Fair<T, K> {
    total: u64,
    /// Claims that may wait.
    waiting_max: usize,
    /// In use by nobody in particular.
    outside: u64,
    used: u64,
    held: BTreeMap<K, (T, u64)>,
    /// Active ones only.
    tenants: BTreeMap<T, Tenant<K>>,
    waiting: usize,
    next_turn: u64,
    displaced: Vec<K>,
}

#[derive(Debug)]
struct Tenant<K> {
    held: u64,
    claims: VecDeque<Claim<K>>,
    /// Holdings and claims: at none, the tenant is forgotten.
    keys: usize,
}

#[derive(Clone, Copy, Debug)]
struct Claim<K> {
    key: K,
    least: u64,
    most: u64,
    turn: u64,
}

/// What came of a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// So much is the claimant's.
    Granted(u64),
    /// The claim waits; [`Fair::news`] will name it.
    Queued,
    /// The queue is full, and the claimant's tenant has most of it.
    Refused,
}

/// What became of a claim that waited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum News<K> {
    /// So much is the claimant's.
    Granted(K, u64),
    /// It had to make room in the queue for another tenant's claim.
    Displaced(K),
}

impl<T: Ord + Clone, K: Ord + Copy> Fair<T, K> {
    /// `total` units of which nothing is used; at most `waiting_max` claims wait.
    pub fn new(total: u64, waiting_max: usize) -> Self {
        Self {
            total,
            waiting_max,
            outside: 0,
            used: 0,
            held: BTreeMap::new(),
            tenants: BTreeMap::new(),
            waiting: 0,
            next_turn: 0,
            displaced: Vec::new(),
        }
    }

    /// Claim at least `least` and at most `most` units for `tenant`. A key claims once. What cannot be
    /// had at once waits, behind the tenant's earlier claims.
    ///
    /// # Panics
    /// If the key holds or waits already, or `least` is above `most`.
    pub fn claim(&mut self, tenant: &T, key: K, least: u64, most: u64) -> Admission {
        assert!(!self.held.contains_key(&key), "a key claims once");
        assert!(least <= most, "{least} is at most {most}");
        let claim = Claim { key, least, most, turn: self.next_turn };
        self.next_turn += 1;
        let active = self.tenants.entry(tenant.clone()).or_insert_with(Tenant::new);
        active.keys += 1;
        active.claims.push_back(claim);
        self.waiting += 1;
        // Earlier claims of the tenant go first.
        let first = self.tenants[tenant].claims.len() == 1;
        if let Some(amount) = self.grantable(tenant).filter(|_| first) {
            self.grant(tenant, amount);
            return Admission::Granted(amount);
        }
        if self.waiting <= self.waiting_max {
            return Admission::Queued;
        }
        // The newest claim of whoever has most of the queue goes: perhaps this one.
        let most = self.tenants.iter().map(|(tenant, it)| (it.claims.len(), tenant)).max();
        let crowd = match most {
            Some((count, crowd)) if count > self.tenants[tenant].claims.len() => crowd.clone(),
            _ => tenant.clone(),
        };
        let goes = self.tenants.get(&crowd).and_then(|it| it.claims.back()).map(|it| it.key);
        let goes = goes.expect("whoever has most claims has one");
        self.withdraw(goes);
        if goes == key {
            return Admission::Refused;
        }
        self.displaced.push(goes);
        Admission::Queued
    }

    /// What has become of a claim that waited, if there is news. To be asked until there is none,
    /// whenever something was let go.
    pub fn news(&mut self) -> Option<News<K>> {
        if let Some(key) = self.displaced.pop() {
            return Some(News::Displaced(key));
        }
        if self.waiting == 0 {
            return None;
        }
        let (tenant, amount) = self.choose()?;
        let key = self.grant(&tenant, amount);
        Some(News::Granted(key, amount))
    }

    /// Of what a key holds, it needs no more than `amount` from now on.
    pub fn shrink(&mut self, key: K, amount: u64) {
        let Some((tenant, held)) = self.held.get_mut(&key) else { return };
        let freed = held.saturating_sub(amount);
        *held -= freed;
        self.used -= freed;
        if let Some(tenant) = self.tenants.get_mut(tenant) {
            tenant.held -= freed;
        }
    }

    /// The key lets go of what it holds or waits for.
    pub fn release(&mut self, key: K) {
        if self.held.contains_key(&key) {
            self.shrink(key, 0);
            if let Some((tenant, _)) = self.held.remove(&key) {
                self.forget_one(&tenant);
            }
        } else {
            self.withdraw(key);
            self.displaced.retain(|other| *other != key);
        }
    }

    /// So much is in use by nobody in particular.
    pub fn set_outside(&mut self, amount: u64) {
        self.outside = amount;
    }

    /// Units held by keys.
    pub fn used(&self) -> u64 {
        self.used
    }

    /// Units held by a key.
    pub fn held_by(&self, key: K) -> u64 {
        self.held.get(&key).map_or(0, |(_, held)| *held)
    }

    /// All units there are.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// Claims that wait.
    pub fn waiting(&self) -> usize {
        self.waiting
    }

    /// Tenants that hold something or wait.
    pub fn tenants(&self) -> usize {
        self.tenants.len()
    }

    /// What a tenant may have without borrowing, as long as the same ones are active.
    pub fn share(&self) -> u64 {
        self.total / (self.tenants.len() as u64 + 1)
    }

    /// Check the sums.
    ///
    /// # Panics
    /// If they are wrong, or a key is not `known`: a bug in Trine.
    pub fn check(&self, known: impl Fn(K) -> bool) {
        assert_eq!(self.used, self.held.values().map(|(_, held)| held).sum::<u64>());
        assert_eq!(self.used, self.tenants.values().map(|tenant| tenant.held).sum::<u64>());
        assert!(self.used <= self.total || self.held.values().filter(|it| it.1 > 0).count() == 1);
        let claims = || self.tenants.values().flat_map(|tenant| &tenant.claims);
        assert_eq!(self.waiting, claims().count());
        assert!(self.waiting <= self.waiting_max, "the queue is bounded");
        let keys: usize = self.tenants.values().map(|tenant| tenant.keys).sum();
        assert_eq!(keys, self.held.len() + self.waiting);
        assert!(self.tenants.values().all(|tenant| tenant.keys > 0), "idle tenants are forgotten");
        assert!(self.held.keys().all(|key| known(*key)), "only the living hold");
        assert!(claims().all(|claim| known(claim.key)), "only the living wait");
    }

    /// Whose first claim is served next, and with how much.
    fn choose(&self) -> Option<(T, u64)> {
        let share = self.share();
        let own = |tenant: &Tenant<K>| {
            tenant.claims.front().is_some_and(|claim| tenant.held + claim.least <= share)
        };
        let mut heads: Vec<_> = self
            .tenants
            .iter()
            .filter_map(|(id, tenant)| {
                let claim = tenant.claims.front()?;
                Some((!own(tenant), tenant.held, claim.turn, id))
            })
            .collect();
        heads.sort_unstable();
        for (borrows, _, _, id) in heads {
            if let Some(amount) = self.grantable(id) {
                return Some((id.clone(), amount));
            }
            if borrows {
                // Nobody overtakes whoever is first among borrowers.
                return None;
            }
        }
        None
    }

    /// How much a tenant's first claim can have now.
    fn grantable(&self, id: &T) -> Option<u64> {
        let tenant = self.tenants.get(id)?;
        let claim = tenant.claims.front()?;
        let in_use = self.used.saturating_add(self.outside);
        let share = self.share();
        let free = self.total.saturating_sub(in_use);
        let own = free.min(share.saturating_sub(tenant.held));
        let lent = match self.somebody_lacks(id, share) {
            true => 0,
            false => free.saturating_sub(self.total / RESERVE),
        };
        let amount = own.max(lent).min(claim.most);
        if amount >= claim.least {
            return Some(amount);
        }
        // Alone it may have more than that, and more than there is: it could never run otherwise.
        (in_use == 0).then_some(claim.least)
    }

    /// Whether somebody else waits for what would be within their share, or waits first among those
    /// who borrow.
    fn somebody_lacks(&self, id: &T, share: u64) -> bool {
        let Some(claimant) = self.tenants.get(id) else { return false };
        let turn = claimant.claims.front().map_or(u64::MAX, |claim| claim.turn);
        self.tenants.iter().any(|(other, tenant)| {
            let Some(claim) = tenant.claims.front().filter(|_| other != id) else { return false };
            let below = tenant.held + claim.least <= share;
            below || (tenant.held, claim.turn) < (claimant.held, turn)
        })
    }

    /// Grant a tenant's first claim.
    fn grant(&mut self, id: &T, amount: u64) -> K {
        let tenant = self.tenants.get_mut(id).expect("its claim was just looked at");
        let claim = tenant.claims.pop_front().expect("likewise");
        tenant.held += amount;
        self.used += amount;
        self.waiting -= 1;
        self.held.insert(claim.key, (id.clone(), amount));
        claim.key
    }

    fn withdraw(&mut self, key: K) {
        let waits = |tenant: &Tenant<K>| tenant.claims.iter().any(|claim| claim.key == key);
        let found = self.tenants.iter_mut().find(|(_, tenant)| waits(tenant));
        let Some((id, tenant)) = found else { return };
        tenant.claims.retain(|claim| claim.key != key);
        self.waiting -= 1;
        let id = id.clone();
        self.forget_one(&id);
    }

    /// A holding or a claim of a tenant is gone.
    fn forget_one(&mut self, id: &T) {
        let Some(tenant) = self.tenants.get_mut(id) else { return };
        tenant.keys -= 1;
        if tenant.keys == 0 {
            self.tenants.remove(id);
        }
    }
}

impl<K> Tenant<K> {
    fn new() -> Self {
        Self { held: 0, claims: VecDeque::new(), keys: 0 }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    type Bytes = Fair<u8, u32>;

    fn granted(fair: &mut Bytes) -> Vec<(u32, u64)> {
        let mut all = Vec::new();
        while let Some(news) = fair.news() {
            match news {
                News::Granted(key, amount) => all.push((key, amount)),
                News::Displaced(key) => panic!("{key} was displaced"),
            }
        }
        all
    }

    #[test]
    fn a_flood_leaves_the_reserve_to_the_next_tenant() {
        let mut fair = Bytes::new(80, 100);
        for key in 0..20 {
            let expected = if key < 7 { Admission::Granted(10) } else { Admission::Queued };
            assert_eq!(fair.claim(&1, key, 10, 10), expected);
        }
        assert_eq!(fair.claim(&2, 100, 1, 1), Admission::Granted(1));
        assert_eq!(fair.claim(&2, 101, 9, 9), Admission::Granted(9));
        assert_eq!(fair.claim(&2, 102, 9, 9), Admission::Queued);
        // Tenant 1 is above its share of 26: what comes back goes to tenant 2 first.
        fair.release(0);
        assert_eq!(granted(&mut fair), [(102, 9)]);
        fair.check(|_| true);
    }

    #[test]
    fn a_claim_is_cut_to_what_there_is() {
        let mut fair = Bytes::new(80, 100);
        assert_eq!(fair.claim(&1, 1, 10, 60), Admission::Granted(60));
        assert_eq!(fair.claim(&1, 2, 10, 60), Admission::Granted(10));
        assert_eq!(fair.claim(&1, 3, 10, 60), Admission::Queued);
        assert_eq!(fair.claim(&2, 4, 10, 60), Admission::Granted(10));
        fair.shrink(1, 20);
        assert_eq!(granted(&mut fair), [(3, 30)]);
        fair.check(|_| true);
    }

    #[test]
    fn a_claim_alone_may_exceed_the_whole() {
        let mut fair = Bytes::new(10, 100);
        assert_eq!(fair.claim(&1, 1, 80, 90), Admission::Granted(80));
        assert_eq!(fair.claim(&2, 2, 1, 1), Admission::Queued);
        fair.check(|_| true);
        fair.release(2);
        fair.release(1);
        assert_eq!((fair.used(), fair.waiting(), fair.tenants()), (0, 0, 0));
    }

    #[test]
    fn a_full_queue_makes_room_for_who_has_less_of_it() {
        let mut fair = Bytes::new(10, 4);
        assert_eq!(fair.claim(&1, 0, 10, 10), Admission::Granted(10));
        for key in 1..=4 {
            assert_eq!(fair.claim(&1, key, 1, 1), Admission::Queued);
        }
        assert_eq!(fair.claim(&1, 5, 1, 1), Admission::Refused);
        assert_eq!(fair.claim(&2, 6, 1, 1), Admission::Queued);
        assert_eq!(fair.news(), Some(News::Displaced(4)));
        assert_eq!(fair.news(), None);
        fair.check(|key| key != 4 && key != 5);
    }

    #[test]
    fn what_comes_back_all_at_once_is_not_the_first_ones_alone() {
        let mut fair = Bytes::new(100, 4);
        assert_eq!(fair.claim(&0, 0, 100, 100), Admission::Granted(100));
        for (tenant, key, least, most) in [(1, 1, 23, 53), (0, 2, 1, 25), (2, 3, 23, 23)] {
            assert_eq!(fair.claim(&tenant, key, least, most), Admission::Queued);
        }
        fair.shrink(0, 0);
        assert_eq!(granted(&mut fair), [(1, 25), (2, 25), (3, 23)]);
    }

    #[test]
    fn what_is_in_use_outside_counts() {
        let mut fair = Bytes::new(80, 4);
        fair.set_outside(75);
        assert_eq!(fair.claim(&1, 1, 10, 10), Admission::Queued);
        fair.set_outside(70);
        assert_eq!(granted(&mut fair), [(1, 10)]);
    }

    #[derive(Clone, Debug)]
    enum Step {
        Claim { tenant: u8, least: u64, more: u64 },
        Release { at: usize },
        Shrink { at: usize },
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            3 => (0..5_u8, 1..40_u64, 0..40_u64)
                .prop_map(|(tenant, least, more)| Step::Claim { tenant, least, more }),
            2 => any::<usize>().prop_map(|at| Step::Release { at }),
            1 => any::<usize>().prop_map(|at| Step::Shrink { at }),
        ]
    }

    /// Whether a tenant waits for what would be within its share.
    fn lacks(tenant: &Tenant<u32>, share: u64) -> bool {
        tenant.claims.front().is_some_and(|claim| tenant.held + claim.least <= share)
    }

    /// Nothing is lent while somebody waits for their share, and whoever waits for their share waits
    /// only for what is lent.
    fn hold_the_promise(fair: &Bytes, before: &BTreeMap<u8, u64>) {
        let share = fair.share();
        for (id, tenant) in &fair.tenants {
            let grew = tenant.held > before.get(id).copied().unwrap_or(0);
            if grew && tenant.held > share && fair.held.len() > 1 {
                let others = fair.tenants.iter().filter(|(other, _)| *other != id);
                assert!(!others.into_iter().any(|(_, other)| lacks(other, share)), "{fair:?}");
                assert!(fair.used <= fair.total - fair.total / RESERVE, "{fair:?}");
            }
        }
    }

    proptest! {
        #[test]
        fn no_tenant_below_its_share_waits_while_another_is_given_more_than_its_own(
            steps in prop::collection::vec(step(), 1..200),
        ) {
            let mut fair = Bytes::new(100, 1000);
            let mut keys = Vec::new();
            for (key, step) in (0..).zip(steps) {
                let held = |fair: &Bytes| -> BTreeMap<u8, u64> {
                    fair.tenants.iter().map(|(id, tenant)| (*id, tenant.held)).collect()
                };
                let before = held(&fair);
                match step {
                    Step::Claim { tenant, least, more } => {
                        fair.claim(&tenant, key, least, least + more);
                        keys.push(key);
                        hold_the_promise(&fair, &before);
                    }
                    Step::Release { at } if !keys.is_empty() => {
                        fair.release(keys.swap_remove(at % keys.len()));
                    }
                    Step::Shrink { at } if !keys.is_empty() => {
                        fair.shrink(keys[at % keys.len()], 3);
                    }
                    Step::Release { .. } | Step::Shrink { .. } => {}
                }
                loop {
                    let before = held(&fair);
                    if fair.news().is_none() {
                        break;
                    }
                    hold_the_promise(&fair, &before);
                }
                fair.check(|key| keys.contains(&key));
                // Who still waits for a share waits for somebody who has more than theirs.
                let share = fair.share();
                let above = fair.tenants.values().any(|tenant| tenant.held > share);
                prop_assert!(above || !fair.tenants.values().any(|it| lacks(it, share)), "{fair:?}");
            }
            // When what is lent comes back, nobody waits for their share any more.
            let share = fair.share();
            let borrowers: Vec<u32> = fair
                .held
                .iter()
                .filter(|(_, (tenant, _))| fair.tenants[tenant].held > share)
                .map(|(key, _)| *key)
                .collect();
            for key in borrowers {
                fair.shrink(key, 0);
            }
            while fair.news().is_some() {}
            prop_assert!(!fair.tenants.values().any(|it| lacks(it, fair.share())), "{fair:?}");
            // And when all is let go, nobody waits at all.
            while let Some(key) = keys.pop() {
                fair.release(key);
                while fair.news().is_some() {}
            }
            prop_assert_eq!((fair.used(), fair.waiting(), fair.tenants()), (0, 0, 0));
        }
    }
}
