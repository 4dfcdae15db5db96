//! What was measured: latencies in histograms, errors by code, and how it went second by second.

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;

use super::client::answer::Failure;
use super::workload::Kind;

/// Latencies are kept to three digits, in microseconds.
const DIGITS: u8 = 3;
/// Seconds of a time series: a day.
const SECONDS_MAX: usize = 86_400;
/// Different codes of errors that are told apart; the rest is one.
const CODES_MAX: usize = 32;
const OTHER: &str = "other";

/// What one worker measures.
#[derive(Clone, Default)]
pub(crate) struct Recorder {
    tallies: BTreeMap<Kind, Tally>,
    seconds: Vec<Second>,
    last: Duration,
    /// HTTP requests, of all kinds and with all that was tried again.
    pub(crate) requests: u64,
}

/// What is known of one kind of operation.
#[derive(Clone)]
pub(crate) struct Tally {
    /// Latencies of what succeeded, in microseconds.
    latency_us: Histogram<u64>,
    /// Bytes of bodies, sent or received.
    pub(crate) bytes: u64,
    /// By code, with an example.
    pub(crate) errors: BTreeMap<String, (u64, String)>,
    /// Answers that asked for fewer requests, also those that were tried again.
    pub(crate) slow_downs: u64,
}

/// One second of a measurement.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Second {
    pub(crate) operations: u64,
    pub(crate) bytes: u64,
    pub(crate) errors: u64,
    pub(crate) slow_downs: u64,
}

impl Default for Tally {
    fn default() -> Self {
        let latency_us = Histogram::new(DIGITS).expect("1 to 5 digits are allowed");
        Self { latency_us, bytes: 0, errors: BTreeMap::new(), slow_downs: 0 }
    }
}

impl Recorder {
    /// An operation that succeeded, `at` after the begin.
    pub(crate) fn success(&mut self, kind: Kind, at: Duration, latency: Duration, bytes: u64) {
        let tally = self.tallies.entry(kind).or_default();
        let micros = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
        // The histogram grows with what it is given, unless memory is out.
        if tally.latency_us.record(micros.max(1)).is_err() {
            tally.latency_us.saturating_record(micros);
        }
        tally.bytes += bytes;
        self.second(kind, at, |second| {
            second.operations += 1;
            second.bytes += bytes;
        });
    }

    /// An operation that failed.
    pub(crate) fn failure(&mut self, kind: Kind, at: Duration, failure: &Failure) {
        let errors = &mut self.tallies.entry(kind).or_default().errors;
        add_error(errors, failure.code(), 1, || failure.to_string());
        self.second(kind, at, |second| second.errors += 1);
    }

    /// An answer that asked for fewer requests.
    pub(crate) fn slow_down(&mut self, kind: Kind, at: Duration) {
        self.tallies.entry(kind).or_default().slow_downs += 1;
        self.second(kind, at, |second| second.slow_downs += 1);
    }

    fn second(&mut self, kind: Kind, at: Duration, change: impl FnOnce(&mut Second)) {
        self.last = self.last.max(at);
        // Parts are in their uploads, so that bytes are not counted twice.
        if kind == Kind::Part {
            return;
        }
        let place = usize::try_from(at.as_secs()).unwrap_or(usize::MAX).min(SECONDS_MAX - 1);
        if self.seconds.len() <= place {
            self.seconds.resize(place + 1, Second::default());
        }
        change(&mut self.seconds[place]);
    }

    /// Take in what another worker has measured.
    pub(crate) fn merge(&mut self, other: &Self) {
        for (kind, theirs) in &other.tallies {
            self.tallies.entry(*kind).or_default().merge(theirs);
        }
        self.seconds.resize(self.seconds.len().max(other.seconds.len()), Second::default());
        for (ours, theirs) in self.seconds.iter_mut().zip(&other.seconds) {
            ours.operations += theirs.operations;
            ours.bytes += theirs.bytes;
            ours.errors += theirs.errors;
            ours.slow_downs += theirs.slow_downs;
        }
        self.last = self.last.max(other.last);
        self.requests += other.requests;
    }

    /// When the last operation ended.
    pub(crate) fn last(&self) -> Duration {
        self.last
    }

    pub(crate) fn seconds(&self) -> &[Second] {
        &self.seconds
    }

    pub(crate) fn tallies(&self) -> impl Iterator<Item = (Kind, &Tally)> {
        self.tallies.iter().map(|(kind, tally)| (*kind, tally))
    }

    /// All kinds taken together.
    pub(crate) fn total(&self) -> Tally {
        let mut total = Tally::default();
        for (kind, tally) in &self.tallies {
            if *kind != Kind::Part {
                total.merge(tally);
            }
        }
        total
    }
}

impl Tally {
    fn merge(&mut self, other: &Self) {
        if self.latency_us.add(&other.latency_us).is_err() {
            // Both grow as they need: what does not fit is counted at the top.
            for value in other.latency_us.iter_recorded() {
                let times = value.count_at_value();
                self.latency_us.saturating_record_n(value.value_iterated_to(), times);
            }
        }
        self.bytes += other.bytes;
        self.slow_downs += other.slow_downs;
        for (code, (times, example)) in &other.errors {
            add_error(&mut self.errors, code.clone(), *times, || example.clone());
        }
    }

    /// Operations that succeeded.
    pub(crate) fn operations(&self) -> u64 {
        self.latency_us.len()
    }

    /// Operations that failed.
    pub(crate) fn failures(&self) -> u64 {
        self.errors.values().map(|(times, _)| times).sum()
    }

    /// The latency in milliseconds below which this share (0 to 1) of the operations were, if any.
    pub(crate) fn quantile_ms(&self, share: f64) -> Option<f64> {
        (self.operations() > 0).then(|| millis(self.latency_us.value_at_quantile(share)))
    }

    pub(crate) fn min_ms(&self) -> Option<f64> {
        (self.operations() > 0).then(|| millis(self.latency_us.min()))
    }

    pub(crate) fn mean_ms(&self) -> Option<f64> {
        (self.operations() > 0).then(|| self.latency_us.mean() / 1000.0)
    }

    pub(crate) fn max_ms(&self) -> Option<f64> {
        (self.operations() > 0).then(|| millis(self.latency_us.max()))
    }
}

/// Milliseconds of microseconds.
#[allow(clippy::cast_precision_loss, reason = "times below 2^53 us are exact")]
fn millis(micros: u64) -> f64 {
    micros as f64 / 1000.0
}

fn add_error(
    errors: &mut BTreeMap<String, (u64, String)>,
    code: String,
    times: u64,
    example: impl FnOnce() -> String,
) {
    // What a server says must not grow without bound.
    let known = errors.contains_key(&code) || errors.len() < CODES_MAX;
    let code = if known { code } else { OTHER.to_owned() };
    errors.entry(code).or_insert_with(|| (0, example())).0 += times;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(found: Option<f64>, expected: f64) -> bool {
        found.is_some_and(|found| (found - expected).abs() <= expected * 0.001)
    }

    #[test]
    fn percentiles_of_merged_workers_are_those_of_all() {
        let mut workers = vec![Recorder::default(); 4];
        for micros in 1..=100_000_u64 {
            let at = Duration::from_micros(micros * 30);
            let worker = &mut workers[usize::try_from(micros % 4).unwrap()];
            worker.success(Kind::Get, at, Duration::from_micros(micros), 10);
        }
        let mut all = Recorder::default();
        for worker in &workers {
            all.merge(worker);
        }
        let total = all.total();
        assert_eq!((total.operations(), total.bytes, total.failures()), (100_000, 1_000_000, 0));
        for (share, expected) in [(0.5, 50.0), (0.99, 99.0), (0.999, 99.9)] {
            assert!(close(total.quantile_ms(share), expected), "{:?}", total.quantile_ms(share));
        }
        assert!(close(total.max_ms(), 100.0) && close(total.mean_ms(), 50.0));
        assert!(close(total.min_ms(), 0.001));
        let operations: Vec<_> = all.seconds().iter().map(|second| second.operations).collect();
        assert_eq!(operations, [33_333, 33_333, 33_333, 1]);
        assert_eq!(all.last(), Duration::from_secs(3));
    }

    #[test]
    fn latencies_from_a_microsecond_to_days_are_kept() {
        let mut recorder = Recorder::default();
        for latency in [Duration::ZERO, Duration::from_secs(200_000), Duration::MAX] {
            recorder.success(Kind::Put, Duration::ZERO, latency, 0);
        }
        let total = recorder.total();
        assert_eq!(total.operations(), 3);
        assert!(close(total.quantile_ms(0.5), 200_000_000.0));
    }

    #[test]
    fn nothing_measured_has_no_percentiles() {
        let total = Recorder::default().total();
        assert_eq!((total.quantile_ms(0.5), total.max_ms(), total.mean_ms()), (None, None, None));
    }

    #[test]
    fn errors_are_counted_by_code_and_codes_are_bounded() {
        let mut recorder = Recorder::default();
        let refused = |code: String| {
            let message = Some("why".to_owned());
            Failure::Refused { status: 500, code: Some(code), message }
        };
        for number in 0..100 {
            recorder.failure(Kind::Put, Duration::ZERO, &refused(format!("E{number}")));
        }
        recorder.failure(Kind::Put, Duration::ZERO, &refused("E1".to_owned()));
        let total = recorder.total();
        assert_eq!((total.failures(), total.errors.len()), (101, CODES_MAX + 1));
        assert_eq!(total.errors["E1"], (2, "E1 (500): why".to_owned()));
        assert_eq!(total.errors[OTHER].0, 68);
    }

    #[test]
    fn a_series_does_not_grow_without_bound_and_leaves_parts_out() {
        let mut recorder = Recorder::default();
        recorder.success(Kind::Put, Duration::MAX, Duration::ZERO, 1);
        recorder.success(Kind::Part, Duration::ZERO, Duration::ZERO, 1);
        assert_eq!(recorder.seconds().len(), SECONDS_MAX);
        assert_eq!(recorder.seconds()[0], Second::default());
        assert_eq!(recorder.total().bytes, 1);
        assert_eq!(recorder.tallies().count(), 2);
    }
}
