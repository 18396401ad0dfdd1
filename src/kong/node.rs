//! What kind of Kong answers, and what it says of itself: `GET /` and `GET /status`.

use std::net::IpAddr;
use std::time::Duration;

use serde::Deserialize;
use serde::de::IgnoredAny;

use super::{Call, Failure, Kong, Method, Wire, parse};
use crate::quote::Quoted;
use crate::settings::AdminMode;

/// What a node says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Where it keeps its configuration.
    pub mode: Mode,
    /// Its version, if it tells.
    pub version: Option<Quoted>,
    /// The ports of its proxy that have TLS, in its order.
    pub tls_listeners: Vec<Listener>,
    /// Within this time every node of the cluster has heard of a change.
    pub spread: Duration,
    /// The process id of its nginx's master.
    pub master: Option<u32>,
    /// Whether it said all this itself.
    pub was_asked: bool,
}

impl Node {
    /// A Kong that cannot be asked.
    pub(crate) const fn unknown() -> Self {
        Self::assumed(Mode::Database)
    }

    /// A Kong that is not asked, with Kong's defaults.
    const fn assumed(mode: Mode) -> Self {
        let tls_listeners = Vec::new();
        Self { mode, version: None, tls_listeners, spread: SPREAD, master: None, was_asked: false }
    }
}

/// A TLS port of Kong's proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listener {
    /// The address, which may be a wildcard.
    pub ip: IpAddr,
    /// The port.
    pub port: u16,
    /// The PROXY protocol comes first.
    pub proxy_protocol: bool,
}

/// Kong's default: `db_update_frequency` 5, `db_update_propagation` 0.
const SPREAD: Duration = Duration::from_secs(5);
/// A longer one is cut: nobody waits for it.
const LONGEST_SPREAD: Duration = Duration::from_secs(60 * 60);

/// Where a Kong keeps its configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// In a database.
    Database,
    /// In a database, for data planes.
    ControlPlane,
    /// In memory.
    Dbless,
}

impl Mode {
    /// The word, as it stands in `/status`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Database => "database",
            Self::ControlPlane => "control_plane",
            Self::Dbless => "dbless",
        }
    }
}

impl<W: Wire> Kong<W> {
    /// Finds out the mode, unless it is known or configured. That a Kong cannot be fed is asked for
    /// each time: it may have been started anew with a database.
    ///
    /// # Errors
    ///
    /// If the node cannot be asked (`GET /` is 500 while its database is down); then nothing is
    /// known, and it is asked again at the next call.
    pub async fn meet(&mut self) -> Result<&Node, Failure> {
        if self.is_node_doubted || self.node.is_none() {
            let asked = match self.mode {
                AdminMode::Database => Ok(Node::assumed(Mode::Database)),
                AdminMode::ControlPlane => Ok(Node::assumed(Mode::ControlPlane)),
                AdminMode::Dbless => Ok(Node::assumed(Mode::Dbless)),
                AdminMode::Auto => self.ask_node().await,
            };
            match asked {
                Ok(node) => self.node = Some(node),
                Err(failure) if self.node.is_none() => return Err(failure),
                // What was known counts.
                Err(_) => {}
            }
            self.is_node_doubted = false;
        }
        self.node.as_ref().ok_or(Failure::NotSent)
    }

    async fn ask_node(&self) -> Result<Node, Failure> {
        let answer = self.ask(root()).await?;
        let root: Root = parse(&answer)?;
        let Configuration { database, role, .. } = &root.configuration;
        let mode = match (database.as_str(), role.as_deref()) {
            ("off", _) => Mode::Dbless,
            (_, Some("control_plane")) => Mode::ControlPlane,
            _ => Mode::Database,
        };
        Ok(Node {
            mode,
            version: root.version.as_deref().map(Quoted::new),
            tls_listeners: root.configuration.tls_listeners(),
            spread: root.configuration.spread(),
            master: root.pids.and_then(|pids| pids.master),
            was_asked: true,
        })
    }

    /// Whether Kong reaches its database; without it names that are not cached get the default
    /// certificate.
    ///
    /// # Errors
    ///
    /// If it does not say.
    pub async fn is_database_reachable(&self) -> Result<bool, Failure> {
        let path = "/status".to_owned();
        let call = Call::new(Method::Get, path, None);
        let answer = self.ask(call).await?;
        let status: NodeStatus = parse(&answer)?;
        Ok(status.database.reachable)
    }
}

/// Asks a node what it is.
pub(super) fn root() -> Call {
    Call::new(Method::Get, "/", None)
}

/// What it answers.
#[derive(Deserialize)]
pub(super) struct Root {
    version: Option<String>,
    configuration: Configuration,
    pids: Option<Pids>,
}

#[derive(Deserialize)]
struct Pids {
    master: Option<u32>,
}

#[derive(Deserialize)]
struct Configuration {
    database: String,
    role: Option<String>,
    proxy_listeners: Option<Listeners>,
    db_update_frequency: Option<f64>,
    db_update_propagation: Option<f64>,
}

impl Configuration {
    fn tls_listeners(&self) -> Vec<Listener> {
        match &self.proxy_listeners {
            Some(Listeners::Some(listeners)) => {
                listeners.iter().filter_map(ProxyListener::with_tls).collect()
            }
            Some(Listeners::None(_)) | None => Vec::new(),
        }
    }

    fn spread(&self) -> Duration {
        let Some(frequency) = self.db_update_frequency else { return SPREAD };
        let seconds = frequency + self.db_update_propagation.unwrap_or_default();
        Duration::try_from_secs_f64(seconds).map_or(SPREAD, |spread| spread.min(LONGEST_SPREAD))
    }
}

/// Kong writes an empty list as `{}`.
#[derive(Deserialize)]
#[serde(untagged)]
enum Listeners {
    Some(Vec<ProxyListener>),
    None(IgnoredAny),
}

#[derive(Deserialize)]
struct ProxyListener {
    ip: Option<String>,
    port: Option<u16>,
    #[serde(default)]
    ssl: bool,
    #[serde(default)]
    proxy_protocol: bool,
}

impl ProxyListener {
    /// `None` for plain ports and Unix sockets.
    fn with_tls(&self) -> Option<Listener> {
        let ip = self.ip.as_deref()?.trim_matches(['[', ']']).parse().ok()?;
        let listener = Listener { ip, port: self.port?, proxy_protocol: self.proxy_protocol };
        self.ssl.then_some(listener)
    }
}

#[derive(Deserialize)]
struct NodeStatus {
    database: DatabaseStatus,
}

#[derive(Deserialize)]
struct DatabaseStatus {
    reachable: bool,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use serde_json::json;

    use super::super::{Answer, Lost};
    use super::*;
    use crate::metrics::Metrics;
    use crate::settings::Admin;

    /// Must not be asked.
    struct Silent;

    impl Wire for Silent {
        async fn call(&self, call: Call) -> Result<Answer, Lost> {
            panic!("{} is asked for", call.path)
        }
    }

    #[tokio::test]
    async fn a_mode_that_is_configured_is_not_asked_for() {
        for (mode, node) in [
            (AdminMode::Database, Mode::Database),
            (AdminMode::ControlPlane, Mode::ControlPlane),
            (AdminMode::Dbless, Mode::Dbless),
        ] {
            let admin = Admin { mode, ..Admin::default() };
            let mut kong = Kong::new(Silent, &admin, Metrics::default());
            assert_eq!(kong.meet().await.unwrap(), &Node::assumed(node));
        }
    }

    fn configuration(more: &serde_json::Value) -> Configuration {
        let mut all = json!({"database": "postgres"});
        all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        serde_json::from_value(all).unwrap()
    }

    #[test]
    fn the_listeners_with_tls_are_kept_in_their_order() {
        let listener = |ip: &str, port: u16, ssl: bool, proxy_protocol: bool| json!({"ip": ip, "port": port, "ssl": ssl, "proxy_protocol": proxy_protocol});
        let told = json!({"proxy_listeners": [
            listener("0.0.0.0", 8000, false, false),
            json!({"ip": "unix:/run/kong.sock", "ssl": true}),
            listener("[::]", 8443, true, true),
            listener("10.0.0.7", 9443, true, false),
        ]});
        let kept = configuration(&told).tls_listeners();
        let shown =
            kept.iter().map(|kept| format!("{} {} {}", kept.ip, kept.port, kept.proxy_protocol));
        assert_eq!(shown.collect::<Vec<_>>(), [":: 8443 true", "10.0.0.7 9443 false"]);
        for none in [json!({}), json!({"proxy_listeners": {}}), json!({"proxy_listeners": null})] {
            assert_eq!(configuration(&none).tls_listeners(), []);
        }
    }

    #[test]
    fn a_change_is_spread_within_what_kong_says() {
        let spread = |frequency, propagation| {
            let told = json!({
                "db_update_frequency": frequency, "db_update_propagation": propagation
            });
            configuration(&told).spread()
        };
        assert_eq!(spread(json!(2.5), json!(1)), Duration::from_millis(3500));
        assert_eq!(spread(json!(5), json!(null)), Duration::from_secs(5));
        assert_eq!(spread(json!(null), json!(9)), SPREAD);
        assert_eq!(spread(json!(-1), json!(0)), SPREAD);
        assert_eq!(spread(json!(1e300), json!(0)), SPREAD);
        assert_eq!(spread(json!(1e6), json!(0)), LONGEST_SPREAD);
    }
}
