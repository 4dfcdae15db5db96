//! The first thing on each connection: a greeting, its bytes, and what makes it fit.
//! `docs/protocol.md` has the table; a test holds it against this module.
//!
//! Greetings are not frames: they have a form that no later version of the frames changes, so that
//! two builds can always tell each other why they do not go together.

use std::fmt;

use bytes::Bytes;
use trine_core::codec::{DecodeError, Decoder, Encoder, Wire};
use trine_core::ids::{ClusterId, Endpoint};

use super::NodeId;
use super::class::Class;

/// The first bytes of each greeting.
pub(crate) const MAGIC: [u8; 8] = *b"trinelnk";
/// The version of the greeting's own form.
pub(crate) const GREETING_VERSION: u8 = 1;
/// Bytes before the body.
pub(crate) const PREFIX_BYTES: usize = 16;
/// Bytes of the largest body.
pub(crate) const BODY_BYTES_MAX: usize = 16_384;
/// Endpoints that one node may host.
pub(crate) const ENDPOINTS_MAX: usize = 1024;
/// Bytes of a refusal's text.
const TEXT_BYTES_MAX: usize = 512;

const TAG_HELLO: u8 = 0;
const TAG_REFUSAL: u8 = 1;

/// What one end of a new connection says to the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Greeting {
    /// Who we are and whom we mean.
    Hello(LinkHello),
    /// Why this connection cannot be.
    Refusal(Refusal),
}

/// Who is at this end of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LinkHello {
    /// The version of frames and messages that follow.
    pub(crate) protocol: u16,
    /// Must be the receiver's own.
    pub(crate) cluster: ClusterId,
    /// The sender.
    pub(crate) from: NodeId,
    /// Whom the sender believes to speak to.
    pub(crate) to: NodeId,
    /// What the connection is for.
    pub(crate) class: Class,
    /// Drawn at random at each start of the sender's process.
    pub(crate) life: u64,
    /// Numbers the dialler's attempts in one life; both connections of a link carry the same.
    pub(crate) number: u64,
    /// What the sender hosts.
    pub(crate) endpoints: Vec<Endpoint>,
}

/// Why a connection cannot be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) reason: Reason,
    /// For the operator at the other end.
    pub(crate) text: String,
}

/// The kinds of refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    /// The hello cannot be read.
    Malformed,
    /// Another version of frames and messages.
    Protocol,
    /// Another cluster.
    Cluster,
    /// We are not the node that was meant.
    NotThisNode,
    /// We know no such node, or it is not the one to dial us.
    Stranger,
    /// A later connection of the same node was here before.
    Stale,
}

const REASONS: [Reason; 6] = [
    Reason::Malformed,
    Reason::Protocol,
    Reason::Cluster,
    Reason::NotThisNode,
    Reason::Stranger,
    Reason::Stale,
];

impl Reason {
    /// The number on the wire.
    pub(crate) fn number(self) -> u8 {
        match self {
            Self::Malformed => 1,
            Self::Protocol => 2,
            Self::Cluster => 3,
            Self::NotThisNode => 4,
            Self::Stranger => 5,
            Self::Stale => 6,
        }
    }
}

impl Refusal {
    pub(crate) fn new(reason: Reason, text: impl Into<String>) -> Self {
        Self { reason, text: text.into() }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Greeting {
    /// The bytes.
    pub(crate) fn encode(&self) -> Bytes {
        let mut body = Encoder::new();
        let tag = match self {
            Self::Hello(hello) => {
                hello.encode(&mut body);
                TAG_HELLO
            }
            Self::Refusal(refusal) => {
                refusal.encode(&mut body);
                TAG_REFUSAL
            }
        };
        let mut out = Encoder::new();
        out.raw(&MAGIC);
        out.u8(GREETING_VERSION);
        out.u8(tag);
        out.u16(u16::try_from(body.len()).expect("endpoints and text are within their limits"));
        let checksum = checksum(out.as_slice(), body.as_slice());
        out.u32(checksum);
        out.raw(body.as_slice());
        out.finish()
    }

    /// Bytes of body, as the prefix says.
    ///
    /// # Errors
    /// [`DecodeError`] if this is no greeting that we can read.
    pub(crate) fn body_len(prefix: &Bytes) -> Result<usize, DecodeError> {
        let mut input = Decoder::new(prefix);
        if input.raw(MAGIC.len())? != MAGIC[..] {
            return Err(DecodeError::Invalid { what: "the peer does not speak Trine: magic" });
        }
        input.version("greeting", GREETING_VERSION)?;
        match input.u8()? {
            TAG_HELLO | TAG_REFUSAL => {}
            tag => return Err(DecodeError::Tag { what: "greeting", tag }),
        }
        let len = usize::from(input.u16()?);
        if len > BODY_BYTES_MAX {
            let (found, max) = (len as u64, BODY_BYTES_MAX as u64);
            return Err(DecodeError::Limit { what: "greeting", found, max });
        }
        Ok(len)
    }

    /// The greeting.
    ///
    /// # Errors
    /// [`DecodeError`] says what is wrong.
    pub(crate) fn decode(prefix: &Bytes, body: &Bytes) -> Result<Self, DecodeError> {
        if Self::body_len(prefix)? != body.len() {
            return Err(DecodeError::Invalid { what: "length of a greeting" });
        }
        let mut input = Decoder::new(prefix);
        input.raw(MAGIC.len() + 1)?;
        let tag = input.u8()?;
        input.u16()?;
        if checksum(&prefix[..PREFIX_BYTES - 4], body) != input.u32()? {
            return Err(DecodeError::Checksum { what: "greeting" });
        }
        match tag {
            TAG_HELLO => LinkHello::from_bytes(body).map(Self::Hello),
            _ => Refusal::from_bytes(body).map(Self::Refusal),
        }
    }
}

fn checksum(prefix: &[u8], body: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(prefix);
    hasher.update(body);
    hasher.finalize()
}

impl Wire for LinkHello {
    fn encode(&self, out: &mut Encoder) {
        out.u16(self.protocol);
        self.cluster.encode(out);
        out.u32(self.from.0);
        out.u32(self.to.0);
        out.u8(match self.class {
            Class::Control => 0,
            Class::Bulk => 1,
        });
        out.u64(self.life);
        out.u64(self.number);
        out.list(&self.endpoints);
    }

    fn decode(input: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            protocol: input.u16()?,
            cluster: Wire::decode(input)?,
            from: NodeId(input.u32()?),
            to: NodeId(input.u32()?),
            class: match input.u8()? {
                0 => Class::Control,
                1 => Class::Bulk,
                tag => return Err(DecodeError::Tag { what: "connection class", tag }),
            },
            life: input.u64()?,
            number: input.u64()?,
            endpoints: input.list("endpoints", ENDPOINTS_MAX)?,
        })
    }
}

impl Wire for Refusal {
    fn encode(&self, out: &mut Encoder) {
        out.u8(self.reason.number());
        let end = (0..=TEXT_BYTES_MAX).rev().find(|at| self.text.is_char_boundary(*at));
        let text = &self.text[..end.unwrap_or(0).min(self.text.len())];
        out.bytes(text.as_bytes());
    }

    fn decode(input: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        let tag = input.u8()?;
        let reason = REASONS.into_iter().find(|reason| reason.number() == tag);
        let reason = reason.ok_or(DecodeError::Tag { what: "refusal", tag })?;
        let text = input.bytes("text of a refusal", TEXT_BYTES_MAX)?;
        // It goes into our log: nothing in it may pretend to be a line of its own.
        let printable = |c: char| if c.is_control() { '?' } else { c };
        let text = String::from_utf8_lossy(&text).chars().map(printable).collect();
        Ok(Self { reason, text })
    }
}
