//! The scenarios of `end_to_end/scenarios.rs` against a real Kong on a database, by
//! `cargo test --test real_kong -- --ignored`.
//!
//! `KONG_ADMIN_URL` is `http://host:port` of its Admin API, which must take requests without
//! credentials; `KONG_PROXY_TLS` is `host:port` of its TLS proxy port. Nothing stays behind there.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test may panic, and is told here where Kong is"
)]

#[path = "end_to_end/cleaning.rs"]
mod cleaning;
#[path = "end_to_end/scenarios.rs"]
mod scenarios;
#[path = "end_to_end/stage.rs"]
mod stage;
#[path = "end_to_end/target.rs"]
mod target;

use std::net::{IpAddr, SocketAddr, ToSocketAddrs as _};
use std::time::Duration;

use cleaning::play;
use target::{Place, Target};
use tokio::net::TcpStream;
use tokio::time::timeout;

macro_rules! against_a_real_kong {
    ($scenario:ident) => {
        #[tokio::test]
        #[ignore = "needs KONG_ADMIN_URL and KONG_PROXY_TLS"]
        async fn $scenario() {
            play(Target::new(real_kong().await), scenarios::$scenario).await;
        }
    };
}
scenarios::for_each_scenario!(against_a_real_kong);

const ADMIN_URL: &str = "KONG_ADMIN_URL";
const PROXY_TLS: &str = "KONG_PROXY_TLS";

/// The Kong that the environment tells.
async fn real_kong() -> Place {
    let told = |variable| std::env::var(variable).ok();
    let (admin, proxy) = ends(told(ADMIN_URL).as_deref(), told(PROXY_TLS).as_deref())
        .unwrap_or_else(|mistake| panic!("{mistake}"));
    let mut settings =
        vec![("ADMIN__URL", format!("http://{}", admin.0)), ("PROXY__ADDRESS", proxy.0.clone())];
    if !admin.is_loopback() {
        settings.push(("ADMIN__ALLOW_INSECURE", "true".to_owned()));
    }
    Place { admin: admin.reached(ADMIN_URL).await, proxy: proxy.reached(PROXY_TLS).await, settings }
}

/// A `host:port`.
#[derive(Debug, PartialEq, Eq)]
struct End(String);

/// Admin API and TLS proxy port, or what to set.
fn ends(admin: Option<&str>, proxy: Option<&str>) -> Result<(End, End), String> {
    let admin = admin.and_then(|url| url.strip_prefix("http://"));
    let admin = admin.and_then(|rest| End::parse(rest.strip_suffix('/').unwrap_or(rest)));
    let admin = admin.ok_or(format!(
        "set {ADMIN_URL} to http://HOST:PORT of a Kong on a database: http, without credentials and path"
    ))?;
    let proxy = proxy.and_then(End::parse);
    let proxy = proxy.ok_or(format!("set {PROXY_TLS} to HOST:PORT of that Kong's TLS proxy"))?;
    Ok((admin, proxy))
}

impl End {
    fn parse(text: &str) -> Option<Self> {
        let (host, port) = text.rsplit_once(':')?;
        let is_port = port.parse::<u16>().is_ok_and(|port| port > 0);
        let is_host = !host.is_empty() && !host.contains(['@', '/', '?', '#', ' ']);
        (is_port && is_host).then(|| Self(text.to_owned()))
    }

    /// As the program sees it.
    fn is_loopback(&self) -> bool {
        let host = self.0.rsplit_once(':').map_or("", |(host, _)| host);
        let address = host.trim_matches(['[', ']']).parse();
        host == "localhost" || address.is_ok_and(|address: IpAddr| address.is_loopback())
    }

    /// The first of its addresses that takes connections.
    async fn reached(&self, variable: &str) -> SocketAddr {
        let addresses = self.0.to_socket_addrs();
        let addresses = addresses.unwrap_or_else(|error| panic!("{variable}={}: {error}", self.0));
        for address in addresses {
            let connected = timeout(Duration::from_secs(5), TcpStream::connect(address)).await;
            if matches!(connected, Ok(Ok(_))) {
                return address;
            }
        }
        panic!("nobody listens at {variable}={}", self.0);
    }
}

#[test]
fn what_is_not_set_or_wrong_is_told_with_what_to_set() {
    let proxy = Some("127.0.0.1:8443");
    for wrong in [
        None,
        Some(""),
        Some("127.0.0.1:8001"),
        Some("http://kong"),
        Some("http://kong:0"),
        Some("http://:8001"),
        Some("https://kong:8444"),
        Some("http://admin:secret@kong:8001"),
        Some("http://kong:8001/admin"),
        Some("http://kong:8001?x"),
    ] {
        let mistake = ends(wrong, proxy).unwrap_err();
        assert!(mistake.starts_with("set KONG_ADMIN_URL to http://HOST:PORT"), "{mistake}");
        assert!(!mistake.contains("secret"), "{mistake}");
    }
    let admin = Some("http://127.0.0.1:8001");
    for wrong in [None, Some(""), Some("kong"), Some("https://kong:8443"), Some("kong:99999")] {
        let mistake = ends(admin, wrong).unwrap_err();
        assert!(mistake.starts_with("set KONG_PROXY_TLS to HOST:PORT"), "{mistake}");
    }
}

#[test]
fn only_other_hosts_than_this_one_need_leave_for_plain_http() {
    for (url, is_loopback) in [
        ("http://127.0.0.1:8001", true),
        ("http://127.9.9.9:8001/", true),
        ("http://localhost:8001", true),
        ("http://[::1]:8001", true),
        ("http://kong:8001", false),
        ("http://10.0.0.1:8001", false),
        ("http://[fe80::1]:8001", false),
    ] {
        let (admin, _) = ends(Some(url), Some("kong:8443")).unwrap();
        assert_eq!(admin.is_loopback(), is_loopback, "{url}");
    }
}
