//! A case as a file.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use trine_core::cluster::Geometry;

use super::Case;
use super::text::{Names, moments, read_moments};
use crate::faults::FaultKind;
use crate::faults::strikes::Struck;
use crate::faults::swarm::Swarm;
use crate::world::GEOMETRY;

/// The version of the format: raised when an old reader would misunderstand a new file.
const FORMAT: u32 = 1;

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    format: u32,
    #[serde(default)]
    story: String,
    #[serde(default)]
    fingerprint: String,
    seed: String,
    #[serde(default)]
    own_streams: bool,
    keys: Vec<String>,
    #[serde(default)]
    episodes: Vec<String>,
    operations: Vec<Vec<String>>,
    #[serde(default, skip_serializing_if = "Disk::is_usual")]
    geometry: Disk,
    world: Swarm,
    #[serde(default)]
    strikes: BTreeMap<String, BTreeMap<String, String>>,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Disk {
    capacity: u64,
    journal: u64,
    journal_piece: u64,
    segment: u64,
    tree_block: u32,
}

impl Disk {
    fn is_usual(&self) -> bool {
        *self == Self::default()
    }
}

impl From<Geometry> for Disk {
    fn from(geometry: Geometry) -> Self {
        let Geometry { capacity, journal, journal_piece, segment, tree_block } = geometry;
        Self { capacity, journal, journal_piece, segment, tree_block }
    }
}

impl From<Disk> for Geometry {
    fn from(disk: Disk) -> Self {
        let Disk { capacity, journal, journal_piece, segment, tree_block } = disk;
        Self { capacity, journal, journal_piece, segment, tree_block }
    }
}

impl Default for Disk {
    fn default() -> Self {
        GEOMETRY.into()
    }
}

impl Case {
    fn names(&self) -> Names<'_> {
        Names {
            stores: self.swarm.stores_max(),
            gateways: self.swarm.gateways,
            // The last one is the operator.
            clients: self.swarm.clients + 1,
            keys: &self.keys,
        }
    }

    /// As the text of a file.
    ///
    /// # Panics
    /// If it cannot be said in TOML: a number of the swarm is larger than 2^63.
    pub fn write(&self) -> String {
        let names = self.names();
        let lines = |list: &Vec<_>| list.iter().map(|planned| names.planned(planned)).collect();
        let mut strikes = BTreeMap::<String, BTreeMap<String, String>>::new();
        for ((kind, place), set) in &self.struck {
            let places = strikes.entry(kind.name().to_owned()).or_default();
            places.insert(names.place(*place), moments(set));
        }
        let file = File {
            format: FORMAT,
            story: self.story.clone(),
            fingerprint: self.fingerprint.clone(),
            seed: format!("{:#x}", self.seed),
            own_streams: self.own_streams,
            keys: self.keys.clone(),
            episodes: self.episodes.iter().map(|episode| names.episode(episode)).collect(),
            operations: self.operations.iter().map(lines).collect(),
            geometry: self.geometry.into(),
            world: self.swarm.clone(),
            strikes,
        };
        let text = toml::to_string_pretty(&file).expect("numbers of a swarm are below 2^63");
        in_one_line(&text)
    }

    /// Read a file.
    ///
    /// # Errors
    /// Says what is wrong, with the line or its text.
    pub fn read(text: &str) -> Result<Self, String> {
        #[derive(Deserialize)]
        struct Version {
            format: u32,
        }
        let Version { format } = toml::from_str(text).map_err(|wrong| wrong.to_string())?;
        if format != FORMAT {
            return Err(format!("format {format} is not known: this reads {FORMAT}"));
        }
        let file: File = toml::from_str(text).map_err(|wrong| wrong.to_string())?;
        let digits = file.seed.strip_prefix("0x").ok_or("seed: it begins with 0x")?;
        let seed = u64::from_str_radix(digits, 16).map_err(|wrong| format!("seed: {wrong}"))?;
        let mut case = Self {
            story: file.story,
            fingerprint: file.fingerprint,
            seed,
            own_streams: file.own_streams,
            swarm: file.world,
            geometry: file.geometry.into(),
            keys: file.keys,
            episodes: Vec::new(),
            operations: vec![Vec::new(); file.operations.len()],
            struck: Struck::new(),
        };
        // Names of machines mean something only in a world that can be.
        case.check()?;
        let names = case.names();
        let episodes = file.episodes.iter().map(|line| names.read_episode(line));
        let episodes = episodes.collect::<Result<_, _>>()?;
        let operations = file.operations.iter().map(|lines| {
            lines.iter().map(|line| names.read_planned(line)).collect::<Result<Vec<_>, _>>()
        });
        let operations = operations.collect::<Result<_, _>>()?;
        let mut struck = Struck::new();
        for (kind, places) in &file.strikes {
            let named =
                FaultKind::named(kind).ok_or_else(|| format!("{kind:?} is no kind of fault"))?;
            for (place, set) in places {
                let read = || Ok((names.read_place(place)?, read_moments(set)?));
                let (place, set) =
                    read().map_err(|wrong: String| format!("strikes of {kind:?}: {wrong}"))?;
                struck.insert((named, place), set);
            }
        }
        (case.episodes, case.operations, case.struck) = (episodes, operations, struck);
        case.check()?;
        Ok(case)
    }
}

/// Lists of numbers, which the writer spreads over lines.
fn in_one_line(text: &str) -> String {
    let mut lines: Vec<String> = Vec::new();
    for line in text.lines() {
        let item = line.trim();
        let is_number = item.strip_suffix(',').is_some_and(|item| item.parse::<u64>().is_ok());
        let is_list = item == "]" || item == "]," || is_number || item == "[";
        let open = lines.last_mut().filter(|last| {
            let of_numbers = last.split_once(" = [").is_some_and(|(_, items)| !items.contains('"'));
            of_numbers && last.matches('[').count() > last.matches(']').count()
        });
        match open {
            Some(last) if is_list => {
                if item.starts_with(']') {
                    let end = last.trim_end_matches([' ', ',']).len();
                    last.truncate(end);
                }
                last.push_str(item);
                if item.ends_with(',') {
                    last.push(' ');
                }
            }
            _ => lines.push(line.to_owned()),
        }
    }
    lines.iter().flat_map(|line| [line.trim_end(), "\n"]).collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn lists_of_numbers_stand_in_a_line() {
        let text = "near = [\n    1,\n    2,\n]\nkeys = [\n    \"a\",\n]\nfar = [\n    [\n        1,\n        2,\n    \
                    ],\n    [\n        3,\n        4,\n    ],\n]\nx = 1\n";
        let expected = "near = [1, 2]\nkeys = [\n    \"a\",\n]\nfar = [[1, 2], [3, 4]]\nx = 1\n";
        assert_eq!(super::in_one_line(text), expected);
    }
}
