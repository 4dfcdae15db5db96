//! The command line, as it was typed.

use std::path::PathBuf;

use clap::Parser;

/// An S3-compatible object store for three zones, which loses nothing and keeps serving when any
/// one zone dies.
///
/// Without further words it runs three zones in one process, in ./trine-data, with an S3 endpoint
/// on 127.0.0.1:9000.
#[derive(Clone, Debug, Default, Parser)]
#[command(
    name = "trine",
    version,
    after_help = "Every flag can be set in the configuration file (data = \"...\") and in the \
                  environment (TRINE_DATA=...) too; flags win over the environment, which wins \
                  over the file. root_access_key and root_secret_key are set there only: a \
                  command line can be seen by other users."
)]
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
    /// Allow an address that others can reach, although HTTP is not encrypted
    #[arg(long)]
    pub insecure_listen: bool,
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
