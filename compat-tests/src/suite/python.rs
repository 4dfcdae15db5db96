//! Clients that are Python libraries: one script each, in `scenarios/`, beside `common.py`.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::{Client, Session};
use crate::fetch::Kit;

pub(super) const BOTO3: Client = Client {
    name: "boto3",
    kit: Kit::Smoke,
    does: "transfers, 1,500 keys, conditions, checksums, multipart, copies, presigned requests, probes",
    version: |kit| distribution(kit, "boto3"),
    scenario: |session| {
        let clients = crate::clients::Clients::install();
        // What `cargo test --workspace` runs over HTTP.
        for script in
            [include_str!("../../tests/boto3_smoke.py"), include_str!("../../tests/front.py")]
        {
            clients.boto3(&session.server, script, &[]);
        }
        script(session, "boto3_suite.py");
    },
};

pub(super) const MINIO_PY: Client = Client {
    name: "minio-py",
    kit: Kit::Tools,
    does: "put of unknown length, 1,100 keys, copy, compose, remove many, presigned requests",
    version: |kit| distribution(kit, "minio"),
    scenario: |session| script(session, "minio_py.py"),
};

pub(super) const PYARROW: Client = Client {
    name: "pyarrow",
    kit: Kit::Data,
    does: "streams without length, Parquet datasets with projection, 1,100 files, move and delete",
    version: |kit| distribution(kit, "pyarrow"),
    scenario: |session| script(session, "pyarrow_fs.py"),
};

pub(super) const DUCKDB: Client = Client {
    name: "duckdb",
    kit: Kit::Data,
    does: "Parquet and CSV read by ranges, COPY TO, partitions, globs over 1,100 files",
    version: |kit| distribution(kit, "duckdb"),
    scenario: |session| {
        session.make_bucket("duckdb-bucket");
        script(session, "duckdb_httpfs.py");
    },
};

pub(super) const DELTALAKE: Client = Client {
    name: "deltalake",
    kit: Kit::Data,
    does: "two processes append at once, time travel, merge, delete, optimize, vacuum",
    version: |kit| distribution(kit, "deltalake"),
    scenario: |session| {
        session.make_bucket("delta-bucket");
        script(session, "delta_table.py");
    },
};

pub(super) const OBSTORE: Client = Client {
    name: "obstore",
    kit: Kit::Data,
    does: "conditional puts, get_ranges, 1,100 keys, attributes, multipart, signed URLs",
    version: |kit| distribution(kit, "obstore"),
    scenario: |session| {
        session.make_bucket("obstore-bucket");
        script(session, "obstore_store.py");
    },
};

fn script(session: &Session, name: &str) {
    let scenarios = scenarios();
    let mut command = session.command(session.kit("bin/python3"));
    command
        .arg(scenarios.join(name))
        .env("PYTHONPATH", scenarios)
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("PYTHONUNBUFFERED", "1")
        .env("ENDPOINT", session.server.endpoint())
        .env("CA", session.ca().unwrap_or_default());
    session.run(command);
}

/// Where the scripts are.
pub(super) fn scenarios() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios")
}

fn distribution(kit: &Path, name: &str) -> Command {
    let mut command = Command::new(kit.join("bin/python3"));
    // Imported too: what cannot be loaded was not had.
    let told = format!("import {name}, importlib.metadata as m; print(m.version('{name}'))");
    command.args(["-c", &told]);
    command
}
