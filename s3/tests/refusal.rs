//! Refused uploads over real sockets: the client gets the answer, not a reset connection.

use std::net::SocketAddr;
use std::time::Duration;

use crate::support::client::{Answer, UNSIGNED, answer, memory, plan};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use trine_s3::S3Http;

async fn listen(service: S3Http) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let service = service.clone();
            let server = hyper::server::conn::http1::Builder::new();
            tokio::spawn(server.serve_connection(TokioIo::new(stream), service));
        }
    });
    address
}

/// Write everything, as a client does that looks at the answer only then; then read to the end.
async fn write_then_read(address: SocketAddr, bytes: &[u8]) -> std::io::Result<Answer> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(bytes).await?;
    // Longer than it takes for a reset to come.
    tokio::time::sleep(Duration::from_millis(100)).await;
    let mut out = Vec::new();
    let read = tokio::time::timeout(Duration::from_secs(20), stream.read_to_end(&mut out)).await;
    read.expect("the server closes")?;
    Ok(answer(&out).expect("an answer"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_upload_is_answered_although_its_body_was_sent_unasked() {
    let address = listen(memory()).await;
    // Larger than what the socket's buffers hold.
    let body = vec![7; 24 << 20];
    for (request, status, code) in [
        // Refused by the gateway, by s3s and at admission.
        (plan("PUT", "/missing/k", "").payload(UNSIGNED).body(&body), 404, "NoSuchBucket"),
        (
            plan("PUT", "/Not_A_Bucket/k", "").payload(UNSIGNED).body(&body),
            400,
            "InvalidBucketName",
        ),
        (
            plan("PUT", "/missing/k", "").payload(UNSIGNED).unsigned("x-amz-acl", "x").body(&body),
            403,
            "AccessDenied",
        ),
        (plan("PUT", "/missing/k", "").chunked(&body, body.len(), None), 404, "NoSuchBucket"),
    ] {
        let answer = write_then_read(address, &request.bytes()).await.unwrap();
        assert_eq!(answer.status, status, "{}", answer.text());
        assert_eq!(answer.element("Code").as_deref(), Some(code));
    }
}

#[tokio::test]
async fn who_asked_before_sending_is_refused_without_being_told_to_continue() {
    let address = listen(memory()).await;
    let request = plan("PUT", "/missing/k", "").unsigned("expect", "100-continue").body(b"hello");
    let mut head = request.bytes();
    head.truncate(head.len() - b"hello".len());
    let head = String::from_utf8(head).unwrap().replace("connection: close\r\n", "");
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut out = Vec::new();
    let read = tokio::time::timeout(Duration::from_secs(20), stream.read_to_end(&mut out)).await;
    read.expect("the server does not wait for the body").unwrap();
    let out = String::from_utf8_lossy(&out);
    assert!(out.starts_with("HTTP/1.1 404"), "{out}");
    // The body may still come, so the connection ends here. A client that is not told would send its
    // next request into the closing connection.
    assert!(out.contains("connection: close\r\n"), "{out}");
}

#[tokio::test]
async fn a_connection_serves_on_behind_a_refused_upload() {
    let address = listen(memory()).await;
    let refused = plan("PUT", "/missing/k", "").payload(UNSIGNED).body(&vec![7; 1 << 20]).bytes();
    let refused = String::from_utf8(refused).unwrap().replace("connection: close\r\n", "");
    let next = plan("PUT", "/bucket", "").bytes();
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(refused.as_bytes()).await.unwrap();
    stream.write_all(&next).await.unwrap();
    let mut out = Vec::new();
    stream.read_to_end(&mut out).await.unwrap();
    let out = String::from_utf8_lossy(&out);
    assert!(out.starts_with("HTTP/1.1 404"), "{out}");
    assert!(out.contains("</Error>HTTP/1.1 200"), "{out}");
}
