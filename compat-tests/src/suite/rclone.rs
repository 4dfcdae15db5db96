//! rclone: sync and check both ways, times, moves and copies in the bucket, streams.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use super::{Client, Session};
use crate::fetch::Kit;
use crate::tree;

pub(super) const RCLONE: Client = Client {
    name: "rclone",
    kit: Kit::Tools,
    does: "sync, check --download, mtimes, server-side copy and move, rcat, ranges, link, purge",
    version: |kit| {
        let mut command = Command::new(kit.join("bin/rclone"));
        command.arg("version");
        command
    },
    scenario: all,
};

const BIG: u64 = (20 << 20) + 12_345;
/// With nanoseconds, all of which are to come back.
const MTIME: &str = "2001-09-09T01:46:40.123456789Z";

fn rclone(session: &Session, args: &[&str]) -> Command {
    let mut command = session.command(session.kit("bin/rclone"));
    command
        .env("RCLONE_CONFIG", "/dev/null")
        .env("RCLONE_CONFIG_T_TYPE", "s3")
        .env("RCLONE_CONFIG_T_PROVIDER", "Other")
        .env("RCLONE_CONFIG_T_ENV_AUTH", "true")
        .env("RCLONE_CONFIG_T_REGION", "us-east-1")
        .env("RCLONE_CONFIG_T_ENDPOINT", session.server.endpoint())
        // Failures are to be seen; parts are wanted of what is not huge.
        .args([
            "--retries=1",
            "--low-level-retries=1",
            "--s3-upload-cutoff=16M",
            "--s3-copy-cutoff=16M",
        ]);
    if let Some(ca) = session.ca() {
        command.args(["--ca-cert", &ca]);
    }
    command.args(args);
    command
}

fn all(session: &Session) {
    let run = |args: &[&str]| session.run(rclone(session, args));
    run(&["mkdir", "t:rclone-bucket"]);
    assert!(run(&["lsd", "t:"]).contains("rclone-bucket"));
    trees(session);
    times(session);
    in_the_bucket(session);
    streams(session);
    session.refused(rclone(session, &["lsf", "t:no-such-bucket"]), "directory not found");
    session.refused(rclone(session, &["deletefile", "t:rclone-bucket/missing"]), "doesn't exist");
    run(&["purge", "t:rclone-bucket"]);
    assert_eq!(run(&["lsd", "t:"]), "", "no bucket is left");
}

fn trees(session: &Session) {
    let run = |args: &[&str]| session.run(rclone(session, args));
    let source = session.folder.join("source");
    tree::make(&source, tree::Shape { files: 1_060, per_folder: 530, bytes: 4 << 20 }, 1);
    let big = session.file("source/big.bin", BIG, 2);
    session.file("source/empty", 0, 3);
    session.file("source/a b+c%20ü&=/日本語 (1) '#?.txt", 1_234, 4);
    session.file("source/exactly 16 MiB", 16 << 20, 5);
    session.run({
        let mut touch = session.command("touch");
        touch.arg(format!("--date={MTIME}")).arg(&big);
        touch
    });
    let (up, down) = (session.path("source"), session.path("down"));
    let tree = "t:rclone-bucket/tree";

    run(&["sync", &up, tree]);
    run(&["check", &up, tree]);
    run(&["check", "--download", &up, tree]);
    run(&["sync", tree, &down]);
    assert_eq!(tree::digests(&source), tree::digests(Path::new(&down)));
    // Neither way is there anything left to do, by time and size, and by checksum.
    for more in [
        &["sync", "--dry-run", "-v", &up, tree][..],
        &["sync", "--dry-run", "-v", "--checksum", tree, &down],
    ] {
        let done = session.said_by(rclone(session, more));
        assert!(done.contains("There was nothing to transfer"), "{done}");
    }
    let sums = run(&["md5sum", tree]);
    assert_eq!(sums.lines().count(), 1_064);
    let sized: Value = serde_json::from_str(&run(&["size", "--json", tree])).expect("JSON");
    assert_eq!(sized["count"], 1_064);

    // A difference is found, and sync removes what is gone.
    session.file("source/empty", 1, 6);
    session.refused(rclone(session, &["check", &up, tree]), "1 differences found");
    fs::remove_dir_all(source.join("folder 001")).expect("our folder");
    run(&["sync", &up, tree]);
    run(&["check", "--download", &up, tree]);
    assert_eq!(run(&["lsf", "--recursive", "--files-only", tree]).lines().count(), 534);
    assert_eq!(run(&["lsf", tree]).lines().count(), 5);
}

fn times(session: &Session) {
    let run = |args: &[&str]| session.run(rclone(session, args));
    let time = |object: &str| {
        let told = run(&["lsjson", "--stat", object]);
        let told: Value = serde_json::from_str(&told).expect("JSON");
        told["ModTime"].as_str().expect("a time").to_owned()
    };
    assert_eq!(time("t:rclone-bucket/tree/big.bin"), MTIME);
    let downloaded = session.path("down/big.bin");
    assert_eq!(time(&downloaded), MTIME, "the time of the file came back with it");
    assert_eq!(
        session.head("rclone-bucket/tree/big.bin")["x-amz-meta-mtime"],
        "1000000000.123456789"
    );
    // SetModTime is a copy onto itself, by parts beyond the cutoff.
    for object in ["t:rclone-bucket/tree/big.bin", "t:rclone-bucket/tree/empty"] {
        run(&["touch", "--timestamp=2010-01-02T03:04:05", object]);
        assert_eq!(time(object), "2010-01-02T03:04:05.000000000Z");
    }
    let source = session.folder.join("source");
    let big = tree::digests(&source)[Path::new("big.bin")].clone();
    assert_eq!(session.sha256("rclone-bucket/tree/big.bin"), big, "and no byte of it changed");
}

fn in_the_bucket(session: &Session) {
    let run = |args: &[&str]| session.run(rclone(session, args));
    let source = session.folder.join("source");
    run(&["copy", "t:rclone-bucket/tree", "t:rclone-bucket/copy"]);
    run(&["check", "--download", "t:rclone-bucket/tree", "t:rclone-bucket/copy"]);
    run(&["move", "t:rclone-bucket/copy", "t:rclone-bucket/moved ü+"]);
    assert_eq!(run(&["lsf", "--recursive", "t:rclone-bucket/copy"]), "");
    let moved = session.path("moved");
    run(&["copy", "t:rclone-bucket/moved ü+", &moved]);
    assert_eq!(tree::digests(&source), tree::digests(Path::new(&moved)));
    run(&["copyto", "t:rclone-bucket/tree/big.bin", "t:rclone-bucket/other name"]);
    run(&["moveto", "t:rclone-bucket/other name", "t:rclone-bucket/third name"]);
    let big = tree::digests(&source)[Path::new("big.bin")].clone();
    assert_eq!(session.sha256("rclone-bucket/third name"), big);
    run(&["delete", "t:rclone-bucket/moved ü+"]);
    run(&["deletefile", "t:rclone-bucket/third name"]);

    let url = run(&["link", "--expire=10m", "t:rclone-bucket/tree/a b+c%20ü&=/日本語 (1) '#?.txt"]);
    let mut curl = session.plain_curl();
    curl.arg(url.trim());
    let name = session.path("source/a b+c%20ü&=/日本語 (1) '#?.txt");
    assert_eq!(session.bytes(curl), fs::read(name).expect("ours"));
    // Empty folders are kept by markers, if asked for.
    run(&["mkdir", "--s3-directory-markers", "t:rclone-bucket/empty folder"]);
    assert!(run(&["lsf", "t:rclone-bucket"]).contains("empty folder/"));
    run(&["rmdir", "--s3-directory-markers", "t:rclone-bucket/empty folder"]);
}

fn streams(session: &Session) {
    let body = session.file("body", (17 << 20) + 3, 7);
    let object = "t:rclone-bucket/streamed";
    let put = ["rcat", "--metadata", "--header-upload=Cache-Control: max-age=60", object];
    session.fed(rclone(session, &put), &body);
    let whole = fs::read(&body).expect("ours");
    assert_eq!(session.bytes(rclone(session, &["cat", object])), whole);
    let some = rclone(session, &["cat", "--offset=5242870", "--count=20", object]);
    assert_eq!(session.bytes(some), whole[5_242_870..5_242_890]);
    let tail = rclone(session, &["cat", "--offset=-100", object]);
    assert_eq!(session.bytes(tail), whole[whole.len() - 100..]);
    assert_eq!(session.head("rclone-bucket/streamed")["cache-control"], "max-age=60");
    let words = [
        "copyto",
        "--metadata",
        "--metadata-set=colour=blue",
        "--metadata-set=content-type=text/x-trine",
        &body,
        "t:rclone-bucket/words",
    ];
    session.run(rclone(session, &words));
    let head = session.head("rclone-bucket/words");
    assert_eq!(
        (head["x-amz-meta-colour"].as_str(), head["content-type"].as_str()),
        ("blue", "text/x-trine")
    );
}
