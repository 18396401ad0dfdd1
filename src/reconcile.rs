//! One pass over the bindings that were woken: look at the files, look at Kong, decide, write. Every
//! wake-up runs the same pass, and a pass writes what differs.

mod ahead;
mod conclude;
mod files;
mod ledger;
mod memory;
mod one_by_one;
mod plan;
mod proving;
mod reloading;
mod subject;
mod together;
mod verdict;
mod warnings;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::yield_now;

use self::ahead::{Ahead, meanwhile};
use self::files::Changed;
use self::ledger::Ledger;
use self::one_by_one::MANY;
use self::plan::{Candidate, Outcome, Plan, Planned};
use self::reloading::Readable;
use self::together::{FromFile, names_of};
use self::verdict::Verdict;
use crate::binding::Binding;
use crate::clock::Timestamp;
use crate::kong::{Failure, Gate, Kong, Mode, Query, Wire};
use crate::log::tell;
use crate::metrics::Metrics;
use crate::names::BindingName;
use crate::nginx::Reload;
use crate::proof::{Errand, Evidence, NoProof};
use crate::settings::{AdminUrl, Proxy, Settings};
use crate::status::{BindingStatus, KongStatus, Reason, State};
use crate::volume::Files;

/// A binding to be looked at.
#[derive(Clone, Debug)]
pub struct Woken {
    /// The binding.
    pub binding: Arc<Binding>,
    /// Look even if the files are as they were.
    pub even_if_unchanged: bool,
}

/// What a pass may ask of Kong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ask {
    /// Anything at all.
    pub kong: bool,
    /// Whether it runs another configuration than when it was last looked at.
    pub hash: bool,
}

/// What lies in the files that were looked at.
#[derive(Default)]
struct Found {
    passed: Passed,
    candidates: Vec<Candidate>,
    readables: Vec<Readable>,
    file: FromFile,
    /// Every binding that Kong holds something for was looked at.
    is_all: bool,
}

impl Found {
    /// Whether this is asked of Kong for what was found.
    fn asks(&self, query: &Query) -> bool {
        self.candidates.iter().any(|candidate| candidate.query == *query)
    }
}

/// What a pass came to.
#[derive(Clone, Debug, Default)]
pub struct Passed {
    /// What it found out.
    pub conclusions: Vec<Conclusion>,
    /// Bindings that had left a name to an object which was written: it may be free now.
    pub disturbed: Vec<BindingName>,
    /// All bindings are to be looked at, at once.
    pub wants_all: bool,
}

/// What a pass found out about a binding.
#[derive(Clone, Debug)]
pub struct Conclusion {
    /// The binding.
    pub name: BindingName,
    /// Where it stands now.
    pub status: Arc<BindingStatus>,
    /// When to look again, if not just when something changes.
    pub again: Option<Again>,
    /// When to make handshakes next, if not as it was planned.
    pub prove: Option<Prove>,
    /// Whether Kong answered as itself; `None` if it was not asked.
    pub answered: Option<bool>,
}

/// When to look again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Again {
    /// After this long.
    After(Duration),
    /// At this wall-clock time.
    At(Timestamp),
    /// At once: handshakes show something else than what Kong held.
    AtOnce,
    /// Soon, together with others: handshakes go on showing something else.
    Soon,
    /// When Kong may answer, at the earliest after its `Retry-After`.
    Retry {
        /// Kong's wish.
        not_before: Option<Duration>,
    },
}

/// When to make handshakes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Prove {
    /// After this long.
    After(Duration),
    /// At some time before the next resync, and apart from the others.
    WithinResync,
}

/// Brings Kong in line with the files.
pub struct Reconciler<W> {
    kong: Option<Kong<W>>,
    ledger: Ledger,
    proxy: Proxy,
    admin_url: Option<AdminUrl>,
    connections: usize,
    dry_run: bool,
    credentials_told: bool,
    asked_for_port: bool,
}

impl<W: Wire> Reconciler<W> {
    /// `kong` is `None` where no Admin API is configured. The files of those that are `forced` are
    /// pushed though Kong's may be right.
    #[must_use]
    pub fn new(
        settings: &Settings,
        files: Arc<dyn Files>,
        kong: Option<Kong<W>>,
        metrics: Metrics,
        forced: BTreeSet<BindingName>,
        nginx: Box<dyn Reload>,
    ) -> Self {
        let mut ledger = Ledger::new(settings, files, metrics, forced, nginx);
        if kong.is_none() {
            ledger.proof.settle_unasked(&settings.proxy);
        }
        Self {
            kong,
            ledger,
            proxy: settings.proxy.clone(),
            admin_url: settings.admin.url.clone(),
            connections: settings.admin.concurrency.get(),
            dry_run: settings.dry_run,
            credentials_told: false,
            asked_for_port: false,
        }
    }

    /// What ends calls that have not begun.
    #[must_use]
    pub fn gate(&self) -> Option<Arc<Gate>> {
        self.kong.as_ref().map(Kong::gate)
    }

    /// What is known of Kong.
    #[must_use]
    pub fn kong_status(&self) -> KongStatus {
        let node = self.kong.as_ref().and_then(Kong::node);
        KongStatus {
            mode: node.map(|node| node.mode.as_str()),
            version: node.and_then(|node| Some(node.version.as_ref()?.to_string())),
            proxy: self.ledger.proof.port().map(ToString::to_string),
            unproven: self
                .kong
                .as_ref()
                .and(self.ledger.proof.why_not())
                .map(|why| why.to_string()),
        }
    }

    /// One pass; what it finds out is told as it comes, too. With `ask.kong` false only the files
    /// are looked at. Nothing is concluded about bindings whose files are as they were, unless they
    /// were to be looked at all the same.
    pub async fn pass(
        &mut self,
        woken: Vec<Woken>,
        now: Timestamp,
        ask: Ask,
        mut tell: impl FnMut(&[Conclusion]),
    ) -> Passed {
        let known = self.ledger.memory.len();
        let changed = self.changed(woken, now).await;
        // Whether many keys are kept depends on what this Kong takes.
        let is_many = changed.len() >= MANY;
        let met = if is_many && ask.kong && self.mode().is_none() {
            Some(self.meet(ask.kong).await)
        } else {
            None
        };
        let takes_all_together = match &met {
            Some(met) => matches!(met, Ok(Mode::Dbless)),
            None => ask.kong && self.mode() == Some(Mode::Dbless),
        };
        let keeps_keys = !is_many || takes_all_together;
        let (found, ahead) = self.look_at_files(changed, keeps_keys, now, ask).await;
        if self.ledger.memory.len() > known {
            self.ledger.pack();
        }
        let Found { mut passed, candidates, readables, file, is_all } = found;
        if !readables.is_empty() || self.ledger.reloads.is_under_way() {
            self.reload(readables, candidates.is_empty(), ask, now, &mut passed).await;
            tell(&passed.conclusions);
        }
        let is_for_kong = !candidates.is_empty() || matches!(file, FromFile::Read(_));
        if !is_for_kong && !ask.hash {
            return passed;
        }
        let met = match met {
            Some(met) => met,
            None => self.meet(ask.kong).await,
        };
        let trouble = match met {
            Ok(Mode::Dbless) if candidates.iter().any(|one| one.wish.is_put_down()) => {
                // It was another kind of Kong when the files were read.
                passed.wants_all = true;
                None
            }
            Ok(Mode::Dbless) if !is_for_kong => match self.has_moved().await {
                Ok(has_moved) => {
                    passed.wants_all |= has_moved;
                    None
                }
                Err(failure) => Some(failure),
            },
            Ok(Mode::Dbless) => self.together(candidates, file, is_all, now, &mut passed).await,
            Ok(Mode::Database | Mode::ControlPlane) => {
                self.one_by_one(candidates, ahead, file, now, tell, &mut passed).await
            }
            Err(obstacle) => {
                let names = names_of(&candidates, &file);
                let told = names.iter().map(|name| self.ledger.obstructed(name, &obstacle, now));
                passed.conclusions.extend(told);
                obstacle.failure()
            }
        };
        if matches!(trouble, Some(Failure::Unavailable { status: None, .. })) {
            self.ledger.note_silence();
        }
        self.look_elsewhere(trouble.as_ref()).await;
        passed
    }

    /// What Kong was when it was last met.
    fn mode(&self) -> Option<Mode> {
        self.kong.as_ref().and_then(Kong::node).map(|node| node.mode)
    }

    /// Those whose files are not as they were, or that are to be looked at all the same.
    async fn changed(&mut self, woken: Vec<Woken>, now: Timestamp) -> Vec<Changed> {
        // Each has to know what the others ask for.
        for woken in &woken {
            self.ledger.expect(&woken.binding, now);
        }
        let mut changed = Vec::new();
        for (woken, number) in woken.into_iter().zip(1..) {
            if number % MANY == 0 {
                // Looking at thousands takes its time: probes get their turn.
                yield_now().await;
            }
            changed.extend(self.ledger.changed(woken, now));
        }
        changed
    }

    /// Looks at the files, and perhaps at Kong meanwhile.
    async fn look_at_files(
        &mut self,
        changed: Vec<Changed>,
        keeps_keys: bool,
        now: Timestamp,
        ask: Ask,
    ) -> (Found, Option<Ahead>) {
        let foreseen = self.ledger.foreseen(&changed).filter(|_| ask.kong && self.may_look_ahead());
        if foreseen.is_some() {
            self.refresh();
        }
        let read = self.ledger.read(changed, keeps_keys, now);
        match (foreseen, &self.kong) {
            (Some(query), Some(kong)) => {
                meanwhile(kong.look(&query), read, |found| found.asks(&query)).await
            }
            _ => (read.await, None),
        }
    }

    /// Whether Kong is known to have an object for each certificate, and nothing else comes between a
    /// look and the write: not a question what it is, and no signal to nginx, which does not wait.
    fn may_look_ahead(&self) -> bool {
        let node = self.kong.as_ref().and_then(Kong::trusted_node);
        node.is_some_and(|node| node.mode != Mode::Dbless)
            && self.ledger.proof.why_not() != Some(NoProof::NoListener)
            && !self.ledger.reloads.is_under_way()
    }

    /// Tells nginx of files that it reads itself.
    async fn reload(
        &mut self,
        readables: Vec<Readable>,
        is_alone: bool,
        ask: Ask,
        now: Timestamp,
        passed: &mut Passed,
    ) {
        let wants_port = readables.iter().any(Readable::is_at_proxy_port) && self.lacks_port();
        let asked_before = std::mem::replace(&mut self.asked_for_port, true);
        if wants_port && !asked_before {
            let _ = self.meet(ask.kong).await;
        }
        let conclusions = self.ledger.reload(readables, self.master(), now);
        passed.conclusions.extend(conclusions);
        // It was started anew, and tells its master when it is asked.
        let is_master_lost = self.ledger.reloads.is_master_lost;
        if let (true, Some(kong)) = (is_master_lost, &mut self.kong) {
            kong.doubt_node();
        }
        // A Kong that did not answer once keeps no signal waiting.
        if is_alone && (is_master_lost || wants_port && asked_before) {
            let _ = self.meet(ask.kong).await;
        }
        // It may have read an older configuration from its own file, too.
        passed.wants_all |= self.ledger.reloads.just_reloaded() && self.watches_hash();
    }

    /// Whether Kong may forget what it was sent, and is to be asked for it.
    #[must_use]
    pub fn watches_hash(&self) -> bool {
        self.mode() == Some(Mode::Dbless)
    }

    /// What is wrong around the bindings, in plain words with the mend.
    #[must_use]
    pub fn findings(&self) -> BTreeSet<String> {
        let elsewhere = self.kong.as_ref().and_then(Kong::elsewhere);
        let elsewhere = elsewhere.map(ToString::to_string);
        let reload = self.ledger.reloads.finding.clone();
        let proof = self.ledger.proof.findings.iter().cloned();
        elsewhere.into_iter().chain(reload).chain(proof).collect()
    }

    /// There is no such binding any more.
    pub fn forget(&mut self, binding: &BindingName) {
        self.ledger.forget(binding);
    }

    /// Whether Kong has not told its proxy port yet.
    fn lacks_port(&self) -> bool {
        let proof = &self.ledger.proof;
        self.kong.is_some() && proof.port().is_none() && proof.why_not().is_none()
    }

    /// The process that Kong calls its master, where that is in our pod.
    fn master(&self) -> Option<u32> {
        let is_here = self.admin_url.as_ref().is_some_and(AdminUrl::is_loopback);
        self.kong.as_ref()?.node()?.master.filter(|_| is_here)
    }

    /// Takes credentials that changed, and finds out what kind of Kong this is.
    async fn meet(&mut self, ask_kong: bool) -> Result<Mode, Obstacle> {
        if ask_kong {
            self.refresh();
        }
        let Some(kong) = self.kong.as_mut() else {
            return Err(Obstacle::NoAdminApi);
        };
        if !ask_kong {
            return Err(Obstacle::Failure(Failure::NotSent));
        }
        if self.ledger.proof.why_not() == Some(NoProof::NoListener) {
            kong.doubt_node();
        }
        match kong.meet().await {
            Ok(node) => {
                self.ledger.proof.settle(&self.proxy, self.admin_url.as_ref(), node);
                self.ledger.is_shared = node.mode != Mode::Dbless;
                Ok(node.mode)
            }
            Err(failure) => Err(Obstacle::Failure(failure)),
        }
    }

    /// Takes credentials that changed.
    fn refresh(&mut self) {
        match self.kong.as_mut().map(Kong::refresh) {
            Some(Err(unusable)) if !self.credentials_told => {
                self.credentials_told = true;
                tell!(CREDENTIALS, problem = %unusable);
            }
            Some(Ok(())) => self.credentials_told = false,
            Some(Err(_)) | None => {}
        }
    }

    /// The handshakes to make for a binding, if any are to be made.
    #[must_use]
    pub fn errand(&self, binding: &BindingName) -> Option<Errand> {
        self.ledger.errand(binding)
    }

    /// The handshake of a client that sends no server name, if it can be made.
    #[must_use]
    pub fn errand_without_name(&self) -> Option<Errand> {
        self.ledger.errand_without_name()
    }

    /// Takes what handshakes showed. `None` if nothing follows from it.
    pub fn hear(&mut self, evidence: Evidence, now: Timestamp) -> Option<Conclusion> {
        if let (true, Some(kong)) = (evidence.doubts_port(), &mut self.kong) {
            // It may listen elsewhere since it was started anew: the next pass asks.
            kong.doubt_node();
        }
        self.ledger.hear(evidence, now)
    }

    /// Where Kong does not answer as itself, its Admin API may be at another port.
    async fn look_elsewhere(&mut self, trouble: Option<&Failure>) {
        let Some(kong) = &mut self.kong else { return };
        if let Some(found) = kong.look_elsewhere(trouble).await {
            tell!(ELSEWHERE, problem = %found);
        }
    }

    fn conclude(&mut self, planned: Planned, outcome: Outcome, now: Timestamp) -> Conclusion {
        let failure = match (&outcome, &planned.plan) {
            (Outcome::Failed(failure) | Outcome::Unsent(failure), _)
            | (_, Plan::Unread(failure)) => Some(failure),
            _ => None,
        };
        if let (Some(Failure::NoSuchPath { .. }), Some(kong)) = (failure, &mut self.kong) {
            kong.doubt_node();
        }
        self.ledger.conclude(planned, outcome, now)
    }
}

/// Why no candidate of a pass can be brought to Kong.
enum Obstacle {
    Failure(Failure),
    NoAdminApi,
}

impl Obstacle {
    fn failure(self) -> Option<Failure> {
        match self {
            Self::Failure(failure) => Some(failure),
            Self::NoAdminApi => None,
        }
    }

    fn verdict(&self) -> Verdict {
        match self {
            Self::Failure(failure) => Verdict::of_failure(failure),
            Self::NoAdminApi => {
                let message = "no Admin API is configured; set ADMIN__URL to this kong's, or leave only RELOAD__FILES";
                Verdict::new(State::Unsupported, Reason::NoAdminApi, message)
            }
        }
    }
}
