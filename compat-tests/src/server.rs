//! A `trine` process of our own, or an endpoint that runs already.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// How long a start may take before it counts as hanging. (That it is quick is measured elsewhere.)
const START_LIMIT: Duration = Duration::from_secs(60);

/// How clients reach an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// Plain HTTP.
    Http,
    /// HTTPS, with a certificate of the private CA that `trine --tls` makes.
    Tls,
}

impl Transport {
    /// As URLs have it.
    pub fn scheme(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Tls => "https",
        }
    }
}

/// An endpoint with its key pair.
#[derive(Debug)]
pub struct Server {
    address: String,
    transport: Transport,
    access_key: String,
    secret_key: String,
    process: Option<Process>,
}

#[derive(Debug)]
struct Process {
    child: Child,
    data: PathBuf,
    /// Where its log goes, if not to ours.
    log: Option<PathBuf>,
}

impl Server {
    /// Start `trine` with its data in `data`, on a free port. `TRINE_TEST_ENDPOINT`
    /// (`host:port,access key,secret key`) names an endpoint to use instead.
    ///
    /// # Panics
    /// If it cannot be built or started; its output is in the message.
    pub fn start(data: &Path) -> Self {
        if let Ok(given) = std::env::var("TRINE_TEST_ENDPOINT") {
            let mut parts = given.split(',').map(str::to_owned);
            let mut part = || parts.next().expect("TRINE_TEST_ENDPOINT=host:port,access,secret");
            let (address, access_key, secret_key) = (part(), part(), part());
            return Self::at(address, &access_key, &secret_key);
        }
        let mut server = Self::ours(Transport::Http);
        server.process = Some(server.spawn(data, None));
        server
    }

    /// Start `trine` with its data in `data`, on a free port, with its log in a file that [`Self::log`]
    /// reads.
    ///
    /// # Panics
    /// If it cannot be built or started.
    pub fn start_with(data: &Path, transport: Transport) -> Self {
        let mut server = Self::ours(transport);
        server.process = Some(server.spawn(data, Some(data.with_extension("log"))));
        server
    }

    fn ours(transport: Transport) -> Self {
        Self {
            address: format!("127.0.0.1:{}", crate::ports::free_port()),
            transport,
            access_key: "compat".to_owned(),
            secret_key: "compat-secret-key".to_owned(),
            process: None,
        }
    }

    /// An endpoint that somebody else runs.
    pub fn at(address: String, access_key: &str, secret_key: &str) -> Self {
        let (access_key, secret_key) = (access_key.to_owned(), secret_key.to_owned());
        Self { address, transport: Transport::Http, access_key, secret_key, process: None }
    }

    /// `host:port`.
    pub fn host(&self) -> &str {
        &self.address
    }

    /// `http://host:port`, or https.
    pub fn endpoint(&self) -> String {
        format!("{}://{}", self.transport.scheme(), self.address)
    }

    /// From now on clients are sent to `proxy`.
    pub fn move_behind(&mut self, proxy: SocketAddr) {
        self.address = proxy.to_string();
    }

    /// How it is reached.
    pub fn transport(&self) -> Transport {
        self.transport
    }

    /// The certificate of the CA that its clients must trust, in PEM, if it speaks TLS.
    pub fn ca(&self) -> Option<PathBuf> {
        let process = self.process.as_ref().filter(|_| self.transport == Transport::Tls)?;
        Some(authority(&process.data))
    }

    /// What the process logged, if it was started with a log of its own.
    pub fn log(&self) -> String {
        let log = self.process.as_ref().and_then(|process| process.log.as_ref());
        // A log that cannot be read is no reason to hide why a client failed.
        log.map_or_else(String::new, |path| std::fs::read_to_string(path).unwrap_or_default())
    }

    /// The access key.
    pub fn access_key(&self) -> &str {
        &self.access_key
    }

    /// The secret key.
    pub fn secret_key(&self) -> &str {
        &self.secret_key
    }

    /// Kill our process (SIGKILL) and start it again on the same data.
    ///
    /// # Panics
    /// If the endpoint is not ours, or does not come back.
    pub fn kill_and_restart(&mut self) {
        let mut process = self.process.take().expect("only our own process is killed");
        process.child.kill().expect("our child can be killed");
        process.child.wait().expect("our child can be waited for");
        self.process = Some(self.spawn(&process.data, process.log));
    }

    fn spawn(&self, data: &Path, log: Option<PathBuf>) -> Process {
        let mut command = Command::new(binary());
        command
            .arg("--data")
            .arg(data)
            .arg("--listen")
            .arg(&self.address)
            .env("TRINE_ROOT_ACCESS_KEY", &self.access_key)
            .env("TRINE_ROOT_SECRET_KEY", &self.secret_key)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        if self.transport == Transport::Tls {
            command.arg("--tls");
        }
        if let Some(log) = &log {
            let file = File::options().create(true).append(true).open(log);
            command.stderr(file.expect("a log can be made beside the data"));
        }
        let mut child = command.spawn().expect("the trine binary can be started");
        let passed_on = child.stderr.take().map(|stderr| {
            std::thread::spawn(move || {
                let lines = BufReader::new(stderr).lines().map_while(Result::ok);
                // Passed on, so that a failing test shows what the server had to say.
                lines.for_each(|line| eprintln!("trine: {line}"));
            })
        });
        let begun = Instant::now();
        // It listens first and makes its CA then: a connection waits for that, a client that reads the
        // CA's certificate does not.
        let ca = (self.transport == Transport::Tls).then(|| authority(data));
        let trusted = || ca.as_ref().is_none_or(|path| path.exists());
        while TcpStream::connect(&self.address).is_err() || !trusted() {
            if let Some(status) = child.try_wait().expect("our child can be asked") {
                if let Some(passed_on) = passed_on {
                    passed_on.join().expect("the log reader does not panic");
                }
                let told = log.map(|log| std::fs::read_to_string(log).unwrap_or_default());
                let told = told.unwrap_or_else(|| "its log is above".to_owned());
                panic!("trine ended at its start with {status}: {told}");
            }
            assert!(begun.elapsed() < START_LIMIT, "trine did not listen within {START_LIMIT:?}");
            std::thread::sleep(Duration::from_millis(10));
        }
        Process { child, data: data.to_owned(), log }
    }
}

/// Where `--tls` puts the certificate of the CA that it makes.
fn authority(data: &Path) -> PathBuf {
    data.join("tls/ca.pem")
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(process) = &mut self.process {
            // Both fail only if it is gone already.
            let _ = process.child.kill();
            let _ = process.child.wait();
        }
    }
}

/// The `trine` binary of this build's profile, built once if need be.
///
/// # Panics
/// If it cannot be built.
pub fn binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| program("trine-node", "trine"))
}

/// A binary of this workspace, of this build's profile. In the development profile it is the one that
/// `cargo test --workspace` has built, whose core checks itself: any other choice of packages has other features of what
/// they stand on, and most of that would be built again.
///
/// # Panics
/// If it cannot be built.
pub fn program(package: &str, name: &str) -> PathBuf {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    let folder = if cfg!(debug_assertions) {
        command.args(["test", "--quiet", "--workspace", "--no-run"]);
        "debug"
    } else {
        command.args(["build", "--quiet", "--release", "--package", package, "--bin", name]);
        "release"
    };
    let status = command.current_dir(crate::workspace()).status().expect("cargo can be run");
    assert!(status.success(), "the {name} binary could not be built");
    crate::target().join(folder).join(name)
}
