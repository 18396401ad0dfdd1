//! Which bindings there are, and where their files change.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::Sidecar;
use crate::binding::Kind;
use crate::log::tell;
use crate::schedule::Trigger;
use crate::watch::Wake;

impl Sidecar<'_> {
    /// Takes in bindings that are new; each is looked at, at once. Returns whether other paths are to
    /// be watched.
    pub(super) fn discover(&mut self) -> bool {
        let before = self.bindings.candidates().clone();
        for oddity in self.bindings.look() {
            tell!(LEFT_OUT, problem = %oddity);
        }
        let changed = before != *self.bindings.candidates();
        for replaced in self.bindings.just_replaced() {
            self.points.forget(replaced);
            self.schedule.forget(replaced);
        }
        let known: Vec<_> = self.bindings.iter().cloned().collect();
        let mut has_new = false;
        for binding in known {
            if self.points.knows(&binding.name) {
                continue;
            }
            tell!(BINDING_FOUND, binding = %binding.name, file = %binding.file().display());
            self.points.set(&binding.name, binding.source().place(&*self.files).watch_points);
            if binding.kind() == Kind::Reload {
                self.schedule.be_independent(&binding.name);
            }
            self.schedule.at(&binding.name, Instant::now(), Trigger::Start);
            has_new = true;
        }
        if has_new {
            self.points.pack();
        }
        changed || has_new
    }

    /// Brings the kernel's watches in line with what is there now.
    pub(super) fn follow(&mut self) {
        loop {
            // What came before the watch raised no event.
            let fresh = self.follow_once();
            let is_candidate = |point: &Arc<Path>| self.bindings.candidates().contains(point);
            let mut moved = fresh.iter().any(is_candidate) && self.discover();
            for point in &fresh {
                moved |= self.touched(point);
            }
            if !moved {
                break;
            }
        }
    }

    fn follow_once(&mut self) -> BTreeSet<Arc<Path>> {
        let mut wanted: BTreeSet<Arc<Path>> = self.points.paths().cloned().collect();
        wanted.extend(self.bindings.candidates().iter().cloned());
        let was_polling = self.watch.polling().is_some();
        let fresh = self.watch.follow(&wanted);
        match self.watch.polling() {
            Some(problem) if !was_polling => tell!(POLLED, problem),
            None if was_polling => tell!(WATCHED_AGAIN),
            _ => {}
        }
        fresh
    }

    /// Takes wake-ups; a swap raises several of them, at one path that is watched.
    pub(super) fn heard(&mut self, wakes: impl IntoIterator<Item = Wake>) {
        let mut concerned = BTreeSet::new();
        let mut is_deaf = false;
        for wake in wakes {
            let path = match wake {
                Wake::At(path) => path,
                Wake::Gone(path) => {
                    is_deaf |= self.watch.forget(&path);
                    path
                }
                // Soon, and not once more for each event that is lost meanwhile.
                Wake::Everywhere => {
                    let soon = Instant::now() + self.settings.debounce;
                    self.next_poll = self.next_poll.min(soon);
                    continue;
                }
            };
            concerned.extend(self.watch.concerned(&path).cloned());
        }
        if is_deaf || !concerned.is_empty() {
            self.woken(&concerned, is_deaf);
        }
    }

    fn woken(&mut self, concerned: &BTreeSet<Arc<Path>>, is_deaf: bool) {
        let mut moved = is_deaf || concerned.iter().any(|point| !self.watch.is_current(point));
        if concerned.iter().any(|point| self.bindings.candidates().contains(point)) {
            moved |= self.discover();
        }
        for point in concerned {
            moved |= self.touched(point);
        }
        if moved {
            self.follow();
        }
    }

    /// Something happened at a watched path. Returns whether other paths are to be watched.
    fn touched(&mut self, point: &Path) -> bool {
        let names = self.points.concerned(point);
        let mut moved = false;
        for name in names {
            let Some(binding) = self.bindings.named(&name) else { continue };
            let place = binding.source().place(&*self.files);
            let wait = if place.is_swapped { Duration::ZERO } else { self.settings.debounce };
            moved |= self.points.set(&name, place.watch_points);
            self.schedule.files(&name, Instant::now(), wait);
        }
        moved
    }

    /// Looks at all files, because events may be lost.
    pub(super) fn poll(&mut self) {
        self.discover();
        let known: Vec<_> = self.bindings.iter().cloned().collect();
        for binding in known {
            self.points.set(&binding.name, binding.source().place(&*self.files).watch_points);
            self.schedule.poll(&binding.name, Instant::now());
        }
        self.follow();
    }
}
