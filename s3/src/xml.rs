//! S3's XML: a writer for answers, a bounded reader for the three documents that requests carry.
//!
//! XML 1.0 cannot carry most control characters, and object keys can. The writer gives them as
//! character references (`&#x1;`), as Amazon does: not well-formed in the strict sense, but lenient
//! parsers read it, and clients that care ask for `encoding-type=url`. Where they cannot ask, names
//! that need not be told are left out.

use std::fmt::Write;

use quick_xml::Reader;
use quick_xml::events::Event;

/// The namespace of S3's documents.
const NAMESPACE: &str = "http://s3.amazonaws.com/doc/2006-03-01/";
/// What every document begins with.
pub(crate) const DECLARATION: &str = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n";
/// Deepest nesting of a request's document: `Delete/Object/Key` is three.
const DEPTH_MAX: usize = 8;

/// Writes one document.
#[derive(Debug)]
pub(crate) struct Writer {
    out: String,
}

impl Writer {
    /// A document, with its declaration.
    pub(crate) fn document() -> Self {
        Self { out: DECLARATION.to_owned() }
    }

    /// A document whose root element is in S3's namespace and open.
    pub(crate) fn rooted(root: &str) -> Self {
        let mut writer = Self::document();
        let _ = write!(writer.out, "<{root} xmlns=\"{NAMESPACE}\">");
        writer
    }

    /// An opening tag.
    pub(crate) fn open(&mut self, name: &str) {
        // Listings have thousands of tags: pieces are pushed, not formatted.
        self.out.push('<');
        self.out.push_str(name);
        self.out.push('>');
    }

    /// A closing tag.
    pub(crate) fn close(&mut self, name: &str) {
        self.out.push_str("</");
        self.out.push_str(name);
        self.out.push('>');
    }

    /// An element with text.
    pub(crate) fn element(&mut self, name: &str, text: &str) {
        self.open(name);
        escape(text, &mut self.out);
        self.close(name);
    }

    /// An element that says only what the client said itself. Left out if XML cannot hold it.
    pub(crate) fn echo(&mut self, name: &str, text: &str) {
        if can_hold(text) {
            self.element(name, text);
        }
    }

    /// Text of the element that is open.
    pub(crate) fn text(&mut self, text: &str) {
        escape(text, &mut self.out);
    }

    /// An element with something that prints as harmless ASCII.
    pub(crate) fn plain(&mut self, name: &str, value: impl std::fmt::Display) {
        self.open(name);
        let _ = write!(self.out, "{value}");
        self.close(name);
    }

    /// The document.
    pub(crate) fn finish(self) -> String {
        self.out
    }
}

/// Append `text` as character data.
pub(crate) fn escape(text: &str, out: &mut String) {
    let mut plain = 0;
    for (at, character) in text.char_indices() {
        let escaped = match character {
            '&' => "&amp;",
            '<' => "&lt;",
            '>' => "&gt;",
            '"' => "&quot;",
            // A raw carriage return or line feed would be normalised by the reader.
            '\0'..='\u{1f}' | '\u{7f}' | '\u{fffe}' | '\u{ffff}' => "",
            _ => continue,
        };
        out.push_str(&text[plain..at]);
        plain = at + character.len_utf8();
        match escaped {
            "" => {
                let _ = write!(out, "&#x{:x};", u32::from(character));
            }
            entity => out.push_str(entity),
        }
    }
    out.push_str(&text[plain..]);
}

/// Whether XML 1.0 (section 2.2) has any way to write `text`. Python, Java and Go refuse a whole
/// document for a reference to another character.
pub(crate) fn can_hold(text: &str) -> bool {
    text.chars().all(|character| {
        !matches!(character, '\0'..='\u{8}' | '\u{b}' | '\u{c}' | '\u{e}'..='\u{1f}' | '\u{fffe}' | '\u{ffff}')
    })
}

/// A document that is not what the operation takes.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Malformed;

/// One element: its name, its own text, the elements inside.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Element {
    pub(crate) name: String,
    pub(crate) text: String,
    pub(crate) children: Vec<Element>,
}

impl Element {
    /// The text of the first child of that name.
    pub(crate) fn child_text(&self, name: &str) -> Option<&str> {
        self.children.iter().find(|child| child.name == name).map(|child| child.text.as_str())
    }
}

/// Read a document. Namespaces and attributes are of no interest; document types are refused.
pub(crate) fn read(document: &[u8]) -> Result<Element, Malformed> {
    let text = std::str::from_utf8(document).map_err(|_| Malformed)?;
    let mut reader = Reader::from_str(text.trim_start_matches('\u{feff}'));
    let mut stack: Vec<Element> = Vec::new();
    let mut root = None;
    loop {
        match reader.read_event().map_err(|_| Malformed)? {
            Event::Start(tag) => {
                if stack.len() == DEPTH_MAX || root.is_some() {
                    return Err(Malformed);
                }
                stack.push(element_of(tag.local_name().as_ref())?);
            }
            Event::Empty(tag) => {
                let element = element_of(tag.local_name().as_ref())?;
                attach(element, &mut stack, &mut root)?;
            }
            Event::End(_) => {
                let element = stack.pop().ok_or(Malformed)?;
                attach(element, &mut stack, &mut root)?;
            }
            Event::Text(text) => {
                let text = text.decode().map_err(|_| Malformed)?;
                match stack.last_mut() {
                    Some(element) => element.text.push_str(&text),
                    None if text.trim().is_empty() => {}
                    None => return Err(Malformed),
                }
            }
            Event::CData(data) => {
                let data = data.decode().map_err(|_| Malformed)?;
                stack.last_mut().ok_or(Malformed)?.text.push_str(&data);
            }
            Event::GeneralRef(reference) => {
                let character = reference.resolve_char_ref().map_err(|_| Malformed)?;
                let element = stack.last_mut().ok_or(Malformed)?;
                match (character, reference.as_ref()) {
                    (Some(character), _) => element.text.push(character),
                    (None, b"amp") => element.text.push('&'),
                    (None, b"lt") => element.text.push('<'),
                    (None, b"gt") => element.text.push('>'),
                    (None, b"quot") => element.text.push('"'),
                    (None, b"apos") => element.text.push('\''),
                    (None, _) => return Err(Malformed),
                }
            }
            Event::DocType(_) => return Err(Malformed),
            Event::Decl(_) | Event::PI(_) | Event::Comment(_) => {}
            Event::Eof if stack.is_empty() => return root.ok_or(Malformed),
            Event::Eof => return Err(Malformed),
        }
    }
}

fn element_of(name: &[u8]) -> Result<Element, Malformed> {
    let name = std::str::from_utf8(name).map_err(|_| Malformed)?.to_owned();
    Ok(Element { name, ..Element::default() })
}

fn attach(
    element: Element,
    stack: &mut [Element],
    root: &mut Option<Element>,
) -> Result<(), Malformed> {
    match stack.last_mut() {
        Some(parent) => parent.children.push(element),
        None if root.is_none() => *root = Some(element),
        None => return Err(Malformed),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_with_references_and_cdata_is_read_as_one_string() {
        let root = read(b"<A xmlns='x'><Key>a&amp;b&#x1;<![CDATA[<c>]]></Key></A>").unwrap();
        assert_eq!(root.child_text("Key"), Some("a&b\u{1}<c>"));
    }

    #[test]
    fn unbalanced_deep_or_typed_documents_are_malformed() {
        for bad in ["", "<A>", "<A></B>", "x", "<A/><B/>", "<!DOCTYPE a []><A/>"] {
            assert_eq!(read(bad.as_bytes()), Err(Malformed), "{bad}");
        }
        let deep = "<A>".repeat(DEPTH_MAX + 1) + &"</A>".repeat(DEPTH_MAX + 1);
        assert_eq!(read(deep.as_bytes()), Err(Malformed));
    }

    #[test]
    fn control_characters_are_written_as_references() {
        let mut xml = Writer::document();
        xml.element("Key", "a\u{1}<&\r\n\u{fffe}é");
        assert!(xml.finish().ends_with("<Key>a&#x1;&lt;&amp;&#xd;&#xa;&#xfffe;é</Key>"));
    }
}
