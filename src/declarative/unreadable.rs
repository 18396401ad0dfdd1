//! Why a text is no configuration: places and fields, never content.

use std::fmt;

use thiserror::Error;

/// A text that Kong would not take, or that cannot be sent on as it is meant.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Unreadable {
    /// Bytes that are no text.
    #[error("it is not UTF-8 text")]
    NotText,
    /// There is not enough memory for it.
    #[error(
        "it does not fit into memory; raise this container's memory limit, or have it hold less"
    )]
    TooLarge,
    /// Something at a place.
    #[error("{place}: {flaw}")]
    At {
        /// Where.
        place: Place,
        /// What.
        flaw: Flaw,
    },
    /// No fields.
    #[error("its top level is no mapping; write _format_version and entities there")]
    NoMapping,
    /// Kong wants to know the format.
    #[error("_format_version is missing; add _format_version: \"3.0\"")]
    NoFormatVersion,
    /// `3.0` without quotes is a number.
    #[error("_format_version is not text; write it in quotes, as in \"3.0\"")]
    FormatVersion,
    /// A field that holds objects holds something else.
    #[error("{field} is not a list of objects; make it one")]
    NoList {
        /// The field.
        field: &'static str,
    },
}

/// A place in a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// From 1.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
}

impl Place {
    /// Of a byte in a text.
    pub(super) fn of(text: &str, at: usize) -> Self {
        let before = text.get(..at).unwrap_or(text);
        let line_begin = before.rfind('\n').map_or(0, |newline| newline + 1);
        let line = before.bytes().filter(|byte| *byte == b'\n').count() + 1;
        Self { line, column: before[line_begin..].chars().count() + 1 }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}

/// What is wrong at a place.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Flaw {
    /// In the words of the YAML parser, which are fixed.
    #[error("it is neither JSON nor YAML: {0}")]
    Syntax(String),
    /// The same key again.
    #[error("a key stands in one mapping twice; remove one of them")]
    KeyTwice,
    /// A number, a truth value, a list…
    #[error("a key is not text; write it in quotes")]
    KeyNotText,
    /// JSON has neither infinity nor not-a-number.
    #[error("a number is not finite; write another, or write it in quotes")]
    NotFinite,
    /// A number that Kong does not read, or not as it is written.
    #[error("a number is written in an unsafe way; write it in decimal digits, or in quotes")]
    Number,
    /// Neither `!!str` nor one of its kind.
    #[error(
        "a tag is not known to kong; remove it, or use !!str, !!int, !!float, !!bool or !!null"
    )]
    Tag,
    /// Such as `!!int x`.
    #[error("a value does not fit its tag; remove the tag")]
    TagValue,
    /// `<<` and something that has no fields.
    #[error("what is merged by << is not a mapping")]
    Merge,
    /// An alias within what it stands for.
    #[error("an alias stands within its own anchor")]
    Alias,
    /// Too much for one value.
    #[error("it is nested too deep; kong's own objects need no more than 128 levels")]
    TooDeep,
    /// A small text that grows without bounds.
    #[error("anchors and aliases repeat more than 64 MiB; write less by them")]
    TooManyAliases,
    /// libyaml and others differ over what such a text ends with.
    #[error("a block of text ends without a newline; end the file with one")]
    NoNewline,
    /// Kong reads the first document alone.
    #[error("a second YAML document begins, and kong reads the first alone; remove it")]
    SecondDocument,
    /// U+0085, U+2028, U+2029.
    #[error(
        "a line separator that versions of YAML read differently; write it as \\N, \\L or \\P in double quotes"
    )]
    Separator,
}
