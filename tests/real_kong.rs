//! The scenarios of `end_to_end/` against real Kongs, by `cargo test --test real_kong -- --ignored`;
//! with `on_a_database`, `without_a_database`, `by_signal` or `with_declarative_config` before the
//! `--`, those alone.
//!
//! Where the Kongs are is told by variables, for each kind of Kong its own:
//!
//! - `KONG_ADMIN_URL` is `http://host:port` of the Admin API of a Kong on a database, which must take
//!   requests without credentials; `KONG_PROXY_TLS` is `host:port` of its TLS proxy port.
//! - `KONG_DBLESS_ADMIN_URL` and `KONG_DBLESS_PROXY_TLS` are those of a Kong without a database. It
//!   runs other configurations meanwhile.
//! - `KONG_PID_FILE` is the `nginx.pid` of one of these (of the second, if both are told), and
//!   `KONG_SSL_CERT` and `KONG_SSL_CERT_KEY` are the files that it serves to clients without SNI: all
//!   as they are seen from here. Its processes must be seen and signalled from here too. With
//!   `declarative_config` a Kong without a database forgets at a reload what was posted.
//!
//! Nothing stays behind there.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test may panic, and is told here where Kong is"
)]

#[path = "end_to_end/cleaning.rs"]
mod cleaning;
#[path = "end_to_end/dbless.rs"]
mod dbless;
#[path = "end_to_end/reload.rs"]
mod reload;
#[path = "end_to_end/scenarios.rs"]
mod scenarios;
#[path = "end_to_end/stage.rs"]
mod stage;
#[path = "end_to_end/target.rs"]
mod target;

use std::net::{IpAddr, SocketAddr, ToSocketAddrs as _};
use std::path::PathBuf;
use std::time::Duration;

use reload::Signalled;
use target::{Place, Target};
use testkit::Request;
use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tokio::time::timeout;

mod on_a_database {
    use super::{DATABASE, real_kong, scenarios};

    macro_rules! against_a_real_kong {
        ($scenario:ident) => {
            #[tokio::test]
            #[ignore = "needs KONG_ADMIN_URL and KONG_PROXY_TLS"]
            async fn $scenario() {
                super::cleaning::play(real_kong(&DATABASE).await, scenarios::$scenario).await;
            }
        };
    }
    scenarios::for_each_scenario!(against_a_real_kong);
}

mod without_a_database {
    use super::{ALONE, DBLESS, dbless, real_kong};

    macro_rules! against_a_real_kong {
        ($scenario:ident) => {
            #[tokio::test]
            #[ignore = "needs KONG_DBLESS_ADMIN_URL and KONG_DBLESS_PROXY_TLS"]
            async fn $scenario() {
                let _alone = ALONE.lock().await;
                dbless::play_alone(real_kong(&DBLESS).await, dbless::$scenario).await;
            }
        };
    }
    dbless::for_each_dbless_scenario!(against_a_real_kong);
}

mod by_signal {
    use super::{ALONE, real_nginx, reload};

    macro_rules! against_a_real_kong {
        ($scenario:ident) => {
            #[tokio::test]
            #[ignore = "needs KONG_PID_FILE, KONG_SSL_CERT, KONG_SSL_CERT_KEY and a TLS proxy port"]
            async fn $scenario() {
                let _alone = ALONE.lock().await;
                reload::play_and_put_back(real_nginx().await, reload::$scenario).await;
            }
        };
    }
    reload::for_each_reload_scenario!(against_a_real_kong);
}

mod with_declarative_config {
    use testkit::Pki;

    use super::stage::Stage;
    use super::{ALONE, DBLESS, Signalled, dbless, real_kong, real_nginx, reload};

    macro_rules! against_a_real_kong {
        ($scenario:ident) => {
            #[tokio::test]
            #[ignore = "needs all variables of a Kong without a database, with declarative_config"]
            async fn $scenario() {
                let _alone = ALONE.lock().await;
                let kong = real_kong(&DBLESS).await;
                let scenario = async |nginx: &Signalled, _: &Pki| {
                    let scenario = async |stage: &Stage| reload::$scenario(nginx, stage).await;
                    dbless::play_alone(kong, scenario).await;
                };
                reload::play_and_put_back(real_nginx().await, scenario).await;
            }
        };
    }
    reload::for_each_forgetful_scenario!(against_a_real_kong);
}

/// A Kong without a database has one configuration for all tests, and one pair of files.
static ALONE: Mutex<()> = Mutex::const_new(());

/// A kind of Kong, and the variables that tell where one is.
struct Variables {
    admin: &'static str,
    proxy: &'static str,
    kong: &'static str,
    has_database: bool,
}

const DATABASE: Variables = Variables {
    admin: "KONG_ADMIN_URL",
    proxy: "KONG_PROXY_TLS",
    kong: "a Kong on a database",
    has_database: true,
};
const DBLESS: Variables = Variables {
    admin: "KONG_DBLESS_ADMIN_URL",
    proxy: "KONG_DBLESS_PROXY_TLS",
    kong: "a Kong for tests without a database",
    has_database: false,
};
const PID_FILE: &str = "KONG_PID_FILE";
const CERT: &str = "KONG_SSL_CERT";
const KEY: &str = "KONG_SSL_CERT_KEY";

fn told(variable: &str) -> Option<String> {
    std::env::var(variable).ok()
}

fn or_tell<T>(found: Result<T, String>) -> T {
    found.unwrap_or_else(|mistake| panic!("{mistake}"))
}

/// The Kong that the environment tells.
async fn real_kong(variables: &Variables) -> Target {
    let (admin, proxy) = or_tell(ends(variables, told));
    let mut settings =
        vec![("ADMIN__URL", format!("http://{}", admin.0)), ("PROXY__ADDRESS", proxy.0.clone())];
    if !admin.is_loopback() {
        settings.push(("ADMIN__ALLOW_INSECURE", "true".to_owned()));
    }
    let (admin, proxy) =
        (admin.reached(variables.admin).await, proxy.reached(variables.proxy).await);
    let kong = Target::new(Place { admin, proxy, settings });
    let root = kong.ask(&Request::new("GET", "/")).await.value();
    let has_database = root["configuration"]["database"] != "off";
    assert_eq!(
        has_database, variables.has_database,
        "{} is not {}",
        variables.admin, variables.kong
    );
    kong
}

/// The nginx that the environment tells.
async fn real_nginx() -> Signalled {
    let ([pid_file, cert, key], variable, proxy) = or_tell(signalled(told));
    for (variable, path) in [(PID_FILE, &pid_file), (CERT, &cert), (KEY, &key)] {
        let opened = std::fs::OpenOptions::new().read(true).write(variable != PID_FILE).open(path);
        opened.unwrap_or_else(|error| panic!("{variable}={}: {error}", path.display()));
    }
    Signalled { proxy: proxy.reached(variable).await, pid_file, cert, key }
}

/// A `host:port`.
#[derive(Debug, PartialEq, Eq)]
struct End(String);

/// Admin API and TLS proxy port, or what to set.
fn ends(
    variables: &Variables,
    told: impl Fn(&str) -> Option<String>,
) -> Result<(End, End), String> {
    let Variables { admin, proxy, kong, .. } = *variables;
    let url = told(admin).unwrap_or_default();
    let rest = url.strip_prefix("http://").unwrap_or_default();
    let end = End::parse(rest.strip_suffix('/').unwrap_or(rest)).ok_or(format!(
        "set {admin} to http://HOST:PORT of {kong}: http, without credentials and path"
    ))?;
    let proxy_end = End::parse(&told(proxy).unwrap_or_default());
    let proxy_end =
        proxy_end.ok_or(format!("set {proxy} to HOST:PORT of that Kong's TLS proxy"))?;
    Ok((end, proxy_end))
}

/// The process id's file, chain and key; the TLS proxy port and its variable; or what to set.
fn signalled(
    told: impl Fn(&str) -> Option<String>,
) -> Result<([PathBuf; 3], &'static str, End), String> {
    let path = |variable, what| {
        let path = told(variable).map(PathBuf::from).filter(|path| path.is_absolute());
        path.ok_or(format!("set {variable} to the absolute path, as seen from here, of {what}"))
    };
    let paths = [
        path(PID_FILE, "the nginx.pid of a Kong for tests")?,
        path(CERT, "the file that is its ssl_cert, and can be written")?,
        path(KEY, "the file that is its ssl_cert_key, and can be written")?,
    ];
    let proxies = [DBLESS.proxy, DATABASE.proxy];
    let variable = proxies.into_iter().find(|variable| told(variable).is_some());
    let proxy = variable.and_then(|variable| Some((variable, End::parse(&told(variable)?)?)));
    let [one, other] = proxies;
    let (variable, proxy) =
        proxy.ok_or(format!("set {one} or {other} to HOST:PORT of that Kong's TLS proxy"))?;
    Ok((paths, variable, proxy))
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

/// An environment of these, and nothing else.
fn environment<'a>(all: &'a [(&str, Option<&str>)]) -> impl Fn(&str) -> Option<String> + 'a {
    move |variable| all.iter().find(|(name, _)| *name == variable)?.1.map(str::to_owned)
}

#[test]
fn what_is_not_set_or_wrong_is_told_with_what_to_set() {
    for variables in [DATABASE, DBLESS] {
        let Variables { admin, proxy, .. } = variables;
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
            let told = [(admin, wrong), (proxy, Some("127.0.0.1:8443"))];
            let mistake = ends(&variables, environment(&told)).unwrap_err();
            assert!(mistake.starts_with(&format!("set {admin} to http://HOST:PORT")), "{mistake}");
            assert!(!mistake.contains("secret"), "{mistake}");
        }
        for wrong in [None, Some(""), Some("kong"), Some("https://kong:8443"), Some("kong:99999")] {
            let told = [(admin, Some("http://127.0.0.1:8001")), (proxy, wrong)];
            let mistake = ends(&variables, environment(&told)).unwrap_err();
            assert!(mistake.starts_with(&format!("set {proxy} to HOST:PORT")), "{mistake}");
        }
    }
}

#[test]
fn what_is_missing_for_a_signal_is_told_with_what_to_set() {
    let right = [
        (PID_FILE, Some("/kong/pids/nginx.pid")),
        (CERT, Some("/kong/tls.crt")),
        (KEY, Some("/kong/tls.key")),
        (DATABASE.proxy, Some("127.0.0.1:8443")),
    ];
    for wrong in [PID_FILE, CERT, KEY] {
        for value in [None, Some(""), Some("pids/nginx.pid")] {
            let told = right.map(|(name, right)| (name, if name == wrong { value } else { right }));
            let mistake = signalled(environment(&told)).unwrap_err();
            assert!(mistake.starts_with(&format!("set {wrong} to the absolute path")), "{mistake}");
        }
    }
    for value in [None, Some(""), Some("kong")] {
        let mistake = signalled(environment(&[&right[..3], &[(DATABASE.proxy, value)]].concat()));
        let expected = "set KONG_DBLESS_PROXY_TLS or KONG_PROXY_TLS to HOST:PORT";
        assert!(mistake.as_ref().unwrap_err().starts_with(expected), "{mistake:?}");
    }
}

#[test]
fn of_two_kongs_the_one_without_a_database_is_signalled() {
    let both = [
        (PID_FILE, Some("/kong/pids/nginx.pid")),
        (CERT, Some("/kong/tls.crt")),
        (KEY, Some("/kong/tls.key")),
        (DATABASE.proxy, Some("127.0.0.1:8443")),
        (DBLESS.proxy, Some("127.0.0.1:9443")),
    ];
    let (_, variable, proxy) = signalled(environment(&both)).unwrap();
    assert_eq!((variable, proxy), (DBLESS.proxy, End("127.0.0.1:9443".to_owned())));
    let (_, variable, proxy) = signalled(environment(&both[..4])).unwrap();
    assert_eq!((variable, proxy), (DATABASE.proxy, End("127.0.0.1:8443".to_owned())));
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
        let told = [(DATABASE.admin, Some(url)), (DATABASE.proxy, Some("kong:8443"))];
        let (admin, _) = ends(&DATABASE, environment(&told)).unwrap();
        assert_eq!(admin.is_loopback(), is_loopback, "{url}");
    }
}
