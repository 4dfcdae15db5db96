//! Bodies whose every byte tells which value it belongs to, and their digests.

use bytes::Bytes;
use md5::{Digest, Md5};
use trine_core::object::ETag;
use trine_core::rng::Rng;

/// The body of `len` bytes that belongs to `identity`. Two identities differ in every eight bytes.
pub fn content(identity: u64, len: u64) -> Bytes {
    let len = usize::try_from(len).expect("bodies fit into memory");
    let mut rng = Rng::new(identity);
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        bytes.extend_from_slice(&rng.next_u64().to_le_bytes());
    }
    bytes.truncate(len);
    bytes.into()
}

/// MD5, as clients compute it.
pub fn md5(bytes: &[u8]) -> [u8; 16] {
    Md5::digest(bytes).into()
}

/// The entity tag of an object of one PUT, or of a part.
pub fn etag(bytes: &[u8]) -> ETag {
    ETag { md5: md5(bytes), parts: 0 }
}

/// The entity tag of a completed upload: MD5 of the parts' MD5s, with their number.
pub fn upload_etag(parts: &[ETag]) -> ETag {
    let digests: Vec<u8> = parts.iter().flat_map(|part| part.md5).collect();
    let count = u16::try_from(parts.len()).expect("an upload has at most 10,000 parts");
    ETag { md5: md5(&digests), parts: count }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_of_two_identities_differ_everywhere() {
        let (one, other) = (content(1, 4_003), content(2, 4_003));
        assert_eq!(one.len(), 4_003);
        assert_eq!(one, content(1, 4_003));
        assert!(one.chunks(8).zip(other.chunks(8)).all(|(a, b)| a != b));
    }

    #[test]
    fn tags_are_those_of_s3() {
        assert_eq!(etag(b"").to_string(), "d41d8cd98f00b204e9800998ecf8427e");
        let parts = [etag(b"a"), etag(b"b")];
        assert_eq!(upload_etag(&parts).to_string(), "96e024ba2074fe77e8e965ba43a704be-2");
    }
}
