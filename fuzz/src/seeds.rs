//! Inputs to begin with, made of what is there: recordings of Kong, and certificates of every shape.

use std::fs;
use std::path::{Path, PathBuf};

use kong_cert_reloader::desired::Own;
use kong_cert_reloader::names::Instance;
use kong_cert_reloader::settings::SETTINGS;
use serde_json::Value;

use super::BETWEEN;

/// The name of a seed, and the input.
pub type Seed = (String, Vec<u8>);

/// Of a target, by its name.
pub fn of(target: &str) -> Vec<Seed> {
    match target {
        "answers" => answers(),
        "bundles" => bundles(),
        "declarative" => declarative(),
        "settings" => settings(),
        _ => panic!("{target} is no target"),
    }
}

/// Writes them where `cargo fuzz` looks for inputs.
pub fn write(target: &str) {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target);
    fs::create_dir_all(&corpus).unwrap();
    for (name, input) in of(target) {
        fs::write(corpus.join(name.replace('/', "-")), input).unwrap();
    }
}

fn joined<T: AsRef<[u8]>>(parts: &[T]) -> Vec<u8> {
    parts.iter().map(AsRef::as_ref).collect::<Vec<_>>().join(BETWEEN)
}

fn data(directory: &str) -> PathBuf {
    // Whichever of the two crates this is built in.
    let mut roots = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().take(2);
    roots.find_map(|root| root.join("tests/data").join(directory).canonicalize().ok()).unwrap()
}

/// In the order of their names.
fn files(directory: &str, end: &str) -> Vec<(String, Vec<u8>)> {
    let entries = fs::read_dir(data(directory)).unwrap().map(|entry| entry.unwrap().path());
    let mut paths: Vec<_> = entries.filter(|path| path.to_str().unwrap().ends_with(end)).collect();
    paths.sort();
    let name = |path: &Path| path.file_name().unwrap().to_str().unwrap().to_owned();
    paths.iter().map(|path| (name(path), fs::read(path).unwrap())).collect()
}

/// Each file alone and with its key, each certificate as DER, two pairs, a licence.
fn bundles() -> Vec<Seed> {
    let mut seeds = Vec::new();
    for directory in ["certs", "kong-contract/pem"] {
        let keys = files(directory, ".key");
        // Of those in `certs` that have none of their own name.
        let last = keys.iter().rfind(|(name, _)| name == "rsa.key").unwrap_or(&keys[0]);
        seeds.extend(keys.iter().cloned());
        for (name, cert) in files(directory, ".crt") {
            let (_, key) = keys.iter().rfind(|(key, _)| is_of(key, &name)).unwrap_or(last);
            seeds.push((format!("{name}-pair"), joined(&[&cert, key])));
            if let Ok(Some((rustls_pemfile::Item::X509Certificate(der), _))) =
                rustls_pemfile::read_one_from_slice(&cert)
            {
                seeds.push((format!("{name}-der"), [b"DER", der.as_ref()].concat()));
            }
            seeds.push((name, cert));
        }
        seeds.extend(files(directory, ".pem"));
    }
    let file = |name: &str| fs::read(data("kong-contract/pem").join(name)).unwrap();
    let two = ["a.crt", "a.key", "ec.crt", "ec.key"].map(file);
    seeds.push(("two-pairs".to_owned(), joined(&two)));
    let license = br#"{"license":{"version":"1","payload":{"license_creation_date":"2026-02-01","license_expiration_date":"2030-01-31","customer":"c"},"signature":"s"}}"#;
    seeds.push(("license.json".to_owned(), license.to_vec()));
    seeds
}

/// `a.key` is of `a.crt`, and of `a-chain.crt`.
fn is_of(key: &str, cert: &str) -> bool {
    let name = key.trim_end_matches(".key");
    cert.strip_prefix(name).is_some_and(|rest| rest.starts_with(['.', '-']))
}

/// Every setting alone, all that there are in a file, mistakes, and YAML of every kind.
fn settings() -> Vec<Seed> {
    let value = |name: &str, default: &str| match name {
        _ if !default.is_empty() && !default.contains(' ') => default.to_owned(),
        name if name.ends_with("ID") => "22222222-2222-4222-8222-222222222222".to_owned(),
        name if name.ends_with("SNIS") => "a.test, *.b.test".to_owned(),
        name if name.ends_with("TOKEN") => "s3cret-t0ken".to_owned(),
        "LISTEN" => "[::1]:9797".to_owned(),
        "PROXY__TIMEOUT" => "11s".to_owned(),
        _ => "/files/x".to_owned(),
    };
    let named = SETTINGS.iter().filter(|setting| setting.name != "CONFIG").map(|setting| {
        (setting.name.replace("<NAME>", "WEB"), value(setting.name, setting.default))
    });
    let variables: Vec<String> =
        named.clone().map(|(name, value)| format!("CERT_RELOADER__{name}={value}\0")).collect();
    let mut seeds: Vec<Seed> = variables
        .iter()
        .enumerate()
        .map(|(at, line)| (format!("variable-{at}"), line.clone().into_bytes()))
        .collect();
    seeds.push(("variables".to_owned(), variables.concat().into_bytes()));
    let mut file = |name: &str, text: &str| {
        seeds.push((name.to_owned(), joined(&["CERT_RELOADER__LOG__LEVEL=debug\0", text])));
    };
    file(
        "tree",
        "admin: {url: 'http://127.0.0.1:8001', headers: {x_a: s3cret-header}}\ncertificates:\n  web: &web\n    dir: /certs/web\n    snis: [a.test, \"*.b.test\"]\n    take_snis: true\nca_certificates: {clients: {file: /ca.crt}}\ndebounce: 250ms\nhold: ~\n",
    );
    file(
        "mistakes",
        "admin:\n  timeot: 3\n  timeout: 1.5\ncertificates: [web]\nhold: {a: b}\n? [a]\n: b\n",
    );
    file("two-documents", "debounce: 1s\n---\ndebounce: 2s\n");
    file("tags", "!!map {debounce: !!str 1s, hold: !!int 3, listen: !x y}\n");
    file(
        "pem",
        "admin:\n  token: |\n    -----BEGIN PRIVATE KEY-----\n    AAAA\n    -----END PRIVATE KEY-----\n",
    );
    file("deep", "- - - - - - - - - - - - - - - - - - - - a\n");
    file("aliases", "a: &a [x, x]\nb: &b [*a, *a]\nc: &c [*b, *b]\nhold: *c\n");
    seeds
}

/// The configurations that Kong was sent, and what it exported.
fn declarative() -> Vec<Seed> {
    let mut seeds = Vec::new();
    for (name, recording) in recordings("dbless") {
        let sent = &recording["request"]["body"];
        let exported = recording["response"]["body"]["config"].as_str();
        let sent = sent["config"].as_str().map_or_else(|| sent.to_string(), str::to_owned);
        for (kind, text) in [("sent", Some(&*sent)), ("exported", exported)] {
            let Some(text) = text.filter(|text| *text != "null") else { continue };
            let head = ["03", "s\u{7}", "\u{11}!"][seeds.len() % 3];
            seeds.push((format!("{name}-{kind}"), format!("{head}{text}").into_bytes()));
        }
    }
    for (name, text) in [
        (
            "odd",
            "_format_version: '3.0'\n_transform: false\nservices:\n- name: s\n  port: 0o17\n  retries: 010\n  path: 1:30\n  url: 2020-01-01\n  tags: [~, .5, 1e3, yes, 0x1F, 0b11, 1_000, '']\n",
        ),
        (
            "merges",
            "_format_version: \"3.0\"\nroutes:\n- &route {name: a, paths: [/a]}\n- <<: *route\n  name: b\n- {<<: [*route, *route], id: c}\n",
        ),
        (
            "texts",
            "_format_version: '3.0'\nplugins:\n- config:\n    pem: |\n      a\n      b\n    folded: >-\n      c\n\n      d\n    quoted: \"\\N\\L\\x41\"\n",
        ),
        (
            "certificates",
            "_format_version: '3.0'\ncertificates:\n- cert: x\n  key: y\n  snis: [{name: a.test}, b.test]\n- {id: 11111111-1111-4111-8111-111111111111, tags: [ours], cert: '{vault://env/a}'}\n- {id: 22222222-2222-4222-8222-222222222222}\nsnis:\n- {name: c.test, certificate: 11111111-1111-4111-8111-111111111111}\n- {name: d.test, certificate: {id: 22222222-2222-4222-8222-222222222222}, tags: [t]}\nca_certificates: {}\nlicenses: [{payload: '{}'}]\n",
        ),
        (
            "aliases",
            "_format_version: '3.0'\na: &a [x, x]\nb: &b [*a, *a]\nc: &c [*b, *b]\nd: [*c, *c]\n",
        ),
        (
            "deep",
            "{\"_format_version\":\"3.0\",\"a\":[[[[[[[[[[{\"a\":{\"a\":{\"a\":[1e400,-0.0,1E+2]}}}]]]]]]]]]]}",
        ),
    ] {
        seeds.push((name.to_owned(), format!("s\u{3}{text}").into_bytes()));
    }
    seeds
}

/// Each answer alone beside a root, and runs in which much is answered.
fn answers() -> Vec<Seed> {
    let own = Own::new(&Instance::default(), None);
    let own = own.certificate(&"web".parse().unwrap()).to_string();
    let pems = files("kong-contract/pem", "");
    let part = |call: &str, response: &Value| {
        let body = &response["body"];
        let body = body.as_str().map_or_else(|| body.to_string(), str::to_owned);
        let kind = if response["body"].is_string() { "text" } else { "json" };
        // As if it were of ours.
        let body = with_pem(&body, &pems).replace("11111111-1111-4111-8111-111111111111", &own);
        format!("{call} {} {kind}\n{body}", response["status"])
    };
    let mut seeds = Vec::new();
    for kind in ["db", "dbless"] {
        let recordings = recordings(kind);
        let root = part("GET /", &recordings[0].1["response"]);
        let mut all = vec!["take".to_owned()];
        for (name, recording) in &recordings[1..] {
            let request = &recording["request"];
            let path = request["path"].as_str().unwrap();
            let list = path.split(['?', '/']).nth(1).unwrap_or_default();
            // The ids are others: what fits is found by the list.
            let call = format!("{} /{list}", request["method"].as_str().unwrap());
            let answer = part(&call, &recording["response"]);
            let alone = [["force", "take", "dry-run", "declared"][seeds.len() % 4], &answer, &root];
            seeds.push((format!("{kind}-{name}"), joined(&alone)));
            all.push(answer);
        }
        all.push(root);
        seeds.push((kind.to_owned(), joined(&all)));
    }
    for (name, head) in [
        (
            "down",
            "GET /status 200 json\n{\"configuration_hash\":\"0d2b0c5cb0d2b0c5cb0d2b0c5cb0d2b0\"}",
        ),
        ("proxy", "GET / 404 json\n{\"message\":\"no Route matched with those values\"}"),
        ("redirect", "GET / 301 text\n"),
        (
            "html",
            "GET / 200 text\n<html><title>400 The plain HTTP request was sent to HTTPS port</title>",
        ),
        ("busy", "GET / 429 json\n{}"),
    ] {
        seeds.push((name.to_owned(), joined(&["workspace", head])));
    }
    let root = "GET / 200 json\n{\"configuration\":{\"database\":\"postgres\"}}";
    let circle = "GET /ca_certificates 200 json\n{\"data\":[],\"offset\":\"a\"}";
    seeds.push(("circle".to_owned(), joined(&["", circle, root])));
    seeds
}

fn recordings(kind: &str) -> Vec<(String, Value)> {
    let recorded = files(&format!("kong-contract/{kind}"), ".json");
    recorded
        .into_iter()
        .map(|(name, text)| (name, serde_json::from_slice(&text).unwrap()))
        .collect()
}

/// Bodies name the files that stand in them.
fn with_pem(body: &str, pems: &[(String, Vec<u8>)]) -> String {
    let mut body = body.to_owned();
    if !body.contains("@pem/") {
        return body;
    }
    for (name, pem) in pems {
        let text = serde_json::to_string(&String::from_utf8_lossy(pem)).unwrap();
        body = body.replace(&format!("\"@pem/{name}\""), &text);
    }
    body
}
