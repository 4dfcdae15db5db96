//! Raw settings: words, each with the place that it came from, later layers over earlier ones.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::{Cli, ConfigError, NodeCli, TlsCli, name_of};

/// Everything that can be set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Setting {
    Listen,
    InsecureListen,
    Tls,
    TlsDirectory,
    TlsNames,
    TlsCert,
    TlsKey,
    Domains,
    Data,
    Region,
    RootAccessKey,
    RootSecretKey,
    Capacity,
    Log,
    Cluster,
    Node,
    InsecurePeerListen,
    Heartbeat,
    ElectionMin,
    ElectionMax,
    ScrubEvery,
    RepairRate,
    LevelMax,
    LinkKeepalive,
    LinkSilence,
    LinkDial,
    BodyBudget,
    DocumentBudget,
    ChunkBudget,
    Memtable,
    BlockCache,
    EntryCache,
    Requests,
    Connections,
}

/// A way of running.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Three zones in one process.
    AllInOne,
    /// One node of a cluster of several processes.
    Node,
}

impl Setting {
    pub(super) const ALL: [Self; 34] = [
        Self::Listen,
        Self::InsecureListen,
        Self::Tls,
        Self::TlsDirectory,
        Self::TlsNames,
        Self::TlsCert,
        Self::TlsKey,
        Self::Domains,
        Self::Data,
        Self::Region,
        Self::RootAccessKey,
        Self::RootSecretKey,
        Self::Capacity,
        Self::Log,
        Self::Cluster,
        Self::Node,
        Self::InsecurePeerListen,
        Self::Heartbeat,
        Self::ElectionMin,
        Self::ElectionMax,
        Self::ScrubEvery,
        Self::RepairRate,
        Self::LevelMax,
        Self::LinkKeepalive,
        Self::LinkSilence,
        Self::LinkDial,
        Self::BodyBudget,
        Self::DocumentBudget,
        Self::ChunkBudget,
        Self::Memtable,
        Self::BlockCache,
        Self::EntryCache,
        Self::Requests,
        Self::Connections,
    ];

    /// The key in the file.
    const fn key(self) -> &'static str {
        match self {
            Self::Listen => "listen",
            Self::InsecureListen => "insecure_listen",
            Self::Tls => "tls",
            Self::TlsDirectory => "tls_directory",
            Self::TlsNames => "tls_names",
            Self::TlsCert => "tls_cert",
            Self::TlsKey => "tls_key",
            Self::Domains => "domains",
            Self::Data => "data",
            Self::Region => "region",
            Self::RootAccessKey => "root_access_key",
            Self::RootSecretKey => "root_secret_key",
            Self::Capacity => "capacity",
            Self::Log => "log",
            Self::Cluster => "cluster",
            Self::Node => "node",
            Self::InsecurePeerListen => "insecure_peer_listen",
            Self::Heartbeat => "heartbeat",
            Self::ElectionMin => "election_min",
            Self::ElectionMax => "election_max",
            Self::ScrubEvery => "scrub_every",
            Self::RepairRate => "repair_rate",
            Self::LevelMax => "level_max",
            Self::LinkKeepalive => "link_keepalive",
            Self::LinkSilence => "link_silence",
            Self::LinkDial => "link_dial",
            Self::BodyBudget => "body_budget",
            Self::DocumentBudget => "document_budget",
            Self::ChunkBudget => "chunk_budget",
            Self::Memtable => "memtable",
            Self::BlockCache => "block_cache",
            Self::EntryCache => "entry_cache",
            Self::Requests => "requests_max",
            Self::Connections => "connections_max",
        }
    }

    /// Whether it means something in this way of running.
    const fn serves(self, mode: Mode) -> bool {
        match self {
            Self::Listen => matches!(mode, Mode::AllInOne),
            Self::Cluster
            | Self::Node
            | Self::InsecurePeerListen
            | Self::LinkKeepalive
            | Self::LinkSilence
            | Self::LinkDial => matches!(mode, Mode::Node),
            _ => true,
        }
    }

    /// The variable in the environment.
    fn variable(self) -> String {
        format!("{PREFIX}{}", self.key().to_ascii_uppercase())
    }

    /// What holds if nobody says anything; keys, cluster, node, domains and the parts of TLS have no default, limits another in each way of running.
    const fn default(self) -> &'static str {
        match self {
            Self::Listen => "127.0.0.1:9000",
            Self::InsecureListen | Self::InsecurePeerListen | Self::Tls => "false",
            Self::Data => "./trine-data",
            Self::Region => "us-east-1",
            Self::RootAccessKey | Self::RootSecretKey | Self::Cluster | Self::Node => "",
            Self::TlsDirectory | Self::TlsNames | Self::TlsCert | Self::TlsKey => "",
            Self::Domains => "",
            // What this version speaks.
            Self::LevelMax => "",
            // Those of `Limits`, which depend on the way of running.
            Self::BodyBudget
            | Self::DocumentBudget
            | Self::ChunkBudget
            | Self::Memtable
            | Self::BlockCache
            | Self::EntryCache
            | Self::Requests
            | Self::Connections => "",
            // Those of `StoreTiming::DEFAULT` and `LinkTiming::DEFAULT`, which a test compares.
            Self::Heartbeat => "25ms",
            Self::ElectionMin => "150ms",
            Self::ElectionMax => "3s",
            Self::ScrubEvery => "7d",
            Self::RepairRate => "256MiB",
            Self::LinkKeepalive => "50ms",
            Self::LinkSilence => "300ms",
            Self::LinkDial => "500ms",
            Self::Capacity => "1TiB",
            Self::Log => "info",
        }
    }
}

/// What all our variables begin with.
const PREFIX: &str = "TRINE_";

/// The key in the file that lists the nodes of a cluster; it is no setting.
pub(super) const NODES: &str = "nodes";

/// The variable that names the file.
const CONFIG_VARIABLE: &str = "TRINE_CONFIG";

/// A raw value and where it was said.
#[derive(Clone, Debug)]
pub(super) struct Word {
    text: String,
    place: String,
}

impl Word {
    /// The value, checked.
    pub(super) fn parse<T>(
        &self,
        parse: impl FnOnce(&str) -> Option<T>,
        expected: &'static str,
    ) -> Result<T, ConfigError> {
        let value = Some(self.text.clone());
        parse(&self.text).ok_or(ConfigError::Invalid { what: self.place(), value, expected })
    }

    /// The value, checked, and not repeated in an error.
    pub(super) fn parse_secret<T>(
        &self,
        parse: impl FnOnce(&str) -> Option<T>,
        expected: &'static str,
    ) -> Result<T, ConfigError> {
        let invalid = ConfigError::Invalid { what: self.place(), value: None, expected };
        parse(&self.text).ok_or(invalid)
    }

    /// Where it was said, for errors.
    pub(super) fn place(&self) -> String {
        self.place.clone()
    }
}

/// What was said, by setting; the file's words and the others apart, since the environment is read
/// before it is known which file to read.
#[derive(Debug, Default)]
pub(super) struct Layers {
    file: BTreeMap<Setting, Word>,
    environment: BTreeMap<Setting, Word>,
    flags: BTreeMap<Setting, Word>,
}

impl Layers {
    /// Take the environment's words; the file that it names, if it does.
    pub(super) fn environment(
        &mut self,
        variables: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Result<Option<PathBuf>, ConfigError> {
        let mut file = None;
        for (name, value) in variables {
            let Some(name) = name.to_str().filter(|name| name.starts_with(PREFIX)) else {
                continue;
            };
            if name == CONFIG_VARIABLE {
                file = Some(PathBuf::from(value));
                continue;
            }
            let place = format!("environment variable {name}");
            let Some(setting) = Setting::ALL.into_iter().find(|s| s.variable() == name) else {
                let known = Setting::ALL.map(Setting::variable).into_iter();
                return Err(unknown(place, name, known.chain([CONFIG_VARIABLE.to_owned()])));
            };
            let text = value.into_string().map_err(|_| ConfigError::Invalid {
                what: place.clone(),
                value: None,
                expected: "valid UTF-8",
            })?;
            self.environment.insert(setting, Word { text, place });
        }
        Ok(file)
    }

    /// Take a file's words.
    pub(super) fn file(&mut self, path: &Path, text: &str) -> Result<(), ConfigError> {
        let table = text.parse::<toml::Table>().map_err(|error| ConfigError::Syntax {
            path: path.to_owned(),
            error: super::syntax(text, &error),
        })?;
        for (key, value) in table {
            let place = format!("{}: {key}", name_of(path));
            if key == NODES {
                continue;
            }
            let Some(setting) = Setting::ALL.into_iter().find(|s| s.key() == key) else {
                let known = Setting::ALL.map(|setting| setting.key().to_owned()).into_iter();
                return Err(unknown(place, &key, known.chain([NODES.to_owned()])));
            };
            let text = match value {
                toml::Value::String(text) => text,
                toml::Value::Boolean(yes) => yes.to_string(),
                _ => {
                    return Err(ConfigError::Invalid {
                        what: place,
                        value: None,
                        expected: "a string in quotes (or true or false)",
                    });
                }
            };
            self.file.insert(setting, Word { text, place });
        }
        Ok(())
    }

    /// Take the words of an all-in-one process's command line.
    pub(super) fn flags(&mut self, cli: Cli) {
        let Cli { config: _, data, listen, insecure_listen, tls, domains, region, .. } = cli;
        self.tls_flags(tls);
        self.take_flags([
            (Setting::Data, "--data", data),
            (Setting::Listen, "--listen", listen),
            (Setting::InsecureListen, "--insecure-listen", yes(insecure_listen)),
            (Setting::Domains, "--domains", domains),
            (Setting::Region, "--region", region),
            (Setting::Capacity, "--capacity", cli.capacity),
            (Setting::Log, "--log", cli.log),
        ]);
    }

    /// Take the words of a node's command line.
    pub(super) fn node_flags(&mut self, cli: NodeCli) {
        let NodeCli { config: _, node, data, insecure_listen, insecure_peer_listen, .. } = cli;
        self.tls_flags(cli.tls);
        self.take_flags([
            (Setting::Node, "--node", node),
            (Setting::Data, "--data", data),
            (Setting::InsecureListen, "--insecure-listen", yes(insecure_listen)),
            (Setting::InsecurePeerListen, "--insecure-peer-listen", yes(insecure_peer_listen)),
            (Setting::Domains, "--domains", cli.domains),
            (Setting::Region, "--region", cli.region),
            (Setting::Capacity, "--capacity", cli.capacity),
            (Setting::Log, "--log", cli.log),
        ]);
    }

    fn tls_flags(&mut self, cli: TlsCli) {
        let TlsCli { tls, tls_directory, tls_names, tls_cert, tls_key } = cli;
        self.take_flags([
            (Setting::Tls, "--tls", yes(tls)),
            (Setting::TlsDirectory, "--tls-directory", tls_directory),
            (Setting::TlsNames, "--tls-names", tls_names),
            (Setting::TlsCert, "--tls-cert", tls_cert),
            (Setting::TlsKey, "--tls-key", tls_key),
        ]);
    }

    fn take_flags<const N: usize>(&mut self, flags: [(Setting, &str, Option<String>); N]) {
        for (setting, flag, text) in flags {
            if let Some(text) = text {
                self.flags.insert(setting, Word { text, place: flag.to_owned() });
            }
        }
    }

    /// Refuse settings that mean nothing in this way of running.
    pub(super) fn only_for(&self, mode: Mode) -> Result<(), ConfigError> {
        let strange = Setting::ALL.into_iter().filter(|setting| !setting.serves(mode));
        match strange.filter_map(|setting| self.get(setting)).next() {
            None => Ok(()),
            Some(word) => Err(ConfigError::WrongMode { what: word.place(), mode }),
        }
    }

    /// The word that counts, if one was said.
    pub(super) fn get(&self, setting: Setting) -> Option<&Word> {
        [&self.flags, &self.environment, &self.file]
            .into_iter()
            .find_map(|layer| layer.get(&setting))
    }

    /// The word that counts, if it was said elsewhere than in the file.
    pub(super) fn over_file(&self, setting: Setting) -> Option<&Word> {
        [&self.flags, &self.environment].into_iter().find_map(|layer| layer.get(&setting))
    }

    /// The word that counts, or the default.
    pub(super) fn word(&self, setting: Setting) -> Word {
        let default = || Word {
            text: setting.default().to_owned(),
            place: format!("the default of {}", setting.key()),
        };
        self.get(setting).cloned().unwrap_or_else(default)
    }
}

/// What a switch says if it is there.
fn yes(switch: bool) -> Option<String> {
    switch.then(|| "true".to_owned())
}

fn unknown(what: String, name: &str, known: impl IntoIterator<Item = String>) -> ConfigError {
    let known: Vec<String> = known.into_iter().collect();
    let nearest = known
        .iter()
        .map(|candidate| (distance(name, candidate), candidate))
        .min()
        .filter(|(distance, candidate)| *distance <= candidate.len() / 3)
        .map(|(_, candidate)| candidate.clone());
    ConfigError::Unknown { what, nearest, known }
}

/// Levenshtein's distance, in bytes.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, a) in a.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in b.bytes().enumerate() {
            let changed = diagonal + usize::from(a != b);
            diagonal = row[j + 1];
            row[j + 1] = changed.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}
