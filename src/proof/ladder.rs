//! What follows when a handshake does not get the chain that Kong holds: wait, announce it once,
//! give up. Pure.
//!
//! The node that took a write serves it at once; others hear of it within `db_update_frequency` and
//! `db_update_propagation`. A node that missed the message never hears of it, unless the object is
//! written again.

use std::time::Duration;

use tokio::time::Instant;

/// The first look again; doubled each time.
const FIRST_LOOK: Duration = Duration::from_millis(20);
/// The longest wait between two looks while it may still come.
const LONGEST_WAIT: Duration = Duration::from_secs(1);
/// Between looks at what was given up.
pub const GIVEN_UP: Duration = Duration::from_secs(30);

/// How a round of handshakes ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finding {
    /// Every one got what Kong holds.
    Served,
    /// One got another chain.
    Other,
    /// One got no chain at all.
    Nothing,
}

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// It is proven.
    Proven,
    /// It was served before: see whether Kong still holds it, and look again after this long.
    Doubt(Duration),
    /// Look again after this long: it may still come.
    LookAgain(Duration),
    /// Write the object again as it is, so that the node hears of it.
    Announce,
    /// It is not served; look again after this long. See whether Kong still holds it, and can be read.
    GiveUp(Duration),
    /// As before, and no more is known; look again after this long.
    Nothing(Duration),
}

/// Where the proof of one bundle stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ladder {
    rung: Rung,
    /// The first look that did not show it.
    since: Option<Instant>,
    looks: u32,
    /// It was announced since it was written, and since it was last seen served.
    was_announced: bool,
    /// It was to be announced, and Kong did not answer as it should.
    is_unanswered: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rung {
    /// It was served when it was last looked at.
    Proven,
    /// It may still come.
    Waiting,
    /// It is to be announced.
    Announcing,
    /// It was announced, and may still come.
    Announced,
    GivenUp,
}

impl Ladder {
    /// Kong holds it. Its time begins with the first look.
    #[must_use]
    pub const fn begin() -> Self {
        Self::at(Rung::Waiting)
    }

    const fn at(rung: Rung) -> Self {
        Self { rung, since: None, looks: 0, was_announced: false, is_unanswered: false }
    }

    /// Whether it is to be announced.
    #[must_use]
    pub const fn is_announcing(&self) -> bool {
        matches!(self.rung, Rung::Announcing)
    }

    /// Whether it was given up.
    #[must_use]
    pub const fn is_given_up(&self) -> bool {
        matches!(self.rung, Rung::GivenUp)
    }

    /// It was announced, or could not be.
    pub const fn announced(&mut self) {
        *self = Self { was_announced: true, ..Self::at(Rung::Announced) };
    }

    /// The announcement was not answered as it should be, and may have been heard all the same. It is
    /// made again only if handshakes still show something else: the first time when Kong had its time,
    /// from the second on at each look at what was given up.
    pub const fn unanswered(&mut self) {
        let rung = if self.is_unanswered { Rung::GivenUp } else { Rung::Waiting };
        *self = Self { is_unanswered: true, ..Self::at(rung) };
    }

    /// What follows from a round of handshakes. `patience` is how long it may take to be served;
    /// `may_announce` is false where nothing may be written.
    pub fn climb(
        &mut self,
        finding: Finding,
        patience: Duration,
        may_announce: bool,
        now: Instant,
    ) -> Step {
        if finding == Finding::Served {
            *self = Self::at(Rung::Proven);
            return Step::Proven;
        }
        if self.rung == Rung::Proven {
            *self = Self { since: Some(now), ..Self::begin() };
            return Step::Doubt(FIRST_LOOK.min(patience));
        }
        let rest = patience.saturating_sub(now - *self.since.get_or_insert(now));
        match self.rung {
            Rung::Waiting | Rung::Announced if !rest.is_zero() => {
                let wait = FIRST_LOOK.saturating_mul(1 << self.looks.min(10)).min(LONGEST_WAIT);
                self.looks = self.looks.saturating_add(1);
                Step::LookAgain(wait.min(rest))
            }
            // What showed another chain before is announced, whatever it shows now.
            Rung::Announcing => Step::Announce,
            // What is not served for want of a listener is not mended by a message to the nodes.
            _ if finding == Finding::Other && may_announce && !self.was_announced => {
                self.rung = Rung::Announcing;
                Step::Announce
            }
            Rung::GivenUp if finding == Finding::Nothing => Step::Nothing(GIVEN_UP),
            _ => {
                self.rung = Rung::GivenUp;
                Step::GiveUp(GIVEN_UP)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(8);

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn looks_become_rarer_and_the_last_is_at_the_end_of_the_patience() {
        let start = Instant::now();
        let (mut ladder, mut now, mut waits) = (Ladder::begin(), start, Vec::new());
        while let Step::LookAgain(wait) = ladder.climb(Finding::Other, PATIENCE, true, now) {
            waits.push(wait.as_millis());
            now += wait;
        }
        assert_eq!(waits[..8], [20, 40, 80, 160, 320, 640, 1000, 1000]);
        assert_eq!(now - start, PATIENCE);
        assert!(ladder.is_announcing());
    }

    #[test]
    fn it_is_announced_once_then_given_up_and_looked_at_all_the_same() {
        let start = Instant::now();
        let mut ladder = Ladder::begin();
        let look =
            |ladder: &mut Ladder, at| ladder.climb(Finding::Other, PATIENCE, true, start + s(at));
        assert_eq!(look(&mut ladder, 0), Step::LookAgain(FIRST_LOOK));
        assert_eq!(look(&mut ladder, 8), Step::Announce);
        // Kong could not be asked to: it is tried again.
        assert_eq!(look(&mut ladder, 9), Step::Announce);
        ladder.announced();
        assert_eq!(look(&mut ladder, 10), Step::LookAgain(FIRST_LOOK));
        assert_eq!(look(&mut ladder, 18), Step::GiveUp(GIVEN_UP));
        assert_eq!(look(&mut ladder, 48), Step::GiveUp(GIVEN_UP));
        assert!(ladder.is_given_up());
    }

    #[test]
    fn an_announcement_without_an_answer_may_have_been_heard() {
        let start = Instant::now();
        for (seen, step) in
            [(Finding::Served, Step::Proven), (Finding::Other, Step::LookAgain(FIRST_LOOK))]
        {
            let mut ladder = Ladder::begin();
            ladder.climb(Finding::Other, PATIENCE, true, start);
            assert_eq!(ladder.climb(Finding::Other, PATIENCE, true, start + s(8)), Step::Announce);
            ladder.unanswered();
            assert!(!ladder.is_announcing());
            assert_eq!(ladder.climb(seen, PATIENCE, true, start + s(9)), step);
        }
    }

    #[test]
    fn what_is_not_answered_again_and_again_is_given_up_and_announced_at_each_look() {
        let start = Instant::now();
        let mut ladder = Ladder::begin();
        let look =
            |ladder: &mut Ladder, finding, at| ladder.climb(finding, PATIENCE, true, start + s(at));
        look(&mut ladder, Finding::Other, 0);
        for at in [8, 17] {
            assert_eq!(look(&mut ladder, Finding::Other, at), Step::Announce);
            ladder.unanswered();
            look(&mut ladder, Finding::Other, at + 1);
        }
        ladder.unanswered();
        assert!(ladder.is_given_up());
        assert_eq!(look(&mut ladder, Finding::Nothing, 48), Step::Nothing(GIVEN_UP));
        assert_eq!(look(&mut ladder, Finding::Other, 78), Step::Announce);
        ladder.announced();
        look(&mut ladder, Finding::Other, 79);
        assert_eq!(look(&mut ladder, Finding::Other, 87), Step::GiveUp(GIVEN_UP));
        assert_eq!(look(&mut ladder, Finding::Served, 117), Step::Proven);
    }

    #[test]
    fn what_is_served_begins_anew() {
        let start = Instant::now();
        let mut ladder = Ladder::begin();
        ladder.climb(Finding::Nothing, PATIENCE, true, start);
        ladder.climb(Finding::Nothing, PATIENCE, true, start + s(8));
        assert!(ladder.is_given_up());
        let served = ladder.climb(Finding::Served, PATIENCE, true, start + s(9));
        assert_eq!(served, Step::Proven);
        let step = ladder.climb(Finding::Other, PATIENCE, true, start + s(300));
        assert_eq!(step, Step::Doubt(FIRST_LOOK));
        let step = ladder.climb(Finding::Other, PATIENCE, true, start + s(308));
        assert_eq!(step, Step::Announce);
    }

    #[test]
    fn a_port_that_shows_nothing_is_no_reason_to_announce() {
        let start = Instant::now();
        let mut ladder = Ladder::begin();
        ladder.climb(Finding::Nothing, PATIENCE, true, start);
        let step = ladder.climb(Finding::Nothing, PATIENCE, true, start + s(8));
        assert_eq!(step, Step::GiveUp(GIVEN_UP));
    }

    #[test]
    fn what_shows_another_chain_after_it_was_given_up_is_announced_then() {
        let start = Instant::now();
        let mut ladder = Ladder::begin();
        let look =
            |ladder: &mut Ladder, finding, at| ladder.climb(finding, PATIENCE, true, start + s(at));
        look(&mut ladder, Finding::Nothing, 0);
        assert_eq!(look(&mut ladder, Finding::Nothing, 8), Step::GiveUp(GIVEN_UP));
        assert_eq!(look(&mut ladder, Finding::Nothing, 38), Step::Nothing(GIVEN_UP));
        assert_eq!(look(&mut ladder, Finding::Other, 68), Step::Announce);
        assert_eq!(look(&mut ladder, Finding::Nothing, 69), Step::Announce);
        ladder.announced();
        look(&mut ladder, Finding::Other, 70);
        assert_eq!(look(&mut ladder, Finding::Other, 78), Step::GiveUp(GIVEN_UP));
    }

    #[test]
    fn a_first_look_that_comes_late_does_not_give_up() {
        let start = Instant::now();
        let mut ladder = Ladder::begin();
        let step = ladder.climb(Finding::Nothing, PATIENCE, true, start + s(600));
        assert_eq!(step, Step::LookAgain(FIRST_LOOK));
    }

    #[test]
    fn where_nothing_may_be_written_nothing_is_announced() {
        let start = Instant::now();
        let mut ladder = Ladder::begin();
        let step = ladder.climb(Finding::Other, Duration::ZERO, false, start);
        assert_eq!(step, Step::GiveUp(GIVEN_UP));
    }
}
