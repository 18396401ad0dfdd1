//! Whether Kong serves what it holds: what is asked of a binding, and what follows from the answers.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::ledger::Ledger;
use super::subject::{Proving, Subject, served_names};
use super::verdict::Verdict;
use super::{Again, Conclusion, Prove};
use crate::binding::Kind;
use crate::bundle::{Facts, ServedChain};
use crate::clock::Timestamp;
use crate::held::{Held, HeldCertificate};
use crate::kong::{Failure, Node};
use crate::log::tell;
use crate::names::BindingName;
use crate::proof::{
    self, About, Errand, Evidence, Finding, GIVEN_UP, NoProof, ProxyPort, Question, Step, Unseen,
};
use crate::settings::{AdminUrl, HostPort, Proxy, ProxyProtocol};
use crate::status::{BindingStatus, Reason, State};

/// Beyond the time that Kong names.
const GRACE: Duration = Duration::from_secs(3);
/// New workers of nginx have Kong's code to load before they answer.
const RELOAD_GRACE: Duration = Duration::from_secs(10);
/// Between looks at files that nginx is not known to have read.
const UNREAD: Duration = Duration::from_secs(30);

/// How handshakes are made, as far as it is known.
#[derive(Debug)]
pub(super) struct Proof {
    /// Where, or why not; `None` before Kong was met.
    port: Option<Result<ProxyPort, NoProof>>,
    /// How long it may take until what Kong holds is served.
    patience: Duration,
    /// How long it may take until what nginx has read is shown.
    reload_patience: Duration,
    /// What ports want before TLS, as configured.
    protocol: ProxyProtocol,
    /// Ports of Kong that want the PROXY protocol.
    proxied: BTreeSet<u16>,
    /// Whether an object may be written again to announce it.
    may_announce: bool,
    /// Stands for a wildcard: one label for this process, since Kong keeps in mind each name that
    /// it was asked for and does not have.
    label: String,
    rounds: u64,
    /// What clients get that send no name.
    without_name: Option<ServedChain>,
    /// What is wrong with that.
    pub(super) findings: BTreeSet<String>,
}

impl Proof {
    pub(super) fn new(may_announce: bool, proxy: &Proxy) -> Self {
        Self {
            port: None,
            patience: Duration::ZERO,
            reload_patience: proxy.timeout.unwrap_or(RELOAD_GRACE),
            protocol: proxy.protocol,
            proxied: BTreeSet::new(),
            may_announce,
            label: format!("proof-{:08x}", fastrand::u32(..)),
            rounds: 0,
            without_name: None,
            findings: BTreeSet::new(),
        }
    }

    pub(super) fn port(&self) -> Option<&ProxyPort> {
        self.port.as_ref()?.as_ref().ok()
    }

    /// Another port, with the PROXY protocol as configured, or where Kong is known to want it there.
    pub(super) fn port_at(&self, at: &HostPort) -> ProxyPort {
        let is_same = self.port().filter(|port| port.at.port == at.port);
        let proxy_protocol = match self.protocol {
            ProxyProtocol::Auto => {
                is_same.map_or_else(|| self.proxied.contains(&at.port), |port| port.proxy_protocol)
            }
            ProxyProtocol::None => false,
            ProxyProtocol::V1 => true,
        };
        ProxyPort { at: at.clone(), proxy_protocol }
    }

    /// Finds out where handshakes are made.
    pub(super) fn settle(&mut self, proxy: &Proxy, admin: Option<&AdminUrl>, node: &Node) {
        self.patience = proxy.timeout.unwrap_or(node.spread + GRACE);
        let proxied = node.tls_listeners.iter().filter(|listener| listener.proxy_protocol);
        self.proxied = proxied.map(|listener| listener.port).collect();
        let port = ProxyPort::of(proxy, admin, node);
        if self.port.as_ref() == Some(&port) {
            return;
        }
        match &port {
            Ok(port) => tell!(HANDSHAKES, %port),
            Err(why) => tell!(NO_HANDSHAKES, %why),
        }
        self.port = Some(port);
    }

    /// Finds it out where there is no Admin API. Kong's certificates need none there.
    pub(super) fn settle_unasked(&mut self, proxy: &Proxy) {
        self.port = Some(ProxyPort::of(proxy, None, &Node::unknown()));
    }

    /// Why no handshakes are made, if it is known that none are.
    pub(super) fn why_not(&self) -> Option<NoProof> {
        self.port.as_ref()?.as_ref().err().copied()
    }

    const fn next_round(&mut self) -> u64 {
        self.rounds += 1;
        self.rounds
    }

    fn errand(&self, about: About, port: &ProxyPort, questions: Vec<Question>) -> Errand {
        Errand { about, port: port.clone(), questions, label: self.label.clone() }
    }
}

impl Ledger {
    /// File and Kong agree: what follows depends on what Kong serves. What `was_written` just now is
    /// proven anew, whatever was seen before.
    pub(super) fn agreed(
        &mut self,
        name: &BindingName,
        held: Option<&HeldCertificate>,
        facts: &Facts,
        was_written: bool,
        now: Timestamp,
    ) -> Conclusion {
        let subject = self.subject(held, facts, true);
        self.agreed_on(name, subject, was_written, Some(true), now)
    }

    /// As [`Self::agreed`]; `subject` is what handshakes should show, if any can.
    pub(super) fn agreed_on(
        &mut self,
        name: &BindingName,
        subject: Option<Subject>,
        was_written: bool,
        answered: Option<bool>,
        now: Timestamp,
    ) -> Conclusion {
        let Some(subject) = subject else {
            self.end_proving(name, now);
            self.landed(name, now);
            let verdict = if self.is_read_by_nginx(name) {
                Verdict::in_sync_unseen()
            } else {
                Verdict::IN_SYNC
            };
            return self.stand(name, verdict, None, answered, now);
        };
        let memory = self.memory(name, now);
        let known = memory.proving.as_ref().filter(|proving| proving.subject == subject);
        let known = known.filter(|_| !was_written).map(|proving| proving.ladder.is_given_up());
        let goes_on = known.is_some() && is_about_proof(&memory.status);
        let unchanged = Verdict::unchanged(&memory.status);
        let verdict = match known {
            Some(true) => self.not_served(name),
            Some(false) if goes_on => unchanged,
            _ => self.unproven(name),
        };
        if goes_on {
            return self.stand(name, verdict, None, answered, now);
        }
        match known {
            Some(_) => self.ask_again(name, now),
            None => self.begin_proving(name, subject, now),
        }
        let conclusion = self.stand(name, verdict, None, answered, now);
        Conclusion { prove: Some(Prove::After(Duration::ZERO)), ..conclusion }
    }

    /// File and Kong differ: what Kong serves is looked at, and nothing follows from it.
    pub(super) fn observe(
        &mut self,
        name: &BindingName,
        held: Option<&Held>,
        now: Timestamp,
    ) -> Option<Prove> {
        let subject = held
            .and_then(|held| self.subject(held.certificate(), held.facts.as_ref().ok()?, false));
        let known = self.memory(name, now).proving.as_ref().map(|proving| &proving.subject);
        match subject {
            Some(subject) if known != Some(&subject) => {
                self.begin_proving(name, subject, now);
                Some(Prove::After(Duration::ZERO))
            }
            Some(_) => None,
            None => {
                self.end_proving(name, now);
                None
            }
        }
    }

    /// What handshakes can be asked for; `None` where none are made.
    pub(super) fn subject(
        &self,
        held: Option<&HeldCertificate>,
        facts: &Facts,
        is_wanted: bool,
    ) -> Option<Subject> {
        self.proof.port()?;
        Subject::of(held?, facts, is_wanted, &self.proof.label)
    }

    pub(super) fn begin_proving(
        &mut self,
        name: &BindingName,
        mut subject: Subject,
        now: Timestamp,
    ) {
        let round = self.proof.next_round();
        let memory = self.memory(name, now);
        subject.shown = memory.shown(&subject.shown);
        memory.proving = Some(Box::new(Proving::begin(subject, round)));
        memory.status_mut().is_asking = true;
    }

    /// Kong could not be read meanwhile: what was tried until then counts, what was seen does not.
    fn ask_again(&mut self, name: &BindingName, now: Timestamp) {
        let round = self.proof.next_round();
        let memory = self.memory(name, now);
        memory.status_mut().is_asking = true;
        if let Some(proving) = &mut memory.proving {
            proving.round = round;
            proving.reopen();
        }
    }

    fn end_proving(&mut self, name: &BindingName, now: Timestamp) {
        let memory = self.memory(name, now);
        memory.proving = None;
        let status = memory.status_mut();
        status.served = None;
        status.is_asking = false;
    }

    /// Names that are not asked for, as warnings.
    pub(super) fn unasked(&self, held: Option<&HeldCertificate>) -> Vec<String> {
        let held = held.filter(|_| self.proof.port().is_some());
        let names = held.into_iter().flat_map(served_names);
        let names = names.filter(|name| !proof::is_askable(name, &self.proof.label));
        names.map(|sni| format!("no handshake can ask for {sni}: it is not proven")).collect()
    }

    /// The handshakes to make for a binding, if any are to be made.
    pub(super) fn errand(&self, name: &BindingName) -> Option<Errand> {
        let proving = self.known(name)?.proving.as_ref()?;
        let about = About::Binding(name.clone(), proving.round);
        let port = proving.subject.port.as_ref().or_else(|| self.proof.port())?;
        Some(self.proof.errand(about, port, proving.open.iter().cloned().collect()))
    }

    /// The handshake of a client that sends no name.
    pub(super) fn errand_without_name(&self) -> Option<Errand> {
        let port = self.proof.port()?;
        Some(self.proof.errand(About::NoName, port, vec![Question::WITHOUT_NAME]))
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
            About::Binding(name, round) => self.hear_of(&name, round, evidence.seen, now),
        }
    }

    fn hear_of(
        &mut self,
        name: &BindingName,
        round: u64,
        seen: Vec<(Question, Result<ServedChain, Unseen>)>,
        now: Timestamp,
    ) -> Option<Conclusion> {
        let memory = self.memory.get_mut(name)?;
        let is_kongs = memory.status.kind != Kind::Reload;
        let patience = if is_kongs { self.proof.patience } else { self.proof.reload_patience };
        // Without a database there are no other nodes to tell.
        let may_announce = is_kongs && self.is_shared && self.proof.may_announce;
        let file = memory.fingerprint().filter(|_| !is_kongs);
        let proving = memory.proving.as_mut().filter(|proving| proving.round == round)?;
        let file = file.filter(|file| proving.is_about(*file));
        let finding = proving.note(seen, &self.metrics);
        let follows = proving.subject.is_wanted && is_about_proof(&memory.status);
        let served = proving.served();
        let status = Arc::make_mut(&mut memory.status);
        status.is_asking = false;
        status.served = served;
        if let Some(file) = file.filter(|file| !self.reloads.has_read(name, *file)) {
            let shows_other = proving.shows_other();
            if finding == Finding::Served {
                self.note_read(name, file, now);
            }
            if !follows || shows_other {
                let again = shows_other || finding == Finding::Served;
                return Some(self.unread(name, again.then_some(Again::AtOnce), now));
            }
        }
        let memory = self.memory.get_mut(name)?;
        let proving = memory.proving.as_mut()?;
        let step = if follows {
            proving.ladder.climb(finding, patience, may_announce, Instant::now())
        } else {
            Step::Proven
        };
        if step == Step::Proven {
            proving.reopen();
        }
        if let (Step::GiveUp(_), Finding::Other, Some(file)) = (step, finding, file) {
            self.reloads.doubt_workers(name, file);
        }
        Some(self.climbed(name, step, follows, now))
    }

    /// Handshakes say no more than whether nginx is to be told.
    fn unread(&mut self, name: &BindingName, again: Option<Again>, now: Timestamp) -> Conclusion {
        let unchanged = Verdict::unchanged(&self.memory(name, now).status);
        let conclusion = self.stand(name, unchanged, again, None, now);
        Conclusion { prove: Some(Prove::After(UNREAD)), ..conclusion }
    }

    /// It should be served, and was not seen yet.
    fn unproven(&self, name: &BindingName) -> Verdict {
        if self.is_read_by_nginx(name) { Verdict::showing() } else { Verdict::proving() }
    }

    fn is_read_by_nginx(&self, name: &BindingName) -> bool {
        self.known(name).is_some_and(|memory| memory.status.kind == Kind::Reload)
    }

    fn climbed(
        &mut self,
        name: &BindingName,
        step: Step,
        follows: bool,
        now: Timestamp,
    ) -> Conclusion {
        let unchanged = Verdict::unchanged(&self.memory(name, now).status);
        let status = &self.memory(name, now).status;
        let stays = status.reason == Some(Reason::NoDatabase) || status.state == State::NotServed;
        let proving = if stays { unchanged.clone() } else { self.unproven(name) };
        let (verdict, again, prove) = match step {
            Step::Proven if follows => {
                self.landed(name, now);
                (Verdict::IN_SYNC, None, Prove::WithinResync)
            }
            Step::Proven => (unchanged, None, Prove::WithinResync),
            Step::Doubt(wait) => (unchanged, Some(Again::AtOnce), Prove::After(wait)),
            Step::LookAgain(wait) => (proving, None, Prove::After(wait)),
            Step::Announce => (proving, Some(Again::AtOnce), Prove::WithinResync),
            // Where Kong cannot be read any more, that is what is told.
            Step::GiveUp(wait) => (unchanged, Some(Again::Soon), Prove::After(wait)),
            Step::Nothing(wait) => (unchanged, None, Prove::After(wait)),
        };
        let conclusion = self.stand(name, verdict, again, None, now);
        Conclusion { prove: Some(prove), ..conclusion }
    }

    pub(super) fn not_served(&self, name: &BindingName) -> Verdict {
        let proving = self.known(name).and_then(|memory| memory.proving.as_ref());
        let flaw = proving.and_then(|proving| proving.flaw.as_ref());
        let Some((question, seen)) = flaw else { return self.unproven(name) };
        if let Some(port) = proving.and_then(|proving| proving.subject.port.as_ref()) {
            return not_shown_at(port, seen);
        }
        let asked = question.name.as_ref().map(ToString::to_string).unwrap_or_default();
        let (reason, mut message) = match seen {
            Ok(chain) if self.proof.without_name.as_ref() == Some(chain) => (
                Reason::DefaultCertificate,
                format!(
                    "kong serves {asked} with its default certificate ({}), as if it did not know the name; look for errors in kong's log, and at the object in /status",
                    chain.leaf
                ),
            ),
            Ok(chain) => (
                Reason::OtherCertificate,
                format!(
                    "kong serves {asked} with another certificate ({}), although it holds this one; restart this kong if it lasts, and check that PROXY__ADDRESS is a port of its own",
                    chain.leaf
                ),
            ),
            Err(unseen) => (Reason::Unseen(unseen.as_str()), format!("{asked}: {unseen}")),
        };
        if let Some(failure) = proving.and_then(|proving| proving.unannounced.as_ref()) {
            message += &format!(" (its nodes could not be told again: {failure})");
        }
        Verdict::new(State::NotServed, reason, message)
    }

    /// What is held was announced to the nodes, or could not be.
    pub(super) fn announced(
        &mut self,
        name: &BindingName,
        failure: Option<Failure>,
        now: Timestamp,
    ) -> Conclusion {
        match &failure {
            None => tell!(ANNOUNCED, binding = %name),
            Some(failure) => tell!(NOT_ANNOUNCED, binding = %name, problem = %failure),
        }
        if let Some(proving) = &mut self.memory(name, now).proving {
            proving.ladder.announced();
            proving.unannounced = failure;
        }
        let conclusion = self.stand(name, Verdict::proving(), None, Some(true), now);
        Conclusion { prove: Some(Prove::After(Duration::ZERO)), ..conclusion }
    }

    /// Whether the nodes heard of what is held is not known.
    pub(super) fn unanswered(
        &mut self,
        name: &BindingName,
        failure: Failure,
        now: Timestamp,
    ) -> Conclusion {
        let wish = match failure {
            Failure::Unavailable { retry_after, .. } => retry_after,
            _ => None,
        };
        let mut wait = Duration::ZERO;
        let mut verdict = Verdict::proving();
        if let Some(proving) = &mut self.memory(name, now).proving {
            proving.ladder.unanswered();
            proving.unannounced = Some(failure);
            if proving.ladder.is_given_up() {
                wait = GIVEN_UP;
                verdict = self.not_served(name);
            }
        }
        // It was answered when it was looked at; but what Kong wishes is for all.
        let again = wish.map(|wish| Again::Retry { not_before: Some(wish) });
        let conclusion = self.stand(name, verdict, again, Some(wish.is_none()), now);
        Conclusion { prove: Some(Prove::After(wait)), ..conclusion }
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
                file.not_before > validity.not_before
                    && file.names.iter().any(|name| chain.names.contains(name))
            })
        };
        // Those that nginx reads are asked for by themselves.
        let kongs = self.memory.iter().filter(|(_, memory)| memory.status.kind != Kind::Reload);
        let former = kongs.filter(|(_, memory)| is_former(&memory.status));
        let findings: BTreeSet<String> = former
            .map(|(name, _)| {
                format!("clients that send no server name get an older certificate than that in the files of {name} (until {}): Kong reads ssl_cert only when it starts or reloads; name its files in RELOAD__FILES, or reload Kong after each renewal", validity.not_after)
            })
            .collect();
        for finding in findings.difference(&self.proof.findings) {
            tell!(OLD_DEFAULT, problem = %finding);
        }
        self.proof.findings = findings;
        self.proof.without_name = Some(chain);
    }
}

/// nginx should have read it, and this port shows something else.
fn not_shown_at(port: &ProxyPort, seen: &Result<ServedChain, Unseen>) -> Verdict {
    let (reason, message) = match seen {
        Ok(chain) => (
            Reason::OtherCertificate,
            format!(
                "{port} shows another certificate ({}), although nginx has read its files anew; see that kong.conf names these files, and that ADDRESS is the port that shows them",
                chain.leaf
            ),
        ),
        Err(unseen) => (
            Reason::Unseen(unseen.as_str()),
            format!(
                "{port} does not show the pair: {}; set ADDRESS to the port that shows it, or leave it empty if none does",
                unseen.fact()
            ),
        ),
    };
    Verdict::new(State::NotServed, reason, message)
}

/// Whether Kong was seen to hold what the files hold, and what is left is what it serves.
fn is_about_proof(status: &BindingStatus) -> bool {
    matches!(status.state, State::InSync | State::NotServed)
        || matches!(status.reason, Some(Reason::Proving | Reason::NoDatabase))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_of_files_have_the_proxy_protocol_that_is_configured() {
        let at = HostPort { host: "127.0.0.1".to_owned(), port: 8100 };
        for (protocol, expected) in
            [(ProxyProtocol::V1, true), (ProxyProtocol::None, false), (ProxyProtocol::Auto, false)]
        {
            let proof = Proof::new(true, &Proxy { protocol, ..Proxy::default() });
            assert_eq!(proof.port_at(&at).proxy_protocol, expected, "{protocol:?}");
        }
    }
}
