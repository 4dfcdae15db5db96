//! A `trine` process of our own, or an endpoint that runs already.

use std::io::{BufRead, BufReader};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// How long a start may take before it counts as hanging. (That it is quick is measured elsewhere.)
const START_LIMIT: Duration = Duration::from_secs(60);

/// An endpoint with its key pair.
#[derive(Debug)]
pub struct Server {
    address: String,
    access_key: String,
    secret_key: String,
    process: Option<Process>,
}

#[derive(Debug)]
struct Process {
    child: Child,
    data: PathBuf,
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
        let port = crate::ports::free_port();
        let mut server = Self {
            address: format!("127.0.0.1:{port}"),
            access_key: "compat".to_owned(),
            secret_key: "compat-secret-key".to_owned(),
            process: None,
        };
        server.process = Some(server.spawn(data));
        server
    }

    /// An endpoint that somebody else runs.
    pub fn at(address: String, access_key: &str, secret_key: &str) -> Self {
        let (access_key, secret_key) = (access_key.to_owned(), secret_key.to_owned());
        Self { address, access_key, secret_key, process: None }
    }

    /// `host:port`.
    pub fn host(&self) -> &str {
        &self.address
    }

    /// `http://host:port`.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
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
        self.process = Some(self.spawn(&process.data));
    }

    fn spawn(&self, data: &Path) -> Process {
        let mut child = Command::new(binary())
            .arg("--data")
            .arg(data)
            .arg("--listen")
            .arg(&self.address)
            .env("TRINE_ROOT_ACCESS_KEY", &self.access_key)
            .env("TRINE_ROOT_SECRET_KEY", &self.secret_key)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the trine binary can be started");
        let stderr = child.stderr.take().expect("it is piped");
        let log = std::thread::spawn(move || {
            let lines = BufReader::new(stderr).lines().map_while(Result::ok);
            // Passed on, so that a failing test shows what the server had to say.
            lines.for_each(|line| eprintln!("trine: {line}"));
        });
        let begun = Instant::now();
        while TcpStream::connect(&self.address).is_err() {
            if let Some(status) = child.try_wait().expect("our child can be asked") {
                log.join().expect("the log reader does not panic");
                panic!("trine ended at its start with {status}; its log is above");
            }
            assert!(begun.elapsed() < START_LIMIT, "trine did not listen within {START_LIMIT:?}");
            std::thread::sleep(Duration::from_millis(10));
        }
        Process { child, data: data.to_owned() }
    }
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
    BINARY.get_or_init(|| {
        let profile = if cfg!(debug_assertions) { "dev" } else { "release" };
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let status = Command::new(cargo)
            .args(["build", "--quiet", "--package", "trine-node", "--bin", "trine"])
            .args(["--profile", profile])
            .current_dir(crate::workspace())
            .status()
            .expect("cargo can be run");
        assert!(status.success(), "the trine binary could not be built");
        let folder = if cfg!(debug_assertions) { "debug" } else { "release" };
        crate::target().join(folder).join("trine")
    })
}
