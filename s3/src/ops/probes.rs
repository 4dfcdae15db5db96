//! Sub-resources: settings of buckets and objects that clients ask about, and that nothing sets yet.
//!
//! Tools ask before they work: whether a bucket is versioned, where it lies, who may read it. Each is
//! answered as Amazon answers for a bucket on which nothing was ever configured, which is the truth.
//! Changing a setting is 501; taking away what is not there is done already. A bucket that does not
//! exist is 404 before any of this.
//!
//! Two answers differ from a bucket made on Amazon today, which comes with settings of its own:
//! encryption is "not found", since nothing is encrypted, and so are ownership controls and the block
//! of public access, since nobody has chosen any.
//!
//! Source: Amazon S3 API Reference, the operations named GetBucketX and GetObjectX, and "Error
//! responses".

use http::{Method, StatusCode};
use trine_core::object::Owner;
use trine_core::request::{Reply, Request};

use super::{
    Address, Call, Query, Response, document, empty, object_attributes, unexpected, write_owner,
};
use crate::error::{Failure, not_implemented, refuse};
use crate::xml::Writer;

/// What is asked of a sub-resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Probe {
    /// A setting whose absence is an error.
    Unset(&'static Unset),
    /// A setting whose absence is an empty document with this root.
    Blank(&'static str),
    /// Taking away a setting that is not there.
    Remove,
    /// GetBucketRequestPayment.
    Payer,
    /// GetBucketAcl.
    BucketAcl,
    /// GetObjectAcl.
    ObjectAcl,
    /// GetObjectTagging.
    ObjectTags,
    /// GetObjectRetention, GetObjectLegalHold.
    ObjectLock,
    /// 501.
    NotBuilt(&'static str),
    /// 405.
    NotAllowed,
}

/// A setting of a bucket that is not there.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Unset {
    /// The parameter that names it.
    name: &'static str,
    code: &'static str,
    message: &'static str,
    /// Whether DELETE takes it away.
    removable: bool,
}

const fn unset(
    name: &'static str,
    code: &'static str,
    message: &'static str,
    removable: bool,
) -> Unset {
    Unset { name, code, message, removable }
}

const UNSET: [Unset; 11] = [
    unset("cors", "NoSuchCORSConfiguration", "The CORS configuration does not exist", true),
    unset(
        "encryption",
        "ServerSideEncryptionConfigurationNotFoundError",
        "The server side encryption configuration was not found",
        true,
    ),
    unset(
        "lifecycle",
        "NoSuchLifecycleConfiguration",
        "The lifecycle configuration does not exist",
        true,
    ),
    unset(
        "object-lock",
        "ObjectLockConfigurationNotFoundError",
        "Object Lock configuration does not exist for this bucket",
        false,
    ),
    unset(
        "ownershipControls",
        "OwnershipControlsNotFoundError",
        "The bucket ownership controls were not found",
        true,
    ),
    unset("policy", "NoSuchBucketPolicy", "The bucket policy does not exist", true),
    unset("policyStatus", "NoSuchBucketPolicy", "The bucket policy does not exist", false),
    unset(
        "publicAccessBlock",
        "NoSuchPublicAccessBlockConfiguration",
        "The public access block configuration was not found",
        true,
    ),
    unset(
        "replication",
        "ReplicationConfigurationNotFoundError",
        "The replication configuration was not found",
        true,
    ),
    unset("tagging", "NoSuchTagSet", "The TagSet does not exist", true),
    unset(
        "website",
        "NoSuchWebsiteConfiguration",
        "The specified bucket does not have a website configuration",
        true,
    ),
];

/// Settings of a bucket whose absence is an empty document, and its root.
const BLANK: [(&str, &str); 4] = [
    ("accelerate", "AccelerateConfiguration"),
    ("logging", "BucketLoggingStatus"),
    ("notification", "NotificationConfiguration"),
    ("versioning", "VersioningConfiguration"),
];

/// Further sub-resources. They must not be taken for the plain operation.
const NOT_BUILT: [&str; 23] = [
    "abac",
    "acl",
    "analytics",
    "annotation",
    "events",
    "intelligent-tiering",
    "inventory",
    "legal-hold",
    "metadataConfiguration",
    "metadataInventoryTable",
    "metadataJournalTable",
    "metadataTable",
    "metrics",
    "notification",
    "renameObject",
    "requestPayment",
    "restore",
    "retention",
    "select",
    "session",
    "torrent",
    "versioning",
    "versions",
];

/// Sub-resources of a bucket that have operations, of these methods only.
const BUCKET_OPERATIONS: [(&str, &str); 3] =
    [("delete", "POST"), ("location", "GET"), ("uploads", "GET")];

/// What a request asks of a sub-resource; `None` if it names none that stands apart.
pub(super) fn of(method: &Method, address: &Address, query: &Query) -> Option<Probe> {
    let (get, delete) = (method == Method::GET, method == Method::DELETE);
    if address.bucket.is_empty() {
        return any_named(query).map(Probe::NotBuilt);
    }
    if !address.key.is_empty() {
        let object = [
            ("acl", Probe::ObjectAcl),
            ("legal-hold", Probe::ObjectLock),
            ("retention", Probe::ObjectLock),
            ("tagging", Probe::ObjectTags),
        ];
        return match object.iter().find(|(name, _)| query.has(name)) {
            Some((_, probe)) if get => Some(*probe),
            Some((name, _)) => Some(refused(name, method)),
            // `POST ?uploads` begins an upload; nothing else may pass for a plain write.
            None if query.has("uploads") && method != Method::POST => Some(Probe::NotAllowed),
            None => any_named(query).map(Probe::NotBuilt),
        };
    }
    if let Some(setting) = UNSET.iter().find(|setting| query.has(setting.name)) {
        return Some(match () {
            () if get => Probe::Unset(setting),
            () if delete && setting.removable => Probe::Remove,
            () => refused(setting.name, method),
        });
    }
    if let Some((name, root)) = BLANK.iter().find(|(name, _)| query.has(name)) {
        return Some(if get { Probe::Blank(root) } else { refused(name, method) });
    }
    for (name, probe) in [("acl", Probe::BucketAcl), ("requestPayment", Probe::Payer)] {
        if query.has(name) {
            return Some(if get { probe } else { refused(name, method) });
        }
    }
    let other =
        BUCKET_OPERATIONS.iter().any(|(name, only)| query.has(name) && method.as_str() != *only);
    if other { Some(Probe::NotAllowed) } else { any_named(query).map(Probe::NotBuilt) }
}

fn any_named(query: &Query) -> Option<&'static str> {
    let settings = UNSET.iter().map(|setting| setting.name);
    NOT_BUILT.into_iter().chain(settings).find(|name| query.has(name))
}

/// Changing is not built; what is neither asking, changing nor taking away has no meaning.
fn refused(name: &'static str, method: &Method) -> Probe {
    match *method {
        Method::PUT | Method::POST | Method::DELETE => Probe::NotBuilt(name),
        _ => Probe::NotAllowed,
    }
}

/// The answer.
pub(super) async fn answer(call: &Call, probe: Probe) -> Result<Response, Failure> {
    match probe {
        Probe::NotBuilt(name) => Err(not_implemented(name)),
        Probe::NotAllowed => {
            if !call.address.key.is_empty() {
                call.bucket()?;
            }
            Err(not_allowed(call))
        }
        Probe::Unset(setting) => {
            owner_of_bucket(call).await?;
            let failure = refuse(StatusCode::NOT_FOUND, setting.code, setting.message);
            Err(failure.with("BucketName", &call.address.bucket))
        }
        Probe::Blank(root) => {
            owner_of_bucket(call).await?;
            let mut xml = Writer::rooted(root);
            xml.close(root);
            Ok(document(xml))
        }
        Probe::Remove => {
            owner_of_bucket(call).await?;
            Ok(empty(StatusCode::NO_CONTENT))
        }
        Probe::Payer => {
            owner_of_bucket(call).await?;
            let mut xml = Writer::rooted("RequestPaymentConfiguration");
            xml.plain("Payer", "BucketOwner");
            xml.close("RequestPaymentConfiguration");
            Ok(document(xml))
        }
        Probe::BucketAcl => Ok(private(&owner_of_bucket(call).await?)),
        Probe::ObjectAcl => Ok(private(&object_attributes::look(call).await?.owner)),
        Probe::ObjectTags => {
            let record = object_attributes::look(call).await?;
            let mut xml = Writer::rooted("Tagging");
            xml.open("TagSet");
            for (key, value) in &record.tags {
                xml.open("Tag");
                xml.element("Key", key);
                xml.element("Value", value);
                xml.close("Tag");
            }
            xml.close("TagSet");
            xml.close("Tagging");
            Ok(document(xml))
        }
        Probe::ObjectLock => {
            object_attributes::look(call).await?;
            let message = "Bucket is missing Object Lock Configuration";
            Err(refuse(StatusCode::BAD_REQUEST, "InvalidRequest", message))
        }
    }
}

async fn owner_of_bucket(call: &Call) -> Result<Owner, Failure> {
    match call.ask(Request::HeadBucket { bucket: call.bucket()? }).await? {
        Reply::Bucket(record) => Ok(record.owner),
        other => Err(unexpected(&other)),
    }
}

/// An access list that gives everything to the owner and nothing to anybody else.
fn private(owner: &Owner) -> Response {
    let mut xml = Writer::rooted("AccessControlPolicy");
    write_owner(&mut xml, "Owner", owner);
    xml.open("AccessControlList");
    xml.open("Grant");
    xml.open(
        "Grantee xmlns:xsi=\"http://www.w3.org/2001/XMLSchema-instance\" \
         xsi:type=\"CanonicalUser\"",
    );
    xml.element("ID", &owner.user);
    xml.element("DisplayName", &owner.user);
    xml.close("Grantee");
    xml.plain("Permission", "FULL_CONTROL");
    xml.close("Grant");
    xml.close("AccessControlList");
    xml.close("AccessControlPolicy");
    document(xml)
}

/// 405: what is named has no such operation.
fn not_allowed(call: &Call) -> Failure {
    let message = "The specified method is not allowed against this resource.";
    let failure = refuse(StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed", message);
    let kind = match (call.address.bucket.is_empty(), call.address.key.is_empty()) {
        (true, _) => "SERVICE",
        (false, true) => "BUCKET",
        (false, false) => "OBJECT",
    };
    failure.with("Method", call.method.as_str()).with("ResourceType", kind)
}
