//! What to do about a binding: one pure function, first match wins.

use std::time::Duration;

use crate::bundle::{Facts, Fingerprint, Reason};
use crate::clock::Timestamp;

/// So many reverts by another writer within [`REVERT_WINDOW`] end our writing to a database.
pub const REVERTS: usize = 3;
/// A Kong without a database forgets at each restart, and so this many are put back at once within
/// [`REVERT_WINDOW`].
pub const RESTORES: usize = 10;
/// What has to be put back however often it is undone is put back once in so long then.
pub const RESTORE_PAUSE: Duration = Duration::from_secs(60);
/// After so many pushes within [`FLAP_WINDOW`] there is a [`FLAP_PAUSE`] before the next: so many
/// fit into the window, and it goes on.
pub const FLAPS: usize = 10;
/// How long a push counts.
pub const FLAP_WINDOW: Duration = Duration::from_secs(60);
/// Time between pushes of files that do not rest.
pub const FLAP_PAUSE: Duration = Duration::from_secs(6);
/// How long a revert counts.
pub const REVERT_WINDOW: Duration = Duration::from_secs(60 * 60);

/// All that a decision depends on.
#[derive(Clone, Copy, Debug)]
pub struct Situation<'a> {
    /// The wall-clock time.
    pub now: Timestamp,
    /// The bundle in the files; `None` if they are not servable or missing.
    pub file: Option<&'a Facts>,
    /// What Kong holds: nothing, something that it cannot serve, or a bundle.
    pub held: Option<Result<&'a Facts, Reason>>,
    /// SNIs or tags are not as wanted. Without meaning while Kong holds nothing.
    pub fields_differ: bool,
    /// Whether other replicas write to what this Kong reads (a database).
    pub is_shared: bool,
    /// The last bundle on which file and Kong agreed.
    pub settled: Option<Fingerprint>,
    /// For how long file and held have been this pair.
    pub unchanged_for: Duration,
    /// How long to wait where another replica may know better (`HOLD`).
    pub hold: Duration,
    /// How often, within the last hour, another writer undid what was settled.
    pub reverts: usize,
    /// How often we pushed within [`FLAP_WINDOW`].
    pub pushes: usize,
    /// How long ago we last wrote it.
    pub since_write: Duration,
    /// Someone who knows asks for the file, though Kong's may be right.
    pub forced: bool,
}

/// What follows from a [`Situation`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// The files are not servable: Kong keeps what it has.
    Keep,
    /// Too early; look again at this time.
    NotYetValid {
        /// The file's `notBefore`.
        from: Timestamp,
    },
    /// Kong holds nothing: create.
    Create,
    /// File and Kong agree: no write.
    InSync,
    /// The bundle agrees, SNIs or tags do not: write those.
    Amend,
    /// Replace what Kong holds.
    Push(Why),
    /// Kong holds something that may be right; look again.
    Hold(Wait),
    /// Another writer keeps undoing ours: no endless war.
    Contested {
        /// When to put ours back all the same; `None` while theirs can be served.
        remaining: Option<Duration>,
    },
}

impl Decision {
    /// Whether something is written.
    #[must_use]
    pub const fn writes(self) -> bool {
        matches!(self, Self::Create | Self::Amend | Self::Push(_))
    }

    /// Whether it would be written if another writer did not undo it again and again.
    #[must_use]
    pub const fn contends(self) -> bool {
        self.writes() || matches!(self, Self::Contested { .. })
    }
}

/// Why Kong's bundle is replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// Kong's cannot be served now: broken, weak or expired.
    HeldUnservable,
    /// Kong's is cert-manager's placeholder.
    HeldTemporary,
    /// Nobody else writes to this Kong.
    NotShared,
    /// The file left the bundle that it shared with Kong: a renewal or a rollback.
    FileChanged,
    /// Nobody corrected Kong's in time.
    HoldEnded,
    /// The file's is newer.
    Newer,
    /// Someone asked for it.
    Forced,
}

impl Why {
    /// The word for logs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::HeldUnservable => "kong's cannot be served",
            Self::HeldTemporary => "kong's is temporary",
            Self::NotShared => "the file rules",
            Self::FileChanged => "the file changed",
            Self::HoldEnded => "the hold ended",
            Self::Newer => "the file is newer",
            Self::Forced => "it is forced",
        }
    }
}

/// Why nothing is written although file and Kong differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// The file holds cert-manager's placeholder, Kong a real certificate.
    FileTemporary,
    /// Kong's is newer: another replica is ahead.
    KongNewer {
        /// Longer than `HOLD`: someone should look.
        overdue: bool,
    },
    /// The files do not rest: each push costs Kong something.
    Flapping {
        /// When to push what is there then.
        remaining: Duration,
    },
    /// Kong's is as old, or older and the file has not changed: a rollback may be on its way.
    RollbackPossible {
        /// When to push all the same.
        remaining: Duration,
    },
}

impl Wait {
    /// The word, as it stands in states and labels.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::FileTemporary => "file_temporary",
            Self::Flapping { .. } => "flapping",
            Self::KongNewer { .. } => "kong_newer",
            Self::RollbackPossible { .. } => "rollback_possible",
        }
    }
}

/// Decides by the table of the design, section 3.
///
/// Never answers with a write while the file is not servable, and never with one while file and
/// Kong agree.
#[must_use]
pub fn decide(situation: &Situation<'_>) -> Decision {
    let decision = by_the_table(situation);
    let repairs = situation.file.is_some_and(|file| situation.settled == Some(file.fingerprint));
    if decision.writes()
        && repairs
        && !situation.forced
        && let Some(contested) = contested(situation, decision)
    {
        return contested;
    }
    let is_calm = situation.pushes < FLAPS || situation.since_write >= FLAP_PAUSE;
    match decision {
        // The pause is not for what cannot be served, nor for what someone asked for.
        Decision::Push(Why::HeldUnservable | Why::HeldTemporary | Why::Forced) => decision,
        Decision::Push(_) if !is_calm => {
            Decision::Hold(Wait::Flapping { remaining: FLAP_PAUSE - situation.since_write })
        }
        _ => decision,
    }
}

/// The repair of what was settled waits, or is given up, where it was undone too often.
fn contested(situation: &Situation<'_>, decision: Decision) -> Option<Decision> {
    let Situation { is_shared, reverts, since_write, .. } = *situation;
    if !is_shared {
        let remaining = until_restored(reverts, since_write);
        return (!remaining.is_zero())
            .then_some(Decision::Contested { remaining: Some(remaining) });
    }
    if reverts < REVERTS {
        return None;
    }
    let is_unserved = matches!(
        decision,
        Decision::Create | Decision::Push(Why::HeldUnservable | Why::HeldTemporary)
    );
    if !is_unserved {
        return Some(Decision::Contested { remaining: None });
    }
    let remaining = RESTORE_PAUSE.saturating_sub(since_write);
    (!remaining.is_zero()).then_some(Decision::Contested { remaining: Some(remaining) })
}

/// How long it takes until a Kong without a database gets again what it lost, for the `reverts`th
/// time within [`REVERT_WINDOW`]. Never is it given up: nobody else has it.
#[must_use]
pub fn until_restored(reverts: usize, since_write: Duration) -> Duration {
    if reverts > RESTORES { RESTORE_PAUSE.saturating_sub(since_write) } else { Duration::ZERO }
}

fn by_the_table(situation: &Situation<'_>) -> Decision {
    let Situation { now, settled, hold, unchanged_for, .. } = *situation;
    let Some(file) = situation.file.filter(|file| !file.expired_at(now)) else {
        return Decision::Keep;
    };
    if file.not_yet_valid_at(now) {
        return Decision::NotYetValid { from: file.validity.not_before };
    }
    let held = match situation.held {
        None => return Decision::Create,
        Some(Err(_)) => return Decision::Push(Why::HeldUnservable),
        Some(Ok(held)) => held,
    };
    if held.fingerprint == file.fingerprint {
        return if situation.fields_differ { Decision::Amend } else { Decision::InSync };
    }
    if held.expired_at(now) {
        return Decision::Push(Why::HeldUnservable);
    }
    if held.temporary {
        return Decision::Push(Why::HeldTemporary);
    }
    if situation.forced {
        return Decision::Push(Why::Forced);
    }
    if file.temporary {
        return Decision::Hold(Wait::FileTemporary);
    }
    if !situation.is_shared {
        return Decision::Push(Why::NotShared);
    }
    if settled == Some(held.fingerprint) {
        return Decision::Push(Why::FileChanged);
    }
    let (ours, kongs) = (file.validity.not_before, held.validity.not_before);
    if kongs > ours {
        return Decision::Hold(Wait::KongNewer { overdue: unchanged_for >= hold });
    }
    if kongs == ours || settled == Some(file.fingerprint) {
        let remaining = hold.saturating_sub(unchanged_for);
        return if remaining.is_zero() {
            Decision::Push(Why::HoldEnded)
        } else {
            Decision::Hold(Wait::RollbackPossible { remaining })
        };
    }
    Decision::Push(Why::Newer)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use testkit::Pki;

    use super::*;
    use crate::bundle::held_facts;

    const HOUR: i64 = 3600;
    const NOW: i64 = 1_800_000_000;
    const HOLD: Duration = Duration::from_secs(300);

    /// The bundles that the scenarios speak of. A, B and C are each renewed later than the one
    /// before; `twin` began together with A; `next chain` is A with another intermediate.
    fn bundles() -> BTreeMap<&'static str, Facts> {
        let pki = Pki::at(NOW);
        let leaf = |from: i64| pki.leaf(&["a.test"]).not_before(NOW + from * HOUR);
        let key = leaf(-30).issue().key().clone();
        let ca = pki.intermediate("ca");
        let chains = [
            ("A", leaf(-30).issuer(&ca).issue()),
            ("A's chain renewed", leaf(-30).issuer(&ca.reissued()).issue()),
            ("twin", leaf(-30).issue()),
            ("B", leaf(-20).key(&key).issue()),
            ("C", leaf(-10).key(&key).issue()),
            ("expired", leaf(-40).not_after(NOW - HOUR).issue()),
            ("future", leaf(1).issue()),
            (
                "temporary",
                leaf(-1)
                    .subject_serial("1234567890")
                    .issuer(&pki.intermediate("cert-manager.local"))
                    .issue(),
            ),
        ];
        chains
            .into_iter()
            .map(|(name, pair)| (name, held_facts(&pair.chain_pem(), None).unwrap()))
            .collect()
    }

    /// What Kong holds.
    const NOTHING: &str = "nothing";
    const BROKEN: &str = "broken";

    /// A replica looks, `seconds` after the scenario began, and finds `file`.
    struct Look {
        replica: usize,
        seconds: u64,
        file: &'static str,
        decision: Decision,
    }

    const fn look(replica: usize, seconds: u64, file: &'static str, decision: Decision) -> Look {
        Look { replica, seconds, file, decision }
    }

    /// A replica's memory, kept as `reconcile` keeps it.
    #[derive(Default)]
    struct Replica {
        settled: Option<Fingerprint>,
        pair: Option<((&'static str, &'static str), u64)>,
    }

    const KEEP: Decision = Decision::Keep;
    const IN_SYNC: Decision = Decision::InSync;
    const CREATE: Decision = Decision::Create;
    const NEWER: Decision = Decision::Push(Why::Newer);
    const FILE_CHANGED: Decision = Decision::Push(Why::FileChanged);
    const UNSERVABLE: Decision = Decision::Push(Why::HeldUnservable);
    const AHEAD: Decision = Decision::Hold(Wait::KongNewer { overdue: false });

    const fn wait(seconds: u64) -> Decision {
        Decision::Hold(Wait::RollbackPossible { remaining: Duration::from_secs(seconds) })
    }

    /// Kong at the beginning, then looks in order; every write lands.
    fn play(story: &str, kong: &'static str, looks: &[Look]) {
        let bundles = bundles();
        let mut kong = kong;
        let mut replicas: BTreeMap<usize, Replica> = BTreeMap::new();
        for (step, look) in looks.iter().enumerate() {
            if look.replica == ANOTHER_WRITER {
                kong = look.file;
                continue;
            }
            let replica = replicas.entry(look.replica).or_default();
            let pair = (look.file, kong);
            if replica.pair.is_none_or(|(known, _)| known != pair) {
                replica.pair = Some((pair, look.seconds));
            }
            let since = replica.pair.unwrap().1;
            let situation = Situation {
                now: Timestamp(NOW + i64::try_from(look.seconds).unwrap()),
                file: bundles.get(look.file),
                held: match kong {
                    NOTHING => None,
                    BROKEN => Some(Err(Reason::BadCertificate)),
                    name => Some(Ok(&bundles[name])),
                },
                fields_differ: false,
                is_shared: true,
                settled: replica.settled,
                unchanged_for: Duration::from_secs(look.seconds - since),
                hold: HOLD,
                reverts: 0,
                pushes: 0,
                since_write: Duration::ZERO,
                forced: false,
            };
            let decision = decide(&situation);
            assert_eq!(
                decision, look.decision,
                "{story}: step {step} ({} at {} s)",
                look.file, look.seconds
            );
            if decision.writes() {
                kong = look.file;
            }
            if decision.writes() || decision == IN_SYNC {
                replica.settled = Some(bundles[look.file].fingerprint);
            }
        }
    }

    /// Not a replica: someone puts `file` into Kong.
    const ANOTHER_WRITER: usize = 99;
    const fn someone_puts(file: &'static str) -> Look {
        look(ANOTHER_WRITER, 0, file, KEEP)
    }

    #[test]
    fn files_that_do_not_rest_are_pushed_less_often() {
        let facts = bundles();
        let (older, newer) = (&facts["A"], &facts["B"]);
        let situation = |pushes, since_write, held| {
            let settled = Some(older.fingerprint);
            let base = undone(newer, older, 0, Duration::ZERO);
            decide(&Situation { pushes, since_write, settled, held: Some(held), ..base })
        };
        let changed = Decision::Push(Why::FileChanged);
        let s = Duration::from_secs;
        assert_eq!(situation(FLAPS - 1, s(0), Ok(older)), changed);
        let wait = |remaining| Decision::Hold(Wait::Flapping { remaining });
        assert_eq!(situation(FLAPS, s(0), Ok(older)), wait(FLAP_PAUSE));
        assert_eq!(situation(FLAPS, s(5), Ok(older)), wait(s(1)));
        assert_eq!(situation(FLAPS, FLAP_PAUSE, Ok(older)), changed);
        let broken = Err(Reason::WeakKey);
        assert_eq!(situation(99, s(0), broken), Decision::Push(Why::HeldUnservable));
        let temporary = Ok(&facts["temporary"]);
        assert_eq!(situation(99, s(0), temporary), Decision::Push(Why::HeldTemporary));
        assert_eq!(situation(99, s(0), Ok(newer)), Decision::InSync);
    }

    #[test]
    fn a_renewal_is_pushed_once() {
        play(
            "renewal",
            "A",
            &[look(0, 0, "A", IN_SYNC), look(0, 9, "B", FILE_CHANGED), look(0, 10, "B", IN_SYNC)],
        );
        play("renewal after a restart", "A", &[look(0, 0, "B", NEWER), look(0, 1, "B", IN_SYNC)]);
        play(
            "B and C share a key",
            "B",
            &[look(0, 0, "B", IN_SYNC), look(0, 1, "C", FILE_CHANGED)],
        );
    }

    #[test]
    fn an_intermediate_alone_is_a_renewal() {
        play(
            "chain",
            "A",
            &[look(0, 0, "A", IN_SYNC), look(0, 1, "A's chain renewed", FILE_CHANGED)],
        );
        play(
            "chain, restarted",
            "A",
            &[
                look(0, 0, "A's chain renewed", wait(300)),
                look(0, 300, "A's chain renewed", Decision::Push(Why::HoldEnded)),
            ],
        );
    }

    #[test]
    fn an_empty_kong_gets_what_there_is() {
        play("new", NOTHING, &[look(0, 0, "A", CREATE), look(1, 1, "A", IN_SYNC)]);
        play("new, with a placeholder", NOTHING, &[look(0, 0, "temporary", CREATE)]);
        play(
            "it forgets",
            NOTHING,
            &[look(0, 0, "A", CREATE), someone_puts(NOTHING), look(0, 1, "A", CREATE)],
        );
        play("a racing create", NOTHING, &[look(0, 0, "A", CREATE), look(1, 0, "A", IN_SYNC)]);
        play(
            "a create that timed out but landed",
            NOTHING,
            &[someone_puts("A"), look(0, 10, "A", IN_SYNC)],
        );
    }

    #[test]
    fn a_rollback_by_a_person_is_pushed() {
        play(
            "rollback",
            "B",
            &[look(0, 0, "B", IN_SYNC), look(0, 1, "A", FILE_CHANGED), look(0, 2, "A", IN_SYNC)],
        );
    }

    #[test]
    fn a_rollback_passes_from_node_to_node_without_a_step_back_forth() {
        play(
            "three replicas",
            "B",
            &[
                look(0, 0, "B", IN_SYNC),
                look(1, 0, "B", IN_SYNC),
                look(2, 0, "B", IN_SYNC),
                look(0, 1, "A", FILE_CHANGED),
                look(1, 1, "B", wait(300)),
                look(2, 1, "B", wait(300)),
                look(1, 60, "A", IN_SYNC),
                look(2, 89, "B", wait(212)),
                look(2, 90, "A", IN_SYNC),
                look(0, 300, "A", IN_SYNC),
            ],
        );
    }

    #[test]
    fn a_renewal_passes_from_node_to_node_without_a_step_back() {
        play(
            "three replicas",
            "A",
            &[
                look(0, 0, "A", IN_SYNC),
                look(1, 0, "A", IN_SYNC),
                look(2, 0, "A", IN_SYNC),
                look(0, 1, "B", FILE_CHANGED),
                look(1, 1, "A", AHEAD),
                look(2, 1, "A", AHEAD),
                look(1, 40, "B", IN_SYNC),
                look(2, 90, "B", IN_SYNC),
            ],
        );
    }

    #[test]
    fn a_slow_node_that_reaches_b_when_kong_has_c_waits() {
        play(
            "slow",
            "A",
            &[
                look(0, 0, "A", IN_SYNC),
                someone_puts("C"),
                look(0, 1, "A", AHEAD),
                look(0, 60, "B", AHEAD),
                look(0, 90, "C", IN_SYNC),
            ],
        );
    }

    #[test]
    fn a_restart_with_a_stale_volume_waits_until_it_catches_up() {
        play(
            "stale",
            "C",
            &[
                look(0, 0, "A", AHEAD),
                look(0, 300, "A", Decision::Hold(Wait::KongNewer { overdue: true })),
                look(0, 301, "C", IN_SYNC),
            ],
        );
    }

    #[test]
    fn a_brand_new_pod_has_the_newest() {
        play("new pod", "C", &[look(0, 0, "C", IN_SYNC)]);
        play("new pod, first to see a renewal", "B", &[look(0, 0, "C", NEWER)]);
    }

    #[test]
    fn what_kong_cannot_serve_ends_every_hold() {
        play("expired", "expired", &[look(0, 0, "A", UNSERVABLE)]);
        play(
            "broken during a hold",
            "C",
            &[look(0, 0, "A", AHEAD), someone_puts(BROKEN), look(0, 1, "A", UNSERVABLE)],
        );
        play(
            "expired in a rollback",
            "A",
            &[
                look(0, 0, "A", IN_SYNC),
                someone_puts("twin"),
                look(0, 1, "A", wait(300)),
                someone_puts("expired"),
                look(0, 2, "A", UNSERVABLE),
            ],
        );
    }

    #[test]
    fn a_secret_that_is_deleted_and_made_again_changes_nothing_until_it_is_servable() {
        play(
            "deleted",
            "A",
            &[
                look(0, 0, "A", IN_SYNC),
                look(0, 1, "missing", KEEP),
                look(0, 2, "temporary", Decision::Hold(Wait::FileTemporary)),
                look(0, 3, "B", FILE_CHANGED),
            ],
        );
    }

    #[test]
    fn the_placeholder_of_cert_manager_never_replaces_a_real_certificate_and_is_replaced_by_any() {
        play(
            "placeholder in kong",
            "temporary",
            &[look(0, 0, "A", Decision::Push(Why::HeldTemporary))],
        );
        play(
            "placeholder in the file",
            "A",
            &[look(0, 0, "temporary", Decision::Hold(Wait::FileTemporary))],
        );
        play("kong's expired", "expired", &[look(0, 0, "temporary", UNSERVABLE)]);
    }

    #[test]
    fn a_clock_that_is_behind_waits_for_the_certificate_to_begin() {
        let early = Decision::NotYetValid { from: Timestamp(NOW + HOUR) };
        play(
            "behind",
            "A",
            &[
                look(0, 0, "future", early),
                look(0, 3599, "future", early),
                look(0, 3600, "future", NEWER),
            ],
        );
        play("kong is ahead of our clock", "future", &[look(0, 0, "A", AHEAD)]);
    }

    #[test]
    fn an_expired_file_is_never_pushed() {
        for kong in [NOTHING, BROKEN, "expired", "A"] {
            play("expired file", kong, &[look(0, 0, "expired", KEEP)]);
        }
    }

    #[test]
    fn another_writer_is_corrected_twice_and_then_left_alone() {
        let bundles = bundles();
        let (ours, theirs) = (&bundles["C"], &bundles["B"]);
        for (reverts, expected) in [(1, wait(300)), (2, wait(300)), (3, wait(300))] {
            let situation = undone(ours, theirs, reverts, Duration::ZERO);
            assert_eq!(decide(&situation), expected);
        }
        for (reverts, expected) in [
            (1, Decision::Push(Why::HoldEnded)),
            (2, Decision::Push(Why::HoldEnded)),
            (3, GIVEN_UP),
        ] {
            assert_eq!(decide(&undone(ours, theirs, reverts, HOLD)), expected);
        }
        let amended =
            |reverts| Situation { fields_differ: true, ..undone(ours, ours, reverts, HOLD) };
        assert_eq!(decide(&amended(2)), Decision::Amend);
        assert_eq!(decide(&amended(3)), GIVEN_UP);
        let renewed =
            Situation { settled: Some(theirs.fingerprint), ..undone(ours, theirs, 9, HOLD) };
        assert_eq!(decide(&renewed), FILE_CHANGED);
    }

    const GIVEN_UP: Decision = Decision::Contested { remaining: None };

    #[test]
    fn what_is_not_served_is_put_back_however_often_it_is_undone_but_once_a_minute() {
        let facts = bundles();
        let ours = &facts["C"];
        let in_30_s = Decision::Contested { remaining: Some(RESTORE_PAUSE / 2) };
        for (held, expected) in [
            (None, CREATE),
            (Some(Err(Reason::WeakKey)), UNSERVABLE),
            (Some(Ok(&facts["expired"])), UNSERVABLE),
            (Some(Ok(&facts["temporary"])), Decision::Push(Why::HeldTemporary)),
        ] {
            for (reverts, seconds, expected) in
                [(2, 0, expected), (3, 30, in_30_s), (99, 30, in_30_s), (99, 60, expected)]
            {
                let since_write = Duration::from_secs(seconds);
                let base = undone(ours, ours, reverts, HOLD);
                let situation = Situation { held, since_write, ..base };
                assert_eq!(decide(&situation), expected, "{reverts} reverts, {seconds} s");
            }
        }
    }

    #[test]
    fn without_a_database_what_is_lost_is_put_back_ten_times_at_once_and_then_once_a_minute() {
        let facts = bundles();
        let (ours, theirs) = (&facts["C"], &facts["B"]);
        let whole = undone(ours, theirs, 0, Duration::ZERO);
        let forgotten = Situation { held: None, ..whole };
        let stripped = Situation { held: Some(Ok(ours)), fields_differ: true, ..whole };
        let replaced = Decision::Push(Why::NotShared);
        let in_20_s = Decision::Contested { remaining: Some(Duration::from_secs(20)) };
        for (lost, put_back) in
            [(whole, replaced), (forgotten, CREATE), (stripped, Decision::Amend)]
        {
            for (reverts, seconds, expected) in [
                (1, 0, put_back),
                (RESTORES, 0, put_back),
                (RESTORES + 1, 40, in_20_s),
                (RESTORES + 1, 60, put_back),
                (999, 40, in_20_s),
                (999, 60, put_back),
            ] {
                let since_write = Duration::from_secs(seconds);
                let situation = Situation { is_shared: false, reverts, since_write, ..lost };
                assert_eq!(decide(&situation), expected, "{reverts} reverts, {seconds} s");
                let renewed = Situation { settled: Some(theirs.fingerprint), ..situation };
                assert!(decide(&renewed).writes(), "a renewal does not wait");
            }
        }
    }

    fn undone<'a>(
        ours: &'a Facts,
        theirs: &'a Facts,
        reverts: usize,
        waited: Duration,
    ) -> Situation<'a> {
        Situation {
            now: Timestamp(NOW),
            file: Some(ours),
            held: Some(Ok(theirs)),
            fields_differ: false,
            is_shared: true,
            settled: Some(ours.fingerprint),
            unchanged_for: waited,
            hold: HOLD,
            reverts,
            pushes: 0,
            since_write: Duration::ZERO,
            forced: false,
        }
    }

    #[test]
    fn a_kong_that_is_not_shared_follows_the_file_at_once() {
        let bundles = bundles();
        let alone = Situation {
            is_shared: false,
            settled: None,
            ..undone(&bundles["A"], &bundles["C"], 0, Duration::ZERO)
        };
        assert_eq!(decide(&alone), Decision::Push(Why::NotShared));
    }

    #[test]
    fn force_pushes_what_would_be_held() {
        let bundles = bundles();
        for (file, held, is_settled, reverts, without) in [
            ("A", "C", false, 0, AHEAD),
            ("A", "twin", false, 0, wait(300)),
            ("C", "B", true, 0, wait(300)),
            ("temporary", "A", false, 0, Decision::Hold(Wait::FileTemporary)),
            ("B", "A", false, 0, NEWER),
            ("C", "B", true, REVERTS, GIVEN_UP),
        ] {
            let waited = if reverts == 0 { Duration::ZERO } else { HOLD };
            let both = undone(&bundles[file], &bundles[held], reverts, waited);
            let calm = Situation { settled: both.settled.filter(|_| is_settled), ..both };
            assert_eq!(decide(&calm), without, "{file} over {held}");
            let forced = Situation { forced: true, ..calm };
            assert_eq!(decide(&forced), Decision::Push(Why::Forced), "{file} over {held}");
        }
    }

    #[test]
    fn force_changes_nothing_where_nothing_is_held_back() {
        let bundles = bundles();
        let early = Decision::NotYetValid { from: Timestamp(NOW + HOUR) };
        for (file, kong, expected) in [
            ("missing", "A", KEEP),
            ("expired", "A", KEEP),
            ("expired", NOTHING, KEEP),
            ("expired", BROKEN, KEEP),
            ("future", "A", early),
            ("future", NOTHING, early),
            ("A", "A", IN_SYNC),
            ("A", NOTHING, CREATE),
            ("A", BROKEN, UNSERVABLE),
            ("A", "expired", UNSERVABLE),
        ] {
            for forced in [false, true] {
                let situation = Situation {
                    file: bundles.get(file),
                    held: match kong {
                        NOTHING => None,
                        BROKEN => Some(Err(Reason::BadCertificate)),
                        name => Some(Ok(&bundles[name])),
                    },
                    settled: None,
                    forced,
                    ..undone(&bundles["A"], &bundles["A"], 0, Duration::ZERO)
                };
                assert_eq!(decide(&situation), expected, "{file} over {kong}, {forced}");
            }
        }
    }

    proptest! {
        #[test]
        fn it_never_writes_what_is_not_servable_nor_when_file_and_kong_agree(
            file in 0..9_usize, held in 0..10_usize, settled in 0..9_usize,
            waited in 0..700_u64, fields_differ: bool, is_shared: bool, forced: bool,
            reverts in 0..5_usize, pushes in 0..7_usize, since_write in 0..20_u64,
            now in (NOW - 50 * HOUR)..(NOW + 50 * HOUR),
        ) {
            let bundles: Vec<Facts> = bundles().into_values().collect();
            let now = Timestamp(now);
            let situation = Situation {
                now,
                file: bundles.get(file),
                held: match held { 8 => None, 9 => Some(Err(Reason::BadCertificate)), n => Some(Ok(&bundles[n])) },
                fields_differ,
                is_shared,
                settled: bundles.get(settled).map(|facts| facts.fingerprint),
                unchanged_for: Duration::from_secs(waited),
                hold: HOLD,
                reverts,
                pushes,
                since_write: Duration::from_secs(since_write),
                forced,
            };
            let decision = decide(&situation);
            let is_timely =
                |file: &&Facts| !file.expired_at(now) && !file.not_yet_valid_at(now);
            if let Some(file) = situation.file.filter(is_timely).filter(|_| forced) {
                let agrees = matches!(situation.held, Some(Ok(held)) if held.fingerprint == file.fingerprint);
                prop_assert_eq!(decision.writes(), !agrees || fields_differ);
            }
            if decision.writes() {
                let file = situation.file.expect("something to write");
                prop_assert!(!file.expired_at(now) && !file.not_yet_valid_at(now));
                if let Some(Ok(held)) = situation.held {
                    let agree = held.fingerprint == file.fingerprint;
                    prop_assert_eq!(decision == Decision::Amend, agree);
                    prop_assert!(!agree || fields_differ);
                    prop_assert!(
                        forced || held.temporary || !file.temporary || agree || held.expired_at(now)
                    );
                }
            }
        }
    }
}
