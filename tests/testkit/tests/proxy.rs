//! What the stand-in's proxy port may be.
#![allow(clippy::unwrap_used, reason = "what fails here fails its test")]

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::version::{TLS12, TLS13};
use rustls::{
    AlertDescription, ClientConfig, ClientConnection, RootCertStore, ServerConfig, SignatureScheme,
    SupportedProtocolVersion,
};
use serde_json::{Value, json};
use testkit::http_client::exchange;
use testkit::kong_model::Offers;
use testkit::tls_client::HandshakeError;
use testkit::{CertifiedPair, Handshake, KongStandIn, Pki, Request, TlsClient};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::yield_now;
use tokio::time::timeout;
use tokio_rustls::{TlsAcceptor, TlsConnector};

type Versions<'a> = &'a [&'static SupportedProtocolVersion];

/// A client that trusts `pki` and keeps its sessions.
fn client_config(pki: &Pki, versions: Versions<'_>) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from(pki.root().der().to_vec())).unwrap();
    let builder = ClientConfig::builder_with_provider(aws_lc_rs::default_provider().into());
    let builder = builder.with_protocol_versions(versions).unwrap();
    Arc::new(builder.with_root_certificates(roots).with_no_client_auth())
}

fn client_hello(sni: &str) -> Vec<u8> {
    let config = client_config(&Pki::new(), &[&TLS12, &TLS13]);
    let name = ServerName::try_from(sni.to_owned()).unwrap();
    let mut hello = Vec::new();
    ClientConnection::new(config, name).unwrap().write_tls(&mut hello).unwrap();
    hello
}

/// Nothing that is waited for takes longer on any machine.
async fn soon<T>(awaited: impl Future<Output = T>) -> T {
    timeout(Duration::from_secs(30), awaited).await.expect("an end")
}

/// All that comes back.
async fn answer(address: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    let mut answer = String::new();
    soon(stream.read_to_string(&mut answer)).await.unwrap();
    answer
}

async fn root(kong: &KongStandIn) -> Value {
    exchange(kong.admin_addr(), &Request::new("GET", "/")).await.unwrap().value()
}

async fn store(kong: &KongStandIn, pair: &CertifiedPair, snis: &[&str]) {
    let body = json!({ "cert": pair.chain_pem(), "key": pair.key_pem(), "snis": snis });
    let put = Request::json("PUT", "/certificates/11111111-1111-4111-8111-111111111111", &body);
    assert_eq!(exchange(kong.admin_addr(), &put).await.unwrap().status, 200);
}

#[tokio::test]
async fn a_proxy_speaks_the_versions_that_it_is_told() {
    let kong = KongStandIn::start().await;
    let clients = [TlsClient::new().tls12(), TlsClient::new().tls13()];
    let cases: [(Versions<'_>, [bool; 2]); 3] =
        [(&[&TLS12], [true, false]), (&[&TLS13], [false, true]), (&[&TLS12, &TLS13], [true, true])];
    for (versions, spoken) in cases {
        kong.proxy_versions(versions);
        for (client, spoken) in clients.iter().zip(spoken) {
            match client.chain(kong.proxy_addr()).await {
                Ok(chain) => assert_eq!((chain, spoken), (kong.model().default_chain(), true)),
                Err(HandshakeError::Alert(alert)) => {
                    assert_eq!((alert, spoken), (AlertDescription::ProtocolVersion, false));
                }
                Err(other) => panic!("{other}"),
            }
        }
    }
}

#[tokio::test]
async fn a_plain_proxy_answers_what_is_no_request_with_a_page_that_can_be_read() {
    let kong = KongStandIn::start().await;
    kong.proxy_speaks_plain_http(true);
    let hello = client_hello("a.test");
    for (first, status) in [
        (&hello[..], "400 Bad Request"),
        (&[&hello[..], &vec![0; 8_000_000]].concat(), "400 Bad Request"),
        (b"\x16", "400 Bad Request"),
        (b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n", "400 Bad Request"),
        (b"GET /\r\n", "400 Bad Request"),
        (b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n", "404 Not Found"),
    ] {
        let answer = answer(kong.proxy_addr(), first).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}\r\n")), "{answer}");
        let is_page = answer.contains(&format!("<h1>{status}</h1>"));
        assert_eq!(is_page, status.starts_with("400"), "{answer}");
    }
    let snis: Vec<_> = kong.handshakes().into_iter().map(|handshake| handshake.sni).collect();
    assert_eq!(snis, [Some("a.test".to_owned()), Some("a.test".to_owned())]);
    kong.proxy_speaks_plain_http(false);
    assert!(TlsClient::new().chain(kong.proxy_addr()).await.is_ok());
}

#[tokio::test]
async fn a_silent_proxy_hears_and_says_nothing() {
    let mut kong = KongStandIn::start().await;
    kong.proxy_is_silent(true);
    let mut client = TcpStream::connect(kong.proxy_addr()).await.unwrap();
    client.write_all(&client_hello("a.test")).await.unwrap();
    while kong.handshakes().is_empty() {
        yield_now().await;
    }
    kong.proxy_is_silent(false);
    assert!(TlsClient::new().chain(kong.proxy_addr()).await.is_ok());
    assert_eq!(client.try_read(&mut [0]).unwrap_err().kind(), ErrorKind::WouldBlock);
    kong.stop_proxy().await;
    assert!(!soon(client.read(&mut [0])).await.is_ok_and(|read| read > 0));
}

/// Version 2, with what is not fixed.
fn v2(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
    let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
    [b"\r\n\r\n\0\r\nQUIT\n", &[command, family][..], &length, rest].concat()
}

const TCP4: [u8; 12] = [192, 0, 2, 1, 192, 0, 2, 2, 0x12, 0x34, 0x01, 0xbb];

#[tokio::test]
async fn a_proxy_header_is_read_and_told() {
    let kong = KongStandIn::start().await;
    kong.demand_proxy_protocol(true);
    let loopback = [[0; 15].as_slice(), &[1]].concat();
    let tcp6 = [&loopback[..], &loopback, &TCP4[8..]].concat();
    let with_more = [&TCP4[..], b"\x04\0\x01x"].concat();
    let v1 = |line: &str| (format!("{line}\r\n").into_bytes(), line.to_owned());
    let told = |header: Vec<u8>, text: &str| (header, text.to_owned());
    for (header, text) in [
        v1("PROXY TCP4 192.0.2.1 192.0.2.2 4660 443"),
        v1("PROXY TCP6 ::1 2001:db8::2 4660 443"),
        v1("PROXY UNKNOWN"),
        told(v2(0x21, 0x11, &TCP4), "v2 192.0.2.1:4660 192.0.2.2:443"),
        told(v2(0x21, 0x21, &tcp6), "v2 [::1]:4660 [::1]:443"),
        told(v2(0x21, 0x11, &with_more), "v2 192.0.2.1:4660 192.0.2.2:443"),
        told(v2(0x20, 0x00, &[]), "v2 UNKNOWN"),
    ] {
        let client = TlsClient::new().sni("a.test").preface(&header);
        assert!(client.chain(kong.proxy_addr()).await.is_ok(), "{text}");
        let last = kong.handshakes().pop().unwrap();
        assert_eq!((last.sni.as_deref(), last.proxy_header), (Some("a.test"), Some(text)));
    }
}

#[tokio::test]
async fn without_the_header_that_it_demands_a_proxy_closes_without_a_word() {
    let kong = KongStandIn::start().await;
    kong.demand_proxy_protocol(true);
    for broken in [
        b"".to_vec(),
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),
        b"PROXY TCP5 192.0.2.1 192.0.2.2 1 2\r\n".to_vec(),
        b"PROXY TCP4 ::1 192.0.2.2 1 2\r\n".to_vec(),
        b"PROXY TCP4 192.0.2.1 192.0.2.2 1 65536\r\n".to_vec(),
        [b"PROXY UNKNOWN", &[b' '; 100][..], b"\r\n"].concat(),
        v2(0x11, 0x11, &TCP4),
        v2(0x21, 0x11, &TCP4[..11]),
    ] {
        let sent = [broken, client_hello("a.test")].concat();
        let mut client = TcpStream::connect(kong.proxy_addr()).await.unwrap();
        client.write_all(&sent).await.unwrap();
        let answered = soon(client.read(&mut [0])).await.is_ok_and(|read| read > 0);
        assert!(!answered, "{}", String::from_utf8_lossy(&sent));
    }
    assert_eq!(kong.handshakes(), []);
}

#[tokio::test]
async fn kong_tells_whether_it_demands_a_proxy_header() {
    let kong = KongStandIn::start().await;
    let address = kong.proxy_addr();
    let plain = (format!("{address} ssl"), false);
    let demanding = (format!("{address} ssl proxy_protocol"), true);
    let mut told = Vec::new();
    for demand in [None, Some(true), Some(true), Some(false)] {
        demand.into_iter().for_each(|demand| kong.demand_proxy_protocol(demand));
        let listener = root(&kong).await["configuration"]["proxy_listeners"][0].take();
        let text = listener["listener"].as_str().unwrap().to_owned();
        told.push((text, listener["proxy_protocol"].as_bool().unwrap()));
    }
    assert_eq!(told, [plain.clone(), demanding.clone(), demanding, plain]);
    assert!(TlsClient::new().chain(address).await.is_ok());
    assert_eq!(kong.handshakes()[0].proxy_header, None);
}

#[tokio::test]
async fn a_client_without_the_certificate_demanded_sees_the_chain_and_then_an_alert() {
    let (pki, strangers) = (Pki::new(), Pki::new());
    let (ours, theirs) = (pki.pair(&["us.test"]), strangers.pair(&["us.test"]));
    let kong = KongStandIn::start().await;
    let default = kong.model().default_chain();
    for client in [TlsClient::new().tls12(), TlsClient::new().tls13()] {
        kong.demand_proxy_clients_of(pki.root());
        for refused in [client.clone(), client.clone().identity(&theirs)] {
            let (chain, end) = refused.shown(kong.proxy_addr()).await;
            assert_eq!(chain, default);
            assert!(matches!(end, Err(HandshakeError::Alert(_))), "{end:?}");
        }
        let (chain, end) = client.clone().identity(&ours).shown(kong.proxy_addr()).await;
        assert_eq!((chain, end.is_ok()), (default.clone(), true));
        kong.demand_no_proxy_clients();
        let (chain, end) = client.shown(kong.proxy_addr()).await;
        assert_eq!((chain, end.is_ok()), (default.clone(), true));
    }
}

#[tokio::test]
async fn the_proxy_port_alone_can_be_closed() {
    let mut kong = KongStandIn::start().await;
    let client = TlsClient::new();
    let address = kong.proxy_addr();
    kong.stop_proxy().await;
    let error = client.chain(address).await.unwrap_err();
    assert!(
        matches!(error, HandshakeError::Connect(e) if e.kind() == ErrorKind::ConnectionRefused)
    );
    assert_eq!(root(&kong).await["version"], "3.9.3");
    kong.restart_proxy().await;
    assert_eq!(kong.proxy_addr(), address);
    assert!(client.chain(address).await.is_ok());
}

#[tokio::test]
async fn every_client_hello_is_told_in_order() {
    let kong = KongStandIn::start().await;
    let ecdsa = [SignatureScheme::ECDSA_NISTP256_SHA256];
    for client in [
        TlsClient::new(),
        TlsClient::new().sni("a.test").schemes(&[SignatureScheme::RSA_PSS_SHA256]),
        TlsClient::new().sni("b.test").schemes(&ecdsa).tls12(),
    ] {
        let _ = client.chain(kong.proxy_addr()).await;
    }
    let told = |sni: Option<&str>, offers| Handshake {
        sni: sni.map(str::to_owned),
        offers,
        resumes: false,
        proxy_header: None,
    };
    let none = Offers { rsa: false, ecdsa: false, ed25519: false };
    let expected = [
        told(None, Offers::ALL),
        told(Some("a.test"), Offers { rsa: true, ..none }),
        told(Some("b.test"), Offers { ecdsa: true, ..none }),
    ];
    assert_eq!(kong.handshakes(), expected);
}

/// Makes a full handshake in `version`, with tickets or with sessions of its own.
async fn meet(client: &Arc<ClientConfig>, pki: &Pki, version: Versions<'_>, tickets: bool) {
    let pair = pki.pair(&["a.test"]);
    let key = PrivateKeyDer::try_from(pair.key().pkcs8_der().to_vec()).unwrap();
    let mut config = ServerConfig::builder_with_provider(aws_lc_rs::default_provider().into())
        .with_protocol_versions(version)
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![CertificateDer::from(pair.leaf_der().to_vec())], key)
        .unwrap();
    if tickets {
        config.ticketer = aws_lc_rs::Ticketer::new().unwrap();
    }
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = async {
        let (stream, _) = listener.accept().await.unwrap();
        let mut tls = TlsAcceptor::from(Arc::new(config)).accept(stream).await.unwrap();
        tls.shutdown().await.unwrap();
    };
    tokio::join!(server, knock(client, address));
}

async fn knock(client: &Arc<ClientConfig>, address: SocketAddr) {
    let stream = TcpStream::connect(address).await.unwrap();
    let name = ServerName::try_from("a.test").unwrap();
    // Tickets of TLS 1.3 come after the handshake.
    if let Ok(mut tls) = TlsConnector::from(Arc::clone(client)).connect(name, stream).await {
        let _ = tls.read(&mut [0]).await;
    }
}

#[tokio::test]
async fn a_client_that_offers_to_resume_is_told() {
    let kong = KongStandIn::start().await;
    let pki = Pki::new();
    let cases: [(Versions<'_>, Versions<'_>, bool); 3] = [
        (&[&TLS12], &[&TLS12], false),
        (&[&TLS12, &TLS13], &[&TLS12], true),
        (&[&TLS12, &TLS13], &[&TLS13], false),
    ];
    for (offered, spoken, tickets) in cases {
        let client = client_config(&pki, offered);
        knock(&client, kong.proxy_addr()).await;
        assert!(!kong.handshakes().pop().unwrap().resumes, "{spoken:?}");
        meet(&client, &pki, spoken, tickets).await;
        knock(&client, kong.proxy_addr()).await;
        assert!(kong.handshakes().pop().unwrap().resumes, "{spoken:?}");
    }
}

#[tokio::test]
async fn another_chain_is_served_instead_to_the_names_told() {
    let kong = KongStandIn::start().await;
    let pki = Pki::new();
    let stored = pki.pair(&["a.test"]);
    let (other, third) = (pki.pair(&["other.test"]), pki.pair(&["third.test"]));
    store(&kong, &stored, &["a.test", "*.b.test"]).await;
    kong.model().serve_instead("a.test", Some(&other));
    kong.model().serve_instead("*.b.test", Some(&other));
    kong.model().serve_instead("x.b.test", Some(&third));
    let default = kong.model().default_chain();
    for (sni, chain) in [
        ("a.test", other.chain_ders()),
        ("random-1.b.test", other.chain_ders()),
        ("x.b.test", third.chain_ders()),
        ("y.x.b.test", &default),
        ("b.test", &default),
    ] {
        let served = TlsClient::new().sni(sni).chain(kong.proxy_addr()).await.unwrap();
        assert_eq!(served, chain, "{sni}");
    }
    for name in ["a.test", "*.b.test"] {
        kong.model().serve_instead(name, None);
        let sni = name.replace('*', "y");
        let served = TlsClient::new().sni(&sni).chain(kong.proxy_addr()).await.unwrap();
        assert_eq!(served, stored.chain_ders(), "{sni}");
    }
}

#[tokio::test]
async fn kong_tells_how_often_it_looks_for_changes() {
    let kong = KongStandIn::start().await;
    kong.model().set_db_update(0.25, 2);
    let configuration = &root(&kong).await["configuration"];
    assert_eq!(configuration["db_update_frequency"], 0.25);
    assert_eq!(configuration["db_update_propagation"], 2);
}
