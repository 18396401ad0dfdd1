//! Every metric family, with its labels and what it means: one table.
//!
//! What is scraped takes its help from here, and `docs/metrics.md` is held to it by a test.

/// A metric family, as it is scraped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MetricFamily {
    /// Its name, with unit and ending.
    pub name: &'static str,
    /// Names of its labels; of a histogram, but for `le`.
    pub labels: &'static [&'static str],
    /// What it tells.
    pub help: &'static str,
}

const fn family(
    name: &'static str,
    labels: &'static [&'static str],
    help: &'static str,
) -> MetricFamily {
    MetricFamily { name, labels, help }
}

/// All of them: where each binding stands, what was done, and the process.
pub const FAMILIES: &[MetricFamily] = &[
    family("kong_cert_reloader_build_info", &["version"], "The version of this program"),
    family(
        "kong_cert_reloader_state",
        &["binding", "kind", "state"],
        "1 at the state that the binding is in, 0 at the others",
    ),
    family(
        "kong_cert_reloader_state_reason",
        &["binding", "kind", "state", "reason"],
        "1 at the reason why the binding is in its state; in_sync has none",
    ),
    family(
        "kong_cert_reloader_not_after_timestamp_seconds",
        &["binding", "source"],
        "When it expires: in the file (the last that was servable), in kong, and as it is served; \
         of several CA certificates the first to come, of those that have not expired; of a \
         licence the beginning (UTC) of its last day",
    ),
    family(
        "kong_cert_reloader_not_before_timestamp_seconds",
        &["binding", "source"],
        "When it begins, likewise; not of several CA certificates",
    ),
    family(
        "kong_cert_reloader_last_success_timestamp_seconds",
        &["binding"],
        "When Kong was last seen to serve what the file holds",
    ),
    family(
        "kong_cert_reloader_renewal_overdue",
        &["binding"],
        "1 past RENEW_BY of the file's life; not of CA certificates and licences, which have no \
         rhythm",
    ),
    family(
        "kong_cert_reloader_watch_polling",
        &[],
        "1 while changes of files are found by polling alone",
    ),
    family(
        "kong_cert_reloader_findings",
        &[],
        "How many findings stand in /status: what is wrong around the bindings",
    ),
    family(
        "kong_cert_reloader_warnings",
        &["binding"],
        "How many warnings stand in /status: what is odd about it although it can be served",
    ),
    family(
        "kong_cert_reloader_pushes_total",
        &["binding", "outcome"],
        "Writes to Kong and signals to nginx: applied, refused or failed",
    ),
    family(
        "kong_cert_reloader_generations_total",
        &["binding"],
        "Different contents seen in the files",
    ),
    family(
        "kong_cert_reloader_contested_total",
        &["binding"],
        "Times another writer undid it; without a database from the eleventh time within an hour on, as a Kong that restarts forgets it, too",
    ),
    family(
        "kong_cert_reloader_reconciles_total",
        &["trigger"],
        "Passes, by what caused them: start, files, poll, timer, proof, configuration, retry or \
         resync",
    ),
    family(
        "kong_cert_reloader_propagation_seconds",
        &[],
        "From a generation seen in the files to a handshake that shows it; until Kong accepts it \
         where none are made",
    ),
    family(
        "kong_cert_reloader_proofs_total",
        &["result"],
        "Handshakes, by what they showed: served, other (another certificate), no_connection, \
         no_tls or no_handshake",
    ),
    family(
        "kong_cert_reloader_admin_requests_total",
        &["method", "code"],
        "Calls of the Admin API; code none: no answer",
    ),
    family(
        "kong_cert_reloader_admin_request_duration_seconds",
        &[],
        "Duration of calls of the Admin API",
    ),
    family("process_cpu_seconds_total", &[], "User and system time spent"),
    family("process_resident_memory_bytes", &[], "Resident memory"),
    family("process_virtual_memory_bytes", &[], "Virtual memory"),
    family("process_open_fds", &[], "Open file descriptors"),
    family("process_max_fds", &[], "Most open file descriptors"),
    family("process_start_time_seconds", &[], "When the process started, since the Unix epoch"),
];

/// What the family tells that is registered as `name`: without our prefix, its unit and ending.
pub(super) fn help(name: &str) -> &'static str {
    let known = FAMILIES.iter().find(|family| registered(family.name) == name);
    known.map_or("", |family| family.help)
}

fn registered(scraped: &str) -> &str {
    let name = scraped.strip_prefix("kong_cert_reloader_").unwrap_or(scraped);
    let name = name.strip_suffix("_total").or(name.strip_suffix("_info")).unwrap_or(name);
    name.strip_suffix("_seconds").or(name.strip_suffix("_bytes")).unwrap_or(name)
}
