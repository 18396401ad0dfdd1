//! Plain HTTP, as nginx speaks it on a port without TLS.

use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;

use crate::kong_model::Answer;

/// What Kong says where no route matches.
pub(super) const NO_ROUTE: &[u8] = b"HTTP/1.1 404 Not Found\r\n\
    Content-Type: application/json; charset=utf-8\r\nConnection: close\r\nContent-Length: 48\r\n\r\n\
    {\"message\":\"no Route matched with those values\"}";

/// What a client says first.
pub(super) enum First {
    Request,
    /// As far as it was read.
    Other(Vec<u8>),
}

/// `None` where the client goes before.
pub(super) async fn read(stream: &mut TcpStream) -> Option<First> {
    let mut head = Vec::with_capacity(16_384);
    loop {
        if stream.read_buf(&mut head).await.ok()? == 0 {
            return None;
        }
        match is_request(&head) {
            None => {}
            Some(true) => return Some(First::Request),
            Some(false) => return Some(First::Other(head)),
        }
    }
}

pub(super) fn answer(first: &First) -> Vec<u8> {
    match first {
        First::Request => NO_ROUTE.to_vec(),
        First::Other(_) => bad_request(),
    }
}

/// `None` as long as it may be one.
fn is_request(head: &[u8]) -> Option<bool> {
    let mut words = head.splitn(2, |byte| *byte == b' ');
    let is_method = |byte: &u8| byte.is_ascii_uppercase() || b"_-".contains(byte);
    if !words.next()?.iter().all(is_method) {
        return Some(false);
    }
    let line_end = head.windows(2).position(|two| two == b"\r\n")?;
    if !is_request_line(&head[..line_end]) {
        return Some(false);
    }
    head.windows(4).any(|four| four == b"\r\n\r\n").then_some(true)
}

fn is_request_line(line: &[u8]) -> bool {
    let words: Vec<_> = line.split(|byte| *byte == b' ').collect();
    matches!(words[..], [_, [b'/', ..], b"HTTP/1.0" | b"HTTP/1.1"])
}

/// nginx's own page: what it cannot read does not get as far as Kong.
fn bad_request() -> Vec<u8> {
    let page = Answer::page("400 Bad Request").body;
    let head = format!(
        "HTTP/1.1 400 Bad Request\r\nServer: kong/3.9.3\r\nContent-Type: text/html; charset=UTF-8\
         \r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        page.len()
    );
    [head.as_bytes(), &page].concat()
}
