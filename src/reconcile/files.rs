//! The look at files: what one generation says, and what the ledger keeps of it.

use std::collections::BTreeSet;
use std::sync::Arc;

use tokio::task::yield_now;

use super::ledger::Ledger;
use super::memory::{Memory, TEMPORARY};
use super::plan::{Candidate, Plan, Planned};
use super::reloading::Readable;
use super::together::{Base, FromFile};
use super::verdict::Verdict;
use super::{Again, Conclusion, Found, Woken};
use crate::binding::{Binding, Configuration, Content, Kind, Wish};
use crate::bundle::Facts;
use crate::clock::Timestamp;
use crate::desired::{self, Desired};
use crate::kong::Query;
use crate::log::tell;
use crate::names::BindingName;
use crate::status::{Reason, Shown, State};
use crate::volume::{Generation, Identity, Mounts, Reason as Unreadable};

/// A binding whose files are not as they were, or that is to be looked at all the same.
pub(super) struct Changed {
    pub(super) binding: Arc<Binding>,
    /// What tells the generation that was seen.
    seen: Identity,
    /// It is another than the one that was read last, and that could be served.
    pub(super) is_next: bool,
    even_if_unchanged: bool,
}

/// What a look at the files of a binding came to.
pub(super) enum Looked {
    /// There is nothing to bring to Kong.
    Concluded(Box<Conclusion>),
    /// Kong should hold it.
    Servable(Box<Candidate>),
    /// nginx should have read it.
    Readable(Box<Readable>),
    /// The rest of Kong's configuration.
    Configuration(Base),
}

impl Ledger {
    /// A cheap look; `None` if the files are as they were.
    pub(super) fn changed(&mut self, woken: Woken, now: Timestamp) -> Option<Changed> {
        let Woken { binding, even_if_unchanged } = woken;
        let seen = binding.source().identity(&*self.files);
        let memory = self.memory(&binding.name, now);
        let is_looked_at = even_if_unchanged || !memory.is_of(seen);
        let is_next = !memory.has_read(seen) && memory.status.state != State::Invalid;
        is_looked_at.then_some(Changed { binding, seen, is_next, even_if_unchanged })
    }

    /// Reads the files that changed.
    pub(super) async fn read(
        &mut self,
        changed: Vec<Changed>,
        keeps_keys: bool,
        now: Timestamp,
    ) -> Found {
        // Not between a swap and its write: a mount that shows swaps is none to warn of.
        let mounts = changed.iter().any(|one| one.even_if_unchanged).then(Mounts::here);
        let candidates = Vec::with_capacity(changed.len());
        let mut found = Found { candidates, ..Found::default() };
        let mut looked = BTreeSet::new();
        for changed in changed {
            // Reading and parsing thousands of files takes seconds: probes get their turn.
            yield_now().await;
            let (name, kind) = (changed.binding.name.clone(), changed.binding.kind());
            match self.look_at_files(changed, mounts.as_ref(), now) {
                Looked::Concluded(conclusion) => {
                    if kind == Kind::Declarative {
                        found.file = FromFile::Invalid;
                    }
                    found.passed.conclusions.push(*conclusion);
                }
                Looked::Servable(mut candidate) => {
                    if !keeps_keys {
                        candidate.wish.put_down();
                    }
                    found.candidates.push(*candidate);
                }
                Looked::Readable(readable) => found.readables.push(*readable),
                Looked::Configuration(base) => found.file = FromFile::Read(base),
            }
            looked.insert(name);
        }
        found.is_all = self.are_all_for_kong(&looked);
        if self.has_file && matches!(found.file, FromFile::None) {
            found.file = FromFile::Unread;
        }
        found
    }

    /// Reads and judges the files of one generation.
    fn look_at_files(
        &mut self,
        changed: Changed,
        mounts: Option<&Mounts>,
        now: Timestamp,
    ) -> Looked {
        let Changed { binding, seen, .. } = changed;
        let files = Arc::clone(&self.files);
        let memory = self.memory(&binding.name, now);
        if let Some(mounts) = mounts {
            memory.note_mounts(&binding, mounts);
        }
        let read = binding.source().read_as(seen, &*files);
        let identity = read.as_ref().ok().map(Generation::identity);
        let written = identity.unwrap_or(seen).modified;
        if let Some(files) = &mut memory.read_by_nginx {
            files.written = written;
        }
        memory.note_identity(identity);
        let judged = match &read {
            Ok(generation) => self.judge(&binding, generation, now),
            Err(unreadable) if unreadable.reason() == Unreadable::Changing => {
                let message = unreadable.to_string();
                Err(Early::LookAgain(Verdict::new(State::Pending, Reason::Changing, message)))
            }
            Err(unreadable)
                if unreadable.reason() == Unreadable::Missing
                    && memory.was_seen()
                    && !binding.source().is_swapped(&*files)
                    && memory.takes_second_look() =>
            {
                // Unlinked, and perhaps not made again yet.
                let message = unreadable.to_string();
                Err(Early::LookAgain(Verdict::new(State::Pending, Reason::Changing, message)))
            }
            Err(unreadable) => {
                let reason = Reason::File(unreadable.reason());
                let message = unreadable.with_cause();
                Err(Early::Concluded(Verdict::new(State::Invalid, reason, message), None))
            }
        };
        match judged {
            Ok(Content::Wish(wish)) => Looked::Servable(Box::new(self.candidate(binding, wish))),
            Ok(Content::Read(files, facts)) => Looked::Readable(Box::new(Readable {
                name: binding.name.clone(),
                files,
                facts,
                written,
            })),
            Ok(Content::Configuration(Configuration { document, fingerprint, .. })) => {
                Looked::Configuration(Base { name: binding.name.clone(), document, fingerprint })
            }
            Err(early) => {
                Looked::Concluded(Box::new(self.conclude_early(&binding.name, early, now)))
            }
        }
    }

    fn judge(
        &mut self,
        binding: &Binding,
        generation: &Generation,
        now: Timestamp,
    ) -> Result<Content, Early> {
        let read = binding.content(generation, now);
        let torn = read.as_ref().map_or_else(
            |invalid| invalid.is_torn().then(|| invalid.to_string()),
            |content| self.looks_cut(&binding.name, content).map(str::to_owned),
        );
        if let Some(message) = torn.filter(|_| !binding.source().is_swapped(&*self.files))
            && self.memory(&binding.name, now).takes_second_look()
        {
            let verdict = Verdict::new(State::Pending, Reason::Changing, message);
            return Err(Early::LookAgain(verdict));
        }
        let content = read.and_then(|content| {
            // An expired certificate is shown, too: its date is what one wants to see.
            self.note_content(binding, &content, now);
            content.check_expired(&binding.file(), now)?;
            Ok(content)
        });
        let content = match content {
            Ok(content) => content,
            Err(invalid) => {
                let reason = Reason::from(&invalid);
                let verdict = Verdict::new(State::Invalid, reason, invalid.to_string());
                return Err(Early::Concluded(verdict, None));
            }
        };
        let facts = content.facts().filter(|facts| facts.not_yet_valid_at(now));
        if let Some(facts) = facts {
            let from = facts.validity.not_before;
            return Err(Early::Concluded(Verdict::not_yet_valid(from), Some(Again::At(from))));
        }
        Ok(content)
    }

    /// Why a configuration may be the beginning of one that is being written: YAML has no end that
    /// would be missed.
    fn looks_cut(&self, name: &BindingName, content: &Content) -> Option<&'static str> {
        let Content::Configuration(read) = content else { return None };
        let before = self.known(name).and_then(|memory| memory.length);
        if before.is_some_and(|before| read.length < before) {
            return Some("the file is shorter than it was, and may be half written");
        }
        let is_lost = self.declared.runs_something() && !read.document.has_objects();
        is_lost.then_some("the file holds nothing any more, and may be half written")
    }

    fn note_content(&mut self, binding: &Binding, content: &Content, now: Timestamp) {
        if let Some(facts) = content.facts() {
            return self.note_bundle(binding, facts, now);
        }
        let Content::Configuration(Configuration { fingerprint, length, .. }) = content else {
            return;
        };
        let memory = self.memory(&binding.name, now);
        memory.length = Some(*length);
        if memory.note_bundle(*fingerprint) {
            self.metrics.generation(&binding.name);
            tell!(GENERATION, binding = %binding.name, %fingerprint);
        }
    }

    fn note_bundle(&mut self, binding: &Binding, facts: &Facts, now: Timestamp) {
        let memory = self.memory(&binding.name, now);
        let shown = memory.shown(&Arc::new(Shown::from(facts)));
        let status = memory.status_mut();
        status.file = Some(shown);
        status.renew_at = renew_at(binding, facts);
        if facts.temporary && !memory.is_temporary {
            tell!(TEMPORARY, binding = %binding.name, problem = TEMPORARY);
        }
        memory.is_temporary = facts.temporary;
        if memory.note_bundle(facts.fingerprint) {
            self.metrics.generation(&binding.name);
            tell!(GENERATION, binding = %binding.name, fingerprint = %facts.fingerprint,
                not_after = %facts.validity.not_after);
        }
    }

    fn candidate(&mut self, binding: Arc<Binding>, wish: Wish) -> Candidate {
        let query = match &wish {
            Wish::Certificate(settings, bundle) => {
                let names = desired::names(settings, bundle.facts()).usable;
                self.claims.claim_names(&binding.name, &names, settings.snis.is_some());
                let id = self.own.certificate_of(&binding.name, settings);
                Query::Certificate { id, names: names.into() }
            }
            Wish::Authorities(..) => {
                let memory = self.known(&binding.name);
                let doubted = memory.map(Memory::to_look_up).unwrap_or_default();
                Query::Authorities { doubted }
            }
            Wish::License(..) => Query::Licenses,
        };
        let memory = self.known(&binding.name);
        let refused = memory.map(Memory::refused_members).unwrap_or_default();
        Candidate { binding, wish, query, refused }
    }

    /// Reads the keys again that were given away. Returns whether the files hold what was judged:
    /// anything else is to be judged first.
    pub(super) fn take_up(&self, planned: &mut Planned, now: Timestamp) -> bool {
        let Candidate { binding, wish: Wish::Certificate(_, bundle), .. } = &mut planned.candidate
        else {
            return true;
        };
        let read = binding.source().read(&*self.files).ok();
        let content = read.and_then(|generation| binding.content(&generation, now).ok());
        let Some(Content::Wish(Wish::Certificate(_, whole))) = content else { return false };
        if whole.facts() != bundle.facts() {
            return false;
        }
        if let Plan::Decided(decided) = &mut planned.plan
            && let Desired::Certificate(_, bundle) = &mut decided.desired
        {
            *bundle = whole.clone();
        }
        *bundle = whole;
        true
    }

    fn conclude_early(&mut self, name: &BindingName, early: Early, now: Timestamp) -> Conclusion {
        match early {
            Early::Concluded(verdict, again) => {
                // Nothing is written for it: others need not wait for that.
                self.claims.release_place(name);
                self.stand(name, verdict, again, None, now)
            }
            Early::LookAgain(verdict) => {
                let status = &self.memory(name, now).status;
                // Until it is known better, what was said last holds.
                let is_first = status.reason == Some(Reason::Starting);
                let verdict = if is_first { verdict } else { Verdict::unchanged(status) };
                self.stand(name, verdict, Some(Again::After(self.debounce)), None, now)
            }
        }
    }
}

impl Memory {
    /// Tells of mounts that never show a renewal, each once.
    fn note_mounts(&mut self, binding: &Binding, mounts: &Mounts) {
        let frozen = binding.source().frozen(mounts);
        for problem in frozen.iter().filter(|mount| !self.frozen.contains(mount)) {
            tell!(NEVER_RENEWED, binding = %binding.name, %problem);
        }
        self.frozen = frozen.into();
    }
}

/// The files are no candidate for Kong now.
enum Early {
    Concluded(Verdict, Option<Again>),
    /// They may be half written.
    LookAgain(Verdict),
}

fn renew_at(binding: &Binding, facts: &Facts) -> Option<Timestamp> {
    let validity = facts.validity;
    let life = validity.not_before.until(validity.not_after);
    let share = life.mul_f64(binding.renew_by()?.share()).as_secs();
    let share = i64::try_from(share).unwrap_or(i64::MAX);
    Some(Timestamp(validity.not_before.0.saturating_add(share)))
}
