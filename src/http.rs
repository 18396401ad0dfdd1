//! The HTTP server of probes, metrics and status, and its limits.

mod guests;

use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::{Body as _, Incoming};
use hyper::header::{
    ACCEPT, ALLOW, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HOST, HeaderName,
    HeaderValue, REFERRER_POLICY, REFRESH, X_CONTENT_TYPE_OPTIONS,
};
use hyper::http::uri::Authority;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use rustix::io::Errno;
use thiserror::Error;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{Mutex, mpsc, oneshot, watch};
use tokio::task::yield_now;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use self::guests::{Guests, Seat};
use crate::clock::Clock;
use crate::metrics::{Exposition, OPEN_METRICS, PROMETHEUS};
use crate::page::{self, View};
use crate::settings::Listen;
use crate::sidecar::Ping;
use crate::status::{BindingStatus, Status};

/// The port that is listened to unless another is configured.
pub const DEFAULT_PORT: u16 = 9797;
/// So many connections wait in the kernel's queue.
const BACKLOG: u32 = 1024;
/// What the kernel keeps of a connection in each direction; it would let slow ones have megabytes.
const BUFFER: u32 = 64 * 1024;
/// A request's head is no larger.
const LARGEST_HEAD: usize = 16 * 1024;
/// A request has no more headers.
const MOST_HEADERS: usize = 64;
/// A request's head comes within this time.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);
/// A connection, with its one request, ends within this time.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(15);
/// The loop shows that it turns within this time.
const HEARTBEAT: Duration = Duration::from_secs(2);
/// The wait after a connection could not be taken, as with no descriptor left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Other sites get nothing of what is for operators, not even as a part of theirs.
const OWN_SITE_ALONE: [(HeaderName, &str); 2] = [
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
];

/// No address to listen to.
#[derive(Debug, Error)]
#[error("cannot listen on {address}; set LISTEN to a free address, or free the port: {source}")]
pub struct CannotListen {
    address: SocketAddr,
    source: io::Error,
}

/// What is served.
pub struct Pages {
    /// What is known.
    pub status: watch::Receiver<Arc<Status>>,
    /// What is scraped.
    pub metrics: Exposition,
    /// Asks the loop whether it turns.
    pub pings: mpsc::Sender<Ping>,
    /// Whether `/` and `/status` are for everyone, not for loopback peers alone.
    pub is_public: bool,
    /// Tells how much of a certificate's life has passed.
    pub clock: Arc<dyn Clock>,
}

/// Opens the port: all addresses of both families, of IPv4 alone where there is no IPv6, or what is
/// configured.
///
/// # Errors
///
/// If the address is taken, or not ours.
///
/// # Panics
///
/// Outside of a tokio runtime, which the port is registered with.
pub fn bind(listen: Listen) -> Result<TcpListener, CannotListen> {
    let v4 = SocketAddr::from((Ipv4Addr::UNSPECIFIED, DEFAULT_PORT));
    let v6 = SocketAddr::from((Ipv6Addr::UNSPECIFIED, DEFAULT_PORT));
    let address = match listen {
        Listen::Address(address) => address,
        Listen::Default => match listen_at(v6) {
            Ok(listener) => return Ok(listener),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => v6,
            Err(_) => v4,
        },
    };
    listen_at(address).map_err(|source| CannotListen { address, source })
}

/// What is set here is so for each connection.
fn listen_at(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    socket.set_send_buffer_size(BUFFER)?;
    socket.set_recv_buffer_size(BUFFER)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Answers until it is dropped.
pub async fn serve(listener: TcpListener, pages: Pages) -> Infallible {
    let server =
        Arc::new(Server { pages, guests: Guests::default(), rested: Mutex::new(Instant::now()) });
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                let server = Arc::clone(&server);
                tokio::spawn(async move { server.serve(stream, peer.ip().to_canonical()).await });
            }
            Err(error) if is_exhausted(&error) && server.guests.end_one() => {}
            Err(_) => sleep(ACCEPT_PAUSE).await,
        }
        // It is looked at once before the next can take its place.
        yield_now().await;
    }
}

/// Whether it lacks what the end of a connection sets free, and is no matter of the one that came.
fn is_exhausted(error: &io::Error) -> bool {
    let lacks = [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM];
    lacks.iter().any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

/// What connections share.
struct Server {
    pages: Pages,
    guests: Guests,
    /// When the next page may be made that takes time: one by one, and then as long none, so that
    /// half of the time is left to probes and to the work, however many ask.
    rested: Mutex<Instant>,
}

impl Server {
    async fn serve(&self, stream: TcpStream, peer: IpAddr) {
        let seat = self.guests.seat(peer);
        tokio::select! {
            // A peer that breaks off or dawdles is no concern of anyone else.
            _ = timeout(CONNECTION_TIMEOUT, self.converse(stream, peer, &seat)) => {}
            () = seat.lost() => {}
        }
    }

    async fn converse(
        &self,
        stream: TcpStream,
        peer: IpAddr,
        seat: &Seat<'_>,
    ) -> hyper::Result<()> {
        let service = service_fn(|request| async move {
            seat.note_request();
            let page = self.answer(&request, peer).await;
            let size = page.body().size_hint().lower();
            seat.note_answer(usize::try_from(size).unwrap_or(usize::MAX));
            Ok::<_, Infallible>(page)
        });
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIMEOUT)
            .max_buf_size(LARGEST_HEAD)
            .max_headers(MOST_HEADERS)
            .keep_alive(false)
            .serve_connection(TokioIo::new(stream), service)
            .await
    }

    async fn answer(&self, request: &Request<Incoming>, peer: IpAddr) -> Page {
        if !matches!(request.uri().path(), "/" | "/status" | "/metrics") {
            return self.pages.answer(request, peer).await;
        }
        let mut rested = self.rested.lock().await;
        sleep_until(*rested).await;
        let began = Instant::now();
        let page = self.pages.answer(request, peer).await;
        *rested = Instant::now() + began.elapsed();
        page
    }
}

type Page = Response<Full<Bytes>>;

impl Pages {
    async fn answer(&self, request: &Request<Incoming>, peer: IpAddr) -> Page {
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            let mut page = text(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD\n");
            page.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            return page;
        }
        match request.uri().path() {
            "/livez" => self.livez().await,
            "/readyz" => self.readyz(),
            "/metrics" => self.metrics(request),
            "/status" => self.for_operators(request, peer, || self.status()),
            "/" => self.for_operators(request, peer, || self.page(request.uri().query())),
            _ => {
                text(StatusCode::NOT_FOUND, "there are /, /status, /livez, /readyz and /metrics\n")
            }
        }
    }

    /// The loop that does the work turns. Kong being down does not fail it.
    async fn livez(&self) -> Page {
        let (ping, pong) = oneshot::channel();
        let beat = async { self.pings.send(ping).await.is_ok() && pong.await.is_ok() };
        match timeout(HEARTBEAT, beat).await {
            Ok(true) => text(StatusCode::OK, "alive\n"),
            _ => text(StatusCode::SERVICE_UNAVAILABLE, "the loop does not turn\n"),
        }
    }

    fn readyz(&self) -> Page {
        let status = self.status.borrow();
        if status.ready {
            return text(StatusCode::OK, "ready\n");
        }
        let waits_for = |is_done: fn(&BindingStatus) -> bool| {
            let open = status.bindings.iter().filter(|(_, binding)| !is_done(binding));
            open.map(|(name, binding)| format!("{name}: {}\n", binding.state)).collect::<String>()
        };
        let mut open = waits_for(BindingStatus::is_concluded);
        if open.is_empty() {
            // Strict: a conclusion is not enough.
            open = waits_for(BindingStatus::is_in_place);
        }
        text(StatusCode::SERVICE_UNAVAILABLE, format!("not ready\n{open}"))
    }

    fn metrics(&self, request: &Request<Incoming>) -> Page {
        let accepted = request.headers().get_all(ACCEPT).iter();
        let mut accepted = accepted.filter_map(|value| value.to_str().ok());
        if accepted.any(|value| value.contains("application/openmetrics-text")) {
            page(StatusCode::OK, OPEN_METRICS, self.metrics.open_metrics())
        } else {
            page(StatusCode::OK, PROMETHEUS, self.metrics.prometheus())
        }
    }

    /// Names and messages tell what is behind this gateway: they are for those who may open a port
    /// to the pod. A browser of theirs would also fetch it for a web site that has its own name
    /// point to 127.0.0.1 (DNS rebinding), and then asks for that name.
    fn for_operators(
        &self,
        request: &Request<Incoming>,
        peer: IpAddr,
        answer: impl FnOnce() -> Page,
    ) -> Page {
        let mend = if self.is_public {
            None
        } else if !peer.is_loopback() {
            Some("only for loopback peers: use kubectl port-forward, or set STATUS__PUBLIC\n")
        } else if !asks_for_an_address(request) {
            Some("only as localhost or an IP address in the URL, or set STATUS__PUBLIC\n")
        } else {
            None
        };
        let mut page = mend.map_or_else(answer, |mend| text(StatusCode::FORBIDDEN, mend));
        for (name, value) in OWN_SITE_ALONE {
            page.headers_mut().insert(name, HeaderValue::from_static(value));
        }
        page
    }

    fn status(&self) -> Page {
        let status = Arc::clone(&self.status.borrow());
        match serde_json::to_string_pretty(&*status) {
            Ok(json) => page(StatusCode::OK, "application/json", json + "\n"),
            Err(_) => text(StatusCode::INTERNAL_SERVER_ERROR, "the status cannot be shown\n"),
        }
    }

    fn page(&self, query: Option<&str>) -> Page {
        let status = Arc::clone(&self.status.borrow());
        let view = View::of_query(query);
        let html = page::render(&status, self.clock.now(), view);
        let mut page = page(StatusCode::OK, "text/html; charset=utf-8", html);
        let headers = page.headers_mut();
        for (name, value) in [
            (CONTENT_SECURITY_POLICY, page::CONTENT_SECURITY_POLICY),
            (REFERRER_POLICY, "no-referrer"),
        ] {
            headers.insert(name, HeaderValue::from_static(value));
        }
        if view.refreshes {
            headers.insert(REFRESH, HeaderValue::from_static(page::REFRESH));
        }
        page
    }
}

/// Whether the host that was asked for is `localhost` or an IP address, which no foreign DNS can
/// point elsewhere. A request without one comes from no browser.
fn asks_for_an_address(request: &Request<Incoming>) -> bool {
    let told = request.headers().get(HOST).map(|host| host.to_str().unwrap_or_default());
    let Some(authority) = request.uri().authority().map(Authority::as_str).or(told) else {
        return true;
    };
    let Ok(authority) = authority.parse::<Authority>() else { return false };
    let host = authority.host();
    let address = host.trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost") || address.parse::<IpAddr>().is_ok()
}

fn text(status: StatusCode, body: impl Into<String>) -> Page {
    page(status, "text/plain; charset=utf-8", body)
}

fn page(status: StatusCode, kind: &'static str, body: impl Into<String>) -> Page {
    let mut page = Response::new(Full::new(Bytes::from(body.into())));
    *page.status_mut() = status;
    let headers = page.headers_mut();
    for (name, value) in
        [(CONTENT_TYPE, kind), (CACHE_CONTROL, "no-store"), (X_CONTENT_TYPE_OPTIONS, "nosniff")]
    {
        headers.insert(name, HeaderValue::from_static(value));
    }
    page
}
