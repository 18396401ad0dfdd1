//! A query of Prometheus, against what the program exports.

use std::collections::{BTreeMap, BTreeSet};
use std::iter::Peekable;
use std::str::Chars;

use kong_cert_reloader::binding::Kind;
use kong_cert_reloader::schedule::Trigger;
use kong_cert_reloader::status::State;

use crate::vocabulary::{exposition, labels_of, reasons};

/// Labels that Prometheus gives a target, and a histogram its buckets.
const OF_PROMETHEUS: [&str; 6] = ["job", "instance", "namespace", "pod", "container", "le"];
/// What others export.
const OF_OTHERS: [&str; 4] = [
    "up",
    "kube_pod_container_status_running",
    "kube_pod_init_container_status_running",
    "kube_pod_status_phase",
];
const OPERATORS: [&str; 4] = ["and", "or", "unless", "bool"];
const BEFORE_LABELS: [&str; 6] = ["by", "without", "on", "ignoring", "group_left", "group_right"];

/// What the program exports.
pub(crate) struct Exported {
    /// The labels of each sample.
    samples: BTreeMap<String, BTreeSet<String>>,
    /// The values that a label may have, where they are a closed list.
    values: BTreeMap<&'static str, BTreeSet<String>>,
}

impl Exported {
    pub(crate) fn now() -> Self {
        let text = exposition();
        let names = text.lines().filter(|line| !line.starts_with('#'));
        let names = names.map(|line| line.split(['{', ' ']).next().unwrap().to_owned());
        let samples = names.map(|name| (name.clone(), labels_of(&text, &name))).collect();
        let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
        let states = State::ALL.map(State::as_str);
        let reasons: Vec<&str> = states.iter().flat_map(|state| reasons(state)).collect();
        let triggers = [
            Trigger::Start,
            Trigger::Files,
            Trigger::Poll,
            Trigger::Timer,
            Trigger::Proof,
            Trigger::Configuration,
            Trigger::Retry,
            Trigger::Resync,
        ];
        let values = [
            ("state", words(&states)),
            ("reason", words(&reasons)),
            ("kind", words(&Kind::ALL.map(Kind::as_str))),
            ("trigger", words(&triggers.map(Trigger::as_str))),
            ("source", shown(&text, "source")),
            ("outcome", shown(&text, "outcome")),
            ("result", shown(&text, "result")),
        ];
        Self { samples, values: values.into() }
    }

    /// Whether something that we export, or Prometheus adds, has this label.
    pub(crate) fn has_label(&self, label: &str) -> bool {
        OF_PROMETHEUS.contains(&label) || self.samples.values().any(|all| all.contains(label))
    }

    /// The names in `query` that do not exist.
    pub(crate) fn mistakes(&self, query: &str) -> Vec<String> {
        let mut mistakes = Vec::new();
        let mut tokens = tokens(query).into_iter().peekable();
        while let Some(token) = tokens.next() {
            match token {
                Token::Word(word) if BEFORE_LABELS.contains(&&*word) => {
                    let labels = labels(&mut tokens);
                    let unknown = labels.into_iter().filter(|label| !self.has_label(label));
                    mistakes.extend(unknown.map(|label| format!("no label {label}")));
                }
                Token::Word(word) if is_function(&word, tokens.peek()) => {}
                Token::Word(metric) => {
                    let matchers = matchers(&mut tokens);
                    mistakes.extend(self.mistakes_of_selector(&metric, &matchers));
                }
                Token::Sign('{') => {
                    mistakes.push("a selector without a name".to_owned());
                    tokens.by_ref().find(|token| *token == Token::Sign('}'));
                }
                Token::Sign(_) | Token::Text(_) => {}
            }
        }
        mistakes
    }

    fn mistakes_of_selector(&self, metric: &str, matchers: &[(String, String)]) -> Vec<String> {
        if OF_OTHERS.contains(&metric) {
            return Vec::new();
        }
        let Some(known) = self.samples.get(metric) else { return vec![format!("no {metric}")] };
        let mut mistakes = Vec::new();
        for (label, pattern) in matchers {
            if !known.contains(label) && !OF_PROMETHEUS.contains(&&**label) {
                mistakes.push(format!("{metric} has no {label}"));
            }
            let Some(values) = self.values.get(&**label) else { continue };
            let unknown = pattern.split('|').filter(|value| !values.contains(*value));
            mistakes.extend(unknown.map(|value| format!("no {label} is {value}")));
        }
        let of = |name: &str| matchers.iter().find(|(label, _)| label == name);
        if let (Some((_, state)), Some((_, reason))) = (of("state"), of("reason")) {
            let known: Vec<&str> = state.split('|').flat_map(reasons).collect();
            let unknown = reason.split('|').filter(|reason| !known.contains(reason));
            mistakes.extend(unknown.map(|reason| format!("{state} has no {reason}")));
        }
        mistakes
    }
}

/// The values of a label in what is scraped.
fn shown(text: &str, label: &str) -> BTreeSet<String> {
    let begin = format!("{label}=\"");
    let values = text.lines().filter_map(|line| line.split_once(&*begin)?.1.split('"').next());
    values.map(str::to_owned).collect()
}

#[derive(Debug, PartialEq, Eq)]
enum Token {
    Word(String),
    Text(String),
    Sign(char),
}

fn tokens(query: &str) -> Vec<Token> {
    let mut rest = query.chars().peekable();
    let mut tokens = Vec::new();
    while let Some(&next) = rest.peek() {
        if next.is_ascii_alphabetic() || next == '_' {
            tokens.push(Token::Word(word(&mut rest)));
        } else if next.is_ascii_digit() {
            // A number or a duration.
            word(&mut rest);
        } else {
            rest.next();
            if next == '"' {
                tokens.push(Token::Text(text(&mut rest)));
            } else if !next.is_whitespace() {
                tokens.push(Token::Sign(next));
            }
        }
    }
    tokens
}

fn word(rest: &mut Peekable<Chars<'_>>) -> String {
    let is_part = |letter: &char| letter.is_ascii_alphanumeric() || matches!(letter, '_' | ':');
    std::iter::from_fn(|| rest.next_if(is_part)).collect()
}

fn text(rest: &mut Peekable<Chars<'_>>) -> String {
    let mut text = String::new();
    while let Some(letter) = rest.next().filter(|letter| *letter != '"') {
        text.extend(if letter == '\\' { rest.next() } else { Some(letter) });
    }
    text
}

/// Also an aggregation whose labels come first, and the operators that are words.
fn is_function(word: &str, next: Option<&Token>) -> bool {
    let is_grouping = |next: &str| ["by", "without"].contains(&next);
    OPERATORS.contains(&word)
        || next == Some(&Token::Sign('('))
        || matches!(next, Some(Token::Word(next)) if is_grouping(next))
}

/// Labels in parentheses.
fn labels(tokens: &mut Peekable<impl Iterator<Item = Token>>) -> Vec<String> {
    if tokens.next_if_eq(&Token::Sign('(')).is_none() {
        return Vec::new();
    }
    let inside = tokens.take_while(|token| *token != Token::Sign(')'));
    inside
        .filter_map(|token| match token {
            Token::Word(label) => Some(label),
            _ => None,
        })
        .collect()
}

/// What stands between braces: labels with the values that they are to have.
fn matchers(tokens: &mut Peekable<impl Iterator<Item = Token>>) -> Vec<(String, String)> {
    if tokens.next_if_eq(&Token::Sign('{')).is_none() {
        return Vec::new();
    }
    let mut matchers = Vec::new();
    for token in tokens.take_while(|token| *token != Token::Sign('}')) {
        match token {
            Token::Word(label) => matchers.push((label, String::new())),
            Token::Text(text) => matchers.last_mut().unwrap().1 = text,
            Token::Sign(_) => {}
        }
    }
    matchers
}

#[test]
fn a_query_with_a_wrong_name_is_found_out() {
    let exported = Exported::now();
    let state = "kong_cert_reloader_state";
    for (query, mistake) in [
        ("kong_cert_reloader_stat == 1".to_owned(), "no kong_cert_reloader_stat"),
        (format!("{state}{{stat=\"held\"}}"), "kong_cert_reloader_state has no stat"),
        (format!("{state}{{state=~\"held|hold\"}}"), "no state is hold"),
        (format!("{state}_reason{{state=\"held\",reason=\"contested\"}}"), "held has no contested"),
        (format!("sum by (bindin) ({state})"), "no label bindin"),
        (format!("count without (pods) ({state})"), "no label pods"),
        (
            "rate(kong_cert_reloader_pushes_total{outcome=\"taken\"}[5m])".to_owned(),
            "no outcome is taken",
        ),
        (
            "kong_cert_reloader_propagation_seconds".to_owned(),
            "no kong_cert_reloader_propagation_seconds",
        ),
        ("{pod=\"web\"}".to_owned(), "a selector without a name"),
    ] {
        assert_eq!(exported.mistakes(&query), [mistake], "{query}");
    }
    for query in [
        "max without (state) (kong_cert_reloader_state{state=~\"held|invalid\", pod=\"x\"}) * 3e2 > 1",
        "histogram_quantile(0.9, sum by (le) (rate(kong_cert_reloader_propagation_seconds_bucket[5m])))",
        "up == 0 and on (job) kong_cert_reloader_build_info",
        "sum(process_resident_memory_bytes) by (pod)",
    ] {
        assert_eq!(exported.mistakes(query), [""; 0], "{query}");
    }
}
