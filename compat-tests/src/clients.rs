//! The three clients that every test run uses, with a clean environment.

use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use crate::fetch::Kit;
use crate::server::Server;

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
        let folder = Kit::Smoke.fetch().unwrap_or_else(|error| panic!("{error}"));
        Self { bin: folder.join("bin") }
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
        if let Some(ca) = server.ca() {
            // The second is for what Python fetches without boto3.
            command.env("AWS_CA_BUNDLE", &ca).env("SSL_CERT_FILE", ca);
        }
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
