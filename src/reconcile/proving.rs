//! Whether Kong serves what it holds: what is asked of a binding, and what follows from the answers.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::time::Instant;
use tracing::{info, warn};
use uuid::Uuid;

use super::ledger::Ledger;
use super::verdict::Verdict;
use super::{Again, Conclusion, Prove};
use crate::bundle::{Facts, Fingerprint, KeyType, ServedChain};
use crate::clock::Timestamp;
use crate::held::HeldCertificate;
use crate::kong::Node;
use crate::names::{BindingName, Sni};
use crate::proof::{
    About, Errand, Evidence, Finding, Ladder, NoProof, ProxyPort, Question, Step, Unseen,
};
use crate::settings::{AdminUrl, Proxy};
use crate::status::{BindingStatus, Reason, Shown, State};

/// Beyond the time that Kong names.
const GRACE: Duration = Duration::from_secs(3);

/// How handshakes are made, as far as it is known.
#[derive(Debug)]
pub(super) struct Proof {
    /// Where, or why not; `None` before Kong was met.
    port: Option<Result<ProxyPort, NoProof>>,
    /// How long it may take until what Kong holds is served.
    patience: Duration,
    /// Whether an object may be written again to announce it.
    may_announce: bool,
    /// Stands for a wildcard: one label for this process, since Kong keeps in mind each name that
    /// it was asked for and does not have.
    label: String,
    /// What clients get that send no name.
    without_name: Option<ServedChain>,
    /// What is wrong with that.
    pub(super) findings: BTreeSet<String>,
}

impl Proof {
    pub(super) fn new(may_announce: bool) -> Self {
        Self {
            port: None,
            patience: Duration::ZERO,
            may_announce,
            label: format!("proof-{:016x}", fastrand::u64(..)),
            without_name: None,
            findings: BTreeSet::new(),
        }
    }

    pub(super) fn port(&self) -> Option<&ProxyPort> {
        self.port.as_ref()?.as_ref().ok()
    }

    /// Finds out where handshakes are made.
    pub(super) fn settle(&mut self, proxy: &Proxy, admin: &AdminUrl, node: &Node) {
        self.patience = proxy.timeout.unwrap_or(node.spread + GRACE);
        let port = ProxyPort::of(proxy, admin, node);
        if self.port.as_ref() == Some(&port) {
            return;
        }
        match &port {
            Ok(port) => info!(%port, "handshakes are made"),
            Err(why) => info!(%why, "no handshakes are made"),
        }
        self.port = Some(port);
    }

    /// Why no handshakes are made, if it is known that none are.
    pub(super) fn why_not(&self) -> Option<NoProof> {
        self.port.as_ref()?.as_ref().err().copied()
    }

    fn errand(&self, about: About, questions: Vec<Question>) -> Option<Errand> {
        let port = self.port()?.clone();
        Some(Errand { about, port, questions, label: self.label.clone() })
    }
}

/// What the handshakes of one binding should show, and how far that is proven.
#[derive(Debug)]
pub(super) struct Proving {
    subject: Subject,
    /// What was not seen served yet.
    open: BTreeSet<Question>,
    ladder: Ladder,
}

/// What Kong holds.
#[derive(Debug, PartialEq, Eq)]
struct Subject {
    object: Uuid,
    bundle: Fingerprint,
    chains: Vec<(KeyType, Fingerprint)>,
    names: BTreeSet<Sni>,
    /// No second pair could be shown in its place.
    is_alone: bool,
    /// It is what the files hold.
    is_wanted: bool,
}

impl Subject {
    /// `None` if there is no name to ask for, or nothing that could be shown.
    fn of(held: &HeldCertificate, facts: &Facts, is_wanted: bool) -> Option<Self> {
        // Kong stores other spellings, too, and serves those to nobody.
        let is_served = |name: &Sni, stored: &String| name.as_ref() == stored.as_str();
        let parsed = |stored: &String| stored.parse().ok().filter(|name| is_served(name, stored));
        let names: BTreeSet<Sni> = held.snis.iter().filter_map(parsed).collect();
        (!names.is_empty()).then(|| Self {
            object: held.id,
            bundle: facts.fingerprint,
            chains: facts.key_types.iter().copied().zip(facts.chains.iter().copied()).collect(),
            names,
            is_alone: !held.has_alt(),
            is_wanted,
        })
    }

    fn questions(&self) -> BTreeSet<Question> {
        let key_types: Vec<Option<KeyType>> = if self.is_alone {
            vec![None]
        } else {
            self.chains.iter().map(|(key_type, _)| Some(*key_type)).collect()
        };
        let ask = |name: &Sni| {
            let name = Some(name.clone());
            key_types
                .iter()
                .map(move |key_type| Question { name: name.clone(), key_type: *key_type })
        };
        self.names.iter().flat_map(ask).collect()
    }

    fn is_proven_by(&self, question: &Question, seen: &Result<ServedChain, Unseen>) -> bool {
        let Ok(shown) = seen else { return false };
        self.chains.iter().any(|(key_type, fingerprint)| {
            question.key_type.is_none_or(|asked| asked == *key_type)
                && *fingerprint == shown.fingerprint
        })
    }
}

impl Proving {
    fn begin(subject: Subject) -> Self {
        let open = subject.questions();
        Self { subject, open, ladder: Ladder::begin(Instant::now()) }
    }

    /// The names that are to be announced if Kong still holds `bundle`.
    pub(super) fn to_announce(&self, bundle: Fingerprint) -> BTreeSet<Sni> {
        let is_due = self.ladder.is_announcing() && self.subject.bundle == bundle;
        let open = self.open.iter().filter_map(|question| question.name.clone());
        open.filter(|_| is_due).collect()
    }
}

/// A handshake that did not show what it should.
type Flaw = (Question, Result<ServedChain, Unseen>);

impl Ledger {
    /// File and Kong agree: what follows depends on what Kong serves.
    pub(super) fn agreed(
        &mut self,
        name: &BindingName,
        held: Option<&HeldCertificate>,
        facts: &Facts,
        now: Timestamp,
    ) -> Conclusion {
        let port = self.proof.port();
        let subject = held.zip(port).and_then(|(held, _)| Subject::of(held, facts, true));
        let Some(subject) = subject else {
            self.memory(name, now).proving = None;
            self.landed(name, now);
            return self.stand(name, Verdict::IN_SYNC, None, Some(true), now);
        };
        let memory = self.memory(name, now);
        let goes_on = is_about_proof(&memory.status)
            && memory.proving.as_ref().is_some_and(|proving| proving.subject == subject);
        if goes_on {
            let verdict = Verdict::unchanged(&memory.status);
            return self.stand(name, verdict, None, Some(true), now);
        }
        memory.proving = Some(Proving::begin(subject));
        memory.status.is_asking = true;
        let conclusion = self.stand(name, Verdict::proving(), None, Some(true), now);
        Conclusion { prove: Some(Prove::After(Duration::ZERO)), ..conclusion }
    }

    /// File and Kong differ: what Kong serves is looked at, and nothing follows from it.
    pub(super) fn observe(
        &mut self,
        name: &BindingName,
        held: Option<(&HeldCertificate, &Facts)>,
        now: Timestamp,
    ) -> Option<Prove> {
        let port = self.proof.port().is_some();
        let subject = held.and_then(|(held, facts)| Subject::of(held, facts, false));
        let memory = self.memory(name, now);
        let known = memory.proving.as_ref().map(|proving| &proving.subject);
        if known == subject.as_ref() {
            return None;
        }
        memory.proving = subject.filter(|_| port).map(Proving::begin);
        memory.status.is_asking = memory.proving.is_some();
        memory.status.is_asking.then_some(Prove::After(Duration::ZERO))
    }

    /// The handshakes to make for a binding, if any are to be made.
    pub(super) fn errand(&self, name: &BindingName) -> Option<Errand> {
        let proving = self.memory.get(name)?.proving.as_ref()?;
        let about = About::Binding(name.clone(), proving.subject.bundle);
        self.proof.errand(about, proving.open.iter().cloned().collect())
    }

    /// The handshake of a client that sends no name.
    pub(super) fn errand_without_name(&self) -> Option<Errand> {
        self.proof.errand(About::NoName, vec![Question::WITHOUT_NAME])
    }

    /// What was seen. `None` if that changes nothing.
    pub(super) fn hear(&mut self, evidence: Evidence, now: Timestamp) -> Option<Conclusion> {
        match evidence.about {
            About::NoName => {
                let seen = evidence.seen.into_iter().find_map(|(_, seen)| seen.ok());
                if let Some(chain) = seen {
                    self.note_without_name(chain);
                }
                None
            }
            About::Binding(name, bundle) => self.hear_of(&name, bundle, evidence.seen, now),
        }
    }

    fn hear_of(
        &mut self,
        name: &BindingName,
        bundle: Fingerprint,
        seen: Vec<(Question, Result<ServedChain, Unseen>)>,
        now: Timestamp,
    ) -> Option<Conclusion> {
        let (patience, may_announce) = (self.proof.patience, self.proof.may_announce);
        let memory = self.memory.get_mut(name)?;
        let proving = memory.proving.as_mut().filter(|proving| proving.subject.bundle == bundle)?;
        let mut flaw: Option<Flaw> = None;
        for (question, seen) in seen {
            if proving.subject.is_proven_by(&question, &seen) {
                self.metrics.proof("served");
                proving.open.remove(&question);
                continue;
            }
            self.metrics.proof(seen.as_ref().map_or_else(Unseen::as_str, |_| "other"));
            // Another chain says more than none.
            if flaw.is_none() || seen.is_ok() {
                flaw = Some((question, seen));
            }
        }
        let finding = match &flaw {
            None => Finding::Served,
            Some((_, Ok(_))) => Finding::Other,
            Some((_, Err(_))) => Finding::Nothing,
        };
        memory.status.is_asking = false;
        memory.status.served = match &flaw {
            None => memory.status.kong.clone(),
            Some((_, seen)) => seen.as_ref().ok().and_then(Shown::served),
        };
        let follows = proving.subject.is_wanted && is_about_proof(&memory.status);
        let step = if follows {
            proving.ladder.climb(finding, patience, may_announce, Instant::now())
        } else {
            Step::Proven
        };
        if step == Step::Proven {
            proving.open = proving.subject.questions();
        }
        Some(self.climbed(name, step, follows, flaw.as_ref(), now))
    }

    fn climbed(
        &mut self,
        name: &BindingName,
        step: Step,
        follows: bool,
        flaw: Option<&Flaw>,
        now: Timestamp,
    ) -> Conclusion {
        let status = &self.memory(name, now).status;
        let (verdict, again, prove) = match step {
            Step::Proven if follows => {
                self.landed(name, now);
                (Verdict::IN_SYNC, None, Prove::WithinResync)
            }
            Step::Proven => (Verdict::unchanged(status), None, Prove::WithinResync),
            Step::Doubt(wait) => {
                (Verdict::unchanged(status), Some(Again::AtOnce), Prove::After(wait))
            }
            Step::LookAgain(wait) => (Verdict::proving(), None, Prove::After(wait)),
            Step::Announce => (Verdict::proving(), Some(Again::AtOnce), Prove::WithinResync),
            Step::GiveUp(wait) => (self.not_served(flaw), None, Prove::After(wait)),
        };
        let conclusion = self.stand(name, verdict, again, None, now);
        Conclusion { prove: Some(prove), ..conclusion }
    }

    fn not_served(&self, flaw: Option<&Flaw>) -> Verdict {
        let name = |question: &Question| {
            question.name.as_ref().map(ToString::to_string).unwrap_or_default()
        };
        let (reason, message) = match flaw {
            Some((question, Ok(chain))) => {
                let name = name(question);
                let is_default = self.proof.without_name.as_ref() == Some(chain);
                let leaf = chain.leaf;
                if is_default {
                    (
                        Reason::DefaultCertificate,
                        format!(
                            "kong serves {name} with its default certificate ({leaf}), as if it did not know the name; look for errors in kong's log, and at the object in /status"
                        ),
                    )
                } else {
                    (
                        Reason::OtherCertificate,
                        format!(
                            "kong serves {name} with another certificate ({leaf}), although it holds this one; restart this kong if it lasts, and check that PROXY__ADDRESS is a port of its own"
                        ),
                    )
                }
            }
            Some((question, Err(unseen))) => {
                (Reason::Unseen(unseen.as_str()), format!("{}: {unseen}", name(question)))
            }
            None => (Reason::OtherCertificate, String::new()),
        };
        Verdict::new(State::NotServed, reason, message)
    }

    /// What is held was announced to the nodes.
    pub(super) fn announced(&mut self, name: &BindingName, now: Timestamp) -> Conclusion {
        info!(binding = %name, "announced");
        if let Some(proving) = &mut self.memory(name, now).proving {
            proving.ladder.announced(Instant::now());
        }
        let conclusion = self.stand(name, Verdict::proving(), None, Some(true), now);
        Conclusion { prove: Some(Prove::After(Duration::ZERO)), ..conclusion }
    }

    /// The file's bundle is where it belongs, as far as that can be known.
    fn landed(&mut self, name: &BindingName, now: Timestamp) {
        if let Some(after) = self.memory(name, now).land(now) {
            self.metrics.propagated(after);
        }
    }

    /// Tells what clients without a server name get, where that should have been renewed, too.
    fn note_without_name(&mut self, chain: ServedChain) {
        let Some(validity) = chain.validity else { return };
        let is_former = |status: &BindingStatus| {
            status.file.as_ref().is_some_and(|file| {
                file.not_before > validity.not_before && !file.names.is_disjoint(&chain.names)
            })
        };
        let former = self.memory.iter().filter(|(_, memory)| is_former(&memory.status));
        let findings: BTreeSet<String> = former
            .map(|(name, _)| {
                format!("clients that send no server name get an older certificate than that in the files of {name} (until {}): Kong reads ssl_cert only when it starts or reloads; reload Kong after each renewal", validity.not_after)
            })
            .collect();
        for finding in findings.difference(&self.proof.findings) {
            warn!(problem = %finding, "clients without SNI get an older certificate");
        }
        self.proof.findings = findings;
        self.proof.without_name = Some(chain);
    }
}

/// Whether Kong was seen to hold what the files hold, and what is left is what it serves.
pub(super) fn is_about_proof(status: &BindingStatus) -> bool {
    matches!(status.state, State::InSync | State::NotServed)
        || status.reason == Some(Reason::Proving)
}
