//! The wire to Kong: what it holds, what is written to it, and what its answers mean.

mod configuration;
mod connect;
mod database;
mod elsewhere;
mod node;

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use serde::Serialize;
use thiserror::Error;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use zeroize::Zeroizing;

pub use self::configuration::{Bad, Hash, NotLoaded, Running, enter};
pub use self::connect::{AdminClient, Unusable};
use self::database::Known;
pub use self::database::{Query, Refused, Shared, Written};
pub use self::elsewhere::Elsewhere;
use self::elsewhere::Search;
pub use self::node::{Listener, Mode, Node};
use crate::metrics::Metrics;
use crate::names::Workspace;
use crate::quote::Quoted;
use crate::settings::{Admin, AdminMode};

/// In place of Kong's words, which may repeat parts of the licence that nobody could tell from others.
pub(crate) const LICENSE_REFUSED: &str = "it does not take this licence; see its error log for why";
/// An answer about one object is no larger.
const OBJECT_LIMIT: usize = 1024 * 1024;
/// After so many calls in a row without an answer, a pass gives Kong a rest.
const PATIENCE: u32 = 3;
/// A longer `Retry-After` is cut: it may be a mistake, and certificates expire.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(5 * 60);

/// One request, all of it: a path that begins with `/`, and JSON or nothing.
#[derive(Clone)]
pub struct Call {
    /// The method.
    pub method: Method,
    /// Path and query, percent-encoded.
    pub path: String,
    /// JSON; wiped when dropped, because it holds keys.
    pub body: Option<Bytes>,
    /// A larger answer is not read to its end.
    pub limit: usize,
    /// How much longer than any other the answer may take.
    pub more_time: Duration,
    /// Where Kong takes it, the answer repeats it, with its keys, and nobody reads that.
    pub answer_is_unread: bool,
}

impl Call {
    /// Of an object, or without a body: it takes its time, and no more.
    fn new(method: Method, path: impl Into<String>, body: Option<Bytes>) -> Self {
        Self {
            method,
            path: path.into(),
            body,
            limit: OBJECT_LIMIT,
            more_time: Duration::ZERO,
            answer_is_unread: false,
        }
    }
}

/// The methods that are used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// Reads.
    Get,
    /// Creates or replaces.
    Put,
    /// Changes the fields that are named.
    Patch,
    /// Creates, and never replaces; or replaces the whole configuration.
    Post,
}

impl Method {
    /// As it stands in a request.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Put => "PUT",
            Self::Patch => "PATCH",
            Self::Post => "POST",
        }
    }
}

/// What came back; its body may echo private keys.
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// Whether it calls itself JSON.
    pub is_json: bool,
    /// `Retry-After` in seconds.
    pub retry_after: Option<Duration>,
    /// At most [`Call::limit`] bytes; none of a success that is [`Call::answer_is_unread`].
    pub body: Zeroizing<Vec<u8>>,
}

/// No answer came.
#[derive(Debug, Error)]
pub enum Lost {
    /// No connection: refused, unreachable, or no TLS.
    #[error("no connection to {to}: {cause}; see whether it runs there, or set ADMIN__URL")]
    Connect {
        /// Scheme, host and port.
        to: Quoted,
        /// What happened.
        cause: Quoted,
    },
    /// No connection, and none to come before something is mended.
    #[error("no connection: {cause}; {mend}")]
    ToMend {
        /// What happened.
        cause: Quoted,
        /// What to do.
        mend: &'static str,
    },
    /// The connection broke, as idle ones do at each reload of Kong.
    #[error("the connection broke: {0}")]
    Broken(Quoted),
    /// Not in time; Kong may have done it all the same.
    #[error("no answer in time")]
    Timeout,
    /// More than was asked for.
    #[error("the answer is larger than {limit} bytes")]
    TooLarge {
        /// The limit.
        limit: usize,
        /// The status code of the answer.
        status: u16,
    },
    /// Credentials or CA cannot be used.
    #[error(transparent)]
    Unusable(#[from] Unusable),
}

/// Carries calls to an Admin API. The program's is [`AdminClient`]; tests have one without sockets.
pub trait Wire: Send + Sync {
    /// Makes one call, once.
    fn call(&self, call: Call) -> impl Future<Output = Result<Answer, Lost>> + Send;

    /// Takes credentials that changed since; without them the last that could be used stay.
    fn refresh(&mut self) -> Result<(), Unusable> {
        Ok(())
    }

    /// Looks for an Admin API at other addresses than the one that is called. Sends no credentials,
    /// and takes no more than some seconds.
    fn find_elsewhere(&self) -> impl Future<Output = Option<Elsewhere>> + Send {
        async { None }
    }
}

/// Why a call came to nothing.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Failure {
    /// Kong will not have it, however often it is sent.
    #[error("kong refused it ({status}): {message}")]
    Refused {
        /// The status code.
        status: u16,
        /// Kong's words.
        message: Quoted,
    },
    /// Someone else was first: look again.
    #[error("another writer was first: {message}")]
    Conflict {
        /// Kong's words.
        message: Quoted,
    },
    /// Kong will not have some of it, and of the rest someone else was first: look again.
    #[error("kong refused it ({status}): {message}; another writer was first: {conflict}")]
    RefusedInPart {
        /// The status code.
        status: u16,
        /// Kong's words about what it refused.
        message: Quoted,
        /// Kong's words about the rest.
        conflict: Quoted,
    },
    /// No or wrong credentials.
    #[error(
        "kong wants other credentials ({status}); set ADMIN__TOKEN_FILE, or widen the token's role"
    )]
    Unauthorized {
        /// The status code.
        status: u16,
    },
    /// Credentials or CA cannot be used.
    #[error("{0}")]
    Unusable(String),
    /// No such path, or not for writing: this may be another mode of Kong than it was.
    #[error(
        "the Admin API has no {path} to write to ({status}); check ADMIN__URL, and leave ADMIN__WORKSPACE empty unless this is a workspace of Kong Enterprise"
    )]
    NoSuchPath {
        /// The status code.
        status: u16,
        /// What was called.
        path: String,
    },
    /// No Kong Enterprise.
    #[error("this kong has no licences: it is no Kong Enterprise; remove the LICENSES settings")]
    NoLicenses,
    /// Kong holds more than is read.
    #[error("kong holds too much: {detail}")]
    TooLarge {
        /// Of what, and what to do.
        detail: String,
    },
    /// Whatever answers there is no Admin API.
    #[error("what answers there is not kong's Admin API: {detail}; check ADMIN__URL")]
    NotKong {
        /// What was odd.
        detail: String,
    },
    /// Down, overloaded, or without its database.
    #[error("kong is unavailable: {detail}")]
    Unavailable {
        /// What happened.
        detail: String,
        /// The status code, if an answer came.
        status: Option<u16>,
        /// Kong's wish.
        retry_after: Option<Duration>,
    },
    /// Not sent: Kong did not answer the calls before, or we are shutting down.
    #[error("kong is unavailable: the calls before were not answered")]
    NotSent,
}

impl Failure {
    /// Whether it may succeed later without anyone's doing.
    #[must_use]
    pub const fn is_passing(&self) -> bool {
        !matches!(self, Self::Refused { .. } | Self::TooLarge { .. } | Self::NoLicenses)
    }

    /// Whether it says nothing of the one object: the next call would end as this one did.
    #[must_use]
    pub const fn is_of_all_kong(&self) -> bool {
        !matches!(
            self,
            Self::Refused { .. }
                | Self::Conflict { .. }
                | Self::RefusedInPart { .. }
                | Self::TooLarge { .. }
                | Self::NoLicenses
        )
    }

    /// Whether the configured address may be a wrong one.
    const fn may_be_misdirected(&self) -> bool {
        matches!(self, Self::NotKong { .. } | Self::Unavailable { status: None, .. })
    }

    /// Whether Kong may have done all the same what it was asked.
    #[must_use]
    pub const fn may_have_landed(&self) -> bool {
        matches!(self, Self::Unavailable { .. } | Self::NotKong { .. } | Self::TooLarge { .. })
    }

    /// Whether the gate counts it as no answer: the calls after it need not be tried. A write that
    /// fails while reads are answered is the fault of its object.
    const fn is_silence(&self, method: Method) -> bool {
        match self {
            Self::Unavailable { status: Some(500..=599), .. } => matches!(method, Method::Get),
            Self::Unavailable { .. } | Self::NotSent | Self::Unusable(_) => true,
            _ => false,
        }
    }

    fn not_kong(detail: impl Into<String>) -> Self {
        Self::NotKong { detail: detail.into() }
    }
}

impl From<Lost> for Failure {
    fn from(lost: Lost) -> Self {
        match lost {
            // Nothing of Kong's is so large, but for what there are many of.
            Lost::TooLarge { status: status @ 500..=599, .. } => Self::Unavailable {
                detail: format!("status {status}; {lost}"),
                status: Some(status),
                retry_after: None,
            },
            Lost::TooLarge { limit: ..=OBJECT_LIMIT, .. } => Self::not_kong(lost.to_string()),
            Lost::TooLarge { .. } => Self::TooLarge {
                detail: format!(
                    "{lost}; raise this container's memory limit, by which more is read (up to 64 MiB), or have it hold less"
                ),
            },
            Lost::Unusable(unusable) => Self::Unusable(unusable.to_string()),
            Lost::Connect { .. } | Lost::ToMend { .. } | Lost::Broken(_) | Lost::Timeout => {
                Self::Unavailable { detail: lost.to_string(), status: None, retry_after: None }
            }
        }
    }
}

/// Ends calls before they begin: when Kong does not answer, and at shutdown.
#[derive(Debug, Default)]
pub struct Gate {
    unanswered: AtomicU32,
    closed: AtomicBool,
}

impl Gate {
    /// No call begins any more; those under way go on.
    pub fn close(&self) {
        self.closed.store(true, Ordering::Release);
    }

    /// A new pass may try Kong again.
    pub fn rest(&self) {
        self.unanswered.store(0, Ordering::Release);
    }

    fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    fn is_open(&self) -> bool {
        !self.is_closed() && self.unanswered.load(Ordering::Acquire) < PATIENCE
    }

    fn note(&self, answered: bool) {
        if answered {
            self.unanswered.store(0, Ordering::Release);
        } else {
            self.unanswered.fetch_add(1, Ordering::AcqRel);
        }
    }
}

/// Kong's Admin API.
pub struct Kong<W> {
    wire: W,
    workspace: Option<Workspace>,
    mode: AdminMode,
    connections: Semaphore,
    gate: Arc<Gate>,
    metrics: Metrics,
    /// Which of the sizes of pages fits.
    page: AtomicUsize,
    /// In this pass a certificate could not be created by `POST`: the next is created otherwise.
    is_post_barred: AtomicBool,
    known: Known,
    node: Option<Node>,
    is_node_doubted: bool,
    search: Search,
}

impl<W: Wire> Kong<W> {
    /// Nothing is called yet.
    #[must_use]
    pub fn new(wire: W, admin: &Admin, metrics: Metrics) -> Self {
        Self {
            wire,
            workspace: admin.workspace.clone(),
            mode: admin.mode,
            connections: Semaphore::new(admin.concurrency.get()),
            gate: Arc::default(),
            metrics,
            page: AtomicUsize::new(0),
            is_post_barred: AtomicBool::new(false),
            known: Known::default(),
            node: None,
            is_node_doubted: false,
            search: Search::default(),
        }
    }

    /// What ends its calls.
    #[must_use]
    pub fn gate(&self) -> Arc<Gate> {
        Arc::clone(&self.gate)
    }

    /// Begins a pass: another chance for Kong, and credentials that changed.
    ///
    /// # Errors
    ///
    /// If changed credentials cannot be used; the last good ones stay.
    pub fn refresh(&mut self) -> Result<(), Unusable> {
        self.gate.rest();
        self.is_post_barred.store(false, Ordering::Relaxed);
        self.wire.refresh()
    }

    /// What is known of the node; see [`Self::meet`].
    #[must_use]
    pub const fn node(&self) -> Option<&Node> {
        self.node.as_ref()
    }

    /// The same, unless it has to be found out again.
    #[must_use]
    pub fn trusted_node(&self) -> Option<&Node> {
        self.node().filter(|_| !self.is_node_doubted)
    }

    /// The mode has to be found out again; until that succeeds, what was known counts.
    pub const fn doubt_node(&mut self) {
        self.is_node_doubted = true;
    }

    /// `/certificates/…`, in the workspace that is configured; licences are in none.
    fn placed(&self, path: &str) -> String {
        match &self.workspace {
            Some(workspace) if !path.starts_with("/licenses") => format!("/{workspace}{path}"),
            _ => path.to_owned(),
        }
    }

    /// Makes a call, and once more at once if its connection broke.
    ///
    /// Success is a 2xx answer in JSON.
    async fn ask(&self, call: Call) -> Result<Answer, Failure> {
        let (path, method) = (call.path.clone(), call.method);
        let answer = match self.exchange(call).await {
            Err(Unanswered::NotSent) => return Err(Failure::NotSent),
            Err(Unanswered::Lost(lost)) => Err(lost.into()),
            Ok(answer) => judge(answer, &path),
        };
        self.gate.note(!matches!(&answer, Err(failure) if failure.is_silence(method)));
        answer
    }

    /// What comes back, whatever it means.
    async fn exchange(&self, call: Call) -> Result<Answer, Unanswered> {
        let _connection = self.connections.acquire().await.map_err(|_| Unanswered::NotSent)?;
        if !self.gate.is_open() {
            return Err(Unanswered::NotSent);
        }
        let answer = match self.once(call.clone()).await {
            Err(Lost::Broken(_)) if !self.gate.is_closed() => self.once(call).await,
            answer => answer,
        };
        answer.map_err(Unanswered::Lost)
    }

    async fn once(&self, call: Call) -> Result<Answer, Lost> {
        let method = call.method;
        let began = Instant::now();
        let answer = self.wire.call(call).await;
        let code = answer.as_ref().ok().map(|answer| answer.status);
        self.metrics.admin_request(method.as_str(), code, began.elapsed());
        answer
    }
}

/// No answer to judge.
enum Unanswered {
    NotSent,
    Lost(Lost),
}

/// Sorts answers by what follows from them.
fn judge(answer: Answer, path: &str) -> Result<Answer, Failure> {
    let status = answer.status;
    match status {
        200..=299 if answer.is_json => Ok(answer),
        200..=299 => Err(Failure::not_kong(format!("status {status} without JSON"))),
        300..=399 => Err(Failure::not_kong(format!("it redirects ({status})"))),
        401 | 403 => Err(Failure::Unauthorized { status }),
        404 if answer.is_json && message_of(&answer.body).as_str() == NO_ROUTE => Err(
            Failure::not_kong("it is kong's proxy port, and the Admin API's is in admin_listen"),
        ),
        404 | 405 if answer.is_json && path == "/" => Err(Failure::not_kong(odd_root(&answer))),
        404 | 405 if answer.is_json => {
            Err(Failure::NoSuchPath { status, path: Quoted::new(path).to_string() })
        }
        408 | 425 | 429 | 500..=599 => Err(Failure::Unavailable {
            detail: format!("status {status}"),
            status: Some(status),
            retry_after: answer.retry_after.map(|wish| wish.min(LONGEST_RETRY_AFTER)),
        }),
        413 => Err(Failure::Refused { status, message: Quoted::new("it is too large for kong") }),
        _ if !answer.is_json => Err(Failure::not_kong(odd_page(&answer))),
        _ => {
            let message = message_of(&answer.body);
            if status == 409 || is_taken(&answer.body, &message) {
                Err(Failure::Conflict { message })
            } else {
                Err(Failure::Refused { status, message })
            }
        }
    }
}

fn odd_page(answer: &Answer) -> String {
    let says =
        |needle: &str| answer.body.windows(needle.len()).any(|window| window == needle.as_bytes());
    if PLAIN_TO_TLS.iter().any(|title| says(title)) {
        "that port speaks TLS; use https://".to_owned()
    } else if NO_CLIENT.iter().any(|title| says(title)) {
        "it wants a client certificate; set ADMIN__CLIENT_CERT_FILE and ADMIN__CLIENT_KEY_FILE to a pair that it accepts".to_owned()
    } else {
        format!("status {} without JSON", answer.status)
    }
}

/// An Admin API has something at `/`.
fn odd_root(answer: &Answer) -> String {
    let status = answer.status;
    if message_of(&answer.body).as_str() == NOT_FOUND {
        format!(
            "it has nothing at / ({status}), as kong's status port (status_listen), and the Admin API's is in admin_listen"
        )
    } else {
        format!("it has nothing at / ({status})")
    }
}

/// What Kong's proxy answers to a request that no route takes.
const NO_ROUTE: &str = "no Route matched with those values";
/// What Kong's other ports answer to a path that they do not have.
const NOT_FOUND: &str = "Not found";
/// What nginx, and servers in Go, answer to plain HTTP on a TLS port.
const PLAIN_TO_TLS: [&str; 2] =
    ["plain HTTP request was sent to HTTPS port", "Client sent an HTTP request to an HTTPS server"];
/// What nginx answers with `ssl_verify_client on`.
const NO_CLIENT: [&str; 2] = ["No required SSL certificate was sent", "The SSL certificate error"];

/// Whether what was to be created is there already, or a name is another's. Kong answers 400 to
/// both. (The first was not recorded: `toerror` of `kong/db/strategies/postgres/init.lua` in 3.9.3.)
fn is_taken(body: &[u8], message: &Quoted) -> bool {
    #[derive(serde::Deserialize)]
    struct Problem {
        name: String,
    }
    let is_there = |problem: Problem| problem.name == "primary key violation";
    message.as_str().contains("already associated with existing")
        || serde_json::from_slice(body).is_ok_and(is_there)
}

/// Kong's `message`; never its `fields`, whose values may echo what was sent.
fn message_of(body: &[u8]) -> Quoted {
    #[derive(serde::Deserialize)]
    struct Problem {
        message: String,
    }
    match serde_json::from_slice::<Problem>(body) {
        Ok(problem) => Quoted::new(&problem.message),
        Err(_) => Quoted::new("it gave no message"),
    }
}

/// A buffer that is wiped when dropped.
fn wiped(buffer: Zeroizing<Vec<u8>>) -> Bytes {
    struct Wiped(Zeroizing<Vec<u8>>);
    impl AsRef<[u8]> for Wiped {
        fn as_ref(&self) -> &[u8] {
            &self.0
        }
    }
    Bytes::from_owner(Wiped(buffer))
}

/// JSON in one buffer that is wiped when dropped.
fn wiped_json(body: &impl Serialize) -> Bytes {
    struct Counted(usize);
    impl io::Write for Counted {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0 += bytes.len();
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    // A buffer that grows leaves copies behind. Strings and sets of strings into memory: there is
    // nothing that could fail.
    let mut size = Counted(0);
    let _ = serde_json::to_writer(&mut size, body);
    let mut buffer = Zeroizing::new(Vec::with_capacity(size.0));
    let _ = serde_json::to_writer(&mut *buffer, body);
    wiped(buffer)
}

/// Parses an answer's body.
fn parse<'a, T: serde::Deserialize<'a>>(answer: &'a Answer) -> Result<T, Failure> {
    // serde_json's own words could quote the body.
    serde_json::from_slice(&answer.body)
        .map_err(|_| Failure::not_kong(format!("status {} with another body", answer.status)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, is_json: bool, body: &str) -> Answer {
        let body = Zeroizing::new(body.as_bytes().to_vec());
        Answer { status, is_json, retry_after: Some(Duration::from_secs(3600)), body }
    }

    #[test]
    fn answers_are_sorted_by_what_follows_from_them() {
        let kong = r#"{"message":"schema violation (snis: x)","code":2}"#;
        let taken = r#"{"message":"a.test already associated with existing certificate 'x'"}"#;
        let there = r#"{"code":3,"name":"primary key violation","message":"primary key violation on key '{id=\"x\"}'","fields":{"id":"x"}}"#;
        let cases: [(u16, bool, &str, &str); 24] = [
            (200, true, "{}", "ok"),
            (204, false, "", "not kong"),
            (200, false, "<html>", "not kong"),
            (301, false, "", "not kong"),
            (400, true, kong, "refused"),
            (400, false, "<html>", "not kong"),
            (400, true, taken, "conflict"),
            (400, true, there, "conflict"),
            (401, true, "{}", "unauthorized"),
            (403, false, "<html>", "unauthorized"),
            (404, true, "{}", "no such path"),
            (404, true, r#"{"message":"no Route matched with those values"}"#, "not kong"),
            (404, false, "<html>", "not kong"),
            (405, true, "{}", "no such path"),
            (408, true, "{}", "unavailable"),
            (409, true, kong, "conflict"),
            (413, false, "<html>", "refused"),
            (413, true, "{}", "refused"),
            (415, true, kong, "refused"),
            (425, true, "{}", "unavailable"),
            (429, true, "{}", "unavailable"),
            (500, true, "{}", "unavailable"),
            (502, false, "<html>", "unavailable"),
            (504, false, "", "unavailable"),
        ];
        for (status, is_json, body, expected) in cases {
            let found = match judge(answer(status, is_json, body), "/certificates") {
                Ok(_) => "ok",
                Err(Failure::Refused { .. }) => "refused",
                Err(Failure::Conflict { .. }) => "conflict",
                Err(Failure::Unauthorized { .. }) => "unauthorized",
                Err(Failure::NoSuchPath { .. }) => "no such path",
                Err(Failure::NotKong { .. }) => "not kong",
                Err(Failure::Unavailable { retry_after, .. }) => {
                    assert_eq!(retry_after, Some(LONGEST_RETRY_AFTER));
                    "unavailable"
                }
                Err(
                    Failure::RefusedInPart { .. }
                    | Failure::Unusable(_)
                    | Failure::NotSent
                    | Failure::TooLarge { .. }
                    | Failure::NoLicenses,
                ) => "impossible",
            };
            assert_eq!(found, expected, "{status} {body}");
        }
    }

    #[test]
    fn a_message_that_echoes_a_key_is_withheld() {
        let body = r#"{"message":"invalid key: -----BEGIN PRIVATE KEY-----\nMIIE"}"#;
        let Err(failure) = judge(answer(400, true, body), "/") else { panic!("it was taken") };
        assert!(!failure.to_string().contains("MIIE"), "{failure}");
    }

    #[test]
    fn pages_about_the_wrong_protocol_or_certificate_are_told_with_their_mend() {
        for (page, mend) in [
            ("<h1>The plain HTTP request was sent to HTTPS port</h1>", "use https://"),
            ("Client sent an HTTP request to an HTTPS server.\n", "use https://"),
            ("<h1>No required SSL certificate was sent</h1>", "ADMIN__CLIENT_CERT_FILE"),
            ("<h1>The SSL certificate error</h1>", "ADMIN__CLIENT_CERT_FILE"),
        ] {
            let Err(failure) = judge(answer(400, false, page), "/") else { panic!("it was taken") };
            assert!(failure.to_string().contains(mend), "{failure}");
        }
    }

    #[test]
    fn kongs_other_ports_are_told_from_its_admin_api() {
        let (no_route, not_found) = (
            r#"{"message":"no Route matched with those values","request_id":"5f2"}"#,
            r#"{"message":"Not found"}"#,
        );
        for (path, status, body, told) in [
            ("/", 404, no_route, "kong's proxy port"),
            ("/certificates", 404, no_route, "kong's proxy port"),
            ("/", 404, not_found, "as kong's status port (status_listen)"),
            ("/", 404, r#"{"message":"s3cret"}"#, "nothing at / (404); check ADMIN__URL"),
            ("/", 405, "{}", "nothing at / (405); check ADMIN__URL"),
        ] {
            let Err(failure) = judge(answer(status, true, body), path) else { panic!("{told}") };
            assert!(failure.to_string().contains(told), "{failure}");
            assert!(failure.may_be_misdirected(), "{failure}");
        }
    }

    /// Answers "not found" after a while, and counts the calls under way.
    #[derive(Default)]
    struct Counting {
        under_way: AtomicU32,
        most: AtomicU32,
    }

    impl Wire for &Counting {
        async fn call(&self, _: Call) -> Result<Answer, Lost> {
            let now = self.under_way.fetch_add(1, Ordering::SeqCst) + 1;
            self.most.fetch_max(now, Ordering::SeqCst);
            for _ in 0..10 {
                tokio::task::yield_now().await;
            }
            self.under_way.fetch_sub(1, Ordering::SeqCst);
            Ok(answer(404, true, r#"{"message":"Not found"}"#))
        }
    }

    #[tokio::test]
    async fn no_more_calls_are_under_way_than_are_configured() {
        let (counting, admin) = (Counting::default(), Admin::default());
        let kong = Kong::new(&counting, &admin, Metrics::default());
        let names = (0..50).filter_map(|n| format!("n{n}.test").parse().ok()).collect();
        let query = Query::Certificate { id: uuid::Uuid::nil(), names };
        assert!(kong.look(&query).await.is_ok());
        assert_eq!(counting.most.load(Ordering::SeqCst) as usize, admin.concurrency.get());
    }

    #[test]
    fn the_gate_closes_after_three_calls_without_an_answer() {
        let gate = Gate::default();
        gate.note(false);
        gate.note(false);
        assert!(gate.is_open());
        gate.note(true);
        gate.note(false);
        gate.note(false);
        gate.note(false);
        assert!(!gate.is_open());
        gate.rest();
        assert!(gate.is_open());
        gate.close();
        gate.rest();
        assert!(!gate.is_open());
    }
}
