//! What Kong says of a configuration that it will not have. Its words and names alone are taken:
//! the answers echo private keys.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use uuid::Uuid;

use crate::declarative::Document;
use crate::kong::{Answer, Failure, LICENSE_REFUSED, message_of, parse};
use crate::quote::Quoted;

/// An object that Kong will not have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bad {
    /// What it is, in Kong's word: `certificate`, `sni`.
    pub entity: String,
    /// Its id, if it has one.
    pub id: Option<Uuid>,
    /// Its name, if it has one.
    pub name: Option<String>,
    /// Why.
    pub message: Quoted,
}

impl Bad {
    /// What it is and why, in one line.
    #[must_use]
    pub fn shown(&self) -> Quoted {
        let id = self.id.map(|id| id.to_string());
        let which = self.name.as_deref().or(id.as_deref()).unwrap_or("all of them");
        Quoted::new(&format!("{} {which}: {}", self.entity, self.message))
    }

    /// Whether Kong knows no such objects.
    #[must_use]
    pub fn is_all_of(&self, entity: &str) -> bool {
        self.entity == entity && self.id.is_none() && self.name.is_none()
    }
}

/// A list; Kong has one empty table for lists and mappings. Read as it comes: what is buffered is not
/// wiped.
struct List<T>(Vec<T>);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for List<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Elements<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Elements<T> {
            type Value = List<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<List<T>, A::Error> {
                let mut elements = Vec::new();
                while let Some(element) = list.next_element()? {
                    elements.push(element);
                }
                Ok(List(elements))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<List<T>, A::Error> {
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(List(Vec::new()))
            }
        }
        deserializer.deserialize_any(Elements(PhantomData))
    }
}

/// All that an answer names, which may be nothing: with `flatten_errors` objects, without it lists and
/// places.
pub(super) fn named(answer: &Answer, document: &Document) -> Result<Vec<Bad>, Failure> {
    #[derive(Deserialize)]
    struct Refusal {
        flattened_errors: Option<List<Flat>>,
        fields: Option<Value>,
    }
    let Refusal { flattened_errors, fields } = parse(answer)?;
    let flattened = flattened_errors.map(|list| list.0).unwrap_or_default();
    let mut bad: Vec<Bad> = flattened.into_iter().map(Bad::from).collect();
    if let Some(Value::Object(lists)) = fields {
        for (list, wrong) in &lists {
            bad.extend(in_list(list, wrong, document));
        }
    }
    Ok(bad)
}

/// What Kong says where it names nothing.
pub(super) fn unnamed(answer: &Answer) -> Quoted {
    Quoted::new(&without_values(message_of(&answer.body).as_str()))
}

/// Its `entity`, which is all of the object, is passed over.
#[derive(Deserialize)]
struct Flat {
    entity_type: String,
    entity_id: Option<String>,
    entity_name: Option<String>,
    errors: Option<List<Error>>,
}

#[derive(Deserialize)]
struct Error {
    field: Option<String>,
    message: Option<String>,
    messages: Option<List<String>>,
}

impl Error {
    fn words(self) -> Vec<String> {
        let list = self.messages.into_iter().flat_map(|list| list.0);
        let field = self.field.map(|field| format!("{field}: ")).unwrap_or_default();
        let words = self.message.into_iter().chain(list);
        words.map(|words| format!("{field}{words}")).collect()
    }
}

impl From<Flat> for Bad {
    fn from(flat: Flat) -> Self {
        let errors = flat.errors.map(|list| list.0).unwrap_or_default();
        let words: Vec<String> = errors.into_iter().flat_map(Error::words).collect();
        Self {
            id: flat.entity_id.and_then(|id| id.parse().ok()),
            name: flat.entity_name,
            message: told(&flat.entity_type, &words.join("; ")),
            entity: flat.entity_type,
        }
    }
}

fn in_list(list: &str, wrong: &Value, document: &Document) -> Vec<Bad> {
    let entity = list.strip_suffix('s').unwrap_or(list);
    let bad = |(id, name), words: &str| Bad {
        entity: entity.to_owned(),
        id,
        name,
        message: told(entity, words),
    };
    match wrong {
        // A text that is no configuration.
        Value::String(_) if list == "error" => Vec::new(),
        Value::String(words) => {
            vec![Bad { message: Quoted::new(&without_values(words)), ..bad((None, None), "") }]
        }
        Value::Array(places) => {
            let places = places.iter().enumerate();
            let known = places.filter_map(|(at, wrong)| match wrong {
                Value::Object(_) => Some(bad(document.known_at(list, at)?, &in_words("", wrong))),
                // Its place in the list is not that of an object; a name elsewhere may be a secret.
                Value::String(words) if entity == "sni" => {
                    Some(bad((None, Some(declared_twice(words)?.to_owned())), words))
                }
                _ => None,
            });
            known.collect()
        }
        // What refers to nothing is told by its name or id; a list with gaps by places, from 1.
        Value::Object(keys) => {
            let known = keys.iter().filter_map(|(key, wrong)| {
                let at = || document.known_at(list, key.parse::<usize>().ok()?.checked_sub(1)?);
                Some(bad(document.known_by(list, key).or_else(at)?, &in_words("", wrong)))
            });
            known.collect()
        }
        _ => Vec::new(),
    }
}

/// Words, each behind its field.
fn in_words(field: &str, wrong: &Value) -> String {
    match wrong {
        Value::String(words) if field.is_empty() => words.clone(),
        Value::String(words) => format!("{field}: {words}"),
        Value::Array(list) => joined(list.iter().map(|wrong| in_words(field, wrong))),
        Value::Object(fields) => {
            joined(fields.iter().map(|(inner, wrong)| match (field, &**inner) {
                (field, "@entity") => in_words(field, wrong),
                ("", inner) => in_words(inner, wrong),
                (field, inner) => in_words(&format!("{field}.{inner}"), wrong),
            }))
        }
        _ => String::new(),
    }
}

fn joined(words: impl Iterator<Item = String>) -> String {
    words.filter(|words| !words.is_empty()).collect::<Vec<_>>().join("; ")
}

/// `… entity with name set to 'a.test' already declared`
fn declared_twice(words: &str) -> Option<&str> {
    let (_, rest) = words.split_once(" set to '")?;
    rest.split_once('\'').map(|(name, _)| name)
}

/// Kong's words: of what is served whole, of others without what they quote, of licences none.
fn told(entity: &str, words: &str) -> Quoted {
    match entity {
        "certificate" | "sni" | "ca_certificate" => Quoted::new(words),
        "license" => Quoted::new(LICENSE_REFUSED),
        _ => Quoted::new(&without_values(words)),
    }
}

/// Kong quotes values, or puts them behind `invalid …:`. A consumer's key may be among them.
fn without_values(words: &str) -> String {
    let is_quote = |character| matches!(character, '\'' | '"');
    let behind = words.find("invalid").and_then(|at| Some(at + words[at..].find(": ")?));
    let words = behind.map_or(words, |end| &words[..end]);
    match (words.find(is_quote), words.rfind(is_quote)) {
        (Some(first), Some(last)) => format!("{}'…'{}", &words[..first], &words[last + 1..]),
        _ => words.to_owned(),
    }
}
