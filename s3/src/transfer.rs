//! Bodies on their way: in, strictly within the gateway's credit and verified before the end is
//! told; out, with the exact length or with a broken connection.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::atomic::AtomicBool;
use std::sync::{Mutex, OnceLock};
use std::task::{Context as TaskContext, Poll};

use bytes::{Bytes, BytesMut};
use http::StatusCode;
use http_body::{Body as _, Frame, SizeHint};
use s3s::{Body, StdError, TrailingHeaders};
use trine_core::request::{ApiError, Reply, Request};

use crate::digest::Verifier;
use crate::error::{Failure, refuse};
use crate::front::{Exchange, Front, FrontReply};

/// What the layers of one request tell each other besides the request itself.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    /// What the outer layer found wrong with the body; its stream says only that it failed.
    pub(crate) fault: OnceLock<Fault>,
    /// Set if the connection is to be broken instead of answered.
    pub(crate) broken: OnceLock<String>,
    /// What is left of a body that was dropped before its end.
    pub(crate) leftover: Mutex<Option<Body>>,
    /// Set when the body has been read to its end. Else the connection ends with the answer.
    pub(crate) body_ended: AtomicBool,
}

/// What can be wrong with a body on the level of HTTP and `aws-chunked`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The connection ended or broke HTTP's framing.
    Transport,
    /// Fewer bytes than announced.
    Short,
    /// More bytes than announced.
    Long,
    /// Not `aws-chunked`.
    Framing,
    /// A chunk or the trailers are not what was signed.
    ChunkSignature,
}

impl Fault {
    fn failure(self) -> Failure {
        let (code, message) = match self {
            Self::Transport => {
                return Failure::Broken(
                    "the client's connection failed within the body".to_owned(),
                );
            }
            Self::Short => (
                "IncompleteBody",
                "You did not provide the number of bytes specified by the Content-Length HTTP header.",
            ),
            Self::Long => {
                ("InvalidRequest", "The body is longer than x-amz-decoded-content-length says.")
            }
            Self::Framing => ("InvalidRequest", "The body is not valid aws-chunked."),
            Self::ChunkSignature => {
                let message = "The signature of a chunk does not match.";
                return refuse(StatusCode::FORBIDDEN, "SignatureDoesNotMatch", message);
            }
        };
        refuse(StatusCode::BAD_REQUEST, code, message)
    }
}

/// Why reading a body failed: what the outer layer noted, or else what s3s says. Its error types are
/// private, so their text is what there is to go by; its version is pinned and tests hold it.
fn body_failure(shared: &Shared, error: &StdError) -> Failure {
    if let Some(fault) = shared.fault.get() {
        return fault.failure();
    }
    let text = error.to_string();
    let has = |name: &str| text.contains(name);
    let (status, code, message) = if has("Sha256Mismatch") {
        let message =
            "The provided 'x-amz-content-sha256' header does not match what was computed.";
        (StatusCode::BAD_REQUEST, "XAmzContentSHA256Mismatch", message)
    } else if has("SignatureMismatch") {
        return Fault::ChunkSignature.failure();
    } else if has("Incomplete") {
        return Fault::Short.failure();
    } else if has("LengthMismatch") {
        return Fault::Long.failure();
    } else if has("limit") {
        let message = "Your request was too big.";
        (StatusCode::BAD_REQUEST, "MaxMessageLengthExceeded", message)
    } else {
        return Fault::Framing.failure();
    };
    refuse(status, code, message)
}

fn gone() -> Failure {
    let message = "The server is shutting down.";
    refuse(StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable", message)
}

/// Open an exchange.
pub(crate) fn open(front: &Front, request: Request) -> Result<Exchange, Failure> {
    front.open(request).map_err(|_closed| gone())
}

/// Ask something that has no body in either direction.
pub(crate) async fn ask(front: &Front, request: Request) -> Result<Reply, Failure> {
    let mut exchange = open(front, request)?;
    let reply = reply_of(&mut exchange).await?;
    exchange.ended();
    Ok(reply)
}

/// Wait for the reply.
pub(crate) async fn reply_of(exchange: &mut Exchange) -> Result<Reply, Failure> {
    Ok(answer_of(exchange).await??)
}

/// Wait for the reply, and tell the gateway's refusals from failures to get one.
pub(crate) async fn answer_of(exchange: &mut Exchange) -> Result<Result<Reply, ApiError>, Failure> {
    loop {
        match exchange.next().await {
            // A body that has ended needs no more credit.
            Some(FrontReply::NeedBody(_)) => {}
            Some(FrontReply::Reply(result)) => {
                if result.is_err() {
                    exchange.ended();
                }
                return Ok(result);
            }
            Some(other) => return Err(out_of_place(other)),
            // Whether the request took effect is not known: nothing true can be said.
            None => return Err(Failure::Broken("the gateway is gone".to_owned())),
        }
    }
}

fn result_of(exchange: &mut Exchange, result: Result<Reply, ApiError>) -> Result<Reply, Failure> {
    result.map_err(|error| {
        exchange.ended();
        Failure::from(error)
    })
}

fn out_of_place(reply: FrontReply) -> Failure {
    match reply {
        FrontReply::Disconnect(reason) | FrontReply::BodyFailed(reason) => Failure::Broken(reason),
        _ => Failure::Broken("the gateway sent a body before its reply".to_owned()),
    }
}

/// A body that comes in.
#[derive(Debug)]
pub(crate) struct Incoming<'a> {
    /// Its bytes, unframed.
    pub(crate) body: Body,
    /// How many there must be.
    pub(crate) length: u64,
    /// What is claimed about it.
    pub(crate) verifier: Verifier,
    /// What came behind it, once it has ended.
    pub(crate) trailers: Option<TrailingHeaders>,
    /// Where the outer layer notes faults.
    pub(crate) shared: &'a Shared,
}

enum Turn {
    Reply(Option<FrontReply>),
    Frame(Option<Result<Bytes, StdError>>),
}

/// Pass a body to the gateway and wait for its reply. On failure the exchange, dropped by the caller,
/// cancels the request: nothing of the body takes effect.
///
/// The body is not polled before the first credit, which is what holds back `100 Continue`.
pub(crate) async fn send(
    exchange: &mut Exchange,
    incoming: Incoming<'_>,
) -> Result<Reply, Failure> {
    let Incoming { mut body, length, mut verifier, trailers, shared } = incoming;
    let mut credit = 0_u64;
    let mut received = 0_u64;
    let mut held = Bytes::new();
    loop {
        if !held.is_empty() && credit > 0 {
            let len = held.len().min(usize::try_from(credit).unwrap_or(usize::MAX));
            credit -= len as u64;
            exchange.body(held.split_to(len));
        }
        // When all bytes are there, only the end is to come, and that needs no credit.
        let read = held.is_empty() && (credit > 0 || received == length);
        let turn = poll_fn(|context| poll_turn(exchange, &mut body, read, context)).await;
        match turn {
            Turn::Reply(Some(FrontReply::NeedBody(more))) => credit = credit.saturating_add(more),
            // An answer before the end of the body: a refusal. What else comes is not read.
            Turn::Reply(Some(FrontReply::Reply(result))) => return result_of(exchange, result),
            Turn::Reply(Some(other)) => return Err(out_of_place(other)),
            Turn::Reply(None) => return Err(Failure::Broken("the gateway is gone".to_owned())),
            Turn::Frame(Some(Ok(bytes))) => {
                received += bytes.len() as u64;
                if received > length {
                    return Err(Fault::Long.failure());
                }
                verifier.update(&bytes);
                held = bytes;
            }
            Turn::Frame(Some(Err(error))) => return Err(body_failure(shared, &error)),
            Turn::Frame(None) if received < length => return Err(Fault::Short.failure()),
            Turn::Frame(None) => break,
        }
    }
    assert_eq!(received, length, "a body ends with its last announced byte");
    let trailers = trailers.and_then(|trailers| trailers.take());
    exchange.body_end(verifier.finish(trailers.as_ref())?);
    reply_of(exchange).await
}

fn poll_turn(
    exchange: &mut Exchange,
    body: &mut Body,
    read: bool,
    context: &mut TaskContext<'_>,
) -> Poll<Turn> {
    if let Poll::Ready(reply) = exchange.poll_next(context) {
        return Poll::Ready(Turn::Reply(reply));
    }
    if !read {
        return Poll::Pending;
    }
    poll_data(body, context).map(Turn::Frame)
}

fn poll_data(
    body: &mut Body,
    context: &mut TaskContext<'_>,
) -> Poll<Option<Result<Bytes, StdError>>> {
    loop {
        match std::task::ready!(Pin::new(&mut *body).poll_frame(context)) {
            None => return Poll::Ready(None),
            Some(Err(error)) => return Poll::Ready(Some(Err(error))),
            // HTTP trailers say nothing here; those of aws-chunked come from s3s.
            Some(Ok(frame)) => {
                if let Ok(bytes) = frame.into_data()
                    && !bytes.is_empty()
                {
                    return Poll::Ready(Some(Ok(bytes)));
                }
            }
        }
    }
}

/// Gather a small body, a document, and verify it.
pub(crate) async fn gather(
    mut body: Body,
    limit: usize,
    mut verifier: Verifier,
    trailers: Option<TrailingHeaders>,
    shared: &Shared,
) -> Result<Bytes, Failure> {
    let mut document = BytesMut::new();
    while let Some(bytes) = poll_fn(|context| poll_data(&mut body, context)).await {
        let bytes = bytes.map_err(|error| body_failure(shared, &error))?;
        if document.len() + bytes.len() > limit {
            let message = "Your request was too big.";
            return Err(refuse(StatusCode::BAD_REQUEST, "MaxMessageLengthExceeded", message));
        }
        verifier.update(&bytes);
        document.extend_from_slice(&bytes);
    }
    let trailers = trailers.and_then(|trailers| trailers.take());
    verifier.finish(trailers.as_ref())?;
    Ok(document.freeze())
}

/// An object's bytes on their way to the client.
#[derive(Debug)]
pub(crate) struct ObjectBody {
    exchange: Exchange,
    remaining: u64,
    failed: bool,
}

impl ObjectBody {
    /// The body that follows a reply of `length` bytes.
    pub(crate) fn new(mut exchange: Exchange, length: u64) -> Self {
        if length == 0 {
            exchange.ended();
        }
        Self { exchange, remaining: length, failed: false }
    }

    fn fail(&mut self, reason: String) -> Poll<Option<Result<Frame<Bytes>, StdError>>> {
        self.failed = true;
        Poll::Ready(Some(Err(reason.into())))
    }
}

impl http_body::Body for ObjectBody {
    type Data = Bytes;
    type Error = StdError;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut TaskContext<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, StdError>>> {
        let this = self.get_mut();
        if this.remaining == 0 || this.failed {
            return Poll::Ready(None);
        }
        loop {
            match std::task::ready!(this.exchange.poll_next(context)) {
                Some(FrontReply::Body(bytes)) if bytes.is_empty() => {}
                Some(FrontReply::Body(bytes)) if bytes.len() as u64 <= this.remaining => {
                    this.remaining -= bytes.len() as u64;
                    this.exchange.taken(bytes.len() as u64);
                    if this.remaining == 0 {
                        // The client has all it was promised; the driver's BodyEnd tells us nothing.
                        this.exchange.ended();
                    }
                    return Poll::Ready(Some(Ok(Frame::data(bytes))));
                }
                Some(FrontReply::BodyFailed(reason) | FrontReply::Disconnect(reason)) => {
                    return this.fail(reason);
                }
                Some(_) => return this.fail("the gateway's body has another length".to_owned()),
                None => return this.fail("the gateway is gone".to_owned()),
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.remaining == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.remaining)
    }
}
