//! Settings: raw words from a file, the environment and flags become one checked [`Config`].
//!
//! TOML file < `TRINE_*` environment < flags. A key or variable that does not exist is an error that
//! names it and the nearest one that does.

use std::ffi::OsString;
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use trine_core::cluster::Geometry;

mod cli;
mod keys;
mod layers;

pub use cli::Cli;
pub use keys::RootKey;
use layers::{Layers, Setting, Word};

/// The smallest capacity of a store: room for a journal, a tree and some segments.
pub const CAPACITY_MIN: u64 = 1 << 30;

/// The journal takes this part of the capacity, up to the production size.
const JOURNAL_SHARE: u64 = 4;

/// What a process is to do, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Where HTTP listens.
    pub listen: SocketAddr,
    /// The directory that holds everything.
    pub data: PathBuf,
    /// What clients are told, and may sign for.
    pub region: String,
    /// The root key pair, if it is set: else one is kept in the data directory.
    pub root_key: Option<RootKey>,
    /// The layout of stores that are formatted from now on.
    pub geometry: Geometry,
    /// Filter of the log, as `tracing-subscriber` reads it.
    pub log: String,
}

impl Config {
    /// Resolve what was said on the command line, in `environment`, and in the file that one of
    /// them names.
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
            let text = std::fs::read_to_string(&path)
                .map_err(|error| ConfigError::Unreadable { path: path.clone(), error })?;
            layers.file(&path, &text)?;
        }
        layers.flags(cli);
        Self::from_layers(&layers)
    }

    fn from_layers(layers: &Layers) -> Result<Self, ConfigError> {
        let listen = layers.word(Setting::Listen).parse(
            |text| text.parse::<SocketAddr>().ok(),
            "an address and a port, such as 127.0.0.1:9000",
        )?;
        let insecure = layers
            .word(Setting::InsecureListen)
            .parse(|text| text.parse::<bool>().ok(), "true or false")?;
        if !listen.ip().is_loopback() && !insecure {
            return Err(ConfigError::InsecureListen { listen });
        }
        let data = layers
            .word(Setting::Data)
            .parse(|text| (!text.is_empty()).then(|| PathBuf::from(text)), "a directory")?;
        let region = layers.word(Setting::Region).parse(
            |text| is_region(text).then(|| text.to_owned()),
            "a name of lower-case letters, digits and hyphens, such as us-east-1",
        )?;
        let geometry = layers.word(Setting::Capacity).parse(
            |text| parse_bytes(text).filter(|bytes| *bytes >= CAPACITY_MIN).map(geometry),
            "at least 1GiB and a whole number with a unit: MiB, GiB or TiB",
        )?;
        let root_key =
            match (layers.get(Setting::RootAccessKey), layers.get(Setting::RootSecretKey)) {
                (None, None) => None,
                (Some(access), Some(secret)) => Some(root_key(access, secret)?),
                (Some(word), None) | (None, Some(word)) => {
                    return Err(ConfigError::HalfAKey { which: word.place() });
                }
            };
        let log = layers.word(Setting::Log).parse(
            |text| {
                let filter = text.parse::<tracing_subscriber::filter::EnvFilter>();
                filter.is_ok().then(|| text.to_owned())
            },
            "a log filter, such as info or info,trine_node=debug",
        )?;
        Ok(Self { listen, data, region, root_key, geometry, log })
    }
}

/// The layout of a disk of `capacity` bytes: as in production, but for a journal in proportion.
fn geometry(capacity: u64) -> Geometry {
    let production = Geometry::PRODUCTION;
    let journal = (capacity / JOURNAL_SHARE).min(production.journal);
    Geometry {
        capacity: capacity - capacity % production.segment,
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
    /// An address that others can reach, without the word that allows it.
    InsecureListen {
        /// Which.
        listen: SocketAddr,
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
                 shows everyone what it carries. Listen on 127.0.0.1 (behind a proxy that speaks \
                 TLS), or allow it with --insecure-listen"
            ),
        }
    }
}

impl std::error::Error for ConfigError {}

/// The path of a file as messages name it.
fn name_of(path: &Path) -> String {
    path.display().to_string()
}

#[cfg(test)]
mod tests;
