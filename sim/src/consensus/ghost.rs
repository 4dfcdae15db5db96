//! Ghost invariants: an onlooker that sees what replicas write, make durable, send, commit and read,
//! and says at once when that breaks a promise of consensus.
//!
//! It shares no code with what it checks: replicas, terms and indexes are plain numbers (indexes from
//! 1), and it keeps its own image of every log. Feed it in the order in which things happen. Each
//! observation returns the broken promise as a sentence.
//!
//! | promise | seen by |
//! |---|---|
//! | election safety: one leader in a term | [`Ghost::leads`] |
//! | leader completeness | [`Ghost::leads`] |
//! | log matching | [`Ghost::wrote`] |
//! | a vote is durable before it is sent | [`Ghost::sends_vote`] |
//! | an acknowledged append is durable, and the leader's | [`Ghost::sends_accept`] |
//! | what commits is durable in a quorum | [`Ghost::commits`] |
//! | committed entries never change | [`Ghost::commits`], [`Ghost::recovered`] |
//! | a read is no older than what was committed when it was asked | [`Ghost::read_ready`] |

use std::collections::{BTreeMap, BTreeSet};

/// The broken promise.
pub type Broken = String;

/// An entry as the onlooker sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Seen {
    /// Its term.
    pub term: u64,
    /// A hash of its content.
    pub hash: u64,
}

/// The image of one replica's state, as its memory or its disk has it.
#[derive(Clone, Debug, Default, Hash)]
struct Image {
    term: u64,
    vote: Option<u64>,
    /// Entry 1 first.
    log: Vec<Seen>,
}

/// See the module's text. A clone goes on independently.
#[derive(Clone, Debug, Default)]
pub struct Ghost {
    quorum: usize,
    memory: BTreeMap<u64, Image>,
    disk: BTreeMap<u64, Image>,
    leaders: BTreeMap<u64, u64>,
    /// The log of each term's leader, as far as it grew in that term.
    led: BTreeMap<u64, Vec<Seen>>,
    /// Of each (index, term): its hash, and the term of the entry before it.
    entries: BTreeMap<(u64, u64), (u64, u64)>,
    /// Of each (index, term): who ever held it durably.
    holders: BTreeMap<(u64, u64), BTreeSet<u64>>,
    /// Entry 1 first, with the term in which it was first seen to be committed.
    committed: Vec<(Seen, u64)>,
    reads: BTreeMap<(u64, u64), u64>,
    /// Of each (replica, term): the vote that was durable.
    votes: BTreeMap<(u64, u64), u64>,
    /// How many entries of each replica's log are known to be the committed ones.
    agreed: BTreeMap<u64, u64>,
}

/// Where index `index` stands in a list that begins with index 1.
fn place(index: u64) -> usize {
    usize::try_from(index).unwrap_or(usize::MAX) - 1
}

impl Image {
    fn get(&self, index: u64) -> Option<Seen> {
        if index == 0 { None } else { self.log.get(place(index)).copied() }
    }

    fn write(&mut self, hard_state: Option<(u64, Option<u64>)>, entries: &[(u64, Seen)]) {
        if let Some((term, vote)) = hard_state {
            (self.term, self.vote) = (term, vote);
        }
        for (index, seen) in entries {
            self.log.truncate(place(*index));
            self.log.push(*seen);
        }
    }
}

impl Ghost {
    /// An onlooker of a group of `voters` replicas with empty logs.
    pub fn new(voters: usize) -> Self {
        Self { quorum: voters / 2 + 1, ..Self::default() }
    }

    /// How many entries are known to be committed.
    pub fn committed(&self) -> u64 {
        self.committed.len() as u64
    }

    /// A replica wants this persisted: its memory has it now.
    ///
    /// # Errors
    /// The broken promise.
    pub fn wrote(
        &mut self,
        replica: u64,
        hard_state: Option<(u64, Option<u64>)>,
        entries: &[(u64, Seen)],
    ) -> Result<(), Broken> {
        let image = self.memory.entry(replica).or_default();
        if let Some((term, _)) = hard_state
            && term < image.term
        {
            return Err(format!("replica {replica} went back from term {} to {term}", image.term));
        }
        if let Some((first, _)) = entries.first()
            && place(*first) > image.log.len()
        {
            return Err(format!("replica {replica} left a gap before entry {first}"));
        }
        if let Some((term, vote)) = hard_state
            && term == image.term
            && image.vote.is_some()
            && vote != image.vote
        {
            return Err(format!("replica {replica} changes its vote in term {term}"));
        }
        image.write(hard_state, entries);
        if let (Some((first, _)), Some(agreed)) = (entries.first(), self.agreed.get_mut(&replica)) {
            *agreed = (*agreed).min(first - 1);
        }
        for (index, seen) in entries {
            let led = self.led.get_mut(&seen.term).filter(|led| led.len() == place(*index));
            if let Some(led) = led
                && self.leaders.get(&seen.term) == Some(&replica)
            {
                led.push(*seen);
            }
            let previous = image.get(index - 1).map_or(0, |previous| previous.term);
            let known = self.entries.entry((*index, seen.term)).or_insert((seen.hash, previous));
            if *known != (seen.hash, previous) {
                return Err(format!(
                    "log matching: entry {index} of term {} differs at replica {replica}",
                    seen.term
                ));
            }
        }
        Ok(())
    }

    /// A write that was seen before is durable now.
    pub fn durable(
        &mut self,
        replica: u64,
        hard_state: Option<(u64, Option<u64>)>,
        entries: &[(u64, Seen)],
    ) {
        self.disk.entry(replica).or_default().write(hard_state, entries);
        if let Some((term, Some(vote))) = hard_state {
            self.votes.insert((replica, term), vote);
        }
        for (index, seen) in entries {
            self.holders.entry((*index, seen.term)).or_default().insert(replica);
        }
    }

    /// A replica has put a snapshot of the entries up to `index` in place of its log, durably.
    ///
    /// # Errors
    /// The broken promise.
    pub fn installed(&mut self, replica: u64, index: u64) -> Result<(), Broken> {
        let Some(covered) = self.committed.get(..=place(index)) else {
            return Err(format!("replica {replica} installed a snapshot of uncommitted {index}"));
        };
        let log: Vec<Seen> = covered.iter().map(|(seen, _)| *seen).collect();
        for (seen, index) in log.iter().zip(1..) {
            self.holders.entry((index, seen.term)).or_default().insert(replica);
        }
        for images in [&mut self.memory, &mut self.disk] {
            images.entry(replica).or_default().log.clone_from(&log);
        }
        self.agreed.insert(replica, index);
        Ok(())
    }

    /// A replica crashed and its disk gave back this much, perhaps less than was durable
    /// (`damaged`). What stands there is its memory and its disk now.
    ///
    /// # Errors
    /// The broken promise.
    pub fn recovered(
        &mut self,
        replica: u64,
        (term, vote): (u64, Option<u64>),
        last_index: u64,
        damaged: bool,
    ) -> Result<(), Broken> {
        let disk = self.disk.entry(replica).or_default();
        let len = disk.log.len() as u64;
        if !damaged && (len != last_index || disk.term != term || disk.vote != vote) {
            return Err(format!("replica {replica} lost durable state in an honest crash"));
        }
        (disk.term, disk.vote) = (term, vote);
        disk.log.truncate(usize::try_from(last_index).unwrap_or(usize::MAX));
        self.begins_again(replica);
        Ok(())
    }

    /// Like [`Self::recovered`] from a damaged disk, whose log may be any mixture of what was
    /// written: `terms` are those of its entries, from entry 1 on.
    ///
    /// # Errors
    /// The broken promise.
    pub fn salvaged(
        &mut self,
        replica: u64,
        (term, vote): (u64, Option<u64>),
        terms: &[u64],
    ) -> Result<(), Broken> {
        let mut log = Vec::new();
        for (index, term) in (1..).zip(terms) {
            let Some((hash, _)) = self.entries.get(&(index, *term)) else {
                return Err(format!(
                    "replica {replica} finds entry {index} of term {term}, which nobody wrote"
                ));
            };
            log.push(Seen { term: *term, hash: *hash });
        }
        self.disk.insert(replica, Image { term, vote, log });
        self.begins_again(replica);
        Ok(())
    }

    /// Whether the disk of a replica should hold exactly this, with entries of these terms.
    pub fn holds(&self, replica: u64, hard_state: (u64, Option<u64>), terms: &[u64]) -> bool {
        let empty = Image::default();
        let disk = self.disk.get(&replica).unwrap_or(&empty);
        (disk.term, disk.vote) == hard_state
            && disk.log.len() == terms.len()
            && disk.log.iter().zip(terms).all(|(seen, term)| seen.term == *term)
    }

    /// What a replica's disk should hold, for people.
    pub fn shows(&self, replica: u64) -> String {
        self.disk.get(&replica).map_or_else(
            || "nothing was durable".to_owned(),
            |disk| {
                let (term, vote, len) = (disk.term, disk.vote, disk.log.len());
                format!("durable were ({term}, {vote:?}) and {len} entries")
            },
        )
    }

    /// What stands on a replica's disk is its memory now.
    fn begins_again(&mut self, replica: u64) {
        let image = self.disk.entry(replica).or_default().clone();
        // It repeats no vote but the one that it found.
        self.votes.retain(|(of, _), _| *of != replica);
        if let Some(vote) = image.vote {
            self.votes.insert((replica, image.term), vote);
        }
        self.memory.insert(replica, image);
        self.agreed.remove(&replica);
        // Reads that it was asked die with it.
        self.reads.retain(|(at, _), _| *at != replica);
    }

    /// A replica leads in `term`.
    ///
    /// # Errors
    /// The broken promise.
    pub fn leads(&mut self, replica: u64, term: u64) -> Result<(), Broken> {
        let leader = *self.leaders.entry(term).or_insert(replica);
        if leader != replica {
            return Err(format!(
                "election safety: {leader} and {replica} both lead in term {term}"
            ));
        }
        let log = &self.memory.entry(replica).or_default().log;
        self.led.entry(term).or_insert_with(|| log.clone());
        for ((seen, committed_in), index) in self.committed.iter().zip(1..) {
            if *committed_in < term && log.get(place(index)) != Some(seen) {
                return Err(format!(
                    "leader completeness: {replica} leads in term {term} without entry {index}, \
                     which was committed in term {committed_in}"
                ));
            }
        }
        Ok(())
    }

    /// A replica sends its vote for `candidate`, or asks for votes (then it is the candidate).
    ///
    /// # Errors
    /// The broken promise.
    pub fn sends_vote(&self, replica: u64, term: u64, candidate: u64) -> Result<(), Broken> {
        match self.votes.get(&(replica, term)) {
            Some(vote) if *vote == candidate => Ok(()),
            vote => Err(format!(
                "durable vote: {replica} sends its vote for {candidate} in term {term}; what its \
                 disk had of that term is {vote:?}"
            )),
        }
    }

    /// A replica acknowledges to the leader of `term` that it holds the log up to `index`.
    ///
    /// # Errors
    /// The broken promise.
    pub fn sends_accept(
        &self,
        replica: u64,
        term: u64,
        leader: u64,
        index: u64,
    ) -> Result<(), Broken> {
        let what = || format!("{replica} acknowledges entry {index} to {leader} in term {term}");
        if index == 0 {
            return Ok(());
        }
        let disk = self.disk.get(&replica).filter(|disk| disk.term >= term);
        let Some(held) = disk.and_then(|disk| disk.get(index)) else {
            return Err(format!("durable append: {}, which is not durable", what()));
        };
        let led = self.led.get(&term).and_then(|led| led.get(place(index)));
        if led != Some(&held) {
            return Err(format!("durable append: {}, which has another", what()));
        }
        Ok(())
    }

    /// A replica says that entries up to `index` are committed, in `term`.
    ///
    /// # Errors
    /// The broken promise.
    pub fn commits(&mut self, replica: u64, term: u64, index: u64) -> Result<(), Broken> {
        let log = &self.memory.entry(replica).or_default().log;
        let agreed = self.agreed.entry(replica).or_default();
        // What was compared once is not compared again, unless it was overwritten.
        for at in *agreed + 1..=index {
            let Some(seen) = log.get(place(at)).copied() else {
                return Err(format!("{replica} commits entry {at}, which it does not have"));
            };
            match self.committed.get(place(at)) {
                Some((committed, _)) if *committed == seen => {}
                Some((committed, _)) => {
                    return Err(format!(
                        "committed entries never change: entry {at} is {committed:?}, and \
                         {replica} commits {seen:?}"
                    ));
                }
                None => {
                    let holders = self.holders.get(&(at, seen.term)).map_or(0, BTreeSet::len);
                    if holders < self.quorum {
                        return Err(format!(
                            "durable quorum: {replica} commits entry {at}, which {holders} hold"
                        ));
                    }
                    self.committed.push((seen, term));
                }
            }
            *agreed = at;
        }
        Ok(())
    }

    /// A replica took a read, which it calls `token`.
    pub fn read_asked(&mut self, replica: u64, token: u64) {
        self.reads.insert((replica, token), self.committed());
    }

    /// A replica may answer a read from the state at `index`.
    ///
    /// # Errors
    /// The broken promise.
    pub fn read_ready(&mut self, replica: u64, token: u64, index: u64) -> Result<(), Broken> {
        match self.reads.remove(&(replica, token)) {
            None => Err(format!("{replica} answers read {token}, which nobody asked")),
            Some(committed) if index < committed => Err(format!(
                "stale read: {replica} reads at {index}, {committed} were committed when asked"
            )),
            Some(_) => Ok(()),
        }
    }

    /// A replica gave a read up, and said so.
    ///
    /// # Errors
    /// The broken promise.
    pub fn read_lost(&mut self, replica: u64, token: u64) -> Result<(), Broken> {
        match self.reads.remove(&(replica, token)) {
            None => Err(format!("{replica} gives up read {token}, which nobody asked")),
            Some(_) => Ok(()),
        }
    }

    /// Reads that have no answer yet.
    pub fn reads_open(&self) -> usize {
        self.reads.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Seen = Seen { term: 1, hash: 10 };
    const B: Seen = Seen { term: 2, hash: 20 };

    /// Replicas 1 and 2 hold entry 1 of term 1, which replica 1 has committed.
    fn ghost() -> Ghost {
        let mut ghost = Ghost::new(3);
        for replica in [1, 2] {
            ghost.wrote(replica, Some((1, Some(1))), &[(1, A)]).unwrap();
            ghost.durable(replica, Some((1, Some(1))), &[(1, A)]);
        }
        ghost.leads(1, 1).unwrap();
        ghost.commits(1, 1, 1).unwrap();
        ghost
    }

    #[test]
    fn an_honest_run_breaks_nothing() {
        let mut ghost = ghost();
        ghost.sends_vote(2, 1, 1).unwrap();
        ghost.sends_accept(2, 1, 1, 1).unwrap();
        ghost.read_asked(1, 7);
        ghost.read_ready(1, 7, 1).unwrap();
        ghost.leads(2, 2).unwrap();
    }

    #[test]
    fn what_is_overwritten_is_compared_again() {
        let mut ghost = ghost();
        ghost.wrote(1, Some((2, None)), &[(1, B)]).unwrap();
        let said = ghost.commits(1, 2, 1).expect_err("entry 1 was committed with another content");
        assert!(said.contains("never change"), "{said}");
    }

    #[test]
    fn a_damaged_log_may_be_shorter_and_is_held_again_then() {
        let mut ghost = ghost();
        ghost.salvaged(2, (1, None), &[]).unwrap();
        assert!(ghost.holds(2, (1, None), &[]) && !ghost.holds(2, (1, None), &[1]));
        assert!(ghost.sends_accept(2, 1, 1, 1).is_err(), "it no longer holds it");
    }

    #[test]
    fn each_broken_promise_is_named() {
        let broken = |what: &str, result: Result<(), Broken>| {
            let said = result.expect_err("a broken promise");
            assert!(said.contains(what), "{said:?} does not speak of {what}");
        };
        broken("election safety", ghost().leads(2, 1));
        broken("leader completeness", ghost().leads(3, 2));
        broken("durable vote", ghost().sends_vote(3, 1, 1));
        broken("durable vote", ghost().sends_vote(2, 2, 3));
        broken("durable append", ghost().sends_accept(3, 1, 1, 1));
        broken("log matching", ghost().wrote(3, None, &[(1, Seen { hash: 11, ..A })]));
        broken("gap", ghost().wrote(3, None, &[(2, B)]));
        let mut other = ghost();
        other.wrote(3, Some((2, None)), &[(1, B)]).unwrap();
        broken("never change", other.commits(3, 2, 1));
        let mut alone = ghost();
        alone.wrote(1, None, &[(2, B)]).unwrap();
        broken("durable quorum", alone.commits(1, 2, 2));
        let mut stale = ghost();
        stale.read_asked(1, 7);
        broken("stale read", stale.read_ready(1, 7, 0));
        broken("nobody asked", ghost().read_lost(1, 7));
        broken("honest crash", ghost().recovered(1, (1, None), 1, false));
        broken("changes its vote", ghost().wrote(1, Some((1, Some(2))), &[]));
        broken("nobody wrote", ghost().salvaged(1, (1, None), &[2]));
    }
}
