//! Multipart uploads: create, upload a part, complete, abort, list parts.

use http::{HeaderMap, StatusCode};
use trine_core::ids::Order;
use trine_core::object::{ChecksumAlgorithm, PARTS_MAX, PartRecord};
use trine_core::request::{ListPartsRequest, PartRequest, Reply, Request};

use super::completion::{self, ObjectClaims};
use super::object_attributes::write_checksum;
use super::{
    Call, Response, attributes, document, empty, objects, read_document, set, unexpected,
    write_owner,
};
use crate::digest::{self, Claims};
use crate::error::{Failure, invalid_argument, refuse};
use crate::text;
use crate::xml::Writer;

/// Parts of one page of ListParts.
const LIST_PARTS_MAX: u32 = 1000;

/// CreateMultipartUpload.
pub(super) async fn create(call: &Call) -> Result<Response, Failure> {
    attributes::check_built(&call.headers)?;
    let checksum = checksum_choice(&call.headers)?;
    let request = Request::CreateUpload {
        path: call.object()?,
        owner: call.key.owner.clone(),
        attributes: attributes::attributes(&call.headers)?,
        tags: attributes::tags(&call.headers)?,
        checksum,
    };
    let upload = match call.ask(request).await? {
        Reply::Upload(upload) => upload,
        other => return Err(unexpected(&other)),
    };
    let mut xml = Writer::rooted("InitiateMultipartUploadResult");
    xml.element("Bucket", &call.address.bucket);
    xml.echo("Key", &call.address.key);
    xml.plain("UploadId", text::upload_id(upload));
    xml.close("InitiateMultipartUploadResult");
    let mut response = document(xml);
    if let Some((algorithm, full_object)) = checksum {
        let name = digest::name(algorithm).to_uppercase();
        set(&mut response, "x-amz-checksum-algorithm", &name);
        set(&mut response, "x-amz-checksum-type", digest::kind(full_object));
    }
    Ok(response)
}

/// Which checksum parts carry. SHA sums are composite only, CRC64NVME is of the full object only.
fn checksum_choice(headers: &HeaderMap) -> Result<Option<(ChecksumAlgorithm, bool)>, Failure> {
    let Some(value) = headers.get("x-amz-checksum-algorithm") else { return Ok(None) };
    let invalid = |message: &str| refuse(StatusCode::BAD_REQUEST, "InvalidRequest", message);
    let algorithm = value.to_str().ok().and_then(digest::algorithm);
    let algorithm =
        algorithm.ok_or_else(|| invalid("Checksum algorithm provided is unsupported."))?;
    let sum_only = matches!(algorithm, ChecksumAlgorithm::Sha1 | ChecksumAlgorithm::Sha256);
    let full_only = algorithm == ChecksumAlgorithm::Crc64Nvme;
    let full_object = match headers.get("x-amz-checksum-type").map(http::HeaderValue::as_bytes) {
        None => full_only,
        Some(b"FULL_OBJECT") if !sum_only => true,
        Some(b"COMPOSITE") if !full_only => false,
        Some(_) => {
            let message = "The checksum type cannot be used with the checksum algorithm.";
            return Err(invalid(message));
        }
    };
    Ok(Some((algorithm, full_object)))
}

/// The upload that a request names.
pub(super) fn upload_of(call: &Call) -> Result<Order, Failure> {
    let id = call.query.get("uploadId").and_then(text::parse_upload_id);
    id.ok_or_else(|| trine_core::request::ApiError::NoSuchUpload.into())
}

/// The part that a request names.
pub(super) fn part_number(call: &Call) -> Result<u16, Failure> {
    let number = call.query.get("partNumber").and_then(|number| number.parse().ok());
    number.filter(|number| (1..=PARTS_MAX).contains(number)).ok_or_else(|| {
        invalid_argument("Part number must be an integer between 1 and 10000, inclusive")
    })
}

/// UploadPart.
pub(super) async fn upload_part(call: &mut Call) -> Result<Response, Failure> {
    attributes::check_built(&call.headers)?;
    let number = part_number(call)?;
    let length = objects::upload_length(call)?;
    let request = PartRequest {
        path: call.object()?,
        upload: upload_of(call)?,
        number,
        length: Some(length),
    };
    objects::store(call, Request::UploadPart(request), length).await
}

/// CompleteMultipartUpload.
pub(super) async fn complete(call: &mut Call) -> Result<Response, Failure> {
    let path = call.object()?;
    let upload = upload_of(call)?;
    let claims = ObjectClaims::of(&call.headers)?;
    // Only Content-MD5 speaks of this document; checksum headers would speak of the object.
    let body = call.document(Claims::of_document(&call.headers)?).await?;
    let root = read_document(&body, "CompleteMultipartUpload")?;
    let listed = completion::listed_parts(&root)?;
    completion::check(call, &path, upload, &listed, &claims).await?;
    let parts = listed.iter().map(|part| (part.number, part.etag)).collect();
    let conditions = attributes::write_conditions(call);
    let reply = call.ask(Request::CompleteUpload { path, upload, parts, conditions }).await?;
    let Reply::Put { etag, checksum } = reply else { return Err(unexpected(&reply)) };
    let mut xml = Writer::rooted("CompleteMultipartUploadResult");
    xml.element("Location", &location(call));
    xml.element("Bucket", &call.address.bucket);
    xml.echo("Key", &call.address.key);
    xml.plain("ETag", format_args!("&quot;{etag}&quot;"));
    if let Some(checksum) = &checksum {
        let name = digest::name(checksum.algorithm).to_uppercase();
        xml.plain(&format!("Checksum{name}"), digest::shown(checksum, etag.parts));
        xml.plain("ChecksumType", digest::kind(checksum.full_object));
    }
    xml.close("CompleteMultipartUploadResult");
    Ok(document(xml))
}

/// The object's address, by the name that the client knows us by. Behind a proxy that ends TLS, the
/// scheme is what the proxy says; it is shown and decides nothing.
fn location(call: &Call) -> String {
    let host = call.header("host").unwrap_or_default();
    let proxied = call.header("x-forwarded-proto");
    let https = call.config.https || proxied.is_some_and(|it| it.eq_ignore_ascii_case("https"));
    let scheme = if https { "https" } else { "http" };
    let key = text::url_encode(&call.address.key);
    if call.address.bucket_in_host {
        return format!("{scheme}://{host}/{key}");
    }
    format!("{scheme}://{host}/{}/{key}", call.address.bucket)
}

/// AbortMultipartUpload.
pub(super) async fn abort(call: &Call) -> Result<Response, Failure> {
    let request = Request::AbortUpload { path: call.object()?, upload: upload_of(call)? };
    match call.ask(request).await? {
        Reply::Done => Ok(empty(StatusCode::NO_CONTENT)),
        other => Err(unexpected(&other)),
    }
}

/// ListParts.
pub(super) async fn list_parts(call: &Call) -> Result<Response, Failure> {
    let limit = call.query.page_limit("max-parts", LIST_PARTS_MAX)?;
    let marker = call.query.page_limit("part-number-marker", u32::from(PARTS_MAX))?;
    let marker = if call.query.has("part-number-marker") { marker } else { 0 };
    let after = u16::try_from(marker).unwrap_or(PARTS_MAX);
    let request = ListPartsRequest {
        path: call.object()?,
        upload: upload_of(call)?,
        after,
        // A page of nothing still has to say whether the upload exists.
        parts_max: limit.max(1),
    };
    let (upload, mut page) = match call.ask(Request::ListParts(request)).await? {
        Reply::Parts { upload, page } => (upload, page),
        other => return Err(unexpected(&other)),
    };
    if limit == 0 {
        page.entries.clear();
        page.truncated = false;
    }
    let mut xml = Writer::rooted("ListPartsResult");
    xml.element("Bucket", &call.address.bucket);
    xml.echo("Key", &call.address.key);
    xml.plain("UploadId", text::upload_id(upload.order));
    write_owner(&mut xml, "Initiator", &upload.owner);
    write_owner(&mut xml, "Owner", &upload.owner);
    xml.plain("StorageClass", "STANDARD");
    xml.plain("PartNumberMarker", after);
    xml.plain("NextPartNumberMarker", page.entries.last().map_or(0, |part| part.number));
    xml.plain("MaxParts", limit);
    xml.plain("IsTruncated", page.truncated);
    if let Some((algorithm, full_object)) = upload.checksum {
        xml.plain("ChecksumAlgorithm", digest::name(algorithm).to_uppercase());
        xml.plain("ChecksumType", digest::kind(full_object));
    }
    for part in &page.entries {
        write_part(&mut xml, part);
    }
    xml.close("ListPartsResult");
    call.answer(xml)
}

fn write_part(xml: &mut Writer, part: &PartRecord) {
    xml.open("Part");
    xml.plain("PartNumber", part.number);
    xml.plain("LastModified", text::xml_date(part.modified));
    xml.plain("ETag", format_args!("&quot;{}&quot;", part.etag));
    xml.plain("Size", part.length);
    if let Some(checksum) = &part.checksum {
        write_checksum(xml, checksum);
    }
    xml.close("Part");
}
