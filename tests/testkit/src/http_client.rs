//! A client that sends exactly what it is told, on a connection of its own.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::kong_model::{Answer, Request};

/// Sends one request and reads the whole answer.
///
/// # Errors
///
/// Where the connection fails, or ends before the answer does (`UnexpectedEof`).
pub async fn exchange(address: SocketAddr, request: &Request) -> io::Result<Answer> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(&spelt(request, address)).await?;
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).await?;
    parse(&bytes).ok_or_else(|| ErrorKind::UnexpectedEof.into())
}

fn spelt(request: &Request, address: SocketAddr) -> Vec<u8> {
    let mut head = format!("{} {} HTTP/1.1\r\n", request.method, request.path);
    if !request.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
        head += &format!("Host: {address}\r\n");
    }
    for (name, value) in &request.headers {
        head += &format!("{name}: {value}\r\n");
    }
    head += &format!("Connection: close\r\nContent-Length: {}\r\n\r\n", request.body.len());
    [head.as_bytes(), &request.body].concat()
}

/// `None` for less than a whole answer.
fn parse(bytes: &[u8]) -> Option<Answer> {
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")?;
    let head = String::from_utf8_lossy(&bytes[..end]);
    let mut lines = head.split("\r\n");
    let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
    let headers = lines.filter_map(|line| line.split_once(": "));
    let owned = |(name, value): (&str, &str)| (name.to_lowercase(), value.to_owned());
    let headers: Vec<(String, String)> = headers.map(owned).collect();
    let body = bytes[end + 4..].to_vec();
    let told = headers.iter().find(|(name, _)| name == "content-length");
    let whole = told.is_none_or(|(_, length)| *length == body.len().to_string());
    whole.then_some(Answer { status, headers, body })
}
