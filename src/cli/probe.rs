//! `probe livez|readyz`: asks the sidecar that listens beside us.

use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::process::ExitCode;
use std::time::Duration;

use clap::ValueEnum;

use super::{FAILED, OK, complain};
use crate::http::DEFAULT_PORT;
use crate::settings::Listen;

/// The sidecar shows within 2 s whether it is alive.
const TIMEOUT: Duration = Duration::from_secs(3);

/// What to ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Probe {
    /// Does the loop turn?
    Livez,
    /// Did each binding come to a conclusion once?
    Readyz,
}

/// Exits 0 if the answer is yes, else 1.
pub(super) fn probe(probe: Probe, listen: Listen) -> ExitCode {
    let path = match probe {
        Probe::Livez => "/livez",
        Probe::Readyz => "/readyz",
    };
    let mut result = Err(io::ErrorKind::AddrNotAvailable.into());
    for address in addresses(listen) {
        result = status_of(address, path);
        if result.is_ok() {
            break;
        }
    }
    match result {
        Ok(200) => ExitCode::from(OK),
        Ok(status) => {
            complain(&format_args!("{path} answers {status}"));
            ExitCode::from(FAILED)
        }
        Err(problem) => {
            complain(&format_args!(
                "{path} does not answer; is the sidecar running, with the same LISTEN? {problem}"
            ));
            ExitCode::from(FAILED)
        }
    }
}

/// Where the sidecar can be reached from the same network namespace.
fn addresses(listen: Listen) -> Vec<SocketAddr> {
    let (ip, port) = match listen {
        Listen::Default => (IpAddr::V6(Ipv6Addr::UNSPECIFIED), DEFAULT_PORT),
        Listen::Address(address) => (address.ip(), address.port()),
    };
    match ip {
        IpAddr::V6(ip) if ip.is_unspecified() => {
            vec![(Ipv6Addr::LOCALHOST, port).into(), (Ipv4Addr::LOCALHOST, port).into()]
        }
        IpAddr::V4(ip) if ip.is_unspecified() => vec![(Ipv4Addr::LOCALHOST, port).into()],
        ip => vec![(ip, port).into()],
    }
}

fn status_of(address: SocketAddr, path: &str) -> io::Result<u16> {
    let mut stream = TcpStream::connect_timeout(&address, TIMEOUT)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: probe\r\nConnection: close\r\n\r\n")?;
    let mut head = [0; 12];
    stream.read_exact(&mut head)?;
    let status = std::str::from_utf8(&head).ok().and_then(|head| head.strip_prefix("HTTP/1.1 "));
    status.and_then(|status| status.parse().ok()).ok_or_else(|| io::ErrorKind::InvalidData.into())
}
