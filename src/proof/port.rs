//! Where handshakes are made: as configured, or as Kong says of itself.

use std::fmt;

use thiserror::Error;

use crate::kong::{Listener, Mode, Node};
use crate::settings::{AdminUrl, HostPort, Proxy, ProxyAddress, ProxyProtocol};

/// A TLS port of Kong's proxy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProxyPort {
    /// Where it is.
    pub at: HostPort,
    /// It wants the PROXY protocol before TLS.
    pub proxy_protocol: bool,
}

impl fmt::Display for ProxyPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.at.fmt(f)
    }
}

/// Why no handshakes are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum NoProof {
    /// As configured.
    #[error("PROXY__ADDRESS is empty")]
    Off,
    /// A control plane has no proxy port.
    #[error("a control plane serves no certificates itself; its data planes do")]
    ControlPlane,
    /// No proxy listener has TLS.
    #[error("Kong's proxy_listen has no ssl; set PROXY__ADDRESS if TLS ends elsewhere")]
    NoListener,
    /// Kong is not asked what it is.
    #[error(
        "Kong is not asked for its proxy port, because of ADMIN__MODE or for want of ADMIN__URL; set PROXY__ADDRESS"
    )]
    NotAsked,
}

impl ProxyPort {
    /// The port to ask.
    ///
    /// # Errors
    ///
    /// Where there is none.
    pub fn of(proxy: &Proxy, admin: Option<&AdminUrl>, node: &Node) -> Result<Self, NoProof> {
        let address = proxy.address.as_ref().ok_or(NoProof::Off)?;
        let (at, listener) = match address {
            ProxyAddress::At(at) => {
                (at.clone(), node.tls_listeners.iter().find(|listener| listener.port == at.port))
            }
            ProxyAddress::Auto if node.mode == Mode::ControlPlane => {
                return Err(NoProof::ControlPlane);
            }
            ProxyAddress::Auto => {
                let listener = node.tls_listeners.first().ok_or(if node.was_asked {
                    NoProof::NoListener
                } else {
                    NoProof::NotAsked
                })?;
                (HostPort { host: host_of(listener, admin), port: listener.port }, Some(listener))
            }
        };
        let proxy_protocol = match proxy.protocol {
            ProxyProtocol::Auto => listener.is_some_and(|listener| listener.proxy_protocol),
            ProxyProtocol::None => false,
            ProxyProtocol::V1 => true,
        };
        Ok(Self { at, proxy_protocol })
    }
}

/// A wildcard is reached where the Admin API is: beside us, by default.
fn host_of(listener: &Listener, admin: Option<&AdminUrl>) -> String {
    match listener.ip {
        ip if !ip.is_unspecified() => ip.to_string(),
        ip => match admin.filter(|admin| !admin.is_loopback()) {
            Some(admin) => admin.host().to_owned(),
            None if ip.is_ipv4() => "127.0.0.1".to_owned(),
            None => "::1".to_owned(),
        },
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use std::time::Duration;

    use super::*;

    fn listener(ip: &str, port: u16, proxy_protocol: bool) -> Listener {
        Listener { ip: ip.parse().unwrap(), port, proxy_protocol }
    }

    fn node(mode: Mode, tls_listeners: Vec<Listener>) -> Node {
        let spread = Duration::from_secs(5);
        Node { mode, version: None, tls_listeners, spread, master: None, was_asked: true }
    }

    #[test]
    fn the_port_is_what_is_configured_or_what_kong_says() {
        let both = vec![listener("0.0.0.0", 8443, true), listener("::", 9443, false)];
        let auto = Proxy::default();
        let at = |text: &str| Proxy { address: Some(text.parse().unwrap()), ..Proxy::default() };
        let v1 = Proxy { protocol: ProxyProtocol::V1, ..Proxy::default() };
        let plain = Proxy { protocol: ProxyProtocol::None, ..Proxy::default() };
        let off = Proxy { address: None, ..Proxy::default() };
        let beside = "http://localhost:8001";
        for (proxy, admin, mode, listeners, expected) in [
            (&auto, beside, Mode::Database, both.clone(), Ok("127.0.0.1:8443 proxied")),
            (&plain, beside, Mode::Database, both.clone(), Ok("127.0.0.1:8443")),
            (&auto, "https://kong:8444", Mode::Database, both.clone(), Ok("kong:8443 proxied")),
            (&auto, "https://[fd00::1]", Mode::Database, both[1..].to_vec(), Ok("[fd00::1]:9443")),
            (&auto, beside, Mode::Database, both[1..].to_vec(), Ok("[::1]:9443")),
            (&v1, beside, Mode::Database, both[1..].to_vec(), Ok("[::1]:9443 proxied")),
            (&auto, beside, Mode::Database, vec![listener("10.0.0.7", 1, false)], Ok("10.0.0.7:1")),
            (
                &at("10.0.0.8:8443"),
                beside,
                Mode::Database,
                both.clone(),
                Ok("10.0.0.8:8443 proxied"),
            ),
            (&at("gw:443"), beside, Mode::ControlPlane, vec![], Ok("gw:443")),
            (&auto, beside, Mode::ControlPlane, both.clone(), Err(NoProof::ControlPlane)),
            (&auto, beside, Mode::Database, vec![], Err(NoProof::NoListener)),
            (&off, beside, Mode::Database, both, Err(NoProof::Off)),
        ] {
            let port = ProxyPort::of(proxy, Some(&admin.parse().unwrap()), &node(mode, listeners));
            let shown = port
                .map(|port| format!("{port}{}", if port.proxy_protocol { " proxied" } else { "" }));
            assert_eq!(shown.as_deref().map_err(|why| *why), expected);
        }
    }

    #[test]
    fn a_kong_that_is_not_asked_tells_no_port() {
        let node = Node { was_asked: false, ..node(Mode::Database, vec![]) };
        let port = ProxyPort::of(&Proxy::default(), None, &node);
        assert_eq!(port, Err(NoProof::NotAsked));
    }
}
