//! What is wrong with the settings, told so that it can be mended, and never with a secret in it.

use std::fmt;
use std::slice;

use thiserror::Error;

use super::admin::AdminUrlError;
use super::secret::SecretError;
use crate::names::{NameError, Sni, SniError};
use crate::quote::Quoted;

/// Everything that is wrong with the settings, at least one thing; shown one a line.
#[derive(Clone, Debug, PartialEq, Error)]
pub struct Mistakes(Vec<Mistake>);

impl Mistakes {
    /// Errs if any were found.
    pub(super) fn none_of(found: Vec<Mistake>) -> Result<(), Self> {
        if found.is_empty() { Ok(()) } else { Err(Self(found)) }
    }

    /// Each of them.
    pub fn iter(&self) -> slice::Iter<'_, Mistake> {
        self.0.iter()
    }
}

impl<'a> IntoIterator for &'a Mistakes {
    type Item = &'a Mistake;
    type IntoIter = slice::Iter<'a, Mistake>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, mistake) in self.iter().enumerate() {
            write!(f, "{}{mistake}", if index == 0 { "" } else { "\n" })?;
        }
        Ok(())
    }
}

/// One thing to mend.
#[derive(Clone, Debug, PartialEq, Error)]
#[error("{setting}: {fault}")]
pub struct Mistake {
    /// The setting as the user wrote it, with the file's name where it stands in the file.
    pub setting: Quoted,
    /// What is wrong with it.
    pub fault: Fault,
}

/// What can be wrong with a setting. Holds no value of a secret setting.
#[derive(Clone, Debug, PartialEq, Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum Fault {
    #[error("unknown setting{}", .0.as_ref().map(|meant| format!("; did you mean {meant}?")).unwrap_or_default())]
    Unknown(Option<Quoted>),
    #[error("is a group of settings; set those beneath it")]
    Group,
    #[error("is the same setting as {0}; set one of them")]
    Twice(Quoted),
    #[error("its name is not UTF-8")]
    NameNotUtf8,
    #[error("its value is not UTF-8")]
    NotUtf8,
    #[error("belongs in the environment, as CERT_RELOADER__CONFIG")]
    NotInFile,
    #[error("cannot read {path}: {cause}")]
    File { path: Quoted, cause: String },
    #[error("{path} is not YAML: {cause}")]
    Yaml { path: Quoted, cause: Quoted },
    #[error("{0} is larger than 1 MiB; write fewer settings into it")]
    TooLarge(Quoted),
    #[error("{0} is nested too deep, or its aliases repeat too much; write it plainly")]
    Unbounded(Quoted),
    #[error("{0} must be one YAML mapping from text to settings, such as `debounce: 250ms`")]
    NotATree(Quoted),

    #[error("put the value in quotes, or YAML reads it as a number or a truth value")]
    Unquoted,
    #[error("must be one value, not a list")]
    NotOne,
    #[error("must be a value, not a mapping")]
    Mapping,
    #[error("must be a list, or text with commas")]
    NotAList,
    #[error("\"{0}\" is neither true nor false")]
    Truth(Quoted),
    #[error("\"{0}\" is no duration; write it with its unit, such as 250ms, 30s or 5m")]
    Duration(Quoted),
    #[error("\"{text}\" is out of range; take {shortest} to {longest}")]
    Range { text: Quoted, shortest: String, longest: String },
    #[error("\"{text}\" is none of {choices}")]
    Choice { text: Quoted, choices: String },
    #[error("\"{0}\" is no number from 1 to 64")]
    Concurrency(Quoted),
    #[error("\"{0}\" is no address to listen on; write ip:port, such as 0.0.0.0:9797 or [::]:9797")]
    Listen(Quoted),
    #[error("\"{0}\" is no address of a port; write host:port, such as 127.0.0.1:8443, or auto")]
    ProxyAddress(Quoted),
    #[error("\"{0}\" is no UUID")]
    Id(Quoted),
    #[error("\"{0}\" is no share of a life; take a number above 0 and at most 1, such as 0.75")]
    RenewBy(Quoted),
    #[error("\"{0}\" must be an absolute path")]
    Relative(Quoted),
    #[error("\"{0}\" leads upwards; write the path without \"..\"")]
    Climbs(Quoted),
    #[error("\"{0}\" is no path of a file in the certificate's directory; write it without \"..\"")]
    Outside(Quoted),
    #[error("\"{0}\" is no path; a path holds neither control characters nor PEM")]
    Path(Quoted),
    #[error("\"{0}\" is neither a DNS name nor an IP address")]
    ServerName(Quoted),
    #[error(
        "\"{0}\" is no header name; use letters, digits, \"-\" or \"_\", or put the header into CERT_RELOADER__ADMIN__HEADERS_FILE"
    )]
    HeaderName(Quoted),
    #[error("header {0} is not yours to set: each request has its own")]
    HeaderTaken(String),
    #[error(transparent)]
    Name(#[from] NameError),
    #[error(transparent)]
    Sni(#[from] SniError),
    #[error(transparent)]
    Secret(#[from] SecretError),
    #[error(transparent)]
    Url(#[from] AdminUrlError),

    #[error("lists no server name; leave it out to have those of the certificate")]
    NoSnis,
    #[error("is not set; name the file, by its absolute path")]
    NoFile,
    #[error("is not set; name the directory, or both files by {cert} and {key}")]
    NoPair { cert: Quoted, key: Quoted },
    #[error("goes together with {0}; set both or none")]
    Partner(Quoted),
    #[error("is set as well as {0}; set one of them")]
    Both(Quoted),
    #[error("{sni} is in {other}, too; leave it to one certificate")]
    SniTwice { sni: Sni, other: Quoted },
    #[error(
        "its name is that of {other}; give it another: metrics and `sync --force` know a binding by its name alone"
    )]
    NameTwice { other: Quoted },
    #[error("is the ID of {other}, too; each object in Kong has its own")]
    IdTwice { other: Quoted },
    #[error(
        "would send private keys over plain http to another host; use https, or set CERT_RELOADER__ADMIN__ALLOW_INSECURE=true"
    )]
    Plain,
    #[error(
        "would send private keys to another host without knowing who it is; set CERT_RELOADER__ADMIN__CA_FILE instead, or CERT_RELOADER__ADMIN__ALLOW_INSECURE=true"
    )]
    Unverified,
    #[error(
        "is needed for https: name the file with the Admin API's CA certificate; there are no others in the image"
    )]
    NoRoots,
}
