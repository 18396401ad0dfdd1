//! Who comes to the port, from where, and how it behaves.

use std::net::{Ipv4Addr, SocketAddr};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

const CROWD: usize = 1000;
const FEW: usize = 20;
const DRIP: Duration = Duration::from_millis(100);
/// Between two attempts of one visitor who was sent away.
const REST: Duration = Duration::from_secs(1);
/// Between two attempts to connect.
const PAUSE: Duration = Duration::from_millis(10);
/// No connection lasts longer.
const LONGEST: Duration = Duration::from_secs(20);

/// Where visitors come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// All from the address that the probes come from.
    One,
    /// From more addresses than there are places: no limit for each of them is a limit for all.
    Many,
}

impl Origin {
    /// Of the visitor with this number. The probes come from 127.0.0.1.
    fn address(self, number: usize) -> Ipv4Addr {
        let host = u8::try_from(number % 250).unwrap();
        match self {
            Self::One => Ipv4Addr::LOCALHOST,
            Self::Many => Ipv4Addr::new(127, 0, 0, 2 + host),
        }
    }
}

/// What a visitor does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Visit {
    /// Says nothing.
    Idle,
    /// Sends a byte of a head now and then.
    Drip,
    /// Asks for a long page and reads none of it.
    NeverRead,
    /// Asks for a long page and reads a byte of it now and then.
    ReadSlowly,
    /// Comes and breaks off at once, again and again.
    Reset,
    /// Asks for long pages, one after the other, as fast as they come.
    Greedy,
    /// Sends a head of a megabyte.
    LongHead,
    /// Sends ten thousand headers.
    ManyHeaders,
    /// Sends a body that does not end.
    EndlessBody,
    /// Asks many things without waiting for an answer.
    Pipelined,
    /// Speaks HTTP/2.
    Http2,
    /// Speaks TLS.
    Tls,
}

impl Visit {
    pub(crate) const ALL: [Self; 12] = [
        Self::Idle,
        Self::Drip,
        Self::NeverRead,
        Self::ReadSlowly,
        Self::Reset,
        Self::Greedy,
        Self::LongHead,
        Self::ManyHeaders,
        Self::EndlessBody,
        Self::Pipelined,
        Self::Http2,
        Self::Tls,
    ];

    const fn count(self) -> usize {
        match self {
            Self::Idle | Self::Drip | Self::NeverRead | Self::ReadSlowly => CROWD,
            _ => FEW,
        }
    }

    /// Those that take all places come from many addresses, too: before they ask, and after.
    pub(crate) fn origins(self) -> &'static [Origin] {
        match self {
            Self::Idle | Self::NeverRead => &[Origin::One, Origin::Many],
            _ => &[Origin::One],
        }
    }

    /// One connection, to its end.
    async fn visit(self, mut stream: TcpStream) -> std::io::Result<()> {
        match self {
            Self::Idle => read_all(&mut stream).await,
            Self::Drip => {
                for byte in b"GET /livez HTTP/1.1\r\nx: ".iter().chain([b'x'; 1000].iter()) {
                    stream.write_all(&[*byte]).await?;
                    sleep(DRIP).await;
                }
                Ok(())
            }
            Self::NeverRead => {
                stream.write_all(LONG_PAGE).await?;
                sleep(LONGEST).await;
                Ok(())
            }
            Self::ReadSlowly => {
                stream.write_all(LONG_PAGE).await?;
                while stream.read(&mut [0]).await? > 0 {
                    sleep(DRIP).await;
                }
                Ok(())
            }
            Self::Reset => stream.set_zero_linger(),
            Self::Greedy => {
                stream.write_all(LONG_PAGE).await?;
                read_all(&mut stream).await
            }
            Self::LongHead => {
                say_and_read(stream, &[HEAD, b"x: ", &[b'x'; 1 << 20]].concat()).await
            }
            Self::ManyHeaders => {
                say_and_read(stream, &[HEAD, &b"x: y\r\n".repeat(10_000)].concat()).await
            }
            Self::EndlessBody => {
                stream.write_all(HEAD).await?;
                stream.write_all(b"Transfer-Encoding: chunked\r\n\r\n").await?;
                loop {
                    stream.write_all(b"4\r\nbody\r\n").await?;
                }
            }
            Self::Pipelined => {
                say_and_read(stream, &b"GET /readyz HTTP/1.1\r\nHost: a\r\n\r\n".repeat(1000)).await
            }
            Self::Http2 => {
                say_and_read(stream, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await
            }
            Self::Tls => say_and_read(stream, CLIENT_HELLO).await,
        }
    }
}

const HEAD: &[u8] = b"GET /livez HTTP/1.1\r\nHost: a\r\n";
const LONG_PAGE: &[u8] = b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n";
/// The beginning of one is enough to be no HTTP.
const CLIENT_HELLO: &[u8] = &[0x16, 3, 1, 0, 0xfd, 1, 0, 0, 0xf9, 3, 3, 0x0a, 0x0d, 0x0a, 0, 0];

async fn say_and_read(mut stream: TcpStream, text: &[u8]) -> std::io::Result<()> {
    stream.write_all(text).await?;
    read_all(&mut stream).await
}

async fn read_all(stream: &mut TcpStream) -> std::io::Result<()> {
    let mut bytes = [0; 16 * 1024];
    while stream.read(&mut bytes).await? > 0 {}
    Ok(())
}

/// All that came, on a thread of their own: what they do does not delay whoever is measured. They go
/// when dropped.
pub(crate) struct Visitors {
    /// Ends them when dropped.
    stay: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Visitors {
    /// Returns when each has come once.
    pub(crate) async fn come(address: SocketAddr, visit: Visit, origin: Origin) -> Self {
        let (stay, leave) = oneshot::channel();
        let (all_came, come) = oneshot::channel();
        let thread = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(async move {
                let visit = async {
                    let visitors = crowd(address, visit, origin).await;
                    // Whoever waited for them may have given up.
                    let _: Result<(), _> = all_came.send(());
                    visitors.join_all().await;
                };
                tokio::select! {
                    () = visit => {}
                    _ = leave => {}
                }
            });
        });
        let visitors = Self { stay: Some(stay), thread: Some(thread) };
        come.await.unwrap();
        visitors
    }
}

impl Drop for Visitors {
    fn drop(&mut self) {
        drop(self.stay.take());
        let left = self.thread.take().unwrap().join();
        assert!(left.is_ok() || thread::panicking(), "visitors panicked");
    }
}

async fn crowd(address: SocketAddr, visit: Visit, origin: Origin) -> JoinSet<()> {
    let mut visitors = JoinSet::new();
    for number in 0..visit.count() {
        let from = origin.address(number);
        let stream = connected(from, address).await;
        visitors.spawn(async move {
            let mut stream = stream;
            loop {
                // One that is sent away comes again.
                let _ = timeout(LONGEST, visit.visit(stream)).await;
                if visit.count() == CROWD {
                    sleep(REST).await;
                }
                stream = connected(from, address).await;
            }
        });
    }
    visitors
}

/// With a buffer so small that a long page does not fit.
async fn connected(from: Ipv4Addr, address: SocketAddr) -> TcpStream {
    loop {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(4096).unwrap();
        socket.bind((from, 0).into()).unwrap();
        if let Ok(stream) = socket.connect(address).await {
            return stream;
        }
        sleep(PAUSE).await;
    }
}

/// One GET; the status, if all of the answer came.
pub(crate) async fn ask(address: SocketAddr, path: &str) -> Option<u16> {
    let request = testkit::Request::new("GET", path);
    testkit::http_client::exchange(address, &request).await.ok().map(|answer| answer.status)
}
