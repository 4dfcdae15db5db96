//! A private CA for trials: clients that are given its certificate trust this endpoint.
//!
//! Its key is all there is to it: the CA's name and its certificate follow from the key, so that
//! processes which share a directory, and start at once, come to the same CA without a lock: the first
//! key that is there is everybody's. The server's own key and certificate are kept nowhere: each process
//! makes its own, and new ones in time.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};
use sha2::{Digest, Sha256};
use time::OffsetDateTime;
use tokio_rustls::rustls::RootCertStore;
use tokio_rustls::rustls::client::WebPkiServerVerifier;
use tokio_rustls::rustls::client::danger::ServerCertVerifier;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName, UnixTime};

use super::TlsError;
use super::certificate::Certificate;
use crate::files;

/// The CA's certificate in its directory, for clients.
pub const CA_NAME: &str = "ca.pem";
/// The CA's key, for its owner alone.
const KEY_NAME: &str = "ca.key";

/// How long a server's certificate lasts. A new one is made at half of it.
pub(super) const LASTS: Duration = Duration::from_secs(90 * DAY);
/// When the CA's begins and ends: nobody renews it, and no clock has a say in it.
const CA_YEARS: (i32, i32) = (2020, 2050);
/// So much may a client's clock be behind.
const SKEW: Duration = Duration::from_secs(DAY);
const DAY: u64 = 24 * 60 * 60;

/// A new certificate of the CA in `directory`, made if it is not there, for this machine's own names,
/// `listen` and `names`.
pub(super) fn certificate(
    directory: &Path,
    listen: IpAddr,
    names: &[String],
    now: OffsetDateTime,
) -> Result<Certificate, TlsError> {
    files::create_directory(directory, 0o700)
        .map_err(TlsError::io("make the directory", directory))?;
    let key = authority_key(directory)?;
    let params = authority(&key);
    let path = directory.join(CA_NAME);
    let ca = authority_certificate(&path, &params, &key)?;
    let issuer = Issuer::from_params(&params, &key);
    let own = KeyPair::generate().map_err(TlsError::Making)?;
    let params = server(listen, names, now)?;
    let certificate = params.signed_by(&own, &issuer).map_err(TlsError::Making)?;
    verify(&path, ca, certificate.der(), now)?;
    let own = PrivatePkcs8KeyDer::from(own.serialize_der());
    Certificate::new(&path, vec![certificate.der().clone()], own.into())
}

/// See that the CA is there, so that none is made.
pub(super) fn require(directory: &Path) -> Result<(), TlsError> {
    let path = directory.join(KEY_NAME);
    fs::metadata(&path).map(drop).map_err(TlsError::io("find the private CA's key", &path))
}

/// Whether a word can stand in a certificate as a name that clients look for.
pub(crate) fn is_name(name: &str) -> bool {
    // A star stands for one label (RFC 6125, section 6.4.3).
    ServerName::try_from(name.strip_prefix("*.").unwrap_or(name)).is_ok()
}

/// The key that is in the directory; who finds none makes one, and the first to do so is heard.
fn authority_key(directory: &Path) -> Result<KeyPair, TlsError> {
    let path = directory.join(KEY_NAME);
    let text = read_or_make(&path, 0o600, || {
        let made = KeyPair::generate()?;
        Ok((id(&made), made.serialize_pem()))
    })?;
    KeyPair::from_pem(&text).map_err(|error| {
        TlsError::unusable(
            &path,
            format!(
                "the private CA's key cannot be used ({error}): remove it and {CA_NAME} for a new \
                 CA, which clients must be given anew"
            ),
        )
    })
}

/// What a file says, made by `make` if it is not there. That gives its text, and a word that no other
/// maker has.
fn read_or_make(
    path: &Path,
    mode: u32,
    make: impl FnOnce() -> Result<(String, String), rcgen::Error>,
) -> Result<String, TlsError> {
    match fs::read_to_string(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let (word, text) = make().map_err(TlsError::Making)?;
            place(path, &word, text.as_bytes(), mode).map_err(TlsError::io("make", path))?;
            fs::read_to_string(path).map_err(TlsError::io("read", path))
        }
        read => read.map_err(TlsError::io("read", path)),
    }
}

/// Make a file with all its contents, durably, unless there is one already.
fn place(path: &Path, word: &str, contents: &[u8], mode: u32) -> io::Result<()> {
    let aside = path.with_added_extension(word);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&aside)?;
    file.write_all(contents)?;
    file.sync_all()?;
    let linked = fs::hard_link(&aside, path);
    fs::remove_file(&aside)?;
    match linked {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => files::sync_directory(path.parent().unwrap_or(Path::new("."))),
    }
}

/// What tells a key from others.
fn id(key: &KeyPair) -> String {
    let digest = Sha256::digest(key.public_key_raw());
    digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

/// The CA of a key: its name is the key's, so that no client takes it for another.
fn authority(key: &KeyPair) -> CertificateParams {
    let mut params = CertificateParams::default();
    let name = format!("Trine private CA {}", id(key));
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let (first, end) = CA_YEARS;
    params.not_before = date_time_ymd(first, 1, 1);
    params.not_after = date_time_ymd(end, 1, 1) - Duration::from_secs(1);
    params
}

/// The certificate in the directory, made if it is not there.
fn authority_certificate(
    path: &Path,
    params: &CertificateParams,
    key: &KeyPair,
) -> Result<CertificateDer<'static>, TlsError> {
    let text = read_or_make(path, 0o644, || {
        // Of this certificate there may be many makers at a time: a key that is made for its name alone.
        Ok((id(&KeyPair::generate()?), params.self_signed(key)?.pem()))
    })?;
    CertificateDer::from_pem_slice(text.as_bytes())
        .map_err(|error| TlsError::unusable(path, format!("it is no certificate in PEM: {error}")))
}

/// What a server's certificate says.
fn server(
    listen: IpAddr,
    names: &[String],
    now: OffsetDateTime,
) -> Result<CertificateParams, TlsError> {
    let mut all = vec!["localhost".to_owned()];
    let own = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into(), listen];
    let addresses = own.iter().filter(|address: &&IpAddr| !address.is_unspecified());
    all.extend(addresses.map(ToString::to_string));
    all.extend(names.iter().cloned());
    let mut seen = std::collections::BTreeSet::new();
    all.retain(|name| seen.insert(name.clone()));
    let mut params = CertificateParams::new(all).map_err(TlsError::Making)?;
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, "Trine S3 endpoint");
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    params.not_before = now - SKEW;
    params.not_after = now + LASTS;
    Ok(params)
}

/// See with a client's eyes whether what the file says is the CA of what was made.
fn verify(
    path: &Path,
    ca: CertificateDer<'static>,
    certificate: &CertificateDer<'_>,
    now: OffsetDateTime,
) -> Result<(), TlsError> {
    let wrong = |error: &dyn std::fmt::Display| {
        TlsError::unusable(
            path,
            format!(
                "clients that trust it would not trust this endpoint ({error}): remove it \
                 alone if {KEY_NAME} beside it is the right one, or both for a new CA, which \
                 clients must be given anew; and see that this machine's clock is right"
            ),
        )
    };
    let mut roots = RootCertStore::empty();
    roots.add(ca).map_err(|error| wrong(&error))?;
    let provider = Arc::new(ring::default_provider());
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider)
        .build()
        .map_err(|error| wrong(&error))?;
    let seconds = u64::try_from(now.unix_timestamp()).unwrap_or_default();
    let now = UnixTime::since_unix_epoch(Duration::from_secs(seconds));
    let name = ServerName::try_from("localhost").expect("it is a DNS name");
    verifier
        .verify_server_cert(certificate, &[], &name, &[], now)
        .map_err(|error| wrong(&error))?;
    Ok(())
}
