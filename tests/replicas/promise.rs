//! What is promised of replicas, whatever is played.

use std::time::Duration;

use kong_cert_reloader::bundle::LeafDigest;
use kong_cert_reloader::status::State;

use super::super::cluster::{Generation, Write};
use super::super::pod::START;
use super::{Outcome, Play, Replica};

/// `HOLD`, as it is by default.
const HOLD: Duration = Duration::from_secs(300);
/// What is found by the poll, or by the longest wait for a Kong that failed, is found after so long.
const SETTLED: Duration = Duration::from_secs(40);

impl Play {
    /// Whether all bindings of a pod are in sync with what is in its volume.
    fn is_in_sync(&self, replica: &Replica) -> bool {
        let (_, generation) = *replica.volume.last().unwrap();
        self.bindings.iter().all(|(name, generations)| {
            let status = replica.pod.binding(name);
            let leaf = LeafDigest::of(generations[generation].leaf_der());
            let shown = [&status.file, &status.kong, &status.served];
            status.state == State::InSync
                && shown.iter().all(|shown| {
                    shown.as_ref().is_some_and(|shown| shown.leaf_sha256.contains(&leaf))
                })
        })
    }

    /// What came of it, which must be what is promised whatever is played.
    pub(super) fn judge(&self, begun: Duration, last: Duration) -> Outcome {
        let writes = self.cluster.writes_since(begun);
        self.assert_all_follow_the_secret();
        for write in &writes {
            self.assert_justified(write, &writes);
        }
        let late: Vec<_> = writes.iter().filter(|write| write.at > last + SETTLED).collect();
        assert!(late.is_empty(), "written after all was in place: {late:?}");
        let (first, _) = &self.bindings[0];
        let history = history(first, &writes);
        for replica in &self.replicas {
            let served = replica.node.served(first);
            assert!(is_within(&served, &history) || history.is_empty(), "{served:?}, {history:?}");
        }
        let in_sync = self.replicas.iter().filter(|replica| !replica.is_broken);
        let in_sync = in_sync.map(|replica| {
            let since = self.bindings.iter().map(|(name, _)| replica.pod.binding(name).since.0);
            Duration::from_secs(u64::try_from(since.max().unwrap() - START).unwrap())
        });
        let in_sync = in_sync.max().unwrap_or_default();
        Outcome {
            looks: self.cluster.looks(begun, in_sync + Duration::from_secs(1)),
            in_sync: in_sync.saturating_sub(begun),
            swaps: self.swaps,
            history,
            writes,
        }
    }

    pub(super) fn assert_all_follow_the_secret(&self) {
        for (at, replica) in self.replicas.iter().enumerate() {
            if replica.is_broken {
                assert_eq!(replica.pod.binding(&self.bindings[0].0).state, State::Invalid);
                continue;
            }
            let status = replica.pod.binding(&self.bindings[0].0);
            assert!(self.is_in_sync(replica), "pod {at}: {status:?}");
            assert_eq!(replica.volume.last().unwrap().1, self.secret, "pod {at}");
        }
        for (name, _) in &self.bindings {
            assert_eq!(self.cluster.held(&format!("{name}.test")), Some(self.secret), "{name}");
        }
    }

    /// What the rules promise of each write:
    ///
    /// 1. What Kong holds is not written again by one whose last look showed that it is there.
    /// 2. What is written is what the writer's volume holds, or held when he looked.
    /// 3. Kong goes back to an older generation only where the newer one cannot be served any more
    ///    (rule 6), or the writer's own volume went that way: it had the newer one, and has the older
    ///    one since (rule 8, a rollback). One that is merely behind never writes (rule 9).
    /// 4. Who knew the newer generation before Kong went back to the older one, and has it still, does
    ///    not put it back before `HOLD` has passed (rule 10): his volume may follow. One that was
    ///    started since knows of no rollback (rule 11).
    fn assert_justified(&self, write: &Write, writes: &[Write]) {
        if write.status >= 300 || write.path.starts_with("/snis/") {
            return;
        }
        assert!(!(write.is_same && write.was_seen), "1: {write:?}");
        let (Some((_, to)), from) = (&write.to, &write.from) else { return };
        let replica = &self.replicas[write.by];
        let before: Vec<_> = replica.volume.iter().filter(|(at, _)| *at <= write.at).collect();
        let moment = Duration::from_secs(15);
        let held_lately = before.iter().rev().enumerate().any(|(newer, (_, generation))| {
            let until = newer.checked_sub(1).map(|at| before[before.len() - 1 - at].0);
            generation == to && until.is_none_or(|until| write.at - until < moment)
        });
        assert!(held_lately, "2: {write:?}, {:?}", replica.volume);
        let Some((_, from)) = from else { return };
        if to < from && !self.has_expired(*from, write.at) {
            let had = before.iter().position(|(_, generation)| generation == from);
            let has = before.iter().rposition(|(_, generation)| generation == to);
            assert!(had < has && had.is_some(), "3: {write:?}, {:?}", replica.volume);
        }
        if to > from {
            let went_back = writes.iter().rfind(|other| {
                other.at < write.at
                    && other.changes()
                    && other.to == write.from
                    && other.from.as_ref().is_some_and(|(_, earlier)| earlier > from)
            });
            let (known, _) = before.last().unwrap();
            let knew = |back: &&Write| (*known).max(replica.started) + SETTLED < back.at;
            if let Some(back) = went_back.filter(knew) {
                assert!(write.at - back.at >= HOLD, "4: {write:?} after {back:?}");
            }
        }
    }

    fn has_expired(&self, generation: Generation, at: Duration) -> bool {
        self.setup.expires[generation] <= START + i64::try_from(at.as_secs()).unwrap()
    }
}

/// The generations that Kong held of a binding, in order.
fn history(binding: &str, writes: &[Write]) -> Vec<Generation> {
    let held = writes.iter().flat_map(|write| [&write.from, &write.to]);
    let of_binding = held.flatten().filter(|(name, _)| name == binding);
    let mut history: Vec<Generation> = of_binding.map(|(_, generation)| *generation).collect();
    history.dedup();
    history
}

/// Whether all of `part` lies in `whole`, in this order.
fn is_within(part: &[Generation], whole: &[Generation]) -> bool {
    let mut rest = whole.iter();
    part.iter().all(|generation| rest.any(|other| other == generation))
}
