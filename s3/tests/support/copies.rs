//! Copies of the gateway in memory: hashed by the edge unless their digest is known.

use bytes::Bytes;
use tokio::sync::mpsc;
use trine_core::ids::RequestId;
use trine_core::object::{ChecksumAlgorithm, ETag, ObjectRecord, PartRecord};
use trine_core::request::{
    ApiError, BodyDigest, CopyHash, CopyPurpose, CopyRequest, Copying, GetRequest, PutRequest,
    Reply, Request,
};
use trine_s3::front::FrontReply;

use super::{MemoryGateway, Open, Stored, record};

/// What is given out before the edge has hashed it.
const PIECE_BYTES: usize = 50_000;

/// A copy whose bytes are with the edge.
pub struct Copy {
    request: CopyRequest,
    source: ObjectRecord,
    bytes: Bytes,
    rest: Bytes,
    replies: mpsc::UnboundedSender<FrontReply>,
}

impl Copy {
    /// The edge has hashed what it had.
    pub(super) fn more(&mut self, hashed: u64) {
        assert!(hashed <= PIECE_BYTES as u64, "no more than was given");
        let piece = self.rest.split_to(self.rest.len().min(PIECE_BYTES));
        if !piece.is_empty() {
            let _ = self.replies.send(FrontReply::Body(piece));
        }
    }
}

impl MemoryGateway {
    pub(super) fn begin_copy(
        &mut self,
        id: RequestId,
        request: Request,
        replies: mpsc::UnboundedSender<FrontReply>,
    ) {
        let Request::Copy(request) = request else { panic!("no copy") };
        let (source, bytes, wanted) = match self.find_copied(&request) {
            Ok(found) => found,
            Err(error) => {
                let _ = replies.send(FrontReply::Reply(Err(error)));
                return;
            }
        };
        let length = bytes.len() as u64;
        let known = length == source.length && source.etag.parts == 0 && wanted.is_none();
        let hash = (!known).then_some(CopyHash { checksum: wanted });
        let begun = Copying::Begun { length, hash };
        let _ = replies.send(FrontReply::Copying(begun));
        let rest = bytes.clone();
        let mut copy = Copy { request, source, bytes, rest, replies };
        if known {
            let digest = BodyDigest { md5: copy.source.etag.md5, checksum: None };
            return self.end_copy(copy, digest);
        }
        copy.more(0);
        self.open.insert(id, Open::Copy(copy));
    }

    /// Record, bytes and the algorithm of the checksum.
    fn find_copied(
        &mut self,
        request: &CopyRequest,
    ) -> Result<(ObjectRecord, Bytes, Option<ChecksumAlgorithm>), ApiError> {
        let get = GetRequest {
            path: request.source.clone(),
            range: None,
            part_number: None,
            conditions: request.source_conditions.clone(),
        };
        let (_, Stored { record, bytes }, _) = self.find(&get).map_err(|error| match error {
            ApiError::NotModified { .. } => ApiError::PreconditionFailed,
            other => other,
        })?;
        let length = record.length;
        match &request.purpose {
            CopyPurpose::Object(object) => {
                let place = &request.path;
                self.check(&place.bucket.name, place.key.as_str(), &object.conditions)?;
                let of_source = record.checksum.as_ref().map(|it| it.algorithm);
                let wanted = object.checksum.or(of_source);
                Ok((record, bytes, wanted))
            }
            CopyPurpose::Part { upload, range, .. } => {
                let wanted = self.upload(*upload)?.record.checksum.map(|(it, _)| it);
                let (first, last) = range.unwrap_or((0, length.saturating_sub(1)));
                if range.is_some() && last >= length {
                    return Err(ApiError::InvalidRange { length });
                }
                let end = if length == 0 { 0 } else { last + 1 };
                let at = |offset: u64| usize::try_from(offset).unwrap();
                let bytes = bytes.slice(at(first)..at(end));
                Ok((record, bytes, wanted))
            }
        }
    }

    pub(super) fn end_copy(&mut self, copy: Copy, digest: BodyDigest) {
        let Copy { request, source, bytes, rest, replies } = copy;
        assert!(rest.is_empty() || source.etag.md5 == digest.md5, "all was hashed");
        let result = self.store_copy(request, &source, bytes, digest);
        let _ = replies.send(FrontReply::Reply(result));
    }

    fn store_copy(
        &mut self,
        request: CopyRequest,
        source: &ObjectRecord,
        bytes: Bytes,
        digest: BodyDigest,
    ) -> Result<Reply, ApiError> {
        let (order, modified) = (self.tick(), self.now());
        let etag = ETag { md5: digest.md5, parts: 0 };
        let (length, checksum) = (bytes.len() as u64, digest.checksum.clone());
        match request.purpose {
            CopyPurpose::Object(object) => {
                let mut attributes = object.attributes.unwrap_or(source.attributes.clone());
                attributes.website_redirect = object.website_redirect;
                let put = PutRequest {
                    path: request.path,
                    owner: object.owner,
                    attributes,
                    tags: object.tags.unwrap_or(source.tags.clone()),
                    conditions: object.conditions,
                    length: Some(length),
                };
                let record = record(order, modified, &put, etag, digest, length);
                let bucket = self.bucket_mut(&put.path.bucket.name)?;
                bucket.objects.insert(put.path.key.as_str().to_owned(), Stored { record, bytes });
            }
            CopyPurpose::Part { upload, number, .. } => {
                let checksum = checksum.clone();
                let record = PartRecord { number, modified, length, etag, checksum, blob: None };
                self.upload(upload)?.parts.insert(number, (record, bytes));
            }
        }
        Ok(Reply::Copied { etag, checksum, modified })
    }
}
