//! Where the proof makes its handshakes.

use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

use rustls::pki_types::ServerName;

use super::mistake::Fault;
use super::reader::Reader;
use crate::quote::Quoted;

/// Kong's proxy port, and how long it may take to serve what Kong holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proxy {
    /// Where it is; nothing for no proof.
    pub address: Option<ProxyAddress>,
    /// What is spoken before TLS.
    pub protocol: ProxyProtocol,
    /// How long a certificate may stay unserved; `None` for Kong's own `db_update_frequency` and
    /// `db_update_propagation`, and 3 s.
    pub timeout: Option<Duration>,
}

impl Default for Proxy {
    fn default() -> Self {
        Self { address: Some(ProxyAddress::Auto), protocol: ProxyProtocol::Auto, timeout: None }
    }
}

impl Proxy {
    pub(super) fn read(reader: &mut Reader) -> Self {
        let default = Self::default();
        Self {
            address: ProxyAddress::read(reader, "proxy.address"),
            protocol: reader.choice("proxy.protocol", &PROTOCOLS).unwrap_or(default.protocol),
            timeout: reader.duration("proxy.timeout", TIMEOUT),
        }
    }
}

/// Where a port of Kong is at which handshakes are made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProxyAddress {
    /// The proxy port, as Kong says: its first listener with `ssl`.
    Auto,
    /// There.
    At(HostPort),
}

impl ProxyAddress {
    /// The address at `path`: `Auto` where it is not set, nothing where it is empty.
    pub(super) fn read(reader: &mut Reader, path: &str) -> Option<Self> {
        if reader.is_blank(path) {
            return None;
        }
        Some(reader.text(path, Self::from_str).unwrap_or(Self::Auto))
    }
}

/// A host, by name or address, and a port of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPort {
    /// A DNS name or an IP address, without brackets.
    pub host: String,
    /// Not 0.
    pub port: u16,
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// Takes `auto`, `host:port` and `[address]:port`.
impl FromStr for ProxyAddress {
    type Err = Fault;

    fn from_str(text: &str) -> Result<Self, Fault> {
        if text.eq_ignore_ascii_case("auto") {
            return Ok(Self::Auto);
        }
        let odd = || Fault::ProxyAddress(Quoted::new(text));
        let (host, port) = text.rsplit_once(':').ok_or_else(odd)?;
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let is_fine = ServerName::try_from(bare.unwrap_or(host)).is_ok()
            && bare.is_some() == host.contains(':');
        match port.parse() {
            Ok(port) if is_fine && port != 0 => {
                Ok(Self::At(HostPort { host: bare.unwrap_or(host).to_owned(), port }))
            }
            _ => Err(odd()),
        }
    }
}

/// What is spoken before TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyProtocol {
    /// As Kong says of its listener at this port.
    Auto,
    /// Nothing.
    None,
    /// The PROXY protocol, version 1.
    V1,
}

const PROTOCOLS: [(&str, ProxyProtocol); 3] =
    [("auto", ProxyProtocol::Auto), ("none", ProxyProtocol::None), ("v1", ProxyProtocol::V1)];

/// Longer than any cluster of Kong takes to spread a change.
const TIMEOUT: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(60 * 60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_a_host_and_a_port() {
        for (text, shown) in [
            ("127.0.0.1:8443", "127.0.0.1:8443"),
            ("[::1]:8443", "[::1]:8443"),
            ("kong-proxy.kong.svc:443", "kong-proxy.kong.svc:443"),
            ("localhost:1", "localhost:1"),
        ] {
            match text.parse() {
                Ok(ProxyAddress::At(at)) => assert_eq!(at.to_string(), shown),
                other => panic!("{text}: {other:?}"),
            }
        }
        assert_eq!("AUTO".parse(), Ok(ProxyAddress::Auto));
        for odd in [
            "",
            ":8443",
            "kong",
            "kong:",
            "kong:0",
            "kong:65536",
            "::1:8443",
            "[kong]:1",
            "https://kong:1",
            "a b:1",
            "[::1]",
        ] {
            assert!(odd.parse::<ProxyAddress>().is_err(), "{odd}");
        }
    }
}
