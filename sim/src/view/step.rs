//! Steps through a trace, forward and back. All lines are kept; the state of the machines at some event is found by
//! running the world again up to there, which is quick and is the same run each time.

use std::io::{self, BufRead, Write};

use super::{Columns, Line};

/// What can be said.
const HELP: &str = "\
n, Enter: next · b: back · +N, -N: so many · N: to event N · g, G: first, last · /TEXT: next with TEXT · ?TEXT: the \
one before\nl: lines around · w: the whole line · s: state of all machines here · h: this · q: quit";
/// Lines before and after that `l` shows.
const AROUND: usize = 8;

/// Obey the commands of `input` until it ends. `state` says what the machines are like after an event.
///
/// # Errors
/// If `out` cannot be written, or `input` not be read.
pub fn step(
    lines: &[Line],
    columns: &Columns,
    state: &dyn Fn(u64) -> Vec<String>,
    input: impl BufRead,
    out: &mut impl Write,
) -> io::Result<()> {
    let Some(last) = lines.len().checked_sub(1) else {
        return writeln!(out, "no event is shown by these filters");
    };
    writeln!(out, "{HELP}\n{}", columns.head())?;
    let mut here = 0;
    let show = |out: &mut dyn Write, at: usize| writeln!(out, "{}", columns.row(&lines[at]));
    show(out, here)?;
    let mut sought = String::new();
    for command in input.lines() {
        let command = command?;
        let command = command.trim();
        let (first, rest) = command.split_at(command.chars().next().map_or(0, char::len_utf8));
        let count = rest.parse::<usize>();
        let to = match (first, rest, &count) {
            ("" | "n", "", _) => here + 1,
            ("b", "", _) => here.saturating_sub(1),
            ("+", _, Ok(count)) => here.saturating_add(*count),
            ("-", _, Ok(count)) => here.saturating_sub(*count),
            ("g", "", _) => 0,
            ("G", "", _) => last,
            ("/" | "?", ..) => {
                if !rest.is_empty() {
                    rest.clone_into(&mut sought);
                }
                let holds = |at: &usize| {
                    columns.row(&lines[*at]).contains(&sought) || lines[*at].text.contains(&sought)
                };
                let found = if first == "/" {
                    (here + 1..=last).find(holds)
                } else {
                    (0..here).rev().find(holds)
                };
                match found {
                    Some(at) => at,
                    None => {
                        writeln!(out, "{sought:?} does not come")?;
                        continue;
                    }
                }
            }
            ("q", "", _) => return Ok(()),
            ("h", "", _) => {
                writeln!(out, "{HELP}")?;
                continue;
            }
            ("w", "", _) => {
                let whole = Columns { narrow: false, ..columns.clone() };
                writeln!(out, "{}", whole.row(&lines[here]))?;
                continue;
            }
            ("s", "", _) => {
                writeln!(out, "after event {}:", lines[here].number)?;
                for line in state(lines[here].number) {
                    writeln!(out, "  {line}")?;
                }
                continue;
            }
            ("l", "", _) => {
                for at in here.saturating_sub(AROUND)..=(here + AROUND).min(last) {
                    write!(out, "{}", if at == here { "*" } else { " " })?;
                    show(out, at)?;
                }
                continue;
            }
            _ => match command.parse::<u64>() {
                // The first event from there on that the filters show.
                Ok(number) => lines.partition_point(|line| line.number < number),
                Err(_) => {
                    writeln!(out, "{command:?} is no command\n{HELP}")?;
                    continue;
                }
            },
        };
        if to > last {
            writeln!(out, "the end")?;
        }
        here = to.min(last);
        show(out, here)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(commands: &str) -> Vec<String> {
        let line = |number: u64| Line {
            number: number * 10,
            at: number,
            machine: Some(0),
            other: None,
            what: "note",
            text: format!("event {number}"),
        };
        let lines: Vec<Line> = (1..=5).map(line).collect();
        let columns = Columns { stores: 1, gateways: 0, narrow: true };
        let mut out = Vec::new();
        let state = |number| vec![format!("state at {number}")];
        step(&lines, &columns, &state, commands.as_bytes(), &mut out).expect("memory takes it");
        let text = String::from_utf8(out).expect("it is text");
        // Without the help and the head.
        text.lines()
            .skip(3)
            .map(|line| line.rsplit("note ").next().unwrap_or("").to_owned())
            .collect()
    }

    #[test]
    fn steps_go_forward_and_back() {
        assert_eq!(said(""), ["event 1"]);
        let walk = said("n\n\nb\n+2\n-1\n40\n35\ng\nG\nn\n");
        let expected = [
            "event 1", "event 2", "event 3", "event 2", "event 4", "event 3", "event 4", "event 4",
            "event 1", "event 5", "the end", "event 5",
        ];
        assert_eq!(walk, expected);
    }

    #[test]
    fn texts_are_sought_and_states_shown() {
        assert_eq!(
            said("/event 4\n?event 2\n/\n"),
            ["event 1", "event 4", "event 2", "\"event 2\" does not come"]
        );
        assert_eq!(
            said("n\ns\nq\nn\n"),
            ["event 1", "event 2", "after event 20:", "  state at 20"]
        );
        assert!(said("fly\n")[1].contains("\"fly\" is no command"));
    }

    #[test]
    fn nothing_to_show_is_said() {
        let columns = Columns { stores: 1, gateways: 0, narrow: true };
        let mut out = Vec::new();
        step(&[], &columns, &|_| Vec::new(), "n\n".as_bytes(), &mut out).expect("memory takes it");
        assert!(String::from_utf8_lossy(&out).contains("no event is shown"));
    }
}
