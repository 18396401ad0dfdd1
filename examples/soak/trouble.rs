//! What goes wrong, drawn by lot.

use std::time::Duration;

use fastrand::Rng;
use rustix::process::Signal;
use serde_json::json;
use testkit::Fault;

/// One thing that goes wrong while files are rotated.
#[derive(Debug)]
pub(crate) enum Trouble {
    /// Nothing.
    Calm,
    /// Of the Admin API. Such an answer may be for good: `is_refusal`.
    Answers { fault: Fault, is_refusal: bool },
    /// The Admin API does not find what is there.
    NotFound(Fault),
    /// Kong is down for a while, and comes back as it was.
    Down,
    /// Kong comes back without what it held.
    Emptied,
    /// Kong's database is away for a while.
    NoDatabase,
    /// Kong's node does not hear of changes for a while.
    Frozen,
    /// Kong's node never hears of a change. Of one: the announcement that follows is no other.
    Missed,
    /// Someone else writes to an object of ours, or to all.
    Meddler,
    /// Someone else takes one away as often as it is put back, so many times: that takes minutes.
    Insistent(u32),
    /// The files cannot be served for a while.
    Broken,
    /// The volume is gone for a while.
    Unmounted,
    /// The directory has another name for a while.
    Renamed,
    /// So many generations follow each other at once.
    Burst(u32),
    /// The file with the rest of the configuration changes, perhaps by way of a broken one.
    Edited { is_broken_before: bool },
    /// The sidecar ends before the files change, or amid what follows from it, and is started again.
    Ended { signal: Signal, amid: bool },
}

/// What may befall a Kong now.
#[derive(Debug)]
pub(crate) struct Moment {
    pub(crate) is_dbless: bool,
    pub(crate) may_end: bool,
    pub(crate) has_minutes: bool,
}

impl Trouble {
    /// One of those that fit. Where the sidecar `may_end`, it often does.
    pub(crate) fn draw(lot: &mut Rng, moment: &Moment) -> Self {
        let Moment { is_dbless, may_end, has_minutes } = *moment;
        if may_end && lot.u8(..4) == 0 {
            let signal = if lot.bool() { Signal::TERM } else { Signal::KILL };
            return Self::Ended { signal, amid: lot.bool() };
        }
        loop {
            let drawn = Self::any(lot);
            let fits = match drawn {
                Self::NoDatabase | Self::Frozen | Self::Missed => !is_dbless,
                Self::Insistent(_) => !is_dbless && has_minutes,
                Self::Edited { .. } => is_dbless,
                _ => true,
            };
            if fits {
                return drawn;
            }
        }
    }

    fn any(lot: &mut Rng) -> Self {
        match lot.u8(..37) {
            0..16 => Self::Calm,
            16..25 => answers(lot),
            25 => Self::Down,
            26 => Self::Emptied,
            27 => Self::NoDatabase,
            28 => Self::Frozen,
            29 => Self::Missed,
            30 if lot.u8(..16) == 0 => Self::Insistent(lot.u32(3..5)),
            30..32 => Self::Meddler,
            32 => Self::Broken,
            33 => Self::Unmounted,
            34 => Self::Renamed,
            35 => Self::Burst(lot.u32(2..12)),
            _ => Self::Edited { is_broken_before: lot.bool() },
        }
    }

    /// How it is counted.
    pub(crate) const fn name(&self) -> &'static str {
        match self {
            Self::Calm => "calm",
            Self::Answers { is_refusal: false, .. } => "failing answers",
            Self::Answers { is_refusal: true, .. } => "refusals",
            Self::NotFound(_) => "not found",
            Self::Down => "Kong down",
            Self::Emptied => "Kong emptied",
            Self::NoDatabase => "database down",
            Self::Frozen => "stale caches",
            Self::Missed => "missed changes",
            Self::Meddler => "other writers",
            Self::Insistent(_) => "insistent writers",
            Self::Broken => "broken files",
            Self::Unmounted => "volumes removed",
            Self::Renamed => "directories renamed",
            Self::Burst(_) => "bursts",
            Self::Edited { .. } => "edited configurations",
            Self::Ended { signal: Signal::TERM, .. } => "SIGTERM",
            Self::Ended { .. } => "SIGKILL",
        }
    }

    /// How long it lasts.
    pub(crate) fn length(lot: &mut Rng) -> Duration {
        Duration::from_millis(lot.u64(10..1500))
    }
}

fn answers(lot: &mut Rng) -> Trouble {
    let (fault, is_refusal) = match lot.u8(..20) {
        // No longer than the sidecar waits: what lands after that may land on something newer.
        0 | 1 => {
            let [before, after] = [lot.u64(..600), lot.u64(..1500)].map(Duration::from_millis);
            (Fault::slow(before, after), false)
        }
        2 => (Fault::reset_before(), false),
        3 => (Fault::reset_after(), false),
        4 | 5 => (Fault::status(one_of(lot, &[408, 425, 429, 500, 502, 503, 504])), false),
        6 => (Fault::status_retry_after(one_of(lot, &[429, 503]), "1"), false),
        7 => (Fault::html(), false),
        8 => (Fault::other_json(&json!({ "data": 1 })), false),
        9 => (Fault::nothing(), false),
        10 => (Fault::huge(), false),
        11 => (Fault::redirect("http://127.0.0.1:1/"), false),
        12 => (Fault::cut_short(), false),
        13 => (Fault::cut_json(), false),
        14 | 15 => return Trouble::NotFound(somewhere(lot, Fault::status(404))),
        _ => (Fault::status(one_of(lot, &[400, 401, 403, 405, 409, 413])), true),
    };
    Trouble::Answers { fault: somewhere(lot, fault), is_refusal }
}

/// For some of the requests.
fn somewhere(lot: &mut Rng, fault: Fault) -> Fault {
    let fault = match lot.u8(..6) {
        0 => fault.only("GET"),
        1 => fault.only("PUT"),
        2 => fault.only("PATCH"),
        3 => fault.only("POST"),
        _ => fault,
    };
    if lot.bool() { fault.always() } else { fault.times(lot.u32(1..8)) }
}

fn one_of(lot: &mut Rng, statuses: &[u16]) -> u16 {
    *lot.choice(statuses).unwrap_or(&500)
}
