//! `run`: the sidecar, from its settings to its end.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::parts::{Assembly, assemble};
use super::signals::Signals;
use super::{complain, exit, found, runtime};
use crate::clock::Clock;
use crate::http::{self, Pages};
use crate::log::tell;
use crate::settings::Settings;
use crate::sidecar;
use crate::watch::kernel;

/// Runs until SIGTERM or SIGINT.
pub(super) fn run(settings: &Settings, clock: &Arc<dyn Clock>) -> u8 {
    // The loop tells what is odd but no mistake.
    if let Err(clashes) = found::bindings(settings) {
        complain(&clashes);
        return exit::USAGE;
    }
    runtime::block_on(live(settings, clock))
}

async fn live(settings: &Settings, clock: &Arc<dyn Clock>) -> u8 {
    let listener = match http::bind(settings.listen) {
        Ok(listener) => listener,
        Err(problem) => {
            tell!(CANNOT_START, %problem);
            return exit::FAILED;
        }
    };
    let mut signals = match Signals::listen() {
        Ok(signals) => signals,
        Err(problem) => {
            tell!(CANNOT_START, %problem);
            return exit::FAILED;
        }
    };
    let Assembly { parts, status, pings } =
        assemble(settings, Arc::clone(clock), kernel(), BTreeSet::new());
    let pages = Pages {
        status: status.clone(),
        metrics: parts.metrics.exposition(status, Arc::clone(clock)),
        pings,
        is_public: settings.status.public,
        clock: Arc::clone(clock),
    };
    if let Ok(address) = listener.local_addr() {
        tell!(LISTENING, %address);
    }
    let server = tokio::spawn(http::serve(listener, pages));
    let shutdown = async move {
        let signal = signals.next().await;
        tell!(STOPPING, signal);
    };
    sidecar::run(settings, parts, shutdown).await;
    server.abort();
    tell!(STOPPED);
    exit::OK
}
