//! The same service over HTTP/2: the host is in the target, streams end apart, answers to HEAD have no
//! frames of data.

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2::SendRequest;
use hyper_util::rt::{TokioExecutor, TokioIo};
use trine_core::request::ApiError;
use trine_s3::front::{Front, FrontCall, FrontReply};
use trine_s3::{Domains, S3Http};

use super::{is_error, with_bucket};
use crate::support;
use crate::support::client::Answer;
use crate::support::client::{Plan, UNSIGNED, plan, service, under};

type Client = SendRequest<Full<Bytes>>;

/// A connection to the service.
async fn connect(service: &S3Http) -> Client {
    let (client, server) = tokio::io::duplex(1 << 16);
    let service = service.clone();
    tokio::spawn(async move {
        let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
            .serve_connection(TokioIo::new(server), service);
        let _ = server.await;
    });
    let (sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(client))
            .await
            .unwrap();
    tokio::spawn(connection);
    sender
}

/// Send it as one stream, with the host in the target only.
async fn send(client: &mut Client, plan: &Plan) -> Result<Answer, hyper::Error> {
    let signed = plan.sign();
    let host = signed.headers.iter().find(|(name, _)| name == "host").unwrap().1.clone();
    let uri = format!("http://{host}{}", signed.target);
    let mut request = http::Request::builder().method(signed.method).uri(uri);
    for (name, value) in signed.headers.iter().filter(|(name, _)| name != "host") {
        request = request.header(name, value);
    }
    let request = request.body(Full::new(Bytes::from(signed.body))).unwrap();
    let (parts, body) = client.send_request(request).await?.into_parts();
    assert_eq!(parts.version, http::Version::HTTP_2);
    let head: Vec<String> = parts
        .headers
        .iter()
        .map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()))
        .collect();
    let body = body.collect().await?.to_bytes().to_vec();
    Ok(Answer { status: parts.status.as_u16(), head: head.join("\r\n"), body })
}

#[tokio::test]
async fn objects_go_in_and_out_in_every_mode() {
    let service = with_bucket().await;
    let mut client = connect(&service).await;
    let data: Vec<u8> = (0..500_000_u32).map(|at| at.to_le_bytes()[0]).collect();
    let put = || plan("PUT", "/bucket/k", "");
    for plan in [
        put().body(&data),
        put().payload(UNSIGNED).body(&data),
        put().chunked(&data, data.len(), None),
        put().signed_chunks(&[&data[..65_536], &data[65_536..]], None),
    ] {
        let told = send(&mut client, &plan).await.unwrap();
        assert_eq!(told.status, 200, "{}", told.text());
        let get = send(&mut client, &super::plan("GET", "/bucket/k", "")).await.unwrap();
        assert!(get.status == 200 && get.body == data);
        assert_eq!(get.header("connection"), None);
        let range = super::plan("GET", "/bucket/k", "").header("range", "bytes=1-3");
        assert_eq!(send(&mut client, &range).await.unwrap().body, &data[1..4]);
        let delete = super::plan("DELETE", "/bucket/k", "");
        assert_eq!(send(&mut client, &delete).await.unwrap().status, 204);
    }
}

#[tokio::test]
async fn errors_leave_the_connection_as_it_was() {
    let service = with_bucket().await;
    let mut client = connect(&service).await;
    for _ in 0..3 {
        let head = send(&mut client, &plan("HEAD", "/bucket/none", "")).await.unwrap();
        assert_eq!((head.status, head.body.len()), (404, 0));
        let get = send(&mut client, &plan("GET", "/bucket/none", "")).await.unwrap();
        is_error(&get, 404, "NoSuchKey");
        let refused = plan("PUT", "/missing/k", "").payload(UNSIGNED).body(&vec![7; 3 << 20]);
        is_error(&send(&mut client, &refused).await.unwrap(), 404, "NoSuchBucket");
        let forged = plan("GET", "/", "").at("20200101T000000Z");
        is_error(&send(&mut client, &forged).await.unwrap(), 403, "RequestTimeTooSkewed");
    }
    assert_eq!(send(&mut client, &plan("GET", "/", "")).await.unwrap().status, 200);
}

#[tokio::test]
async fn the_target_names_the_host_and_with_it_the_bucket() {
    let (front, calls) = Front::new();
    tokio::spawn(support::run(calls));
    let service = under(front, Domains::parse(["s3.test"]).unwrap());
    let mut client = connect(&service).await;
    let make = plan("PUT", "/", "").host("bucket.s3.test:9000");
    assert_eq!(send(&mut client, &make).await.unwrap().status, 200);
    let put = plan("PUT", "/k", "").host("bucket.s3.test").body(b"x");
    assert_eq!(send(&mut client, &put).await.unwrap().status, 200);
    let get = plan("GET", "/bucket/k", "").host("s3.test");
    assert_eq!(send(&mut client, &get).await.unwrap().text(), "x");
    // As curl signs: the target in another than canonical form.
    let list = plan("GET", "/bucket", "list-type=2&prefix=k/").host("s3.test");
    assert_eq!(send(&mut client, &list).await.unwrap().status, 200);
}

#[tokio::test]
async fn a_stream_without_an_answer_breaks_alone() {
    let (front, mut calls) = Front::new();
    let service = service(front);
    let client = connect(&service).await;
    let ask = |path: &'static str| {
        let mut client = client.clone();
        tokio::spawn(async move { send(&mut client, &plan("DELETE", path, "")).await })
    };
    let first = ask("/bucket/first");
    let Some(FrontCall::Open { replies: to_first, .. }) = calls.recv().await else { panic!() };
    let second = ask("/bucket/second");
    let Some(FrontCall::Open { replies: to_second, .. }) = calls.recv().await else { panic!() };
    to_first.send(FrontReply::Disconnect("no zone answers".to_owned())).unwrap();
    assert!(first.await.unwrap().is_err(), "nothing true can be said");
    to_second.send(FrontReply::Reply(Err(ApiError::NoSuchBucket))).unwrap();
    is_error(&second.await.unwrap().unwrap(), 404, "NoSuchBucket");
}
