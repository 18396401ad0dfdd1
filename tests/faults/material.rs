//! What Kong keeps besides certificates with names: CA certificates and licences. Fault by moment, on
//! a paused clock, with a Kong in memory.

use std::fmt::{self, Display};
use std::time::Duration;

use kong_cert_reloader::settings::{AuthoritySettings, LicenseSettings, Settings};
use kong_cert_reloader::status::State;
use serde_json::json;
use testkit::{Authority, KeyKind};
use tokio::time::sleep;

use super::calls::Call;
use super::kong::KongInProcess;
use super::log::Log;
use super::pod::{Pod, START};
use super::stage::Stage;
use super::table::Table;

const BINDING: &str = "ours";
/// How long a fault lasts where it does.
const OUTAGE: Duration = Duration::from_secs(2 * 60);
/// Kong is compared anew, and what it may still go on with was watched for long enough.
const RECOVERY: Duration = Duration::from_secs(15 * 60);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Material {
    Authorities,
    License,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Home {
    Database,
    Dbless,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Occasion {
    FirstStart,
    Renewal,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    Look,
    Write,
}

#[derive(Clone, Copy, Debug)]
struct Case {
    material: Material,
    home: Home,
    occasion: Occasion,
    at: At,
    call: Call,
    lasts: bool,
}

impl Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { material, home, occasion, at, call, lasts } = self;
        let often = if *lasts { "for minutes" } else { "once" };
        write!(f, "{call:?} {often}, {material:?}, {home:?}, {occasion:?}, {at:?}")
    }
}

impl Case {
    fn all(material: Material) -> impl Iterator<Item = Self> {
        let mut all = Vec::new();
        for home in [Home::Database, Home::Dbless] {
            for occasion in [Occasion::FirstStart, Occasion::Renewal] {
                for at in [At::Look, At::Write] {
                    for call in Call::ALL {
                        all.extend([false, true].map(|lasts| Self {
                            material,
                            home,
                            occasion,
                            at,
                            call,
                            lasts,
                        }));
                    }
                }
            }
        }
        all.into_iter().filter(|case| !(case.lasts && case.call.is_sorted_as_another()))
    }

    /// How many writes may put what Kong holds already: one that may have been done unheard.
    fn redundant(self) -> usize {
        usize::from(self.at == At::Write && self.call.is_done_unheard())
    }
}

/// What files hold, one generation after the other.
struct Generations {
    material: Material,
    texts: Vec<String>,
}

impl Generations {
    fn of(material: Material) -> Self {
        let texts = match material {
            // A CA is renewed by a file with both, for as long as clients have either.
            Material::Authorities => {
                let roots = ["first", "second", "third"];
                let roots = roots.map(|name| Authority::root(name, KeyKind::P256).pem());
                let file = |last: usize| roots[last.saturating_sub(1)..=last].concat();
                (0..roots.len()).map(file).collect()
            }
            Material::License => (1..=3).map(license).collect(),
        };
        Self { material, texts }
    }

    fn publish(&self, pod: &Pod, generation: usize) {
        pod.publish_file(BINDING, "file", &self.texts[generation]);
    }

    fn configure(&self, pod: &Pod, settings: &mut Settings) {
        let (name, file) = (BINDING.parse().unwrap(), pod.directory(BINDING).join("file"));
        match self.material {
            Material::Authorities => {
                let authorities = AuthoritySettings { file, id: None, tags: [].into() };
                settings.authorities.insert(name, authorities);
            }
            Material::License => {
                settings.licenses.insert(name, LicenseSettings { file, id: None });
            }
        }
    }

    /// Whether Kong has all of a generation.
    fn is_held(&self, kong: &KongInProcess, generation: usize) -> bool {
        let rows = kong.model().everything();
        let has = |kind: &str, field: &str, value: &str| {
            rows.iter().any(|(key, row)| key.starts_with(kind) && row[field] == value)
        };
        let text = &self.texts[generation];
        match self.material {
            Material::Authorities => {
                let blocks = text.split_inclusive("-----END CERTIFICATE-----\n");
                blocks.into_iter().all(|pem| has("ca_certificates/", "cert", pem))
            }
            Material::License => has("licenses/", "payload", text),
        }
    }
}

/// The licence of a year; each is made later than the one before.
fn license(year: i32) -> String {
    let payload = json!({
        "customer": "A Customer Of Kong, Incorporated",
        "license_creation_date": format!("20{}-12-01", 22 + year),
        "license_expiration_date": format!("20{}-01-31", 27 + year),
        "license_key": format!("NOBODY-MAY-SEE-THE-KEY-OF-{year}"),
    });
    let signature = format!("6985968131533a9685d5cf0fd8b4c5f0{year}");
    json!({ "license": { "version": "1", "payload": payload, "signature": signature } }).to_string()
}

struct Play<'a> {
    case: Case,
    generations: &'a Generations,
    log: &'a Log,
    kong: KongInProcess,
    pod: Pod,
    stage: Stage,
    said: String,
}

impl<'a> Play<'a> {
    fn new(case: Case, family: &'a (Log, Generations, Stage)) -> Self {
        let (log, generations, stage) = family;
        let (kong, mut stage) = (KongInProcess::new(), stage.clone());
        kong.model().dbless(case.home == Home::Dbless);
        kong.model().enterprise(true);
        stage.furnish(&mut kong.model());
        Self { case, generations, log, kong, pod: Pod::new(), stage, said: String::new() }
    }

    /// What did not hold.
    async fn flaws(mut self) -> Vec<String> {
        let Case { occasion, call, lasts, .. } = self.case;
        self.generations.publish(&self.pod, 0);
        if occasion != Occasion::FirstStart {
            self.start();
            self.pod.until_named(BINDING, |ours| ours.state == State::InSync).await;
        }
        let fault = if lasts { call.fault().always() } else { call.fault() };
        let hits = self.kong.hits();
        self.kong.inject(match self.case.at {
            At::Look => fault.only("GET"),
            At::Write => fault.only_writes(),
        });
        match occasion {
            Occasion::FirstStart => self.start(),
            Occasion::Renewal => self.generations.publish(&self.pod, 1),
        }
        if lasts {
            sleep(OUTAGE).await;
            self.listen();
            self.kong.heal();
        }
        sleep(RECOVERY).await;
        let mut flaws = self.look(usize::from(occasion == Occasion::Renewal));
        if self.kong.hits() == hits {
            flaws.push("the fault did not happen".to_owned());
        }
        // Nothing of it lasts.
        self.generations.publish(&self.pod, 2);
        sleep(Duration::from_secs(10)).await;
        let next = self.look(2).into_iter();
        flaws.extend(next.map(|flaw| format!("the next renewal: {flaw}")));
        self.pod.stop().await;
        flaws
    }

    fn start(&mut self) {
        let (generations, mut settings) = (self.generations, Settings::default());
        generations.configure(&self.pod, &mut settings);
        self.pod.start_with(&self.kong, |all| {
            all.authorities = settings.authorities;
            all.licenses = settings.licenses;
        });
    }

    fn listen(&mut self) {
        self.said += &self.log.take();
        self.said += &self.pod.said();
    }

    fn look(&mut self, generation: usize) -> Vec<String> {
        self.listen();
        let redundant = self.case.redundant();
        let mut flaws = self.stage.flaws(&mut self.kong.model(), &[], redundant, &self.said);
        if !self.generations.is_held(&self.kong, generation) {
            flaws.push("kong does not hold the newest".to_owned());
        }
        let ours = self.pod.binding(BINDING);
        if ours.state != State::InSync {
            flaws.push(format!("it is {:?}, {:?}", ours.state, ours.message));
        }
        flaws
    }
}

async fn play(material: Material, cases: usize) {
    let mut stage = Stage::at(START);
    let generations = Generations::of(material);
    if material == Material::License {
        generations.texts.iter().for_each(|text| stage.keep_text_secret("a licence", text));
    }
    let family = (Log::listen(), generations, stage);
    let mut table = Table::default();
    for case in Case::all(material) {
        table.note(case, Play::new(case, &family).flaws().await);
    }
    table.assert_holds(cases);
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn ca_certificates_come_to_kong_after_every_fault_at_every_moment() {
    play(Material::Authorities, 272).await;
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn licences_come_to_kong_after_every_fault_at_every_moment() {
    play(Material::License, 272).await;
}
