//! A model as a page: JSON of columns of numbers, texts as templates and what is put into them.
//!
//! Times are microseconds, and they and the numbers of events are told as differences to the one before. A page that would
//! be too large loses what tells least, kind by kind, and says so.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::{Mark, Model, Page, Sent};
use crate::trace::Outcome;
use crate::{MICROSECOND, Nanos};

/// No page is larger.
pub const BYTES_MAX: usize = 5 << 20;

const HTML: &str = include_str!("page.html");
const CSS: &str = include_str!("page.css");
const JS: &str = include_str!("page.js");

/// Stands for a number in a template.
const HOLE: char = '\u{7f}';

/// What is left out, in this order, until the rest fits.
const STEPS: [Step; 7] = [
    Step::Messages("heartbeats and pulses", is_pulse),
    Step::Marks("deadlines", |mark| mark.what == "deadline"),
    Step::Marks("ends of disk effects", |mark| mark.what == "disk done"),
    Step::Marks("disk effects", |mark| mark.what == "disk"),
    Step::Messages("messages about directories and inventories", |message| {
        ["Directory", "Hello", "Inventory"].iter().any(|kind| message.text.starts_with(kind))
    }),
    Step::Marks("ups and downs of links, pieces of bodies", |mark| {
        ["link up", "link down", "client", "need body", "body out"].contains(&mark.what)
    }),
    Step::Texts,
];

#[derive(Clone, Copy)]
enum Step {
    Messages(&'static str, fn(&Sent) -> bool),
    Marks(&'static str, fn(&Mark) -> bool),
    /// Texts become short.
    Texts,
}

/// How long a text is when there is little room.
const SHORT: usize = 60;

/// The page of a model.
pub(super) fn page(model: &Model) -> Page {
    page_within(model, BYTES_MAX)
}

pub(super) fn page_within(model: &Model, bytes_max: usize) -> Page {
    let mut model = model.clone();
    let mut left_out: Vec<(String, usize)> = Vec::new();
    let mut steps = STEPS.iter();
    loop {
        let html = write(&model, &left_out);
        if html.len() <= bytes_max {
            return Page { html, left_out };
        }
        let (what, count) = match steps.next() {
            Some(Step::Messages(what, is_so)) => {
                let before = model.messages.len();
                model.messages.retain(|message| !is_so(message));
                (*what, before - model.messages.len())
            }
            Some(Step::Marks(what, is_so)) => {
                let before = model.marks.len();
                model.marks.retain(|mark| !is_so(mark));
                (*what, before - model.marks.len())
            }
            Some(Step::Texts) => ("ends of long texts", shorten(&mut model)),
            // What happens last tells most about a failure.
            None => ("of the rest, the first", drop_half(&mut model)),
        };
        if count > 0 {
            match left_out.iter_mut().find(|(before, _)| before == what) {
                Some((_, sum)) => *sum += count,
                None => left_out.push((what.to_owned(), count)),
            }
        } else if steps.len() == 0 && model.messages.len() + model.marks.len() == 0 {
            return Page { html, left_out };
        }
    }
}

/// Messages that only say that somebody is there.
fn is_pulse(message: &Sent) -> bool {
    let text = &message.text;
    let beats = || {
        let mut bodies = text.split("body: ").skip(1).peekable();
        bodies.peek().is_some() && bodies.all(|body| body.starts_with("Heartbeat"))
    };
    text.starts_with("Ping")
        || text.starts_with("Pong")
        || text.starts_with("Consensus") && !text.contains('…') && beats()
}

fn shorten(model: &mut Model) -> usize {
    let mut count = 0;
    let messages = model.messages.iter_mut().map(|message| &mut message.text);
    for text in messages.chain(model.marks.iter_mut().map(|mark| &mut mark.text)) {
        if text.chars().count() > SHORT {
            *text = text.chars().take(SHORT - 1).chain(['…']).collect();
            count += 1;
        }
    }
    count
}

/// The first half of what is there goes.
fn drop_half(model: &mut Model) -> usize {
    let (messages, marks) = (model.messages.len(), model.marks.len());
    let numbers = model.messages.iter().map(|message| message.number);
    let mut numbers: Vec<_> = numbers.chain(model.marks.iter().map(|mark| mark.number)).collect();
    numbers.sort_unstable();
    let from = numbers.get(numbers.len().div_ceil(2)).copied().unwrap_or(u64::MAX);
    model.messages.retain(|message| message.number >= from);
    model.marks.retain(|mark| mark.number >= from);
    messages + marks - model.messages.len() - model.marks.len()
}

fn write(model: &Model, left_out: &[(String, usize)]) -> String {
    let title = format!("{} — timeline", model.title);
    let data = data(model, left_out);
    let mut html = String::with_capacity(data.len() + HTML.len() + CSS.len() + JS.len());
    let mut rest = HTML;
    for (place, with) in
        [("@TITLE@", escape_html(&title).as_str()), ("@CSS@", CSS), ("@DATA@", &data), ("@JS@", JS)]
    {
        let (before, after) = rest.split_once(place).unwrap_or((rest, ""));
        html.push_str(before);
        html.push_str(with);
        rest = after;
    }
    html.push_str(rest);
    html
}

fn data(model: &Model, left_out: &[(String, usize)]) -> String {
    let mut names = Names::default();
    let mut texts = Texts::default();
    let mut json = Json::default();
    json.text("title", &model.title);
    json.text("hash", &format!("{:016x}", model.hash));
    json.numbers("all", [model.events_all]);
    json.text("failure", model.failure.as_deref().unwrap_or(""));
    json.numbers("span", [micros(model.begin), micros(model.end).max(micros(model.begin) + 1)]);
    json.texts("lanes", model.lanes.iter());
    json.texts("rows", model.rows.iter().map(|row| &row.name));
    json.numbers("laneOf", model.rows.iter().map(|row| row.lane));
    json.texts("left", left_out.iter().map(|(what, _)| what));
    json.numbers("leftCount", left_out.iter().map(|(_, count)| count));

    let messages = &model.messages;
    json.numbers("mN", differences(messages.iter().map(|it| it.number)));
    json.numbers("mAt", differences(messages.iter().map(|it| micros(it.at))));
    json.numbers("mFrom", messages.iter().map(|it| it.from));
    json.numbers("mTo", messages.iter().map(|it| it.to));
    json.numbers("mKind", messages.iter().map(|it| names.number(&kind(it))));
    // How much later it arrives, in events and in time; 0 events: it does not.
    let later = |it: &Sent| {
        it.arrived.map_or((0, 0), |(n, at)| (n - it.number, micros(at) - micros(it.at)))
    };
    json.numbers("mLaterN", messages.iter().map(|it| later(it).0));
    json.numbers("mLater", messages.iter().map(|it| later(it).1));
    for message in messages {
        texts.add(&message.text);
    }

    let marks = &model.marks;
    json.numbers("eN", differences(marks.iter().map(|it| it.number)));
    json.numbers("eAt", differences(marks.iter().map(|it| micros(it.at))));
    // Shifted by one: 0 is the whole world.
    json.numbers("eRow", marks.iter().map(|it| it.row.map_or(0, |row| row + 1)));
    json.numbers("eWhat", marks.iter().map(|it| names.number(it.what)));
    for mark in marks {
        texts.add(&mark.text);
    }

    let machines = model.rows.iter().filter(|row| row.lane != 4).count();
    json.numbers("oRow", model.operations.iter().map(|it| machines + it.client));
    json.numbers("oVia", model.operations.iter().map(|it| it.gateway));
    json.numbers("oRequest", model.operations.iter().map(|it| it.request));
    json.numbers("oWhat", model.operations.iter().map(|it| names.number(it.what)));
    json.texts("oKey", model.operations.iter().map(|it| it.keys.join(" ← ")));
    json.numbers("oN", model.operations.iter().map(|it| it.begun.0));
    json.numbers("oAt", model.operations.iter().map(|it| micros(it.begun.1)));
    json.numbers("oEndN", model.operations.iter().map(|it| it.ended.0));
    json.numbers("oEnd", model.operations.iter().map(|it| micros(it.ended.1)));
    json.numbers("oOut", model.operations.iter().map(|it| outcome(it.outcome)));
    json.texts("oAnswer", model.operations.iter().map(|it| &it.answer));

    json.texts("fKind", model.episodes.iter().map(|it| it.kind));
    json.texts("fVictim", model.episodes.iter().map(|it| &it.victim));
    json.lists("fRows", model.episodes.iter().map(|it| it.machines.as_slice()));
    json.numbers("fN", model.episodes.iter().map(|it| it.number));
    json.numbers("fAt", model.episodes.iter().map(|it| micros(it.begin)));
    json.numbers("fEnd", model.episodes.iter().map(|it| micros(it.end)));

    json.numbers("lRow", model.leads.iter().map(|it| it.machine));
    json.numbers("lRange", model.leads.iter().map(|it| it.range));
    json.numbers("lTerm", model.leads.iter().map(|it| it.term));
    json.numbers("lAt", model.leads.iter().map(|it| micros(it.begin)));
    json.numbers("lEnd", model.leads.iter().map(|it| micros(it.end)));

    json.numbers("dRow", model.downs.iter().map(|it| it.0));
    json.numbers("dAt", model.downs.iter().map(|it| micros(it.1)));
    json.numbers("dEnd", model.downs.iter().map(|it| micros(it.2)));

    json.numbers("sAt", model.strikes.iter().map(|it| micros(it.at)));
    json.numbers("sKind", model.strikes.iter().map(|it| names.number(it.kind)));
    json.numbers("sRow", model.strikes.iter().map(|it| it.row));
    json.numbers("sOther", model.strikes.iter().map(|it| it.other.map_or(0, |row| row + 1)));

    json.texts("names", names.names.iter());
    json.texts("templates", texts.templates.iter());
    json.text("texts", &texts.lines);
    json.finish()
}

/// As the page numbers them.
fn outcome(outcome: Option<Outcome>) -> u8 {
    match outcome {
        Some(Outcome::Served) => 0,
        Some(Outcome::Refused) => 1,
        Some(Outcome::Unknown) => 2,
        Some(Outcome::GivenUp) => 3,
        None => 4,
    }
}

/// What a message is called. Those of consensus go by what is in them; `~` marks pulses.
fn kind(message: &Sent) -> String {
    let word = |text: &str| -> String {
        text.chars().take_while(|char| char.is_alphanumeric() || *char == '_').collect()
    };
    let name = word(&message.text);
    let name = match message.text.split_once("body: ") {
        Some((_, body)) if name == "Consensus" => word(body),
        _ => name,
    };
    if is_pulse(message) { format!("~{name}") } else { name }
}

fn micros(at: Nanos) -> u64 {
    at / MICROSECOND
}

/// Each number less the one before.
fn differences(numbers: impl Iterator<Item = u64>) -> impl Iterator<Item = i128> {
    numbers.scan(0, |before, number| {
        let number = i128::from(number);
        Some(number - std::mem::replace(before, number))
    })
}

/// Words by number, in order of their first use.
#[derive(Default)]
struct Names {
    names: Vec<String>,
    numbers: BTreeMap<String, usize>,
}

impl Names {
    fn number(&mut self, name: &str) -> usize {
        if let Some(number) = self.numbers.get(name) {
            return *number;
        }
        self.names.push(name.to_owned());
        self.numbers.insert(name.to_owned(), self.names.len() - 1);
        self.names.len() - 1
    }
}

/// Texts, a line for each: the number of its template, then for each of its runs of digits, behind a blank: nothing, if it is
/// as in the last text of this template, `~` and its end, if as long and alike in front, or the digits.
#[derive(Default)]
struct Texts {
    templates: Vec<String>,
    /// For each template its number and the runs of digits of its last text.
    known: BTreeMap<String, (usize, Vec<String>)>,
    lines: String,
}

impl Texts {
    fn add(&mut self, text: &str) {
        let mut template = String::with_capacity(text.len());
        let mut runs: Vec<String> = Vec::new();
        let mut in_run = false;
        for char in text.chars() {
            if char.is_ascii_digit() {
                if !in_run {
                    template.push(HOLE);
                    runs.push(String::new());
                }
                if let Some(run) = runs.last_mut() {
                    run.push(char);
                }
            } else {
                template.push(if char == HOLE { ' ' } else { char });
            }
            in_run = char.is_ascii_digit();
        }
        let (number, before) = self.known.entry(template).or_insert_with_key(|template| {
            self.templates.push(template.clone());
            (self.templates.len() - 1, vec![String::new(); runs.len()])
        });
        write!(self.lines, "{number}").expect("a String takes everything");
        for (run, before) in runs.iter().zip(before.iter()) {
            self.lines.push(' ');
            if run == before {
                continue;
            }
            let alike = run.bytes().zip(before.bytes()).take_while(|(one, other)| one == other);
            let alike = alike.count();
            if run.len() == before.len() && alike >= 2 {
                self.lines.push('~');
                self.lines.push_str(&run[alike..]);
            } else {
                self.lines.push_str(run);
            }
        }
        self.lines.push('\n');
        *before = runs;
    }
}

/// An object of columns.
#[derive(Default)]
struct Json {
    text: String,
}

impl Json {
    fn name(&mut self, name: &str) {
        self.text.push_str(if self.text.is_empty() { "{" } else { ",\n" });
        quote(&mut self.text, name);
        self.text.push(':');
    }

    fn text(&mut self, name: &str, text: &str) {
        self.name(name);
        quote(&mut self.text, text);
    }

    fn texts<T: AsRef<str>>(&mut self, name: &str, texts: impl Iterator<Item = T>) {
        self.name(name);
        self.list(texts, |json, text| quote(&mut json.text, text.as_ref()));
    }

    fn numbers<T: std::fmt::Display>(&mut self, name: &str, numbers: impl IntoIterator<Item = T>) {
        self.name(name);
        self.list(numbers.into_iter(), |json, number| {
            write!(json.text, "{number}").expect("a String takes everything");
        });
    }

    fn lists<'a>(&mut self, name: &str, lists: impl Iterator<Item = &'a [usize]>) {
        self.name(name);
        self.list(lists, |json, list| {
            write!(json.text, "{list:?}").expect("a String takes everything");
        });
    }

    fn list<T>(&mut self, items: impl Iterator<Item = T>, write: impl Fn(&mut Self, T)) {
        self.text.push('[');
        for (place, item) in items.enumerate() {
            if place > 0 {
                self.text.push(',');
            }
            write(self, item);
        }
        self.text.push(']');
    }

    fn finish(mut self) -> String {
        self.text.push('}');
        self.text
    }
}

/// A string of JSON that may stand in a script element: nothing in it can end one.
fn quote(out: &mut String, text: &str) {
    out.push('"');
    for char in text.chars() {
        match char {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '<' | '>' | '&' | '\u{0}'..='\u{1f}' | '\u{2028}' | '\u{2029}' => {
                write!(out, "\\u{:04x}", u32::from(char)).expect("a String takes everything");
            }
            char => out.push(char),
        }
    }
    out.push('"');
}

fn escape_html(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// As [`quote`] writes it.
#[cfg(test)]
pub(super) fn quoted(text: &str) -> String {
    let mut out = String::new();
    quote(&mut out, text);
    out
}

/// Texts packed, and read again as the page does.
#[cfg(test)]
pub(super) fn told(all: &[&str]) -> Vec<String> {
    let mut texts = Texts::default();
    for text in all {
        texts.add(text);
    }
    let parts: Vec<Vec<&str>> =
        texts.templates.iter().map(|template| template.split(HOLE).collect()).collect();
    let mut last: Vec<Vec<String>> =
        parts.iter().map(|parts| vec![String::new(); parts.len() - 1]).collect();
    let line = |line: &str| {
        let mut runs = line.split(' ');
        let number: usize = runs.next().unwrap().parse().unwrap();
        let mut text = parts[number][0].to_owned();
        for ((run, before), part) in runs.zip(&mut last[number]).zip(&parts[number][1..]) {
            match run.strip_prefix('~') {
                Some(end) => before.replace_range(before.len() - end.len().., end),
                None if run.is_empty() => {}
                None => run.clone_into(before),
            }
            text.push_str(before);
            text.push_str(part);
        }
        text
    };
    texts.lines.lines().map(line).collect()
}
