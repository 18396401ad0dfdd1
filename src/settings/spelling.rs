//! The two ways to write a setting: as a variable, and as a key of the file.

/// The environment's variables that are ours begin so.
pub(super) const PREFIX: &str = "CERT_RELOADER__";

/// How a setting is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Spelling {
    /// `CERT_RELOADER__ADMIN__URL`.
    Variable,
    /// `admin.url`, as paths in the tree are written, too.
    Key,
}

impl Spelling {
    /// What stands between two levels.
    pub(super) const fn separator(self) -> &'static str {
        match self {
            Self::Variable => "__",
            Self::Key => ".",
        }
    }

    /// `name`, whose levels are parted by our separator, as a user writes it.
    pub(super) fn shown(self, name: &str) -> String {
        match self {
            Self::Variable => format!("{PREFIX}{}", name.to_uppercase()),
            Self::Key => name.to_lowercase(),
        }
    }
}
