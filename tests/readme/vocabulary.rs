//! The words that the program shows: its metrics, their labels, states and reasons.

#![allow(dead_code, reason = "each test takes what it needs")]

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use kong_cert_reloader::bundle::{Fingerprint, Reason as Bundle};
use kong_cert_reloader::clock::Timestamp;
use kong_cert_reloader::decide::Wait;
use kong_cert_reloader::desired::Refusal;
use kong_cert_reloader::few::Few;
use kong_cert_reloader::metrics::Metrics;
use kong_cert_reloader::names::BindingName;
use kong_cert_reloader::nginx::NoReload;
use kong_cert_reloader::proof::Unseen;
use kong_cert_reloader::quote::Quoted;
use kong_cert_reloader::schedule::Trigger;
use kong_cert_reloader::settings::Settings;
use kong_cert_reloader::sidecar::initial_status;
use kong_cert_reloader::status::{BindingStatus, Reason, Shown, Status};
use kong_cert_reloader::volume::Reason as File;
use tokio::sync::watch;
use uuid::Uuid;

/// The labels of a family's samples, but for a histogram's own.
pub(crate) fn labels_of(text: &str, family: &str) -> BTreeSet<String> {
    text.lines()
        .filter_map(|line| line.strip_prefix(family)?.strip_prefix('{')?.split_once('}'))
        .flat_map(|(labels, _)| labels.split("\",").map(str::to_owned).collect::<Vec<_>>())
        .map(|label| label.split('=').next().unwrap().to_owned())
        .collect()
}

/// What is scraped when each family has a sample.
pub(crate) fn exposition() -> String {
    let now = Timestamp(0);
    let shown = Arc::new(Shown {
        fingerprint: Fingerprint::of_text(b""),
        leaf_sha256: Box::default(),
        not_before: now,
        not_after: now,
        names: Few::default(),
    });
    let binding = BindingStatus {
        file: Some(shown.clone()),
        kong: Some(shown.clone()),
        served: Some(shown),
        last_success: Some(now),
        ..BindingStatus::starting(now)
    };
    let name: BindingName = "web".parse().unwrap();
    let initial = initial_status(&Settings::default());
    let status = Status { bindings: [(name.clone(), binding.into())].into(), ..(*initial).clone() };
    let metrics = Metrics::default();
    metrics.begin(&name);
    metrics.reconcile(Trigger::Start.as_str());
    for result in ["served", "other", Unseen::Silent.as_str(), Unseen::NoTls.as_str()] {
        metrics.proof(result);
    }
    metrics.proof(Unseen::NoKey.as_str());
    metrics.propagated(Duration::ZERO);
    metrics.admin_request("GET", None, Duration::ZERO);
    let (_, seen) = watch::channel(Arc::new(status));
    metrics.exposition(seen, Arc::new(move || now)).prometheus()
}

/// The reasons that go with a state.
pub(crate) fn reasons(state: &str) -> Vec<&'static str> {
    reasons_of(state).iter().map(|reason| reason.as_str()).collect()
}

fn reasons_of(state: &str) -> Vec<Reason> {
    let files = [File::Missing, File::Denied, File::NotAFile, File::TooLarge, File::Link, File::Io];
    let bundles = [
        Bundle::Empty,
        Bundle::NotPem,
        Bundle::ForeignBlock,
        Bundle::BadCertificate,
        Bundle::NoCertificate,
        Bundle::NoKey,
        Bundle::SeveralKeys,
        Bundle::EncryptedKey,
        Bundle::UnsupportedKey,
        Bundle::WeakKey,
        Bundle::WeakSignature,
        Bundle::BadKey,
        Bundle::KeyMismatch,
        Bundle::Swapped,
        Bundle::LeafNotFirst,
        Bundle::AltSameType,
        Bundle::Expired,
        Bundle::TooMany,
        Bundle::NoAuthority,
        Bundle::NotJson,
        Bundle::NotALicense,
    ];
    let waits = [
        Wait::KongNewer { overdue: false },
        Wait::RollbackPossible { remaining: Duration::ZERO },
        Wait::FileTemporary,
        Wait::Flapping { remaining: Duration::ZERO },
    ];
    let (id, tag) = (Uuid::nil(), Quoted::new(""));
    let refusals = [
        Refusal::NoSni { unusable: Vec::new() },
        Refusal::SnisTaken { left: [].into() },
        Refusal::SeveralOwners { owners: [].into() },
        Refusal::Uncovered { id, names: Vec::new() },
        Refusal::OtherController { id, tag },
        Refusal::VaultReference { id },
        Refusal::SeveralAuthorities { id, count: 2 },
        Refusal::AuthorityElsewhere { id, other: id },
        Refusal::NotOurs { id },
        Refusal::AltKeyType { id },
    ];
    let (pid, path) = (0, PathBuf::new());
    let no_reload = |problem: &NoReload| Reason::NoReload {
        word: problem.as_str(),
        may_pass: problem.may_pass(),
    };
    let denied = NoReload::Denied { pid, owner: 0, ours: 0 };
    let absent = [
        NoReload::NotRunning,
        NoReload::Unshared,
        NoReload::Hidden,
        NoReload::NoProc,
        NoReload::Foreign { pids: Vec::new() },
        NoReload::Several { pids: Vec::new() },
        NoReload::NoPidFile { path: path.clone() },
        NoReload::PidFileUnreadable { problem: String::new() },
        NoReload::NotAPid { path: path.clone() },
        NoReload::Stale { path, pid },
        NoReload::Gone { pid },
        NoReload::NoPidfd,
        NoReload::System { pid, problem: rustix::io::Errno::NOMEM },
    ];
    match state {
        "pending" => vec![
            Reason::Starting,
            Reason::Changing,
            Reason::DryRun,
            Reason::Conflict,
            Reason::Proving,
            Reason::EmptyConfiguration,
            Reason::Applying,
            Reason::Reloading,
            Reason::ReloadInterval,
        ],
        "not_yet_valid" => vec![Reason::NotBefore],
        "held" => {
            let waits = waits.iter().map(|wait| Reason::Held(wait.as_str()));
            waits.chain([Reason::BrokenBeside]).collect()
        }
        "invalid" => {
            let bundles = bundles.map(Reason::Bundle).into_iter().chain([Reason::Configuration]);
            files.map(Reason::File).into_iter().chain(bundles).collect()
        }
        "refused" => [Reason::ByKong, Reason::TooLarge, Reason::NotReloaded, Reason::Contested]
            .into_iter()
            .chain(refusals.iter().map(|refusal| Reason::Refusal(refusal.as_str())))
            .collect(),
        "unauthorized" => [Reason::Credentials, Reason::CredentialsUnusable]
            .into_iter()
            .chain([&denied, &NoReload::Confined { pid }].map(no_reload))
            .collect(),
        "unreachable" => {
            let kongs = [Reason::NoAnswer, Reason::NotKong, Reason::NoSuchPath, Reason::NoDatabase];
            kongs.into_iter().chain(absent.iter().map(no_reload)).collect()
        }
        "not_served" => [Reason::OtherCertificate, Reason::DefaultCertificate]
            .into_iter()
            .chain(
                [Unseen::Silent, Unseen::NoTls, Unseen::NoKey]
                    .map(|unseen| Reason::Unseen(unseen.as_str())),
            )
            .collect(),
        "unsupported" => vec![Reason::NoAdminApi, Reason::NoLicenses, Reason::HasDatabase],
        _ => Vec::new(),
    }
}
