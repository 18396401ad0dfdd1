//! `run`: the sidecar, from its settings to its end.

use std::collections::BTreeSet;
use std::process::ExitCode;
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio::runtime::Builder;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch as channel};
use tracing::{error, info, warn};

use super::{FAILED, OK, USAGE, complain, logging};
use crate::binding::{Bindings, Oddity};
use crate::clock::Clock;
use crate::http::{self, Pages};
use crate::kong::{AdminClient, Kong};
use crate::metrics::Metrics;
use crate::proof::ProxyClient;
use crate::settings::Settings;
use crate::sidecar::{self, Parts};
use crate::watch::{Wakes, Watch, kernel};

/// Runs until SIGTERM or SIGINT.
pub(super) fn run(settings: &Settings, clock: impl Clock + 'static) -> ExitCode {
    if let Err(clashes) = clashes(settings) {
        complain(&clashes);
        return ExitCode::from(USAGE);
    }
    logging::start(&settings.log);
    keep_memory_to_ourselves();
    let runtime = match Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(problem) => {
            complain(&format_args!("cannot start: {problem}"));
            return ExitCode::from(FAILED);
        }
    };
    let listener = match runtime.block_on(http::bind(settings.listen)) {
        Ok(listener) => listener,
        Err(problem) => {
            error!(%problem, "cannot start");
            return ExitCode::from(FAILED);
        }
    };
    let code = runtime.block_on(live(settings, listener, Arc::new(clock)));
    // Look-ups of names run on threads of their own, and need not be waited for.
    runtime.shutdown_background();
    ExitCode::from(code)
}

async fn live(settings: &Settings, listener: TcpListener, clock: Arc<dyn Clock>) -> u8 {
    let signals = signal(SignalKind::terminate()).and_then(|terminate| {
        signal(SignalKind::interrupt()).map(|interrupt| (terminate, interrupt))
    });
    let (mut terminate, mut interrupt) = match signals {
        Ok(signals) => signals,
        Err(problem) => {
            error!(%problem, "cannot start");
            return FAILED;
        }
    };
    let metrics = Metrics::default();
    let (status, status_seen) = channel::channel(sidecar::initial_status(settings));
    let (pings, pinged) = mpsc::channel(8);
    let pages = Pages {
        status: status_seen.clone(),
        metrics: metrics.exposition(status_seen, Arc::clone(&clock)),
        pings,
        is_public: settings.status.public,
    };
    if let Ok(address) = listener.local_addr() {
        info!(%address, "listening");
    }
    let server = tokio::spawn(http::serve(listener, pages));
    let (waker, wakes) = Wakes::channel();
    let kong = settings.admin.url.as_ref().map(|url| {
        Kong::new(AdminClient::new(&settings.admin, url), &settings.admin, metrics.clone())
    });
    let watch = Watch::new(kernel(), waker);
    let forced = BTreeSet::new();
    let handshake = ProxyClient::default();
    let parts =
        Parts { kong, handshake, watch, wakes, clock, metrics, status, forced, pings: pinged };
    let shutdown = async move {
        tokio::select! {
            _ = terminate.recv() => info!(signal = "SIGTERM", "stopping"),
            _ = interrupt.recv() => info!(signal = "SIGINT", "stopping"),
        }
    };
    sidecar::run(settings, parts, shutdown).await;
    server.abort();
    info!("stopped");
    OK
}

/// Directories that no variable could tell apart are a mistake like those in the settings.
fn clashes(settings: &Settings) -> Result<(), String> {
    let oddities = Bindings::new(&settings.certs_dir, &settings.certificates).look();
    let clashes = oddities.iter().filter(|oddity| matches!(oddity, Oddity::FoldAlike(..)));
    let clashes: Vec<String> = clashes.map(ToString::to_string).collect();
    if clashes.is_empty() { Ok(()) } else { Err(clashes.join("\n")) }
}

/// No core dump, and no other process of this user may read our memory: it holds keys.
fn keep_memory_to_ourselves() {
    use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    if let Err(problem) = setrlimit(Resource::Core, none) {
        warn!(%problem, "core dumps cannot be switched off");
    }
    if let Err(problem) = set_dumpable_behavior(DumpableBehavior::NotDumpable) {
        warn!(%problem, "memory cannot be closed to other processes");
    }
}
