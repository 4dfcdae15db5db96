//! Settings: raw words from a file, the environment and flags become one checked [`Config`].
//!
//! TOML file < `TRINE_*` environment < flags. A key or variable that does not exist is an error that
//! names it and the nearest one that does.

use std::ffi::OsString;
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use trine_core::cluster::{Geometry, StoreTiming};
use trine_core::disk::SECTOR;
use trine_core::level::{Level, Levels};
use trine_core::time::Duration;
use trine_s3::Domains;

use crate::tls::TlsSource;
use crate::transport::LinkTiming;

mod cli;
mod keys;
mod layers;
mod limits;
mod nodes;
mod plan;
mod tls;

pub use cli::{
    AdminCli, AdminCommand, Arguments, Cli, Command, LevelCommand, NodeCli, NodeCommand,
    StoreCommand, TlsCli, ZoneCommand,
};
pub use keys::RootKey;
pub use layers::Mode;
use layers::{Layers, Setting, Word};
pub use limits::Limits;
pub use plan::{NodePlan, NodeSpec, StoreSpec, ZONES};
pub(crate) use plan::{is_name, is_own_file, parse_address, parse_zone, resolved};

/// The smallest capacity of a store: room for a journal, a tree and some segments.
pub const CAPACITY_MIN: u64 = 1 << 30;

/// The largest: more segments than a disk may have (docs/disk-format.md).
pub const CAPACITY_MAX: u64 = 64 << 40;

/// The journal takes this part of the capacity, up to the production size.
const JOURNAL_SHARE: u64 = 4;

/// What a process is to do, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Where HTTP listens.
    pub listen: SocketAddr,
    /// Where the certificate comes from, if it listens for HTTPS.
    pub tls: Option<TlsSource>,
    /// The directory that holds everything.
    pub data: PathBuf,
    /// Base domains, under which a host names a bucket.
    pub domains: Domains,
    /// What clients are told, and may sign for.
    pub region: String,
    /// The root key pair, if it is set: else one is kept in the data directory.
    pub root_key: Option<RootKey>,
    /// Where its secret key was said.
    pub secret: SecretPlace,
    /// The layout of stores that are formatted from now on.
    pub geometry: Geometry,
    /// Filter of the log, as `tracing-subscriber` reads it.
    pub log: String,
    /// Times of stores.
    pub timing: StoreTiming,
    /// Limits of memory.
    pub limits: Limits,
    /// The feature levels that this process speaks: all of this version, unless it is told to stand for an older one.
    pub levels: Levels,
    /// The cluster of several processes that this one belongs to, if it does; else it has all three
    /// zones in itself.
    pub node: Option<NodePlan>,
}

/// Where the root secret key is, for those who look for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecretPlace {
    /// In the data directory.
    Kept,
    /// In `TRINE_ROOT_SECRET_KEY`.
    Environment,
    /// In the configuration file: `trine.toml: root_secret_key`.
    File(String),
}

impl Config {
    /// Resolve what was said to an all-in-one process on the command line, in `environment`, and in
    /// the file that one of them names.
    ///
    /// # Errors
    /// [`ConfigError`], for the operator.
    pub fn resolve(
        cli: Cli,
        environment: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Result<Self, ConfigError> {
        let mut layers = Layers::default();
        let file_in_environment = layers.environment(environment)?;
        if let Some(path) = cli.config.clone().or(file_in_environment) {
            let text = read_file(&path)?;
            layers.file(&path, &text)?;
            if lists_nodes(&text) {
                return Err(ConfigError::NodesWithoutNode { path });
            }
        }
        layers.flags(cli);
        layers.only_for(Mode::AllInOne)?;
        let listen = layers.word(Setting::Listen).parse(
            |text| text.parse::<SocketAddr>().ok(),
            "an address and a port, such as 127.0.0.1:9000",
        )?;
        let data = layers.word(Setting::Data).parse(parse_directory, "a directory")?;
        Self::from_layers(&layers, listen, data, None)
    }

    /// Resolve what was said to one node of a cluster, likewise.
    ///
    /// # Errors
    /// [`ConfigError`], for the operator.
    pub fn resolve_node(
        cli: NodeCli,
        environment: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Result<Self, ConfigError> {
        let mut layers = Layers::default();
        let file_in_environment = layers.environment(environment)?;
        let Some(path) = cli.config.clone().or(file_in_environment) else {
            return Err(ConfigError::NoFile);
        };
        let text = read_file(&path)?;
        layers.file(&path, &text)?;
        layers.node_flags(cli);
        layers.only_for(Mode::Node)?;
        let plan = node_plan(&layers, &path, &text)?;
        let own = plan.own();
        let listen = own.s3;
        let data = match (layers.over_file(Setting::Data), own.data.clone()) {
            (None, Some(data)) => data,
            _ => layers.word(Setting::Data).parse(parse_directory, "a directory")?,
        };
        let config = Self::from_layers(&layers, listen, data, Some(plan))?;
        if config.root_key.is_none() {
            return Err(ConfigError::NoRootKey { path });
        }
        Ok(config)
    }

    fn from_layers(
        layers: &Layers,
        listen: SocketAddr,
        data: PathBuf,
        node: Option<NodePlan>,
    ) -> Result<Self, ConfigError> {
        let domains = domains(layers)?;
        let tls = tls::source(layers, &data, &domains)?;
        let insecure = tls.is_none() && !listen.ip().is_loopback();
        if insecure && !switch(layers, Setting::InsecureListen)? {
            return Err(ConfigError::InsecureListen { listen });
        }
        let region = layers.word(Setting::Region).parse(
            |text| is_region(text).then(|| text.to_owned()),
            "a name of lower-case letters, digits and hyphens, such as us-east-1",
        )?;
        let geometry = layers
            .word(Setting::Capacity)
            .parse(|text| parse_capacity(text).map(geometry), CAPACITY_EXPECTED)?;
        let root_key =
            match (layers.get(Setting::RootAccessKey), layers.get(Setting::RootSecretKey)) {
                (None, None) => None,
                (Some(access), Some(secret)) => Some(root_key(access, secret)?),
                (Some(word), None) | (None, Some(word)) => {
                    return Err(ConfigError::HalfAKey { which: word.place() });
                }
            };
        let secret = match layers.get(Setting::RootSecretKey) {
            None => SecretPlace::Kept,
            Some(_) if layers.over_file(Setting::RootSecretKey).is_some() => {
                SecretPlace::Environment
            }
            Some(word) => SecretPlace::File(word.place()),
        };
        let log = layers.word(Setting::Log).parse(
            |text| {
                let filter = text.parse::<tracing_subscriber::filter::EnvFilter>();
                filter.is_ok().then(|| text.to_owned())
            },
            "a log filter, such as info or info,trine_node=debug",
        )?;
        let timing = store_timing(layers)?;
        let limits = if node.is_some() { Limits::NODE } else { Limits::ALL_IN_ONE };
        let limits = limits.with(layers)?;
        Ok(Self {
            listen,
            tls,
            data,
            domains,
            region,
            root_key,
            secret,
            geometry,
            log,
            timing,
            limits,
            levels: levels(layers)?,
            node,
        })
    }
}

/// The cluster that a file describes, and our place in it.
fn node_plan(layers: &Layers, path: &Path, text: &str) -> Result<NodePlan, ConfigError> {
    let nodes = plan::nodes(path, text)?;
    let node = layers.get(Setting::Node);
    let name = match node {
        Some(word) => Some((word.parse(|text| Some(text.to_owned()), "a name")?, word.place())),
        None => None,
    };
    let me =
        plan::choose(path, &nodes, name.as_ref().map(|(name, at)| (name.as_str(), at.clone())))?;
    let Some(cluster) = layers.get(Setting::Cluster) else {
        return Err(ConfigError::NoCluster { path: path.to_owned() });
    };
    let cluster = cluster.parse(
        plan::parse_cluster,
        "32 hexadecimal digits, the same on all nodes; `trine node --new-cluster-id` makes some",
    )?;
    let insecure_peer_listen = switch(layers, Setting::InsecurePeerListen)?;
    let links = link_timing(layers)?;
    let stores = store_timing(layers)?;
    let plan = NodePlan { cluster, me, nodes, links, stores, insecure_peer_listen };
    let listen = plan.own().peer;
    if !listen.ip().is_loopback() && !insecure_peer_listen {
        return Err(ConfigError::InsecurePeerListen { listen });
    }
    Ok(plan)
}

fn link_timing(layers: &Layers) -> Result<LinkTiming, ConfigError> {
    let timing = LinkTiming {
        keepalive: duration(layers, Setting::LinkKeepalive)?,
        silence: duration(layers, Setting::LinkSilence)?,
        dial: duration(layers, Setting::LinkDial)?,
        ..LinkTiming::DEFAULT
    };
    let silence = layers.word(Setting::LinkSilence);
    if timing.silence < timing.keepalive * 3 {
        let expected = "at least three times link_keepalive: one lost packet is no dead peer";
        return silence.parse(|_| None, expected);
    }
    Ok(timing)
}

fn store_timing(layers: &Layers) -> Result<StoreTiming, ConfigError> {
    let timing = StoreTiming {
        heartbeat: duration(layers, Setting::Heartbeat)?,
        election_min: duration(layers, Setting::ElectionMin)?,
        election_max: duration(layers, Setting::ElectionMax)?,
        scrub_every: layers.word(Setting::ScrubEvery).parse(plan::parse_period, PERIOD_EXPECTED)?,
        repair_bytes_per_second: layers.word(Setting::RepairRate).parse(
            |text| parse_bytes(text).filter(|bytes| *bytes > 0),
            "bytes per second, a whole number with a unit of MiB, GiB or TiB",
        )?,
        ..StoreTiming::DEFAULT
    };
    if timing.election_min < timing.heartbeat * 3 {
        let expected = "at least three times heartbeat: one late heartbeat is no dead leader";
        return layers.word(Setting::ElectionMin).parse(|_| None, expected);
    }
    if timing.election_max < timing.election_min {
        return layers.word(Setting::ElectionMax).parse(|_| None, "at least election_min");
    }
    Ok(timing)
}

/// How a period is said.
const PERIOD_EXPECTED: &str =
    "a whole number with a unit of s, h or d, such as 12h or 7d, up to 365d";

fn duration(layers: &Layers, setting: Setting) -> Result<Duration, ConfigError> {
    let expected = "a whole number with a unit, such as 50ms or 2s, up to 60s";
    layers.word(setting).parse(plan::parse_duration, expected)
}

fn domains(layers: &Layers) -> Result<Domains, ConfigError> {
    let Some(word) = layers.get(Setting::Domains) else {
        return Ok(Domains::default());
    };
    word.parse(
        |text| Domains::parse(text.split(',').map(str::trim)).ok(),
        "host names without ports, with commas between them, none within another",
    )
}

fn levels(layers: &Layers) -> Result<Levels, ConfigError> {
    let Some(word) = layers.get(Setting::LevelMax) else { return Ok(Levels::OWN) };
    let max = |text: &str| text.parse().ok().map(Level).filter(|max| Levels::OWN.contains(*max));
    let max = word.parse(max, "a feature level that this version of Trine speaks")?;
    Ok(Levels { max, ..Levels::OWN })
}

fn switch(layers: &Layers, setting: Setting) -> Result<bool, ConfigError> {
    layers.word(setting).parse(|text| text.parse::<bool>().ok(), "true or false")
}

fn read_file(path: &Path) -> Result<String, ConfigError> {
    std::fs::read_to_string(path)
        .map_err(|error| ConfigError::Unreadable { path: path.to_owned(), error })
}

/// Whether a file describes a cluster of several processes. What is wrong with it otherwise is told
/// by others.
fn lists_nodes(text: &str) -> bool {
    text.parse::<toml::Table>().is_ok_and(|table| table.contains_key(layers::NODES))
}

fn parse_directory(text: &str) -> Option<PathBuf> {
    (!text.is_empty()).then(|| PathBuf::from(text))
}

/// The layout of a disk of `capacity` bytes: as in production, but for a journal in proportion.
pub(crate) fn geometry(capacity: u64) -> Geometry {
    let production = Geometry::PRODUCTION;
    let journal = (capacity / JOURNAL_SHARE).min(production.journal);
    Geometry {
        capacity: capacity - capacity % SECTOR,
        journal: journal - journal % production.journal_piece,
        ..production
    }
}

fn root_key(access: &Word, secret: &Word) -> Result<RootKey, ConfigError> {
    let access = access.parse(
        |text| RootKey::is_access_key(text).then(|| text.to_owned()),
        "3 to 128 letters, digits, and any of . _ -",
    )?;
    let secret = secret.parse_secret(
        |text| RootKey::is_secret_key(text).then(|| text.to_owned()),
        "8 to 128 printable ASCII characters without spaces",
    )?;
    Ok(RootKey { access, secret })
}

fn is_region(text: &str) -> bool {
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    !text.is_empty() && text.len() <= 64 && text.chars().all(fits)
}

pub(crate) const CAPACITY_EXPECTED: &str = "from 1GiB to 64TiB, a whole number with a unit: MiB, GiB or TiB (larger disks take several stores)";

pub(crate) fn parse_capacity(text: &str) -> Option<u64> {
    parse_bytes(text).filter(|bytes| (CAPACITY_MIN..=CAPACITY_MAX).contains(bytes))
}

/// `10GiB`, `1TiB`, `512MiB`.
fn parse_bytes(text: &str) -> Option<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let (count, unit) = text.split_at(digits);
    let unit = match unit.trim() {
        "MiB" => 1_u64 << 20,
        "GiB" => 1 << 30,
        "TiB" => 1 << 40,
        _ => return None,
    };
    count.parse::<u64>().ok()?.checked_mul(unit)
}

/// Why settings cannot be used, for the operator.
#[derive(Debug)]
pub enum ConfigError {
    /// The file cannot be read.
    Unreadable {
        /// Which.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// The file is not TOML.
    Syntax {
        /// Which.
        path: PathBuf,
        /// Where, and why.
        error: String,
    },
    /// A key or variable that does not exist.
    Unknown {
        /// Where and what: `trine.toml: listne`.
        what: String,
        /// The one that was meant, perhaps.
        nearest: Option<String>,
        /// All there are.
        known: Vec<String>,
    },
    /// A value that does not parse.
    Invalid {
        /// Where and what: `environment variable TRINE_LISTEN`.
        what: String,
        /// What it said; `None` for a secret.
        value: Option<String>,
        /// What would do.
        expected: &'static str,
    },
    /// One half of the root key pair without the other.
    HalfAKey {
        /// The half that is there.
        which: String,
    },
    /// An address that others can reach, without TLS and without the word that allows it.
    InsecureListen {
        /// Which.
        listen: SocketAddr,
    },
    /// A certificate without its key, or a key without its certificate.
    HalfACertificate {
        /// The half that is there.
        which: String,
    },
    /// A certificate from files and a private CA at once.
    TlsOfTwoKinds {
        /// What does not fit.
        what: String,
    },
    /// Something of the private CA, but no word that it is wanted.
    TlsNotOn {
        /// Where and what.
        what: String,
    },
    /// The same, of peers.
    InsecurePeerListen {
        /// Which.
        listen: SocketAddr,
    },
    /// A setting of the other way of running.
    WrongMode {
        /// Where and what.
        what: String,
        /// The way that it is not for.
        mode: Mode,
    },
    /// A node without a file.
    NoFile,
    /// A file of several processes, given to one that is all of them.
    NodesWithoutNode {
        /// Which.
        path: PathBuf,
    },
    /// A node whose cluster has no id.
    NoCluster {
        /// The file that should have it.
        path: PathBuf,
    },
    /// A node without the key pair.
    NoRootKey {
        /// The file that could have it.
        path: PathBuf,
    },
    /// The list of nodes contradicts itself.
    Cluster {
        /// The file.
        path: PathBuf,
        /// What is wrong, and what to do.
        text: String,
    },
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable { path, error } => {
                write!(f, "cannot read the configuration file {}: {error}", path.display())
            }
            Self::Syntax { path, error } => {
                write!(f, "the configuration file {} is not TOML: {error}", path.display())
            }
            Self::Unknown { what, nearest, known } => {
                write!(f, "{what} is not known")?;
                if let Some(nearest) = nearest {
                    write!(f, ": did you mean {nearest}?")?;
                }
                write!(f, " (there are: {})", known.join(", "))
            }
            Self::Invalid { what, value: Some(value), expected } => {
                write!(f, "{what}: {value:?} is not valid; it must be {expected}")
            }
            Self::Invalid { what, value: None, expected } => {
                write!(f, "{what}: not valid; it must be {expected}")
            }
            Self::HalfAKey { which } => write!(
                f,
                "{which} is only half of the root key pair: set both root_access_key and \
                 root_secret_key, or neither"
            ),
            Self::InsecureListen { listen } => write!(
                f,
                "refusing to listen on {listen}: it can be reached from outside, and plain HTTP \
                 shows everyone what it carries. Give it a certificate (--tls-cert and --tls-key, or \
                 --tls for a trial), listen on 127.0.0.1 (behind a proxy that speaks TLS), or allow \
                 it with --insecure-listen"
            ),
            Self::HalfACertificate { which } => write!(
                f,
                "{which} is only half of what TLS needs: set both tls_cert (the certificate) and \
                 tls_key (its private key)"
            ),
            Self::TlsOfTwoKinds { what } => write!(
                f,
                "{what}: a certificate comes either from tls_cert and tls_key, or from the private \
                 CA of tls, tls_directory and tls_names: set one kind"
            ),
            Self::TlsNotOn { what } => {
                write!(f, "{what} is of the private CA, which is not wanted: set tls (--tls) too")
            }
            Self::InsecurePeerListen { listen } => write!(
                f,
                "refusing to listen for peers on {listen}: it can be reached from outside, and \
                 links between nodes are neither authenticated nor encrypted yet: whoever reaches \
                 it can read and change everything. Use a loopback address, or, on a network that \
                 nobody else can reach, allow it with --insecure-peer-listen"
            ),
            Self::WrongMode { what, mode: Mode::Node } => write!(
                f,
                "{what} is for the all-in-one process: a node of a cluster listens where s3 in its \
                 [[nodes]] entry says"
            ),
            Self::WrongMode { what, mode: Mode::AllInOne } => write!(
                f,
                "{what} is for a node of a cluster: run `trine node --config FILE`, or remove it \
                 to run three zones in one process"
            ),
            Self::NoFile => f.write_str(
                "`trine node` needs --config FILE (or TRINE_CONFIG), which names the nodes of the \
                 cluster; docs/operations.md has one to begin with",
            ),
            Self::NodesWithoutNode { path } => write!(
                f,
                "{} lists the nodes of a cluster: run one of them with `trine node --config {} \
                 --node NAME`, or remove [[nodes]] to run three zones in one process",
                path.display(),
                path.display()
            ),
            Self::NoCluster { path } => write!(
                f,
                "{}: cluster is missing: set it to 32 hexadecimal digits, the same on all nodes \
                 (`trine node --new-cluster-id` makes some)",
                path.display()
            ),
            Self::NoRootKey { path } => write!(
                f,
                "no root key pair: it must be the same on all nodes, so that none makes its own. \
                 Set TRINE_ROOT_ACCESS_KEY and TRINE_ROOT_SECRET_KEY, or root_access_key and \
                 root_secret_key in {}",
                path.display()
            ),
            Self::Cluster { path, text } => write!(f, "{}: {text}", path.display()),
        }
    }
}

impl std::error::Error for ConfigError {}

/// What is wrong with a file that is not TOML, and where. Not in the parser's own words, which show the
/// line: it may hold a secret.
fn syntax(text: &str, error: &toml::de::Error) -> String {
    let before = error.span().and_then(|span| text.get(..span.start));
    match before {
        Some(before) => format!("line {}: {}", before.matches('\n').count() + 1, error.message()),
        None => error.message().to_owned(),
    }
}

/// The path of a file as messages name it.
fn name_of(path: &Path) -> String {
    path.display().to_string()
}

#[cfg(test)]
pub(crate) mod for_tests;
#[cfg(test)]
mod plan_tests;
#[cfg(test)]
mod tests;
