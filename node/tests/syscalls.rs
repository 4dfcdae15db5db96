//! What reaches the kernel, and in which order, before anything is called done. Read from strace:
//! the executor's own word would not be a proof.

#![allow(clippy::unwrap_used, reason = "in a test, the panic is the report")]

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, mpsc};

use bytes::Bytes;
use trine_core::disk::{DiskOp, SECTOR};
use trine_core::ids::DiskToken;
use trine_node::runtime::tokio::TokioRuntime;
use trine_node::runtime::{Disk, Runtime};

mod support;

use support::trace::{Trace, strace};
use support::{Server, data_directory, with_flags};

/// Tells the traced half of a test which file to use.
const FILE_VARIABLE: &str = "SYSCALLS_TEST_FILE";

/// What the traced half writes.
const DATA: &str = "these bytes must be durable";

/// What it says once a sync that covers them is reported.
const MARKER: &str = "the sync is complete";

#[test]
fn a_sync_is_reported_after_fdatasync_of_the_descriptor_that_was_written() {
    let (_directory, data) = data_directory();
    std::fs::create_dir(&data).unwrap();
    let (file, log) = (data.join("store"), data.join("strace.log"));
    let mut command = strace(&log, &std::env::current_exe().unwrap());
    command.args(["--ignored", "--exact", "traced_half", "--nocapture"]).env(FILE_VARIABLE, &file);
    let output = support::output(command);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let trace = Trace::read(&log);
    trace.assert_made_durably_before(&file, MARKER);
    trace.assert_synced_before(&file, MARKER);
    trace.assert_durable_before(&file, DATA, MARKER);
}

#[test]
#[ignore = "run under strace, by the test above"]
fn traced_half() {
    let path = PathBuf::from(std::env::var_os(FILE_VARIABLE).expect("run by the test above"));
    let (sender, done) = mpsc::channel();
    let sink = Arc::new(move |token, result| sender.send((token, result)).unwrap());
    let disk = TokioRuntime::new().open_disk(&path, 1 << 20, sink).unwrap();
    let mut sector = DATA.as_bytes().to_vec();
    sector.resize(usize::try_from(SECTOR).unwrap(), 0);
    disk.submit(DiskToken(1), DiskOp::Write { offset: SECTOR, parts: vec![Bytes::from(sector)] });
    done.recv().unwrap().1.unwrap();
    disk.submit(DiskToken(2), DiskOp::Sync);
    done.recv().unwrap().1.unwrap();
    std::io::stderr().write_all(MARKER.as_bytes()).unwrap();
}

#[test]
fn a_first_start_makes_its_directory_durable_before_it_says_that_it_is_there() {
    let (directory, data) = data_directory();
    let log = directory.path().join("strace.log");
    let command = strace(&log, Path::new(support::binary()));
    let server = Server::from_command(with_flags(command, &data, "127.0.0.1:0"));
    // Strace passes no signals on.
    stop_traced(server, &log);
    let trace = Trace::read(&log);
    let marker = "access key";
    trace.assert_made_durably_before(&data, marker);
    for name in ["cluster.toml", "root-key.toml"] {
        trace.assert_synced_before(&data.join(format!("{name}.new")), marker);
        trace.assert_made_durably_before(&data.join(name), marker);
    }
    for zone in ["zone-a", "zone-b", "zone-c"] {
        trace.assert_made_durably_before(&data.join(zone), marker);
        trace.assert_synced_before(&data.join(zone).join("store"), marker);
        trace.assert_made_durably_before(&data.join(zone).join("store"), marker);
    }
}

#[test]
fn a_put_is_answered_after_its_bytes_and_its_row_are_synced_in_two_zones() {
    let (directory, data) = data_directory();
    let log = directory.path().join("strace.log");
    let command = strace(&log, Path::new(support::binary()));
    let server = Server::from_command(with_flags(command, &data, "127.0.0.1:0"));
    let mut client = server.client();
    assert_eq!(client.request("PUT", "/traced", b"").unwrap().status, 200);
    // One object goes into the journal with its row, the other into a segment as a chunk.
    let objects = [("inline-key", "inline body; ", 100), ("chunked-key", "chunked body; ", 9000)];
    let mut answers = Vec::new();
    for (key, text, times) in objects {
        let put = client.request("PUT", &format!("/traced/{key}"), text.repeat(times).as_bytes());
        let put = put.unwrap();
        assert_eq!(put.status, 200, "{put:?}");
        // The digest of the body: nothing else that is told contains it.
        answers.push(put.header("etag").expect("a PUT tells its ETag").to_owned());
    }
    stop_traced(server, &log);
    let trace = Trace::read(&log);
    for ((key, text, _), answer) in objects.iter().zip(&answers) {
        for written in [key, text] {
            let stores = ["zone-a", "zone-b", "zone-c"].map(|zone| data.join(zone).join("store"));
            let proofs = stores.map(|store| trace.durable_before(&store, written, answer));
            let zones = proofs.iter().filter(|proof| proof.is_ok()).count();
            assert!(zones >= 2, "{written:?} is durable in {zones} zones: {proofs:?}");
        }
    }
}

/// A trace in which `lines` happened, on descriptor 3 of `/d/store`.
fn trace_of(lines: &[&str]) -> Trace {
    let directory = tempfile::tempdir().unwrap();
    let log = directory.path().join("strace.log");
    std::fs::write(&log, lines.join("\n")).unwrap();
    Trace::read(&log)
}

const WRITE: &str = "1 pwritev(3</d/store>, [{iov_base=\"DATA\", iov_len=4}], 1, 0) = 4";
const SYNC: &str = "2 fdatasync(3</d/store>) = 0";
const TOLD: &str = "1 write(2</dev/null>, \"DONE\", 4) = 4";

#[test]
fn the_proof_holds_for_a_write_a_sync_and_a_word_in_this_order() {
    let begun = "2 fdatasync(3</d/store> <unfinished ...>";
    let ended = "2 <... fdatasync resumed>) = 0";
    let other = "2 fdatasync(4</d/store>) = 0";
    for lines in
        [vec![WRITE, SYNC, TOLD], vec![WRITE, begun, ended, TOLD], vec![WRITE, other, TOLD]]
    {
        trace_of(&lines).assert_durable_before("/d/store".as_ref(), "DATA", "DONE");
    }
}

#[test]
fn the_proof_fails_for_every_other_order() {
    let begun = "2 fdatasync(3</d/store> <unfinished ...>";
    let ended = "2 <... fdatasync resumed>) = 0";
    for lines in [
        vec![SYNC, WRITE, TOLD],
        vec![WRITE, TOLD, SYNC],
        vec![TOLD, WRITE, SYNC],
        vec![WRITE, TOLD],
        vec![SYNC, TOLD],
        vec![begun, WRITE, ended, TOLD],
        vec![WRITE, begun, TOLD, ended],
        vec![WRITE, "2 fdatasync(3</d/store>) = -1 EIO (Input/output error)", TOLD],
        vec![WRITE, "2 fdatasync(3</d/other>) = 0", TOLD],
        vec![WRITE, "2 fsync(3</d/store>) = 0", TOLD],
        vec!["1 pwritev(3</d/store>, [{iov_base=\"ELSE\", iov_len=4}], 1, 0) = 4", SYNC, TOLD],
    ] {
        let trace = trace_of(&lines);
        let proof = std::panic::catch_unwind(|| {
            trace.assert_durable_before("/d/store".as_ref(), "DATA", "DONE");
        });
        assert!(proof.is_err(), "{lines:?} passes for a proof");
    }
}

/// End the traced process, and strace with it.
fn stop_traced(mut server: Server, log: &Path) {
    let id = Trace::read(log).process().to_string();
    assert!(Command::new("kill").args(["-TERM", &id]).status().unwrap().success());
    let (status, errors) = server.wait();
    assert!(status.success(), "{status}: {errors}");
}
