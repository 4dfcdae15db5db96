//! Sizes and times as people write them: `4KiB`, `1MiB..16MiB`, `30s`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// How many sizes stand for a range.
const RANGE_STEPS: u32 = 32;
/// Units, the largest first, as they are printed and read.
const UNITS: [(&str, u64); 5] =
    [("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];

/// A number of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(pub u64);

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is no size: write a whole number and B, KiB, MiB or GiB");
        let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let number: u64 = text[..digits].parse().map_err(|_| wrong())?;
        let unit = match text[digits..].trim_start() {
            "" => 1,
            name => UNITS.iter().find(|(unit, _)| *unit == name).ok_or_else(wrong)?.1,
        };
        number.checked_mul(unit).map(Self).ok_or_else(|| format!("{text:?} is too large"))
    }
}

impl fmt::Display for Size {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fits = |(_, unit): &&(&str, u64)| self.0 >= *unit && self.0.is_multiple_of(*unit);
        let (name, unit) = UNITS.iter().find(fits).unwrap_or(&("B", 1));
        write!(out, "{} {name}", self.0 / unit)
    }
}

/// The sizes of the objects of one measurement: one size, or a range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SizeSpec {
    /// At least one, ascending.
    sizes: Vec<u64>,
}

impl SizeSpec {
    /// Objects of one size.
    #[must_use]
    pub fn fixed(bytes: u64) -> Self {
        Self { sizes: vec![bytes] }
    }

    /// All sizes that occur, in bytes, ascending.
    #[must_use]
    pub fn sizes(&self) -> &[u64] {
        &self.sizes
    }

    /// The largest of them.
    #[must_use]
    pub fn largest(&self) -> u64 {
        self.sizes.last().copied().unwrap_or_default()
    }

    /// As part of a key.
    #[must_use]
    pub fn name(&self) -> String {
        self.to_string().replace(' ', "").replace("..", "-")
    }
}

impl FromStr for SizeSpec {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let Some((low, high)) = text.split_once("..") else {
            return Ok(Self::fixed(text.parse::<Size>()?.0));
        };
        let (Size(low), Size(high)) = (low.parse()?, high.parse()?);
        if low == 0 || low >= high {
            return Err(format!(
                "{text:?} is no range: it goes from a size above 0 to a larger one"
            ));
        }
        let mut sizes: Vec<u64> = (0..RANGE_STEPS).map(|step| between(low, high, step)).collect();
        sizes.dedup();
        Ok(Self { sizes })
    }
}

/// Evenly spread on a logarithmic scale, both ends included.
fn between(low: u64, high: u64, step: u32) -> u64 {
    let share = f64::from(step) / f64::from(RANGE_STEPS - 1);
    #[allow(clippy::cast_precision_loss, reason = "sizes below 2^53 are exact")]
    let (low_f, high_f) = (low as f64, high as f64);
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "`as` saturates")]
    let size = (low_f * (high_f / low_f).powf(share)).round() as u64;
    size.clamp(low, high)
}

impl fmt::Display for SizeSpec {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.sizes.as_slice() {
            [low, .., high] => write!(out, "{}..{}", Size(*low), Size(*high)),
            _ => write!(out, "{}", Size(self.largest())),
        }
    }
}

/// `500ms`, `10s`, `2m`, `1h`; `0` is no time.
///
/// # Errors
/// A text for the user, if it is none of these.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is no time: write a whole number and ms, s, m or h");
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let number: u64 = text[..digits].parse().map_err(|_| wrong())?;
    let unit_ms = match &text[digits..] {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        "" if number == 0 => 0,
        _ => return Err(wrong()),
    };
    number.checked_mul(unit_ms).map(Duration::from_millis).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_and_written() {
        for (text, bytes, shown) in [
            ("0", 0, "0 B"),
            ("100", 100, "100 B"),
            ("4KiB", 4096, "4 KiB"),
            ("1536 KiB", 1_572_864, "1536 KiB"),
            ("5GiB", 5 << 30, "5 GiB"),
            ("1024KiB", 1 << 20, "1 MiB"),
        ] {
            let size: Size = text.parse().unwrap();
            assert_eq!((size.0, size.to_string().as_str()), (bytes, shown));
        }
        for text in ["", "KiB", "4kb", "-1", "1.5MiB", "99999999999999999999", "99999999TiB"] {
            assert!(text.parse::<Size>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_range_has_both_ends_and_ascends() {
        let spec: SizeSpec = "4KiB..16MiB".parse().unwrap();
        let sizes = spec.sizes();
        assert_eq!((sizes[0], spec.largest(), sizes.len()), (4096, 16 << 20, 32));
        assert!(sizes.is_sorted_by(|a, b| a < b), "{sizes:?}");
        assert_eq!((spec.to_string(), spec.name()), ("4 KiB..16 MiB".into(), "4KiB-16MiB".into()));
        // The middle of a logarithmic scale.
        assert!((200_000..350_000).contains(&sizes[16]), "{}", sizes[16]);
        assert_eq!("1B..2B".parse::<SizeSpec>().unwrap().sizes(), [1, 2]);
        for text in ["1MiB..1KiB", "0..4KiB", "4KiB..", "..4KiB", "4KiB..4KiB"] {
            assert!(text.parse::<SizeSpec>().is_err(), "{text}");
        }
    }

    #[test]
    fn times_need_a_unit() {
        assert_eq!(parse_duration("1500ms"), Ok(Duration::from_millis(1500)));
        assert_eq!(parse_duration("2m"), Ok(Duration::from_secs(120)));
        assert_eq!(parse_duration("0"), Ok(Duration::ZERO));
        for text in ["", "10", "s", "1d", "-1s", "1.5s", "99999999999999999999h"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }
}
