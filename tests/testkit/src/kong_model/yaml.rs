//! YAML as Kong reads it: version 1.1, where `yes` is true and `010` is eight (lyaml over libyaml).

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};
use yaml_rust2::Event;
use yaml_rust2::parser::{MarkedEventReceiver, Parser};
use yaml_rust2::scanner::{Marker, TScalarStyle};

/// Reads the first document of `text` as Kong does.
///
/// # Errors
///
/// If it is none: Kong's words, with the place where the last thing began that could be read.
pub fn load(text: &str) -> Result<Value, String> {
    let mut loader = Loader::default();
    match Parser::new_from_str(text).load(&mut loader, false) {
        Ok(()) => Ok(loader.document.unwrap_or_default()),
        Err(error) => {
            let (line, column) = loader.last;
            Err(format!("{line}:{column}: {}", error.info()))
        }
    }
}

/// What a plain scalar means.
pub(super) fn implicit(plain: &str) -> Value {
    match plain {
        "" | "~" | "null" | "Null" | "NULL" => Value::Null,
        "true" | "True" | "TRUE" | "yes" | "Yes" | "YES" | "on" | "On" | "ON" => json!(true),
        "false" | "False" | "FALSE" | "no" | "No" | "NO" | "off" | "Off" | "OFF" => json!(false),
        // JSON has none of them; no test has use for their values.
        ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" | "-.inf" | "-.Inf" | "-.INF"
        | ".nan" | ".NaN" | ".NAN" => json!(0),
        _ => number(plain).unwrap_or_else(|| json!(plain)),
    }
}

fn number(plain: &str) -> Option<Value> {
    let unsigned = plain.strip_prefix(['+', '-']).unwrap_or(plain);
    let digits = unsigned.replace('_', "");
    let radix = |digits: &str, radix| i64::from_str_radix(digits, radix).ok();
    let magnitude = match digits.as_bytes() {
        [b'0', b'x', ..] => radix(&digits[2..], 16),
        [b'0', b'b', _, ..] => radix(&digits[2..], 2),
        [b'0', _, ..] if digits.bytes().all(|digit| digit.is_ascii_digit()) => {
            radix(&digits[1..], 8).or_else(|| radix(&digits, 10))
        }
        _ => sexagesimal(&digits).or_else(|| radix(&digits, 10)),
    };
    let sign = if plain.starts_with('-') { -1 } else { 1 };
    let is_float = digits.starts_with(|first: char| first.is_ascii_digit() || first == '.')
        && digits.contains(['.', 'e', 'E']);
    match magnitude {
        Some(magnitude) => Some(json!(sign * magnitude)),
        None if is_float => plain.replace('_', "").parse::<f64>().ok().map(|float| json!(float)),
        None => None,
    }
}

/// `1:30` is ninety.
fn sexagesimal(digits: &str) -> Option<i64> {
    let (first, rest) = digits.split_once(':')?;
    let digit = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit()).then(|| part.parse());
    let first: i64 = digit(first)?.ok()?;
    rest.split(':').try_fold(first, |sum, part| Some(sum * 60 + digit(part)?.ok()?))
}

/// A list or mapping that is not at its end.
enum Open {
    List(Vec<Value>),
    /// With the key whose value is yet to come.
    Mapping(Map<String, Value>, Option<String>),
}

#[derive(Default)]
struct Loader {
    document: Option<Value>,
    open: Vec<(Open, usize)>,
    anchors: BTreeMap<usize, Value>,
    /// Line and column, from 1.
    last: (usize, usize),
}

impl MarkedEventReceiver for Loader {
    fn on_event(&mut self, event: Event, mark: Marker) {
        self.last = (mark.line(), mark.col() + 1);
        match event {
            Event::SequenceStart(anchor, _) => self.open.push((Open::List(Vec::new()), anchor)),
            Event::MappingStart(anchor, _) => {
                self.open.push((Open::Mapping(Map::new(), None), anchor));
            }
            Event::SequenceEnd | Event::MappingEnd => match self.open.pop() {
                Some((Open::List(list), anchor)) => self.close(Value::Array(list), anchor),
                Some((Open::Mapping(map, _), anchor)) => self.close(Value::Object(map), anchor),
                None => {}
            },
            Event::Scalar(text, TScalarStyle::Plain, anchor, None) => {
                self.close(implicit(&text), anchor);
            }
            Event::Scalar(text, _, anchor, _) => self.close(json!(text), anchor),
            Event::Alias(anchor) => {
                let value = self.anchors.get(&anchor).cloned().unwrap_or_default();
                self.close(value, 0);
            }
            _ => {}
        }
    }
}

impl Loader {
    fn close(&mut self, value: Value, anchor: usize) {
        if anchor > 0 {
            self.anchors.insert(anchor, value.clone());
        }
        match self.open.last_mut() {
            None => self.document = Some(value),
            Some((Open::List(list), _)) => list.push(value),
            Some((Open::Mapping(map, key), _)) => match key.take() {
                None => *key = Some(as_key(&value)),
                Some(key) if key == "<<" => merge(map, value),
                Some(key) => drop(map.insert(key, value)),
            },
        }
    }
}

fn as_key(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn merge(map: &mut Map<String, Value>, merged: Value) {
    match merged {
        Value::Object(merged) => {
            for (key, value) in merged {
                map.entry(key).or_insert(value);
            }
        }
        Value::Array(list) => list.into_iter().for_each(|merged| merge(map, merged)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scalars_mean_what_yaml_1_1_says() {
        for (plain, meant) in [
            ("yes", json!(true)),
            ("Off", json!(false)),
            ("y", json!("y")),
            ("010", json!(8)),
            ("0o17", json!("0o17")),
            ("0x1F", json!(31)),
            ("1_000", json!(1000)),
            ("-5", json!(-5)),
            ("1:30", json!(90)),
            ("3.0", json!(3.0)),
            ("1e3", json!(1000.0)),
            ("NaN", json!("NaN")),
            ("2020-01-01", json!("2020-01-01")),
            ("~", Value::Null),
        ] {
            assert_eq!(load(&format!("a: {plain}")).unwrap()["a"], meant, "{plain}");
            assert_eq!(load(&format!("a: '{plain}'")).unwrap()["a"], json!(plain));
        }
    }

    #[test]
    fn anchors_and_merges_are_followed() {
        let text = "a: &a {x: 1, y: 2}\nb:\n  <<: *a\n  x: 3\n";
        assert_eq!(load(text).unwrap()["b"], json!({ "x": 3, "y": 2 }));
    }
}
