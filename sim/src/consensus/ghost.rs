//! Ghost invariants: an onlooker that sees what replicas write, make durable, send, commit and read,
//! and says at once when that breaks a promise of consensus.
//!
//! It shares no code with what it checks: replicas, terms and indexes are plain numbers (indexes from
//! 1), and it keeps its own image of every log. Feed it in the order in which things happen. Each
//! observation returns the broken promise as a sentence.
//!
//! | promise | seen by |
//! |---|---|
//! | election safety: one leader in a term, with durable votes of a quorum | [`Ghost::leads`] |
//! | leader completeness | [`Ghost::leads`] |
//! | log matching | [`Ghost::wrote`] |
//! | a vote is durable before it is sent | [`Ghost::sends_vote`] |
//! | an acknowledged append is durable, and the leader's | [`Ghost::sends_accept`] |
//! | what commits is durable in a quorum | [`Ghost::commits`] |
//! | one change of membership at a time, by way of a joint configuration | [`Ghost::wrote`], [`Ghost::commits`] |
//! | a snapshot brings the configuration of its last entry | [`Ghost::installed`] |
//! | a replica goes by the newest configuration of its log | [`Ghost::goes_by`] |
//! | committed entries never change | [`Ghost::commits`], [`Ghost::recovered`] |
//! | what is applied is durable on its own disk | [`Ghost::applies`] |
//! | a read is no older than what was committed when it was asked | [`Ghost::read_ready`] |

//! A quorum is a majority of the voters in force; while a configuration is joint, one of each half.

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

/// A configuration, as an entry brings it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Config {
    /// The voters.
    pub voters: BTreeSet<u64>,
    /// The former ones, while both count.
    pub outgoing: BTreeSet<u64>,
    /// Who gets the log without a vote.
    pub learners: BTreeSet<u64>,
}

impl Config {
    fn is_quorum(&self, who: &BTreeSet<u64>) -> bool {
        let majority = |half: &BTreeSet<u64>| 2 * half.intersection(who).count() > half.len();
        majority(&self.voters) && (self.outgoing.is_empty() || majority(&self.outgoing))
    }

    /// Whether one change may make `next` of this.
    fn may_become(&self, next: &Self) -> bool {
        let joint = |config: &Self| !config.outgoing.is_empty();
        match (joint(self), joint(next)) {
            (true, true) => false,
            (false, true) => {
                self.voters == next.outgoing && next.voters.difference(&self.voters).count() == 1
            }
            (_, false) => self.voters == next.voters,
        }
    }
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
    /// What the group begins with.
    first: Config,
    /// Of each (index, term): the configuration that the entry brings.
    configs: BTreeMap<(u64, u64), Config>,
    /// Of each replica: an entry that must be committed, since it has appended the next configuration.
    due: BTreeMap<u64, (u64, Seen)>,
    /// Of each (term, candidate): whose vote for it was ever durable.
    ballots: BTreeMap<(u64, u64), BTreeSet<u64>>,
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
        let first = Config { voters: (1..=voters as u64).collect(), ..Config::default() };
        Self { first, ..Self::default() }
    }

    /// The entry of this (index, term), about which more will be heard, brings a configuration.
    ///
    /// # Errors
    /// If it brought another one before.
    pub fn configures(&mut self, at: (u64, u64), config: Config) -> Result<(), Broken> {
        let known = self.configs.entry(at).or_insert_with(|| config.clone());
        if *known == config {
            return Ok(());
        }
        Err(format!("log matching: entry {at:?} brings {known:?}, and {config:?}"))
    }

    /// The configuration in force with `log` up to `index`, and the entry that brought it.
    fn config_at(&self, log: impl Fn(u64) -> Option<Seen>, index: u64) -> (u64, &Config) {
        let known = self.configs.range(..=(index, u64::MAX)).rev();
        let mut in_log = known.filter(|((at, term), _)| log(*at).is_some_and(|s| s.term == *term));
        in_log.next().map_or((0, &self.first), |((at, _), config)| (*at, config))
    }

    /// How many entries are known to be committed.
    pub fn committed(&self) -> u64 {
        self.committed.len() as u64
    }

    /// The terms of the first `count` committed entries; `None` if fewer are known to be.
    pub fn committed_terms(&self, count: u64) -> Option<Vec<u64>> {
        let covered = self.committed.get(..usize::try_from(count).ok()?)?;
        Some(covered.iter().map(|(seen, _)| seen.term).collect())
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
        self.changes(replica, entries)
    }

    /// Of the entries that a leader appended, those that bring a configuration follow the rules.
    fn changes(&mut self, replica: u64, entries: &[(u64, Seen)]) -> Result<(), Broken> {
        let Some(image) = self.memory.get(&replica) else { return Ok(()) };
        for (index, seen) in entries {
            let Some(next) = self.configs.get(&(*index, seen.term)) else { continue };
            if self.leaders.get(&seen.term) != Some(&replica) {
                continue;
            }
            let (at, former) = self.config_at(|index| image.get(index), index - 1);
            if !former.may_become(next) {
                return Err(format!("{replica} makes {next:?} of {former:?} in one change"));
            }
            if let Some(former) = image.get(at) {
                self.due.insert(replica, (at, former));
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
            self.ballots.entry((term, vote)).or_default().insert(replica);
        }
        for (index, seen) in entries {
            self.holders.entry((*index, seen.term)).or_default().insert(replica);
        }
    }

    /// A replica has put a snapshot of the entries up to `index` in place of its log, durably, and
    /// goes by `config`.
    ///
    /// # Errors
    /// The broken promise.
    pub fn installed(&mut self, replica: u64, index: u64, config: &Config) -> Result<(), Broken> {
        let Some(covered) = self.committed.get(..=place(index)) else {
            return Err(format!("replica {replica} installed a snapshot of uncommitted {index}"));
        };
        let log = |at| covered.get(place(at)).map(|(seen, _)| *seen);
        let (_, in_force) = self.config_at(log, index);
        if in_force != config {
            return Err(format!(
                "snapshot: {replica} installs {config:?} with entry {index}; in force is \
                 {in_force:?}"
            ));
        }
        let disk = self.disk.get(&replica);
        if disk.is_some_and(|disk| disk.get(index) == log(index)) {
            return Err(format!(
                "snapshot: {replica} drops what follows entry {index}, which it had already"
            ));
        }
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

    /// A replica takes part again: it goes by the term and the vote that its disk has.
    ///
    /// # Errors
    /// The broken promise.
    pub fn begins(&self, replica: u64, begins: (u64, Option<u64>)) -> Result<(), Broken> {
        let had = self.disk.get(&replica).map_or((0, None), |disk| (disk.term, disk.vote));
        if begins == had {
            return Ok(());
        }
        Err(format!("durable vote: {replica} begins with {begins:?}, its disk has {had:?}"))
    }

    /// A replica has applied the entries up to `index`: each is durable on its own disk, so that no crash leaves
    /// rows ahead of the log that they are made anew from.
    ///
    /// # Errors
    /// The broken promise.
    pub fn applies(&self, replica: u64, index: u64) -> Result<(), Broken> {
        let held = self.disk.get(&replica).map_or(0, |disk| disk.log.len() as u64);
        if index <= held {
            return Ok(());
        }
        Err(format!("apply: {replica} has applied {index}, and holds {held} durably"))
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

    /// A replica's disk is empty, under the same identity. If no other has anything durable, there was
    /// no group yet, and what this one wrote was heard by nobody who is bound by it. Else it must come
    /// back as one that was damaged.
    pub fn emptied(&mut self, replica: u64) {
        let blank = |image: &Image| image.term == 0 && image.log.is_empty();
        if self.disk.iter().any(|(of, image)| *of != replica && !blank(image)) {
            return;
        }
        self.disk.remove(&replica);
        self.memory.remove(&replica);
        self.votes.retain(|(of, _), _| *of != replica);
        for who in self.ballots.values_mut().chain(self.holders.values_mut()) {
            who.remove(&replica);
        }
        self.due.remove(&replica);
        self.agreed.remove(&replica);
    }

    /// Whether the disk of a replica should hold exactly this, with entries of these terms.
    pub fn holds(&self, replica: u64, hard_state: (u64, Option<u64>), terms: &[u64]) -> bool {
        let empty = Image::default();
        let disk = self.disk.get(&replica).unwrap_or(&empty);
        (disk.term, disk.vote) == hard_state
            && disk.log.len() == terms.len()
            && disk.log.iter().zip(terms).all(|(seen, term)| seen.term == *term)
    }

    /// Whether a replica has anything durable.
    pub fn has_anything(&self, replica: u64) -> bool {
        !self.holds(replica, (0, None), &[])
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
        self.due.remove(&replica);
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
        self.memory.entry(replica).or_default();
        let image = &self.memory[&replica];
        let (_, config) = self.config_at(|index| image.get(index), image.log.len() as u64);
        let none = BTreeSet::new();
        let voters = self.ballots.get(&(term, replica)).unwrap_or(&none);
        if !config.is_quorum(voters) {
            return Err(format!(
                "election: {replica} leads in term {term} by the durable votes of {voters:?}, in \
                 {config:?}"
            ));
        }
        let log = &image.log;
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
        self.memory.entry(replica).or_default();
        let image = &self.memory[&replica];
        let log = &image.log;
        let agreed = self.agreed.get(&replica).copied().unwrap_or(0);
        // What was compared once is not compared again, unless it was overwritten.
        for at in agreed + 1..=index {
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
                    self.is_held(image, at, seen).map_err(|holders| {
                        format!("durable quorum: {replica} commits entry {at}, held by {holders:?}")
                    })?;
                    // Copies of an older entry prove nothing: another may win an election without it (Ongaro, 3.6.2).
                    let last = log.get(place(index)).map_or(0, |seen| seen.term);
                    if self.leaders.get(&term) == Some(&replica) && last != term {
                        return Err(format!(
                            "commit of an older term: {replica} leads in term {term}, and commits up to entry \
                             {index} of term {last}"
                        ));
                    }
                    self.committed.push((seen, term));
                }
            }
            self.agreed.insert(replica, at);
        }
        if let Some((at, seen)) = self.due.remove(&replica)
            && self.committed.get(place(at)).is_none_or(|(committed, _)| *committed != seen)
        {
            return Err(format!(
                "one change at a time: {replica} changes the configuration of entry {at}, which is \
                 not committed"
            ));
        }
        Ok(())
    }

    /// Whether a quorum holds an entry of a leader's log durably: of the configuration that was in
    /// force there, or, if the entry brings none itself, of one that came later in that log.
    fn is_held(&self, image: &Image, index: u64, seen: Seen) -> Result<(), BTreeSet<u64>> {
        let holders = self.holders.get(&(index, seen.term)).cloned().unwrap_or_default();
        let log = |index| image.get(index);
        let (at, config) = self.config_at(log, index);
        let mut later = self.configs.range((index + 1, 0)..);
        let is_quorum = config.is_quorum(&holders)
            || (at != index
                && later.any(|((at, term), config)| {
                    log(*at).is_some_and(|seen| seen.term == *term) && config.is_quorum(&holders)
                }));
        if is_quorum { Ok(()) } else { Err(holders) }
    }

    /// A replica goes by this configuration; without voters if it knows of none.
    ///
    /// # Errors
    /// The broken promise.
    pub fn goes_by(&self, replica: u64, config: &Config) -> Result<(), Broken> {
        let empty = Image::default();
        let image = self.memory.get(&replica).unwrap_or(&empty);
        let (at, in_force) = self.config_at(|index| image.get(index), image.log.len() as u64);
        let knows_none = at == 0 && config.voters.is_empty();
        if in_force == config || knows_none {
            return Ok(());
        }
        Err(format!("configuration: {replica} goes by {config:?}; its log says {in_force:?}"))
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

    /// Replicas 2 and 3 have voted for `candidate` in `term`.
    fn elected(mut ghost: Ghost, candidate: u64, term: u64) -> Ghost {
        for replica in [2, 3] {
            ghost.durable(replica, Some((term, Some(candidate))), &[]);
        }
        ghost
    }

    fn config(voters: &[u64], outgoing: &[u64]) -> Config {
        let ids = |ids: &[u64]| ids.iter().copied().collect();
        Config { voters: ids(voters), outgoing: ids(outgoing), learners: BTreeSet::new() }
    }

    /// Leader 1 has appended `config` as entry `index` of term 1; `holders` have all of it durably.
    fn changed(mut ghost: Ghost, index: u64, config: Config, holders: &[u64]) -> Ghost {
        let entry = [(index, Seen { term: 1, hash: 100 + index })];
        ghost.configures((index, 1), config).unwrap();
        ghost.wrote(1, None, &entry).unwrap();
        for holder in holders {
            ghost.durable(*holder, None, &entry);
        }
        ghost
    }

    #[test]
    fn a_joint_entry_commits_by_both_halves_and_the_next_by_the_new_one() {
        let joint = || changed(ghost(), 2, config(&[1, 2, 4], &[1, 2, 3]), &[1, 4]);
        let said = joint().commits(1, 1, 2).expect_err("1 of 1 2 3 is no majority");
        assert!(said.contains("durable quorum"), "{said}");
        let mut left = changed(ghost(), 2, config(&[1, 2, 4], &[1, 2, 3]), &[1, 3, 4]);
        left.commits(1, 1, 2).unwrap();
        let mut left = changed(left, 3, config(&[1, 2, 4], &[]), &[1, 4]);
        left.commits(1, 1, 3).unwrap();
    }

    #[test]
    fn a_change_before_the_former_one_is_committed_is_named() {
        let joint = changed(ghost(), 2, config(&[1, 2, 4], &[1, 2, 3]), &[1]);
        let mut left = changed(joint, 3, config(&[1, 2, 4], &[]), &[1]);
        let said = left.commits(1, 1, 1).expect_err("entry 2 is not committed");
        assert!(said.contains("one change at a time"), "{said}");
    }

    #[test]
    fn voters_change_by_one_joint_swap_only() {
        for (voters, outgoing) in
            [(&[1, 2, 4][..], &[][..]), (&[1, 4, 5], &[1, 2, 3]), (&[1, 2, 4], &[2, 3, 4])]
        {
            let mut ghost = ghost();
            ghost.configures((2, 1), config(voters, outgoing)).unwrap();
            let said = ghost.wrote(1, None, &[(2, A)]).expect_err("not a swap");
            assert!(said.contains("in one change"), "{said}");
        }
    }

    #[test]
    fn a_snapshot_must_bring_the_configuration_in_force() {
        let mut ghost = ghost();
        ghost.installed(3, 1, &config(&[1, 2, 3], &[])).unwrap();
        let mut ghost = self::ghost();
        let said = ghost.installed(3, 1, &config(&[1, 2, 4], &[])).expect_err("another one");
        assert!(said.contains("in force"), "{said}");
        let said = ghost.installed(2, 1, &config(&[1, 2, 3], &[])).expect_err("it has it");
        assert!(said.contains("drops"), "{said}");
    }

    #[test]
    fn an_honest_run_breaks_nothing() {
        let mut ghost = ghost();
        ghost.sends_vote(2, 1, 1).unwrap();
        ghost.sends_accept(2, 1, 1, 1).unwrap();
        ghost.read_asked(1, 7);
        ghost.read_ready(1, 7, 1).unwrap();
        elected(ghost, 2, 2).leads(2, 2).unwrap();
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
    fn an_emptied_disk_comes_back_suspect_once_others_have_promised_something() {
        let mut ghost = ghost();
        ghost.emptied(2);
        assert!(!ghost.holds(2, (0, None), &[]), "replica 1 counts on it");
        ghost.salvaged(2, (0, None), &[]).unwrap();
        let mut alone = Ghost::new(3);
        alone.wrote(2, Some((1, Some(2))), &[]).unwrap();
        alone.durable(2, Some((1, Some(2))), &[]);
        alone.emptied(2);
        assert!(alone.holds(2, (0, None), &[]), "nobody else was there");
    }

    #[test]
    fn each_broken_promise_is_named() {
        let broken = |what: &str, result: Result<(), Broken>| {
            let said = result.expect_err("a broken promise");
            assert!(said.contains(what), "{said:?} does not speak of {what}");
        };
        broken("election safety", ghost().leads(2, 1));
        broken("election", ghost().leads(2, 2));
        broken("leader completeness", elected(ghost(), 3, 2).leads(3, 2));
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
