//! What the documents say of the program, against the program.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

#[path = "readme/vocabulary.rs"]
mod vocabulary;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use kong_cert_reloader::binding::Kind;
use kong_cert_reloader::log::MESSAGES;
use kong_cert_reloader::metrics::{FAMILIES, MetricFamily};
use kong_cert_reloader::settings::SETTINGS;
use kong_cert_reloader::status::State;
use tracing::Level;
use vocabulary::{exposition, labels_of};

const TROUBLESHOOTING: &str = "docs/troubleshooting.md";

#[test]
fn every_log_message_stands_in_its_document_with_level_and_meaning() {
    let told: Vec<[String; 3]> = rows("docs/log-messages.md")
        .into_iter()
        .map(|row| [row[1].trim_matches('`').to_owned(), row[0].clone(), row[2].clone()])
        .collect();
    let real: Vec<[String; 3]> = MESSAGES
        .iter()
        .map(|message| {
            [message.text.to_owned(), message.level.to_string(), message.meaning.to_owned()]
        })
        .collect();
    assert_eq!(told, real);
}

#[test]
fn no_two_log_messages_are_alike() {
    let texts: BTreeSet<&str> = MESSAGES.iter().map(|message| message.text).collect();
    assert_eq!(texts.len(), MESSAGES.len());
}

#[test]
fn every_log_message_is_told_somewhere() {
    let source: String = files_beneath("src", "rs").iter().map(|path| text(path)).collect();
    let table = text(&root().join("src/log.rs"));
    let names = table.lines().filter_map(|line| line.strip_prefix("    ")?.split_once(": "));
    let names: Vec<&str> = names.map(|(name, _)| name).filter(|name| is_constant(name)).collect();
    assert_eq!(names.len(), MESSAGES.len());
    for name in names {
        let is_told = [",", ")"].iter().any(|end| source.contains(&format!("tell!({name}{end}")));
        assert!(is_told, "{name} is told nowhere");
    }
}

#[test]
fn every_metric_family_is_exported_with_the_labels_and_the_help_of_the_table() {
    let text = exposition();
    let told: Vec<&str> = FAMILIES.iter().map(|family| family.name).collect();
    let real: Vec<&str> =
        text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect();
    assert_eq!(told.iter().collect::<BTreeSet<_>>(), real.iter().collect());
    for family in FAMILIES {
        let help = format!("# HELP {} {}", family.name, family.help);
        assert!(text.lines().any(|line| line.trim_end_matches('.') == help), "{help}");
        let labels: BTreeSet<String> =
            family.labels.iter().map(|label| (*label).to_owned()).collect();
        assert_eq!(labels_of(&text, family.name), labels, "{}", family.name);
    }
}

#[test]
fn every_metric_family_stands_in_its_document() {
    let cells = |family: &MetricFamily| {
        let labels: Vec<String> = family.labels.iter().map(|label| format!("`{label}`")).collect();
        [format!("`{}`", family.name), labels.join(", "), family.help.to_owned()]
    };
    let real: Vec<[String; 3]> = FAMILIES.iter().map(cells).collect();
    assert_eq!(rows("docs/metrics.md"), real);
}

#[test]
fn every_kind_stands_in_the_document_of_the_metrics() {
    let content = text(&root().join("docs/metrics.md"));
    let (_, kinds) = content.split_once("`kind` is one of ").unwrap();
    let kinds = kinds.split('.').next().unwrap();
    let told: Vec<&str> = kinds.split(", ").map(|kind| kind.trim_matches('`')).collect();
    assert_eq!(told, Kind::ALL.map(Kind::as_str));
}

#[test]
fn whoever_has_trouble_finds_every_state_and_every_message_that_wants_a_look() {
    let firsts: BTreeSet<String> =
        rows(TROUBLESHOOTING).into_iter().map(|row| row[0].trim_matches('`').to_owned()).collect();
    for state in State::ALL {
        assert!(firsts.contains(&state.to_string()), "{state} is not there");
    }
    for message in MESSAGES.iter().filter(|message| message.level <= Level::WARN) {
        assert!(firsts.contains(message.text), "{:?} is not there", message.text);
    }
    let known: BTreeSet<&str> = MESSAGES.iter().map(|message| message.text).collect();
    let content = text(&root().join(TROUBLESHOOTING));
    let (_, section) = content.split_once("## The log says").unwrap();
    let section = section.split("\n## ").next().unwrap();
    for row in section.lines().filter(|line| line.starts_with("| `")) {
        let message = row.split('`').nth(1).unwrap();
        assert!(known.contains(message), "{message:?} is no message");
    }
}

#[test]
fn every_setting_that_a_document_mentions_exists() {
    let names: BTreeSet<&str> = SETTINGS.iter().map(|setting| setting.name).collect();
    let last_words: BTreeSet<&str> =
        names.iter().map(|name| name.rsplit("__").next().unwrap()).collect();
    for document in files_beneath("docs", "md") {
        let content = text(&document);
        for (_, word) in content.match_indices("CERT_RELOADER__").map(|(at, prefix)| {
            let rest = &content[at + prefix.len()..];
            (at, rest.split(|c: char| !is_constant(&c.to_string()) && !c.is_ascii_digit()).next())
        }) {
            let word = word.unwrap();
            let is_known = word.is_empty() || names.iter().any(|name| is_named(name, word));
            assert!(is_known, "{}: {word} is no setting", document.display());
        }
        let words = content.split('`').skip(1).step_by(2);
        for word in words.filter(|word| word.contains("__") && is_constant(word)) {
            let word = word.trim_start_matches("CERT_RELOADER__");
            let is_known =
                names.iter().any(|name| is_named(name, word)) || last_words.contains(word);
            assert!(is_known, "{}: {word} is no setting", document.display());
        }
    }
}

/// Whether `word` is the setting, whatever the binding's name in it, or a group of settings.
fn is_named(setting: &str, word: &str) -> bool {
    if setting.strip_prefix(word).is_some_and(|rest| rest.starts_with("__")) {
        return true;
    }
    match setting.split_once("<NAME>") {
        Some((before, after)) => {
            word.len() > before.len() + after.len()
                && word.starts_with(before)
                && word.ends_with(after)
        }
        None => setting == word,
    }
}

fn is_constant(name: &str) -> bool {
    name.bytes().all(|letter| letter.is_ascii_uppercase() || letter == b'_')
}

/// Documents link to each other, and to headings in them.
#[test]
fn every_link_between_documents_leads_somewhere() {
    let mut documents = files_beneath("docs", "md");
    documents.extend(files_beneath("helm", "md"));
    let top = ["README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md"];
    documents.extend(top.map(|name| root().join(name)));
    for document in documents {
        let content = text(&document);
        let links = content.split("](").skip(1).filter_map(|rest| rest.split(')').next());
        for link in links.filter(|link| !link.contains("://")) {
            let (path, anchor) = link.split_once('#').map_or((link, None), |(p, a)| (p, Some(a)));
            let target = match path {
                "" => document.clone(),
                path => document.parent().unwrap().join(path),
            };
            let place = document.display();
            assert!(target.exists(), "{place}: {link} is not there");
            if let Some(anchor) = anchor {
                assert!(anchors(&text(&target)).contains(anchor), "{place}: no heading {link}");
            }
        }
    }
}

/// The anchors that GitHub gives to headings.
fn anchors(content: &str) -> BTreeSet<String> {
    let mut is_code = false;
    let mut anchors = BTreeSet::new();
    for line in content.lines() {
        is_code ^= line.starts_with("```");
        if let Some((_, heading)) = line
            .split_once("# ")
            .filter(|(hashes, _)| !is_code && hashes.bytes().all(|letter| letter == b'#'))
        {
            let kept = heading.to_lowercase();
            let kept = kept.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
            anchors.insert(kept.map(|c| if c == ' ' { '-' } else { c }).collect());
        }
    }
    anchors
}

/// The rows of all tables of a document, without their heads.
fn rows(document: &str) -> Vec<Vec<String>> {
    let content = text(&root().join(document));
    let mut lines = content.lines().peekable();
    let mut rows = Vec::new();
    while let Some(line) = lines.next() {
        let is_head = lines.peek().is_some_and(|next| next.starts_with("|---"));
        if line.starts_with('|') && !is_head && !line.starts_with("|---") {
            let line = line.trim_start_matches("| ").trim_end_matches(" |").replace("| |", "|  |");
            rows.push(line.split(" | ").map(|cell| cell.trim().to_owned()).collect());
        }
    }
    rows
}

fn files_beneath(directory: &str, ending: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![root().join(directory)];
    while let Some(directory) = open.pop() {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|extension| extension == ending) {
                found.push(path);
            }
        }
    }
    found
}

#[expect(clippy::disallowed_methods, reason = "files of this repository")]
fn text(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|problem| panic!("{}: {problem}", path.display()))
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}
