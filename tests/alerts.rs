//! The alerts: that Prometheus takes them, when they fire, and that all they name is there.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

#[path = "alerts/query.rs"]
mod query;
#[path = "readme/vocabulary.rs"]
mod vocabulary;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use kong_cert_reloader::settings::SETTINGS;
use kong_cert_reloader::status::State;
use query::Exported;
use vocabulary::reasons;
use yaml_rust2::{Yaml, YamlLoader};

const RULES: &str = "helm/kong-cert-reloader/files/alerts.yaml";
const RUNBOOK: &str = include_str!("../docs/runbook.md");
const RUNBOOK_URL: &str =
    "https://github.com/kong-cert-reloader/kong-cert-reloader/blob/main/docs/runbook.md#";

fn here() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

#[expect(clippy::disallowed_methods, reason = "no mounted file")]
fn text(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap()
}

fn read(path: &Path) -> Yaml {
    YamlLoader::load_from_str(&text(path)).unwrap().remove(0)
}

fn items(list: &Yaml) -> impl Iterator<Item = &Yaml> {
    list.as_vec().into_iter().flatten()
}

struct Alert {
    name: String,
    rule: Yaml,
}

impl Alert {
    fn text(&self, key: &str) -> &str {
        let found = self.rule[key].as_str();
        found.unwrap_or_else(|| panic!("{} has no {key}", self.name))
    }

    fn annotation(&self, key: &str) -> &str {
        let found = self.rule["annotations"][key].as_str();
        found.unwrap_or_else(|| panic!("{} has no {key}", self.name))
    }
}

fn alerts() -> Vec<Alert> {
    let rules = read(&here().join(RULES));
    let rules = items(&rules["groups"]).flat_map(|group| items(&group["rules"]));
    let alert = |rule: &Yaml| Alert {
        name: rule["alert"].as_str().unwrap().to_owned(),
        rule: rule.clone(),
    };
    rules.map(alert).collect()
}

fn unit_tests() -> Vec<PathBuf> {
    let all = std::fs::read_dir(here().join("tests/data/alerts")).unwrap();
    all.map(|entry| entry.unwrap().path()).collect()
}

/// Fails unless promtool is content; tells where there is none.
fn promtool(arguments: &[&str], files: &[PathBuf]) {
    let Ok(checked) = Command::new("promtool").args(arguments).args(files).output() else {
        testkit::missing("promtool is not installed; .ci/run fetches it");
        return;
    };
    let told = [checked.stdout, checked.stderr].concat();
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&told));
}

#[test]
fn prometheus_takes_the_rules() {
    promtool(&["check", "rules", "--lint=all", "--lint-fatal"], &[here().join(RULES)]);
}

#[test]
fn each_alert_fires_when_it_should_and_not_otherwise() {
    promtool(&["test", "rules"], &unit_tests());
}

#[test]
fn each_alert_is_seen_firing_and_seen_silent() {
    let files: Vec<Yaml> = unit_tests().iter().map(|path| read(path)).collect();
    let tests = files.iter().flat_map(|file| items(&file["tests"]));
    let looks: Vec<&Yaml> = tests.flat_map(|test| items(&test["alert_rule_test"])).collect();
    let seen = |fires: bool| -> BTreeSet<&str> {
        let of = looks.iter().filter(|look| items(&look["exp_alerts"]).next().is_some() == fires);
        of.map(|look| look["alertname"].as_str().unwrap()).collect()
    };
    let alerts = alerts();
    let all: BTreeSet<&str> = alerts.iter().map(|alert| &*alert.name).collect();
    assert_eq!(seen(true), all, "what fires");
    assert_eq!(seen(false), all, "what is silent");
}

#[test]
fn each_alert_says_how_bad_it_is_what_is_wrong_and_where_to_read_on() {
    let mut names = BTreeSet::new();
    for alert in alerts() {
        let name = &*alert.name;
        assert!(name.starts_with("KongCertReloader"), "{name}");
        assert!(names.insert(name.to_owned()), "{name} twice: values could not tell them apart");
        assert!(alert.text("for").ends_with(['m', 'h']), "{name}");
        let severity = alert.rule["labels"]["severity"].as_str().unwrap();
        assert!(["critical", "warning", "info"].contains(&severity), "{name}: {severity}");
        assert!(!alert.annotation("summary").is_empty(), "{name}");
        let description = alert.annotation("description");
        let aggregated = ["KongCertReloaderAbsent"].contains(&name);
        for label in ["pod", "namespace"] {
            let told = description.contains(&format!("$labels.{label}"));
            assert!(told || aggregated, "{name}: which {label}?");
        }
        assert_eq!(
            alert.annotation("runbook_url"),
            format!("{RUNBOOK_URL}{}", name.to_lowercase())
        );
    }
    let headings: Vec<&str> = RUNBOOK.lines().filter_map(|line| line.strip_prefix("## ")).collect();
    let told: BTreeSet<String> = headings
        .iter()
        .filter(|heading| heading.starts_with("KongCertReloader"))
        .map(|heading| (*heading).to_owned())
        .collect();
    assert_eq!(told, names, "the runbook has a section for each alert, and for no other");
}

#[test]
fn each_name_in_an_alert_exists() {
    let exported = Exported::now();
    for alert in alerts() {
        let expr = alert.text("expr");
        assert_eq!(exported.mistakes(expr), [""; 0], "{}: {expr}", alert.name);
        for annotation in ["summary", "description"] {
            let text = alert.annotation(annotation);
            for query in queries(text) {
                assert_eq!(exported.mistakes(&query), [""; 0], "{}: {query}", alert.name);
            }
            for label in labels(text) {
                assert!(exported.has_label(label), "{}: no label {label}", alert.name);
            }
        }
    }
}

/// What an annotation asks Prometheus, with something in the place of what it fills in.
fn queries(annotation: &str) -> Vec<String> {
    let printed = annotation.split("printf \"").skip(1);
    let formats = printed.map(|rest| rest.split("\" $labels").next().unwrap());
    formats.map(|format| format.replace("\\\"", "\"").replace("%q", "\"x\"")).collect()
}

/// The labels that an annotation speaks of.
fn labels(annotation: &str) -> impl Iterator<Item = &str> {
    let of_alert = annotation.split("$labels.").skip(1);
    let of_sample = annotation.split("label \"").skip(1);
    let is_end = |letter: char| !letter.is_ascii_alphanumeric() && letter != '_';
    of_alert.chain(of_sample).map(move |rest| rest.split(is_end).next().unwrap())
}

#[test]
fn the_runbook_knows_each_reason_why_kong_refuses_or_does_not_serve() {
    for (state, alert) in
        [("refused", "KongCertReloaderRefused"), ("not_served", "KongCertReloaderNotServed")]
    {
        let (_, rest) = RUNBOOK.split_once(&format!("\n## {alert}\n")).unwrap();
        let section = rest.split("\n## ").next().unwrap();
        // That one has an alert of its own.
        for reason in reasons(state).into_iter().filter(|reason| *reason != "contested") {
            assert!(section.contains(&format!("`{reason}`")), "{alert}: what is {reason}?");
        }
    }
}

#[test]
fn each_name_in_the_runbook_exists() {
    let outside: String = RUNBOOK.split("```").step_by(2).collect();
    let states = State::ALL.map(State::as_str);
    let reasons: BTreeSet<&str> = states.iter().flat_map(|state| reasons(state)).collect();
    let settings: BTreeSet<&str> = SETTINGS.iter().map(|setting| setting.name).collect();
    // Of Kong, decK and Vault.
    let others = ["updated_at", "select_tags", "max_ttl", "ssl_cert"];
    for word in outside.split('`').skip(1).step_by(2) {
        let is_of = |letters: fn(&u8) -> bool| word.bytes().all(|letter| letters(&letter));
        if word.contains('_') && is_of(|letter| letter.is_ascii_lowercase() || *letter == b'_') {
            let known = reasons.contains(word) || states.contains(&word) || others.contains(&word);
            assert!(known, "{word} is no state or reason");
        }
        if is_of(|letter| letter.is_ascii_uppercase() || b"_<>".contains(letter)) {
            let is_end = |name: &&str| *name == word || name.ends_with(&format!("__{word}"));
            let is_blank = ["POD", "BINDING", "SECRET"].contains(&word);
            assert!(is_blank || settings.iter().any(is_end), "{word} is no setting");
        }
    }
}

#[test]
fn each_link_of_the_runbook_leads_somewhere() {
    let links = RUNBOOK.split("](").skip(1).map(|rest| rest.split(')').next().unwrap());
    for link in links.filter(|link| !link.contains("://")) {
        let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
        let file = if file.is_empty() { "runbook.md" } else { file };
        let text = text(&here().join("docs").join(file));
        let mut headings = text.lines().filter(|line| line.starts_with('#'));
        assert!(anchor.is_empty() || headings.any(|heading| slug(heading) == anchor), "{link}");
    }
}

/// A heading as GitHub links to it.
fn slug(heading: &str) -> String {
    let words = heading.trim_start_matches('#').trim().to_lowercase().replace(' ', "-");
    words.chars().filter(|letter| letter.is_alphanumeric() || "-_".contains(*letter)).collect()
}

#[test]
fn each_command_of_the_runbook_that_is_ours_exists() {
    let commands = ["diff", "check", "sync", "probe"];
    let calls = RUNBOOK.split("-- kong-cert-reloader ").skip(1);
    let called: Vec<&str> = calls.map(|rest| rest.split_whitespace().next().unwrap()).collect();
    assert!(!called.is_empty());
    for command in called {
        assert!(commands.contains(&command), "{command}");
    }
}
