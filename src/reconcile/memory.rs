//! What is remembered of a binding from pass to pass; nothing in it is secret, and nothing outlives
//! the process.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::time::Instant;
use uuid::Uuid;

use crate::bundle::{Facts, Fingerprint, Reason};
use crate::clock::Timestamp;
use crate::decide::{FLAP_WINDOW, REVERT_WINDOW};
use crate::desired::Owner;
use crate::held::{Held, Snapshot};
use crate::kong::{Failure, Refused};
use crate::reconcile::subject::Proving;
use crate::status::{BindingStatus, Shown, State};
use crate::volume::{Files, FrozenMount, Identity, Source};

/// So often is a pair of plain files looked at again before it is called invalid.
const SECOND_LOOKS: u8 = 2;

/// So often is it looked up at each comparison what refers to a new CA certificate, and then once in
/// so long: all services and plugins are read for it.
const FIRST_LOOKUPS: u8 = 2;
const LOOKUP_INTERVAL: Duration = Duration::from_secs(60 * 60);

/// Of cert-manager's temporary certificate.
pub(super) const TEMPORARY: &str = "the file holds cert-manager's temporary certificate, which stands in until the issuer has answered; if that takes long, see kubectl describe certificate,certificaterequest";

/// A file's bundle, and what Kong held beside it.
pub(super) type Pair = (Fingerprint, Option<Result<Fingerprint, Reason>>);

#[derive(Debug)]
pub(super) struct RefusedWrite {
    pub(super) file: Fingerprint,
    pub(super) held: Option<Box<Held>>,
    pub(super) why: Failure,
    pub(super) since: Instant,
}

/// What is remembered of CA certificates, of which a file may hold many.
#[derive(Debug, Default)]
struct Members {
    /// Those that Kong refused.
    refused: Refused,
    /// Those that were written, and to which nothing in Kong referred when last seen.
    doubted: BTreeSet<Uuid>,
    /// How often that was looked up, and when last.
    lookups: Option<(u8, Instant)>,
}

/// Files that nginx reads itself.
#[derive(Debug)]
pub(super) struct ReadByNginx {
    /// Where they lie.
    pub(super) source: Source,
    /// When they were written, if the file system tells.
    pub(super) written: Option<SystemTime>,
}

/// There may be thousands of them: what is rarely there has its room elsewhere.
#[derive(Debug)]
pub(super) struct Memory {
    /// Where the binding stood last; shared with what is told, unless that says more.
    pub(super) status: Arc<BindingStatus>,
    /// Mounts of the files that never show a renewal.
    pub(super) frozen: Box<[FrozenMount]>,
    /// cert-manager's temporary certificate is in the files.
    pub(super) is_temporary: bool,
    /// The files as they were last read.
    identity: Option<Identity>,
    /// `None` of what is brought to Kong.
    pub(super) read_by_nginx: Option<Box<ReadByNginx>>,
    second_looks: u8,
    /// The bundle that was last in the files.
    fingerprint: Option<Fingerprint>,
    /// Whether it is what they held when they were last read.
    is_present: bool,
    /// How long the text was, of a configuration.
    pub(super) length: Option<usize>,
    /// When that was first seen, until it is settled.
    unsettled_since: Option<Instant>,
    /// The last bundle on which file and Kong agreed.
    pub(super) settled: Option<Fingerprint>,
    /// The last bundle that was sent and not answered, and to which object: it may have landed.
    pub(super) sent: Option<Box<(Uuid, Fingerprint)>>,
    /// The present pair of file and held, unless they agree, and when it was first seen.
    pub(super) pair: Option<Box<(Pair, Instant)>>,
    /// To whom names were left.
    pub(super) left_to: Box<[Owner]>,
    reverts: Box<[Instant]>,
    /// When we wrote a bundle lately.
    pushes: Box<[Instant]>,
    /// When we wrote anything of it last.
    last_write: Option<Instant>,
    /// A revert was counted, and is not repaired yet.
    pub(super) repairing: bool,
    /// What Kong refused: not sent again until file or held changes, or without a database for some
    /// time.
    pub(super) refused: Option<Box<RefusedWrite>>,
    /// Another writer was first, each time that Kong was looked at again.
    pub(super) is_in_conflict: bool,
    /// `None` while there is nothing to remember of CA certificates.
    members: Option<Box<Members>>,
    /// What handshakes should show.
    pub(super) proving: Option<Box<Proving>>,
}

impl Memory {
    pub(super) fn new(now: Timestamp) -> Self {
        Self {
            status: Arc::new(BindingStatus::starting(now)),
            frozen: Box::default(),
            is_temporary: false,
            identity: None,
            read_by_nginx: None,
            second_looks: 0,
            fingerprint: None,
            is_present: false,
            length: None,
            unsettled_since: None,
            settled: None,
            sent: None,
            pair: None,
            left_to: Box::default(),
            reverts: Box::default(),
            pushes: Box::default(),
            last_write: None,
            repairing: false,
            refused: None,
            is_in_conflict: false,
            members: None,
            proving: None,
        }
    }

    /// Where the binding stands, and what is odd about its files whatever Kong does.
    pub(super) fn told(&self) -> Arc<BindingStatus> {
        let mut told = Arc::clone(&self.status);
        let frozen = self.frozen.iter().map(ToString::to_string);
        let odd = frozen.chain(self.is_temporary.then(|| TEMPORARY.to_owned()));
        let mut odd = odd.peekable();
        if odd.peek().is_some() {
            Arc::make_mut(&mut told).warnings.splice(..0, odd);
        }
        told
    }

    /// Where the binding stands, to be changed: who was told before keeps what was told.
    pub(super) fn status_mut(&mut self) -> &mut BindingStatus {
        Arc::make_mut(&mut self.status)
    }

    /// What is shown of a bundle: file, Kong and handshakes share it where they are the same.
    pub(super) fn shown(&self, bundle: &Arc<Shown>) -> Arc<Shown> {
        let status = &self.status;
        let mut known = [&status.file, &status.kong, &status.served].into_iter().flatten();
        Arc::clone(known.find(|known| *known == bundle).unwrap_or(bundle))
    }

    /// The files were read; `None` if they could not be. What is in them is not known yet.
    pub(super) fn note_identity(&mut self, identity: Option<Identity>) {
        self.is_present = false;
        if self.identity != identity {
            self.identity = identity;
            self.second_looks = 0;
        }
    }

    /// When the files that nginx reads itself were written, if the file system tells.
    pub(super) fn written(&self) -> Option<SystemTime> {
        self.read_by_nginx.as_deref()?.written
    }

    /// Whether the files are as they were when they were read.
    pub(super) fn has_read(&self, identity: Identity) -> bool {
        self.identity == Some(identity)
    }

    /// Whether the files are as they were when they were read, and were servable then.
    pub(super) fn is_of(&self, identity: Identity) -> bool {
        // The wall clock may have been set: what it kept back is judged anew.
        let was_servable = !matches!(self.status.state, State::Invalid | State::NotYetValid);
        was_servable && self.has_read(identity)
    }

    /// Whether files that may be half written deserve another look.
    pub(super) const fn takes_second_look(&mut self) -> bool {
        let takes = self.second_looks < SECOND_LOOKS;
        if takes {
            self.second_looks += 1;
        }
        takes
    }

    pub(super) fn has_shown_other(&self) -> bool {
        self.proving.as_deref().is_some_and(Proving::shows_other)
    }

    /// Whether the files may be half written: they are not as they were judged, or not judged yet.
    pub(super) fn is_changing(&self, files: &dyn Files) -> bool {
        let is_same = |read: &ReadByNginx| self.identity == Some(read.source.identity(files));
        let is_as_judged =
            self.second_looks == 0 && self.read_by_nginx.as_deref().is_none_or(is_same);
        self.status.state != State::Invalid && !is_as_judged
    }

    /// The bundle that was last in the files.
    pub(super) const fn fingerprint(&self) -> Option<Fingerprint> {
        self.fingerprint
    }

    /// The bundle that is in the files, fit to be served or not; `None` where none was found in them.
    pub(super) fn present(&self) -> Option<Fingerprint> {
        self.fingerprint.filter(|_| self.is_present)
    }

    /// Whether the files could be served once.
    pub(super) const fn was_seen(&self) -> bool {
        self.fingerprint.is_some()
    }

    /// This bundle is in the files. Returns whether it was not there before.
    pub(super) fn note_bundle(&mut self, bundle: Fingerprint) -> bool {
        self.is_present = true;
        let is_new = self.fingerprint != Some(bundle);
        if is_new {
            self.fingerprint = Some(bundle);
            self.unsettled_since = Some(Instant::now());
            self.is_in_conflict = false;
            self.note_refused_members(&Refused::default());
        }
        is_new
    }

    /// The last bundle on which file and Kong agreed. A write whose answer was lost may have landed.
    pub(super) fn settled_in(&self, snapshot: &Snapshot) -> Option<Fingerprint> {
        let landed = self.sent.as_deref().filter(|(id, bundle)| snapshot.holds(*id, *bundle));
        landed.map(|(_, bundle)| *bundle).or(self.settled)
    }

    /// For how long file and held have been this pair.
    pub(super) fn unchanged_for(&self, pair: &Pair) -> Duration {
        match self.pair.as_deref() {
            Some((known, since)) if known == pair => since.elapsed(),
            _ => Duration::ZERO,
        }
    }

    /// For how long the present pair has been there.
    pub(super) fn pair_age(&self) -> Duration {
        self.pair.as_deref().map(|(_, since)| since.elapsed()).unwrap_or_default()
    }

    /// File and held are this pair now.
    pub(super) fn note_pair(&mut self, pair: Pair) {
        if pair.1 == Some(Ok(pair.0)) {
            // Nothing waits where they agree.
            self.pair = None;
        } else if self.pair.as_deref().is_none_or(|(known, _)| *known != pair) {
            self.pair = Some(Box::new((pair, Instant::now())));
        }
    }

    /// Another writer undid what was settled.
    pub(super) fn note_revert(&mut self) {
        self.repairing = true;
        self.reverts = within(REVERT_WINDOW, &self.reverts).chain([Instant::now()]).collect();
    }

    /// The reverts that count, with the one at hand unless that was counted.
    pub(super) fn reverts(&self) -> usize {
        within(REVERT_WINDOW, &self.reverts).count() + usize::from(!self.repairing)
    }

    /// Kong took a bundle of ours.
    pub(super) fn note_push(&mut self) {
        self.pushes = within(FLAP_WINDOW, &self.pushes).chain([Instant::now()]).collect();
    }

    /// How many pushes count.
    pub(super) fn pushes(&self) -> usize {
        within(FLAP_WINDOW, &self.pushes).count()
    }

    /// Kong would not have this bundle in place of what it held.
    pub(super) fn note_refused(
        &mut self,
        file: Fingerprint,
        held: Option<Box<Held>>,
        why: Failure,
    ) {
        self.refused = Some(Box::new(RefusedWrite { file, held, why, since: Instant::now() }));
    }

    /// Kong took something of ours.
    pub(super) fn note_write(&mut self) {
        self.last_write = Some(Instant::now());
    }

    /// How long ago Kong took something of ours; for ever, if it never did.
    pub(super) fn since_write(&self) -> Duration {
        self.last_write.map_or(Duration::MAX, |at| at.elapsed())
    }

    /// The CA certificates of the file that Kong refused.
    pub(super) fn refused_members(&self) -> Refused {
        self.members.as_deref().map(|members| members.refused.clone()).unwrap_or_default()
    }

    /// Kong refused these, and no others.
    pub(super) fn note_refused_members(&mut self, refused: &Refused) {
        if self.members.is_some() || !refused.is_empty() {
            self.members.get_or_insert_default().refused.clone_from(refused);
        }
    }

    /// The CA certificates that were written, and to which nothing in Kong referred when last seen.
    pub(super) fn doubted(&self) -> BTreeSet<Uuid> {
        self.members.as_deref().map(|members| members.doubted.clone()).unwrap_or_default()
    }

    /// To these nothing in Kong refers, of those that were doubted.
    pub(super) fn note_doubted(&mut self, doubted: &BTreeSet<Uuid>) {
        if self.members.is_some() || !doubted.is_empty() {
            self.members.get_or_insert_default().doubted.clone_from(doubted);
        }
    }

    /// These are in Kong since this pass, and nothing may refer to them yet.
    pub(super) fn doubt_all(&mut self, ids: impl IntoIterator<Item = Uuid>) {
        for id in ids {
            let members = self.members.get_or_insert_default();
            if members.doubted.insert(id) {
                members.lookups = None;
            }
        }
    }

    /// The CA certificates of which it is time to look up what refers to them.
    pub(super) fn to_look_up(&self) -> BTreeSet<Uuid> {
        let lookups = self.members.as_deref().and_then(|members| members.lookups);
        let is_due = lookups
            .is_none_or(|(count, last)| count < FIRST_LOOKUPS || last.elapsed() >= LOOKUP_INTERVAL);
        if is_due { self.doubted() } else { BTreeSet::new() }
    }

    /// It was looked up.
    pub(super) fn note_lookup(&mut self) {
        let lookups = &mut self.members.get_or_insert_default().lookups;
        let count = lookups.map_or(0, |(count, _)| count);
        *lookups = Some((count.saturating_add(1), Instant::now()));
    }

    /// File and Kong agree on `facts`.
    pub(super) fn settle(&mut self, facts: &Facts) {
        if self.settled != Some(facts.fingerprint) {
            self.reverts = Box::default();
        }
        self.settled = Some(facts.fingerprint);
        self.sent = None;
        self.repairing = false;
        self.refused = None;
        self.is_in_conflict = false;
        self.note_refused_members(&Refused::default());
    }

    /// File and Kong agreed before we looked: that took no time that we know.
    pub(super) const fn was_settled_before(&mut self) {
        self.unsettled_since = None;
    }

    /// The file's bundle is served, as far as that can be known. Returns how long it took, if the
    /// bundle was new.
    pub(super) fn land(&mut self, now: Timestamp) -> Option<Duration> {
        self.status_mut().last_success = Some(now);
        self.unsettled_since.take().map(|since| since.elapsed())
    }
}

/// The times that are no longer ago than this.
fn within(window: Duration, times: &[Instant]) -> impl Iterator<Item = Instant> {
    times.iter().copied().filter(move |at| at.elapsed() < window)
}
