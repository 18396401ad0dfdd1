//! Plays a schedule: two pods beside one Kong, and the truth beside them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use kong_cert_reloader::names::BindingName;
use kong_cert_reloader::settings::{CertificateSettings, Settings};
use kong_cert_reloader::status::{BindingStatus, State};
use serde_json::{Value, json};
use testkit::{KongModel, Pki, Request, SecretVolume};
use tokio::runtime::{Builder, LocalOptions};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use super::bundles::{BUNDLES, Binding, Held, What};
use super::event::{Event, Family, Replica, Schedule, Spell, Trouble, Volumes, Writer};
use super::kong::{Fault, KongInProcess, ONE_WAY};
use super::pod::{Pod, START};
use super::rows::is_tagged;
use super::truth::Truth;

/// The object that someone made for [`Binding::Old`].
const OLD: &str = "11111111-1111-4111-8111-111111111111";
/// An object that no binding has to do with.
const BYSTANDER: &str = "99999999-9999-4999-8999-999999999999";
/// Between looks at states.
const GLANCE: Duration = Duration::from_secs(60);
/// How long it takes until everything stands where it should: what Kong wishes is honoured for 5
/// minutes, a resync is due within 16.5, a hold lasts 5, another resync sees what came of it, and
/// handshakes are spread over one.
const SETTLED: Duration = Duration::from_secs(300 + 990 + 300 + 990 + 990);
/// Longer than by default: looks cost these tests the most.
const RESYNC: Duration = Duration::from_secs(900);
/// What failed is tried again by then: after a wish of Kong, or the longest backoff, and calls that
/// were under way.
const RETRIED: Duration = Duration::from_secs(300 + 30 + 30);
/// A resync, with handshakes and polls.
const QUIET: Duration = Duration::from_secs(990 + 300);
const HOUR: Duration = Duration::from_secs(3600);

/// Plays a schedule to its end.
///
/// # Errors
///
/// Says what was not as it must be, in order.
pub(crate) fn play(schedule: &Schedule, family: Family) -> Result<(), String> {
    // Jitter is the same each time.
    fastrand::seed(0);
    let mut runtime = Builder::new_current_thread();
    let runtime = runtime.enable_time().start_paused(true);
    let runtime = runtime.build_local(LocalOptions::default()).unwrap();
    runtime.block_on(async {
        let mut stage = Stage::new(family);
        for step in &schedule.0 {
            stage.pass(step.after).await?;
            stage.act(&step.event).await;
            stage.look();
            stage.glance()?;
        }
        stage.heal().await?;
        stage.end().await
    })
}

struct Stage {
    family: Family,
    kong: KongInProcess,
    pods: [Pod; 2],
    truth: Arc<Mutex<Truth>>,
    rivals: Vec<JoinHandle<()>>,
    /// What Kubernetes has.
    latest: BTreeMap<Binding, Option<What>>,
    has_missed: bool,
}

impl Stage {
    fn new(family: Family) -> Self {
        let kong = KongInProcess::new();
        let truth = Arc::new(Mutex::new(Truth::new(family)));
        let mut stage = Self {
            family,
            kong,
            pods: [Pod::new(), Pod::new()],
            truth,
            rivals: Vec::new(),
            latest: BTreeMap::new(),
            has_missed: false,
        };
        stage.furnish();
        let truth = Arc::clone(&stage.truth);
        stage.kong.witnessed_by(Box::new(move |model, caller, request| {
            truth.lock().unwrap().witness(model, caller, request)
        }));
        for binding in Binding::ALL {
            stage.publish(Volumes::Both, binding, Some(What::Generation(1)), false);
        }
        stage.start(0);
        stage
    }

    /// What Kong has before we come.
    fn furnish(&self) {
        match self.family {
            Family::Database => self.elsewhere(|model| {
                for (id, mut body, name) in [others(OLD), others(BYSTANDER)] {
                    body["snis"] = json!([name]);
                    send(model, "PUT", &format!("/certificates/{id}"), &body);
                    send(model, "PATCH", &format!("/snis/{name}"), &json!({ "tags": ["kept"] }));
                }
            }),
            Family::Dbless => {
                self.kong.model().dbless(true);
                self.elsewhere(load_first);
            }
        }
    }

    fn truth(&self) -> MutexGuard<'_, Truth> {
        self.truth.lock().unwrap()
    }

    fn elsewhere(&self, act: impl FnOnce(&mut KongModel)) {
        elsewhere(&self.truth, &self.kong, act);
    }

    // --- time ------------------------------------------------------------------------------------

    async fn pass(&mut self, time: Duration) -> Result<(), String> {
        let until = Instant::now() + time;
        while Instant::now() < until {
            sleep(GLANCE.min(until - Instant::now())).await;
            self.truth().note_time();
            self.glance()?;
        }
        Ok(())
    }

    fn look(&self) {
        self.truth().look(&mut self.kong.model());
    }

    /// Looks at what is told, and whether something was wrong.
    fn glance(&self) -> Result<(), String> {
        let mut truth = self.truth();
        for (replica, pod) in self.pods.iter().enumerate().filter(|(_, pod)| pod.is_started()) {
            if pod.has_ended() {
                truth.wrong.push(format!("the sidecar of replica {replica} is gone"));
            }
            truth.hear(replica, &pod.status());
        }
        if truth.wrong.is_empty() { Ok(()) } else { Err(truth.wrong.join("\n")) }
    }

    // --- what happens ----------------------------------------------------------------------------

    async fn act(&mut self, event: &Event) {
        match event {
            Event::Publish { at, binding, what, heard } => {
                self.publish(*at, *binding, Some(*what), *heard);
            }
            Event::Unmount { at, binding, heard } => self.publish(*at, *binding, None, *heard),
            Event::Start { replica, killed } => {
                if self.pods[*replica].is_started() {
                    if *killed {
                        self.pods[*replica].kill();
                    } else {
                        self.pods[*replica].stop().await;
                    }
                }
                self.start(*replica);
            }
            Event::Fault { trouble, writes_only, spell } => {
                self.inject(*trouble, *writes_only, *spell);
            }
            Event::Other(writer) => self.write(writer),
            Event::Database { is_down } => self.kong.model().database_down(*is_down),
            Event::Cache { is_frozen: true } => self.kong.model().freeze_serving(),
            Event::Cache { is_frozen: false } => self.kong.model().catch_up(),
            Event::MissNextWrite => {
                self.has_missed = true;
                self.kong.model().miss_changes(1);
            }
            Event::RestartKong { forgets } => self.restart_kong(*forgets).await,
            Event::SetClock { hours } => {
                let ahead = self.truth().clock_is_set(hours * 3600);
                self.pods.iter().for_each(|pod| pod.set_clock(ahead));
            }
        }
    }

    fn publish(&mut self, at: Volumes, binding: Binding, what: Option<What>, heard: bool) {
        self.latest.insert(binding, what);
        for &replica in at.replicas() {
            let pod = &self.pods[replica];
            let directory = pod.directory(binding.name());
            match what {
                Some(what) => {
                    let files = &BUNDLES.files(binding, what).texts;
                    let files = files.iter().map(|(name, text)| (*name, text.as_bytes()));
                    SecretVolume::mount(directory).publish(&files.collect::<Vec<_>>());
                }
                None if directory.exists() => std::fs::remove_dir_all(directory).unwrap(),
                None => {}
            }
            if heard {
                pod.wake_at(binding.name());
            }
            self.truth().publishes(replica, binding, what);
        }
    }

    fn start(&mut self, replica: Replica) {
        self.truth().starts(replica);
        self.pods[replica].start_with(&self.kong.as_seen_by(replica), settings);
    }

    fn inject(&mut self, trouble: Trouble, writes_only: bool, spell: Spell) {
        const TIMEOUT: Duration = Duration::from_secs(10);
        let fault = match trouble {
            Trouble::NoConnection => Fault::no_connection(),
            Trouble::Broken => Fault::broken(),
            Trouble::BrokenAfterwards => Fault::broken().landed(),
            Trouble::Timeout => Fault::timeout(TIMEOUT),
            Trouble::TimeoutAfterwards => Fault::timeout(TIMEOUT).landed(),
            Trouble::Status(404) => Fault::refusal(404, "Not found"),
            Trouble::Status(409) => Fault::refusal(409, "UNIQUE violation detected on '{}'"),
            Trouble::Status(status) => Fault::status(status),
            Trouble::RetryAfter(status, wish) => {
                Fault::retry_after(status, Duration::from_secs(wish))
            }
        };
        self.truth().has_refused |= matches!(trouble, Trouble::Status(400 | 413));
        let fault = match spell {
            Spell::Calls(calls) => fault.times(calls),
            Spell::For(time) => fault.lasting(time),
        };
        self.kong.inject(if writes_only { fault.only_writes() } else { fault });
    }

    async fn restart_kong(&mut self, forgets: bool) {
        self.kong.inject(Fault::no_connection().lasting(Duration::from_secs(4)));
        // What is under way reaches the Kong that ends.
        sleep(ONE_WAY * 2).await;
        let family = self.family;
        self.elsewhere(|model| {
            model.catch_up();
            match family {
                Family::Database if forgets => model.forget_everything(),
                Family::Database => send(model, "DELETE", "/cache", &Value::Null),
                Family::Dbless => {
                    model.forget_everything();
                    if !forgets {
                        load_first(model);
                    }
                }
            }
        });
    }

    fn write(&mut self, writer: &Writer) {
        match writer {
            Writer::Pair(binding, what) => {
                let (binding, what) = (*binding, *what);
                self.elsewhere(|model| put_pair(model, binding, what));
            }
            Writer::Rival(binding, what) => {
                let rival = rival(Arc::clone(&self.truth), self.kong.clone(), *binding, *what);
                self.rivals.push(tokio::task::spawn_local(rival));
            }
            Writer::Tags(binding, tags) => self.patch(*binding, &json!({ "tags": tags })),
            Writer::AddName(binding, name) => self.elsewhere(|model| {
                if let Some(id) = object_of(model, *binding) {
                    let body = json!({ "name": name, "certificate": { "id": id } });
                    send(model, "POST", "/snis", &body);
                }
            }),
            Writer::DropName(name) => {
                self.elsewhere(|model| {
                    send(model, "DELETE", &format!("/snis/{name}"), &Value::Null);
                });
            }
            Writer::Delete(binding) => self.elsewhere(|model| {
                if let Some(id) = object_of(model, *binding) {
                    send(model, "DELETE", &format!("/certificates/{id}"), &Value::Null);
                }
            }),
            Writer::Create(binding, what, names) => {
                let mut body = BUNDLES.body(*binding, *what);
                body["snis"] = json!(names);
                self.elsewhere(|model| send(model, "POST", "/certificates", &body));
            }
            Writer::Bystander => self.elsewhere(|model| {
                let path = format!("/certificates/{BYSTANDER}");
                let edited = !is_tagged(&ask(model, &path), "edited");
                let tags = if edited { json!(["theirs", "edited"]) } else { json!(["theirs"]) };
                send(model, "PATCH", &path, &json!({ "tags": tags }));
            }),
            Writer::Edit => self.elsewhere(|model| {
                let export = ask(model, "/config");
                let Some(export) = export["config"].as_str() else { return };
                let edited = if export.contains("10.0.0.1") {
                    export.replace("10.0.0.1", "10.0.0.2")
                } else {
                    export.replace("10.0.0.2", "10.0.0.1")
                };
                send(model, "POST", "/config", &json!({ "config": edited }));
            }),
            Writer::LoadFirst => self.elsewhere(load_first),
        }
    }

    fn patch(&self, binding: Binding, body: &Value) {
        self.elsewhere(|model| patch(model, binding, body));
    }

    // --- the end ---------------------------------------------------------------------------------

    /// Everything works again, nobody else writes, and every node has what Kubernetes has.
    async fn heal(&mut self) -> Result<(), String> {
        self.rivals.iter().for_each(JoinHandle::abort);
        self.kong.heal();
        self.kong.model().database_down(false);
        self.kong.model().catch_up();
        self.kong.model().miss_changes(0);
        if self.family == Family::Dbless && self.truth().rows.services.is_empty() {
            self.elsewhere(load_first);
        }
        for (binding, what) in self.latest.clone() {
            self.publish(Volumes::Both, binding, what, false);
        }
        self.look();
        self.pass(RETRIED).await?;
        if self.started().any(|(_, status)| status.state == State::Unreachable) {
            return Err("no call was tried again".to_owned());
        }
        self.pass(SETTLED).await?;
        if self.is_any("contested") {
            // Reverts count for an hour.
            self.pass(HOUR + SETTLED).await?;
        }
        // Nothing begins or ends while nothing is to happen.
        while let Some(turn) = self.next_turn() {
            self.pass(turn).await?;
        }
        if self.has_missed && self.is_any("other_certificate") {
            // What the node missed is announced once; that may have been missed, too.
            self.elsewhere(|model| send(model, "DELETE", "/cache", &Value::Null));
            self.pass(SETTLED).await?;
        }
        Ok(())
    }

    /// How long until something begins or ends, and all that follows from it is past, if that is soon.
    fn next_turn(&self) -> Option<Duration> {
        let truth = self.truth();
        let settled = i64::try_from(SETTLED.as_secs()).unwrap();
        let soon = 2 * 3600;
        let turns = truth.turns().into_iter().map(|turn| turn - truth.wall());
        let next = turns.filter(|left| (-settled..soon).contains(left)).max()?;
        Some(Duration::from_secs(u64::try_from(next + settled + 1).unwrap()))
    }

    fn is_any(&self, reason: &str) -> bool {
        self.started().any(|(_, it)| it.reason.is_some_and(|it| it.as_str() == reason))
    }

    fn started(&self) -> impl Iterator<Item = (BindingName, Arc<BindingStatus>)> {
        let started = self.pods.iter().filter(|pod| pod.is_started());
        started.flat_map(|pod| pod.status().bindings.clone())
    }

    /// All stands where it should, and nothing is written any more.
    async fn end(&mut self) -> Result<(), String> {
        // Without a database Kong is asked again after an hour.
        let may_be_refused = self.truth().has_refused && self.family == Family::Database;
        self.judge(may_be_refused)?;
        let writes = self.truth().writes;
        self.pass(QUIET).await?;
        if self.truth().writes != writes {
            return Err(format!("in quiet {} writes", self.truth().writes - writes));
        }
        self.judge(may_be_refused)
    }

    fn judge(&self, may_be_refused: bool) -> Result<(), String> {
        for (replica, pod) in self.pods.iter().enumerate().filter(|(_, pod)| pod.is_started()) {
            self.truth().judge_end(replica, &pod.status(), may_be_refused);
        }
        self.glance()
    }
}

fn settings(settings: &mut Settings) {
    settings.poll_interval = Duration::from_secs(300);
    settings.resync_interval = RESYNC;
    settings.declarative.poll = Duration::from_secs(30);
    for binding in Binding::ALL {
        let mut certificate = CertificateSettings::default();
        if let Some(names) = binding.configured() {
            certificate.snis = Some(names.iter().map(|name| name.parse().unwrap()).collect());
            certificate.tags = ["configured".parse().unwrap()].into();
            certificate.cert_alt = Some("alt.crt".into());
            certificate.key_alt = Some("alt.key".into());
        }
        settings.certificates.insert(binding.name().parse().unwrap(), certificate);
    }
}

// --- other writers -------------------------------------------------------------------------------

fn elsewhere(truth: &Mutex<Truth>, kong: &KongInProcess, act: impl FnOnce(&mut KongModel)) {
    truth.lock().unwrap().elsewhere(&mut kong.model(), act);
}

/// What Kong refuses does not happen.
fn send(model: &mut KongModel, method: &str, path: &str, body: &Value) {
    let request =
        if body.is_null() { Request::new(method, path) } else { Request::json(method, path, body) };
    drop(model.answer(&request));
}

fn ask(model: &mut KongModel, path: &str) -> Value {
    let answer = model.answer(&Request::new("GET", path));
    if answer.status == 200 { answer.value() } else { Value::Null }
}

/// The object that a binding's names, or else its certificate, are in.
fn object_of(model: &mut KongModel, binding: Binding) -> Option<String> {
    let rows = ask(model, "/certificates");
    let is_its = |row: &&Value| match BUNDLES.held(row) {
        Held::Bundle(bundle) => bundle.binding == binding,
        _ => false,
    };
    let name = match binding {
        Binding::Web => "a.test",
        Binding::Api => "api.test",
        Binding::Old => "o.test",
    };
    let has_name = |row: &&Value| {
        row["snis"].as_array().is_some_and(|names| names.iter().any(|it| it == name))
    };
    let rows = rows["data"].as_array()?;
    let found = rows.iter().find(has_name).or_else(|| rows.iter().find(is_its))?;
    Some(found["id"].as_str()?.to_owned())
}

fn held_by(model: &mut KongModel, binding: Binding) -> Option<Held> {
    let id = object_of(model, binding)?;
    Some(BUNDLES.held(&ask(model, &format!("/certificates/{id}"))))
}

fn patch(model: &mut KongModel, binding: Binding, body: &Value) {
    if let Some(id) = object_of(model, binding) {
        send(model, "PATCH", &format!("/certificates/{id}"), body);
    }
}

fn put_pair(model: &mut KongModel, binding: Binding, what: What) {
    patch(model, binding, &BUNDLES.body(binding, what));
}

/// Looks every 5 s for half an hour.
async fn rival(truth: Arc<Mutex<Truth>>, kong: KongInProcess, binding: Binding, what: What) {
    for _ in 0..360 {
        let is_undone = {
            let mut model = kong.model();
            let held = model.elsewhere(|model| held_by(model, binding));
            held != BUNDLES.files(binding, what).bundle.map(Held::Bundle)
        };
        if is_undone {
            elsewhere(&truth, &kong, |model| put_pair(model, binding, what));
        }
        sleep(Duration::from_secs(5)).await;
    }
}

/// An object of someone else: its id, what is in it, and its name.
fn others(id: &'static str) -> (&'static str, Value, &'static str) {
    static PAIR: std::sync::LazyLock<(String, String)> = std::sync::LazyLock::new(|| {
        let pair = Pki::at(START).pair(&["z.test"]);
        (pair.chain_pem(), pair.key_pem())
    });
    if id == OLD {
        let mut body = BUNDLES.body(Binding::Old, What::Generation(0));
        body["tags"] = json!(["theirs"]);
        return (id, body, "o.test");
    }
    (id, json!({ "cert": PAIR.0, "key": PAIR.1, "tags": ["theirs"] }), "z.test")
}

/// The configuration that a Kong without a database begins with.
fn load_first(model: &mut KongModel) {
    let certificates = [OLD, BYSTANDER].map(|id| {
        let (id, mut object, name) = others(id);
        object["id"] = json!(id);
        object["snis"] = json!([{ "name": name, "tags": ["kept"] }]);
        object
    });
    let config = json!({
        "_format_version": "3.0",
        "certificates": certificates,
        "services": [{ "name": "echo", "host": "10.0.0.1" }],
    });
    send(model, "POST", "/config", &json!({ "config": config.to_string() }));
}
