//! Three `trine node` processes, one for each zone, whose links run through proxies of ours, so that
//! a zone can be killed, paused or cut off from the others, and come back.

use std::collections::BTreeMap;
use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::ports::free_port;
use crate::proxy::{Mode, Proxy};
use crate::server::{Server, binary};

/// How long a node may take to listen, and the cluster to be whole again.
const LIMIT: Duration = Duration::from_secs(180);
/// The zones, by number.
pub const ZONES: [&str; 3] = ["a", "b", "c"];

const ACCESS_KEY: &str = "compat";
const SECRET_KEY: &str = "compat-secret-key";

/// A cluster of three processes. Dropped, they are killed.
#[derive(Debug)]
pub struct Cluster {
    nodes: Vec<Node>,
    /// By who dials and who is dialled.
    proxies: BTreeMap<(usize, usize), Proxy>,
}

#[derive(Debug)]
struct Node {
    config: PathBuf,
    data: PathBuf,
    log: PathBuf,
    s3: SocketAddr,
    child: Option<Child>,
}

impl Cluster {
    /// Three nodes with their data below `folder`, started, serving and whole.
    ///
    /// # Panics
    /// If a node does not start; its log is named.
    pub fn start(folder: &Path) -> Self {
        let loopback = |port| SocketAddr::from(([127, 0, 0, 1], port));
        let peers: Vec<SocketAddr> = ZONES.iter().map(|_| loopback(free_port())).collect();
        let mut proxies = BTreeMap::new();
        for dialer in 0..ZONES.len() {
            for target in (0..ZONES.len()).filter(|target| *target != dialer) {
                let proxy = Proxy::start(peers[target]).expect("loopback has a free port");
                proxies.insert((dialer, target), proxy);
            }
        }
        let nodes = (0..ZONES.len())
            .map(|number| {
                let name = ZONES[number];
                let (config, data) = (folder.join(format!("{name}.toml")), folder.join(name));
                Node {
                    config,
                    log: folder.join(format!("{name}.log")),
                    data,
                    s3: loopback(free_port()),
                    child: None,
                }
            })
            .collect();
        let mut cluster = Self { nodes, proxies };
        for number in 0..ZONES.len() {
            fs::write(&cluster.nodes[number].config, cluster.config(number, &peers))
                .expect("the folder is ours");
        }
        for number in 0..ZONES.len() {
            cluster.spawn(number);
        }
        for number in 0..ZONES.len() {
            cluster.wait_listening(number);
        }
        cluster.wait_whole();
        cluster
    }

    /// The configuration of a node, which reaches the others through its own proxies.
    fn config(&self, me: usize, peers: &[SocketAddr]) -> String {
        let mut text = format!(
            "cluster = \"6d6561737572696e67206f6e65206761\"\nnode = \"{}\"\ndata = {:?}\n\
             root_access_key = \"{ACCESS_KEY}\"\nroot_secret_key = \"{SECRET_KEY}\"\n",
            ZONES[me], self.nodes[me].data
        );
        for (number, zone) in ZONES.iter().enumerate() {
            let peer = match self.proxies.get(&(me, number)) {
                Some(proxy) => proxy.address(),
                None => peers[number],
            };
            text += &format!(
                "\n[[nodes]]\nname = \"{zone}\"\nid = {id}\nzone = \"{zone}\"\npeer = \"{peer}\"\n\
                 s3 = \"{}\"\nstores = [{id}]\n",
                self.nodes[number].s3,
                id = number + 1,
            );
        }
        text
    }

    /// A node's S3 endpoint.
    pub fn endpoint(&self, number: usize) -> Server {
        Server::at(self.nodes[number].s3.to_string(), ACCESS_KEY, SECRET_KEY)
    }

    /// `kill -9` the processes at once.
    ///
    /// # Panics
    /// If one does not run.
    pub fn kill(&mut self, numbers: &[usize]) {
        for number in numbers {
            let child = self.nodes[*number].child.as_mut().expect("it runs");
            child.kill().expect("our child can be killed");
        }
        for number in numbers {
            let mut child = self.nodes[*number].child.take().expect("it was killed just now");
            child.wait().expect("our child can be waited for");
        }
    }

    /// Start killed processes again, and wait until they listen.
    ///
    /// # Panics
    /// If one does not come up.
    pub fn restart(&mut self, numbers: &[usize]) {
        for number in numbers {
            self.spawn(*number);
        }
        for number in numbers {
            self.wait_listening(*number);
        }
    }

    /// Take a killed node's disk away.
    ///
    /// # Panics
    /// If it is not there.
    pub fn wipe(&self, number: usize) {
        let store = self.nodes[number].data.join(format!("store-{}", number + 1));
        fs::remove_file(&store).unwrap_or_else(|error| panic!("{}: {error}", store.display()));
    }

    /// SIGSTOP.
    pub fn pause(&self, number: usize) {
        self.signal(number, "-STOP");
    }

    /// SIGCONT.
    pub fn resume(&self, number: usize) {
        self.signal(number, "-CONT");
    }

    /// Swallow all that goes between a node and the others, or let it pass again.
    pub fn cut(&self, number: usize, cut: bool) {
        let mode = if cut { Mode::Swallow } else { Mode::Forward };
        for ((dialer, target), proxy) in &self.proxies {
            if *dialer == number || *target == number {
                proxy.set(mode);
            }
        }
    }

    /// `trine admin ARGS` at a node.
    pub fn admin(&self, number: usize, args: &[&str]) -> Output {
        Command::new(binary())
            .args(["admin", "--data"])
            .arg(&self.nodes[number].data)
            .args(args)
            .stdin(Stdio::null())
            .output()
            .expect("the trine binary can be started")
    }

    /// What `trine admin status --json` says at a node, if it answers.
    pub fn status(&self, number: usize) -> Option<Value> {
        let output = self.admin(number, &["status", "--json"]);
        serde_json::from_slice(&output.stdout).ok()
    }

    /// Which node's store leads, as node `asked` knows.
    pub fn leader(&self, asked: usize) -> Option<usize> {
        let status = self.status(asked)?;
        let store = leader_in(&status)?;
        usize::try_from(store).ok()?.checked_sub(1)
    }

    /// Wait until every copy is where it belongs.
    ///
    /// # Panics
    /// If that takes too long.
    pub fn wait_whole(&self) {
        let begun = Instant::now();
        loop {
            let status = (0..ZONES.len()).find_map(|number| self.status(number));
            if status.as_ref().is_some_and(is_whole) {
                return;
            }
            assert!(begun.elapsed() < LIMIT, "not whole after {LIMIT:?}: {status:#?}");
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// `trine admin audit`: every copy of everything is read and compared.
    ///
    /// # Panics
    /// If a copy is missing or wrong; the findings are in the message.
    pub fn audit(&self) -> String {
        let output = self.admin(0, &["audit"]);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "the audit found: {text}\n{errors}");
        text
    }

    fn signal(&self, number: usize, signal: &str) {
        let child = self.nodes[number].child.as_ref().expect("it runs");
        let status = Command::new("kill").args([signal, &child.id().to_string()]).status();
        assert!(status.expect("kill can be run").success(), "kill {signal}");
    }

    fn spawn(&mut self, number: usize) {
        let node = &mut self.nodes[number];
        let log = fs::File::options().create(true).append(true).open(&node.log);
        let child = Command::new(binary())
            .args(["node", "--config"])
            .arg(&node.config)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log.expect("the folder is ours"))
            .spawn()
            .expect("the trine binary can be started");
        node.child = Some(child);
    }

    fn wait_listening(&mut self, number: usize) {
        let node = &mut self.nodes[number];
        let begun = Instant::now();
        while TcpStream::connect(node.s3).is_err() {
            let child = node.child.as_mut().expect("it was started");
            if let Some(status) = child.try_wait().expect("our child can be asked") {
                let log = fs::read_to_string(&node.log).unwrap_or_default();
                panic!("node {} ended with {status}: {log}", ZONES[number]);
            }
            assert!(begun.elapsed() < LIMIT, "node {} does not listen", ZONES[number]);
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for child in self.nodes.iter_mut().filter_map(|node| node.child.as_mut()) {
            // Both fail only if it is gone already.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Whether a status says that all is well.
fn is_whole(status: &Value) -> bool {
    status["redundancy"]["full"] == Value::Bool(true)
}

fn leader_in(status: &Value) -> Option<u64> {
    status["ranges"].as_array()?.first()?["leader"].as_u64()
}
