//! What makes two failures the same: the checker or assertion that failed, and its words, without what differs
//! between runs (numbers, names, contents).

/// The fingerprint of a failure.
pub fn of(failure: &str) -> String {
    if let Some((place, message)) = panic(failure) {
        return format!("panic in {place}: {}", plain(message));
    }
    let mut lines = failure.lines();
    let first = lines.next().unwrap_or_default();
    // Whoever is stuck: in which part of the run counts, not what each machine says of itself.
    let is_machine = |line: &&str| line.starts_with("store-") || line.starts_with("gw-");
    let rest = lines.map(str::trim).filter(|line| first.starts_with("stuck ") && !is_machine(line));
    // A verdict over a history is followed by the history.
    let first = first.split("; before it:").next().unwrap_or_default();
    let all: Vec<_> = [first].into_iter().chain(rest).map(plain).collect();
    all.join(" / ")
}

/// File and message of a panic. The line moves with each change above it: it does not count.
fn panic(failure: &str) -> Option<(&str, &str)> {
    let (_, rest) = failure.split_once("panicked at ")?;
    let (place, message) = rest.split_once('\n')?;
    let file = place.split(':').next()?;
    // Behind the message stand frames of the stack.
    let message = message.split("\n    ").next()?;
    Some((file, message.lines().next().unwrap_or_default()))
}

/// Without what differs between runs of one mistake.
fn plain(text: &str) -> String {
    let mut plain = String::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let (len, put) = match first {
            '"' => (quoted(rest), "\"…\""),
            '(' => (nested(rest, '(', ')'), "(…)"),
            '[' => (nested(rest, '[', ']'), "[…]"),
            '{' => (nested(rest, '{', '}'), "{…}"),
            _ if first.is_alphanumeric() => {
                let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_');
                let word = &rest[..end.unwrap_or(rest.len())];
                let digits = word.bytes().any(|byte| byte.is_ascii_digit());
                let hash = word.len() >= 8 && word.bytes().all(|byte| byte.is_ascii_hexdigit());
                (word.len(), if digits || hash { "#" } else { word })
            }
            _ => (first.len_utf8(), &rest[..first.len_utf8()]),
        };
        plain.push_str(put);
        rest = &rest[len..];
        // The name of a key may be anything up to the next colon or end.
        for before in ["object ", "bucket "] {
            if plain.ends_with(before) {
                let end = rest.find([':', ',', ' ', ';']).unwrap_or(rest.len());
                plain.push('…');
                rest = &rest[end..];
            }
        }
    }
    plain
}

/// How long the quoted text is with which `text` begins.
fn quoted(text: &str) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            '"' if !escaped => return at + 1,
            _ => escaped = c == '\\' && !escaped,
        }
    }
    text.len()
}

/// How long the bracket is with which `text` begins.
fn nested(text: &str, open: char, close: char) -> usize {
    let mut depth = 0_usize;
    for (at, c) in text.char_indices() {
        if c == open {
            depth += 1;
        } else if c == close {
            depth -= 1;
            if depth == 0 {
                return at + close.len_utf8();
            }
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_of_one_mistake_have_one_fingerprint() {
        let one = "\"object hot-0\" is not linearizable: Read(Value(ValueId(12))) (31..35) fits none \
                   of [None, Some(ValueId(3))]; before it:\n    1..2 Write(..)";
        let other = "\"object a/key-7\" is not linearizable: Read(Absent) (7..9) fits none of []; \
                     before it:\n    5..6 Read(..)";
        assert_eq!(of(one), "\"…\" is not linearizable: Read(…) (…) fits none of […]");
        assert_eq!(of(one), of(other));
        assert_ne!(
            of(one),
            of("\"object hot-0\" is not linearizable: Write(x) (1..2) fits none of []")
        );
        let panic = |line: u32, count: u32| {
            format!(
                "thread 'main' panicked at core/src/store/mod.rs:{line}:5:\nleft {count} of \
                 store-{count}\n    0: trine_core::store at ./core/src/store/mod.rs:{line}"
            )
        };
        assert_eq!(of(&panic(7, 3)), "panic in core/src/store/mod.rs: left # of store-#");
        assert_eq!(of(&panic(7, 3)), of(&panic(8, 4)));
        let stuck = |number: u32| {
            format!(
                "stuck 60 s after the last fault:\n    store-1 up at {number}\n    gw-1 up {number}\n    \
                 Verifying: {number} of 4 clients wait; Verify {{ next: {number} }} of 5 keys"
            )
        };
        let expected = "stuck # s after the last fault: / Verifying: # of # clients wait; Verify {…} of # keys";
        assert_eq!(of(&stuck(3)), expected);
        assert_eq!(of(&stuck(3)), of(&stuck(4)));
        assert_eq!(
            of("object hot-1: 7 bytes, deadbeef00 \"un\\\"quoted"),
            "object …: # bytes, # \"…\""
        );
        assert_eq!(of(""), "");
    }
}
