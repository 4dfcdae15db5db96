//! The admin socket's HTTP: one path for each thing that can be asked.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tokio::sync::Semaphore;

use super::schema::{Add, Ask, Replace};
use super::socket::Socket;
use super::{Admin, Refused, refusal};
use crate::http::Stopped;
use crate::runtime::Runtime;

/// Connections at a time; more wait in the kernel's backlog. Operators are few.
const CONNECTIONS_MAX: usize = 16;
/// How long a connection may last, with all that is asked on it.
const CONNECTION_MAX: Duration = Duration::from_secs(300);
/// Bytes of a request's body.
const BODY_MAX: usize = 64 << 10;
/// Pause after a failed accept, which mostly means that descriptors have run out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The admin socket of a process.
pub(crate) struct Server<R: Runtime> {
    admin: Arc<Admin<R>>,
    socket: Socket,
}

impl<R: Runtime> Server<R> {
    pub(crate) fn new(admin: Arc<Admin<R>>, socket: Socket) -> Self {
        Self { admin, socket }
    }

    /// Serve until `stopped`; the socket's file is gone then.
    pub(crate) async fn run(self, mut stopped: Stopped) {
        let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        let runtime = self.admin.runtime.clone();
        loop {
            let accepted = async {
                let place = places.clone().acquire_owned().await;
                (self.socket.listener.accept().await, place)
            };
            let (accepted, place) = tokio::select! {
                biased;
                () = stopped.wait() => return,
                accepted = accepted => accepted,
            };
            match accepted {
                Ok((stream, _)) => {
                    let connection = connection(self.admin.clone(), stream);
                    let until = runtime.sleep_until(runtime.now() + CONNECTION_MAX);
                    runtime.spawn("admin connection", async move {
                        tokio::select! {
                            biased;
                            () = connection => {}
                            () = until => tracing::debug!("an admin connection had its time"),
                        }
                        drop(place);
                    });
                }
                Err(error) => {
                    tracing::warn!("accepting on the admin socket: {error}");
                    runtime.sleep_until(runtime.now() + ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

async fn connection<R: Runtime>(admin: Arc<Admin<R>>, stream: UnixStream) {
    let service = service_fn(move |request| answer(admin.clone(), request));
    let served = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
    if let Err(error) = served {
        // The client's doing: it hung up, or sent what is not HTTP.
        tracing::debug!("admin connection: {error}");
    }
}

async fn answer<R: Runtime>(
    admin: Arc<Admin<R>>,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (status, body) = match ask(request).await {
        Ok(ask) => match admin.answer(ask).await {
            Ok(body) => (StatusCode::OK, body),
            Err(refused) => (StatusCode::CONFLICT, refusal(&refused)),
        },
        Err((status, text)) => (status, refusal(&Refused::new(text))),
    };
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    let json = hyper::header::HeaderValue::from_static("application/json");
    response.headers_mut().insert(hyper::header::CONTENT_TYPE, json);
    Ok(response)
}

/// What a request asks.
async fn ask(request: Request<Incoming>) -> Result<Ask, (StatusCode, String)> {
    let (head, body) = request.into_parts();
    let route = (head.method.clone(), head.uri.path().to_owned());
    let body = Limited::new(body, BODY_MAX).collect().await;
    let body = body.map_err(|error| (StatusCode::BAD_REQUEST, error.to_string()))?.to_bytes();
    let fields = || -> Result<serde_json::Map<String, serde_json::Value>, _> {
        if body.is_empty() {
            return Ok(serde_json::Map::new());
        }
        serde_json::from_slice(&body)
            .map_err(|error| (StatusCode::BAD_REQUEST, format!("the body is not JSON: {error}")))
    };
    let tagged = |name: &str| {
        let mut fields = fields()?;
        fields.insert("ask".to_owned(), name.into());
        serde_json::from_value::<Ask>(fields.into())
            .map_err(|error| (StatusCode::BAD_REQUEST, error.to_string()))
    };
    match (route.0, route.1.as_str()) {
        (Method::GET, "/v1/status") => Ok(Ask::Status),
        (Method::GET, "/v1/node") => Ok(Ask::Node),
        (Method::POST, "/v1/zone/stop") => tagged("zone_stop"),
        (Method::POST, "/v1/zone/start") => tagged("zone_start"),
        (Method::POST, "/v1/store/replace") => {
            let replace: Replace = serde_json::from_value(fields()?.into())
                .map_err(|error| (StatusCode::BAD_REQUEST, error.to_string()))?;
            Ok(Ask::Replace(replace))
        }
        (Method::POST, "/v1/store/add") => {
            let add: Add = serde_json::from_value(fields()?.into())
                .map_err(|error| (StatusCode::BAD_REQUEST, error.to_string()))?;
            Ok(Ask::Add(add))
        }
        (Method::POST, "/v1/store/weight") => tagged("weight"),
        (Method::POST, "/v1/node/add") => tagged("node_add"),
        (Method::POST, "/v1/node/move") => tagged("node_move"),
        (Method::POST, "/v1/node/remove") => tagged("node_remove"),
        (Method::POST, "/v1/level/raise") => tagged("level_raise"),
        (Method::POST, "/v1/audit") => tagged("audit"),
        (method, path) => Err((StatusCode::NOT_FOUND, format!("there is no {method} {path}"))),
    }
}
