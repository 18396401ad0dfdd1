//! Whether a process takes no more of the machine at the end than at the beginning.

use std::fmt;
use std::time::Duration;

use crate::sidecar::Figures;
use crate::tally::mib;

/// What is measured for less says nothing.
const LEAST: Duration = Duration::from_secs(30);
/// What may be added to resident memory in KiB, and to each of the counts: no two moments are alike,
/// and some answers have 10 MB.
const SLACK_KIB: u64 = 4 * 1024;
const SLACK_COUNT: u64 = 4;

/// The figures of one life of a process, in order of time.
#[derive(Debug, Default)]
pub(crate) struct Samples(Vec<(Duration, Figures)>);

impl Samples {
    pub(crate) fn note(&mut self, at: Duration, figures: Figures) {
        self.0.push((at, figures));
    }

    /// The process was started again: what was is no measure.
    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }

    /// Whether they tell anything.
    pub(crate) fn are_enough(&self) -> bool {
        let ends = self.0.first().zip(self.0.last());
        ends.is_some_and(|((first, _), (last, _))| *last - *first >= LEAST)
    }

    /// Compares the first fifth after a tenth for warming up with the last fifth. `None` where
    /// they are not enough.
    pub(crate) fn flatness(&self) -> Option<Flatness> {
        if !self.are_enough() {
            return None;
        }
        let warm = &self.0[self.0.len() / 10..];
        let fifth = warm.len() / 5;
        let (first, last) = (warm.get(..fifth)?, warm.get(warm.len() - fifth..)?);
        Some(Flatness {
            first: median(first)?,
            last: median(last)?,
            over: warm.last()?.0 - warm.first()?.0,
        })
    }
}

/// What a process took at the beginning of a stretch of time, and at its end: medians.
#[derive(Debug)]
pub(crate) struct Flatness {
    first: Figures,
    last: Figures,
    over: Duration,
}

impl Flatness {
    /// What has grown beyond what may vary: a tenth and 4 MiB of memory, 4 of each count.
    pub(crate) fn growth(&self) -> Option<String> {
        let Self { first, last, .. } = self;
        let mut grown = Vec::new();
        if last.resident > first.resident + first.resident / 10 + SLACK_KIB {
            grown.push("resident memory");
        }
        let threads = ("threads", Some(first.threads), Some(last.threads));
        for (what, first, last) in self.open().into_iter().chain([threads]) {
            if first.zip(last).is_some_and(|(first, last)| last > first + SLACK_COUNT) {
                grown.push(what);
            }
        }
        (!grown.is_empty()).then(|| grown.join(", "))
    }

    /// Counts that not everybody may see.
    const fn open(&self) -> [(&'static str, Option<u64>, Option<u64>); 3] {
        let Self { first, last, .. } = self;
        [
            ("descriptors", first.descriptors, last.descriptors),
            ("sockets", first.sockets, last.sockets),
            ("inotify watches", first.watches, last.watches),
        ]
    }
}

impl fmt::Display for Flatness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { first, last, over } = self;
        write!(
            f,
            "over {} s: resident {} -> {} MiB (at most {}), threads {} -> {}",
            over.as_secs(),
            mib(first.resident),
            mib(last.resident),
            mib(last.high_water),
            first.threads,
            last.threads,
        )?;
        let mut unseen = Vec::new();
        for (what, first, last) in self.open() {
            match first.zip(last) {
                Some((first, last)) => write!(f, ", {what} {first} -> {last}")?,
                None => unseen.push(what),
            }
        }
        if unseen.is_empty() {
            return Ok(());
        }
        write!(f, "; root alone could have seen whether these are flat: {}", unseen.join(", "))
    }
}

/// Of each figure its own.
fn median(samples: &[(Duration, Figures)]) -> Option<Figures> {
    let of = |figure: fn(&Figures) -> Option<u64>| {
        let mut all: Vec<u64> = samples.iter().filter_map(|(_, it)| figure(it)).collect();
        all.sort_unstable();
        all.get(all.len() / 2).copied()
    };
    Some(Figures {
        resident: of(|it| Some(it.resident))?,
        high_water: samples.last()?.1.high_water,
        threads: of(|it| Some(it.threads))?,
        descriptors: of(|it| it.descriptors),
        sockets: of(|it| it.sockets),
        watches: of(|it| it.watches),
    })
}
