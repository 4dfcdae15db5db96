//! The command line of `trine bench`, as it was typed.

use std::path::PathBuf;

use clap::{ArgAction, Args, Subcommand, ValueEnum};

use super::client::PayloadMode;
use super::size::{Size, SizeSpec};
use super::workload::{KeyOrder, Operation, Spread};

/// `trine bench`.
#[derive(Clone, Debug, Args)]
pub struct BenchCli {
    /// What to measure.
    #[command(subcommand)]
    pub command: BenchCommand,
}

/// What `trine bench` measures.
#[derive(Clone, Debug, Subcommand)]
pub enum BenchCommand {
    /// Measure operations, each with every size and every concurrency
    Run(RunCli),
    /// Measure two endpoints in turn, and print how they compare
    Compare(CompareCli),
    /// Measure what the README's table has, and print it as Markdown with the machine named
    Suite(SuiteCli),
    /// Put many objects, watch the rate, and list them at the start, in the middle and at the end
    Fill(FillCli),
}

/// `trine bench run`.
#[derive(Clone, Debug, Args)]
pub struct RunCli {
    /// What to measure, in this order
    #[arg(required = true, value_delimiter = ',', value_name = "OPERATION")]
    pub operations: Vec<Operation>,
    #[command(flatten)]
    #[allow(missing_docs, reason = "clap would take it for help text")]
    pub endpoint: EndpointCli,
    #[command(flatten)]
    #[allow(missing_docs, reason = "likewise")]
    pub work: WorkCli,
    #[command(flatten)]
    #[allow(missing_docs, reason = "likewise")]
    pub load: LoadCli,
}

/// `trine bench compare`.
#[derive(Clone, Debug, Args)]
pub struct CompareCli {
    /// First endpoint, http://HOST:PORT or https://HOST:PORT
    pub a: String,
    /// Second endpoint
    pub b: String,
    /// What to measure, in this order
    #[arg(long, value_delimiter = ',', default_value = "put,get", value_name = "OPERATIONS")]
    pub operations: Vec<Operation>,
    /// How often each is measured at each endpoint
    #[arg(long, default_value_t = 5, value_name = "N")]
    pub rounds: u32,
    #[command(flatten)]
    #[allow(missing_docs, reason = "clap would take it for help text")]
    pub account: AccountCli,
    /// Access key of the second endpoint, if it has another
    #[arg(long, value_name = "KEY")]
    pub access_key_b: Option<String>,
    /// Secret key of the second endpoint [env: TRINE_BENCH_SECRET_KEY_B]
    #[arg(long, value_name = "KEY")]
    pub secret_key_b: Option<String>,
    /// Region of the second endpoint, if it has another
    #[arg(long, value_name = "NAME")]
    pub region_b: Option<String>,
    /// Bucket at the second endpoint, if it has another
    #[arg(long, value_name = "NAME")]
    pub bucket_b: Option<String>,
    /// Processes of the second endpoint's server, on this machine
    #[arg(long, value_name = "PID")]
    pub server_pid_b: Vec<u32>,
    #[command(flatten)]
    #[allow(missing_docs, reason = "likewise")]
    pub work: WorkCli,
    #[command(flatten)]
    #[allow(missing_docs, reason = "likewise")]
    pub load: LoadCli,
}

/// `trine bench suite`.
#[derive(Clone, Debug, Args)]
pub struct SuiteCli {
    /// Directory that the server's data is in, to name its file system
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// How many objects are read, listed, deleted [default: as `run` has it]; put writes new ones
    #[arg(long, value_name = "N")]
    pub keys: Option<u64>,
    #[command(flatten)]
    #[allow(missing_docs, reason = "clap would take it for help text")]
    pub endpoint: EndpointCli,
    #[command(flatten)]
    #[allow(missing_docs, reason = "likewise")]
    pub load: LoadCli,
}

/// `trine bench fill`.
#[derive(Clone, Debug, Args)]
pub struct FillCli {
    /// How many objects
    #[arg(long, default_value_t = 1_000_000, value_name = "N")]
    pub objects: u64,
    /// Their size
    #[arg(long, default_value = "1KiB", value_name = "SIZE")]
    pub size: SizeSpec,
    /// How many requests at once
    #[arg(long, default_value_t = 64, value_name = "N")]
    pub concurrency: usize,
    /// After how many objects the rate is printed
    #[arg(long, default_value_t = 50_000, value_name = "N")]
    pub every: u64,
    /// How many LIST pages are read at each place
    #[arg(long, default_value_t = 20, value_name = "N")]
    pub pages: u64,
    /// Keys of a LIST page
    #[arg(long, default_value_t = 1000, value_name = "N")]
    pub page: u32,
    /// Do not list and count all objects at the end
    #[arg(long)]
    pub no_walk: bool,
    /// How keys are named
    #[arg(long, value_enum, default_value_t = KeyOrder::Ascending)]
    pub key_order: KeyOrder,
    #[command(flatten)]
    #[allow(missing_docs, reason = "clap would take it for help text")]
    pub endpoint: EndpointCli,
    #[command(flatten)]
    #[allow(missing_docs, reason = "likewise")]
    pub client: ClientCli,
}

// No doc comments on structs that are flattened: clap would take them for the help text.
#[derive(Clone, Debug, Args)]
#[allow(missing_docs, reason = "see above")]
pub struct EndpointCli {
    /// S3 endpoint [env: AWS_ENDPOINT_URL] [default: http://127.0.0.1:9000]
    #[arg(long, value_name = "URL")]
    pub endpoint: Option<String>,
    #[command(flatten)]
    pub account: AccountCli,
}

#[derive(Clone, Debug, Args)]
#[allow(missing_docs, reason = "see above")]
pub struct AccountCli {
    /// Access key [env: AWS_ACCESS_KEY_ID]
    #[arg(long, value_name = "KEY")]
    pub access_key: Option<String>,
    /// Secret key; other users can see it on a command line [env: AWS_SECRET_ACCESS_KEY]
    #[arg(long, value_name = "KEY")]
    pub secret_key: Option<String>,
    /// CAs that are trusted (PEM), if not the system's [env: AWS_CA_BUNDLE]
    #[arg(long, value_name = "FILE")]
    pub ca_bundle: Option<String>,
    /// Bucket
    #[arg(long, default_value = "trine-bench", value_name = "NAME")]
    pub bucket: String,
    /// Region [env: AWS_REGION, AWS_DEFAULT_REGION] [default: us-east-1]
    #[arg(long, value_name = "NAME")]
    pub region: Option<String>,
    /// Whether a bucket that is missing is made
    #[arg(long, default_value_t = true, action = ArgAction::Set, value_name = "BOOL")]
    pub create_bucket: bool,
}

#[derive(Clone, Debug, Args)]
#[allow(missing_docs, reason = "see above")]
pub struct WorkCli {
    /// Sizes of objects: 4KiB,1MiB; a range, such as 4KiB..1MiB, is one measurement
    #[arg(long, value_delimiter = ',', default_value = "4KiB", value_name = "SIZES")]
    pub size: Vec<SizeSpec>,
    /// How many objects are read, listed, deleted, or written again and again
    /// [default: as many as 256 MiB hold, at most 1,000; list 10,000; delete 1 GiB, at most
    /// 10,000; put and multipart write new ones]
    #[arg(long, value_name = "N")]
    pub keys: Option<u64>,
    /// Which keys are asked for [default: sequential for put, uniform for the others]
    #[arg(long, value_enum)]
    pub spread: Option<Spread>,
    /// Exponent of --spread zipf
    #[arg(long, default_value_t = 0.99, value_name = "NUMBER")]
    pub zipf_exponent: f64,
    /// How keys are named
    #[arg(long, value_enum, default_value_t = KeyOrder::Ascending)]
    pub key_order: KeyOrder,
    /// Keys of a LIST page
    #[arg(long, default_value_t = 1000, value_name = "N")]
    pub page: u32,
    /// Size of the parts of multipart uploads
    #[arg(long, default_value = "16MiB", value_name = "SIZE")]
    pub part_size: Size,
    /// How many parts of one upload go at once
    #[arg(long, default_value_t = 4, value_name = "N")]
    pub part_parallel: usize,
    /// Weights of the operations of `mixed`
    #[arg(long, default_value = "get=45,put=15,head=30,delete=10", value_name = "WEIGHTS")]
    pub mix: String,
    /// Take the objects that are read or listed for there: those of an earlier run with --keep, and
    /// the same --prefix, --seed, --keys and --size
    #[arg(long)]
    pub no_prepare: bool,
}

#[derive(Clone, Debug, Args)]
#[allow(missing_docs, reason = "see above")]
pub struct LoadCli {
    /// How many requests at once: 1,16,64 measures each [default: 16]
    #[arg(long, value_delimiter = ',', value_name = "N")]
    pub concurrency: Vec<usize>,
    /// How long each measurement takes [default: 10s, unless --ops is given]
    #[arg(long, value_name = "TIME")]
    pub duration: Option<String>,
    /// How many operations each measurement has; with --duration, whichever ends first
    #[arg(long, value_name = "N")]
    pub ops: Option<u64>,
    /// How long each goes on before it is measured [default: 2s, unless --ops is given]
    #[arg(long, value_name = "TIME")]
    pub warm_up: Option<String>,
    #[command(flatten)]
    pub client: ClientCli,
}

/// Whether bodies go with a checksum.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Checksum {
    /// CRC-32, as AWS SDKs do by default
    Crc32,
    /// None
    None,
}

#[derive(Clone, Debug, Args)]
#[allow(missing_docs, reason = "see above")]
pub struct ClientCli {
    /// How bodies are signed
    #[arg(long, value_enum, default_value_t = PayloadMode::Signed)]
    pub payload: PayloadMode,
    /// Checksum that goes with bodies
    #[arg(long, value_enum, default_value_t = Checksum::Crc32)]
    pub checksum: Checksum,
    /// Compare every byte of GET (its length is always compared)
    #[arg(long)]
    pub verify: bool,
    /// Try again after SlowDown, a little later each time
    #[arg(long)]
    pub retry_slow_down: bool,
    /// How long a request may take, beside a second for each MiB
    #[arg(long, default_value = "60s", value_name = "TIME")]
    pub timeout: String,
    /// What keys and bytes follow from
    #[arg(long, default_value_t = 1, value_name = "NUMBER")]
    pub seed: u64,
    /// What all keys begin with
    #[arg(long, default_value = "bench/", value_name = "TEXT")]
    pub prefix: String,
    /// Threads of the client
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub threads: usize,
    /// Leave what was written
    #[arg(long)]
    pub keep: bool,
    /// Process of the server, on this machine: its CPU time and memory are measured (repeatable)
    #[arg(long, value_name = "PID")]
    pub server_pid: Vec<u32>,
    /// Write results as JSON; "-" is standard output, and the tables go to standard error then
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}
