//! File, Kong and what is served, side by side.

use std::sync::Arc;

use super::{BindingStatus, Reason, Shown};
use crate::volume;

/// What is in one of the three places.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side<'a> {
    /// A bundle that none of the places before has.
    Bundle(&'a Shown),
    /// The bundle of a place before.
    SameAs(&'static str),
    /// Something that no client could be shown.
    Broken,
    /// Nothing is there.
    Nothing,
    /// It was not looked at, or not to the end.
    Unknown,
}

impl Side<'_> {
    /// The words for it where there is no bundle to show.
    pub(crate) fn words(self) -> Option<String> {
        Some(match self {
            Self::Bundle(_) => return None,
            Self::SameAs(place) => format!("same as {place}"),
            Self::Broken => "something that cannot be served".to_owned(),
            Self::Nothing => "nothing".to_owned(),
            Self::Unknown => "not known".to_owned(),
        })
    }
}

/// The places that a binding of this kind has, in the order in which a certificate goes through
/// them, and what is there.
pub(crate) fn sides(binding: &BindingStatus) -> Vec<(&'static str, Side<'_>)> {
    let kind = binding.kind;
    if !kind.has_facts() {
        return Vec::new();
    }
    let (file, kong, served) = (&binding.file, &binding.kong, &binding.served);
    let of_file = match (file, binding.reason) {
        (Some(file), _) => Side::Bundle(file),
        (None, Some(Reason::Starting | Reason::Changing)) => Side::Unknown,
        (None, Some(Reason::File(volume::Reason::Missing))) => Side::Nothing,
        (None, _) => Side::Broken,
    };
    let of_kong = match (kong, binding.reason) {
        (None, Some(Reason::DryRun)) if !binding.objects.is_empty() => Side::Broken,
        (None, Some(Reason::DryRun)) => Side::Nothing,
        (None, _) => Side::Unknown,
        (Some(kong), _) => beside(kong, &[("file", file)]),
    };
    let of_served = served
        .as_ref()
        .map_or(Side::Unknown, |served| beside(served, &[("file", file), ("kong", kong)]));
    let mut sides = vec![("file", of_file)];
    sides.extend(kind.is_in_kong().then_some(("kong", of_kong)));
    sides.extend(kind.is_served().then_some(("served", of_served)));
    sides
}

/// The bundle, or which of the `others` it is the same as.
fn beside<'a>(shown: &'a Shown, others: &[(&'static str, &Option<Arc<Shown>>)]) -> Side<'a> {
    let is_same = |(_, other): &&(&'static str, &Option<Arc<Shown>>)| {
        other.as_ref().is_some_and(|other| other.fingerprint == shown.fingerprint)
    };
    others.iter().find(is_same).map_or(Side::Bundle(shown), |(place, _)| Side::SameAs(place))
}
