//! An S3 client for measuring: one connection, requests signed and sent with little work, answers
//! read to their end and checked.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::header::{self, HeaderName, HeaderValue};
use hyper::{Method, Request, Response, Uri};
use md5::Md5;
use sha2::{Digest, Sha256};

use super::content::{Body, Content};
use answer::{Answer, Failure};
use connection::{Connection, broken};
use endpoint::Endpoint;
use payload::{CHECKSUM, Payload, encode_crc32};
use sign::{Canonical, Credentials, EMPTY_SHA256, Signer, encode_path, hex, push_query};

pub(crate) mod answer;
pub(crate) mod connection;
pub(crate) mod endpoint;
pub(crate) mod payload;
pub(crate) mod sign;
mod tls;

/// Documents longer than this are not S3's: a LIST page of 1,000 keys has less than 3 MiB.
const DOCUMENT_BYTES_MAX: usize = 32 << 20;
/// How fast a body must at least go, beside the time that any request has.
const BYTES_PER_SECOND_MIN: u64 = 1 << 20;

const CONTENT_SHA256: HeaderName = HeaderName::from_static("x-amz-content-sha256");
const DATE: HeaderName = HeaderName::from_static("x-amz-date");
const DECODED_LENGTH: HeaderName = HeaderName::from_static("x-amz-decoded-content-length");
const TRAILER: HeaderName = HeaderName::from_static("x-amz-trailer");
const CONTENT_MD5: HeaderName = HeaderName::from_static("content-md5");
const CRC32: HeaderName = HeaderName::from_static(CHECKSUM);

/// How the bodies of PUT and UploadPart are signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum PayloadMode {
    /// Their SHA-256 in the header, as AWS SDKs do over http; it is computed beforehand
    Signed,
    /// UNSIGNED-PAYLOAD
    Unsigned,
    /// aws-chunked with a signature for each chunk, as minio-go does; hashed while it is sent
    Streaming,
    /// aws-chunked without signatures, with a checksum as trailer, as AWS SDKs do over https
    StreamingUnsigned,
}

/// Whom requests go to, and how they are made.
#[derive(Clone)]
pub(crate) struct Target {
    pub(crate) endpoint: Endpoint,
    pub(crate) credentials: Credentials,
    pub(crate) bucket: String,
    pub(crate) payload: PayloadMode,
    /// Whether bodies go with a CRC-32.
    pub(crate) checksum: bool,
    /// How long a request may take, beside one second for each MiB.
    pub(crate) patience: Duration,
}

impl Target {
    /// Whether hashes of bodies are told before the body.
    pub(crate) fn hashes_first(&self) -> bool {
        match self.payload {
            PayloadMode::Streaming | PayloadMode::StreamingUnsigned => false,
            PayloadMode::Unsigned => self.checksum,
            PayloadMode::Signed => true,
        }
    }
}

/// A client with a connection that it keeps.
pub(crate) struct Client {
    target: Arc<Target>,
    content: Arc<Content>,
    /// Which of the endpoint's addresses is this client's.
    place: usize,
    signer: Signer,
    connection: Option<Connection>,
    host: HeaderValue,
    /// Requests that were sent, or for which no connection was to be had.
    pub(crate) requests: u64,
}

/// What is asked for.
pub(crate) struct Ask<'a> {
    pub(crate) method: Method,
    /// Empty for the bucket itself.
    pub(crate) key: &'a str,
    /// Canonical, as [`push_query`] makes it.
    pub(crate) query: &'a str,
    pub(crate) upload: Upload,
    pub(crate) expect: Expect,
}

/// The body of a request.
pub(crate) enum Upload {
    None,
    Document(Bytes),
    Body(Body),
}

/// What is done with the body of a successful answer.
pub(crate) enum Expect {
    /// Keep it.
    Document,
    /// Hold it against the object that it should be: its length, and its bytes if `verify`.
    Object { body: Body, verify: bool },
}

impl Client {
    /// The client of the worker with this number.
    ///
    /// # Errors
    /// If the endpoint's host cannot stand in a header.
    pub(crate) fn new(
        target: Arc<Target>,
        content: Arc<Content>,
        place: usize,
    ) -> Result<Self, Failure> {
        let host = HeaderValue::from_str(&target.endpoint.host);
        let host = host.map_err(|_| Failure::Wrong("the endpoint's host"))?;
        let signer = Signer::new(target.credentials.clone());
        Ok(Self { target, content, place, signer, connection: None, host, requests: 0 })
    }

    /// What bodies are made of.
    pub(crate) fn content(&self) -> &Content {
        &self.content
    }

    /// Ask, and wait for the whole answer.
    ///
    /// # Errors
    /// [`Failure`]; the next request may need a new connection, and makes it.
    pub(crate) async fn ask(&mut self, ask: Ask<'_>) -> Result<Answer, Failure> {
        let bytes = match (&ask.upload, &ask.expect) {
            (Upload::Body(body), _) | (_, Expect::Object { body, .. }) => body.len(),
            _ => 0,
        };
        let more = Duration::from_secs(bytes / BYTES_PER_SECOND_MIN);
        let patience = self.target.patience + more;
        self.requests += 1;
        // The connection is put back only if its state is known.
        let kept = self.connection.take();
        let request = self.request(&ask)?;
        let is_head = ask.method == Method::HEAD;
        let work = async {
            let usable = match kept {
                Some(mut kept) => kept.is_ready().await.then_some(kept),
                None => None,
            };
            let mut connection = match usable {
                Some(connection) => connection,
                None => self.connect().await?,
            };
            let read = |response| read(response, ask.expect, is_head);
            let answer = connection.exchange(request, read).await;
            let clean = matches!(&answer, Ok(_) | Err(Failure::Refused { .. } | Failure::Wrong(_)));
            Ok((clean.then_some(connection), answer))
        };
        let (connection, answer) =
            tokio::time::timeout(patience, work).await.map_err(|_| Failure::Timeout)??;
        self.connection = connection;
        answer
    }

    async fn connect(&self) -> Result<Connection, Failure> {
        let Endpoint { addresses, tls, .. } = &self.target.endpoint;
        let mut result = Err(Failure::Wrong("the endpoint has no address"));
        for turn in 0..addresses.len() {
            let address = addresses[(self.place + turn) % addresses.len()];
            result = Connection::open(address, tls.as_ref()).await;
            if result.is_ok() {
                break;
            }
        }
        result
    }

    /// The signed request.
    fn request(&mut self, ask: &Ask<'_>) -> Result<Request<Payload>, Failure> {
        let path = encode_path(&match ask.key {
            "" => format!("/{}", self.target.bucket),
            key => format!("/{}/{key}", self.target.bucket),
        });
        let target = match ask.query {
            "" => path.clone(),
            query => format!("{path}?{query}"),
        };
        let stamp = self.signer.at(SystemTime::now()).to_owned();
        let sums = self.sums(&ask.upload);
        let mut headers: Vec<(&str, &str)> = Vec::with_capacity(8);
        let optional = [
            ("content-encoding", sums.chunked().then_some("aws-chunked")),
            ("content-md5", sums.md5.as_deref()),
            ("host", Some(self.target.endpoint.host.as_str())),
            (CHECKSUM, sums.crc32.as_deref()),
            ("x-amz-content-sha256", Some(sums.sha256.as_str())),
            ("x-amz-date", Some(stamp.as_str())),
            ("x-amz-decoded-content-length", sums.decoded_length.as_deref()),
            ("x-amz-trailer", sums.trailer.then_some(CHECKSUM)),
        ];
        headers.extend(optional.iter().filter_map(|(name, value)| value.map(|it| (*name, it))));
        let canonical = Canonical {
            method: ask.method.as_str(),
            path: &path,
            query: ask.query,
            headers: &headers,
            payload: &sums.sha256,
        };
        let signed = self.signer.sign(&canonical);
        let payload = match &ask.upload {
            Upload::None => Payload::document(Bytes::new()),
            Upload::Document(document) => Payload::document(document.clone()),
            Upload::Body(body) if sums.chunked() => {
                let signer = self.target.payload == PayloadMode::Streaming;
                let signer = signer.then(|| self.signer.chunks(&signed));
                Payload::chunked(body.clone(), signer, self.target.checksum)
            }
            Upload::Body(body) => Payload::plain(body.clone()),
        };
        let has_body = !matches!(ask.upload, Upload::None);
        let length = hyper::body::Body::size_hint(&payload).exact().unwrap_or_default();
        let mut request = Request::new(payload);
        *request.method_mut() = ask.method.clone();
        *request.uri_mut() =
            Uri::try_from(target).map_err(|_| Failure::Wrong("the key makes no URI"))?;
        let map = request.headers_mut();
        map.reserve(12);
        map.insert(header::HOST, self.host.clone());
        map.insert(header::USER_AGENT, HeaderValue::from_static("trine-bench"));
        let mut insert = |name: HeaderName, value: Option<String>| -> Result<(), Failure> {
            if let Some(value) = value {
                let value = HeaderValue::try_from(value);
                map.insert(name, value.map_err(|_| Failure::Wrong("a header's value"))?);
            }
            Ok(())
        };
        let chunked = sums.chunked();
        insert(header::AUTHORIZATION, Some(signed.authorization))?;
        insert(DATE, Some(stamp))?;
        insert(CONTENT_SHA256, Some(sums.sha256))?;
        insert(CONTENT_MD5, sums.md5)?;
        insert(CRC32, sums.crc32)?;
        insert(DECODED_LENGTH, sums.decoded_length)?;
        insert(TRAILER, sums.trailer.then(|| CHECKSUM.to_owned()))?;
        insert(header::CONTENT_ENCODING, chunked.then(|| "aws-chunked".to_owned()))?;
        if has_body {
            map.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
        }
        Ok(request)
    }

    /// What headers say of the body.
    fn sums(&self, upload: &Upload) -> Sums {
        let body = match upload {
            Upload::None => return Sums { sha256: EMPTY_SHA256.to_owned(), ..Sums::default() },
            Upload::Document(document) => {
                let sha256 = hex(&Sha256::digest(document));
                let md5 = Some(STANDARD.encode(Md5::digest(document)));
                return Sums { sha256, md5, ..Sums::default() };
            }
            Upload::Body(body) => body,
        };
        let Target { payload, checksum, .. } = &*self.target;
        let chunked = |sha256: &str, checksum: &str| Sums {
            sha256: format!("{sha256}{checksum}"),
            decoded_length: Some(body.len().to_string()),
            trailer: !checksum.is_empty(),
            ..Sums::default()
        };
        match payload {
            PayloadMode::Streaming => {
                let trailer = if *checksum { "-TRAILER" } else { "" };
                chunked("STREAMING-AWS4-HMAC-SHA256-PAYLOAD", trailer)
            }
            PayloadMode::StreamingUnsigned => chunked("STREAMING-UNSIGNED-PAYLOAD", "-TRAILER"),
            PayloadMode::Unsigned if !checksum => {
                Sums { sha256: "UNSIGNED-PAYLOAD".to_owned(), ..Sums::default() }
            }
            PayloadMode::Signed | PayloadMode::Unsigned => {
                let (sha256, crc32) = self.content.digests(body);
                let sha256 = match payload {
                    PayloadMode::Signed => hex(&sha256),
                    _ => "UNSIGNED-PAYLOAD".to_owned(),
                };
                Sums { sha256, crc32: checksum.then(|| encode_crc32(crc32)), ..Sums::default() }
            }
        }
    }
}

/// Values of headers that follow from the body.
#[derive(Default)]
struct Sums {
    sha256: String,
    md5: Option<String>,
    crc32: Option<String>,
    decoded_length: Option<String>,
    trailer: bool,
}

impl Sums {
    fn chunked(&self) -> bool {
        self.decoded_length.is_some()
    }
}

/// Read an answer to its end.
async fn read(
    response: Response<Incoming>,
    expect: Expect,
    is_head: bool,
) -> Result<Answer, Failure> {
    let (parts, mut incoming) = response.into_parts();
    let value = |name| parts.headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
    let length = value(header::CONTENT_LENGTH).and_then(|text| text.parse().ok());
    let etag = value(header::ETAG).map(str::to_owned);
    if !parts.status.is_success() {
        let document = collect(&mut incoming).await?;
        return Err(Failure::refused(parts.status, &document));
    }
    let (mut received, mut wrong, mut document) = (0, None, Bytes::new());
    match expect {
        Expect::Object { body, .. } if is_head => {
            if length != Some(body.len()) {
                wrong = Some("Content-Length");
            }
        }
        Expect::Object { body, verify } => {
            while let Some(frame) = incoming.frame().await {
                let frame = frame.map_err(|error| broken(&error))?;
                let Some(data) = frame.data_ref() else { continue };
                if verify && wrong.is_none() && !body.holds(received, data) {
                    wrong = Some("bytes");
                }
                received += data.len() as u64;
            }
            if received != body.len() {
                wrong = Some("length of the body");
            }
        }
        Expect::Document => {
            document = collect(&mut incoming).await?;
            received = document.len() as u64;
        }
    }
    match wrong {
        Some(what) => Err(Failure::Wrong(what)),
        None => Ok(Answer { etag, body: document, received }),
    }
}

async fn collect(incoming: &mut Incoming) -> Result<Bytes, Failure> {
    let mut first = Bytes::new();
    let mut all = Vec::new();
    while let Some(frame) = incoming.frame().await {
        let frame = frame.map_err(|error| broken(&error))?;
        let Ok(data) = frame.into_data() else { continue };
        if first.is_empty() && all.is_empty() {
            first = data;
            continue;
        }
        if all.is_empty() {
            all.extend_from_slice(&first);
        }
        all.extend_from_slice(&data);
        if all.len() > DOCUMENT_BYTES_MAX {
            return Err(Failure::Broken("a document without end".to_owned()));
        }
    }
    Ok(if all.is_empty() { first } else { all.into() })
}

/// The query of a LIST page.
pub(crate) fn list_query(page: u32, prefix: &str, from: &From<'_>) -> String {
    let mut query = String::with_capacity(256);
    // In the order that signatures want.
    if let From::Token(token) = from {
        push_query(&mut query, "continuation-token", token);
    }
    push_query(&mut query, "list-type", "2");
    push_query(&mut query, "max-keys", &page.to_string());
    push_query(&mut query, "prefix", prefix);
    if let From::After(key) = from {
        push_query(&mut query, "start-after", key);
    }
    query
}

/// Where a LIST page begins.
pub(crate) enum From<'a> {
    Start,
    After(&'a str),
    Token(&'a str),
}
