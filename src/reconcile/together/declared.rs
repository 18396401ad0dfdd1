//! What is remembered of a Kong without a database: the text that runs, as far as it is ours, and
//! those that it would not have.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use super::Base;
use super::series::{Refused, Said};
use crate::bundle::Fingerprint;
use crate::kong::{Failure, Hash};

/// No longer is a configuration waited for that Kong may still be applying.
const LONGEST_APPLYING: Duration = Duration::from_secs(120);
/// What was refused is sent again after this long, and a hash that is not that of the text is believed
/// for this long: what it came from may be mended, and nobody saw it.
pub(in crate::reconcile) const SURE_FOR: Duration = Duration::from_secs(60 * 60);
/// So many texts that Kong refused are known again: with a file, that with it and that without.
const REFUSED_TEXTS: usize = 4;

#[derive(Debug, Default)]
pub(in crate::reconcile) struct Declared {
    /// What ran when it was last looked at, or should run since.
    hash: Option<Hash>,
    /// How long Kong, which has not answered a write and runs what it ran before, may go on with it.
    waits_until: Option<Instant>,
    /// So many writes in a row were not answered.
    unanswered: u32,
    /// What Kong took last.
    loaded: Option<Loaded>,
    /// The text that Kong took, and the other hash than its own that it told then.
    doubted: Option<(Hash, Hash)>,
    /// Texts that Kong would not have as a whole while it ran this.
    refused: VecDeque<RefusedText>,
    /// Refusals were forgotten while Kong was away: all is to be looked at when it is back.
    is_look_due: bool,
}

#[derive(Debug)]
struct RefusedText {
    text: Hash,
    why: Failure,
    since: Instant,
}

#[derive(Clone, Copy, Debug)]
struct Loaded {
    /// Of `DECLARATIVE__FILE`, if it was made of that.
    file: Option<Fingerprint>,
    /// The hash of the text itself.
    text: Hash,
    /// What Kong said that it ran then.
    ran: Hash,
    /// When it took it.
    since: Instant,
}

impl Declared {
    /// Whether Kong runs another configuration than it should; `None` if it was never looked at.
    pub(super) fn has_moved_to(&self, hash: Hash) -> Option<bool> {
        self.hash.map(|known| known != hash)
    }

    /// Whether Kong has any object, as far as that is known.
    pub(in crate::reconcile) fn runs_something(&self) -> bool {
        self.hash.is_some_and(|hash| !hash.is_empty())
    }

    /// Whether a write is waited for that was not answered.
    pub(super) const fn waits(&self) -> bool {
        self.waits_until.is_some()
    }

    /// Whether Kong may still go on with what it was sent, if it runs this.
    pub(super) fn is_applying(&self, running: Hash) -> bool {
        let has_time = self.waits_until.is_some_and(|until| Instant::now() < until);
        has_time && self.hash == Some(running)
    }

    /// Kong does not answer: it may have larger limits when it is back. Returns whether it had refused
    /// a text.
    pub(super) fn forget_refused(&mut self) -> bool {
        let had_refused = !self.refused.is_empty();
        self.refused.clear();
        had_refused
    }

    /// All is to be looked at when Kong is back, though it may run what it ran.
    pub(super) const fn want_look(&mut self) {
        self.is_look_due = true;
    }

    /// Whether that is so, told once.
    pub(super) const fn take_look(&mut self) -> bool {
        std::mem::replace(&mut self.is_look_due, false)
    }

    /// What runs now. Another configuration than before ends the wait for it, and one that may be
    /// taken where it was not.
    pub(super) fn note(&mut self, running: Hash) {
        if self.hash != Some(running) {
            self.refused.clear();
            self.unanswered = 0;
            self.doubted = self.doubted.filter(|(_, ran)| *ran == running);
        }
        if !self.is_applying(running) {
            self.waits_until = None;
        }
        self.hash = Some(running);
    }

    /// Whether what runs is this text: by its hash, or because Kong took it and runs the same since.
    /// That is not believed for ever: the hash may be that of someone who was there each time.
    pub(super) fn has_taken(&self, text: Hash, running: Hash) -> bool {
        let is_loaded = |loaded: &Loaded| {
            loaded.text == text && loaded.ran == running && loaded.since.elapsed() < SURE_FOR
        };
        text == running || self.loaded.as_ref().is_some_and(is_loaded)
    }

    /// Whether the text that runs was made of this file.
    pub(super) fn runs(&self, base: &Base) -> bool {
        self.loaded.is_some_and(|loaded| {
            loaded.file == Some(base.fingerprint) && self.hash == Some(loaded.ran)
        })
    }

    /// Whether something else runs than what was made of this file.
    pub(super) fn is_overridden(&self, base: &Base, running: Hash) -> bool {
        let loaded = self.loaded.filter(|loaded| loaded.file == Some(base.fingerprint));
        loaded.is_some_and(|loaded| loaded.ran != running)
    }

    /// Why Kong would not have this text.
    pub(super) fn why_refused(&self, text: Hash) -> Option<&Failure> {
        let is_known =
            |refused: &&RefusedText| refused.text == text && refused.since.elapsed() < SURE_FOR;
        self.refused.iter().find(is_known).map(|refused| &refused.why)
    }

    pub(super) fn note_refused(&mut self, text: Hash, why: Failure) {
        self.refused.retain(|refused| refused.text != text);
        self.refused.push_back(RefusedText { text, why, since: Instant::now() });
        if self.refused.len() > REFUSED_TEXTS {
            self.refused.pop_front();
        }
    }

    /// The text, with the hash after it, that need not be doubted once more.
    pub(super) const fn doubted(&self) -> Option<(Hash, Hash)> {
        self.doubted
    }

    /// What came of a series of writes into what ran `before`.
    ///
    /// Where Kong tells another hash than that of the text, someone else was there since, or this
    /// Kong has hashes of its own: all is looked at once more, until the same text has the same hash
    /// twice.
    pub(super) fn take(&mut self, said: &Said, base: Option<&Base>, before: Hash) {
        match said.ended {
            Some(Refused::Applying(within)) => self.wait(within),
            // Nothing was sent, or nothing is known of it.
            Some(Refused::Failure(_)) => {}
            Some(Refused::Itself(_) | Refused::Elsewhere(_)) | None => self.unanswered = 0,
        }
        let (Some(text), Some(ran)) = (said.text, said.hash) else { return };
        if said.loaded && ran != text && self.doubted != Some((text, ran)) {
            self.doubted = Some((text, ran));
            self.hash = Some(text);
            return;
        }
        let kept = self.loaded.filter(|loaded| loaded.ran == before).and_then(|loaded| loaded.file);
        let file = base.map(|base| base.fingerprint).or(kept);
        let same = self.loaded.filter(|it| !said.loaded && it.text == text && it.ran == ran);
        let since = same.map_or_else(Instant::now, |loaded| loaded.since);
        self.loaded = Some(Loaded { file, text, ran, since });
        self.hash = Some(ran);
    }

    /// Twice as long each time: a Kong that is slower than any that was measured is not sent the same
    /// again and again.
    fn wait(&mut self, within: Duration) {
        let longer = 2_u32.saturating_pow(self.unanswered);
        let patience = within.saturating_mul(longer).min(LONGEST_APPLYING);
        self.waits_until = Some(Instant::now() + patience);
        self.unanswered += 1;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use tokio::time::sleep;

    use super::*;
    use crate::declarative::Document;

    fn hash(byte: u8) -> Hash {
        hex::encode([byte; 16]).parse().unwrap()
    }

    /// Kong took `text`, and said that it ran `ran` then.
    fn said(text: Hash, ran: Hash) -> Said {
        let document = Document::parse(b"_format_version: '3.0'").unwrap();
        Said { loaded: true, ..Said::there(document, text, ran) }
    }

    #[test]
    fn a_text_with_another_hash_is_doubted_once() {
        let (before, text, other) = (hash(1), hash(2), hash(3));
        let mut declared = Declared::default();
        declared.note(before);
        declared.take(&said(text, other), None, before);
        assert_eq!(declared.has_moved_to(other), Some(true), "it is looked at again");
        assert!(!declared.has_taken(text, other) && declared.has_taken(text, text));
        declared.note(other);
        // A Kong that has hashes of its own.
        declared.take(&said(text, other), None, other);
        assert_eq!(declared.has_moved_to(other), Some(false));
        assert!(declared.has_taken(text, other) && !declared.has_taken(text, before));
    }

    #[tokio::test(flavor = "local", start_paused = true)]
    async fn a_hash_that_is_not_that_of_the_text_is_believed_for_an_hour() {
        let (text, other) = (hash(2), hash(3));
        let mut declared = Declared::default();
        declared.note(hash(1));
        declared.take(&said(text, other), None, hash(1));
        declared.note(other);
        declared.take(&said(text, other), None, other);
        sleep(SURE_FOR - Duration::from_secs(1)).await;
        assert!(declared.has_taken(text, other));
        // To find it there is not to be told once more.
        let document = Document::parse(b"_format_version: '3.0'").unwrap();
        declared.take(&Said::there(document, text, other), None, other);
        sleep(Duration::from_secs(1)).await;
        assert!(!declared.has_taken(text, other));
        declared.take(&said(text, other), None, other);
        assert!(declared.has_taken(text, other));
    }

    #[test]
    fn a_text_is_doubted_again_with_another_hash_and_after_another_ran() {
        let (before, text, other) = (hash(1), hash(2), hash(3));
        let doubting = || {
            let mut declared = Declared::default();
            declared.note(before);
            declared.take(&said(text, other), None, before);
            declared.note(other);
            declared
        };
        let mut declared = doubting();
        declared.take(&said(text, hash(4)), None, other);
        assert!(!declared.has_taken(text, hash(4)));
        let mut declared = doubting();
        declared.note(hash(4));
        declared.take(&said(text, other), None, hash(4));
        assert!(!declared.has_taken(text, other));
    }

    #[test]
    fn a_refused_text_is_known_until_kong_runs_something_else_than_ours() {
        let failure = Failure::NoLicenses;
        let mut declared = Declared::default();
        declared.note(hash(1));
        declared.note_refused(hash(9), failure.clone());
        declared.take(&said(hash(2), hash(2)), None, hash(1));
        declared.note(hash(2));
        assert_eq!(declared.why_refused(hash(9)), Some(&failure));
        assert_eq!(declared.why_refused(hash(8)), None);
        declared.note(hash(3));
        assert_eq!(declared.why_refused(hash(9)), None);
    }
}
