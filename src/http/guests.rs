//! Connections under way, and which of them ends where there are too many.
//!
//! Whoever reaches the port could take all places, each for as long as a connection may last. Probes
//! would come too late, and the kubelet restart the container. So a newcomer always gets a place, and
//! who has most of them loses one.

use std::cmp::Reverse;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// So many connections are under way at most.
const PLACES: usize = 64;
/// So many bytes of answers wait to be read at most, besides the newest answer.
const UNREAD: usize = 16 * 1024 * 1024;

/// All connections under way, the oldest first.
#[derive(Debug, Default)]
pub(super) struct Guests(Mutex<Vec<Arc<Guest>>>);

#[derive(Debug)]
struct Guest {
    peer: IpAddr,
    has_asked: AtomicBool,
    /// The size of its answer.
    unread: AtomicUsize,
    end: Notify,
}

/// The place of a connection, which is free again when this is dropped.
#[derive(Debug)]
pub(super) struct Seat<'a> {
    guests: &'a Guests,
    guest: Arc<Guest>,
}

impl Guests {
    /// A place for a connection from `peer`; where none is left, another connection ends.
    pub(super) fn seat(&self, peer: IpAddr) -> Seat<'_> {
        let guest = Arc::new(Guest {
            peer,
            has_asked: AtomicBool::new(false),
            unread: AtomicUsize::new(0),
            end: Notify::new(),
        });
        let mut guests = self.lock();
        if guests.len() >= PLACES {
            end_one(&mut guests, |_| true);
        }
        guests.push(Arc::clone(&guest));
        Seat { guests: self, guest }
    }

    /// Ends one connection; false if there is none.
    pub(super) fn end_one(&self) -> bool {
        end_one(&mut self.lock(), |_| true)
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Arc<Guest>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seat<'_> {
    /// The request has come: those go first whose has not.
    pub(super) fn note_request(&self) {
        self.guest.has_asked.store(true, Relaxed);
    }

    /// The answer is so large: others end where it is too much with theirs.
    pub(super) fn note_answer(&self, size: usize) {
        let mut guests = self.guests.lock();
        let unread = |guests: &[Arc<Guest>]| {
            guests.iter().map(|guest| guest.unread.load(Relaxed)).sum::<usize>()
        };
        while unread(&guests) > UNREAD {
            end_one(&mut guests, |guest| guest.unread.load(Relaxed) > 0);
        }
        self.guest.unread.store(size, Relaxed);
    }

    /// Resolves when the connection has to end.
    pub(super) async fn lost(&self) {
        self.guest.end.notified().await;
    }
}

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        self.guests.lock().retain(|guest| !Arc::ptr_eq(guest, &self.guest));
    }
}

/// Of those that `may_go`, one of a peer that has most connections: one that has not asked yet if
/// there is one, and of these the oldest. False if none may.
fn end_one(guests: &mut Vec<Arc<Guest>>, may_go: impl Fn(&Guest) -> bool) -> bool {
    let crowd = |peer| guests.iter().filter(|guest| guest.peer == peer).count();
    let candidates = guests.iter().enumerate().filter(|(_, guest)| may_go(guest));
    let first =
        candidates.min_by_key(|(_, it)| (Reverse(crowd(it.peer)), it.has_asked.load(Relaxed)));
    let Some((at, _)) = first else { return false };
    guests.remove(at).end.notify_one();
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROBE: [u8; 4] = [10, 0, 0, 1];
    const CROWD: [u8; 4] = [10, 0, 0, 2];

    fn is_lost(seat: &Seat<'_>) -> bool {
        !seat.guests.lock().iter().any(|guest| Arc::ptr_eq(guest, &seat.guest))
    }

    fn seats(guests: &Guests, peer: [u8; 4], count: usize) -> Vec<Seat<'_>> {
        (0..count).map(|_| guests.seat(peer.into())).collect()
    }

    /// The places of those that were ended.
    fn lost(seats: &[Seat<'_>]) -> Vec<usize> {
        (0..seats.len()).filter(|at| is_lost(&seats[*at])).collect()
    }

    #[test]
    fn a_newcomer_takes_the_place_of_the_oldest() {
        let guests = Guests::default();
        let seats = seats(&guests, CROWD, PLACES + 3);
        assert_eq!(lost(&seats), [0, 1, 2]);
        assert_eq!(guests.lock().len(), PLACES);
        drop(seats);
        assert_eq!(guests.lock().len(), 0);
    }

    #[test]
    fn who_has_asked_stays_longer_than_who_has_not() {
        let guests = Guests::default();
        let first = seats(&guests, CROWD, 10);
        first.iter().for_each(Seat::note_request);
        let others = seats(&guests, CROWD, PLACES);
        assert_eq!((lost(&first).len(), lost(&others)), (0, (0..10).collect()));
        others.iter().for_each(Seat::note_request);
        let _last = seats(&guests, CROWD, 1);
        assert_eq!(lost(&first), [0]);
    }

    #[test]
    fn one_peer_cannot_take_the_places_of_others() {
        let guests = Guests::default();
        let probes = seats(&guests, PROBE, 2);
        let crowd = seats(&guests, CROWD, 1000);
        assert_eq!((lost(&probes).len(), lost(&crowd).len()), (0, 1000 - (PLACES - 2)));
        crowd.iter().for_each(Seat::note_request);
        assert!(guests.end_one());
        assert_eq!(lost(&probes).len(), 0);
    }

    #[test]
    fn answers_that_nobody_reads_are_bounded() {
        let guests = Guests::default();
        let seats = seats(&guests, CROWD, PLACES);
        for seat in &seats {
            seat.note_request();
            seat.note_answer(UNREAD / 3);
        }
        assert_eq!(lost(&seats).len(), PLACES - 4, "three, and the newest");
        drop(seats);
        let seat = guests.seat(CROWD.into());
        seat.note_answer(3 * UNREAD);
        assert!(!is_lost(&seat), "however large one alone is");
        assert!(guests.end_one() && !guests.end_one());
    }
}
