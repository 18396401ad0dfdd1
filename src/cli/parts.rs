//! What the loop works with, in the real world.

use std::collections::BTreeSet;
use std::sync::Arc;

use tokio::sync::{mpsc, watch as channel};

use crate::clock::Clock;
use crate::kong::{AdminClient, Kong};
use crate::metrics::Metrics;
use crate::names::BindingName;
use crate::nginx::Nginx;
use crate::proof::ProxyClient;
use crate::settings::Settings;
use crate::sidecar::{self, Parts, Ping};
use crate::status::Status;
use crate::volume::Mounted;
use crate::watch::{Make, Wakes, Watch};

/// The loop's parts, and the ends of its channels that are not its own.
pub(super) struct Assembly {
    pub(super) parts: Parts<AdminClient, ProxyClient>,
    pub(super) status: channel::Receiver<Arc<Status>>,
    pub(super) pings: mpsc::Sender<Ping>,
}

/// Files are watched by what `make` makes; those of the `forced` are pushed though Kong's may be
/// right.
pub(super) fn assemble(
    settings: &Settings,
    clock: Arc<dyn Clock>,
    make: Make,
    forced: BTreeSet<BindingName>,
) -> Assembly {
    let metrics = Metrics::default();
    let (status, status_seen) = channel::channel(sidecar::initial_status(settings));
    let (pings, pinged) = mpsc::channel(8);
    let (waker, wakes) = Wakes::channel();
    let kong = settings.admin.url.as_ref().map(|url| {
        Kong::new(AdminClient::new(&settings.admin, url), &settings.admin, metrics.clone())
    });
    let watch = Watch::new(make, waker);
    let handshake = ProxyClient::default();
    let nginx = Box::new(Nginx::new(settings.reload.pid_file.clone()));
    let parts = Parts {
        kong,
        handshake,
        nginx,
        files: Arc::new(Mounted),
        watch,
        wakes,
        clock,
        metrics,
        status,
        forced,
        pings: pinged,
    };
    Assembly { parts, status: status_seen, pings }
}
