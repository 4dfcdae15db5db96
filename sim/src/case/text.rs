//! Times, machines, episodes and numbers as the words of a case's file. What a trace calls `store-1` is so called
//! here too.

use std::collections::BTreeSet;

use crate::faults::FaultKind;
use crate::faults::plan::{Episode, Victim};
use crate::faults::strikes::{Moment, Place};
use crate::workload::operation::{Operation, Planned};
use crate::{Nanos, SECOND};

/// What names of machines depend on: stores come first.
#[derive(Clone, Copy, Debug)]
pub(super) struct Names<'a> {
    pub(super) stores: usize,
    pub(super) gateways: usize,
    pub(super) clients: usize,
    pub(super) keys: &'a [String],
}

impl Names<'_> {
    fn machine(&self, machine: usize) -> String {
        match machine.checked_sub(self.stores) {
            None => format!("store-{}", machine + 1),
            Some(gateway) => format!("gw-{}", gateway + 1),
        }
    }

    fn read_machine(&self, word: &str) -> Result<usize, String> {
        if word.starts_with("store-") {
            numbered(word, "store-", self.stores)
        } else {
            numbered(word, "gw-", self.gateways).map(|gateway| self.stores + gateway)
        }
    }

    pub(super) fn place(&self, place: Place) -> String {
        match place {
            Place::Machine(machine) => self.machine(machine),
            Place::Link(from, to) => format!("{}>{}", self.machine(from), self.machine(to)),
            Place::Client(client) => format!("client-{}", client + 1),
        }
    }

    pub(super) fn read_place(&self, word: &str) -> Result<Place, String> {
        if let Some((from, to)) = word.split_once('>') {
            return Ok(Place::Link(self.read_machine(from)?, self.read_machine(to)?));
        }
        if word.starts_with("client-") {
            return numbered(word, "client-", self.clients).map(Place::Client);
        }
        self.read_machine(word).map(Place::Machine)
    }

    pub(super) fn episode(&self, episode: &Episode) -> String {
        let Episode { at, lasts, kind, victim, variant } = episode;
        let victim = match *victim {
            Victim::Zone(zone) => format!("zone-{zone}"),
            Victim::Store(store) => self.machine(store),
            Victim::Gateway(gateway) => self.machine(self.stores + gateway),
            Victim::Link(from, to) => self.place(Place::Link(from, to)),
            Victim::All => "all".to_owned(),
        };
        format!("{} for {}: {} {victim} {variant:#x}", time(*at), time(*lasts), kind.name())
    }

    /// Read an episode: `2.5 for 0.75: zone killed zone-1 0x0`.
    pub(super) fn read_episode(&self, line: &str) -> Result<Episode, String> {
        let read = || {
            let (times, what) = line.split_once(": ").ok_or("there is no colon")?;
            let (at, lasts) =
                times.split_once(" for ").ok_or("before the colon is no AT for LASTS")?;
            let mut words = what.rsplitn(3, ' ');
            let variant = words.next().and_then(|word| word.strip_prefix("0x"));
            let variant = variant.and_then(|digits| u64::from_str_radix(digits, 16).ok());
            let victim = words.next().unwrap_or_default();
            let kind = words.next().unwrap_or_default();
            let kind =
                FaultKind::named(kind).ok_or_else(|| format!("{kind:?} is no kind of fault"))?;
            let victim = match victim {
                "all" => Victim::All,
                word if word.starts_with("zone-") => {
                    let zone = word["zone-".len()..].parse().ok().filter(|zone| *zone < 3);
                    Victim::Zone(
                        zone.ok_or_else(|| format!("{word:?} is none of the three zones"))?,
                    )
                }
                word => match self.read_place(word)? {
                    Place::Machine(machine) if machine < self.stores => Victim::Store(machine),
                    Place::Machine(machine) => Victim::Gateway(machine - self.stores),
                    Place::Link(from, to) => Victim::Link(from, to),
                    Place::Client(_) => return Err("no episode strikes clients".to_owned()),
                },
            };
            Ok(Episode {
                at: read_time(at)?,
                lasts: read_time(lasts)?,
                kind,
                victim,
                variant: variant.ok_or("the last word is no number with 0x")?,
            })
        };
        read().map_err(|wrong: String| format!("episode {line:?}: {wrong}"))
    }

    pub(super) fn planned(&self, planned: &Planned) -> String {
        let via = self.machine(self.stores + planned.via);
        format!("{} {via} {}", time(planned.due), planned.operation.write(self.keys))
    }

    /// Read an operation: `2.5 gw-1 head hot-0`.
    pub(super) fn read_planned(&self, line: &str) -> Result<Planned, String> {
        let read = || {
            let mut parts = line.splitn(3, ' ');
            let due = read_time(parts.next().unwrap_or_default())?;
            let via = numbered(parts.next().unwrap_or_default(), "gw-", self.gateways)?;
            let operation = Operation::read(parts.next().unwrap_or_default(), self.keys)?;
            Ok(Planned { due, via, operation })
        };
        read().map_err(|wrong: String| format!("operation {line:?}: {wrong}"))
    }
}

/// The place of `PREFIXn`, which counts from 1, among `count`.
fn numbered(word: &str, prefix: &str, count: usize) -> Result<usize, String> {
    let number = word.strip_prefix(prefix).and_then(|digits| digits.parse::<usize>().ok());
    let place = number.and_then(|number| number.checked_sub(1)).filter(|place| *place < count);
    place.ok_or_else(|| format!("{word:?} is not {prefix}1 to {prefix}{count}"))
}

/// Seconds, to the nanosecond, without zeros at the end.
pub(super) fn time(at: Nanos) -> String {
    let text = format!("{}.{:09}", at / SECOND, at % SECOND);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// A time in seconds, to the nanosecond: `2.5`.
///
/// # Errors
/// If it is none.
pub fn read_time(word: &str) -> Result<Nanos, String> {
    let wrong = || format!("{word:?} is no time in seconds");
    let (whole, parts) = word.split_once('.').unwrap_or((word, "0"));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit()) && !text.is_empty();
    if !digits(whole) || !digits(parts) || parts.len() > 9 {
        return Err(wrong());
    }
    let whole: u64 = whole.parse().map_err(|_| wrong())?;
    let parts: u64 = format!("{parts:0<9}").parse().map_err(|_| wrong())?;
    whole.checked_mul(SECOND).and_then(|whole| whole.checked_add(parts)).ok_or_else(wrong)
}

/// Moments: seconds, and `#n` if others were at that time before.
pub(super) fn moments(moments: &BTreeSet<Moment>) -> String {
    let one = |Moment { at, number }: &Moment| match number {
        0 => time(*at),
        number => format!("{}#{number}", time(*at)),
    };
    moments.iter().map(one).collect::<Vec<_>>().join(" ")
}

pub(super) fn read_moments(text: &str) -> Result<BTreeSet<Moment>, String> {
    let mut moments = BTreeSet::new();
    for word in text.split_whitespace() {
        let (at, number) = word.split_once('#').unwrap_or((word, "0"));
        let number = number.parse().map_err(|_| format!("{word:?} is no time with #NUMBER"))?;
        if !moments.insert(Moment { at: read_time(at)?, number }) {
            return Err(format!("{word:?} stands there twice"));
        }
    }
    Ok(moments)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_moments_are_read_as_written() {
        for (at, text) in [(0, "0"), (1, "0.000000001"), (2_500_000_000, "2.5"), (SECOND, "1")] {
            assert_eq!(time(at), text);
            assert_eq!(read_time(text), Ok(at));
        }
        for wrong in ["", ".", "1.", "-1", "1e9", "0.0000000001", "99999999999999999999"] {
            assert!(read_time(wrong).is_err(), "{wrong}");
        }
        let moment = |at, number| Moment { at, number };
        let set = BTreeSet::from([moment(0, 0), moment(0, 2), moment(2_500_000_000, 0)]);
        assert_eq!(moments(&set), "0 0#2 2.5");
        assert_eq!(read_moments("0 0#2 2.5"), Ok(set));
        for wrong in ["3 3", "x", "1#x", "1#"] {
            assert!(read_moments(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn episodes_are_read_as_written() {
        let names = Names { stores: 3, gateways: 2, clients: 1, keys: &[] };
        for line in [
            "2.5 for 0.75: zone killed zone-1 0x0",
            "0 for 1: power loss everywhere all 0xff",
            "0 for 1: link cut one-way store-1>gw-2 0x1",
            "0 for 1: gateway paused gw-1 0x1",
            "0 for 1: byte rotted store-3 0x1",
        ] {
            assert_eq!(names.episode(&names.read_episode(line).expect(line)), line);
        }
        for wrong in [
            "",
            "1 for 2",
            "1: zone killed zone-1 0x0",
            "1 for 2: zone killed zone-3 0x0",
            "1 for 2: zone eaten zone-1 0x0",
            "1 for 2: store killed store-4 0x0",
            "1 for 2: store killed client-1 0x0",
            "1 for 2: store killed store-1 7",
        ] {
            assert!(names.read_episode(wrong).is_err(), "{wrong}");
        }
    }
}
