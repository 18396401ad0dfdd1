//! Whether an Admin API answers at one of its usual ports, where none does at the configured one.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{join, join_all};
use reqwest::header::SERVER;
use reqwest::redirect::Policy;
use reqwest::{Client, Url};
use rustls::ClientConfig;
use rustls::crypto::aws_lc_rs;
use tokio::time::{Instant, timeout};

use super::connect::{Keep, collect};
use super::node::{Root, root};
use super::{Answer, Failure, Kong, OBJECT_LIMIT, Wire, parse};
use crate::settings::AdminUrl;
use crate::tls::AnyCertificate;

/// Kong's default of [`admin_listen`].
///
/// [`admin_listen`]: https://docs.konghq.com/gateway/latest/reference/configuration/#admin_listen
const PORTS: [(&str, u16); 2] = [("http", 8001), ("https", 8444)];
/// All of them are asked at once, and no longer.
const PATIENCE: Duration = Duration::from_secs(1);
/// Where nothing was found, Kong may not have been up yet.
const LOOK_AGAIN: Duration = Duration::from_secs(60);

/// An Admin API at another address than the configured one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Elsewhere {
    /// Scheme, host and port.
    pub url: String,
    /// Whether it answers nobody who does not say who he is.
    pub wants_credentials: bool,
}

/// The address, and what to do.
impl fmt::Display for Elsewhere {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let url = &self.url;
        write!(f, "an Admin API answers at {url}; set CERT_RELOADER__ADMIN__URL to it")?;
        if url.starts_with("https:") {
            f.write_str(", and CERT_RELOADER__ADMIN__CA_FILE to the CA of its certificate")?;
        }
        if self.wants_credentials {
            f.write_str(", and CERT_RELOADER__ADMIN__TOKEN_FILE, because it wants credentials")?;
        }
        Ok(())
    }
}

/// When it was looked for in this outage, and what was found.
#[derive(Debug, Default)]
pub(super) struct Search {
    looked: Option<Instant>,
    found: Option<Elsewhere>,
}

impl Search {
    fn is_due(&self) -> bool {
        self.found.is_none() && self.looked.is_none_or(|at| at.elapsed() >= LOOK_AGAIN)
    }
}

impl<W: Wire> Kong<W> {
    /// Takes what kept a pass from reading Kong, if anything did. Where that may come of a wrong
    /// address, looks for the right one: once an outage, or once a minute while there is none.
    /// Returns what was found just now.
    pub async fn look_elsewhere(&mut self, trouble: Option<&Failure>) -> Option<&Elsewhere> {
        let Some(trouble) = trouble else {
            self.search = Search::default();
            return None;
        };
        if !trouble.may_be_misdirected() || self.gate.is_closed() || !self.search.is_due() {
            return None;
        }
        self.search.looked = Some(Instant::now());
        self.search.found = self.wire.find_elsewhere().await;
        self.elsewhere()
    }

    /// What was found in this outage.
    #[must_use]
    pub const fn elsewhere(&self) -> Option<&Elsewhere> {
        self.search.found.as_ref()
    }
}

/// Addresses to be asked, the best first.
#[derive(Debug)]
pub(super) struct Candidates(Vec<Url>);

impl Candidates {
    /// Kong's default ports, where `configured` is. Never a way on which keys are less safe than on
    /// that one.
    pub(super) fn beside(configured: &AdminUrl) -> Self {
        let hosts = if configured.is_loopback() {
            [IpAddr::from(Ipv4Addr::LOCALHOST), Ipv6Addr::LOCALHOST.into()].map(Some).to_vec()
        } else {
            vec![None]
        };
        let is_safe =
            |scheme| scheme == "https" || configured.is_loopback() || !configured.is_https();
        let mut urls = Vec::new();
        for (scheme, port) in PORTS.into_iter().filter(|(scheme, _)| is_safe(*scheme)) {
            for host in &hosts {
                urls.extend(address(configured.as_url(), scheme, *host, port));
            }
        }
        urls.retain(|url| !is_same(url, configured.as_url()));
        Self(urls)
    }

    /// The first that answers as an Admin API; none if the `configured` one does now, because Kong
    /// may listen at several ports, and what went wrong was no fault of the address.
    pub(super) async fn ask(&self, configured: &impl Wire) -> Option<Elsewhere> {
        if self.0.is_empty() {
            return None;
        }
        let client = client()?;
        let others = join_all(self.0.iter().map(|url| ask(&client, url)));
        let (configured, others) = join(timeout(PATIENCE, configured.call(root())), others).await;
        let is_right = matches!(configured, Ok(Ok(answer)) if is_admin_api(&answer));
        others.into_iter().flatten().next().filter(|_| !is_right)
    }
}

fn address(like: &Url, scheme: &str, host: Option<IpAddr>, port: u16) -> Option<Url> {
    let mut url = like.clone();
    url.set_scheme(scheme).ok()?;
    if let Some(host) = host {
        url.set_ip_host(host).ok()?;
    }
    url.set_port(Some(port)).ok()?;
    url.set_path("/");
    Some(url)
}

/// Whether both lead to the same port; `localhost` to that of either address.
fn is_same(url: &Url, configured: &Url) -> bool {
    let host = configured.host_str();
    url.scheme() == configured.scheme()
        && url.port_or_known_default() == configured.port_or_known_default()
        && (url.host_str() == host || host == Some("localhost"))
}

/// Shows nothing of ours, and takes any certificate: nothing but a question is sent.
fn client() -> Option<Client> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let tls = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .ok()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)))
        .with_no_client_auth();
    Client::builder()
        .no_proxy()
        .redirect(Policy::none())
        .http1_only()
        .timeout(PATIENCE)
        .tls_backend_preconfigured(tls)
        .build()
        .ok()
}

fn is_admin_api(answer: &Answer) -> bool {
    answer.status == 200 && parse::<Root>(answer).is_ok()
}

async fn ask(client: &Client, url: &Url) -> Option<Elsewhere> {
    let response = client.get(url.clone()).send().await.ok()?;
    let server = response.headers().get(SERVER);
    let is_kong = server.is_some_and(|server| server.as_bytes().starts_with(b"kong/"));
    let answer = collect(response, OBJECT_LIMIT, Keep::Body).await.ok()?;
    let wants_credentials = is_kong && matches!(answer.status, 401 | 403);
    let url = url.as_str().trim_end_matches('/').to_owned();
    (wants_credentials || is_admin_api(&answer)).then_some(Elsewhere { url, wants_credentials })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use serde_json::json;
    use testkit::kong_model::Answer as Said;
    use testkit::{Fault, KongStandIn, Pki, TlsFront};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::{TcpListener, TcpSocket};

    use super::super::{AdminClient, Call, Lost};
    use super::*;
    use crate::metrics::Metrics;
    use crate::settings::{Admin, Credential};

    /// Where nobody listens, and nobody else will.
    struct Nowhere(TcpSocket);

    impl Nowhere {
        fn new() -> Self {
            let socket = TcpSocket::new_v4().unwrap();
            socket.bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
            Self(socket)
        }

        fn url(&self) -> String {
            format!("http://{}", self.0.local_addr().unwrap())
        }
    }

    /// What is found at `urls` while nothing answers at the configured address.
    async fn found_at(urls: &[&str]) -> Option<Elsewhere> {
        let nowhere = Nowhere::new();
        found_beside(&nowhere.url(), urls).await
    }

    async fn found_beside(configured: &str, urls: &[&str]) -> Option<Elsewhere> {
        let admin = Admin { insecure_skip_verify: true, ..Admin::default() };
        let mut client = AdminClient::new(&admin, &configured.parse().unwrap());
        client.elsewhere = candidates(urls);
        client.find_elsewhere().await
    }

    fn candidates(urls: &[&str]) -> Candidates {
        Candidates(urls.iter().map(|url| url.parse().unwrap()).collect())
    }

    fn at(url: &str) -> Elsewhere {
        Elsewhere { url: url.to_owned(), wants_credentials: false }
    }

    #[test]
    fn the_usual_ports_are_asked_but_for_the_one_that_is_configured() {
        let (plain, plain6) = ("http://127.0.0.1:8001/", "http://[::1]:8001/");
        let (tls, tls6) = ("https://127.0.0.1:8444/", "https://[::1]:8444/");
        let cases: [(&str, &[&str]); 9] = [
            ("http://127.0.0.1:9001", &[plain, plain6, tls, tls6]),
            ("http://127.0.0.1:8001", &[plain6, tls, tls6]),
            ("http://127.0.0.1:8444/admin", &[plain, plain6, tls, tls6]),
            ("http://localhost:8001", &[tls, tls6]),
            ("https://[::1]:8444", &[plain, plain6, tls]),
            ("http://kong-admin", &["http://kong-admin:8001/", "https://kong-admin:8444/"]),
            ("http://kong-admin:8001/a", &["https://kong-admin:8444/"]),
            ("https://10.0.0.9/admin", &["https://10.0.0.9:8444/"]),
            ("https://kong-admin:8444", &[]),
        ];
        for (configured, expected) in cases {
            let found = Candidates::beside(&configured.parse().unwrap());
            let found: Vec<&str> = found.0.iter().map(Url::as_str).collect();
            assert_eq!(found, expected, "{configured}");
        }
    }

    #[tokio::test]
    async fn the_first_that_answers_as_an_admin_api_is_found() {
        let mut kong = KongStandIn::start().await;
        let front = TlsFront::start(kong.admin_addr(), &Pki::new().pair(&["kong.test"])).await;
        let (plain, tls) = (kong.admin_url(), front.url("127.0.0.1"));
        let proxy = format!("https://{}", kong.proxy_addr());
        let urls = [proxy.as_str(), tls.as_str(), plain.as_str()];
        assert_eq!(found_at(&urls).await, Some(at(&tls)));
        let said = at(&tls).to_string();
        assert!(said.contains(&tls) && said.contains("ADMIN__CA_FILE"), "{said}");
        assert_eq!(found_at(&[&plain]).await, Some(at(&plain)));
        let said = at(&plain).to_string();
        assert!(said.contains(&plain) && !said.contains("ADMIN__CA_FILE"), "{said}");
        // One that is configured and answers is not the wrong one.
        assert_eq!(found_beside(&plain, &[&tls]).await, None);
        assert_eq!(found_beside(&proxy, &[&tls]).await, Some(at(&tls)));
        kong.stop().await;
        assert_eq!(found_at(&urls).await, None);
    }

    #[tokio::test]
    async fn what_is_no_admin_api_is_not_found() {
        let kong = KongStandIn::start().await;
        let url = kong.admin_url();
        let mut stranger = Said::message(401, "who are you");
        stranger.headers.retain(|(name, _)| name != "server");
        let others = [
            Fault::html(),
            Fault::nothing(),
            Fault::huge(),
            Fault::other_json(&json!({"version": "1"})),
            Fault::redirect(&url),
            Fault::status(500),
            Fault::instead(stranger),
        ];
        for other in others {
            kong.inject(other.clone());
            assert_eq!(found_at(&[&url]).await, None, "{other:?}");
        }
        assert_eq!(found_at(&[&url]).await, Some(at(&url)));
    }

    #[tokio::test]
    async fn one_that_wants_credentials_is_told_and_gets_none_of_ours() {
        let port = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", port.local_addr().unwrap());
        let nowhere = Nowhere::new();
        let admin = Admin {
            token: Some(Credential::Value("t0ken".parse().unwrap())),
            headers: vec![("x-api-key".to_owned(), "k3y".parse().unwrap())],
            ..Admin::default()
        };
        let mut client = AdminClient::new(&admin, &nowhere.url().parse().unwrap());
        client.elsewhere = candidates(&[&url]);
        let mut kong = Kong::new(client, &admin, Metrics::default());
        let asked = async {
            let (mut stream, _) = port.accept().await.unwrap();
            let mut asked = Vec::new();
            while !asked.ends_with(b"\r\n\r\n") {
                asked.push(stream.read_u8().await.unwrap());
            }
            let answer = "HTTP/1.1 401 x\r\nServer: kong/3.9.3\r\nContent-Length: 0\r\n\r\n";
            stream.write_all(answer.as_bytes()).await.unwrap();
            String::from_utf8(asked).unwrap()
        };
        let trouble = Failure::from(Lost::Timeout);
        let (found, asked) = tokio::join!(kong.look_elsewhere(Some(&trouble)), asked);
        let found = found.unwrap();
        assert_eq!(*found, Elsewhere { url, wants_credentials: true });
        assert!(found.to_string().contains("ADMIN__TOKEN_FILE"), "{found}");
        assert!(asked.starts_with("GET / HTTP/1.1\r\n"), "{asked}");
        assert!(!asked.contains("t0ken") && !asked.contains("k3y"), "{asked}");
    }

    /// Finds what it is made of.
    struct Finds(Elsewhere);

    impl Wire for Finds {
        async fn call(&self, _: Call) -> Result<Answer, Lost> {
            Err(Lost::Timeout)
        }

        async fn find_elsewhere(&self) -> Option<Elsewhere> {
            Some(self.0.clone())
        }
    }

    #[tokio::test]
    async fn nothing_is_looked_for_once_the_gate_is_closed() {
        let found = at("http://127.0.0.1:9001");
        let trouble = Failure::from(Lost::Timeout);
        for is_closed in [false, true] {
            let mut kong = Kong::new(Finds(found.clone()), &Admin::default(), Metrics::default());
            if is_closed {
                kong.gate().close();
            }
            let expected = (!is_closed).then_some(&found);
            assert_eq!(kong.look_elsewhere(Some(&trouble)).await, expected);
        }
    }

    #[tokio::test]
    async fn ports_that_never_answer_are_not_waited_for_one_after_the_other() {
        let mut silent = Vec::new();
        for _ in 0..8 {
            silent.push(TcpListener::bind("127.0.0.1:0").await.unwrap());
        }
        let urls: Vec<String> = silent
            .iter()
            .zip(["http", "https"].into_iter().cycle())
            .map(|(port, scheme)| format!("{scheme}://{}/", port.local_addr().unwrap()))
            .collect();
        let urls: Vec<&str> = urls.iter().map(String::as_str).collect();
        let began = Instant::now();
        assert_eq!(found_at(&urls).await, None);
        assert!(began.elapsed() < PATIENCE * 3, "{:?}", began.elapsed());
    }
}
