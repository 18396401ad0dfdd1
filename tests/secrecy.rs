//! What must never be shown is shown nowhere, whatever goes wrong.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test may panic, and read its files"
)]

#[path = "secrecy/commands.rs"]
mod commands;
#[path = "secrecy/idle.rs"]
mod idle;
#[path = "secrecy/memory.rs"]
mod memory;
#[path = "secrecy/outside.rs"]
mod outside;
#[path = "secrecy/private_key.rs"]
mod private_key;
#[path = "secrecy/searcher.rs"]
mod searcher;

use std::fmt::Debug;
use std::fs;
use std::path::Path;
use std::time::Duration;

use kong_cert_reloader::bundle::{PairSource, Pairs, Source as BundleSource};
use kong_cert_reloader::kong::AdminClient;
use kong_cert_reloader::settings::Settings;
use kong_cert_reloader::volume::{Mounted, Source};
use searcher::{RUN, Searcher};
use serde_json::{Value, json};
use tempfile::TempDir;
use testkit::{
    Answer, CertifiedPair, Fault, KeyKind, KongStandIn, Pki, SecretVolume, SidecarProcess, TestKey,
};
use tokio::process::Command;
use tokio::time::timeout;

const PROGRAM: &str = env!("CARGO_BIN_EXE_kong-cert-reloader");
const TOKEN: &str = "tok3n-of-the-admin-api-0123456789-zyxwvutsrq";
const HEADER: &str = "Bearer h3ader-value-abcdefghij-9876543210-mnop";

fn searcher(keys: &[&TestKey]) -> Searcher {
    let mut searcher = Searcher::default();
    searcher.add_text("the token", TOKEN);
    searcher.add_text("the header", HEADER);
    for key in keys {
        for pem in key.pem_encodings() {
            searcher.add_pem(&format!("a key ({:?})", key.kind()), &pem);
        }
    }
    searcher
}

fn data(name: &str) -> String {
    fs::read_to_string(format!("{}/tests/data/certs/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

/// A binding's files, and the reason that they lead to (empty: in sync).
struct Case {
    name: &'static str,
    files: Vec<(&'static str, String)>,
    reason: &'static str,
}

fn case(name: &'static str, cert: &str, key: &str, reason: &'static str) -> Case {
    Case { name, files: vec![("tls.crt", cert.to_owned()), ("tls.key", key.to_owned())], reason }
}

/// Pairs that are good, and what users do to their files.
fn cases(pki: &Pki, searcher: &mut Searcher) -> Vec<Case> {
    let mut issue = |name: &str, kind| {
        let pair = pki.leaf(&[&format!("{name}.test")]).kind(kind).issue();
        for pem in pair.key().pem_encodings() {
            searcher.add_pem(&format!("the key of {name}"), &pem);
        }
        (pair.chain_pem(), pair)
    };
    let mut cases = Vec::new();
    let (cert, pair) = issue("pkcs8", KeyKind::Rsa2048);
    cases.push(case("pkcs8", &cert, &pair.key_pem(), ""));
    let (cert, pair) = issue("pkcs1", KeyKind::Rsa3072);
    cases.push(case("pkcs1", &cert, &pair.key().pkcs1_pem().unwrap(), ""));
    let (cert, pair) = issue("sec1", KeyKind::P384);
    cases.push(case("sec1", &cert, &pair.key().sec1_pem().unwrap(), ""));
    let (cert, pair) = issue("both", KeyKind::Ed25519);
    let both = cert + &pair.key_pem();
    cases.push(Case { files: vec![("both.pem", both)], ..case("both", "", "", "") });
    let (cert, pair) = issue("dual", KeyKind::Rsa2048);
    let (ec_cert, ec) = issue("dual", KeyKind::P256);
    let mut dual = case("dual", &cert, &pair.key_pem(), "");
    dual.files.extend([("ec.crt", ec_cert), ("ec.key", ec.key_pem())]);
    cases.push(dual);

    let (cert, _) = issue("mismatched", KeyKind::P256);
    let (_, pair) = issue("mismatched", KeyKind::P256);
    cases.push(case("mismatched", &cert, &pair.key_pem(), "key_mismatch"));
    let (cert, pair) = issue("exchanged", KeyKind::P256);
    cases.push(case("exchanged", &pair.key_pem(), &cert, "swapped"));
    let (cert, pair) = issue("beside", KeyKind::P256);
    let key = pair.key_pem();
    cases.push(case("beside", &(cert + &key), &key, "foreign_block"));
    let (cert, pair) = issue("spaces", KeyKind::Rsa2048);
    cases.push(case("spaces", &cert, &pair.key_pem().replace('\n', " "), "not_pem"));
    let (cert, pair) = issue("escaped", KeyKind::Rsa2048);
    cases.push(case("escaped", &cert, &pair.key_pem().replace('\n', "\\n"), "not_pem"));
    let (cert, pair) = issue("cut", KeyKind::Rsa2048);
    cases.push(case("cut", &cert, &pair.key_pem()[..900], "not_pem"));
    let (cert, pair) = issue("label", KeyKind::P256);
    let label = pair.key_pem().replace("PRIVATE KEY", &body(&pair)[..60]);
    cases.push(case("label", &cert, &label, "not_pem"));
    let (cert, pair) = issue("bare", KeyKind::P256);
    cases.push(case("bare", &cert, &body(&pair), "not_pem"));
    for name in ["rsa-encrypted.key", "rsa-legacy-encrypted.key"] {
        searcher.add_pem(name, &data(name));
        let binding = if name.contains("legacy") { "legacy" } else { "encrypted" };
        cases.push(case(binding, &data("rsa.crt"), &data(name), "encrypted_key"));
    }
    cases
}

const CUSTOMER: &str = "Customer Of Ours, Incorporated of Somewhere";
const SIGNATURE: &str = "6985968131533a967fcc721244a979948b1066967f1e9cd65dbd8eeabe060fc3";

/// A licence, of which nothing but the dates may be told.
fn license(number: usize, searcher: &mut Searcher) -> String {
    let key = format!("{number:04}ASDFGHJKLQWERTYUIOPZXCVBNMQAZWSX_a1V");
    for (what, secret) in [("a key", &*key), ("a customer", CUSTOMER), ("a signature", SIGNATURE)] {
        searcher.add_text(&format!("{what} of a licence"), secret);
    }
    let payload = json!({
        "customer": CUSTOMER, "license_key": key, "license_creation_date": "2024-01-31",
        "license_expiration_date": "2119-01-31",
    });
    json!({"license": {"payload": payload, "signature": SIGNATURE}}).to_string()
}

/// CA certificates and licences that are good, and what users do to them.
fn others(pki: &Pki, searcher: &mut Searcher) -> Vec<Case> {
    for pem in pki.root().key().pem_encodings() {
        searcher.add_pem("the key of a CA", &pem);
    }
    let (ca, key) = (pki.root().pem(), pki.root().key().pkcs8_pem());
    let good = license(0, searcher);
    let unsigned = good.replace("\"signature\"", "\"sign\"");
    let files = [
        ("ca", "ca.crt", ca.clone(), ""),
        ("ca_with_key", "ca.crt", ca.clone() + &key, "foreign_block"),
        ("ca_key", "ca.crt", key, "foreign_block"),
        ("ca_cut", "ca.crt", ca.clone() + &ca[..200], "not_pem"),
        ("ee", "license.json", good.clone(), ""),
        ("ee_cut", "license.json", good[..good.len() - 9].to_owned(), "not_json"),
        ("ee_other", "license.json", unsigned, "not_a_license"),
    ];
    let case = |(name, file, content, reason)| Case { name, files: vec![(file, content)], reason };
    files.into_iter().map(case).collect()
}

fn body(pair: &CertifiedPair) -> String {
    pair.key_pem().lines().filter(|line| !line.contains('-')).collect()
}

const SETTINGS: [(&str, &str); 10] = [
    ("LOG__LEVEL", "trace"),
    ("DEBOUNCE", "10ms"),
    ("POLL_INTERVAL", "200ms"),
    ("RESYNC_INTERVAL", "300ms"),
    ("ADMIN__TIMEOUT", "1s"),
    ("ADMIN__HEADERS__X_API_KEY", HEADER),
    ("CERTIFICATES__BOTH__CERT", "both.pem"),
    ("CERTIFICATES__BOTH__KEY", "both.pem"),
    ("CERTIFICATES__DUAL__CERT_ALT", "ec.crt"),
    ("CERTIFICATES__DUAL__KEY_ALT", "ec.key"),
];

/// Runs the program over everything that may go wrong, and returns what could be read meanwhile.
async fn everything_said(
    format: &str,
    credential: (&str, &str),
    searcher: &mut Searcher,
) -> Vec<String> {
    let pki = Pki::new();
    let kong = KongStandIn::start().await;
    kong.require_header("Kong-Admin-Token", TOKEN, 401);
    let certs = tempfile::tempdir().unwrap();
    let volume = |name: &str| SecretVolume::mount(certs.path().join(name));
    kong.model().enterprise(true);
    let mut cases = cases(&pki, searcher);
    let others = others(&pki, searcher);
    let settings_of_others: Vec<(String, String)> = others
        .iter()
        .map(|Case { name, files, .. }| {
            let group = if name.starts_with("ca") { "CA_CERTIFICATES" } else { "LICENSES" };
            let path = certs.path().join(name).join(files[0].0);
            let setting = format!("{group}__{}__FILE", name.to_uppercase());
            (setting, path.to_str().unwrap().to_owned())
        })
        .collect();
    cases.extend(others);
    for case in &cases {
        let files: Vec<_> =
            case.files.iter().map(|(name, content)| (*name, content.as_bytes())).collect();
        volume(case.name).publish(&files);
    }
    let url = kong.admin_url();
    let mut settings = SETTINGS.to_vec();
    settings.extend([("ADMIN__URL", &*url), ("CERTS_DIR", certs.path().to_str().unwrap())]);
    settings.extend([("LOG__FORMAT", format), credential]);
    settings.extend(settings_of_others.iter().map(|(name, path)| (name.as_str(), path.as_str())));
    let mut sidecar = SidecarProcess::start(PROGRAM, &settings).await;
    for Case { name, reason, .. } in &cases {
        let state = if reason.is_empty() { "in_sync" } else { "invalid" };
        let shown = sidecar.until(name, |shown| shown["state"] == state).await;
        assert_eq!(shown["reason"].as_str().unwrap_or_default(), *reason, "{name}: {shown}");
    }
    let mut said = pages(&sidecar).await;
    for (round, (fault, state)) in (1..).zip(faults(searcher)) {
        kong.inject(fault.always());
        let pair = pki.leaf(&["pkcs8.test"]).kind(KeyKind::Rsa2048).issue();
        let (cert, key) = (pair.chain_pem(), pair.key_pem());
        searcher.add_pem("a renewed key", &key);
        volume("pkcs8").publish(&[("tls.crt", cert.as_bytes()), ("tls.key", key.as_bytes())]);
        volume("ee").publish(&[("license.json", license(2 * round, searcher).as_bytes())]);
        sidecar.until_state("pkcs8", state).await;
        sidecar.until_state("ee", state).await;
        said.extend(pages(&sidecar).await);
        kong.clear_faults();
        // What was refused is sent again once the file changes.
        let cert = pki.leaf(&["pkcs8.test"]).key(pair.key()).issue().chain_pem();
        volume("pkcs8").publish(&[("tls.crt", cert.as_bytes()), ("tls.key", key.as_bytes())]);
        let successor = license(2 * round + 1, searcher);
        volume("ee").publish(&[("license.json", successor.as_bytes())]);
        sidecar.until_state("pkcs8", "in_sync").await;
        sidecar.until_state("ee", "in_sync").await;
    }
    assert!(sidecar.terminate().await.success());
    said.extend(sidecar.lines());
    said
}

/// Kong's answers with keys where none belongs, and the state that each leads to.
fn faults(searcher: &mut Searcher) -> Vec<(Fault, &'static str)> {
    let key = TestKey::new(KeyKind::P521);
    let pem = key.pkcs8_pem();
    searcher.add_pem("an echoed key", &pem);
    let named = |status, message: &str| {
        let fields = json!({"key": pem, "@entity": [TOKEN]});
        let body =
            json!({"name": "schema violation", "code": 2, "message": message, "fields": fields});
        Answer::json(status, &body)
    };
    let message = format!("schema violation (key: invalid key: {pem})");
    vec![
        (Fault::instead(named(400, &message)).only("PUT"), "refused"),
        (Fault::instead(named(400, "schema violation")).only("PUT"), "refused"),
        (Fault::instead(named(409, &message)).only("PUT"), "pending"),
        (Fault::instead(named(500, &message)).only("PUT"), "unreachable"),
        (Fault::instead(named(404, &message)).only("PUT"), "unreachable"),
        (Fault::instead(named(401, TOKEN)), "unauthorized"),
        (Fault::instead(Answer::page(&format!("400 {pem}"))), "unreachable"),
        (Fault::other_json(&json!({"key": pem, "data": pem})), "unreachable"),
        (
            Fault::other_json(&json!({"data": [{"id": pem, "cert": pem, "key": pem}]})),
            "unreachable",
        ),
        (Fault::other_json(&json!([pem, TOKEN])).only("PUT"), "unreachable"),
        (Fault::redirect(&format!("http://{TOKEN}/{HEADER}")), "unreachable"),
        (Fault::cut_json().only("PUT"), "unreachable"),
        (Fault::cut_short().only("PUT"), "unreachable"),
    ]
}

async fn pages(sidecar: &SidecarProcess) -> Vec<String> {
    let mut said = Vec::new();
    for path in ["/status", "/metrics", "/livez", "/readyz", "/", "/nothing"] {
        said.push(sidecar.page(path).await.1);
    }
    said
}

#[tokio::test]
async fn nothing_that_is_said_or_served_holds_a_secret_with_the_token_in_the_environment() {
    let mut searcher = searcher(&[]);
    let said = everything_said("json", ("ADMIN__TOKEN", TOKEN), &mut searcher).await;
    searcher.assert_finds_nothing(&said.join("\n"));
}

#[tokio::test]
async fn nothing_that_is_said_or_served_holds_a_secret_with_the_token_in_a_file() {
    let home = tempfile::tempdir().unwrap();
    let token = home.path().join("token");
    fs::write(&token, format!("{TOKEN}\n")).unwrap();
    let mut searcher = searcher(&[]);
    let credential = ("ADMIN__TOKEN_FILE", token.to_str().unwrap());
    let said = everything_said("text", credential, &mut searcher).await;
    searcher.assert_finds_nothing(&said.join("\n"));
}

#[tokio::test]
async fn credentials_that_cannot_be_used_are_told_without_them() {
    let kong = KongStandIn::start().await;
    let pki = Pki::new();
    let home = tempfile::tempdir().unwrap();
    let file = |name: &str, content: &str| {
        let path = home.path().join(name);
        fs::write(&path, content).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let (pair, client) = (pki.pair(&["web.test"]), pki.pair(&["client.test"]));
    let searcher = searcher(&[pair.key(), client.key()]);
    let key = client.key_pem();
    let cases = [
        vec![("ADMIN__TOKEN_FILE", file("two-lines", &format!("{TOKEN}\n{TOKEN}\n")))],
        vec![("ADMIN__TOKEN_FILE", file("key", &key))],
        vec![("ADMIN__HEADERS_FILE", file("no-colon", &format!("X-One: {HEADER}\n{HEADER}\n")))],
        vec![("ADMIN__HEADERS_FILE", file("odd", &format!("X-One: {HEADER}\u{7f}\n")))],
        vec![
            ("ADMIN__CLIENT_CERT_FILE", file("other.crt", &pki.pair(&["c.test"]).chain_pem())),
            ("ADMIN__CLIENT_KEY_FILE", file("client.key", &key)),
        ],
        vec![("ADMIN__CA_FILE", file("ca-with-key", &key))],
    ];
    let certs = home.path().join("certs");
    SecretVolume::mount(certs.join("web")).publish_pair(&pair);
    let url = kong.admin_url().replace("http://", "https://");
    let ca = file("ca", &pki.root().pem());
    for case in cases {
        let mut settings = vec![("LOG__LEVEL", "trace"), ("ADMIN__URL", &url)];
        settings.extend([("CERTS_DIR", certs.to_str().unwrap()), ("ADMIN__CA_FILE", &ca)]);
        settings.extend(case.iter().map(|(name, path)| (*name, path.as_str())));
        let sidecar = SidecarProcess::start(PROGRAM, &settings).await;
        let shown = sidecar.until_state("web", "unauthorized").await;
        assert_eq!(shown["reason"], "credentials_unusable", "{case:?}: {shown}");
        let said = [pages(&sidecar).await, sidecar.lines()].concat().join("\n");
        searcher.assert_finds_nothing(&said);
    }
}

#[tokio::test]
async fn wrong_settings_are_told_without_the_secrets_in_them() {
    let key = TestKey::new(KeyKind::Rsa2048);
    let searcher = searcher(&[&key]);
    let pem = key.pkcs8_pem();
    let with = |start: &str, end: &str| format!("{start}{TOKEN}{end}");
    let cases = [
        vec![("ADMIN__TOKEN", with("", "\n\n"))],
        vec![("ADMIN__TOKEN", with("ä", ""))],
        vec![("ADMIN__TOKEN", pem.clone())],
        vec![("ADMIN__TOKEN", TOKEN.to_owned()), ("ADMIN__TOKEN_FILE", "/token".to_owned())],
        vec![("ADMIN__TOKENS", TOKEN.to_owned())],
        vec![("ADMIN__HEADERS__X_API_KEY", with("Bearer ", "\u{1}"))],
        vec![("ADMIN__HEADERS__CONTENT_TYPE", HEADER.to_owned())],
        vec![("ADMIN__HEADERS", HEADER.to_owned())],
        vec![("ADMIN__URL", with("https://user:", "@kong.example.com"))],
        vec![("ADMIN__URL", with("http://127.0.0.1:8001/?token=", ""))],
        vec![("ADMIN__URL", with("", "@localhost:8001"))],
        vec![("ADMIN__CLIENT_KEY_FILE", pem.clone())],
        vec![("CERTIFICATES__WEB__KEY", pem.clone())],
        vec![("CERTIFICATES__WEB__ID", pem.clone())],
        vec![("CERTS_DIR", pem.clone())],
        vec![("CONFIG", pem)],
    ];
    for case in &cases {
        let (code, said) = refused(case).await;
        assert_eq!(code, Some(2), "{case:?}: {said}");
        searcher.assert_finds_nothing(&said);
    }
}

#[tokio::test]
async fn a_key_in_the_place_of_a_path_is_not_told() {
    let key = TestKey::new(KeyKind::P256);
    let searcher = searcher(&[&key]);
    let in_one_line = key.pkcs8_pem().replace('\n', "\\n");
    for name in [
        "CERTIFICATES__WEB__KEY",
        "CERTIFICATES__WEB__DIR",
        "CERTS_DIR",
        "ADMIN__TOKEN_FILE",
        "ADMIN__HEADERS_FILE",
        "ADMIN__CLIENT_KEY_FILE",
        "ADMIN__CA_FILE",
        "CONFIG",
    ] {
        let (code, said) = refused(&[(name, in_one_line.clone())]).await;
        searcher.assert_finds_nothing(&said);
        assert_eq!(code, Some(2), "{name}: {said}");
    }
}

#[tokio::test]
async fn a_wrong_file_of_settings_is_told_without_the_secrets_in_it() {
    let key = TestKey::new(KeyKind::Rsa2048);
    let searcher = searcher(&[&key]);
    let pem = key.pkcs8_pem();
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("settings.yaml");
    for yaml in [
        format!("admin: {{token: \"{TOKEN}}}\n"),
        format!("admin: {{token: [{TOKEN}, {TOKEN}]}}\n"),
        format!("admin: {{token: {{{TOKEN}: {TOKEN}}}}}\n"),
        format!("admin: {TOKEN}\n"),
        format!("admin:\n  token: {TOKEN}\n  token: {TOKEN}\n"),
        format!("admin:\n  headers: {HEADER}\n"),
        format!("admin:\n  token: &{TOKEN} *{TOKEN}\n"),
        format!("admin:\n  token: !{TOKEN} x: y\n"),
        format!("admin:\n  token: |\n    {}\n", pem.replace('\n', "\n    ")),
        format!("admin:\n  token: {TOKEN}\n {HEADER}\n"),
        format!("[{TOKEN}]"),
        TOKEN.to_owned(),
        pem,
    ] {
        fs::write(&path, &yaml).unwrap();
        let (code, said) = refused(&[("CONFIG", path.to_str().unwrap().to_owned())]).await;
        assert_eq!(code, Some(2), "{yaml}: {said}");
        searcher.assert_finds_nothing(&said);
    }
}

async fn refused(settings: &[(&str, String)]) -> (Option<i32>, String) {
    let mut command = Command::new(PROGRAM);
    command.env_clear().env("CERT_RELOADER__LISTEN", "127.0.0.1:0").kill_on_drop(true);
    for (name, value) in settings {
        command.env(format!("CERT_RELOADER__{name}"), value);
    }
    let output = timeout(Duration::from_secs(20), command.output()).await;
    let output = output.expect("an end").unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8_lossy(&said).into_owned())
}

/// Everything of ours that can be printed and holds a secret; the pair is of the files in `home`.
fn holders(home: &Path) -> Vec<Box<dyn Debug>> {
    let files: Vec<_> = ["tls.crt", "tls.key"].map(|name| home.join(name)).into();
    let [cert, key] = [&files[0], &files[1]].map(|path| fs::read(path).unwrap());
    let main = PairSource {
        cert: BundleSource { path: &files[0], bytes: &cert },
        key: BundleSource { path: &files[1], bytes: &key },
    };
    let bundle = Pairs::parse(main, None).unwrap();
    let vars = [("ADMIN__TOKEN", TOKEN), ("ADMIN__HEADERS__X_API_KEY", HEADER)];
    let vars = vars.map(|(name, value)| (format!("CERT_RELOADER__{name}").into(), value.into()));
    let settings = Settings::from_env(vars).unwrap();
    let client = AdminClient::new(&settings.admin, settings.admin.url.as_ref().unwrap());
    let generation = Source::new(files).read(&Mounted).unwrap();
    let (facts, admin) = (bundle.facts().clone(), settings.admin.clone());
    vec![
        Box::new(facts),
        Box::new(bundle),
        Box::new(generation),
        Box::new(admin),
        Box::new(settings),
        Box::new(client),
    ]
}

fn home_of(pair: &CertifiedPair) -> TempDir {
    let home = tempfile::tempdir().unwrap();
    fs::write(home.path().join("tls.crt"), pair.chain_pem()).unwrap();
    fs::write(home.path().join("tls.key"), pair.key_pem()).unwrap();
    home
}

#[test]
fn debug_of_what_holds_a_secret_shows_none() {
    let pair = Pki::new().leaf(&["a.test"]).kind(KeyKind::Rsa2048).issue();
    let (searcher, home) = (searcher(&[pair.key()]), home_of(&pair));
    for holder in holders(home.path()) {
        searcher.assert_finds_nothing(&format!("{holder:?} {holder:#?}"));
    }
}

/// Set to the directory of a pair in the process that is to panic.
const PANICS: &str = "SECRECY_PANICS";

/// As where a result that nobody expected is unwrapped, with keys on the stack.
#[tokio::test]
async fn a_panic_shows_no_secret_of_what_it_is_about() {
    if let Some(home) = std::env::var_os(PANICS) {
        return panic_over(&holders(Path::new(&home)));
    }
    let pair = Pki::new().leaf(&["a.test"]).kind(KeyKind::Rsa2048).issue();
    let (searcher, home) = (searcher(&[pair.key()]), home_of(&pair));
    let mut this = Command::new(std::env::current_exe().unwrap());
    this.args(["--exact", "a_panic_shows_no_secret_of_what_it_is_about", "--nocapture"]);
    this.env(PANICS, home.path()).env("RUST_BACKTRACE", "full");
    let output = timeout(Duration::from_secs(30), this.output()).await.expect("an end").unwrap();
    let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    assert!(said.contains("an `Err` value: ") && said.contains("Settings"), "{said}");
    searcher.assert_finds_nothing(&said);
}

fn panic_over(holders: &[Box<dyn Debug>]) {
    panic!("an `Err` value: {holders:?}");
}

#[test]
fn what_is_planted_is_found_in_every_encoding() {
    let key = TestKey::new(KeyKind::Rsa2048);
    let searcher = searcher(&[&key]);
    let pem = key.pkcs8_pem();
    let escaped: Value = json!({ "message": pem });
    let der = key.pkcs8_der();
    let in_a_row = |der: &[u8]| hex::encode(der);
    for planted in [
        pem.clone(),
        pem.replace('\n', "\r\n"),
        pem.replace('\n', ""),
        escaped.to_string(),
        format!("{pem:?}"),
        key.pkcs1_pem().unwrap(),
        in_a_row(der),
        in_a_row(der).to_uppercase(),
        format!("{der:?}"),
        format!("{der:#?}"),
        testkit::pem_block("OTHER", &[b"x", der].concat()),
        testkit::pem_block("OTHER", &[b"xy", der].concat()),
        testkit::pem_block("OTHER", pem.as_bytes()),
        format!("GET / HTTP/1.1\r\nkong-admin-token: {TOKEN}\r\n"),
        testkit::pem_block("OTHER", format!("x {TOKEN} y").as_bytes()),
        in_a_row(HEADER.as_bytes()),
    ] {
        let text = format!("2026-11-22T05:11:20Z INFO nothing {planted} to see");
        assert!(searcher.finds(&text).is_some(), "{planted}");
    }
    let body: String = pem.lines().filter(|line| !line.contains('-')).collect();
    for place in (0..body.len() - RUN).step_by(7) {
        let run = &body[place..place + RUN];
        assert!(searcher.finds(&format!("a={run} b")).is_some(), "{run} at {place}");
        assert!(searcher.finds(&format!("a={} b", &run[1..])).is_none(), "{run} at {place}");
    }
    assert_eq!(searcher.finds(&"nothing to see here\n".repeat(100)), None);
}
