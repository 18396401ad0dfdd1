//! What must hold for what a replica says of itself, all the while and at the end.

use std::collections::BTreeSet;
use std::time::Duration;

use kong_cert_reloader::status::{BindingStatus, State, Status};

use super::super::bundles::{BUNDLES, Binding, BundleId, Held, What};
use super::super::event::{Family, Replica};
use super::super::rows::{brief, is_ours, is_tagged, own_id};
use super::{CONTROLLER, Truth};

/// A state is as old as the last look: a resync (16.5 min), after a wish of Kong (5 min), and the
/// handshakes that follow (spread over a resync).
const OLDEST_STATE: Duration = Duration::from_secs(39 * 60);

impl Truth {
    /// What a replica says of itself.
    pub(crate) fn hear(&mut self, replica: Replica, status: &Status) {
        if self.replicas[replica].is_ready && !status.ready {
            self.says_wrong(format!("replica {replica} is not ready any more"));
        }
        self.replicas[replica].is_ready |= status.ready;
        for binding in Binding::ALL {
            let Some(status) = status.bindings.get(&binding.name().parse().unwrap()) else {
                continue;
            };
            match status.state {
                State::InSync => self.hear_in_sync(replica, binding, status),
                State::Invalid => self.hear_invalid(replica, binding, status),
                _ => {}
            }
        }
    }

    fn hear_in_sync(&mut self, replica: Replica, binding: Binding, status: &BindingStatus) {
        let now = self.now();
        let shown = status.file.as_ref().map(|shown| shown.fingerprint);
        let files = self.replicas[replica].files.get(&binding).into_iter().flatten();
        let bundles = files.rev().filter_map(|(_, what)| BUNDLES.files(binding, (*what)?).bundle);
        let mut bundles = bundles.map(|id| BUNDLES.bundle(id));
        let Some(bundle) = bundles.find(|bundle| Some(bundle.fingerprint) == shown) else {
            let what = format!("replica {replica}: {binding:?} in sync with {shown:?}");
            return self.says_wrong(what);
        };
        let record = &mut self.replicas[replica];
        let said = record.said.entry(binding).or_insert((bundle.id, now));
        if said.0 != bundle.id {
            *said = (bundle.id, now);
        }
        let (bundle, files) = (bundle.id, self.files_within(replica, binding, OLDEST_STATE));
        let is_it = |what: &What| BUNDLES.files(binding, *what).bundle == Some(bundle);
        let served = self.was_served.get(&bundle);
        let was_so = served.is_some_and(|at| now - *at <= OLDEST_STATE);
        if !was_so || !files.iter().flatten().any(is_it) {
            let what =
                format!("replica {replica} says that {bundle:?} is in sync; last {served:?}");
            self.says_wrong(what);
        }
    }

    fn hear_invalid(&mut self, replica: Replica, binding: Binding, status: &BindingStatus) {
        let files = self.files_within(replica, binding, OLDEST_STATE);
        let wall = self.wall();
        let is_invalid = |what: &Option<What>| {
            let bundle = what.and_then(|what| BUNDLES.files(binding, what).bundle);
            bundle.is_none_or(|id| BUNDLES.bundle(id).not_after < wall)
        };
        let is_set = self.has_clock_been_set_within(OLDEST_STATE);
        if !is_set && !files.iter().any(is_invalid) {
            let reason = status.reason;
            let what = format!("replica {replica}: {binding:?} is invalid ({reason:?}): {files:?}");
            self.says_wrong(what);
        }
    }

    /// When all is healed and enough time has passed, everything stands where it should.
    pub(crate) fn judge_end(&mut self, replica: Replica, status: &Status, may_be_refused: bool) {
        for binding in Binding::ALL {
            let status = &status.bindings[&binding.name().parse().unwrap()];
            let reason = status.reason.map_or("", |reason| reason.as_str());
            let expected = self.expected(replica, binding, (status.state, reason), may_be_refused);
            if let Err(expected) = expected {
                let (file, message) = (self.file(replica, binding), &status.message);
                let state = status.state;
                let holds: Vec<String> = self.rows.certificates.values().map(brief).collect();
                let said = self.replicas[replica].said.get(&binding);
                self.says_wrong(format!(
                    "in the end replica {replica}: {binding:?} with {file:?} is {state} \
                     ({reason}: {message:?}), but {expected}; it said {said:?}, Kong holds {holds:#?}"
                ));
            }
        }
    }

    fn expected(
        &self,
        replica: Replica,
        binding: Binding,
        told: (State, &str),
        may_be_refused: bool,
    ) -> Result<(), String> {
        let is = |condition: bool, expected: &str| {
            if condition { Ok(()) } else { Err(expected.to_owned()) }
        };
        let wall = self.wall();
        let Some(id) = self.bundle_in(replica, binding) else {
            return is(told.0 == State::Invalid, "the files cannot be served");
        };
        let bundle = BUNDLES.bundle(id);
        if bundle.not_after < wall {
            return is(told == (State::Invalid, "expired"), "it expired");
        }
        if bundle.not_before > wall {
            return is(told.0 == State::NotYetValid, "it begins later");
        }
        let own = own_id(binding);
        let mut owners: BTreeSet<&str> =
            bundle.wanted.iter().filter_map(|name| self.rows.owner(name)).collect();
        owners.extend(self.rows.certificates.contains_key(&own).then_some(own.as_str()));
        let row = |id: &&&str| &self.rows.certificates[**id];
        let others: Vec<&&str> = owners.iter().filter(|id| !is_ours(id, row(id))).collect();
        match told {
            (State::InSync, _) => {
                let holds = |id: &str| {
                    let row = self.rows.certificates.get(id);
                    row.is_some_and(|row| BUNDLES.held(row) == Held::Bundle(bundle.id))
                };
                let home = owners.iter().find(|id| holds(id));
                is(home.is_some(), "no object with one of its names holds it")?;
                let is_placed = |name: &&str| {
                    let owner = self.rows.owner(name);
                    owner.is_some_and(|owner| holds(owner) || others.contains(&&owner))
                        || others.contains(&home.unwrap())
                };
                is(self.served.contains(&bundle.id), "it is not served")?;
                is(bundle.wanted.iter().all(is_placed), "Kong lacks names of it")
            }
            (State::Held, "kong_newer") => {
                let said = self.replicas[replica].said.get(&binding);
                let was_left = |held: BundleId| said.is_some_and(|(said, _)| *said == held);
                let may_be_right = |id: &&str| match BUNDLES.held(row(&id)) {
                    Held::Bundle(held) => {
                        let held = BUNDLES.bundle(held);
                        let is_newer = held.not_before > bundle.not_before;
                        is_newer && held.not_after >= wall && !was_left(held.id)
                    }
                    _ => false,
                };
                is(self.family == Family::Database, "this Kong is not shared")?;
                let may_be_right = owners.iter().any(may_be_right);
                is(may_be_right, "what Kong holds is not newer, or expired, or the file left it")
            }
            (State::Refused, "by_kong") => is(may_be_refused, "Kong refused nothing"),
            (State::Refused, "several_owners") => is(others.len() > 1, "one has all the names"),
            (State::Refused, "other_controller") => {
                let is_controlled = |id: &&&str| is_tagged(row(id), CONTROLLER);
                is(others.iter().any(is_controlled), "no controller has it")
            }
            (State::Refused, "names_uncovered") => {
                let has_more =
                    |id: &&&str| self.rows.names_of(id).any(|name| !bundle.covers.contains(name));
                is(others.iter().any(has_more), "it covers all names")
            }
            (State::Refused, "snis_taken") => {
                let has = |name: &&str| self.rows.owner(name).is_some();
                is(bundle.wanted.iter().all(has), "a name is free")
            }
            _ => Err("it can be served".to_owned()),
        }
    }
}
