//! GetObjectAttributes: what is known of an object, without its bytes.
//!
//! Parts are listed if they have checksums, as on Amazon; their number is always told.
//!
//! Source: Amazon S3 API Reference, "GetObjectAttributes".

use http::StatusCode;
use trine_core::object::{Body, ObjectChecksum, ObjectRecord, PARTS_MAX, PartRef};
use trine_core::request::{GetRequest, Reply, Request};

use super::{Call, Response, attributes, document, set, unexpected};
use crate::digest;
use crate::error::{Failure, invalid_argument, refuse};
use crate::text;
use crate::xml::Writer;

/// Parts of one page.
const PARTS_OF_PAGE_MAX: u32 = 1000;

/// What can be asked for.
const NAMES: [&str; 5] = ["Checksum", "ETag", "ObjectParts", "ObjectSize", "StorageClass"];

/// The record of the object that the request names; its conditions must hold.
pub(super) async fn look(call: &Call) -> Result<ObjectRecord, Failure> {
    let conditions = attributes::read_conditions(call);
    let path = call.object()?;
    let request = GetRequest { path, range: None, part_number: None, conditions };
    match call.ask(Request::Head(request)).await? {
        Reply::Object { record, .. } => Ok(*record),
        other => Err(unexpected(&other)),
    }
}

/// GetObjectAttributes.
pub(super) async fn tell(call: &Call) -> Result<Response, Failure> {
    attributes::check_built(&call.headers)?;
    let wanted = wanted(call)?;
    let wants = |name: &str| wanted.iter().any(|other| other == name);
    let limit = number(call, "x-amz-max-parts")?.unwrap_or(PARTS_OF_PAGE_MAX);
    let after = number(call, "x-amz-part-number-marker")?.unwrap_or(0);
    let record = look(call).await?;
    let mut xml = Writer::rooted("GetObjectAttributesResponse");
    if wants("ETag") {
        xml.plain("ETag", record.etag);
    }
    if let Some(checksum) = record.checksum.as_ref().filter(|_| wants("Checksum")) {
        xml.open("Checksum");
        write_checksum(&mut xml, checksum);
        xml.plain("ChecksumType", digest::kind(checksum.full_object));
        xml.close("Checksum");
    }
    if wants("ObjectParts") && record.etag.parts > 0 {
        write_parts(&mut xml, &record, limit.min(PARTS_OF_PAGE_MAX), after);
    }
    if wants("StorageClass") {
        xml.plain("StorageClass", "STANDARD");
    }
    if wants("ObjectSize") {
        xml.plain("ObjectSize", record.length);
    }
    xml.close("GetObjectAttributesResponse");
    let mut response = document(xml);
    set(&mut response, "last-modified", &text::http_date(record.modified));
    Ok(response)
}

fn wanted(call: &Call) -> Result<Vec<String>, Failure> {
    let values = call.headers.get_all("x-amz-object-attributes").iter();
    let names: Vec<String> = values
        .flat_map(|value| value.to_str().unwrap_or_default().split(','))
        .map(|name| name.trim().to_owned())
        .filter(|name| !name.is_empty())
        .collect();
    if names.is_empty() {
        let message = "The x-amz-object-attributes header specifying the attributes to be \
                       retrieved is either missing or empty";
        return Err(refuse(StatusCode::BAD_REQUEST, "InvalidRequest", message));
    }
    match names.iter().find(|name| !NAMES.contains(&name.as_str())) {
        Some(name) => {
            let failure = invalid_argument("Invalid attribute name specified.");
            Err(failure.with("ArgumentName", "x-amz-object-attributes").with("ArgumentValue", name))
        }
        None => Ok(names),
    }
}

fn number(call: &Call, name: &str) -> Result<Option<u32>, Failure> {
    let Some(value) = call.headers.get(name) else { return Ok(None) };
    let number = value.to_str().ok().and_then(|value| value.parse().ok());
    let message = || format!("{name} is not an integer between 0 and 2147483647");
    let number = number.filter(|number| i32::try_from(*number).is_ok());
    number.map(Some).ok_or_else(|| invalid_argument(message()))
}

fn write_parts(xml: &mut Writer, record: &ObjectRecord, limit: u32, after: u32) {
    xml.open("ObjectParts");
    xml.plain("PartsCount", record.etag.parts);
    let parts: &[PartRef] = match &record.body {
        Body::Blobs(parts) => parts,
        Body::Inline => &[],
    };
    if parts.iter().any(|part| part.checksum.is_some()) {
        let after = u16::try_from(after).unwrap_or(PARTS_MAX);
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let mut rest = parts.iter().filter(|part| part.number > after);
        let page: Vec<&PartRef> = rest.by_ref().take(limit).collect();
        xml.plain("PartNumberMarker", after);
        xml.plain("NextPartNumberMarker", page.last().map_or(0, |part| part.number));
        xml.plain("MaxParts", limit);
        xml.plain("IsTruncated", rest.next().is_some());
        for part in page {
            xml.open("Part");
            xml.plain("PartNumber", part.number);
            xml.plain("Size", part.length);
            if let Some(checksum) = &part.checksum {
                write_checksum(xml, checksum);
            }
            xml.close("Part");
        }
    }
    xml.close("ObjectParts");
}

/// An element with a checksum, as documents have it.
pub(super) fn write_checksum(xml: &mut Writer, checksum: &ObjectChecksum) {
    let name = digest::name(checksum.algorithm).to_uppercase();
    xml.plain(&format!("Checksum{name}"), text::base64(&checksum.value));
}
