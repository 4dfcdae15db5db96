//! What a page of a listing must look like, and what it says about each key.
//!
//! A page is not a snapshot of the bucket, but what it shows of each single key is a read of that
//! key, at some moment between the page's call and its return. So a page becomes one read per key
//! that it covers, and [`super::register`] decides: every write acknowledged before the page began
//! must show, and nothing deleted before.
//!
//! A common prefix that is shown says only that some key under it exists; one that is not shows
//! that none does.

use trine_core::object::ETag;

use super::register::Seen;

/// What was asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Query {
    /// Only keys that begin so.
    pub prefix: String,
    /// Roll up at this.
    pub delimiter: Option<String>,
    /// Only names after this: the last name of the page before, or a key.
    pub after: Option<String>,
    /// At most so many names.
    pub keys_max: usize,
}

/// One line of the page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Line {
    /// A key, with tag and length.
    Key(String, ETag, u64),
    /// A common prefix.
    Prefix(String),
}

impl Line {
    /// What it sorts by.
    pub fn name(&self) -> &str {
        match self {
            Self::Key(name, ..) | Self::Prefix(name) => name,
        }
    }
}

/// Check what needs no history: count, order, prefix, roll-up.
///
/// # Errors
/// Says what is wrong.
pub fn check_shape(query: &Query, lines: &[Line], truncated: bool) -> Result<(), String> {
    if lines.len() > query.keys_max {
        return Err(format!("{} names, {} were asked for", lines.len(), query.keys_max));
    }
    if truncated && lines.is_empty() {
        return Err("a page without names says that more follows".to_owned());
    }
    if let Some(pair) = lines.windows(2).find(|pair| pair[0].name() >= pair[1].name()) {
        return Err(format!("{:?} comes before {:?}", pair[0].name(), pair[1].name()));
    }
    for line in lines {
        let name = line.name();
        if !name.starts_with(&query.prefix) {
            return Err(format!("{name:?} does not begin with {:?}", query.prefix));
        }
        if query.after.as_deref().is_some_and(|after| name <= after) {
            return Err(format!("{name:?} is not after {:?}", query.after));
        }
        let expected = line_name(query, name);
        match line {
            Line::Key(..) if expected != name => {
                return Err(format!("{name:?} should be rolled up to {expected:?}"));
            }
            Line::Prefix(_) if expected != name || query.delimiter.is_none() => {
                return Err(format!("{name:?} is no common prefix"));
            }
            Line::Key(..) | Line::Prefix(_) => {}
        }
    }
    Ok(())
}

/// What the page says about `key`; `None` if it says nothing.
pub fn observe(query: &Query, lines: &[Line], truncated: bool, key: &str) -> Option<Seen> {
    if !key.starts_with(&query.prefix) || query.keys_max == 0 {
        return None;
    }
    let name = line_name(query, key);
    if query.after.as_deref().is_some_and(|after| name <= after) {
        return None;
    }
    let last = lines.last().map_or("", Line::name);
    if truncated && name > last {
        return None;
    }
    match lines.binary_search_by(|line| line.name().cmp(name)) {
        Err(_) => Some(Seen::Absent),
        Ok(at) => match &lines[at] {
            Line::Key(_, etag, length) => Some(Seen::Tagged(*etag, Some(*length))),
            Line::Prefix(_) => None,
        },
    }
}

/// Under which name `key` appears: its own, or the common prefix.
fn line_name<'a>(query: &Query, key: &'a str) -> &'a str {
    let Some(delimiter) = &query.delimiter else { return key };
    let rest = &key[query.prefix.len()..];
    match rest.find(delimiter.as_str()) {
        Some(at) => &key[..query.prefix.len() + at + delimiter.len()],
        None => key,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(prefix: &str, delimiter: Option<&str>, after: Option<&str>) -> Query {
        let (prefix, owned) = (prefix.to_owned(), |text: &str| text.to_owned());
        Query { prefix, delimiter: delimiter.map(owned), after: after.map(owned), keys_max: 10 }
    }

    fn key(name: &str) -> Line {
        Line::Key(name.to_owned(), ETag::default(), 1)
    }

    fn prefix(name: &str) -> Line {
        Line::Prefix(name.to_owned())
    }

    #[test]
    fn well_formed_page_passes() {
        let lines = [prefix("d/a/"), key("d/b"), prefix("d/c/")];
        assert_eq!(check_shape(&query("d/", Some("/"), Some("d/a")), &lines, true), Ok(()));
    }

    #[test]
    fn wrong_order_missing_roll_up_and_foreign_names_are_found() {
        let plain = query("", None, None);
        let rolled = query("", Some("/"), None);
        assert!(check_shape(&plain, &[key("b"), key("a")], false).is_err());
        assert!(check_shape(&plain, &[key("a"), key("a")], false).is_err());
        assert!(check_shape(&plain, &[prefix("a/")], false).is_err());
        assert!(check_shape(&plain, &[], true).is_err());
        assert!(check_shape(&rolled, &[key("a/b")], false).is_err());
        assert!(check_shape(&rolled, &[prefix("a")], false).is_ok(), "no delimiter to see");
        assert!(check_shape(&query("x", None, None), &[key("a")], false).is_err());
        assert!(check_shape(&query("", None, Some("b")), &[key("b")], false).is_err());
    }

    #[test]
    fn page_speaks_of_the_keys_it_covers_and_no_others() {
        let rolled = query("", Some("/"), Some("a"));
        let lines = [key("b"), prefix("c/")];
        let says = |name| observe(&rolled, &lines, true, name);
        assert_eq!(says("a"), None, "not after the marker");
        assert_eq!(says("aa"), Some(Seen::Absent));
        assert_eq!(says("b"), Some(Seen::Tagged(ETag::default(), Some(1))));
        assert_eq!(says("bb/x"), Some(Seen::Absent), "its common prefix is not there");
        assert_eq!(says("c/x"), None, "some key under the prefix exists");
        assert_eq!(says("d"), None, "behind the end of a truncated page");
        assert_eq!(observe(&rolled, &lines, false, "d"), Some(Seen::Absent));
    }
}
