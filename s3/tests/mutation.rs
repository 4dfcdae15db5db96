//! Requests with bytes flipped, cut out, doubled and mixed.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::support::MemoryGateway;
use crate::support::client::{Plan, UNSIGNED, exchange, plan, service};
use trine_s3::S3Http;
use trine_s3::front::{Front, FrontCall};

/// xorshift64*: reproducible, and good enough to pick bytes.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let number = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33;
        usize::try_from(number).unwrap() % bound
    }
}

fn mutate(bytes: &mut Vec<u8>, random: &mut Random) {
    for _ in 0..=random.below(4) {
        if bytes.is_empty() {
            return;
        }
        let at = random.below(bytes.len());
        match random.below(5) {
            0 => bytes[at] ^= 1 << random.below(8),
            1 => bytes[at] = u8::try_from(random.below(256)).unwrap(),
            2 => bytes.truncate(at),
            3 => {
                let end = (at + random.below(40)).min(bytes.len());
                bytes.drain(at..end);
            }
            _ => {
                let end = (at + random.below(40)).min(bytes.len());
                let copy = bytes[at..end].to_vec();
                let to = random.below(bytes.len());
                bytes.splice(to..to, copy);
            }
        }
    }
}

/// Requests that are sent in all.
const REQUESTS: usize = 100_000;
/// Servers that share them, each with a thread of its own.
const SERVERS: usize = 4;
/// How many of a hundred must reach a gateway: a test that only finds broken signatures tests little.
const REACHING_PERCENT_MIN: usize = 25;

/// A gateway in memory that counts the calls it gets.
fn counted() -> (S3Http, Arc<AtomicUsize>) {
    let (front, mut calls) = Front::new();
    let reached = Arc::new(AtomicUsize::new(0));
    let counter = reached.clone();
    tokio::spawn(async move {
        let mut gateway = MemoryGateway::default();
        while let Some(call) = calls.recv().await {
            if matches!(call, FrontCall::Open { .. }) {
                counter.fetch_add(1, Ordering::Relaxed);
            }
            gateway.call(call);
        }
    });
    (service(front), reached)
}

/// Valid requests of every kind, some under a signature that leaves much unsigned.
fn bases(upload: &str) -> Vec<Plan> {
    let complete = b"<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>\"0123456789abcdef0123456789abcdef\"</ETag><ChecksumCRC32>AAAAAA==</ChecksumCRC32></Part></CompleteMultipartUpload>";
    let delete = b"<Delete><Object><Key>a&amp;b</Key></Object><Quiet>true</Quiet></Delete>";
    let upload = format!("uploadId={upload}");
    let object = |method| plan(method, "/bucket/key", "");
    vec![
        object("PUT").body(b"hello, body"),
        object("PUT").payload(UNSIGNED).unsigned("content-type", "text/x-test").body(b"hello"),
        object("PUT").chunked(b"hello, chunk", 12, Some(("x-amz-checksum-crc32", "AAAAAA=="))),
        object("PUT").signed_chunks(&[b"one", b"two"], None),
        object("GET").unsigned("range", "bytes=1-3").unsigned("if-none-match", "\"a\", W/\"b\""),
        object("HEAD").unsigned("if-modified-since", "Tue, 14 Nov 2023 22:13:22 GMT"),
        plan("GET", "/bucket", "delimiter=%2F&list-type=2&max-keys=3&prefix=k"),
        plan("GET", "/bucket", "list-type=2&prefix=a/b"),
        plan("POST", "/bucket/key", &upload).payload(UNSIGNED).body(complete),
        plan("GET", "/bucket/key", &upload).unsigned("accept", "*/*"),
        plan("POST", "/bucket", "delete=").payload(UNSIGNED).body(delete),
        plan("PUT", "/bucket", "").payload(UNSIGNED).body(b"<CreateBucketConfiguration/>"),
    ]
}

/// Where a mutation may strike: anywhere, or only behind the signature, in what it leaves open.
fn mutate_some(bytes: &mut Vec<u8>, random: &mut Random) {
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n").unwrap_or(0);
    let from = match random.below(3) {
        0 => 0,
        // The last header is one that a client added without signing it, if it did at all.
        1 => bytes[..end].iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1),
        _ => end + 4,
    };
    let mut tail = bytes.split_off(from.min(bytes.len()));
    mutate(&mut tail, random);
    bytes.extend_from_slice(&tail);
}

/// One server's share; how many requests reached its gateway.
async fn share(seed: u64) -> usize {
    let (service, reached) = counted();
    plan("PUT", "/bucket", "").expect(&service).await;
    plan("PUT", "/bucket/key", "").body(b"0123456789").expect(&service).await;
    let created = plan("POST", "/bucket/key", "uploads=").expect(&service).await;
    let upload = created.element("UploadId").unwrap();
    let before = reached.load(Ordering::Relaxed);
    let mut random = Random(seed);
    let mut signed: Vec<Vec<u8>> = Vec::new();
    for round in 0..REQUESTS / SERVERS {
        // Signatures last for minutes; a fresh one each time would be most of the work.
        if round % 4096 == 0 {
            signed = bases(&upload).iter().map(Plan::bytes).collect();
            signed.push(plan("GET", "/bucket/key", "").presigned(600));
        }
        let mut bytes = signed[round % signed.len()].clone();
        mutate_some(&mut bytes, &mut random);
        // Panics and hangs fail within.
        exchange(&service, &bytes).await;
    }
    let reached = reached.load(Ordering::Relaxed) - before;
    assert!(plan("GET", "/bucket", "").expect(&service).await.status == 200, "still serving");
    reached
}

#[test]
fn a_hundred_thousand_mutated_requests_neither_panic_nor_hang_the_server() {
    let shares: Vec<_> = (0..SERVERS)
        .map(|server| {
            let seed = 0x5eed_u64 + u64::try_from(server).unwrap();
            std::thread::spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
                runtime.unwrap().block_on(share(seed))
            })
        })
        .collect();
    let reached: usize = shares.into_iter().map(|share| share.join().expect("no panic")).sum();
    println!("{reached} of {REQUESTS} mutated requests reached the gateway");
    assert!(reached * 100 >= REQUESTS * REACHING_PERCENT_MIN, "only {reached} reached the gateway");
}
