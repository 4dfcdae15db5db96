//! One zone of three dies, and nobody notices: three `trine node` processes under load from boto3 and
//! `aws s3 sync`, while one zone is killed, paused or cut off, again and again.
//!
//! `cargo run --release -p trine-compat-tests --bin three-zones [ROUNDS]` (20 rounds of each by
//! default). It prints a table of the longest time that a client of a surviving gateway went without
//! a success, for reads and writes apart, and fails if
//! - any such client saw a failed request (3 s timeout, no retries), or `aws s3 sync` failed;
//! - an acknowledged object is lost or wrong, or a copy is missing once the zone is back
//!   (`trine admin audit`), or after all three processes were killed at once;
//! - a store that was wiped is not rebuilt while clients run.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use trine_compat_tests::clients::Clients;
use trine_compat_tests::cluster::{Cluster, ZONES};
use trine_compat_tests::{scratch, tree};

/// Clients run undisturbed for so long before each fault.
const BEFORE: Duration = Duration::from_millis(1500);
/// And so long after it is over and everything is whole again.
const AFTER: Duration = Duration::from_millis(500);
/// How long each fault lasts.
const FAULT: Duration = Duration::from_secs(4);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    Kill,
    Pause,
    Cut,
}

const FAULTS: [(Fault, &str); 3] =
    [(Fault::Kill, "kill -9"), (Fault::Pause, "SIGSTOP"), (Fault::Cut, "network cut (silent)")];

/// Longest times without a success, one for each round, in seconds.
#[derive(Debug, Default)]
struct Gaps {
    reads: Vec<f64>,
    writes: Vec<f64>,
    leader_died: u32,
}

fn main() {
    let rounds: u32 = std::env::args().nth(1).map_or(20, |text| {
        text.parse().unwrap_or_else(|_| panic!("a number of rounds, not {text:?}"))
    });
    let folder = scratch("three-zones");
    let clients = Clients::install();
    let mut cluster = Cluster::start(&folder);
    clients.boto3(&cluster.endpoint(0), "s3.create_bucket(Bucket='load')", &[]);
    let source = folder.join("source");
    tree::make(&source, tree::Shape { files: 40, per_folder: 10, bytes: 4 << 20 }, 9);

    let load = Load { clients: &clients, folder: &folder, source: &source };
    let mut table = Vec::new();
    for (fault, name) in FAULTS {
        let mut gaps = Gaps::default();
        for round in 0..rounds {
            load.round(&mut cluster, fault, round, &mut gaps);
        }
        println!("{name}: {rounds} rounds, audit: {}", cluster.audit().trim());
        table.push((name, gaps));
    }
    wipe(&load, &mut cluster);
    kill_all(&load, &mut cluster, rounds);
    print_table(&table);
    drop(cluster);
    fs::remove_dir_all(folder).expect("it is our folder");
}

struct Load<'a> {
    clients: &'a Clients,
    folder: &'a Path,
    source: &'a Path,
}

/// Clients at work at one gateway.
struct Probe {
    child: Child,
    log: PathBuf,
}

impl Load<'_> {
    /// One zone fails and comes back, while clients of the others go on.
    fn round(&self, cluster: &mut Cluster, fault: Fault, round: u32, gaps: &mut Gaps) {
        // The leader's zone and the others in turn.
        let leader = cluster.leader(0).expect("a whole cluster has a leader");
        let victim = (leader + round as usize % 3) % 3;
        gaps.leader_died += u32::from(victim == leader);
        let survivors: Vec<usize> = (0..ZONES.len()).filter(|number| *number != victim).collect();
        let name = format!("{fault:?}-{round}").to_lowercase();
        let probes: Vec<Probe> =
            survivors.iter().map(|number| self.probe(cluster, *number, &name)).collect();
        let mut sync = self.sync(cluster, survivors[0], &name);
        std::thread::sleep(BEFORE);

        let begun = unix_time();
        match fault {
            Fault::Kill => cluster.kill(&[victim]),
            Fault::Pause => cluster.pause(victim),
            Fault::Cut => cluster.cut(victim, true),
        }
        std::thread::sleep(FAULT);
        let ended = unix_time();
        match fault {
            Fault::Kill => cluster.restart(&[victim]),
            Fault::Pause => cluster.resume(victim),
            Fault::Cut => cluster.cut(victim, false),
        }
        cluster.wait_whole();
        std::thread::sleep(AFTER);
        let (mut reads, mut writes) = (0.0, 0.0);
        for probe in probes {
            let seen = probe.end(begun, ended);
            reads = f64::max(reads, seen.0);
            writes = f64::max(writes, seen.1);
        }
        self.end_sync(&mut sync, &name);
        let (is, zone) = (if victim == leader { "the leader's" } else { "a" }, ZONES[victim]);
        println!(
            "{name}: {is} zone {zone}: longest gap {reads:.3} s reading, {writes:.3} s writing"
        );
        gaps.reads.push(reads);
        gaps.writes.push(writes);
    }

    fn probe(&self, cluster: &Cluster, gateway: usize, name: &str) -> Probe {
        let log = self.folder.join(format!("probe-{name}-{}.txt", ZONES[gateway]));
        let child = self
            .clients
            .command("python3", &cluster.endpoint(gateway))
            .arg("-c")
            .arg(include_str!("three_zones_probe.py"))
            .arg(&log)
            .arg(format!("{name}-{}", ZONES[gateway]))
            .stdin(Stdio::piped())
            .spawn()
            .expect("python3 can be started");
        Probe { child, log }
    }

    /// `aws s3 sync` to a new prefix, again and again.
    fn sync(&self, cluster: &Cluster, gateway: usize, name: &str) -> Child {
        const LOOP: &str = "import subprocess, sys, os\n\
            aws, source, target = sys.argv[1:4]\n\
            n = 0\n\
            import threading\n\
            over = threading.Event()\n\
            threading.Thread(target=lambda: (sys.stdin.read(), over.set()), daemon=True).start()\n\
            while not over.is_set():\n    \
            subprocess.run([aws, '--endpoint-url', os.environ['ENDPOINT'], '--cli-read-timeout', '3', \
            '--cli-connect-timeout', '3', 's3', 'sync', '--only-show-errors', source, \
            f'{target}/{n}/'], check=True)\n    \
            n += 1\n";
        let mut command = self.clients.command("python3", &cluster.endpoint(gateway));
        command
            .arg("-c")
            .arg(LOOP)
            .arg(self.clients.path("aws"))
            .arg(self.source)
            .arg(format!("s3://load/sync-{name}"))
            .stdin(Stdio::piped());
        command.spawn().expect("python3 can be started")
    }

    fn end_sync(&self, sync: &mut Child, name: &str) {
        drop(sync.stdin.take());
        let status = sync.wait().expect("our child can be waited for");
        assert!(status.success(), "{name}: aws s3 sync failed; what it said is above");
    }
}

impl Probe {
    /// The longest times without a success, of reads and of writes, by one client, that touch the
    /// time between `begun` and `ended`.
    fn end(mut self, begun: f64, ended: f64) -> (f64, f64) {
        drop(self.child.stdin.take());
        let status = self.child.wait().expect("our child can be waited for");
        let log = fs::read_to_string(&self.log).expect("the probe wrote its log");
        let failed: Vec<&str> = log.lines().filter(|line| line.contains("failed")).collect();
        assert!(failed.is_empty(), "requests failed at a surviving gateway: {failed:#?}");
        assert!(status.success(), "the probe ended with {status}; what it said is above");
        let mut gaps = (0.0, 0.0);
        let mut lasts = std::collections::BTreeMap::<&str, f64>::new();
        for line in log.lines() {
            let mut words = line.split(' ');
            let mut word = || words.next().expect("the probe writes `client kind time`");
            let (client, kind, at) = (word(), word(), word().parse::<f64>().expect("seconds"));
            let last = lasts.insert(client, at).unwrap_or(at);
            if at >= begun && last <= ended {
                let gap = if kind == "read" { &mut gaps.0 } else { &mut gaps.1 };
                *gap = f64::max(*gap, at - last);
            }
        }
        assert!(lasts.len() == 4, "two readers and two writers: {lasts:?}");
        for (client, last) in lasts {
            assert!(last > ended, "{client} had no success after the fault");
        }
        gaps
    }
}

/// A store's disk is lost; it is replaced while clients run.
fn wipe(load: &Load<'_>, cluster: &mut Cluster) {
    let victim = 1;
    let probe = load.probe(cluster, 0, "wipe");
    std::thread::sleep(BEFORE);
    let begun = unix_time();
    cluster.kill(&[victim]);
    cluster.wipe(victim);
    cluster.restart(&[victim]);
    // The node started without its store, and gets a new one.
    let output = cluster.admin(victim, &["store", "replace", "2", "--wait"]);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "store replace: {errors}");
    cluster.wait_whole();
    let ended = unix_time();
    std::thread::sleep(AFTER);
    let (reads, writes) = probe.end(begun, ended);
    println!(
        "wiped store: rebuilt in {:.1} s under load, longest gap {reads:.3} s reading, {writes:.3} s \
         writing; audit: {}",
        ended - begun,
        cluster.audit().trim()
    );
}

/// All three processes are killed at once: what was acknowledged is there.
fn kill_all(load: &Load<'_>, cluster: &mut Cluster, rounds: u32) {
    let mut logs = Vec::new();
    for round in 0..rounds {
        let name = format!("all-{round}");
        let mut probe = load.probe(cluster, round as usize % 3, &name);
        std::thread::sleep(BEFORE + Duration::from_millis(u64::from(round) * 137 % 900));
        cluster.kill(&[0, 1, 2]);
        probe.child.kill().expect("our child can be killed");
        probe.child.wait().expect("our child can be waited for");
        cluster.restart(&[0, 1, 2]);
        cluster.wait_whole();
        logs.push(probe.log.to_str().expect("a path in UTF-8").to_owned());
        let args: Vec<&str> = logs.iter().map(String::as_str).collect();
        let endpoint = cluster.endpoint((round as usize + 1) % 3);
        let verified = load.clients.boto3(&endpoint, include_str!("three_zones_verify.py"), &args);
        print!("all three killed, round {round}: {}", String::from_utf8_lossy(&verified.stdout));
    }
    println!("all three killed {rounds} times: audit: {}", cluster.audit().trim());
}

fn print_table(table: &[(&str, Gaps)]) {
    println!("\n| one zone | rounds (leader's) | reads: median, worst | writes: median, worst |");
    println!("|---|---|---|---|");
    for (name, gaps) in table {
        let show = |gaps: &[f64]| {
            let mut sorted = gaps.to_vec();
            sorted.sort_by(f64::total_cmp);
            let worst = sorted.last().copied().unwrap_or_default();
            format!("{:.3} s, {worst:.3} s", sorted.get(sorted.len() / 2).unwrap_or(&worst))
        };
        println!(
            "| {name} | {} ({}) | {} | {} |",
            gaps.reads.len(),
            gaps.leader_died,
            show(&gaps.reads),
            show(&gaps.writes)
        );
    }
    let longest = table.iter().flat_map(|(_, gaps)| gaps.reads.iter().chain(&gaps.writes));
    println!("\nlongest of all: {:.3} s", longest.copied().fold(0.0, f64::max));
}

fn unix_time() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("it is after 1970").as_secs_f64()
}
