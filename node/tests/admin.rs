//! `trine admin` at an all-in-one process, with S3 traffic going on.

#![allow(clippy::unwrap_used, reason = "in a test, the panic is the report")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

mod support;

use support::cluster::admin;
use support::disk::{COPIES, COPY_LEN, damage, store};
use support::{Server, data_directory};

fn status(data: &std::path::Path) -> serde_json::Value {
    let output = admin(data, &["status", "--json"]);
    let errors = String::from_utf8_lossy(&output.stderr);
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {errors}"))
}

fn wait(data: &std::path::Path, fits: impl Fn(&serde_json::Value) -> bool) -> serde_json::Value {
    let until = Instant::now() + Duration::from_secs(60);
    loop {
        let status = status(data);
        if fits(&status) {
            return status;
        }
        assert!(Instant::now() < until, "{status:#}");
        thread::sleep(Duration::from_millis(100));
    }
}

fn full(status: &serde_json::Value) -> bool {
    status["redundancy"]["full"] == true
}

#[test]
fn a_zone_is_stopped_and_started_while_clients_write() {
    let (_directory, data) = data_directory();
    let server = Server::start(&data);
    let mut client = server.client();
    assert_eq!(client.request("PUT", "/demo", b"").unwrap().status, 200);
    wait(&data, full);
    let (stop, written) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)));
    let writer = {
        let (stop, written) = (stop.clone(), written.clone());
        thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                let number = written.load(Ordering::Relaxed);
                let body = vec![number.to_le_bytes()[0]; 20_000];
                let answer = client.request("PUT", &format!("/demo/{number}"), &body).unwrap();
                assert_eq!(answer.status, 200, "{}", answer.head);
                written.fetch_add(1, Ordering::Relaxed);
            }
            client
        })
    };
    let goes_on = || {
        let (before, until) = (written.load(Ordering::Relaxed), Duration::from_secs(60));
        let begun = Instant::now();
        while written.load(Ordering::Relaxed) < before + 3 {
            assert!(begun.elapsed() < until, "writes stand still");
            thread::sleep(Duration::from_millis(10));
        }
    };
    goes_on();
    for zone in ["b", "a"] {
        assert!(admin(&data, &["zone", "stop", zone]).status.success());
        goes_on();
        let now = status(&data);
        assert!(!full(&now), "{now:#}");
        let error = admin(&data, &["zone", "stop", "c"]).stderr;
        let error = String::from_utf8(error).unwrap();
        assert!(error.contains("zone c is not stopped"), "{error}");
        assert!(admin(&data, &["zone", "start", zone]).status.success());
        goes_on();
        wait(&data, full);
    }
    stop.store(true, Ordering::Relaxed);
    let mut client = writer.join().unwrap();
    for number in 0..written.load(Ordering::Relaxed) {
        let answer = client.request("GET", &format!("/demo/{number}"), b"").unwrap();
        assert_eq!(answer.body, vec![number.to_le_bytes()[0]; 20_000]);
    }
}

/// A store that had halted counted as one that runs: only a restart of the process brought it back.
#[test]
fn a_store_that_has_halted_is_started_with_its_zone() {
    let (_directory, data) = data_directory();
    let server = Server::start(&data);
    wait(&data, full);
    assert!(admin(&data, &["zone", "stop", "b"]).status.success());
    let break_or_mend = || {
        let file = store(&data, "zone-b");
        COPIES.iter().for_each(|at| damage(&file, *at, COPY_LEN));
    };
    break_or_mend();
    assert!(admin(&data, &["zone", "start", "b"]).status.success());
    let halted = wait(&data, |status| status["stores"][1]["life"] == "halted");
    let reason = halted["stores"][1]["reason"].as_str().unwrap();
    assert!(reason.contains("none of its 4 superblock copies is whole"), "{reason}");
    assert!(reason.contains("`trine admin zone start b`"), "{reason}");
    break_or_mend();
    assert!(admin(&data, &["zone", "start", "b"]).status.success());
    wait(&data, full);
    // What runs is left alone.
    let life = |status: &serde_json::Value| status["stores"][1]["incarnation"].clone();
    let before = life(&status(&data));
    assert!(admin(&data, &["zone", "start", "b"]).status.success());
    assert_eq!(life(&wait(&data, full)), before);
    drop(server);
}

#[test]
fn a_status_has_the_shape_that_tools_read() {
    let (_directory, data) = data_directory();
    let server = Server::start(&data);
    let status = wait(&data, full);
    for (pointer, fits) in [
        ("/cluster", serde_json::Value::is_string as fn(&serde_json::Value) -> bool),
        ("/redundancy/missing", serde_json::Value::is_array),
        ("/zones/2/zone", serde_json::Value::is_string),
        ("/nodes/0/gateway", serde_json::Value::is_string),
        ("/stores/2/incarnation", serde_json::Value::is_u64),
        ("/stores/0/disk/capacity_bytes", serde_json::Value::is_u64),
        ("/stores/0/repair/complete", serde_json::Value::is_boolean),
        ("/ranges/0/leader", serde_json::Value::is_u64),
        ("/ranges/0/replicas/2/applied", serde_json::Value::is_u64),
        ("/map/epoch", serde_json::Value::is_u64),
        ("/backlog/copies_missing", serde_json::Value::is_u64),
    ] {
        assert!(status.pointer(pointer).is_some_and(fits), "{pointer}: {status:#}");
    }
    let text = String::from_utf8(admin(&data, &["status"]).stdout).unwrap();
    assert!(text.contains("redundancy: full") && text.contains("zone b: serving"), "{text}");
    let error = String::from_utf8(admin(&data, &["store", "replace", "1"]).stderr).unwrap();
    assert!(error.contains("all-in-one"), "{error}");
    let (ended, log) = server.stop("TERM");
    assert_eq!(ended.code(), Some(0), "{log}");
    assert!(!data.join("admin.sock").exists());
}
