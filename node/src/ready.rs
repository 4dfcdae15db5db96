//! `GET /-/ready` on the S3 port, for load balancers: whether this process takes requests.
//!
//! It is answered from what this process knows at once, and never asks another zone: a zone that is
//! gone must not make the others look gone. No bucket's name begins with a hyphen, so that the path
//! is nobody's; signed requests pass by all the same.

use std::future::Future;
use std::pin::Pin;

use bytes::Bytes;
use http_body_util::{Either, Full};
use hyper::body::{Body, Incoming};
use hyper::header::{AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::service::Service;
use hyper::{Method, Request, Response};

/// Where it is asked.
pub const PATH: &str = "/-/ready";

/// A service behind the question.
#[derive(Clone, Debug)]
pub struct Ready<S> {
    inner: S,
}

impl<S> Ready<S> {
    /// Everything but the question goes to `inner`.
    pub fn new(inner: S) -> Self {
        Self { inner }
    }
}

impl<S, B> Service<Request<Incoming>> for Ready<S>
where
    S: Service<Request<Incoming>, Response = Response<B>>,
    S::Future: Send + 'static,
    B: Body<Data = Bytes>,
{
    type Response = Response<Either<Full<Bytes>, B>>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, S::Error>> + Send>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        if is_question(&request) {
            let head = request.method() == Method::HEAD;
            return Box::pin(async move { Ok(answer(head)) });
        }
        let inner = self.inner.call(request);
        Box::pin(async move { inner.await.map(|response| response.map(Either::Right)) })
    }
}

fn is_question<B>(request: &Request<B>) -> bool {
    let asks = matches!(*request.method(), Method::GET | Method::HEAD);
    let uri = request.uri();
    let signed = request.headers().contains_key(AUTHORIZATION) || uri.query().is_some();
    asks && uri.path() == PATH && !signed
}

/// A process that is told to stop takes no new connections, so that whoever is answered is served.
fn answer<B>(head: bool) -> Response<Either<Full<Bytes>, B>> {
    let body = Bytes::from_static(if head { b"" } else { b"ready\n" });
    let mut response = Response::new(Either::Left(Full::new(body)));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asks(method: Method, target: &str, authorization: bool) -> bool {
        let mut request = Request::builder().method(method).uri(target);
        if authorization {
            request = request.header(AUTHORIZATION, "AWS4-HMAC-SHA256 ...");
        }
        is_question(&request.body(()).unwrap())
    }

    #[test]
    fn only_the_plain_question_is_taken() {
        assert!(asks(Method::GET, "/-/ready", false));
        assert!(asks(Method::HEAD, "/-/ready", false));
        for other in ["/", "/-", "/-/", "/-/ready/", "/b/-/ready", "/-/ready?X-Amz-Signature=0"] {
            assert!(!asks(Method::GET, other, false), "{other}");
        }
        assert!(!asks(Method::PUT, "/-/ready", false));
        assert!(!asks(Method::GET, "/-/ready", true));
    }
}
