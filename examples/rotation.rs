//! The main job on an embedded Kong: a mounted pair changes, and Kong serves it.
//!
//! `cargo run --example rotation`. With `KONG_ADMIN_URL=http://host:port` and
//! `KONG_PROXY_TLS=host:port` it does the same to a real Kong, and removes what it made there.
#![expect(clippy::print_stdout, reason = "the timeline is what this program is for")]
#![expect(clippy::disallowed_methods, reason = "an example's settings, and its wall clock")]

use std::collections::BTreeSet;
use std::error::Error;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use kong_cert_reloader::clock::{Clock, Timestamp};
use kong_cert_reloader::kong::{AdminClient, Kong};
use kong_cert_reloader::metrics::Metrics;
use kong_cert_reloader::nginx::Nginx;
use kong_cert_reloader::proof::ProxyClient;
use kong_cert_reloader::settings::Settings;
use kong_cert_reloader::sidecar::{self, Parts};
use kong_cert_reloader::status::{BindingStatus, State, Status};
use kong_cert_reloader::volume::Mounted;
use kong_cert_reloader::watch::{Wakes, Watch, kernel};
use testkit::http_client::exchange;
use testkit::{CertifiedPair, KongStandIn, Pki, Request, SecretVolume, TlsClient};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{sleep, timeout};

const BINDING: &str = "web";
const NAME: &str = "rotation.example.test";
/// A real Kong on a busy machine is slower than the embedded one, but not by this much.
const PATIENCE: Duration = Duration::from_secs(30);
const HOUR: i64 = 3600;

type Outcome<T> = Result<T, Box<dyn Error>>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Outcome<()> {
    let mut stage = Stage::set().await?;
    let pki = Pki::at(Timestamp::from(SystemTime::now()).0);
    let ca = pki.intermediate("Example Issuing CA");
    let issue = |hours_ago: i64| {
        let from = Timestamp::from(SystemTime::now()).0 - hours_ago * HOUR;
        pki.leaf(&[NAME]).issuer(&ca).not_before(from).not_after(from + 90 * 24 * HOUR).issue()
    };

    stage.scene("The first certificate is mounted.");
    let first = issue(9);
    stage.swap_and_watch(&first).await?;

    stage.scene("cert-manager renews it; kubelet swaps the volume.");
    let renewed = issue(6);
    stage.swap_and_watch(&renewed).await?;

    stage.scene("A hand-made Secret holds a key that belongs to another certificate.");
    stage.publish(&issue(5).chain_pem(), &issue(5).key_pem());
    stage.until("decided", |binding| binding.state == State::Invalid).await?;
    stage.still_serves(&renewed).await?;

    stage.scene("The same leaf, but its issuer was renewed: the chain is another.");
    let chain = format!("{}{}", renewed.leaf_pem(), ca.reissued().pem());
    stage.publish(&chain, &renewed.key_pem());
    stage.until("proven", |binding| binding.state == State::InSync).await?;
    stage.serves_chain_other_than(&renewed).await?;

    if stage.embedded.is_some() {
        stage.scene("Kong is down while the certificate is renewed, twice.");
        stage.kong_goes_down().await;
        stage.publish_pair(&issue(3));
        stage.until("decided", |binding| binding.state == State::Unreachable).await?;
        let newest = issue(1);
        stage.publish_pair(&newest);
        stage.kong_comes_back().await;
        stage.until("proven", |binding| binding.state == State::InSync).await?;
        stage.serves(&newest, "after Kong was back").await?;
    }
    stage.clear().await
}

/// A volume, a Kong, the sidecar between them, and a clock that counts from the last swap.
struct Stage {
    embedded: Option<KongStandIn>,
    admin: SocketAddr,
    proxy: SocketAddr,
    volume: SecretVolume,
    _home: tempfile::TempDir,
    status: watch::Receiver<Arc<Status>>,
    stop: oneshot::Sender<()>,
    sidecar: tokio::task::JoinHandle<()>,
    began: Instant,
    swapped: Instant,
}

impl Stage {
    async fn set() -> Outcome<Self> {
        let real = match (std::env::var("KONG_ADMIN_URL"), std::env::var("KONG_PROXY_TLS")) {
            (Ok(url), Ok(proxy)) => Some((url, proxy)),
            (Err(_), Err(_)) => None,
            _ => return Err("set both of KONG_ADMIN_URL and KONG_PROXY_TLS, or none".into()),
        };
        let (embedded, url, proxy) = match real {
            Some((url, proxy)) => (None, url, resolve(&proxy)?),
            None => {
                let kong = KongStandIn::start().await;
                let (url, proxy) = (kong.admin_url(), kong.proxy_addr());
                (Some(kong), url, proxy)
            }
        };
        let plain = url.strip_prefix("http://").ok_or("KONG_ADMIN_URL must begin with http://")?;
        let admin = resolve(plain.trim_end_matches('/'))?;
        if embedded.is_none() {
            let node = exchange(admin, &Request::new("GET", "/")).await?.value();
            if node["configuration"]["database"] == "off" {
                return Err("what is made in a Kong without a database cannot be removed".into());
            }
        }
        let home = tempfile::tempdir()?;
        let volume = SecretVolume::mount(home.path().join(BINDING));
        let settings = Settings::from_env(
            [
                ("CERT_RELOADER__ADMIN__URL", url.as_str()),
                ("CERT_RELOADER__ADMIN__ALLOW_INSECURE", "true"),
                ("CERT_RELOADER__CERTS_DIR", &home.path().to_string_lossy()),
                ("CERT_RELOADER__INSTANCE", "rotation-example"),
            ]
            .map(|(name, value)| (name.into(), value.into())),
        )?;
        let which = if embedded.is_some() { "an embedded Kong" } else { "your Kong" };
        println!("kong-cert-reloader beside {which}: Admin API {admin}, TLS {proxy}");
        println!("one Secret volume for {NAME}, watched as in a pod");
        let (status, stop, sidecar) = start(settings)?;
        let now = Instant::now();
        let stage = Self {
            embedded,
            admin,
            proxy,
            volume,
            _home: home,
            status,
            stop,
            sidecar,
            began: now,
            swapped: now,
        };
        Ok(stage)
    }

    fn scene(&self, title: &str) {
        println!("\n{title}");
    }

    /// One line of the timeline.
    fn line(&self, who: &str, what: &str) {
        println!("  {:>8.3} s  {who:<8} {what}", self.began.elapsed().as_secs_f64());
    }

    fn after_the_swap(&self) -> String {
        format!("{:.1} ms after the swap", self.swapped.elapsed().as_secs_f64() * 1000.0)
    }

    fn publish_pair(&mut self, pair: &CertifiedPair) {
        self.publish(&pair.chain_pem(), &pair.key_pem());
    }

    fn publish(&mut self, cert: &str, key: &str) {
        let files = [("tls.crt", cert.as_bytes()), ("tls.key", key.as_bytes())];
        let prepared = self.volume.prepare(&files).expect("a generation of its own");
        self.swapped = Instant::now();
        let swapped = prepared.swap();
        let generation = self.volume.generation().unwrap_or_default();
        self.line(
            "swapped",
            &format!("..data -> {}", generation.file_name().unwrap_or_default().to_string_lossy()),
        );
        swapped.clean_up();
    }

    async fn swap_and_watch(&mut self, pair: &CertifiedPair) -> Outcome<()> {
        self.publish_pair(pair);
        self.until("proven", |binding| binding.state == State::InSync).await?;
        self.serves(pair, "").await
    }

    /// Waits for what the sidecar makes of the last swap.
    async fn until(&mut self, verb: &str, is_it: impl Fn(&BindingStatus) -> bool) -> Outcome<()> {
        let name = BINDING.parse()?;
        // What is known of the swap before is no answer to this one.
        self.status.mark_unchanged();
        let wanted =
            |status: &Arc<Status>| status.bindings.get(&name).is_some_and(|binding| is_it(binding));
        let found = async {
            loop {
                self.status.changed().await?;
                if wanted(&self.status.borrow()) {
                    return Outcome::Ok(());
                }
            }
        };
        match timeout(PATIENCE, found).await {
            Ok(found) => found?,
            Err(_) => {
                let status = self.status.borrow();
                let why = status.bindings.get(&name).and_then(|binding| binding.message.clone());
                return Err(format!(
                    "not within {} s: {}; the object that was made, if any, is tagged managed-by:kong-cert-reloader:{}",
                    PATIENCE.as_secs(),
                    why.unwrap_or_default(),
                    status.instance
                )
                .into());
            }
        }
        let status = Arc::clone(&self.status.borrow());
        let binding = &status.bindings[&name];
        let detail = binding.message.as_deref().map(|why| format!(": {why}")).unwrap_or_default();
        self.line(verb, &format!("{}{detail}", binding.state));
        Ok(())
    }

    /// Waits until a TLS client gets `pair`.
    async fn serves(&self, pair: &CertifiedPair, when: &str) -> Outcome<()> {
        let client = TlsClient::new().sni(NAME);
        let served = async {
            while client.chain(self.proxy).await.ok().as_deref() != Some(pair.chain_ders()) {
                sleep(Duration::from_millis(1)).await;
            }
        };
        timeout(PATIENCE, served)
            .await
            .map_err(|_| "a TLS client does not get the new certificate")?;
        let when = if when.is_empty() { self.after_the_swap() } else { when.to_owned() };
        self.line("served", &format!("a TLS client gets {}, {when}", short(pair)));
        Ok(())
    }

    async fn still_serves(&self, pair: &CertifiedPair) -> Outcome<()> {
        let chain = TlsClient::new().sni(NAME).chain(self.proxy).await?;
        if chain != pair.chain_ders() {
            return Err("a TLS client gets another certificate".into());
        }
        self.line("served", &format!("a TLS client still gets {}", short(pair)));
        Ok(())
    }

    async fn serves_chain_other_than(&self, pair: &CertifiedPair) -> Outcome<()> {
        let client = TlsClient::new().sni(NAME);
        let served = async {
            loop {
                if let Ok(chain) = client.chain(self.proxy).await
                    && chain != pair.chain_ders()
                    && chain.first().map(Vec::as_slice) == Some(pair.leaf_der())
                {
                    return;
                }
                sleep(Duration::from_millis(1)).await;
            }
        };
        timeout(PATIENCE, served).await.map_err(|_| "a TLS client does not get the new chain")?;
        self.line(
            "served",
            &format!(
                "a TLS client gets {} with its new issuer, {}",
                short(pair),
                self.after_the_swap()
            ),
        );
        Ok(())
    }

    async fn kong_goes_down(&mut self) {
        if let Some(kong) = &mut self.embedded {
            kong.stop().await;
        }
        self.line("kong", "is down");
    }

    async fn kong_comes_back(&mut self) {
        sleep(Duration::from_millis(500)).await;
        if let Some(kong) = &mut self.embedded {
            kong.restart().await;
        }
        self.swapped = Instant::now();
        self.line("kong", "is back");
    }

    /// Ends the sidecar, and removes its object from a real Kong.
    async fn clear(self) -> Outcome<()> {
        let object = self
            .status
            .borrow()
            .bindings
            .values()
            .find_map(|binding| binding.objects.first().cloned());
        let _ = self.stop.send(());
        self.sidecar.await?;
        if self.embedded.is_none()
            && let Some(object) = object.filter(|object| !object.adopted)
        {
            let path = format!("/certificates/{}", object.id);
            let answer = exchange(self.admin, &Request::new("DELETE", &path)).await?;
            println!("\nremoved certificate {} from your Kong ({})", object.id, answer.status);
        }
        println!("\nEach client got the newest servable certificate, and never a broken one.");
        Ok(())
    }
}

type Running = (watch::Receiver<Arc<Status>>, oneshot::Sender<()>, tokio::task::JoinHandle<()>);

/// Starts the sidecar as `run` does, but in this process.
fn start(settings: Settings) -> Outcome<Running> {
    let clock: Arc<dyn Clock> = Arc::new(|| Timestamp::from(SystemTime::now()));
    let metrics = Metrics::default();
    let (status, seen) = watch::channel(sidecar::initial_status(&settings));
    let (_pings, pinged) = mpsc::channel(1);
    let (waker, wakes) = Wakes::channel();
    let url = settings.admin.url.clone().ok_or("an Admin API")?;
    let kong = Kong::new(AdminClient::new(&settings.admin, &url), &settings.admin, metrics.clone());
    let watch = Watch::new(kernel(), waker);
    let forced = BTreeSet::new();
    let handshake = ProxyClient::default();
    let parts = Parts {
        kong: Some(kong),
        handshake,
        nginx: Box::new(Nginx::new(None)),
        files: Arc::new(Mounted),
        watch,
        wakes,
        clock,
        metrics,
        status,
        forced,
        pings: pinged,
    };
    let (stop, stopped) = oneshot::channel::<()>();
    let sidecar = tokio::spawn(async move {
        sidecar::run(&settings, parts, async { drop(stopped.await) }).await;
    });
    Ok((seen, stop, sidecar))
}

fn resolve(address: &str) -> Outcome<SocketAddr> {
    address.to_socket_addrs()?.next().ok_or_else(|| format!("{address} has no address").into())
}

/// Enough of the leaf's SHA-256 to tell it from the next.
fn short(pair: &CertifiedPair) -> String {
    let digest = pair.leaf_sha256();
    digest[..4].iter().map(|byte| format!("{byte:02X}")).collect::<Vec<_>>().join(":") + ":…"
}
