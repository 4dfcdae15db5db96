//! restic: a repository of backups, every pack of it read again, pruned and restored.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use super::{Client, Session};
use crate::fetch::Kit;
use crate::tree;

pub(super) const RESTIC: Client = Client {
    name: "restic",
    kit: Kit::Debian,
    does: "init, three backups, check --read-data, diff, forget --prune, restore and compare",
    version: |kit| {
        let mut command = Command::new(kit.join("usr/bin/restic"));
        command.arg("version");
        command
    },
    scenario: all,
};

fn restic(session: &Session, args: &[&str]) -> Command {
    let mut command = session.command(session.kit("usr/bin/restic"));
    let repository = format!("s3:{}/restic-bucket/deep/repository", session.server.endpoint());
    command
        .env("RESTIC_REPOSITORY", repository)
        .env("RESTIC_PASSWORD", "a password of restic's own")
        .env("RESTIC_CACHE_DIR", session.path("home/restic"));
    if let Some(ca) = session.ca() {
        command.args(["--cacert", &ca]);
    }
    command.args(args);
    command
}

fn all(session: &Session) {
    let run = |args: &[&str]| session.run(restic(session, args));
    let source = session.folder.join("source");
    session.refused(
        restic(session, &["snapshots"]),
        "Is there a repository at the following location?",
    );
    // It makes the bucket too.
    run(&["init"]);
    session.refused(restic(session, &["init"]), "already");

    tree::make(&source, tree::Shape { files: 400, per_folder: 40, bytes: 30 << 20 }, 1);
    session.file("source/big.bin", (40 << 20) + 12_345, 2);
    session.file("source/empty", 0, 3);
    session.file("source/a b+c%20ü&=/日本語 (1) '#?.txt", 1_234, 4);
    let before = tree::digests(&source);
    run(&["backup", "source"]);
    run(&["check", "--read-data"]);

    // Changed, gone and new.
    session.file("source/folder 003/file+00121.bin", 2_000_000, 5);
    fs::remove_dir_all(source.join("folder 001")).expect("our folder");
    session.file("source/new.bin", 9_000_001, 6);
    let after = tree::digests(&source);
    run(&["backup", "source", "--tag", "second"]);
    let found: Value = serde_json::from_str(&run(&["snapshots", "--json"])).expect("JSON");
    let found = found.as_array().expect("a list");
    assert_eq!(found.len(), 2);
    let id = |at: usize| found[at]["id"].as_str().expect("an id").to_owned();
    let told = run(&["diff", &id(0), &id(1)]);
    assert!(told.contains("+    /source/new.bin"), "the new file is told");
    assert_eq!(restored(session, &id(0)), before, "the first backup, as it was");
    assert_eq!(restored(session, &id(1)), after, "the second");
    let one = session.bytes(restic(session, &["dump", "latest", "/source/new.bin"]));
    assert_eq!(one, fs::read(source.join("new.bin")).expect("ours"));

    // From standard input, as dumps of databases come; then all but that is forgotten.
    let dump = session.file("dump.sql", 6_000_000, 7);
    session.fed(restic(session, &["backup", "--stdin", "--stdin-filename", "dump.sql"]), &dump);
    run(&["check", "--read-data"]);
    let size = || {
        let told = run(&["stats", "--mode", "raw-data", "--json"]);
        let told: Value = serde_json::from_str(&told).expect("JSON");
        told["total_size"].as_u64().expect("bytes")
    };
    let large = size();
    run(&["forget", &id(0), "--prune", "--max-unused", "0"]);
    assert!(size() < large, "what only the first had is gone");
    run(&["check", "--read-data"]);
    assert_eq!(restored(session, &id(1)), after, "after pruning");
    run(&["tag", "--add", "kept", &id(1)]);
    run(&["rebuild-index"]);
    run(&["forget", "--keep-last", "1", "--group-by", "", "--prune"]);
    run(&["check", "--read-data"]);
    let whole = session.bytes(restic(session, &["dump", "latest", "dump.sql"]));
    assert_eq!(whole, fs::read(&dump).expect("ours"));
    session.refused(restic(session, &["restore", &id(0), "--target", "x"]), "no matching ID found");
}

fn restored(session: &Session, id: &str) -> std::collections::BTreeMap<std::path::PathBuf, String> {
    let target = session.path("restored");
    let _ = fs::remove_dir_all(&target);
    // Without the cache: from the server.
    session.run(restic(session, &["restore", id, "--target", &target, "--no-cache"]));
    tree::digests(&Path::new(&target).join("source"))
}
