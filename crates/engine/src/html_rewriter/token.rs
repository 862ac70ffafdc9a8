//! What a handler was called with.

use lol_html::html_content::{
    Comment, ContentType, Doctype, DocumentEnd, Element, EndTag, TextChunk,
};

/// A token of the document while the parser is suspended in its handler.
///
/// The pointers are valid exactly as long: `Machine` drops the token before it resumes.
pub enum Token {
    Element(*mut Element<'static, 'static>),
    Text(*mut TextChunk<'static>),
    Comment(*mut Comment<'static>),
    Doctype(*mut Doctype<'static>),
    EndTag(*mut EndTag<'static>),
    DocumentEnd(*mut DocumentEnd<'static>),
}

/// Where content goes, seen from the token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    Before,
    After,
    Prepend,
    Append,
    Inner,
    Replace,
}

/// What a token cannot do, or will not take.
#[derive(Debug, thiserror::Error)]
pub enum Misuse {
    #[error("this is not possible here")]
    NotHere,
    #[error("{0}")]
    Name(String),
    #[error("this element has no end tag")]
    NoEndTag,
}

/// Calls a method on whichever of the listed kinds the token is.
macro_rules! on {
    ($token:expr, { $($kind:ident($name:ident) => $body:expr),+ $(,)? }) => {
        match $token {
            // SAFETY: the parser is suspended in this token's handler (see `Token`), so the
            // token is alive and nobody else holds it.
            $(Token::$kind(pointer) => { let $name = unsafe { &mut **pointer }; Ok($body) })+
            #[allow(unreachable_patterns, reason = "some uses list every kind")]
            _ => Err(Misuse::NotHere),
        }
    };
}

impl Token {
    pub fn text(&self) -> Result<String, Misuse> {
        on!(self, { Text(text) => text.as_str().to_owned(), Comment(comment) => comment.text() })
    }

    pub fn is_last_in_text_node(&self) -> Result<bool, Misuse> {
        on!(self, { Text(text) => text.last_in_text_node() })
    }

    pub fn name(&self) -> Result<Option<String>, Misuse> {
        on!(self, {
            Element(element) => Some(element.tag_name()),
            EndTag(tag) => Some(tag.name()),
            Doctype(doctype) => doctype.name(),
        })
    }

    pub fn namespace_uri(&self) -> Result<&'static str, Misuse> {
        on!(self, { Element(element) => element.namespace_uri() })
    }

    /// The public and the system identifier.
    pub fn identifiers(&self) -> Result<(Option<String>, Option<String>), Misuse> {
        on!(self, { Doctype(doctype) => (doctype.public_id(), doctype.system_id()) })
    }

    pub fn set_name(&self, name: &str) -> Result<(), Misuse> {
        on!(self, {
            Element(element) => element.set_tag_name(name).map_err(named)?,
            EndTag(tag) => tag.set_name_str(checked_end_tag(name)?),
        })
    }

    pub fn set_text(&self, text: &str) -> Result<(), Misuse> {
        on!(self, { Comment(comment) => comment.set_text(text).map_err(named)? })
    }

    pub fn attribute(&self, name: &str) -> Result<Option<String>, Misuse> {
        on!(self, { Element(element) => element.get_attribute(name) })
    }

    pub fn attributes(&self) -> Result<Vec<(String, String)>, Misuse> {
        on!(self, {
            Element(element) =>
                element.attributes().iter().map(|each| (each.name(), each.value())).collect()
        })
    }

    pub fn set_attribute(&self, name: &str, value: &str) -> Result<(), Misuse> {
        on!(self, { Element(element) => element.set_attribute(name, value).map_err(named)? })
    }

    pub fn remove_attribute(&self, name: &str) -> Result<(), Misuse> {
        on!(self, { Element(element) => element.remove_attribute(name) })
    }

    pub fn insert(&self, place: Place, content: &str, html: bool) -> Result<(), Misuse> {
        let kind = if html { ContentType::Html } else { ContentType::Text };
        match place {
            Place::Before => on!(self, {
                Element(element) => element.before(content, kind),
                Text(text) => text.before(content, kind),
                Comment(comment) => comment.before(content, kind),
                EndTag(tag) => tag.before(content, kind),
            }),
            Place::After => on!(self, {
                Element(element) => element.after(content, kind),
                Text(text) => text.after(content, kind),
                Comment(comment) => comment.after(content, kind),
                EndTag(tag) => tag.after(content, kind),
            }),
            Place::Prepend => on!(self, { Element(element) => element.prepend(content, kind) }),
            Place::Append => on!(self, {
                Element(element) => element.append(content, kind),
                DocumentEnd(end) => end.append(content, kind),
            }),
            Place::Inner => {
                on!(self, { Element(element) => element.set_inner_content(content, kind) })
            }
            Place::Replace => on!(self, {
                Element(element) => element.replace(content, kind),
                Text(text) => text.replace(content, kind),
                Comment(comment) => comment.replace(content, kind),
            }),
        }
    }

    pub fn remove(&self) -> Result<(), Misuse> {
        on!(self, {
            Element(element) => element.remove(),
            Text(text) => text.remove(),
            Comment(comment) => comment.remove(),
            Doctype(doctype) => doctype.remove(),
            EndTag(tag) => tag.remove(),
        })
    }

    pub fn remove_and_keep_content(&self) -> Result<(), Misuse> {
        on!(self, { Element(element) => element.remove_and_keep_content() })
    }

    pub fn is_removed(&self) -> Result<bool, Misuse> {
        on!(self, {
            Element(element) => element.removed(),
            Text(text) => text.removed(),
            Comment(comment) => comment.removed(),
            Doctype(doctype) => doctype.removed(),
            EndTag(tag) => tag.removed(),
        })
    }
}

fn named(error: impl std::fmt::Display) -> Misuse {
    Misuse::Name(error.to_string())
}

/// lol_html takes any text as an end tag's name, also one that would end the tag.
fn checked_end_tag(name: &str) -> Result<String, Misuse> {
    let letters = name.starts_with(|first: char| first.is_ascii_alphabetic())
        && !name.contains(|c: char| c.is_ascii_whitespace() || c == '/' || c == '>' || c == '\0');
    if letters {
        Ok(name.to_owned())
    } else {
        Err(Misuse::Name(format!("`{}` is no tag name", name.escape_debug())))
    }
}
