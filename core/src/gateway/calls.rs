//! Calls to the range: each is sent until it has an answer or nobody wants it any more.
//!
//! A call goes to the store that is believed to lead. If that is silent or unreachable, or does not
//! lead, and nobody else is known, then one call, the *seeker*, asks the voters in turn every few
//! milliseconds; the others wait for what it learns, so that a lost leader costs few messages however
//! many calls there are. The seeker is a read of the directory, which only a leader that two zones
//! follow can answer; without a session it is the call that opens one.
//!
//! What has no answer within the call's timeout, or whose link broke, is sent again; answers to earlier
//! attempts still count. A store that greets in a new life has lost what was sent to it before: that is
//! sent again at once. A command keeps its sequence over all attempts, so that it takes effect once. A
//! command whose request is gone goes on in the background until it is answered or its session ends:
//! the watermark must not pass it. Nor may sequences run too far ahead of it, because the range keeps
//! so many outcomes and no more: commands beyond that wait for the oldest answer.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::context::{CallIds, Timer, Timers};
use super::leader::Leader;
use crate::cluster::{GatewayConfig, ROOT_RANGE};
use crate::effects::Effects;
use crate::ids::{
    BlobId, CallId, CommitSequence, Endpoint, Incarnation, RangeEpoch, RequestId, SessionId,
    StoreId,
};
use crate::message::{
    Answer, Ask, Envelope, Message, RangeAnswer, RangeCall, Refusal, SessionReport,
};
use crate::range::OUTCOMES_PER_SESSION_MAX;
use crate::range::command::{Command, CommandBody, Origin, Read};
use crate::rng::Rng;
use crate::time::{Duration, Instant};

/// Attempts of one call whose answers are still taken; older ones are forgotten.
const ATTEMPTS_MAX: usize = 8;
/// "Not the leader, that one is" is followed at once so often in a row, then with a pause.
const REDIRECTS_MAX: u8 = 3;
/// The first pause before a call is repeated; it doubles.
const BACKOFF_MIN: Duration = Duration::from_millis(10);
/// The pause grows to `BACKOFF_MIN` doubled so often (640 ms).
const BACKOFF_DOUBLINGS_MAX: u32 = 6;

/// Names a call over all its attempts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Ticket(u64);

/// Who wants the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    /// The gateway's session.
    Session,
    /// The gateway's knowledge of the cluster.
    Directory,
    /// A request; the tag tells its calls apart.
    Request(RequestId, usize),
    /// Nobody: the command only has to come to an end.
    Background,
}

/// Why a call ended without an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// The session is not live.
    Fenced,
    /// The range takes nothing new. Only said of a command that is in no log.
    Full {
        /// Who leads it.
        by: StoreId,
    },
}

/// A call that came to its end.
#[derive(Debug)]
pub(super) struct Finished {
    pub(super) owner: Owner,
    pub(super) result: Result<Answer, Failure>,
}

#[derive(Debug)]
enum What {
    Open(Command),
    Beat(Box<SessionReport>),
    Read(Read),
    Command(CommitSequence, CommandBody),
}

#[derive(Debug)]
struct Call {
    owner: Owner,
    what: What,
    attempts: Vec<CallId>,
    stand: Stand,
    /// When its timer rings, if one is set.
    again_at: Instant,
    pauses: u32,
    redirects: u8,
    /// An attempt may have reached a log without our knowing.
    uncertain: bool,
}

/// Where a call stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stand {
    /// Too far ahead of the watermark; never sent.
    Held,
    /// The last attempt is under way, and no refusal has come.
    Sent { to: StoreId, at: Instant },
    /// The leader takes no more for now; the timer sends it again.
    Paused,
    /// Nobody is known to lead; what the seeker learns sends it again.
    Parked,
}

/// All calls to the range.
#[derive(Debug)]
pub(super) struct Calls {
    session: SessionId,
    epoch: RangeEpoch,
    leader: Leader,
    /// The call that asks around for all that are parked.
    seeker: Option<Ticket>,
    /// The life in which each store last greeted.
    lives: BTreeMap<StoreId, Incarnation>,
    next_ticket: u64,
    next_sequence: u64,
    open: BTreeMap<Ticket, Call>,
    attempts: BTreeMap<CallId, Ticket>,
    /// Commands without an answer; the first is the watermark.
    unanswered: BTreeSet<CommitSequence>,
    /// Commands that were never sent, because they are too far ahead of the watermark; in order.
    held: VecDeque<(CommitSequence, Ticket)>,
    background: usize,
    /// Bytes of all commands that are open.
    command_bytes: u64,
}

/// What sending needs from outside.
pub(super) struct Wires<'a> {
    pub(super) now: Instant,
    pub(super) config: &'a GatewayConfig,
    /// The voters of the range, by the present map.
    pub(super) voters: &'a [StoreId],
    pub(super) ids: &'a mut CallIds,
    pub(super) timers: &'a mut Timers,
    pub(super) rng: &'a mut Rng,
    pub(super) fx: &'a mut Effects,
}

impl Calls {
    pub(super) fn new() -> Self {
        Self {
            session: SessionId(0),
            epoch: RangeEpoch(1),
            leader: Leader::default(),
            seeker: None,
            lives: BTreeMap::new(),
            next_ticket: 0,
            next_sequence: 1,
            open: BTreeMap::new(),
            attempts: BTreeMap::new(),
            unanswered: BTreeSet::new(),
            held: VecDeque::new(),
            background: 0,
            command_bytes: 0,
        }
    }

    /// From now on calls are made under this session, whose sequences begin anew.
    pub(super) fn begin_session(&mut self, session: SessionId) {
        assert!(self.unanswered.is_empty(), "commands end with their session");
        self.session = session;
        self.next_sequence = 1;
    }

    /// Forget all calls: their session is over. Answers that still come find nobody.
    pub(super) fn end_session(&mut self, timers: &mut Timers) {
        for (ticket, call) in core::mem::take(&mut self.open) {
            timers.disarm(call.again_at, Timer::Range(ticket));
        }
        self.seeker = None;
        self.attempts.clear();
        self.unanswered.clear();
        self.held.clear();
        self.background = 0;
        self.command_bytes = 0;
        self.session = SessionId(0);
    }

    /// Ask for a session; after a pause, if the last attempt was refused.
    pub(super) fn open_session(&mut self, wires: &mut Wires<'_>, nonce: u128, refused: bool) {
        let (gateway, levels) = (wires.config.gateway, wires.config.levels);
        let body = CommandBody::OpenSpeaking { gateway, nonce, levels };
        let what = What::Open(Command { origin: Origin::System, body });
        let ticket = self.add(wires.now, Owner::Session, what);
        if refused {
            // Each attempt is an entry in the log.
            if let Some(call) = self.open.get_mut(&ticket) {
                call.pauses = BACKOFF_DOUBLINGS_MAX;
            }
            self.pause(wires, ticket);
        } else {
            self.send(wires, ticket);
        }
    }

    /// Ask what the cluster is like, unless that is being asked; `again` after a pause, since the
    /// last answer was too old.
    pub(super) fn read_directory(&mut self, wires: &mut Wires<'_>, again: bool) {
        if self.open.values().any(|call| call.owner == Owner::Directory) {
            return;
        }
        let ticket = self.add(wires.now, Owner::Directory, What::Read(Read::Directory));
        match again {
            true => self.pause(wires, ticket),
            false => self.send(wires, ticket),
        }
    }

    /// Tell the root range that the session lives, and what it has under way.
    pub(super) fn beat(&mut self, wires: &mut Wires<'_>, report: SessionReport) {
        self.start(wires, Owner::Session, What::Beat(Box::new(report)));
    }

    /// Blobs that commands without an answer name.
    pub(super) fn blobs(&self) -> impl Iterator<Item = BlobId> {
        self.open.values().filter_map(|call| match &call.what {
            What::Command(_, body) => body.new_blob(),
            What::Open(_) | What::Beat(_) | What::Read(_) => None,
        })
    }

    /// Ask for a read.
    pub(super) fn read(&mut self, wires: &mut Wires<'_>, id: RequestId, tag: usize, read: Read) {
        self.start(wires, Owner::Request(id, tag), What::Read(read));
    }

    /// Submit a command under the session.
    pub(super) fn command(
        &mut self,
        wires: &mut Wires<'_>,
        id: RequestId,
        tag: usize,
        body: CommandBody,
    ) {
        let sequence = CommitSequence(self.next_sequence);
        self.next_sequence += 1;
        self.unanswered.insert(sequence);
        self.command_bytes += body.weight();
        self.start(wires, Owner::Request(id, tag), What::Command(sequence, body));
    }

    /// Whether the request has a command whose outcome is not known.
    pub(super) fn has_command(&self, id: RequestId) -> bool {
        self.open.values().any(|call| {
            matches!(call.what, What::Command(..))
                && matches!(call.owner, Owner::Request(owner, _) if owner == id)
        })
    }

    /// The request is over: its reads are dropped, its commands go on in the background.
    pub(super) fn release(&mut self, timers: &mut Timers, id: RequestId) {
        let mut reads = Vec::new();
        for (ticket, call) in &mut self.open {
            if !matches!(call.owner, Owner::Request(owner, _) if owner == id) {
                continue;
            }
            if matches!(call.what, What::Command(..)) {
                call.owner = Owner::Background;
                self.background += 1;
            } else {
                reads.push(*ticket);
            }
        }
        for ticket in reads {
            self.end(timers, ticket);
        }
    }

    /// Bytes of commands without an answer.
    pub(super) fn command_bytes(&self) -> u64 {
        self.command_bytes
    }

    /// Commands that nobody waits for.
    pub(super) fn background(&self) -> usize {
        self.background
    }

    /// Take an answer. Answers to nothing open are ignored.
    pub(super) fn answer(
        &mut self,
        wires: &mut Wires<'_>,
        from: StoreId,
        answer: RangeAnswer,
    ) -> Option<Finished> {
        if answer.origin != wires.config.gateway || answer.range != ROOT_RANGE {
            return None;
        }
        let Some(ticket) = self.attempts.get(&answer.call).copied() else {
            probe!(AnswerOfNobody);
            return None;
        };
        let by = answer.by;
        self.leader.heard(wires.now, from);
        let call = self.open.get_mut(&ticket)?;
        let is_last = call.attempts.last() == Some(&answer.call);
        let failure = match answer.result {
            Ok(answer) if !call.what.is_answered_by(&answer) => return None,
            Ok(answer) => {
                if let (true, Stand::Sent { at, .. }) = (is_last, call.stand) {
                    self.leader.took(wires.now - at);
                }
                self.leader.answered(wires.now, from, by);
                let was_searching = self.seeker.take().is_some();
                let call = self.finish(wires, ticket)?;
                if was_searching {
                    self.found(wires);
                }
                return Some(Finished { owner: call.owner, result: Ok(answer) });
            }
            Err(Refusal::Fenced) => Failure::Fenced,
            Err(Refusal::Full) if is_last && call.gives_up_when_full() => Failure::Full { by },
            Err(refusal) => {
                let refused = Refused { ticket, from, by, is_last };
                self.refused(wires, &refused, &refusal);
                return None;
            }
        };
        let call = self.finish(wires, ticket)?;
        Some(Finished { owner: call.owner, result: Err(failure) })
    }
    /// The timer of a call has come.
    pub(super) fn timer(&mut self, wires: &mut Wires<'_>, ticket: Ticket) {
        let Some(call) = self.open.get_mut(&ticket) else { return };
        if call.again_at > wires.now {
            return;
        }
        match call.stand {
            Stand::Held | Stand::Parked => {}
            Stand::Paused => self.send(wires, ticket),
            Stand::Sent { .. } if self.seeker == Some(ticket) => self.ask_around(wires, ticket),
            Stand::Sent { to, at } => {
                let end = at + wires.config.call_timeout;
                if wires.now < end && self.leader.was_heard_since(to, at) {
                    // It is this call that takes long, or that was lost.
                    return wires.timers.move_to(&mut call.again_at, end, Timer::Range(ticket));
                }
                self.leader.doubt(wires.now, to, true);
                self.send(wires, ticket);
            }
        }
    }

    /// A store greets: it can be reached. In a new life it knows nothing of what was sent to it before.
    pub(super) fn greeted(&mut self, wires: &mut Wires<'_>, peer: StoreId, life: Incarnation) {
        self.leader.heard(wires.now, peer);
        let last = self.lives.entry(peer).or_insert(Incarnation(0));
        if life > *last {
            *last = life;
            self.leader.lost(peer);
            self.send_again(wires, peer);
        }
    }

    /// A link stands again.
    pub(super) fn link_up(&mut self, now: Instant, peer: StoreId) {
        self.leader.heard(now, peer);
    }

    /// A link broke: what waits for an answer over it is sent again at once.
    pub(super) fn link_down(&mut self, wires: &mut Wires<'_>, peer: StoreId) {
        self.leader.doubt(wires.now, peer, false);
        self.send_again(wires, peer);
    }

    pub(super) fn open(&self) -> usize {
        self.open.len()
    }

    pub(super) fn leader(&self) -> Option<StoreId> {
        self.leader.target()
    }

    pub(super) fn check(&self, is_open: impl Fn(RequestId) -> bool) {
        let mut background = 0;
        let mut commands = BTreeSet::new();
        let mut command_bytes = 0;
        for (ticket, call) in &self.open {
            assert!(call.attempts.len() <= ATTEMPTS_MAX, "attempts are bounded");
            assert!(call.attempts.iter().all(|id| self.attempts.get(id) == Some(ticket)));
            if let What::Command(sequence, body) = &call.what {
                commands.insert(*sequence);
                command_bytes += body.weight();
            }
            match call.owner {
                Owner::Session | Owner::Directory => {}
                Owner::Request(id, _) => assert!(is_open(id), "{id} is over, its call is not"),
                Owner::Background => background += 1,
            }
        }
        let attempts: usize = self.open.values().map(|call| call.attempts.len()).sum();
        assert_eq!(attempts, self.attempts.len(), "each attempt belongs to an open call");
        assert_eq!(commands, self.unanswered, "the watermark knows each open command");
        let first = self.held.front().map(|(sequence, _)| *sequence);
        assert!(first.is_none_or(|first| self.is_far_ahead(first)), "none is held for nothing");
        for (_, ticket) in &self.held {
            assert_eq!(self.open[ticket].stand, Stand::Held);
        }
        let held = self.open.values().filter(|call| call.stand == Stand::Held).count();
        assert_eq!(held, self.held.len());
        let parked = self.open.values().any(|call| call.stand == Stand::Parked);
        assert!(!parked || self.seeker.is_some(), "what is parked waits for a seeker");
        assert!(self.seeker.is_none_or(|seeker| self.open.contains_key(&seeker)));
        assert_eq!(background, self.background);
        assert_eq!(command_bytes, self.command_bytes, "bytes of commands are counted right");
    }

    fn start(&mut self, wires: &mut Wires<'_>, owner: Owner, what: What) {
        let sequence = match what {
            What::Command(sequence, _) => Some(sequence),
            What::Open(_) | What::Beat(_) | What::Read(_) => None,
        };
        let ticket = self.add(wires.now, owner, what);
        match sequence.filter(|sequence| self.is_far_ahead(*sequence)) {
            Some(sequence) => self.held.push_back((sequence, ticket)),
            None => self.send(wires, ticket),
        }
    }

    /// A call that is not sent yet, and has no timer.
    fn add(&mut self, now: Instant, owner: Owner, what: What) -> Ticket {
        let ticket = Ticket(self.next_ticket);
        self.next_ticket += 1;
        let call = Call {
            owner,
            what,
            attempts: Vec::new(),
            stand: Stand::Held,
            again_at: now,
            pauses: 0,
            redirects: 0,
            uncertain: false,
        };
        self.open.insert(ticket, call);
        ticket
    }

    /// Whether the range would refuse a command, because it cannot keep so many outcomes.
    fn is_far_ahead(&self, sequence: CommitSequence) -> bool {
        let watermark = self.unanswered.first().copied().unwrap_or(sequence);
        sequence.0 - watermark.0 >= OUTCOMES_PER_SESSION_MAX as u64
    }

    /// A call has its answer: forget it, and send what had to wait for that.
    fn finish(&mut self, wires: &mut Wires<'_>, ticket: Ticket) -> Option<Call> {
        let call = self.end(wires.timers, ticket);
        while let Some((_, ticket)) =
            self.held.front().copied().filter(|(sequence, _)| !self.is_far_ahead(*sequence))
        {
            self.held.pop_front();
            self.send(wires, ticket);
        }
        if self.seeker == Some(ticket) {
            self.seeker = None;
            self.seek(wires);
        }
        call
    }

    /// A call was refused, for a reason that does not end it.
    fn refused(&mut self, wires: &mut Wires<'_>, refused: &Refused, refusal: &Refusal) {
        let Refused { ticket, from, by, is_last } = *refused;
        let now = wires.now;
        if let Refusal::StaleEpoch { current } = refusal {
            self.epoch = self.epoch.max(*current);
        }
        let is_seeker = self.seeker == Some(ticket);
        // Another attempt is under way: what befell this one no longer matters, but to a search.
        if !is_last && !is_seeker {
            return;
        }
        match refusal {
            Refusal::NotLeader { leader } => {
                let believed = self.leader.refused(now, from, *leader);
                let Some(call) = self.open.get_mut(&ticket) else { return };
                if believed && call.redirects < REDIRECTS_MAX {
                    call.redirects += 1;
                    call.stand = Stand::Paused;
                    return self.send_to_leader(wires, ticket);
                }
                self.leader.forget();
                // The seeker's timer asks the next voter: what was said may be true a little later.
                if !is_seeker {
                    call.stand = Stand::Paused;
                    self.park(wires, ticket);
                }
            }
            Refusal::Interrupted => {
                self.leader.lost(by);
                let Some(call) = self.open.get_mut(&ticket) else { return };
                call.uncertain = true;
                if !is_seeker {
                    self.park(wires, ticket);
                }
            }
            // Only a leader says so.
            Refusal::Overloaded | Refusal::Full => {
                self.leader.answered(now, from, by);
                let was_searching = self.seeker.take().is_some();
                self.pause(wires, ticket);
                if was_searching {
                    self.found(wires);
                }
            }
            Refusal::StaleEpoch { .. } if is_seeker => {}
            Refusal::StaleEpoch { .. } | Refusal::Fenced => self.pause(wires, ticket),
        }
    }

    /// Send a call to whoever is believed to lead; without anybody, it waits for the seeker.
    fn send(&mut self, wires: &mut Wires<'_>, ticket: Ticket) {
        if self.seeker == Some(ticket) {
            return self.ask_around(wires, ticket);
        }
        // While one call searches, the others do not try what it is told.
        if self.seeker.is_some() || self.leader.target().is_none() {
            return self.park(wires, ticket);
        }
        self.send_to_leader(wires, ticket);
    }

    fn send_to_leader(&mut self, wires: &mut Wires<'_>, ticket: Ticket) {
        let Some(to) = self.leader.target() else { return self.park(wires, ticket) };
        let timeout = wires.config.call_timeout;
        let mut patience = self.leader.patience(wires.config.hedge_after, timeout);
        if buggify!(EarlyCallTimeout) {
            patience /= 8;
        }
        self.send_to(wires, ticket, to, patience);
    }

    fn park(&mut self, wires: &mut Wires<'_>, ticket: Ticket) {
        let Some(call) = self.open.get_mut(&ticket) else { return };
        call.became_uncertain();
        probe!(CallParked);
        call.stand = Stand::Parked;
        wires.timers.disarm(call.again_at, Timer::Range(ticket));
        self.seek(wires);
    }

    /// Ask around, if calls wait for that and it is not being done.
    fn seek(&mut self, wires: &mut Wires<'_>) {
        let mut parked = self.open.iter().filter(|(_, call)| call.stand == Stand::Parked);
        let Some((first, _)) = parked.next() else { return };
        if self.seeker.is_some() {
            return;
        }
        let directory = self.open.iter().find(|(_, call)| call.owner == Owner::Directory);
        let seeker = match directory {
            Some((ticket, _)) => *ticket,
            None if self.session == SessionId(0) => *first,
            None => self.add(wires.now, Owner::Directory, What::Read(Read::Directory)),
        };
        self.seeker = Some(seeker);
        self.leader.search();
        self.ask_around(wires, seeker);
    }

    /// Send the seeker to the next store that may know who leads.
    fn ask_around(&mut self, wires: &mut Wires<'_>, ticket: Ticket) {
        let strangers = self.lives.keys().copied().filter(|store| !wires.voters.contains(store));
        let to = self.leader.next(wires.now, wires.voters, strangers);
        let pause = self.leader.pause(wires.rng);
        if let Some(call) = self.open.get_mut(&ticket) {
            call.redirects = 0;
        }
        self.send_to(wires, ticket, to, pause);
    }

    /// Somebody leads: what waited for that is sent, and what went to silent stores before.
    fn found(&mut self, wires: &mut Wires<'_>) {
        let waits = |call: &Call| match call.stand {
            Stand::Parked => true,
            Stand::Sent { to, .. } => self.leader.is_doubted(wires.now, to),
            Stand::Held | Stand::Paused => false,
        };
        let waiting: Vec<Ticket> =
            self.open.iter().filter(|(_, call)| waits(call)).map(|(ticket, _)| *ticket).collect();
        for ticket in waiting {
            if let Some(call) = self.open.get_mut(&ticket) {
                call.redirects = 0;
            }
            self.send(wires, ticket);
        }
    }

    /// Send again what waits for an answer of a store that will not give one.
    fn send_again(&mut self, wires: &mut Wires<'_>, peer: StoreId) {
        let waits = |call: &Call| matches!(call.stand, Stand::Sent { to, .. } if to == peer);
        let waiting: Vec<Ticket> =
            self.open.iter().filter(|(_, call)| waits(call)).map(|(ticket, _)| *ticket).collect();
        for ticket in waiting {
            self.send(wires, ticket);
        }
    }

    fn send_to(&mut self, wires: &mut Wires<'_>, ticket: Ticket, to: StoreId, patience: Duration) {
        let id = wires.ids.next();
        let watermark = self.unanswered.first().copied();
        let Some(call) = self.open.get_mut(&ticket) else { return };
        call.became_uncertain();
        call.attempts.push(id);
        self.attempts.insert(id, ticket);
        if call.attempts.len() > ATTEMPTS_MAX {
            self.attempts.remove(&call.attempts.remove(0));
        }
        call.stand = Stand::Sent { to, at: wires.now };
        wires.timers.move_to(&mut call.again_at, wires.now + patience, Timer::Range(ticket));
        let message = Message::RangeCall(RangeCall {
            call: id,
            origin: wires.config.gateway,
            session: self.session,
            range: ROOT_RANGE,
            epoch: self.epoch,
            forwarded: false,
            ask: call.what.ask(self.session, watermark),
        });
        let from = Endpoint::Gateway(wires.config.gateway);
        wires.fx.send(Envelope { from, to: Endpoint::Store(to), message });
    }

    /// Send a call again after a while: the timer does it.
    fn pause(&mut self, wires: &mut Wires<'_>, ticket: Ticket) {
        let Some(call) = self.open.get_mut(&ticket) else { return };
        let at = wires.now + backoff(wires.rng, call.pauses);
        call.pauses = call.pauses.saturating_add(1);
        call.stand = Stand::Paused;
        call.redirects = 0;
        wires.timers.move_to(&mut call.again_at, at, Timer::Range(ticket));
    }

    fn end(&mut self, timers: &mut Timers, ticket: Ticket) -> Option<Call> {
        let call = self.open.remove(&ticket)?;
        timers.disarm(call.again_at, Timer::Range(ticket));
        for attempt in &call.attempts {
            self.attempts.remove(attempt);
        }
        if let What::Command(sequence, body) = &call.what {
            self.command_bytes -= body.weight();
            self.unanswered.remove(sequence);
        }
        if call.owner == Owner::Background {
            self.background -= 1;
        }
        Some(call)
    }
}

/// Which attempt was refused, and by whom.
#[derive(Clone, Copy, Debug)]
struct Refused {
    ticket: Ticket,
    from: StoreId,
    by: StoreId,
    is_last: bool,
}

impl Call {
    /// The last attempt is given up without an answer: it may take effect.
    fn became_uncertain(&mut self) {
        self.uncertain |= matches!(self.stand, Stand::Sent { .. });
    }

    /// Whether the refusal of the range to take anything new is the call's end.
    fn gives_up_when_full(&self) -> bool {
        !self.uncertain && matches!(self.owner, Owner::Request(..) | Owner::Background)
    }
}

impl What {
    fn ask(&self, session: SessionId, watermark: Option<CommitSequence>) -> Ask {
        match self {
            Self::Open(command) => Ask::Command(Box::new(command.clone())),
            Self::Beat(report) => Ask::Beat(report.clone()),
            Self::Read(read) => Ask::Read(read.clone()),
            Self::Command(sequence, body) => {
                let watermark = watermark.unwrap_or(*sequence);
                assert!(watermark <= *sequence, "the watermark passes no open command");
                let origin = Origin::Session { session, sequence: *sequence, watermark };
                Ask::Command(Box::new(Command { origin, body: body.clone() }))
            }
        }
    }

    /// Whether an answer is of the kind that was asked for: a peer may say anything.
    fn is_answered_by(&self, answer: &Answer) -> bool {
        matches!(
            (self, answer),
            (Self::Open(_) | Self::Command(..), Answer::Applied(_))
                | (Self::Beat(_), Answer::Beat { .. })
                | (Self::Read(_), Answer::Read(_))
        )
    }
}

/// A pause before the `pauses`-th repetition: doubling, and at random between half of it and all,
/// so that gateways do not come back together.
pub(super) fn backoff(rng: &mut Rng, pauses: u32) -> Duration {
    let whole = BACKOFF_MIN * 2_u32.pow(pauses.min(BACKOFF_DOUBLINGS_MAX));
    let half = u64::try_from(whole.as_nanos() / 2).unwrap_or(u64::MAX);
    Duration::from_nanos(half + rng.below(half.max(1)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::{ClusterMap, Cut};
    use crate::ids::{ClusterId, GatewayId};
    use crate::level::Levels;

    const VOTERS: [StoreId; 3] = [StoreId(1), StoreId(2), StoreId(3)];

    /// Calls, and what they need from outside over their life.
    struct Rig {
        calls: Calls,
        ids: CallIds,
        timers: Timers,
    }

    fn config() -> GatewayConfig {
        GatewayConfig {
            levels: Levels::OWN,
            cluster: ClusterId(1),
            gateway: GatewayId(1),
            zone: None,
            map: ClusterMap { voters: VOTERS.to_vec(), ..ClusterMap::bootstrap(64, Vec::new()) },
            cut: Cut::SIMULATION,
            body_budget_bytes: 0,
            body_wait: Duration::from_secs(2),
            requests_max: 1,
            call_timeout: Duration::from_secs(1),
            hedge_after: Duration::from_secs(1),
            request_timeout: Duration::from_secs(1),
            beat: Duration::from_secs(1),
            nonce: 1,
            seed: 1,
        }
    }

    /// The stores that are sent to while `act` runs.
    fn sent_to(rig: &mut Rig, act: impl FnOnce(&mut Calls, &mut Wires<'_>)) -> Vec<Endpoint> {
        let config = config();
        let (mut rng, mut fx) = (Rng::new(1), Effects::new());
        let mut wires = Wires {
            now: Instant::from_millis(1),
            config: &config,
            voters: &VOTERS,
            ids: &mut rig.ids,
            timers: &mut rig.timers,
            rng: &mut rng,
            fx: &mut fx,
        };
        act(&mut rig.calls, &mut wires);
        let to = |effect| match effect {
            crate::effects::Effect::Send(envelope) => Some(envelope.to),
            _ => None,
        };
        fx.drain().filter_map(to).collect()
    }

    // At a start the gateway asks before the stores have read their disks, and they drop what they
    // cannot answer yet: the first answer took the timeout of a call, a second.
    #[test]
    fn a_call_that_a_starting_store_dropped_is_sent_again_when_it_greets() {
        let (ids, timers) = (CallIds::default(), Timers::default());
        let mut rig = Rig { calls: Calls::new(), ids, timers };
        let sent = sent_to(&mut rig, |calls, wires| calls.open_session(wires, 1, false));
        assert_eq!(sent, [Endpoint::Store(VOTERS[0])]);
        let mut greeted =
            |from| sent_to(&mut rig, |calls, wires| calls.greeted(wires, from, Incarnation(1)));
        assert_eq!(greeted(VOTERS[2]), [], "nothing waits for it");
        assert_eq!(greeted(VOTERS[0]), [Endpoint::Store(VOTERS[1])]);
        assert_eq!(greeted(VOTERS[0]), [], "it is the same life");
    }
}
