//! `trine inspect` on the disks of a real process that has stopped, was killed, or whose disks were damaged.

#![allow(clippy::unwrap_used, reason = "in a test, the panic is the report")]

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::SeekFrom;
use serde_json::Value;
use trine_core::hash::Checksum;

mod support;

use support::cluster::admin;
use support::disk::{COPIES, COPY_LEN, damage, store};
use support::s3::Client;
use support::{Server, binary, data_directory, output};

const ZONES: [&str; 3] = ["zone-a", "zone-b", "zone-c"];
const MIB: usize = 1 << 20;

/// Bytes that do not repeat, so that blocks differ.
fn bytes(seed: u8, len: usize) -> Vec<u8> {
    let mut state = u32::from(seed) + 1;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_be_bytes()[0]
    };
    (0..len).map(|_| next()).collect()
}

fn ask(client: &mut Client, method: &str, target: &str, body: &[u8]) -> Vec<u8> {
    let answer = client.request(method, target, body).unwrap();
    let text = String::from_utf8_lossy(&answer.body);
    assert!((200..300).contains(&answer.status), "{method} {target}: {}{text}", answer.head);
    answer.body
}

fn between<'a>(text: &'a str, start: &str, end: &str) -> &'a str {
    text.split_once(start).and_then(|(_, rest)| rest.split_once(end)).unwrap().0
}

fn begin_upload(client: &mut Client, key: &str) -> String {
    let answer = ask(client, "POST", &format!("/demo/{key}?uploads="), b"");
    between(&String::from_utf8(answer).unwrap(), "<UploadId>", "</UploadId>").to_owned()
}

fn part(client: &mut Client, key: &str, upload: &str, number: u32, body: &[u8]) -> String {
    let target = format!("/demo/{key}?partNumber={number}&uploadId={upload}");
    let answer = client.request("PUT", &target, body).unwrap();
    assert_eq!(answer.status, 200, "{}", answer.head);
    answer.header("etag").unwrap().to_owned()
}

/// What can be read once all is written.
fn objects() -> Vec<(&'static str, Vec<u8>)> {
    let whole = [bytes(4, 5 * MIB), bytes(5, 300_000)].concat();
    vec![
        ("empty", Vec::new()),
        ("small", bytes(1, 300)),
        ("medium", bytes(2, 100_000)),
        ("large", bytes(3, 3 * MIB + 5000)),
        ("parts", whole),
    ]
}

/// The chunks of these, and of the part of an upload that is under way.
const CHUNKS: u64 = 1 + 4 + 5 + 1 + 5;
/// Of how many blobs.
const BLOBS: u64 = 1 + 1 + 2 + 1;

/// Objects of all kinds, some of them deleted and overwritten; an upload under way, another aborted.
fn fill(client: &mut Client) {
    ask(client, "PUT", "/demo", b"");
    ask(client, "PUT", "/demo/medium", &bytes(9, 200_000));
    for (key, body) in objects() {
        if key != "parts" {
            ask(client, "PUT", &format!("/demo/{key}"), &body);
        }
    }
    ask(client, "PUT", "/demo/gone", &bytes(6, 2 * MIB));
    ask(client, "DELETE", "/demo/gone", b"");
    let upload = begin_upload(client, "parts");
    let tags = [
        part(client, "parts", &upload, 1, &bytes(4, 5 * MIB)),
        part(client, "parts", &upload, 2, &bytes(5, 300_000)),
    ];
    let part_xml = |(number, tag): (usize, &String)| {
        format!("<Part><PartNumber>{}</PartNumber><ETag>\"{tag}\"</ETag></Part>", number + 1)
    };
    let list: String = tags.iter().enumerate().map(part_xml).collect();
    let list = format!("<CompleteMultipartUpload>{list}</CompleteMultipartUpload>");
    ask(client, "POST", &format!("/demo/parts?uploadId={upload}"), list.as_bytes());
    let under_way = begin_upload(client, "later");
    part(client, "later", &under_way, 1, &bytes(7, 5 * MIB));
    let aborted = begin_upload(client, "never");
    part(client, "never", &aborted, 1, &bytes(8, MIB));
    ask(client, "DELETE", &format!("/demo/never?uploadId={aborted}"), b"");
}

fn reads_all(client: &mut Client) {
    for (key, body) in objects() {
        assert!(ask(client, "GET", &format!("/demo/{key}"), b"") == body, "{key} has other bytes");
    }
}

fn audit(data: &Path) -> Value {
    let output = admin(data, &["audit", "--json"]);
    let errors = String::from_utf8_lossy(&output.stderr);
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {errors}"))
}

/// Audit until every copy is there.
fn audit_until_clean(data: &Path) -> Value {
    let until = Instant::now() + Duration::from_secs(90);
    loop {
        let found = audit(data);
        let is_empty = |list: &Value| list.as_array().is_some_and(Vec::is_empty);
        if is_empty(&found["bad"]) && is_empty(&found["unreachable"]) {
            return found;
        }
        assert!(Instant::now() < until, "{found:#}");
        thread::sleep(Duration::from_millis(200));
    }
}

fn stop(server: Server) {
    let (status, log) = server.stop("TERM");
    assert!(status.success(), "{log}");
}

fn paths(data: &Path) -> Vec<PathBuf> {
    ZONES.iter().map(|zone| data.join(zone).join("store")).collect()
}

fn run(args: &[&str], paths: &[PathBuf]) -> Output {
    let mut command = Command::new(binary());
    command.arg("inspect").args(args).args(paths);
    output(command)
}

/// The report, and the exit code.
fn inspect(args: &[&str], paths: &[PathBuf]) -> (Value, Option<i32>) {
    let output = run(&[&["--json"], args].concat(), paths);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(!errors.contains("panicked"), "{errors}");
    let report = serde_json::from_slice(&output.stdout);
    (report.unwrap_or_else(|error| panic!("{error}: {errors}")), output.status.code())
}

/// What a refused disk gets told.
fn refusal(paths: &[PathBuf]) -> String {
    let output = run(&[], paths);
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert!(text.contains("trine: ") && !text.contains("panicked"), "{text}");
    text
}

fn as_set(findings: &Value) -> BTreeSet<String> {
    findings.as_array().unwrap().iter().map(ToString::to_string).collect()
}

/// All sectors of a sparse file that are not zeros, and when it was last changed. Where its holes are is
/// the file system's own business.
fn fingerprint(path: &Path) -> (Checksum, (i64, i64), u64) {
    let file = File::open(path).unwrap();
    let (mut hash, mut at) = (Checksum(0), 0);
    while let Ok(start) = rustix::fs::seek(&file, SeekFrom::Data(at)) {
        at = rustix::fs::seek(&file, SeekFrom::Hole(start)).unwrap();
        let start = start / 4096 * 4096;
        let mut bytes = vec![0; usize::try_from(at - start).unwrap()];
        file.read_exact_at(&mut bytes, start).unwrap();
        for (sector, bytes) in (start / 4096..).zip(bytes.chunks(4096)) {
            if bytes.iter().any(|byte| *byte != 0) {
                hash = Checksum::of_parts(hash.0, [&sector.to_le_bytes(), bytes]);
            }
        }
    }
    assert!(hash != Checksum(0));
    let metadata = file.metadata().unwrap();
    (hash, (metadata.mtime(), metadata.mtime_nsec()), metadata.len())
}

/// A copy in the list that `--chunks` has written.
fn copies(list: &Path, store: u64, key: &str) -> Vec<Value> {
    let text = fs::read_to_string(list).unwrap();
    let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let is_it = |line: &Value| {
        let owner = line["owner"].as_str().unwrap_or_default();
        line["store"] == store && owner.ends_with(&format!("/{key}"))
    };
    lines.filter(is_it).collect()
}

#[test]
fn a_stopped_cluster_is_sound_and_damage_is_found_exactly_and_repaired() {
    let (directory, data) = data_directory();
    let server = Server::start(&data);
    let mut client = server.client();
    fill(&mut client);
    let audited = audit_until_clean(&data);
    let text = refusal(&paths(&data)[..1]);
    assert!(text.contains("a running trine process uses it"), "{text}");
    stop(server);

    // Sound, and the numbers are right.
    let before: Vec<_> = paths(&data).iter().map(|path| fingerprint(path)).collect();
    let list = directory.path().join("list");
    let (report, code) = inspect(&["--chunks", list.to_str().unwrap()], &paths(&data));
    assert_eq!(code, Some(0), "{report:#}");
    assert_eq!((&report["sound"], &report["verified"]), (&true.into(), &true.into()));
    let zones = [(1, "a"), (2, "b"), (3, "c")];
    for ((number, zone), store) in zones.iter().zip(report["stores"].as_array().unwrap()) {
        assert_eq!((&store["store"], &store["zone"]), (&(*number).into(), &(*zone).into()));
        assert_eq!(store["incarnation"], 1);
        let copies = &store["copies"];
        assert_eq!(copies["referenced"]["chunks"], CHUNKS, "{copies:#}");
        assert_eq!(copies["referenced"]["blobs"], BLOBS, "{copies:#}");
        assert_eq!(copies["no_row"]["chunks"], 0, "{copies:#}");
        assert_eq!(copies["unknown"]["chunks"], 0, "{copies:#}");
        assert_eq!(copies["misplaced"]["chunks"], 0, "{copies:#}");
        let garbage = copies["garbage"]["blobs"].as_u64().unwrap();
        assert!(garbage <= report["metadata"]["rows"]["garbage_blobs"].as_u64().unwrap());
        assert_eq!(copies["sound"], copies["total"]["chunks"]);
        let segments = &store["segments"];
        let of = |name: &str| segments[name].as_u64().unwrap();
        let used = of("chunks_open") + of("chunks_sealed") + of("runs") + of("values");
        assert_eq!(of("free") + of("being_freed") + used, of("total"), "{segments:#}");
        assert!(of("chunks_open") > 0);
        let journal = &store["journal"];
        assert_eq!((&journal["torn"], &journal["damaged_at"]), (&false.into(), &Value::Null));
        let replica = &store["replicas"][0];
        assert_eq!(replica["applied"], replica["log_last"]);
        assert_eq!(replica["rows_add_up"], true);
    }
    let rows = &report["metadata"]["rows"];
    assert_eq!(rows["add_up"], true);
    let expected =
        [("buckets", 1), ("objects", 5), ("inline_objects", 2), ("uploads", 1), ("parts", 1)];
    for (name, count) in expected {
        assert_eq!(rows[name], count, "{name}: {rows:#}");
    }
    assert_eq!(rows["blobs"], BLOBS);
    assert!(rows["garbage_blobs"].as_u64().unwrap() <= 3);
    let length: usize = objects().iter().map(|(_, body)| body.len()).sum();
    assert_eq!(rows["object_bytes"], length);

    // As the cluster itself has said.
    let found = &report["metadata"]["audit"];
    assert_eq!(found["copies_good"], 3 * CHUNKS);
    for name in ["objects", "chunks", "copies_good", "bad"] {
        assert_eq!(found[name], audited[name], "{name}");
    }
    assert_eq!(found["not_given"], Value::Array(Vec::new()));

    // By the data directory, in words, and without verification, it is the same; nothing was changed.
    let words = run(&[], std::slice::from_ref(&data));
    let words = String::from_utf8(words.stdout).unwrap();
    assert!(words.contains("sound: every copy was read and verifies"), "{words}");
    assert!(
        words.contains(&format!("{} chunks, {} copies good, 0 bad", CHUNKS, 3 * CHUNKS)),
        "{words}"
    );
    let (quick, code) = inspect(&["--no-verify"], &paths(&data));
    assert_eq!((code, &quick["verified"]), (Some(0), &false.into()), "{quick:#}");
    assert_eq!(quick["stores"][0]["copies"]["referenced"]["chunks"], CHUNKS);
    assert!(quick["stores"][0]["copies"]["read_bytes"].as_u64().unwrap() < 1_000_000);
    let after: Vec<_> = paths(&data).iter().map(|path| fingerprint(path)).collect();
    assert_eq!(before, after, "inspection changes nothing");

    // One store alone says what it can.
    let (one, code) = inspect(&[], &paths(&data)[1..2]);
    assert_eq!(code, Some(0), "{one:#}");
    assert_eq!(one["metadata"]["audit"]["copies_good"], CHUNKS);
    assert_eq!(one["metadata"]["audit"]["not_given"], serde_json::json!([1, 3]));

    // A block of one chunk, the header of another, the last byte of a third, in one store.
    let file = store(&data, "zone-b");
    // By their lengths, since an object that was overwritten has left a chunk, too.
    let place = |key: &str, length: u64| {
        let mut lines = copies(&list, 2, key).into_iter();
        let line = lines.find(|line| line["length"] == length).unwrap();
        (line["chunk"].as_str().unwrap().to_owned(), line["offset"].as_u64().unwrap())
    };
    let (large, large_at) = place("large", MIB as u64);
    damage(&file, large_at + 3 * (64 << 10) + 17, 1);
    let (medium, medium_at) = place("medium", 100_000);
    damage(&file, medium_at - 4096 + 40, 1);
    let (parts, parts_at) = place("parts", 300_000);
    damage(&file, parts_at + 300_000 - 1, 1);
    drop(file);
    let (report, code) = inspect(&[], &paths(&data));
    assert_eq!((code, &report["sound"]), (Some(1), &false.into()), "{report:#}");
    for (store, bad) in [(0, 0), (1, 3), (2, 0)] {
        let found = report["stores"][store]["copies"]["bad"].as_array().unwrap();
        assert_eq!(found.len(), bad, "{found:#?}");
    }
    let error_of = |chunk: &str| {
        let bad = report["stores"][1]["copies"]["bad"].as_array().unwrap();
        let it = bad.iter().find(|it| it["chunk"] == chunk).unwrap();
        it["error"].as_str().unwrap().to_owned()
    };
    assert_eq!(error_of(&large), "block 3 does not verify");
    assert_eq!(error_of(&medium), "its header does not verify");
    assert_eq!(error_of(&parts), "block 4 does not verify");
    let damaged = &report["metadata"]["audit"]["bad"];
    assert_eq!(damaged.as_array().unwrap().len(), 3);
    assert_eq!(report["metadata"]["audit"]["copies_good"], 3 * CHUNKS - 3);

    // The cluster finds the same, reads are right, and all is repaired.
    let server = Server::start(&data);
    let first = audit(&data);
    assert_eq!(as_set(&first["bad"]), as_set(damaged), "{first:#}");
    reads_all(&mut server.client());
    let audited = audit_until_clean(&data);
    stop(server);
    let (report, code) = inspect(&[], &paths(&data));
    assert_eq!(code, Some(0), "{report:#}");
    for name in ["objects", "chunks", "copies_good", "bad"] {
        assert_eq!(report["metadata"]["audit"][name], audited[name], "{name}");
    }
    assert_eq!(report["stores"][1]["incarnation"], 2);
}

#[test]
fn what_a_killed_process_leaves_is_undamaged() {
    let (_directory, data) = data_directory();
    let server = Server::start(&data);
    let mut client = server.client();
    ask(&mut client, "PUT", "/demo", b"");
    let (going, mut writer) = (Arc::new(AtomicBool::new(true)), server.client());
    let writing = {
        let going = going.clone();
        thread::spawn(move || {
            let mut put = 0_u32;
            while going.load(Ordering::Relaxed) {
                let body = bytes(1, 40_000 + 50_000 * (put as usize % 30));
                match writer.request("PUT", &format!("/demo/{put}"), &body) {
                    Ok(answer) if answer.status == 200 => put += 1,
                    _ => break,
                }
            }
            put
        })
    };
    // Enough for several segments, and for something to be in flight.
    let until = Instant::now() + Duration::from_secs(60);
    while client.request("GET", "/demo/40", b"").unwrap().status != 200 {
        assert!(Instant::now() < until, "puts do not get on");
    }
    server.kill();
    going.store(false, Ordering::Relaxed);
    let put = u64::from(writing.join().unwrap());
    let (report, _) = inspect(&[], &paths(&data));
    for store in report["stores"].as_array().unwrap() {
        assert_eq!(store["journal"]["damaged_at"], Value::Null, "{store:#}");
        assert_eq!(store["copies"]["bad"], Value::Array(Vec::new()));
        assert_eq!(store["segments"]["bad_headers"], serde_json::json!({}));
    }
    let metadata = &report["metadata"];
    assert_eq!(metadata["rows"]["add_up"], true);
    assert!(metadata["rows"]["objects"].as_u64().unwrap() >= put, "acknowledged is committed");
    // Two of three copies are there of whatever was acknowledged: the third may have been on its way.
    let bad = metadata["audit"]["bad"].as_array().unwrap();
    assert!(bad.iter().all(|it| it["error"] == "missing"), "{bad:#?}");
    let chunks: Vec<String> = bad.iter().map(|it| it["chunk"].to_string()).collect();
    assert!(chunks.iter().collect::<BTreeSet<_>>().len() == chunks.len(), "{bad:#?}");
}

#[test]
fn what_is_no_store_or_a_damaged_one_is_told() {
    let (directory, data) = data_directory();
    let server = Server::start(&data);
    ask(&mut server.client(), "PUT", "/demo", b"");
    ask(&mut server.client(), "PUT", "/demo/key", &bytes(1, 2 * MIB));
    audit_until_clean(&data);
    stop(server);
    let made = |name: &str, contents: &[u8]| {
        let path = directory.path().join(name);
        fs::write(&path, contents).unwrap();
        vec![path]
    };

    // No stores at all.
    for (paths, words) in [
        (made("empty", b""), "it is empty"),
        (made("short", &bytes(1, 100)), "it cannot be read"),
        (made("noise", &bytes(2, 400_000)), "it is not the disk of a store"),
        (made("zeros", &vec![0; 400_000]), "it is blank"),
        (vec![directory.path().join("absent")], "cannot open it: No such file"),
        (vec![directory.path().to_owned()], "it is no data directory"),
        (vec![PathBuf::from("/dev/null")], "it is neither a file nor a directory"),
    ] {
        let text = refusal(&paths);
        assert!(text.contains(words), "{words}: {text}");
    }
    let directory_of_noise = directory.path().join("odd");
    fs::create_dir(&directory_of_noise).unwrap();
    fs::write(directory_of_noise.join("cluster.toml"), "version = 1\nnonsense").unwrap();
    assert!(refusal(&[directory_of_noise]).contains("cluster.toml is damaged"));
    let nothing = output({
        let mut command = Command::new(binary());
        command.arg("inspect");
        command
    });
    assert_eq!(nothing.status.code(), Some(2));

    // The same store under two names, and one of another cluster.
    let link = directory.path().join("link");
    fs::hard_link(&paths(&data)[0], &link).unwrap();
    assert!(refusal(&[paths(&data)[0].clone(), link]).contains("it is of store-1"));
    let (_other_directory, other) = data_directory();
    stop(Server::start(&other));
    let text = refusal(&[paths(&data)[0].clone(), paths(&other)[1].clone()]);
    assert!(text.contains("it is of cluster "), "{text}");

    // A list is not written over a file, and is written nowhere else.
    let list = made("list", b"precious").swap_remove(0);
    let refused = run(&["--chunks", list.to_str().unwrap()], &paths(&data));
    assert_eq!(refused.status.code(), Some(2));
    assert_eq!(fs::read(&list).unwrap(), b"precious");

    // One copy of the superblock, then all of them.
    let file = store(&data, "zone-c");
    damage(&file, COPIES[1], COPY_LEN);
    let (report, code) = inspect(&[], &paths(&data));
    assert_eq!(code, Some(1), "{report:#}");
    assert_eq!(
        report["findings"],
        serde_json::json!(["store-3: copy 1 of the superblock is damaged"])
    );
    for at in [COPIES[0], COPIES[2], COPIES[3]] {
        damage(&file, at, COPY_LEN);
    }
    // The others are told of all the same.
    let (report, code) = inspect(&[], &paths(&data));
    assert_eq!(code, Some(2), "{report:#}");
    assert_eq!(report["stores"].as_array().unwrap().len(), 2);
    assert_eq!(report["metadata"]["audit"]["copies_good"], 4);
    for at in COPIES {
        // Only bytes behind the magic: it says whose it is, and yet does not verify.
        damage(&file, at, COPY_LEN);
        damage(&file, at + 100, 8);
    }
    let text = refusal(&paths(&data)[2..]);
    assert!(text.contains("none of its 4 superblock copies is whole"), "{text}");
    for at in COPIES {
        damage(&file, at + 100, 8);
    }
    let mut copy = vec![0; COPY_LEN];
    file.read_exact_at(&mut copy, COPIES[2]).unwrap();
    let kept = copy.clone();
    copy[0] = 77;
    let sealed = Checksum::of_parts(2, [&copy[..16], &copy[24..]]);
    copy[16..24].copy_from_slice(&sealed.0.to_le_bytes());
    file.write_all_at(&copy, COPIES[2]).unwrap();
    assert!(refusal(&paths(&data)[2..]).contains("format version 77"));
    file.write_all_at(&kept, COPIES[2]).unwrap();
    assert_eq!(inspect(&[], &paths(&data)).1, Some(0), "all is undone");

    // A synced frame of the journal, and the header of a segment.
    damage(&file, 262_144 + 8192, 100);
    let (report, code) = inspect(&[], &paths(&data));
    assert_eq!(code, Some(1), "{report:#}");
    assert_eq!(report["stores"][2]["journal"]["damaged_at"], 8192);
    assert_eq!(report["stores"][2]["replicas"][0]["suspect"], true);
    assert_eq!(report["metadata"]["audit"]["chunks"], 2, "the others' logs count");
    damage(&file, 262_144 + 8192, 100);
    let journal = report["stores"][2]["geometry"]["journal"].as_u64().unwrap();
    damage(&file, 262_144 + journal + 8, 1);
    let (report, code) = inspect(&[], &paths(&data));
    assert_eq!(code, Some(1), "{report:#}");
    let headers = report["stores"][2]["segments"]["bad_headers"].as_object().unwrap();
    assert_eq!(headers.keys().collect::<Vec<_>>(), ["0"]);
    damage(&file, 262_144 + journal + 8, 1);

    // Cut short: in the middle of the chunks, of the journal, and of the superblocks; and gone.
    for len in [262_144 + journal + MIB as u64, 262_144 + 8192 + 512] {
        file.set_len(len).unwrap();
        let (report, code) = inspect(&[], &paths(&data));
        assert_eq!(code, Some(1), "{report:#}");
        assert!(report["findings"].to_string().contains("store-3: the file was cut short"));
        assert!(!report["metadata"]["audit"]["bad"].as_array().unwrap().is_empty());
    }
    file.set_len(70_000).unwrap();
    let (report, code) = inspect(&[], &paths(&data)[2..]);
    assert_eq!(code, Some(1), "two copies of the superblock are left: {report:#}");
    file.set_len(4000).unwrap();
    assert!(refusal(&paths(&data)[2..]).contains("it cannot be read"));
    fs::remove_file(&paths(&data)[2]).unwrap();
    let (report, code) = inspect(&[], std::slice::from_ref(&data));
    assert_eq!(code, Some(1), "{report:#}");
    assert!(report["findings"].to_string().contains("store is missing"), "{report:#}");
}
