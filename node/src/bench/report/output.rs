//! Where results go: standard output, a file.

use std::io::{self, Write};
use std::path::Path;

use serde::Serialize;

use super::super::error::BenchError;
use super::super::progress::eprintln_lossy;

/// Whether JSON goes to standard output.
fn is_stdout(json: Option<&Path>) -> bool {
    json.is_some_and(|path| path == Path::new("-"))
}

/// Print text: to standard output, unless JSON goes there.
pub(crate) fn print(text: &str, json: Option<&Path>) {
    if is_stdout(json) {
        eprintln_lossy(text.trim_end());
    } else {
        // Standard output may be closed: nobody reads it then.
        let _ = io::stdout().write_all(text.as_bytes());
    }
}

/// See early that a file can be written, before hours of measuring.
///
/// # Errors
/// [`BenchError::Write`].
pub(crate) fn check(json: Option<&Path>) -> Result<(), BenchError> {
    let Some(path) = json.filter(|path| *path != Path::new("-")) else { return Ok(()) };
    let opened = std::fs::OpenOptions::new().create(true).append(true).open(path);
    opened.map(drop).map_err(|error| BenchError::Write(path.to_owned(), error))
}

/// Write a document, if one is wanted.
///
/// # Errors
/// [`BenchError::Write`].
pub(crate) fn write(document: &impl Serialize, json: Option<&Path>) -> Result<(), BenchError> {
    let Some(path) = json else { return Ok(()) };
    let fail = |error: io::Error| BenchError::Write(path.to_owned(), error);
    let mut text = serde_json::to_vec_pretty(document).map_err(|error| fail(error.into()))?;
    text.push(b'\n');
    if is_stdout(json) {
        io::stdout().write_all(&text).map_err(fail)
    } else {
        std::fs::write(path, &text).map_err(fail)
    }
}
