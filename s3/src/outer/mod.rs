//! The outer layer: plain HTTP before and behind s3s.
//!
//! Before: limits; preflights and forms refused; no anonymous requests; one signature, of version 4, for
//! this service, of bounded validity (or a presigned one of version 2, which is turned into one of version 4); no `x-amz-*` header that the signature does not cover; targets
//! signed in another than canonical form signed anew; `aws-chunked` bodies cut into small chunks and
//! held against their announced length. Behind:
//! refused bodies read to their end, request ids on everything, complete error documents, no body
//! where HTTP forbids one, and the broken connection if nothing true can be said.

mod admission;
mod chain;
mod chunked;
mod finish;
mod presigned;
mod presigned_v2;
mod resign;
mod watched;

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use s3s::service::{S3Service, S3ServiceBuilder};
use s3s::{Body, S3Result, StdError};

use crate::config::{Keys, S3Config, XML_BYTES_MAX};
use crate::error::Failure;
use crate::front::Front;
use crate::ops::Operations;
use crate::transfer::Shared;

/// The S3 service over one gateway. Serve it on any number of connections.
pub fn service(front: Front, config: S3Config) -> S3Http {
    let config = Arc::new(config);
    let mut builder = S3ServiceBuilder::new(Fallback);
    builder.set_auth(Credentials { keys: config.keys.clone() });
    builder.set_route(Operations::new(front, config.clone()));
    let mut limits = s3s::config::S3Config::default();
    limits.xml_max_body_size = XML_BYTES_MAX;
    builder.set_config(Arc::new(s3s::config::StaticConfigProvider::new(Arc::new(limits))));
    builder.set_host(config.domains.clone());
    builder.set_validation(AnyName);
    S3Http { inner: builder.build(), config }
}

/// A hyper service. Cheap to clone.
#[derive(Clone)]
pub struct S3Http {
    inner: S3Service,
    config: Arc<S3Config>,
}

impl fmt::Debug for S3Http {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("S3Http").field("config", &self.config).finish_non_exhaustive()
    }
}

/// The request gets no answer: the connection is to be closed, so that the client notices. For the
/// log, not for the client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServeError(pub String);

impl fmt::Display for ServeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "connection broken without a reply: {}", self.0)
    }
}

impl std::error::Error for ServeError {}

impl S3Http {
    /// Serve one request.
    ///
    /// # Errors
    /// [`ServeError`] if the connection must be closed without a reply.
    pub async fn serve<B>(
        &self,
        request: http::Request<B>,
    ) -> Result<http::Response<Body>, ServeError>
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<StdError>,
    {
        let ending = finish::Ending::of(&request, (self.config.request_id)());
        let shared = Arc::new(Shared::default());
        let response = match admission::admit(request, &shared, &self.config).await {
            Ok(request) => {
                self.inner.call(request).await.map_err(|error| ServeError(format!("{error:?}")))?
            }
            Err(Failure::Refused(refusal)) => refusal.into_response(),
            Err(Failure::Broken(reason)) => return Err(ServeError(reason)),
        };
        if let Some(reason) = shared.broken.get() {
            return Err(ServeError(reason.clone()));
        }
        if response.status().is_client_error() || response.status().is_server_error() {
            watched::drain(&shared).await;
        }
        Ok(ending.finish(response, watched::is_over(&shared)))
    }
}

impl<B> hyper::service::Service<http::Request<B>> for S3Http
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<StdError>,
{
    type Response = http::Response<Body>;
    type Error = ServeError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn call(&self, request: http::Request<B>) -> Self::Future {
        let service = self.clone();
        Box::pin(async move { service.serve(request).await })
    }
}

/// Credentials, as s3s asks for them.
struct Credentials {
    keys: Arc<dyn Keys>,
}

#[async_trait::async_trait]
impl s3s::auth::S3Auth for Credentials {
    async fn get_secret_key(&self, access_key: &str) -> S3Result<s3s::auth::SecretKey> {
        let key = self.keys.secret(access_key).ok_or_else(|| {
            let message = "The AWS Access Key Id you provided does not exist in our records.";
            s3s::S3Error::with_message(s3s::S3ErrorCode::InvalidAccessKeyId, message)
        })?;
        Ok(key.secret.into())
    }
}

/// Names are judged behind the signature, where the operation is known: s3s would refuse `GET //`,
/// which lists buckets for clients that join an endpoint's path and theirs.
struct AnyName;

impl s3s::validation::NameValidation for AnyName {
    fn validate_bucket_name(&self, _: &str) -> bool {
        true
    }
}

/// What is no operation of ours: everything in the trait says 501 by itself.
struct Fallback;

impl s3s::S3 for Fallback {}
