//! Three `trine node` processes: one is killed, comes back, loses its disk and gets another.

#![allow(clippy::unwrap_used, reason = "in a test, the panic is the report")]

use std::fs;
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

mod support;

use support::cluster::{Cluster, NAMES, admin, config, free_ports, node_command};
use support::refusal;

fn full(status: &serde_json::Value) -> bool {
    status["redundancy"]["full"] == true
}

#[test]
fn three_processes_serve_while_one_dies_and_a_lost_store_is_replaced() {
    let mut cluster = Cluster::start();
    let mut clients = [0, 1, 2].map(|number| cluster.client(number));
    assert_eq!(clients[0].request("PUT", "/demo", b"").unwrap().status, 200);
    let large = vec![7_u8; 3 << 20];
    assert_eq!(clients[0].request("PUT", "/demo/small", b"one").unwrap().status, 200);
    assert_eq!(clients[0].request("PUT", "/demo/large", &large).unwrap().status, 200);
    for client in &mut clients[1..] {
        assert_eq!(client.request("GET", "/demo/small", b"").unwrap().body, b"one");
        assert_eq!(client.request("GET", "/demo/large", b"").unwrap().body, large);
    }
    let status = cluster.wait_status(1, "whole", full);
    assert_eq!(status["answered_by"], "b1");
    assert_eq!(status["nodes"].as_array().unwrap().len(), 3);
    assert_eq!(status["stores"].as_array().unwrap().len(), 3);
    assert!(status["ranges"][0]["leader"].is_u64(), "{status:#}");
    assert!(status["nodes"][0]["links"][0]["round_trip_us"].is_u64(), "{status:#}");

    // A node that is killed costs nothing at the others, and is shown as what it is.
    cluster.kill(1);
    assert_eq!(clients[0].request("PUT", "/demo/later", &large).unwrap().status, 200);
    assert_eq!(clients[2].request("GET", "/demo/later", b"").unwrap().body, large);
    let status = cluster.status(0);
    assert!(!full(&status), "{status:#}");
    assert_eq!(status["nodes"][1]["answers"], false, "{status:#}");
    let error = String::from_utf8(cluster.admin(1, &["status"]).stderr).unwrap();
    assert!(error.contains("no trine process listens on"), "{error}");
    let error = String::from_utf8(cluster.admin(0, &["zone", "stop", "c"]).stderr).unwrap();
    assert!(error.contains("zone c is not stopped") && error.contains("--force"), "{error}");

    // It comes back without its disk, says so, and the others go on.
    fs::remove_file(cluster.data(1).join("store-2")).unwrap();
    cluster.spawn(1);
    cluster.wait_ready(1);
    let status =
        cluster.wait_status(0, "the loss is shown", |status| status["stores"][1]["life"] == "lost");
    let missing = status["redundancy"]["missing"].to_string();
    assert!(missing.contains("trine admin store replace 2"), "{missing}");
    assert!(cluster.logs().contains("store-2 IS LOST"), "{}", cluster.logs());
    assert_eq!(cluster.client(1).request("GET", "/demo/later", b"").unwrap().body, large);

    // From another node: it is made where it was, and filled.
    let output = cluster.admin(0, &["store", "replace", "2"]);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}\n{}", cluster.logs());
    let again = cluster.admin(0, &["store", "replace", "2"]);
    assert!(again.status.success(), "the same command may be given again");
    assert_eq!(output.stdout, again.stdout);
    let status = cluster.wait_status(2, "whole again", full);
    assert_eq!(status["map"]["retired"], serde_json::json!([2]));
    assert_eq!(status["map"]["zones"]["b"], serde_json::json!([1002]));
    assert!(cluster.data(1).join("store-1002").exists());

    // A restart finds the new store, though the file still names the old one.
    cluster.kill(1);
    cluster.spawn(1);
    cluster.wait_ready(1);
    cluster.wait_status(1, "whole after a restart", full);
}

/// A replacement was dropped with the connection of whoever had asked for it, and stood still until its
/// node was restarted. Its store had the capacity of all, not that of the one in whose place it came.
#[test]
fn a_replacement_goes_on_when_the_client_leaves_and_is_as_large_as_its_store_was() {
    let mut cluster = Cluster::start_with(|config| {
        config.replace("stores = [2]", "stores = [{ id = 2, capacity = \"2GiB\" }]")
    });
    cluster.wait_status(0, "whole", full);
    cluster.kill(1);
    fs::remove_file(cluster.data(1).join("store-2")).unwrap();
    cluster.spawn(1);
    cluster.wait_ready(1);
    cluster.wait_status(1, "lost", |status| status["stores"][1]["life"] == "lost");

    let mut client = UnixStream::connect(cluster.data(1).join("admin.sock")).unwrap();
    client
        .write_all(
            b"POST /v1/store/replace HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{\"old\":2}",
        )
        .unwrap();
    // It is begun: now nobody waits for it any more.
    let until = Instant::now() + Duration::from_secs(60);
    let kept = cluster.data(1).join("node.toml");
    while !fs::read_to_string(&kept).unwrap().contains("replaces = 2") {
        assert!(Instant::now() < until, "{}", cluster.logs());
        std::thread::sleep(Duration::from_millis(1));
    }
    drop(client);
    let status = cluster.wait_status(0, "whole again", full);
    assert_eq!(status["map"]["zones"]["b"], serde_json::json!([1002]));
    let length =
        |cluster: &Cluster| fs::metadata(cluster.data(1).join("store-1002")).unwrap().len();
    assert_eq!(length(&cluster), 2 << 30);
    cluster.kill(1);
    cluster.spawn(1);
    cluster.wait_ready(1);
    cluster.wait_status(0, "whole after a restart", full);
    assert_eq!(length(&cluster), 2 << 30);
}

/// The first replacement that could not go on was tried again for ever, and the others never.
#[test]
fn a_replacement_that_cannot_go_on_holds_up_no_other() {
    let mut cluster =
        Cluster::start_with(|config| config.replace("stores = [2]", "stores = [2, 4]"));
    cluster.wait_status(0, "whole", full);
    cluster.kill(1);
    let data = cluster.data(1);
    for store in ["store-2", "store-4"] {
        fs::remove_file(data.join(store)).unwrap();
    }
    // Begun, and broken off by a crash; the directory of the first cannot be made.
    let mut kept = fs::read_to_string(data.join("node.toml")).unwrap();
    for (old, new, path) in [(2, 1002, "blocked/store"), (4, 2002, "store-2002")] {
        kept += &format!(
            "\n[[stores]]\nid = {new}\npath = \"{path}\"\nstate = \"being made\"\nreplaces = {old}\n"
        );
    }
    fs::write(data.join("node.toml"), kept).unwrap();
    fs::write(data.join("blocked"), b"").unwrap();
    cluster.spawn(1);
    cluster.wait_ready(1);
    let status = cluster.wait_status(0, "the second is placed", |status| {
        status["map"]["retired"] == serde_json::json!([4])
    });
    assert_eq!(status["map"]["zones"]["b"], serde_json::json!([2, 2002]), "{status:#}");
    assert!(cluster.logs().contains("cannot make the directory"), "{}", cluster.logs());
    // What was in the way is gone: the first goes on by itself.
    fs::remove_file(data.join("blocked")).unwrap();
    let status = cluster.wait_status(0, "whole again", full);
    assert_eq!(status["map"]["zones"]["b"], serde_json::json!([1002, 2002]));
}

/// Data of a zone moves to a store that is added, and away from one that is drained, while clients read and
/// write; the new store is there again after a restart.
#[test]
fn a_store_is_added_and_another_drained() {
    let mut cluster = Cluster::start();
    let mut client = cluster.client(0);
    assert_eq!(client.request("PUT", "/demo", b"").unwrap().status, 200);
    let body = |number: u8| vec![number; 300 << 10];
    let put = |client: &mut support::s3::Client, number: u8| {
        let status = client.request("PUT", &format!("/demo/{number}"), &body(number)).unwrap();
        assert_eq!(status.status, 200);
    };
    (0..30).for_each(|number| put(&mut client, number));
    cluster.wait_status(0, "whole", full);

    // At another node, with a capacity of its own.
    let args = ["store", "add", "--node", "b1", "--weight", "3", "--capacity", "2GiB", "--wait"];
    let output = cluster.admin(0, &args);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}\n{}", cluster.logs());
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("store 1002 at node b1 is added"), "{said}");
    let file = cluster.data(1).join("store-1002");
    assert_eq!(fs::metadata(&file).unwrap().len(), 2 << 30);
    let status = cluster.wait_status(2, "whole", full);
    assert_eq!(status["map"]["zones"]["b"], serde_json::json!([2, 1002]));
    assert_eq!(status["map"]["weights"]["1002"], 3);
    assert_eq!(status["map"]["former"], serde_json::json!([]));
    let repaired = |status: &serde_json::Value| status["stores"][3]["repair"]["repaired"].as_u64();
    assert!(repaired(&status).is_some_and(|count| count > 5), "{status:#}");
    let same = ["store", "add", "--node", "b1", "--weight", "3", "--capacity", "2GiB", "--new"];
    let again = cluster.admin(2, &[&same[..], &["1002"]].concat());
    assert!(again.status.success(), "{}", String::from_utf8_lossy(&again.stderr));

    // A restart finds it, though the configuration does not name it.
    cluster.kill(1);
    cluster.spawn(1);
    cluster.wait_ready(1);
    (30..40).for_each(|number| put(&mut client, number));
    cluster.wait_status(1, "whole after a restart", full);

    let output = cluster.admin(2, &["store", "drain", "2", "--wait"]);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}\n{}", cluster.logs());
    let text = String::from_utf8(cluster.admin(0, &["status"]).stdout).unwrap();
    assert!(text.contains("drained") && text.contains("weight 3"), "{text}");
    for (args, said) in [
        (&["store", "drain", "1002"][..], "no other store of its zone takes data"),
        (&["store", "weight", "7", "2"], "fills no slot"),
        (&["store", "weight", "2", "99999999"], "a weight is at most"),
        (&["store", "add", "--node", "x"], "there is no node \"x\" (there are: a1, b1, c1)"),
        (&["store", "add", "--node", "a1", "--weight", "0"], "has a weight from 1"),
        (&["store", "add", "--node", "a1", "--capacity", "7"], "from 1GiB to"),
        (&["store", "add", "--node", "a1", "--new", "2"], "store-2"),
    ] {
        let output = cluster.admin(0, args);
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{args:?}: {error}");
        assert!(error.contains(said), "{args:?}: {error}");
    }
    for number in 0..40 {
        let got = client.request("GET", &format!("/demo/{number}"), b"").unwrap();
        assert_eq!(got.body, body(number), "{number}");
    }
    let audit = cluster.admin(1, &["audit"]);
    assert!(audit.status.success(), "{}", String::from_utf8_lossy(&audit.stdout));
}

#[test]
fn what_cannot_be_done_is_refused_with_a_reason() {
    let mut cluster = Cluster::start();
    cluster.wait_status(0, "whole", full);
    for (args, said) in [
        (&["zone", "stop", "d"][..], "there is no zone \"d\""),
        (&["store", "replace", "7"], "there is no store 7 in the cluster (there are: 1, 2, 3)"),
        (&["store", "replace", "x"], "\"x\" is no store"),
        (&["store", "replace", "2"], "store-2 serves, and is not replaced"),
        (&["store", "replace", "2", "--node", "a1"], "stop its zone first"),
    ] {
        let output = cluster.admin(0, args);
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{args:?}: {error}");
        assert!(error.contains(said), "{args:?}: {error}");
    }
    // A zone of another process is stopped and started from here.
    assert!(cluster.admin(0, &["zone", "stop", "b"]).status.success());
    let status = cluster.status(2);
    assert_eq!(status["stores"][1]["life"], "stopped", "{status:#}");
    assert_eq!(cluster.client(1).request("GET", "/", b"").unwrap().status, 200, "S3 goes on");
    assert!(cluster.admin(2, &["zone", "start", "b"]).status.success());
    cluster.wait_status(0, "whole again", full);
    cluster.kill(0);
}

#[test]
fn a_node_that_contradicts_its_directory_or_its_file_does_not_start() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("cluster.toml");
    fs::write(&file, config(&free_ports())).unwrap();
    let start = |name: &str, data: &str| {
        let mut command = node_command(&file, name);
        command.arg("--data").arg(folder.path().join(data));
        refusal(command)
    };
    assert!(start("nobody", "x").contains("there are: a1, b1, c1"));
    fs::create_dir(folder.path().join("other")).unwrap();
    fs::write(
        folder.path().join("other/node.toml"),
        "version = 1\ncluster = \"6d6561737572696e67206f6e65206761\"\nnode = 2\nbootstrap = \"\"\n",
    )
    .unwrap();
    assert!(start(NAMES[0], "other").contains("is that of the node with id = 2"));
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut ports = free_ports();
    ports[3] = taken.local_addr().unwrap().port();
    fs::write(&file, config(&ports)).unwrap();
    let text = start(NAMES[0], "taken");
    assert!(text.contains(&format!("127.0.0.1:{} is in use", ports[3])), "{text}");
    assert!(!folder.path().join("taken").exists(), "nothing is made");
}

#[test]
fn nobody_listens_where_nothing_runs() {
    let folder = tempfile::tempdir().unwrap();
    let output = admin(folder.path(), &["status"]);
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(error.contains("no trine process listens on") && error.contains("--data"), "{error}");
}
