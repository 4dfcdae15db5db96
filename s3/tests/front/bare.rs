//! s3s by itself behind hyper, with handlers that note what reaches them: what it would do without
//! our layers.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Arc, Mutex};

use futures_core::Stream;
use s3s::dto;
use s3s::service::{S3Service, S3ServiceBuilder};
use s3s::{S3Error, S3ErrorCode, S3Request, S3Response, S3Result};

/// What reached a handler.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// Bodies that were read to an end that looked good, with their Content-Encoding.
    pub(crate) puts: Vec<(Vec<u8>, Option<String>)>,
    /// Sources of copies.
    pub(crate) copies: Vec<String>,
    /// If-None-Match as it was understood.
    pub(crate) if_none_match: Vec<String>,
    /// Buckets that were listed.
    pub(crate) listed: usize,
}

#[derive(Clone, Default)]
struct Handlers(Arc<Mutex<Seen>>);

/// s3s without our layers, and what its handlers get.
pub(crate) fn bare() -> (S3Service, Arc<Mutex<Seen>>) {
    let handlers = Handlers::default();
    let seen = handlers.0.clone();
    let mut builder = S3ServiceBuilder::new(handlers);
    builder.set_auth(s3s::auth::SimpleAuth::from_single("key", "secret"));
    (builder.build(), seen)
}

#[async_trait::async_trait]
impl s3s::S3 for Handlers {
    async fn put_object(
        &self,
        request: S3Request<dto::PutObjectInput>,
    ) -> S3Result<S3Response<dto::PutObjectOutput>> {
        let mut bytes = Vec::new();
        if let Some(mut body) = request.input.body {
            while let Some(piece) = poll_fn(|context| Pin::new(&mut body).poll_next(context)).await
            {
                let piece = piece.map_err(|_| S3Error::new(S3ErrorCode::InternalError))?;
                bytes.extend_from_slice(&piece);
            }
        }
        self.0.lock().unwrap().puts.push((bytes, request.input.content_encoding));
        // A status that s3s does not pass on.
        let output = dto::PutObjectOutput::default();
        Ok(S3Response::with_status(output, http::StatusCode::ACCEPTED))
    }

    async fn copy_object(
        &self,
        request: S3Request<dto::CopyObjectInput>,
    ) -> S3Result<S3Response<dto::CopyObjectOutput>> {
        let source = format!("{:?}", request.input.copy_source);
        self.0.lock().unwrap().copies.push(source);
        Ok(S3Response::new(dto::CopyObjectOutput::default()))
    }

    async fn get_object(
        &self,
        request: S3Request<dto::GetObjectInput>,
    ) -> S3Result<S3Response<dto::GetObjectOutput>> {
        if let Some(condition) = request.input.if_none_match {
            self.0.lock().unwrap().if_none_match.push(format!("{condition:?}"));
        }
        Ok(S3Response::new(dto::GetObjectOutput::default()))
    }

    async fn head_object(
        &self,
        _: S3Request<dto::HeadObjectInput>,
    ) -> S3Result<S3Response<dto::HeadObjectOutput>> {
        Err(S3Error::new(S3ErrorCode::NoSuchKey))
    }

    async fn list_buckets(
        &self,
        _: S3Request<dto::ListBucketsInput>,
    ) -> S3Result<S3Response<dto::ListBucketsOutput>> {
        self.0.lock().unwrap().listed += 1;
        Ok(S3Response::new(dto::ListBucketsOutput::default()))
    }

    async fn list_objects_v2(
        &self,
        _: S3Request<dto::ListObjectsV2Input>,
    ) -> S3Result<S3Response<dto::ListObjectsV2Output>> {
        let object = dto::Object { key: Some("a\u{1}b".to_owned()), ..dto::Object::default() };
        let output = dto::ListObjectsV2Output {
            contents: Some(vec![object]),
            ..dto::ListObjectsV2Output::default()
        };
        Ok(S3Response::new(output))
    }
}
