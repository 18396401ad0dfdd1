//! What a real nginx makes of SIGHUP, and what we see of it: the facts that files which Kong reads
//! itself are served by.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use kong_cert_reloader::nginx::{Nginx, NoReload, Reload as _, Reloading};
use tempfile::TempDir;
use testkit::{CertifiedPair, NginxProcess, Pki, SecretVolume, TlsClient, missing};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};

/// Nothing that is waited for takes longer on any machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// An nginx that serves what is in a volume, and what reloads it.
struct Pod {
    process: NginxProcess,
    nginx: Nginx,
    volume: SecretVolume,
    first: CertifiedPair,
    pki: Pki,
    _home: TempDir,
}

impl Pod {
    /// `None`, and told so, where there is no nginx.
    async fn new() -> Option<Self> {
        let Some(program) = NginxProcess::program() else {
            missing("nginx, which is not installed; .ci/run fetches it");
            return None;
        };
        let (home, pki) = (tempfile::tempdir().unwrap(), Pki::new());
        let volume = SecretVolume::mount(home.path().join("secret"));
        let first = pki.pair(&["a.test"]);
        publish(&volume, &first);
        let pair = (volume.root().join("tls.crt"), volume.root().join("tls.key"));
        let process = NginxProcess::start(&program, home.path(), &[pair]).await;
        let nginx = Nginx::new(Some(process.pid_file()));
        Some(Self { process, nginx, volume, first, pki, _home: home })
    }

    fn renewed(&self) -> CertifiedPair {
        let pair = self.pki.pair(&["a.test"]);
        publish(&self.volume, &pair);
        pair
    }

    /// What clients without SNI get.
    async fn served(&self) -> Vec<Vec<u8>> {
        TlsClient::new().chain(self.process.address(0)).await.unwrap()
    }

    /// Reloads, and waits for the new workers.
    async fn reload(&mut self) -> Reloading {
        let reloading = self.nginx.reload(None).unwrap();
        assert_eq!(reloading.pid(), self.process.pid());
        let has_come = || self.nginx.has_new_workers(&reloading) == Some(true);
        self.until("no new workers", has_come).await;
        reloading
    }

    /// Waits until none of `workers` takes connections: for a tenth of a second both the old and
    /// the new ones do.
    async fn until_leaving(&self, workers: &[u32]) {
        let are_leaving = || self.process.workers().iter().all(|pid| !workers.contains(pid));
        self.until("the old workers stay", are_leaving).await;
    }

    async fn until(&self, otherwise: &str, is_so: impl Fn() -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !is_so() {
            assert!(Instant::now() < deadline, "{otherwise}:\n{}", self.process.error_log());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

fn publish(volume: &SecretVolume, pair: &CertifiedPair) {
    assert!(volume.publish_pair(pair));
}

#[tokio::test]
async fn a_renewal_is_served_after_the_signal_and_not_before() {
    let Some(mut pod) = Pod::new().await else { return };
    let mut served = pod.first.clone();
    for _ in 0..3 {
        let (workers, renewed) = (pod.process.workers(), pod.renewed());
        assert_eq!(pod.served().await, served.chain_ders());
        pod.reload().await;
        pod.until_leaving(&workers).await;
        assert_eq!(pod.served().await, renewed.chain_ders());
        served = renewed;
    }
}

#[tokio::test]
async fn a_pair_that_nginx_does_not_take_brings_no_new_workers_and_the_old_one_stays() {
    let Some(mut pod) = Pod::new().await else { return };
    let (first, other) = (pod.first.clone(), pod.pki.pair(&["b.test"]));
    let garbled = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n".to_owned();
    let broken = [
        ("a key of another", vec![("tls.crt", first.chain_pem()), ("tls.key", other.key_pem())]),
        ("no certificate", vec![("tls.crt", garbled), ("tls.key", first.key_pem())]),
        ("no key", vec![("tls.crt", first.chain_pem())]),
        ("nothing", vec![("tls.crt", String::new()), ("tls.key", String::new())]),
    ];
    for (case, files) in broken {
        let files: Vec<_> = files.iter().map(|(name, text)| (*name, text.as_bytes())).collect();
        assert!(pod.volume.publish(&files));
        let (workers, written) = (pod.process.workers(), pod.process.error_log().len());
        let reloading = pod.nginx.reload(None).unwrap();
        pod.process.logged("[emerg]", written).await;
        assert_eq!(pod.nginx.has_new_workers(&reloading), Some(false), "{case}");
        assert_eq!(pod.process.workers(), workers, "{case}");
        assert_eq!(pod.served().await, first.chain_ders(), "{case}");
    }
    let (workers, mended) = (pod.process.workers(), pod.renewed());
    pod.reload().await;
    pod.until_leaving(&workers).await;
    assert_eq!(pod.served().await, mended.chain_ders());
}

#[tokio::test]
async fn one_that_was_started_as_kong_starts_its_own_is_found_among_all_processes() {
    let Some(pod) = Pod::new().await else { return };
    match Nginx::new(None).check(None) {
        Ok(()) => {}
        // Other tests have one, too.
        Err(NoReload::Several { pids }) => assert!(pids.contains(&pod.process.pid()), "{pids:?}"),
        Err(other) => panic!("{other}"),
    }
}

#[tokio::test]
async fn a_master_that_is_gone_is_told_and_its_workers_cannot_be_seen() {
    let Some(mut pod) = Pod::new().await else { return };
    let reloading = pod.reload().await;
    pod.process.stop();
    assert_eq!(pod.nginx.has_new_workers(&reloading), None);
    let (path, pid) = (pod.process.pid_file(), pod.process.pid());
    assert_eq!(pod.nginx.reload(None), Err(NoReload::NoPidFile { path: path.clone() }));
    // As after a crash.
    std::fs::write(&path, format!("{pid}\n")).unwrap();
    let told = pod.nginx.reload(None).unwrap_err().as_str();
    // The second where the tests are alone in a container.
    assert!(["pid_file_stale", "processes_not_shared"].contains(&told), "{told}");
}

#[tokio::test]
async fn no_request_is_lost_over_reloads() {
    let Some(mut pod) = Pod::new().await else { return };
    let address = pod.process.address(0);
    let is_over = Arc::new(AtomicBool::new(false));
    let clients: Vec<_> = (0..4)
        .map(|_| {
            let is_over = Arc::clone(&is_over);
            tokio::spawn(async move {
                let mut answers = 0;
                while !is_over.load(Ordering::Relaxed) {
                    let mut tls = TlsClient::new().open(address).await.unwrap();
                    tls.write_all(b"GET / HTTP/1.0\r\n\r\n").await.unwrap();
                    assert!(answer(&mut tls).await.starts_with("HTTP/1.1 200"));
                    answers += 1;
                }
                answers
            })
        })
        .collect();
    for _ in 0..3 {
        let mut tls = TlsClient::new().open(address).await.unwrap();
        tls.write_all(b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n").await.unwrap();
        assert!(one_answer(&mut tls).await.starts_with("HTTP/1.1 200"));
        // The second request on this connection is half sent when the signal comes.
        tls.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
        let workers = pod.process.workers();
        pod.renewed();
        pod.reload().await;
        pod.until_leaving(&workers).await;
        tls.write_all(b"Host: a.test\r\n\r\n").await.unwrap();
        let end = answer(&mut tls).await;
        assert!(end.starts_with("HTTP/1.1 200") && end.contains("Connection: close"), "{end}");
    }
    is_over.store(true, Ordering::Relaxed);
    for client in clients {
        assert!(client.await.unwrap() > 0);
    }
}

/// All that comes until the end of the connection.
async fn answer(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut text = Vec::new();
    stream.read_to_end(&mut text).await.unwrap();
    String::from_utf8(text).unwrap()
}

/// One answer on a connection that goes on.
async fn one_answer(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut text = Vec::new();
    while !text.ends_with(b"\r\n\r\n0\n") {
        text.push(stream.read_u8().await.unwrap());
    }
    String::from_utf8(text).unwrap()
}
