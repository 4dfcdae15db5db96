//! Buckets: make, look, list, delete.

use http::StatusCode;
use trine_core::request::{Reply, Request};

use super::{
    Call, Response, attributes, document, empty, read_document, set, unexpected, write_owner,
};
use crate::digest::Claims;
use crate::error::{Failure, invalid_argument};
use crate::text;
use crate::xml::Writer;

/// Buckets of one page of ListBuckets.
const BUCKETS_MAX: u32 = 10_000;

/// CreateBucket. A location is accepted, whatever it is: there is one region.
pub(super) async fn create(call: &mut Call) -> Result<Response, Failure> {
    attributes::check_built(&call.headers)?;
    let bucket = call.bucket()?;
    let configuration = call.document(Claims::of(&call.headers)?).await?;
    if !configuration.is_empty() {
        read_document(&configuration, "CreateBucketConfiguration")?;
    }
    let location = format!("/{}", bucket.name);
    match call.ask(Request::CreateBucket { bucket, owner: call.key.owner.clone() }).await? {
        Reply::Done => {
            let mut response = empty(StatusCode::OK);
            set(&mut response, "location", &location);
            Ok(response)
        }
        other => Err(unexpected(&other)),
    }
}

/// DeleteBucket.
pub(super) async fn delete(call: &Call) -> Result<Response, Failure> {
    match call.ask(Request::DeleteBucket { bucket: call.bucket()? }).await? {
        Reply::Done => Ok(empty(StatusCode::NO_CONTENT)),
        other => Err(unexpected(&other)),
    }
}

/// HeadBucket.
pub(super) async fn head(call: &Call) -> Result<Response, Failure> {
    match call.ask(Request::HeadBucket { bucket: call.bucket()? }).await? {
        Reply::Bucket(_) => {
            let mut response = empty(StatusCode::OK);
            set(&mut response, "x-amz-bucket-region", &call.config.region);
            Ok(response)
        }
        other => Err(unexpected(&other)),
    }
}

/// GetBucketLocation. The region `us-east-1` is written as nothing.
pub(super) async fn location(call: &Call) -> Result<Response, Failure> {
    match call.ask(Request::HeadBucket { bucket: call.bucket()? }).await? {
        Reply::Bucket(_) => {
            let mut xml = Writer::rooted("LocationConstraint");
            if call.config.region != "us-east-1" {
                xml.text(&call.config.region);
            }
            xml.close("LocationConstraint");
            Ok(document(xml))
        }
        other => Err(unexpected(&other)),
    }
}

/// ListBuckets, in pages if the client asks for them.
pub(super) async fn list(call: &Call) -> Result<Response, Failure> {
    let limit = call.query.page_limit("max-buckets", BUCKETS_MAX)?;
    if limit == 0 {
        return Err(invalid_argument("max-buckets must be between 1 and 10000"));
    }
    let prefix = call.query.get("prefix").unwrap_or_default();
    let after = match call.query.get("continuation-token").filter(|token| !token.is_empty()) {
        None => String::new(),
        Some(token) => text::parse_continuation(token)
            .ok_or_else(|| invalid_argument("The continuation token provided is incorrect"))?,
    };
    let buckets = match call.ask(Request::ListBuckets { tenant: call.key.tenant }).await? {
        Reply::Buckets(buckets) => buckets,
        other => return Err(unexpected(&other)),
    };
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let mut matching = buckets.iter().filter(|bucket| {
        let name = bucket.name.as_str();
        name.starts_with(prefix) && name > after.as_str()
    });
    let page: Vec<_> = matching.by_ref().take(limit).collect();
    let mut xml = Writer::rooted("ListAllMyBucketsResult");
    write_owner(&mut xml, "Owner", &call.key.owner);
    xml.open("Buckets");
    for bucket in &page {
        xml.open("Bucket");
        xml.element("Name", bucket.name.as_str());
        xml.plain("CreationDate", text::xml_date(bucket.created));
        xml.close("Bucket");
    }
    xml.close("Buckets");
    if let (Some(_), Some(last)) = (matching.next(), page.last()) {
        xml.plain("ContinuationToken", text::continuation(last.name.as_str()));
    }
    if !prefix.is_empty() {
        xml.element("Prefix", prefix);
    }
    xml.close("ListAllMyBucketsResult");
    call.answer(xml)
}
