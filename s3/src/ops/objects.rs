//! Objects: put, get, look, delete, and delete many.

use http::StatusCode;
use s3s::Body;
use trine_core::object::{
    Body as Stored, DELETE_KEYS_MAX, ETag, ObjectChecksum, ObjectKey, ObjectRecord, PARTS_MAX,
    PUT_BYTES_MAX,
};
use trine_core::request::{ApiError, GetRequest, PutRequest, Reply, Request};

use super::{
    Call, Response, attributes, document, document_in, empty, object_attributes, read_document,
    set, unexpected,
};
use crate::digest::{self, Claims, Verifier};
use crate::error::{Failure, Refusal, invalid_argument, not_implemented, refuse};
use crate::front::Exchange;
use crate::text;
use crate::transfer::{self, Incoming, ObjectBody};
use crate::xml::{self, Writer};

/// PutObject.
pub(super) async fn put(call: &mut Call) -> Result<Response, Failure> {
    attributes::check_built(&call.headers)?;
    let request = PutRequest {
        path: call.object()?,
        owner: call.key.owner.clone(),
        attributes: attributes::attributes(&call.headers)?,
        tags: attributes::tags(&call.headers)?,
        conditions: attributes::write_conditions(call),
        length: Some(upload_length(call)?),
    };
    let length = upload_length(call)?;
    store(call, Request::Put(request), length).await
}

/// The announced length, which must be within a single upload's bound.
pub(super) fn upload_length(call: &Call) -> Result<u64, Failure> {
    let length = attributes::body_length(&call.headers)?;
    if length <= PUT_BYTES_MAX {
        return Ok(length);
    }
    let message = "Your proposed upload exceeds the maximum allowed size";
    Err(refuse(StatusCode::BAD_REQUEST, "EntityTooLarge", message))
}

/// Send a body, PutObject's or UploadPart's, and answer with its tag.
pub(super) async fn store(
    call: &mut Call,
    request: Request,
    length: u64,
) -> Result<Response, Failure> {
    let verifier = Verifier::new(Claims::of(&call.headers)?);
    let mut exchange = transfer::open(&call.front, request)?;
    let incoming = Incoming {
        body: std::mem::take(&mut call.body),
        length,
        verifier,
        trailers: call.trailers.take(),
        shared: &call.shared,
    };
    let reply = transfer::send(&mut exchange, incoming).await?;
    exchange.ended();
    match reply {
        Reply::Put { etag, checksum } => {
            let mut response = empty(StatusCode::OK);
            set(&mut response, "etag", &format!("\"{etag}\""));
            if let Some(checksum) = &checksum {
                set_checksum(&mut response, checksum, etag.parts);
            }
            Ok(response)
        }
        other => Err(unexpected(&other)),
    }
}

/// Show a checksum in headers; composite ones with the number of parts.
fn set_checksum(response: &mut Response, checksum: &ObjectChecksum, parts: u16) {
    let name = format!("x-amz-checksum-{}", digest::name(checksum.algorithm));
    set(response, &name, &digest::shown(checksum, parts));
    set(response, "x-amz-checksum-type", digest::kind(checksum.full_object));
}

fn get_request(call: &Call) -> Result<GetRequest, Failure> {
    attributes::check_built(&call.headers)?;
    let part_number = match call.query.get("partNumber") {
        None => None,
        Some(number) => {
            let number = number.parse().ok().filter(|number| (1..=PARTS_MAX).contains(number));
            let message = "Part number must be an integer between 1 and 10000, inclusive";
            Some(number.ok_or_else(|| invalid_argument(message))?)
        }
    };
    let range = call.header("range").and_then(text::parse_range);
    if part_number.is_some() && range.is_some() {
        let message = "Cannot specify both Range header and partNumber query parameter";
        return Err(refuse(StatusCode::BAD_REQUEST, "InvalidRequest", message));
    }
    Ok(GetRequest {
        path: call.object()?,
        range,
        part_number,
        conditions: attributes::read_conditions(call),
    })
}

/// GetObject.
pub(super) async fn get(call: &Call) -> Result<Response, Failure> {
    let (exchange, record, span) = open(call, Request::Get).await?;
    let mut response = object_response(call, &record, &span);
    *response.body_mut() = Body::http_body_unsync(ObjectBody::new(exchange, span.length));
    Ok(response)
}

/// HeadObject.
pub(super) async fn head(call: &Call) -> Result<Response, Failure> {
    let (mut exchange, record, span) = open(call, Request::Head).await?;
    exchange.ended();
    Ok(object_response(call, &record, &span))
}

/// Ask for the object. A range that `If-Range` ties to another version is dropped: bytes of this one
/// would be joined to bytes of that (RFC 9110, section 13.1.5).
async fn open(
    call: &Call,
    ask: fn(GetRequest) -> Request,
) -> Result<(Exchange, Box<ObjectRecord>, Span), Failure> {
    let mut request = get_request(call)?;
    let condition = call.header("if-range").filter(|_| request.range.is_some());
    loop {
        let mut exchange = transfer::open(&call.front, ask(request.clone()))?;
        let reply = match transfer::answer_of(&mut exchange).await? {
            Ok(reply) => reply,
            Err(ApiError::InvalidRange { .. })
                if request.range.is_some()
                    && let Some(condition) = condition
                    && !is_version(&object_attributes::look(call).await?, condition) =>
            {
                request.range = None;
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        let Reply::Object { record, first, length, partial, parts } = reply else {
            return Err(unexpected(&reply));
        };
        if request.range.is_some() && condition.is_some_and(|it| !is_version(&record, it)) {
            request.range = None;
            continue;
        }
        return Ok((exchange, record, Span { first, length, partial, parts }));
    }
}

/// Whether an `If-Range` names this version: by its tag, not a weak one, or by its exact date.
fn is_version(record: &ObjectRecord, condition: &str) -> bool {
    let condition = condition.trim();
    ETag::parse(condition) == Some(record.etag) || condition == text::http_date(record.modified)
}

/// What of the object the answer is about.
struct Span {
    first: u64,
    length: u64,
    partial: bool,
    parts: Option<u16>,
}

fn object_response(call: &Call, record: &ObjectRecord, span: &Span) -> Response {
    let mut response =
        empty(if span.partial { StatusCode::PARTIAL_CONTENT } else { StatusCode::OK });
    let answer = &mut response;
    set(answer, "content-length", &span.length.to_string());
    set(answer, "etag", &format!("\"{}\"", record.etag));
    set(answer, "last-modified", &text::http_date(record.modified));
    set(answer, "accept-ranges", "bytes");
    if span.partial && span.length > 0 {
        let last = span.first + (span.length - 1);
        set(answer, "content-range", &format!("bytes {}-{last}/{}", span.first, record.length));
    }
    let attributes = &record.attributes;
    let content_type = attributes.content_type.as_deref().unwrap_or("binary/octet-stream");
    for (header, parameter, value) in [
        ("content-type", "response-content-type", Some(content_type)),
        ("content-encoding", "response-content-encoding", attributes.content_encoding.as_deref()),
        ("content-language", "response-content-language", attributes.content_language.as_deref()),
        (
            "content-disposition",
            "response-content-disposition",
            attributes.content_disposition.as_deref(),
        ),
        ("cache-control", "response-cache-control", attributes.cache_control.as_deref()),
        ("expires", "response-expires", attributes.expires.as_deref()),
    ] {
        if let Some(value) = call.query.get(parameter).or(value) {
            set(answer, header, value);
        }
    }
    if let Some(target) = &attributes.website_redirect {
        set(answer, "x-amz-website-redirect-location", target);
    }
    for (name, value) in &attributes.user_metadata {
        set(answer, &format!("x-amz-meta-{name}"), value);
    }
    if !record.tags.is_empty() {
        set(answer, "x-amz-tagging-count", &record.tags.len().to_string());
    }
    if let Some(parts) = span.parts {
        set(answer, "x-amz-mp-parts-count", &parts.to_string());
    }
    if call.header("x-amz-checksum-mode").is_some_and(|mode| mode == "ENABLED")
        && let Some(checksum) = checksum_of_span(call, record, span)
    {
        set_checksum(answer, checksum, record.etag.parts);
    }
    response
}

/// The checksum of what is answered. That of the whole says nothing about a range of it, but parts of an
/// upload have their own.
fn checksum_of_span<'a>(
    call: &Call,
    record: &'a ObjectRecord,
    span: &Span,
) -> Option<&'a ObjectChecksum> {
    let number: Option<u16> = call.query.get("partNumber").and_then(|number| number.parse().ok());
    if let (Some(number), true, Stored::Blobs(parts)) =
        (number, record.etag.parts > 0, &record.body)
    {
        return parts.iter().find(|part| part.number == number)?.checksum.as_ref();
    }
    let whole = !span.partial || span.length == record.length;
    record.checksum.as_ref().filter(|_| whole)
}

/// DeleteObject.
pub(super) async fn delete(call: &Call) -> Result<Response, Failure> {
    attributes::check_built(&call.headers)?;
    let conditions = attributes::write_conditions(call);
    match call.ask(Request::Delete { path: call.object()?, conditions }).await? {
        Reply::Done => Ok(empty(StatusCode::NO_CONTENT)),
        other => Err(unexpected(&other)),
    }
}

/// DeleteObjects.
pub(super) async fn delete_many(call: &mut Call) -> Result<Response, Failure> {
    let bucket = call.bucket()?;
    let claims = Claims::of(&call.headers)?;
    let body = call.document(claims).await?;
    let root = read_document(&body, "Delete")?;
    let quiet = root.child_text("Quiet").is_some_and(|text| text.trim() == "true");
    let objects: Vec<_> = root.children.iter().filter(|child| child.name == "Object").collect();
    if objects.is_empty() || objects.len() > DELETE_KEYS_MAX {
        let message = "The XML you provided was not well-formed or did not validate against our \
                       published schema";
        return Err(refuse(StatusCode::BAD_REQUEST, "MalformedXML", message));
    }
    let mut keys = Vec::new();
    let mut checked = Vec::new();
    for object in &objects {
        if ["ETag", "LastModifiedTime", "Size"].iter().any(|name| object.child_text(name).is_some())
        {
            return Err(not_implemented("conditions of a DeleteObjects entry"));
        }
        let name = object.child_text("Key").unwrap_or_default();
        let version = object.child_text("VersionId").unwrap_or("null");
        let key = match (ObjectKey::parse(name), version) {
            (Ok(key), "" | "null") => Ok(key),
            (Ok(_), _) => Err(("NoSuchVersion", "The specified version does not exist.")),
            (Err(_), _) => Err(("KeyTooLongError", "Your key is empty or too long.")),
        };
        keys.extend(key.clone().ok());
        checked.push((name, key.err()));
    }
    let results = match call.ask(Request::DeleteMany { bucket, keys }).await? {
        Reply::Deleted(results) => results,
        other => return Err(unexpected(&other)),
    };
    let mut results = results.into_iter();
    let mut xml = Writer::rooted("DeleteResult");
    for (name, wrong) in checked {
        if let Some((code, message)) = wrong {
            write_error(&mut xml, name, code, message);
            continue;
        }
        match results.next().map(|result| result.map_err(Failure::from)) {
            // It is deleted; to say so would make the document unreadable, and that of the others.
            Some(Ok(())) if quiet || !xml::can_hold(name) => {}
            Some(Ok(())) => {
                xml.open("Deleted");
                xml.element("Key", name);
                xml.close("Deleted");
            }
            Some(Err(Failure::Refused(refusal))) => {
                let Refusal { code, message, .. } = *refusal;
                write_error(&mut xml, name, code, &message);
            }
            Some(Err(Failure::Broken(_))) | None => {
                write_error(&mut xml, name, "InternalError", "No result is known for this key.");
            }
        }
    }
    xml.close("DeleteResult");
    // It took effect, and must be told: the room of the request is that of the answer.
    Ok(match call.room.take() {
        Some(permit) => document_in(xml, permit),
        None => document(xml),
    })
}

fn write_error(xml: &mut Writer, key: &str, code: &str, message: &str) {
    xml.open("Error");
    xml.element("Key", key);
    xml.element("Code", code);
    xml.element("Message", message);
    xml.close("Error");
}
