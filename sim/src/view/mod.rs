//! A trace for people: one line for each event with a column for each machine, filters, and steps forward and back.

mod step;

use std::fmt::Write;

pub use step::step;

use crate::faults::swarm::Swarm;
use crate::trace::Event;
use crate::{Nanos, SECOND};

/// How wide a line is, if it is not to be whole.
const WIDTH: usize = 160;
/// How wide the column of a machine is.
const COLUMN: usize = 5;

/// One event, kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// Its number in the trace, from 1.
    pub number: u64,
    /// When.
    pub at: Nanos,
    /// Whom it concerns, by number; nobody: the world.
    pub machine: Option<usize>,
    /// Who is at the other end of a message.
    pub other: Option<usize>,
    /// What happens.
    pub what: &'static str,
    /// More about it.
    pub text: String,
}

impl From<&Event<'_>> for Line {
    fn from(event: &Event<'_>) -> Self {
        let Event { number, at, machine, other, what, text, .. } = event;
        let (number, at, machine, other) = (*number, *at, *machine, *other);
        Self { number, at, machine, other, what, text: text.clone() }
    }
}

/// The columns of a world.
#[derive(Clone, Debug)]
pub struct Columns {
    stores: usize,
    gateways: usize,
    /// Lines are cut.
    pub narrow: bool,
}

impl Columns {
    /// One for each store, spare ones too, then one for each gateway.
    pub fn of(swarm: &Swarm) -> Self {
        Self { stores: swarm.stores_max(), gateways: swarm.gateways, narrow: true }
    }

    /// What stands above them.
    pub fn head(&self) -> String {
        let mut line = format!("{:>8} {:>11} ", "event", "time");
        for store in 1..=self.stores {
            write!(line, "{:^COLUMN$}", format!("s{store}")).expect("a String takes everything");
        }
        for gateway in 1..=self.gateways {
            write!(line, "{:^COLUMN$}", format!("g{gateway}")).expect("a String takes everything");
        }
        line.trim_end().to_owned()
    }

    /// An event in a line: what happens stands in the column of the machine that it concerns, an arrow in that
    /// of the other end.
    pub fn row(&self, line: &Line) -> String {
        let Line { number, at, machine, other, what, text } = line;
        let (seconds, micros) = (at / SECOND, at % SECOND / 1_000);
        let mut row = format!("{number:>8} {seconds:>4}.{micros:06} ");
        let there = if *what == "send" { ">" } else { "<" };
        for column in 0..self.stores + self.gateways {
            let mark = match (machine, other) {
                (Some(machine), _) if *machine == column => mark(what),
                (_, Some(other)) if *other == column => there,
                (None, _) => "=",
                _ => "·",
            };
            write!(row, "{mark:^COLUMN$}").expect("a String takes everything");
        }
        row.push(' ');
        if machine.is_none() || mark(what) == *what {
            row.push_str(what);
            row.push(' ');
        }
        // A note may have several lines.
        row.push_str(&text.replace('\n', " / "));
        if self.narrow && row.chars().count() > WIDTH {
            row = row.chars().take(WIDTH - 1).chain(['…']).collect();
        }
        row.trim_end().to_owned()
    }
}

/// What happens, as it fits into a column.
fn mark(what: &'static str) -> &'static str {
    match what {
        "message" => "recv",
        "disk done" => "done",
        "deadline" => "time",
        "link up" => "up",
        "link down" => "down",
        "request" => "req",
        "reply" => "repl",
        "need body" => "need",
        "body out" => "out",
        "body end" => "end",
        "body failed" => "fail",
        "disconnect" => "cut",
        "copying" => "copy",
        "client" => "body",
        "fault" => "FLT",
        "halt" => "HALT",
        other => other,
    }
}

/// Which events are shown.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Not before.
    pub from: Option<Nanos>,
    /// Not after.
    pub to: Option<Nanos>,
    /// Of machines of this zone: stores, and gateways but the first.
    pub zone: Option<usize>,
    /// Of these stores, from 1, and gateways.
    pub stores: Vec<usize>,
    /// The same of gateways.
    pub gateways: Vec<usize>,
    /// About one of these keys or others that are named so.
    pub keys: Vec<String>,
    /// They hold all of these.
    pub texts: Vec<String>,
}

impl Filter {
    /// Whether a line is shown. What concerns the whole world always is, but for texts and times.
    pub fn shows(&self, line: &Line, columns: &Columns) -> bool {
        let stores = columns.stores;
        let in_time =
            self.from.is_none_or(|from| line.at >= from) && self.to.is_none_or(|to| line.at <= to);
        let zone_of = |machine: usize| match machine.checked_sub(stores) {
            None => Some(machine % 3),
            // The first gateway stands outside all zones.
            Some(gateway) => gateway.checked_sub(1).map(|gateway| gateway % 3),
        };
        let is_named = |machine: usize| match machine.checked_sub(stores) {
            None => self.stores.contains(&(machine + 1)),
            Some(gateway) => self.gateways.contains(&(gateway + 1)),
        };
        let of_all = self.stores.is_empty() && self.gateways.is_empty();
        let concerns = |machine: usize| {
            self.zone.is_none_or(|zone| zone_of(machine) == Some(zone))
                && (of_all || is_named(machine))
        };
        let concerned = line.machine.is_none_or(concerns) || line.other.is_some_and(concerns);
        let about = self.keys.is_empty() || self.keys.iter().any(|key| line.text.contains(key));
        let row = || columns.row(line);
        let holds = |text: &String| line.text.contains(text) || row().contains(text);
        in_time && concerned && about && self.texts.iter().all(holds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(machine: Option<usize>, other: Option<usize>, what: &'static str) -> Line {
        Line {
            number: 7,
            at: 1_234_567_000,
            machine,
            other,
            what,
            text: "a \"hot-0\" b".to_owned(),
        }
    }

    fn columns() -> Columns {
        Columns { stores: 3, gateways: 2, narrow: true }
    }

    #[test]
    fn each_machine_has_its_column() {
        let columns = columns();
        let lines = [
            columns.head(),
            columns.row(&line(Some(0), Some(2), "send")),
            columns.row(&line(Some(4), Some(1), "message")),
            columns.row(&line(Some(1), None, "note")),
            columns.row(&line(None, None, "fault")),
        ];
        let expected = [
            "   event        time  s1   s2   s3   g1   g2",
            "       7    1.234567 send   ·    >    ·    ·   send a \"hot-0\" b",
            "       7    1.234567   ·    <    ·    ·  recv  a \"hot-0\" b",
            "       7    1.234567   ·  note   ·    ·    ·   note a \"hot-0\" b",
            "       7    1.234567   =    =    =    =    =   fault a \"hot-0\" b",
        ];
        assert_eq!(lines, expected);
        let long = Line { text: "ü".repeat(400), ..line(Some(0), None, "note") };
        assert_eq!(columns.row(&long).chars().count(), WIDTH);
        assert!(Columns { narrow: false, ..columns }.row(&long).chars().count() > 400);
    }

    #[test]
    fn filters_leave_out_what_they_do_not_name() {
        let columns = columns();
        let all = [
            line(Some(0), Some(2), "send"),
            line(Some(4), Some(1), "message"),
            line(Some(3), None, "request"),
            line(None, None, "fault"),
        ];
        let shown =
            |filter: Filter| all.each_ref().map(|line| u8::from(filter.shows(line, &columns)));
        let none = Filter::default;
        assert_eq!(shown(none()), [1, 1, 1, 1]);
        assert_eq!(shown(Filter { zone: Some(0), ..none() }), [1, 1, 0, 1]);
        assert_eq!(shown(Filter { zone: Some(2), ..none() }), [1, 0, 0, 1]);
        assert_eq!(shown(Filter { stores: vec![2], ..none() }), [0, 1, 0, 1]);
        assert_eq!(shown(Filter { gateways: vec![1], ..none() }), [0, 0, 1, 1]);
        assert_eq!(shown(Filter { keys: vec!["hot-0".to_owned()], ..none() }), [1, 1, 1, 1]);
        assert_eq!(shown(Filter { keys: vec!["hot-1".to_owned()], ..none() }), [0, 0, 0, 0]);
        assert_eq!(shown(Filter { texts: vec!["recv".to_owned()], ..none() }), [0, 1, 0, 0]);
        assert_eq!(shown(Filter { from: Some(2 * SECOND), ..none() }), [0, 0, 0, 0]);
        assert_eq!(shown(Filter { to: Some(SECOND), ..none() }), [0, 0, 0, 0]);
    }
}
