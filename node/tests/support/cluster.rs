//! Three `trine node` processes, one for each zone, on loopback ports; killed by id when dropped.

use std::fs;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::ports::free_port;
use super::s3::Client;
use super::{CAPACITY, binary, output};

/// How long the cluster may take to be as it should. Machines that run tests are busy ones.
const PATIENCE: Duration = Duration::from_secs(90);

/// Nodes by number.
pub(crate) const NAMES: [&str; 3] = ["a1", "b1", "c1"];

/// A cluster.
pub(crate) struct Cluster {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) s3: [u16; 3],
    children: [Option<Child>; 3],
}

impl Cluster {
    /// Start all three, and wait until each answers for two zones at least.
    pub(crate) fn start() -> Self {
        Self::start_with(|config| config)
    }

    /// The same with a configuration file that is changed before.
    pub(crate) fn start_with(change: impl Fn(String) -> String) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let ports = free_ports();
        let s3 = [ports[0], ports[1], ports[2]];
        fs::write(folder.path().join("cluster.toml"), change(config(&ports))).unwrap();
        let mut cluster = Self { folder, s3, children: [None, None, None] };
        for number in 0..3 {
            cluster.spawn(number);
        }
        for number in 0..3 {
            cluster.wait_ready(number);
        }
        cluster
    }

    /// The configuration file of all nodes.
    pub(crate) fn config(&self) -> PathBuf {
        self.folder.path().join("cluster.toml")
    }

    /// A node's data directory.
    pub(crate) fn data(&self, number: usize) -> PathBuf {
        self.folder.path().join(NAMES[number])
    }

    /// Start a node that does not run.
    pub(crate) fn spawn(&mut self, number: usize) {
        let log = self.folder.path().join(format!("{}.log", NAMES[number]));
        let log = fs::File::options().create(true).append(true).open(log).unwrap();
        let mut command = node_command(&self.config(), NAMES[number]);
        command.arg("--data").arg(self.data(number));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        self.children[number] = Some(command.spawn().unwrap());
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self, number: usize) {
        let mut child = self.children[number].take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// An S3 client of a node.
    pub(crate) fn client(&self, number: usize) -> Client {
        Client::new(&format!("127.0.0.1:{}", self.s3[number]), "root", "hunter22hunter22")
    }

    /// `trine admin ARGS` at a node.
    pub(crate) fn admin(&self, number: usize, args: &[&str]) -> Output {
        admin(&self.data(number), args)
    }

    /// Its status; the panic shows what it said instead.
    pub(crate) fn status(&self, number: usize) -> Value {
        let output = self.admin(number, &["status", "--json"]);
        let errors = String::from_utf8_lossy(&output.stderr);
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {errors}"))
    }

    /// Wait until a status is as it should be.
    pub(crate) fn wait_status(
        &self,
        number: usize,
        what: &str,
        fits: impl Fn(&Value) -> bool,
    ) -> Value {
        let until = Instant::now() + PATIENCE;
        loop {
            let status = self.status(number);
            if fits(&status) {
                return status;
            }
            assert!(Instant::now() < until, "{what}: {status:#}\n{}", self.logs());
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    /// Wait until a node listens and a list of buckets comes from it.
    pub(crate) fn wait_ready(&mut self, number: usize) {
        let until = Instant::now() + PATIENCE;
        loop {
            let child = self.children[number].as_mut().unwrap();
            if let Some(status) = child.try_wait().unwrap() {
                panic!("{} ended with {status}\n{}", NAMES[number], self.logs());
            }
            let listens = TcpStream::connect(("127.0.0.1", self.s3[number])).is_ok();
            if listens
                && self.client(number).request("GET", "/", b"").is_ok_and(|r| r.status == 200)
            {
                return;
            }
            assert!(Instant::now() < until, "{} is not ready\n{}", NAMES[number], self.logs());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// What all nodes have logged.
    pub(crate) fn logs(&self) -> String {
        let log = |name: &&str| {
            let text = fs::read_to_string(self.folder.path().join(format!("{name}.log")));
            format!("== {name}\n{}", text.unwrap_or_default())
        };
        NAMES.iter().map(log).collect()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for child in self.children.iter_mut().flatten() {
            // It may have ended already.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// `trine node`, in a clean environment.
pub(crate) fn node_command(config: &Path, name: &str) -> Command {
    let mut command = Command::new(binary());
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("TRINE_") {
            command.env_remove(name);
        }
    }
    command.args(["node", "--capacity", CAPACITY, "--node", name, "--config"]).arg(config);
    command
}

/// `trine admin --data DATA ARGS`.
pub(crate) fn admin(data: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(binary());
    command.env_remove("TRINE_DATA").args(["admin", "--data"]).arg(data).args(args);
    output(command)
}

/// Three ports for S3 and three for peers.
pub(crate) fn free_ports() -> Vec<u16> {
    (0..6).map(|_| free_port()).collect()
}

/// A file that all three share.
pub(crate) fn config(ports: &[u16]) -> String {
    let mut text = "cluster = \"6d6561737572696e67206f6e65206761\"\nroot_access_key = \"root\"\n\
                    root_secret_key = \"hunter22hunter22\"\n"
        .to_owned();
    for (number, name) in NAMES.iter().enumerate() {
        text += &format!(
            "[[nodes]]\nname = \"{name}\"\nid = {id}\nzone = \"{zone}\"\n\
             peer = \"127.0.0.1:{peer}\"\ns3 = \"127.0.0.1:{s3}\"\nstores = [{id}]\n",
            id = number + 1,
            zone = &name[..1],
            peer = ports[3 + number],
            s3 = ports[number],
        );
    }
    text
}
