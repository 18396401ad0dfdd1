//! What stands in the cells of tables.

use crate::binding::Kind;
use crate::status::{BindingStatus, ObjectStatus, Shown, Status};

/// Where there is nothing to show.
pub(super) const NOTHING: &str = "-";

/// So many names are shown.
const FIRST_NAMES: usize = 3;
/// So many ids are shown.
const FIRST_IDS: usize = 20;

/// The first names, and how many more there are.
pub(super) fn names(names: &[String]) -> String {
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
    fn a_few_names_are_shown() {
        let all = ["a", "b", "c", "d", "e"].map(str::to_owned);
        for (count, told) in [(0, "-"), (1, "a"), (3, "a, b, c"), (5, "a, b, c +2")] {
            assert_eq!(names(&all[..count]), told);
        }
    }
}
