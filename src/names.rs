//! The names that travel, each parsed by its grammar: one that exists is one that Kong (or a path)
//! takes.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::Serialize;
use thiserror::Error;

use crate::quote::Quoted;

mod sni;

pub use sni::{Sni, SniError, SniFault};

/// A binding's name as its directory has it: `[A-Za-z0-9][-._A-Za-z0-9]{0,127}`. Copies share its
/// text.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct BindingName(Arc<str>);

impl BindingName {
    /// The name as variables have it. Two that fold alike cannot be told apart there.
    #[must_use]
    pub fn folded(&self) -> FoldedName {
        let folded = folded(&self.0);
        FoldedName(if *folded == *self.0 { Arc::clone(&self.0) } else { folded.into() })
    }
}

impl FromStr for BindingName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        if is_name(text, 128) {
            Ok(Self(text.into()))
        } else {
            Err(NameError::Binding(Quoted::new(text)))
        }
    }
}

/// A binding's name as variables have it: lower-case, with `-` and `.` as `_`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct FoldedName(Arc<str>);

/// A folded name is a name, too.
impl From<FoldedName> for BindingName {
    fn from(folded: FoldedName) -> Self {
        Self(folded.0)
    }
}

/// Takes what [`BindingName`] takes, and folds it.
impl FromStr for FoldedName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        text.parse().map(|name: BindingName| name.folded())
    }
}

/// The name of a group of replicas, part of ids and of tags: `[A-Za-z0-9][-._A-Za-z0-9]{0,63}`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Instance(String);

impl Default for Instance {
    fn default() -> Self {
        Self("default".to_owned())
    }
}

impl FromStr for Instance {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        if is_name(text, 64) {
            Ok(Self(text.to_owned()))
        } else {
            Err(NameError::Instance(Quoted::new(text)))
        }
    }
}

/// A workspace of Kong Enterprise: `[A-Za-z0-9][-._~A-Za-z0-9]{0,127}`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Workspace(String);

impl FromStr for Workspace {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        if is_name(&text.replace('~', "-"), 128) {
            Ok(Self(text.to_owned()))
        } else {
            Err(NameError::Workspace(Quoted::new(text)))
        }
    }
}

/// A tag as Kong takes it: 1 to 255 characters, none of them `,`, `/` or a control character.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Tag(String);

impl FromStr for Tag {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let legal = |character: char| !character.is_control() && !matches!(character, ',' | '/');
        if (1..=255).contains(&text.chars().count()) && text.chars().all(legal) {
            Ok(Self(text.to_owned()))
        } else {
            Err(NameError::Tag(Quoted::new(text)))
        }
    }
}

/// Text that is not the name it should be.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum NameError {
    /// Not a [`BindingName`].
    #[error(
        "\"{0}\" is no name: use a letter or digit, then letters, digits, \"-\", \".\" or \"_\", at most 128 in all"
    )]
    Binding(Quoted),
    /// Not an [`Instance`].
    #[error(
        "\"{0}\" is no instance: use a letter or digit, then letters, digits, \"-\", \".\" or \"_\", at most 64 in all"
    )]
    Instance(Quoted),
    /// Not a [`Workspace`].
    #[error(
        "\"{0}\" is no workspace: use a letter or digit, then letters, digits, \"-\", \".\", \"_\" or \"~\", at most 128 in all"
    )]
    Workspace(Quoted),
    /// Not a [`Tag`].
    #[error(
        "\"{0}\" is no tag: use 1 to 255 characters without \",\", \"/\" and control characters"
    )]
    Tag(Quoted),
}

/// `name` lower-cased, with `-` and `.` as `_`: how names and keys are compared.
pub(crate) fn folded(name: &str) -> String {
    name.to_lowercase().replace(['-', '.'], "_")
}

fn is_name(text: &str, longest: usize) -> bool {
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
    text.starts_with(|first: char| first.is_ascii_alphanumeric())
        && text.len() <= longest
        && text.bytes().all(inner)
}

/// What all names have in common: they show, and lend out, their text.
macro_rules! text_of {
    ($($name:ident),+) => {$(
        impl $name {
            /// The text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    )+};
}
use text_of;

text_of!(BindingName, FoldedName, Instance, Workspace, Tag);

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

    use super::*;

    #[test]
    fn a_binding_name_is_fit_for_a_path_and_for_a_variable() {
        for good in ["a", "0", "Web-1.example_com", &"a".repeat(128)] {
            assert_eq!(good.parse::<BindingName>().unwrap().as_str(), good);
        }
        for bad in ["", ".", "..", "-a", "_a", "a/b", "a b", "ä", "a\0", &"a".repeat(129)] {
            assert!(bad.parse::<BindingName>().is_err(), "{bad}");
        }
    }

    #[test]
    fn names_fold_as_variables_have_them() {
        let folded = |name: &str| name.parse::<BindingName>().unwrap().folded();
        assert_eq!(folded("Web-1.example_com").as_str(), "web_1_example_com");
        assert_eq!(folded("web-1"), folded("WEB.1"));
        assert_eq!("Web-1".parse::<FoldedName>().unwrap(), folded("web_1"));
    }

    #[test]
    fn an_instance_is_at_most_64_long() {
        assert_eq!(Instance::default().to_string(), "default");
        assert!("a".repeat(64).parse::<Instance>().is_ok());
        assert!("a".repeat(65).parse::<Instance>().is_err());
        assert!("a/b".parse::<Instance>().is_err());
    }

    #[test]
    fn a_workspace_may_hold_a_tilde_but_not_begin_with_one() {
        assert_eq!("team~a".parse::<Workspace>().unwrap().as_str(), "team~a");
        for bad in ["", "~a", "a/b", "a b", &"a".repeat(129)] {
            assert!(bad.parse::<Workspace>().is_err(), "{bad}");
        }
    }

    /// Recordings `put-bad-tag` and `put-tag-with-colon`.
    #[test]
    fn a_tag_is_what_kong_takes() {
        for good in ["managed-by:kong-cert-reloader", "sha256:0123abcd", "two words", "größe"] {
            assert_eq!(good.parse::<Tag>().unwrap().as_str(), good);
        }
        for bad in ["", "a,b", "c/d", "a\nb", "a\u{7f}", &"ä".repeat(256)] {
            assert!(bad.parse::<Tag>().is_err(), "{bad}");
        }
        assert!("ä".repeat(255).parse::<Tag>().is_ok());
    }

    #[test]
    fn an_error_quotes_the_text_and_names_the_mend() {
        let error = "a\n/b".parse::<BindingName>().unwrap_err().to_string();
        assert!(error.starts_with("\"a\\u{a}/b\" is no name: use a letter"), "{error}");
    }
}
