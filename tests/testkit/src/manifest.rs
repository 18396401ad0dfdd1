//! Kubernetes objects as YAML, and as values to compare.

use serde_json::{Map, Value};
use yaml_rust2::yaml::Hash;
use yaml_rust2::{Yaml, YamlEmitter, YamlLoader};

/// The documents of `text` but for empty ones. A key that is there twice is a panic.
#[must_use]
pub fn documents(text: &str) -> Vec<Value> {
    let documents =
        YamlLoader::load_from_str(text).unwrap_or_else(|error| panic!("{error}\n{text}"));
    documents.into_iter().map(value).filter(|document| !document.is_null()).collect()
}

/// The one document of `text`.
#[must_use]
pub fn document(text: &str) -> Value {
    let documents = documents(text);
    assert_eq!(documents.len(), 1, "one document was expected:\n{text}");
    documents.into_iter().next().unwrap()
}

/// YAML of `documents`, with keys in order.
#[must_use]
pub fn text(documents: &[Value]) -> String {
    let mut text = String::new();
    for document in documents {
        YamlEmitter::new(&mut text).dump(&yaml(document)).unwrap();
        text.push('\n');
    }
    text
}

fn value(yaml: Yaml) -> Value {
    match yaml {
        Yaml::Null => Value::Null,
        Yaml::Boolean(truth) => truth.into(),
        Yaml::Integer(number) => number.into(),
        Yaml::Real(number) => number.parse::<f64>().unwrap().into(),
        Yaml::String(text) => text.into(),
        Yaml::Array(list) => list.into_iter().map(value).collect(),
        Yaml::Hash(pairs) => {
            let pairs =
                pairs.into_iter().map(|(key, entry)| (key.into_string().unwrap(), value(entry)));
            Value::Object(pairs.collect::<Map<_, _>>())
        }
        Yaml::Alias(_) | Yaml::BadValue => panic!("{yaml:?} is no value"),
    }
}

fn yaml(value: &Value) -> Yaml {
    match value {
        Value::Null => Yaml::Null,
        Value::Bool(truth) => Yaml::Boolean(*truth),
        Value::Number(number) => match number.as_i64() {
            Some(number) => Yaml::Integer(number),
            None => Yaml::Real(number.to_string()),
        },
        Value::String(text) => Yaml::String(text.clone()),
        Value::Array(list) => Yaml::Array(list.iter().map(yaml).collect()),
        Value::Object(pairs) => {
            let pairs = pairs.iter().map(|(key, entry)| (Yaml::String(key.clone()), yaml(entry)));
            Yaml::Hash(pairs.collect::<Hash>())
        }
    }
}
