//! Between clients and gateways: requests, bodies on credit, replies, clients that stall or leave.
//!
//! A client has one request in hand. It keeps to the contract of the edge: no more body than was
//! asked for, the body's end only when it is complete, `BodyTaken` for all that it took.

use bytes::Bytes;
use trine_core::effects::{Effect, GatewayEvent};
use trine_core::ids::RequestId;
use trine_core::object::ObjectChecksum;
use trine_core::request::{
    ApiError, BodyDigest, CopyHash, CopyPurpose, Copying, ObjectPath, Reply, Request,
};

use super::machine::{Input, Side};
use super::{Happening, Maker, Part, World};
use crate::faults::FaultKind;
use crate::faults::strikes::Place;
use crate::faults::swarm::Flavour;
use crate::random::Draw;
use crate::trace::{Fact, Outcome};
use crate::workload::{Ending, Job, Stamps, body};
use crate::{MICROSECOND, MILLISECOND, Nanos, SECOND};

/// After this long a client gives up.
const PATIENCE: Nanos = 25 * SECOND;
/// How long a failing zone may hold up requests to gateways elsewhere: until the loss is noticed, a
/// leader is elected, and calls are sent again.
const GAP_MAX: Nanos = 5 * SECOND;

/// What happens to a client.
#[derive(Clone, Copy, Debug)]
pub(super) enum ClientEvent {
    /// It may ask the next thing.
    Next,
    /// It sends more of a body.
    Send { serial: u64 },
    /// It has taken bytes of a reply's body.
    Took { serial: u64, len: u64 },
    /// It gives up.
    GiveUp { serial: u64, fault: bool },
}

/// A client.
#[derive(Debug)]
pub(super) struct Client {
    home: u64,
    draw: Draw,
    serial: u64,
    /// When it was to do the next thing.
    due: Nanos,
    /// It has given up what it has in hand.
    gave_up: bool,
    hand: Option<Hand>,
}

impl Client {
    pub(super) fn new(seed: u64, number: usize) -> Self {
        let draw = Draw::new(seed, 1_000 + number as u64);
        Self { home: number as u64, draw, serial: 0, due: 0, gave_up: false, hand: None }
    }

    pub(super) fn is_busy(&self) -> bool {
        self.hand.is_some()
    }
}

/// A request in hand.
#[derive(Debug)]
struct Hand {
    job: Job,
    machine: usize,
    life: u64,
    id: RequestId,
    begun: Nanos,
    stamps: Stamps,
    /// Bytes of body that may still be sent.
    credit: u64,
    sent: usize,
    sending: bool,
    untaken: u64,
    /// The reply's body has ended.
    ended: bool,
    /// Bytes of a copy that are to be hashed, and with what besides MD5.
    hashing: Option<(u64, CopyHash)>,
    ending: Ending,
}

impl<M: Maker> World<M> {
    pub(super) fn begin_clients(&mut self) {
        for client in 0..self.clients.len() {
            self.client_next(client, 0);
        }
    }

    pub(super) fn client_event(&mut self, client: usize, event: ClientEvent) {
        let serial = self.clients[client].serial;
        match event {
            ClientEvent::Next => self.begin_request(client),
            ClientEvent::Send { serial: of } if of == serial => self.send_body(client),
            ClientEvent::Took { serial: of, len } if of == serial => self.took(client, len),
            ClientEvent::GiveUp { serial: of, fault } if of == serial => {
                self.give_up(client, fault);
            }
            ClientEvent::Send { .. } | ClientEvent::Took { .. } | ClientEvent::GiveUp { .. } => {}
        }
    }

    fn client_next(&mut self, client: usize, after: Nanos) {
        let at = self.now + after;
        self.queue.push(at, Happening::Client { client, event: ClientEvent::Next });
    }

    fn client_at(&mut self, client: usize, after: Nanos, event: ClientEvent) {
        self.queue.push(self.now + after, Happening::Client { client, event });
    }

    fn begin_request(&mut self, client: usize) {
        let draining = self.part == Part::Draining;
        let gateway = self.choose_gateway(client);
        let first = self.stores().len();
        let job = match gateway {
            None => None,
            Some(_) if self.is_operator(client) => self.operator.job(),
            Some(_) if draining => None,
            Some(machine) => {
                let occasion = (self.clients[client].due, machine - first);
                self.workload.next(client, self.now, occasion)
            }
        };
        let (Some(machine), Some(job)) = (gateway, job) else {
            let due = self.workload.planned(client).map_or(0, |planned| planned.due);
            let after = due.saturating_sub(self.now);
            return self.client_next(client, if after > 0 { after } else { 20 * MILLISECOND });
        };
        let target = &mut self.machines[machine];
        let Side::Gateway(side) = &mut target.side else { unreachable!("it is a gateway") };
        side.requested += 1;
        let id = RequestId(side.requested);
        side.requests.insert(id, (client, false));
        let request = job.request.clone();
        let empty = job.body.as_ref().is_some_and(Bytes::is_empty);
        let sent_whole = job.body.is_none();
        let stamps = Stamps { call: self.workload.history.stamp(), ret: 0 };
        self.trace.event(self.now, &target.name, "request", [id.0, client as u64], || {
            format!("{id} of client {client}: {request:?}")
        });
        self.trace.fact(self.now, Some(machine), || {
            let (operation, keys) = concerns(&request);
            Fact::Asked { client, gateway: machine, request: id.0, operation, keys }
        });
        let (life, begun) = (target.life, self.now);
        self.clients[client].serial += 1;
        let serial = self.clients[client].serial;
        self.clients[client].hand = Some(Hand {
            job,
            machine,
            life,
            id,
            begun,
            stamps,
            credit: 0,
            sent: 0,
            sending: empty,
            untaken: 0,
            ended: false,
            hashing: None,
            ending: Ending { sent_whole, ..Ending::default() },
        });
        if empty {
            self.client_at(client, 10 * MICROSECOND, ClientEvent::Send { serial });
        }
        self.client_at(client, PATIENCE, ClientEvent::GiveUp { serial, fault: false });
        let cancels = self.swarm.chance(FaultKind::ClientCancelled, 100, 800);
        let draw = &mut self.clients[client].draw;
        let cancels = self.part == Part::Faults && {
            let drawn = draw.of_ten_thousand(cancels);
            self.strikes.strikes(self.now, FaultKind::ClientCancelled, Place::Client(client), drawn)
        };
        if cancels {
            let after = draw.skewed(0, 200 * MILLISECOND);
            self.client_at(client, after, ClientEvent::GiveUp { serial, fault: true });
        }
        self.input(machine, life, Input::Client(GatewayEvent::Request { id, request }));
    }

    /// The last client is the operator.
    fn is_operator(&self, client: usize) -> bool {
        client + 1 == self.clients.len()
    }

    /// Mostly the client's own gateway, if it runs; where operations are given, so are their gateways.
    fn choose_gateway(&mut self, client: usize) -> Option<usize> {
        let first = self.stores().len();
        let up: Vec<_> =
            (first..self.machines.len()).filter(|machine| self.machines[*machine].up).collect();
        let count = self.machines.len() - first;
        let Client { home, draw, .. } = &mut self.clients[client];
        let home = first + usize::try_from(*home).expect("there are few clients") % count;
        if up.is_empty() {
            return None;
        }
        let other = draw.one_in(8) || !up.contains(&home);
        let drawn = if other { *draw.pick(&up) } else { home };
        let planned = self.workload.planned(client).map(|planned| first + planned.via);
        Some(planned.filter(|machine| up.contains(machine)).unwrap_or(drawn))
    }

    fn send_body(&mut self, client: usize) {
        let Client { draw, hand, serial, .. } = &mut self.clients[client];
        let Some(hand) = hand else { return };
        let Some(whole) = hand.job.body.clone() else { return };
        hand.sending = false;
        let (machine, life, id, serial) = (hand.machine, hand.life, hand.id, *serial);
        let left = whole.len() - hand.sent;
        if left > 0 {
            let most = usize::try_from(hand.credit).unwrap_or(usize::MAX).min(left);
            if most == 0 {
                return;
            }
            let piece = draw.index(most) + 1;
            let piece = if draw.one_in(3) { piece } else { most };
            let bytes = whole.slice(hand.sent..hand.sent + piece);
            hand.credit -= piece as u64;
            hand.sent += piece;
            hand.sending = true;
            let after = draw.skewed(10 * MICROSECOND, MILLISECOND);
            self.client_at(client, after, ClientEvent::Send { serial });
            self.input(machine, life, Input::Client(GatewayEvent::Body { id, bytes }));
        } else if !hand.ending.sent_whole {
            hand.ending.sent_whole = true;
            let digest = BodyDigest { md5: body::md5(&whole), checksum: None };
            self.input(machine, life, Input::Client(GatewayEvent::BodyEnd { id, digest }));
        }
    }

    fn took(&mut self, client: usize, len: u64) {
        let Some(hand) = &mut self.clients[client].hand else { return };
        hand.untaken -= len;
        let (machine, life, id) = (hand.machine, hand.life, hand.id);
        self.input(machine, life, Input::Client(GatewayEvent::BodyTaken { id, len }));
        self.hashed(client);
        let done = |hand: &Hand| hand.ended && hand.untaken == 0;
        if self.clients[client].hand.as_ref().is_some_and(done) {
            self.end_request(client);
        }
    }

    /// The edge has hashed all bytes of a copy, if there are no more to come.
    fn hashed(&mut self, client: usize) {
        let Some(hand) = &mut self.clients[client].hand else { return };
        let (machine, life, id) = (hand.machine, hand.life, hand.id);
        let Some((length, CopyHash { checksum })) = hand.hashing else { return };
        if hand.untaken > 0 || hand.ending.body.len() as u64 != length {
            return;
        }
        hand.hashing = None;
        hand.ending.sent_whole = true;
        let md5 = body::md5(&hand.ending.body);
        let checksum = checksum.map(|algorithm| {
            // It has four bytes and stands for a real one, which nothing in the core looks at.
            let value = Bytes::copy_from_slice(&md5[..4]);
            ObjectChecksum { algorithm, full_object: true, value }
        });
        let digest = BodyDigest { md5, checksum };
        self.input(machine, life, Input::Client(GatewayEvent::BodyEnd { id, digest }));
    }

    fn give_up(&mut self, client: usize, fault: bool) {
        let Some(hand) = &self.clients[client].hand else { return };
        if fault {
            self.counts.hits.hit(FaultKind::ClientCancelled);
        }
        let (machine, life, id) = (hand.machine, hand.life, hand.id);
        if let Side::Gateway(side) = &mut self.machines[machine].side
            && let Some((_, gone)) = side.requests.get_mut(&id)
        {
            *gone = true;
        }
        self.clients[client].gave_up = true;
        self.end_request(client);
        self.input(machine, life, Input::Client(GatewayEvent::Cancel { id }));
    }

    /// All connections of clients to a gateway break.
    pub(super) fn reset_clients(&mut self, machine: usize) {
        for client in 0..self.clients.len() {
            if self.clients[client].hand.as_ref().is_some_and(|hand| hand.machine == machine) {
                self.counts.hits.hit(FaultKind::ClientsReset);
                self.give_up(client, false);
            }
        }
    }

    /// A gateway's process is gone, and with it the connections of its clients.
    pub(super) fn gateway_gone(&mut self, machine: usize) {
        for client in 0..self.clients.len() {
            if self.clients[client].hand.as_ref().is_some_and(|hand| hand.machine == machine) {
                self.end_request(client);
            }
        }
    }

    pub(super) fn client_effect(&mut self, machine: usize, effect: Effect) {
        let (id, what) = match &effect {
            Effect::Reply { id, .. } => (*id, "reply"),
            Effect::Copying { id, .. } => (*id, "copying"),
            Effect::NeedBody { id, .. } => (*id, "need body"),
            Effect::BodyOut { id, .. } => (*id, "body out"),
            Effect::BodyEnd { id } => (*id, "body end"),
            Effect::BodyFailed { id, .. } => (*id, "body failed"),
            Effect::Disconnect { id, .. } => (*id, "disconnect"),
            _ => unreachable!("the caller passes only effects on requests"),
        };
        let target = &self.machines[machine];
        let Side::Gateway(side) = &target.side else {
            panic!("{} has no clients", target.name);
        };
        let number = match &effect {
            Effect::NeedBody { bytes, .. } => *bytes,
            Effect::BodyOut { bytes, .. } => bytes.len() as u64,
            Effect::Reply { result, .. } => u64::from(result.is_ok()),
            _ => 0,
        };
        self.trace.event(self.now, &target.name, what, [id.0, number], || match &effect {
            Effect::BodyOut { bytes, .. } => format!("{id}: {} bytes", bytes.len()),
            other => format!("{other:?}"),
        });
        match side.requests.get(&id).copied() {
            // What was under way when the client left is nobody's any more.
            Some((_, true)) => {}
            Some((client, false)) => self.client_gets(client, effect),
            None => {
                let text = format!("{}: {what} for {id}, which has ended", target.name);
                self.fail(text);
            }
        }
    }

    fn client_gets(&mut self, client: usize, effect: Effect) {
        let stamp = self.workload.history.stamp();
        let serial = self.clients[client].serial;
        let stalls = self.swarm.chance(FaultKind::ClientStalled, 50, 500);
        let faults = self.part == Part::Faults;
        let Client { draw, hand, .. } = &mut self.clients[client];
        let hand = hand.as_mut().expect("an open request is in its client's hand");
        match effect {
            Effect::NeedBody { bytes, .. } => {
                hand.credit += bytes;
                if !hand.sending && hand.job.body.is_some() {
                    hand.sending = true;
                    let after = draw.skewed(10 * MICROSECOND, MILLISECOND);
                    self.client_at(client, after, ClientEvent::Send { serial });
                }
            }
            Effect::Copying { copying: Copying::Alive, .. } => {}
            Effect::Copying { copying: Copying::Begun { length, hash }, .. } => {
                hand.hashing = hash.map(|hash| (length, hash));
                hand.ending.sent_whole = hash.is_none();
                if hash.is_some() && length == 0 {
                    let event = ClientEvent::Took { serial, len: 0 };
                    self.client_at(client, 10 * MICROSECOND, event);
                }
            }
            Effect::Reply { result, .. } => {
                if hand.ending.reply.is_some() {
                    let text = format!("{} was answered twice", hand.id);
                    return self.fail(text);
                }
                let body_follows = matches!(hand.job.request, Request::Get(_))
                    && matches!(result, Ok(Reply::Object { .. }));
                hand.ending.reply = Some(result);
                hand.stamps.ret = stamp;
                if !body_follows {
                    self.end_request(client);
                }
            }
            Effect::BodyOut { bytes, .. } => {
                let len = bytes.len() as u64;
                hand.untaken += len;
                hand.ending.body.extend_from_slice(&bytes);
                let mut after = draw.skewed(10 * MICROSECOND, MILLISECOND);
                let stalls = faults && {
                    let drawn = draw.of_ten_thousand(stalls);
                    let place = Place::Client(client);
                    self.strikes.strikes(self.now, FaultKind::ClientStalled, place, drawn)
                };
                if stalls {
                    let shortest = if self.swarm.churn { SECOND } else { 100 * MILLISECOND };
                    after += draw.skewed(shortest, 3 * SECOND);
                    self.counts.hits.hit(FaultKind::ClientStalled);
                }
                self.client_at(client, after, ClientEvent::Took { serial, len });
            }
            Effect::BodyEnd { .. } => {
                hand.ending.body_whole = true;
                hand.ended = true;
                if hand.untaken == 0 {
                    self.end_request(client);
                }
            }
            Effect::BodyFailed { .. } | Effect::Disconnect { .. } => self.end_request(client),
            _ => unreachable!("the caller passes only effects on requests"),
        }
    }

    /// The request is over, whatever is known of it.
    fn end_request(&mut self, client: usize) {
        let Some(hand) = self.clients[client].hand.take() else { return };
        self.clients[client].serial += 1;
        let gave_up = std::mem::take(&mut self.clients[client].gave_up);
        self.trace.fact(self.now, Some(hand.machine), || {
            let (outcome, answer) = outcome(&hand, gave_up);
            Fact::Ended { client, outcome, answer }
        });
        let target = &mut self.machines[hand.machine];
        if let Side::Gateway(side) = &mut target.side
            && target.life == hand.life
            && side.requests.get(&hand.id).is_some_and(|(_, gone)| !gone)
        {
            side.requests.remove(&hand.id);
        }
        self.counts.operations += 1;
        self.counts.served += u64::from(hand.ending.is_served());
        let full = matches!(hand.ending.reply, Some(Err(ApiError::StorageFull(_))));
        self.counts.refused_full += u64::from(full);
        if let Request::Delete { .. } = hand.job.request {
            self.counts.deletes_refused += u64::from(full);
            self.counts.deletes_done += u64::from(matches!(hand.ending.reply, Some(Ok(_))));
        }
        if let Request::Copy(copy) = &hand.job.request {
            let of = usize::from(matches!(copy.purpose, CopyPurpose::Part { .. }));
            self.counts.copies_done[of] += u64::from(matches!(hand.ending.reply, Some(Ok(_))));
        }
        if let Request::Put(_) = hand.job.request {
            self.counts.puts_done += u64::from(matches!(hand.ending.reply, Some(Ok(_))));
        }
        self.check_availability(&hand);
        let Hand { job, stamps, ending, .. } = hand;
        if self.is_operator(client) {
            self.operated(&ending);
        }
        if let Err(wrong) = self.workload.finished(client, job, stamps, &ending) {
            self.fail(wrong);
        }
        let think = self.swarm.think;
        let verifying = self.part != Part::Faults;
        let after = if verifying {
            MILLISECOND
        } else {
            let drawn = think.draw(&mut self.clients[client].draw);
            let planned = self.workload.planned(client);
            planned.map_or(drawn, |planned| planned.due.saturating_sub(self.now))
        };
        self.clients[client].due = self.now + after;
        self.client_next(client, after);
    }

    /// The faults end: whoever waits yet has not waited for longer than a gap may be.
    pub(super) fn check_who_waits(&mut self) {
        for client in 0..self.clients.len() {
            let Some(hand) = &self.clients[client].hand else { continue };
            let (id, Some(took)) = (hand.id, self.waited(hand)) else { continue };
            self.counts.gap_max = self.counts.gap_max.max(took);
            if took > GAP_MAX {
                let took = took / MILLISECOND;
                self.fail(format!("with one zone failing, {id} has waited for {took} ms"));
            }
        }
    }

    /// For how long a request has been with a gateway that sees nothing of the one zone that fails.
    fn waited(&self, hand: &Hand) -> Option<Nanos> {
        let failing = self.swarm.flavour == Flavour::OneZone && self.part == Part::Faults;
        let since = self.spared_since(hand.machine).filter(|since| failing && hand.begun >= *since);
        since.map(|_| self.now - hand.begun)
    }

    /// With one zone failing, what gateways elsewhere are asked is done, after a bounded gap.
    fn check_availability(&mut self, hand: &Hand) {
        let Some(took) = self.waited(hand) else { return };
        self.counts.gap_max = self.counts.gap_max.max(took);
        let slow_down = matches!(hand.ending.reply, Some(Err(ApiError::SlowDown(_))));
        if took > GAP_MAX || !(hand.ending.is_served() || slow_down) {
            self.fail(format!(
                "with one zone failing, {} took {} ms and ended with {:?}: {:?}",
                hand.id,
                took / MILLISECOND,
                hand.ending.reply,
                hand.job.request
            ));
        }
    }
}

/// What a request is called, and which keys it is about.
fn concerns(request: &Request) -> (&'static str, Vec<String>) {
    let one = |path: &ObjectPath| vec![path.key.to_string()];
    match request {
        Request::CreateBucket { .. } => ("create bucket", Vec::new()),
        Request::DeleteBucket { .. } => ("delete bucket", Vec::new()),
        Request::HeadBucket { .. } => ("head bucket", Vec::new()),
        Request::ListBuckets { .. } => ("list buckets", Vec::new()),
        Request::Put(put) => ("put", one(&put.path)),
        Request::Get(get) => ("get", one(&get.path)),
        Request::Head(head) => ("head", one(&head.path)),
        Request::Delete { path, .. } => ("delete", one(path)),
        Request::DeleteMany { keys, .. } => {
            ("delete many", keys.iter().map(ToString::to_string).collect())
        }
        Request::List(list) => ("list", vec![list.prefix.clone()]),
        Request::Copy(copy) => ("copy", [one(&copy.path), one(&copy.source)].concat()),
        Request::CreateUpload { path, .. } => ("create upload", one(path)),
        Request::UploadPart(part) => ("upload part", one(&part.path)),
        Request::CompleteUpload { path, .. } => ("complete upload", one(path)),
        Request::AbortUpload { path, .. } => ("abort upload", one(path)),
        Request::ListUploads(list) => ("list uploads", vec![list.prefix.clone()]),
        Request::ListParts(list) => ("list parts", one(&list.path)),
        Request::ReplaceStore { .. } => ("replace store", Vec::new()),
        Request::AddStore { .. } => ("add store", Vec::new()),
        Request::SetWeight { .. } => ("set weight", Vec::new()),
        Request::SetNode { .. } => ("set node", Vec::new()),
        Request::RaiseLevel { .. } => ("raise level", Vec::new()),
        Request::Directory => ("directory", Vec::new()),
        Request::Audit { .. } => ("audit", Vec::new()),
    }
}

/// How a request ended for its client.
fn outcome(hand: &Hand, gave_up: bool) -> (Outcome, String) {
    let Ending { reply, body_whole, body, .. } = &hand.ending;
    let body_broken = matches!(hand.job.request, Request::Get(_)) && !body_whole;
    match reply {
        _ if gave_up => (Outcome::GivenUp, "the client gave up".to_owned()),
        None => (Outcome::Unknown, "the connection broke".to_owned()),
        Some(Ok(Reply::Object { .. })) if body_broken => {
            (Outcome::Unknown, format!("the body broke off after {} bytes", body.len()))
        }
        Some(Ok(_)) => (Outcome::Served, "done".to_owned()),
        // As the judge takes them: these may have been done.
        Some(Err(error @ (ApiError::Unavailable(_) | ApiError::Internal(_)))) => {
            (Outcome::Unknown, format!("{error:?}"))
        }
        Some(Err(error)) => (Outcome::Refused, format!("{error:?}")),
    }
}

/// A gateway's event in a line.
pub(super) fn describe(event: &GatewayEvent) -> String {
    match event {
        GatewayEvent::Request { id, .. } => format!("{id} begins"),
        GatewayEvent::Body { id, bytes } => format!("{id} body {} bytes", bytes.len()),
        other => format!("{other:?}"),
    }
}
