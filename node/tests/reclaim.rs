//! Deleted objects give their space back, to the file system too, in a real process.

#![allow(clippy::unwrap_used, reason = "in a test, the panic is the report")]

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

mod support;

use support::cluster::admin;
use support::{Server, binary, data_directory, output};

/// Objects: with their headers some ten segments of each disk.
const OBJECTS: u32 = 3000;
/// Longer than what is kept inline: one chunk each.
const OBJECT_BYTES: usize = 40_000;
/// Every so many stay.
const KEPT_EVERY: u32 = 100;
/// Clients at a time.
const CLIENTS: u32 = 6;
/// Until the space is there. Machines that run tests are busy ones.
const PATIENCE: Duration = Duration::from_secs(120);

fn body(number: u32) -> Vec<u8> {
    number.to_le_bytes().into_iter().cycle().take(OBJECT_BYTES).collect()
}

/// Do something for each number, by several clients at once.
fn each(server: &Server, method: &'static str, is_meant: fn(u32) -> bool) {
    thread::scope(|scope| {
        for first in 0..CLIENTS {
            let mut client = server.client();
            scope.spawn(move || {
                for number in (first..OBJECTS).step_by(CLIENTS as usize).filter(|it| is_meant(*it))
                {
                    let bytes = if method == "PUT" { body(number) } else { Vec::new() };
                    let answer =
                        client.request(method, &format!("/demo/{number}"), &bytes).unwrap();
                    assert!((200..300).contains(&answer.status), "{method}: {}", answer.head);
                    assert!(method != "GET" || answer.body == body(number), "{number}");
                }
            });
        }
    });
}

fn status(data: &Path) -> Value {
    let output = admin(data, &["status", "--json"]);
    let errors = String::from_utf8_lossy(&output.stderr);
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {errors}"))
}

/// Of each store: bytes in use as it says, and bytes that its file takes.
fn used(data: &Path) -> Vec<(u64, u64)> {
    let status = status(data);
    let stores = status["stores"].as_array().unwrap().iter();
    let used = stores.map(|store| {
        let path = store["path"].as_str().unwrap();
        let blocks = std::fs::metadata(path).unwrap().blocks();
        (store["disk"]["used_bytes"].as_u64().unwrap(), blocks * 512)
    });
    used.collect()
}

#[test]
fn the_space_of_deleted_objects_returns() {
    let (_directory, data) = data_directory();
    let server = Server::start(&data);
    assert_eq!(server.client().request("PUT", "/demo", b"").unwrap().status, 200);
    let before = used(&data);
    each(&server, "PUT", |_| true);
    let full = used(&data);
    let bytes = u64::from(OBJECTS) * OBJECT_BYTES as u64;
    for ((used_before, file_before), (used, file)) in before.iter().zip(&full) {
        assert!(used - used_before >= bytes, "{before:?} {full:?}");
        assert!(file - file_before >= bytes, "{before:?} {full:?}");
    }
    each(&server, "DELETE", |number| number % KEPT_EVERY != 0);
    // What is left of it: what is kept, segments that are open, rows, and the journal's growth.
    let most = |before: u64, full: u64| before + (full - before) / 2;
    let until = Instant::now() + PATIENCE;
    loop {
        let now = used(&data);
        let is_back = |((before, full), now): ((&(u64, u64), &(u64, u64)), &(u64, u64))| {
            now.0 <= most(before.0, full.0) && now.1 <= most(before.1, full.1)
        };
        if before.iter().zip(&full).zip(&now).all(is_back) {
            break;
        }
        assert!(Instant::now() < until, "{before:?}, {full:?} when full, {now:?} now");
        thread::sleep(Duration::from_millis(200));
    }
    each(&server, "GET", |number| number % KEPT_EVERY == 0);
    let audit = admin(&data, &["audit", "--json"]);
    let audit: Value = serde_json::from_slice(&audit.stdout).unwrap();
    assert_eq!(audit["copies_good"], 3 * OBJECTS / KEPT_EVERY, "{audit:#}");
    assert_eq!(audit["bad"], Value::Array(Vec::new()));
    let (ended, log) = server.stop("TERM");
    assert!(ended.success(), "{log}");
    let mut command = Command::new(binary());
    command.args(["inspect", "--json"]).arg(&data);
    let inspected = output(command);
    let report: Value = serde_json::from_slice(&inspected.stdout).unwrap();
    assert_eq!(inspected.status.code(), Some(0), "{report:#}");
    for store in report["stores"].as_array().unwrap() {
        assert_eq!(store["copies"]["referenced"]["chunks"], OBJECTS / KEPT_EVERY);
        assert_eq!(store["copies"]["total"]["chunks"], OBJECTS / KEPT_EVERY, "{store:#}");
    }
    assert_eq!(report["metadata"]["rows"]["garbage_blobs"], 0);
}
