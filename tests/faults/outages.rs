//! What goes wrong on the way to Kong and in Kong, at each moment: a paused clock, and a Kong in
//! memory.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use kong_cert_reloader::clock::Timestamp;
use kong_cert_reloader::desired::Own;
use kong_cert_reloader::names::Instance;
use kong_cert_reloader::page::{self, View};
use kong_cert_reloader::status::State;
use serde_json::json;
use testkit::kong_model::Offers;
use testkit::{CertifiedPair, KongModel, Request};
use tokio::time::sleep;

use super::calls::{Call, TIMEOUT};
use super::kong::{Fault as CallFault, KongInProcess};
use super::log::Log;
use super::pod::{Pod, START};
use super::stage::{self, Stage};
use super::table::Table;

const NAME: &str = "a.test";
/// How long a fault lasts; the longer is not over before a resync.
const OUTAGE: Duration = Duration::from_secs(2 * 60);
const OUTAGE_AT_REST: Duration = Duration::from_secs(6 * 60);
/// The longest rest that a Kong gets, and a proof.
const PROMPT: Duration = Duration::from_secs(60);
/// How often a case is looked at until something has happened.
const TICK: Duration = Duration::from_millis(5);

/// What kind of Kong it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Home {
    Database,
    Dbless,
}

/// Whose object it is that we feed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Footing {
    Ours,
    Adopted,
}

/// What the sidecar is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Occasion {
    /// It starts beside a Kong that never had anything of it.
    FirstStart,
    /// It starts beside a Kong that holds what is in the files.
    Start,
    /// It starts, and the files were renewed meanwhile.
    LateStart,
    /// The files are renewed while it runs.
    Renewal,
    /// They are renewed once more before the fault is over.
    Overtaken,
    /// It rests, and compares from time to time.
    Idle,
}

/// Where in a pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    Look,
    Write,
    /// The write was taken, and a node did not hear of it.
    Announcement,
}

#[derive(Clone, Copy, Debug)]
struct Moment {
    home: Home,
    footing: Footing,
    occasion: Occasion,
    at: At,
}

/// What goes wrong.
#[derive(Clone, Copy, Debug)]
enum Fault {
    /// With one call.
    Once(Call),
    /// With each call of the kind, for [`OUTAGE`].
    Lasting(Call),
    /// With Kong.
    Kong(Event),
}

/// What becomes of Kong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Event {
    /// With all that it had.
    Restarted,
    /// Without what was ours: restored from before, or with its own configuration.
    RestartedWithoutOurs,
    /// With nothing; the others load theirs again later.
    RestartedEmpty,
    DatabaseGone,
    /// The node goes on serving what it served, and catches up later.
    NodeBehind,
    /// The node never hears of the next write.
    NodeMissesWrite,
    Writer(Deed),
}

/// What another writer does to our object, just then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Deed {
    Tags,
    AddsName,
    PutsNewer,
    PutsOlder,
    Deletes,
    /// Another replica creates it first.
    Creates,
    /// The same, in the middle of our creating it.
    CreatesAmid,
    TakesName,
}

/// Why there is no such case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Never {
    /// What the files hold is there already.
    NothingToWrite,
    /// No object of ours or for us is there before the first write.
    NothingThere,
    /// Without a database there are no other nodes, no replicas, and no database to be gone.
    NotShared,
    /// Writes of the same milliseconds: Kong has no conditional write, the last one stays.
    LastWriteStays,
    /// It is there already, nobody creates it.
    NothingToCreate,
    /// Another case has the same in it.
    SameAsOther,
}

/// Who has the name in the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ends {
    /// Us, with the newest of the files.
    InSync,
    /// Us, but another writer put a newer one there.
    NewerOfOthers,
    /// The same, and the node does not know the name: what is not in the files is not announced.
    NewerOfOthersUnheard,
    /// An object of others.
    NameOfOthers,
}

const FOOTINGS: [Footing; 2] = [Footing::Ours, Footing::Adopted];
const OCCASIONS: [Occasion; 6] = [
    Occasion::FirstStart,
    Occasion::Start,
    Occasion::LateStart,
    Occasion::Renewal,
    Occasion::Overtaken,
    Occasion::Idle,
];
const PLACES: [At; 3] = [At::Look, At::Write, At::Announcement];
const EVENTS: [Event; 14] = [
    Event::Restarted,
    Event::RestartedWithoutOurs,
    Event::RestartedEmpty,
    Event::DatabaseGone,
    Event::NodeBehind,
    Event::NodeMissesWrite,
    Event::Writer(Deed::Tags),
    Event::Writer(Deed::AddsName),
    Event::Writer(Deed::PutsNewer),
    Event::Writer(Deed::PutsOlder),
    Event::Writer(Deed::Deletes),
    Event::Writer(Deed::Creates),
    Event::Writer(Deed::CreatesAmid),
    Event::Writer(Deed::TakesName),
];

impl Home {
    /// Until it was seen that someone else wrote to our object.
    const fn resync(self) -> Duration {
        match self {
            Self::Database => Duration::from_secs(7 * 60),
            Self::Dbless => Duration::from_secs(10),
        }
    }
}

impl Moment {
    fn all(home: Home) -> impl Iterator<Item = Self> {
        FOOTINGS.into_iter().flat_map(move |footing| {
            OCCASIONS.into_iter().flat_map(move |occasion| {
                PLACES.into_iter().map(move |at| Self { home, footing, occasion, at })
            })
        })
    }

    fn never(self) -> Option<Never> {
        let Self { home, footing, occasion, at } = self;
        match (occasion, at) {
            (Occasion::Start | Occasion::Idle, At::Write | At::Announcement) => {
                Some(Never::NothingToWrite)
            }
            (Occasion::FirstStart, _) if footing == Footing::Adopted => Some(Never::NothingThere),
            (_, At::Announcement) if home == Home::Dbless => Some(Never::NotShared),
            _ => None,
        }
    }
}

impl Fault {
    fn all() -> impl Iterator<Item = Self> {
        let calls = Call::ALL.into_iter().flat_map(|call| [Self::Once(call), Self::Lasting(call)]);
        calls.chain(EVENTS.into_iter().map(Self::Kong))
    }

    fn never(self, moment: Moment) -> Option<Never> {
        let Moment { home, footing, occasion, at } = moment;
        let event = match self {
            Self::Kong(event) => event,
            Self::Lasting(call) if call.is_sorted_as_another() => return Some(Never::SameAsOther),
            Self::Once(_) | Self::Lasting(_) => return None,
        };
        let is_first = occasion == Occasion::FirstStart && at != At::Announcement;
        match event {
            Event::RestartedEmpty if home == Home::Database => Some(Never::SameAsOther),
            Event::DatabaseGone if home == Home::Dbless => Some(Never::NotShared),
            Event::NodeMissesWrite if at != At::Write => Some(Never::SameAsOther),
            Event::NodeMissesWrite if home == Home::Dbless => Some(Never::NotShared),
            Event::Writer(Deed::Creates | Deed::CreatesAmid) if home == Home::Dbless => {
                Some(Never::NotShared)
            }
            Event::Writer(Deed::Creates | Deed::CreatesAmid) if !is_first => {
                Some(Never::NothingToCreate)
            }
            Event::Writer(Deed::CreatesAmid) if at == At::Look => Some(Never::SameAsOther),
            Event::Writer(
                Deed::Tags | Deed::AddsName | Deed::PutsNewer | Deed::PutsOlder | Deed::Deletes,
            ) if is_first => Some(Never::NothingThere),
            Event::Writer(_) if home == Home::Dbless && at == At::Write => {
                Some(Never::LastWriteStays)
            }
            Event::Writer(Deed::Tags | Deed::AddsName)
                if at == At::Write && footing == Footing::Ours =>
            {
                Some(Never::LastWriteStays)
            }
            _ => None,
        }
    }

    fn ends(self, moment: Moment) -> Ends {
        match self {
            Self::Kong(Event::Writer(Deed::TakesName)) => Ends::NameOfOthers,
            // Without a database the files rule; and a write of the same milliseconds goes over it.
            Self::Kong(Event::Writer(Deed::PutsNewer))
                if moment.home == Home::Database && moment.at != At::Write =>
            {
                match (moment.occasion, moment.at) {
                    (Occasion::FirstStart, At::Announcement) => Ends::NewerOfOthersUnheard,
                    _ => Ends::NewerOfOthers,
                }
            }
            _ => Ends::InSync,
        }
    }

    fn lasts(self) -> bool {
        !matches!(self, Self::Once(_) | Self::Kong(Event::NodeMissesWrite | Event::Writer(_)))
    }

    /// The longest way back. A call that failed is made again when Kong had its rest. What was
    /// changed in a database is seen by a resync, and may be right for `HOLD`; a Kong without one is
    /// asked for its hash every `DECLARATIVE__POLL`, and watched where it may still go on.
    fn recovery(self, moment: Moment) -> Duration {
        match (self, moment.home) {
            (Self::Once(Call::LandsLate) | Self::Lasting(Call::LandsLate), Home::Database)
            | (Self::Kong(_), Home::Database) => Duration::from_secs(15 * 60),
            (_, Home::Database) => PROMPT,
            (_, Home::Dbless) => Duration::from_secs(3 * 60),
        }
    }

    /// How many writes may put what Kong holds already: one for each bundle whose write may have been
    /// done unheard, or is announced because a node did not hear of it.
    fn redundant(self, moment: Moment) -> usize {
        let Moment { occasion, at, .. } = moment;
        let is_unheard = match self {
            Self::Once(call) | Self::Lasting(call) => at == At::Write && call.is_done_unheard(),
            Self::Kong(event) => matches!(
                event,
                Event::NodeBehind
                    | Event::NodeMissesWrite
                    | Event::Writer(Deed::Creates | Deed::CreatesAmid)
            ),
        };
        let bundles = if self.lasts() && occasion == Occasion::Overtaken { 2 } else { 1 };
        if is_unheard || at == At::Announcement { bundles } else { 0 }
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { home, footing, occasion, at } = self;
        write!(f, "{home:?}, {footing:?}, {occasion:?}, {at:?}")
    }
}

/// What the cases have in common.
struct Family {
    log: Log,
    /// Lines that were said and searched.
    known: RefCell<BTreeSet<String>>,
    stage: Stage,
    bundles: Bundles,
}

/// From the oldest on.
struct Bundles {
    older: CertifiedPair,
    old: CertifiedPair,
    new: CertifiedPair,
    overtaking: CertifiedPair,
    of_others: CertifiedPair,
    next: CertifiedPair,
}

impl Family {
    fn new() -> Self {
        let mut stage = Stage::at(START);
        let mut bundle = |hours| stage.bundle(&[NAME], hours);
        let bundles = Bundles {
            older: bundle(60),
            old: bundle(50),
            new: bundle(40),
            overtaking: bundle(30),
            of_others: bundle(20),
            next: bundle(10),
        };
        Self { log: Log::listen(), known: RefCell::default(), stage, bundles }
    }

    /// The lines that were never said before.
    fn news(&self, said: &str) -> String {
        let mut known = self.known.borrow_mut();
        said.lines().filter(|line| known.insert((*line).to_owned())).collect::<Vec<_>>().join("\n")
    }
}

/// A case as it is played.
struct Play<'a> {
    moment: Moment,
    fault: Fault,
    family: &'a Family,
    bundles: &'a Bundles,
    kong: KongInProcess,
    pod: Pod,
    stage: Stage,
    said: String,
    happened: Arc<AtomicBool>,
    hits: usize,
    flaws: Vec<String>,
}

impl<'a> Play<'a> {
    fn new(moment: Moment, fault: Fault, family: &'a Family) -> Self {
        let (mut stage, bundles) = (family.stage.clone(), &family.bundles);
        if moment.footing == Footing::Adopted {
            stage.offer(NAME, &bundles.old);
        }
        let kong = KongInProcess::new();
        kong.model().dbless(moment.home == Home::Dbless);
        stage.furnish(&mut kong.model());
        Self {
            moment,
            fault,
            family,
            bundles,
            kong,
            pod: Pod::new(),
            stage,
            said: String::new(),
            happened: Arc::default(),
            hits: 0,
            flaws: Vec::new(),
        }
    }

    /// What did not hold.
    async fn flaws(mut self) -> Vec<String> {
        if self.moment.occasion != Occasion::FirstStart {
            self.begin().await;
        }
        if self.moment.at == At::Announcement {
            self.come_to_announcement().await;
            self.arm();
        } else {
            self.arm();
            self.set_out();
        }
        if self.moment.occasion == Occasion::Overtaken {
            sleep(TIMEOUT + Duration::from_secs(2)).await;
            self.pod.publish("web", &self.bundles.overtaking);
        }
        let is_at_rest = self.moment.occasion == Occasion::Idle;
        if self.fault.lasts() || is_at_rest {
            sleep(if is_at_rest { OUTAGE_AT_REST } else { OUTAGE }).await;
            self.listen();
            self.heal();
        }
        sleep(self.fault.recovery(self.moment)).await;
        self.check(self.fault.ends(self.moment));
        if self.fault.ends(self.moment) != Ends::NameOfOthers {
            // Nothing of it lasts.
            self.pod.publish("web", &self.bundles.next);
            sleep(PROMPT).await;
            self.check_served(&self.bundles.next, Ends::InSync, "the next renewal: ");
        }
        self.pod.stop().await;
        self.flaws
    }

    /// What the files held before is in Kong, and someone else had a hand in it.
    async fn begin(&mut self) {
        self.pod.publish("web", &self.bundles.old);
        self.pod.start(&self.kong);
        self.pod.until_in_sync_with(&self.bundles.old).await;
        self.stage.share(&mut self.kong.model(), NAME, "by-hand");
        match self.moment.occasion {
            Occasion::Start | Occasion::LateStart => self.pod.stop().await,
            // Past the first resync: it has seen the tags.
            _ => sleep(self.moment.home.resync()).await,
        }
    }

    /// What the sidecar is to do begins.
    fn set_out(&mut self) {
        let Bundles { old, new, .. } = self.bundles;
        match self.moment.occasion {
            Occasion::FirstStart => {
                self.pod.publish("web", old);
                self.pod.start(&self.kong);
            }
            Occasion::Start => self.pod.start(&self.kong),
            Occasion::LateStart => {
                self.pod.publish("web", new);
                self.pod.start(&self.kong);
            }
            Occasion::Renewal | Occasion::Overtaken => self.pod.publish("web", new),
            Occasion::Idle => {}
        }
    }

    /// The write was taken, and this node did not hear of it.
    async fn come_to_announcement(&mut self) {
        let writes = self.kong.model().writes();
        // It has in mind what it served.
        self.kong.model().chain_for(Some(NAME), Offers::ALL);
        self.kong.model().miss_changes(1);
        self.set_out();
        while self.kong.model().writes() == writes {
            sleep(TICK).await;
        }
    }

    /// What is in the files until all is over.
    const fn newest(&self) -> &'a CertifiedPair {
        let Bundles { old, new, overtaking, .. } = self.bundles;
        match self.moment.occasion {
            Occasion::FirstStart | Occasion::Start | Occasion::Idle => old,
            Occasion::LateStart | Occasion::Renewal => new,
            Occasion::Overtaken => overtaking,
        }
    }

    fn arm(&mut self) {
        self.kong.model().set_now(START + 3600);
        match self.fault {
            Fault::Once(call) => self.inject(call.fault()),
            Fault::Lasting(call) => self.inject(call.fault().always()),
            Fault::Kong(event) => self.arm_event(event),
        }
        self.hits = self.kong.hits();
    }

    /// At the calls of this moment.
    fn inject(&self, fault: CallFault) {
        self.kong.inject(match self.moment.at {
            At::Look => fault.only("GET"),
            At::Write => fault.only_writes(),
            At::Announcement => fault,
        });
    }

    fn arm_event(&mut self, event: Event) {
        let theirs = self.stage.theirs();
        match event {
            Event::Restarted => {
                self.go_down(|kong| drop(kong.answer(&Request::new("DELETE", "/cache"))));
            }
            Event::RestartedWithoutOurs => self.go_down(move |kong| {
                kong.forget_everything();
                theirs.furnish(kong);
            }),
            Event::RestartedEmpty => self.go_down(KongModel::forget_everything),
            Event::DatabaseGone => self.before_call(|kong| kong.database_down(true)),
            Event::NodeBehind => self.before_call(KongModel::freeze_serving),
            Event::NodeMissesWrite => self.before_call(|kong| kong.miss_changes(1)),
            Event::Writer(deed) => self.arm_deed(deed),
        }
        if matches!(event, Event::RestartedWithoutOurs | Event::RestartedEmpty) {
            let mut restored = KongModel::new();
            restored.dbless(self.moment.home == Home::Dbless);
            self.stage.theirs().furnish(&mut restored);
            self.stage.keep_offered(&restored);
        }
    }

    /// Nobody listens from the next call of this moment on.
    fn go_down(&self, act: impl FnOnce(&mut KongModel) + Send + 'static) {
        self.inject(CallFault::no_connection().with(self.noted(act)).always());
    }

    /// Just before the next call of this moment.
    fn before_call(&self, act: impl FnOnce(&mut KongModel) + Send + 'static) {
        let act = self.noted(act);
        match self.moment.at {
            // At rest a Kong without a database is asked for its hash alone.
            At::Look if self.moment.occasion == Occasion::Idle => {
                self.kong.model().before_next("GET", "/", act);
            }
            At::Look => self.kong.model().before_next("GET", "/c", act),
            At::Write => self.kong.model().before_next(self.write_method(), "/c", act),
            At::Announcement => self.kong.model().elsewhere(act),
        }
    }

    fn write_method(&self) -> &'static str {
        match (self.moment.home, self.moment.footing) {
            (Home::Dbless, _) => "POST",
            (Home::Database, Footing::Ours) => "PUT",
            (Home::Database, Footing::Adopted) => "PATCH",
        }
    }

    fn noted(
        &self,
        act: impl FnOnce(&mut KongModel) + Send + 'static,
    ) -> impl FnOnce(&mut KongModel) + Send + 'static {
        let happened = Arc::clone(&self.happened);
        move |kong| {
            happened.store(true, Ordering::Relaxed);
            act(kong);
        }
    }

    fn arm_deed(&mut self, deed: Deed) {
        let Bundles { older, of_others, .. } = self.bundles;
        match deed {
            Deed::Tags => {
                self.before_call(|kong| stage::add_tag(kong, NAME, "meanwhile"));
                self.stage.expect_tag("meanwhile");
            }
            Deed::AddsName => {
                self.before_call(|kong| stage::add_name(kong, NAME, "by-hand.test"));
                self.stage.expect_name("by-hand.test");
            }
            Deed::PutsNewer => {
                let pair = of_others.clone();
                self.before_call(move |kong| stage::replace_pair(kong, NAME, &pair));
            }
            Deed::PutsOlder => {
                let pair = older.clone();
                self.before_call(move |kong| stage::replace_pair(kong, NAME, &pair));
            }
            Deed::Deletes => {
                self.before_call(|kong| stage::delete(kong, NAME));
                self.stage.forget_shared();
            }
            Deed::Creates => self.before_call(self.creates()),
            Deed::CreatesAmid => {
                self.kong.model().amid_next("PUT", "/c", self.noted(self.creates()));
            }
            Deed::TakesName => {
                self.before_call(|kong| stage::take_name(kong, NAME));
                self.stage.forget_shared();
            }
        }
    }

    /// What another replica does.
    fn creates(&self) -> impl FnOnce(&mut KongModel) + Send + use<> {
        let own = Own::new(&Instance::default(), None);
        let path = format!("/certificates/{}", own.certificate(&"web".parse().unwrap()));
        let pair = self.newest();
        let (cert, key) = (pair.chain_pem(), pair.key_pem());
        let body = json!({ "cert": cert, "key": key, "snis": [NAME], "tags": [own.tag()] });
        move |kong| drop(kong.answer(&Request::json("PUT", &path, &body)))
    }

    fn heal(&mut self) {
        self.kong.heal();
        let mut kong = self.kong.model();
        kong.database_down(false);
        kong.catch_up();
        if matches!(self.fault, Fault::Kong(Event::RestartedEmpty)) {
            if !kong.everything().is_empty() {
                self.flaws.push("something was put into an empty Kong".to_owned());
            }
            kong.elsewhere(|kong| self.stage.theirs().furnish(kong));
        }
    }

    fn listen(&mut self) {
        let mut said = self.family.log.take();
        let status = self.pod.status();
        said += &serde_json::to_string(&*status).unwrap();
        said += &self.pod.metrics();
        let view = View { refreshes: true, only: None };
        said += &page::render(&status, Timestamp(START), view);
        self.said += &self.family.news(&said);
    }

    fn check(&mut self, ends: Ends) {
        let happened = self.happened.load(Ordering::Relaxed) || self.kong.hits() > self.hits;
        if !happened {
            self.flaws.push("the fault did not happen".to_owned());
        }
        match ends {
            Ends::InSync => self.check_served(self.newest(), ends, ""),
            Ends::NewerOfOthers => self.check_served(&self.bundles.of_others, ends, ""),
            Ends::NewerOfOthersUnheard => {}
            Ends::NameOfOthers => {
                let pair = self.stage.pair_of_others().clone();
                self.check_served(&pair, ends, "");
            }
        }
    }

    fn check_served(&mut self, newest: &CertifiedPair, ends: Ends, when: &str) {
        self.listen();
        let mut kong = self.kong.model();
        let redundant = self.fault.redundant(self.moment);
        let mut flaws = self.stage.flaws(&mut kong, &[(NAME, newest)], redundant, &self.said);
        drop(kong);
        if ends == Ends::InSync && self.pod.web().0 != State::InSync {
            flaws.push(format!("it is {:?}", self.pod.web()));
        }
        flaws.retain(|flaw| !self.flaws.contains(flaw));
        self.flaws.extend(flaws.into_iter().map(|flaw| format!("{when}{flaw}")));
    }
}

/// Plays all that there is for a kind of Kong; so many cases.
async fn play(home: Home, cases: usize) {
    let (family, mut table) = (Family::new(), Table::default());
    for moment in Moment::all(home) {
        for fault in Fault::all() {
            if moment.never().or_else(|| fault.never(moment)).is_none() {
                let play = Play::new(moment, fault, &family);
                table.note(format_args!("{fault:?}, {moment}"), play.flaws().await);
            }
        }
    }
    table.assert_holds(cases);
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_kong_on_a_database_recovers_from_every_fault_at_every_moment() {
    play(Home::Database, 1094).await;
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_kong_without_a_database_recovers_from_every_fault_at_every_moment() {
    play(Home::Dbless, 745).await;
}
