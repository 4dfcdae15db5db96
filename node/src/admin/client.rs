//! The other end of the admin socket.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::schema::Refusal;
use super::socket;

/// How long an answer may take: longer than anything that is asked.
const ANSWER_MAX: Duration = Duration::from_secs(120);

/// Talks to one process.
#[derive(Clone, Debug)]
pub struct Client {
    path: PathBuf,
}

impl Client {
    /// Of the process that listens at `path`.
    pub fn new(path: &Path) -> Self {
        Self { path: path.to_owned() }
    }

    /// Ask for something.
    ///
    /// # Errors
    /// [`ClientError`], for the operator.
    pub async fn get<T: DeserializeOwned>(&self, target: &str) -> Result<T, ClientError> {
        self.call(Method::GET, target, Bytes::new()).await
    }

    /// Have something done.
    ///
    /// # Errors
    /// [`ClientError`], for the operator.
    pub async fn post<T: DeserializeOwned>(
        &self,
        target: &str,
        body: &impl Serialize,
    ) -> Result<T, ClientError> {
        let body = serde_json::to_vec(body).map_err(|error| self.broken(&error))?;
        self.call(Method::POST, target, body.into()).await
    }

    async fn call<T: DeserializeOwned>(
        &self,
        method: Method,
        target: &str,
        body: Bytes,
    ) -> Result<T, ClientError> {
        match tokio::time::timeout(ANSWER_MAX, self.exchange(method, target, body)).await {
            Ok(answer) => answer,
            Err(_) => Err(ClientError::Silent { path: self.path.clone() }),
        }
    }

    async fn exchange<T: DeserializeOwned>(
        &self,
        method: Method,
        target: &str,
        body: Bytes,
    ) -> Result<T, ClientError> {
        let stream = socket::connect(&self.path)
            .await
            .map_err(|error| ClientError::Unreachable { path: self.path.clone(), error })?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| self.broken(&error))?;
        // It ends with the sender.
        tokio::spawn(connection);
        let request = Request::builder()
            .method(method)
            .uri(target)
            .header(hyper::header::HOST, "trine")
            .body(Full::new(body))
            .map_err(|error| self.broken(&error))?;
        let response = sender.send_request(request).await.map_err(|error| self.broken(&error))?;
        let status = response.status();
        let body = response.into_body().collect().await.map_err(|error| self.broken(&error))?;
        let body = body.to_bytes();
        if status == StatusCode::OK {
            return serde_json::from_slice(&body).map_err(|error| self.broken(&error));
        }
        let refusal: Refusal =
            serde_json::from_slice(&body).map_err(|error| self.broken(&error))?;
        Err(ClientError::Refused(refusal.error))
    }

    fn broken(&self, error: &impl fmt::Display) -> ClientError {
        ClientError::Broken { path: self.path.clone(), error: error.to_string() }
    }
}

/// Why there is no answer, for the operator.
#[derive(Debug)]
pub enum ClientError {
    /// Nobody listens.
    Unreachable {
        /// Where.
        path: PathBuf,
        /// What the operating system says.
        error: io::Error,
    },
    /// The process does not answer.
    Silent {
        /// Where.
        path: PathBuf,
    },
    /// What came is no answer.
    Broken {
        /// Where.
        path: PathBuf,
        /// Why not.
        error: String,
    },
    /// It was not done.
    Refused(String),
}

impl fmt::Display for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable { path, error }
                if error.kind() == io::ErrorKind::PermissionDenied =>
            {
                write!(
                    f,
                    "this user may not open {}: run the command as the user that trine runs as",
                    path.display()
                )
            }
            Self::Unreachable { path, error } => write!(
                f,
                "no trine process listens on {} ({error}): start it, or name the data directory of \
                 a running one with --data DIR",
                path.display()
            ),
            Self::Silent { path } => write!(
                f,
                "the trine process at {} does not answer within {ANSWER_MAX:?}: what was asked may \
                 be done yet; see its log",
                path.display()
            ),
            Self::Broken { path, error } => write!(
                f,
                "the trine process at {} broke off or answered something else ({error}): it may \
                 just have ended, or be of another version",
                path.display()
            ),
            Self::Refused(text) => f.write_str(text),
        }
    }
}

impl std::error::Error for ClientError {}
