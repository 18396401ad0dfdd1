//! What goes wrong, done to the world.

use std::fs;
use std::path::Path;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::json;
use testkit::{Fault, Request};
use tokio::time::{Instant, sleep};

use crate::Outcome;
use crate::binding::{Binding, Kind};
use crate::trouble::Trouble;
use crate::world::{Estate, World, adopted};

/// So often another writer may have undone what is there and can be served before the sidecar gives
/// in. What is gone is put back however often that happens.
const SUFFERED: u32 = 2;

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
                self.answer_otherwise(fault, is_refusal, &awaited, length).await;
            }
            Trouble::NotFound(fault) => {
                self.answer_otherwise(fault, false, &awaited, length).await;
                // What is gone for the sidecar was taken away by someone.
                self.bindings.iter_mut().for_each(|binding| binding.undone += SUFFERED);
            }
            Trouble::Down => self.down(&awaited, length).await,
            Trouble::Emptied => {
                self.empty(&awaited, length).await;
                awaited = (0..self.bindings.len()).collect();
            }
            Trouble::NoDatabase => self.lose_the_database(&awaited, length).await,
            Trouble::Frozen => self.freeze(&awaited, length).await,
            Trouble::Missed => {
                self.kong.model().miss_changes(1);
                self.rotate(&awaited);
            }
            Trouble::Meddler => awaited.extend(self.meddle(&awaited)),
            Trouble::Insistent(times) => self.insist(&awaited, times).await?,
            Trouble::Broken => self.break_files(&awaited, length).await,
            Trouble::Unmounted => self.unmount(&awaited, length).await,
            Trouble::Renamed => self.rename(&awaited, length).await?,
            Trouble::Burst(generations) => self.burst(&awaited, generations, length).await,
            Trouble::Edited { is_broken_before } => {
                self.edit(is_broken_before, length).await;
                self.rotate(&awaited);
            }
            Trouble::Ended { signal, amid } => self.end(&awaited, signal, amid, length).await?,
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

    async fn rotate_for(&mut self, which: &[usize], length: Duration) {
        self.rotate(which);
        sleep(length).await;
    }
}

/// What happens to Kong.
impl World {
    async fn answer_otherwise(
        &mut self,
        fault: Fault,
        is_refusal: bool,
        rotated: &[usize],
        length: Duration,
    ) {
        self.kong.inject(fault);
        self.rotate_for(rotated, length).await;
        self.kong.clear_faults();
        if is_refusal {
            // What was refused is sent again when the files change.
            self.overtake(rotated);
        }
    }

    async fn down(&mut self, rotated: &[usize], length: Duration) {
        self.clients.expect_down(true);
        self.kong.stop().await;
        self.rotate_for(rotated, length).await;
        self.kong.restart().await;
        self.clients.expect_down(false);
    }

    async fn empty(&mut self, rotated: &[usize], length: Duration) {
        self.clients.expect_down(true);
        self.kong.stop().await;
        self.clients.expect_loss_of_all();
        self.kong.model().forget_everything();
        self.bindings.iter_mut().for_each(|binding| binding.undone += 1);
        if let Estate::Database(others) = &mut self.estate {
            others.seed(&self.kong, &adopted(&self.bindings));
        }
        // Their owner has put something older there, and that is not fought over for ever.
        let is_given_up =
            |binding: &Binding| binding.kind == Kind::Adopted && binding.undone > SUFFERED;
        let all = 0..self.bindings.len();
        let rotated: Vec<usize> =
            all.filter(|at| rotated.contains(at) || is_given_up(&self.bindings[*at])).collect();
        self.rotate_for(&rotated, length).await;
        self.kong.restart().await;
        self.clients.expect_down(false);
    }

    async fn lose_the_database(&mut self, rotated: &[usize], length: Duration) {
        self.clients.expect_default();
        self.kong.model().database_down(true);
        self.rotate_for(rotated, length).await;
        self.kong.model().database_down(false);
    }

    async fn freeze(&mut self, rotated: &[usize], length: Duration) {
        self.kong.model().freeze_serving();
        self.rotate_for(rotated, length).await;
        self.kong.model().catch_up();
    }
}

/// What others write.
impl World {
    /// Returns what has to come back, of what is not rotated now.
    fn meddle(&mut self, rotated: &[usize]) -> Vec<usize> {
        match &mut self.estate {
            Estate::Dbless(declared) => {
                self.clients.expect_loss_of_all();
                let body = json!({ "config": declared.of_someone_else() });
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

    /// One object is taken away again and again, and has to come back each time: from the third on a
    /// minute after it did.
    async fn insist(&mut self, rotated: &[usize], times: u32) -> Outcome {
        self.rotate(rotated);
        let Some(victim) = self.victim(rotated) else { return Ok(()) };
        for _ in 0..times {
            self.take_away(victim);
            self.served(&[victim], Some(Instant::now())).await?;
        }
        Ok(())
    }

    /// One whose object may be written to by someone else.
    fn victim(&mut self, not: &[usize]) -> Option<usize> {
        let is_one = |at: &usize| {
            let kind = self.bindings[*at].kind;
            !not.contains(at) && matches!(kind, Kind::Own(_) | Kind::Plain)
        };
        let victims: Vec<usize> = (0..self.bindings.len()).filter(is_one).collect();
        self.lot.choice(victims)
    }

    /// Someone else puts an older certificate into an object, or takes it or its name away.
    fn undo(&mut self, at: usize) {
        let binding = &self.bindings[at];
        let deed = if binding.undone < SUFFERED { self.lot.u8(..4) } else { 0 };
        let host = binding.host();
        let request = match deed {
            0 => return self.take_away(at),
            1 => Request::new("DELETE", &format!("/snis/{host}")),
            _ => {
                let pair = binding.older();
                let body = json!({ "cert": pair.chain_pem(), "key": pair.key_pem() });
                Request::json("PATCH", &format!("/certificates/{host}"), &body)
            }
        };
        self.send_elsewhere(at, &request);
    }

    fn take_away(&mut self, at: usize) {
        let object = format!("/certificates/{}", self.bindings[at].host());
        self.send_elsewhere(at, &Request::new("DELETE", &object));
    }

    fn send_elsewhere(&mut self, at: usize, request: &Request) {
        let binding = &mut self.bindings[at];
        binding.undone += 1;
        self.clients.expect_loss(binding.views[0]);
        let answer = self.kong.model().elsewhere(|model| model.answer(request));
        assert!(answer.status < 300, "{} {}: {}", request.method, request.path, answer.status);
    }
}

/// What happens to files, and to the sidecar.
impl World {
    async fn break_files(&mut self, rotated: &[usize], length: Duration) {
        for at in rotated {
            self.bindings[*at].break_files(self.lot.usize(..5));
        }
        sleep(length).await;
        self.rotate(rotated);
    }

    async fn unmount(&mut self, rotated: &[usize], length: Duration) {
        rotated.iter().for_each(|at| self.bindings[*at].volume.unmount());
        sleep(length).await;
        rotated.iter().for_each(|at| self.bindings[*at].volume.remount());
        self.rotate(rotated);
    }

    async fn burst(&mut self, rotated: &[usize], generations: u32, length: Duration) {
        self.rotate(rotated);
        for _ in 1..generations {
            sleep(length / 100).await;
            self.overtake(rotated);
        }
    }

    async fn rename(&mut self, which: &[usize], length: Duration) -> Outcome {
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
        roots.clone().try_for_each(|root| moved(&away(root), root))?;
        self.rotate(which);
        Ok(())
    }

    async fn edit(&mut self, is_broken_before: bool, length: Duration) {
        let Estate::Dbless(declared) = &mut self.estate else { return };
        if is_broken_before {
            declared.break_it();
            sleep(length).await;
        }
        declared.edit();
    }

    async fn end(
        &mut self,
        rotated: &[usize],
        signal: Signal,
        amid: bool,
        length: Duration,
    ) -> Outcome {
        if amid {
            self.rotate_for(rotated, length / 20).await;
        }
        self.sidecar.end(signal).await?;
        if !amid {
            self.rotate(rotated);
        }
        self.sidecar.start_again().await?;
        self.life.begin(self.sidecar.pid());
        Ok(())
    }
}
