//! The command line, as it was typed.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::bench::cli::BenchCli;
use crate::inspect::cli::InspectCli;

/// All that can stand on a command line.
#[derive(Clone, Debug, Parser)]
#[command(
    name = "trine",
    version,
    about = "An S3-compatible object store for three zones, which loses nothing and keeps serving \
             when any one zone dies",
    long_about = "An S3-compatible object store for three zones, which loses nothing and keeps \
                  serving when any one zone dies.\n\n\
                  Without a command it runs three zones in one process, in ./trine-data, with an \
                  S3 endpoint on 127.0.0.1:9000.",
    after_help = "Every flag can be set in the configuration file (data = \"...\") and in the \
                  environment (TRINE_DATA=...) too; flags win over the environment, which wins \
                  over the file. root_access_key and root_secret_key are set there only: a \
                  command line can be seen by other users.",
    args_conflicts_with_subcommands = true
)]
pub struct Arguments {
    #[command(flatten)]
    #[allow(missing_docs, reason = "clap would take it for the text of `trine --help`")]
    pub all_in_one: Cli,
    #[command(subcommand)]
    #[allow(missing_docs, reason = "likewise")]
    pub command: Option<Command>,
}

/// What else `trine` does than running three zones in one process.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Run one node of a cluster of several processes
    Node(NodeCli),
    /// Look at a running cluster and change it, through any of its processes
    Admin(AdminCli),
    /// Look at disks of stores that do not run, without changing them: what is on them, and whether it is
    /// sound
    Inspect(InspectCli),
    /// Measure an S3 endpoint, this one or any other: throughput, latencies, errors, costs
    Bench(Box<BenchCli>),
}

// No doc comments on structs that are flattened: clap would take them for the help text.
#[derive(Clone, Debug, Default, Args)]
#[allow(missing_docs, reason = "see above")]
pub struct Cli {
    /// Configuration file (TOML) [env: TRINE_CONFIG]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Directory that holds everything; made if missing [default: ./trine-data]
    #[arg(long, value_name = "DIR")]
    pub data: Option<String>,
    /// Address and port of the S3 endpoint [default: 127.0.0.1:9000]
    #[arg(long, value_name = "ADDRESS")]
    pub listen: Option<String>,
    /// Allow an address that others can reach without TLS, although plain HTTP is not encrypted
    #[arg(long)]
    pub insecure_listen: bool,
    #[command(flatten)]
    #[allow(missing_docs, reason = "likewise")]
    pub tls: TlsCli,
    /// Base domains, under which hosts name buckets: s3.example.com serves BUCKET.s3.example.com
    #[arg(long, value_name = "DOMAIN,...")]
    pub domains: Option<String>,
    /// Region that clients are told [default: us-east-1]
    #[arg(long, value_name = "NAME")]
    pub region: Option<String>,
    /// Most bytes that each zone may take when it is first made [default: 1TiB]
    #[arg(long, value_name = "SIZE")]
    pub capacity: Option<String>,
    /// Log filter: error, warn, info, debug, or by module [default: info]
    #[arg(long, value_name = "FILTER")]
    pub log: Option<String>,
}

/// `trine node`.
#[derive(Clone, Debug, Default, Args)]
pub struct NodeCli {
    /// Configuration file (TOML), which may be the same on all nodes [env: TRINE_CONFIG]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Which of the file's nodes this is
    #[arg(long, value_name = "NAME")]
    pub node: Option<String>,
    /// Directory that holds everything of this node; made if missing [default: ./trine-data]
    #[arg(long, value_name = "DIR")]
    pub data: Option<String>,
    /// Allow an S3 address that others can reach without TLS, although plain HTTP is not encrypted
    #[arg(long)]
    pub insecure_listen: bool,
    #[command(flatten)]
    #[allow(missing_docs, reason = "likewise")]
    pub tls: TlsCli,
    /// Allow a peer address that others can reach, although links are neither authenticated nor
    /// encrypted
    #[arg(long)]
    pub insecure_peer_listen: bool,
    /// Base domains, under which hosts name buckets: s3.example.com serves BUCKET.s3.example.com
    #[arg(long, value_name = "DOMAIN,...")]
    pub domains: Option<String>,
    /// Region that clients are told [default: us-east-1]
    #[arg(long, value_name = "NAME")]
    pub region: Option<String>,
    /// Most bytes that each store may take when it is first made [default: 1TiB]
    #[arg(long, value_name = "SIZE")]
    pub capacity: Option<String>,
    /// Log filter: error, warn, info, debug, or by module [default: info]
    #[arg(long, value_name = "FILTER")]
    pub log: Option<String>,
    /// Print a new cluster id for the configuration file, and end
    #[arg(long, exclusive = true)]
    pub new_cluster_id: bool,
}

// Likewise.
#[derive(Clone, Debug, Default, Args)]
#[allow(missing_docs, reason = "see above")]
pub struct TlsCli {
    /// Speak HTTPS with a certificate of a private CA, for trials; the CA is made if it is not there
    #[arg(long)]
    pub tls: bool,
    /// Where the private CA is, of one or more processes [default: tls in the data directory]
    #[arg(long, value_name = "DIR")]
    pub tls_directory: Option<String>,
    /// More names and IP addresses that clients use, for the private CA's certificate
    #[arg(long, value_name = "NAME,...")]
    pub tls_names: Option<String>,
    /// Speak HTTPS with this certificate (PEM, with its chain), read again whenever it changes
    #[arg(long, value_name = "FILE")]
    pub tls_cert: Option<String>,
    /// The certificate's private key (PEM)
    #[arg(long, value_name = "FILE")]
    pub tls_key: Option<String>,
}

/// `trine admin`.
#[derive(Clone, Debug, Args)]
pub struct AdminCli {
    /// Data directory of the process to talk to [default: ./trine-data] [env: TRINE_DATA]
    #[arg(long, value_name = "DIR", conflicts_with = "socket")]
    pub data: Option<PathBuf>,
    /// Its admin socket, if not DIR/admin.sock
    #[arg(long, value_name = "PATH")]
    pub socket: Option<PathBuf>,
    /// What to do.
    #[command(subcommand)]
    pub command: AdminCommand,
}

/// What `trine admin` does.
#[derive(Clone, Debug, Subcommand)]
pub enum AdminCommand {
    /// Show zones, nodes, stores, leaders, links, and whether every copy is where it belongs
    Status {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Stop or start a whole zone
    #[command(subcommand)]
    Zone(ZoneCommand),
    /// Replace a store that is lost, add one, or let one have more or less data, or none
    #[command(subcommand)]
    Store(StoreCommand),
    /// Let a node join the cluster, say that one has moved, or remove one
    #[command(subcommand)]
    Node(NodeCommand),
    /// Show which feature levels nodes and stores speak, and which one the cluster is at; or raise it
    Level {
        /// Nothing: show them
        #[command(subcommand)]
        command: Option<LevelCommand>,
    },
    /// Read every copy of every chunk from disk and verify it; exit code 2 if one is bad or missing
    Audit {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
}

/// `trine admin level`.
#[derive(Clone, Debug, Subcommand)]
pub enum LevelCommand {
    /// Raise the cluster's level, for ever: versions that do not speak it are kept out. Refused unless all nodes
    /// and stores speak it
    Raise {
        /// To which; to the newest that the asked node speaks if nothing is said
        level: Option<u32>,
    },
}

/// `trine admin zone`.
#[derive(Clone, Debug, Subcommand)]
pub enum ZoneCommand {
    /// Take all stores of a zone down; its processes go on, and S3 is served by the other zones
    Stop {
        /// a, b or c
        zone: String,
        /// Even if another zone is not whole: NOTHING can be read or written without two zones
        #[arg(long)]
        force: bool,
    },
    /// Start all stores of a zone again
    Start {
        /// a, b or c
        zone: String,
    },
}

/// `trine admin node`.
#[derive(Clone, Debug, Subcommand)]
pub enum NodeCommand {
    /// Let a node join: all others make links to it. Start it with a configuration that lists it, without
    /// stores, beside the first nodes; then give it some with `store add`
    Add {
        /// What it is called
        name: String,
        /// Its id: a number that no node has or had
        #[arg(long, value_name = "ID")]
        id: u32,
        /// a, b or c
        #[arg(long)]
        zone: String,
        /// Where its peers reach it
        #[arg(long, value_name = "ADDR")]
        peer: String,
        /// Where clients reach it
        #[arg(long, value_name = "ADDR")]
        s3: String,
    },
    /// Say that a node is reached elsewhere from now on
    Move {
        /// Which node
        name: String,
        /// Where its peers reach it
        #[arg(long, value_name = "ADDR", required_unless_present = "s3")]
        peer: Option<String>,
        /// Where clients reach it
        #[arg(long, value_name = "ADDR")]
        s3: Option<String>,
    },
    /// Take a node out of the cluster for ever, when nobody needs its stores any more
    Remove {
        /// Which node
        name: String,
    },
}

/// `trine admin store`.
#[derive(Clone, Debug, Subcommand)]
pub enum StoreCommand {
    /// Make a new, empty store in the place of OLD, which never comes back, and fill it from the
    /// other zones. The same command may be given again after a crash
    Replace {
        /// Id of the store that is lost
        old: String,
        /// Id of the new store [default: the first that was never used]
        #[arg(long, value_name = "ID")]
        new: Option<String>,
        /// Node that shall have the new store; in the zone of OLD [default: the node that had OLD]
        #[arg(long, value_name = "NAME")]
        node: Option<String>,
        /// File of the new store [default: store-ID in the node's data directory]
        #[arg(long, value_name = "PATH")]
        path: Option<PathBuf>,
        /// Show progress, and end when every copy is where it belongs
        #[arg(long)]
        wait: bool,
        /// Also while other zones lack copies: those that only OLD has are given up
        #[arg(long)]
        force: bool,
    },
    /// Make one more store at a node, and move its share of the zone's data to it
    Add {
        /// Node that shall have it
        #[arg(long, value_name = "NAME")]
        node: String,
        /// Its share of its zone's data, relative to the weights of the other stores
        #[arg(long, value_name = "N", default_value_t = 1)]
        weight: u32,
        /// Most bytes that it may take [default: the node's]
        #[arg(long, value_name = "SIZE")]
        capacity: Option<String>,
        /// Its id [default: the first that was never used]
        #[arg(long, value_name = "ID")]
        new: Option<String>,
        /// Its file [default: store-ID in the node's data directory]
        #[arg(long, value_name = "PATH")]
        path: Option<PathBuf>,
        /// Show progress, and end when all data is where it belongs
        #[arg(long)]
        wait: bool,
    },
    /// Move all data of a store to the others of its zone; it takes no more. The same as weight 0
    Drain {
        /// Id of the store
        store: String,
        /// Show progress, and end when all data is where it belongs
        #[arg(long)]
        wait: bool,
    },
    /// Give a store another share of its zone's data
    Weight {
        /// Id of the store
        store: String,
        /// Its share, relative to the weights of the other stores; 0 drains it
        weight: u32,
        /// Show progress, and end when all data is where it belongs
        #[arg(long)]
        wait: bool,
    },
}
