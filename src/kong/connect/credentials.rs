//! Credentials, CA and client pair: files and settings into what a client is made of.

use std::error::Error as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use rustls::client::WebPkiServerVerifier;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use thiserror::Error;

use crate::quote::Quoted;
use crate::settings::{Admin, Credential, TAKEN_HEADERS};
use crate::tls::{AnyCertificate, Named};
use crate::volume::{Generation, Unreadable};

/// The header that Kong Enterprise reads its token from.
pub(super) const TOKEN_HEADER: &str = "kong-admin-token";

pub(super) fn files(settings: &Admin) -> Vec<PathBuf> {
    let token = match &settings.token {
        Some(Credential::File(path)) => Some(path.clone()),
        Some(Credential::Value(_)) | None => None,
    };
    let client = settings.client.iter().flat_map(|files| [files.cert.clone(), files.key.clone()]);
    let ca = settings.ca_file.clone().filter(|_| !settings.insecure_skip_verify);
    [token, settings.headers_file.clone(), ca].into_iter().flatten().chain(client).collect()
}

/// The credentials' files, all of one generation.
pub(super) struct Files(pub(super) Option<Generation>);

impl Files {
    fn content(&self, path: &Path) -> &[u8] {
        self.0.as_ref().map_or(&[], |generation| generation.content(path))
    }
}

pub(super) fn headers(settings: &Admin, files: &Files) -> Result<HeaderMap, Unusable> {
    let mut headers = HeaderMap::new();
    for (name, value) in &settings.headers {
        insert(&mut headers, name, value.expose(), || Unusable::Header(Quoted::new(name)))?;
    }
    if let Some(path) = &settings.headers_file {
        for (number, line) in files.content(path).split(|byte| *byte == b'\n').enumerate() {
            let odd = || Unusable::HeadersFile { path: path.clone(), line: number + 1 };
            let line = std::str::from_utf8(line).map_err(|_| odd())?.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let (name, value) = line.split_once(':').ok_or_else(odd)?;
            let name = name.trim();
            if TAKEN_HEADERS.iter().any(|taken| name.eq_ignore_ascii_case(taken)) {
                return Err(Unusable::HeaderTaken {
                    path: path.clone(),
                    line: number + 1,
                    name: Quoted::new(name),
                });
            }
            insert(&mut headers, name, value.trim(), odd)?;
        }
    }
    match &settings.token {
        Some(Credential::Value(token)) => {
            insert(&mut headers, TOKEN_HEADER, token.expose(), || {
                Unusable::Header(Quoted::new(TOKEN_HEADER))
            })?;
        }
        Some(Credential::File(path)) => {
            let odd = || Unusable::Token(path.clone());
            let token = std::str::from_utf8(files.content(path)).map_err(|_| odd())?;
            if token.trim().is_empty() {
                return Err(odd());
            }
            insert(&mut headers, TOKEN_HEADER, token.trim(), odd)?;
        }
        None => {}
    }
    Ok(headers)
}

fn insert(
    headers: &mut HeaderMap,
    name: &str,
    value: &str,
    odd: impl Fn() -> Unusable,
) -> Result<(), Unusable> {
    let name: HeaderName = name.parse().map_err(|_| odd())?;
    let mut value: HeaderValue = value.parse().map_err(|_| odd())?;
    value.set_sensitive(true);
    headers.insert(name, value);
    Ok(())
}
pub(super) fn tls(settings: &Admin, files: &Files) -> Result<ClientConfig, Unusable> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|_| Unusable::Tls)?;
    let builder = if settings.insecure_skip_verify {
        builder.dangerous().with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)))
    } else {
        let roots = Arc::new(roots(settings.ca_file.as_deref(), files)?);
        match server_name(settings) {
            Some(name @ ServerName::IpAddress(_)) if !roots.is_empty() => {
                let verifier = WebPkiServerVerifier::builder_with_provider(roots, provider).build();
                let verifier = Named { name, verifier: verifier.map_err(|_| Unusable::Tls)? };
                builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier))
            }
            _ => builder.with_root_certificates(roots),
        }
    };
    let Some(pair) = &settings.client else { return Ok(builder.with_no_client_auth()) };
    let odd = || Unusable::ClientPair { cert: pair.cert.clone(), key: pair.key.clone() };
    let key: PrivateKeyDer<'static> = rustls_pemfile::private_key(&mut files.content(&pair.key))
        .ok()
        .flatten()
        .ok_or_else(odd)?;
    builder.with_client_auth_cert(certificates(&pair.cert, files)?, key).map_err(|_| odd())
}

pub(super) fn server_name(settings: &Admin) -> Option<ServerName<'static>> {
    ServerName::try_from(settings.server_name.clone()?).ok()
}

fn roots(path: Option<&Path>, files: &Files) -> Result<RootCertStore, Unusable> {
    let mut roots = RootCertStore::empty();
    if let Some(path) = path {
        for certificate in certificates(path, files)? {
            roots.add(certificate).map_err(|_| Unusable::Certificates(path.to_path_buf()))?;
        }
    }
    Ok(roots)
}

fn certificates(path: &Path, files: &Files) -> Result<Vec<CertificateDer<'static>>, Unusable> {
    let odd = || Unusable::Certificates(path.to_path_buf());
    let certificates: Vec<_> = rustls_pemfile::certs(&mut files.content(path))
        .collect::<Result<_, _>>()
        .map_err(|_| odd())?;
    if certificates.is_empty() { Err(odd()) } else { Ok(certificates) }
}

/// Why the Admin API cannot be called with what is configured; names file or setting and the mend.
#[derive(Clone, Debug, Error)]
pub enum Unusable {
    /// Nothing was read yet.
    #[error("credentials were not read yet; they are read at the next try")]
    NotRead,
    /// A file cannot be read.
    #[error("{0}{cause}", cause = .0.source().map(|cause| format!(": {cause}")).unwrap_or_default())]
    File(Arc<Unreadable>),
    /// The token is empty or no header value.
    #[error("{} holds no token: one line of visible ASCII; write the token alone into it", .0.display())]
    Token(PathBuf),
    /// A configured header is none.
    #[error("header {0} cannot be sent; check its name and value")]
    Header(Quoted),
    /// A line of the headers' file is none.
    #[error("{} line {line} is not `Name: value`; correct it", path.display())]
    HeadersFile {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
    },
    /// A line of the headers' file is for us to say.
    #[error("{} line {line}: header {name} is not yours to set: each request has its own; remove the line", path.display())]
    HeaderTaken {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// The header.
        name: Quoted,
    },
    /// No certificates in the file.
    #[error("{} holds no PEM certificates; mount the CA or the chain there", .0.display())]
    Certificates(PathBuf),
    /// Certificate and key do not go together.
    #[error("{} and {} are not a client's certificate and key; mount a pair that matches", cert.display(), key.display())]
    ClientPair {
        /// The certificate's file.
        cert: PathBuf,
        /// The key's file.
        key: PathBuf,
    },
    /// The server name does not fit the URL.
    #[error(
        "CERT_RELOADER__ADMIN__SERVER_NAME is no host name; set the DNS name in the Admin API's certificate"
    )]
    ServerName,
    /// The TLS library cannot be set up.
    #[error("TLS cannot be set up; check the files of ADMIN__CA_FILE and ADMIN__CLIENT_CERT_FILE")]
    Tls,
}
