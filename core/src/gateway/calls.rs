//! Calls to the range: each is sent until it has an answer or nobody wants it any more.
//!
//! A call goes to the store that is believed to lead, else to the voters in turn. What has no answer
//! within the call's timeout, or whose link broke, is sent again elsewhere; answers to earlier
//! attempts still count. A store that greets in a new life has lost what was sent to it before: that
//! is sent again at once. A command keeps its sequence over all attempts, so that it takes effect
//! once. A command whose request is gone goes on in the background until it is answered or its
//! session ends: the watermark must not pass it. Nor may sequences run too far ahead of it, because
//! the range keeps so many outcomes and no more: commands beyond that wait for the oldest answer.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::context::{CallIds, Timer, Timers};
use crate::cluster::GatewayConfig;
use crate::cluster::ROOT_RANGE;
use crate::effects::Effects;
use crate::ids::{
    CallId, CommitSequence, Endpoint, Incarnation, RangeEpoch, RequestId, SessionId, StoreId,
};
use crate::message::{Answer, Ask, Envelope, Message, RangeAnswer, RangeCall, Refusal};
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
    Full,
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
    Beat,
    Read(Read),
    Command(CommitSequence, CommandBody),
}

#[derive(Debug)]
struct Call {
    owner: Owner,
    what: What,
    attempts: Vec<CallId>,
    /// Voters that were asked in vain, since all of them were last. Each call goes round by itself:
    /// if calls shared one turn, some might meet the same voters for ever.
    tried: BTreeSet<StoreId>,
    /// The voter of the last attempt.
    to: StoreId,
    /// When the call is sent again: the last attempt's timeout, or the end of a pause.
    again_at: Instant,
    pauses: u32,
    /// The last attempt was refused; no answer is waited for.
    paused: bool,
    redirects: u8,
    /// An attempt may have reached a log without our knowing.
    uncertain: bool,
}

/// All calls to the range.
#[derive(Debug)]
pub(super) struct Calls {
    session: SessionId,
    epoch: RangeEpoch,
    leader: Option<StoreId>,
    /// Who last answered a call: the leader, or one that can reach it.
    via: Option<StoreId>,
    /// The life in which each voter last greeted.
    lives: BTreeMap<StoreId, Incarnation>,
    next_voter: usize,
    next_ticket: u64,
    next_sequence: u64,
    open: BTreeMap<Ticket, Call>,
    attempts: BTreeMap<CallId, Ticket>,
    /// Commands without an answer; the first is the watermark.
    unanswered: BTreeSet<CommitSequence>,
    /// Commands that were never sent, because they are too far ahead of the watermark; in order.
    held: VecDeque<(CommitSequence, Ticket)>,
    background: usize,
}

/// What sending needs from outside.
pub(super) struct Wires<'a> {
    pub(super) now: Instant,
    pub(super) config: &'a GatewayConfig,
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
            leader: None,
            via: None,
            lives: BTreeMap::new(),
            next_voter: 0,
            next_ticket: 0,
            next_sequence: 1,
            open: BTreeMap::new(),
            attempts: BTreeMap::new(),
            unanswered: BTreeSet::new(),
            held: VecDeque::new(),
            background: 0,
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
        self.attempts.clear();
        self.unanswered.clear();
        self.held.clear();
        self.background = 0;
        self.session = SessionId(0);
    }

    /// Ask for a session; after a pause, if the last attempt was refused.
    pub(super) fn open_session(&mut self, wires: &mut Wires<'_>, nonce: u128, refused: bool) {
        let body = CommandBody::OpenSession { gateway: wires.config.gateway, nonce };
        let what = What::Open(Command { origin: Origin::System, body });
        let ticket = self.add(wires.now, Owner::Session, what);
        if refused {
            // Each attempt is an entry in the log.
            if let Some(call) = self.open.get_mut(&ticket) {
                call.pauses = BACKOFF_DOUBLINGS_MAX;
            }
            self.pause(wires, ticket);
        } else {
            self.send(wires, ticket, None);
        }
    }

    /// Tell the root range that the session lives.
    pub(super) fn beat(&mut self, wires: &mut Wires<'_>) {
        self.start(wires, Owner::Session, What::Beat);
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
        let ticket = *self.attempts.get(&answer.call)?;
        let call = self.open.get_mut(&ticket)?;
        let refusal = match answer.result {
            Ok(answer) => {
                if !call.what.is_answered_by(&answer) {
                    return None;
                }
                self.via = Some(from);
                let call = self.finish(wires, ticket)?;
                return Some(Finished { owner: call.owner, result: Ok(answer) });
            }
            Err(Refusal::Fenced) => {
                let call = self.finish(wires, ticket)?;
                return Some(Finished { owner: call.owner, result: Err(Failure::Fenced) });
            }
            Err(refusal) => refusal,
        };
        // Another attempt is under way: what befell this one no longer matters.
        if call.attempts.last() != Some(&answer.call) {
            return None;
        }
        match refusal {
            Refusal::NotLeader { leader } => self.redirect(wires, ticket, from, leader),
            Refusal::StaleEpoch { current } => {
                self.epoch = self.epoch.max(current);
                self.pause(wires, ticket);
            }
            Refusal::Interrupted => {
                call.uncertain = true;
                self.leader = None;
                self.pause(wires, ticket);
            }
            Refusal::Overloaded => self.pause(wires, ticket),
            Refusal::Full if call.uncertain || matches!(call.owner, Owner::Session) => {
                self.pause(wires, ticket);
            }
            Refusal::Full => {
                let call = self.finish(wires, ticket)?;
                return Some(Finished { owner: call.owner, result: Err(Failure::Full) });
            }
            Refusal::Fenced => {}
        }
        None
    }

    /// The timer of a call has come: send it again, to another voter if the last did not answer.
    pub(super) fn timer(&mut self, wires: &mut Wires<'_>, ticket: Ticket) {
        let Some(call) = self.open.get_mut(&ticket) else { return };
        if call.again_at > wires.now {
            return;
        }
        if call.paused {
            return self.send(wires, ticket, None);
        }
        call.uncertain = true;
        call.redirects = 0;
        let silent = call.to;
        self.doubt(silent);
        self.send(wires, ticket, Some(silent));
    }

    /// A voter greets. In a new life it knows nothing of what was sent to it before.
    pub(super) fn greeted(&mut self, wires: &mut Wires<'_>, peer: StoreId, life: Incarnation) {
        if !wires.config.map.voters.contains(&peer) {
            return;
        }
        let last = self.lives.entry(peer).or_insert(Incarnation(0));
        if life > *last {
            *last = life;
            self.link_down(wires, peer);
        }
    }

    /// A link broke: what waits for an answer over it is sent again at once.
    pub(super) fn link_down(&mut self, wires: &mut Wires<'_>, peer: StoreId) {
        self.doubt(peer);
        let waiting: Vec<Ticket> = self
            .open
            .iter()
            .filter(|(_, call)| call.to == peer && !call.paused)
            .map(|(id, _)| *id)
            .collect();
        for ticket in waiting {
            if let Some(call) = self.open.get_mut(&ticket) {
                call.uncertain = true;
            }
            self.send(wires, ticket, Some(peer));
        }
    }

    pub(super) fn open(&self) -> usize {
        self.open.len()
    }

    pub(super) fn leader(&self) -> Option<StoreId> {
        self.leader
    }

    pub(super) fn check(&self, is_open: impl Fn(RequestId) -> bool) {
        let mut background = 0;
        let mut commands = BTreeSet::new();
        for (ticket, call) in &self.open {
            assert!(call.attempts.len() <= ATTEMPTS_MAX, "attempts are bounded");
            assert!(call.attempts.iter().all(|id| self.attempts.get(id) == Some(ticket)));
            if let What::Command(sequence, _) = &call.what {
                commands.insert(*sequence);
            }
            match call.owner {
                Owner::Session => {}
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
            assert!(self.open[ticket].attempts.is_empty(), "what is held was never sent");
        }
        assert_eq!(background, self.background);
    }

    fn start(&mut self, wires: &mut Wires<'_>, owner: Owner, what: What) {
        let sequence = match what {
            What::Command(sequence, _) => Some(sequence),
            What::Open(_) | What::Beat | What::Read(_) => None,
        };
        let ticket = self.add(wires.now, owner, what);
        match sequence.filter(|sequence| self.is_far_ahead(*sequence)) {
            Some(sequence) => self.held.push_back((sequence, ticket)),
            None => self.send(wires, ticket, None),
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
            tried: BTreeSet::new(),
            to: StoreId(0),
            again_at: now,
            pauses: 0,
            paused: false,
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
            self.send(wires, ticket, None);
        }
        call
    }

    /// A voter did not answer, or cannot: calls begin elsewhere.
    fn doubt(&mut self, voter: StoreId) {
        self.leader.take_if(|leader| *leader == voter);
        self.via.take_if(|via| *via == voter);
    }

    /// Send a call to the leader, else to whoever last answered one, else to the next voter that it
    /// has not tried, but not to `avoid` if there is another.
    fn send(&mut self, wires: &mut Wires<'_>, ticket: Ticket, avoid: Option<StoreId>) {
        let Some(call) = self.open.get(&ticket) else { return };
        let via = self.via.filter(|via| !call.tried.contains(via) && Some(*via) != avoid);
        let to = match self.leader.or(via) {
            Some(voter) => voter,
            None => next_voter(&mut self.next_voter, wires.config, &call.tried, avoid),
        };
        let id = wires.ids.next();
        let again_at = wires.now + wires.config.call_timeout;
        let watermark = self.unanswered.first().copied();
        let Some(call) = self.open.get_mut(&ticket) else { return };
        call.attempts.push(id);
        self.attempts.insert(id, ticket);
        if call.attempts.len() > ATTEMPTS_MAX {
            self.attempts.remove(&call.attempts.remove(0));
        }
        call.tried.insert(to);
        if call.tried.len() >= wires.config.map.voters.len() {
            call.tried = BTreeSet::from([to]);
        }
        call.to = to;
        call.paused = false;
        wires.timers.move_to(&mut call.again_at, again_at, Timer::Range(ticket));
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

    fn redirect(
        &mut self,
        wires: &mut Wires<'_>,
        ticket: Ticket,
        from: StoreId,
        leader: Option<StoreId>,
    ) {
        let leader = leader.filter(|id| *id != from && wires.config.map.voters.contains(id));
        self.doubt(from);
        if leader.is_some() {
            self.leader = leader;
        }
        let Some(call) = self.open.get_mut(&ticket) else { return };
        if leader.is_some() && call.redirects < REDIRECTS_MAX {
            call.redirects += 1;
            self.send(wires, ticket, Some(from));
        } else {
            self.pause(wires, ticket);
        }
    }

    /// Send a call again after a while: the timer does it.
    fn pause(&mut self, wires: &mut Wires<'_>, ticket: Ticket) {
        let Some(call) = self.open.get_mut(&ticket) else { return };
        let at = wires.now + backoff(wires.rng, call.pauses);
        call.pauses = call.pauses.saturating_add(1);
        call.paused = true;
        call.redirects = 0;
        wires.timers.move_to(&mut call.again_at, at, Timer::Range(ticket));
    }

    fn end(&mut self, timers: &mut Timers, ticket: Ticket) -> Option<Call> {
        let call = self.open.remove(&ticket)?;
        timers.disarm(call.again_at, Timer::Range(ticket));
        for attempt in &call.attempts {
            self.attempts.remove(attempt);
        }
        if let What::Command(sequence, _) = &call.what {
            self.unanswered.remove(sequence);
        }
        if call.owner == Owner::Background {
            self.background -= 1;
        }
        Some(call)
    }
}

impl What {
    fn ask(&self, session: SessionId, watermark: Option<CommitSequence>) -> Ask {
        match self {
            Self::Open(command) => Ask::Command(Box::new(command.clone())),
            Self::Beat => Ask::Beat,
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
                | (Self::Beat, Answer::Beat { .. })
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

/// The next voter in turn that was not `tried`, and is not `avoid` if there is another.
fn next_voter(
    turn: &mut usize,
    config: &GatewayConfig,
    tried: &BTreeSet<StoreId>,
    avoid: Option<StoreId>,
) -> StoreId {
    let voters = &config.map.voters;
    let fits = |voter: &StoreId| !tried.contains(voter) && Some(*voter) != avoid;
    let from = *turn;
    let in_turn = (0..voters.len()).map(|step| voters[(from + step) % voters.len()]);
    *turn = (from + 1) % voters.len();
    let other = in_turn.clone().find(|voter| Some(*voter) != avoid);
    in_turn.clone().find(fits).or(other).unwrap_or(voters[0])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::{ClusterMap, Cut};
    use crate::ids::{ClusterId, GatewayId};

    const VOTERS: [StoreId; 3] = [StoreId(1), StoreId(2), StoreId(3)];

    /// Calls, and what they need from outside over their life.
    struct Rig {
        calls: Calls,
        ids: CallIds,
        timers: Timers,
    }

    fn config() -> GatewayConfig {
        GatewayConfig {
            cluster: ClusterId(1),
            gateway: GatewayId(1),
            zone: None,
            map: ClusterMap { voters: VOTERS.to_vec(), ..ClusterMap::bootstrap(64, Vec::new()) },
            cut: Cut::SIMULATION,
            body_budget_bytes: 0,
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

    /// Two calls that take turns once met the same two voters for ever, and never the third.
    #[test]
    fn a_call_asks_every_voter_however_another_takes_turns_with_it() {
        let config = config();
        let mut turn = 0;
        let mut tried = [BTreeSet::new(), BTreeSet::new()];
        let mut last = [None, None];
        for asked in 0..20 {
            for call in [0, 1, 1] {
                let voter = next_voter(&mut turn, &config, &tried[call], last[call]);
                assert!(!tried[call].contains(&voter), "asked again before all were: {asked}");
                assert_ne!(Some(voter), last[call]);
                last[call] = Some(voter);
                tried[call].insert(voter);
                if tried[call].len() == VOTERS.len() {
                    tried[call] = BTreeSet::from([voter]);
                }
            }
        }
    }
}
