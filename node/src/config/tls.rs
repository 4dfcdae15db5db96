//! Which TLS the S3 endpoint speaks, if it does.

use std::path::{Path, PathBuf};

use trine_s3::Domains;

use super::layers::{Layers, Setting};
use super::{ConfigError, parse_directory, switch};
use crate::tls::{TlsSource, is_name};

/// Where the private CA is in a data directory, if nobody says otherwise.
pub(super) const DIRECTORY: &str = "tls";

/// What was said of TLS; `data` is the data directory. A private CA knows `domains` and the buckets under
/// them.
///
/// # Errors
/// [`ConfigError`], for the operator.
pub(super) fn source(
    layers: &Layers,
    data: &Path,
    domains: &Domains,
) -> Result<Option<TlsSource>, ConfigError> {
    let private_ca = switch(layers, Setting::Tls)?;
    let of_files = [Setting::TlsCert, Setting::TlsKey].map(|setting| layers.get(setting));
    let of_ca = [Setting::TlsDirectory, Setting::TlsNames].map(|setting| layers.get(setting));
    match (of_files, private_ca) {
        ([Some(certificates), Some(key)], false) => {
            if let Some(word) = of_ca.into_iter().flatten().next() {
                return Err(ConfigError::TlsOfTwoKinds { what: word.place() });
            }
            let file = |text: &str| (!text.is_empty()).then(|| PathBuf::from(text));
            let certificates = certificates.parse(file, "a file")?;
            Ok(Some(TlsSource::Files { certificates, key: key.parse(file, "a file")? }))
        }
        ([Some(word), None] | [None, Some(word)], false) => {
            Err(ConfigError::HalfACertificate { which: word.place() })
        }
        ([Some(word), _] | [_, Some(word)], true) => {
            Err(ConfigError::TlsOfTwoKinds { what: word.place() })
        }
        ([None, None], true) => {
            let directory = match layers.get(Setting::TlsDirectory) {
                Some(word) => word.parse(parse_directory, "a directory")?,
                None => data.join(DIRECTORY),
            };
            let mut names = match layers.get(Setting::TlsNames) {
                Some(word) => {
                    word.parse(names, "names and IP addresses with commas between them")?
                }
                None => Vec::new(),
            };
            for domain in domains.names() {
                names.extend([domain.to_owned(), format!("*.{domain}")]);
            }
            Ok(Some(TlsSource::PrivateCa { directory, names }))
        }
        ([None, None], false) => match of_ca.into_iter().flatten().next() {
            Some(word) => Err(ConfigError::TlsNotOn { what: word.place() }),
            None => Ok(None),
        },
    }
}

fn names(text: &str) -> Option<Vec<String>> {
    let name = |name: &str| is_name(name.trim()).then(|| name.trim().to_owned());
    text.split(',').map(name).collect()
}
