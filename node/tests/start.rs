//! Starts that go well, starts that are refused, and stops, with the real binary.

#![allow(clippy::unwrap_used, reason = "in a test, the panic is the report")]

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

mod support;

use support::{Server, data_directory, refusal, taken_port, trine};

#[test]
fn it_tells_what_to_paste_and_a_second_start_finds_its_data() {
    let (_directory, data) = data_directory();
    let first = Server::start(&data);
    TcpStream::connect(first.address()).unwrap();
    let (access, secret) = (first.told("access key"), first.told("secret key"));
    for line in [
        format!("export AWS_ACCESS_KEY_ID={access}"),
        format!("export AWS_SECRET_ACCESS_KEY={secret}"),
        format!("aws --endpoint-url {} s3 mb s3://", first.endpoint),
    ] {
        assert!(first.banner.contains(&line), "{line}\n{}", first.banner);
    }
    let mode = fs::metadata(data.join("root-key.toml")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let cluster = fs::read_to_string(data.join("cluster.toml")).unwrap();
    let (status, log) = first.stop("TERM");
    assert_eq!(status.code(), Some(0), "{log}");

    let second = Server::start(&data);
    assert_eq!(second.told("access key"), access);
    assert_eq!(second.told("secret key"), secret);
    assert_eq!(fs::read_to_string(data.join("cluster.toml")).unwrap(), cluster);
    let (status, log) = second.stop("INT");
    assert_eq!(status.code(), Some(0), "{log}");
}

#[test]
fn a_configured_key_pair_is_used_and_its_secret_neither_shown_nor_stored() {
    let (_directory, data) = data_directory();
    let mut command = trine(&data, "127.0.0.1:0");
    command.env("TRINE_ROOT_ACCESS_KEY", "operator").env("TRINE_ROOT_SECRET_KEY", "hunter2hunter2");
    let server = Server::from_command(command);
    assert_eq!(server.told("access key"), "operator");
    assert!(!server.banner.contains("hunter2"));
    assert!(server.banner.contains("=\"$TRINE_ROOT_SECRET_KEY\"\n"), "{}", server.banner);
    assert!(!data.join("root-key.toml").exists());
    let log = server.kill();
    assert!(!log.contains("hunter2"), "{log}");
}

/// The banner said to take the secret from a variable that nobody had set.
#[test]
fn a_key_pair_in_the_file_is_said_to_be_there() {
    let (directory, data) = data_directory();
    let file = directory.path().join("trine.toml");
    fs::write(&file, "root_access_key = \"operator\"\nroot_secret_key = \"hunter2hunter2\"\n")
        .unwrap();
    let mut command = trine(&data, "127.0.0.1:0");
    command.arg("--config").arg(&file);
    let server = Server::from_command(command);
    assert_eq!(server.told("access key"), "operator");
    let place = format!("{}: root_secret_key", file.display());
    assert_eq!(server.told("secret key"), format!("(as in {place})"));
    assert!(server.banner.contains(&format!("=…   # see {place}\n")), "{}", server.banner);
    assert!(!server.banner.contains("TRINE_ROOT_SECRET_KEY"), "{}", server.banner);
    assert!(!server.banner.contains("hunter2"));
}

#[test]
fn a_second_ctrl_c_quits_at_once() {
    let (_directory, data) = data_directory();
    let mut server = Server::start(&data);
    // A request that never ends keeps the drain waiting.
    let mut busy = TcpStream::connect(server.address()).unwrap();
    busy.write_all(b"PUT /b/k HTTP/1.1\r\nHost: x\r\nContent-").unwrap();
    server.signal("INT");
    std::thread::sleep(std::time::Duration::from_millis(200));
    let started = std::time::Instant::now();
    // It may have ended already, if the connection counted as idle.
    let _ = Command::new("kill").args(["-INT", &server.id().to_string()]).status();
    let (status, log) = server.wait();
    assert!(started.elapsed() < std::time::Duration::from_secs(10));
    assert!(matches!(status.code(), Some(0 | 130)), "{status}: {log}");
}

#[test]
fn a_port_that_is_taken_is_named_and_nothing_is_made() {
    let (_directory, data) = data_directory();
    let (_listener, address) = taken_port();
    let text = refusal(trine(&data, &address));
    assert!(text.contains(&format!("{address} is in use")), "{text}");
    assert!(text.contains("--listen"), "{text}");
    assert!(!data.exists());
}

#[test]
fn a_directory_in_use_is_named() {
    let (_directory, data) = data_directory();
    let _first = Server::start(&data);
    let text = refusal(trine(&data, "127.0.0.1:0"));
    assert!(text.contains(&format!("another trine process uses {}", data.display())), "{text}");
    assert!(text.contains("--data"), "{text}");
}

#[test]
fn a_directory_that_cannot_be_made_is_named() {
    let (directory, _) = data_directory();
    let file = directory.path().join("file");
    fs::write(&file, b"").unwrap();
    for data in [file.clone(), file.join("data")] {
        let text = refusal(trine(&data, "127.0.0.1:0"));
        assert!(text.contains(&format!("cannot make the directory {}", data.display())), "{text}");
    }
}

#[test]
fn a_directory_that_cannot_be_written_is_named() {
    // Even root cannot make files in /proc.
    let text = refusal(trine("/proc/1".as_ref(), "127.0.0.1:0"));
    assert!(text.contains("/proc/1"), "{text}");
    assert!(text.contains("--data"), "{text}");
}

#[test]
fn an_unknown_key_and_an_unknown_variable_are_named_with_what_was_meant() {
    let (directory, data) = data_directory();
    let file = directory.path().join("trine.toml");
    fs::write(&file, "regoin = 'eu-north-1'\n").unwrap();
    let mut command = trine(&data, "127.0.0.1:0");
    command.arg("--config").arg(&file);
    let text = refusal(command);
    assert!(text.contains("trine.toml: regoin is not known: did you mean region?"), "{text}");

    let mut command = trine(&data, "127.0.0.1:0");
    command.env("TRINE_LISTNE", "127.0.0.1:1");
    let text = refusal(command);
    assert!(text.contains("TRINE_LISTNE is not known: did you mean TRINE_LISTEN?"), "{text}");
    assert!(!data.exists());
}

#[test]
fn an_address_that_others_reach_is_refused_without_the_explicit_word() {
    let (_directory, data) = data_directory();
    let text = refusal(trine(&data, "0.0.0.0:0"));
    assert!(text.contains("--insecure-listen"), "{text}");
    let mut command = trine(&data, "0.0.0.0:0");
    command.arg("--insecure-listen");
    Server::from_command(command);
}

#[test]
fn an_unknown_format_version_is_named() {
    let (_directory, data) = data_directory();
    Server::start(&data).kill();
    let file = data.join("cluster.toml");
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, text.replace("version = 1", "version = 77")).unwrap();
    let text = refusal(trine(&data, "127.0.0.1:0"));
    assert!(text.contains("cluster.toml has format version 77"), "{text}");
}

#[test]
fn a_lost_store_and_a_lost_cluster_file_are_refused() {
    let (_directory, data) = data_directory();
    Server::start(&data).kill();
    let (store, aside) = (data.join("zone-b/store"), data.join("zone-b/aside"));
    fs::rename(&store, &aside).unwrap();
    let text = refusal(trine(&data, "127.0.0.1:0"));
    assert!(text.contains("zone-b/store is missing"), "{text}");
    fs::rename(&aside, &store).unwrap();
    fs::remove_file(data.join("cluster.toml")).unwrap();
    let text = refusal(trine(&data, "127.0.0.1:0"));
    assert!(text.contains("cluster.toml is missing"), "{text}");
}

#[test]
fn version_and_help_are_told() {
    let version = Command::new(support::binary()).arg("--version").output().unwrap();
    assert!(version.status.success());
    assert!(String::from_utf8(version.stdout).unwrap().starts_with("trine "));
    let help = Command::new(support::binary()).arg("--help").output().unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    for word in ["--data", "--listen", "--config", "TRINE_", "127.0.0.1:9000", "./trine-data"] {
        assert!(help.contains(word), "{word}: {help}");
    }
}

#[test]
fn with_tls_the_endpoint_is_https_and_its_ca_is_told() {
    let (_directory, data) = data_directory();
    let with_tls = || {
        let mut command = trine(&data, "127.0.0.1:0");
        command.arg("--tls");
        command
    };
    let first = Server::from_command(with_tls());
    let address = first.endpoint.strip_prefix("https://").expect("it is an https URL").to_owned();
    let ca = data.join("tls/ca.pem");
    assert_eq!(first.told("private CA"), ca.display().to_string());
    let export = format!("export AWS_CA_BUNDLE={}\n", ca.display());
    assert!(first.banner.contains(&export), "{}", first.banner);
    let request = "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    let refused = https(&address, &ca, request).unwrap();
    assert!(refused.starts_with("HTTP/1.1 403 ") && refused.contains("AccessDenied"), "{refused}");
    let kept = fs::read(&ca).unwrap();
    let (status, log) = first.stop("TERM");
    assert_eq!(status.code(), Some(0), "{log}");
    assert!(log.contains("TLS: the certificate for localhost, 127.0.0.1, ::1"), "{log}");

    // The second start has the same CA, and so have clients.
    let second = Server::from_command(with_tls());
    assert_eq!(fs::read(&ca).unwrap(), kept);
    let address = second.endpoint.strip_prefix("https://").expect("likewise").to_owned();
    assert!(https(&address, &ca, request).unwrap().starts_with("HTTP/1.1 403 "));
}

/// A request by a client that trusts `ca`, and its whole answer.
fn https(address: &str, ca: &Path, request: &str) -> std::io::Result<String> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(ca).unwrap()).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = "localhost".try_into().unwrap();
    let client = ClientConnection::new(Arc::new(config), name).unwrap();
    let mut stream = StreamOwned::new(client, TcpStream::connect(address).unwrap());
    stream.write_all(request.as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

#[test]
fn a_certificate_that_is_none_is_named_and_the_port_is_not_served_without_it() {
    let (directory, data) = data_directory();
    let file = directory.path().join("tls.pem");
    fs::write(&file, "junk").unwrap();
    let mut command = trine(&data, "127.0.0.1:0");
    command.arg("--tls-cert").arg(&file).arg("--tls-key").arg(&file);
    let text = refusal(command);
    let says = format!("no TLS: {}: there is no key in it", file.display());
    assert!(text.contains(&says), "{text}");
}
