//! Stores whose files were damaged, or written by another Trine, and the real binary on them.

#![allow(clippy::unwrap_used, reason = "in a test, the panic is the report")]

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use trine_core::hash::Checksum;

mod support;

use support::disk::{COPIES, COPY_LEN, damage, store};
use support::{Server, data_directory, refusal, trine};

const ZONES: [&str; 3] = ["zone-a", "zone-b", "zone-c"];

/// Where the journal begins.
const JOURNAL: u64 = 262_144;

/// A cluster with an inline object and a chunked one in it, stopped.
fn with_objects() -> (tempfile::TempDir, PathBuf) {
    let (directory, data) = data_directory();
    let server = Server::start(&data);
    let mut client = server.client();
    assert_eq!(client.request("PUT", "/bucket", b"").unwrap().status, 200);
    for (key, body) in objects() {
        let put = client.request("PUT", &format!("/bucket/{key}"), &body).unwrap();
        assert_eq!(put.status, 200, "{put:?}");
    }
    let (status, log) = server.stop("TERM");
    assert!(status.success(), "{log}");
    (directory, data)
}

fn objects() -> [(&'static str, Vec<u8>); 2] {
    let text = |text: &str, times| text.repeat(times).into_bytes();
    [("small", text("a small body; ", 20)), ("large", text("a large body; ", 100_000))]
}

/// Start it on damaged files: both objects are there. The log.
fn serves_all(data: &Path) -> String {
    let server = Server::start(data);
    let mut client = server.client();
    for (key, body) in objects() {
        let got = client.request("GET", &format!("/bucket/{key}"), b"").unwrap();
        assert_eq!(got.status, 200, "{key}: {}", String::from_utf8_lossy(&got.body));
        assert!(got.body == body, "{key} has other bytes");
    }
    let put = client.request("PUT", "/bucket/more", b"more").unwrap();
    assert_eq!(put.status, 200, "{}", String::from_utf8_lossy(&put.body));
    let (status, log) = server.stop("TERM");
    assert!(status.success(), "{log}");
    log
}

#[test]
fn a_damaged_superblock_copy_is_told_and_written_anew() {
    let (_directory, data) = with_objects();
    damage(&store(&data, "zone-b"), COPIES[2], COPY_LEN);
    let log = serves_all(&data);
    assert!(log.contains("superblock copy 2 is damaged"), "{log}");
    let log = serves_all(&data);
    assert!(!log.contains("is damaged"), "it is whole again: {log}");
}

#[test]
fn a_store_without_a_whole_superblock_is_named_and_the_others_serve() {
    let (_directory, data) = with_objects();
    for at in COPIES {
        damage(&store(&data, "zone-b"), at, COPY_LEN);
    }
    let log = serves_all(&data);
    assert!(log.contains("in zone b: "), "{log}");
    assert!(log.contains("none of its 4 superblock copies is whole"), "{log}");
}

#[test]
fn without_a_whole_superblock_anywhere_the_start_is_refused() {
    let (_directory, data) = with_objects();
    for (zone, at) in ZONES.iter().flat_map(|zone| COPIES.map(|at| (zone, at))) {
        damage(&store(&data, zone), at, COPY_LEN);
    }
    let text = refusal(trine(&data, "127.0.0.1:0"));
    assert!(text.contains("none of its 4 superblock copies is whole"), "{text}");
}

#[test]
fn stores_of_an_unknown_format_version_are_refused_by_its_number() {
    let (_directory, data) = with_objects();
    for zone in ZONES {
        let file = store(&data, zone);
        let mut copy = vec![0; COPY_LEN];
        file.read_exact_at(&mut copy, COPIES[1]).unwrap();
        copy[0] = 77;
        // A newer Trine would seal it like this; without the seal it counts as damaged.
        let sealed = Checksum::of_parts(1, [&copy[..16], &copy[24..]]);
        copy[16..24].copy_from_slice(&sealed.0.to_le_bytes());
        file.write_all_at(&copy, COPIES[1]).unwrap();
    }
    let text = refusal(trine(&data, "127.0.0.1:0"));
    assert!(text.contains("format version 77, this build reads up to 1"), "{text}");
}

#[test]
fn a_damaged_journal_is_told_and_the_other_zones_vouch_for_what_is_lost() {
    let (_directory, data) = with_objects();
    damage(&store(&data, "zone-b"), JOURNAL + 8192, 100);
    let log = serves_all(&data);
    assert!(log.contains("the journal is damaged at position 8192"), "{log}");
}

#[test]
fn a_damaged_chunk_is_read_from_another_zone() {
    let (_directory, data) = with_objects();
    for zone in &ZONES[..2] {
        let file = store(&data, zone);
        let at = find(&file, b"a large body; ");
        damage(&file, at, 100);
    }
    serves_all(&data);
}

/// Where `text` stands first in a file, in what a test of this size has written.
fn find(file: &File, text: &[u8]) -> u64 {
    let mut block = vec![0; 1 << 20];
    let len = file.metadata().unwrap().len();
    // A text that lies across two blocks is found at its next repetition.
    for at in (0..len).step_by(block.len()) {
        file.read_exact_at(&mut block, at).unwrap();
        if let Some(place) = block.windows(text.len()).position(|window| window == text) {
            return at + u64::try_from(place).unwrap();
        }
    }
    panic!("the text is not in the file");
}
