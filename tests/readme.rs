//! What the README says about names, against the program.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

#[path = "readme/vocabulary.rs"]
mod vocabulary;

use std::collections::BTreeSet;
use std::process::{Command, Output, Stdio};

use kong_cert_reloader::settings::SETTINGS;
use kong_cert_reloader::status::State;

use vocabulary::reasons;

const README: &str = include_str!("../README.md");
const PROGRAM: &str = env!("CARGO_BIN_EXE_kong-cert-reloader");

#[test]
fn every_setting_stands_in_the_readme_with_its_default() {
    let told: Vec<(String, String)> = table("name", "default")
        .into_iter()
        .map(|row| (unquoted(&row[0]).to_owned(), unquoted(&row[1]).to_owned()))
        .collect();
    let real: Vec<(String, String)> = SETTINGS
        .iter()
        .map(|setting| (setting.name.to_owned(), setting.default.to_owned()))
        .collect();
    assert_eq!(told, real);
}

#[test]
fn every_setting_that_the_readme_mentions_exists() {
    let last_words: BTreeSet<&str> =
        SETTINGS.iter().map(|setting| setting.name.rsplit("__").next().unwrap()).collect();
    let names: BTreeSet<&str> = SETTINGS.iter().map(|setting| setting.name).collect();
    let is_group = |word: &str| names.iter().any(|name| name.starts_with(&format!("{word}__")));
    let is_name = |word: &&str| {
        word.len() > 1 && word.chars().all(|letter| letter.is_ascii_uppercase() || letter == '_')
    };
    // Methods, signals, the variables of the example, and Kong's own.
    let others = [
        "GET",
        "PUT",
        "PATCH",
        "HEAD",
        "DELETE",
        "SIGTERM",
        "KONG_ADMIN_URL",
        "KONG_PROXY_TLS",
        "KONG_LICENSE_DATA",
        "KONG_LICENSE_PATH",
        "SIGHUP",
    ];
    for word in code_words().filter(is_name).filter(|word| !others.contains(word)) {
        let word = word.trim_start_matches("CERT_RELOADER__").replace("MY_SITE_ORG", "<NAME>");
        assert!(
            word.is_empty()
                || names.contains(&*word)
                || last_words.contains(&*word)
                || is_group(&word),
            "{word} is no setting"
        );
    }
}

#[test]
fn every_state_stands_in_the_readme() {
    let told: Vec<String> =
        table("state", "reasons").iter().map(|row| unquoted(&row[0]).to_owned()).collect();
    let real: Vec<String> = State::ALL.iter().map(ToString::to_string).collect();
    assert_eq!(told, real);
}

#[test]
fn every_reason_stands_in_the_readme_beside_its_state() {
    for row in table("state", "reasons") {
        let told: BTreeSet<&str> =
            row[1].split(',').map(unquoted).filter(|reason| !reason.is_empty()).collect();
        let real: BTreeSet<&str> = reasons(unquoted(&row[0])).into_iter().collect();
        assert_eq!(told, real, "{}", row[0]);
    }
}

#[test]
fn every_state_and_reason_that_is_mentioned_exists() {
    let known: BTreeSet<&str> = table("state", "reasons")
        .iter()
        .flat_map(|row| [unquoted(&row[0]).to_owned()].into_iter().chain(split(&row[1])))
        .map(|word| &*word.leak())
        .collect();
    let outcomes = section("What happens when");
    for word in outcomes.split('`').skip(1).step_by(2) {
        let is_word = word.bytes().all(|letter| letter.is_ascii_lowercase() || letter == b'_');
        let is_metric = word == "watch_polling";
        // A name in certificates, not of ours.
        let is_field = word == "notBefore";
        assert!(!is_word || is_metric || is_field || known.contains(word), "{word} is no state");
    }
}

fn split(cell: &str) -> Vec<String> {
    cell.split(',').map(|word| unquoted(word).to_owned()).collect()
}

#[test]
fn every_command_stands_in_the_readme_and_exists() {
    let told: BTreeSet<String> =
        table("command", "what it does").iter().map(|row| unquoted(&row[0]).to_owned()).collect();
    let help = run(&["--help"], &[]);
    let help = String::from_utf8(help.stdout).unwrap();
    let (_, commands) = help.split_once("Commands:\n").unwrap();
    let (commands, _) = commands.split_once("\n\n").unwrap();
    let real: BTreeSet<String> = commands
        .lines()
        .filter_map(|line| line.strip_prefix("  ")?.split(' ').next().map(str::to_owned))
        .filter(|command| !command.is_empty() && command != "help")
        .collect();
    assert_eq!(told, real);
}

#[test]
fn the_exit_codes_are_those_of_the_readme() {
    let occupant = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = occupant.local_addr().unwrap().to_string();
    let nowhere = ("CERT_RELOADER__LISTEN", "127.0.0.1:0");
    let none = ("CERT_RELOADER__CERTS_DIR", "/does/not/exist");
    let cases: [(&[&str], (&str, &str), i32); 15] = [
        (&["--version"], nowhere, 0),
        (&["--help"], nowhere, 0),
        (&["probe", "livez"], nowhere, 1),
        (&["probe"], nowhere, 2),
        (&["sink"], nowhere, 2),
        (&["sync"], none, 1),
        (&["diff"], none, 1),
        (&["check"], none, 1),
        (&["sync", "--timeout", "2h"], none, 2),
        (&["diff", "web"], none, 2),
        (&["completions", "bash"], nowhere, 0),
        (&["completions", "sh"], nowhere, 2),
        (&["run"], ("CERT_RELOADER__LISTEN", &taken), 1),
        (&["run"], ("CERT_RELOADER__HOLD", "soon"), 2),
        (&["probe", "readyz"], ("CERT_RELOADER__HOLD", "soon"), 2),
    ];
    for (arguments, variable, code) in cases {
        assert_eq!(run(arguments, &[variable]).status.code(), Some(code), "{arguments:?}");
    }
    drop(occupant);
}

fn run(arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    let mut command = Command::new(PROGRAM);
    command.args(arguments).env_clear().envs(variables.iter().copied()).stdin(Stdio::null());
    command.output().unwrap()
}

/// The rows of the README's table whose head begins with these two cells.
fn table(first: &str, second: &str) -> Vec<Vec<String>> {
    let head = format!("| {first} | {second} |");
    let rows: Vec<Vec<String>> = README
        .lines()
        .skip_while(|line| !line.starts_with(&head))
        .skip(2)
        .map_while(|line| line.strip_prefix('|')?.strip_suffix('|'))
        .map(|row| row.split('|').map(|cell| cell.trim().to_owned()).collect())
        .collect();
    assert!(!rows.is_empty(), "there is no table {head}");
    rows
}

fn section(title: &str) -> &'static str {
    let (_, rest) = README.split_once(&format!("\n## {title}\n")).unwrap();
    rest.split("\n## ").next().unwrap()
}

fn unquoted(cell: &str) -> &str {
    cell.trim().trim_matches('`')
}

/// Everything between backticks outside of code blocks.
fn code_words() -> impl Iterator<Item = &'static str> {
    let outside = README.split("```").step_by(2);
    outside.flat_map(|text| text.split('`').skip(1).step_by(2))
}
