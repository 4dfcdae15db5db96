//! How a cluster begins, and how a first voter whose disk was emptied is kept from beginning it again.
//!
//! A first voter knows from its configuration who votes. With a blank disk it cannot know whether the
//! cluster is new, or whether it has voted and acknowledged before on a disk that is gone. So it takes
//! no part until the others have told it. Each disk of a first voter is given a *birth* when it is
//! formatted, a random number in its superblock.
//!
//! ```text
//!             all first voters say: blank, and the same births            written down
//!          ┌────────────────────────────────────────────────▶ Agreed ────────────────────▶ Begun
//!  Blank ──┤  somebody says: begun, with your birth          ▲
//!          ├────────────────────────────────────────────────┘
//!          └─ somebody says: begun, without it ─────────────▶ Begun, with a suspect log
//! ```
//!
//! # Why nothing is forgotten
//! A disk *acts* when it votes or acknowledges; none does before it is begun. Let S have acted on a disk
//! that was emptied since; b is the birth of its new one. What S promised matters only if another first
//! voter Q took part, which so had begun before b was drawn, durably. (Were Q's disk lost too, that would
//! be two zones.) Q never says "blank" again, so it never says so together with b. Hence nobody agrees
//! to a beginning that has b in it, S not by itself, and not on the word of somebody who did. S hears
//! "begun, without you", and its log is suspect: see `consensus/suspect.rs`.
//!
//! *Why all births, and not only "I am blank".* Q says "blank" to R; then Q begins with S's old disk and
//! R's word; S votes for Q, and is emptied. R, which remembers Q's word, hears "blank" from S's new disk.
//! It would begin, with S, beside Q.
//!
//! *Why all first voters, and not one other.* A and B have begun, C has never been started; A's disk is
//! emptied and B is away. A and C, both blank, cannot tell that from a new cluster without B. So the
//! first start of a cluster needs all its zones; none later does.
//!
//! *Who missed the end of it* (it said "blank" and was cut off, the others have begun) hears its own
//! birth among those that the others began with: it has promised nothing on this disk, and none before
//! it did, or they would not have agreed to it. It goes on trusted, and the cluster does not depend on
//! the others' being whole. A disk that is distrusted may have been set back to before it began, with
//! its birth: it goes on with a suspect log. (It agrees with others that are blank, for none of them
//! would be, had it promised anything.)

use std::collections::BTreeMap;

use super::serving::Serving;
use crate::cluster::{FOUNDERS_MAX, ROOT_RANGE, StoreConfig};
use crate::effects::{Effect, Effects, Now};
use crate::ids::{DiskBirth, Endpoint, StoreId};
use crate::message::Beginning;
use crate::storage::{OpenedRange, Record};

/// The birth of each first voter's disk.
type Births = BTreeMap<StoreId, DiskBirth>;

/// What a store knows of the beginning.
#[derive(Debug)]
pub(super) struct Founding {
    own: StoreId,
    /// The first voters, in the order of the first map.
    founders: Vec<StoreId>,
    birth: DiskBirth,
    /// The journal says that the log is suspect.
    suspect: bool,
    state: State,
}

#[derive(Debug)]
enum State {
    /// A first voter's disk that has promised nothing.
    Blank {
        /// As each has said of itself, last.
        births: Births,
        /// All births that each other has heard of, as it has said last.
        said: BTreeMap<StoreId, Births>,
        /// Somebody who knows of a beginning without this disk.
        emptied: Option<StoreId>,
        /// The disk is distrusted: it may have begun, and have been set back since.
        doubted: bool,
        /// The others do not know yet what this one knows.
        news: bool,
    },
    /// All say the same, and it is being written down.
    Agreed { births: Births, asked: bool },
    /// There is a cluster; with these disks, if that is known.
    Begun(Births),
    /// Not a first voter.
    Outside,
}

impl Founding {
    /// As the disk says. `has_promised`: it has a term, a vote, an entry or rows of the root range.
    /// `doubted`: it is distrusted; that alone is no promise. `suspect`: so is the log, in the journal.
    ///
    /// # Errors
    /// If the configuration has more first voters than a superblock has room for.
    pub(super) fn new(
        config: &StoreConfig,
        birth: DiskBirth,
        founders: [DiskBirth; FOUNDERS_MAX],
        has_promised: bool,
        [doubted, suspect]: [bool; 2],
    ) -> Result<Self, String> {
        let own = config.store;
        let voters = config.map.voters.clone();
        if voters.len() > FOUNDERS_MAX {
            let count = voters.len();
            return Err(format!("a cluster begins with {FOUNDERS_MAX} voters, not {count}"));
        }
        let known = voters.iter().copied().zip(founders).filter(|(_, birth)| birth.0 != 0);
        let known: Births = known.collect();
        let state = if !voters.contains(&own) {
            State::Outside
        } else if has_promised || !known.is_empty() || birth.0 == 0 {
            State::Begun(known)
        } else {
            let births = BTreeMap::from([(own, birth)]);
            State::Blank { births, said: BTreeMap::new(), emptied: None, doubted, news: true }
        };
        Ok(Self { own, founders: voters, birth, suspect, state })
    }

    pub(super) fn is_founder(&self) -> bool {
        !matches!(self.state, State::Outside)
    }

    /// Whether this is a first voter that takes no part yet.
    pub(super) fn is_blank(&self) -> bool {
        matches!(self.state, State::Blank { .. } | State::Agreed { .. })
    }

    /// What to tell others. `has_replica`: of the root range.
    pub(super) fn statement(&self, has_replica: bool) -> Beginning {
        let list = |births: &Births| births.iter().map(|(of, birth)| (*of, *birth)).collect();
        match &self.state {
            State::Blank { births, .. } | State::Agreed { births, .. } => {
                Beginning::Blank(list(births))
            }
            State::Begun(births) => Beginning::Begun(list(births)),
            State::Outside if has_replica => Beginning::Begun(Vec::new()),
            State::Outside => Beginning::Unknown,
        }
    }

    /// The other first voters, as long as there is no replica that knows its peers.
    pub(super) fn others_to_come(&self) -> impl Iterator<Item = StoreId> {
        let blank = self.is_blank();
        self.founders.iter().copied().filter(move |id| blank && *id != self.own)
    }

    /// What another store says, whose hello is believed.
    pub(super) fn hear(&mut self, from: StoreId, beginning: &Beginning) {
        let State::Blank { births, said, emptied, doubted, news } = &mut self.state else { return };
        match beginning {
            Beginning::Unknown => {}
            Beginning::Blank(told) => {
                let told: Births = told.iter().copied().collect();
                let is_founder = self.founders.contains(&from) && from != self.own;
                let Some(birth) = told.get(&from).filter(|_| is_founder) else { return };
                *news |= births.insert(from, *birth) != Some(*birth);
                said.insert(from, told);
                self.agree();
            }
            Beginning::Begun(told) => {
                let told: Births = told.iter().copied().collect();
                let of_all = self.founders.iter().all(|id| told.contains_key(id));
                let has_this = told.get(&self.own) == Some(&self.birth) && !*doubted;
                if (of_all && has_this) || planted!(EmptiedVoterTrusted) {
                    probe!(FounderMissedEnd);
                    self.state = State::Agreed { births: told, asked: false };
                } else {
                    *emptied = Some(from);
                }
            }
        }
    }

    /// Whether all first voters say of all of them what this one has heard.
    fn agree(&mut self) {
        let State::Blank { births, said, .. } = &self.state else { return };
        let mut others = self.founders.iter().filter(|id| **id != self.own);
        if births.len() == self.founders.len() && others.all(|id| said.get(id) == Some(births)) {
            self.state = State::Agreed { births: births.clone(), asked: false };
        }
    }

    /// The births in the order of the first map's voters.
    fn in_order(&self, births: &Births) -> [DiskBirth; FOUNDERS_MAX] {
        core::array::from_fn(|place| {
            let founder = self.founders.get(place);
            founder.and_then(|id| births.get(id)).copied().unwrap_or_default()
        })
    }

    /// First voters whose word is missing; none if there is nothing to wait for.
    pub(super) fn waits_for(&self) -> Vec<StoreId> {
        match &self.state {
            State::Blank { births, said, .. } => {
                let missing = |id: &StoreId| *id != self.own && said.get(id) != Some(births);
                self.founders.iter().copied().filter(missing).collect()
            }
            State::Agreed { .. } | State::Begun(_) | State::Outside => Vec::new(),
        }
    }

    pub(super) fn status(&self) -> String {
        match &self.state {
            State::Blank { .. } => {
                let missing: Vec<String> =
                    self.waits_for().iter().map(|id| id.0.to_string()).collect();
                format!("blank, waits for {} ", missing.join(","))
            }
            State::Agreed { .. } => "founding ".to_owned(),
            State::Begun(_) | State::Outside => String::new(),
        }
    }

    pub(super) fn check(&self, has_replica: bool) {
        assert!(!(self.is_blank() && has_replica), "a blank first voter takes no part");
    }
}

impl Serving {
    /// Act on what the other first voters have said.
    ///
    /// # Errors
    /// Why the store must halt.
    pub(super) fn look_for_cluster(&mut self, now: Now, fx: &mut Effects) -> Result<(), String> {
        // A single first voter has nobody to ask.
        self.founding.agree();
        let written = match &self.founding.state {
            State::Agreed { births, asked: false } => Some(self.founding.in_order(births)),
            _ => None,
        };
        if let Some(founders) = written {
            self.host.storage.begin(founders);
        }
        let mut tell = false;
        let mut told_by = None;
        match &mut self.founding.state {
            State::Agreed { asked, .. } => tell = !core::mem::replace(asked, true),
            State::Blank { emptied, news, .. } => {
                tell = core::mem::take(news);
                told_by = *emptied;
            }
            State::Begun(_) | State::Outside => {}
        }
        if let Some(peer) = told_by {
            self.rejoin(now, peer, fx)?;
        }
        if tell {
            self.tell_founders(now, fx);
        }
        Ok(())
    }

    /// There is a cluster, and another disk of this store had a part in it: what that one promised is
    /// lost.
    fn rejoin(&mut self, now: Now, told_by: StoreId, fx: &mut Effects) -> Result<(), String> {
        probe!(FounderRejoined);
        fx.push(Effect::Note(format!(
            "{ROOT_RANGE}: this disk was blank, and {told_by} says that the cluster has begun without \
             it: the log is suspect until the other zones have vouched for what is lost"
        )));
        self.founding.state = State::Begun(Births::new());
        let number = self.host.incarnation.0;
        self.host.storage.append(Record::Suspect { range: ROOT_RANGE, number });
        let opened = OpenedRange::blank(number);
        self.add_replica(now, ROOT_RANGE, opened, fx)
    }

    /// With which disks the cluster begins is durable: this one takes part from now on.
    ///
    /// # Errors
    /// Why the store must halt.
    pub(super) fn begin(&mut self, now: Now, fx: &mut Effects) -> Result<(), String> {
        let State::Agreed { births, .. } = &mut self.founding.state else { return Ok(()) };
        let births = core::mem::take(births);
        self.founding.state = State::Begun(births);
        fx.push(Effect::Note(format!("{ROOT_RANGE}: the cluster begins, with this disk")));
        // An earlier life may have heard of a cluster from one that did not know its disks. It has promised nothing.
        if self.founding.suspect {
            self.host.storage.append(Record::Trusted { range: ROOT_RANGE });
        }
        self.add_replica(now, ROOT_RANGE, OpenedRange::default(), fx)?;
        self.tell_founders(now, fx);
        Ok(())
    }

    fn tell_founders(&mut self, now: Now, fx: &mut Effects) {
        let own = self.founding.own;
        for peer in self.founding.founders.clone().into_iter().filter(|id| *id != own) {
            self.greet(now, Endpoint::Store(peer), false, fx);
        }
    }
}

#[cfg(test)]
mod tests;
