//! A certificate with its key, checked, and what an operator wants to know of it.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use time::OffsetDateTime;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, pem};
use tokio_rustls::rustls::sign::CertifiedKey;
use tokio_rustls::rustls::{self, InconsistentKeys};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use super::TlsError;

/// A certificate, the chain behind it, and its key.
#[derive(Debug)]
pub(super) struct Certificate {
    pub(super) key: Arc<CertifiedKey>,
    /// For whom it is: DNS names and IP addresses.
    names: Vec<String>,
    ends: OffsetDateTime,
}

impl Certificate {
    /// Check that they belong together. `path` is the file that an error is about.
    pub(super) fn new(
        path: &Path,
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
    ) -> Result<Self, TlsError> {
        let Some(first) = chain.first() else {
            return Err(TlsError::unusable(
                path,
                "there is no certificate in it: it must have -----BEGIN CERTIFICATE-----",
            ));
        };
        let (names, ends) = facts(first).ok_or_else(|| {
            TlsError::unusable(path, "its first certificate is none (it is no X.509 in DER)")
        })?;
        let key = CertifiedKey::from_der(chain, key, &ring::default_provider());
        let key = key.map_err(|error| match error {
            rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => TlsError::unusable(
                path,
                "its first certificate is for another key than the one given: the server's own \
                 certificate comes first, and the key must be that certificate's",
            ),
            error => TlsError::unusable(path, format!("it, or its key, is of no use: {error}")),
        })?;
        Ok(Self { key: Arc::new(key), names, ends })
    }

    /// Whether it is no longer good at `at`.
    pub(super) fn ends_by(&self, at: OffsetDateTime) -> bool {
        at >= self.ends
    }
}

impl fmt::Display for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = if self.names.is_empty() { "nobody".to_owned() } else { self.names.join(", ") };
        let (day, hour, minute) = (self.ends.date(), self.ends.hour(), self.ends.minute());
        write!(f, "the certificate for {names}, good until {day} {hour:02}:{minute:02} UTC")
    }
}

/// Read both files' contents; each comes with the path that its errors name.
pub(super) fn from_pem(
    (path, certificates): (&Path, &[u8]),
    (key_path, key): (&Path, &[u8]),
) -> Result<Certificate, TlsError> {
    let chain = CertificateDer::pem_slice_iter(certificates)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| TlsError::unusable(path, format!("it is no PEM: {error}")))?;
    let key = PrivateKeyDer::from_pem_slice(key).map_err(|error| {
        let encrypted = key.windows(ENCRYPTED.len()).any(|window| window == ENCRYPTED);
        let text = match error {
            _ if encrypted => {
                "its key is encrypted: remove the passphrase (openssl pkey -in …)".to_owned()
            }
            pem::Error::NoItemsFound => {
                "there is no key in it: it must have -----BEGIN PRIVATE KEY-----".to_owned()
            }
            error => format!("it is no PEM: {error}"),
        };
        TlsError::unusable(key_path, text)
    })?;
    Certificate::new(path, chain, key)
}

const ENCRYPTED: &[u8] = b"ENCRYPTED";

/// Subject alternative names (RFC 5280, section 4.2.1.6), and the end of the validity.
fn facts(certificate: &[u8]) -> Option<(Vec<String>, OffsetDateTime)> {
    let (rest, certificate) = X509Certificate::from_der(certificate).ok()?;
    if !rest.is_empty() {
        return None;
    }
    let names = certificate.subject_alternative_name().ok()?;
    let names = names.map_or(&[][..], |names| &names.value.general_names);
    let names = names.iter().filter_map(name).collect();
    Some((names, certificate.validity().not_after.to_datetime()))
}

fn name(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(name) => Some((*name).escape_debug().to_string()),
        GeneralName::IPAddress(bytes) => {
            let address = <[u8; 4]>::try_from(*bytes)
                .map(std::net::IpAddr::from)
                .or_else(|_| <[u8; 16]>::try_from(*bytes).map(std::net::IpAddr::from));
            address.ok().map(|address| address.to_string())
        }
        _ => None,
    }
}
