//! Server names that Kong takes, and then serves.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::Serialize;
use thiserror::Error;

use super::text_of;
use crate::quote::Quoted;

/// A server name as Kong matches it (recordings `put-sni-form-*`, `put-wildcard-snis`).
///
/// Lower-case ASCII without a trailing dot: Kong stores other spellings too, and then serves them
/// to nobody. A wildcard is the whole first label, the whole last one, or all there is.
/// Copies share its text.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Sni(Arc<str>);

text_of!(Sni);

/// Lower-cases, and drops one trailing dot.
impl FromStr for Sni {
    type Err = SniError;

    fn from_str(text: &str) -> Result<Self, SniError> {
        let error = |fault| Err(SniError { text: Quoted::new(text), fault });
        let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
        if name.is_empty() {
            return error(SniFault::Empty);
        }
        if !name.is_ascii() {
            return error(SniFault::NotAscii);
        }
        if is_address(&name) {
            return error(SniFault::Address);
        }
        if name.contains(':') {
            return error(SniFault::Port);
        }
        if name.contains('*') && !has_one_wildcard_at_an_end(&name) {
            return error(SniFault::Wildcard);
        }
        if name.len() > 253 {
            return error(SniFault::Long);
        }
        if let Some(label) = name.split('.').find(|label| !is_label(label)) {
            return error(SniFault::Label(Quoted::new(label)));
        }
        Ok(Self(name.into()))
    }
}

/// Text that is no [`Sni`].
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("\"{text}\" is no server name that Kong serves: {fault}")]
pub struct SniError {
    /// The text.
    pub text: Quoted,
    /// What is wrong with it.
    pub fault: SniFault,
}

/// Why Kong would not take a server name, or never serve it.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum SniFault {
    /// Nothing, or just a dot.
    #[error("it is empty")]
    Empty,
    /// An internationalised name in its own letters.
    #[error("write it in ASCII (punycode, xn--…)")]
    NotAscii,
    /// What Kong takes for an IP address; clients send none as a server name.
    #[error("it is an address; use a name")]
    Address,
    /// A name with a port, or a URL.
    #[error("leave out the port and scheme")]
    Port,
    /// A wildcard elsewhere, part of a label, or a second one.
    #[error(
        "a wildcard is the whole first or last label, once: \"*.example.com\", \"example.*\" or \"*\""
    )]
    Wildcard,
    /// A label with other characters, none, or more than 63, or with a hyphen at its end.
    #[error(
        "its label \"{0}\" must be 1 to 63 letters, digits, \"-\" or \"_\", with no \"-\" at its end"
    )]
    Label(Quoted),
    /// Longer than DNS allows.
    #[error("it has more than 253 characters")]
    Long,
}

/// Kong tells addresses by their looks: more than one colon, or nothing but digits and dots.
fn is_address(name: &str) -> bool {
    let without_colons = name.replace(':', "");
    name.len() - without_colons.len() > 1
        || (without_colons.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.')
            && without_colons.contains(|character: char| character.is_ascii_digit()))
}

fn has_one_wildcard_at_an_end(name: &str) -> bool {
    name == "*"
        || (name.matches('*').count() == 1 && (name.starts_with("*.") || name.ends_with(".*")))
}

fn is_label(label: &str) -> bool {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    label == "*"
        || ((1..=63).contains(&label.len()) && label.bytes().all(legal) && !label.ends_with('-'))
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::unwrap_used,
        clippy::disallowed_methods,
        reason = "a test stops at the first surprise"
    )]

    use std::path::Path;

    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    #[test]
    fn a_name_is_lower_cased_and_loses_one_trailing_dot() {
        assert_eq!("UPPER.Example.com.".parse::<Sni>().unwrap().as_str(), "upper.example.com");
        assert_eq!("a..".parse::<Sni>().unwrap_err().fault, SniFault::Label(Quoted::new("")));
    }

    #[test]
    fn names_that_kong_serves_are_taken() {
        let longest = format!("{}.{}", "a".repeat(63), "b.".repeat(94) + "c");
        assert_eq!(longest.len(), 253);
        for good in [
            "localhost",
            "a_b",
            "-a.b",
            "xn--bcher-kva.example",
            "*",
            "*.test",
            "*.b.example.com",
            "b.example.*",
            "1a.2",
            "a.1",
            &longest,
        ] {
            assert_eq!(good.parse::<Sni>().unwrap().as_str(), good);
        }
    }

    #[test]
    fn names_that_kong_refuses_or_never_serves_are_errors() {
        let label = |text: &str| SniFault::Label(Quoted::new(text));
        let long = "a.".repeat(127);
        for (bad, fault) in [
            ("", SniFault::Empty),
            (".", SniFault::Empty),
            ("bücher.example", SniFault::NotAscii),
            ("10.0.0.1", SniFault::Address),
            ("10.0.0.1:443", SniFault::Address),
            ("256.256.256.256", SniFault::Address),
            ("1", SniFault::Address),
            ("::1", SniFault::Address),
            ("[2001:db8::1]", SniFault::Address),
            ("a.example.com:443", SniFault::Port),
            ("https://a.example.com", SniFault::Port),
            ("foo*.x", SniFault::Wildcard),
            ("*foo.x", SniFault::Wildcard),
            ("foo.*.x", SniFault::Wildcard),
            ("*.*.x", SniFault::Wildcard),
            ("*.ad.*", SniFault::Wildcard),
            ("**", SniFault::Wildcard),
            ("*.*", SniFault::Wildcard),
            ("bad host", label("bad host")),
            ("a..b", label("")),
            (".a", label("")),
            ("*..a", label("")),
            ("a.b-.c", label("b-")),
            ("a/b", label("a/b")),
            ("a\0", label("a\0")),
            (&format!("{}.b", "a".repeat(64)), label(&"a".repeat(64))),
            (&format!("{long}a"), SniFault::Long),
        ] {
            assert_eq!(bad.parse::<Sni>().unwrap_err().fault, fault, "{bad}");
        }
    }

    #[test]
    fn the_grammar_is_that_of_the_recordings() {
        let recordings = ["put-sni-form-", "put-wildcard-snis"].map(recorded).concat();
        assert_eq!(recordings.len(), 9);
        for recording in recordings {
            let names = recording["request"]["body"]["snis"].as_array().unwrap();
            let taken = recording["response"]["status"] == 200;
            let parses = |name: &Value| name.as_str().unwrap().parse::<Sni>().is_ok();
            assert_eq!(names.iter().all(parses), taken, "{names:?}");
        }
    }

    proptest! {
        #[test]
        fn a_name_parses_to_itself(text in "[a-zA-Z0-9_.*:-]{0,40}") {
            if let Ok(sni) = text.parse::<Sni>() {
                prop_assert_eq!(&sni, &sni.as_str().parse().unwrap());
            }
        }
    }

    #[expect(clippy::disallowed_methods, reason = "recordings, not a volume")]
    fn recorded(name: &str) -> Vec<Value> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/kong-contract/db");
        let paths = folder.read_dir().unwrap().map(|entry| entry.unwrap().path());
        let paths = paths.filter(|path| path.to_str().unwrap().contains(name));
        let texts = paths.map(|path| std::fs::read_to_string(path).unwrap());
        texts.map(|text| serde_json::from_str(&text).unwrap()).collect()
    }
}
