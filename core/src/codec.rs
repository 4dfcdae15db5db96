//! Bounded, explicit encoding: little-endian, fixed width, lengths checked before anything is
//! allocated. Used for what goes to disk and over the wire; each format's bytes stand in `docs/`.

use core::fmt;

use bytes::{BufMut, Bytes, BytesMut};

/// Why bytes could not be decoded. Never a panic: the bytes come from disk or network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DecodeError {
    /// The input ended early.
    Short {
        /// Bytes asked for.
        needed: usize,
        /// Bytes left.
        left: usize,
    },
    /// An enum tag, flag or reserved byte has no meaning.
    Tag {
        /// Which field.
        what: &'static str,
        /// What it said.
        tag: u8,
    },
    /// A format version that this build does not read.
    Version {
        /// Of which record.
        what: &'static str,
        /// What it said.
        found: u8,
        /// The newest that is understood.
        newest: u8,
    },
    /// A length or count is over its limit.
    Limit {
        /// Of which field.
        what: &'static str,
        /// What it said.
        found: u64,
        /// What is allowed.
        max: u64,
    },
    /// A checksum does not match.
    Checksum {
        /// Of which record.
        what: &'static str,
    },
    /// A value that contradicts another or itself.
    Invalid {
        /// Which value.
        what: &'static str,
    },
    /// Bytes are left over.
    Trailing {
        /// How many.
        left: usize,
    },
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Short { needed, left } => write!(f, "{needed} bytes needed, {left} left"),
            Self::Tag { what, tag } => write!(f, "{what}: unknown tag {tag}"),
            Self::Version { what, found, newest } => {
                write!(f, "{what}: format version {found}, this build reads up to {newest}")
            }
            Self::Limit { what, found, max } => write!(f, "{what}: {found} is over {max}"),
            Self::Checksum { what } => write!(f, "{what}: checksum mismatch"),
            Self::Invalid { what } => write!(f, "{what}: invalid"),
            Self::Trailing { left } => write!(f, "{left} bytes left over"),
        }
    }
}

impl core::error::Error for DecodeError {}

/// What can be written to and read from bytes.
pub trait Wire: Sized {
    /// Append the encoding.
    fn encode(&self, out: &mut Encoder);
    /// Read one value, leaving the rest of the input.
    ///
    /// # Errors
    /// [`DecodeError`] says what is wrong with the bytes.
    fn decode(input: &mut Decoder<'_>) -> Result<Self, DecodeError>;

    /// The encoding as one buffer.
    fn to_bytes(&self) -> Bytes {
        let mut out = Encoder::new();
        self.encode(&mut out);
        out.finish()
    }

    /// Decode a whole buffer.
    ///
    /// # Errors
    /// [`DecodeError`], also when bytes are left over.
    fn from_bytes(bytes: &Bytes) -> Result<Self, DecodeError> {
        let mut input = Decoder::new(bytes);
        let value = Self::decode(&mut input)?;
        input.finish()?;
        Ok(value)
    }
}

/// Writes values to a growing buffer.
#[derive(Debug, Default)]
pub struct Encoder {
    out: BytesMut,
}

impl Encoder {
    /// An empty encoder.
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty encoder with room for so many bytes: for what does not live long, since it keeps them.
    pub fn with_capacity(bytes: usize) -> Self {
        Self { out: BytesMut::with_capacity(bytes) }
    }

    /// Bytes written so far.
    pub fn len(&self) -> usize {
        self.out.len()
    }

    /// Whether nothing has been written.
    pub fn is_empty(&self) -> bool {
        self.out.is_empty()
    }

    /// One byte.
    pub fn u8(&mut self, value: u8) {
        self.out.put_u8(value);
    }

    /// Two bytes, little-endian.
    pub fn u16(&mut self, value: u16) {
        self.out.put_u16_le(value);
    }

    /// Four bytes, little-endian.
    pub fn u32(&mut self, value: u32) {
        self.out.put_u32_le(value);
    }

    /// Eight bytes, little-endian.
    pub fn u64(&mut self, value: u64) {
        self.out.put_u64_le(value);
    }

    /// Sixteen bytes, little-endian.
    pub fn u128(&mut self, value: u128) {
        self.out.put_u128_le(value);
    }

    /// Zeros, so many of them.
    pub fn zeros(&mut self, count: usize) {
        self.out.put_bytes(0, count);
    }

    /// Bytes as they are; the reader must know how many.
    pub fn raw(&mut self, bytes: &[u8]) {
        self.out.put_slice(bytes);
    }

    /// A length (four bytes) and the bytes.
    ///
    /// # Panics
    /// If they are 4 GiB or more; every caller's limit is far below.
    pub fn bytes(&mut self, bytes: &[u8]) {
        self.u32(u32::try_from(bytes.len()).expect("a field is under 4 GiB"));
        self.raw(bytes);
    }

    /// A count (four bytes) and each item.
    ///
    /// # Panics
    /// If there are 2^32 items or more; every caller's limit is far below.
    pub fn list<T: Wire>(&mut self, items: &[T]) {
        self.u32(u32::try_from(items.len()).expect("a list has under 2^32 items"));
        for item in items {
            item.encode(self);
        }
    }

    /// Forget what has been written, and keep the buffer.
    pub fn clear(&mut self) {
        self.out.clear();
    }

    /// Zero bytes up to a multiple of `unit`.
    pub fn pad_to(&mut self, unit: usize) {
        let len = self.out.len().next_multiple_of(unit);
        self.out.resize(len, 0);
    }

    /// Overwrite four bytes written earlier (a length or checksum known only at the end).
    pub fn patch_u32(&mut self, offset: usize, value: u32) {
        self.out[offset..offset + 4].copy_from_slice(&value.to_le_bytes());
    }

    /// Overwrite eight bytes written earlier.
    pub fn patch_u64(&mut self, offset: usize, value: u64) {
        self.out[offset..offset + 8].copy_from_slice(&value.to_le_bytes());
    }

    /// What has been written so far.
    pub fn as_slice(&self) -> &[u8] {
        &self.out
    }

    /// The written bytes.
    pub fn finish(self) -> Bytes {
        self.out.freeze()
    }
}

/// Reads values from a buffer, without copying byte fields out of it.
#[derive(Debug)]
pub struct Decoder<'a> {
    input: &'a Bytes,
    at: usize,
}

impl<'a> Decoder<'a> {
    /// Read from the start of `input`.
    pub fn new(input: &'a Bytes) -> Self {
        Self { input, at: 0 }
    }

    /// Bytes not read yet.
    pub fn left(&self) -> usize {
        self.input.len() - self.at
    }

    /// Bytes read so far.
    pub fn position(&self) -> usize {
        self.at
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let mut out = [0; N];
        let source = self
            .input
            .get(self.at..self.at + N)
            .ok_or(DecodeError::Short { needed: N, left: self.left() })?;
        out.copy_from_slice(source);
        self.at += N;
        Ok(out)
    }

    /// One byte.
    ///
    /// # Errors
    /// [`DecodeError::Short`].
    pub fn u8(&mut self) -> Result<u8, DecodeError> {
        Ok(u8::from_le_bytes(self.take()?))
    }

    /// Two bytes.
    ///
    /// # Errors
    /// [`DecodeError::Short`].
    pub fn u16(&mut self) -> Result<u16, DecodeError> {
        Ok(u16::from_le_bytes(self.take()?))
    }

    /// Four bytes.
    ///
    /// # Errors
    /// [`DecodeError::Short`].
    pub fn u32(&mut self) -> Result<u32, DecodeError> {
        Ok(u32::from_le_bytes(self.take()?))
    }

    /// Eight bytes.
    ///
    /// # Errors
    /// [`DecodeError::Short`].
    pub fn u64(&mut self) -> Result<u64, DecodeError> {
        Ok(u64::from_le_bytes(self.take()?))
    }

    /// Sixteen bytes.
    ///
    /// # Errors
    /// [`DecodeError::Short`].
    pub fn u128(&mut self) -> Result<u128, DecodeError> {
        Ok(u128::from_le_bytes(self.take()?))
    }

    /// `count` bytes, as a handle on the input.
    ///
    /// # Errors
    /// [`DecodeError::Short`].
    pub fn raw(&mut self, count: usize) -> Result<Bytes, DecodeError> {
        if count > self.left() {
            return Err(DecodeError::Short { needed: count, left: self.left() });
        }
        let bytes = self.input.slice(self.at..self.at + count);
        self.at += count;
        Ok(bytes)
    }

    /// `count` bytes, borrowed.
    ///
    /// # Errors
    /// [`DecodeError::Short`].
    pub fn slice(&mut self, count: usize) -> Result<&'a [u8], DecodeError> {
        let left = self.left();
        let slice = self.input.get(self.at..self.at.saturating_add(count));
        self.at += slice.map_or(0, <[u8]>::len);
        slice.ok_or(DecodeError::Short { needed: count, left })
    }

    /// Pass over `count` bytes.
    ///
    /// # Errors
    /// [`DecodeError::Short`].
    pub fn skip(&mut self, count: usize) -> Result<(), DecodeError> {
        self.slice(count).map(|_| ())
    }

    /// A length (four bytes, at most `max`) and that many bytes, as a handle on the input.
    ///
    /// # Errors
    /// [`DecodeError::Short`], [`DecodeError::Limit`].
    pub fn bytes(&mut self, what: &'static str, max: usize) -> Result<Bytes, DecodeError> {
        let count = self.count(what, max)?;
        self.raw(count)
    }

    /// A count (four bytes), at most `max`.
    ///
    /// # Errors
    /// [`DecodeError::Short`], [`DecodeError::Limit`].
    pub fn count(&mut self, what: &'static str, max: usize) -> Result<usize, DecodeError> {
        let count = self.u32()?;
        match usize::try_from(count) {
            Ok(count) if count <= max => Ok(count),
            _ => Err(DecodeError::Limit { what, found: count.into(), max: max as u64 }),
        }
    }

    /// A count (at most `max`) and that many items. A count that is not true takes no more memory than the
    /// input itself.
    ///
    /// # Errors
    /// [`DecodeError`] of the count or of an item.
    pub fn list<T: Wire>(&mut self, what: &'static str, max: usize) -> Result<Vec<T>, DecodeError> {
        let count = self.count(what, max)?;
        let mut items = Vec::with_capacity(count.min(self.left() / size_of::<T>().max(1)));
        for _ in 0..count {
            items.push(T::decode(self)?);
        }
        Ok(items)
    }

    /// A version byte, which must be between 1 and `newest`.
    ///
    /// # Errors
    /// [`DecodeError::Version`].
    pub fn version(&mut self, what: &'static str, newest: u8) -> Result<u8, DecodeError> {
        match self.u8()? {
            found if (1..=newest).contains(&found) => Ok(found),
            found => Err(DecodeError::Version { what, found, newest }),
        }
    }

    /// A UTF-8 string of at most `max` bytes.
    ///
    /// # Errors
    /// [`DecodeError::Limit`], [`DecodeError::Invalid`].
    pub fn string(&mut self, what: &'static str, max: usize) -> Result<String, DecodeError> {
        let bytes = self.bytes(what, max)?;
        String::from_utf8(bytes.to_vec()).map_err(|_| DecodeError::Invalid { what })
    }

    /// That nothing is left.
    ///
    /// # Errors
    /// [`DecodeError::Trailing`].
    pub fn finish(self) -> Result<(), DecodeError> {
        match self.left() {
            0 => Ok(()),
            left => Err(DecodeError::Trailing { left }),
        }
    }
}

macro_rules! wire_integer {
    ($($name:ident)*) => {$(
        impl Wire for $name {
            fn encode(&self, out: &mut Encoder) {
                out.$name(*self);
            }

            fn decode(input: &mut Decoder<'_>) -> Result<Self, DecodeError> {
                input.$name()
            }
        }
    )*};
}

wire_integer!(u8 u16 u32 u64 u128);

impl Wire for bool {
    fn encode(&self, out: &mut Encoder) {
        out.u8((*self).into());
    }

    fn decode(input: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        match input.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            tag => Err(DecodeError::Tag { what: "bool", tag }),
        }
    }
}

impl<T: Wire> Wire for Option<T> {
    fn encode(&self, out: &mut Encoder) {
        match self {
            None => out.u8(0),
            Some(value) => {
                out.u8(1);
                value.encode(out);
            }
        }
    }

    fn decode(input: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        match input.u8()? {
            0 => Ok(None),
            1 => T::decode(input).map(Some),
            tag => Err(DecodeError::Tag { what: "option", tag }),
        }
    }
}

impl<A: Wire, B: Wire> Wire for (A, B) {
    fn encode(&self, out: &mut Encoder) {
        self.0.encode(out);
        self.1.encode(out);
    }

    fn decode(input: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        Ok((A::decode(input)?, B::decode(input)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Found by fuzzing: a count of 2^20 before as many zeros reserved that many items of any size.
    #[test]
    fn a_count_that_is_not_true_takes_no_more_memory_than_the_input() {
        struct Large([u64; 64]);
        impl Wire for Large {
            fn encode(&self, out: &mut Encoder) {
                self.0.iter().for_each(|number| out.u64(*number));
            }

            fn decode(input: &mut Decoder<'_>) -> Result<Self, DecodeError> {
                assert!(input.left() > 0);
                input.u8().map(|byte| Self([byte.into(); 64]))
            }
        }
        let mut out = Encoder::new();
        out.u32(3);
        out.raw(&[0; 1003]);
        let bytes = out.finish();
        let items: Vec<Large> = Decoder::new(&bytes).list("items", 1 << 20).unwrap();
        assert_eq!(items.len(), 3);
        assert!(items.capacity() * size_of::<Large>() <= 4 * size_of::<Large>());
    }
}
