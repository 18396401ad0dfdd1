//! Files that Kong itself reads, and how it is told to read them again.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use super::binding::{self, path_to};
use super::mistake::Fault;
use super::path::{absolute, inside};
use super::proxy::ProxyAddress;
use super::reader::Reader;
use crate::names::FoldedName;

/// Beneath it each pair of files has its name.
pub(super) const GROUP: &str = "reload.files";

/// What Kong's files are, and how it is told of a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reload {
    /// Pairs of files that `kong.conf` names.
    pub files: BTreeMap<FoldedName, ReloadFile>,
    /// The file in which nginx keeps the process to signal, absolute, without `..`.
    pub pid_file: Option<PathBuf>,
    /// Least time between two signals: a second to an hour.
    pub min_interval: Duration,
}

impl Default for Reload {
    fn default() -> Self {
        Self { files: BTreeMap::new(), pid_file: None, min_interval: Duration::from_secs(30) }
    }
}

impl Reload {
    pub(super) fn read(reader: &mut Reader) -> Self {
        let default = Self::default();
        Self {
            files: binding::read_all(reader, GROUP, ReloadFile::read),
            pid_file: reader.text("reload.pid_file", absolute),
            min_interval: reader
                .duration("reload.min_interval", MIN_INTERVAL)
                .unwrap_or(default.min_interval),
        }
    }
}

/// After each signal the old workers go on for a while; more than an hour is a slip.
const MIN_INTERVAL: RangeInclusive<Duration> =
    Duration::from_secs(1)..=Duration::from_secs(60 * 60);

/// A certificate and its key, as `kong.conf` names them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReloadFile {
    /// The chain, absolute, without `..`.
    pub cert: PathBuf,
    /// Its key, likewise.
    pub key: PathBuf,
    /// Where a handshake shows it, `Auto` being the proxy port; nothing where no port does, as with
    /// `client_ssl_cert` and `cluster_cert`.
    pub address: Option<ProxyAddress>,
}

/// What they are called in `DIR`.
const CERT: &str = "tls.crt";
const KEY: &str = "tls.key";

impl ReloadFile {
    fn read(reader: &mut Reader, name: &FoldedName) -> Self {
        let at = |field| path_to(GROUP, name, field);
        let [dir, cert, key] = ["dir", "cert", "key"].map(at);
        let is_without_dir = reader.is_whole() && !reader.is_set(&dir);
        let are_both_set = reader.is_set(&cert) && reader.is_set(&key);
        if is_without_dir && !are_both_set {
            let (cert, key) = (reader.written(&cert), reader.written(&key));
            reader.reject(&dir, Fault::NoPair { cert, key });
        }
        // A single one may have been meant to be in a directory.
        let parse = if is_without_dir && are_both_set { absolute } else { inside };
        let dir = reader.text(&dir, absolute).unwrap_or_default();
        Self {
            cert: dir.join(reader.text(&cert, parse).unwrap_or_else(|| CERT.into())),
            key: dir.join(reader.text(&key, parse).unwrap_or_else(|| KEY.into())),
            address: ProxyAddress::read(reader, &at("address")),
        }
    }
}
