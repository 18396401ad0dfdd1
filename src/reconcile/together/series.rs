//! As many writes as it takes until Kong has all that it will have.

use std::collections::BTreeSet;

use tracing::warn;
use uuid::Uuid;

use crate::declarative::Document;
use crate::desired::Desired;
use crate::kong::{Bad, Failure, Hash, Kong, LICENSE_REFUSED, NotLoaded, Wire, enter};
use crate::quote::Quoted;

/// What Kong said to a series of writes.
pub(super) struct Said {
    /// Places of the changes that it has taken.
    pub(super) taken: BTreeSet<usize>,
    /// Those that it has not, and why.
    pub(super) failed: Vec<(usize, Refused)>,
    /// Whether it has taken anything.
    pub(super) loaded: bool,
    /// Whether it ran all of it already.
    pub(super) is_there: bool,
    /// Why it will not have what is not ours.
    pub(super) base: Option<Quoted>,
    /// Why the series ended before all was tried, if nothing was at fault.
    pub(super) ended: Option<Refused>,
    /// What runs after the last write that was taken, as far as it is known.
    pub(super) hash: Option<Hash>,
    /// What it has now, or would have.
    pub(super) document: Document,
}

/// Why a change was not taken.
#[derive(Clone)]
pub(super) enum Refused {
    Failure(Failure),
    /// What is not ours is at fault.
    Elsewhere(Failure),
    /// There was no answer in time, and it may be applied yet.
    Applying,
}

/// Writes as many of the changes as Kong takes, in as few writes as it names those that it does not.
/// Nothing is written once Kong runs what neither was there before, `hash`, nor came from here.
pub(super) async fn write<W: Wire>(
    kong: &Kong<W>,
    base: Document,
    changes: &[(usize, &Desired)],
    own_tag: &str,
    hash: Hash,
) -> Said {
    let mut said = Said::nothing(base);
    let mut expected = hash;
    // What was not tried yet, the next at the end.
    let mut groups = vec![changes.to_vec()];
    let mut is_base_tried = false;
    while let Some(mut group) = groups.pop() {
        match kong.configuration_hash().await {
            Ok(now) if now == expected => {}
            Ok(_) => {
                let message = Quoted::new("another writer loaded a configuration meanwhile");
                return said.all(group, groups, Refused::Failure(Failure::Conflict { message }));
            }
            Err(failure) => return said.all(group, groups, Refused::Failure(failure)),
        }
        let document = with(&said.document, &group, own_tag);
        let problem = match kong.load(&document).await {
            Ok(()) => {
                said.loaded = true;
                said.document = document;
                said.taken.extend(group.iter().map(|(place, _)| *place));
                said.hash = kong.configuration_hash().await.ok();
                expected = said.hash.unwrap_or(expected);
                continue;
            }
            Err(problem) => problem,
        };
        match problem {
            NotLoaded::Objects(bad) => {
                let before = group.len();
                let mut dropped = BTreeSet::new();
                group.retain(|(place, desired)| match fault_of(desired, &bad) {
                    Some(failure) => {
                        said.failed.push((*place, Refused::Failure(failure)));
                        dropped.extend(desired.ids());
                        false
                    }
                    None => true,
                });
                let found = before - group.len() + said.leave_out(&bad, own_tag, &dropped);
                if found == 0 {
                    said.base = bad.first().map(Bad::shown);
                    return said.without(group, groups);
                }
                if !group.is_empty() || before == changes.len() {
                    groups.push(group);
                }
            }
            NotLoaded::Unnamed(message) if group.is_empty() => {
                said.base = Some(message);
                return said.without(group, groups);
            }
            NotLoaded::Unnamed(_) if !is_base_tried && !said.loaded => {
                is_base_tried = true;
                groups.extend([group, Vec::new()]);
            }
            NotLoaded::Unnamed(message) if group.len() == 1 => {
                let (place, desired) = group[0];
                said.failed.push((place, Refused::Failure(refused(desired, message))));
            }
            NotLoaded::Unnamed(_) => {
                let rest = group.split_off(group.len() / 2);
                groups.extend([rest, group]);
            }
            NotLoaded::Failure(failure) => {
                return said.all(group, groups, Refused::Failure(failure));
            }
            NotLoaded::Unknown => return said.all(group, groups, Refused::Applying),
        }
    }
    said
}

/// The same text each time, so that it can be known again.
fn with(base: &Document, changes: &[(usize, &Desired)], own_tag: &str) -> Document {
    let mut document = base.clone();
    changes.iter().for_each(|(_, desired)| enter(&mut document, desired));
    document.sort_ours(own_tag);
    document
}

fn refused(desired: &Desired, message: Quoted) -> Failure {
    let message = match desired {
        Desired::License(..) => Quoted::new(LICENSE_REFUSED),
        _ => message,
    };
    Failure::Refused { status: 400, message }
}

/// Why Kong will not have this, if it is among what it named.
fn fault_of(desired: &Desired, bad: &[Bad]) -> Option<Failure> {
    let ids = desired.ids();
    let names = desired.names();
    let is_its = |bad: &&Bad| {
        bad.id.is_some_and(|id| ids.contains(&id))
            || (bad.entity == "sni"
                && bad.name.as_ref().is_some_and(|name| names.contains(name.as_str())))
            || bad.is_all_of(desired.entity())
    };
    let bad = bad.iter().find(is_its)?;
    Some(match desired {
        Desired::License(..) if bad.id.is_none() => Failure::NoLicenses,
        _ => refused(desired, bad.message.clone()),
    })
}

impl Said {
    pub(super) const fn nothing(document: Document) -> Self {
        Self {
            taken: BTreeSet::new(),
            failed: Vec::new(),
            loaded: false,
            is_there: false,
            base: None,
            ended: None,
            hash: None,
            document,
        }
    }

    /// What runs, `hash`, may be all of it.
    pub(super) fn of_what_runs(
        base: Document,
        changes: &[(usize, &Desired)],
        own_tag: &str,
        hash: Hash,
    ) -> Self {
        let is_there = Hash::of(&with(&base, changes, own_tag)) == hash;
        Self { is_there, hash: Some(hash), ..Self::nothing(base) }
    }

    /// Takes out what we brought before and Kong will not have any more, such as a CA certificate
    /// that has expired since. Of those that were just `dropped` the former ones stay: they may be
    /// good. Returns how many were taken out.
    fn leave_out(&mut self, bad: &[Bad], own_tag: &str, dropped: &BTreeSet<Uuid>) -> usize {
        let bad = bad.iter().filter(|bad| {
            let id = bad.id.filter(|id| !dropped.contains(id));
            id.is_some_and(|id| self.document.remove_ours(&bad.entity, id, own_tag))
        });
        let told = bad.inspect(|bad| warn!(object = %bad.shown(), "left out of the configuration"));
        told.count()
    }

    /// The rest came to this.
    fn all(
        mut self,
        group: Vec<(usize, &Desired)>,
        groups: Vec<Vec<(usize, &Desired)>>,
        why: Refused,
    ) -> Self {
        let rest = groups.into_iter().flatten().chain(group);
        self.failed.extend(rest.map(|(place, _)| (place, why.clone())));
        self.ended = Some(why);
        self
    }

    /// The rest cannot be taken, because of what is not ours.
    fn without(self, group: Vec<(usize, &Desired)>, groups: Vec<Vec<(usize, &Desired)>>) -> Self {
        let message = self.base.clone().unwrap_or_else(|| Quoted::new(""));
        let message = Quoted::new(&format!("not because of this binding: {message}"));
        let why = Refused::Elsewhere(Failure::Refused { status: 400, message });
        self.all(group, groups, why)
    }
}
