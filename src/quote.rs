//! Text that others wrote (certificates, directories, Kong), made safe to show.

use std::fmt::{self, Write as _};

/// Longer text is cut here, in characters.
const LONGEST: usize = 300;

/// Foreign text, safe in a log line, an error or a page: control characters escaped, cut at 300
/// characters, and withheld as a whole where it contains PEM (Kong's answers echo private keys).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Quoted(String);

impl Quoted {
    /// Makes `text` safe to show.
    #[must_use]
    pub fn new(text: &str) -> Self {
        if contains_pem(text) {
            return Self(WITHHELD.to_owned());
        }
        let mut shown = String::with_capacity(text.len().min(LONGEST));
        for (count, character) in text.chars().enumerate() {
            if count == LONGEST {
                shown.push('…');
                break;
            }
            if is_hidden(character) {
                let _ = write!(shown, "{}", character.escape_unicode());
            } else {
                shown.push(character);
            }
        }
        Self(shown)
    }

    /// The safe text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What stands in the place of PEM.
pub(crate) const WITHHELD: &str = "(withheld: it contains PEM)";

/// Whether there may be a key in it.
pub(crate) fn contains_pem(text: &str) -> bool {
    text.contains("-----BEGIN")
}

/// Control characters, and those that reorder or hide what stands around them.
pub(crate) fn is_hidden(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

impl fmt::Display for Quoted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Quoted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pem_is_withheld() {
        let text = "invalid: -----BEGIN PRIVATE KEY-----\nMIIEv\n";
        assert_eq!(Quoted::new(text).as_str(), "(withheld: it contains PEM)");
    }

    #[test]
    fn control_characters_are_escaped() {
        assert_eq!(Quoted::new("a\n\u{1b}[31mb").as_str(), "a\\u{a}\\u{1b}[31mb");
        assert_eq!(Quoted::new("a\u{202e}b").as_str(), "a\\u{202e}b");
    }

    #[test]
    fn long_text_is_cut_between_characters() {
        let quoted = Quoted::new(&"ä".repeat(400));
        assert_eq!(quoted.as_str().chars().count(), LONGEST + 1);
        assert!(quoted.as_str().ends_with('…'));
    }
}
