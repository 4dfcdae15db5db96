//! The clients: fetched from pip into `target/clients`, once, and run with a clean environment.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use crate::server::Server;

/// What pip is asked for. Released versions of 2026; a change here makes a new environment.
const PACKAGES: [&str; 3] = ["awscli==1.46.2", "boto3==1.44.5", "s3cmd==2.4.0"];
/// How long another process may take to fetch them before we give up waiting for it.
const INSTALL_WAIT: Duration = Duration::from_secs(600);

/// The installed clients.
#[derive(Debug)]
pub struct Clients {
    bin: PathBuf,
}

impl Clients {
    /// Fetch the clients into `target/clients`, unless they are there.
    ///
    /// # Panics
    /// With what to do, if python3 or the packages cannot be had: clients that are not tested are
    /// not skipped in silence.
    pub fn install() -> Self {
        let home = crate::target().join("clients");
        let bin = home.join("venv").join("bin");
        let done = home.join("installed.txt");
        let wanted = PACKAGES.join("\n");
        let is_done = || fs::read_to_string(&done).is_ok_and(|text| text == wanted);
        fs::create_dir_all(&home).expect("target/ is writable");
        let lock = home.join("lock");
        let begun = Instant::now();
        while !is_done() {
            // `create_dir` is atomic: whoever makes the lock installs, others wait for it.
            if fs::create_dir(&lock).is_ok() {
                let result = install(&home, &done, &wanted);
                fs::remove_dir(&lock).expect("the lock is ours");
                if let Err(error) = result {
                    panic!("{error}");
                }
            } else {
                assert!(
                    begun.elapsed() < INSTALL_WAIT,
                    "another process has held {} for {INSTALL_WAIT:?}; if none is running, remove it",
                    lock.display()
                );
                std::thread::sleep(Duration::from_millis(200));
            }
        }
        Self { bin }
    }

    /// Where a client's program is.
    pub fn path(&self, program: &str) -> PathBuf {
        self.bin.join(program)
    }

    /// A client's command, with credentials for `server` and nothing else of our environment.
    pub fn command(&self, program: &str, server: &Server) -> Command {
        let mut command = Command::new(self.path(program));
        command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", crate::target().join("clients"))
            .env("AWS_ACCESS_KEY_ID", server.access_key())
            .env("AWS_SECRET_ACCESS_KEY", server.secret_key())
            .env("AWS_DEFAULT_REGION", "us-east-1")
            // Failures are to be seen, not retried away.
            .env("AWS_MAX_ATTEMPTS", "1")
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .env("ENDPOINT", server.endpoint())
            .stdin(Stdio::null());
        command
    }

    /// `aws --endpoint-url … ARGS`.
    pub fn aws(&self, server: &Server, args: &[&str]) -> Output {
        let mut command = self.command("aws", server);
        command.arg("--endpoint-url").arg(server.endpoint()).args(args);
        run(command)
    }

    /// `s3cmd … ARGS`.
    pub fn s3cmd(&self, server: &Server, args: &[&str]) -> Output {
        let mut command = self.command("s3cmd", server);
        let host = server.host();
        command
            .arg("--config=/dev/null")
            .arg(format!("--access_key={}", server.access_key()))
            .arg(format!("--secret_key={}", server.secret_key()))
            .arg(format!("--host={host}"))
            .arg(format!("--host-bucket={host}"))
            .args(["--no-ssl", "--no-progress"])
            .args(args);
        run(command)
    }

    /// A Python script, with `s3` ready as a boto3 client and `ENDPOINT` in its environment.
    pub fn boto3(&self, server: &Server, script: &str, args: &[&str]) -> Output {
        const PRELUDE: &str = "import os, sys, boto3, botocore\n\
            from botocore.config import Config\n\
            s3 = boto3.client('s3', endpoint_url=os.environ['ENDPOINT'], \
            config=Config(retries={'max_attempts': 0}, s3={'addressing_style': 'path'}))\n";
        let mut command = self.command("python3", server);
        command.arg("-c").arg(format!("{PRELUDE}{script}")).args(args);
        run(command)
    }
}

/// Run a client; whatever it printed is in the panic if it fails.
///
/// # Panics
/// If it cannot be started or exits with an error.
fn run(mut command: Command) -> Output {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(
        output.status.success(),
        "{command:?}\n{}\n--- stdout\n{}\n--- stderr\n{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    output
}

fn install(home: &std::path::Path, done: &std::path::Path, wanted: &str) -> Result<(), String> {
    let venv = home.join("venv");
    eprintln!("fetching {} into {}", PACKAGES.join(", "), venv.display());
    let python = std::env::var_os("PYTHON").unwrap_or_else(|| "python3".into());
    attempt(Command::new(python).args(["-m", "venv", "--clear"]).arg(&venv)).map_err(|error| {
        format!("real clients need python3 with venv (Debian: apt install python3-venv): {error}")
    })?;
    let pip = venv.join("bin").join("pip");
    attempt(Command::new(pip).args(["install", "--quiet"]).args(PACKAGES)).map_err(|error| {
        format!("the clients {} could not be had from pip: {error}", PACKAGES.join(", "))
    })?;
    fs::write(done, wanted).map_err(|error| format!("{}: {error}", done.display()))
}

fn attempt(command: &mut Command) -> Result<(), String> {
    let output = command.output().map_err(|error| format!("{command:?}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr)))
}
