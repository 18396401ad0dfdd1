//! What the handshakes of one binding should show, and how far that is proven.

use std::collections::BTreeSet;
use std::sync::Arc;

use uuid::Uuid;

use crate::bundle::{Facts, Fingerprint, KeyType, ServedChain};
use crate::held::HeldCertificate;
use crate::kong::Failure;
use crate::metrics::Metrics;
use crate::names::Sni;
use crate::proof::{self, Finding, Ladder, ProxyPort, Question, Unseen};
use crate::status::Shown;

/// What the handshakes of one binding should show, and how far that is proven.
#[derive(Debug)]
pub(super) struct Proving {
    pub(super) subject: Subject,
    /// Tells what is asked now from what was asked of an earlier subject.
    pub(super) round: u64,
    /// What was not seen served yet.
    pub(super) open: BTreeSet<Question>,
    pub(super) ladder: Ladder,
    /// What the last look showed in its place.
    pub(super) flaw: Option<Flaw>,
    /// Why the nodes could not be told again.
    pub(super) unannounced: Option<Failure>,
}

/// A handshake that did not show what it should.
pub(super) type Flaw = (Question, Result<ServedChain, Unseen>);

/// What Kong holds.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Subject {
    /// Kong's, if it holds it.
    object: Option<Uuid>,
    /// Where it is shown, if not at the proxy port.
    pub(super) port: Option<ProxyPort>,
    bundle: Fingerprint,
    chains: Vec<(KeyType, Fingerprint)>,
    questions: BTreeSet<Question>,
    /// It is what the files hold.
    pub(super) is_wanted: bool,
    pub(super) shown: Arc<Shown>,
}

impl Subject {
    /// `None` if there is no name to ask for.
    pub(super) fn of(
        held: &HeldCertificate,
        facts: &Facts,
        is_wanted: bool,
        label: &str,
    ) -> Option<Self> {
        let names: BTreeSet<Sni> =
            served_names(held).filter(|name| proof::is_askable(name, label)).collect();
        let key_types: Vec<Option<KeyType>> = if held.has_alt() {
            facts.key_types.iter().copied().map(Some).collect()
        } else {
            // No second pair could be shown in its place.
            vec![None]
        };
        let ask = |name: &Sni| {
            let name = Some(name.clone());
            key_types
                .iter()
                .map(move |key_type| Question { name: name.clone(), key_type: *key_type })
        };
        let questions = names.iter().flat_map(ask).collect();
        let subject = Self::new(facts, questions);
        (!names.is_empty()).then_some(Self { object: Some(held.id), is_wanted, ..subject })
    }

    /// What clients without a server name should be shown at `port`.
    pub(super) fn of_files(facts: &Facts, port: ProxyPort) -> Self {
        // nginx may have a pair of each key type.
        let question = Question { name: None, key_type: facts.key_types.first().copied() };
        Self { port: Some(port), ..Self::new(facts, [question].into()) }
    }

    fn new(facts: &Facts, questions: BTreeSet<Question>) -> Self {
        Self {
            object: None,
            port: None,
            bundle: facts.fingerprint,
            chains: facts.key_types.iter().copied().zip(facts.chains.iter().copied()).collect(),
            questions,
            is_wanted: true,
            shown: Arc::new(Shown::from(facts)),
        }
    }

    fn is_proven_by(&self, question: &Question, seen: &Result<ServedChain, Unseen>) -> bool {
        let Ok(shown) = seen else { return false };
        self.chains.iter().any(|(key_type, fingerprint)| {
            question.key_type.is_none_or(|asked| asked == *key_type)
                && *fingerprint == shown.fingerprint
        })
    }
}

/// Kong stores other spellings, too, and serves those to nobody.
pub(super) fn served_names(held: &HeldCertificate) -> impl Iterator<Item = Sni> {
    held.snis.iter().filter_map(|stored| {
        stored.parse::<Sni>().ok().filter(|name| name.as_ref() == stored.as_str())
    })
}

impl Proving {
    pub(super) fn begin(subject: Subject, round: u64) -> Self {
        let open = subject.questions.clone();
        Self { subject, round, open, ladder: Ladder::begin(), flaw: None, unannounced: None }
    }

    /// The names to announce: those that were not seen served, if `held` is still what is to be
    /// shown.
    pub(super) fn to_announce(&self, held: Option<&Subject>) -> BTreeSet<Sni> {
        let is_due = held == Some(&self.subject);
        let open = self.open.iter().filter_map(|question| question.name.clone());
        open.filter(|_| is_due).collect()
    }

    /// Whether it is asked for this bundle.
    pub(super) fn is_about(&self, file: Fingerprint) -> bool {
        self.subject.bundle == file
    }

    /// Whether the last look showed another chain, or that there is none with a key of this type.
    pub(super) const fn shows_other(&self) -> bool {
        matches!(self.flaw, Some((_, Ok(_) | Err(Unseen::Refused(_)))))
    }

    /// All is to be seen anew.
    pub(super) fn reopen(&mut self) {
        self.open = self.subject.questions.clone();
    }

    /// Takes what one round showed.
    pub(super) fn note(&mut self, seen: Vec<Flaw>, metrics: &Metrics) -> Finding {
        self.flaw = None;
        for (question, seen) in seen {
            if self.subject.is_proven_by(&question, &seen) {
                metrics.proof("served");
                self.open.remove(&question);
                continue;
            }
            metrics.proof(seen.as_ref().map_or_else(Unseen::as_str, |_| "other"));
            // Another chain says more than none.
            if self.flaw.is_none() || seen.is_ok() {
                self.flaw = Some((question, seen));
            }
        }
        match &self.flaw {
            None if self.open.is_empty() => Finding::Served,
            Some((_, Ok(_))) => Finding::Other,
            None | Some((_, Err(_))) => Finding::Nothing,
        }
    }

    /// What is served, as far as the last look showed it.
    pub(super) fn served(&self) -> Option<Arc<Shown>> {
        match &self.flaw {
            None => Some(Arc::clone(&self.subject.shown)),
            Some((_, seen)) => seen.as_ref().ok().and_then(Shown::served).map(Arc::new),
        }
    }
}
