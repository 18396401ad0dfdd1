//! An nginx in memory: it reads files when it is told to, and shows them to clients without SNI.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, SystemTime};

use kong_cert_reloader::bundle::{KeyType, PairSource, Pairs, ServedChain, Source};
use kong_cert_reloader::nginx::{NoReload, Reload, Reloading};
use kong_cert_reloader::proof::{Handshake, ProxyPort, Unseen};
use kong_cert_reloader::quote::Quoted;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use tokio::time::{Instant, sleep};

use super::kong::{KongInProcess, ONE_WAY};

/// From the signal until new workers answer.
pub(crate) const RELOAD: Duration = Duration::from_millis(300);
/// From the start of a master until its workers answer, and are called workers.
pub(crate) const INIT_WORKER: Duration = Duration::from_secs(3);

/// One nginx, with a port for each list of directories. Clones are the same.
#[derive(Clone)]
pub(crate) struct NginxInMemory(Arc<Mutex<Inner>>);

/// The type of its key, and the chain in DER.
type Pair = (KeyType, Vec<Vec<u8>>);

struct Inner {
    kong: KongInProcess,
    ports: BTreeMap<u16, Vec<PathBuf>>,
    shown: BTreeMap<u16, Vec<Pair>>,
    is_up: bool,
    workers_from: Instant,
    is_deaf: bool,
    config: Option<String>,
    trouble: Option<NoReload>,
    pid: Option<u32>,
    signals: Vec<Duration>,
    named: Vec<Option<u32>>,
    last: Option<(Instant, bool)>,
    loaded: SystemTime,
}

impl NginxInMemory {
    /// It has read the files in these directories.
    pub(crate) fn started(kong: &KongInProcess, ports: &[(u16, &[PathBuf])]) -> Self {
        let nginx = Self::away(kong, ports);
        nginx.start();
        nginx
    }

    /// It does not run yet.
    pub(crate) fn away(kong: &KongInProcess, ports: &[(u16, &[PathBuf])]) -> Self {
        let ports = ports.iter().map(|(port, directories)| (*port, directories.to_vec()));
        Self(Arc::new(Mutex::new(Inner {
            kong: kong.clone(),
            ports: ports.collect(),
            shown: BTreeMap::new(),
            is_up: false,
            workers_from: Instant::now(),
            is_deaf: false,
            config: None,
            trouble: None,
            pid: None,
            signals: Vec::new(),
            named: Vec::new(),
            last: None,
            loaded: SystemTime::UNIX_EPOCH,
        })))
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap()
    }

    /// Its workers are there at once.
    pub(crate) fn start(&self) {
        self.start_within(Duration::ZERO);
    }

    /// Its workers come later.
    pub(crate) fn start_slowly(&self) {
        self.start_within(INIT_WORKER);
    }

    fn start_within(&self, init_worker: Duration) {
        let mut inner = self.inner();
        inner.is_up = true;
        inner.workers_from = Instant::now() + init_worker;
        assert!(inner.load(), "it does not start with such files");
    }

    pub(crate) fn stop(&self) {
        self.inner().is_up = false;
    }

    /// From now on Kong reads this with its files, and forgets what was posted (`declarative_config`).
    pub(crate) fn read_config(&self, config: &str) {
        self.inner().config = Some(config.to_owned());
    }

    /// From now on reloads change nothing, as where another of its files is broken.
    pub(crate) fn be_deaf(&self, is_deaf: bool) {
        self.inner().is_deaf = is_deaf;
    }

    /// Nobody can tell it from now on; `None` ends that.
    pub(crate) fn be_out_of_reach(&self, trouble: Option<NoReload>) {
        self.inner().trouble = trouble;
    }

    /// From now on its master has this process id.
    pub(crate) fn be_process(&self, pid: u32) {
        self.inner().pid = Some(pid);
    }

    /// When its workers were started.
    pub(crate) fn be_loaded_at(&self, loaded: SystemTime) {
        self.inner().loaded = loaded;
    }

    /// A worker of the last reload ends, and another is started in its place: that looks as if nginx
    /// had taken its files.
    pub(crate) fn crash_worker(&self) {
        let mut inner = self.inner();
        inner.last = inner.last.map(|(at, _)| (at, true));
    }

    /// Someone else tells it to reload.
    pub(crate) fn reload_by_hand(&self) {
        assert!(self.inner().load());
    }

    /// When it was signalled, from the beginning.
    pub(crate) fn signals(&self) -> Vec<Duration> {
        self.inner().signals.clone()
    }

    /// The pid that it was last looked for by.
    pub(crate) fn named(&self) -> Option<u32> {
        *self.inner().named.last().unwrap()
    }

    fn is_reachable(&self, named: Option<u32>) -> Result<(), NoReload> {
        let inner = self.inner();
        if !inner.is_up {
            return Err(NoReload::NotRunning);
        }
        let is_other = |pid: &u32| inner.pid.is_some_and(|ours| ours != *pid);
        let gone = named.filter(is_other).map(|pid| NoReload::Gone { pid });
        inner.trouble.clone().or(gone).map_or(Ok(()), Err)
    }
}

impl Inner {
    fn has_workers(&self) -> bool {
        self.is_up && self.workers_from <= Instant::now()
    }

    /// Reads all files or none.
    fn load(&mut self) -> bool {
        let mut shown = BTreeMap::new();
        let mut newest = SystemTime::UNIX_EPOCH;
        for (port, directories) in &self.ports {
            for directory in directories {
                let (cert, key) = (directory.join("tls.crt"), directory.join("tls.key"));
                let Ok(certs) = std::fs::read(&cert) else { return false };
                let Ok(keys) = std::fs::read(&key) else { return false };
                newest = newest.max(std::fs::metadata(&cert).unwrap().modified().unwrap());
                let pair = PairSource {
                    cert: Source { path: &cert, bytes: &certs },
                    key: Source { path: &key, bytes: &keys },
                };
                let Ok(pairs) = Pairs::parse(pair, None) else { return false };
                let chain = CertificateDer::pem_slice_iter(&certs);
                let chain = chain.map(|der| der.unwrap().to_vec()).collect();
                let of_port: &mut Vec<Pair> = shown.entry(*port).or_default();
                of_port.push((pairs.facts().key_types[0], chain));
            }
        }
        self.shown = shown;
        if let Some(config) = &self.config {
            self.kong.model().forget_everything();
            let body = serde_json::json!({ "config": config });
            self.kong.elsewhere(&testkit::Request::json("POST", "/config", &body));
        }
        self.loaded = newest + Duration::from_secs(60);
        true
    }
}

impl Reload for NginxInMemory {
    fn reload(&mut self, named: Option<u32>) -> Result<Reloading, NoReload> {
        self.is_reachable(named)?;
        let mut inner = self.inner();
        let now = inner.kong.elapsed();
        inner.signals.push(now);
        inner.named.push(named);
        let takes = !inner.is_deaf && inner.load();
        inner.last = Some((Instant::now(), takes));
        Ok(Reloading::default())
    }

    fn has_new_workers(&self, _: &Reloading) -> Option<bool> {
        let inner = self.inner();
        let (at, takes) = inner.last?;
        inner.is_up.then(|| takes && at.elapsed() >= RELOAD)
    }

    fn check(&self, named: Option<u32>) -> Result<(), NoReload> {
        self.inner().named.push(named);
        self.is_reachable(named)
    }

    fn loaded_at(&self, _: Option<u32>) -> Option<SystemTime> {
        let inner = self.inner();
        inner.has_workers().then_some(inner.loaded)
    }
}

impl Handshake for NginxInMemory {
    async fn chain(
        &self,
        port: &ProxyPort,
        sni: Option<&str>,
        key_type: Option<KeyType>,
    ) -> Result<ServedChain, Unseen> {
        let kong = self.inner().kong.clone();
        if sni.is_some() {
            return kong.chain(port, sni, key_type).await;
        }
        sleep(ONE_WAY * 2).await;
        let inner = self.inner();
        let no_connection = Unseen::NoConnection {
            to: Quoted::new(&port.to_string()),
            cause: Quoted::new("Connection refused"),
        };
        let shown =
            inner.shown.get(&port.at.port).filter(|_| inner.has_workers()).ok_or(no_connection)?;
        let fits = |(has, _): &&Pair| key_type.is_none_or(|asked| asked == *has);
        let (_, chain) =
            shown.iter().find(fits).ok_or(Unseen::Refused(Quoted::new("HandshakeFailure")))?;
        Ok(ServedChain::of(&chain[0], chain[1..].iter().map(Vec::as_slice)))
    }
}
