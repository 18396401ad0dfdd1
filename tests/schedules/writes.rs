//! What must hold for each write.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;
use testkit::Request;

use super::super::bundles::{BUNDLES, Bundle, Held, What};
use super::super::event::{Family, Replica};
use super::super::rows::{OWN_TAG, Rows, brief, is_ours, is_tagged, own_id, tags};
use super::{CONTROLLER, LONGEST_PASS, RACE, SERVICES, Truth};

/// The default of `HOLD`.
const HOLD: Duration = Duration::from_secs(300);

impl Truth {
    pub(super) fn judge_write(
        &mut self,
        by: Replica,
        request: &Request,
        before: &Rows,
        after: &Rows,
    ) {
        let what = format!("replica {by}: {} {}", request.method, request.path);
        for (id, row) in &before.certificates {
            if !after.certificates.contains_key(id) {
                self.says_wrong(format!("{what} removes {id}: {}", brief(row)));
            }
        }
        if !self.was_changed_by_others(by, SERVICES)
            && !self.is_same(&before.services, &after.services)
        {
            self.says_wrong(format!("{what} changes services"));
        }
        if self.is_same(&before.certificates, &after.certificates)
            && self.is_same(&before.snis, &after.snis)
        {
            self.judge_repetition(&what, request);
        }
        for (id, row) in &after.certificates {
            let old = before.certificates.get(id);
            if old.is_none_or(|old| !self.is_same_row(old, row)) {
                self.judge_object(&what, by, id, (before, after));
            }
        }
        self.judge_names(&what, before, after);
    }

    /// What agrees is not written again: but where the node serves something else, or where someone
    /// was faster.
    fn judge_repetition(&mut self, what: &str, request: &Request) {
        let now = self.now();
        let is_recent =
            |at: Option<Duration>, span| at.is_some_and(|at| now.saturating_sub(at) <= span);
        let is_announcement = request.path.starts_with("/snis/") || request.body == b"{}";
        let is_fine = if is_announcement {
            is_recent(self.stale, LONGEST_PASS)
        } else if self.family == Family::Dbless && self.has_refused {
            // What Kong refuses without saying which object is at fault is searched for.
            true
        } else {
            let last = self.changed.values().map(|(_, at)| *at).max();
            is_recent(last, RACE)
        };
        if !is_fine {
            self.says_wrong(format!("{what} changes nothing"));
        }
    }

    fn judge_object(&mut self, what: &str, by: Replica, id: &str, rows: (&Rows, &Rows)) {
        let (before, after) = rows;
        let (old, new) = (before.certificates.get(id), &after.certificates[id]);
        let what =
            format!("{what}: {} becomes {}", old.map_or_else(String::new, brief), brief(new));
        let Held::Bundle(bundle) = BUNDLES.held(new) else {
            return self.says_wrong(format!("{what}: that was in no file, or cannot be served"));
        };
        let pushed = BUNDLES.bundle(bundle);
        let binding = bundle.binding;
        match old {
            None if id == own_id(binding) && is_tagged(new, OWN_TAG) => {}
            None => self.says_wrong(format!("{what}: it is created with another id, or untagged")),
            Some(_) if self.was_changed_by_others(by, id) => {}
            Some(old) if is_ours(id, old) => self.judge_merge(&what, id, old, new),
            Some(old) => {
                let feeds = before.names_of(id).any(|name| pushed.wanted.contains(name));
                if !feeds || is_tagged(old, CONTROLLER) {
                    self.says_wrong(format!("{what}: it is none of ours"));
                }
                for (field, value) in new.as_object().unwrap() {
                    let is_pair = ["cert", "key", "cert_alt", "key_alt", "updated_at"];
                    if !is_pair.contains(&field.as_str()) && !self.is_same_field(field, old, value)
                    {
                        self.says_wrong(format!("{what}: {field} of an adopted object changes"));
                    }
                }
            }
        }
        let held = old.map(|old| BUNDLES.held(old));
        if held != Some(Held::Bundle(bundle)) {
            self.judge_push(&what, by, id, held, pushed);
        }
    }

    /// Of ours nothing is lost that someone put there.
    fn judge_merge(&mut self, what: &str, id: &str, old: &Value, new: &Value) {
        let lost: Vec<_> = tags(old).difference(&tags(new)).copied().map(str::to_owned).collect();
        if !lost.is_empty() {
            self.says_wrong(format!("{what}: {id} loses tags {lost:?}"));
        }
        let allowed = [OWN_TAG, "configured"];
        let more = tags(new).difference(&tags(old)).any(|tag| !allowed.contains(tag));
        if more || !is_tagged(new, OWN_TAG) {
            self.says_wrong(format!("{what}: {id} gets tags {:?}", tags(new)));
        }
        if self.family == Family::Database && old["created_at"] != new["created_at"] {
            self.says_wrong(format!("{what}: created_at of {id} changes"));
        }
    }

    fn judge_push(&mut self, what: &str, by: Replica, id: &str, held: Option<Held>, new: &Bundle) {
        let binding = new.id.binding;
        let files = self.files_within(by, binding, LONGEST_PASS);
        let is_there = |what: &What| BUNDLES.files(binding, *what).bundle == Some(new.id);
        if !files.iter().flatten().any(is_there) {
            self.says_wrong(format!("{what}: the files held {files:?}"));
        }
        let wall = self.wall();
        let earlier = wall - i64::try_from(LONGEST_PASS.as_secs()).unwrap();
        let is_set = self.has_clock_been_set_within(LONGEST_PASS);
        if !new.is_valid_at(wall) && !new.is_valid_at(earlier) && !is_set {
            self.says_wrong(format!("{what}: it is not valid now"));
        }
        if let (Some(Held::Bundle(old)), Family::Database) = (held, self.family) {
            let old = BUNDLES.bundle(old);
            if old.not_after >= wall && !is_set && !self.may_replace(by, id, old, new) {
                self.says_wrong(format!("{what}: what Kong holds may be right"));
            }
        }
        let record = &mut self.replicas[by];
        record.agreed.insert(new.id, self.began.elapsed());
        if record.said.get(&binding).is_some_and(|(said, _)| *said != new.id) {
            record.said.remove(&binding);
        }
    }

    /// Whether a replica may put `new` in the place of `old`, which can be served.
    fn may_replace(&self, by: Replica, id: &str, old: &Bundle, new: &Bundle) -> bool {
        // It went by a look just before.
        if self.was_changed_by_others(by, id) {
            return true;
        }
        let record = &self.replicas[by];
        let binding = new.id.binding;
        // File and Kong agreed on it before, and on nothing else for sure since: the file moved on.
        let said = record.said.get(&binding).filter(|(said, _)| *said != old.id);
        let agreed = record.agreed.get(&old.id);
        let was_left =
            agreed.is_some_and(|at| said.is_none_or(|(_, since)| *at + LONGEST_PASS >= *since));
        if was_left {
            return true;
        }
        let is_it = |what: &Option<What>| {
            what.is_some_and(|what| BUNDLES.files(binding, what).bundle == Some(new.id))
        };
        let there = record.files[&binding].iter().rev().take_while(|(_, what)| is_it(what));
        let file = there.last().map_or(Duration::ZERO, |(since, _)| *since);
        let held = record.seen.get(id).map_or(Duration::ZERO, |(_, since)| *since);
        let since = record.started.unwrap_or_default().max(file).max(held);
        let has_waited = since + HOLD <= self.now();
        let moved = said.is_some_and(|(said, _)| *said == new.id);
        match new.not_before.cmp(&old.not_before) {
            std::cmp::Ordering::Less => false,
            std::cmp::Ordering::Equal => has_waited,
            // A rollback may be on its way to a file that has not changed.
            std::cmp::Ordering::Greater => !moved || has_waited,
        }
    }

    fn judge_names(&mut self, what: &str, before: &Rows, after: &Rows) {
        for (name, old) in &before.snis {
            let id = before.owner(name).unwrap_or_default();
            if after.snis.get(name).is_some_and(|new| self.is_same_row(old, new)) {
                continue;
            }
            let is_recent = self.changed.get(id).into_iter().chain(self.changed.get(name));
            let is_recent = is_recent.map(|(_, at)| *at).any(|at| self.now() - at <= RACE);
            if is_recent {
                continue;
            }
            let row = before.certificates.get(id);
            let new = after.certificates.get(id).map(|row| BUNDLES.held(row));
            let is_wanted = match new {
                Some(Held::Bundle(new)) => BUNDLES.bundle(new).wanted.contains(name.as_str()),
                _ => true,
            };
            // A name that is made by hand is in no certificate, and stays; configured names are all.
            let was_from_certificate = row.is_some_and(|row| match BUNDLES.held(row) {
                Held::Bundle(old) => {
                    let old = BUNDLES.bundle(old);
                    old.covers.contains(name.as_str()) || old.id.binding.configured().is_some()
                }
                _ => false,
            });
            let is_given_to_ours = after.owner(name).is_some_and(|owner| owner != id);
            let is_fine = row.is_some_and(|row| is_ours(id, row))
                && !is_wanted
                && (was_from_certificate || is_given_to_ours);
            if !is_fine {
                let new = after.snis.get(name);
                self.says_wrong(format!("{what}: the name {old} becomes {new:?}"));
            }
        }
        for name in after.snis.keys().filter(|name| !before.snis.contains_key(*name)) {
            let owner = after.owner(name).unwrap_or_default();
            let is_wanted = match BUNDLES.held(&after.certificates[owner]) {
                Held::Bundle(bundle) => BUNDLES.bundle(bundle).wanted.contains(name.as_str()),
                _ => false,
            };
            if !is_wanted {
                self.says_wrong(format!("{what}: adds the name {name}"));
            }
        }
    }

    fn is_same(&self, left: &BTreeMap<String, Value>, right: &BTreeMap<String, Value>) -> bool {
        left.keys().eq(right.keys())
            && left.values().zip(right.values()).all(|(left, right)| self.is_same_row(left, right))
    }

    fn is_same_row(&self, old: &Value, new: &Value) -> bool {
        let (Value::Object(left), Value::Object(right)) = (old, new) else { return old == new };
        left.keys().eq(right.keys())
            && right.iter().all(|(field, value)| self.is_same_field(field, old, value))
    }

    fn is_same_field(&self, field: &str, old: &Value, new: &Value) -> bool {
        // Without a database each load makes both anew.
        let is_time =
            field == "updated_at" || (field == "created_at" && self.family == Family::Dbless);
        is_time || old[field] == *new
    }
}
