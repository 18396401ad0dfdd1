//! An Admin API that answers at once, or at the pace of a real Kong: what arrives is noted before it is
//! looked at, and nothing is judged. It holds one certificate for each id that was written.

use std::collections::BTreeMap;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// A request, when the last byte of it was here.
pub(crate) struct Arrived {
    pub(crate) at: Instant,
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) body: String,
}

impl Arrived {
    pub(crate) fn is_write(&self) -> bool {
        self.method != "GET"
    }
}

/// A running server; it ends with the process.
pub(crate) struct InstantKong {
    address: SocketAddr,
    arrived: Receiver<Arrived>,
    held: Arc<Held>,
}

/// What it holds, and how long it takes to.
struct Held {
    certificates: Mutex<BTreeMap<String, String>>,
    per_write: Duration,
    per_read: Duration,
}

impl InstantKong {
    pub(crate) fn start() -> io::Result<Self> {
        Self::start_at_pace(Duration::ZERO, Duration::ZERO)
    }

    /// Each write and each read take so long, however many there are at a time.
    pub(crate) fn start_at_pace(per_write: Duration, per_read: Duration) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let address = listener.local_addr()?;
        let (sender, arrived) = channel();
        let held = Arc::new(Held { certificates: Mutex::default(), per_write, per_read });
        let shared = Arc::clone(&held);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (sender, held) = (sender.clone(), Arc::clone(&shared));
                // A client that goes away ends its own connection, and no more.
                thread::spawn(move || drop(converse(&stream, &sender, &held)));
            }
        });
        Ok(Self { address, arrived, held })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many certificates it holds.
    pub(crate) fn count(&self) -> usize {
        self.held.certificates().len()
    }

    /// It holds nothing any more.
    pub(crate) fn forget(&self) {
        self.held.certificates().clear();
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn port(&self) -> u16 {
        self.address.port()
    }

    /// The next request, if one comes within `patience`.
    pub(crate) fn next(&self, patience: Duration) -> Option<Arrived> {
        self.arrived.recv_timeout(patience).ok()
    }

    /// All that has arrived and was not taken.
    pub(crate) fn drain(&self) -> Vec<Arrived> {
        self.arrived.try_iter().collect()
    }
}

impl Held {
    fn certificates(&self) -> MutexGuard<'_, BTreeMap<String, String>> {
        self.certificates.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn converse(stream: &TcpStream, sender: &Sender<Arrived>, held: &Held) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut reader = BufReader::with_capacity(64 * 1024, stream);
    while let Some(arrived) = read_request(&mut reader)? {
        let pace = if arrived.is_write() { held.per_write } else { held.per_read };
        if !pace.is_zero() {
            thread::sleep(pace);
        }
        let answer = answer(&arrived, held);
        let _ = sender.send(arrived);
        (&mut &*stream).write_all(answer.as_bytes())?;
    }
    Ok(())
}

/// `None` at the end of the connection.
fn read_request(reader: &mut BufReader<&TcpStream>) -> io::Result<Option<Arrived>> {
    let (mut first, mut length) = (String::new(), 0);
    if reader.read_line(&mut first)? == 0 {
        return Ok(None);
    }
    let mut line = String::new();
    loop {
        line.clear();
        reader.read_line(&mut line)?;
        let line = line.trim_end();
        if line.is_empty() {
            break;
        }
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            length = value.trim().parse().unwrap_or(0);
        }
        // curl asks before it sends a larger body.
        if line.to_ascii_lowercase().starts_with("expect:") {
            (&mut &**reader.get_ref()).write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let at = Instant::now();
    let mut words = first.split(' ').map(str::to_owned);
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    Ok(Some(Arrived { at, method, path, body: String::from_utf8_lossy(&body).into_owned() }))
}

fn answer(arrived: &Arrived, held: &Held) -> String {
    let mut certificates = held.certificates();
    let Arrived { path, body, .. } = arrived;
    if path == "/" {
        let root = r#"{"version":"3.9.3","configuration":{"database":"postgres","role":"traditional","proxy_listeners":[]}}"#;
        return with_status("200 OK", root);
    }
    if arrived.method == "POST" {
        // The object as Kong shows it: what was sent, with its id.
        let answer = with_status("201 Created", body);
        certificates.insert(format!("{path}/{}", id_in(body)), body.clone());
        return answer;
    }
    if arrived.is_write() {
        let id = path.rsplit('/').next().unwrap_or_default();
        let object = format!(r#"{{"id":"{id}",{}"#, body.strip_prefix('{').unwrap_or("}"));
        let answer = with_status("200 OK", &object);
        certificates.insert(path.clone(), object);
        return answer;
    }
    if path.starts_with("/certificates?") {
        return with_status("200 OK", &page(&certificates, path));
    }
    certificates.get(path).map_or_else(
        || with_status("404 Not Found", r#"{"message":"Not found"}"#),
        |object| with_status("200 OK", object),
    )
}

fn id_in(body: &str) -> &str {
    let after = body.split_once(r#""id":""#).map_or("", |(_, after)| after);
    after.split('"').next().unwrap_or_default()
}

/// The offset of a page is the number of the object that it begins with.
fn page(certificates: &BTreeMap<String, String>, path: &str) -> String {
    let number = |name: &str| {
        let mut words = path.split(['?', '&']);
        words.find_map(|word| word.strip_prefix(name)?.parse::<usize>().ok())
    };
    let (from, size) = (number("offset=").unwrap_or(0), number("size=").unwrap_or(100));
    let all: Vec<&str> = certificates.values().skip(from).take(size).map(String::as_str).collect();
    let next = from + size;
    let offset =
        if next < certificates.len() { format!(r#","offset":"{next}""#) } else { String::new() };
    format!(r#"{{"data":[{}]{offset}}}"#, all.join(","))
}

fn with_status(status: &str, body: &str) -> String {
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: application/json; charset=utf-8\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}
