//! Listings: ListObjects, ListObjectsV2, ListMultipartUploads.

use trine_core::object::LIST_KEYS_MAX;
use trine_core::request::{
    ListEntry, ListRequest, ListUploadsRequest, ListedObject, ListedUpload, Page, Reply, Request,
};

use super::{Call, Response, unexpected, write_owner};
use crate::digest;
use crate::error::{Failure, invalid_argument};
use crate::text;
use crate::xml::Writer;

/// What the two versions of ListObjects have in common.
struct Asked {
    prefix: String,
    delimiter: Option<String>,
    limit: u32,
    url: bool,
}

impl Asked {
    fn of(call: &Call, limit: &str) -> Result<Self, Failure> {
        let delimiter = call.query.get("delimiter").filter(|delimiter| !delimiter.is_empty());
        Ok(Self {
            prefix: call.query.get("prefix").unwrap_or_default().to_owned(),
            delimiter: delimiter.map(str::to_owned),
            limit: call.query.page_limit(limit, LIST_KEYS_MAX)?,
            url: call.query.url_encoding()?,
        })
    }

    /// A key or prefix, encoded if the client wants it.
    fn name(&self, xml: &mut Writer, tag: &str, name: &str) {
        if self.url {
            xml.plain(tag, text::url_encode(name));
        } else {
            xml.element(tag, name);
        }
    }

    fn head(&self, xml: &mut Writer, call: &Call) {
        xml.element("Name", &call.address.bucket);
        self.name(xml, "Prefix", &self.prefix);
        if let Some(delimiter) = &self.delimiter {
            self.name(xml, "Delimiter", delimiter);
        }
        xml.plain("MaxKeys", self.limit);
        if self.url {
            xml.plain("EncodingType", "url");
        }
    }

    async fn page(
        &self,
        call: &Call,
        after: Option<String>,
    ) -> Result<Page<ListEntry<ListedObject>>, Failure> {
        let bucket = call.bucket()?;
        if self.limit == 0 {
            // Nothing fits on the page; what is left to tell is whether the bucket exists.
            call.ask(Request::HeadBucket { bucket }).await?;
            return Ok(Page { entries: Vec::new(), truncated: false });
        }
        let request = ListRequest {
            bucket,
            prefix: self.prefix.clone(),
            delimiter: self.delimiter.clone(),
            after,
            keys_max: self.limit,
        };
        match call.ask(Request::List(request)).await? {
            Reply::List(page) => Ok(page),
            other => Err(unexpected(&other)),
        }
    }

    /// Items first, then common prefixes: each list has its order, as on Amazon.
    fn entries(&self, xml: &mut Writer, page: &Page<ListEntry<ListedObject>>, owners: bool) {
        for entry in &page.entries {
            if let ListEntry::Item(object) = entry {
                self.object(xml, object, owners);
            }
        }
        for entry in &page.entries {
            if let ListEntry::Prefix(prefix) = entry {
                self.common_prefix(xml, prefix);
            }
        }
    }

    fn object(&self, xml: &mut Writer, object: &ListedObject, owners: bool) {
        xml.open("Contents");
        self.name(xml, "Key", object.key.as_str());
        xml.plain("LastModified", text::xml_date(object.modified));
        xml.plain("ETag", format_args!("&quot;{}&quot;", object.etag));
        if let Some((algorithm, full_object)) = object.checksum {
            xml.plain("ChecksumAlgorithm", digest::name(algorithm).to_uppercase());
            xml.plain("ChecksumType", digest::kind(full_object));
        }
        xml.plain("Size", object.length);
        if owners {
            write_owner(xml, "Owner", &object.owner);
        }
        xml.plain("StorageClass", "STANDARD");
        xml.close("Contents");
    }

    fn common_prefix(&self, xml: &mut Writer, prefix: &str) {
        xml.open("CommonPrefixes");
        self.name(xml, "Prefix", prefix);
        xml.close("CommonPrefixes");
    }
}

/// The key or prefix after which the next page begins.
fn last_name(page: &Page<ListEntry<ListedObject>>) -> Option<&str> {
    page.entries.last().map(|entry| match entry {
        ListEntry::Item(object) => object.key.as_str(),
        ListEntry::Prefix(prefix) => prefix.as_str(),
    })
}

/// ListObjects. NextMarker stands there only with a delimiter; without one, the last key serves.
pub(super) async fn list(call: &Call) -> Result<Response, Failure> {
    let asked = Asked::of(call, "max-keys")?;
    let marker = call.query.get("marker").unwrap_or_default();
    let after = (!marker.is_empty()).then(|| marker.to_owned());
    let page = asked.page(call, after).await?;
    let mut xml = Writer::rooted("ListBucketResult");
    asked.head(&mut xml, call);
    asked.name(&mut xml, "Marker", marker);
    xml.plain("IsTruncated", page.truncated);
    if page.truncated
        && asked.delimiter.is_some()
        && let Some(last) = last_name(&page)
    {
        asked.name(&mut xml, "NextMarker", last);
    }
    asked.entries(&mut xml, &page, true);
    xml.close("ListBucketResult");
    call.answer(xml)
}

/// ListObjectsV2. A continuation token outweighs start-after; both are echoed.
pub(super) async fn list_v2(call: &Call) -> Result<Response, Failure> {
    let asked = Asked::of(call, "max-keys")?;
    let start_after = call.query.get("start-after").filter(|start| !start.is_empty());
    let token = call.query.get("continuation-token");
    let after = match token {
        None => start_after.map(str::to_owned),
        Some(token) => {
            let after = text::parse_continuation(token).filter(|after| !after.is_empty());
            let message = "The continuation token provided is incorrect";
            Some(after.ok_or_else(|| invalid_argument(message))?)
        }
    };
    let owners = call.query.get("fetch-owner") == Some("true");
    let page = asked.page(call, after).await?;
    let mut xml = Writer::rooted("ListBucketResult");
    asked.head(&mut xml, call);
    xml.plain("KeyCount", page.entries.len());
    xml.plain("IsTruncated", page.truncated);
    if let Some(token) = token {
        xml.element("ContinuationToken", token);
    }
    if page.truncated
        && let Some(last) = last_name(&page)
    {
        xml.plain("NextContinuationToken", text::continuation(last));
    }
    if let Some(start) = start_after {
        asked.name(&mut xml, "StartAfter", start);
    }
    asked.entries(&mut xml, &page, owners);
    xml.close("ListBucketResult");
    call.answer(xml)
}

/// ListMultipartUploads. An upload marker counts only beside a key marker.
pub(super) async fn list_uploads(call: &Call) -> Result<Response, Failure> {
    let asked = Asked::of(call, "max-uploads")?;
    let key_marker = call.query.get("key-marker").unwrap_or_default();
    let upload_marker = call.query.get("upload-id-marker").unwrap_or_default();
    let upload_after = match (key_marker, upload_marker) {
        ("", _) | (_, "") => None,
        (_, marker) => {
            let upload = text::parse_upload_id(marker);
            Some(upload.ok_or_else(|| invalid_argument("Invalid uploadId marker"))?)
        }
    };
    let page = if asked.limit == 0 {
        call.ask(Request::HeadBucket { bucket: call.bucket()? }).await?;
        Page { entries: Vec::new(), truncated: false }
    } else {
        let request = ListUploadsRequest {
            bucket: call.bucket()?,
            prefix: asked.prefix.clone(),
            delimiter: asked.delimiter.clone(),
            key_after: (!key_marker.is_empty()).then(|| key_marker.to_owned()),
            upload_after,
            uploads_max: asked.limit,
        };
        match call.ask(Request::ListUploads(request)).await? {
            Reply::Uploads(page) => page,
            other => return Err(unexpected(&other)),
        }
    };
    let mut xml = Writer::rooted("ListMultipartUploadsResult");
    xml.element("Bucket", &call.address.bucket);
    asked.name(&mut xml, "KeyMarker", key_marker);
    xml.element("UploadIdMarker", upload_marker);
    if page.truncated {
        match page.entries.last() {
            Some(ListEntry::Item(listed)) => {
                asked.name(&mut xml, "NextKeyMarker", listed.key.as_str());
                xml.plain("NextUploadIdMarker", text::upload_id(listed.upload.order));
            }
            Some(ListEntry::Prefix(prefix)) => asked.name(&mut xml, "NextKeyMarker", prefix),
            None => {}
        }
    }
    asked.name(&mut xml, "Prefix", &asked.prefix);
    if let Some(delimiter) = &asked.delimiter {
        asked.name(&mut xml, "Delimiter", delimiter);
    }
    xml.plain("MaxUploads", asked.limit);
    if asked.url {
        xml.plain("EncodingType", "url");
    }
    xml.plain("IsTruncated", page.truncated);
    for entry in &page.entries {
        if let ListEntry::Item(listed) = entry {
            write_upload(&asked, &mut xml, listed);
        }
    }
    for entry in &page.entries {
        if let ListEntry::Prefix(prefix) = entry {
            asked.common_prefix(&mut xml, prefix);
        }
    }
    xml.close("ListMultipartUploadsResult");
    call.answer(xml)
}

fn write_upload(asked: &Asked, xml: &mut Writer, listed: &ListedUpload) {
    xml.open("Upload");
    asked.name(xml, "Key", listed.key.as_str());
    xml.plain("UploadId", text::upload_id(listed.upload.order));
    write_owner(xml, "Initiator", &listed.upload.owner);
    write_owner(xml, "Owner", &listed.upload.owner);
    xml.plain("StorageClass", "STANDARD");
    xml.plain("Initiated", text::xml_date(listed.upload.initiated));
    if let Some((algorithm, full_object)) = listed.upload.checksum {
        xml.plain("ChecksumAlgorithm", digest::name(algorithm).to_uppercase());
        xml.plain("ChecksumType", digest::kind(full_object));
    }
    xml.close("Upload");
}
