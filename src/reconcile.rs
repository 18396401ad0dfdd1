//! One pass over the bindings that were woken: look at the files, look at Kong, decide, write. Every
//! wake-up runs the same pass, and a pass writes what differs.

mod conclude;
mod files;
mod ledger;
mod memory;
mod plan;
mod proving;
mod subject;
mod verdict;
mod warnings;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{self, StreamExt as _};
use tokio::task::yield_now;
use tracing::warn;

use self::files::Looked;
use self::ledger::Ledger;
use self::plan::{Candidate, Outcome, Plan, Planned};
use self::verdict::Verdict;
use crate::binding::Binding;
use crate::clock::Timestamp;
use crate::desired::Desired;
use crate::held::Snapshot;
use crate::kong::{Failure, Gate, Kong, Mode, Wire};
use crate::metrics::Metrics;
use crate::names::{BindingName, Sni};
use crate::proof::{Errand, Evidence, NoProof};
use crate::quote::Quoted;
use crate::settings::{AdminUrl, Proxy, Settings};
use crate::status::{BindingStatus, KongStatus, Reason, State};
use crate::volume::Mounts;

/// From so many bindings on, Kong is read by pages; and so many are under way at a time.
const MANY: usize = 32;
/// What so many came to is told while the others go on.
const TOLD_TOGETHER: usize = 4 * MANY;
/// So often is Kong looked at again at once when another writer was faster.
const CONFLICTS: usize = 3;

/// A binding to be looked at.
#[derive(Clone, Debug)]
pub struct Woken {
    /// The binding.
    pub binding: Binding,
    /// Look even if the files are as they were.
    pub even_if_unchanged: bool,
}

/// What a pass came to.
#[derive(Clone, Debug, Default)]
pub struct Passed {
    /// What it found out.
    pub conclusions: Vec<Conclusion>,
    /// Bindings that had left a name to an object which was written: it may be free now.
    pub disturbed: Vec<BindingName>,
}

/// What a pass found out about a binding.
#[derive(Clone, Debug)]
pub struct Conclusion {
    /// The binding.
    pub name: BindingName,
    /// Where it stands now.
    pub status: BindingStatus,
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
    dry_run: bool,
    credentials_told: bool,
}

impl<W: Wire> Reconciler<W> {
    /// `kong` is `None` where no Admin API is configured. The files of those that are `forced` are
    /// pushed though Kong's may be right.
    #[must_use]
    pub fn new(
        settings: &Settings,
        kong: Option<Kong<W>>,
        metrics: Metrics,
        forced: BTreeSet<BindingName>,
    ) -> Self {
        Self {
            kong,
            ledger: Ledger::new(settings, metrics, forced),
            proxy: settings.proxy.clone(),
            admin_url: settings.admin.url.clone(),
            dry_run: settings.dry_run,
            credentials_told: false,
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
            unproven: self.ledger.proof.why_not().map(|why| why.to_string()),
        }
    }

    /// One pass; what it finds out is told as it comes, too. With `ask_kong` false only the files are
    /// looked at. Nothing is concluded about bindings whose files are as they were, unless they were
    /// to be looked at all the same.
    pub async fn pass(
        &mut self,
        woken: Vec<Woken>,
        now: Timestamp,
        ask_kong: bool,
        mut tell: impl FnMut(&[Conclusion]),
    ) -> Passed {
        // Each has to know what the others ask for.
        for woken in &woken {
            self.ledger.expect(&woken.binding, now);
        }
        // Not between a swap and its write: a mount that shows swaps is none to warn of.
        let mounts = woken.iter().any(|woken| woken.even_if_unchanged).then(Mounts::here);
        let mut conclusions = Vec::new();
        let mut candidates = Vec::new();
        for woken in woken {
            // Reading and parsing thousands of files takes seconds: probes get their turn.
            yield_now().await;
            match self.ledger.look_at_files(woken, mounts.as_ref(), now) {
                Looked::Unchanged => {}
                Looked::Concluded(conclusion) => conclusions.push(*conclusion),
                Looked::Servable(candidate) => candidates.push(*candidate),
            }
        }
        if candidates.is_empty() {
            return Passed { conclusions, disturbed: Vec::new() };
        }
        let mut written = BTreeSet::new();
        let trouble;
        match self.meet(ask_kong).await {
            Ok(()) => {
                let mut planned = self.plan(candidates, now).await;
                // If one was answered, Kong answers.
                let unread = planned.iter().map(Planned::unread);
                trouble = unread.reduce(|first, next| next.and(first)).flatten().cloned();
                while !planned.is_empty() {
                    let rest = planned.split_off(planned.len().min(TOLD_TOGETHER));
                    let before = conclusions.len();
                    for (planned, outcome) in self.apply(planned, now).await {
                        if let Outcome::Written(held) = &outcome {
                            written.extend(held.ids());
                        }
                        conclusions.push(self.conclude(planned, outcome, now));
                    }
                    tell(&conclusions[before..]);
                    planned = rest;
                }
            }
            Err(obstacle) => {
                let names = candidates.iter().map(|candidate| &candidate.binding.name);
                conclusions.extend(names.map(|name| self.ledger.obstructed(name, &obstacle, now)));
                trouble = obstacle.failure();
            }
        }
        self.look_elsewhere(trouble.as_ref()).await;
        Passed { conclusions, disturbed: self.ledger.disturbed_by(&written) }
    }

    /// What is wrong around the bindings, in plain words with the mend.
    #[must_use]
    pub fn findings(&self) -> BTreeSet<String> {
        let elsewhere = self.kong.as_ref().and_then(Kong::elsewhere);
        let elsewhere = elsewhere.map(ToString::to_string);
        elsewhere.into_iter().chain(self.ledger.proof.findings.iter().cloned()).collect()
    }

    /// There is no such binding any more.
    pub fn forget(&mut self, binding: &BindingName) {
        self.ledger.forget(binding);
    }

    /// Takes credentials that changed, and finds out what kind of Kong this is.
    async fn meet(&mut self, ask_kong: bool) -> Result<(), Obstacle> {
        let Some(kong) = self.kong.as_mut() else {
            return Err(Obstacle::Unsupported(Reason::NoAdminApi));
        };
        if !ask_kong {
            return Err(Obstacle::Failure(Failure::NotSent));
        }
        if self.ledger.proof.why_not() == Some(NoProof::NoListener) {
            kong.doubt_node();
        }
        match kong.refresh() {
            Ok(()) => self.credentials_told = false,
            Err(unusable) if !self.credentials_told => {
                self.credentials_told = true;
                warn!(problem = %unusable, "credentials cannot be used");
            }
            Err(_) => {}
        }
        match kong.meet().await {
            Ok(node) if node.mode == Mode::Dbless => Err(Obstacle::Unsupported(Reason::Dbless)),
            Ok(node) => {
                if let Some(url) = &self.admin_url {
                    self.ledger.proof.settle(&self.proxy, url, node);
                }
                Ok(())
            }
            Err(failure) => Err(Obstacle::Failure(failure)),
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
            warn!(problem = %found, "an Admin API answers elsewhere");
        }
    }

    /// Looks at Kong, one by one or by pages, and decides in the order of names. Reads only.
    async fn plan(&mut self, candidates: Vec<Candidate>, now: Timestamp) -> Vec<Planned> {
        let Some(kong) = &self.kong else { return Vec::new() };
        let is_fresh = candidates.len() < MANY;
        let looks: Vec<Result<Arc<Snapshot>, Failure>> = if is_fresh {
            let looks: Vec<_> =
                candidates.iter().map(|candidate| kong.look(&candidate.query)).collect();
            stream::iter(looks).buffered(MANY).map(|look| look.map(Arc::new)).collect().await
        } else {
            vec![kong.look_at_all().await; candidates.len()]
        };
        let mut planned = Vec::new();
        for (candidate, look) in candidates.into_iter().zip(looks) {
            let one = self.ledger.plan(candidate, look, is_fresh, now);
            self.ledger.claim_object(&one);
            planned.push(one);
        }
        planned
    }

    /// Writes what is planned to be written.
    async fn apply(&self, planned: Vec<Planned>, now: Timestamp) -> Vec<(Planned, Outcome)> {
        let writes: Vec<_> =
            planned.into_iter().map(|planned| self.apply_one(planned, now)).collect();
        stream::iter(writes).buffered(MANY).collect().await
    }

    async fn apply_one(&self, mut planned: Planned, now: Timestamp) -> (Planned, Outcome) {
        for _ in 0..=CONFLICTS {
            let (Plan::Decided(decided), Some(kong)) = (&planned.plan, &self.kong) else {
                return (planned, Outcome::Unwritten);
            };
            if !decided.decision.writes() {
                let outcome = announce(kong, &decided.desired, &planned.announce).await;
                return (planned, outcome);
            }
            if self.dry_run {
                return (planned, Outcome::DryRun);
            }
            // What is replaced is merged from a look just before; what is not there need only be
            // absent still.
            let desired = &decided.desired;
            let is_fresh = planned.is_fresh
                || (planned.held.is_none() && matches!(kong.is_absent(desired).await, Ok(true)));
            if is_fresh {
                match kong.write(desired).await {
                    Ok(held) => return (planned, Outcome::Written(Box::new(held))),
                    Err(Failure::Conflict { .. }) => {}
                    Err(failure) => return (planned, Outcome::Failed(failure)),
                }
            }
            match kong.look(&planned.candidate.query).await {
                Ok(snapshot) => {
                    let look = Ok(Arc::new(snapshot));
                    planned = self.ledger.plan(planned.candidate, look, true, now);
                }
                Err(failure) => return (planned, Outcome::Unsent(failure)),
            }
        }
        let message = Quoted::new("each time that it was looked at again");
        (planned, Outcome::Failed(Failure::Conflict { message }))
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

/// Tells the nodes of Kong again what it holds, if that is asked for.
async fn announce<W: Wire>(kong: &Kong<W>, desired: &Desired, names: &BTreeSet<Sni>) -> Outcome {
    let Desired::Certificate(desired, _) = desired;
    if names.is_empty() {
        return Outcome::Unwritten;
    }
    let announced = async {
        if !kong.is_database_reachable().await? {
            return Ok(Outcome::NoDatabase);
        }
        kong.announce(desired.id, names).await.map(|()| Outcome::Announced)
    };
    announced.await.unwrap_or_else(|failure| match failure {
        Failure::NotSent => Outcome::Unsent(failure),
        failure => Outcome::NotAnnounced(failure),
    })
}

/// Why no candidate of a pass can be brought to Kong.
enum Obstacle {
    Failure(Failure),
    Unsupported(Reason),
}

impl Obstacle {
    fn failure(self) -> Option<Failure> {
        match self {
            Self::Failure(failure) => Some(failure),
            Self::Unsupported(_) => None,
        }
    }

    fn verdict(&self) -> Verdict {
        match self {
            Self::Failure(failure) => Verdict::of_failure(failure),
            Self::Unsupported(reason) => {
                let message = match reason {
                    Reason::NoAdminApi => {
                        "no Admin API is configured; set ADMIN__URL to this kong's, or remove the sidecar"
                    }
                    _ => {
                        "this kong has no database (DB-less), and this version cannot feed it; put the certificate into its declarative configuration, or give it a database"
                    }
                };
                Verdict::new(State::Unsupported, *reason, message)
            }
        }
    }
}
