//! Base domains: `BUCKET.DOMAIN` in a Host header names a bucket.
//!
//! Parsed once, when the service is set up. Hosts that are under none of the domains are addressed
//! by path, so that `localhost` and plain addresses go on working beside a domain.

use std::fmt;

use s3s::host::{S3Host, VirtualHost};

/// Longest name of a host, in bytes (RFC 1035, 2.3.4).
const NAME_BYTES_MAX: usize = 253;
/// Longest label of one, in bytes.
const LABEL_BYTES_MAX: usize = 63;

/// A set of base domains, none of them within another.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Domains {
    /// In lower case.
    names: Vec<String>,
}

/// A name that cannot be a base domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DomainError {
    /// Not labels of letters, digits and hyphens, joined by dots. Ports do not belong to it.
    Malformed {
        /// The name.
        domain: String,
    },
    /// One is within the other, so that a host could name two buckets.
    Overlapping {
        /// The name.
        domain: String,
        /// The one before it.
        other: String,
    },
}

impl fmt::Display for DomainError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed { domain } => write!(
                f,
                "domain {domain:?}: expected a host name without port, such as s3.example.com"
            ),
            Self::Overlapping { domain, other } => {
                write!(f, "domain {domain:?}: one of it and {other:?} is within the other")
            }
        }
    }
}

impl std::error::Error for DomainError {}

impl Domains {
    /// Read names, in any case.
    ///
    /// # Errors
    /// [`DomainError`] names the first that cannot be one.
    pub fn parse<I>(names: I) -> Result<Self, DomainError>
    where
        I: IntoIterator,
        I::Item: AsRef<str>,
    {
        let mut domains = Self::default();
        for name in names {
            let domain = name.as_ref().to_ascii_lowercase();
            if !is_host_name(&domain) {
                return Err(DomainError::Malformed { domain });
            }
            let overlap = |other: &&String| is_within(&domain, other) || is_within(other, &domain);
            if let Some(other) = domains.names.iter().find(overlap).cloned() {
                return Err(DomainError::Overlapping { domain, other });
            }
            domains.names.push(domain);
        }
        Ok(domains)
    }

    /// The domains, in lower case.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.names.iter().map(String::as_str)
    }

    /// The bucket that a Host header names, in lower case; `None` if buckets stand in the path.
    pub(crate) fn bucket(&self, host: &str) -> Option<String> {
        let host = host.to_ascii_lowercase();
        let host = match host.rsplit_once(':') {
            Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
            _ => &host,
        };
        let bucket = |domain: &String| host.strip_suffix(domain.as_str())?.strip_suffix('.');
        self.names.iter().find_map(bucket).filter(|name| !name.is_empty()).map(str::to_owned)
    }
}

/// s3s's own domains know no ports and take hosts that they do not know for buckets.
impl S3Host for Domains {
    fn parse_host_header<'a>(&'a self, host: &'a str) -> s3s::S3Result<VirtualHost<'a>> {
        let known = VirtualHost::new(host);
        Ok(match self.bucket(host) {
            Some(bucket) => known.with_bucket(bucket),
            None => known,
        })
    }
}

fn is_host_name(name: &str) -> bool {
    let is_label = |label: &str| {
        (1..=LABEL_BYTES_MAX).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    name.len() <= NAME_BYTES_MAX && name.split('.').all(is_label)
}

/// Whether `name` is `domain` or below it.
fn is_within(name: &str, domain: &str) -> bool {
    name.strip_suffix(domain).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_under_a_domain_names_a_bucket_whatever_its_port_and_case() {
        let domains = Domains::parse(["S3.Example.com", "local"]).unwrap();
        for (host, bucket) in [
            ("bucket.s3.example.com", Some("bucket")),
            ("Bucket.S3.example.COM:9000", Some("bucket")),
            ("a.b.s3.example.com", Some("a.b")),
            ("bucket.local:80", Some("bucket")),
            ("s3.example.com", None),
            (".s3.example.com", None),
            ("xs3.example.com", None),
            ("localhost:9000", None),
            ("[::1]:9000", None),
        ] {
            assert_eq!(domains.bucket(host).as_deref(), bucket, "{host}");
        }
    }

    #[test]
    fn names_that_cannot_be_domains_are_errors() {
        for name in ["", "a..b", "s3.example.com:9000", "a_b", "-a.b", ".a", "a.", "http://a"] {
            let domain = name.to_owned();
            assert_eq!(Domains::parse([name]), Err(DomainError::Malformed { domain }));
        }
        assert!(Domains::parse(["x".repeat(64)]).is_err());
        let overlapping = Domains::parse(["a.example.com", "Example.com"]).unwrap_err();
        assert_eq!(
            overlapping.to_string(),
            "domain \"example.com\": one of it and \"a.example.com\" is within the other"
        );
        // Sharing an end is not being within.
        assert!(Domains::parse(["example.com", "myexample.com"]).is_ok());
    }
}
