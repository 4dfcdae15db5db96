//! Three `trine node` processes that stand for an older version are upgraded one after the other, under load, and then
//! the cluster's level is raised.

#![allow(clippy::unwrap_used, reason = "in a test, the panic is the report")]

use std::fs;
use std::time::{Duration, Instant};

mod support;

use support::cluster::{Cluster, free_ports};

const OLD: &str = "level_max = \"1\"\n";

fn full(status: &serde_json::Value) -> bool {
    status["redundancy"]["full"] == true
}

/// What an admin command says, and whether it was done.
fn said(cluster: &Cluster, number: usize, args: &[&str]) -> (bool, String) {
    let output = cluster.admin(number, args);
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(text).unwrap())
}

fn refused(cluster: &Cluster, args: &[&str]) -> String {
    let (done, text) = said(cluster, 0, args);
    assert!(!done, "{args:?}: {text}");
    text
}

/// Restart a node, as another version.
fn restart(cluster: &mut Cluster, number: usize, old: bool) {
    let text = fs::read_to_string(cluster.config()).unwrap();
    let text = text.strip_prefix(OLD).unwrap_or(&text).to_owned();
    fs::write(cluster.config(), if old { format!("{OLD}{text}") } else { text }).unwrap();
    cluster.kill(number);
    cluster.spawn(number);
}

fn upgrade(cluster: &mut Cluster, number: usize, old: bool) {
    restart(cluster, number, old);
    cluster.wait_ready(number);
    cluster.wait_status(0, "whole again", full);
    put_and_get(cluster, number);
}

fn put_and_get(cluster: &Cluster, number: usize) {
    let target = format!("/demo/{number}");
    let body = vec![7; 100_000];
    let answer = cluster.client(number).request("PUT", &target, &body).unwrap();
    assert_eq!(answer.status, 200, "{}", answer.head);
    let other = (number + 1) % 3;
    assert_eq!(cluster.client(other).request("GET", &target, b"").unwrap().body, body);
}

#[test]
fn a_cluster_is_upgraded_node_by_node_and_then_its_level_is_raised() {
    let mut cluster = Cluster::start_with(|config| format!("{OLD}{config}"));
    assert_eq!(cluster.client(1).request("PUT", "/demo", b"").unwrap().status, 200);
    cluster.wait_status(0, "whole", full);
    let levels = said(&cluster, 0, &["level"]).1;
    assert!(levels.contains("cluster: level 1\n"), "{levels}");
    assert!(levels.contains("store 3 at c1: speaks level 1\n"), "{levels}");
    let ports = free_ports();
    let (peer, s3) = (format!("127.0.0.1:{}", ports[0]), format!("127.0.0.1:{}", ports[1]));
    let add = ["node", "add", "a2", "--id", "4", "--zone", "a", "--peer", &peer, "--s3", &s3];
    let text = refused(&cluster, &add);
    assert!(text.contains("level 1") && text.contains("take level 2"), "{text}");

    upgrade(&mut cluster, 0, false);
    upgrade(&mut cluster, 2, false);
    // One goes back, and is upgraded again.
    upgrade(&mut cluster, 2, true);
    upgrade(&mut cluster, 2, false);
    let text = refused(&cluster, &["level", "raise"]);
    assert!(text.contains("store-2 has not told") && text.contains("level 2"), "{text}");
    refused(&cluster, &add);
    let status = said(&cluster, 0, &["status"]).1;
    assert!(status.contains("level 1, ") && status.contains("speaks levels 1 to 2"), "{status}");

    upgrade(&mut cluster, 1, false);
    let levels = said(&cluster, 0, &["level"]).1;
    assert!(levels.contains("all speak level 2"), "{levels}");
    // The leader may have to hear them all first.
    let until = Instant::now() + Duration::from_secs(60);
    loop {
        let (done, text) = said(&cluster, 0, &["level", "raise"]);
        if done {
            assert!(text.contains("the cluster is at level 2"), "{text}");
            break;
        }
        assert!(Instant::now() < until, "{text}\n{}", cluster.logs());
    }
    let (done, text) = said(&cluster, 1, &add);
    assert!(done, "{text}");
    let text = refused(&cluster, &["level", "raise", "1"]);
    assert!(text.contains("never goes down"), "{text}");

    // There is no way back: the store says so, and serves again with the newer version.
    restart(&mut cluster, 2, true);
    let status = cluster.wait_status(0, "the old version has stopped", |status| {
        status["stores"][2]["life"] == "halted"
    });
    let why = status["stores"][2]["reason"].as_str().unwrap();
    assert!(why.contains("level 2") && why.contains("speaks level 1"), "{why}");
    put_and_get(&cluster, 0);
    // The new node is not there to be seen: all else is whole.
    restart(&mut cluster, 2, false);
    cluster.wait_ready(2);
    put_and_get(&cluster, 2);
    assert_eq!(cluster.status(2)["map"]["level"], 2);
}
