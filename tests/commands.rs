//! The commands of an operator, run as processes of their own beside a stand-in Kong.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test may panic, and reads what it likes"
)]

#[path = "secrecy/searcher.rs"]
#[allow(dead_code, reason = "no token is planted here")]
mod searcher;

use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use searcher::Searcher;
use serde_json::{Value, json};
use tempfile::TempDir;
use testkit::{
    CertifiedPair, Fault, KeyKind, KongStandIn, Pki, Request, SecretVolume, SidecarProcess,
    with_settings,
};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};
use tokio::time::timeout;

const PROGRAM: &str = env!("CARGO_BIN_EXE_kong-cert-reloader");
/// Nothing that is waited for takes longer on any machine.
const PATIENCE: Duration = Duration::from_secs(30);
const DAY: i64 = 24 * 60 * 60;

/// What a command said, and its exit code.
#[derive(Debug)]
struct Said {
    code: i32,
    out: String,
    err: String,
}

impl Said {
    /// All of standard output, which has to be one JSON value.
    fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|_| panic!("no JSON: {self:?}"))
    }

    /// The words of the table's row that begins with this name.
    fn row(&self, name: &str) -> Vec<&str> {
        let mut rows = self.out.lines().map(|line| line.split("  ").collect::<Vec<_>>());
        let row = rows.find(|row| row[0] == name);
        let row = row.unwrap_or_else(|| panic!("no row {name}: {self:?}"));
        row.into_iter().map(str::trim).filter(|cell| !cell.is_empty()).collect()
    }
}

/// Runs the program with nothing in its environment but `settings` (names without their prefix).
fn spawn(arguments: &[&str], settings: &[(&str, &str)]) -> Child {
    let mut command = with_settings(Path::new(PROGRAM), settings);
    command.args(arguments).stdin(Stdio::null());
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    command.spawn().unwrap()
}

async fn ended(child: Child) -> Said {
    let output = timeout(PATIENCE, child.wait_with_output()).await.expect("an end").unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    let code = output.status.code().expect("an exit code");
    Said { code, out: text(output.stdout), err: text(output.stderr) }
}

/// The first line on standard error, which nobody reads any more then.
async fn first_complaint(child: &mut Child) -> String {
    let mut lines = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    timeout(PATIENCE, lines.read_line(&mut line)).await.expect("a line").unwrap();
    line
}

async fn run(arguments: &[&str], settings: &[(&str, &str)]) -> Said {
    ended(spawn(arguments, settings)).await
}

/// A Kong, and a directory of volumes.
struct Pod {
    kong: KongStandIn,
    certs: TempDir,
    pki: Pki,
}

impl Pod {
    async fn new() -> Self {
        let (certs, pki) = (tempfile::tempdir().unwrap(), Pki::at(now() + 1800));
        Self { kong: KongStandIn::start().await, certs, pki }
    }

    fn volume(&self, name: &str) -> SecretVolume {
        SecretVolume::mount(self.certs.path().join(name))
    }

    fn publish(&self, name: &str, pair: &CertifiedPair) {
        publish(&self.volume(name), &pair.chain_pem(), &pair.key_pem());
    }

    fn publish_mismatched(&self, name: &str) {
        let (one, other) = (self.pki.pair(&["a.test"]), self.pki.pair(&["a.test"]));
        publish(&self.volume(name), &one.chain_pem(), &other.key_pem());
    }

    fn spawn(&self, arguments: &[&str], settings: &[(&str, &str)]) -> Child {
        let url = self.kong.admin_url();
        let certs = self.certs.path().to_str().unwrap();
        let mut all = vec![("ADMIN__URL", url.as_str()), ("CERTS_DIR", certs)];
        all.extend(settings);
        spawn(arguments, &all)
    }

    async fn run(&self, arguments: &[&str]) -> Said {
        self.run_with(arguments, &[]).await
    }

    async fn run_with(&self, arguments: &[&str], settings: &[(&str, &str)]) -> Said {
        ended(self.spawn(arguments, settings)).await
    }

    fn held(&self, sni: &str) -> Value {
        let get = Request::new("GET", &format!("/certificates/{sni}"));
        self.kong.model().elsewhere(|model| model.answer(&get)).value()
    }

    /// Someone else puts `pair` where `a.test` is.
    fn put_elsewhere(&self, pair: &CertifiedPair) {
        let body = json!({"cert": pair.chain_pem(), "key": pair.key_pem()});
        let patch = Request::json("PATCH", "/certificates/a.test", &body);
        let answer = self.kong.model().elsewhere(|model| model.answer(&patch));
        assert_eq!(answer.status, 200, "{}", answer.value());
    }

    fn writes(&self) -> u64 {
        self.kong.model().writes()
    }

    fn methods(&self) -> Vec<String> {
        self.kong.model().requests().iter().map(|seen| seen.method.clone()).collect()
    }
}

#[expect(clippy::disallowed_methods, reason = "the program reads it, too")]
fn now() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    i64::try_from(since.as_secs()).unwrap()
}

fn publish(volume: &SecretVolume, cert: &str, key: &str) {
    assert!(volume.publish(&[("tls.crt", cert.as_bytes()), ("tls.key", key.as_bytes())]));
}

fn write_pair(directory: &Path, pair: &CertifiedPair) {
    fs::create_dir_all(directory).unwrap();
    fs::write(directory.join("tls.crt"), pair.chain_pem()).unwrap();
    fs::write(directory.join("tls.key"), pair.key_pem()).unwrap();
}

/// The first eight bytes, as tables show them.
fn short(pair: &CertifiedPair) -> String {
    let digest = pair.leaf_sha256();
    digest[..8].iter().map(|byte| format!("{byte:02X}")).collect::<Vec<_>>().join(":")
}

// --- sync ----------------------------------------------------------------------------------------

#[tokio::test]
async fn sync_creates_what_is_missing_and_a_second_one_writes_nothing() {
    let pod = Pod::new().await;
    let pair = pod.pki.pair(&["a.test", "b.test", "c.test", "d.test"]);
    pod.publish("web", &pair);
    let said = pod.run(&["sync"]).await;
    assert_eq!(said.code, 0, "{said:?}");
    let row = said.row("web");
    assert_eq!((row[1], row[row.len() - 1]), ("in_sync", "a.test, b.test, c.test +1"), "{said:?}");
    assert!(row[2].ends_with("(90 days left)"), "{row:?}");
    assert_eq!(said.err, "", "neither logs nor progress for what takes a moment");
    assert_eq!(pod.held("a.test")["cert"], pair.chain_pem());
    let writes = pod.writes();
    assert_eq!(pod.run(&["sync"]).await.code, 0);
    assert_eq!((writes, pod.writes()), (1, 1));
}

#[tokio::test]
async fn sync_of_a_mismatched_pair_fails_and_names_the_file() {
    let pod = Pod::new().await;
    pod.publish_mismatched("bad");
    pod.publish("web", &pod.pki.pair(&["b.test"]));
    let said = pod.run(&["sync"]).await;
    assert_eq!((said.code, said.row("web")[1], said.row("bad")[1]), (1, "in_sync", "invalid"));
    let key = pod.certs.path().join("bad/tls.key");
    let told = said.out.lines().find(|line| line.starts_with("    key_mismatch: ")).unwrap();
    assert!(told.contains(key.to_str().unwrap()), "{told}");
    assert_eq!(pod.writes(), 1);
}

#[tokio::test]
async fn sync_gives_up_on_a_kong_that_is_down_and_says_where_it_was_sought() {
    let mut pod = Pod::new().await;
    pod.kong.stop().await;
    pod.publish("web", &pod.pki.pair(&["a.test"]));
    let began = Instant::now();
    let said = pod.run(&["sync", "--timeout", "1500ms"]).await;
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    assert_eq!((said.code, said.row("web")[1]), (1, "unreachable"), "{said:?}");
    let advice = said.err.lines().last().unwrap();
    let expected = format!("CERT_RELOADER__ADMIN__URL ({})", pod.kong.admin_url());
    assert!(advice.contains("gave up after 1s 500ms") && advice.contains(&expected), "{advice}");
}

#[tokio::test]
async fn sync_waits_for_kong_and_tells_how_far_it_is() {
    let mut pod = Pod::new().await;
    pod.kong.stop().await;
    pod.publish("web", &pod.pki.pair(&["a.test"]));
    pod.publish_mismatched("bad");
    let mut child = pod.spawn(&["sync", "-o", "json"], &[]);
    let line = first_complaint(&mut child).await;
    assert_eq!(line, "kong-cert-reloader: 0/2 in place, 1 invalid, 1 unreachable\n");
    pod.kong.restart().await;
    let said = ended(child).await;
    assert_eq!(said.code, 1);
    assert_eq!(said.json()["bindings"]["web"]["state"], "in_sync");
    assert_eq!(pod.writes(), 1);
}

#[tokio::test]
async fn sync_ends_with_what_it_knows_when_it_is_told_to() {
    let mut pod = Pod::new().await;
    pod.kong.stop().await;
    pod.publish("web", &pod.pki.pair(&["a.test"]));
    let mut child = pod.spawn(&["sync", "-o", "json"], &[]);
    first_complaint(&mut child).await;
    let pid = child.id().unwrap();
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert_eq!(core.split_whitespace().skip(4).take(2).collect::<Vec<_>>(), ["0", "0"], "{core}");
    let kill = Command::new("kill").args(["-TERM", &pid.to_string()]).status().await;
    assert!(kill.unwrap().success());
    let said = ended(child).await;
    assert_eq!((said.code, &said.json()["bindings"]["web"]["state"]), (1, &json!("unreachable")));
}

#[tokio::test]
async fn sync_leaves_a_newer_certificate_in_kong_alone_unless_it_is_forced() {
    let pod = Pod::new().await;
    let begun = |days: i64| pod.pki.leaf(&["a.test"]).not_before(now() - days * DAY).issue();
    let (older, newer) = (begun(20), begun(10));
    pod.publish("web", &older);
    assert_eq!(pod.run(&["sync"]).await.code, 0);
    pod.put_elsewhere(&newer);
    let said = pod.run(&["sync"]).await;
    assert_eq!((said.code, said.row("web")[1]), (1, "held"));
    assert!(said.out.contains("\n    kong_newer: "), "{said:?}");
    assert_eq!(pod.held("a.test")["cert"], newer.chain_pem());
    let said = pod.run(&["sync", "--force", "web"]).await;
    assert_eq!((said.code, said.row("web")[1]), (0, "in_sync"));
    assert_eq!(pod.held("a.test")["cert"], older.chain_pem());
}

#[tokio::test]
async fn force_needs_names_that_there_are() {
    let pod = Pod::new().await;
    for name in ["api", "web"] {
        pod.publish(name, &pod.pki.pair(&["a.test"]));
    }
    let said = pod.run(&["sync", "--force", "web", "--force", "wbe"]).await;
    assert_eq!((said.code, said.out.as_str(), pod.writes()), (2, "", 0));
    assert!(said.err.contains("no binding wbe; there are api, web"), "{said:?}");
    let said = pod.run(&["sync", "--force", "-x"]).await;
    assert_eq!(said.code, 2);
}

#[tokio::test]
async fn sync_in_a_dry_run_is_no_success_unless_there_is_nothing_to_do() {
    let pod = Pod::new().await;
    pod.publish("web", &pod.pki.pair(&["a.test"]));
    let dry = [("DRY_RUN", "true")];
    let said = pod.run_with(&["sync"], &dry).await;
    assert_eq!((said.code, pod.writes()), (1, 0));
    assert!(said.out.contains("\n    dry_run: it would be created"), "{said:?}");
    pod.run(&["sync"]).await;
    assert_eq!(pod.run_with(&["sync"], &dry).await.code, 0);
}

#[tokio::test]
async fn one_sync_moves_a_name_from_one_certificate_to_another() {
    let pod = Pod::new().await;
    pod.publish("a", &pod.pki.pair(&["a.test", "x.test"]));
    pod.publish("b", &pod.pki.pair(&["b.test"]));
    assert_eq!(pod.run(&["sync"]).await.code, 0);
    pod.publish("a", &pod.pki.leaf(&["a.test"]).not_before(now() - 60).issue());
    pod.publish("b", &pod.pki.leaf(&["b.test", "x.test"]).not_before(now() - 60).issue());
    assert_eq!(pod.run(&["sync"]).await.code, 0);
    assert_eq!(pod.held("x.test")["snis"], json!(["b.test", "x.test"]));
    // Back to the one that is looked at first.
    pod.publish("a", &pod.pki.leaf(&["a.test", "x.test"]).not_before(now() - 30).issue());
    pod.publish("b", &pod.pki.leaf(&["b.test"]).not_before(now() - 30).issue());
    assert_eq!(pod.run(&["sync"]).await.code, 0);
    assert_eq!(pod.held("x.test")["snis"], json!(["a.test", "x.test"]));
}

#[tokio::test]
async fn logs_are_for_those_who_ask_for_them() {
    let pod = Pod::new().await;
    pod.publish_mismatched("bad");
    let settings = [("LOG__LEVEL", "info"), ("LOG__FORMAT", "json")];
    for command in ["sync", "diff"] {
        assert_eq!(pod.run_with(&[command], &settings).await.err, "");
        let said = pod.run_with(&[command, "-v"], &settings).await;
        assert!(said.err.contains("\"message\":\"not in place\""), "{said:?}");
        assert!(!said.err.contains("\"level\":\"DEBUG\""), "{said:?}");
    }
}

#[tokio::test]
async fn without_any_certificate_sync_and_diff_fail_and_tell_where_they_looked() {
    let pod = Pod::new().await;
    let certs = pod.certs.path().to_str().unwrap().to_owned();
    for command in ["sync", "diff", "check"] {
        let said = pod.run(&[command]).await;
        assert_eq!((said.code, said.out.as_str()), (1, ""), "{said:?}");
        for told in
            [&*certs, "CERT_RELOADER__CERTS_DIR", "CERT_RELOADER__CERTIFICATES__<NAME>__DIR"]
        {
            assert!(said.err.contains(told), "{told}: {said:?}");
        }
        let missing = [("CERTS_DIR", "/does/not/exist")];
        let said = pod.run_with(&[command], &missing).await;
        assert_eq!(said.code, 1);
        assert!(said.err.contains("/does/not/exist does not exist"), "{said:?}");
    }
    assert_eq!(pod.methods().len(), 0);
}

#[tokio::test]
async fn directories_that_cannot_be_bindings_are_told() {
    let pod = Pod::new().await;
    pod.publish("web", &pod.pki.pair(&["a.test"]));
    write_pair(&pod.certs.path().join("-odd\u{1b}[2J"), &pod.pki.pair(&["b.test"]));
    for command in ["sync", "diff", "check"] {
        let said = pod.run(&[command]).await;
        assert_eq!(said.code, 0, "{said:?}");
        assert!(said.err.contains("directory -odd\\u{1b}[2J holds a certificate"), "{said:?}");
    }
    for name in ["a-b", "a.b"] {
        pod.publish(name, &pod.pki.pair(&["c.test"]));
    }
    for command in ["sync", "diff", "check"] {
        let said = pod.run(&[command]).await;
        assert_eq!((said.code, said.out.as_str()), (2, ""), "{said:?}");
    }
}

// --- diff ----------------------------------------------------------------------------------------

#[tokio::test]
async fn diff_tells_what_a_pass_would_do_and_only_reads() {
    let pod = Pod::new().await;
    let pair = pod.pki.pair(&["a.test"]);
    pod.publish("web", &pair);
    let said = pod.run(&["diff"]).await;
    assert_eq!((said.code, said.err.as_str()), (3, ""), "{said:?}");
    let lines: Vec<&str> = said.out.lines().collect();
    assert_eq!(lines[0], "web: it would be created");
    assert!(lines[1].starts_with(&format!("    file    {}  from 20", short(&pair))), "{said:?}");
    assert_eq!(lines[2], "    kong    nothing");
    assert!(lines[3].starts_with("    served  "), "{said:?}");
    assert!(pod.methods().iter().all(|method| method == "GET"), "{:?}", pod.methods());

    pod.run(&["sync"]).await;
    let before = pod.methods().len();
    let said = pod.run(&["diff"]).await;
    assert_eq!(said.code, 0, "{said:?}");
    assert!(said.out.starts_with("web: in sync\n"), "{said:?}");
    assert!(said.out.contains("\n    kong    same as file\n"), "{said:?}");

    let renewed = pod.pki.leaf(&["a.test"]).not_before(now() - 60).issue();
    pod.publish("web", &renewed);
    let said = pod.run(&["diff"]).await;
    assert_eq!(said.code, 3, "{said:?}");
    assert!(said.out.starts_with("web: it would be replaced\n"), "{said:?}");
    assert!(said.out.contains(&format!("\n    kong    {}  from 20", short(&pair))), "{said:?}");
    assert!(pod.methods()[before..].iter().all(|method| method == "GET"), "{:?}", pod.methods());
    assert_eq!(pod.writes(), 1);
}

#[tokio::test]
async fn diff_shows_what_is_served_beside_file_and_kong() {
    let pod = Pod::new().await;
    let begun = |at| pod.pki.leaf(&["a.test"]).not_before(at).issue();
    pod.publish("web", &begun(now() - DAY));
    assert_eq!(pod.run(&["sync"]).await.code, 0);
    pod.publish("web", &begun(now() - 60));
    let said = pod.run(&["diff", "--output", "json"]).await;
    let web = &said.json()["bindings"]["web"];
    assert_eq!((said.code, &web["served"]), (3, &web["kong"]), "{said:?}");
    assert_ne!(web["served"], web["file"]);
    // What Kong holds and does not serve is told at once.
    assert_eq!(pod.run(&["sync"]).await.code, 0);
    let other = pod.pki.pair(&["a.test"]);
    pod.kong.model().serve_instead("a.test", Some(&other));
    let before = pod.kong.model().requests().len();
    let said = pod.run(&["diff"]).await;
    assert_eq!(said.code, 3, "{said:?}");
    assert!(said.out.starts_with("web: not_served (other_certificate)"), "{said:?}");
    assert!(said.out.contains("    kong    same as file\n"), "{said:?}");
    let requests = pod.kong.model().requests()[before..].to_vec();
    assert!(requests.iter().all(|seen| seen.method == "GET"), "{requests:?}");
}

#[tokio::test]
async fn diff_shows_what_is_served_for_each_of_many() {
    let pod = Pod::new().await;
    let publish = |at: i64| {
        for name in 0..12 {
            let pair = pod.pki.leaf(&[&format!("n{name}.test")]).not_before(at).issue();
            pod.publish(&format!("n{name}"), &pair);
        }
    };
    publish(now() - DAY);
    assert_eq!(pod.run(&["sync"]).await.code, 0);
    publish(now() - 60);
    let said = pod.run(&["diff", "--output", "json"]).await.json();
    let bindings = said["bindings"].as_object().unwrap().values();
    let unknown = bindings.filter(|binding| binding["served"].is_null());
    assert_eq!(unknown.count(), 0, "{said:#}");
}

#[tokio::test]
async fn where_nothing_is_proven_sync_and_diff_say_so() {
    let pod = Pod::new().await;
    pod.publish("web", &pod.pki.pair(&["a.test"]));
    for command in ["sync", "diff"] {
        let said = pod.run_with(&[command], &[("PROXY__ADDRESS", "")]).await;
        assert_eq!(said.code, 0, "{said:?}");
        assert!(said.out.contains("\nno handshakes were made, nothing is proven: "), "{said:?}");
        let said = pod.run(&[command]).await;
        assert!(!said.out.contains("no handshakes"), "{said:?}");
    }
}

#[tokio::test]
async fn what_is_wrong_around_is_said_beneath_the_table() {
    let pod = Pod::new().await;
    let former = pod.pki.leaf(&["a.test"]).not_before(now() - 9 * DAY).issue();
    pod.kong.model().set_default_pair(&former.chain_pem(), &former.key_pem());
    pod.publish("web", &pod.pki.leaf(&["a.test"]).not_before(now() - DAY).issue());
    let said = pod.run(&["sync"]).await;
    assert!(said.out.contains("\nclients that send no server name get an older"), "{said:?}");
}

#[tokio::test]
async fn wrong_credentials_are_not_waited_for() {
    let pod = Pod::new().await;
    pod.publish("web", &pod.pki.pair(&["a.test"]));
    pod.kong.require_header("Kong-Admin-Token", "t", 401);
    let began = Instant::now();
    let said = pod.run(&["sync", "--timeout", "25s"]).await;
    assert_eq!(said.code, 1, "{said:?}");
    assert!(began.elapsed() < Duration::from_secs(20) && said.out.contains("unauthorized"));
}

#[tokio::test]
async fn a_kong_that_cannot_be_fed_is_no_success() {
    let pod = Pod::new().await;
    pod.publish("web", &pod.pki.pair(&["a.test"]));
    pod.kong.model().dbless(true);
    for command in ["sync", "diff"] {
        let said = pod.run(&[command, "--timeout", "2s"]).await;
        assert_eq!(said.code, 1, "{said:?}");
        assert!(said.out.contains("empty_configuration"), "{said:?}");
    }
}

#[tokio::test]
async fn a_kong_without_a_database_is_fed_as_any_other() {
    let pod = Pod::new().await;
    pod.publish("web", &pod.pki.pair(&["a.test"]));
    pod.kong.model().dbless(true);
    let config = json!({"_format_version": "3.0", "services": [{"name": "echo", "host": "a"}]});
    pod.kong.model().answer(&Request::json("POST", "/config", &config));
    let before = pod.kong.model().writes();
    let said = pod.run(&["diff"]).await;
    assert_eq!((said.code, pod.kong.model().writes()), (3, before), "{said:?}");
    assert!(said.out.contains("web: it would be created"), "{said:?}");
    let said = pod.run(&["sync"]).await;
    assert_eq!(said.code, 0, "{said:?}");
    assert_eq!(pod.run(&["diff"]).await.code, 0);
}

/// The rest of a configuration, as a file.
const REST: &str = "_format_version: '3.0'\nservices:\n- name: echo\n  host: 10.0.0.1\n";

#[tokio::test]
async fn a_configuration_from_a_file_is_loaded_by_sync_and_foretold_by_diff() {
    let pod = Pod::new().await;
    pod.kong.model().dbless(true);
    let rest = file(&pod, "kong.yaml", REST);
    let settings = [("DECLARATIVE__FILE", &*rest)];
    let said = pod.run_with(&["diff"], &settings).await;
    let would = "declarative_file: it would be loaded\n";
    assert_eq!((said.code, said.out.as_str(), pod.writes()), (3, would, 0), "{said:?}");
    let said = pod.run_with(&["sync"], &settings).await;
    assert_eq!(
        (said.code, &said.row("declarative_file")[1..3]),
        (0, &["declarative", "in_sync"][..])
    );
    let writes = pod.writes();
    let said = pod.run_with(&["diff"], &settings).await;
    let in_sync = "declarative_file: in sync\n";
    assert_eq!((said.code, said.out.as_str()), (0, in_sync), "{said:?}");
    fs::write(&rest, REST.replace("10.0.0.1", "10.0.0.2")).unwrap();
    let said = pod.run_with(&["diff"], &settings).await;
    assert_eq!((said.code, said.out.as_str(), pod.writes()), (3, would, writes), "{said:?}");
    fs::write(&rest, "_format_version: [").unwrap();
    for command in ["diff", "sync"] {
        let said = pod.run_with(&[command], &settings).await;
        assert_eq!(said.code, 1, "{said:?}");
        assert!(said.out.contains("not_a_configuration"), "{said:?}");
        assert!(!said.out.contains("something"), "{said:?}");
    }
    assert_eq!(pod.writes(), writes);
}

#[tokio::test]
async fn check_looks_at_files_that_nginx_reads_and_at_the_rest_of_a_configuration() {
    let pod = Pod::new().await;
    let home = tempfile::tempdir().unwrap();
    write_pair(home.path(), &pod.pki.pair(&["status.test"]));
    let rest = file(&pod, "kong.yaml", REST);
    let settings = [
        ("RELOAD__FILES__STATUS__DIR", home.path().to_str().unwrap()),
        ("DECLARATIVE__FILE", &*rest),
    ];
    let said = pod.run_with(&["check"], &settings).await;
    assert_eq!(said.code, 0, "{said:?}");
    assert_eq!(said.row("status")[1..3], ["reload", "yes"]);
    assert_eq!(said.row("declarative_file")[1..3], ["declarative", "yes"]);
    fs::write(&rest, "_format_version: '3.0'\nservices: {\n").unwrap();
    fs::write(home.path().join("tls.key"), pod.pki.pair(&["status.test"]).key_pem()).unwrap();
    let said = pod.run_with(&["check"], &settings).await;
    assert_eq!(said.code, 1, "{said:?}");
    assert_eq!(said.row("status")[1..3], ["reload", "no"]);
    assert_eq!(said.row("declarative_file")[1..3], ["declarative", "no"]);
    for told in [
        "\n    key_mismatch: ",
        "\n    not_a_configuration: ",
        "kong.yaml is no declarative configuration: 3:1: ",
    ] {
        assert!(said.out.contains(told), "{told}: {said:?}");
    }
    assert_eq!(pod.methods().len(), 0);
}

#[tokio::test]
async fn check_names_directories_by_their_own_name_and_tells_of_half_a_pair() {
    let pod = Pod::new().await;
    let certs = pod.certs.path();
    for name in ["web", "api"] {
        pod.publish(name, &pod.pki.pair(&["a.test"]));
    }
    let paths = ["web", "api"].map(|name| certs.join(name).to_str().unwrap().to_owned());
    // Settings that are wrong have nothing to do with it.
    let said = run(&["check", &paths[0], &paths[1]], &[("HOLD", "soon")]).await;
    assert_eq!(said.code, 0, "{said:?}");
    assert_eq!((said.row("web")[1], said.row("api")[1]), ("yes", "yes"));
    fs::create_dir(certs.join("half")).unwrap();
    fs::write(certs.join("half").join("tls.crt"), "").unwrap();
    let said = run(&["check", certs.to_str().unwrap()], &[]).await;
    assert_eq!(said.code, 1, "{said:?}");
    assert!(said.err.contains("half holds tls.crt and no tls.key"), "{said:?}");
}

#[tokio::test]
async fn sync_counts_as_done_only_what_is_served() {
    let pod = Pod::new().await;
    pod.publish("web", &pod.pki.pair(&["a.test"]));
    let other = pod.pki.pair(&["a.test"]);
    pod.kong.model().serve_instead("a.test", Some(&other));
    let said = pod.run_with(&["sync"], &[("PROXY__TIMEOUT", "200ms")]).await;
    assert_eq!(said.code, 1, "{said:?}");
    assert!(said.out.contains("other_certificate: kong serves a.test"), "{said:?}");
}

#[tokio::test]
async fn diff_says_by_its_exit_code_what_differs_and_what_is_at_fault() {
    let pod = Pod::new().await;
    pod.publish("web", &pod.pki.leaf(&["a.test"]).not_before(now() - 20 * DAY).issue());
    pod.run(&["sync"]).await;
    pod.put_elsewhere(&pod.pki.leaf(&["a.test"]).not_before(now() - 10 * DAY).issue());
    let said = pod.run(&["diff"]).await;
    assert_eq!(said.code, 3, "{said:?}");
    assert!(said.out.starts_with("web: held (kong_newer): kong's"), "{said:?}");
    pod.publish_mismatched("bad");
    let said = pod.run(&["diff"]).await;
    assert_eq!(said.code, 1, "{said:?}");
    assert!(said.out.starts_with("bad: invalid (key_mismatch): "), "{said:?}");
}

#[tokio::test]
async fn diff_gives_up_on_a_kong_that_is_down() {
    let mut pod = Pod::new().await;
    pod.kong.stop().await;
    pod.publish("web", &pod.pki.pair(&["a.test"]));
    let said = pod.run(&["diff", "--timeout", "500ms"]).await;
    assert_eq!(said.code, 1, "{said:?}");
    assert!(said.out.starts_with("web: unreachable (no_answer): "), "{said:?}");
    assert!(said.out.contains("\n    kong    not known\n"), "{said:?}");
    assert!(said.err.contains("gave up after 500ms"), "{said:?}");
}

#[tokio::test]
async fn a_kong_that_never_answers_is_given_up_in_time() {
    let pod = Pod::new().await;
    pod.publish("web", &pod.pki.pair(&["a.test"]));
    pod.kong.inject(Fault::slow(PATIENCE, Duration::ZERO).always());
    for command in ["sync", "diff"] {
        let began = Instant::now();
        let said = pod.run(&[command, "--timeout", "300ms"]).await;
        assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
        assert_eq!(said.code, 1, "{said:?}");
        assert!(said.err.contains("CERT_RELOADER__ADMIN__URL"), "{said:?}");
    }
}

#[tokio::test]
async fn json_on_standard_output_is_pure_and_has_what_the_status_page_has() {
    let mut pod = Pod::new().await;
    pod.publish("web", &pod.pki.pair(&["a.test"]));
    let diff = pod.run(&["diff", "--output", "json"]).await.json();
    assert_eq!(diff["dry_run"], true);
    assert_eq!(diff["bindings"]["web"]["reason"], "dry_run");
    let sync = pod.run(&["sync", "-o", "json", "-v"]).await.json();
    assert_eq!(sync["bindings"]["web"]["state"], "in_sync");
    let certs = pod.certs.path().to_str().unwrap();
    let settings = [("ADMIN__URL", &*pod.kong.admin_url()), ("CERTS_DIR", certs)];
    let sidecar = SidecarProcess::start(PROGRAM, &settings).await;
    sidecar.until_state("web", "in_sync").await;
    let fields = |status: &Value| -> Vec<String> {
        let of = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
        [of(status), of(&status["bindings"]["web"])].concat()
    };
    assert_eq!(fields(&sync), fields(&sidecar.status().await));
    pod.kong.stop().await;
    let said = pod.run(&["sync", "-o", "json", "--timeout", "1200ms"]).await;
    assert!(said.err.contains("0/1 in place, 1 unreachable"), "{said:?}");
    assert_eq!(said.json()["bindings"]["web"]["state"], "unreachable");
}

// --- CA certificates and licences ----------------------------------------------------------------

/// A licence that ends so many days from now.
fn license(days: i64) -> String {
    let end = time::OffsetDateTime::from_unix_timestamp(now() + days * DAY).unwrap().date();
    let payload =
        json!({"license_expiration_date": end.to_string(), "license_key": "K".repeat(30)});
    json!({"license": {"payload": payload, "signature": "0123456789abcdef"}}).to_string()
}

/// Where a file with this content is.
fn file(pod: &Pod, name: &str, content: &str) -> String {
    let path = pod.certs.path().join(name);
    fs::write(&path, content).unwrap();
    path.to_str().unwrap().to_owned()
}

#[tokio::test]
async fn tables_tell_the_kind_where_there_are_several_and_the_ids_of_ca_certificates() {
    let pod = Pod::new().await;
    pod.kong.model().enterprise(true);
    pod.publish("web", &pod.pki.pair(&["a.test"]));
    let (one, two) = (pod.pki.root().pem(), pod.pki.intermediate("Two").pem());
    let cas = file(&pod, "cas.pem", &(one + &two));
    let ee = file(&pod, "license.json", &license(30));
    let settings = [("CA_CERTIFICATES__CAS__FILE", &*cas), ("LICENSES__EE__FILE", &ee)];

    let planned = pod.run_with(&["diff"], &settings).await;
    assert_eq!(planned.code, 3, "{planned:?}");
    let heading = planned.out.lines().next().unwrap();
    assert!(heading.starts_with("cas: 2 would be created: "), "{heading}");
    assert!(heading.contains("(CN=Test Root)") && heading.contains("(CN=Two)"), "{heading}");

    let said = pod.run_with(&["sync"], &settings).await;
    assert_eq!((said.code, said.err.as_str()), (0, ""), "{said:?}");
    assert!(said.out.starts_with("NAME  KIND            STATE"), "{said:?}");
    assert_eq!(said.row("cas")[1..3], ["ca_certificate", "in_sync"]);
    assert_eq!(said.row("cas")[5], "2 CA certificates");
    assert_eq!(said.row("ee")[1..3], ["license", "in_sync"]);
    assert!(said.row("ee")[3].contains(" days left)"), "{said:?}");
    assert_eq!(said.row("web")[1..3], ["certificate", "in_sync"]);
    let list = Request::new("GET", "/ca_certificates");
    let held = pod.kong.model().elsewhere(|model| model.answer(&list)).value();
    for object in held["data"].as_array().unwrap() {
        let id = object["id"].as_str().unwrap();
        assert!(heading.contains(id), "{id} was not foretold: {heading}");
        assert!(said.out.contains(&format!("\n    {id}  CN=T")), "{id}: {said:?}");
        let warned = said.out.lines().find(|line| line.contains("nothing in kong refers to 2 CA"));
        assert!(warned.is_some_and(|line| line.contains(id)), "{said:?}");
    }
    let diff = pod.run_with(&["diff"], &settings).await;
    assert_eq!(diff.code, 0, "{diff:?}");
    let (_, of_cas) = diff.out.split_once("cas: in sync\n    file    2 CA certificates  ").unwrap();
    let of_cas = of_cas.split("\n\n").next().unwrap();
    assert!(of_cas.contains("\n    kong    same as file\n"), "{diff:?}");
    assert!(!of_cas.contains("served"), "{diff:?}");
    assert!(diff.out.contains("ee: in sync\n    file    licence  from "), "{diff:?}");
    let json = pod.run_with(&["sync", "-o", "json"], &settings).await.json();
    let objects = json["bindings"]["cas"]["objects"].as_array().unwrap().clone();
    assert_eq!((objects.len(), &json["bindings"]["ee"]["kind"]), (2, &json!("license")));
    assert_eq!(objects[0]["subject"].as_str().map(|subject| &subject[..4]), Some("CN=T"));
}

#[tokio::test]
async fn force_replaces_a_newer_ca_certificate_in_place() {
    let pod = Pod::new().await;
    let begun = |name: &str, days: i64| {
        let from = now() - days * DAY;
        pod.pki.root().intermediate_with(name, KeyKind::P256, from, from + 900 * DAY).pem()
    };
    let (older, newer) = (begun("Older", 20), begun("Newer", 10));
    let id = "11111111-1111-4111-8111-111111111111";
    let path = file(&pod, "ca.pem", &older);
    let settings = [("CA_CERTIFICATES__CA__FILE", &*path), ("CA_CERTIFICATES__CA__ID", id)];
    let put = Request::json("PUT", &format!("/ca_certificates/{id}"), &json!({"cert": newer}));
    assert_eq!(pod.kong.model().elsewhere(|model| model.answer(&put)).status, 200);
    let said = pod.run_with(&["sync"], &settings).await;
    assert_eq!((said.code, said.row("ca")[2]), (1, "held"), "{said:?}");
    let said = pod.run_with(&["sync", "--force", "ca"], &settings).await;
    assert_eq!((said.code, said.row("ca")[2]), (0, "in_sync"), "{said:?}");
    assert!(said.out.contains(&format!("\n    {id}  CN=Older\n")), "{said:?}");
    assert_eq!(pod.writes(), 1);
}

#[tokio::test]
async fn a_licence_for_a_kong_that_has_none_is_no_success() {
    let pod = Pod::new().await;
    let ee = file(&pod, "license.json", &license(30));
    for command in ["sync", "diff"] {
        let said = pod.run_with(&[command], &[("LICENSES__EE__FILE", &ee)]).await;
        assert_eq!(said.code, 1, "{said:?}");
        assert!(said.out.contains("no_licenses") && said.out.contains("LICENSES"), "{said:?}");
    }
}

#[tokio::test]
async fn check_without_arguments_looks_at_bindings_of_every_kind() {
    let pod = Pod::new().await;
    pod.publish("web", &pod.pki.pair(&["a.test"]));
    let leaf = pod.pki.pair(&["b.test"]).leaf_pem();
    let cas = file(&pod, "cas.pem", &(leaf.clone() + &pod.pki.root().pem()));
    let none = file(&pod, "none.pem", &leaf);
    let (ee, old) = (file(&pod, "ee.json", &license(30)), file(&pod, "old.json", &license(-9)));
    let settings = [
        ("CA_CERTIFICATES__CAS__FILE", &*cas),
        ("CA_CERTIFICATES__NONE__FILE", &none),
        ("LICENSES__EE__FILE", &ee),
        ("LICENSES__OLD__FILE", &old),
    ];
    let said = pod.run_with(&["check"], &settings).await;
    assert_eq!((said.code, said.err.as_str()), (1, ""), "{said:?}");
    for (name, kind, servable) in [
        ("cas", "ca_certificate", "yes"),
        ("none", "ca_certificate", "no"),
        ("ee", "license", "yes"),
        ("old", "license", "no"),
        ("web", "certificate", "yes"),
    ] {
        assert_eq!(said.row(name)[1..3], [kind, servable], "{said:?}");
    }
    assert_eq!(said.row("cas")[5], "1 CA certificate");
    for told in [
        "\n    warning: a certificate (CN=b.test) lacks the basic constraint CA:TRUE",
        "\n    no_authority: ",
        "\n    expired: the licence in ",
        "put its successor into it",
    ] {
        assert!(said.out.contains(told), "{told}: {said:?}");
    }
    let json = pod.run_with(&["check", "-o", "json"], &settings).await.json();
    assert_eq!((&json[0]["name"], &json[0]["kind"]), (&json!("cas"), &json!("ca_certificate")));
    // A file is no directory, and which kind it is of stands in the settings.
    let said = run(&["check", &cas], &[]).await;
    assert_eq!(said.code, 1, "{said:?}");
    assert!(said.err.contains("cas.pem is no directory") && said.err.contains("`check` alone"));
    assert_eq!(pod.methods().len(), 0);
}

#[tokio::test]
async fn a_directory_with_the_name_of_a_licence_is_a_mistake_in_the_settings() {
    let pod = Pod::new().await;
    pod.publish("ee", &pod.pki.pair(&["a.test"]));
    let ee = file(&pod, "license.json", &license(30));
    for command in ["sync", "diff", "check"] {
        let said = pod.run_with(&[command], &[("LICENSES__EE__FILE", &ee)]).await;
        assert_eq!((said.code, said.out.as_str()), (2, ""), "{said:?}");
        assert!(said.err.contains("ee is the name of a license in the settings"), "{said:?}");
    }
}

// --- check ---------------------------------------------------------------------------------------

#[tokio::test]
async fn check_tells_what_can_be_served_and_until_when() {
    let home = tempfile::tempdir().unwrap();
    let pki = Pki::at(now() + 1800);
    let path = |name: &str| home.path().join(name).to_str().unwrap().to_owned();
    write_pair(&home.path().join("good"), &pki.pair(&["a.test"]));
    write_pair(&home.path().join("two/a"), &pki.pair(&["b.test"]));
    write_pair(&home.path().join("two/b"), &pki.leaf(&["c.test"]).kind(KeyKind::Rsa2048).issue());
    let expired = pki.leaf(&["d.test"]).not_before(now() - 9 * DAY).not_after(now() - 3 * DAY - 60);
    write_pair(&home.path().join("expired"), &expired.issue());
    let early = pki.leaf(&["e.test"]).not_before(now() + DAY).not_after(now() + 9 * DAY);
    write_pair(&home.path().join("early"), &early.issue());
    write_pair(&home.path().join("mismatched"), &pki.pair(&["f.test"]));
    fs::write(home.path().join("mismatched/tls.key"), pki.pair(&["f.test"]).key_pem()).unwrap();
    fs::create_dir(home.path().join("empty")).unwrap();
    fs::write(home.path().join("file"), "").unwrap();

    let said = run(&["check", &path("good"), &path("two")], &[]).await;
    assert_eq!((said.code, said.err.as_str()), (0, ""), "{said:?}");
    assert_eq!(said.out.lines().filter(|line| line.contains("  yes  ")).count(), 3, "{said:?}");
    assert_eq!((said.row("a")[3], said.row("b")[3]), ("ec", "rsa"));
    assert!(said.row("good")[2].ends_with("(90 days left)"), "{said:?}");
    assert_eq!(said.row("good")[4..], ["a.test", &path("good/tls.crt")]);

    for (name, code, out, err) in [
        ("expired", 1, "expired 3 days ago", ""),
        ("expired", 1, "    expired: ", ""),
        ("early", 1, "    not_before: ", ""),
        ("mismatched", 1, "    key_mismatch: ", ""),
        ("mismatched", 1, &*path("mismatched/tls.key"), ""),
        ("empty", 1, "", "holds tls.crt and tls.key"),
        ("missing", 1, "", "missing does not exist"),
        ("file", 1, "", "file is no directory"),
        ("odd\n", 2, "", "is no path"),
    ] {
        let said = run(&["check", &path("good"), &path(name)], &[]).await;
        assert_eq!(said.code, code, "{name}: {said:?}");
        assert!(said.out.contains(out) && said.err.contains(err), "{name}: {said:?}");
    }
}

#[tokio::test]
async fn check_looks_at_what_the_settings_name_and_needs_no_kong() {
    let pod = Pod::new().await;
    let pair = pod.pki.pair(&["a.test"]);
    pod.publish("web", &pair);
    let elsewhere = tempfile::tempdir().unwrap();
    fs::write(elsewhere.path().join("both.pem"), pair.chain_pem() + &pair.key_pem()).unwrap();
    let settings = [
        ("CERTIFICATES__API__DIR", elsewhere.path().to_str().unwrap()),
        ("CERTIFICATES__API__CERT", "both.pem"),
        ("CERTIFICATES__API__KEY", "both.pem"),
        ("ADMIN__CA_FILE", "/no/such/file"),
    ];
    let said = pod.run_with(&["check", "-o", "json"], &settings).await;
    assert_eq!((said.code, said.err.as_str()), (0, ""), "{said:?}");
    let checked = said.json();
    assert_eq!([&checked[0]["name"], &checked[1]["name"]], ["api", "web"]);
    let api = &checked[0];
    assert_eq!((&api["servable"], &api["days_left"]), (&json!(true), &json!(90)));
    assert_eq!((&api["key_types"], &api["file"]["names"]), (&json!(["ec"]), &json!(["a.test"])));
    assert_eq!(api["cert"], elsewhere.path().join("both.pem").to_str().unwrap());
    let missing = [("CERTIFICATES__LATER__DIR", "/no/such/directory")];
    let said = pod.run_with(&["check"], &missing).await;
    assert_eq!((said.code, said.row("later")[1]), (1, "no"), "{said:?}");
    assert!(
        said.out.contains("    missing: /no/such/directory/tls.crt does not exist"),
        "{said:?}"
    );
    assert_eq!(pod.run_with(&["check"], &[("HOLD", "soon")]).await.code, 2);
    assert_eq!(pod.methods().len(), 0);
}

// --- probe, help, completions, secrets -------------------------------------------------------------

#[tokio::test]
async fn a_probe_that_fails_tells_who_is_waited_for() {
    let mut pod = Pod::new().await;
    pod.kong.stop().await;
    pod.publish("web", &pod.pki.pair(&["a.test"]));
    let certs = pod.certs.path().to_str().unwrap();
    let settings = [("ADMIN__URL", &*pod.kong.admin_url()), ("CERTS_DIR", certs)];
    let sidecar = SidecarProcess::start(PROGRAM, &settings).await;
    sidecar.until_state("web", "unreachable").await;
    let listen = sidecar.address().to_string();
    let said = run(&["probe", "readyz"], &[("LISTEN", &listen)]).await;
    let told = "kong-cert-reloader: /readyz answers 503\n  not ready\n  web: unreachable\n";
    assert_eq!((said.code, said.err.as_str()), (1, told));
    let said = run(&["probe", "livez"], &[("LISTEN", &listen)]).await;
    assert_eq!((said.code, said.err.as_str()), (0, ""));
}

#[tokio::test]
async fn a_strict_probe_tells_who_is_not_in_place() {
    let pod = Pod::new().await;
    pod.publish_mismatched("bad");
    let certs = pod.certs.path().to_str().unwrap();
    let url = pod.kong.admin_url();
    let settings = [("ADMIN__URL", &*url), ("CERTS_DIR", certs), ("READY__STRICT", "true")];
    let sidecar = SidecarProcess::start(PROGRAM, &settings).await;
    sidecar.until_state("bad", "invalid").await;
    let listen = sidecar.address().to_string();
    let said = run(&["probe", "readyz"], &[("LISTEN", &listen)]).await;
    assert!(said.err.ends_with("\n  not ready\n  bad: invalid\n"), "{said:?}");
}

#[tokio::test]
async fn help_and_completions_need_no_valid_settings_and_the_rest_does() {
    let broken = [("HOLD", "soon")];
    for command in ["", "run", "sync", "diff", "check", "probe", "completions"] {
        let arguments: Vec<&str> =
            [command, "--help"].into_iter().filter(|a| !a.is_empty()).collect();
        let said = run(&arguments, &broken).await;
        assert_eq!((said.code, said.err.as_str()), (0, ""), "{command}");
        let (_, examples) = said.out.split_once("\nExamples:\n").unwrap();
        assert!(examples.contains(&format!("kong-cert-reloader {command}").trim_end().to_owned()));
    }
    let said = run(&["diff", "--help"], &[]).await;
    let example = "kubectl exec deploy/kong-kong -c cert-reloader -- kong-cert-reloader diff";
    assert!(said.out.contains(example), "{said:?}");
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let said = run(&["completions", shell], &broken).await;
        assert_eq!((said.code, said.err.as_str()), (0, ""), "{shell}");
        assert!(said.out.contains("sync") && said.out.contains("force"), "{shell}: {said:?}");
    }
    for command in [&["sync"][..], &["diff"], &["check"]] {
        let said = run(command, &broken).await;
        assert_eq!((said.code, said.out.as_str()), (2, ""));
        assert!(said.err.contains("CERT_RELOADER__HOLD"), "{said:?}");
    }
    for odd in
        [&["sync", "--timeout", "61m"][..], &["diff", "--timeout", "5"], &["diff", "-o", "xml"]]
    {
        assert_eq!(run(odd, &[]).await.code, 2, "{odd:?}");
    }
}

#[tokio::test]
async fn no_command_shows_any_of_a_key() {
    let pod = Pod::new().await;
    let (mut searcher, mut said) = (Searcher::default(), Vec::new());
    let mut issue = |name: &str, kind| {
        let pair = pod.pki.leaf(&[name]).kind(kind).issue();
        pair.key().pem_encodings().iter().for_each(|pem| searcher.add_pem(name, pem));
        pair
    };
    let good = issue("a.test", KeyKind::Rsa2048);
    pod.publish("good", &good);
    let (one, other) = (issue("b.test", KeyKind::P256), issue("b.test", KeyKind::P256));
    publish(&pod.volume("mismatched"), &one.chain_pem(), &other.key_pem());
    let swapped = issue("c.test", KeyKind::Rsa2048);
    publish(&pod.volume("swapped"), &swapped.key_pem(), &swapped.chain_pem());
    let bare: String = good.key_pem().lines().filter(|line| !line.contains('-')).collect();
    publish(&pod.volume("bare"), &bare, &bare);
    let trace = [("LOG__LEVEL", "trace")];
    for output in ["table", "json"] {
        for command in [&["diff", "-v"][..], &["sync", "-v"], &["check"]] {
            let arguments = [command, &["-o", output]].concat();
            let Said { code, out, err } = pod.run_with(&arguments, &trace).await;
            assert_eq!(code, 1);
            said.extend([out, err]);
        }
    }
    let key = format!("x{}", good.key_pem());
    let in_a_line = good.key_pem().replace('\n', "\\n");
    for misuse in
        [&["check", &*in_a_line][..], &["check", "--", &in_a_line], &["sync", "--force", &key]]
    {
        let refused = run(misuse, &[]).await;
        assert_eq!((refused.code, refused.out.as_str()), (2, ""));
        said.push(refused.err);
    }
    let said = said.join("\n");
    assert!(said.contains("\"key_mismatch\"") && said.contains("swapped: "), "{said}");
    searcher.assert_finds_nothing(&said);
}
