//! The PROXY protocol header before a connection, as nginx reads it
//! (<https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt>).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;

const V1_START: &[u8] = b"PROXY ";
const V1_LONGEST: usize = 107;
const V2_START: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// Up to and with the length of the rest.
const V2_FIXED: usize = 16;
/// Version 2, command PROXY.
const V2_PROXY: u8 = 0x21;
const V2_TCP4: u8 = 0x11;
const V2_TCP6: u8 = 0x21;

/// Reads the header and nothing after it; tells it as in `Handshake::proxy_header`. `None` for what
/// is none, as soon as that shows.
pub(super) async fn read(stream: &mut TcpStream) -> Option<String> {
    let mut header = Vec::new();
    loop {
        header.push(stream.read_u8().await.ok()?);
        if begins(&header, V1_START) && header.len() <= V1_LONGEST {
            if let Some(line) = header.strip_suffix(b"\r\n") {
                return line_of_v1(line);
            }
        } else if !begins(&header, V2_START) {
            return None;
        } else if let Some((fixed, rest)) = header.split_at_checked(V2_FIXED)
            && rest.len() == usize::from(u16::from_be_bytes([fixed[14], fixed[15]]))
        {
            return addresses_of_v2(fixed[12], fixed[13], rest);
        }
    }
}

/// As far as both go.
fn begins(header: &[u8], start: &[u8]) -> bool {
    header.iter().zip(start).all(|(found, wanted)| found == wanted)
}

fn line_of_v1(line: &[u8]) -> Option<String> {
    let line = str::from_utf8(line).ok()?;
    let words: Vec<_> = line.split(' ').collect();
    let is_port = |word: &str| word.parse::<u16>().is_ok();
    let is_valid = match words[..] {
        ["PROXY", "UNKNOWN", ..] => true,
        ["PROXY", "TCP4", from, to, from_port, to_port] => {
            let is_ip = |word: &str| word.parse::<Ipv4Addr>().is_ok();
            is_ip(from) && is_ip(to) && is_port(from_port) && is_port(to_port)
        }
        ["PROXY", "TCP6", from, to, from_port, to_port] => {
            let is_ip = |word: &str| word.parse::<Ipv6Addr>().is_ok();
            is_ip(from) && is_ip(to) && is_port(from_port) && is_port(to_port)
        }
        _ => false,
    };
    is_valid.then(|| line.to_owned())
}

/// What comes after the addresses is left alone.
fn addresses_of_v2(version_command: u8, family: u8, rest: &[u8]) -> Option<String> {
    let (from, to): (SocketAddr, SocketAddr) = match (version_command, family) {
        (V2_PROXY, V2_TCP4) => addresses::<4>(rest)?,
        (V2_PROXY, V2_TCP6) => addresses::<16>(rest)?,
        (command, _) if command >> 4 == 2 => return Some("v2 UNKNOWN".to_owned()),
        _ => return None,
    };
    Some(format!("v2 {from} {to}"))
}

/// Source, destination, and their ports, with addresses of so many bytes.
fn addresses<const N: usize>(bytes: &[u8]) -> Option<(SocketAddr, SocketAddr)>
where
    IpAddr: From<[u8; N]>,
{
    let (from, rest) = bytes.split_first_chunk::<N>()?;
    let (to, rest) = rest.split_first_chunk::<N>()?;
    let &[from_high, from_low, to_high, to_low] = rest.first_chunk()?;
    let at = |ip: [u8; N], port| SocketAddr::new(ip.into(), u16::from_be_bytes(port));
    Some((at(*from, [from_high, from_low]), at(*to, [to_high, to_low])))
}
