//! A fourth node joins three `trine node` processes, takes over the store and the vote of one under load, and
//! that one leaves.

#![allow(clippy::unwrap_used, reason = "in a test, the panic is the report")]

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

mod support;

use support::Server;
use support::cluster::{Cluster, free_ports, node_command};
use support::s3::Client;

const NEW: &str = "a2";

fn full(status: &serde_json::Value) -> bool {
    status["redundancy"]["full"] == true
}

fn body(number: u32) -> Vec<u8> {
    number.to_le_bytes().into_iter().cycle().take(100_000).collect()
}

/// What an admin command says, and whether it was done.
fn said(cluster: &Cluster, number: usize, args: &[&str]) -> (bool, String) {
    let output = cluster.admin(number, args);
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(text).unwrap())
}

fn done(cluster: &Cluster, number: usize, args: &[&str]) -> String {
    let (done, text) = said(cluster, number, args);
    assert!(done, "{args:?}: {text}\n{}", cluster.logs());
    text
}

fn refused(cluster: &Cluster, number: usize, args: &[&str]) -> String {
    let (done, text) = said(cluster, number, args);
    assert!(!done, "{args:?}: {text}");
    text
}

#[test]
fn a_node_joins_and_another_leaves_while_clients_write() {
    let mut cluster = Cluster::start();
    let mut client = cluster.client(1);
    assert_eq!(client.request("PUT", "/demo", b"").unwrap().status, 200);
    for number in 0..20 {
        let answer = client.request("PUT", &format!("/demo/{number}"), &body(number)).unwrap();
        assert_eq!(answer.status, 200);
    }
    let ports = free_ports();
    let (at_peer, at_s3) = (format!("127.0.0.1:{}", ports[0]), format!("127.0.0.1:{}", ports[1]));
    let join = |name: &str, id: &str, zone: &str, s3: &str| {
        let args =
            ["node", "add", name, "--id", id, "--zone", zone, "--peer", &at_peer, "--s3", s3];
        args.map(str::to_owned)
    };
    for (args, why) in [
        (join("b1", "4", "a", &at_s3), "has this name"),
        (join(NEW, "2", "a", &at_s3), "is that of node \"b1\""),
        (join(NEW, "4", "d", &at_s3), "there is no zone"),
        (join(NEW, "4", "a", "here"), "names are not looked up"),
        (join(NEW, "4000", "a", &at_s3), "from 1 to 999"),
    ] {
        let text = refused(&cluster, 2, &args.each_ref().map(String::as_str));
        assert!(text.contains(why), "{args:?}: {text}");
    }
    let add = join(NEW, "4", "a", &at_s3);
    let add = add.each_ref().map(String::as_str);
    assert!(done(&cluster, 2, &add).contains("is of the cluster"));
    done(&cluster, 0, &add);

    // It lists the first nodes, and itself. They were not touched.
    let listed = cluster.folder.path().join("with-a2.toml");
    let own = format!(
        "[[nodes]]\nname = \"{NEW}\"\nid = 4\nzone = \"a\"\npeer = \"{at_peer}\"\ns3 = \"{at_s3}\"\n"
    );
    fs::write(&listed, fs::read_to_string(cluster.config()).unwrap() + &own).unwrap();
    let mut command = node_command(&listed, NEW);
    command.arg("--data").arg(cluster.folder.path().join(NEW));
    let joined = Server::from_command(command);
    let client_of_new = || Client::new(joined.address(), "root", "hunter22hunter22");
    let linked = |status: &serde_json::Value| {
        let nodes = status["nodes"].as_array().unwrap();
        let new = nodes.iter().find(|node| node["name"] == NEW);
        new.is_some_and(|new| {
            let links = new["links"].as_array().unwrap();
            links.len() == 3 && links.iter().all(|link| link["up"] == true)
        })
    };
    cluster.wait_status(1, "the new node is linked with all", linked);
    assert_eq!(client_of_new().request("GET", "/demo/7", b"").unwrap().body, body(7));

    // Before anything can take over, node a1 is needed.
    let text = refused(&cluster, 1, &["node", "remove", "a1"]);
    assert!(text.contains("store-1 votes"), "{text}");
    let text = done(&cluster, 1, &["store", "add", "--node", NEW, "--wait"]);
    assert!(text.contains("redundancy is full"), "{text}");

    let over = AtomicBool::new(false);
    let written = thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let mut clients = [cluster.client(1), client_of_new()];
            let mut number = 1000;
            while !over.load(Ordering::Relaxed) {
                let client = &mut clients[number as usize % 2];
                let target = format!("/demo/{number}");
                let answer = client.request("PUT", &target, &body(number)).unwrap();
                assert_eq!(answer.status, 200, "{}", answer.head);
                assert_eq!(client.request("GET", &target, b"").unwrap().body, body(number));
                number += 1;
            }
            number
        });
        let drained = said(&cluster, 1, &["store", "drain", "1", "--wait"]);
        over.store(true, Ordering::Relaxed);
        let written = writer.join().unwrap();
        assert!(drained.0 && drained.1.contains("redundancy is full"), "{}", drained.1);
        written
    });
    let status = cluster.status(1);
    assert_eq!(status["ranges"][0]["voters"].to_string(), "[2,3,4]", "the vote went over, too");
    let text = refused(&cluster, 0, &["node", "remove", "a1"]);
    assert!(text.contains("say it to another node"), "{text}");
    done(&cluster, 1, &["node", "remove", "a1"]);
    cluster.wait_status(1, "a1 hears of it", |_| {
        cluster.logs().to_lowercase().contains("has left the cluster")
    });
    cluster.kill(0);

    // Those that began with a1 know what has become of it, also when they are started again.
    for number in [1, 2] {
        cluster.kill(number);
        cluster.spawn(number);
        cluster.wait_ready(number);
        let status = cluster.wait_status(number, "whole without node a1", |status| {
            full(status) && linked_with_two(status)
        });
        let names: Vec<_> =
            status["nodes"].as_array().unwrap().iter().map(|node| node["name"].clone()).collect();
        assert_eq!(names, ["b1", "c1", NEW]);
    }
    for number in (0..20).chain(1000..written) {
        let answer = client_of_new().request("GET", &format!("/demo/{number}"), b"").unwrap();
        assert_eq!(answer.body, body(number), "{number}: {}", answer.head);
    }
    let mut again = join("a3", "1", "a", "127.0.0.1:1").to_vec();
    again[8] = "127.0.0.1:2".to_owned();
    let again: Vec<&str> = again.iter().map(String::as_str).collect();
    let text = refused(&cluster, 1, &again);
    assert!(text.contains("an id is used once"), "{text}");
}

/// Each node has links to the two others.
fn linked_with_two(status: &serde_json::Value) -> bool {
    let nodes = status["nodes"].as_array().unwrap();
    nodes.iter().all(|node| {
        let links = node["links"].as_array().unwrap();
        links.len() == 2 && links.iter().all(|link| link["up"] == true)
    })
}
