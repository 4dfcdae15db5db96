//! What is asked for, in which order: operations, names of keys, and how often each comes.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use clap::ValueEnum;
use trine_core::rng::Rng;

use super::size::SizeSpec;

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, ValueEnum)]
pub enum Operation {
    /// PutObject
    Put,
    /// GetObject, read to its end
    Get,
    /// HeadObject
    Head,
    /// ListObjectsV2, one page
    List,
    /// DeleteObject
    Delete,
    /// Whole uploads in parts
    Multipart,
    /// Several of them by weight
    Mixed,
}

/// What a row of the results is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs, reason = "as they are called")]
pub enum Kind {
    Put,
    Get,
    Head,
    List,
    Delete,
    /// From CreateMultipartUpload to CompleteMultipartUpload.
    Multipart,
    /// UploadPart alone.
    Part,
}

impl fmt::Display for Kind {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.pad(match self {
            Self::Put => "put",
            Self::Get => "get",
            Self::Head => "head",
            Self::List => "list",
            Self::Delete => "delete",
            Self::Multipart => "multipart",
            Self::Part => "part",
        })
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.pad(match self {
            Self::Put => "put",
            Self::Get => "get",
            Self::Head => "head",
            Self::List => "list",
            Self::Delete => "delete",
            Self::Multipart => "multipart",
            Self::Mixed => "mixed",
        })
    }
}

/// Which keys are asked for how often.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Spread {
    /// One after another
    Sequential,
    /// Each as likely as any other
    Uniform,
    /// Few keys often: by Zipf's law
    Zipf,
}

/// How keys are named.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum KeyOrder {
    /// By their number: the next key comes behind all others
    Ascending,
    /// By a hash of their number: the next key comes anywhere
    Hashed,
}

/// A set of objects under a prefix of their own.
#[derive(Debug)]
pub(crate) struct KeySet {
    /// Up to the last slash.
    pub(crate) prefix: String,
    pub(crate) sizes: SizeSpec,
    pub(crate) order: KeyOrder,
    pub(crate) seed: u64,
    /// Objects that were put before anything was measured.
    pub(crate) prepared: AtomicU64,
    /// The number of the next object that a measured PUT, or DELETE, takes.
    pub(crate) next: AtomicU64,
    /// Numbers below this were deleted by what was measured.
    pub(crate) deleted: AtomicU64,
    /// Whether an earlier run has put them: they are left alone.
    pub(crate) borrowed: bool,
}

impl KeySet {
    /// The key of an object.
    pub(crate) fn key(&self, number: u64) -> String {
        match self.order {
            KeyOrder::Ascending => format!("{}{number:010}", self.prefix),
            KeyOrder::Hashed => {
                // One step of SplitMix64 is a bijection: no two numbers have one key. The seed goes
                // through a step of its own, or seed 2 would have the keys of seed 1, one place on.
                let first = Rng::new(self.seed).next_u64();
                let mut rng = Rng::new(first.wrapping_add(number));
                format!("{}{:016x}", self.prefix, rng.next_u64())
            }
        }
    }

    /// One more than the largest number that may have been put.
    pub(crate) fn end(&self) -> u64 {
        self.next.load(Ordering::Relaxed).max(self.prepared.load(Ordering::Relaxed))
    }
}

/// Chooses numbers of keys.
#[derive(Clone, Debug)]
pub(crate) enum Chooser {
    /// All workers share the counter.
    Sequential(Arc<AtomicU64>),
    Uniform,
    Zipf(Zipf),
}

impl Chooser {
    pub(crate) fn new(spread: Spread, keys: u64, exponent: f64) -> Self {
        match spread {
            Spread::Sequential => Self::Sequential(Arc::default()),
            Spread::Uniform => Self::Uniform,
            Spread::Zipf => Self::Zipf(Zipf::new(keys.max(1), exponent)),
        }
    }

    /// A number below `keys`, which is not 0.
    pub(crate) fn choose(&self, keys: u64, rng: &mut Rng) -> u64 {
        match self {
            Self::Sequential(next) => next.fetch_add(1, Ordering::Relaxed) % keys,
            Self::Uniform => rng.below(keys),
            Self::Zipf(zipf) => scatter(zipf.rank(rng) - 1, keys),
        }
    }
}

/// Spread ranks over all numbers, so that keys that are often asked for are not neighbours.
fn scatter(rank: u64, keys: u64) -> u64 {
    let step = (1_000_003..).step_by(2).find(|step| gcd(*step, keys) == 1).unwrap_or(1);
    let place = u128::from(rank) * u128::from(step) % u128::from(keys);
    u64::try_from(place).unwrap_or_default()
}

fn gcd(mut a: u64, mut b: u64) -> u64 {
    while b > 0 {
        (a, b) = (b, a % b);
    }
    a
}

/// Zipf's distribution by rejection-inversion (Hörmann and Derflinger, "Rejection-inversion to
/// generate variates from monotone discrete distributions", ACM TOMACS 6(3), 1996).
#[derive(Clone, Debug)]
pub(crate) struct Zipf {
    ranks: u64,
    exponent: f64,
    h_first: f64,
    h_last: f64,
    squeeze: f64,
}

#[allow(clippy::cast_precision_loss, reason = "ranks are below 2^53: there are not that many keys")]
impl Zipf {
    /// Ranks from 1 to `ranks`, the first being the likeliest. `exponent` is above 0.
    pub(crate) fn new(ranks: u64, exponent: f64) -> Self {
        let h_first = h_integral(1.5, exponent) - 1.0;
        let h_last = h_integral(ranks as f64 + 0.5, exponent);
        let second = h_integral(2.5, exponent) - h(2.0, exponent);
        Self {
            ranks,
            exponent,
            h_first,
            h_last,
            squeeze: 2.0 - h_integral_inverse(second, exponent),
        }
    }

    fn rank(&self, rng: &mut Rng) -> u64 {
        loop {
            let uniform = (rng.next_u64() >> 11) as f64 / (1_u64 << 53) as f64;
            let u = self.h_last + uniform * (self.h_first - self.h_last);
            let x = h_integral_inverse(u, self.exponent);
            #[allow(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "`as` saturates, and the result is brought into bounds"
            )]
            let rank = ((x + 0.5) as u64).clamp(1, self.ranks);
            let k = rank as f64;
            let sure = k - x <= self.squeeze;
            if sure || u >= h_integral(k + 0.5, self.exponent) - h(k, self.exponent) {
                return rank;
            }
        }
    }
}

/// The integral of x^-exponent.
fn h_integral(x: f64, exponent: f64) -> f64 {
    let log = x.ln();
    expm1_over((1.0 - exponent) * log) * log
}

fn h(x: f64, exponent: f64) -> f64 {
    (-exponent * x.ln()).exp()
}

fn h_integral_inverse(x: f64, exponent: f64) -> f64 {
    let t = (x * (1.0 - exponent)).max(-1.0);
    (ln1p_over(t) * x).exp()
}

/// ln(1+x)/x, also near 0.
fn ln1p_over(x: f64) -> f64 {
    if x.abs() > 1e-8 { x.ln_1p() / x } else { 1.0 - x * (0.5 - x / 3.0) }
}

/// (e^x-1)/x, also near 0.
fn expm1_over(x: f64) -> f64 {
    if x.abs() > 1e-8 { x.exp_m1() / x } else { 1.0 + x * 0.5 * (1.0 + x / 3.0) }
}

/// Weights of the operations of a mixed load.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mix {
    weights: Vec<(Kind, u64)>,
}

impl Mix {
    /// Read `get=45,put=15,head=30,delete=10`.
    ///
    /// # Errors
    /// A text for the user.
    pub fn parse(text: &str) -> Result<Self, String> {
        let wrong = |what: String| format!("mix {text:?}: {what}");
        let mut weights: Vec<(Kind, u64)> = Vec::new();
        for part in text.split(',') {
            let (name, weight) = part
                .split_once('=')
                .ok_or_else(|| wrong(format!("{part:?} is not written NAME=WEIGHT")))?;
            let known = [Kind::Put, Kind::Get, Kind::Head, Kind::List, Kind::Delete];
            let kind = known.into_iter().find(|kind| kind.to_string() == name.trim());
            let kind = kind.ok_or_else(|| {
                wrong(format!("{name:?} is none of put, get, head, list and delete"))
            })?;
            let weight = weight.trim().parse::<u32>();
            let weight = weight.map_err(|_| wrong(format!("{part:?} has no whole number")))?;
            if weights.iter().any(|(other, _)| *other == kind) {
                return Err(wrong(format!("{name} is named twice")));
            }
            weights.push((kind, weight.into()));
        }
        let mix = Self { weights };
        if mix.total() == 0 {
            return Err(wrong("all weights are 0".to_owned()));
        }
        if mix.weight(Kind::Delete) > mix.weight(Kind::Put) {
            let what = "it deletes what it has put, so delete weighs at most as much as put";
            return Err(wrong(what.to_owned()));
        }
        Ok(mix)
    }

    fn weight(&self, kind: Kind) -> u64 {
        self.weights.iter().filter(|(it, _)| *it == kind).map(|(_, weight)| weight).sum()
    }

    fn total(&self) -> u64 {
        self.weights.iter().map(|(_, weight)| weight).sum()
    }

    /// Whether objects must be there for it.
    pub(crate) fn reads(&self) -> bool {
        [Kind::Get, Kind::Head, Kind::List].iter().any(|kind| self.weight(*kind) > 0)
    }

    pub(crate) fn choose(&self, rng: &mut Rng) -> Kind {
        let mut at = rng.below(self.total());
        for (kind, weight) in &self.weights {
            if at < *weight {
                return *kind;
            }
            at -= weight;
        }
        Kind::Get
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(order: KeyOrder) -> KeySet {
        KeySet {
            prefix: "p/".to_owned(),
            sizes: SizeSpec::fixed(1),
            order,
            seed: 1,
            prepared: AtomicU64::new(0),
            next: AtomicU64::new(0),
            deleted: AtomicU64::new(0),
            borrowed: false,
        }
    }

    #[test]
    fn keys_are_distinct_and_come_again() {
        let ascending = set(KeyOrder::Ascending);
        assert_eq!(ascending.key(7), "p/0000000007");
        let hashed = set(KeyOrder::Hashed);
        let mut keys: Vec<_> = (0..10_000).map(|number| hashed.key(number)).collect();
        assert!(!keys.is_sorted());
        assert_eq!(keys[5], hashed.key(5));
        keys.extend(
            (0..10_000).map(|number| KeySet { seed: 2, ..set(KeyOrder::Hashed) }.key(number)),
        );
        keys.sort();
        keys.dedup();
        assert_eq!(keys.len(), 20_000);
    }

    #[test]
    fn zipf_has_the_shares_of_its_law() {
        for exponent in [0.5, 0.99, 1.0, 1.5] {
            let (ranks, draws) = (100, 200_000_u32);
            let zipf = Zipf::new(ranks, exponent);
            let mut rng = Rng::new(1);
            let mut counts = vec![0_u32; 101];
            for _ in 0..draws {
                counts[usize::try_from(zipf.rank(&mut rng)).unwrap()] += 1;
            }
            let sum: f64 = (1..=100).map(|rank| f64::from(rank).powf(-exponent)).sum();
            for rank in [1_u8, 2, 3, 10, 100] {
                let expected = f64::from(rank).powf(-exponent) / sum * f64::from(draws);
                let found = f64::from(counts[usize::from(rank)]);
                let deviation = (found - expected).abs() / expected.sqrt();
                assert!(deviation < 5.0, "{exponent} {rank}: {found}, not {expected}");
            }
        }
        // One rank leaves no choice.
        assert_eq!(Zipf::new(1, 0.99).rank(&mut Rng::new(3)), 1);
    }

    #[test]
    fn every_spread_stays_in_bounds_and_reaches_all() {
        for keys in [1, 2, 1000, 1_000_003] {
            for spread in [Spread::Sequential, Spread::Uniform, Spread::Zipf] {
                let chooser = Chooser::new(spread, keys, 0.99);
                let mut rng = Rng::new(5);
                assert!((0..100).all(|_| chooser.choose(keys, &mut rng) < keys));
            }
        }
        let mut all: Vec<_> = (0..1000).map(|rank| scatter(rank, 1000)).collect();
        all.sort_unstable();
        assert!(all.into_iter().eq(0..1000));
    }

    #[test]
    fn mixes_are_read_and_kept_to() {
        let mix = Mix::parse("get=45, put=15,head=30,delete=10").unwrap();
        let mut rng = Rng::new(2);
        let chosen: Vec<_> = (0..10_000).map(|_| mix.choose(&mut rng)).collect();
        for (kind, share) in
            [(Kind::Put, 1500), (Kind::Get, 4500), (Kind::Head, 3000), (Kind::Delete, 1000)]
        {
            let count = chosen.iter().filter(|it| **it == kind).count();
            assert!((share - 300..=share + 300).contains(&count), "{kind}: {count}");
        }
        assert!(!chosen.contains(&Kind::List));
        for (text, reason) in [
            ("", "NAME=WEIGHT"),
            ("get", "NAME=WEIGHT"),
            ("get=x", "whole number"),
            ("get=-1", "whole number"),
            ("get=0", "all weights"),
            ("copy=1", "none of"),
            ("multipart=1", "none of"),
            ("get=1,get=2", "twice"),
            ("get=5,delete=1", "at most as much"),
        ] {
            let error = Mix::parse(text).unwrap_err();
            assert!(error.contains(reason), "{text}: {error}");
        }
    }
}
