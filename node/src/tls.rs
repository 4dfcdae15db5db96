//! TLS of the S3 endpoint, by rustls (RFC 8446, and RFC 5246 for older clients).
//!
//! The certificate comes from files, which are read again when they change, or from a private CA of our
//! own, which gives out a new one in time. Connections that stand keep what they began with; a new
//! certificate that is no good is told of, and the one before it stays.

use std::fmt;
use std::io;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use time::OffsetDateTime;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::UnixTime;
use tokio_rustls::rustls::server::{ClientHello, ResolvesServerCert};
use tokio_rustls::rustls::sign::CertifiedKey;
use tokio_rustls::rustls::time_provider::TimeProvider;
use trine_core::time::WallTime;

use crate::http::Stopped;
use crate::runtime::Runtime;

mod certificate;
mod private_ca;

use certificate::Certificate;
pub use private_ca::CA_NAME;
pub(crate) use private_ca::is_name;

/// What ALPN offers (RFC 7301), best first.
const PROTOCOLS: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// How often the source of the certificate is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// How long before its end an operator is warned of a certificate that nobody has renewed.
const WARN_BEFORE: Duration = Duration::from_secs(14 * 24 * 60 * 60);
/// How often.
const WARN_EVERY: Duration = Duration::from_secs(24 * 60 * 60);

/// Where the certificate comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TlsSource {
    /// PEM files, such as a public CA's client keeps up to date.
    Files {
        /// The certificate, and those between it and the CA's, in this order.
        certificates: PathBuf,
        /// Its private key.
        key: PathBuf,
    },
    /// A private CA, for trials: made if it is not there.
    PrivateCa {
        /// Its directory, which may be that of several processes.
        directory: PathBuf,
        /// DNS names and IP addresses that clients use, besides those of the machine itself.
        names: Vec<String>,
    },
}

/// The TLS side of a listener.
#[derive(Debug)]
pub struct Tls {
    config: Arc<ServerConfig>,
    keeper: Keeper,
}

impl Tls {
    /// With the certificate that `source` has now. `listen` is where clients come to.
    ///
    /// # Errors
    /// [`TlsError`], for the operator.
    pub fn open(
        runtime: &impl Runtime,
        source: TlsSource,
        listen: IpAddr,
    ) -> Result<Self, TlsError> {
        let now = date(runtime.wall());
        let mut source = Source { source, listen, files: None };
        let certificate = source.renewed(now, None)?.expect("there is none that could stay");
        let current = Arc::new(Current(Mutex::new(certificate.key.clone())));
        let provider = Arc::new(ring::default_provider());
        let clock = Arc::new(Clock(runtime.clone()));
        let mut config = ServerConfig::builder_with_details(provider, clock)
            .with_safe_default_protocol_versions()
            .expect("ring has suites for all versions")
            .with_no_client_auth()
            .with_cert_resolver(current.clone());
        config.alpn_protocols = PROTOCOLS.map(<[u8]>::to_vec).to_vec();
        tracing::info!("TLS: {certificate}");
        let keeper = Keeper { source, current, certificate, warned: None, complaint: None };
        Ok(Self { config: Arc::new(config), keeper })
    }

    /// What makes TLS connections of accepted ones.
    pub fn acceptor(&self) -> TlsAcceptor {
        self.config.clone().into()
    }

    /// Look at the source from time to time, until `stopped`.
    pub async fn keep<R: Runtime>(self, runtime: R, mut stopped: Stopped) {
        let mut keeper = self.keeper;
        loop {
            tokio::select! {
                biased;
                () = stopped.wait() => return,
                () = runtime.sleep_until(runtime.now() + LOOK_EVERY) => {}
            }
            let now = date(runtime.wall());
            let look = move || {
                keeper.look(now);
                keeper
            };
            keeper = runtime.blocking(look).await;
        }
    }
}

/// The source, and what came of it.
#[derive(Debug)]
struct Keeper {
    source: Source,
    current: Arc<Current>,
    certificate: Certificate,
    /// When the operator was last told that the certificate is about to end.
    warned: Option<OffsetDateTime>,
    /// What was wrong at the last look: it is told once.
    complaint: Option<String>,
}

impl Keeper {
    fn look(&mut self, now: OffsetDateTime) {
        match self.source.renewed(now, Some(&self.certificate)) {
            Ok(None) => {}
            Ok(Some(certificate)) => {
                tracing::info!("TLS: from now on {certificate}");
                self.current.set(certificate.key.clone());
                self.certificate = certificate;
                (self.warned, self.complaint) = (None, None);
            }
            Err(error) => {
                let complaint = error.to_string();
                if self.complaint.as_ref() != Some(&complaint) {
                    tracing::error!("TLS: {complaint}; the certificate before it stays in use");
                    self.complaint = Some(complaint);
                }
            }
        }
        let told = self.warned.is_some_and(|told| now < told + WARN_EVERY);
        if !told && self.certificate.ends_by(now + WARN_BEFORE) {
            tracing::warn!("TLS: renew the certificate: {}", self.certificate);
            self.warned = Some(now);
        }
    }
}

/// A [`TlsSource`] and what was last read from it.
#[derive(Debug)]
struct Source {
    source: TlsSource,
    listen: IpAddr,
    /// The bytes of both files.
    files: Option<(Vec<u8>, Vec<u8>)>,
}

impl Source {
    /// A certificate to take the place of `current`, if there is a reason.
    fn renewed(
        &mut self,
        now: OffsetDateTime,
        current: Option<&Certificate>,
    ) -> Result<Option<Certificate>, TlsError> {
        match &self.source {
            TlsSource::Files { certificates, key } => {
                let read = |path: &PathBuf| std::fs::read(path).map_err(TlsError::io("read", path));
                let files = (read(certificates)?, read(key)?);
                if self.files.as_ref() == Some(&files) {
                    return Ok(None);
                }
                let certificate = certificate::from_pem((certificates, &files.0), (key, &files.1))?;
                self.files = Some(files);
                Ok(Some(certificate))
            }
            TlsSource::PrivateCa { directory, names } => {
                let half = private_ca::LASTS / 2;
                match current {
                    Some(current) if !current.ends_by(now + half) => return Ok(None),
                    // Clients would not know a new one.
                    Some(_) => private_ca::require(directory)?,
                    None => {}
                }
                private_ca::certificate(directory, self.listen, names, now).map(Some)
            }
        }
    }
}

/// The certificate that new connections get.
#[derive(Debug)]
struct Current(Mutex<Arc<CertifiedKey>>);

impl Current {
    fn set(&self, key: Arc<CertifiedKey>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = key;
    }
}

impl ResolvesServerCert for Current {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.lock().unwrap_or_else(PoisonError::into_inner).clone())
    }
}

/// The runtime's wall clock, as rustls wants it.
#[derive(Debug)]
struct Clock<R>(R);

impl<R: Runtime> TimeProvider for Clock<R> {
    fn current_time(&self) -> Option<UnixTime> {
        let wall = Duration::from_millis(self.0.wall().as_millis());
        Some(UnixTime::since_unix_epoch(wall))
    }
}

fn date(wall: WallTime) -> OffsetDateTime {
    // A clock that is beyond what can be written is a broken one.
    i64::try_from(wall.as_millis() / 1000)
        .ok()
        .and_then(|seconds| OffsetDateTime::from_unix_timestamp(seconds).ok())
        .unwrap_or(OffsetDateTime::UNIX_EPOCH)
}

/// Why there can be no TLS, for the operator.
#[derive(Debug)]
pub enum TlsError {
    /// A file cannot be read or made.
    Io {
        /// What was tried: "read", "write".
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Why not.
        error: io::Error,
    },
    /// A file is not what it should be.
    Unusable {
        /// Which.
        path: PathBuf,
        /// What is wrong, and what to do.
        text: String,
    },
    /// A certificate cannot be made.
    Making(rcgen::Error),
}

impl TlsError {
    fn io(action: &'static str, path: &std::path::Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |error| Self::Io { action, path, error }
    }

    fn unusable(path: &std::path::Path, text: impl Into<String>) -> Self {
        Self::Unusable { path: path.to_owned(), text: text.into() }
    }
}

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io { action, path, error } => {
                write!(f, "cannot {action} {}: {error}", path.display())
            }
            Self::Unusable { path, text } => write!(f, "{}: {text}", path.display()),
            Self::Making(error) => write!(f, "a certificate cannot be made: {error}"),
        }
    }
}

impl std::error::Error for TlsError {}

#[cfg(test)]
pub(crate) mod tests;
