//! awscli, boto3 and s3cmd, as pip gives them, against a `trine` that starts with an empty folder.

use std::fs;

use trine_compat_tests::clients::Clients;
use trine_compat_tests::server::Server;
use trine_compat_tests::{scratch, tree};

/// Over the size at which awscli goes to multipart (8 MiB), with a last part that is not whole.
const BIG: u64 = (20 << 20) + 12_345;

#[test]
fn awscli_copies_syncs_lists_and_removes() {
    let (folder, clients) = (scratch("awscli"), Clients::install());
    let server = Server::start(&folder.join("data"));
    let source = folder.join("source");
    tree::make(&source, tree::Shape { files: 60, per_folder: 20, bytes: 6 << 20 }, 1);
    let mut state = 2;
    fs::write(source.join("big.bin"), tree::bytes(&mut state, BIG)).expect("it is our folder");
    let (up, down) = (source.to_str().expect("a plain path"), folder.join("down"));

    clients.aws(&server, &["s3", "mb", "s3://awscli-bucket"]);
    clients.aws(&server, &["s3", "sync", "--only-show-errors", up, "s3://awscli-bucket/tree/"]);
    let down_text = down.to_str().expect("a plain path");
    clients
        .aws(&server, &["s3", "sync", "--only-show-errors", "s3://awscli-bucket/tree/", down_text]);
    assert_eq!(tree::digests(&source), tree::digests(&down));

    let listed = clients.aws(&server, &["s3", "ls", "--recursive", "s3://awscli-bucket/"]);
    assert_eq!(String::from_utf8_lossy(&listed.stdout).lines().count(), 61);
    let listed = clients.aws(&server, &["s3", "ls", "s3://awscli-bucket/tree/"]);
    assert_eq!(String::from_utf8_lossy(&listed.stdout).lines().count(), 4, "3 folders, 1 file");

    // Within the bucket: the big one by parts.
    let tree = |name: &str| format!("s3://awscli-bucket/{name}/");
    clients.aws(&server, &["s3", "sync", "--only-show-errors", &tree("tree"), &tree("synced")]);
    clients.aws(&server, &["s3", "mv", "--quiet", "--recursive", &tree("synced"), &tree("moved")]);
    let moved = folder.join("moved");
    let moved_text = moved.to_str().expect("a plain path");
    clients.aws(&server, &["s3", "sync", "--only-show-errors", &tree("moved"), moved_text]);
    assert_eq!(tree::digests(&source), tree::digests(&moved));
    let listed = clients.aws(&server, &["s3", "ls", "--recursive", "s3://awscli-bucket/"]);
    assert_eq!(String::from_utf8_lossy(&listed.stdout).lines().count(), 122, "none is left behind");
    clients.aws(&server, &["s3", "rm", "--quiet", "--recursive", &tree("moved")]);

    // A second sync has nothing to do: sizes and times are told as they are.
    let again = clients.aws(&server, &["s3", "sync", up, "s3://awscli-bucket/tree/"]);
    assert_eq!(String::from_utf8_lossy(&again.stdout), "");

    clients.aws(&server, &["s3", "rm", "--quiet", "--recursive", "s3://awscli-bucket/"]);
    clients.aws(&server, &["s3", "rb", "s3://awscli-bucket"]);
    let left = clients.aws(&server, &["s3", "ls"]);
    assert_eq!(String::from_utf8_lossy(&left.stdout), "");
    fs::remove_dir_all(folder).expect("it is our folder");
}

#[test]
fn boto3_puts_reads_ranges_conditions_pages_and_multipart() {
    let (folder, clients) = (scratch("boto3"), Clients::install());
    let server = Server::start(&folder.join("data"));
    clients.boto3(&server, include_str!("boto3_smoke.py"), &[]);
    fs::remove_dir_all(folder).expect("it is our folder");
}

#[test]
fn s3cmd_puts_syncs_asks_and_deletes() {
    let (folder, clients) = (scratch("s3cmd"), Clients::install());
    let server = Server::start(&folder.join("data"));
    let source = folder.join("source");
    tree::make(&source, tree::Shape { files: 40, per_folder: 10, bytes: 2 << 20 }, 3);
    let mut state = 4;
    // Over s3cmd's 15 MiB chunk, so that it goes to multipart.
    fs::write(source.join("big.bin"), tree::bytes(&mut state, BIG)).expect("it is our folder");
    let from = format!("{}/", source.display());
    let down = folder.join("down");
    fs::create_dir_all(&down).expect("it is our folder");
    let to = format!("{}/", down.display());

    clients.s3cmd(&server, &["mb", "s3://s3cmd-bucket"]);
    clients.s3cmd(&server, &["sync", &from, "s3://s3cmd-bucket/tree/"]);
    clients.s3cmd(&server, &["sync", "s3://s3cmd-bucket/tree/", &to]);
    assert_eq!(tree::digests(&source), tree::digests(&down));
    let listed = clients.s3cmd(&server, &["ls", "--recursive", "s3://s3cmd-bucket"]);
    assert_eq!(String::from_utf8_lossy(&listed.stdout).lines().count(), 41);
    // Copies, by parts beyond 15 MiB; words changed on the spot.
    let (tree, other) = ("s3://s3cmd-bucket/tree/", "s3://s3cmd-bucket/other/");
    clients.s3cmd(&server, &["cp", "--recursive", tree, other]);
    clients.s3cmd(&server, &["modify", "--recursive", "--add-header=x-amz-meta-a:b", other]);
    clients.s3cmd(&server, &["mv", "--recursive", other, "s3://s3cmd-bucket/third/"]);
    let third = folder.join("third");
    fs::create_dir_all(&third).expect("it is our folder");
    let to = format!("{}/", third.display());
    clients.s3cmd(&server, &["sync", "s3://s3cmd-bucket/third/", &to]);
    assert_eq!(tree::digests(&source), tree::digests(&third));
    clients.s3cmd(&server, &["del", "--recursive", "--force", "s3://s3cmd-bucket"]);
    clients.s3cmd(&server, &["rb", "s3://s3cmd-bucket"]);
    fs::remove_dir_all(folder).expect("it is our folder");
}
