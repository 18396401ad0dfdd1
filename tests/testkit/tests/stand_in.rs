//! The stand-in's ports, and what can go wrong with them.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "what fails here fails its test"
)]

use std::io::{self, ErrorKind};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use testkit::http_client::exchange;
use testkit::kong_model::{Answer, Request};
use testkit::stand_in::{Fault, KongStandIn};
use testkit::tls_client::{HandshakeError, TlsClient};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::yield_now;

const PATH: &str = "/certificates/11111111-1111-4111-8111-111111111111";
const FOREVER: Duration = Duration::from_secs(86_400);

fn put() -> Request {
    let pem = |file: &str| {
        let data = concat!(env!("CARGO_MANIFEST_DIR"), "/../data/kong-contract/pem");
        std::fs::read_to_string(format!("{data}/{file}")).unwrap()
    };
    let body = json!({ "cert": pem("ec.crt"), "key": pem("ec.key"), "snis": ["a.test"] });
    Request::json("PUT", PATH, &body)
}

fn get() -> Request {
    Request::new("GET", "/status")
}

async fn send(kong: &KongStandIn, request: &Request) -> io::Result<Answer> {
    exchange(kong.admin_addr(), request).await
}

async fn status(kong: &KongStandIn, request: &Request) -> u16 {
    send(kong, request).await.unwrap().status
}

#[tokio::test]
async fn a_slow_request_lands_although_its_client_has_gone() {
    for (before, after) in [(Duration::ZERO, FOREVER), (Duration::from_millis(1), FOREVER)] {
        let kong = KongStandIn::start().await;
        kong.inject(Fault::slow(before, after));
        let address = kong.admin_addr();
        let client = tokio::spawn(async move { exchange(address, &put()).await });
        while kong.model().writes() == 0 {
            yield_now().await;
        }
        assert!(!client.is_finished());
        client.abort();
        assert!(client.await.unwrap_err().is_cancelled());
        assert_eq!(status(&kong, &Request::new("GET", PATH)).await, 200);
    }
}

#[tokio::test]
async fn a_request_lands_although_its_client_left_before() {
    let kong = KongStandIn::start().await;
    kong.inject(Fault::slow(Duration::from_millis(20), Duration::ZERO));
    let body = String::from_utf8(put().body).unwrap();
    let head = format!("PUT {PATH} HTTP/1.1\r\nHost: kong\r\nContent-Type: application/json\r\n");
    let mut client = TcpStream::connect(kong.admin_addr()).await.unwrap();
    let request = format!("{head}Content-Length: {}\r\n\r\n{body}", body.len());
    client.write_all(request.as_bytes()).await.unwrap();
    drop(client);
    while kong.model().writes() == 0 {
        yield_now().await;
    }
}

#[tokio::test]
async fn a_slow_request_is_answered_in_the_end() {
    let kong = KongStandIn::start().await;
    let (before, after) = (Duration::from_millis(20), Duration::from_millis(30));
    kong.inject(Fault::slow(before, after));
    let start = Instant::now();
    assert_eq!(status(&kong, &put()).await, 200);
    assert!(start.elapsed() >= before + after);
}

#[tokio::test]
async fn a_reset_comes_before_or_after_the_request_is_applied() {
    for (fault, writes) in [(Fault::reset_before(), 0), (Fault::reset_after(), 1)] {
        let kong = KongStandIn::start().await;
        kong.inject(fault);
        let error = send(&kong, &put()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
        assert_eq!(kong.model().writes(), writes);
        assert_eq!(status(&kong, &put()).await, 200);
    }
}

#[tokio::test]
async fn an_answer_in_kongs_place_reaches_nothing() {
    let kong = KongStandIn::start().await;
    let header = |answer: &Answer, name: &str| {
        let found = answer.headers.iter().find(|(found, _)| found == name);
        found.map(|(_, value)| value.clone()).unwrap_or_default()
    };
    for (fault, status, name, value, begins) in [
        (
            Fault::status(503),
            503,
            "content-type",
            "application/json; charset=utf-8",
            "{\"message\"",
        ),
        (Fault::status_retry_after(429, "7"), 429, "retry-after", "7", "{\"message\""),
        (Fault::html(), 200, "content-type", "text/html; charset=UTF-8", "<html>"),
        (Fault::nothing(), 200, "content-length", "0", ""),
        (Fault::huge(), 200, "content-length", "10000002", "\"xxx"),
        (Fault::redirect("http://127.0.0.1:1/"), 301, "location", "http://127.0.0.1:1/", "<html>"),
        (Fault::other_json(&json!([])), 200, "content-length", "2", "[]"),
    ] {
        kong.inject(fault);
        let answer = send(&kong, &put()).await.unwrap();
        assert_eq!((answer.status, header(&answer, name)), (status, value.to_owned()));
        assert!(answer.body.starts_with(begins.as_bytes()), "{status}");
    }
    assert_eq!(kong.model().requests(), []);
}

#[tokio::test]
async fn an_answer_that_is_cut_belongs_to_a_request_that_landed() {
    let kong = KongStandIn::start().await;
    kong.inject(Fault::cut_short());
    let error = send(&kong, &put()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::UnexpectedEof);
    kong.inject(Fault::cut_json());
    let answer = send(&kong, &put()).await.unwrap();
    assert!(!answer.body.is_empty());
    assert!(serde_json::from_slice::<Value>(&answer.body).is_err());
    assert_eq!(kong.model().writes(), 2);
}

#[tokio::test]
async fn a_fault_happens_as_often_and_to_such_requests_as_it_is_told() {
    let kong = KongStandIn::start().await;
    kong.inject(Fault::status(500));
    kong.inject(Fault::status(501).times(2));
    kong.inject(Fault::status(502).only("PUT").always());
    let mut seen = Vec::new();
    for request in [get(), get(), get(), get(), put(), put(), get()] {
        seen.push(status(&kong, &request).await);
    }
    assert_eq!(seen, [500, 501, 501, 200, 502, 502, 200]);
    kong.clear_faults();
    assert_eq!(status(&kong, &put()).await, 200);
}

#[tokio::test]
async fn without_its_header_a_request_reaches_nothing() {
    let kong = KongStandIn::start().await;
    let with = |value: &str| {
        let mut request = get();
        request.headers.push(("kong-admin-token".to_owned(), value.to_owned()));
        request
    };
    for refused in [401, 403] {
        kong.require_header("Kong-Admin-Token", "secret", refused);
        assert_eq!(status(&kong, &get()).await, refused);
        assert_eq!(status(&kong, &with("other")).await, refused);
        assert_eq!(kong.model().requests(), []);
    }
    assert_eq!(status(&kong, &with("secret")).await, 200);
}

#[tokio::test]
async fn a_stopped_kong_refuses_connections_and_comes_back_where_it_was() {
    let mut kong = KongStandIn::start().await;
    assert_eq!(status(&kong, &put()).await, 200);
    let mut idle = TcpStream::connect(kong.admin_addr()).await.unwrap();
    idle.write_all(b"GET /status HTTP/1.1\r\nHost: kong\r\n\r\n").await.unwrap();
    idle.read_exact(&mut [0; 12]).await.unwrap();
    let (admin, proxy) = (kong.admin_addr(), kong.proxy_addr());
    kong.stop().await;
    assert_eq!(send(&kong, &get()).await.unwrap_err().kind(), ErrorKind::ConnectionRefused);
    let error = TlsClient::new().chain(kong.proxy_addr()).await.unwrap_err();
    assert!(
        matches!(error, HandshakeError::Connect(e) if e.kind() == ErrorKind::ConnectionRefused)
    );
    let mut rest = Vec::new();
    idle.read_to_end(&mut rest).await.unwrap();
    kong.restart().await;
    assert_eq!((kong.admin_addr(), kong.proxy_addr()), (admin, proxy));
    assert_eq!(status(&kong, &Request::new("GET", PATH)).await, 200);
    assert!(TlsClient::new().sni("a.test").chain(proxy).await.is_ok());
}

#[tokio::test]
async fn a_dropped_kong_lets_go_of_its_ports() {
    let kong = KongStandIn::start().await;
    let address = kong.admin_addr();
    drop(kong);
    while TcpStream::connect(address).await.is_ok() {
        yield_now().await;
    }
}

#[tokio::test]
async fn many_requests_go_over_one_connection() {
    let kong = KongStandIn::start().await;
    let mut stream = TcpStream::connect(kong.admin_addr()).await.unwrap();
    for _ in 0..3 {
        stream.write_all(b"GET /nothing HTTP/1.1\r\nHost: kong\r\n\r\n").await.unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"{\"message\":\"Not found\"}") {
            answer.push(stream.read_u8().await.unwrap());
        }
    }
    assert_eq!(kong.model().requests().len(), 3);
}

#[tokio::test]
async fn kong_tells_where_its_proxy_port_is() {
    let kong = KongStandIn::start().await;
    let root = send(&kong, &Request::new("GET", "/")).await.unwrap().value();
    let listener = &root["configuration"]["proxy_listeners"][0];
    assert_eq!(kong.admin_url(), format!("http://{}", kong.admin_addr()));
    assert_eq!(listener["ip"], "127.0.0.1");
    assert_eq!(listener["port"], kong.proxy_addr().port());
    assert_eq!((&listener["ssl"], &listener["proxy_protocol"]), (&json!(true), &json!(false)));
}

#[tokio::test]
async fn a_write_is_served_to_the_next_handshake() {
    let kong = KongStandIn::start().await;
    let client = TlsClient::new().sni("a.test");
    let before = client.chain(kong.proxy_addr()).await.unwrap();
    assert_eq!(before, kong.model().default_chain());
    assert_eq!(status(&kong, &put()).await, 200);
    assert_ne!(client.chain(kong.proxy_addr()).await.unwrap(), before);
}
