//! The last word on every response.

use http::header::{CONTENT_LENGTH, CONTENT_TYPE, EXPECT};
use http::{HeaderName, HeaderValue, Method, StatusCode};
use s3s::Body;

use crate::error::default_message;
use crate::{text, xml};

/// What the end of a request needs to know of its beginning.
pub(super) struct Ending {
    head: bool,
    /// HTTP/1 has one request at a time on a connection, so that what is not read of it is in the way.
    one_at_a_time: bool,
    /// The client waits for `100 Continue` and will not hear it: hyper says it only before a body that is
    /// not empty. botocore reads the next answer on the same connection wrongly then, and hangs.
    unheard: bool,
    resource: String,
    request_id: String,
    host_id: String,
}

impl Ending {
    pub(super) fn of<B: http_body::Body>(request: &http::Request<B>, id: u64) -> Self {
        let path = request.uri().path();
        Self {
            head: request.method() == Method::HEAD,
            one_at_a_time: request.version() <= http::Version::HTTP_11,
            unheard: request.headers().contains_key(EXPECT) && request.body().is_end_stream(),
            resource: text::url_decode(path)
                .filter(|path| xml::can_hold(path))
                .unwrap_or_else(|| path.to_owned()),
            request_id: format!("{id:016X}"),
            host_id: text::base64(format!("trine-{id:016x}").as_bytes()),
        }
    }

    /// Add ids, complete error documents, take away bodies that HTTP forbids. `reusable` is whether the
    /// request was read to its end: if not, the connection closes, and the client must know.
    pub(super) fn finish(
        self,
        mut response: http::Response<Body>,
        reusable: bool,
    ) -> http::Response<Body> {
        let status = response.status();
        let error = status.is_client_error() || status.is_server_error();
        if status == StatusCode::NOT_MODIFIED || (self.head && error) {
            *response.body_mut() = Body::empty();
            response.headers_mut().remove(CONTENT_LENGTH);
            response.headers_mut().remove(CONTENT_TYPE);
        } else if error && let Some(document) = response.body_mut().take_bytes() {
            let document = self.complete(&String::from_utf8_lossy(&document));
            if status == StatusCode::INTERNAL_SERVER_ERROR {
                // What a client cannot help, the operator should see.
                tracing::error!(%document, "a request was answered with an internal error");
            }
            *response.body_mut() = Body::from(document);
            response.headers_mut().remove(CONTENT_LENGTH);
        }
        let headers = response.headers_mut();
        for (name, value) in [("x-amz-request-id", &self.request_id), ("x-amz-id-2", &self.host_id)]
        {
            let value = HeaderValue::from_str(value).expect("hexadecimal and base64 are ASCII");
            headers.insert(HeaderName::from_static(name), value);
        }
        if self.one_at_a_time && (!reusable || self.unheard) {
            headers.insert(http::header::CONNECTION, HeaderValue::from_static("close"));
        }
        headers.insert(http::header::SERVER, HeaderValue::from_static("Trine"));
        response
    }

    /// The document with message, resource and ids.
    fn complete(&self, document: &str) -> String {
        let Some(document) = document.trim_end().strip_suffix("</Error>") else {
            return document.to_owned();
        };
        let mut out = document.to_owned();
        if !document.contains("<Message>") {
            let code = document.split_once("<Code>").and_then(|(_, rest)| rest.split_once('<'));
            let message = default_message(code.map_or("", |(code, _)| code));
            append(&mut out, "Message", message);
        }
        append(&mut out, "Resource", &self.resource);
        append(&mut out, "RequestId", &self.request_id);
        append(&mut out, "HostId", &self.host_id);
        out.push_str("</Error>");
        out
    }
}

fn append(out: &mut String, name: &str, text: &str) {
    out.push('<');
    out.push_str(name);
    out.push('>');
    xml::escape(text, out);
    out.push_str("</");
    out.push_str(name);
    out.push('>');
}
