//! What goes wrong, done to the world.

use std::fs;
use std::path::Path;
use std::time::Duration;

use serde_json::json;
use testkit::Request;
use tokio::time::sleep;

use crate::Outcome;
use crate::binding::Kind;
use crate::trouble::Trouble;
use crate::world::{Estate, World, adopted};

/// Others undo what is ours so often between two rotations, and Kong's loss of all counts, too: at
/// the third time within an hour the sidecar gives in.
const MEDDLED: u32 = 1;

impl World {
    /// Lets it happen while these are rotated; returns all that has to be served after it.
    pub(crate) async fn befall(
        &mut self,
        trouble: Trouble,
        mut awaited: Vec<usize>,
    ) -> Outcome<Vec<usize>> {
        let length = Trouble::length(&mut self.lot);
        match trouble {
            Trouble::Calm => self.rotate(&awaited),
            Trouble::Answers { fault, is_refusal } => {
                self.kong.inject(fault);
                self.rotate(&awaited);
                sleep(length).await;
                self.kong.clear_faults();
                if is_refusal {
                    // What was refused is sent again when the files change.
                    self.overtake(&awaited);
                }
            }
            Trouble::Down => {
                self.clients.expect_down(true);
                self.kong.stop().await;
                self.rotate(&awaited);
                sleep(length).await;
                self.kong.restart().await;
                self.clients.expect_down(false);
            }
            Trouble::Emptied => {
                self.empty(&awaited, length).await;
                awaited = (0..self.bindings.len()).collect();
            }
            Trouble::NoDatabase => {
                self.clients.expect_default();
                self.kong.model().database_down(true);
                self.rotate(&awaited);
                sleep(length).await;
                self.kong.model().database_down(false);
            }
            Trouble::Frozen => {
                self.kong.model().freeze_serving();
                self.rotate(&awaited);
                sleep(length).await;
                self.kong.model().catch_up();
            }
            Trouble::Missed => {
                self.kong.model().miss_changes(1);
                self.rotate(&awaited);
            }
            Trouble::Meddler => {
                let undone = self.meddle(&awaited);
                awaited.extend(undone);
            }
            Trouble::Broken => {
                for at in &awaited {
                    self.bindings[*at].break_files(self.lot.usize(..5));
                }
                sleep(length).await;
                self.rotate(&awaited);
            }
            Trouble::Unmounted => {
                awaited.iter().for_each(|at| self.bindings[*at].volume.unmount());
                sleep(length).await;
                awaited.iter().for_each(|at| self.bindings[*at].volume.remount());
                self.rotate(&awaited);
            }
            Trouble::Renamed => {
                self.rename(&awaited, length).await?;
                self.rotate(&awaited);
            }
            Trouble::Burst(generations) => {
                self.rotate(&awaited);
                for _ in 1..generations {
                    sleep(length / 100).await;
                    self.overtake(&awaited);
                }
            }
            Trouble::Edited { is_broken_before } => {
                self.edit(is_broken_before, length).await;
                self.rotate(&awaited);
            }
            Trouble::Ended { signal, amid } => {
                if amid {
                    self.rotate(&awaited);
                    sleep(length / 20).await;
                }
                self.sidecar.end(signal).await?;
                if !amid {
                    self.rotate(&awaited);
                }
                self.sidecar.start_again().await?;
                self.life.begin(self.sidecar.pid());
            }
        }
        Ok(awaited)
    }

    pub(crate) fn rotate(&mut self, which: &[usize]) {
        for at in which {
            self.bindings[*at].rotate(&self.clients);
        }
    }

    /// Rotates once more before anyone waited.
    fn overtake(&mut self, which: &[usize]) {
        self.rotate(which);
        which.iter().for_each(|_| self.tally.superseded());
    }

    async fn empty(&mut self, rotated: &[usize], length: Duration) {
        if self.bindings.iter().any(|binding| binding.meddled >= MEDDLED) {
            return self.rotate(rotated);
        }
        self.bindings.iter_mut().for_each(|binding| binding.meddled += 1);
        self.clients.expect_down(true);
        self.kong.stop().await;
        self.clients.expect_loss_of_all();
        self.kong.model().forget_everything();
        if let Estate::Database(others) = &mut self.estate {
            others.seed(&self.kong, &adopted(&self.bindings));
        }
        self.rotate(rotated);
        sleep(length).await;
        self.kong.restart().await;
        self.clients.expect_down(false);
    }

    /// Returns what has to come back, of what is not rotated now.
    fn meddle(&mut self, rotated: &[usize]) -> Vec<usize> {
        match &mut self.estate {
            Estate::Dbless(declared) => {
                let body = json!({ "config": declared.of_someone_else() });
                if self.bindings.iter().any(|binding| binding.meddled >= MEDDLED) {
                    self.rotate(rotated);
                    return Vec::new();
                }
                self.bindings.iter_mut().for_each(|binding| binding.meddled += 1);
                self.clients.expect_loss_of_all();
                let request = Request::json("POST", "/config", &body);
                self.kong.model().elsewhere(|model| model.answer(&request));
                if self.lot.bool() {
                    declared.edit();
                }
                self.rotate(rotated);
                (0..self.bindings.len()).filter(|at| !rotated.contains(at)).collect()
            }
            Estate::Database(others) => {
                others.change(&self.kong, &format!("edition:{}", self.lot.u16(..)));
                self.rotate(rotated);
                let victim = self.victim(rotated);
                victim.iter().for_each(|at| self.undo(*at));
                victim.into_iter().collect()
            }
        }
    }

    /// One whose object may be written to by someone else.
    fn victim(&mut self, not: &[usize]) -> Option<usize> {
        let is_one = |at: &usize| {
            let binding = &self.bindings[*at];
            !not.contains(at)
                && matches!(binding.kind, Kind::Own(_) | Kind::Plain)
                && binding.meddled < MEDDLED
        };
        let victims: Vec<usize> = (0..self.bindings.len()).filter(is_one).collect();
        self.lot.choice(victims)
    }

    /// Someone else puts an older certificate into an object, or takes it or its name away.
    fn undo(&mut self, at: usize) {
        let binding = &mut self.bindings[at];
        binding.meddled += 1;
        self.clients.expect_loss(binding.views[0]);
        let host = binding.host();
        let object = format!("/certificates/{host}");
        let request = match self.lot.u8(..4) {
            0 => Request::new("DELETE", &object),
            1 => Request::new("DELETE", &format!("/snis/{host}")),
            _ => {
                let pair = binding.older();
                let body = json!({ "cert": pair.chain_pem(), "key": pair.key_pem() });
                Request::json("PATCH", &object, &body)
            }
        };
        let answer = self.kong.model().elsewhere(|model| model.answer(&request));
        assert!(answer.status < 300, "{} {}: {}", request.method, request.path, answer.status);
    }

    async fn rename(&self, which: &[usize], length: Duration) -> Outcome {
        let moved = |from: &Path, to: &Path| {
            fs::rename(from, to).map_err(|error| format!("{}: {error}", from.display()))
        };
        let roots = which.iter().map(|at| self.bindings[*at].volume.root());
        // Names with a dot are no bindings.
        let away = |root: &Path| {
            root.with_file_name(format!(".{}", root.file_name().unwrap_or_default().display()))
        };
        roots.clone().try_for_each(|root| moved(root, &away(root)))?;
        sleep(length).await;
        roots.clone().try_for_each(|root| moved(&away(root), root))
    }

    async fn edit(&mut self, is_broken_before: bool, length: Duration) {
        let Estate::Dbless(declared) = &mut self.estate else { return };
        if is_broken_before {
            declared.break_it();
            sleep(length).await;
        }
        declared.edit();
    }
}
