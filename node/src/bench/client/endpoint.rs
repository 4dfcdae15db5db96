//! Where an endpoint is: `http://HOST:PORT` or `https://HOST:PORT`, resolved once.

use std::fmt;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::Path;

use hyper::Uri;

use super::tls::ClientTls;

/// An S3 endpoint with buckets in the path.
#[derive(Clone, Debug)]
pub(crate) struct Endpoint {
    /// How connections are secured, if it is an https URL.
    pub(crate) tls: Option<ClientTls>,
    /// The value of `Host`: without the port, if it is the usual one.
    pub(crate) host: String,
    /// At least one; workers take them in turn.
    pub(crate) addresses: Vec<SocketAddr>,
}

impl Endpoint {
    /// Read `http://HOST[:PORT]` or `https://HOST[:PORT]` and look the host up. `ca` has the CAs that are
    /// trusted, if not the system's.
    ///
    /// # Errors
    /// A text for the user.
    pub(crate) fn resolve(text: &str, ca: Option<&Path>) -> Result<Self, String> {
        let wrong = |what: &str| format!("endpoint {text:?}: {what}");
        let uri: Uri = text.parse().map_err(|error| wrong(&format!("{error}")))?;
        let (secure, usual_port) = match uri.scheme_str() {
            Some("http") => (false, 80),
            Some("https") => (true, 443),
            _ => return Err(wrong("it is written http://HOST:PORT or https://HOST:PORT")),
        };
        if !matches!(uri.path(), "" | "/") || uri.query().is_some() {
            return Err(wrong("it has no path: the bucket is given by --bucket"));
        }
        let authority = uri.authority().ok_or_else(|| wrong("it names no host"))?;
        if authority.as_str().contains('@') || authority.host().is_empty() {
            return Err(wrong("it is written http://HOST:PORT, without a user"));
        }
        let port = match authority.as_str().strip_prefix(authority.host()) {
            Some("") => Some(usual_port),
            Some(port) => port.strip_prefix(':').and_then(|digits| digits.parse().ok()),
            None => None,
        };
        let port: u16 = port.ok_or_else(|| wrong("the port is a number below 65536"))?;
        let host = authority.host();
        let bare = host.trim_matches(['[', ']']);
        let addresses = (bare, port).to_socket_addrs();
        let addresses: Vec<_> =
            addresses.map_err(|error| wrong(&format!("cannot look it up: {error}")))?.collect();
        if addresses.is_empty() {
            return Err(wrong("the host has no address"));
        }
        let tls = secure.then(|| ClientTls::new(bare, ca)).transpose()?;
        let host = if port == usual_port { host.to_owned() } else { format!("{host}:{port}") };
        Ok(Self { tls, host, addresses })
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        write!(out, "{scheme}://{}", self.host)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_read_or_refused_with_a_reason() {
        let shown =
            |text: &str| Endpoint::resolve(text, None).map(|it| (it.to_string(), it.addresses[0]));
        for (text, host, address) in [
            ("http://127.0.0.1:9000", "http://127.0.0.1:9000", "127.0.0.1:9000"),
            ("http://127.0.0.1/", "http://127.0.0.1", "127.0.0.1:80"),
            ("http://[::1]:9000", "http://[::1]:9000", "[::1]:9000"),
            ("http://[::1]:443", "http://[::1]:443", "[::1]:443"),
        ] {
            assert_eq!(shown(text), Ok((host.to_owned(), address.parse().unwrap())));
        }
        for (text, reason) in [
            ("127.0.0.1:9000", "127.0.0.1:9000"),
            ("localhost", "http://HOST:PORT"),
            ("ftp://127.0.0.1", "http://HOST:PORT"),
            ("http://127.0.0.1:9000/bucket", "no path"),
            ("http://127.0.0.1:99999", "endpoint"),
            ("http://127.0.0.1:", "port"),
            ("http://me@127.0.0.1:1", "user"),
            ("http://", "endpoint"),
            ("", "endpoint"),
        ] {
            let error = shown(text).unwrap_err();
            assert!(error.contains(reason), "{text}: {error}");
        }
    }
}
