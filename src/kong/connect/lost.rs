//! Why no answer came, and what to mend.

use std::io;

use crate::kong::Lost;
use crate::quote::Quoted;

pub(super) fn lost(error: &reqwest::Error) -> Lost {
    // Where there was no connection, nothing was sent.
    if error.is_timeout() && !error.is_connect() {
        return Lost::Timeout;
    }
    // The innermost cause is the system's or the TLS library's word; the outer ones repeat the URL.
    let mut cause: &(dyn std::error::Error + 'static) = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    let is_plain = error.url().is_some_and(|url| url.scheme() == "http");
    let mend = match (tls_error(cause), cause.downcast_ref::<hyper::Error>()) {
        (Some(refused), _) => Some(mend(refused)),
        (None, Some(garbled)) if is_plain && garbled.is_parse() => {
            Some("if that port speaks TLS, use https:// in ADMIN__URL")
        }
        _ => None,
    };
    let cause = Quoted::new(&cause.to_string());
    match mend {
        Some(mend) => Lost::ToMend { cause, mend },
        None if error.is_connect() => {
            let to = error.url().map(|url| url.origin().ascii_serialization()).unwrap_or_default();
            Lost::Connect { to: Quoted::new(&to), cause }
        }
        None => Lost::Broken(cause),
    }
}

/// The TLS library's error, as it is or within the system's, which do not call it their source.
fn tls_error<'a>(cause: &'a (dyn std::error::Error + 'static)) -> Option<&'a rustls::Error> {
    match cause.downcast_ref::<io::Error>() {
        Some(wrapping) => tls_error(wrapping.get_ref()?),
        None => cause.downcast_ref(),
    }
}

fn mend(refused: &rustls::Error) -> &'static str {
    use rustls::{AlertDescription as Alert, CertificateError as Bad, Error};
    match refused {
        Error::InvalidCertificate(Bad::NotValidForName | Bad::NotValidForNameContext { .. }) => {
            "set ADMIN__SERVER_NAME to a name that the Admin API's certificate has"
        }
        Error::InvalidCertificate(
            Bad::Expired
            | Bad::ExpiredContext { .. }
            | Bad::NotValidYet
            | Bad::NotValidYetContext { .. },
        ) => "renew the Admin API's certificate, or check the node's clock",
        Error::InvalidCertificate(_) => {
            "let ADMIN__CA_FILE hold the CA that issued the Admin API's certificate"
        }
        Error::InvalidMessage(_) => {
            "that port speaks no TLS: use http:// in ADMIN__URL, or the port of Kong's admin_listen that has ssl"
        }
        Error::AlertReceived(Alert::UnrecognisedName) => {
            "set ADMIN__SERVER_NAME to a name that the Admin API knows"
        }
        Error::AlertReceived(
            Alert::CertificateRequired
            | Alert::NoCertificate
            | Alert::BadCertificate
            | Alert::UnsupportedCertificate
            | Alert::CertificateRevoked
            | Alert::CertificateExpired
            | Alert::CertificateUnknown
            | Alert::UnknownCA
            | Alert::AccessDenied
            | Alert::DecryptError
            | Alert::HandshakeFailure,
        ) => {
            "set ADMIN__CLIENT_CERT_FILE and ADMIN__CLIENT_KEY_FILE to a pair that the Admin API accepts"
        }
        _ => "check ADMIN__URL, and the Admin API's own log",
    }
}
