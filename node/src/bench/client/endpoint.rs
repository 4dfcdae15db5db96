//! Where an endpoint is: `http://HOST:PORT`, resolved once.

use std::fmt;
use std::net::{SocketAddr, ToSocketAddrs};

use hyper::Uri;

/// An S3 endpoint over plain HTTP, with buckets in the path.
#[derive(Clone, Debug)]
pub(crate) struct Endpoint {
    /// The value of `Host`: without the port, if it is 80.
    pub(crate) host: String,
    /// At least one; workers take them in turn.
    pub(crate) addresses: Vec<SocketAddr>,
}

impl Endpoint {
    /// Read `http://HOST[:PORT]` and look the host up.
    ///
    /// # Errors
    /// A text for the user.
    pub(crate) fn resolve(text: &str) -> Result<Self, String> {
        let wrong = |what: &str| format!("endpoint {text:?}: {what}");
        let uri: Uri = text.parse().map_err(|error| wrong(&format!("{error}")))?;
        match uri.scheme_str() {
            Some("http") => {}
            Some("https") => {
                return Err(wrong("TLS is not supported; measure behind it, over http"));
            }
            _ => return Err(wrong("it is written http://HOST:PORT")),
        }
        if !matches!(uri.path(), "" | "/") || uri.query().is_some() {
            return Err(wrong("it has no path: the bucket is given by --bucket"));
        }
        let authority = uri.authority().ok_or_else(|| wrong("it names no host"))?;
        if authority.as_str().contains('@') || authority.host().is_empty() {
            return Err(wrong("it is written http://HOST:PORT, without a user"));
        }
        let port = match authority.as_str().strip_prefix(authority.host()) {
            Some("") => Some(80),
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
        let host = if port == 80 { host.to_owned() } else { format!("{host}:{port}") };
        Ok(Self { host, addresses })
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "http://{}", self.host)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_read_or_refused_with_a_reason() {
        let shown =
            |text: &str| Endpoint::resolve(text).map(|it| (it.to_string(), it.addresses[0]));
        for (text, host, address) in [
            ("http://127.0.0.1:9000", "http://127.0.0.1:9000", "127.0.0.1:9000"),
            ("http://127.0.0.1/", "http://127.0.0.1", "127.0.0.1:80"),
            ("http://[::1]:9000", "http://[::1]:9000", "[::1]:9000"),
        ] {
            assert_eq!(shown(text), Ok((host.to_owned(), address.parse().unwrap())));
        }
        for (text, reason) in [
            ("https://127.0.0.1:9000", "TLS"),
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
