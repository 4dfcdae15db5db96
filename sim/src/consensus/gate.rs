//! The consensus gate: replicas make one known mistake at a time ([`Mutant`]), and the golden scripts or
//! the explorer must notice. A mistake that nobody can notice is named with the reason.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use trine_core::consensus::{Mutant, Mutants, golden};

use super::explorer::{ExploreConfig, explore, panic_text};

/// Walks for a mistake that is held for equivalent.
const EQUIVALENT_WALKS_MAX: u64 = 2000;

/// How hard to try.
#[derive(Clone, Copy, Debug)]
pub struct GateConfig {
    /// Walks of the explorer, for a mistake that the golden scripts notice as well.
    pub walks: u64,
    /// Walks for one that they do not notice.
    pub walks_alone: u64,
}

impl GateConfig {
    /// A few minutes on one core.
    pub const FULL: Self = Self { walks: 600, walks_alone: 20_000 };
    /// Half a minute: golden scripts first, and the explorer only for what they miss.
    pub const QUICK: Self = Self { walks: 0, walks_alone: 20_000 };
}

/// The golden scripts, by name.
#[derive(Clone, Debug)]
pub struct Scripts(Vec<(String, String)>);

impl Scripts {
    /// Read them from the sources of `core`.
    ///
    /// # Errors
    /// Which file could not be read.
    pub fn read() -> Result<Self, String> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../core/tests/golden/consensus");
        let unreadable = |error: std::io::Error| format!("{}: {error}", folder.display());
        let mut scripts = Vec::new();
        for entry in std::fs::read_dir(&folder).map_err(unreadable)? {
            let path = entry.map_err(unreadable)?.path();
            let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            let text = std::fs::read_to_string(&path)
                .map_err(|error| format!("{}: {error}", path.display()))?;
            scripts.push((name, text));
        }
        scripts.sort();
        if scripts.is_empty() {
            return Err(format!("{}: no scripts", folder.display()));
        }
        Ok(Self(scripts))
    }

    /// The first script that does not go as it says, with the line or the failed assertion.
    pub fn noticed(&self, mutants: Mutants) -> Option<String> {
        self.0.iter().find_map(|(name, expected)| {
            match catch_unwind(AssertUnwindSafe(|| golden::rewrite(expected, mutants))) {
                Ok(found) if found == *expected => None,
                Ok(found) => {
                    let lines = expected.lines().zip(found.lines()).zip(1..);
                    let line = lines.into_iter().find(|((a, b), _)| a != b).map(|(_, line)| line);
                    Some(format!("{name}:{}", line.unwrap_or(0)))
                }
                Err(panic) => Some(format!("{name}: {}", panic_text(panic.as_ref()))),
            }
        })
    }
}

/// Who noticed a mistake.
#[derive(Clone, Debug)]
pub struct Verdict {
    /// The mistake.
    pub mutant: Mutant,
    /// The first golden script that went otherwise.
    pub script: Option<String>,
    /// The walk that broke a promise, counted from 1, and the promise.
    pub walk: Option<(u64, String)>,
}

impl Verdict {
    /// Whether somebody noticed, or nobody can.
    pub fn holds(&self) -> bool {
        let noticed = self.script.is_some() || self.walk.is_some();
        noticed != equivalent(self.mutant).is_some()
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:?}: {}", self.mutant, self.mutant.text())?;
        if let Some(script) = &self.script {
            writeln!(f, "    golden script {script}")?;
        }
        if let Some((walk, promise)) = &self.walk {
            writeln!(f, "    walk {walk}: {promise}")?;
        }
        let noticed = self.script.is_some() || self.walk.is_some();
        match (noticed, equivalent(self.mutant)) {
            (true, None) => Ok(()),
            (false, Some(why)) => writeln!(f, "    equivalent: {why}"),
            (false, None) => writeln!(f, "    SURVIVED"),
            (true, Some(_)) => writeln!(f, "    NOTICED, though it is held for equivalent"),
        }
    }
}

/// Why a mistake makes no difference, if it makes none.
fn equivalent(mutant: Mutant) -> Option<&'static str> {
    match mutant {
        Mutant::VoteBesideLeader => Some(
            "a leader was elected by a quorum whose votes are given and durable; one more vote in that \
             term, of a replica that gave none, makes no second quorum of a configuration that \
             overlaps",
        ),
        Mutant::SuspectStaleHeard => Some(
            "what an earlier life acknowledged in this term lies at or below the index that the \
             suspect replica must hold, counts for nothing while the suspicion is open, and is heard \
             afterwards anyway; its rounds are older than the one that is waited for",
        ),
        _ => None,
    }
}

/// Try one mistake.
pub fn judge(mutant: Mutant, scripts: &Scripts, config: GateConfig) -> Verdict {
    let mutants = Mutants::only(mutant);
    let script = scripts.noticed(mutants);
    let walks = match script {
        Some(_) => config.walks,
        None if equivalent(mutant).is_some() => config.walks_alone.min(EQUIVALENT_WALKS_MAX),
        None => config.walks_alone,
    };
    let report = explore(ExploreConfig { walks, mutants, ..ExploreConfig::SHORT });
    let walk = report.finding.map(|finding| (report.walks + 1, first_line(&finding.what)));
    Verdict { mutant, script, walk }
}

/// The first of it, short enough for a list.
fn first_line(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default();
    line.chars().take(140).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_mistake_is_noticed_and_none_where_there_is_none() {
        let scripts = Scripts::read().unwrap();
        assert_eq!(scripts.noticed(Mutants::none()), None);
        let config = GateConfig { walks: 0, walks_alone: 1000 };
        for mutant in Mutant::ALL {
            let verdict = judge(*mutant, &scripts, config);
            assert!(verdict.holds(), "{verdict}");
        }
    }
}
