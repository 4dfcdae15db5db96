//! The Rust crates aws-sdk-s3 and object_store against the endpoint in `ENDPOINT`, with credentials in the
//! environment: `trine-rust-clients aws-sdk-s3|object_store [--version]`. Panics at the first thing that is
//! not as it should be.

mod sdk;
mod shared;
mod store;

use std::process::ExitCode;

#[tokio::main(flavor = "multi_thread", worker_threads = 4)]
async fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let asked: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match asked[..] {
        [name @ ("aws-sdk-s3" | "object_store"), "--version"] => {
            println!(
                "{}",
                shared::locked_version(name).expect("the lock file names what was built")
            );
        }
        ["aws-sdk-s3"] => sdk::all().await,
        ["object_store"] => store::all().await,
        _ => {
            eprintln!("trine-rust-clients aws-sdk-s3|object_store [--version]");
            return ExitCode::from(2);
        }
    }
    ExitCode::SUCCESS
}
