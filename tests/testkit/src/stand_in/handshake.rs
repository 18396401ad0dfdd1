//! What a client says first.

use rustls::server::{Accepted, AcceptedAlert, Acceptor};
use rustls::{Error, ProtocolVersion};
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;

use crate::kong_model::Offers;

/// A ClientHello that reached the proxy port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Handshake {
    /// The name asked for.
    pub sni: Option<String>,
    /// The signatures that the client takes.
    pub offers: Offers,
    /// It offers to go on with an earlier session: a ticket or a session id of TLS 1.2, or a
    /// pre-shared key of TLS 1.3.
    pub resumes: bool,
    /// The PROXY header before it: the line of version 1 without its end, `v2 SOURCE DESTINATION`
    /// of version 2, or `v2 UNKNOWN` where that tells no TCP addresses.
    pub proxy_header: Option<String>,
}

/// A whole ClientHello, and the handshake to go on with.
pub(super) struct Hello {
    pub(super) accepted: Accepted,
    resumes: bool,
}

/// The alert for what is no ClientHello; nothing for one that breaks off.
pub(super) struct NoHello {
    pub(super) alert: Vec<u8>,
}

impl Hello {
    pub(super) async fn read(stream: &mut TcpStream) -> Result<Self, NoHello> {
        let mut reading = Reading::default();
        loop {
            let mut bytes = Vec::with_capacity(4096);
            let read = stream.read_buf(&mut bytes).await.unwrap_or_default();
            if read == 0 {
                return Err(NoHello { alert: Vec::new() });
            }
            if let Some(hello) = reading.take(&bytes)? {
                return Ok(hello);
            }
        }
    }

    /// The one that `bytes` begin with.
    pub(super) fn in_bytes(bytes: &[u8]) -> Option<Self> {
        Reading::default().take(bytes).ok().flatten()
    }

    pub(super) fn handshake(&self, proxy_header: Option<String>) -> Handshake {
        let hello = self.accepted.client_hello();
        Handshake {
            sni: hello.server_name().map(str::to_owned),
            offers: Offers::of(&hello),
            resumes: self.resumes,
            proxy_header,
        }
    }
}

/// A ClientHello as far as it has come.
#[derive(Default)]
struct Reading {
    acceptor: Acceptor,
    records: Vec<u8>,
}

impl Reading {
    fn take(&mut self, mut bytes: &[u8]) -> Result<Option<Hello>, NoHello> {
        self.records.extend(bytes);
        while !bytes.is_empty() {
            self.acceptor.read_tls(&mut bytes).unwrap();
            if let Some(accepted) = self.acceptor.accept()? {
                let resumes = resumes(&self.records).unwrap_or_default();
                return Ok(Some(Hello { accepted, resumes }));
            }
        }
        Ok(None)
    }
}

impl From<(Error, AcceptedAlert)> for NoHello {
    fn from((_, mut told): (Error, AcceptedAlert)) -> Self {
        let mut alert = Vec::new();
        told.write_all(&mut alert).unwrap();
        Self { alert }
    }
}

/// RFC 5077, section 3.2.
const SESSION_TICKET: u16 = 35;
/// RFC 8446, section 4.2.
const PRE_SHARED_KEY: u16 = 41;
const SUPPORTED_VERSIONS: u16 = 43;

/// Whether the ClientHello in these records (RFC 8446, sections 4.1.2 and 5.1) offers to resume.
/// A session id does not count where TLS 1.3 is offered: it may be random there.
fn resumes(records: &[u8]) -> Option<bool> {
    let message = payload(records);
    let mut hello = Fields(&message);
    hello.take(4 + 2 + 32)?;
    let session_id = hello.vector(1)?;
    let (_suites, _compression) = (hello.vector(2)?, hello.vector(1)?);
    let mut extensions = Fields(hello.vector(2).unwrap_or_default());
    let (mut offers_tls13, mut resumes) = (false, false);
    while let Some(extension) = extensions.number(2) {
        let content = extensions.vector(2)?;
        match u16::try_from(extension).ok()? {
            SESSION_TICKET => resumes |= !content.is_empty(),
            PRE_SHARED_KEY => resumes = true,
            SUPPORTED_VERSIONS => {
                let tls13 = u16::from(ProtocolVersion::TLSv1_3).to_be_bytes();
                offers_tls13 = content.get(1..)?.chunks(2).any(|version| version == tls13);
            }
            _ => {}
        }
    }
    Some(resumes || (!session_id.is_empty() && !offers_tls13))
}

/// What is in the records, without their heads.
fn payload(records: &[u8]) -> Vec<u8> {
    let mut rest = Fields(records);
    let mut payload = Vec::new();
    while let Some(fragment) = rest.take(3).and_then(|_| rest.vector(2)) {
        payload.extend(fragment);
    }
    payload
}

/// What is left of a message (RFC 8446, section 3).
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn number(&mut self, bytes: usize) -> Option<usize> {
        let big_endian = |number, byte: &u8| number << 8 | usize::from(*byte);
        Some(self.take(bytes)?.iter().fold(0, big_endian))
    }

    /// A length of so many bytes, and what it tells the length of.
    fn vector(&mut self, length_bytes: usize) -> Option<&'a [u8]> {
        let length = self.number(length_bytes)?;
        self.take(length)
    }
}
