//! `probe livez|readyz`: asks the sidecar that listens beside us.

use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::time::Duration;

use clap::ValueEnum;

use super::{complain, exit};
use crate::http::DEFAULT_PORT;
use crate::quote::Quoted;
use crate::settings::Listen;

/// The sidecar shows within 2 s whether it is alive.
const TIMEOUT: Duration = Duration::from_secs(3);
/// More of an answer is not read.
const LONGEST_ANSWER: u64 = 16 * 1024;
/// So many characters of it are shown.
const SHOWN: usize = 500;

/// What to ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Probe {
    /// Does the loop turn?
    Livez,
    /// Did each binding come to a conclusion once?
    Readyz,
}

/// Exits 0 if the answer is yes, else 1; tells what the answer says.
pub(super) fn probe(probe: Probe, listen: Listen) -> u8 {
    let path = match probe {
        Probe::Livez => "/livez",
        Probe::Readyz => "/readyz",
    };
    let mut result = Err(io::ErrorKind::AddrNotAvailable.into());
    for address in addresses(listen) {
        result = ask(address, path);
        if result.is_ok() {
            break;
        }
    }
    match result {
        Ok(Answer { status: 200, .. }) => exit::OK,
        Ok(answer) => {
            complain(&format_args!("{path} answers {}{}", answer.status, quoted(&answer.body)));
            exit::FAILED
        }
        Err(problem) => {
            complain(&format_args!(
                "{path} does not answer; is the sidecar running, with the same LISTEN? {problem}"
            ));
            exit::FAILED
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

struct Answer {
    status: u16,
    body: String,
}

fn ask(address: SocketAddr, path: &str) -> io::Result<Answer> {
    let mut stream = TcpStream::connect_timeout(&address, TIMEOUT)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: probe\r\nConnection: close\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.take(LONGEST_ANSWER).read_to_end(&mut answer)?;
    parse(&String::from_utf8_lossy(&answer)).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

fn parse(answer: &str) -> Option<Answer> {
    let status = answer.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()?;
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    Some(Answer { status, body: body.to_owned() })
}

/// The beginning of an answer, a line each, safe to show.
fn quoted(body: &str) -> String {
    if body.contains("-----BEGIN") {
        return format!("\n  {}", Quoted::new(body));
    }
    let shown: String = body.chars().take(SHOWN).collect();
    let lines = shown.lines().filter(|line| !line.is_empty());
    lines.map(|line| format!("\n  {}", Quoted::new(line))).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;

    #[test]
    fn an_answer_is_taken_apart() {
        let answer = parse("HTTP/1.1 503 Service Unavailable\r\na: b\r\n\r\nnot ready\n").unwrap();
        assert_eq!((answer.status, answer.body.as_str()), (503, "not ready\n"));
        for odd in
            ["", "HTTP/2.0 200 OK", "HTTP/1.1", "HTTP/1.1 2", "HTTP/1.1 abc", "SSH-2.0-OpenSSH"]
        {
            assert!(parse(odd).is_none(), "{odd}");
        }
    }

    #[test]
    fn the_beginning_of_an_answer_is_shown_and_nothing_that_moves_the_cursor() {
        assert_eq!(
            quoted("not ready\nweb: \u{1b}[2Jpending\n"),
            "\n  not ready\n  web: \\u{1b}[2Jpending"
        );
        assert_eq!(quoted(""), "");
        assert_eq!(quoted(&"ab\n".repeat(400)).matches("\n  ab").count(), 167);
        let pem = "a\n-----BEGIN PRIVATE KEY-----\nMII\n";
        assert!(!quoted(pem).contains("MII") && !quoted(pem).contains("BEGIN"), "{}", quoted(pem));
    }
}
