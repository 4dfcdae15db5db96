//! The command line of `trine inspect`.

use std::path::PathBuf;

use clap::Args;

/// `trine inspect`.
#[derive(Clone, Debug, Args)]
#[command(
    long_about = "Look at disks of stores that do not run, without changing a byte of them: what is on \
                  them, and whether it is sound.\n\n\
                  Given the disks of all three zones, it also holds every object against its copies in \
                  all zones, and says which copies belong to nothing.",
    after_help = "Exit code: 0 if all is sound, 1 if damage was found, 2 if something could not be \
                  inspected."
)]
pub struct InspectCli {
    /// Disks of stores, or data directories, which stand for the disks of all their stores
    #[arg(required = true, value_name = "DISK_OR_DATA_DIR")]
    pub paths: Vec<PathBuf>,
    /// As JSON
    #[arg(long)]
    pub json: bool,
    /// Read every block of every chunk and verify it (the default)
    #[arg(long, overrides_with = "no_verify")]
    pub verify: bool,
    /// Do not read chunks, but for a header of each blob
    #[arg(long)]
    pub no_verify: bool,
    /// Write a list of all copies and blobs to a new file, one JSON object to a line
    #[arg(long, value_name = "FILE")]
    pub chunks: Option<PathBuf>,
}
