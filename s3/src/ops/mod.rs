//! The operations: which one a request names, and the call that its handler gets.
//!
//! By the time a handler runs, the signature is verified and the body unwrapped. A handler reads
//! what it needs, asks the gateway and writes the answer; refusals come back as
//! [`Failure`].

mod attributes;
mod buckets;
mod completion;
mod copy;
mod listing;
mod multipart;
mod object_attributes;
mod objects;
mod probes;

use std::sync::Arc;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST};
use http::{Extensions, HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri};
use s3s::{Body, S3Request, S3Response, S3Result, TrailingHeaders};
use trine_core::object::{BucketName, KEY_BYTES_MAX, ObjectKey};
use trine_core::request::{BucketPath, ObjectPath, Reply, Request};

use crate::config::{Key, S3Config, XML_BYTES_MAX};
use crate::digest::{Claims, Verifier};
use crate::domains::Domains;
use crate::error::{Failure, invalid_argument, malformed_xml, refuse};
use crate::front::Front;
use crate::room::{self, Permit};
use crate::text;
use crate::transfer::{self, Shared};
use crate::xml::{self, Writer};
use probes::Probe;

/// An answer.
pub(crate) type Response = http::Response<Body>;

/// The operations that are built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operation {
    ListBuckets,
    CreateBucket,
    DeleteBucket,
    HeadBucket,
    BucketLocation,
    DeleteMany,
    List,
    ListV2,
    ListUploads,
    Put,
    Copy,
    CopyPart,
    Get,
    Head,
    Delete,
    CreateUpload,
    UploadPart,
    CompleteUpload,
    AbortUpload,
    ListParts,
    ObjectAttributes,
    Probe(Probe),
}

impl Operation {
    /// The operation of a request; `None` if it is not one of ours.
    fn of(method: &Method, address: &Address, query: &Query, headers: &HeaderMap) -> Option<Self> {
        if let Some(probe) = probes::of(method, address, query) {
            return Some(Self::Probe(probe));
        }
        let copies = headers.contains_key("x-amz-copy-source");
        if copies && (method != Method::PUT || address.key.is_empty()) {
            return None;
        }
        let upload = query.has("uploadId");
        match (address.bucket.is_empty(), address.key.is_empty(), method.as_str()) {
            (true, true, "GET") => Some(Self::ListBuckets),
            (false, true, "PUT") => Some(Self::CreateBucket),
            (false, true, "DELETE") => Some(Self::DeleteBucket),
            (false, true, "HEAD") => Some(Self::HeadBucket),
            (false, true, "POST") if query.has("delete") => Some(Self::DeleteMany),
            (false, true, "GET") if query.has("location") => Some(Self::BucketLocation),
            (false, true, "GET") if query.has("uploads") => Some(Self::ListUploads),
            (false, true, "GET") if query.get("list-type") == Some("2") => Some(Self::ListV2),
            (false, true, "GET") => Some(Self::List),
            (false, false, "PUT") if copies && upload => Some(Self::CopyPart),
            (false, false, "PUT") if copies => Some(Self::Copy),
            (false, false, "PUT") if upload => Some(Self::UploadPart),
            (false, false, "PUT") => Some(Self::Put),
            (false, false, "POST") if query.has("uploads") => Some(Self::CreateUpload),
            (false, false, "POST") if upload => Some(Self::CompleteUpload),
            (false, false, "DELETE") if upload => Some(Self::AbortUpload),
            (false, false, "DELETE") => Some(Self::Delete),
            (false, false, "GET") if query.has("attributes") => Some(Self::ObjectAttributes),
            (false, false, "GET") if upload => Some(Self::ListParts),
            (false, false, "GET") => Some(Self::Get),
            (false, false, "HEAD") => Some(Self::Head),
            _ => Some(Self::Probe(Probe::NotAllowed)),
        }
    }
}

/// Bucket and key as the request names them, decoded and unchecked; empty if absent.
#[derive(Debug, Default)]
struct Address {
    bucket: String,
    key: String,
    /// Whether the host names the bucket, not the path.
    bucket_in_host: bool,
}

impl Address {
    /// `None` if the path is not UTF-8; s3s then refuses it.
    fn of(uri: &Uri, headers: &HeaderMap, domains: &Domains) -> Option<Self> {
        let path = text::url_decode(uri.path())?;
        let path = path.strip_prefix('/').unwrap_or(&path);
        let host = headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
        if let Some(bucket) = domains.bucket(host) {
            return Some(Self { bucket, key: path.to_owned(), bucket_in_host: true });
        }
        let (bucket, key) = path.split_once('/').unwrap_or((path, ""));
        let (bucket, key) = (bucket.to_owned(), key.to_owned());
        Some(Self { bucket, key, bucket_in_host: false })
    }
}

/// The parameters of a request, decoded.
#[derive(Debug, Default)]
struct Query(Vec<(String, String)>);

impl Query {
    fn of(uri: &Uri) -> Option<Self> {
        text::pairs(uri.query().unwrap_or_default()).map(Self)
    }

    fn has(&self, name: &str) -> bool {
        self.0.iter().any(|(other, _)| other == name)
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str())
    }

    /// A limit of a page: at most `max`, which is also the default.
    fn page_limit(&self, name: &str, max: u32) -> Result<u32, Failure> {
        match self.get(name).filter(|value| !value.is_empty()) {
            None => Ok(max),
            Some(value) => {
                let number =
                    value.parse::<u32>().ok().filter(|number| i32::try_from(*number).is_ok());
                let message = || format!("Provided {name} not an integer or within integer range");
                Ok(number.ok_or_else(|| invalid_argument(message()))?.min(max))
            }
        }
    }

    /// Whether names in the answer are to be percent-encoded.
    fn url_encoding(&self) -> Result<bool, Failure> {
        match self.get("encoding-type") {
            None | Some("") => Ok(false),
            Some("url") => Ok(true),
            Some(_) => Err(invalid_argument("Invalid Encoding Method specified in Request")),
        }
    }
}

/// One request, ready for its handler.
struct Call {
    front: Front,
    config: Arc<S3Config>,
    key: Key,
    method: Method,
    address: Address,
    query: Query,
    headers: HeaderMap,
    body: Body,
    trailers: Option<TrailingHeaders>,
    shared: Arc<Shared>,
    /// Room for the document in the body, once it is read.
    room: Option<Permit>,
}

impl Call {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    fn bucket(&self) -> Result<BucketPath, Failure> {
        let name = BucketName::parse(&self.address.bucket).map_err(|rule| {
            let message = format!("The specified bucket is not valid: {rule}.");
            refuse(StatusCode::BAD_REQUEST, "InvalidBucketName", message)
                .with("BucketName", &self.address.bucket)
        })?;
        Ok(BucketPath { tenant: self.key.tenant, name })
    }

    fn object(&self) -> Result<ObjectPath, Failure> {
        let key = ObjectKey::parse(&self.address.key).map_err(|_| {
            refuse(StatusCode::BAD_REQUEST, "KeyTooLongError", "Your key is too long.")
                .with("Size", self.address.key.len().to_string())
                .with("MaxSizeAllowed", KEY_BYTES_MAX.to_string())
        })?;
        match self.query.get("versionId") {
            None | Some("" | "null") => Ok(ObjectPath { bucket: self.bucket()?, key }),
            Some(_) => Err(invalid_argument("Invalid version id specified")),
        }
    }

    async fn ask(&self, request: Request) -> Result<Reply, Failure> {
        transfer::ask(&self.front, request).await
    }

    /// The document in the body. `claims` is what it is held against.
    async fn document(&mut self, claims: Claims) -> Result<Bytes, Failure> {
        let body = std::mem::take(&mut self.body);
        let trailers = self.trailers.take();
        let length = http_body::Body::size_hint(&body).exact().unwrap_or(XML_BYTES_MAX as u64);
        let length = length.min(XML_BYTES_MAX as u64);
        self.room = Some(self.config.documents.to_read(Some(self.key.tenant), length)?);
        transfer::gather(body, XML_BYTES_MAX, Verifier::new(claims), trailers, &self.shared).await
    }

    /// 200 and a document that may be long.
    fn answer(&self, xml: Writer) -> Result<Response, Failure> {
        let document = Bytes::from(xml.finish());
        let permit = self.config.documents.to_answer(self.key.tenant, document.len() as u64)?;
        Ok(xml_response(room::held(document, permit)))
    }

    async fn run(mut self, operation: Operation) -> Result<Response, Failure> {
        attributes::check_expected_owner(&self)?;
        match operation {
            Operation::ListBuckets => buckets::list(&self).await,
            Operation::CreateBucket => buckets::create(&mut self).await,
            Operation::DeleteBucket => buckets::delete(&self).await,
            Operation::HeadBucket => buckets::head(&self).await,
            Operation::BucketLocation => buckets::location(&self).await,
            Operation::DeleteMany => objects::delete_many(&mut self).await,
            Operation::List => listing::list(&self).await,
            Operation::ListV2 => listing::list_v2(&self).await,
            Operation::ListUploads => listing::list_uploads(&self).await,
            Operation::Put => objects::put(&mut self).await,
            Operation::Copy => copy::object(&mut self).await,
            Operation::CopyPart => copy::part(&mut self).await,
            Operation::Get => objects::get(&self).await,
            Operation::Head => objects::head(&self).await,
            Operation::Delete => objects::delete(&self).await,
            Operation::CreateUpload => multipart::create(&self).await,
            Operation::UploadPart => multipart::upload_part(&mut self).await,
            Operation::CompleteUpload => multipart::complete(&mut self).await,
            Operation::AbortUpload => multipart::abort(&self).await,
            Operation::ListParts => multipart::list_parts(&self).await,
            Operation::ObjectAttributes => object_attributes::tell(&self).await,
            Operation::Probe(probe) => probes::answer(&self, probe).await,
        }
    }
}

/// Where s3s hands verified requests over.
pub(crate) struct Operations {
    front: Front,
    config: Arc<S3Config>,
}

impl Operations {
    pub(crate) fn new(front: Front, config: Arc<S3Config>) -> Self {
        Self { front, config }
    }

    fn parse(
        &self,
        method: &Method,
        uri: &Uri,
        headers: &HeaderMap,
    ) -> Option<(Operation, Address, Query)> {
        let address = Address::of(uri, headers, &self.config.domains)?;
        let query = Query::of(uri)?;
        let operation = Operation::of(method, &address, &query, headers)?;
        Some((operation, address, query))
    }
}

#[async_trait::async_trait]
impl s3s::route::S3Route for Operations {
    fn is_match(
        &self,
        method: &Method,
        uri: &Uri,
        headers: &HeaderMap,
        _: &mut Extensions,
    ) -> bool {
        self.parse(method, uri, headers).is_some()
    }

    async fn call(&self, request: S3Request<Body>) -> S3Result<S3Response<Body>> {
        let shared = request.extensions.get::<Arc<Shared>>().cloned().unwrap_or_default();
        let parsed = self.parse(&request.method, &request.uri, &request.headers);
        let key = request.credentials.and_then(|found| self.config.keys.secret(&found.access_key));
        let (Some((operation, address, query)), Some(key)) = (parsed, key) else {
            // The key was taken away since the signature was verified.
            return Err(s3s::S3Error::new(s3s::S3ErrorCode::AccessDenied));
        };
        let call = Call {
            front: self.front.clone(),
            config: self.config.clone(),
            key,
            method: request.method,
            address,
            query,
            headers: request.headers,
            body: request.input,
            trailers: request.trailing_headers,
            shared: shared.clone(),
            room: None,
        };
        let response = match call.run(operation).await {
            Ok(response) => response,
            Err(Failure::Refused(refusal)) => refusal.into_response(),
            Err(Failure::Broken(reason)) => {
                // What is said here is thrown away by the outer layer.
                let _ = shared.broken.set(reason);
                Response::default()
            }
        };
        let (parts, body) = response.into_parts();
        let mut answer = S3Response::with_status(body, parts.status);
        answer.headers = parts.headers;
        Ok(answer)
    }
}

/// 200 and a document.
fn document(xml: Writer) -> Response {
    xml_response(Body::from(xml.finish()))
}

/// 200 and a document that has its room already.
fn document_in(xml: Writer, permit: Permit) -> Response {
    xml_response(room::held(Bytes::from(xml.finish()), permit))
}

fn xml_response(body: Body) -> Response {
    let mut response = Response::new(body);
    let value = HeaderValue::from_static("application/xml");
    response.headers_mut().insert(CONTENT_TYPE, value);
    response
}

/// A status and nothing else.
fn empty(status: StatusCode) -> Response {
    let mut response = Response::default();
    *response.status_mut() = status;
    response
}

/// Set a header, if its value can stand in one.
fn set(response: &mut Response, name: &str, value: &str) {
    if let (Ok(name), Ok(value)) =
        (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_bytes(value.as_bytes()))
    {
        response.headers_mut().insert(name, value);
    }
}

/// The gateway answered with something that does not belong to the request.
fn unexpected(reply: &Reply) -> Failure {
    let message = format!("The gateway gave an answer of another kind: {reply:.40?}");
    refuse(StatusCode::INTERNAL_SERVER_ERROR, "InternalError", message)
}

/// Read a request's document.
fn read_document(document: &[u8], root: &str) -> Result<xml::Element, Failure> {
    let element = xml::read(document).map_err(|_| malformed_xml())?;
    if element.name == root { Ok(element) } else { Err(malformed_xml()) }
}

/// Write an owner under `tag`.
fn write_owner(xml: &mut Writer, tag: &str, owner: &trine_core::object::Owner) {
    xml.open(tag);
    xml.element("ID", &owner.user);
    xml.element("DisplayName", &owner.user);
    xml.close(tag);
}
