//! How to reach Kong's Admin API, and how to keep keys safe on the way.

use std::fmt;
use std::net::IpAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use reqwest::Url;
use rustls::pki_types::ServerName;
use thiserror::Error;

use super::mistake::Fault;
use super::reader::Reader;
use super::secret::Secret;
use crate::names::Workspace;
use crate::quote::Quoted;

/// The Admin API. One that exists does not send keys over unsafe connections, unless it was told
/// to by `ALLOW_INSECURE`.
#[derive(Clone, Debug, PartialEq)]
pub struct Admin {
    /// Where it is; nothing where there is none, as on a data plane.
    pub url: Option<AdminUrl>,
    /// Where Kong keeps its configuration.
    pub mode: AdminMode,
    /// Longest wait for one answer.
    pub timeout: Duration,
    /// Requests at a time, at most 64.
    pub concurrency: NonZeroUsize,
    /// Value of `Kong-Admin-Token`.
    pub token: Option<Credential>,
    /// More headers: valid lower-case names, in order, each once.
    pub headers: Vec<(String, Secret)>,
    /// A file with more headers, one a line.
    pub headers_file: Option<PathBuf>,
    /// Workspace of Kong Enterprise.
    pub workspace: Option<Workspace>,
    /// The only certificates that https trusts; set if the URL is https, unless not verified.
    pub ca_file: Option<PathBuf>,
    /// What we show to an Admin API that asks for a certificate.
    pub client: Option<ClientFiles>,
    /// DNS name or IP address that the Admin API's certificate must have, if not the URL's host.
    pub server_name: Option<String>,
    /// Takes any certificate from the Admin API.
    pub insecure_skip_verify: bool,
    /// Allows keys on plain or unverified connections to other hosts.
    pub allow_insecure: bool,
}

impl Default for Admin {
    fn default() -> Self {
        Self {
            url: "http://127.0.0.1:8001".parse().ok(),
            mode: AdminMode::Auto,
            timeout: Duration::from_secs(10),
            concurrency: NonZeroUsize::MIN.saturating_add(3),
            token: None,
            headers: Vec::new(),
            headers_file: None,
            workspace: None,
            ca_file: None,
            client: None,
            server_name: None,
            insecure_skip_verify: false,
            allow_insecure: false,
        }
    }
}

impl Admin {
    pub(super) fn read(reader: &mut Reader) -> Self {
        let default = Self::default();
        let admin = Self {
            url: if reader.is_blank("admin.url") {
                None
            } else {
                reader.text("admin.url", AdminUrl::from_str).or(default.url)
            },
            mode: reader.choice("admin.mode", &MODES).unwrap_or(default.mode),
            timeout: reader.duration("admin.timeout", TIMEOUT).unwrap_or(default.timeout),
            concurrency: reader
                .plain("admin.concurrency", concurrency)
                .unwrap_or(default.concurrency),
            token: token(reader),
            headers: headers(reader),
            headers_file: reader.path("admin.headers_file"),
            workspace: reader.text("admin.workspace", Workspace::from_str),
            ca_file: reader.path("admin.ca_file"),
            client: client(reader),
            server_name: reader.text("admin.server_name", server_name),
            insecure_skip_verify: reader
                .truth("admin.insecure_skip_verify")
                .unwrap_or(default.insecure_skip_verify),
            allow_insecure: reader.truth("admin.allow_insecure").unwrap_or(default.allow_insecure),
        };
        if reader.is_whole() {
            admin.reject_unsafe(reader);
        }
        admin
    }

    fn reject_unsafe(&self, reader: &mut Reader) {
        let Some(url) = &self.url else { return };
        let exposed = !url.is_loopback() && !self.allow_insecure;
        if !url.is_https() {
            if exposed {
                reader.reject("admin.url", Fault::Plain);
            }
        } else if self.insecure_skip_verify {
            if exposed {
                reader.reject("admin.insecure_skip_verify", Fault::Unverified);
            }
        } else if !reader.is_set("admin.ca_file") {
            reader.reject("admin.ca_file", Fault::NoRoots);
        }
    }
}

/// Where Kong keeps its configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AdminMode {
    /// Ask Kong.
    Auto,
    /// In a database.
    Database,
    /// In a database, for data planes.
    ControlPlane,
    /// In memory.
    Dbless,
}

const MODES: [(&str, AdminMode); 4] = [
    ("auto", AdminMode::Auto),
    ("database", AdminMode::Database),
    ("control_plane", AdminMode::ControlPlane),
    ("dbless", AdminMode::Dbless),
];

/// A token, or the file that has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Credential {
    /// The token.
    Value(Secret),
    /// The file, read again when it changes.
    File(PathBuf),
}

/// Certificate and key of a TLS client, both PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientFiles {
    /// The certificate chain.
    pub cert: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

/// An http or https URL, perhaps with a path before Kong's own, and with nothing else: no user,
/// password, query or fragment. Its path ends with a slash, so that [`Url::join`] goes beneath it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdminUrl(Url);

impl AdminUrl {
    /// The URL.
    #[must_use]
    pub const fn as_url(&self) -> &Url {
        &self.0
    }

    /// Whether it is this very host: 127.0.0.0/8, `::1` or `localhost`.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        let host = self.host();
        host == "localhost" || host.parse().is_ok_and(|address: IpAddr| address.is_loopback())
    }

    /// The host: a name, or an address without brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        self.0.host_str().unwrap_or_default().trim_matches(['[', ']'])
    }

    /// Whether it is https.
    #[must_use]
    pub fn is_https(&self) -> bool {
        self.0.scheme() == "https"
    }
}

impl FromStr for AdminUrl {
    type Err = AdminUrlError;

    fn from_str(text: &str) -> Result<Self, AdminUrlError> {
        if text.get(..5).is_some_and(|start| start.eq_ignore_ascii_case("unix:")) {
            return Err(AdminUrlError::Unix);
        }
        let mut url = Url::parse(text).map_err(|_| AdminUrlError::NotAUrl)?;
        if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
            return Err(AdminUrlError::NotAUrl);
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(AdminUrlError::User);
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(AdminUrlError::Query);
        }
        if !url.path().ends_with('/') {
            url.set_path(&format!("{}/", url.path()));
        }
        Ok(Self(url))
    }
}

/// Without the slash at its end.
impl fmt::Display for AdminUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.as_str().trim_end_matches('/'))
    }
}

/// Text that is no [`AdminUrl`]. Does not tell the text, which may hold a password.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum AdminUrlError {
    /// No URL at all, or of another scheme.
    #[error("is no http or https URL; write it as http://127.0.0.1:8001")]
    NotAUrl,
    /// A Unix domain socket.
    #[error(
        "names a Unix socket, which is not supported; let Kong listen on 127.0.0.1 (admin_listen) and write http://127.0.0.1:8001"
    )]
    Unix,
    /// A user name or a password.
    #[error(
        "holds a user name or password; put it into CERT_RELOADER__ADMIN__HEADERS__AUTHORIZATION or CERT_RELOADER__ADMIN__HEADERS_FILE"
    )]
    User,
    /// A query or a fragment.
    #[error("holds a query or a fragment; leave out what follows \"?\" or \"#\"")]
    Query,
}

const TIMEOUT: std::ops::RangeInclusive<Duration> =
    Duration::from_millis(10)..=Duration::from_secs(600);

fn concurrency(text: &str) -> Result<NonZeroUsize, Fault> {
    let number: Option<NonZeroUsize> = text.parse().ok();
    number.filter(|number| number.get() <= 64).ok_or_else(|| Fault::Concurrency(Quoted::new(text)))
}

fn token(reader: &mut Reader) -> Option<Credential> {
    if reader.is_set("admin.token") && reader.is_set("admin.token_file") {
        let other = reader.written("admin.token_file");
        reader.reject("admin.token", Fault::Both(other));
    }
    let value = reader.text("admin.token", Secret::from_str).map(Credential::Value);
    let file = reader.path("admin.token_file").map(Credential::File);
    value.or(file)
}

fn headers(reader: &mut Reader) -> Vec<(String, Secret)> {
    let mut headers = Vec::new();
    for key in reader.names("admin.headers") {
        let path = format!("admin.headers.{key}");
        let name = key.replace('_', "-");
        if TAKEN_HEADERS.contains(&name.as_str()) {
            reader.reject(&path, Fault::HeaderTaken(name));
        } else if let Some(value) = reader.text(&path, Secret::from_str) {
            headers.push((name, value));
        }
    }
    headers
}

/// What the client itself says about each request.
pub(crate) const TAKEN_HEADERS: [&str; 8] = [
    "connection",
    "content-length",
    "content-type",
    "expect",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

fn client(reader: &mut Reader) -> Option<ClientFiles> {
    let [cert, key] = ["admin.client_cert_file", "admin.client_key_file"];
    reader.reject_single(cert, key);
    let (cert, key) = (reader.path(cert), reader.path(key));
    Some(ClientFiles { cert: cert?, key: key? })
}

fn server_name(text: &str) -> Result<String, Fault> {
    match ServerName::try_from(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(_) => Err(Fault::ServerName(Quoted::new(text))),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

    use super::*;

    #[test]
    fn loopback_is_told_from_other_hosts() {
        for (url, loopback) in [
            ("http://127.0.0.1:8001", true),
            ("http://127.9.9.9", true),
            ("https://[::1]:8444", true),
            ("http://LOCALHOST:8001", true),
            ("http://0.0.0.0:8001", false),
            ("http://localhost.example:8001", false),
            ("http://127.0.0.1.example:8001", false),
            ("http://[::ffff:127.0.0.1]:8001", false),
            ("http://kong-admin:8001", false),
        ] {
            assert_eq!(url.parse::<AdminUrl>().unwrap().is_loopback(), loopback, "{url}");
        }
    }

    #[test]
    fn paths_go_beneath_the_prefix() {
        for (text, beneath) in [
            ("http://kong:8001", "http://kong:8001/status"),
            ("https://kong/admin", "https://kong/admin/status"),
            ("https://kong/admin/", "https://kong/admin/status"),
        ] {
            let url: AdminUrl = text.parse().unwrap();
            assert_eq!(url.as_url().join("status").unwrap().as_str(), beneath);
            assert_eq!(url.to_string(), text.trim_end_matches('/'));
        }
    }

    #[test]
    fn what_is_more_or_less_than_an_http_url_is_an_error() {
        for (text, error) in [
            ("127.0.0.1:8001", AdminUrlError::NotAUrl),
            ("localhost:8001", AdminUrlError::NotAUrl),
            ("ftp://kong", AdminUrlError::NotAUrl),
            ("http://", AdminUrlError::NotAUrl),
            ("unix:/run/kong.sock", AdminUrlError::Unix),
            ("http://u:p@kong", AdminUrlError::User),
            ("http://u@kong", AdminUrlError::User),
            ("http://kong?a=b", AdminUrlError::Query),
            ("http://kong#a", AdminUrlError::Query),
        ] {
            assert_eq!(text.parse::<AdminUrl>(), Err(error), "{text}");
        }
    }
}
