//! What an Admin API answers, whoever that is.
//!
//! The first part chooses: words of `OPTIONS`. Each other part is an answer: `GET /certificates 200
//! json` says to which calls and what it is, by the beginning of method and path, and its body stands
//! on the lines behind. Of several that fit the next is taken each time, the last again and again; where
//! none fits, there is nothing.

use std::collections::BTreeSet;
use std::fs;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use kong_cert_reloader::binding::Bindings;
use kong_cert_reloader::clock::Timestamp;
use kong_cert_reloader::kong::{Answer, Call, Kong, Lost, Method, Wire};
use kong_cert_reloader::metrics::Metrics;
use kong_cert_reloader::nginx::Nginx;
use kong_cert_reloader::reconcile::{Ask, Conclusion, Reconciler, Woken};
use kong_cert_reloader::settings::Settings;
use kong_cert_reloader::volume::Mounted;
use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};
use zeroize::Zeroizing;

use super::parts;
use super::said::{Secret, assert_has_no_pem, assert_is_a_line, contains};

const CERT: &[u8] = include_bytes!("../../tests/data/kong-contract/pem/ec.crt");
const KEY: &[u8] = include_bytes!("../../tests/data/kong-contract/pem/ec.key");
const AUTHORITY: &[u8] = include_bytes!("../../tests/data/kong-contract/pem/root.crt");
const LICENSE: &[u8] =
    br#"{"license":{"payload":{"license_expiration_date":"2030-01-31"},"signature":"s"}}"#;
const DECLARED: &[u8] = b"_format_version: '3.0'\nservices: [{name: s, host: h}]\n";
/// Within the life of the certificates.
const NOW: Timestamp = Timestamp(1_800_000_000);
/// No pass makes more calls for three objects, unless it goes in circles.
const MOST_CALLS: usize = 500;
/// What the first part may name, and what that sets.
const OPTIONS: [(&str, &str, &str); 4] = [
    ("dry-run", "DRY_RUN", "true"),
    ("force", "DECLARATIVE__FORCE", "true"),
    ("take", "CERTIFICATES__WEB__TAKE_SNIS", "true"),
    ("workspace", "ADMIN__WORKSPACE", "other"),
];

/// Fails unless passes come to an end, ask for what there may be, and tell no more than they may.
pub fn check(input: &[u8]) {
    let parts = parts(input);
    let chosen = |word: &str| contains(parts[0], word.as_bytes());
    let wire = Fuzzed::new(&parts[1..], chosen("dry-run"));
    let settings = settings(chosen);
    let mut bindings = Bindings::of(&settings);
    bindings.look();
    let kong = Kong::new(&wire, &settings.admin, Metrics::default());
    let (metrics, nginx) = (Metrics::default(), Box::new(Nginx::new(None)));
    let mut reconciler =
        Reconciler::new(&settings, Arc::new(Mounted), Some(kong), metrics, BTreeSet::new(), nginx);
    runtime().block_on(async {
        // What the first has learned, the second goes by.
        for pass in 0..2 {
            let woken =
                |binding: &_| Woken { binding: Clone::clone(binding), even_if_unchanged: true };
            let woken: Vec<_> = bindings.iter().map(woken).collect();
            let ask = Ask { kong: true, hash: pass > 0 };
            let passed = reconciler.pass(woken, NOW, ask, |_| {}).await;
            assert!(!passed.conclusions.is_empty(), "nothing is concluded");
            passed.conclusions.iter().for_each(check_conclusion);
            reconciler.findings().iter().for_each(|finding| check_line(finding));
            check_text(&format!("{:?}", reconciler.kong_status()));
            wire.calls.store(0, Relaxed);
        }
    });
}

fn check_conclusion(conclusion: &Conclusion) {
    let status = &conclusion.status;
    status.message.iter().chain(&status.warnings).for_each(|line| check_line(line));
    check_text(&serde_json::to_string(status).unwrap());
}

fn check_line(line: &str) {
    assert_is_a_line(line);
    check_text(line);
}

fn check_text(text: &str) {
    assert_has_no_pem(text);
    Secret::new(KEY, CERT).assert_is_not_in(text);
}

/// Directories are made once, and their files never change.
fn settings(chosen: impl Fn(&str) -> bool) -> Settings {
    thread_local!(static HOME: TempDir = made());
    HOME.with(|home| {
        let at = |file: &str| home.path().join(file).to_str().unwrap().to_owned();
        let mut vars = vec![
            ("CERTS_DIR", at("certs")),
            ("CA_CERTIFICATES__CLIENTS__FILE", at("clients.crt")),
            ("LICENSES__EE__FILE", at("license.json")),
        ];
        if chosen("declared") {
            vars.push(("DECLARATIVE__FILE", at("kong.yaml")));
        }
        let options = OPTIONS.iter().filter(|(word, ..)| chosen(word));
        vars.extend(options.map(|(_, name, value)| (*name, (*value).to_owned())));
        let vars = vars
            .into_iter()
            .map(|(name, value)| (format!("CERT_RELOADER__{name}").into(), value.into()));
        Settings::from_env(vars).unwrap()
    })
}

fn made() -> TempDir {
    let home = tempfile::tempdir().unwrap();
    let write = |file: &str, content| fs::write(home.path().join(file), content).unwrap();
    fs::create_dir_all(home.path().join("certs/web")).unwrap();
    write("certs/web/tls.crt", CERT);
    write("certs/web/tls.key", KEY);
    write("clients.crt", AUTHORITY);
    write("license.json", LICENSE);
    write("kong.yaml", DECLARED);
    home
}

fn runtime() -> Runtime {
    // Waits are over at once.
    Builder::new_current_thread().enable_time().start_paused(true).build().unwrap()
}

/// An Admin API that says what the input says.
struct Fuzzed<'a> {
    is_read_only: bool,
    answers: Mutex<Vec<Given<'a>>>,
    calls: AtomicUsize,
}

struct Given<'a> {
    /// How the calls begin that get it.
    call: &'a str,
    status: u16,
    is_json: bool,
    body: &'a [u8],
    is_taken: bool,
}

impl<'a> Fuzzed<'a> {
    fn new(answers: &[&'a [u8]], is_read_only: bool) -> Self {
        let answers = answers.iter().filter_map(|answer| Given::of(answer)).collect();
        Self { is_read_only, answers: Mutex::new(answers), calls: AtomicUsize::new(0) }
    }

    fn answer(&self, call: &str) -> Option<Answer> {
        let mut answers = self.answers.lock().unwrap();
        // All paths begin with that of the root.
        let fits = |given: &Given<'_>| match given.call {
            "GET /" => call == given.call,
            begin => call.starts_with(begin),
        };
        let next = answers.iter().position(|given| fits(given) && !given.is_taken);
        let at = next.or_else(|| answers.iter().rposition(fits))?;
        let given = &mut answers[at];
        given.is_taken = true;
        Some(given.answer())
    }
}

const NOTHING: Given<'_> = Given {
    call: "",
    status: 404,
    is_json: true,
    body: br#"{"message":"Not found"}"#,
    is_taken: true,
};

impl<'a> Given<'a> {
    fn of(part: &'a [u8]) -> Option<Self> {
        let end = part.iter().position(|byte| *byte == b'\n').unwrap_or(part.len());
        let head = std::str::from_utf8(&part[..end]).ok()?;
        let (rest, kind) = head.rsplit_once(' ')?;
        let (call, status) = rest.rsplit_once(' ')?;
        let status = status.parse().ok()?;
        let body = part.get(end + 1..).unwrap_or_default();
        Some(Self { call, status, is_json: kind == "json", body, is_taken: false })
    }

    fn answer(&self) -> Answer {
        let body = Zeroizing::new(self.body.to_vec());
        let retry_after = (self.status == 429).then_some(Duration::MAX);
        Answer { status: self.status, is_json: self.is_json, retry_after, body }
    }
}

impl Wire for &Fuzzed<'_> {
    async fn call(&self, call: Call) -> Result<Answer, Lost> {
        assert!(self.calls.fetch_add(1, Relaxed) < MOST_CALLS, "it goes in circles");
        let is_write = call.method != Method::Get;
        assert!(!(is_write && self.is_read_only), "it writes in a dry run");
        check_path(&call.path, is_write);
        if let Some(body) = &call.body {
            serde_json::from_slice::<serde_json::Value>(body).unwrap();
        }
        let asked = format!("{} {}", call.method.as_str(), call.path);
        let answer = self.answer(&asked).unwrap_or_else(|| NOTHING.answer());
        let limit = call.limit;
        if answer.body.len() > limit {
            Err(Lost::TooLarge { limit, status: answer.status })
        } else {
            Ok(answer)
        }
    }
}

/// A write names one object, or is of the whole configuration.
fn check_path(path: &str, is_write: bool) {
    assert!(path.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#'), "{path}");
    let (path, _) = path.split_once('?').unwrap_or((path, ""));
    let path = path.strip_prefix("/other").unwrap_or(path);
    let [list, object] = path.split('/').skip(1).collect::<Vec<_>>()[..] else {
        assert!(!is_write || path == "/config", "{path}");
        return;
    };
    assert!(!matches!(object, "." | ".."), "{path}");
    if is_write && list != "snis" {
        object.parse::<uuid::Uuid>().unwrap();
    }
}
