//! Something at the Admin API's address whose answers have no bounds.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::sleep;

/// What is odd.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Odd {
    /// Headers do not end.
    Head,
    /// The answer to `GET /` does not end.
    Body,
    /// It comes byte by byte.
    Drip,
    /// An object does not end.
    Object,
    /// A list does not end.
    List,
    /// A list has one page after the other, each with nothing in it.
    Pages,
    /// The configuration of a Kong without a database does not end.
    Configuration,
}

type Stream = BufReader<TcpStream>;

/// Answers until it is dropped.
pub(crate) struct OddAdmin {
    pub(crate) address: SocketAddr,
    task: JoinHandle<()>,
}

impl Drop for OddAdmin {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl OddAdmin {
    pub(crate) async fn start(odd: Odd) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                // The client is the one who breaks off.
                tokio::spawn(async move { drop(converse(stream, odd).await) });
            }
        });
        Self { address, task }
    }
}

async fn converse(stream: TcpStream, odd: Odd) -> io::Result<()> {
    let mut stream = BufReader::new(stream);
    let mut page = 0_u64;
    loop {
        let mut request = String::new();
        stream.read_line(&mut request).await?;
        let mut line = String::new();
        // No request of those that are looked at has a body.
        while stream.read_line(&mut line).await? > 2 {
            line.clear();
        }
        let path = request.split(' ').nth(1).unwrap_or_default();
        page += 1;
        answer(&mut stream, path, odd, page).await?;
    }
}

async fn answer(stream: &mut Stream, path: &str, odd: Odd, page: u64) -> io::Result<()> {
    let database = if odd == Odd::Configuration { "off" } else { "postgres" };
    let root = json!({"version": "3.9.3", "configuration": {"database": database}});
    let is_here = match odd {
        Odd::Head => {
            return endless(stream, "HTTP/1.1 200 OK\r\n", &b"x: y\r\n".repeat(1000)).await;
        }
        Odd::Body | Odd::Drip => true,
        Odd::Object => path.starts_with("/certificates/"),
        Odd::List => path.starts_with("/ca_certificates?"),
        Odd::Configuration => path == "/config",
        Odd::Pages if path.starts_with("/ca_certificates?") => {
            let page = json!({"data": [], "offset": page.to_string()});
            return say(stream, &page.to_string()).await;
        }
        Odd::Pages => false,
    };
    if !is_here {
        let hash = json!({"configuration_hash": "0123456789abcdef0123456789abcdef"});
        return match path {
            "/" => say(stream, &root.to_string()).await,
            "/status" => say(stream, &hash.to_string()).await,
            path if path.contains('?') => say(stream, r#"{"data":[]}"#).await,
            _ => none(stream).await,
        };
    }
    let head =
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n";
    if odd == Odd::Drip {
        stream.write_all(head.as_bytes()).await?;
        loop {
            stream.write_all(b"1\r\n \r\n").await?;
            sleep(Duration::from_millis(50)).await;
        }
    }
    let text = " ".repeat(0xffff);
    endless(stream, head, format!("ffff\r\n{text}\r\n").as_bytes()).await
}

async fn say(stream: &mut Stream, json: &str) -> io::Result<()> {
    let length = json.len();
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
    );
    stream.write_all((head + json).as_bytes()).await
}

async fn none(stream: &mut Stream) -> io::Result<()> {
    let json = r#"{"message":"Not found"}"#;
    let length = json.len();
    let head = format!(
        "HTTP/1.1 404 Not Found\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
    );
    stream.write_all((head + json).as_bytes()).await
}

async fn endless(stream: &mut Stream, head: &str, again: &[u8]) -> io::Result<()> {
    stream.write_all(head.as_bytes()).await?;
    loop {
        stream.write_all(again).await?;
    }
}
