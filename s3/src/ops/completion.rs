//! What a CompleteMultipartUpload claims, held against the parts that are there.
//!
//! The gateway joins parts by number and entity tag. Clients may claim more: a checksum per part, the
//! object's size, its checksum. These are judged here, before the commit, from what ListParts says.
//! A part that is replaced in between has another entity tag, or the same bytes, so that the verdict
//! still holds when the gateway commits.
//!
//! Checksums of whole objects are computed from those of the parts: for `COMPOSITE` the checksum of
//! the parts' checksums, for `FULL_OBJECT` (CRCs only) their combination. Without checksums of the
//! parts there is nothing to judge from, and the answer is 501.
//!
//! Source: Amazon S3, "CompleteMultipartUpload" and "Checking object integrity".

use http::{HeaderMap, StatusCode};
use trine_core::checksum;
use trine_core::ids::Order;
use trine_core::object::{ChecksumAlgorithm, ETag, PARTS_MAX, PartRecord, UploadRecord};
use trine_core::request::{ApiError, ListPartsRequest, ObjectPath, Reply, Request};

use super::{Call, unexpected};
use crate::digest;
use crate::error::{Failure, invalid_argument, malformed_xml, not_implemented, refuse};
use crate::transfer;
use crate::xml::Element;

/// Parts that are asked for at a time.
const PAGE_PARTS_MAX: u32 = 1000;

/// A part as the request's document lists it.
#[derive(Debug)]
pub(super) struct ListedPart {
    pub(super) number: u16,
    pub(super) etag: ETag,
    /// Claimed checksums.
    checksums: Vec<(ChecksumAlgorithm, Vec<u8>)>,
}

/// The parts in the document.
pub(super) fn listed_parts(root: &Element) -> Result<Vec<ListedPart>, Failure> {
    let listed: Vec<_> = root.children.iter().filter(|child| child.name == "Part").collect();
    if listed.is_empty() || listed.len() > usize::from(PARTS_MAX) {
        return Err(malformed_xml());
    }
    listed.into_iter().map(listed_part).collect()
}

fn listed_part(part: &Element) -> Result<ListedPart, Failure> {
    let number = part.child_text("PartNumber").and_then(|text| text.trim().parse().ok());
    let number: u16 = number.ok_or_else(malformed_xml)?;
    let tag = part.child_text("ETag").ok_or_else(malformed_xml)?;
    // A tag that we cannot have given out is the tag of no part, nor is such a checksum that of one.
    let etag = ETag::parse(tag.trim()).ok_or(ApiError::InvalidPart { number })?;
    let mut checksums = Vec::new();
    for (algorithm, name) in digest::ALGORITHMS {
        let element = format!("Checksum{}", name.to_uppercase());
        if let Some(text) = part.child_text(&element) {
            let value = digest::parse_value(algorithm, text.trim());
            checksums.push((algorithm, value.ok_or(ApiError::InvalidPart { number })?));
        }
    }
    Ok(ListedPart { number, etag, checksums })
}

/// What headers claim of the object to be.
#[derive(Debug, Default)]
pub(super) struct ObjectClaims {
    size_bytes: Option<u64>,
    checksum: Option<ObjectChecksumClaim>,
    /// `x-amz-checksum-type`: whether checksums are of all bytes.
    full_object: Option<bool>,
}

#[derive(Debug)]
struct ObjectChecksumClaim {
    algorithm: ChecksumAlgorithm,
    value: Vec<u8>,
    /// The `N` of `VALUE-N`, which stands behind composite ones.
    parts: Option<usize>,
}

impl ObjectClaims {
    /// Read the headers.
    pub(super) fn of(headers: &HeaderMap) -> Result<Self, Failure> {
        let mut claims = Self::default();
        let text = |name: &str| headers.get(name).map(|value| value.to_str().unwrap_or_default());
        if let Some(size) = text("x-amz-mp-object-size") {
            let message = "x-amz-mp-object-size is not a number.";
            claims.size_bytes = Some(size.parse().map_err(|_| invalid_argument(message))?);
        }
        claims.full_object = match text("x-amz-checksum-type") {
            None => None,
            Some("FULL_OBJECT") => Some(true),
            Some("COMPOSITE") => Some(false),
            Some(_) => return Err(invalid("Value for x-amz-checksum-type header is invalid.")),
        };
        for (algorithm, name) in digest::ALGORITHMS {
            if let Some(text) = text(&format!("x-amz-checksum-{name}")) {
                if claims.checksum.is_some() {
                    return Err(invalid("Expecting a single x-amz-checksum- header."));
                }
                claims.checksum = Some(ObjectChecksumClaim::parse(algorithm, text)?);
            }
        }
        Ok(claims)
    }

    fn is_empty(&self) -> bool {
        self.size_bytes.is_none() && self.checksum.is_none() && self.full_object.is_none()
    }

    /// Judge the claims, given the parts in the object's order.
    fn check(&self, upload: &UploadRecord, parts: &[PartRecord]) -> Result<(), Failure> {
        let size_bytes: u64 = parts.iter().map(|part| part.length).sum();
        if self.size_bytes.is_some_and(|claimed| claimed != size_bytes) {
            let message = format!(
                "The x-amz-mp-object-size that you specified is not the size of the parts, \
                 {size_bytes}."
            );
            return Err(invalid(message));
        }
        if let (Some(claimed), Some((_, full_object))) = (self.full_object, upload.checksum)
            && claimed != full_object
        {
            return Err(invalid("The checksum type is not that of the upload."));
        }
        match &self.checksum {
            Some(checksum) => self.check_checksum(checksum, upload, parts),
            None => Ok(()),
        }
    }

    fn check_checksum(
        &self,
        claim: &ObjectChecksumClaim,
        upload: &UploadRecord,
        parts: &[PartRecord],
    ) -> Result<(), Failure> {
        let algorithm = claim.algorithm;
        let chosen = upload.checksum.filter(|(chosen, _)| *chosen == algorithm);
        let full_object = self
            .full_object
            .or(chosen.map(|(_, full_object)| full_object))
            .unwrap_or(algorithm == ChecksumAlgorithm::Crc64Nvme);
        let values: Option<Vec<(u64, &[u8])>> =
            parts.iter().map(|part| Some((part.length, checksum_of(part, algorithm)?))).collect();
        let Some(value) = values.and_then(|it| checksum::combine(algorithm, full_object, &it))
        else {
            let name = digest::name(algorithm);
            let what = format!("x-amz-checksum-{name} of an object whose parts do not give it");
            return Err(not_implemented(&what));
        };
        let counted = claim.parts.is_none_or(|count| !full_object && count == parts.len());
        if counted && claim.value == value {
            return Ok(());
        }
        let name = digest::name(algorithm).to_uppercase();
        let message = format!("The {name} you specified did not match the calculated checksum.");
        Err(refuse(StatusCode::BAD_REQUEST, "BadDigest", message))
    }
}

impl ObjectChecksumClaim {
    fn parse(algorithm: ChecksumAlgorithm, text: &str) -> Result<Self, Failure> {
        let (value, count) = match text.split_once('-') {
            Some((value, count)) => (value, Some(count.parse::<usize>().ok())),
            None => (text, None),
        };
        match (digest::parse_value(algorithm, value), count) {
            (Some(value), None) => Ok(Self { algorithm, value, parts: None }),
            (Some(value), Some(Some(count))) => Ok(Self { algorithm, value, parts: Some(count) }),
            _ => {
                let name = digest::name(algorithm);
                Err(invalid(format!("Value for x-amz-checksum-{name} header is invalid.")))
            }
        }
    }
}

fn invalid(message: impl Into<String>) -> Failure {
    refuse(StatusCode::BAD_REQUEST, "InvalidRequest", message)
}

fn checksum_of(part: &PartRecord, algorithm: ChecksumAlgorithm) -> Option<&[u8]> {
    part.checksum.as_ref().filter(|it| it.algorithm == algorithm).map(|it| it.value.as_ref())
}

/// Judge everything that is claimed beyond numbers and entity tags. Costs nothing if that is nothing.
///
/// An upload that is not there passes: the gateway knows whether it was completed before, and says
/// the same again.
pub(super) async fn check(
    call: &Call,
    path: &ObjectPath,
    upload: Order,
    listed: &[ListedPart],
    claims: &ObjectClaims,
) -> Result<(), Failure> {
    if claims.is_empty() && listed.iter().all(|part| part.checksums.is_empty()) {
        return Ok(());
    }
    if !listed.is_sorted_by(|a, b| a.number < b.number) {
        return Err(ApiError::InvalidPartOrder.into());
    }
    let Some((upload, there)) = parts_of(call, path, upload).await? else { return Ok(()) };
    let mut parts = Vec::with_capacity(listed.len());
    for claimed in listed {
        let found = there.binary_search_by_key(&claimed.number, |part| part.number).ok();
        let part = found.map(|at| &there[at]).filter(|part| part.etag == claimed.etag);
        let part = part.filter(|part| {
            let same = |(algorithm, value): &(ChecksumAlgorithm, Vec<u8>)| {
                checksum_of(part, *algorithm) == Some(value.as_slice())
            };
            claimed.checksums.iter().all(same)
        });
        parts.push(part.ok_or(ApiError::InvalidPart { number: claimed.number })?.clone());
    }
    claims.check(&upload, &parts)
}

/// The upload and all its parts, by number; `None` if there is no such upload.
async fn parts_of(
    call: &Call,
    path: &ObjectPath,
    upload: Order,
) -> Result<Option<(UploadRecord, Vec<PartRecord>)>, Failure> {
    let mut parts: Vec<PartRecord> = Vec::new();
    loop {
        let after = parts.last().map_or(0, |part| part.number);
        let path = path.clone();
        let request = ListPartsRequest { path, upload, after, parts_max: PAGE_PARTS_MAX };
        let mut exchange = transfer::open(&call.front, Request::ListParts(request))?;
        let answer = transfer::answer_of(&mut exchange).await?;
        exchange.ended();
        match answer {
            Err(ApiError::NoSuchUpload) => return Ok(None),
            Err(error) => return Err(error.into()),
            Ok(Reply::Parts { upload, page }) => {
                let progress = page.entries.first().is_some_and(|part| part.number > after);
                parts.extend(page.entries);
                if !page.truncated || !progress {
                    return Ok(Some((*upload, parts)));
                }
            }
            Ok(other) => return Err(unexpected(&other)),
        }
    }
}
