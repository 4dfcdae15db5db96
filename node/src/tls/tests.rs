//! Certificates with a client's eyes: who is trusted, for which names, until when, and what comes of
//! files that change or are no good.

use std::fs;
use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use rcgen::{CertificateParams, KeyPair};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::client::WebPkiServerVerifier;
use tokio_rustls::rustls::client::danger::ServerCertVerifier;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};

use super::*;
use crate::http::StopSwitch;
use crate::runtime::memory::MemoryRuntime;

const LOCALHOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// A client that trusts the certificates of a file.
pub(crate) fn connector(
    ca: &Path,
    versions: &[&'static SupportedProtocolVersion],
    protocols: &[&[u8]],
) -> TlsConnector {
    let (provider, clock) = (Arc::new(ring::default_provider()), Clock(MemoryRuntime::new()));
    let mut config = ClientConfig::builder_with_details(provider, Arc::new(clock))
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(roots(ca))
        .with_no_client_auth();
    config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
    Arc::new(config).into()
}

fn roots(ca: &Path) -> RootCertStore {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(ca).unwrap() {
        roots.add(certificate.unwrap()).unwrap();
    }
    roots
}

/// A private CA in `directory`, at the beginning of [`MemoryRuntime`]'s time.
pub(crate) fn private(directory: &Path) -> TlsSource {
    TlsSource::PrivateCa { directory: directory.to_owned(), names: Vec::new() }
}

fn open(source: TlsSource) -> Result<Tls, String> {
    Tls::open(&MemoryRuntime::new(), source, LOCALHOST).map_err(|error| error.to_string())
}

/// Whether a client that trusts `ca` trusts what is served to be `name`, `days` after the beginning.
fn is_trusted(tls: &Current, ca: &Path, name: &str, days: u64) -> bool {
    let served = tls.0.lock().unwrap().clone();
    let provider = Arc::new(ring::default_provider());
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots(ca)), provider);
    let name = ServerName::try_from(name).unwrap();
    let now = Duration::from_millis(MemoryRuntime::new().wall().as_millis());
    let now = UnixTime::since_unix_epoch(now + Duration::from_secs(days * 24 * 60 * 60));
    let verifier = verifier.build().unwrap();
    verifier.verify_server_cert(&served.cert[0], &served.cert[1..], &name, &[], now).is_ok()
}

/// A certificate for `name` by itself, and its key, as files.
pub(crate) fn self_signed(directory: &Path, name: &str) -> TlsSource {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
    params.not_after = date(MemoryRuntime::new().wall()) + Duration::from_secs(30 * 24 * 60 * 60);
    let certificate = params.self_signed(&key).unwrap();
    let (certificates, key_path) = (directory.join("tls.crt"), directory.join("tls.key"));
    fs::write(&certificates, certificate.pem()).unwrap();
    fs::write(&key_path, key.serialize_pem()).unwrap();
    TlsSource::Files { certificates, key: key_path }
}

#[test]
fn a_private_ca_is_made_once_and_trusted_for_the_names_it_was_given() {
    let directory = tempfile::tempdir().unwrap();
    let (folder, ca) = (directory.path().join("a/tls"), directory.path().join("a/tls/ca.pem"));
    let names = ["s3.example.com", "*.s3.example.com", "10.1.2.3"].map(str::to_owned).to_vec();
    let source = TlsSource::PrivateCa { directory: folder.clone(), names };
    let first = open(source.clone()).unwrap();
    let kept = fs::read(&ca).unwrap();
    let second = open(source).unwrap();
    assert_eq!(fs::read(&ca).unwrap(), kept);
    for tls in [&first, &second] {
        for name in
            ["localhost", "127.0.0.1", "::1", "s3.example.com", "b.s3.example.com", "10.1.2.3"]
        {
            assert!(is_trusted(&tls.keeper.current, &ca, name, 0), "{name}");
        }
        for name in ["example.com", "a.b.s3.example.com", "10.1.2.4"] {
            assert!(!is_trusted(&tls.keeper.current, &ca, name, 0), "{name}");
        }
        assert!(is_trusted(&tls.keeper.current, &ca, "localhost", 89));
        assert!(!is_trusted(&tls.keeper.current, &ca, "localhost", 91));
    }
    let mode = |name: &str| fs::metadata(folder.join(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("ca.key"), mode("ca.pem")), (0o600, 0o644));
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 2, "nothing else is left");
    // The certificate follows from the key: a lost one comes again, and clients need not know.
    let copy = directory.path().join("copy.pem");
    fs::rename(&ca, &copy).unwrap();
    let third = open(private(&folder)).unwrap();
    assert!(ca.exists() && is_trusted(&third.keeper.current, &copy, "localhost", 0));
    assert!(is_trusted(&first.keeper.current, &ca, "localhost", 0));
}

#[test]
fn processes_that_begin_at_once_have_one_ca() {
    for _ in 0..20 {
        let directory = tempfile::tempdir().unwrap();
        let threads: Vec<_> = (0..4)
            .map(|_| {
                let source = private(directory.path());
                std::thread::spawn(move || open(source).unwrap())
            })
            .collect();
        let all: Vec<_> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
        let ca = directory.path().join(CA_NAME);
        assert!(all.iter().all(|tls| is_trusted(&tls.keeper.current, &ca, "localhost", 0)));
    }
}

#[test]
fn a_private_ca_that_is_damaged_is_named() {
    let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    open(private(one.path())).unwrap();
    open(private(other.path())).unwrap();
    fs::copy(other.path().join(CA_NAME), one.path().join(CA_NAME)).unwrap();
    let error = open(private(one.path())).unwrap_err();
    assert!(error.contains("ca.pem: clients that trust it would not trust"), "{error}");
    for junk in ["", "junk", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
        fs::write(one.path().join(CA_NAME), junk).unwrap();
        let error = open(private(one.path())).unwrap_err();
        assert!(error.contains("ca.pem: "), "{error}");
    }
    fs::write(one.path().join("ca.key"), "junk").unwrap();
    let error = open(private(one.path())).unwrap_err();
    assert!(error.contains("ca.key: the private CA's key cannot be used"), "{error}");
}

#[test]
fn files_that_are_no_certificate_or_no_key_are_named() {
    let directory = tempfile::tempdir().unwrap();
    let source = self_signed(directory.path(), "one.example");
    let TlsSource::Files { certificates, key } = source.clone() else { unreachable!() };
    let (good, good_key) = (fs::read(&certificates).unwrap(), fs::read(&key).unwrap());
    assert!(open(source.clone()).is_ok());
    let empty = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n".as_slice();
    let encrypted =
        b"-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
    let other = tempfile::tempdir().unwrap();
    self_signed(other.path(), "two.example");
    let other_key = fs::read(other.path().join("tls.key")).unwrap();
    for (text, key_text, says) in [
        (b"".as_slice(), &good_key[..], "tls.crt: there is no certificate in it"),
        (&good_key, &good_key, "tls.crt: there is no certificate in it"),
        (empty, &good_key, "tls.crt: its first certificate is none"),
        (&good, b"", "tls.key: there is no key in it"),
        (&good, &good, "tls.key: there is no key in it"),
        (&good, encrypted, "tls.key: its key is encrypted"),
        (&good, &other_key, "tls.crt: its first certificate is for another key"),
    ] {
        fs::write(&certificates, text).unwrap();
        fs::write(&key, key_text).unwrap();
        let error = open(source.clone()).unwrap_err();
        assert!(error.contains(says), "{error}");
        assert!(!error.contains("BEGIN PRIVATE KEY-----\n"), "{error}");
    }
    fs::remove_file(&key).unwrap();
    let error = open(source).unwrap_err();
    assert!(error.contains("cannot read") && error.contains("tls.key"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_new_certificate_is_taken_up_and_a_bad_one_is_not() {
    let directory = tempfile::tempdir().unwrap();
    let source = self_signed(directory.path(), "one.example");
    let (ca, key) = (directory.path().join("tls.crt"), directory.path().join("tls.key"));
    let trust = |name: &str| {
        let path = directory.path().join(name);
        fs::copy(&ca, &path).unwrap();
        path
    };
    let first = trust("first.pem");
    let runtime = MemoryRuntime::new();
    let tls = Tls::open(&runtime, source, LOCALHOST).unwrap();
    let current = tls.keeper.current.clone();
    let (switch, stopped) = StopSwitch::new();
    let kept = tokio::spawn(tls.keep(runtime, stopped));
    let served = |ca: &Path, name: &str| is_trusted(&current, ca, name, 0);
    assert!(served(&first, "one.example"));

    // The key comes later than the certificate: until then there is no pair.
    let old_key = fs::read(&key).unwrap();
    self_signed(directory.path(), "two.example");
    let (second, new_key) = (trust("second.pem"), fs::read(&key).unwrap());
    fs::write(&key, old_key).unwrap();
    tokio::time::sleep(LOOK_EVERY * 3).await;
    assert!(served(&first, "one.example"));
    fs::write(&key, &new_key).unwrap();
    tokio::time::sleep(LOOK_EVERY + Duration::from_millis(1)).await;
    assert!(served(&second, "two.example") && !served(&first, "one.example"));

    for damage in ["junk", ""] {
        fs::write(&ca, damage).unwrap();
        tokio::time::sleep(LOOK_EVERY * 3).await;
        assert!(served(&second, "two.example"));
    }
    fs::remove_file(&ca).unwrap();
    tokio::time::sleep(LOOK_EVERY * 3).await;
    assert!(served(&second, "two.example"));
    self_signed(directory.path(), "three.example");
    tokio::time::sleep(LOOK_EVERY + Duration::from_millis(1)).await;
    assert!(served(&ca, "three.example"));
    switch.stop();
    kept.await.unwrap();
}

#[test]
fn the_private_ca_gives_out_a_new_certificate_in_time() {
    let directory = tempfile::tempdir().unwrap();
    let Tls { mut keeper, .. } = open(private(directory.path())).unwrap();
    let ca = directory.path().join(CA_NAME);
    let begun = date(MemoryRuntime::new().wall());
    let day = Duration::from_secs(24 * 60 * 60);
    let serving = |keeper: &Keeper| keeper.current.0.lock().unwrap().cert[0].clone();
    let first = serving(&keeper);
    keeper.look(begun + day * 44);
    assert_eq!(serving(&keeper), first);
    keeper.look(begun + day * 46);
    assert_ne!(serving(&keeper), first);
    assert!(is_trusted(&keeper.current, &ca, "localhost", 46 + 89));
    // Without the CA, or with a broken one, what is served stays, and it is told once, and daily.
    let second = serving(&keeper);
    fs::remove_file(directory.path().join("ca.key")).unwrap();
    keeper.look(begun + day * (46 + 46));
    assert!(!directory.path().join("ca.key").exists(), "no new CA is made");
    assert!(keeper.complaint.as_ref().is_some_and(|text| text.contains("cannot find")));
    fs::write(directory.path().join("ca.key"), "junk").unwrap();
    keeper.look(begun + day * (46 + 46));
    assert_eq!(serving(&keeper), second);
    assert!(keeper.complaint.as_ref().is_some_and(|text| text.contains("cannot be used")));
    assert_eq!(keeper.warned, None);
    keeper.look(begun + day * (46 + 77));
    assert_eq!(keeper.warned, Some(begun + day * (46 + 77)));
    keeper.look(begun + day * (46 + 77) + day / 2);
    assert_eq!(keeper.warned, Some(begun + day * (46 + 77)));
}

#[test]
fn what_is_served_is_told_with_names_and_end() {
    let directory = tempfile::tempdir().unwrap();
    let tls = open(self_signed(directory.path(), "one.example")).unwrap();
    let text = tls.keeper.certificate.to_string();
    assert_eq!(text, "the certificate for one.example, good until 2026-01-31 00:00 UTC");
    let tls = open(private(directory.path())).unwrap();
    let text = tls.keeper.certificate.to_string();
    let names = "the certificate for localhost, 127.0.0.1, ::1, good until 2026-04-01";
    assert!(text.starts_with(names), "{text}");
}
