//! Refusals: the S3 code, HTTP status and message of everything that is not done.
//!
//! Codes and statuses are those of Amazon S3, "Error responses". Full disks have no code there; they
//! answer `InsufficientStorage` with 507, which clients do not retry as they would a 503.

use http::StatusCode;
use s3s::Body;
use trine_core::request::ApiError;

use crate::text;
use crate::xml::Writer;

/// When a client that is told to slow down may come again: what is in hand has moved on by then.
const RETRY_AFTER_SECONDS: u32 = 1;

/// Why a request gets no success.
#[derive(Debug)]
pub(crate) enum Failure {
    /// An error document.
    Refused(Box<Refusal>),
    /// Whether the request took effect is not known, or the client's body is gone: break the
    /// connection, say nothing.
    Broken(String),
}

/// An error document.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) code: &'static str,
    pub(crate) status: StatusCode,
    pub(crate) message: String,
    /// Further elements of the document.
    pub(crate) details: Vec<(&'static str, String)>,
    /// Headers of the answer.
    pub(crate) headers: Vec<(&'static str, String)>,
}

impl Failure {
    /// With another element in its document.
    pub(crate) fn with(mut self, name: &'static str, text: impl Into<String>) -> Self {
        if let Self::Refused(refusal) = &mut self {
            refusal.details.push((name, text.into()));
        }
        self
    }
}

/// A refusal with a message of its own.
pub(crate) fn refuse(
    status: StatusCode,
    code: &'static str,
    message: impl Into<String>,
) -> Failure {
    let message = message.into();
    let refusal = Refusal { code, status, message, details: Vec::new(), headers: Vec::new() };
    Failure::Refused(Box::new(refusal))
}

/// 503 `SlowDown`: over a limit; nothing was done.
pub(crate) fn slow_down(message: &'static str) -> Failure {
    ApiError::SlowDown(message.to_owned()).into()
}

/// 400 `InvalidArgument`.
pub(crate) fn invalid_argument(message: impl Into<String>) -> Failure {
    refuse(StatusCode::BAD_REQUEST, "InvalidArgument", message)
}

/// 400 `MalformedXML`.
pub(crate) fn malformed_xml() -> Failure {
    let message = "The XML you provided was not well-formed or did not validate against our \
                   published schema";
    refuse(StatusCode::BAD_REQUEST, "MalformedXML", message)
}

/// 501 `NotImplemented`.
pub(crate) fn not_implemented(what: &str) -> Failure {
    let message = format!(
        "A header or parameter you provided implies functionality that is not implemented: {what}"
    );
    refuse(StatusCode::NOT_IMPLEMENTED, "NotImplemented", message)
}

impl From<ApiError> for Failure {
    fn from(error: ApiError) -> Self {
        let message = error.to_string();
        let mut details = Vec::new();
        let mut headers = Vec::new();
        let (status, code) = match &error {
            ApiError::NoSuchBucket => (StatusCode::NOT_FOUND, "NoSuchBucket"),
            ApiError::NoSuchKey => (StatusCode::NOT_FOUND, "NoSuchKey"),
            ApiError::NoSuchUpload => (StatusCode::NOT_FOUND, "NoSuchUpload"),
            ApiError::BucketAlreadyOwnedByYou => (StatusCode::CONFLICT, "BucketAlreadyOwnedByYou"),
            ApiError::BucketAlreadyExists => (StatusCode::CONFLICT, "BucketAlreadyExists"),
            ApiError::BucketNotEmpty => (StatusCode::CONFLICT, "BucketNotEmpty"),
            ApiError::PreconditionFailed => (StatusCode::PRECONDITION_FAILED, "PreconditionFailed"),
            ApiError::NotModified { etag, modified } => {
                headers.push(("etag", format!("\"{etag}\"")));
                headers.push(("last-modified", text::http_date(*modified)));
                (StatusCode::NOT_MODIFIED, "NotModified")
            }
            ApiError::InvalidRange { length } => {
                details.push(("ActualObjectSize", length.to_string()));
                headers.push(("content-range", format!("bytes */{length}")));
                (StatusCode::RANGE_NOT_SATISFIABLE, "InvalidRange")
            }
            ApiError::InvalidPartNumber => (StatusCode::RANGE_NOT_SATISFIABLE, "InvalidPartNumber"),
            ApiError::InvalidPart { number } => {
                details.push(("PartNumber", number.to_string()));
                (StatusCode::BAD_REQUEST, "InvalidPart")
            }
            ApiError::InvalidPartOrder => (StatusCode::BAD_REQUEST, "InvalidPartOrder"),
            ApiError::EntityTooSmall { number, length } => {
                details.push(("ProposedSize", length.to_string()));
                details.push(("PartNumber", number.to_string()));
                (StatusCode::BAD_REQUEST, "EntityTooSmall")
            }
            ApiError::EntityTooLarge => (StatusCode::BAD_REQUEST, "EntityTooLarge"),
            ApiError::InvalidArgument(_) => (StatusCode::BAD_REQUEST, "InvalidArgument"),
            ApiError::IncompleteBody => (StatusCode::BAD_REQUEST, "IncompleteBody"),
            ApiError::SlowDown(_) => {
                headers.push(("retry-after", RETRY_AFTER_SECONDS.to_string()));
                (StatusCode::SERVICE_UNAVAILABLE, "SlowDown")
            }
            ApiError::Unavailable(_) => (StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable"),
            ApiError::StorageFull(_) => (StatusCode::INSUFFICIENT_STORAGE, "InsufficientStorage"),
            ApiError::Internal(_) => (StatusCode::INTERNAL_SERVER_ERROR, "InternalError"),
        };
        Self::Refused(Box::new(Refusal { code, status, message, details, headers }))
    }
}

impl Refusal {
    /// The answer, without what the outer layer adds to every error.
    pub(crate) fn into_response(self) -> http::Response<Body> {
        let mut response = http::Response::new(Body::from(self.document()));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers
            .insert(http::header::CONTENT_TYPE, http::HeaderValue::from_static("application/xml"));
        for (name, value) in self.headers {
            if let Ok(value) = http::HeaderValue::from_str(&value) {
                headers.insert(name, value);
            }
        }
        response
    }

    /// The document, likewise.
    pub(crate) fn document(&self) -> String {
        let mut xml = Writer::document();
        xml.open("Error");
        xml.element("Code", self.code);
        xml.element("Message", &self.message);
        for (name, value) in &self.details {
            xml.element(name, value);
        }
        xml.close("Error");
        xml.finish()
    }
}

/// The message of a code that came without one (s3s gives none for most of its refusals).
pub(crate) fn default_message(code: &str) -> &'static str {
    match code {
        "AccessDenied" => "Access Denied",
        "SignatureDoesNotMatch" => {
            "The request signature we calculated does not match the signature you provided. \
             Check your key and signing method."
        }
        "InvalidBucketName" => "The specified bucket is not valid.",
        "InvalidURI" => "Couldn't parse the specified URI.",
        "KeyTooLongError" => "Your key is too long.",
        "InternalError" => "We encountered an internal error. Please try again.",
        "MethodNotAllowed" => "The specified method is not allowed against this resource.",
        "MissingContentLength" => "You must provide the Content-Length HTTP header.",
        "NotImplemented" => {
            "A header or query you provided implies functionality that is not implemented."
        }
        _ => "The request was refused.",
    }
}
