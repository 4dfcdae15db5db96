//! A tree of thousands of files, up and down through awscli, boto3 and s3cmd, compared by SHA-256.
//!
//! `cargo run --release -p trine-compat-tests --bin tree-sync [FOLDER]`: without a folder, a tree of
//! 5,200 files and 310 MB is made. Exits with an error if any byte differs.

use std::path::PathBuf;
use std::time::Instant;

use trine_compat_tests::clients::Clients;
use trine_compat_tests::server::Server;
use trine_compat_tests::{scratch, tree};

const SHAPE: tree::Shape = tree::Shape { files: 5_200, per_folder: 100, bytes: 310_000_000 };

const BOTO3_UP: &str = r"
from concurrent.futures import ThreadPoolExecutor
s3.create_bucket(Bucket=sys.argv[2])
paths = [os.path.join(d, f) for d, _, fs in os.walk(sys.argv[1]) for f in fs]
with ThreadPoolExecutor(8) as pool:
    list(pool.map(lambda p: s3.upload_file(p, sys.argv[2], os.path.relpath(p, sys.argv[1])), paths))
";

const BOTO3_DOWN: &str = r"
from concurrent.futures import ThreadPoolExecutor
keys = [o['Key'] for page in s3.get_paginator('list_objects_v2').paginate(Bucket=sys.argv[2])
        for o in page['Contents']]
def get(key):
    path = os.path.join(sys.argv[1], key)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    s3.download_file(sys.argv[2], key, path)
with ThreadPoolExecutor(8) as pool:
    list(pool.map(get, keys))
";

fn main() {
    let folder = scratch("tree-sync");
    let source = std::env::args().nth(1).map_or_else(
        || {
            let source = folder.join("source");
            tree::make(&source, SHAPE, 1);
            source
        },
        PathBuf::from,
    );
    let clients = Clients::install();
    let server = Server::start(&folder.join("data"));
    let wanted = tree::digests(&source);
    println!("{} files of {}", wanted.len(), source.display());
    let up = source.to_str().expect("a path in UTF-8");
    for client in ["awscli", "boto3", "s3cmd"] {
        let down = folder.join(format!("down-{client}"));
        std::fs::create_dir_all(&down).expect("target/ is writable");
        let to = down.to_str().expect("a path in UTF-8");
        let bucket = format!("tree-{client}");
        let url = format!("s3://{bucket}/");
        let begun = Instant::now();
        match client {
            "awscli" => {
                clients.aws(&server, &["s3", "mb", &url]);
                clients.aws(&server, &["s3", "sync", "--only-show-errors", up, &url]);
            }
            "boto3" => {
                clients.boto3(&server, BOTO3_UP, &[up, &bucket]);
            }
            _ => {
                clients.s3cmd(&server, &["mb", &url]);
                clients.s3cmd(&server, &["sync", &format!("{up}/"), &url]);
            }
        }
        let uploaded = begun.elapsed();
        match client {
            "awscli" => {
                clients.aws(&server, &["s3", "sync", "--only-show-errors", &url, to]);
            }
            "boto3" => {
                clients.boto3(&server, BOTO3_DOWN, &[to, &bucket]);
            }
            _ => {
                clients.s3cmd(&server, &["sync", &url, &format!("{to}/")]);
            }
        }
        let downloaded = begun.elapsed() - uploaded;
        assert_eq!(wanted, tree::digests(&down), "{client}: the trees differ");
        println!("{client}: identical; up {uploaded:.1?}, down {downloaded:.1?}");
        std::fs::remove_dir_all(down).expect("it is our folder");
    }
    drop(server);
    std::fs::remove_dir_all(folder).expect("it is our folder");
}
