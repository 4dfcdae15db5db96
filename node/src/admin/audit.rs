//! A page of the audit: the gateway has each copy read from disk and verified.

use std::fmt::Write as _;

use bytes::Bytes;
use trine_core::request::{Reply, Request};

use super::directory::{self, AskError};
use super::schema::{AuditPage, Finding};
use super::{Admin, Refused};
use crate::runtime::Runtime;

/// Objects of a page: few enough that a page of large ones is read while a client waits for it.
const OBJECTS: u32 = 32;

impl<R: Runtime> Admin<R> {
    /// The page after `after`.
    pub(super) async fn audit_page(&self, after: Option<String>) -> Result<AuditPage, Refused> {
        let after = match after {
            None => None,
            Some(text) => Some(from_hex(&text).ok_or_else(|| {
                Refused::new(format!("after = {text:?} is not the `next` of a page"))
            })?),
        };
        match directory::ask(&self.front, Request::Audit { after, limit: OBJECTS }).await {
            Ok(Reply::Audit(page)) => Ok(AuditPage {
                objects: page.objects,
                chunks: page.chunks,
                copies_good: page.copies_good,
                bad: page.bad.into_iter().map(Finding::from).collect(),
                unreachable: page.unreachable.into_iter().map(|store| store.0).collect(),
                next: page.next.map(|next| to_hex(&next)),
            }),
            Ok(other) => Err(Refused::new(format!("the gateway answered otherwise: {other:?}"))),
            Err(AskError::Refused(text) | AskError::Unknown(text)) => Err(Refused::new(text)),
        }
    }
}

fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn from_hex(text: &str) -> Option<Bytes> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|d| u8::try_from(d).ok());
    let pair = |pair: &[u8]| Some(digit(*pair.first()?)? << 4 | digit(*pair.get(1)?)?);
    text.as_bytes().chunks(2).map(pair).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_survives_its_text_and_others_are_refused() {
        let bytes: Vec<u8> = (0..=255).collect();
        assert_eq!(from_hex(&to_hex(&bytes)).as_deref(), Some(&bytes[..]));
        assert_eq!(from_hex("").as_deref(), Some(&b""[..]));
        for text in ["0", "0g", "+1", "ä"] {
            assert_eq!(from_hex(text), None, "{text}");
        }
    }
}
