//! A raw HTTP client that signs, over a pipe to the real server: it can send what no SDK would.

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use trine_core::ids::TenantId;
use trine_core::object::Owner;
use trine_s3::front::Front;
use trine_s3::{Domains, Key, S3Config, S3Http, StaticKeys};

use super::signing::{Canonical, Moment, hash};

pub const UNSIGNED: &str = "UNSIGNED-PAYLOAD";
const SIGNED_CHUNKS: &str = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD";
const SIGNED_TRAILER: &str = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER";
pub const UNSIGNED_CHUNKS: &str = "STREAMING-UNSIGNED-PAYLOAD-TRAILER";

/// The service over `front`, with one key: `key` and `secret`.
pub fn service(front: Front) -> S3Http {
    under(front, Domains::default())
}

/// The same, under base domains.
pub fn under(front: Front, domains: Domains) -> S3Http {
    let mut config = config();
    config.domains = domains;
    trine_s3::service(front, config)
}

/// The service over a gateway in memory, as one that clients reach over TLS.
pub fn over_tls() -> S3Http {
    let (front, calls) = Front::new();
    tokio::spawn(super::run(calls));
    let mut config = config();
    config.https = true;
    trine_s3::service(front, config)
}

fn config() -> S3Config {
    let owner = Owner { tenant: TenantId(0), user: "tester".to_owned() };
    let key = Key { secret: "secret".to_owned(), owner, tenant: TenantId(0) };
    let keys = Arc::new(StaticKeys::new().with("key", key));
    let next = AtomicU64::new(1);
    let ids = Arc::new(move || next.fetch_add(1, Ordering::Relaxed));
    S3Config::new(keys, ids)
}

/// The service with so much room for documents.
pub fn with_room(front: Front, documents: trine_s3::Room) -> S3Http {
    let mut config = config();
    config.documents = documents;
    trine_s3::service(front, config)
}

/// The service over a gateway in memory.
pub fn memory() -> S3Http {
    let (front, calls) = Front::new();
    tokio::spawn(super::run(calls));
    service(front)
}

/// The same, with the bucket `bucket`.
pub async fn with_bucket() -> S3Http {
    let service = memory();
    assert_eq!(plan("PUT", "/bucket", "").expect(&service).await.status, 200);
    service
}

/// An answer; `None` in its place is a connection that was broken.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The text of the first element `name` of the document, as it is written.
    pub fn element(&self, name: &str) -> Option<String> {
        let text = self.text();
        let (_, rest) = text.split_once(&format!("<{name}>"))?;
        Some(rest.split_once(&format!("</{name}>"))?.0.to_owned())
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (other, value) = line.split_once(": ")?;
            other.eq_ignore_ascii_case(name).then_some(value)
        })
    }
}

/// A request in the making. Headers are signed unless added by `unsigned`.
#[derive(Clone)]
pub struct Plan {
    method: &'static str,
    path: String,
    query: String,
    host: String,
    headers: Vec<(String, String)>,
    unsigned: Vec<(String, String)>,
    payload: Option<String>,
    body: Vec<u8>,
    /// Chunks that are framed and signed when the request is.
    chunks: Option<Chunks>,
    /// When it is signed; now if nothing else.
    moment: Option<String>,
}

/// A request with its signature.
pub struct Signed {
    pub method: &'static str,
    pub target: String,
    /// The authorization comes first, what is not signed last.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

/// What serves requests of real connections.
pub trait Serves:
    hyper::service::Service<
        http::Request<hyper::body::Incoming>,
        Response = http::Response<trine_s3::ResponseBody>,
        Error: Into<Box<dyn std::error::Error + Send + Sync>> + Send,
        Future: Send,
    > + Clone
    + Send
    + Sync
    + 'static
{
}

impl<S> Serves for S where
    S: hyper::service::Service<
            http::Request<hyper::body::Incoming>,
            Response = http::Response<trine_s3::ResponseBody>,
            Error: Into<Box<dyn std::error::Error + Send + Sync>> + Send,
            Future: Send,
        > + Clone
        + Send
        + Sync
        + 'static
{
}

/// A body that is framed when its request is signed.
#[derive(Clone)]
struct Chunks {
    data: Vec<Vec<u8>>,
    /// Name and value.
    trailer: Option<(String, String)>,
}

pub fn plan(method: &'static str, path: &str, query: &str) -> Plan {
    Plan {
        method,
        path: path.to_owned(),
        query: query.to_owned(),
        host: "localhost".to_owned(),
        headers: Vec::new(),
        unsigned: Vec::new(),
        payload: None,
        body: Vec::new(),
        chunks: None,
        moment: None,
    }
}

impl Plan {
    /// Signed at another time, as `x-amz-date` writes it.
    pub fn at(mut self, date: &str) -> Self {
        self.moment = Some(date.to_owned());
        self
    }

    fn moment(&self) -> Moment {
        self.moment.clone().map_or_else(Moment::now, |date| Moment { date })
    }

    /// A body with HTTP's own framing and no length, each piece a chunk of it.
    pub fn transfer_chunked(mut self, pieces: &[&[u8]]) -> Self {
        let mut body = Vec::new();
        for piece in pieces {
            body.extend_from_slice(format!("{:x}\r\n", piece.len()).as_bytes());
            body.extend_from_slice(piece);
            body.extend_from_slice(b"\r\n");
        }
        body.extend_from_slice(b"0\r\n\r\n");
        self.body = body;
        self.unsigned("transfer-encoding", "chunked")
    }

    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Another host than `localhost`.
    pub fn host(mut self, host: &str) -> Self {
        self.host = host.to_owned();
        self
    }

    pub fn unsigned(mut self, name: &str, value: &str) -> Self {
        self.unsigned.push((name.to_owned(), value.to_owned()));
        self
    }

    /// What `x-amz-content-sha256` says; the hash of the body if nothing else.
    pub fn payload(mut self, payload: &str) -> Self {
        self.payload = Some(payload.to_owned());
        self
    }

    pub fn body(self, body: &[u8]) -> Self {
        let length = body.len().to_string();
        let mut plan = self.unsigned("content-length", &length);
        plan.body = body.to_vec();
        plan
    }

    /// An unsigned aws-chunked body of one chunk, said to have `decoded` bytes.
    pub fn chunked(self, data: &[u8], decoded: usize, trailer: Option<(&str, &str)>) -> Self {
        let mut body = format!("{:x}\r\n", data.len()).into_bytes();
        body.extend_from_slice(data);
        body.extend_from_slice(b"\r\n0\r\n");
        let plan = match trailer {
            Some((name, value)) => {
                body.extend_from_slice(format!("{name}:{value}\r\n").as_bytes());
                self.header("x-amz-trailer", name)
            }
            None => self.header("x-amz-trailer", "x-amz-nothing"),
        };
        body.extend_from_slice(b"\r\n");
        plan.payload(UNSIGNED_CHUNKS)
            .header("x-amz-decoded-content-length", &decoded.to_string())
            .header("content-encoding", "aws-chunked")
            .body(&body)
    }

    /// A signed aws-chunked body.
    pub fn signed_chunks(self, chunks: &[&[u8]], trailer: Option<(&str, &str)>) -> Self {
        let decoded: usize = chunks.iter().map(|chunk| chunk.len()).sum();
        let mut plan = self
            .header("x-amz-decoded-content-length", &decoded.to_string())
            .header("content-encoding", "aws-chunked");
        plan = match trailer {
            Some((name, _)) => plan.payload(SIGNED_TRAILER).header("x-amz-trailer", name),
            None => plan.payload(SIGNED_CHUNKS),
        };
        let trailer = trailer.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let data = chunks.iter().map(|chunk| chunk.to_vec()).collect();
        plan.chunks = Some(Chunks { data, trailer });
        plan
    }

    /// The bytes on the wire, with the signature in the query, which is good for `expires` seconds.
    pub fn presigned(&self, expires: impl std::fmt::Display) -> Vec<u8> {
        let moment = self.moment();
        let mut headers = self.headers.clone();
        headers.push(("host".to_owned(), self.host.clone()));
        headers.sort();
        let mut request = Canonical {
            method: self.method,
            path: &self.path,
            query: "",
            headers: &headers,
            payload: UNSIGNED,
        };
        let mut query = format!(
            "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=key%2F{}&X-Amz-Date={}&\
             X-Amz-Expires={expires}&X-Amz-SignedHeaders={}",
            moment.scope().replace('/', "%2F"),
            moment.date,
            request.signed_headers().replace(';', "%3B"),
        );
        // Parameters of the plan stand behind these, as lower-case ones do in canonical order.
        if !self.query.is_empty() {
            query = format!("{query}&{}", self.query);
        }
        request.query = &query;
        let signature = moment.sign_request(&request);
        let target = format!("{}?{query}&X-Amz-Signature={signature}", self.path);
        let mut out = format!("{} {target} HTTP/1.1\r\nconnection: close\r\n", self.method);
        for (name, value) in headers.iter().chain(&self.unsigned) {
            let _ = write!(out, "{name}: {value}\r\n");
        }
        out.push_str("\r\n");
        [out.as_bytes(), &self.body].concat()
    }

    /// The bytes on the wire, on a connection for this request only.
    pub fn bytes(&self) -> Vec<u8> {
        let Signed { method, target, headers, body } = self.sign();
        let mut out = format!("{method} {target} HTTP/1.1\r\n");
        for (at, (name, value)) in headers.iter().enumerate() {
            let _ = write!(out, "{name}: {value}\r\n");
            if at == 0 {
                out.push_str("connection: close\r\n");
            }
        }
        out.push_str("\r\n");
        [out.as_bytes(), &body].concat()
    }

    /// With its signature.
    pub fn sign(&self) -> Signed {
        let moment = self.moment();
        let payload = self.payload.clone().unwrap_or_else(|| hash(&self.body));
        let mut headers = self.headers.clone();
        headers.push(("host".to_owned(), self.host.clone()));
        headers.push(("x-amz-date".to_owned(), moment.date.clone()));
        headers.push(("x-amz-content-sha256".to_owned(), payload.clone()));
        headers.sort();
        let request = Canonical {
            method: self.method,
            path: &self.path,
            query: &self.query,
            headers: &headers,
            payload: &payload,
        };
        let signature = moment.sign_request(&request);
        let authorization = format!(
            "AWS4-HMAC-SHA256 Credential=key/{},SignedHeaders={},Signature={signature}",
            moment.scope(),
            request.signed_headers()
        );
        let separator = if self.query.is_empty() { "" } else { "?" };
        let target = format!("{}{separator}{}", self.path, self.query);
        headers.insert(0, ("authorization".to_owned(), authorization));
        headers.extend(self.unsigned.iter().cloned());
        let body = match &self.chunks {
            None => self.body.clone(),
            Some(chunks) => {
                let body = chunks.framed(&moment, signature);
                headers.push(("content-length".to_owned(), body.len().to_string()));
                body
            }
        };
        Signed { method: self.method, target, headers, body }
    }

    /// Send it and read the answer; `None` if the connection ends without one.
    pub async fn send(&self, service: &impl Serves) -> Option<Answer> {
        answer(&exchange(service, &self.bytes()).await)
    }

    /// Send it, and expect an answer.
    pub async fn expect(&self, service: &impl Serves) -> Answer {
        self.send(service).await.expect("an answer")
    }
}

impl Chunks {
    /// With signatures, each of which follows from the one before; the first from the request's.
    fn framed(&self, moment: &Moment, mut signature: String) -> Vec<u8> {
        let mut out = Vec::new();
        for chunk in self.data.iter().map(Vec::as_slice).chain([b"".as_slice()]) {
            signature = moment.sign_chunk(&signature, chunk);
            let line = format!("{:x};chunk-signature={signature}\r\n", chunk.len());
            out.extend_from_slice(line.as_bytes());
            if !chunk.is_empty() {
                out.extend_from_slice(chunk);
                out.extend_from_slice(b"\r\n");
            }
        }
        if let Some((name, value)) = &self.trailer {
            signature = moment.sign_trailers(&signature, &format!("{name}:{value}\n"));
            let lines = format!("{name}:{value}\r\nx-amz-trailer-signature:{signature}\r\n");
            out.extend_from_slice(lines.as_bytes());
        }
        out.extend_from_slice(b"\r\n");
        out
    }
}

/// What the server says to `bytes` on a fresh connection, until it closes.
pub async fn exchange(service: &impl Serves, bytes: &[u8]) -> Vec<u8> {
    let (client, server) = tokio::io::duplex(1 << 16);
    let service = service.clone();
    let served = tokio::spawn(async move {
        // Malformed requests end in errors here; that is their answer.
        let _ = hyper::server::conn::http1::Builder::new()
            // The client closes its half behind the request, so that a mutilated one has an end.
            .half_close(true)
            .serve_connection(TokioIo::new(server), service)
            .await;
    });
    let (mut reader, mut writer) = tokio::io::split(client);
    let bytes = bytes.to_vec();
    let write = tokio::spawn(async move {
        let _ = writer.write_all(&bytes).await;
        let _ = writer.shutdown().await;
    });
    let mut out = Vec::new();
    let read = tokio::time::timeout(Duration::from_secs(20), reader.read_to_end(&mut out)).await;
    let _ = read.expect("the server neither answers nor closes");
    write.abort();
    served.await.expect("the server does not panic");
    out
}

/// Take an answer apart. A body shorter than announced is no answer.
pub fn answer(bytes: &[u8]) -> Option<Answer> {
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")?;
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let status: u16 = head.get(9..12)?.parse().ok()?;
    let body = &bytes[end + 4..];
    if status == 100 {
        return answer(body);
    }
    Some(Answer { status, head, body: body.to_vec() })
}
