//! A Kong, volumes, and a sidecar between them: rotated without end, with something amiss each time.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use fastrand::Rng;
use serde_json::Value;
use tempfile::TempDir;
use testkit::{Fault, KeyKind, KongStandIn, Pki, Request};
use tokio::time::{Instant, sleep};

use crate::binding::{Binding, Kind, now};
use crate::clients::Clients;
use crate::flatness::Samples;
use crate::others::{Declared, Others};
use crate::sidecar::{Figures, Sidecar};
use crate::tally::Tally;
use crate::trouble::{Moment, Trouble};
use crate::{Outcome, PATIENCE};

/// The share of the whole time in which sidecars are ended; after that they live to the end.
const STORM: f64 = 1.0 / 6.0;
/// Between two looks at what is waited for.
const PAUSE: Duration = Duration::from_millis(3);
/// Longer than `RESYNC_INTERVAL`.
const RESYNC: Duration = Duration::from_secs(6);
/// Between two samples of what a sidecar takes.
const SAMPLE: Duration = Duration::from_millis(500);
/// Requests that the stand-in remembers before they are forgotten.
const REMEMBERED: usize = 10_000;

/// Which Kong it is.
#[derive(Debug)]
pub(crate) enum Estate {
    Database(Others),
    Dbless(Declared),
}

/// One Kong with its sidecar.
#[derive(Debug)]
pub(crate) struct World {
    name: &'static str,
    pub(crate) kong: KongStandIn,
    pub(crate) estate: Estate,
    pub(crate) clients: Rc<Clients>,
    pub(crate) life: Rc<Life>,
    pub(crate) bindings: Vec<Binding>,
    pub(crate) sidecar: Sidecar,
    pub(crate) lot: Rng,
    pub(crate) tally: Rc<Tally>,
    _home: TempDir,
}

/// The present life of a sidecar, and what it took so far.
#[derive(Debug)]
pub(crate) struct Life {
    pub(crate) name: &'static str,
    pid: Cell<Option<u32>>,
    pub(crate) samples: RefCell<Samples>,
}

impl Life {
    /// Takes samples without end.
    pub(crate) async fn observe(&self, tally: &Tally) {
        loop {
            if let Some(figures) = self.pid.get().and_then(Figures::of_process) {
                tally.note(self.name, figures);
                self.samples.borrow_mut().note(tally.elapsed(), figures);
            }
            sleep(SAMPLE).await;
        }
    }

    pub(crate) fn begin(&self, pid: Option<u32>) {
        self.pid.set(pid);
        self.samples.borrow_mut().clear();
    }
}

/// Setting the stage.
impl World {
    /// Beside a Kong on a database.
    pub(crate) async fn on_a_database(lot: Rng, tally: Rc<Tally>) -> Outcome<Self> {
        let kong = KongStandIn::start().await;
        {
            let mut model = kong.model();
            model.enterprise(true);
            model.set_db_update(0.1, 0);
            model.set_now(now());
        }
        let mut kinds = vec![Kind::Own(KeyKind::P256); 20];
        kinds.extend(
            [KeyKind::Rsa2048, KeyKind::P384, KeyKind::P521, KeyKind::Ed25519].map(Kind::Own),
        );
        kinds.extend([Kind::Dual, Kind::Dual, Kind::Plain, Kind::Plain]);
        kinds.extend([Kind::Adopted; 4]);
        kinds.extend([Kind::Authority, Kind::Authority, Kind::License]);
        let home = home()?;
        let estate = Estate::Database(Others::new());
        Self::set("database", kong, estate, &kinds, home, lot, tally).await
    }

    /// Beside a Kong without one, whose configuration comes from a file.
    pub(crate) async fn without_a_database(lot: Rng, tally: Rc<Tally>) -> Outcome<Self> {
        let kong = KongStandIn::start().await;
        kong.model().dbless(true);
        kong.model().set_now(now());
        let mut kinds = vec![Kind::Own(KeyKind::P256); 8];
        kinds.extend([Kind::Own(KeyKind::Rsa2048), Kind::Dual, Kind::Plain, Kind::Authority]);
        let home = home()?;
        let estate = Estate::Dbless(Declared::new(home.path()));
        Self::set("dbless", kong, estate, &kinds, home, lot, tally).await
    }

    async fn set(
        name: &'static str,
        kong: KongStandIn,
        mut estate: Estate,
        kinds: &[Kind],
        home: TempDir,
        lot: Rng,
        tally: Rc<Tally>,
    ) -> Outcome<Self> {
        let default = kong.model().default_chain();
        let clients = Rc::new(Clients::new(kong.proxy_addr(), default));
        let pki = Pki::new();
        let certs = home.path().join("certs");
        let elsewhere = home.path().join("elsewhere");
        let mut bindings = Vec::new();
        for (number, kind) in kinds.iter().enumerate() {
            let directory = if kind.is_served() { &certs } else { &elsewhere };
            let mut binding =
                Binding::new(format!("b{number:02}"), *kind, directory, &pki, &clients);
            binding.rotate(&clients);
            bindings.push(binding);
        }
        if let Estate::Database(others) = &mut estate {
            others.seed(&kong, &adopted(&bindings));
        }
        let mut settings: Vec<(String, String)> = [
            ("ADMIN__URL", kong.admin_url()),
            ("ADMIN__TIMEOUT", "1s".to_owned()),
            ("CERTS_DIR", certs.to_string_lossy().into_owned()),
            ("DEBOUNCE", "50ms".to_owned()),
            ("POLL_INTERVAL", "2s".to_owned()),
            ("RESYNC_INTERVAL", "5s".to_owned()),
            ("HOLD", "1s".to_owned()),
            ("DECLARATIVE__POLL", "500ms".to_owned()),
            ("LISTEN", "127.0.0.1:0".to_owned()),
            ("LOG__FORMAT", "json".to_owned()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into();
        if let Estate::Dbless(declared) = &estate {
            let file = declared.volume.root().join(Declared::FILE);
            let setting = "DECLARATIVE__FILE".to_owned();
            settings.push((setting, file.to_string_lossy().into_owned()));
        }
        settings.extend(bindings.iter().flat_map(Binding::settings));
        let log = home.path().join("log");
        let sidecar = Sidecar::start(settings, log).await?;
        let life = Life { name, pid: Cell::new(sidecar.pid()), samples: RefCell::default() };
        let life = Rc::new(life);
        Ok(Self { name, kong, estate, clients, life, bindings, sidecar, lot, tally, _home: home })
    }
}

/// The play.
impl World {
    /// Rotates until the time is over, and the sidecar was measured; fails with what went wrong first.
    pub(crate) async fn play(&mut self) -> Outcome {
        let all: Vec<usize> = (0..self.bindings.len()).collect();
        self.served(&all, Some(Instant::now())).await?;
        let mut is_warm = false;
        while self.tally.share() < 1.0 || !is_warm || !self.life.samples.borrow().are_enough() {
            if !is_warm && self.tally.share() >= STORM {
                self.warm_up().await?;
                is_warm = true;
            }
            self.round().await?;
            self.check().await?;
        }
        self.sidecar.in_sync().await?;
        self.nothing_left_behind()
    }

    /// The end of what the sidecar said.
    pub(crate) fn last_words(&self) -> String {
        format!("beside Kong ({}):\n{}", self.name, self.sidecar.last_lines())
    }

    async fn round(&mut self) -> Outcome {
        // One may be left to miss: no client sees a CA certificate.
        self.kong.model().miss_changes(0);
        let moment = Moment {
            is_dbless: matches!(self.estate, Estate::Dbless(_)),
            may_end: self.tally.share() < STORM,
            has_minutes: self.tally.left() > 3 * PATIENCE,
        };
        let trouble = Trouble::draw(&mut self.lot, &moment);
        let is_calm = matches!(trouble, Trouble::Calm);
        if !is_calm {
            self.tally.fault(trouble.name());
        }
        let rested = self.rested().await;
        let awaited = self.befall(trouble, rested).await?;
        self.served(&awaited, (!is_calm).then(Instant::now)).await
    }

    /// The largest answers that there are to read: what the allocator keeps after one of them, it
    /// keeps from then on. After that what the sidecar takes is measured.
    async fn warm_up(&mut self) -> Outcome {
        self.kong.inject(Fault::huge().only("GET").always());
        let rested = self.rested().await;
        self.rotate(&rested);
        sleep(RESYNC).await;
        self.kong.clear_faults();
        self.served(&rested, Some(Instant::now())).await?;
        self.life.begin(self.sidecar.pid());
        Ok(())
    }

    /// Waits until clients get the newest of these, and Kong has what is for no client.
    pub(crate) async fn served(
        &self,
        awaited: &[usize],
        trouble_ended: Option<Instant>,
    ) -> Outcome {
        let began = Instant::now();
        let mut open = awaited.to_vec();
        while !open.is_empty() {
            let mut still_open = Vec::new();
            for at in open {
                if !self.is_served(&self.bindings[at]).await? {
                    still_open.push(at);
                    continue;
                }
                let since = self.bindings[at].rotated().max(trouble_ended).unwrap_or(began);
                if self.bindings[at].note_served() {
                    self.tally.rotated(since.elapsed(), trouble_ended.is_none());
                }
            }
            open = still_open;
            if began.elapsed() > PATIENCE {
                let names: Vec<&str> = open.iter().map(|at| &*self.bindings[*at].name).collect();
                return Err(format!("not served within {PATIENCE:?}: {}", names.join(", ")));
            }
            if !open.is_empty() {
                sleep(PAUSE).await;
            }
        }
        Ok(())
    }

    async fn is_served(&self, binding: &Binding) -> Outcome<bool> {
        if !binding.kind.is_served() {
            return Ok(binding.is_held(|path| self.rows(path)));
        }
        for view in &binding.views {
            if self.clients.look(*view).await? != Some(binding.generation()) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// What is not ours is as it was.
    async fn check(&mut self) -> Outcome {
        if self.kong.model().requests().len() > REMEMBERED {
            self.kong.forget_what_came();
        }
        match &self.estate {
            Estate::Database(others) => others.check(&self.kong),
            Estate::Dbless(declared) => {
                let began = Instant::now();
                while let Some(what) = declared.differs(&self.kong) {
                    if began.elapsed() > PATIENCE {
                        return Err(format!("Kong does not have what is in its file: {what}"));
                    }
                    sleep(PAUSE * 5).await;
                }
                Ok(())
            }
        }
    }

    /// A few of those that were not rotated for a while.
    async fn rested(&mut self) -> Vec<usize> {
        loop {
            let mut rested: Vec<usize> =
                (0..self.bindings.len()).filter(|at| self.bindings[*at].is_rested()).collect();
            if !rested.is_empty() {
                self.lot.shuffle(&mut rested);
                rested.truncate(self.lot.usize(1..=6));
                return rested;
            }
            sleep(PAUSE * 10).await;
        }
    }

    /// What Kong lists.
    fn rows(&self, path: &str) -> Vec<Value> {
        let request = Request::new("GET", path);
        let answer = self.kong.model().elsewhere(|model| model.answer(&request)).value();
        answer["data"].as_array().cloned().unwrap_or_default()
    }

    fn nothing_left_behind(&self) -> Outcome {
        let pairs = self.bindings.iter().filter(|binding| binding.kind.is_served()).count();
        let found = self.rows("/certificates?size=1000").len();
        // One is of others.
        if found == pairs + 1 {
            return Ok(());
        }
        Err(format!("{found} certificates are in Kong, and {} belong there", pairs + 1))
    }
}

pub(crate) fn adopted(bindings: &[Binding]) -> Vec<&Binding> {
    bindings.iter().filter(|binding| binding.kind == Kind::Adopted).collect()
}

fn home() -> Outcome<TempDir> {
    tempfile::tempdir().map_err(|error| error.to_string())
}
