//! What a scenario plays with: a Kong, certificates for its names, and pods beside it.

use std::cell::Cell;

use serde_json::{Value, json};
use tempfile::TempDir;
use testkit::pki::LONG_AGO;
use testkit::{Authority, CertifiedPair, KeyKind, LeafBuilder, Pki, SecretVolume, SidecarProcess};

use crate::target::{Target, until};

pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_kong-cert-reloader");
const DAY: i64 = 86_400;

/// A Kong, and who issues certificates for the names of the run.
#[derive(Debug)]
pub(crate) struct Stage {
    pub(crate) kong: Target,
    pub(crate) pki: Pki,
    issued: Cell<i64>,
}

impl Stage {
    pub(crate) fn on(kong: Target) -> Self {
        Self { kong, pki: Pki::new(), issued: Cell::new(0) }
    }

    /// A leaf for names of the run, which begins a day after the one before.
    pub(crate) fn leaf(&self, labels: &[&str]) -> LeafBuilder {
        let names: Vec<String> = labels.iter().map(|label| self.kong.name(label)).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        self.issued.set(self.issued.get() + 1);
        self.pki.leaf(&names).not_before(LONG_AGO + self.issued.get() * DAY)
    }

    /// The quickest way to one.
    pub(crate) fn pair(&self, labels: &[&str]) -> CertifiedPair {
        self.leaf(labels).issue()
    }

    /// A CA whose name tells the run that it is of.
    pub(crate) fn authority(&self, label: &str) -> Authority {
        Authority::root(&self.kong.name(label), KeyKind::P256)
    }

    /// A pod without volumes.
    pub(crate) fn pod(&self) -> Pod<'_> {
        Pod { kong: &self.kong, certs: tempfile::tempdir().unwrap() }
    }

    /// Puts a remark before the certificate of an object of ours, as it stands in Kong. It is the
    /// same certificate; but whoever writes the object takes the remark away. Returns the object.
    pub(crate) async fn remark_on(&self, label: &str) -> Value {
        let object = self.kong.object(label).await;
        let path = format!("/certificates/{}", object["id"].as_str().unwrap());
        let cert = format!("remarkable\n{}", object["cert"].as_str().unwrap());
        let body = json!({"cert": cert, "key": object["key"]});
        let remarked = self.kong.send("PATCH", &path, &body).await;
        assert_eq!(remarked["cert"], cert);
        remarked
    }
}

/// A pod: a directory of volumes, and a sidecar if one is started.
#[derive(Debug)]
pub(crate) struct Pod<'a> {
    kong: &'a Target,
    certs: TempDir,
}

impl Pod<'_> {
    pub(crate) fn volume(&self, name: &str) -> SecretVolume {
        SecretVolume::mount(self.certs.path().join(name))
    }

    /// Starts the program beside that Kong.
    pub(crate) async fn sidecar(&self, settings: &[(&str, &str)]) -> SidecarProcess {
        let instance = self.kong.instance();
        let certs = self.certs.path().to_str().unwrap();
        let mut all = vec![("INSTANCE", &*instance), ("CERTS_DIR", certs), ("LOG__LEVEL", "debug")];
        all.extend(self.kong.settings().iter().map(|(name, value)| (*name, value.as_str())));
        all.extend(settings);
        SidecarProcess::start(PROGRAM, &all).await
    }
}

/// What `tls.crt` and `tls.key` hold.
pub(crate) fn publish(volume: &SecretVolume, pair: &CertifiedPair) {
    publish_files(volume, &pair.chain_pem(), &pair.key_pem());
}

pub(crate) fn publish_files(volume: &SecretVolume, cert: &str, key: &str) {
    assert!(volume.publish(&[("tls.crt", cert.as_bytes()), ("tls.key", key.as_bytes())]));
}

/// Whether a binding is in sync with this pair, handshakes included.
pub(crate) fn in_sync_with(pair: &CertifiedPair) -> impl Fn(&Value) -> bool {
    let leaf = colons(&pair.leaf_sha256());
    move |shown| {
        shown["state"] == "in_sync"
            && shown["file"]["leaf_sha256"][0] == leaf.as_str()
            && shown["served"] == shown["file"]
    }
}

fn colons(digest: &[u8]) -> String {
    digest.iter().map(|byte| format!("{byte:02X}")).collect::<Vec<_>>().join(":")
}

/// Waits until `sidecar` has read files and Kong once more, from beginning to end; that takes a
/// short `RESYNC_INTERVAL`.
pub(crate) async fn compared_again(sidecar: &SidecarProcess) {
    let passes = async || metric(sidecar, "reconciles_total{trigger=\"resync\"}").await;
    // One may be under way; the next has ended when the one after it begins.
    let enough = passes().await + 3;
    until("three comparisons", async || (passes().await >= enough).then_some(())).await;
}

/// The value of one series of `/metrics`, named without the program's prefix; 0 where there is none.
pub(crate) async fn metric(sidecar: &SidecarProcess, series: &str) -> u64 {
    let (_, text) = sidecar.page("/metrics").await;
    let series = format!("kong_cert_reloader_{series} ");
    let value = text.lines().find_map(|line| line.strip_prefix(&series));
    value.map_or(0, |value| value.parse().unwrap())
}
