//! What stands in the cells of tables.

use std::collections::BTreeSet;

use crate::binding::Kind;
use crate::clock::Timestamp;
use crate::status::{BindingStatus, ObjectStatus, Shown, Status};

/// Where there is nothing to show.
pub(super) const NOTHING: &str = "-";

const DAY: i64 = 24 * 60 * 60;
/// So many characters are the first eight bytes of a digest, with their colons.
const SHORT_DIGEST: usize = 8 * 3 - 1;
/// So many names are shown.
const FIRST_NAMES: usize = 3;
/// So many ids are shown.
const FIRST_IDS: usize = 20;

/// The day.
pub(super) fn date(at: Timestamp) -> String {
    let text = at.to_string();
    text.split_once('T').map_or(text.clone(), |(day, _)| day.to_owned())
}

/// Whole days until `not_after`; negative once it is past.
pub(super) const fn days_left(not_after: Timestamp, now: Timestamp) -> i64 {
    not_after.0.saturating_sub(now.0).div_euclid(DAY)
}

/// The day, and how far away it is.
pub(super) fn until(not_after: Timestamp, now: Timestamp) -> String {
    let distance = match days_left(not_after, now) {
        0 => "less than a day left".to_owned(),
        1 => "1 day left".to_owned(),
        days @ 2.. => format!("{days} days left"),
        // The last day is not over yet.
        days => match -1 - days {
            0 => "expired less than a day ago".to_owned(),
            1 => "expired 1 day ago".to_owned(),
            ago => format!("expired {ago} days ago"),
        },
    };
    format!("{} ({distance})", date(not_after))
}

/// The first bytes of each leaf's digest: enough to tell certificates apart.
pub(super) fn leaves(leaf_sha256: &[String]) -> String {
    let short = |digest: &String| digest.chars().take(SHORT_DIGEST).collect::<String>();
    leaf_sha256.iter().map(short).collect::<Vec<_>>().join(" ")
}

/// The first names, and how many more there are.
pub(super) fn names(names: &BTreeSet<String>) -> String {
    let first: Vec<&str> = names.iter().take(FIRST_NAMES).map(String::as_str).collect();
    match names.len().saturating_sub(FIRST_NAMES) {
        _ if first.is_empty() => NOTHING.to_owned(),
        0 => first.join(", "),
        more => format!("{} +{more}", first.join(", ")),
    }
}

/// What a file holds: names, or how many CA certificates.
pub(super) fn content(kind: Kind, file: &Shown) -> String {
    match (kind, file.leaf_sha256.len()) {
        (Kind::CaCertificate, 1) => "1 CA certificate".to_owned(),
        (Kind::CaCertificate, count) => format!("{count} CA certificates"),
        _ => names(&file.names),
    }
}

/// Whether the kinds are to be told: where none is, all are taken for certificates.
pub(super) fn has_other_kinds(kinds: impl IntoIterator<Item = Kind>) -> bool {
    kinds.into_iter().any(|kind| kind != Kind::Certificate)
}

/// The ids of a binding's CA certificates, which plugins and services name, a line each.
pub(super) fn authorities(binding: &BindingStatus) -> Vec<String> {
    if binding.kind != Kind::CaCertificate {
        return Vec::new();
    }
    let line = |object: &ObjectStatus| {
        let subject = object.subject.as_deref().unwrap_or_default();
        format!("{}  {subject}", object.id)
    };
    let mut lines: Vec<String> = binding.objects.iter().take(FIRST_IDS).map(line).collect();
    let more = binding.objects.len().saturating_sub(FIRST_IDS);
    lines.extend((more > 0).then(|| format!("and {more} more: --output json has all")));
    lines
}

/// Reason, message and warnings of a binding, a line each.
pub(super) fn notes(binding: &BindingStatus) -> Vec<String> {
    let reason = binding.reason.map(|reason| reason.as_str().to_owned());
    let why: Vec<String> = [reason, binding.message.clone()].into_iter().flatten().collect();
    let mut notes: Vec<String> = (!why.is_empty()).then(|| why.join(": ")).into_iter().collect();
    notes.extend(binding.warnings.iter().map(|warning| format!("warning: {warning}")));
    notes
}

/// What is to be said beneath all bindings: that nothing was proven, and what is wrong around them.
pub(super) fn footnotes(status: &Status) -> Vec<String> {
    let unproven = status.kong.unproven.iter();
    let unproven = unproven.map(|why| format!("no handshakes were made, nothing is proven: {why}"));
    unproven.chain(status.findings.iter().cloned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_told_with_its_distance() {
        let end = Timestamp(1_795_324_280);
        for (seconds, told) in [
            (30 * DAY + 5, "2026-11-22 (30 days left)"),
            (2 * DAY - 1, "2026-11-22 (1 day left)"),
            (DAY - 1, "2026-11-22 (less than a day left)"),
            (0, "2026-11-22 (less than a day left)"),
            (-1, "2026-11-22 (expired less than a day ago)"),
            (-DAY - 1, "2026-11-22 (expired 1 day ago)"),
            (-9 * DAY - 1, "2026-11-22 (expired 9 days ago)"),
        ] {
            assert_eq!(until(end, Timestamp(end.0 - seconds)), told);
        }
        assert_eq!(days_left(end, Timestamp(end.0 + 1)), -1);
        assert!(until(Timestamp(i64::MAX), Timestamp(0)).contains("days left"));
    }

    #[test]
    fn a_few_names_and_the_first_bytes_are_shown() {
        let all = ["a", "b", "c", "d", "e"].map(str::to_owned);
        for (count, told) in [(0, "-"), (1, "a"), (3, "a, b, c"), (5, "a, b, c +2")] {
            assert_eq!(names(&all[..count].iter().cloned().collect()), told);
        }
        let digest = ["AB"; 32].join(":");
        assert_eq!(leaves(&[digest.clone(), digest]), ["AB:AB:AB:AB:AB:AB:AB:AB"; 2].join(" "));
        assert_eq!(leaves(&[]), "");
    }
}
