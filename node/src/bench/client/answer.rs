//! What comes back, and what can go wrong instead. Answers may be odd: nothing here trusts them.

use std::fmt;
use std::io;

use bytes::Bytes;
use hyper::StatusCode;

/// A successful answer.
#[derive(Debug)]
pub(crate) struct Answer {
    /// As it came, with its quotes.
    pub(crate) etag: Option<String>,
    /// The body, unless it was an object's, which is not kept.
    pub(crate) body: Bytes,
    /// Bytes of the body.
    pub(crate) received: u64,
}

/// A request that did not do what it should.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// There was no connection to be had.
    Connect(io::ErrorKind),
    /// There was no handshake that both sides agree to.
    Tls(String),
    /// The connection ended, or what came was no HTTP.
    Broken(String),
    /// There was no whole answer in time.
    Timeout,
    /// An error of the server's: status, S3's code if there was one, and S3's message.
    Refused { status: u16, code: Option<String>, message: Option<String> },
    /// A success whose body or header is not what was asked for.
    Wrong(&'static str),
    /// The user wanted an end before it was done. Counted nowhere.
    Stopped,
}

impl Failure {
    /// By what it is counted: S3's code, or what stands for it.
    pub(crate) fn code(&self) -> String {
        match self {
            Self::Connect(kind) => format!("connect: {kind}"),
            Self::Tls(what) => format!("TLS: {what}"),
            Self::Broken(what) => format!("connection: {what}"),
            Self::Timeout => "timeout".to_owned(),
            Self::Refused { code: Some(code), .. } => code.clone(),
            Self::Refused { status, code: None, .. } => format!("HTTP {status}"),
            Self::Wrong(what) => format!("wrong: {what}"),
            Self::Stopped => "stopped".to_owned(),
        }
    }

    /// Whether the server asks for fewer requests.
    pub(crate) fn is_slow_down(&self) -> bool {
        match self {
            Self::Refused { code: Some(code), .. } => code == "SlowDown",
            // An answer to HEAD has no body to say it.
            Self::Refused { status, code: None, .. } => *status == 503,
            _ => false,
        }
    }

    pub(crate) fn refused(status: StatusCode, body: &[u8]) -> Self {
        // A code is a word: what is none, comes from something that is not S3.
        let is_word = |text: &String| {
            (1..=64).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric())
        };
        let code = text(body, "Code").filter(is_word);
        let message = text(body, "Message").map(|text| text.chars().take(300).collect());
        Self::Refused { status: status.as_u16(), code, message }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}", self.code())?;
        if let Self::Refused { status, code, message } = self {
            if code.is_some() {
                write!(out, " ({status})")?;
            }
            if let Some(message) = message {
                write!(out, ": {}", message.escape_debug())?;
            }
        }
        Ok(())
    }
}

/// The text of the first element of this name, unescaped.
pub(crate) fn text(document: &[u8], name: &str) -> Option<String> {
    let open = memchr::memmem::find(document, format!("<{name}>").as_bytes())?;
    let rest = &document[open + name.len() + 2..];
    let end = memchr::memchr(b'<', rest)?;
    let text = std::str::from_utf8(&rest[..end]).ok()?;
    rest[end..].starts_with(b"</").then_some(())?;
    Some(quick_xml::escape::unescape(text).ok()?.into_owned())
}

/// How many elements of this name there are.
pub(crate) fn count(document: &[u8], name: &str) -> u64 {
    memchr::memmem::find_iter(document, format!("<{name}>").as_bytes()).count() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_told_by_their_code_however_odd_the_answer() {
        let refused = |status: u16, body: &str| {
            Failure::refused(StatusCode::from_u16(status).unwrap(), body.as_bytes())
        };
        let body =
            "<?xml version=\"1.0\"?><Error><Code>NoSuchKey</Code><Message>a &lt; b</Message>";
        let failure = refused(404, body);
        assert_eq!(failure.code(), "NoSuchKey");
        assert_eq!(failure.to_string(), "NoSuchKey (404): a < b");
        assert!(refused(503, "<Error><Code>SlowDown</Code></Error>").is_slow_down());
        assert!(refused(503, "").is_slow_down());
        assert!(!refused(503, "<Code>ServiceUnavailable</Code>").is_slow_down());
        for odd in
            ["", "<html>", "<Code>", "<Code></Code>", "<Code>a b</Code>", "<Code>&bad;</Code>"]
        {
            assert_eq!(refused(502, odd).code(), "HTTP 502", "{odd}");
        }
        assert_eq!(
            Failure::refused(StatusCode::FORBIDDEN, b"<Code>\xff</Code>").code(),
            "HTTP 403"
        );
    }

    #[test]
    fn elements_are_found_and_counted() {
        let page =
            b"<IsTruncated>true</IsTruncated><Contents><Key>a&amp;b</Key></Contents><Contents>";
        assert_eq!(text(page, "Key").as_deref(), Some("a&b"));
        assert_eq!(text(page, "Contents"), None);
        assert_eq!((count(page, "Contents"), count(page, "Prefix")), (2, 0));
    }
}
