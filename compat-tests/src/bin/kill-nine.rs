//! `kill -9` during writes, again and again: every acknowledged object is there and right after the
//! restart, and nothing half-written is visible.
//!
//! `cargo run --release -p trine-compat-tests --bin kill-nine [ROUNDS]` (20 rounds by default).
//! Writers are boto3 threads that note each key *before* they put it and again when it is
//! acknowledged; after each restart every noted key is read back: an acknowledged one must have its
//! bytes, one without an answer has its bytes or is absent, and the listing shows just what is there.

use std::fs;
use std::process::{Child, Stdio};
use std::time::Duration;

use trine_compat_tests::clients::Clients;
use trine_compat_tests::scratch;
use trine_compat_tests::server::Server;

const PRELUDE: &str = r"
import os, sys, boto3, hashlib, random, threading, time
from botocore.config import Config
s3 = boto3.client('s3', endpoint_url=os.environ['ENDPOINT'],
                  config=Config(retries={'max_attempts': 0}, s3={'addressing_style': 'path'},
                                connect_timeout=5, read_timeout=30, max_pool_connections=16))
B = 'kill-nine'
def body(key):
    draw = random.Random(key)
    size = draw.choice([0, 100, 5000, 16384, 16385, 300000, 1048576, 2500000])
    return draw.randbytes(size)
";

const WRITER: &str = r"
notes = os.open(sys.argv[1], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
def note(mark, key):
    os.write(notes, f'{mark} {key}\n'.encode())
def put(key):
    if hash(key) % 5 == 0:
        upload = s3.create_multipart_upload(Bucket=B, Key=key)['UploadId']
        data = body(key)
        tag = s3.upload_part(Bucket=B, Key=key, UploadId=upload, PartNumber=1, Body=data)['ETag']
        s3.complete_multipart_upload(Bucket=B, Key=key, UploadId=upload,
                                     MultipartUpload={'Parts': [{'PartNumber': 1, 'ETag': tag}]})
    else:
        s3.put_object(Bucket=B, Key=key, Body=body(key))
def work(number):
    count = 0
    while True:
        key = f'{sys.argv[2]}/{number}/{count}'
        count += 1
        note('begun', key)
        try:
            put(key)
        except Exception:
            time.sleep(0.05)
            continue
        note('acked', key)
for number in range(8):
    threading.Thread(target=work, args=(number,), daemon=True).start()
time.sleep(600)
";

const VERIFY: &str = r"
acked, begun = set(), set()
for line in open(sys.argv[1]):
    mark, _, key = line.rstrip('\n').partition(' ')
    (acked if mark == 'acked' else begun).add(key)
listed = {}
for page in s3.get_paginator('list_objects_v2').paginate(Bucket=B):
    for o in page.get('Contents', []):
        listed[o['Key']] = (o['Size'], o['ETag'])
lost = sorted(acked - set(listed))
assert not lost, f'lost: {lost}'
strange = sorted(set(listed) - begun)
assert not strange, f'never written: {strange}'
# Everything is listed each time; of what earlier rounds have verified, a share is read again.
draw = random.Random(len(listed))
for key, (size, etag) in sorted(listed.items()):
    if not key.startswith(sys.argv[2] + '/') and draw.random() > 0.05:
        continue
    got = s3.get_object(Bucket=B, Key=key)['Body'].read()
    assert got == body(key), f'wrong bytes: {key}'
    assert size == len(got)
print(f'{len(acked)} acknowledged, {len(begun) - len(acked)} without an answer, {len(listed)} there')
";

fn main() {
    let rounds: u32 = std::env::args().nth(1).map_or(20, |text| {
        text.parse().unwrap_or_else(|_| panic!("a number of rounds, not {text:?}"))
    });
    let folder = scratch("kill-nine");
    let notes = folder.join("notes.txt");
    fs::write(&notes, "").expect("target/ is writable");
    let notes = notes.to_str().expect("a path in UTF-8");
    let clients = Clients::install();
    let mut server = Server::start(&folder.join("data"));
    clients.boto3(&server, "s3.create_bucket(Bucket='kill-nine')", &[]);
    for round in 0..rounds {
        let name = format!("round-{round}");
        let mut writer = spawn(&clients, &server, &[notes, &name]);
        // Somewhere else in the course of things each time.
        std::thread::sleep(Duration::from_millis(1500 + u64::from(round) * 137 % 900));
        server.kill_and_restart();
        writer.kill().expect("our child can be killed");
        writer.wait().expect("our child can be waited for");
        let verified = clients.boto3(&server, &format!("{PRELUDE}{VERIFY}"), &[notes, &name]);
        print!("round {round}: {}", String::from_utf8_lossy(&verified.stdout));
    }
    drop(server);
    fs::remove_dir_all(folder).expect("it is our folder");
}

fn spawn(clients: &Clients, server: &Server, args: &[&str]) -> Child {
    clients
        .command("python3", server)
        .arg("-c")
        .arg(format!("{PRELUDE}{WRITER}"))
        .args(args)
        .env("PYTHONHASHSEED", "1")
        .stdout(Stdio::null())
        .spawn()
        .expect("python3 can be started")
}
