//! As many writes as it takes until Kong has all that it will have.

use std::collections::BTreeSet;
use std::time::Duration;

use uuid::Uuid;

use crate::declarative::Document;
use crate::desired::Desired;
use crate::kong::{Bad, Failure, Hash, Kong, LICENSE_REFUSED, NotLoaded, Wire, enter};
use crate::log::tell;
use crate::quote::Quoted;

/// What is to be written, in as many writes as that takes.
pub(super) struct Series<'a> {
    /// With their places.
    pub(super) changes: &'a [(usize, &'a Desired)],
    /// The tag of what is ours.
    pub(super) own_tag: &'a str,
    /// What runs: nothing is written once Kong runs what neither was there before, nor came from
    /// here.
    pub(super) running: Hash,
    /// What is not ours does not run yet.
    pub(super) is_base_new: bool,
    /// A text, and another hash than its own, which Kong told after it before.
    pub(super) doubted: Option<(Hash, Hash)>,
}

/// What Kong said to a series of writes.
pub(super) struct Said {
    /// Places of the changes that it has taken.
    pub(super) taken: BTreeSet<usize>,
    /// Those that it has not, and why.
    pub(super) failed: Vec<(usize, Refused)>,
    /// Whether it has taken anything.
    pub(super) loaded: bool,
    /// Why it will not have the text as a whole.
    pub(super) whole: Option<Failure>,
    /// Why the series ended before all was tried, if nothing was at fault.
    pub(super) ended: Option<Refused>,
    /// The text that it took last, or that runs.
    pub(super) text: Option<Hash>,
    /// What runs then, as far as it is known.
    pub(super) hash: Option<Hash>,
    /// What it has now, or would have.
    pub(super) document: Document,
}

/// Why a change was not taken.
#[derive(Clone)]
pub(super) enum Refused {
    /// Because of itself.
    Itself(Failure),
    /// The write of all failed.
    Failure(Failure),
    /// What is not ours is at fault, or the size of it all.
    Elsewhere(Failure),
    /// There was no answer in time, and it may be applied yet within this long.
    Applying(Duration),
}

impl Series<'_> {
    /// The whole of it: the same text each time, so that it can be known again.
    pub(super) fn text(&self, base: &Document) -> Hash {
        Hash::of(&with(base, self.changes, self.own_tag))
    }

    /// Writes as many of the changes as Kong takes, in as few writes as it names those that it does
    /// not.
    pub(super) async fn write<W: Wire>(&self, kong: &Kong<W>, base: Document) -> Said {
        let mut said = Said::nothing(base);
        let mut expected = self.running;
        // What was not tried yet, the next at the end.
        let mut groups = vec![self.changes.to_vec()];
        let mut is_base_tried = false;
        while let Some(mut group) = groups.pop() {
            match kong.configuration_hash().await {
                Ok(now) if now == expected => {}
                Ok(_) => return said.all(group, groups, Refused::Failure(overtaken())),
                Err(failure) => return said.all(group, groups, Refused::Failure(failure)),
            }
            let document = with(&said.document, &group, self.own_tag);
            let problem = match kong.load(&document).await {
                Ok(()) => {
                    let text = Hash::of(&document);
                    said.loaded = true;
                    said.document = document;
                    said.taken.extend(group.iter().map(|(place, _)| *place));
                    said.text = Some(text);
                    said.hash = kong.configuration_hash().await.ok();
                    expected = said.hash.unwrap_or(expected);
                    let is_odd = |hash| hash != text && self.doubted != Some((text, hash));
                    if said.hash.is_some_and(is_odd) {
                        return said.all(Vec::new(), groups, Refused::Failure(overtaken()));
                    }
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
                            said.failed.push((*place, Refused::Itself(failure)));
                            dropped.extend(desired.ids());
                            false
                        }
                        None => true,
                    });
                    let found = before - group.len() + said.leave_out(&bad, self.own_tag, &dropped);
                    if found == 0 {
                        let message = bad.first().map_or_else(|| Quoted::new(""), Bad::shown);
                        return said.without(group, groups, self.of_base(&message));
                    }
                    // What runs need not be loaded for nothing.
                    if !group.is_empty() || (self.is_base_new && before == self.changes.len()) {
                        groups.push(group);
                    }
                }
                NotLoaded::Unnamed(message) if group.is_empty() => {
                    return said.without(group, groups, self.of_base(&message));
                }
                NotLoaded::Unnamed(_) if !is_base_tried && !said.loaded => {
                    is_base_tried = true;
                    groups.extend([group, Vec::new()]);
                }
                NotLoaded::Unnamed(message) if group.len() == 1 => {
                    let (place, desired) = group[0];
                    said.failed.push((place, Refused::Itself(refused(desired, message))));
                }
                NotLoaded::Unnamed(_) => {
                    let rest = group.split_off(group.len() / 2);
                    groups.extend([rest, group]);
                }
                NotLoaded::Failure(failure @ Failure::Refused { .. }) => {
                    return said.without(group, groups, failure);
                }
                NotLoaded::Failure(failure) => {
                    return said.all(group, groups, Refused::Failure(failure));
                }
                NotLoaded::Unknown { within } => {
                    return said.all(group, groups, Refused::Applying(within));
                }
            }
        }
        said
    }

    /// What is not ours is at fault.
    fn of_base(&self, message: &Quoted) -> Failure {
        let message = if self.is_base_new {
            message.clone()
        } else {
            Quoted::new(&format!("not because of this binding: {message}"))
        };
        Failure::Refused { status: 400, message }
    }
}

fn with(base: &Document, changes: &[(usize, &Desired)], own_tag: &str) -> Document {
    let mut document = base.clone();
    changes.iter().for_each(|(_, desired)| enter(&mut document, desired));
    document.sort_ours(own_tag);
    document
}

fn overtaken() -> Failure {
    Failure::Conflict { message: Quoted::new("it loaded a configuration meanwhile") }
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
            whole: None,
            ended: None,
            text: None,
            hash: None,
            document,
        }
    }

    /// What runs, `hash`, is this text.
    pub(super) fn there(document: Document, text: Hash, hash: Hash) -> Self {
        Self { text: Some(text), hash: Some(hash), ..Self::nothing(document) }
    }

    /// Kong would not have this text before.
    pub(super) fn refused_before(
        document: Document,
        changes: &[(usize, &Desired)],
        failure: Failure,
    ) -> Self {
        Self::nothing(document).without(changes.to_vec(), Vec::new(), failure)
    }

    /// Takes out what we brought before and Kong will not have any more, such as a CA certificate
    /// that has expired since. Of those that were just `dropped` the former ones stay: they may be
    /// good. Returns how many were taken out.
    fn leave_out(&mut self, bad: &[Bad], own_tag: &str, dropped: &BTreeSet<Uuid>) -> usize {
        let bad = bad.iter().filter(|bad| {
            let id = bad.id.filter(|id| !dropped.contains(id));
            id.is_some_and(|id| self.document.remove_ours(&bad.entity, id, own_tag))
        });
        let told = bad.inspect(|bad| tell!(OBJECT_LEFT_OUT, object = %bad.shown()));
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

    /// The rest cannot be taken, because of the whole.
    fn without(
        mut self,
        group: Vec<(usize, &Desired)>,
        groups: Vec<Vec<(usize, &Desired)>>,
        why: Failure,
    ) -> Self {
        self.whole = Some(why.clone());
        self.all(group, groups, Refused::Elsewhere(why))
    }
}
