//! CopyObject and UploadPartCopy: the gateway copies, the edge hashes what it is given, and tells the client.
//!
//! A copy of gigabytes takes longer than clients wait for an answer. So what speaks against it is
//! decided first and answered as everything else is; if the copy goes on for some seconds then, the answer
//! begins with 200 and gets white space whenever the gateway says that the copy is alive, and in the end
//! the result or an error as its document. That is how Amazon S3 does it, and SDKs look into the
//! document of a 200 for it.
//!
//! Source: Amazon S3, "CopyObject", "UploadPartCopy".

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::StatusCode;
use http_body::Frame;
use s3s::{Body, StdError};
use trine_core::object::{BucketName, ChecksumAlgorithm, ObjectChecksum, ObjectKey, PUT_BYTES_MAX};
use trine_core::request::{
    ApiError, BucketPath, CopiedObject, CopyPurpose, CopyRequest, Copying, ObjectPath,
    ReadConditions, Reply, Request,
};
use trine_core::time::WallTime;

use super::object_attributes::write_checksum;
use super::{Call, Response, attributes, multipart, unexpected, xml_response};
use crate::digest::{self, Claims, Verifier};
use crate::error::{Failure, invalid_argument, not_implemented, refuse};
use crate::front::{Exchange, FrontReply};
use crate::text;
use crate::transfer;
use crate::xml::{self, Writer};

/// CopyObject.
pub(super) async fn object(call: &mut Call) -> Result<Response, Failure> {
    check_built(call)?;
    let path = call.object()?;
    let source = source(call)?;
    let metadata = directive(call, "x-amz-metadata-directive", "Unknown metadata directive.")?;
    let tagging = directive(call, "x-amz-tagging-directive", "Unknown tagging directive.")?;
    let redirect = attributes::website_redirect(&call.headers)?;
    let checksum = checksum(call)?;
    let changes = metadata == Directive::Replace
        || tagging == Directive::Replace
        || redirect.is_some()
        || checksum.is_some()
        || call.headers.contains_key("x-amz-storage-class");
    if source == path && !changes {
        let message = "This copy request is illegal because it is trying to copy an object to \
                       itself without changing the object's metadata, storage class, website \
                       redirect location or encryption attributes.";
        return Err(invalid(message));
    }
    let attributes = match metadata {
        Directive::Copy => None,
        Directive::Replace => Some(attributes::attributes(&call.headers)?),
    };
    let tags = match tagging {
        Directive::Copy => None,
        Directive::Replace => Some(attributes::tags(&call.headers)?),
    };
    let copied = CopiedObject {
        owner: call.key.owner.clone(),
        attributes,
        website_redirect: redirect,
        tags,
        checksum,
        conditions: attributes::write_conditions(call),
    };
    let source_conditions = source_conditions(call);
    let purpose = CopyPurpose::Object(Box::new(copied));
    run(call, CopyRequest { source, source_conditions, path, purpose }, Shape::Object).await
}

/// UploadPartCopy.
pub(super) async fn part(call: &mut Call) -> Result<Response, Failure> {
    check_built(call)?;
    let path = call.object()?;
    let number = multipart::part_number(call)?;
    let upload = multipart::upload_of(call)?;
    let source = source(call)?;
    let range = match call.headers.get("x-amz-copy-source-range") {
        None => None,
        Some(value) => Some(value.to_str().ok().and_then(parse_range).ok_or_else(|| {
            invalid_argument(
                "The x-amz-copy-source-range value must be of the form bytes=first-last where \
                 first and last are the zero-based offsets of the first and last bytes to copy",
            )
        })?),
    };
    let source_conditions = source_conditions(call);
    let purpose = CopyPurpose::Part { upload, number, range };
    run(call, CopyRequest { source, source_conditions, path, purpose }, Shape::Part).await
}

/// Which of the two asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    Object,
    Part,
}

/// Whether something is the source's or the request's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Directive {
    Copy,
    Replace,
}

fn invalid(message: &str) -> Failure {
    refuse(StatusCode::BAD_REQUEST, "InvalidRequest", message)
}

fn check_built(call: &Call) -> Result<(), Failure> {
    attributes::check_built(&call.headers)?;
    let encrypted = "x-amz-copy-source-server-side-encryption-customer-algorithm";
    if call.headers.contains_key(encrypted) {
        return Err(not_implemented(encrypted));
    }
    // Everyone's buckets are private: the source's owner is who asks.
    match call.headers.get("x-amz-source-expected-bucket-owner") {
        Some(value) if value.as_bytes() != call.key.owner.user.as_bytes() => {
            Err(refuse(StatusCode::FORBIDDEN, "AccessDenied", "Access Denied"))
        }
        _ => Ok(()),
    }
}

fn directive(call: &Call, name: &str, message: &'static str) -> Result<Directive, Failure> {
    match call.headers.get(name).map(http::HeaderValue::as_bytes) {
        None | Some(b"COPY") => Ok(Directive::Copy),
        Some(b"REPLACE") => Ok(Directive::Replace),
        Some(_) => Err(invalid_argument(message)),
    }
}

fn checksum(call: &Call) -> Result<Option<ChecksumAlgorithm>, Failure> {
    let Some(value) = call.headers.get("x-amz-checksum-algorithm") else { return Ok(None) };
    let algorithm = value.to_str().ok().and_then(digest::algorithm);
    let algorithm =
        algorithm.ok_or_else(|| invalid("Checksum algorithm provided is unsupported."))?;
    Ok(Some(algorithm))
}

/// The object that `x-amz-copy-source` names. It is the tenant's own: access to others' comes with
/// access control.
fn source(call: &Call) -> Result<ObjectPath, Failure> {
    let value = call.headers.get("x-amz-copy-source").map(http::HeaderValue::as_bytes);
    let text = value.and_then(|value| std::str::from_utf8(value).ok());
    let Source { bucket, key, version } = text.and_then(Source::parse).ok_or_else(|| {
        invalid_argument(
            "Copy Source must mention the source bucket and key: sourcebucket/sourcekey",
        )
    })?;
    if !matches!(version.as_deref(), None | Some("" | "null")) {
        return Err(invalid_argument("Invalid version id specified"));
    }
    let name = BucketName::parse(&bucket)
        .map_err(|_| invalid_argument("Invalid copy source bucket name"))?;
    let key = ObjectKey::parse(&key)
        .map_err(|_| refuse(StatusCode::BAD_REQUEST, "KeyTooLongError", "Your key is too long."))?;
    Ok(ObjectPath { bucket: BucketPath { tenant: call.key.tenant, name }, key })
}

/// The parts of a copy source, decoded.
#[derive(Debug, PartialEq, Eq)]
struct Source {
    bucket: String,
    key: String,
    version: Option<String>,
}

impl Source {
    /// Read `/bucket/key` or `bucket/key`, percent-encoded as a whole or in parts, with or without
    /// `?versionId=`. Any other question mark is of the key. A `+` is a space: so Amazon reads it, unlike
    /// in paths, and so clients write it that encode as for a query (s5cmd, Java's `URLEncoder`).
    fn parse(text: &str) -> Option<Self> {
        let (path, version) = match text.split_once("?versionId=") {
            Some((path, version)) => (path, Some(text::url_decode(version)?)),
            None => (text, None),
        };
        let path = text::url_decode(&path.replace('+', " "))?;
        let path = path.strip_prefix('/').unwrap_or(&path);
        let (bucket, key) = path.split_once('/')?;
        let named = !bucket.is_empty() && !key.is_empty();
        named.then(|| Self { bucket: bucket.to_owned(), key: key.to_owned(), version })
    }
}

/// `bytes=first-last`, and nothing else.
fn parse_range(text: &str) -> Option<(u64, u64)> {
    let digits = |text: &str| {
        let plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        plain.then(|| text.parse::<u64>().unwrap_or(u64::MAX))
    };
    let (first, last) = text.strip_prefix("bytes=")?.split_once('-')?;
    let (first, last) = (digits(first)?, digits(last)?);
    (first <= last).then_some((first, last))
}

/// Conditions of the source. Malformed dates are ignored, as for reads.
fn source_conditions(call: &Call) -> ReadConditions {
    let tags = |name| call.header(name).map(text::parse_tags);
    let date = |name| call.header(name).and_then(text::parse_http_date);
    ReadConditions {
        if_match: tags("x-amz-copy-source-if-match"),
        if_none_match: tags("x-amz-copy-source-if-none-match"),
        if_modified_since: date("x-amz-copy-source-if-modified-since"),
        if_unmodified_since: date("x-amz-copy-source-if-unmodified-since"),
    }
}

/// Copy, and answer at the end, or begin to answer before.
async fn run(call: &mut Call, request: CopyRequest, shape: Shape) -> Result<Response, Failure> {
    // A body is not expected: whatever comes is held against its hash, and must be nothing.
    let body = std::mem::take(&mut call.body);
    let verifier = Verifier::new(Claims::of_document(&call.headers)?);
    transfer::gather(body, 0, verifier, call.trailers.take(), &call.shared).await?;
    let exchange = transfer::open(&call.front, Request::Copy(request))?;
    let mut running = Running { exchange, verifier: None, left: 0, shape };
    let first = std::future::poll_fn(|context| running.poll(context)).await;
    match first {
        News::Ended(result) => Ok(xml_response(Body::from(shape.document(&result?)))),
        News::Alive => {
            let answer = Answer { running, begun: false, over: false };
            Ok(xml_response(Body::http_body_unsync(answer)))
        }
    }
}

/// A copy that the gateway makes.
#[derive(Debug)]
struct Running {
    exchange: Exchange,
    /// What hashes its bytes, if that is asked for.
    verifier: Option<Verifier>,
    /// Bytes still to be hashed.
    left: u64,
    shape: Shape,
}

/// What is heard of a copy.
enum News {
    /// It goes on.
    Alive,
    /// It has come to its end.
    Ended(Result<Copied, Failure>),
}

/// What came of it.
#[derive(Debug)]
struct Copied {
    etag: trine_core::object::ETag,
    checksum: Option<ObjectChecksum>,
    modified: WallTime,
}

impl Running {
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<News> {
        loop {
            let broken = |reason: String| News::Ended(Err(Failure::Broken(reason)));
            let ended = match ready!(self.exchange.poll_next(context)) {
                Some(FrontReply::Copying(Copying::Alive)) => return Poll::Ready(News::Alive),
                Some(FrontReply::Copying(Copying::Begun { length, hash })) => {
                    self.left = length;
                    let claims = hash.map(|hash| Claims::to_compute(hash.checksum));
                    self.verifier = claims.map(Verifier::new);
                    self.hashed()
                }
                Some(FrontReply::Body(bytes)) => self.hash(&bytes),
                Some(FrontReply::Reply(result)) => {
                    self.exchange.ended();
                    Some(News::Ended(outcome(result)))
                }
                Some(FrontReply::NeedBody(_) | FrontReply::BodyEnd) => None,
                Some(FrontReply::BodyFailed(reason) | FrontReply::Disconnect(reason)) => {
                    Some(broken(reason))
                }
                // Whether it took effect is not known: nothing true can be said.
                None => Some(broken("the gateway is gone".to_owned())),
            };
            if let Some(news) = ended {
                return Poll::Ready(news);
            }
        }
    }

    fn hash(&mut self, bytes: &Bytes) -> Option<News> {
        let length = bytes.len() as u64;
        let Some(verifier) = self.verifier.as_mut().filter(|_| length <= self.left) else {
            let reason = "the gateway gave more bytes than are copied".to_owned();
            return Some(News::Ended(Err(Failure::Broken(reason))));
        };
        verifier.update(bytes);
        self.left -= length;
        self.exchange.taken(length);
        self.hashed()
    }

    /// Tell the digest, if all bytes have been hashed.
    fn hashed(&mut self) -> Option<News> {
        if self.left > 0 {
            return None;
        }
        match self.verifier.take()?.finish(None) {
            Ok(digest) => {
                self.exchange.body_end(digest);
                None
            }
            Err(failure) => Some(News::Ended(Err(failure))),
        }
    }
}

fn outcome(result: Result<Reply, ApiError>) -> Result<Copied, Failure> {
    match result {
        Ok(Reply::Copied { etag, checksum, modified }) => Ok(Copied { etag, checksum, modified }),
        Ok(other) => Err(unexpected(&other)),
        Err(ApiError::EntityTooLarge) => Err(invalid(&format!(
            "The specified copy source is larger than the maximum allowable size for a copy \
             source: {PUT_BYTES_MAX}"
        ))),
        Err(error) => Err(error.into()),
    }
}

impl Shape {
    /// The document of the answer.
    fn document(self, copied: &Copied) -> String {
        let root = match self {
            Self::Object => "CopyObjectResult",
            Self::Part => "CopyPartResult",
        };
        let mut xml = Writer::rooted(root);
        xml.plain("LastModified", text::xml_date(copied.modified));
        xml.plain("ETag", format_args!("&quot;{}&quot;", copied.etag));
        if let Some(checksum) = &copied.checksum {
            write_checksum(&mut xml, checksum);
            if self == Self::Object {
                xml.plain("ChecksumType", digest::kind(checksum.full_object));
            }
        }
        xml.close(root);
        xml.finish()
    }
}

/// The answer's body while the copy goes on: the declaration, white space, and at last the rest of a
/// document.
#[derive(Debug)]
struct Answer {
    running: Running,
    begun: bool,
    over: bool,
}

impl http_body::Body for Answer {
    type Data = Bytes;
    type Error = StdError;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, StdError>>> {
        let this = self.get_mut();
        let frame = |bytes: Bytes| Poll::Ready(Some(Ok(Frame::data(bytes))));
        if this.over {
            return Poll::Ready(None);
        }
        if !this.begun {
            // Nothing may stand before the declaration, white space neither.
            this.begun = true;
            return frame(Bytes::from_static(xml::DECLARATION.as_bytes()));
        }
        let document = match ready!(this.running.poll(context)) {
            News::Alive => return frame(Bytes::from_static(b" ")),
            News::Ended(Ok(copied)) => this.running.shape.document(&copied),
            News::Ended(Err(Failure::Refused(refusal))) => refusal.document(),
            News::Ended(Err(Failure::Broken(reason))) => {
                this.over = true;
                return Poll::Ready(Some(Err(reason.into())));
            }
        };
        this.over = true;
        let rest = document.strip_prefix(xml::DECLARATION).unwrap_or(&document);
        frame(Bytes::copy_from_slice(rest.as_bytes()))
    }

    fn is_end_stream(&self) -> bool {
        self.over
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Option<(String, String, Option<String>)> {
        Source::parse(text).map(|it| (it.bucket, it.key, it.version))
    }

    #[test]
    fn copy_sources_are_decoded_once() {
        let plain = |bucket: &str, key: &str| Some((bucket.to_owned(), key.to_owned(), None));
        for text in ["/bucket/a/b", "bucket/a/b", "bucket%2Fa%2Fb", "%2Fbucket/a%2fb"] {
            assert_eq!(parsed(text), plain("bucket", "a/b"), "{text}");
        }
        assert_eq!(parsed("b/k%2520+%C3%BC"), plain("b", "k%20 ü"));
        assert_eq!(parsed("b/k%2B%20+"), plain("b", "k+  "));
        assert_eq!(parsed("b/k?x=1"), plain("b", "k?x=1"));
        assert_eq!(parsed("b//k/"), plain("b", "/k/"));
        assert_eq!(parsed("b/k%3FversionId=7"), plain("b", "k?versionId=7"));
        let version = Some(("b".to_owned(), "k".to_owned(), Some("null".to_owned())));
        assert_eq!(parsed("b/k?versionId=null"), version);
        for bad in ["", "/", "bucket", "/bucket", "bucket/", "//key", "b/%FF"] {
            assert_eq!(parsed(bad), None, "{bad}");
        }
    }

    #[test]
    fn ranges_have_both_ends() {
        assert_eq!(parse_range("bytes=0-0"), Some((0, 0)));
        assert_eq!(parse_range("bytes=5-99999999999999999999999"), Some((5, u64::MAX)));
        for bad in [
            "",
            "0-1",
            "bytes=5-",
            "bytes=-5",
            "bytes=3-1",
            "bytes=0-1,3-4",
            "bytes=a-b",
            "bytes= 0-1",
            "bytes=0-1-2",
            "bytes=+0-1",
        ] {
            assert_eq!(parse_range(bad), None, "{bad}");
        }
    }
}
