//! A run as a picture: one HTML file that needs nothing else, for a browser.
//!
//! [`of`] runs a seed or a case and gathers what happens: messages from sender to receiver, operations, faults,
//! leaders, everything else as marks. `pack` writes that down compactly, and leaves out what does not fit; the page
//! itself (`page.html`, `page.css`, `page.js`) draws it.

mod pack;
#[cfg(test)]
mod tests;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use std::rc::Rc;

use trine_core::rare::Bug;

use crate::Nanos;
use crate::case::{Case, Subject};
use crate::faults::strikes::Place;
use crate::run::Report;
use crate::trace::{Event, Fact, Outcome, Sink};

pub use pack::BYTES_MAX;

/// A page, and what is not on it.
#[derive(Clone, Debug)]
pub struct Page {
    /// The file.
    pub html: String,
    /// What was left out for want of room, and how many of each.
    pub left_out: Vec<(String, usize)>,
}

/// Run `subject` and draw what happens in a span of time.
pub fn of(subject: Subject, planted: Option<Bug>, span: &RangeInclusive<Nanos>) -> (Report, Page) {
    let gathered = Rc::new(RefCell::new(Gathered::default()));
    let kept = gathered.clone();
    let sink: Sink = Box::new(move |event| kept.borrow_mut().take(event));
    let (report, case) = subject.record(planted, Some(sink));
    let model = gathered.take().finish(&report, &case, span);
    let page = pack::page(&model);
    (report, page)
}

/// What is drawn.
#[derive(Clone, Debug, Default)]
struct Model {
    title: String,
    hash: u64,
    events_all: u64,
    failure: Option<String>,
    lanes: Vec<String>,
    /// Machines by number, then clients, the operator last.
    rows: Vec<Row>,
    begin: Nanos,
    end: Nanos,
    messages: Vec<Sent>,
    marks: Vec<Mark>,
    operations: Vec<Operation>,
    episodes: Vec<Shade>,
    leads: Vec<Lead>,
    downs: Vec<(usize, Nanos, Nanos)>,
    strikes: Vec<Strike>,
}

#[derive(Clone, Debug)]
struct Row {
    name: String,
    lane: usize,
}

/// A message, from the event that sent it to the one that took it.
#[derive(Clone, Debug)]
struct Sent {
    number: u64,
    at: Nanos,
    from: usize,
    to: usize,
    text: String,
    /// The event and the time of its arrival, if it arrived.
    arrived: Option<(u64, Nanos)>,
}

/// Any other event.
#[derive(Clone, Debug)]
struct Mark {
    number: u64,
    at: Nanos,
    row: Option<usize>,
    what: &'static str,
    text: String,
}

#[derive(Clone, Debug)]
struct Operation {
    client: usize,
    gateway: usize,
    request: u64,
    what: &'static str,
    keys: Vec<String>,
    /// The event and the time of its beginning, and of the last event before its end.
    begun: (u64, Nanos),
    ended: (u64, Nanos),
    /// Nothing: it is under way when the run ends.
    outcome: Option<Outcome>,
    answer: String,
}

#[derive(Clone, Debug)]
struct Shade {
    kind: &'static str,
    victim: String,
    machines: Vec<usize>,
    number: u64,
    begin: Nanos,
    end: Nanos,
}

#[derive(Clone, Debug)]
struct Lead {
    machine: usize,
    range: u64,
    term: u64,
    begin: Nanos,
    end: Nanos,
}

/// A small fault.
#[derive(Clone, Debug)]
struct Strike {
    at: Nanos,
    kind: &'static str,
    row: usize,
    other: Option<usize>,
}

/// What a run shows while it goes on. Spans that have not ended end nowhere yet.
#[derive(Debug, Default)]
struct Gathered {
    model: Model,
    /// Where messages stand among those of the model, by the event that sent them.
    sent: BTreeMap<u64, usize>,
    /// What each client has in hand, by its place in the model.
    in_hand: BTreeMap<usize, usize>,
    episodes: BTreeMap<usize, usize>,
    leads: BTreeMap<u64, usize>,
    downs: BTreeMap<usize, usize>,
    /// Machines that ran at any time.
    started: BTreeSet<usize>,
}

/// Stands for the end of what has not ended.
const OPEN: Nanos = Nanos::MAX;

impl Gathered {
    fn take(&mut self, event: &Event<'_>) {
        if let Some(fact) = &event.fact {
            return self.explain(event, fact);
        }
        let Event { number, at, machine, other, what, text, .. } = event;
        let (number, at) = (*number, *at);
        if let ("send", Some(from), Some(to)) = (*what, *machine, *other) {
            // The arrow and the name of who gets it.
            let text = text.splitn(3, ' ').nth(2).unwrap_or_default().to_owned();
            self.sent.insert(number, self.model.messages.len());
            self.model.messages.push(Sent { number, at, from, to, text, arrived: None });
        } else {
            let (row, text) = (*machine, text.clone());
            self.model.marks.push(Mark { number, at, row, what, text });
        }
    }

    fn explain(&mut self, event: &Event<'_>, fact: &Fact) {
        let (number, at, model) = (event.number, event.at, &mut self.model);
        match fact {
            Fact::Arrived { sent } => {
                let Some(place) = self.sent.get(sent) else { return };
                // It is told by its message.
                if model.marks.last().is_some_and(|mark| mark.number == number) {
                    model.marks.pop();
                }
                let message = &mut model.messages[*place];
                let before = message.arrived.replace((number, at));
                if before.is_some() {
                    // It was doubled.
                    let again = Sent { arrived: before, ..message.clone() };
                    model.messages.push(again);
                }
            }
            Fact::Asked { client, gateway, request, operation, keys } => {
                self.in_hand.insert(*client, model.operations.len());
                model.operations.push(Operation {
                    client: *client,
                    gateway: *gateway,
                    request: *request,
                    what: operation,
                    keys: keys.clone(),
                    begun: (number, at),
                    ended: (number, OPEN),
                    outcome: None,
                    answer: "under way at the end".to_owned(),
                });
            }
            Fact::Ended { client, outcome, answer } => {
                let Some(place) = self.in_hand.remove(client) else { return };
                let operation = &mut model.operations[place];
                operation.ended = (number, at);
                operation.outcome = Some(*outcome);
                operation.answer.clone_from(answer);
            }
            Fact::Began { episode, kind, victim, machines } => {
                self.episodes.insert(*episode, model.episodes.len());
                let (victim, machines) = (victim.clone(), machines.clone());
                let shade = Shade { kind, victim, machines, number, begin: at, end: OPEN };
                model.episodes.push(shade);
            }
            Fact::Over { episode } => {
                if let Some(place) = self.episodes.remove(episode) {
                    model.episodes[place].end = at;
                }
            }
            Fact::Healed => {
                for (_, place) in std::mem::take(&mut self.episodes) {
                    model.episodes[place].end = at;
                }
            }
            Fact::Up => {
                let Some(machine) = event.machine else { return };
                let first = self.started.insert(machine);
                match self.downs.remove(&machine) {
                    Some(place) => model.downs[place].2 = at,
                    // It is started late, or added.
                    None if first && at > 0 => model.downs.push((machine, 0, at)),
                    None => {}
                }
            }
            Fact::Down => {
                let Some(machine) = event.machine else { return };
                self.downs.insert(machine, model.downs.len());
                model.downs.push((machine, at, OPEN));
                for lead in &mut model.leads {
                    if lead.machine == machine && lead.end == OPEN {
                        lead.end = at;
                    }
                }
            }
            Fact::Leads { range, term } => {
                let Some(machine) = event.machine else { return };
                let (range, term) = (*range, *term);
                if let Some(before) = self.leads.insert(range, model.leads.len()) {
                    let end = &mut model.leads[before].end;
                    *end = at.min(*end);
                }
                model.leads.push(Lead { machine, range, term, begin: at, end: OPEN });
            }
        }
    }

    fn finish(self, report: &Report, case: &Case, span: &RangeInclusive<Nanos>) -> Model {
        let mut model = self.model;
        let swarm = &case.swarm;
        let stores = swarm.stores_max();
        let machines = stores + swarm.gateways;
        model.title = format!("seed {:#x}", report.seed);
        model.hash = report.hash;
        model.events_all = report.events;
        model.failure.clone_from(&report.failure);
        model.begin = *span.start();
        model.end = report.simulated.min(*span.end()).max(model.begin + 1);
        model.lanes =
            ["zone 0", "zone 1", "zone 2", "outside", "clients"].map(str::to_owned).into();
        let store = |place| Row { name: format!("store-{}", place + 1), lane: place % 3 };
        let gateway = |place: usize| Row {
            name: format!("gw-{}", place + 1),
            // The first stands outside all zones.
            lane: place.checked_sub(1).map_or(3, |place| place % 3),
        };
        let client = |place| {
            let name = format!("client {place}");
            Row { name: if place == swarm.clients { "operator".to_owned() } else { name }, lane: 4 }
        };
        let gateways = (0..swarm.gateways).map(gateway);
        model.rows = (0..stores).map(store).chain(gateways).collect();
        model.rows.extend((0..=swarm.clients).map(client));
        let never = (0..machines).filter(|machine| !self.started.contains(machine));
        model.downs.extend(never.map(|machine| (machine, 0, OPEN)));
        model.strikes = strikes(case, machines);
        model.cut(report.simulated, span);
        model
    }
}

impl Model {
    /// End what has not ended, put all in order, and leave out what is not in the span of time.
    fn cut(&mut self, end: Nanos, span: &RangeInclusive<Nanos>) {
        let (from, to) = (*span.start(), *span.end());
        let within = |begin: Nanos, end: Nanos| begin <= to && end >= from;
        for ends in [
            self.operations.iter_mut().map(|it| &mut it.ended.1).collect::<Vec<_>>(),
            self.episodes.iter_mut().map(|it| &mut it.end).collect(),
            self.leads.iter_mut().map(|it| &mut it.end).collect(),
            self.downs.iter_mut().map(|it| &mut it.2).collect(),
        ]
        .into_iter()
        .flatten()
        {
            *ends = end.min(*ends);
        }
        self.messages.retain(|it| within(it.at, it.arrived.map_or(it.at, |(_, at)| at)));
        self.messages.sort_by_key(|it| (it.number, it.arrived));
        self.marks.retain(|it| within(it.at, it.at));
        self.operations.retain(|it| within(it.begun.1, it.ended.1));
        self.episodes.retain(|it| within(it.begin, it.end));
        self.leads.retain(|it| within(it.begin, it.end));
        self.downs.retain(|it| within(it.1, it.2));
        self.strikes.retain(|it| within(it.at, it.at));
        if self.end < end {
            // The run fails later than what is shown.
            self.failure = self.failure.take().map(|text| format!("(later) {text}"));
        }
    }
}

/// The small faults of a case, as marks on rows.
fn strikes(case: &Case, machines: usize) -> Vec<Strike> {
    let mut strikes = Vec::new();
    for ((kind, place), moments) in &case.struck {
        let (row, other) = match *place {
            Place::Machine(machine) => (machine, None),
            Place::Link(from, to) => (from, Some(to)),
            Place::Client(client) => (machines + client, None),
        };
        let kind = kind.name();
        strikes.extend(moments.iter().map(|moment| Strike { at: moment.at, kind, row, other }));
    }
    strikes.sort_by_key(|strike| (strike.at, strike.row, strike.kind));
    strikes
}
