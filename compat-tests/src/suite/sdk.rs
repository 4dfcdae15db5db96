//! Clients that are libraries for JavaScript and Rust: scripts in `scenarios/`, programs in `rust-clients/`.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::python::scenarios;
use super::{Client, Session};
use crate::fetch::Kit;

pub(super) const MINIO_JS: Client = Client {
    name: "minio-js",
    kit: Kit::Node,
    does: "streams of unknown length, 1,100 keys, copy, compose, remove many, presigned requests",
    version: |kit| package(kit, "minio"),
    scenario: |session| script(session, "minio_js.mjs"),
};

pub(super) const AWS_SDK_JS: Client = Client {
    name: "aws-sdk-js",
    kit: Kit::Node,
    does: "lib-storage uploads, checksums, conditions, 1,100 keys, error classes, presigned requests",
    version: |kit| package(kit, "@aws-sdk/client-s3"),
    scenario: |session| script(session, "aws_sdk_js.mjs"),
};

pub(super) const AWS_SDK_RUST: Client = Client {
    name: "aws-sdk-rust",
    kit: Kit::Rust,
    does: "streams, checksums, multipart, conditions, 1,100 keys, error classes, presigned requests",
    version: |kit| program(kit, "aws-sdk-s3"),
    scenario: |session| rust(session, "aws-sdk-s3"),
};

pub(super) const OBJECT_STORE: Client = Client {
    name: "object_store",
    kit: Kit::Rust,
    does: "conditional puts, get_ranges, 1,100 keys, copy and rename, multipart, signed URLs",
    version: |kit| program(kit, "object_store"),
    scenario: |session| {
        session.make_bucket("object-store-bucket");
        rust(session, "object_store");
    },
};

fn script(session: &Session, name: &str) {
    // Modules are looked for beside the script, so it goes to where they are.
    let scenarios = scenarios();
    for file in [name, "common.mjs"] {
        fs::copy(scenarios.join(file), session.folder.join(file)).expect("both are there");
    }
    let modules = session.folder.join("node_modules");
    std::os::unix::fs::symlink(session.kit("node_modules"), modules).expect("our folder");
    let mut command = session.command("node");
    command.arg(session.folder.join(name)).env("ENDPOINT", session.server.endpoint());
    if let Some(ca) = session.ca() {
        command.env("NODE_EXTRA_CA_CERTS", ca);
    }
    session.run(command);
}

fn rust(session: &Session, name: &str) {
    let mut command = session.command(session.kit("debug/trine-rust-clients"));
    command.arg(name).env("ENDPOINT", session.server.endpoint());
    if let Some(ca) = session.ca() {
        command.env("SSL_CERT_FILE", ca);
    }
    session.run(command);
}

fn package(kit: &Path, name: &str) -> Command {
    let mut command = Command::new("node");
    let file = kit.join("node_modules").join(name).join("package.json");
    let told = "console.log(JSON.parse(require('fs').readFileSync(process.argv[1])).version)";
    command.args(["-e", told]).arg(file);
    command
}

fn program(kit: &Path, name: &str) -> Command {
    let mut command = Command::new(kit.join("debug/trine-rust-clients"));
    command.args([name, "--version"]);
    command
}
