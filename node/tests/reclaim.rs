//! Deleted objects give their space back, to the file system too, in a real process.

#![allow(clippy::unwrap_used, reason = "in a test, the panic is the report")]

use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

mod support;

use support::cluster::admin;
use support::{Server, binary, data_directory, output};

/// Objects: some twenty segments of each disk.
const OBJECTS: u32 = 3000;
/// Longer than what is kept inline: one chunk each.
const OBJECT_BYTES: usize = 100_000;
/// Every so many stay.
const KEPT_EVERY: u32 = 100;
const KEPT: u32 = OBJECTS / KEPT_EVERY;
/// Clients at a time.
const CLIENTS: u32 = 6;
/// Until something is as it should be. Machines that run tests are busy ones.
const PATIENCE: Duration = Duration::from_secs(60);

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

fn wait(data: &Path, what: &str, fits: impl Fn(&Value) -> bool) -> Value {
    let until = Instant::now() + PATIENCE;
    loop {
        let status = status(data);
        if fits(&status) {
            return status;
        }
        let (used, stores) = (used(&status), &status["stores"]);
        assert!(Instant::now() < until, "{what}: {used:?} {stores:#}");
        thread::sleep(Duration::from_millis(200));
    }
}

/// Of each store: bytes in use as it says, and bytes that its file takes.
fn used(status: &Value) -> Vec<(u64, u64)> {
    use std::os::unix::fs::MetadataExt;
    let used = |store: &Value| {
        let metadata = std::fs::metadata(store["path"].as_str().unwrap()).unwrap();
        (store["disk"]["used_bytes"].as_u64().unwrap(), metadata.blocks() * 512)
    };
    status["stores"].as_array().unwrap().iter().map(used).collect()
}

#[test]
fn the_space_of_deleted_objects_returns() {
    let (_directory, data) = data_directory();
    let server = Server::start(&data);
    assert_eq!(server.client().request("PUT", "/demo", b"").unwrap().status, 200);
    let before = used(&status(&data));
    each(&server, "PUT", |_| true);
    let is_full = |status: &Value| status["redundancy"]["full"] == true;
    let full = used(&wait(&data, "three copies", is_full));
    let bytes = u64::from(OBJECTS) * OBJECT_BYTES as u64;
    for ((used_before, file_before), (used, file)) in before.iter().zip(&full) {
        assert!(used - used_before >= bytes, "{before:?} {full:?}");
        assert!(file - file_before >= bytes, "{before:?} {full:?}");
    }

    each(&server, "DELETE", |number| number % KEPT_EVERY != 0);
    wait(&data, "all that is dead is freed", |status| {
        let freed = |store: &Value| store["reclaim"]["chunks"].as_u64();
        let stores = status["stores"].as_array().unwrap();
        stores.iter().all(|store| freed(store) >= Some(u64::from(OBJECTS - KEPT)))
    });
    // What is left: what is kept, segments that are open, rows, and what the journal has grown by.
    let most = |before: u64, full: u64| before + (full - before) / 3;
    wait(&data, "the space of it is there", |status| {
        let is_back = |(((used_before, file_before), (used_full, file_full)), (used, file))| {
            used <= most(used_before, used_full) && file <= most(file_before, file_full)
        };
        let (before, full) = (before.iter().copied(), full.iter().copied());
        before.zip(full).zip(used(status)).all(is_back)
    });

    // What is kept is whole, and on the disks is nothing else.
    each(&server, "GET", |number| number % KEPT_EVERY == 0);
    let audit = admin(&data, &["audit", "--json"]);
    let audit: Value = serde_json::from_slice(&audit.stdout).unwrap();
    assert_eq!(audit["copies_good"], 3 * KEPT, "{audit:#}");
    assert_eq!(audit["bad"], Value::Array(Vec::new()));
    let (ended, log) = server.stop("TERM");
    assert!(ended.success(), "{log}");
    let mut command = Command::new(binary());
    command.args(["inspect", "--json"]).arg(&data);
    let inspected = output(command);
    let report: Value = serde_json::from_slice(&inspected.stdout).unwrap();
    assert_eq!(inspected.status.code(), Some(0), "{report:#}");
    for store in report["stores"].as_array().unwrap() {
        assert_eq!(store["copies"]["referenced"]["chunks"], KEPT, "{store:#}");
        assert_eq!(store["copies"]["total"]["chunks"], KEPT, "{store:#}");
    }
    assert_eq!(report["metadata"]["audit"]["copies_good"], audit["copies_good"]);
}
