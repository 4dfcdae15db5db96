//! The HTTP server with a service that echoes: on a runtime whose time waits for everybody, and over real
//! sockets where those matter.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::service::service_fn;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::ALL_VERSIONS;
use tokio_rustls::rustls::version::{TLS12, TLS13};

use std::io;

use super::*;
use crate::runtime::Listener;
use crate::runtime::memory::MemoryRuntime;
use crate::runtime::tokio::TokioRuntime;
use crate::tls::tests::{connector, private, self_signed};
use crate::tls::{CA_NAME, Tls};

/// A server that answers with the body it got, after as many milliseconds as the path says.
struct Echo {
    runtime: MemoryRuntime,
    address: SocketAddr,
    switch: StopSwitch,
    served: JoinHandle<usize>,
}

impl Echo {
    async fn connect(&self) -> DuplexStream {
        self.runtime.connect(self.address).await.unwrap()
    }
}

async fn echo(stop: Duration) -> Echo {
    echo_with(Patience::new(stop)).await
}

async fn echo_with(patience: Patience) -> Echo {
    echo_over(MemoryRuntime::new(), patience, None).await
}

async fn echo_over(runtime: MemoryRuntime, patience: Patience, tls: Option<TlsAcceptor>) -> Echo {
    let listener = runtime.bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let address = listener.address().unwrap();
    let (switch, stopped) = StopSwitch::new();
    let service = service_fn(async |request: Request<Incoming>| {
        let wait = request.uri().path()[1..].parse().unwrap_or(0);
        let body =
            request.into_body().collect().await.map_or_else(|_| Bytes::new(), |b| b.to_bytes());
        tokio::time::sleep(Duration::from_millis(wait)).await;
        Ok::<_, Infallible>(Response::new(Full::new(body)))
    });
    let served =
        tokio::spawn(serve(runtime.clone(), listener, tls, service, stopped, patience, 64));
    Echo { runtime, address, switch, served }
}

async fn send(stream: &mut DuplexStream, path: &str, body: &str) {
    let request =
        format!("PUT {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    stream.write_all(request.as_bytes()).await.unwrap();
}

async fn to_end(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    text
}

#[tokio::test(start_paused = true)]
async fn a_request_is_answered_and_an_idle_connection_closed_at_the_stop() {
    let echo = echo(Duration::from_secs(60)).await;
    let mut stream = echo.connect().await;
    send(&mut stream, "/0", "hello").await;
    let mut head = [0; 15];
    stream.read_exact(&mut head).await.unwrap();
    assert_eq!(&head, b"HTTP/1.1 200 OK");
    echo.switch.stop();
    assert!(to_end(&mut stream).await.ends_with("hello"));
    assert_eq!(echo.served.await.unwrap(), 0);
    assert!(echo.runtime.connect(echo.address).await.is_err(), "nobody listens any more");
}

#[tokio::test(start_paused = true)]
async fn a_request_in_progress_at_the_stop_is_finished() {
    let echo = echo(Duration::from_secs(60)).await;
    let mut stream = echo.connect().await;
    send(&mut stream, "/300", "slow").await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    echo.switch.stop();
    assert!(to_end(&mut stream).await.ends_with("slow"));
    assert_eq!(echo.served.await.unwrap(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_request_that_outlasts_the_grace_is_counted() {
    let echo = echo(Duration::from_millis(50)).await;
    let mut stream = echo.connect().await;
    send(&mut stream, "/60000", "stuck").await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    echo.switch.stop();
    assert_eq!(echo.served.await.unwrap(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_is_not_http_breaks_only_its_own_connection() {
    let echo = echo(Duration::from_secs(1)).await;
    let mut bad = echo.connect().await;
    bad.write_all(b"\x16\x03\x01 this is no HTTP\r\n\r\n").await.unwrap();
    to_end(&mut bad).await;
    let mut good = echo.connect().await;
    send(&mut good, "/0", "fine").await;
    let mut head = [0; 15];
    good.read_exact(&mut head).await.unwrap();
    assert_eq!(&head, b"HTTP/1.1 200 OK");
}

#[tokio::test(start_paused = true)]
async fn a_connection_on_which_nothing_moves_is_broken_and_a_slow_one_is_not() {
    let (second, stall) = (Duration::from_secs(1), Duration::from_millis(200));
    let echo = echo_with(Patience { stop: second, stall }).await;
    let (mut slow, mut mute) = (echo.connect().await, echo.connect().await);
    for stream in [&mut slow, &mut mute] {
        let head = b"PUT /0 HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 9\r\n\r\n";
        stream.write_all(head).await.unwrap();
    }
    let begun = tokio::time::Instant::now();
    let broken = tokio::spawn(async move {
        let mut rest = Vec::new();
        // It may end with an error: the request was not read to its end.
        let _ = mute.read_to_end(&mut rest).await;
        (rest, begun.elapsed())
    });
    for byte in b"some body" {
        slow.write_all(&[*byte]).await.unwrap();
        tokio::time::sleep(stall * 9 / 10).await;
    }
    assert!(to_end(&mut slow).await.ends_with("some body"));
    let (rest, after) = broken.await.unwrap();
    assert_eq!(rest, b"");
    assert!((stall..=stall * 2 + Duration::from_millis(2)).contains(&after), "{after:?}");
}

/// A client of HTTP/2 on a fresh connection.
async fn connect_http2(echo: &Echo) -> hyper::client::conn::http2::SendRequest<Full<Bytes>> {
    let stream = TokioIo::new(echo.connect().await);
    let executor = RuntimeExecutor(echo.runtime.clone());
    let (sender, connection) =
        hyper::client::conn::http2::handshake(executor, stream).await.unwrap();
    tokio::spawn(connection);
    sender
}

fn put_http2(path: &str, body: Vec<u8>) -> Request<Full<Bytes>> {
    let uri = format!("http://localhost{path}");
    Request::put(uri).body(Full::new(Bytes::from(body))).unwrap()
}

#[tokio::test(start_paused = true)]
async fn http2_interleaves_what_http1_would_serve_in_turn() {
    let echo = echo(Duration::from_secs(1)).await;
    let mut sender = connect_http2(&echo).await;
    let begun = tokio::time::Instant::now();
    // Bodies far larger than a window, whose answers take half a minute each.
    let asked: Vec<_> =
        (0..8).map(|at| sender.send_request(put_http2("/30000", vec![at; 1 << 20]))).collect();
    for (at, asked) in asked.into_iter().enumerate() {
        let response = asked.await.unwrap();
        assert_eq!(response.version(), hyper::Version::HTTP_2);
        let body = response.into_body().collect().await.unwrap().to_bytes();
        assert!(body.len() == 1 << 20 && body.iter().all(|byte| usize::from(*byte) == at));
    }
    assert!(begun.elapsed() < Duration::from_secs(60), "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn http2_streams_whose_bodies_wait_hold_up_no_other() {
    let runtime = MemoryRuntime::new();
    let listener = runtime.bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let address = listener.address().unwrap();
    let (switch, stopped) = StopSwitch::new();
    let service = service_fn(async |request: Request<Incoming>| {
        if request.uri().path() == "/wait" {
            std::future::pending::<()>().await;
        }
        let body = request.into_body().collect().await.unwrap().to_bytes();
        Ok::<_, Infallible>(Response::new(Full::new(body)))
    });
    let patience = Patience::new(Duration::from_secs(1));
    let served =
        tokio::spawn(serve(runtime.clone(), listener, None, service, stopped, patience, 64));
    let echo = Echo { runtime, address, switch, served };
    let mut sender = connect_http2(&echo).await;
    for _ in 1..STREAMS_MAX {
        tokio::spawn(sender.send_request(put_http2("/wait", vec![0; 1 << 20])));
    }
    tokio::time::sleep(Duration::from_millis(10)).await;
    let response = sender.send_request(put_http2("/go", vec![1; 1 << 20])).await.unwrap();
    assert_eq!(response.into_body().collect().await.unwrap().to_bytes().len(), 1 << 20);
}

#[tokio::test(start_paused = true)]
async fn http2_finishes_its_streams_at_the_stop_and_takes_no_more() {
    let echo = echo(Duration::from_secs(60)).await;
    let mut sender = connect_http2(&echo).await;
    let asked = sender.send_request(put_http2("/1000", b"in time".to_vec()));
    let asked = tokio::spawn(asked);
    tokio::time::sleep(Duration::from_millis(100)).await;
    echo.switch.stop();
    let body = asked.await.unwrap().unwrap().into_body().collect().await.unwrap().to_bytes();
    assert_eq!(&body[..], b"in time");
    assert_eq!(echo.served.await.unwrap(), 0, "no connection is left");
    let late = sender.send_request(put_http2("/0", Vec::new()));
    assert!(late.await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_client_that_says_nothing_or_half_a_preface_is_given_up() {
    let echo = echo(Duration::from_secs(1)).await;
    for said in [b"".as_slice(), b"P", b"PRI * HTTP/2.0\r\n"] {
        let mut stream = echo.connect().await;
        stream.write_all(said).await.unwrap();
        let begun = tokio::time::Instant::now();
        assert_eq!(to_end(&mut stream).await, "");
        let waited = begun.elapsed();
        assert!((HEAD_MAX..=HEAD_MAX * 2).contains(&waited), "{said:?}: {waited:?}");
    }
    // What begins alike and is something else is HTTP/1.
    let mut stream = echo.connect().await;
    for byte in b"PROPFIND /0 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n" {
        stream.write_all(&[*byte]).await.unwrap();
    }
    assert!(to_end(&mut stream).await.starts_with("HTTP/1.1 200 OK"));
}

#[tokio::test]
async fn an_answer_arrives_though_the_body_is_never_read() {
    let runtime = TokioRuntime::new();
    let listener = runtime.bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let address = listener.address().unwrap();
    let (_switch, stopped) = StopSwitch::new();
    let refuse = service_fn(async |_: Request<Incoming>| {
        Ok::<_, Infallible>(Response::new(Full::new(Bytes::from(vec![b'x'; 100_000]))))
    });
    tokio::spawn(serve(
        runtime,
        listener,
        None,
        refuse,
        stopped,
        Patience::new(Duration::ZERO),
        64,
    ));
    let mut stream = TcpStream::connect(address).await.unwrap();
    let body = vec![b'b'; 1 << 20];
    let head = format!("PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n", body.len());
    stream.write_all(head.as_bytes()).await.unwrap();
    // The client sends on while the answer waits to be read, as clients do. A server that closed at
    // once would reset the connection under it.
    for piece in body.chunks(body.len() / 4) {
        stream.write_all(piece).await.unwrap();
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(to_end(&mut stream).await.ends_with("xxxx"));
}

/// The same with TLS, and the CA that clients trust.
async fn echo_tls(directory: &Path) -> (Echo, PathBuf) {
    let runtime = MemoryRuntime::new();
    let tls = Tls::open(&runtime, private(directory), [127, 0, 0, 1].into()).unwrap();
    let patience = Patience::new(Duration::from_secs(1));
    (echo_over(runtime, patience, Some(tls.acceptor())).await, directory.join(CA_NAME))
}

async fn handshake(
    echo: &Echo,
    client: &TlsConnector,
) -> io::Result<tokio_rustls::client::TlsStream<DuplexStream>> {
    client.connect("localhost".try_into().unwrap(), echo.connect().await).await
}

#[tokio::test]
async fn both_versions_of_tls_carry_both_of_http() {
    let directory = tempfile::tempdir().unwrap();
    let (echo, ca) = echo_tls(directory.path()).await;
    for version in [&TLS12, &TLS13] {
        let client = connector(&ca, &[version], &[b"http/1.1"]);
        let mut stream = handshake(&echo, &client).await.unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
        let body = "b".repeat(1 << 20);
        let head =
            "PUT /0 HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 1048576\r\n\r\n";
        stream.write_all(head.as_bytes()).await.unwrap();
        let (mut reader, mut writer) = tokio::io::split(stream);
        let sent = async {
            writer.write_all(body.as_bytes()).await.unwrap();
            writer.flush().await.unwrap();
        };
        // Its end is told (close_notify), or reading it would be an error: nobody can cut it short.
        let (answer, ()) = tokio::join!(to_end(&mut reader), sent);
        assert!(answer.starts_with("HTTP/1.1 200 OK") && answer.ends_with(&body));

        let client = connector(&ca, &[version], &[b"h2", b"http/1.1"]);
        let stream = handshake(&echo, &client).await.unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
        let executor = RuntimeExecutor(echo.runtime.clone());
        let (mut sender, connection) =
            hyper::client::conn::http2::handshake(executor, TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        let response = sender.send_request(put_http2("/0", vec![1; 1 << 20])).await.unwrap();
        assert_eq!(response.into_body().collect().await.unwrap().to_bytes().len(), 1 << 20);
    }
}

#[tokio::test(start_paused = true)]
async fn who_speaks_plain_http_to_a_tls_port_is_told_so_in_plain_http() {
    let directory = tempfile::tempdir().unwrap();
    let (echo, _) = echo_tls(directory.path()).await;
    let mut stream = echo.connect().await;
    send(&mut stream, "/0", "hello").await;
    let answer = to_end(&mut stream).await;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{answer}");
    assert!(head.contains(&format!("Content-Length: {}\r\n", body.len())), "{answer}");
    assert!(body.contains("https://"), "{answer}");
}

#[tokio::test(start_paused = true)]
async fn who_speaks_no_tls_or_half_of_it_breaks_only_its_own_connection() {
    let directory = tempfile::tempdir().unwrap();
    let (echo, ca) = echo_tls(directory.path()).await;
    for (said, waits) in [
        (b"\x00\x01\x02".as_slice(), false),
        (b"\x16\x03\x01\x00\x05hello", false),
        (b"\x16\x07\x07\x07\x07\x07\x07", false),
        (b"", true),
        (b"\x16\x03\x01", true),
        (b"\x16\x03\x01\x40\x00\x01\x00\x3f\xfc\x03\x03", true),
    ] {
        let mut stream = echo.connect().await;
        stream.write_all(said).await.unwrap();
        let begun = tokio::time::Instant::now();
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).await.unwrap();
        let waited = begun.elapsed();
        assert_eq!(waited >= HEAD_MAX, waits, "{said:?}: {waited:?}");
        assert!(waited <= HEAD_MAX * 2, "{said:?}: {waited:?}");
    }
    // Some other CA is trusted, not this one.
    let other = tempfile::tempdir().unwrap();
    let (_other, other_ca) = echo_tls(other.path()).await;
    assert!(handshake(&echo, &connector(&other_ca, ALL_VERSIONS, &[])).await.is_err());
    let mut good = handshake(&echo, &connector(&ca, ALL_VERSIONS, &[])).await.unwrap();
    good.write_all(b"GET /0 HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    let mut head = [0; 15];
    good.read_exact(&mut head).await.unwrap();
    assert_eq!(&head, b"HTTP/1.1 200 OK");
}

#[tokio::test(start_paused = true)]
async fn a_connection_stands_while_new_ones_get_another_certificate() {
    let directory = tempfile::tempdir().unwrap();
    let (old, new) = (directory.path().join("old.pem"), directory.path().join("tls.crt"));
    let runtime = MemoryRuntime::new();
    let source = self_signed(directory.path(), "localhost");
    std::fs::copy(&new, &old).unwrap();
    let tls = Tls::open(&runtime, source, [127, 0, 0, 1].into()).unwrap();
    let patience = Patience::new(Duration::from_secs(1));
    let echo = echo_over(runtime.clone(), patience, Some(tls.acceptor())).await;
    let (_switch, stopped) = StopSwitch::new();
    tokio::spawn(tls.keep(runtime, stopped));

    let mut standing = handshake(&echo, &connector(&old, ALL_VERSIONS, &[])).await.unwrap();
    self_signed(directory.path(), "localhost");
    tokio::time::sleep(Duration::from_secs(11)).await;
    assert!(handshake(&echo, &connector(&old, ALL_VERSIONS, &[])).await.is_err());
    assert!(handshake(&echo, &connector(&new, ALL_VERSIONS, &[])).await.is_ok());
    standing.write_all(b"GET /0 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.unwrap();
    assert!(to_end(&mut standing).await.starts_with("HTTP/1.1 200 OK"));
}
