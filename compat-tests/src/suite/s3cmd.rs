//! s3cmd: trees, words, what it asks about buckets, and signed URLs.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::{Client, Session};
use crate::fetch::Kit;
use crate::tree;

pub(super) const S3CMD: Client = Client {
    name: "s3cmd",
    kit: Kit::Smoke,
    does: "sync of 1,064 files, mtimes, headers, put from stdin, cp, mv, modify, multipart, info, signurl",
    version: |kit| {
        let mut command = Command::new(kit.join("bin/s3cmd"));
        command.arg("--version");
        command
    },
    scenario: all,
};

/// Over its chunk (15 MiB), with a last part that is not whole.
const BIG: u64 = (20 << 20) + 12_345;

fn s3cmd(session: &Session, args: &[&str]) -> Command {
    let mut command = session.command(session.kit("bin/s3cmd"));
    let host = session.server.host();
    command
        .arg("--config=/dev/null")
        .arg(format!("--access_key={}", session.server.access_key()))
        .arg(format!("--secret_key={}", session.server.secret_key()))
        .arg(format!("--host={host}"))
        .arg(format!("--host-bucket={host}"))
        .arg("--no-progress");
    match session.ca() {
        Some(ca) => command.arg("--ssl").arg(format!("--ca-certs={ca}")),
        None => command.arg("--no-ssl"),
    };
    command.args(args);
    command
}

fn all(session: &Session) {
    let run = |args: &[&str]| session.run(s3cmd(session, args));
    let lines = |args: &[&str]| run(args).lines().count();
    run(&["mb", "s3://s3cmd-bucket"]);
    assert!(run(&["ls"]).contains("s3://s3cmd-bucket"));
    trees(session);

    // Copies, by parts beyond 15 MiB; words changed on the spot; moved.
    let (some, copy) = ("s3://s3cmd-bucket/tree/some/", "s3://s3cmd-bucket/copy/");
    run(&["cp", "--recursive", some, copy]);
    run(&["modify", "--recursive", "--add-header=x-amz-meta-a:b", copy]);
    assert_eq!(session.head("s3cmd-bucket/copy/big.bin")["x-amz-meta-a"], "b");
    run(&["mv", "--recursive", copy, "s3://s3cmd-bucket/third/"]);
    assert_eq!(lines(&["ls", "--recursive", "s3://s3cmd-bucket/copy/"]), 0);
    let third = session.path("third/");
    fs::create_dir_all(&third).expect("our folder");
    run(&["sync", "s3://s3cmd-bucket/third/", &third]);
    let source = session.folder.join("source/some");
    assert_eq!(tree::digests(&source), tree::digests(Path::new(&third)));

    words(session);
    parts(session);
    let told = run(&["info", "s3://s3cmd-bucket"]);
    for line in ["Payer:     BucketOwner", "Policy:    none", "CORS:      none"] {
        assert!(told.contains(line), "{line:?}");
    }
    session.refused(s3cmd(session, &["get", "s3://s3cmd-bucket/missing", "-"]), "does not exist");
    session.refused(s3cmd(session, &["ls", "s3://no-such-bucket"]), "NoSuchBucket");
    run(&["del", "--recursive", "--force", "--quiet", "s3://s3cmd-bucket"]);
    assert_eq!(run(&["la"]).trim(), "", "no object is left");
    run(&["rb", "s3://s3cmd-bucket"]);
    assert_eq!(run(&["ls"]), "", "no bucket is left");
}

fn trees(session: &Session) {
    let run = |args: &[&str]| session.run(s3cmd(session, args));
    let source = session.folder.join("source");
    tree::make(&source, tree::Shape { files: 1_060, per_folder: 530, bytes: 4 << 20 }, 1);
    let big = session.file("source/some/big.bin", BIG, 2);
    session.file("source/some/empty", 0, 3);
    session.file("source/some/a b+c%20ü&=/日本語 (1) '#?.txt", 1_234, 4);
    session.file("source/some/exactly 15 MiB", 15 << 20, 5);
    // 2001-09-09, which no upload and no download can have by chance.
    session.run({
        let mut touch = session.command("touch");
        touch.args(["--date=@1000000000", &big]);
        touch
    });
    let from = session.path("source/");
    let down = session.path("down/");
    fs::create_dir_all(&down).expect("our folder");
    let tree = "s3://s3cmd-bucket/tree/";

    run(&["sync", "--quiet", &from, tree]);
    assert_eq!(run(&["ls", "--recursive", tree]).lines().count(), 1_064);
    assert_eq!(run(&["ls", tree]).lines().count(), 3);
    run(&["sync", "--quiet", tree, &down]);
    assert_eq!(tree::digests(&source), tree::digests(Path::new(&down)));
    let got = fs::metadata(session.path("down/some/big.bin")).expect("it was got");
    let mtime = got.modified().expect("files have times");
    let age = mtime.duration_since(std::time::UNIX_EPOCH).expect("later");
    assert_eq!(age.as_secs(), 1_000_000_000, "the time of the file came back with it");
    let attributes = &session.head("s3cmd-bucket/tree/some/big.bin")["x-amz-meta-s3cmd-attrs"];
    assert!(attributes.contains("mtime:1000000000"), "{attributes}");

    // A second sync has nothing to do, by size and MD5; what is gone goes away.
    let again = run(&["sync", &from, tree]);
    assert!(!again.contains("upload:"), "nothing had changed");
    fs::remove_dir_all(source.join("folder 001")).expect("our folder");
    run(&["sync", "--delete-removed", "--quiet", &from, tree]);
    assert_eq!(run(&["ls", "--recursive", tree]).lines().count(), 534);
}

fn words(session: &Session) {
    let run = |args: &[&str]| session.run(s3cmd(session, args));
    let body = session.file("body", 70_001, 6);
    run(&[
        "put",
        "--mime-type=text/x-trine",
        "--add-header=Cache-Control: max-age=60",
        "--add-header=x-amz-meta-colour: blue",
        &body,
        "s3://s3cmd-bucket/words +ü",
    ]);
    let head = session.head("s3cmd-bucket/words +ü");
    assert_eq!(head["content-type"], "text/x-trine");
    assert_eq!(head["cache-control"], "max-age=60");
    assert_eq!(head["x-amz-meta-colour"], "blue");
    let told = run(&["info", "s3://s3cmd-bucket/words +ü"]);
    for word in ["File size: 70001", "text/x-trine", "x-amz-meta-colour: blue", "FULL_CONTROL"] {
        assert!(told.contains(word), "{word:?}");
    }
    let total = run(&["du", "s3://s3cmd-bucket/words"]);
    assert!(total.starts_with("70001") || total.trim_start().starts_with("70001"), "{total}");

    // It signs URLs by version 2 only, and writes http unless its configuration file says otherwise.
    let url = run(&["signurl", "s3://s3cmd-bucket/words +ü", "+600"]);
    let url = url.trim().replace("http://", &format!("{}://", session.server.transport().scheme()));
    let mut curl = session.plain_curl();
    curl.arg(&url);
    assert_eq!(session.bytes(curl), fs::read(&body).expect("ours"));
    let mut curl = session.plain_curl();
    curl.arg(url.replace("words", "other"));
    session.refused(curl, "SignatureDoesNotMatch");
}

fn parts(session: &Session) {
    let run = |args: &[&str]| session.run(s3cmd(session, args));
    let body = session.file("streamed", (11 << 20) + 7, 7);
    let put = ["put", "--multipart-chunk-size-mb=5", "-", "s3://s3cmd-bucket/streamed"];
    session.fed(s3cmd(session, &put), &body);
    let head = session.head("s3cmd-bucket/streamed");
    assert!(head["etag"].ends_with("-3\""), "{head:?}");
    let back = session.path("streamed back");
    run(&["get", "s3://s3cmd-bucket/streamed", &back]);
    assert_eq!(fs::read(&back).expect("it was got"), fs::read(&body).expect("ours"));
    // What was got in part is gone on with, by a range.
    let whole = fs::read(&body).expect("ours");
    fs::write(&back, &whole[..5_000_000]).expect("our folder");
    run(&["get", "--continue", "s3://s3cmd-bucket/streamed", &back]);
    assert_eq!(fs::read(&back).expect("it was got"), whole);
    assert_eq!(run(&["multipart", "s3://s3cmd-bucket"]).lines().count(), 2, "only its heading");
}
