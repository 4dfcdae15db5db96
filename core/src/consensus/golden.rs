//! Golden scripts of consensus: `golden/consensus/*.txt` hold commands to a small group of replicas
//! and everything that the replicas did in answer, in the manner of etcd/raft's interaction tests.
//!
//! A block is a command, `----`, and what came of it, up to an empty line. Messages and writes stay
//! under way until a command moves them. `TRINE_REWRITE=1 cargo test -p trine-core --test
//! consensus_golden` writes what happens now into the files: commit only differences that are
//! understood.
//!
//! | command | effect |
//! |---|---|
//! | `start N [spare=N] [in-flight=N] [append=BYTES] [cache=BYTES] [hold-fetches=1]` | N voters with empty logs, and replicas that know of no voters |
//! | `recover R terms=1,1,2 [members=I:M] [term=T] [vote=R] [base=I/T] [applied=I] [suspect=N]` | restart R with this on disk; what was under way at R is lost |
//! | `crash R` | R restarts with what is durable |
//! | `deadline R` | time goes to R's deadline |
//! | `wait MS` | time passes, nobody is called |
//! | `deliver A->B [N]` | the N oldest messages on that link, or all |
//! | `drop A->B` | all messages on that link |
//! | `persist R` | R's oldest write is durable |
//! | `fetched R` | with `hold-fetches`: R's journal answers the oldest read, as of when it was asked |
//! | `settle` | all writes and messages, until nothing is under way |
//! | `learner R S`, `remove-learner R S`, `swap R S S'` | changes of membership, proposed at R; S' for S |
//! | `caught-up R S` | whether R thinks so of S |
//! | `timing R HEARTBEAT ELECTION` | new bounds, in milliseconds |
//! | `abstain R`, `vote-again R` | R gives no vote; it does again |
//! | `fail-install R` | R gives up the snapshot that it is installing |
//! | `propose R TEXT...`, `read R TOKEN`, `transfer R S`, `link-down R S`, `link-up R S`, `compact R I` | calls |
//! | `quiet COMMAND` | the same, with nothing said |
//! | `status` | all replicas |

#![allow(clippy::unwrap_used, reason = "a script that makes no sense fails its test")]
#![allow(clippy::missing_panics_doc, reason = "see above")]

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write as _;

use super::{
    Action, Change, Entry, EntryKind, HardState, Membership, Message, MessageBody, Mutants, Output,
    Persist, Raft, RaftConfig, RecoveredLog,
};
use crate::codec::Wire;
use crate::ids::{LogIndex, StoreId, Term};
use crate::storage::Durable;
use crate::time::{Duration, Instant};
use bytes::Bytes;

/// Messages and writes until nothing is under way.
const SETTLE_STEPS_MAX: usize = 10_000;

/// A write that is not durable yet.
enum Pending {
    Persist(Persist),
    Install(LogIndex, Term, Membership),
}

#[derive(Default)]
struct Disk {
    hard_state: HardState,
    base: (LogIndex, Term),
    base_members: Membership,
    log: Vec<Entry>,
    applied: LogIndex,
    suspect: u64,
}

struct Replica {
    raft: Raft,
    disk: Disk,
    pending: VecDeque<Pending>,
    /// Reads of the journal that are held back.
    fetches: VecDeque<(StoreId, LogIndex, Vec<Entry>)>,
}

/// The group of one script.
#[derive(Default)]
struct Group {
    count: u64,
    options: BTreeMap<String, u64>,
    replicas: BTreeMap<u64, Replica>,
    network: Vec<Message>,
    now: Instant,
    said: String,
    mutants: Mutants,
}

/// `key=value` words of a command.
fn options(words: &[&str]) -> BTreeMap<String, String> {
    let pair =
        |word: &&str| word.split_once('=').map(|(key, value)| (key.to_owned(), value.to_owned()));
    words.iter().filter_map(pair).collect()
}

fn number(word: &str) -> u64 {
    word.parse().unwrap_or_else(|_| panic!("{word:?} is a number"))
}

/// A membership as `Display` shows it: `1,2,4&1,2,3+5`.
fn membership(shown: &str) -> Membership {
    let ids = |list: &str| list.split(',').map(|id| StoreId(number(id))).collect::<Vec<_>>();
    let (voters, learners) = shown.split_once('+').map_or((shown, None), |(v, l)| (v, Some(l)));
    let (incoming, outgoing) =
        voters.split_once('&').map_or((voters, None), |(new, old)| (new, Some(old)));
    let [outgoing, learners] = [outgoing, learners].map(|list| list.map(ids).unwrap_or_default());
    Membership::new(ids(incoming), outgoing, learners).unwrap()
}

fn replica_at<'a>(words: &[&'a str], at: usize) -> (u64, &'a str) {
    let word = *words.get(at).unwrap_or_else(|| panic!("word {at} of {words:?}"));
    (word.parse().unwrap_or(0), word)
}

fn show(message: &Message) -> String {
    let body = match &message.body {
        MessageBody::PreVote { last_index, last_term } => {
            format!("PreVote log={last_index}/{last_term}")
        }
        MessageBody::PreVoteReply { granted } => format!("PreVoteReply granted={granted}"),
        MessageBody::Vote { last_index, last_term, transfer } => {
            format!("Vote log={last_index}/{last_term} transfer={transfer}")
        }
        MessageBody::VoteReply { granted } => format!("VoteReply granted={granted}"),
        MessageBody::Append { prev_index, prev_term, entries, commit } => {
            let entries: Vec<String> = entries.iter().map(show_entry).collect();
            format!("Append after={prev_index}/{prev_term} [{}] commit={commit}", entries.join(" "))
        }
        MessageBody::AppendAccepted { matched, suspect } => {
            format!("AppendAccepted {matched}{}", show_suspect(*suspect))
        }
        MessageBody::AppendRejected { refused, hint_index, hint_term, suspect } => {
            let suspect = show_suspect(*suspect);
            format!("AppendRejected {refused} hint={hint_index}/{hint_term}{suspect}")
        }
        MessageBody::Heartbeat { commit, round } => {
            format!("Heartbeat commit={commit} round={round}")
        }
        MessageBody::HeartbeatReply { round, suspect } => {
            format!("HeartbeatReply round={round}{}", show_suspect(*suspect))
        }
        MessageBody::Restore { suspect, index } => format!("Restore suspect={suspect} {index}"),
        MessageBody::TimeoutNow => "TimeoutNow".to_owned(),
        MessageBody::Snapshot { last_index, last_term, membership, .. } => {
            format!("Snapshot {last_index}/{last_term} members={membership}")
        }
        MessageBody::SnapshotReply { last_index, accepted, suspect } => {
            format!("SnapshotReply {last_index} accepted={accepted}{}", show_suspect(*suspect))
        }
    };
    format!("{}->{} {} {body}", message.from.0, message.to.0, message.term)
}

fn show_suspect(suspect: u64) -> String {
    if suspect == 0 { String::new() } else { format!(" suspect={suspect}") }
}

fn show_entry(entry: &Entry) -> String {
    let text = match entry.kind {
        EntryKind::Empty => "-".into(),
        EntryKind::Membership => {
            format!("members={}", Membership::from_bytes(&entry.payload).unwrap()).into()
        }
        EntryKind::Command => String::from_utf8_lossy(&entry.payload),
    };
    format!("{}/{}:{text}", entry.index, entry.term)
}

fn run_lengths(log: &[Entry]) -> Vec<(LogIndex, Term)> {
    let mut terms: Vec<(LogIndex, Term)> = Vec::new();
    for entry in log {
        if terms.last().is_none_or(|(_, term)| *term != entry.term) {
            terms.push((entry.index, entry.term));
        }
    }
    terms
}

impl Disk {
    fn write(&mut self, persist: &Persist) {
        self.hard_state = persist.hard_state.unwrap_or(self.hard_state);
        for entry in &persist.entries {
            self.log.retain(|old| old.index < entry.index);
            self.log.push(entry.clone());
        }
    }

    fn memberships(&self) -> Vec<(LogIndex, Membership)> {
        let changes = self.log.iter().filter(|entry| entry.kind == EntryKind::Membership);
        let base = std::iter::once((self.base.0, self.base_members.clone()));
        let read = |entry: &Entry| Membership::from_bytes(&entry.payload).unwrap();
        base.chain(changes.map(|entry| (entry.index, read(entry)))).collect()
    }

    fn recovered(&self) -> RecoveredLog {
        RecoveredLog {
            hard_state: self.hard_state,
            base_index: self.base.0,
            base_term: self.base.1,
            terms: run_lengths(&self.log),
            memberships: self.memberships(),
            last_index: self.log.last().map_or(self.base.0, |entry| entry.index),
            committed: self.applied,
            suspect: self.suspect,
        }
    }
}

impl Group {
    fn run(&mut self, command: &str) -> String {
        let words: Vec<&str> = command.split_whitespace().collect();
        let (replica, _) = replica_at(&words, words.len().min(2) - 1);
        let peer = StoreId(words.get(2).map_or(0, |word| word.parse().unwrap_or(0)));
        match words[0] {
            "start" => self.start(&words),
            "recover" => self.recover(replica, &options(&words)),
            "crash" => self.restart(replica),
            "deadline" => self.deadline(replica),
            "wait" => self.now = self.now + Duration::from_millis(replica),
            "deliver" => {
                let count = words.get(2).map_or(u64::MAX, |word| number(word));
                (0..count).all(|_| self.deliver(words[1]));
            }
            "drop" => {
                let link = words[1];
                self.network.retain(|m| format!("{}->{}", m.from.0, m.to.0) != link);
            }
            "persist" => self.persist(replica),
            "fetched" => self.fetched(replica),
            "settle" => self.settle(),
            "abstain" => self.call(replica, |raft, _, _| {
                raft.abstain();
                String::new()
            }),
            "vote-again" => self.call(replica, |raft, _, _| {
                raft.vote_again();
                String::new()
            }),
            "propose" => {
                let payloads = words[2..].iter().map(|w| Bytes::copy_from_slice(w.as_bytes()));
                let payloads = payloads.collect();
                self.call(replica, |raft, now, out| match raft.propose(now, payloads, out) {
                    Ok(first) => format!("proposed at {first}"),
                    Err(error) => format!("refused: {error}"),
                });
            }
            "read" => {
                self.call(replica, |raft, now, out| match raft.read_index(now, peer.0, out) {
                    Ok(()) => String::new(),
                    Err(error) => format!("refused: {error}"),
                });
            }
            "transfer" => self.call(replica, |raft, now, out| {
                raft.transfer(now, peer, out);
                String::new()
            }),
            "link-down" => self.call(replica, |raft, now, out| {
                raft.link_down(now, peer, out);
                String::new()
            }),
            "link-up" => self.call(replica, |raft, now, out| {
                raft.link_up(now, peer, out);
                String::new()
            }),
            "learner" => self.change(replica, Change::AddLearner(peer)),
            "remove-learner" => self.change(replica, Change::RemoveLearner(peer)),
            "swap" => {
                let add = StoreId(number(words[3]));
                self.change(replica, Change::Swap { remove: peer, add });
            }
            "caught-up" => {
                let caught_up = self.replicas[&replica].raft.caught_up(peer);
                self.say(replica, &format!("caught up: {caught_up}"));
            }
            "timing" => {
                let ms = Duration::from_millis;
                let (heartbeat, election) = (ms(peer.0), ms(number(words[3])));
                self.call(replica, |raft, now, _| {
                    raft.set_timing(now, heartbeat, election);
                    String::new()
                });
            }
            "fail-install" => {
                let pending = &mut self.replicas.get_mut(&replica).unwrap().pending;
                pending.retain(|write| !matches!(write, Pending::Install(..)));
                self.call(replica, |raft, now, out| {
                    raft.snapshot_failed(now, out);
                    String::new()
                });
            }
            "compact" => self.compact(replica, LogIndex(peer.0)),
            "quiet" => {
                self.run(command.trim_start_matches("quiet").trim_start());
            }
            "status" => {
                for replica in self.replicas.values() {
                    writeln!(self.said, "{}", replica.raft.status()).unwrap();
                }
            }
            other => panic!("no command {other:?}"),
        }
        std::mem::take(&mut self.said)
    }

    fn change(&mut self, id: u64, change: Change) {
        self.call(id, |raft, now, out| match raft.propose_change(now, change, out) {
            Ok(index) => format!("proposed at {index}"),
            Err(error) => format!("refused: {error}"),
        });
    }

    fn start(&mut self, words: &[&str]) {
        *self = Self { count: number(words[1]), mutants: self.mutants, ..Self::default() };
        self.options = options(words).into_iter().map(|(k, v)| (k, number(&v))).collect();
        let spare = self.options.get("spare").copied().unwrap_or(0);
        for id in 1..=self.count + spare {
            let base_members = if id <= self.count { self.first_members() } else { <_>::default() };
            let disk = Disk { base_members, ..Disk::default() };
            let raft = self.raft(id, disk.recovered());
            let replica =
                Replica { raft, disk, pending: VecDeque::new(), fetches: VecDeque::new() };
            self.replicas.insert(id, replica);
        }
    }

    /// What the range begins with.
    fn first_members(&self) -> Membership {
        Membership::of((1..=self.count).map(StoreId).collect())
    }

    fn raft(&self, id: u64, recovered: RecoveredLog) -> Raft {
        let option = |name: &str, default| self.options.get(name).copied().unwrap_or(default);
        let config = RaftConfig {
            id: StoreId(id),
            heartbeat: Duration::from_millis(10),
            election: Duration::from_millis(100),
            append_bytes_max: option("append", 1 << 20),
            appends_in_flight_max: usize::try_from(option("in-flight", 16)).unwrap(),
            snapshot_lag: option("lag", u64::MAX),
            entry_cache_bytes: option("cache", 1 << 20),
            proposals_uncommitted_bytes_max: 1 << 20,
            seed: id,
            mutants: self.mutants,
        };
        Raft::new(config, recovered, self.now)
    }

    fn restart(&mut self, id: u64) {
        let raft = self.raft(id, self.replicas[&id].disk.recovered());
        let replica = self.replicas.get_mut(&id).unwrap();
        replica.raft = raft;
        replica.pending.clear();
        replica.fetches.clear();
        self.call(id, |_, _, _| String::new());
    }

    fn recover(&mut self, id: u64, options: &BTreeMap<String, String>) {
        let get = |name: &str| options.get(name).map(String::as_str);
        let base = get("base").map_or((LogIndex(0), Term(0)), |base| {
            let (index, term) = base.split_once('/').expect("base=INDEX/TERM");
            (LogIndex(number(index)), Term(number(term)))
        });
        let terms = get("terms").unwrap_or("").split(',').filter(|term| !term.is_empty());
        let entry = |(term, index)| Entry {
            index: LogIndex(index),
            term: Term(number(term)),
            kind: EntryKind::Command,
            payload: Bytes::copy_from_slice(format!("e{index}").as_bytes()),
        };
        let mut log: Vec<Entry> = terms.zip(base.0.0 + 1..).map(entry).collect();
        for change in get("members").unwrap_or("").split(';').filter(|change| !change.is_empty()) {
            let (index, members) = change.split_once(':').expect("members=INDEX:MEMBERS");
            let entry = log.iter_mut().find(|entry| entry.index.0 == number(index)).unwrap();
            (entry.kind, entry.payload) = (EntryKind::Membership, membership(members).to_bytes());
        }
        let term = Term(get("term").map_or(log.last().map_or(0, |e| e.term.0), number));
        let vote = get("vote").map(|vote| StoreId(number(vote)));
        self.replicas.get_mut(&id).unwrap().disk = Disk {
            hard_state: HardState { term, vote },
            base,
            base_members: self.first_members(),
            log,
            applied: LogIndex(get("applied").map_or(base.0.0, number)),
            suspect: get("suspect").map_or(0, number),
        };
        self.restart(id);
    }

    fn call(&mut self, id: u64, call: impl FnOnce(&mut Raft, Instant, &mut Output) -> String) {
        let mut out = Output::new();
        let replica = self.replicas.get_mut(&id).unwrap();
        let answer = call(&mut replica.raft, self.now, &mut out);
        replica.raft.check();
        if !answer.is_empty() {
            writeln!(self.said, "{id}: {answer}").unwrap();
        }
        let actions: Vec<Action> = out.drain().collect();
        actions.into_iter().for_each(|action| self.carry_out(id, action));
    }

    fn say(&mut self, id: u64, what: &str) {
        writeln!(self.said, "{id}: {what}").unwrap();
    }

    fn carry_out(&mut self, id: u64, action: Action) {
        match action {
            Action::Send(message) => {
                self.say(id, &format!("send {}", show(&message)));
                self.network.push(message);
            }
            Action::Persist(persist) => {
                let state = persist.hard_state.map_or(String::new(), |state| {
                    let vote = state.vote.map_or_else(|| "none".into(), |vote| vote.0.to_string());
                    format!(" {} vote={vote}", state.term)
                });
                let entries: Vec<String> = persist.entries.iter().map(show_entry).collect();
                self.say(id, &format!("persist #{}{state} [{}]", persist.seq, entries.join(" ")));
                for message in &persist.then {
                    self.say(id, &format!("  then {}", show(message)));
                }
                let pending = Pending::Persist(persist);
                self.replicas.get_mut(&id).unwrap().pending.push_back(pending);
            }
            Action::Commit(index) => {
                self.say(id, &format!("commit {index}"));
                let replica = self.replicas.get_mut(&id).unwrap();
                replica.raft.applied(index);
                replica.disk.applied = replica.disk.applied.max(index);
            }
            Action::ReadReady { token, index } => {
                self.say(id, &format!("read {token} ready at {index}"));
            }
            Action::ReadLost { token } => self.say(id, &format!("read {token} lost")),
            Action::Fetch { peer, from, .. } => {
                self.say(id, &format!("fetch for {} from {from}", peer.0));
                let replica = self.replicas.get_mut(&id).unwrap();
                let log = replica.disk.log.iter();
                let entries = log.filter(|entry| entry.index >= from).cloned().collect();
                replica.fetches.push_back((peer, from, entries));
                if !self.options.contains_key("hold-fetches") {
                    self.fetched(id);
                }
            }
            Action::Role { role, leader, term } => {
                let leader = leader.map_or_else(|| "none".into(), |leader| leader.0.to_string());
                self.say(id, &format!("{role:?} {term} leader={leader}"));
            }
            Action::NeedSnapshot { peer } => {
                self.say(id, &format!("needs a snapshot for {}", peer.0));
                let index = self.replicas[&id].disk.applied;
                self.call(id, |raft, now, out| {
                    let term = raft.term_at(index).expect("what is applied is in the log");
                    raft.snapshot(now, peer, index, term, Bytes::new(), out);
                    String::new()
                });
            }
            Action::InstallSnapshot { last_index, last_term, membership, .. } => {
                self.say(id, &format!("install snapshot {last_index}/{last_term}"));
                let pending = Pending::Install(last_index, last_term, membership);
                self.replicas.get_mut(&id).unwrap().pending.push_back(pending);
            }
            Action::Trusted => {
                self.say(id, "trusted");
                self.replicas.get_mut(&id).unwrap().disk.suspect = 0;
            }
            Action::Poisoned(why) => self.say(id, &format!("poisoned: {why}")),
        }
    }

    fn fetched(&mut self, id: u64) {
        let fetch = self.replicas.get_mut(&id).unwrap().fetches.pop_front();
        let Some((peer, from, entries)) = fetch else { return self.say(id, "nothing to fetch") };
        self.call(id, |raft, now, out| {
            raft.fetched(now, peer, from, entries, out);
            String::new()
        });
    }

    fn deadline(&mut self, id: u64) {
        if let Some(deadline) = self.replicas[&id].raft.deadline() {
            self.now = self.now.max(deadline.at);
            self.call(id, |raft, now, out| {
                raft.on_deadline(now, out);
                deadline.reason.to_owned()
            });
        } else {
            self.say(id, "no deadline");
        }
    }

    /// Delivers the oldest message on a link; false if there is none.
    fn deliver(&mut self, link: &str) -> bool {
        let on_link = |m: &Message| format!("{}->{}", m.from.0, m.to.0) == link;
        let Some(at) = self.network.iter().position(on_link) else { return false };
        let message = self.network.remove(at);
        self.call(message.to.0, |raft, now, out| {
            raft.step(now, message, out);
            String::new()
        });
        true
    }

    fn persist(&mut self, id: u64) {
        let replica = self.replicas.get_mut(&id).unwrap();
        match replica.pending.pop_front() {
            None => self.say(id, "nothing to persist"),
            Some(Pending::Persist(persist)) => {
                replica.disk.write(&persist);
                for message in &persist.then {
                    self.say(id, &format!("send {}", show(message)));
                }
                self.network.extend(persist.then);
                self.call(id, |raft, now, out| {
                    raft.persisted(now, persist.seq, Durable::for_test(), out);
                    String::new()
                });
            }
            Some(Pending::Install(index, term, membership)) => {
                (replica.disk.base, replica.disk.applied) = ((index, term), index);
                replica.disk.base_members = membership;
                replica.disk.log.clear();
                self.call(id, |raft, now, out| {
                    raft.snapshot_installed(now, Durable::for_test(), out);
                    String::new()
                });
            }
        }
    }

    fn settle(&mut self) {
        for _ in 0..SETTLE_STEPS_MAX {
            let busy = self.replicas.iter().find(|(_, replica)| !replica.pending.is_empty());
            if let Some(id) = busy.map(|(id, _)| *id) {
                self.persist(id);
            } else if let Some(message) = self.network.first() {
                let link = format!("{}->{}", message.from.0, message.to.0);
                self.deliver(&link);
            } else {
                return;
            }
        }
        panic!("replicas talk without end");
    }

    fn compact(&mut self, id: u64, through: LogIndex) {
        let replica = self.replicas.get_mut(&id).unwrap();
        let term = replica.raft.term_at(through).expect("an index in the log");
        replica.disk.base_members = replica.raft.membership_at(through).unwrap().clone();
        replica.raft.compacted(through);
        replica.raft.check();
        replica.disk.log.retain(|entry| entry.index > through);
        replica.disk.base = (through, term);
    }
}

/// The script with what happens now, if replicas make these mistakes.
pub fn rewrite(script: &str, mutants: Mutants) -> String {
    let mut group = Group { mutants, ..Group::default() };
    let mut text = String::new();
    let mut lines = script.lines();
    while let Some(line) = lines.next() {
        writeln!(text, "{line}").unwrap();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let said = group.run(line);
        // What was said before stands up to the next empty line, if it stands at all.
        let mut rest = lines.clone();
        if rest.next() == Some("----") {
            rest.by_ref().find(|line| line.is_empty());
            lines = rest;
        }
        while lines.clone().next() == Some("") {
            lines.next();
        }
        writeln!(text, "----\n{said}").unwrap();
    }
    format!("{}\n", text.trim_end())
}
