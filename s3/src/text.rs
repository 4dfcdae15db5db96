//! Values as S3 writes them in headers, queries and documents.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use time::format_description::BorrowedFormatItem;
use time::macros::format_description;
use time::{OffsetDateTime, PrimitiveDateTime};
use trine_core::ids::{LogIndex, Order};
use trine_core::object::{ETag, TagMatch};
use trine_core::request::ByteRange;
use trine_core::time::WallTime;

/// What encoding-type=url leaves as it is; a space becomes `%20` and `/` stays.
const KEY: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'/').remove(b'*');

const HTTP_DATE: &[BorrowedFormatItem<'_>] = format_description!(
    "[weekday repr:short], [day] [month repr:short] [year] [hour]:[minute]:[second] GMT"
);

/// A key under `encoding-type=url`.
pub(crate) fn url_encode(key: &str) -> String {
    utf8_percent_encode(key, KEY).to_string()
}

/// Undo percent-encoding; `None` if the result is not UTF-8. A `+` stays a plus.
pub(crate) fn url_decode(text: &str) -> Option<String> {
    percent_decode_str(text).decode_utf8().ok().map(std::borrow::Cow::into_owned)
}

/// The pairs of a query or of `x-amz-tagging`, where `+` is a space; `None` if not UTF-8.
pub(crate) fn pairs(query: &str) -> Option<Vec<(String, String)>> {
    let decode = |text: &str| url_decode(&text.replace('+', " "));
    raw_pairs(query)
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            Some((decode(name)?, decode(value)?))
        })
        .collect()
}

/// The same pairs as they stand there.
pub(crate) fn raw_pairs(query: &str) -> impl Iterator<Item = &str> {
    query.split('&').filter(|pair| !pair.is_empty())
}

fn moment(time: WallTime) -> OffsetDateTime {
    let nanos = i128::from(time.as_millis()) * 1_000_000;
    // A clock beyond the year 9999 is shown as the epoch: there is no way to write it.
    OffsetDateTime::from_unix_timestamp_nanos(nanos).unwrap_or(OffsetDateTime::UNIX_EPOCH)
}

/// `Last-Modified`, whole seconds.
pub(crate) fn http_date(time: WallTime) -> String {
    moment(time).format(HTTP_DATE).unwrap_or_default()
}

/// A time in a document: `2015-10-21T07:28:00.000Z`. By hand, since a listing prints a thousand.
pub(crate) fn xml_date(time: WallTime) -> String {
    let time = moment(time);
    let (year, month, day) = time.to_calendar_date();
    let (hour, minute, second, milli) = time.to_hms_milli();
    let mut text = String::with_capacity(24);
    let mut digits = |mut number: u32, count: u32, behind: char| {
        let mut unit = 10u32.pow(count - 1);
        while unit > 0 {
            text.push(char::from_digit(number / unit % 10, 10).unwrap_or('0'));
            number %= unit;
            unit /= 10;
        }
        text.push(behind);
    };
    digits(year.unsigned_abs(), 4, '-');
    digits(u32::from(u8::from(month)), 2, '-');
    digits(day.into(), 2, 'T');
    digits(hour.into(), 2, ':');
    digits(minute.into(), 2, ':');
    digits(second.into(), 2, '.');
    digits(milli.into(), 3, 'Z');
    text
}

/// A date of a condition; `None`, which means "ignore it", if it is malformed or before 1970.
pub(crate) fn parse_http_date(text: &str) -> Option<WallTime> {
    let time = PrimitiveDateTime::parse(text.trim(), HTTP_DATE).ok()?.assume_utc();
    let seconds = u64::try_from(time.unix_timestamp()).ok()?;
    Some(WallTime::from_millis(seconds * 1000))
}

/// A `Range`; `None`, which means "ignore it", if it is malformed or names several ranges.
pub(crate) fn parse_range(text: &str) -> Option<ByteRange> {
    let digits = |text: &str| {
        let plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        plain.then(|| text.parse::<u64>().unwrap_or(u64::MAX))
    };
    let (first, last) = text.trim().strip_prefix("bytes=")?.split_once('-')?;
    match (first.trim(), last.trim()) {
        ("", length) => Some(ByteRange::Suffix { length: digits(length)? }),
        (first, "") => Some(ByteRange::From { first: digits(first)?, last: None }),
        (first, last) => {
            let (first, last) = (digits(first)?, digits(last)?);
            (first <= last).then_some(ByteRange::From { first, last: Some(last) })
        }
    }
}

/// The tags of an `If-Match` or `If-None-Match`. Weak tags match as strong ones, as on Amazon.
pub(crate) fn parse_tags(text: &str) -> TagMatch {
    if text.trim() == "*" {
        return TagMatch::Any;
    }
    let tags = text.split(',').map(str::trim);
    TagMatch::Tags(
        tags.filter_map(|tag| ETag::parse(tag.strip_prefix("W/").unwrap_or(tag))).collect(),
    )
}

/// Where the next page goes on, as an opaque token.
pub(crate) fn continuation(after: &str) -> String {
    STANDARD.encode(after)
}

/// What a token stands for.
pub(crate) fn parse_continuation(token: &str) -> Option<String> {
    String::from_utf8(STANDARD.decode(token).ok()?).ok()
}

/// An upload's id, as an opaque string.
pub(crate) fn upload_id(upload: Order) -> String {
    let mut bytes = [0; 12];
    bytes[..8].copy_from_slice(&upload.index.0.to_be_bytes());
    bytes[8..].copy_from_slice(&upload.position.to_be_bytes());
    URL_SAFE_NO_PAD.encode(bytes)
}

/// The upload that an id names; `None` if we never gave out such an id.
pub(crate) fn parse_upload_id(id: &str) -> Option<Order> {
    let bytes: [u8; 12] = URL_SAFE_NO_PAD.decode(id).ok()?.try_into().ok()?;
    let index = u64::from_be_bytes(bytes[..8].try_into().ok()?);
    let position = u32::from_be_bytes(bytes[8..].try_into().ok()?);
    Some(Order { index: LogIndex(index), position })
}

/// A digest as headers and documents carry it.
pub(crate) fn base64(digest: &[u8]) -> String {
    STANDARD.encode(digest)
}

/// A digest from a header.
pub(crate) fn parse_base64(text: &str) -> Option<Vec<u8>> {
    STANDARD.decode(text.trim()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_that_amazon_ignores_are_none() {
        for bad in ["bytes=abc", "bytes=0-1,4-5", "bytes=3-1", "bytes=-", "lines=0-1", "bytes=+1-2"]
        {
            assert_eq!(parse_range(bad), None, "{bad}");
        }
        assert_eq!(parse_range("bytes=-0"), Some(ByteRange::Suffix { length: 0 }));
        let from = ByteRange::From { first: 2, last: None };
        assert_eq!(parse_range("bytes=2-"), Some(from));
        let far = ByteRange::From { first: 0, last: Some(u64::MAX) };
        assert_eq!(parse_range("bytes=0-99999999999999999999999"), Some(far));
    }

    #[test]
    fn dates_go_there_and_back_and_malformed_ones_are_ignored() {
        let time = WallTime::from_millis(1_445_412_480_000);
        assert_eq!(http_date(time), "Wed, 21 Oct 2015 07:28:00 GMT");
        assert_eq!(xml_date(time), "2015-10-21T07:28:00.000Z");
        assert_eq!(parse_http_date("Wed, 21 Oct 2015 07:28:00 GMT"), Some(time));
        assert_eq!(parse_http_date("yesterday"), None);
    }

    #[test]
    fn url_encoding_keeps_slashes_and_writes_a_space_as_percent_20() {
        assert_eq!(url_encode("a b/ü+~\u{1}"), "a%20b/%C3%BC%2B%7E%01");
    }

    #[test]
    fn a_list_of_tags_is_a_list() {
        let one = "0123456789abcdef0123456789abcdef";
        let two = format!("{one}-2");
        let TagMatch::Tags(tags) = parse_tags(&format!("\"{one}\", W/\"{two}\", \"other\"")) else {
            panic!("not a list")
        };
        assert_eq!(tags.len(), 2);
    }

    #[test]
    fn upload_ids_are_opaque_and_come_back() {
        let upload = Order { index: LogIndex(7), position: 3 };
        assert_eq!(parse_upload_id(&upload_id(upload)), Some(upload));
        for bad in ["", "x", "AAAA", "AAAAAAAAAAAAAAAAAAAAAAAA"] {
            assert_eq!(parse_upload_id(bad), None);
        }
    }
}
