//! What clients ask beside objects: settings of a bucket that was never configured, awkward keys, checksums
//! of parts, presigned requests.

use std::fs;

use trine_compat_tests::clients::Clients;
use trine_compat_tests::scratch;
use trine_compat_tests::server::Server;

#[test]
fn boto3_finds_an_unconfigured_bucket_and_gets_keys_and_checksums_back() {
    let (folder, clients) = (scratch("front-boto3"), Clients::install());
    let server = Server::start(&folder.join("data"));
    clients.boto3(&server, include_str!("front.py"), &[]);
    fs::remove_dir_all(folder).expect("it is our folder");
}

#[test]
fn s3cmd_tells_all_it_asks_about_a_bucket_and_an_object() {
    let (folder, clients) = (scratch("front-s3cmd"), Clients::install());
    let server = Server::start(&folder.join("data"));
    let file = folder.join("file");
    fs::write(&file, "hello").expect("it is our folder");
    clients.s3cmd(&server, &["mb", "s3://info-bucket"]);
    clients.s3cmd(&server, &["put", file.to_str().expect("a plain path"), "s3://info-bucket/k"]);
    for (what, lines) in [
        ("s3://info-bucket", ["Payer:     BucketOwner", "Policy:    none", "CORS:      none"]),
        ("s3://info-bucket/k", ["File size: 5", "Policy:    none", "CORS:      none"]),
    ] {
        let told = clients.s3cmd(&server, &["info", what]);
        let told = String::from_utf8_lossy(&told.stdout).into_owned();
        for line in lines {
            assert!(told.contains(line), "{line:?} in {told}");
        }
        assert!(told.contains("FULL_CONTROL"), "{told}");
    }
    fs::remove_dir_all(folder).expect("it is our folder");
}
