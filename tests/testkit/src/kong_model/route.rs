//! Which path leads where, and by which methods.

use super::page::unescape;
use super::schema::Kind;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Route {
    Root,
    Status,
    Config,
    Cache,
    CacheKey(String),
    Validate(String),
    List(Kind),
    /// A list that can only be read.
    Others(&'static str),
    One(Kind, String),
    SnisOf(String),
}

impl Route {
    /// `path` without its query. A slash at the end changes nothing.
    pub(super) fn of(path: &str) -> Option<Self> {
        let segments: Vec<String> = path.split('/').skip(1).map(unescape).collect();
        let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
        let segments = segments.strip_suffix(&[""]).unwrap_or(&segments);
        Some(match segments {
            [] => Self::Root,
            ["status"] => Self::Status,
            ["config"] => Self::Config,
            ["cache"] => Self::Cache,
            ["cache", key] => Self::CacheKey((*key).to_owned()),
            ["schemas", name, "validate"] => Self::Validate((*name).to_owned()),
            ["certificates", key, "snis"] => Self::SnisOf((*key).to_owned()),
            ["services"] => Self::Others("services"),
            ["plugins"] => Self::Others("plugins"),
            [name] => Self::List(Kind::named(name)?),
            [name, key] => Self::One(Kind::named(name)?, (*key).to_owned()),
            _ => return None,
        })
    }

    /// Of what it leads to a list or to one of.
    pub(super) const fn kind(&self) -> Option<Kind> {
        match self {
            Self::List(kind) | Self::One(kind, _) => Some(*kind),
            _ => None,
        }
    }

    /// As `Allow` lists them.
    pub(super) const fn methods(&self) -> &'static str {
        match self {
            Self::Root | Self::Status | Self::Others(_) => "GET, HEAD, OPTIONS",
            Self::Config | Self::List(_) | Self::SnisOf(_) => "GET, HEAD, OPTIONS, POST",
            Self::Cache => "DELETE, OPTIONS",
            Self::CacheKey(_) => "DELETE, GET, HEAD, OPTIONS",
            Self::Validate(_) => "OPTIONS, POST",
            Self::One(..) => "DELETE, GET, HEAD, OPTIONS, PATCH, PUT",
        }
    }

    pub(super) fn allows(&self, method: &str) -> bool {
        self.methods().split(", ").any(|allowed| allowed == method)
    }
}
