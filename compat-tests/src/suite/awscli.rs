//! awscli, both versions: trees, streams, and the calls below them.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use super::{Client, Session};
use crate::fetch::Kit;
use crate::tree;

pub(super) const V1: Client = Client {
    name: "awscli-v1",
    kit: Kit::Smoke,
    does: "sync of 1,070 files, cp from stdin, s3api, multipart by hand, presign",
    version: |kit| {
        let mut command = Command::new(kit.join("bin/aws"));
        command.arg("--version");
        command
    },
    scenario: |session| all(session, "bin/aws", Version::One),
};

pub(super) const V2: Client = Client {
    name: "awscli-v2",
    kit: Kit::Debian,
    does: "sync of 1,070 files, cp from stdin, s3api, multipart by hand, presign",
    version: |kit| {
        let mut command = Command::new(kit.join("usr/bin/aws"));
        command.arg("--version").env("PYTHONPATH", modules(kit));
        command
    },
    scenario: |session| all(session, "usr/bin/aws", Version::Two),
};

/// Debian's modules, which are not where its Python looks for them.
fn modules(kit: &Path) -> std::path::PathBuf {
    kit.join("usr/lib/python3/dist-packages")
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Version {
    One,
    Two,
}

/// Over the size at which it goes to multipart (8 MiB), with a last part that is not whole.
const BIG: u64 = (20 << 20) + 12_345;

struct Aws<'a> {
    session: &'a Session,
    program: &'static str,
    version: Version,
}

impl Aws<'_> {
    fn command(&self, args: &[&str]) -> Command {
        let mut command = self.session.command(self.session.kit(self.program));
        command.arg("--endpoint-url").arg(self.session.server.endpoint());
        if let Some(ca) = self.session.ca() {
            command.args(["--ca-bundle", &ca]);
        }
        if self.version == Version::Two {
            command.env("PYTHONPATH", modules(&self.session.kit(""))).env("AWS_PAGER", "");
        }
        command.args(args);
        command
    }

    fn run(&self, args: &[&str]) -> String {
        self.session.run(self.command(args))
    }

    fn lines(&self, args: &[&str]) -> usize {
        self.run(args).lines().count()
    }

    fn json(&self, args: &[&str]) -> Value {
        let told = self.run(&[&["--output", "json", "s3api"], args].concat());
        serde_json::from_str(&told).unwrap_or_else(|error| panic!("{args:?}: {error}"))
    }

    fn refused(&self, args: &[&str], why: &str) {
        self.session.refused(self.command(&[&["s3api"], args].concat()), why);
    }
}

fn all(session: &Session, program: &'static str, version: Version) {
    let aws = Aws { session, program, version };
    aws.run(&["s3", "mb", "s3://aws-bucket"]);
    assert!(aws.run(&["s3", "ls"]).contains("aws-bucket"));
    trees(&aws);
    streams_and_words(&aws);
    calls(&aws);
    parts_by_hand(&aws);
    presigned(&aws);
    aws.run(&["s3", "rm", "--quiet", "--recursive", "s3://aws-bucket/"]);
    aws.run(&["s3", "rb", "s3://aws-bucket"]);
    assert_eq!(aws.run(&["s3", "ls"]), "", "no bucket is left");
}

fn trees(aws: &Aws<'_>) {
    let session = aws.session;
    let source = session.folder.join("source");
    tree::make(&source, tree::Shape { files: 1_066, per_folder: 533, bytes: 6 << 20 }, 1);
    session.file("source/big.bin", BIG, 2);
    session.file("source/empty", 0, 3);
    session.file("source/a b+c%20ü&=/日本語 (1) '#?.txt", 1_234, 4);
    session.file("source/exactly 8 MiB", 8 << 20, 5);
    let (up, down) = (session.path("source"), session.path("down"));
    let (tree, other) = ("s3://aws-bucket/tree/", "s3://aws-bucket/other/");

    aws.run(&["s3", "sync", "--only-show-errors", &up, tree]);
    assert_eq!(aws.lines(&["s3", "ls", "--recursive", tree]), 1_070);
    assert_eq!(aws.lines(&["s3", "ls", "s3://aws-bucket/tree/folder 000/"]), 533);
    assert_eq!(aws.lines(&["s3", "ls", tree]), 6, "three folders, three files");
    aws.run(&["s3", "sync", "--only-show-errors", tree, &down]);
    assert_eq!(tree::digests(&source), tree::digests(Path::new(&down)));
    assert_eq!(aws.run(&["s3", "sync", &up, tree]), "", "a second sync has nothing to do");

    // What changed goes up, what is gone goes away.
    fs::remove_dir_all(source.join("folder 001")).expect("our folder");
    session.file("source/folder 000/file+00000.bin", 777, 6);
    aws.run(&["s3", "sync", "--delete", "--only-show-errors", &up, tree]);
    aws.run(&["s3", "sync", "--delete", "--only-show-errors", tree, &down]);
    assert_eq!(tree::digests(&source), tree::digests(Path::new(&down)));

    // Within the bucket: the big ones by parts.
    aws.run(&["s3", "sync", "--only-show-errors", "--exclude", "folder*", tree, other]);
    aws.run(&["s3", "mv", "--quiet", "--recursive", other, "s3://aws-bucket/moved ü+/"]);
    assert_eq!(
        aws.run(&["s3", "ls", "--recursive", "s3://aws-bucket/moved ü+/"]).lines().count(),
        4
    );
    let big = tree::digests(&source)[Path::new("big.bin")].clone();
    assert_eq!(session.sha256("aws-bucket/moved ü+/big.bin"), big);
}

fn streams_and_words(aws: &Aws<'_>) {
    let session = aws.session;
    let file = session.file("stream", (17 << 20) + 3, 7);
    let to = "s3://aws-bucket/stream";
    session.fed(
        aws.command(&[
            "s3",
            "cp",
            "-",
            to,
            "--content-type",
            "application/x-trine",
            "--cache-control",
            "max-age=60",
            "--content-disposition",
            "attachment; filename=\"a.bin\"",
            "--content-language",
            "de",
            "--metadata",
            "colour=blue,size=big one",
        ]),
        &file,
    );
    let back = session.bytes(aws.command(&["s3", "cp", to, "-"]));
    assert_eq!(back, fs::read(&file).expect("ours"), "what came by stdin goes by stdout");
    let told = aws.json(&["head-object", "--bucket", "aws-bucket", "--key", "stream"]);
    assert_eq!(told["ContentLength"], (17 << 20) + 3);
    assert_eq!(told["ContentType"], "application/x-trine");
    assert_eq!(told["CacheControl"], "max-age=60");
    assert_eq!(told["ContentDisposition"], "attachment; filename=\"a.bin\"");
    assert_eq!(told["ContentLanguage"], "de");
    assert_eq!(told["Metadata"]["colour"], "blue");
    assert_eq!(told["Metadata"]["size"], "big one");
    aws.run(&["s3", "cp", "--quiet", to, "s3://aws-bucket/copied"]);
    if aws.version == Version::Two {
        // It brings them along when it copies by parts; version 1 does not.
        let copied = aws.json(&["head-object", "--bucket", "aws-bucket", "--key", "copied"]);
        assert_eq!(copied["Metadata"], told["Metadata"]);
        assert_eq!(copied["ContentType"], told["ContentType"]);
    }
    assert_eq!(session.sha256("aws-bucket/copied"), session.sha256("aws-bucket/stream"));
}

fn calls(aws: &Aws<'_>) {
    let session = aws.session;
    let bucket = ["--bucket", "aws-bucket"];
    let with = |call: &'static str, rest: &[&'static str]| [&[call], &bucket[..], rest].concat();
    let body = session.file("body", 100_000, 8);
    let put =
        aws.json(&[&with("put-object", &["--key", "api/ö", "--body"])[..], &[&body]].concat());
    let tag = put["ETag"].as_str().expect("a tag").to_owned();
    let (out, part) = (session.path("out"), session.path("part"));
    let ranged = with("get-object", &["--key", "api/ö", "--range", "bytes=1000-1999"]);
    let told = aws.json(&[&ranged[..], &[&part]].concat());
    assert_eq!(told["ContentRange"], "bytes 1000-1999/100000");
    let whole = fs::read(&body).expect("ours");
    assert_eq!(fs::read(&part).expect("it was got"), whole[1000..2000]);
    let matching = with("get-object", &["--key", "api/ö", "--if-match"]);
    aws.json(&[&matching[..], &[&tag, &out]].concat());
    assert_eq!(fs::read(&out).expect("it was got"), whole);
    let other = [&matching[..], &["\"0\"", &out]].concat();
    aws.refused(&other, "PreconditionFailed");
    let missing = with("get-object", &["--key", "missing"]);
    aws.refused(&[&missing[..], &[&out]].concat(), "NoSuchKey");
    aws.refused(&with("head-object", &["--key", "missing"]), "404");
    aws.refused(&["head-bucket", "--bucket", "no-such-bucket"], "404");
    aws.refused(&["list-objects-v2", "--bucket", "no-such-bucket"], "NoSuchBucket");
    aws.refused(&["delete-bucket", "--bucket", "aws-bucket"], "BucketNotEmpty");
    if aws.version == Version::One {
        // The other is older than these.
        let again = with("put-object", &["--key", "api/ö", "--if-none-match", "*"]);
        aws.refused(&again, "PreconditionFailed");
    }

    let told = aws.json(&with("get-bucket-location", &[]));
    assert_eq!(told["LocationConstraint"], Value::Null, "us-east-1 is nowhere");
    let copy = ["--key", "api/copy", "--copy-source", "aws-bucket/api/ö"];
    let told = aws.json(&with("copy-object", &copy));
    assert_eq!(told["CopyObjectResult"]["ETag"], tag.as_str());
    let told = aws.json(&with("list-objects-v2", &["--delimiter", "/", "--prefix", "a"]));
    assert_eq!(told["CommonPrefixes"][0]["Prefix"], "api/");
    // The pager below is the client's: pages of 100 keys until all are there.
    let told = aws.json(&with("list-objects-v2", &["--prefix", "tree/", "--page-size", "100"]));
    assert_eq!(told["Contents"].as_array().expect("a list").len(), 537);
    let gone = ["--delete", "Objects=[{Key=api/ö},{Key=api/copy},{Key=api/never}]"];
    let told = aws.json(&with("delete-objects", &gone));
    assert_eq!(told["Deleted"].as_array().expect("a list").len(), 3);
    assert_eq!(told["Errors"], Value::Null);
    aws.refused(&with("head-object", &["--key", "api/ö"]), "404");
    aws.refused(
        &with("put-bucket-versioning", &["--versioning-configuration", "Status=Enabled"]),
        "NotImplemented",
    );
}

fn parts_by_hand(aws: &Aws<'_>) {
    let session = aws.session;
    let object = ["--bucket", "aws-bucket", "--key", "by hand"];
    let made = aws.json(
        &[&["create-multipart-upload", "--checksum-algorithm", "SHA256"], &object[..]].concat(),
    );
    let upload = made["UploadId"].as_str().expect("an upload");
    assert_eq!(made["ChecksumAlgorithm"], "SHA256");
    let uploads = aws.json(&["list-multipart-uploads", "--bucket", "aws-bucket"]);
    assert_eq!(uploads["Uploads"][0]["Key"], "by hand");
    let mut named = Vec::new();
    for (number, len) in [("1", 5 << 20), ("2", (6 << 20) + 1), ("3", 4)] {
        let file = session.file(&format!("part-{number}"), len, 9);
        let put = aws.json(
            &[
                &["upload-part", "--part-number", number, "--upload-id", upload, "--body", &file],
                &["--checksum-algorithm", "SHA256"][..],
                &object[..],
            ]
            .concat(),
        );
        assert!(put["ChecksumSHA256"].is_string(), "{put}");
        named.push(serde_json::json!({
            "PartNumber": number.parse::<u32>().expect("a number"),
            "ETag": put["ETag"],
            "ChecksumSHA256": put["ChecksumSHA256"],
        }));
    }
    let told = aws.json(&[&["list-parts", "--upload-id", upload], &object[..]].concat());
    assert_eq!(told["Parts"].as_array().expect("a list").len(), 3);
    assert_eq!(told["Parts"][1]["ChecksumSHA256"], named[1]["ChecksumSHA256"]);
    let complete = |parts: &[Value]| {
        let parts = serde_json::json!({ "Parts": parts }).to_string();
        let mut args = vec!["complete-multipart-upload", "--upload-id", upload];
        args.extend(object);
        args.extend(["--multipart-upload", &parts]);
        args.into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    let as_str =
        |args: &[String]| args.iter().map(String::as_str).collect::<Vec<_>>().join("\u{0}");
    let backwards: Vec<Value> = named.iter().rev().cloned().collect();
    aws.refused(
        &as_str(&complete(&backwards)).split('\u{0}').collect::<Vec<_>>(),
        "InvalidPartOrder",
    );
    let done = aws.json(&as_str(&complete(&named)).split('\u{0}').collect::<Vec<_>>());
    assert!(done["ETag"].as_str().expect("a tag").ends_with("-3\""), "{done}");
    let out = session.path("joined");
    let told =
        aws.json(&[&["get-object", "--checksum-mode", "ENABLED"], &object[..], &[&out]].concat());
    assert_eq!(told["ChecksumSHA256"], done["ChecksumSHA256"]);
    let parts = ["1", "2", "3"].map(|number| fs::read(session.path(&format!("part-{number}"))));
    let whole: Vec<u8> = parts.into_iter().flat_map(|part| part.expect("ours")).collect();
    assert_eq!(fs::read(&out).expect("it was got"), whole);

    let made = aws.json(&[&["create-multipart-upload"], &object[..]].concat());
    let upload = made["UploadId"].as_str().expect("an upload");
    aws.run(&[&["s3api", "abort-multipart-upload", "--upload-id", upload], &object[..]].concat());
    aws.refused(&[&["list-parts", "--upload-id", upload], &object[..]].concat(), "NoSuchUpload");
}

fn presigned(aws: &Aws<'_>) {
    let session = aws.session;
    let name = "a b+c%20ü&=/日本語 (1) '#?.txt";
    let file = fs::read(session.path(&format!("source/{name}"))).expect("ours");
    let fetched = |url: &str| {
        let mut curl = session.plain_curl();
        curl.arg(url);
        curl
    };
    let check = |versioned: &str| {
        let url = aws.run(&["s3", "presign", &format!("s3://aws-bucket/tree/{name}")]);
        let url = url.trim();
        assert!(url.contains(versioned), "{versioned} in {url}");
        assert_eq!(session.bytes(fetched(url)), file);
        session.refused(fetched(&url.replace("/tree/", "/other/")), "SignatureDoesNotMatch");
    };
    if aws.version == Version::One {
        // It signs URLs by version 2 for endpoints that it does not know, unless it is told.
        check("AWSAccessKeyId=");
        aws.run(&["configure", "set", "default.s3.signature_version", "s3v4"]);
    }
    check("X-Amz-Signature=");
}
