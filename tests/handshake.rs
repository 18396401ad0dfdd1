//! The handshake as it is made: real TLS with a proxy port that is what a Kong's may be.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use kong_cert_reloader::bundle::{Facts, KeyType, ServedChain, held_facts};
use kong_cert_reloader::proof::{Handshake as _, ProxyClient, ProxyPort, Unseen};
use kong_cert_reloader::settings::HostPort;
use rustls::version::{TLS12, TLS13};
use serde_json::json;
use testkit::{CertifiedPair, KeyKind, KongStandIn, Pki, Request};

const ID: &str = "11111111-1111-4111-8111-111111111111";

/// A Kong that holds a certificate for `a.test`, and a client.
struct Port {
    kong: KongStandIn,
    pki: Pki,
    client: ProxyClient,
}

impl Port {
    async fn new() -> Self {
        let (kong, pki) = (KongStandIn::start().await, Pki::new());
        Self { kong, pki, client: ProxyClient::default() }
    }

    /// Kong holds this from now on.
    fn holds(&self, pair: &CertifiedPair, alt: Option<&CertifiedPair>) -> Facts {
        let mut body = json!({"cert": pair.chain_pem(), "key": pair.key_pem(), "snis": ["a.test"]});
        if let Some(alt) = alt {
            body["cert_alt"] = json!(alt.chain_pem());
            body["key_alt"] = json!(alt.key_pem());
        }
        let path = format!("/certificates/{ID}");
        let answer = self.kong.model().answer(&Request::json("PUT", &path, &body));
        assert_eq!(answer.status, 200, "{}", answer.value());
        held_facts(&pair.chain_pem(), alt.map(CertifiedPair::chain_pem).as_deref()).unwrap()
    }

    fn at(&self, proxy_protocol: bool) -> ProxyPort {
        let at = self.kong.proxy_addr();
        ProxyPort { at: HostPort { host: at.ip().to_string(), port: at.port() }, proxy_protocol }
    }

    async fn ask(&self, key_type: Option<KeyType>) -> Result<ServedChain, Unseen> {
        self.client.chain(&self.at(false), Some("a.test"), key_type).await
    }
}

#[tokio::test]
async fn the_whole_chain_is_seen_whatever_the_key_and_the_version() {
    let port = Port::new().await;
    let ca = port.pki.intermediate("Issuing CA");
    for kind in [
        KeyKind::Rsa2048,
        KeyKind::Rsa3072,
        KeyKind::P256,
        KeyKind::P384,
        KeyKind::P521,
        KeyKind::Ed25519,
    ] {
        let pair = port.pki.leaf_from(&ca, &["a.test"]).kind(kind).issue();
        let facts = port.holds(&pair, None);
        for versions in [&[&TLS12][..], &[&TLS13], &[&TLS12, &TLS13]] {
            port.kong.proxy_versions(versions);
            let seen = port.ask(None).await.unwrap();
            assert_eq!(seen.fingerprint, facts.chains[0], "{kind:?} {versions:?}");
            assert_eq!(port.ask(Some(facts.key_types[0])).await, Ok(seen), "{kind:?}");
        }
    }
}

#[tokio::test]
async fn a_chain_without_its_intermediate_is_another_chain() {
    let port = Port::new().await;
    let ca = port.pki.intermediate("Issuing CA");
    let pair = port.pki.leaf_from(&ca, &["a.test"]).issue();
    let whole = port.holds(&pair, None);
    let other = port.pki.leaf_from(&ca.reissued(), &["a.test"]).key(pair.key()).issue();
    port.kong.model().serve_instead("a.test", Some(&other));
    let seen = port.ask(None).await.unwrap();
    assert_ne!(seen.fingerprint, whole.chains[0]);
    port.kong.model().serve_instead("a.test", None);
    assert_eq!(port.ask(None).await.unwrap().fingerprint, whole.chains[0]);
}

#[tokio::test]
async fn of_two_pairs_each_is_seen_by_its_type_of_key() {
    let port = Port::new().await;
    let rsa = port.pki.leaf(&["a.test"]).kind(KeyKind::Rsa2048).issue();
    let ec = port.pki.pair(&["a.test"]);
    let facts = port.holds(&rsa, Some(&ec));
    for versions in [&[&TLS12], &[&TLS13]] {
        port.kong.proxy_versions(versions);
        for (key_type, chain) in [(KeyType::Rsa, 0), (KeyType::Ec, 1)] {
            let seen = port.ask(Some(key_type)).await.unwrap();
            assert_eq!(seen.fingerprint, facts.chains[chain], "{key_type:?} {versions:?}");
        }
    }
}

#[tokio::test]
async fn no_handshake_resumes_another() {
    let port = Port::new().await;
    port.holds(&port.pki.pair(&["a.test"]), None);
    for versions in [&[&TLS12], &[&TLS13]] {
        port.kong.proxy_versions(versions);
        for _ in 0..3 {
            port.ask(None).await.unwrap();
        }
    }
    let handshakes = port.kong.handshakes();
    assert_eq!(handshakes.len(), 6);
    assert!(handshakes.iter().all(|shaken| !shaken.resumes), "{handshakes:?}");
}

#[tokio::test]
async fn a_listener_that_wants_a_client_certificate_proves_what_it_serves() {
    let port = Port::new().await;
    let facts = port.holds(&port.pki.pair(&["a.test"]), None);
    port.kong.demand_proxy_clients_of(port.pki.root());
    for versions in [&[&TLS12], &[&TLS13]] {
        port.kong.proxy_versions(versions);
        let seen = port.ask(None).await.unwrap();
        assert_eq!(seen.fingerprint, facts.chains[0], "{versions:?}");
    }
}

#[tokio::test]
async fn the_proxy_protocol_is_spoken_where_it_is_wanted() {
    let port = Port::new().await;
    let facts = port.holds(&port.pki.pair(&["a.test"]), None);
    port.kong.demand_proxy_protocol(true);
    let seen = port.client.chain(&port.at(true), Some("a.test"), None).await.unwrap();
    assert_eq!(seen.fingerprint, facts.chains[0]);
    let header = port.kong.handshakes()[0].proxy_header.clone().unwrap();
    let to = format!(" {}", port.kong.proxy_addr().port());
    assert!(header.starts_with("PROXY TCP4 127.0.0.1 127.0.0.1 ") && header.ends_with(&to));
    let unseen = port.ask(None).await.unwrap_err();
    assert_eq!(unseen.as_str(), "no_handshake");
    assert!(unseen.to_string().contains("PROXY__PROTOCOL"), "{unseen}");
}

#[tokio::test]
async fn what_speaks_no_tls_is_told_as_such() {
    let port = Port::new().await;
    port.kong.proxy_speaks_plain_http(true);
    assert_eq!(port.ask(None).await, Err(Unseen::NoTls));
}

#[tokio::test]
async fn a_closed_port_is_told_as_such() {
    let mut port = Port::new().await;
    port.kong.stop_proxy().await;
    let unseen = port.ask(None).await.unwrap_err();
    assert_eq!(unseen.as_str(), "no_connection");
    assert!(unseen.to_string().contains("Connection refused"), "{unseen}");
}

#[tokio::test]
async fn a_port_that_says_nothing_is_not_waited_for_for_ever() {
    let port = Port::new().await;
    port.kong.proxy_is_silent(true);
    assert_eq!(port.ask(None).await, Err(Unseen::Silent));
}

#[tokio::test]
async fn of_many_that_wait_for_a_silent_port_a_few_try_it() {
    let port = Port::new().await;
    port.kong.proxy_is_silent(true);
    let all = futures_util::future::join_all((0..40).map(|_| port.ask(None))).await;
    assert!(all.iter().all(|asked| *asked == Err(Unseen::Silent)), "{all:?}");
    assert!(port.kong.handshakes().len() <= 8, "{}", port.kong.handshakes().len());
}

#[tokio::test]
async fn a_certificate_that_kong_cannot_serve_ends_the_handshake() {
    let port = Port::new().await;
    let pair = port.pki.pair(&["a.test"]);
    let mut chain = pair.chain_pem();
    chain.push_str("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
    let body = json!({"cert": chain, "key": pair.key_pem(), "snis": ["a.test"]});
    let path = format!("/certificates/{ID}");
    assert_eq!(port.kong.model().answer(&Request::json("PUT", &path, &body)).status, 200);
    let unseen = port.ask(None).await.unwrap_err();
    assert_eq!(unseen.to_string(), "the handshake was refused: InternalError");
}

#[tokio::test]
async fn a_client_without_a_name_sends_none() {
    let port = Port::new().await;
    let seen = port.client.chain(&port.at(false), None, None).await.unwrap();
    let default = port.kong.model().default_chain();
    assert_eq!(seen, ServedChain::of(&default[0], default[1..].iter().map(Vec::as_slice)));
    assert_eq!(port.kong.handshakes()[0].sni, None);
}

#[tokio::test]
async fn a_name_that_no_client_can_send_is_told() {
    let port = Port::new().await;
    let asked = port.client.chain(&port.at(false), Some("a b"), None).await;
    assert_eq!(asked, Err(Unseen::Unaskable));
}
