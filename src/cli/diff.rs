//! `diff`: file, Kong and what is served side by side. Nothing is written.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::arguments::Diff;
use super::exit::{self, Standing};
use super::once::Once;
use super::{cells, found, runtime, table};
use crate::binding::Kind;
use crate::clock::{Clock, Timestamp};
use crate::names::BindingName;
use crate::settings::Settings;
use crate::status::{BindingStatus, Reason, Shown, Side, State, Status, sides, words};

/// Plans a pass, and shows what it would do.
pub(super) fn diff(settings: &Settings, asked: &Diff, clock: &Arc<dyn Clock>) -> u8 {
    if found::bindings_told(settings).is_none() {
        return exit::USAGE;
    }
    let settings = for_reading(settings);
    let once = Once {
        timeout: asked.timeout,
        forced: BTreeSet::new(),
        shows_progress: !asked.manner.verbose,
    };
    runtime::block_on(async {
        let known = once.run(&settings, Arc::clone(clock)).await;
        let Some(status) = known else { return exit::FAILED };
        let now = clock.now();
        let output = asked.manner.output.output;
        let printed = output.print(&*status, |width| report(&status, now, width));
        match exit::code(status.bindings.values().map(|binding| Standing::in_diff(binding))) {
            _ if printed != exit::OK => printed,
            code => code,
        }
    })
}

/// Nothing is written, and what is not served now is told now.
fn for_reading(settings: &Settings) -> Settings {
    let mut settings = settings.clone();
    settings.dry_run = true;
    settings.proxy.timeout = Some(Duration::ZERO);
    settings
}

fn report(status: &Status, now: Timestamp, width: Option<u16>) -> String {
    let all = status.bindings.iter();
    let shown: Vec<String> = all.map(|(name, binding)| one(name, binding, now, width)).collect();
    table::footed(&shown.join("\n"), &cells::footnotes(status))
}

fn one(name: &BindingName, binding: &BindingStatus, now: Timestamp, width: Option<u16>) -> String {
    let mut text = format!("{name}: {}\n", heading(binding));
    for (place, side) in sides(binding) {
        let shown = match side {
            Side::Bundle(shown) => bundle(binding.kind, shown, now),
            other => other.words().unwrap_or_default(),
        };
        text += &table::indented(&format!("{place:<6}  {shown}"), width);
    }
    for authority in cells::authorities(binding) {
        text += &table::indented(&authority, width);
    }
    // What else is known of it; otherwise the message stands in the heading.
    if let (State::InSync, Some(message)) = (binding.state, &binding.message) {
        text += &table::indented(message, width);
    }
    for warning in &binding.warnings {
        text += &table::indented(&format!("warning: {warning}"), width);
    }
    text
}

/// What a pass would do, or why none would do anything.
fn heading(binding: &BindingStatus) -> String {
    let message = binding.message.as_deref().unwrap_or_default();
    match (binding.state, binding.reason) {
        (State::InSync, _) => "in sync".to_owned(),
        (_, Some(Reason::DryRun)) => message.to_owned(),
        (state, Some(reason)) if message.is_empty() => format!("{state} ({reason})"),
        (state, Some(reason)) => format!("{state} ({reason}): {message}"),
        (state, None) if message.is_empty() => state.to_string(),
        (state, None) => format!("{state}: {message}"),
    }
}

fn bundle(kind: Kind, shown: &Shown, now: Timestamp) -> String {
    let (from, until) = (words::date(shown.not_before), words::until(shown.not_after, now));
    match (kind, shown.leaf_sha256.len()) {
        (Kind::CaCertificate, count @ 2..) => {
            format!("{count} CA certificates  the first ends {until}")
        }
        (Kind::License, _) => format!("licence  from {from} until {until}"),
        _ => format!("{}  from {from} until {until}", words::leaves(&shown.leaf_sha256)),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;
    use crate::bundle::{Fingerprint, LeafDigest};
    use crate::few::Few;
    use crate::sidecar::initial_status;

    const NOW: Timestamp = Timestamp(1_795_324_280);

    fn shown(digit: &str) -> Option<Arc<Shown>> {
        Some(Arc::new(Shown {
            fingerprint: Fingerprint::of_text(digit.as_bytes()),
            leaf_sha256: LeafDigest::from_hex(&digit.repeat(64)).into_iter().collect(),
            not_before: Timestamp(NOW.0 - 86_400),
            not_after: Timestamp(NOW.0 + 86_400 * 9),
            names: Few::default(),
        }))
    }

    #[test]
    fn one_sees_at_a_glance_which_of_the_three_differ() {
        let starting = || BindingStatus::starting(NOW);
        let in_sync = BindingStatus {
            state: State::InSync,
            reason: None,
            file: shown("A"),
            kong: shown("A"),
            served: shown("A"),
            ..starting()
        };
        let behind = BindingStatus {
            reason: Some(Reason::DryRun),
            message: Some("it would be replaced".to_owned()),
            file: shown("A"),
            kong: shown("B"),
            served: shown("B"),
            warnings: vec!["the chain is odd".to_owned()],
            ..starting()
        };
        let missing = BindingStatus {
            reason: Some(Reason::DryRun),
            message: Some("it would be created".to_owned()),
            file: shown("A"),
            ..starting()
        };
        let unreachable = BindingStatus {
            state: State::Unreachable,
            reason: Some(Reason::NoAnswer),
            message: Some("kong is down".to_owned()),
            file: shown("A"),
            ..starting()
        };
        let bindings =
            [("a", in_sync), ("b", behind), ("c", missing), ("d", unreachable), ("e", starting())]
                .map(|(name, binding)| (name.parse().unwrap(), Arc::new(binding)));
        let initial = initial_status(&Settings::default());
        let status = Status { bindings: bindings.into(), ..(*initial).clone() };
        let expected = "\
a: in sync
    file    AA:AA:AA:AA:AA:AA:AA:AA  from 2026-11-21 until 2026-12-01 (9 days left)
    kong    same as file
    served  same as file

b: it would be replaced
    file    AA:AA:AA:AA:AA:AA:AA:AA  from 2026-11-21 until 2026-12-01 (9 days left)
    kong    BB:BB:BB:BB:BB:BB:BB:BB  from 2026-11-21 until 2026-12-01 (9 days left)
    served  same as kong
    warning: the chain is odd

c: it would be created
    file    AA:AA:AA:AA:AA:AA:AA:AA  from 2026-11-21 until 2026-12-01 (9 days left)
    kong    nothing
    served  not known

d: unreachable (no_answer): kong is down
    file    AA:AA:AA:AA:AA:AA:AA:AA  from 2026-11-21 until 2026-12-01 (9 days left)
    kong    not known
    served  not known

e: pending (starting)
    file    not known
    kong    not known
    served  not known
";
        assert_eq!(report(&status, NOW, None), expected);
    }

    #[test]
    fn it_reads_only_and_waits_for_no_proof() {
        let settings = for_reading(&Settings::default());
        assert!(settings.dry_run);
        assert_eq!(settings.proxy.timeout, Some(Duration::ZERO));
    }
}
