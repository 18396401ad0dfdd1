//! What is true: what each file holds, what Kong holds and serves, and when. From it follows what
//! must hold of [writes] and of [states], whatever happens. Nothing here asks the code that decides.

mod states;
mod writes;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::Value;
use testkit::kong_model::Offers;
use testkit::{KeyKind, KongModel, Request};
use tokio::time::Instant;

use super::bundles::{BUNDLES, Binding, Bundle, BundleId, Held, What};
use super::event::{Family, Replica};
use super::pod::START;
use super::rows::Rows;

const CONTROLLER: &str = "managed-by-ingress-controller";
/// A pass goes on with what it read from files while calls time out.
const LONGEST_PASS: Duration = Duration::from_secs(60);
/// From a look at Kong to the write that is merged from it.
const RACE: Duration = Duration::from_secs(1);

/// Stands for all of them, where it is noted what changed.
const SERVICES: &str = "services";

/// What is known of a replica.
#[derive(Default)]
struct Record {
    started: Option<Duration>,
    /// What its files held, from when on; the last of them is there now.
    files: BTreeMap<Binding, Vec<(Duration, Option<What>)>>,
    /// When file and Kong last agreed on a bundle since it was started.
    agreed: BTreeMap<BundleId, Duration>,
    /// The last bundle that it said to be in sync, since when.
    said: BTreeMap<Binding, (BundleId, Duration)>,
    is_ready: bool,
    /// What it saw last in each object, since when.
    seen: BTreeMap<String, (Held, Duration)>,
}

/// All that is true.
pub(crate) struct Truth {
    family: Family,
    began: Instant,
    clock_set_by: i64,
    clock_set_at: Option<Duration>,
    replicas: [Record; 2],
    pub(crate) rows: Rows,
    /// Since when each object holds what it holds.
    held: BTreeMap<String, (Held, Duration)>,
    /// When another than the replica at work changed an object or a name last.
    changed: BTreeMap<String, (Option<Replica>, Duration)>,
    /// What is served now, under all of its names.
    served: BTreeSet<BundleId>,
    /// When each was last.
    was_served: BTreeMap<BundleId, Duration>,
    /// The node serves another chain than what is stored.
    is_stale: bool,
    /// When it last did.
    stale: Option<Duration>,
    /// What must not be.
    pub(crate) wrong: Vec<String>,
    /// How many calls of ours changed or repeated something.
    pub(crate) writes: usize,
    /// Kong was made to refuse a write as wrong.
    pub(crate) has_refused: bool,
}

impl Truth {
    pub(crate) fn new(family: Family) -> Self {
        Self {
            family,
            began: Instant::now(),
            clock_set_by: 0,
            clock_set_at: None,
            replicas: Default::default(),
            rows: Rows::default(),
            held: BTreeMap::new(),
            changed: BTreeMap::new(),
            served: BTreeSet::new(),
            was_served: BTreeMap::new(),
            is_stale: false,
            stale: None,
            wrong: Vec::new(),
            writes: 0,
            has_refused: false,
        }
    }

    pub(crate) fn now(&self) -> Duration {
        self.began.elapsed()
    }

    /// The wall clock.
    pub(crate) fn wall(&self) -> i64 {
        START + i64::try_from(self.now().as_secs()).unwrap() + self.clock_set_by
    }

    /// How far it is ahead of the right time then.
    pub(crate) fn clock_is_set(&mut self, by: i64) -> i64 {
        self.clock_set_by += by;
        self.clock_set_at = Some(self.now());
        self.clock_set_by
    }

    /// Wall-clock times at which something in files or in Kong begins or ends.
    pub(crate) fn turns(&self) -> BTreeSet<i64> {
        let files = (0..self.replicas.len())
            .flat_map(|replica| Binding::ALL.map(|binding| self.bundle_in(replica, binding)));
        let held = self.held.values().map(|(held, _)| match held {
            Held::Bundle(bundle) => Some(*bundle),
            _ => None,
        });
        let bundles = files.chain(held).flatten().map(|id| BUNDLES.bundle(id));
        bundles.flat_map(|bundle| [bundle.not_before, bundle.not_after]).collect()
    }

    /// A sidecar begins without memory.
    pub(crate) fn starts(&mut self, replica: Replica) {
        let files = std::mem::take(&mut self.replicas[replica].files);
        self.replicas[replica] = Record { started: Some(self.now()), files, ..Record::default() };
    }

    /// The files of a binding are these now.
    pub(crate) fn publishes(&mut self, replica: Replica, binding: Binding, what: Option<What>) {
        let now = self.now();
        let files = self.replicas[replica].files.entry(binding).or_default();
        // kubelet makes no new generation of the same.
        if files.last().is_none_or(|(_, last)| *last != what) {
            files.push((now, what));
        }
    }

    /// What the files of a binding hold.
    pub(crate) fn file(&self, replica: Replica, binding: Binding) -> Option<What> {
        self.replicas[replica].files.get(&binding)?.last()?.1
    }

    fn bundle_in(&self, replica: Replica, binding: Binding) -> Option<BundleId> {
        BUNDLES.files(binding, self.file(replica, binding)?).bundle
    }

    /// What the files held at some time within the last `span`.
    fn files_within(
        &self,
        replica: Replica,
        binding: Binding,
        span: Duration,
    ) -> Vec<Option<What>> {
        let from = self.now().saturating_sub(span);
        let files = self.replicas[replica].files.get(&binding);
        let files = files.map(Vec::as_slice).unwrap_or_default();
        let before = files.iter().rposition(|(since, _)| *since <= from).unwrap_or(0);
        files[before..].iter().map(|(_, what)| *what).collect()
    }

    fn says_wrong(&mut self, what: impl Into<String>) {
        let at = self.now();
        let what = what.into();
        self.wrong.push(format!("at {at:?}: {what}"));
    }

    // --- what Kong holds and serves --------------------------------------------------------------

    /// What another client of Kong does.
    pub(crate) fn elsewhere(&mut self, model: &mut KongModel, act: impl FnOnce(&mut KongModel)) {
        let before = Rows::of(model);
        model.elsewhere(act);
        if let (Some(before), Some(after)) = (before, Rows::of(model)) {
            self.note_changes(&before, &after, None);
        }
        self.look(model);
    }

    /// What a replica asks of Kong.
    pub(crate) fn witness(
        &mut self,
        model: &mut KongModel,
        replica: Replica,
        request: &Request,
    ) -> testkit::Answer {
        model.set_now(self.wall());
        if request.method == "GET" {
            let answer = model.answer(request);
            if answer.status == 200 && request.path.starts_with("/certificates/") {
                self.sees(replica, &answer.value());
            }
            return answer;
        }
        let before = Rows::of(model);
        let answer = model.answer(request);
        if answer.status < 300
            && let (Some(before), Some(after)) = (before, Rows::of(model))
        {
            self.writes += 1;
            self.judge_write(replica, request, &before, &after);
            self.note_changes(&before, &after, Some(replica));
            let has_changed =
                |(id, row): &(&String, &Value)| before.certificates.get(*id) != Some(row);
            let changed = after.certificates.iter().filter(has_changed);
            changed.for_each(|(_, row)| self.sees(replica, row));
        }
        self.look(model);
        answer
    }

    /// A replica knows from now on, or still, what an object holds. What it held between two looks is
    /// not known to it.
    fn sees(&mut self, replica: Replica, row: &Value) {
        let (now, held) = (self.now(), BUNDLES.held(row));
        let Some(id) = row["id"].as_str() else { return };
        let seen = self.replicas[replica].seen.entry(id.to_owned()).or_insert((held, now));
        if seen.0 != held {
            *seen = (held, now);
        }
    }

    fn note_changes(&mut self, before: &Rows, after: &Rows, by: Option<Replica>) {
        let now = self.now();
        let differs = |key: &&String| {
            let certificates = before.certificates.get(*key) != after.certificates.get(*key);
            certificates || before.snis.get(*key) != after.snis.get(*key)
        };
        let keys = [&before.certificates, &before.snis, &after.certificates, &after.snis];
        let keys = keys.into_iter().flat_map(BTreeMap::keys);
        self.changed.extend(keys.filter(differs).map(|key| (key.clone(), (by, now))));
        if before.services != after.services {
            self.changed.insert(SERVICES.to_owned(), (by, now));
        }
    }

    /// Notes what agrees with files, and what is served: after anything that may change it.
    pub(crate) fn look(&mut self, model: &mut KongModel) {
        let now = self.now();
        // What is stored stays while the database is away.
        if let Some(rows) = Rows::of(model) {
            self.rows = rows;
        }
        let rows = &self.rows;
        self.held.retain(|id, _| rows.certificates.contains_key(id));
        let mut served = BTreeSet::new();
        self.is_stale = false;
        for (id, row) in &rows.certificates {
            let held = BUNDLES.held(row);
            let since = self.held.entry(id.clone()).or_insert((held, now));
            if since.0 != held {
                *since = (held, now);
            }
            let Held::Bundle(bundle) = held else { continue };
            let bundle = BUNDLES.bundle(bundle);
            let mut names = rows.names_of(id).peekable();
            let is_named = names.peek().is_some();
            if names.all(|name| is_served(model, name, bundle)) {
                served.extend(is_named.then_some(bundle.id));
            } else {
                self.is_stale = true;
            }
        }
        self.served = served;
        self.note_time();
    }

    /// What was seen last is still so.
    pub(crate) fn note_time(&mut self) {
        let now = self.now();
        if self.is_stale {
            self.stale = Some(now);
        }
        self.was_served.extend(self.served.iter().map(|bundle| (*bundle, now)));
        for replica in 0..self.replicas.len() {
            for binding in Binding::ALL {
                // A pass goes by what it read.
                let files = self.files_within(replica, binding, LONGEST_PASS).into_iter();
                let bundles = files.filter_map(|what| BUNDLES.files(binding, what?).bundle);
                let is_held =
                    |bundle: &_| self.held.values().any(|(held, _)| *held == Held::Bundle(*bundle));
                let agreed: Vec<_> = bundles.filter(is_held).map(|bundle| (bundle, now)).collect();
                let record = &mut self.replicas[replica];
                if record.started.is_some() {
                    record.agreed.extend(agreed);
                }
            }
        }
    }

    fn was_changed_by_others(&self, replica: Replica, key: &str) -> bool {
        let changed = self.changed.get(key);
        changed.is_some_and(|(by, at)| *by != Some(replica) && self.now() - *at <= RACE)
    }

    fn has_clock_been_set_within(&self, span: Duration) -> bool {
        self.clock_set_at.is_some_and(|at| self.now() - at <= span)
    }
}

/// Whether clients are shown this.
fn is_served(model: &mut KongModel, name: &str, bundle: &Bundle) -> bool {
    let name = name.replacen('*', "some", 1);
    bundle.chains.iter().all(|(kind, chain)| {
        let offers = match kind {
            _ if bundle.chains.len() == 1 => Offers::ALL,
            KeyKind::Ed25519 => Offers { rsa: false, ecdsa: false, ed25519: true },
            _ => Offers { rsa: false, ecdsa: true, ed25519: false },
        };
        model.chain_for(Some(&name), offers).chain().as_ref() == Some(chain)
    })
}
