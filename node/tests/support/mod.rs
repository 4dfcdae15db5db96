//! Runs the real `trine` binary: starts it, waits until it says that it can be used, kills it.

#![allow(dead_code, reason = "each test binary uses its own part of it")]

use std::io::{BufRead, BufReader, Read};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

pub(crate) mod cluster;
pub(crate) mod disk;
#[path = "../../../compat-tests/src/ports.rs"]
pub(crate) mod ports;
pub(crate) mod s3;
pub(crate) mod trace;

/// How long a start, or an end, may take before the test fails. Generous: machines that run tests
/// are busy ones.
const PATIENCE: Duration = Duration::from_secs(60);

/// Files are sparse; what tests write and never delete must fit, since space of chunks is not freed yet.
pub(crate) const CAPACITY: &str = "16GiB";

/// A command that runs `trine` with `data`, on `listen`, in a clean environment.
pub(crate) fn trine(data: &Path, listen: &str) -> Command {
    with_flags(Command::new(binary()), data, listen)
}

/// The binary under test.
pub(crate) fn binary() -> &'static str {
    env!("CARGO_BIN_EXE_trine")
}

/// The flags of [`trine`], behind another command that runs it (such as `strace ... trine`).
pub(crate) fn with_flags(mut command: Command, data: &Path, listen: &str) -> Command {
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("TRINE_") {
            command.env_remove(name);
        }
    }
    command.arg("--data").arg(data).args(["--listen", listen, "--capacity", CAPACITY]);
    command
}

/// Run a command that is expected to end by itself.
pub(crate) fn output(mut command: Command) -> Output {
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let id = child.id();
    let (done, timeout) = mpsc::channel::<()>();
    let watchdog = thread::spawn(move || {
        if timeout.recv_timeout(PATIENCE) == Err(mpsc::RecvTimeoutError::Timeout) {
            signal(id, "KILL");
        }
    });
    let output = child.wait_with_output().unwrap();
    drop(done);
    watchdog.join().unwrap();
    output
}

/// What a refused start says: the text on standard error, after the checks that every refusal
/// must pass.
pub(crate) fn refusal(command: Command) -> String {
    let output = output(command);
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("trine: "), "{text}");
    assert!(!text.contains("panicked") && !text.contains("RUST_BACKTRACE"), "{text}");
    text
}

/// A running `trine`. Dropped, it is killed.
pub(crate) struct Server {
    child: Child,
    /// `http://127.0.0.1:PORT`.
    pub(crate) endpoint: String,
    /// What it printed until it could be used.
    pub(crate) banner: String,
    /// How long that took.
    pub(crate) ready_after: Duration,
    errors: thread::JoinHandle<String>,
    _stdout: BufReader<ChildStdout>,
}

impl Server {
    /// Start it on a free port and wait until it says that it can be used.
    pub(crate) fn start(data: &Path) -> Self {
        Self::from_command(trine(data, "127.0.0.1:0"))
    }

    /// Start it by a command made by [`trine`] or [`with_flags`].
    pub(crate) fn from_command(mut command: Command) -> Self {
        let started = Instant::now();
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut stderr = child.stderr.take().expect("it is piped");
        let errors = thread::spawn(move || {
            let mut text = String::new();
            // What was read before an error is still worth showing.
            let _ = stderr.read_to_string(&mut text);
            text
        });
        let stdout = BufReader::new(child.stdout.take().expect("it is piped"));
        let id = child.id();
        let (sender, receiver) = mpsc::channel();
        thread::spawn(move || sender.send(read_banner(stdout)));
        let Ok((banner, stdout)) = receiver.recv_timeout(PATIENCE) else {
            signal(id, "KILL");
            panic!("not ready after {PATIENCE:?}: {}", errors.join().unwrap());
        };
        let Some(endpoint) = value(&banner, "endpoint") else {
            // It has ended, or is about to.
            let status = child.wait().unwrap();
            panic!("ended before it was ready ({status}): {}", errors.join().unwrap());
        };
        let ready_after = started.elapsed();
        Self { child, endpoint, banner, ready_after, errors, _stdout: stdout }
    }

    /// `127.0.0.1:PORT`.
    pub(crate) fn address(&self) -> &str {
        self.endpoint.strip_prefix("http://").expect("the endpoint is an http URL")
    }

    /// A line of the banner: `access key`, `secret key`.
    pub(crate) fn told(&self, name: &str) -> String {
        value(&self.banner, name).unwrap_or_else(|| panic!("no {name} in {}", self.banner))
    }

    /// An S3 client with its key pair.
    pub(crate) fn client(&self) -> s3::Client {
        s3::Client::new(self.address(), &self.told("access key"), &self.told("secret key"))
    }

    /// Its process id (that of the command that runs it, if there is one).
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Kill it like a power cut of the process: SIGKILL.
    pub(crate) fn kill(mut self) -> String {
        self.child.kill().unwrap();
        self.wait().1
    }

    /// Send `TERM` or `INT` and wait for the end: the exit status and the log.
    pub(crate) fn stop(mut self, name: &str) -> (ExitStatus, String) {
        signal(self.child.id(), name);
        self.wait()
    }

    /// Send a signal and go on.
    pub(crate) fn signal(&self, name: &str) {
        signal(self.child.id(), name);
    }

    /// Wait for the end: the exit status and the log.
    pub(crate) fn wait(&mut self) -> (ExitStatus, String) {
        let until = Instant::now() + PATIENCE;
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(Instant::now() < until, "it has not ended after {PATIENCE:?}");
            thread::sleep(Duration::from_millis(10));
        };
        let errors = std::mem::replace(&mut self.errors, thread::spawn(String::new));
        (status, errors.join().unwrap())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Send a signal to a process that the test has started and not yet waited for.
pub(crate) fn signal(id: u32, name: &str) {
    let status = Command::new("kill").args([&format!("-{name}"), &id.to_string()]).status();
    assert!(status.unwrap().success(), "kill -{name} {id}");
}

/// A port that nobody uses, and the listener that keeps it so.
pub(crate) fn taken_port() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    (listener, address)
}

/// A directory that vanishes with the test, and a data directory in it that is not there yet.
pub(crate) fn data_directory() -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("data");
    (directory, path)
}

/// Read to the banner's last line, or to the end.
fn read_banner(mut stdout: BufReader<ChildStdout>) -> (String, BufReader<ChildStdout>) {
    let mut banner = String::new();
    while !banner.contains("Ctrl-C stops it") {
        if matches!(stdout.read_line(&mut banner), Ok(0) | Err(_)) {
            break;
        }
    }
    (banner, stdout)
}

fn value(banner: &str, name: &str) -> Option<String> {
    let line = banner.lines().find_map(|line| line.trim().strip_prefix(name))?;
    Some(line.trim().to_owned())
}
