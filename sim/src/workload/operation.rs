//! What clients decide, as values: each can be written down in a line, and done again.
//!
//! An operation refers to what it needs by what a client knows when it is done (the tag seen last, the upload in
//! hand), never by what a former run was answered: so it makes sense also when operations before it are left out.

use std::fmt::Write;
use std::str::FromStr;

use trine_core::request::ByteRange;

use super::PASSING_BUCKETS;
use crate::Nanos;
use crate::checkers::listing::Query;

/// On what a write is to depend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// Nothing.
    Always,
    /// There is no object.
    IfAbsent,
    /// There is an object.
    IfPresent,
    /// It has the tag that was seen last; if none was seen, there is no object.
    IfSeen,
}

/// One thing that a client does. Keys go by their places in the list of keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Of a bucket that comes and goes.
    CreateBucket(&'static str),
    /// The same.
    DeleteBucket(&'static str),
    /// The same.
    HeadBucket(&'static str),
    /// All buckets.
    ListBuckets,
    /// It must be refused.
    DeleteFullBucket,
    /// Of `len` bytes.
    Put {
        /// Which.
        key: usize,
        /// Bytes.
        len: u64,
        /// Conditions.
        wish: Wish,
        /// Whether the length is announced.
        sized: bool,
    },
    /// Of an object or a part of it.
    Get {
        /// Which.
        key: usize,
        /// Only these bytes.
        range: Option<ByteRange>,
        /// Unless it still has the tag that was seen last.
        unless_seen: bool,
    },
    /// Without the body.
    Head {
        /// Which.
        key: usize,
    },
    /// Of one object.
    Delete {
        /// Which.
        key: usize,
        /// Conditions.
        wish: Wish,
    },
    /// Of several.
    DeleteMany {
        /// Which, ascending.
        keys: Vec<usize>,
    },
    /// All pages from this one on.
    List(Query),
    /// Of an object.
    Copy {
        /// From where.
        source: usize,
        /// To where.
        key: usize,
        /// Conditions on where it goes.
        wish: Wish,
        /// Whether another checksum is asked for.
        checksum: bool,
    },
    /// The upload is then in the client's hand.
    CreateUpload {
        /// Of which object.
        key: usize,
    },
    /// Of the upload in hand.
    Part {
        /// Its number.
        number: u16,
        /// Bytes.
        len: u64,
        /// Names them.
        identity: u64,
    },
    /// The same, from an object.
    CopyPart {
        /// From where.
        source: usize,
        /// The part's number.
        number: u16,
        /// First and last byte.
        range: Option<(u64, u64)>,
    },
    /// Of the upload in hand.
    ListParts,
    /// Of its key.
    ListUploads,
    /// It must be refused, if the upload has several parts.
    CompleteTooSmall,
    /// Of the upload in hand.
    Complete {
        /// Conditions.
        wish: Wish,
    },
    /// Of the upload in hand.
    Abort,
}

/// An operation with its time and place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Planned {
    /// Not before.
    pub due: Nanos,
    /// By way of this gateway, if it runs.
    pub via: usize,
    /// What.
    pub operation: Operation,
}

impl Operation {
    /// Whether it is about the upload in hand.
    pub fn is_step(&self) -> bool {
        matches!(
            self,
            Self::Part { .. }
                | Self::CopyPart { .. }
                | Self::ListParts
                | Self::ListUploads
                | Self::CompleteTooSmall
                | Self::Complete { .. }
                | Self::Abort
        )
    }

    /// Every key that it names.
    pub fn keys_mut(&mut self) -> Vec<&mut usize> {
        match self {
            Self::Put { key, .. }
            | Self::Get { key, .. }
            | Self::Head { key }
            | Self::Delete { key, .. }
            | Self::CreateUpload { key } => vec![key],
            Self::Copy { source, key, .. } => vec![source, key],
            Self::CopyPart { source, .. } => vec![source],
            Self::DeleteMany { keys } => keys.iter_mut().collect(),
            _ => Vec::new(),
        }
    }

    /// How long its body is, if it has one.
    pub fn len_mut(&mut self) -> Option<&mut u64> {
        match self {
            Self::Put { len, .. } | Self::Part { len, .. } => Some(len),
            _ => None,
        }
    }

    /// As a line. `keys` are the names of keys, without spaces.
    pub fn write(&self, keys: &[String]) -> String {
        let name = |key: &usize| keys[*key].as_str();
        match self {
            Self::CreateBucket(bucket) => format!("create-bucket {bucket}"),
            Self::DeleteBucket(bucket) => format!("delete-bucket {bucket}"),
            Self::HeadBucket(bucket) => format!("head-bucket {bucket}"),
            Self::ListBuckets => "list-buckets".to_owned(),
            Self::DeleteFullBucket => "delete-main-bucket".to_owned(),
            Self::Put { key, len, wish, sized } => {
                let sized = if *sized { "sized" } else { "unsized" };
                format!("put {} {len} {} {sized}", name(key), wish.word())
            }
            Self::Get { key, range, unless_seen } => {
                let unless = if *unless_seen { " unless-seen" } else { "" };
                format!("get {} {}{unless}", name(key), range_word(*range))
            }
            Self::Head { key } => format!("head {}", name(key)),
            Self::Delete { key, wish } => format!("delete {} {}", name(key), wish.word()),
            Self::DeleteMany { keys } => {
                let names: Vec<_> = keys.iter().map(name).collect();
                format!("delete-many {}", names.join(" "))
            }
            Self::List(Query { prefix, delimiter, after, keys_max }) => {
                let mut text = format!("list max={keys_max}");
                for (word, value) in [
                    ("prefix", Some(prefix).filter(|prefix| !prefix.is_empty())),
                    ("delimiter", delimiter.as_ref()),
                    ("after", after.as_ref()),
                ] {
                    if let Some(value) = value {
                        write!(text, " {word}={value}").expect("a String takes everything");
                    }
                }
                text
            }
            Self::Copy { source, key, wish, checksum } => {
                let checksum = if *checksum { " checksum" } else { "" };
                format!("copy {} {} {}{checksum}", name(source), name(key), wish.word())
            }
            Self::CreateUpload { key } => format!("create-upload {}", name(key)),
            Self::Part { number, len, identity } => format!("part {number} {len} {identity:#x}"),
            Self::CopyPart { source, number, range } => {
                let range = range.map(|(first, last)| ByteRange::From { first, last: Some(last) });
                format!("copy-part {} {number} {}", name(source), range_word(range))
            }
            Self::ListParts => "list-parts".to_owned(),
            Self::ListUploads => "list-uploads".to_owned(),
            Self::CompleteTooSmall => "complete-too-small".to_owned(),
            Self::Complete { wish } => format!("complete {}", wish.word()),
            Self::Abort => "abort".to_owned(),
        }
    }

    /// Read what [`Operation::write`] wrote.
    ///
    /// # Errors
    /// Names the word that does not fit.
    pub fn read(line: &str, keys: &[String]) -> Result<Self, String> {
        let mut words = Words { rest: line.split_whitespace(), keys };
        let operation = match words.next("an operation")? {
            "create-bucket" => Self::CreateBucket(words.bucket()?),
            "delete-bucket" => Self::DeleteBucket(words.bucket()?),
            "head-bucket" => Self::HeadBucket(words.bucket()?),
            "list-buckets" => Self::ListBuckets,
            "delete-main-bucket" => Self::DeleteFullBucket,
            "put" => Self::Put {
                key: words.key()?,
                len: words.number()?,
                wish: words.wish()?,
                sized: match words.next("sized or unsized")? {
                    "sized" => true,
                    "unsized" => false,
                    other => return Err(format!("{other:?} is neither sized nor unsized")),
                },
            },
            "get" => Self::Get {
                key: words.key()?,
                range: words.range()?,
                unless_seen: words.may_end_with("unless-seen")?,
            },
            "head" => Self::Head { key: words.key()? },
            "delete" => Self::Delete { key: words.key()?, wish: words.wish()? },
            "delete-many" => {
                let mut keys = vec![words.key()?];
                while words.rest.clone().next().is_some() {
                    keys.push(words.key()?);
                }
                Self::DeleteMany { keys }
            }
            "list" => words.query()?,
            "copy" => Self::Copy {
                source: words.key()?,
                key: words.key()?,
                wish: words.wish()?,
                checksum: words.may_end_with("checksum")?,
            },
            "create-upload" => Self::CreateUpload { key: words.key()? },
            "part" => Self::Part {
                number: words.number()?,
                len: words.number()?,
                identity: words.hexadecimal()?,
            },
            "copy-part" => Self::CopyPart {
                source: words.key()?,
                number: words.number()?,
                range: match words.range()? {
                    None => None,
                    Some(ByteRange::From { first, last: Some(last) }) => Some((first, last)),
                    Some(_) => return Err("a part is copied from FIRST-LAST, or all".to_owned()),
                },
            },
            "list-parts" => Self::ListParts,
            "list-uploads" => Self::ListUploads,
            "complete-too-small" => Self::CompleteTooSmall,
            "complete" => Self::Complete { wish: words.wish()? },
            "abort" => Self::Abort,
            other => return Err(format!("{other:?} is no operation")),
        };
        match words.rest.next() {
            None => Ok(operation),
            Some(word) => Err(format!("{word:?} is one word too many")),
        }
    }
}

impl Wish {
    const ALL: [(Self, &'static str); 4] = [
        (Self::Always, "always"),
        (Self::IfAbsent, "if-absent"),
        (Self::IfPresent, "if-present"),
        (Self::IfSeen, "if-seen"),
    ];

    fn word(self) -> &'static str {
        Self::ALL.iter().find(|(wish, _)| *wish == self).map_or("", |(_, word)| *word)
    }
}

fn range_word(range: Option<ByteRange>) -> String {
    match range {
        None => "all".to_owned(),
        Some(ByteRange::Suffix { length }) => format!("-{length}"),
        Some(ByteRange::From { first, last: None }) => format!("{first}-"),
        Some(ByteRange::From { first, last: Some(last) }) => format!("{first}-{last}"),
    }
}

struct Words<'a, I> {
    rest: I,
    keys: &'a [String],
}

impl<'a, I: Iterator<Item = &'a str>> Words<'a, I> {
    fn next(&mut self, wanted: &str) -> Result<&'a str, String> {
        self.rest.next().ok_or_else(|| format!("the line ends where {wanted} should be"))
    }

    fn number<N: FromStr>(&mut self) -> Result<N, String> {
        let word = self.next("a number")?;
        word.parse().map_err(|_| format!("{word:?} is no number that fits"))
    }

    fn hexadecimal(&mut self) -> Result<u64, String> {
        let word = self.next("a number with 0x")?;
        let digits = word.strip_prefix("0x").and_then(|word| u64::from_str_radix(word, 16).ok());
        digits.ok_or_else(|| format!("{word:?} is no number with 0x"))
    }

    fn key(&mut self) -> Result<usize, String> {
        let word = self.next("a key")?;
        let place = self.keys.iter().position(|key| key == word);
        place.ok_or_else(|| format!("{word:?} is not among the keys"))
    }

    fn bucket(&mut self) -> Result<&'static str, String> {
        let word = self.next("a bucket")?;
        let bucket = PASSING_BUCKETS.into_iter().find(|bucket| *bucket == word);
        bucket.ok_or_else(|| format!("{word:?} is not among the buckets {PASSING_BUCKETS:?}"))
    }

    fn wish(&mut self) -> Result<Wish, String> {
        let word = self.next("a condition")?;
        let found = Wish::ALL.into_iter().find(|(_, name)| *name == word);
        found.map(|(wish, _)| wish).ok_or_else(|| format!("{word:?} is no condition"))
    }

    fn may_end_with(&mut self, wanted: &str) -> Result<bool, String> {
        match self.rest.next() {
            None => Ok(false),
            Some(word) if word == wanted => Ok(true),
            Some(other) => Err(format!("{other:?} stands where only {wanted:?} may be")),
        }
    }

    fn range(&mut self) -> Result<Option<ByteRange>, String> {
        let word = self.next("a range")?;
        if word == "all" {
            return Ok(None);
        }
        let wrong = || format!("{word:?} is no range: all, FIRST-, FIRST-LAST or -LENGTH");
        let number = |text: &str| text.parse::<u64>().map_err(|_| wrong());
        let (first, last) = word.split_once('-').ok_or_else(wrong)?;
        Ok(Some(match (first, last) {
            ("", length) => ByteRange::Suffix { length: number(length)? },
            (first, "") => ByteRange::From { first: number(first)?, last: None },
            (first, last) => {
                let (first, last) = (number(first)?, number(last)?);
                if last < first {
                    return Err(wrong());
                }
                ByteRange::From { first, last: Some(last) }
            }
        }))
    }

    fn query(&mut self) -> Result<Operation, String> {
        let mut query = Query { keys_max: 1_000, ..Query::default() };
        for word in self.rest.by_ref() {
            let (name, value) =
                word.split_once('=').ok_or_else(|| format!("{word:?} is not NAME=VALUE"))?;
            match name {
                "max" => {
                    let number = value.parse().ok().filter(|max| *max <= 1_000);
                    query.keys_max =
                        number.ok_or_else(|| format!("{value:?} is not 0 to 1,000"))?;
                }
                "prefix" => query.prefix = value.to_owned(),
                "delimiter" => query.delimiter = Some(value.to_owned()),
                "after" => query.after = Some(value.to_owned()),
                other => return Err(format!("{other:?} is no part of a listing's query")),
            }
        }
        Ok(Operation::List(query))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_operation_is_written_and_read_back() {
        let keys = ["hot-0".to_owned(), "ü/key-5".to_owned()];
        for line in [
            "create-bucket passing-a",
            "delete-bucket passing-b",
            "head-bucket passing-a",
            "list-buckets",
            "delete-main-bucket",
            "put hot-0 1024 if-seen sized",
            "put ü/key-5 0 always unsized",
            "get hot-0 all",
            "get hot-0 -7 unless-seen",
            "get hot-0 5-",
            "get hot-0 5-9",
            "head hot-0",
            "delete hot-0 if-present",
            "delete-many hot-0 ü/key-5",
            "list max=0",
            "list max=3 prefix=a/ delimiter=/ after=hot-0",
            "copy hot-0 ü/key-5 if-absent checksum",
            "copy hot-0 hot-0 always",
            "create-upload hot-0",
            "part 3 17 0xffffffffffffffff",
            "copy-part hot-0 12 all",
            "copy-part hot-0 12 3-4",
            "list-parts",
            "list-uploads",
            "complete-too-small",
            "complete if-absent",
            "abort",
        ] {
            let operation = Operation::read(line, &keys).expect(line);
            assert_eq!(operation.write(&keys), line);
        }
        for wrong in [
            "",
            "fly",
            "put",
            "put hot-9 1 always sized",
            "put hot-0 -1 always sized",
            "put hot-0 1 sometimes sized",
            "put hot-0 1 always sized twice",
            "get hot-0 9-5",
            "get hot-0 x",
            "get hot-0 all if-other",
            "delete-many",
            "part 99999 1 0x1",
            "part 1 1 1",
            "copy-part hot-0 1 5-",
            "list max=1001",
            "list max=1 colour=red",
            "create-bucket main-bucket",
        ] {
            assert!(Operation::read(wrong, &keys).is_err(), "{wrong}");
        }
    }
}
