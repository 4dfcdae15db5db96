//! Which bytes of an object a read gives.

use crate::object::{Body, ObjectRecord};
use crate::request::{ApiError, ByteRange, GetRequest};

/// The bytes of an object that were asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    /// First byte.
    pub(super) first: u64,
    /// How many.
    pub(super) length: u64,
    /// Whether a part of the object was asked for, be it all of it.
    pub(super) partial: bool,
    /// The number of parts, when a part of a multipart object was asked for.
    pub(super) parts: Option<u16>,
}

/// The span of a request.
///
/// # Errors
/// [`ApiError::InvalidRange`] if it begins behind the end, or is a suffix of 0 bytes;
/// [`ApiError::InvalidPartNumber`] if there is no such part.
pub(super) fn span(request: &GetRequest, record: &ObjectRecord) -> Result<Span, ApiError> {
    let length = record.length;
    if let Some(number) = request.part_number {
        return part(number, record);
    }
    let invalid = Err(ApiError::InvalidRange { length });
    let (first, end) = match request.range {
        None => return Ok(Span { first: 0, length, partial: false, parts: None }),
        Some(ByteRange::From { first, last }) => {
            if first >= length || last.is_some_and(|last| last < first) {
                return invalid;
            }
            (first, last.map_or(length, |last| length.min(last.saturating_add(1))))
        }
        Some(ByteRange::Suffix { length: suffix }) => {
            if suffix == 0 || length == 0 {
                return invalid;
            }
            (length.saturating_sub(suffix), length)
        }
    };
    Ok(Span { first, length: end - first, partial: true, parts: None })
}

/// An object of one PUT is its own part 1.
fn part(number: u16, record: &ObjectRecord) -> Result<Span, ApiError> {
    let parts = (record.etag.parts > 0).then_some(record.etag.parts);
    let whole = Span { first: 0, length: record.length, partial: record.length > 0, parts };
    let Body::Blobs(refs) = &record.body else {
        return if number == 1 { Ok(whole) } else { Err(ApiError::InvalidPartNumber) };
    };
    let mut first = 0_u64;
    for part in refs {
        if part.number == number {
            return Ok(Span { first, length: part.length, partial: part.length > 0, parts });
        }
        first = first.saturating_add(part.length);
    }
    Err(ApiError::InvalidPartNumber)
}
