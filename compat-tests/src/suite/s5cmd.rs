//! s5cmd: wildcards, many at once, parts, and a file of commands.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::{Client, Session};
use crate::fetch::Kit;
use crate::tree;

pub(super) const S5CMD: Client = Client {
    name: "s5cmd",
    kit: Kit::Tools,
    does: "cp and sync of 1,064 files, parts, cat, pipe, mv, run, du, presign, rm by wildcard",
    version: |kit| {
        let mut command = Command::new(kit.join("bin/s5cmd"));
        command.arg("version");
        command
    },
    scenario: all,
};

const BIG: u64 = (20 << 20) + 12_345;

fn s5cmd(session: &Session, args: &[&str]) -> Command {
    let mut command = session.command(session.kit("bin/s5cmd"));
    command.args(["--endpoint-url", &session.server.endpoint(), "--retry-count=0"]);
    if let Some(ca) = session.ca() {
        command.env("AWS_CA_BUNDLE", ca);
    }
    command.args(args);
    command
}

fn all(session: &Session) {
    let run = |args: &[&str]| session.run(s5cmd(session, args));
    run(&["mb", "s3://s5cmd-bucket"]);
    assert!(run(&["ls"]).contains("s3://s5cmd-bucket"));
    trees(session);
    one_object(session);
    batches(session);
    session.refused(s5cmd(session, &["cat", "s3://s5cmd-bucket/missing"]), "not found");
    session.refused(s5cmd(session, &["head", "s3://s5cmd-bucket/missing"]), "not found");
    session.refused(s5cmd(session, &["ls", "s3://no-such-bucket"]), "NoSuchBucket");
    run(&["rm", "s3://s5cmd-bucket/*"]);
    run(&["rb", "s3://s5cmd-bucket"]);
    assert_eq!(run(&["ls"]), "", "no bucket is left");
}

fn trees(session: &Session) {
    let run = |args: &[&str]| session.run(s5cmd(session, args));
    let source = session.folder.join("source");
    tree::make(&source, tree::Shape { files: 1_060, per_folder: 530, bytes: 4 << 20 }, 1);
    session.file("source/big.bin", BIG, 2);
    session.file("source/empty", 0, 3);
    // No `?` and `*`: to s5cmd they are wildcards.
    session.file("source/a b+c%20ü&=/日本語 (1) '#.txt", 1_234, 4);
    session.file("source/exactly 16 MiB", 16 << 20, 5);
    let (up, down) = (session.path("source/"), session.path("down/"));
    let (tree, all) = ("s3://s5cmd-bucket/tree/", "s3://s5cmd-bucket/tree/*");

    run(&["cp", "--part-size=5", &up, tree]);
    assert_eq!(run(&["ls", all]).lines().count(), 1_064);
    assert_eq!(run(&["ls", tree]).lines().count(), 6);
    run(&["cp", "--part-size=5", all, &down]);
    assert_eq!(tree::digests(&source), tree::digests(Path::new(&down)));
    assert!(session.head("s5cmd-bucket/tree/big.bin")["etag"].ends_with("-5\""));
    assert!(run(&["du", all]).contains("1064 objects"));

    // A second sync has nothing to do; what changed and what is gone is told.
    assert_eq!(run(&["sync", "--size-only", &up, tree]), "");
    fs::remove_dir_all(source.join("folder 001")).expect("our folder");
    session.file("source/folder 000/file+00000.bin", 777_777, 6);
    run(&["sync", "--delete", "--size-only", &up, tree]);
    run(&["sync", "--delete", "--size-only", all, &down]);
    assert_eq!(tree::digests(&source), tree::digests(Path::new(&down)));

    // Within the bucket.
    run(&["cp", all, "s3://s5cmd-bucket/copy/"]);
    run(&["mv", "s3://s5cmd-bucket/copy/*", "s3://s5cmd-bucket/moved ü+/"]);
    session.refused(s5cmd(session, &["ls", "s3://s5cmd-bucket/copy/*"]), "no object found");
    let moved = session.path("moved/");
    run(&["cp", "s3://s5cmd-bucket/moved ü+/*", &moved]);
    assert_eq!(tree::digests(&source), tree::digests(Path::new(&moved)));
}

fn one_object(session: &Session) {
    let run = |args: &[&str]| session.run(s5cmd(session, args));
    let body = session.file("body", (17 << 20) + 3, 7);
    let whole = fs::read(&body).expect("ours");
    let object = "s3://s5cmd-bucket/one +ü";
    run(&[
        "cp",
        "--content-type=text/x-trine",
        "--cache-control=max-age=60",
        "--metadata=colour=blue",
        &body,
        object,
    ]);
    let head = session.head("s5cmd-bucket/one +ü");
    assert_eq!(head["content-type"], "text/x-trine");
    assert_eq!(head["cache-control"], "max-age=60");
    assert_eq!(head["x-amz-meta-colour"], "blue");
    assert!(run(&["head", object]).contains("blue"));
    assert_eq!(session.bytes(s5cmd(session, &["cat", object])), whole);
    session.fed(s5cmd(session, &["pipe", "s3://s5cmd-bucket/piped"]), &body);
    assert_eq!(session.bytes(session.curl("s5cmd-bucket/piped")), whole);
    let url = run(&["presign", "--expire=10m", object]);
    let mut curl = session.plain_curl();
    curl.arg(url.trim());
    assert_eq!(session.bytes(curl), whole);
    // A copy that must not replace.
    let kept = session.file("other", 5, 8);
    run(&["cp", "--no-clobber", &kept, object]);
    assert_eq!(session.head("s5cmd-bucket/one +ü")["content-length"], whole.len().to_string());
}

fn batches(session: &Session) {
    let run = |args: &[&str]| session.run(s5cmd(session, args));
    let body = session.file("small", 3_000, 9);
    let mut commands = String::new();
    for number in 0..300 {
        commands += &format!("cp {body} s3://s5cmd-bucket/batch/{number:03}\n");
    }
    let list = session.path("commands");
    fs::write(&list, commands).expect("our folder");
    run(&["run", &list]);
    assert_eq!(run(&["ls", "s3://s5cmd-bucket/batch/*"]).lines().count(), 300);
    assert_eq!(run(&["ls", "s3://s5cmd-bucket/batch/1?5"]).lines().count(), 10);
    run(&["rm", "s3://s5cmd-bucket/batch/1*"]);
    assert_eq!(run(&["ls", "s3://s5cmd-bucket/batch/"]).lines().count(), 200);
}
