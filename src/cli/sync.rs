//! `sync`: Kong is brought in line with the files once.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::arguments::Sync;
use super::exit::{self, Standing};
use super::once::Once;
use super::table::{self, Row};
use super::{cells, complain, found, runtime};
use crate::binding::Bindings;
use crate::clock::{Clock, Timestamp};
use crate::names::BindingName;
use crate::settings::Settings;
use crate::status::{BindingStatus, Status, words};

/// Writes what differs, and shows how each binding stands.
pub(super) fn sync(settings: &Settings, asked: &Sync, clock: &Arc<dyn Clock>) -> u8 {
    let Some(bindings) = found::bindings_told(settings) else { return exit::USAGE };
    if let Err(stranger) = all_known(&asked.force, &bindings) {
        complain(&stranger);
        return exit::USAGE;
    }
    let once = Once {
        timeout: asked.timeout,
        forced: asked.force.iter().cloned().collect(),
        shows_progress: !asked.manner.verbose,
    };
    runtime::block_on(async {
        let known = once.run(settings, Arc::clone(clock)).await;
        let Some(status) = known else { return exit::FAILED };
        let now = clock.now();
        let output = asked.manner.output.output;
        let printed = output.print(&*status, |width| report(&status, now, width));
        exit::code(status.bindings.values().map(|binding| Standing::after_sync(binding)))
            .max(printed)
    })
}

fn all_known(names: &[BindingName], bindings: &Bindings) -> Result<(), String> {
    let strangers: BTreeSet<&str> = names
        .iter()
        .filter(|name| bindings.named(name).is_none())
        .map(BindingName::as_ref)
        .collect();
    if strangers.is_empty() {
        return Ok(());
    }
    let strangers = Vec::from_iter(strangers).join(", ");
    let known: Vec<&str> = bindings.iter().map(|binding| binding.name.as_ref()).collect();
    Err(if known.is_empty() {
        format!("--force: there is no binding {strangers}, nor any other")
    } else {
        format!("--force: there is no binding {strangers}; there are {}", known.join(", "))
    })
}

fn report(status: &Status, now: Timestamp, width: Option<u16>) -> String {
    let shows_kind = cells::has_other_kinds(status.bindings.values().map(|binding| binding.kind));
    let all = status.bindings.iter();
    let rows: Vec<Row> = all.map(|(name, binding)| row(name, binding, shows_kind, now)).collect();
    let mut head = vec!["NAME", "STATE", "UNTIL", "SERVED", "NAMES"];
    if shows_kind {
        head.insert(1, "KIND");
    }
    let table = if rows.is_empty() { String::new() } else { table::table(&head, &rows, width) };
    table::footed(&table, &cells::footnotes(status))
}

fn row(name: &BindingName, binding: &BindingStatus, shows_kind: bool, now: Timestamp) -> Row {
    let or_nothing = |text: Option<String>| text.unwrap_or_else(|| cells::NOTHING.to_owned());
    let file = binding.file.as_ref();
    let mut cells = vec![
        name.as_ref().to_owned(),
        binding.state.to_string(),
        or_nothing(file.map(|file| words::until(file.not_after, now))),
        or_nothing(binding.served.as_ref().map(|served| words::leaves(&served.leaf_sha256))),
        or_nothing(file.map(|file| cells::content(binding.kind, file))),
    ];
    if shows_kind {
        cells.insert(1, binding.kind.to_string());
    }
    Row { cells, notes: [cells::authorities(binding), cells::notes(binding)].concat() }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use std::sync::Arc;

    use super::*;
    use crate::bundle::{Fingerprint, LeafDigest};
    use crate::sidecar::initial_status;
    use crate::status::{Reason, Shown, State};

    #[test]
    fn what_is_not_in_place_is_told_beneath_its_row() {
        let shown = Arc::new(Shown {
            fingerprint: Fingerprint::of_text(b""),
            leaf_sha256: LeafDigest::from_hex(&"AB".repeat(32)).into_iter().collect(),
            not_before: Timestamp(0),
            not_after: Timestamp(1_795_324_280),
            names: ["a.test", "b.test", "c.test", "d.test"].map(str::to_owned).into(),
        });
        let good = BindingStatus {
            state: State::InSync,
            reason: None,
            file: Some(shown.clone()),
            served: Some(shown),
            warnings: vec!["the chain is odd".to_owned()],
            ..BindingStatus::starting(Timestamp(0))
        };
        let bad = BindingStatus {
            state: State::Refused,
            reason: Some(Reason::ByKong),
            message: Some("kong refused it".to_owned()),
            ..BindingStatus::starting(Timestamp(0))
        };
        let unseen = BindingStatus {
            state: State::InSync,
            reason: None,
            message: Some("no port shows it".to_owned()),
            ..BindingStatus::starting(Timestamp(0))
        };
        let bindings = [("web", good), ("api", bad), ("cluster", unseen)];
        let bindings = bindings.map(|(name, binding)| (name.parse().unwrap(), Arc::new(binding)));
        let initial = initial_status(&Settings::default());
        let status = Status { bindings: bindings.into(), ..(*initial).clone() };
        let now = Timestamp(1_795_324_280 - 86_400 * 3);
        let expected = "\
NAME     STATE    UNTIL                     SERVED                   NAMES
api      refused  -                         -                        -
    by_kong: kong refused it
cluster  in_sync  -                         -                        -
    no port shows it
web      in_sync  2026-11-22 (3 days left)  AB:AB:AB:AB:AB:AB:AB:AB  a.test, b.test, c.test +1
    warning: the chain is odd
";
        assert_eq!(report(&status, now, None), expected);
        assert_eq!(report(&initial, now, None), "");
    }
}
