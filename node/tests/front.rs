//! HAProxy with the file of docs/examples, in front of three nodes of which one is killed.

#![allow(clippy::unwrap_used, reason = "in a test, the panic is the report")]

use std::fs;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

mod support;

use support::cluster::Cluster;
use support::ports::free_port;
use support::s3::{Client, Response};

/// What HAProxy needs beside what every Debian has.
const PACKAGES: [&str; 4] =
    ["haproxy", "liblua5.3-0", "libopentracing-c-wrapper0", "libopentracing1"];

/// How long an S3 client goes on trying, as real ones do.
const RETRY_MAX: Duration = Duration::from_secs(30);

#[test]
fn clients_of_a_load_balancer_go_on_while_a_node_is_killed() {
    let mut cluster = Cluster::start();
    let port = free_port();
    let proxy = Proxy::start(cluster.folder.path(), port, cluster.s3);
    let mut client = Client::new(&format!("127.0.0.1:{port}"), "root", "hunter22hunter22");
    // A second attempt may find what the first one has made.
    assert!(matches!(retry(&mut client, "PUT", "/demo", b"").status, 200 | 409));
    for number in 0..60 {
        if number == 20 {
            cluster.kill(2);
        }
        if number == 40 {
            cluster.spawn(2);
        }
        let (target, body) = (format!("/demo/{number:02}"), format!("body {number}"));
        assert_eq!(retry(&mut client, "PUT", &target, body.as_bytes()).status, 200);
        let got = retry(&mut client, "GET", &target, b"");
        assert_eq!(got.body, body.as_bytes(), "{}", got.head);
        let list = retry(&mut client, "GET", "/demo?list-type=2", b"");
        let keys = String::from_utf8(list.body).unwrap().matches("<Key>").count();
        assert_eq!(keys, number + 1, "what was acknowledged is listed");
    }
    drop(proxy);
}

/// Send a request until it is answered otherwise than by "try again": its connection may be to the
/// node that was killed just now.
fn retry(client: &mut Client, method: &str, target: &str, body: &[u8]) -> Response {
    let until = Instant::now() + RETRY_MAX;
    loop {
        match client.request(method, target, body) {
            Ok(response) if !(502..=504).contains(&response.status) => return response,
            answer => assert!(Instant::now() < until, "{method} {target}: {answer:?}"),
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// A running HAProxy. Dropped, it is killed.
struct Proxy(Child);

impl Proxy {
    fn start(folder: &Path, port: u16, nodes: [u16; 3]) -> Self {
        let (binary, libraries) = haproxy();
        let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/examples/haproxy.cfg");
        let mut text = fs::read_to_string(example).unwrap();
        let pairs = [("127.0.0.1:9000", port)]
            .into_iter()
            .chain(["127.0.0.1:9001", "127.0.0.1:9002", "127.0.0.1:9003"].into_iter().zip(nodes));
        for (there, port) in pairs {
            assert!(text.contains(there), "the example names {there}");
            text = text.replace(there, &format!("127.0.0.1:{port}"));
        }
        let file = folder.join("haproxy.cfg");
        fs::write(&file, text).unwrap();
        let child = Command::new(binary)
            .env("LD_LIBRARY_PATH", libraries)
            .arg("-f")
            .arg(file)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let proxy = Self(child);
        let until = Instant::now() + RETRY_MAX;
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(Instant::now() < until, "HAProxy does not listen");
            std::thread::sleep(Duration::from_millis(20));
        }
        proxy
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// HAProxy's binary and where its libraries are: the installed one, or Debian's packages unpacked
/// below `target/`.
fn haproxy() -> (PathBuf, PathBuf) {
    if runs(Path::new("haproxy"), Path::new("")) {
        return (PathBuf::from("haproxy"), PathBuf::new());
    }
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("haproxy");
    let (binary, libraries) = (target.join("usr/sbin/haproxy"), target.join("usr/lib"));
    let libraries = libraries.join(format!("{}-linux-gnu", std::env::consts::ARCH));
    if !runs(&binary, &libraries) {
        fs::create_dir_all(&target).unwrap();
        for package in PACKAGES {
            // One that is installed may have no source any more; what counts is whether it runs.
            let _ = Command::new("apt-get")
                .args(["download", "-qq", package])
                .current_dir(&target)
                .stderr(Stdio::null())
                .status();
        }
        for entry in fs::read_dir(&target).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|extension| extension == "deb") {
                let unpacked = Command::new("dpkg").arg("-x").arg(&path).arg(&target).status();
                assert!(unpacked.is_ok_and(|status| status.success()), "{}", path.display());
            }
        }
    }
    assert!(
        runs(&binary, &libraries),
        "HAProxy can be neither run nor fetched with `apt-get download haproxy`: install it"
    );
    (binary, libraries)
}

fn runs(binary: &Path, libraries: &Path) -> bool {
    let mut command = Command::new(binary);
    command.arg("-v").env("LD_LIBRARY_PATH", libraries);
    let status = command.stdout(Stdio::null()).stderr(Stdio::null()).status();
    status.is_ok_and(|status| status.success())
}
