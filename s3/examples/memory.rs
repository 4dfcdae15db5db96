//! S3 over a map in memory, to try clients against: `cargo run -p trine-s3 --example memory -- PORT`.
//! Access key and secret are both `trine`.

#[path = "../tests/support/mod.rs"]
mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use hyper_util::rt::TokioIo;
use trine_core::ids::TenantId;
use trine_core::object::Owner;
use trine_s3::front::Front;
use trine_s3::{Key, S3Config, StaticKeys};

#[tokio::main(flavor = "current_thread")]
async fn main() -> std::io::Result<()> {
    let port = std::env::args().nth(1).and_then(|port| port.parse().ok()).unwrap_or(9000);
    let (front, calls) = Front::new();
    tokio::spawn(support::run(calls));
    let owner = Owner { tenant: TenantId(0), user: "trine".to_owned() };
    let key = Key { secret: "trine".to_owned(), owner, tenant: TenantId(0) };
    let keys = Arc::new(StaticKeys::new().with("trine", key));
    let next = AtomicU64::new(1);
    let ids = Arc::new(move || next.fetch_add(1, Ordering::Relaxed));
    let service = trine_s3::service(front, S3Config::new(keys, ids));
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await?;
    println!("listening on http://{}", listener.local_addr()?);
    loop {
        let (stream, _) = listener.accept().await?;
        let service = service.clone();
        tokio::spawn(async move {
            let served = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await;
            if let Err(error) = served {
                eprintln!("connection: {error}");
            }
        });
    }
}
