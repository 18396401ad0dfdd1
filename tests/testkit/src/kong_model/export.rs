//! `GET /config`: all that is stored as YAML text, as lyaml and libyaml write it. What is exported
//! is not always what can be posted: names that came inside a certificate are in it twice.

use serde_json::{Map, Value};

use super::entities;
use super::schema::{Kind, Object};
use super::{KongModel, yaml};

/// libyaml breaks lines at the next space behind this column.
const WIDTH: usize = 80;
/// Ends of lines in YAML 1.1.
const SEPARATORS: [char; 2] = ['\u{2028}', '\u{2029}'];
/// Kong writes the fields in the order of Lua's hash tables, which comes from the set of keys;
/// recorded for these, by the alphabet otherwise.
const ORDERS: [&[&str]; 3] = [
    &["snis", "tags", "cert_alt", "cert", "id", "key", "created_at", "updated_at", "key_alt"],
    &["certificate", "_comment", "id", "tags", "_ignore", "created_at", "updated_at", "name"],
    &["certificate", "tags", "id", "created_at", "updated_at", "name"],
];

impl KongModel {
    pub(super) fn export(&self) -> String {
        let mut text = "_format_version: '3.0'\n_transform: false\n".to_owned();
        for entity in entities::all() {
            let rows: Vec<&Object> = match Kind::named(entity) {
                Some(kind) => self.database.rows(kind).collect(),
                None => self.declared.rows(entity).collect(),
            };
            if !rows.is_empty() {
                text += &format!("{entity}:\n");
            }
            for row in rows {
                text += "- ";
                write_mapping(&mut text, &exported(entity, row), 2);
            }
        }
        text
    }
}

/// References to other entities become bare ids.
fn exported(entity: &str, row: &Object) -> Object {
    let mut row = row.clone();
    if entity == Kind::Certificates.name() {
        row.entry("snis").or_insert(Value::Null);
    }
    for (field, _) in entities::references(entity) {
        if let Some(value) = row.get_mut(*field)
            && let Some(id) = value.get("id")
        {
            *value = id.clone();
        }
    }
    row
}

/// The first field continues the line that is begun, the others are indented.
fn write_mapping(text: &mut String, mapping: &Map<String, Value>, indent: usize) {
    for (at, (key, value)) in ordered(mapping).into_iter().enumerate() {
        if at > 0 {
            *text += &" ".repeat(indent);
        }
        write_string(text, key, indent);
        *text += ":";
        match value {
            Value::Array(list) if !list.is_empty() => {
                text.push('\n');
                write_list(text, list, indent);
            }
            Value::Object(mapping) if !mapping.is_empty() => {
                text.push('\n');
                *text += &" ".repeat(indent + 2);
                write_mapping(text, mapping, indent + 2);
            }
            scalar => {
                text.push(' ');
                write_scalar(text, scalar, indent + 2);
            }
        }
    }
}

fn write_list(text: &mut String, list: &[Value], indent: usize) {
    for value in list {
        *text += &" ".repeat(indent);
        *text += "- ";
        match value {
            Value::Object(mapping) if !mapping.is_empty() => {
                write_mapping(text, mapping, indent + 2);
            }
            Value::Array(list) if !list.is_empty() => {
                let mut nested = String::new();
                write_list(&mut nested, list, indent + 2);
                *text += nested.trim_start();
            }
            scalar => write_scalar(text, scalar, indent + 2),
        }
    }
}

fn ordered(mapping: &Map<String, Value>) -> Vec<(&String, &Value)> {
    let fits = |order: &&&[&str]| {
        order.len() == mapping.len() && order.iter().all(|key| mapping.contains_key(*key))
    };
    let mut fields: Vec<_> = mapping.iter().collect();
    if let Some(order) = ORDERS.iter().find(fits) {
        fields.sort_by_key(|(key, _)| order.iter().position(|known| known == key));
    }
    fields
}

/// With the end of the line. Lua has one empty table for lists and mappings.
fn write_scalar(text: &mut String, value: &Value, indent: usize) {
    match value {
        Value::Null => text.push('~'),
        Value::Array(_) | Value::Object(_) => *text += "{}",
        Value::String(string) if string.contains('\n') && is_printable(string) => {
            return write_literal(text, string, indent);
        }
        Value::String(string) => write_string(text, string, indent),
        other => *text += &other.to_string(),
    }
    text.push('\n');
}

fn write_literal(text: &mut String, string: &str, indent: usize) {
    *text += match (string.ends_with('\n'), string.ends_with("\n\n")) {
        (false, _) => "|-\n",
        (true, false) => "|\n",
        (true, true) => "|+\n",
    };
    for line in string.strip_suffix('\n').unwrap_or(string).split('\n') {
        if !line.is_empty() {
            *text += &" ".repeat(indent);
        }
        *text += line;
        text.push('\n');
    }
}

fn write_string(text: &mut String, string: &str, indent: usize) {
    if !is_printable(string) {
        // JSON's escapes are YAML's.
        *text += &Value::from(string).to_string();
    } else if string.contains(SEPARATORS) {
        // By libyaml's source: quoted, and what follows is indented as if a line ended there.
        let indented = |separator| format!("{separator}{}", " ".repeat(indent));
        let quoted = format!("'{}'", string.replace('\'', "''"));
        let quoted = SEPARATORS
            .iter()
            .fold(quoted, |quoted, separator| quoted.replace(*separator, &indented(separator)));
        *text += &quoted;
    } else if yaml::implicit(string) != *string || !is_plain(string) {
        let quoted = format!("'{}'", string.replace('\'', "''"));
        write_folded(text, &quoted, indent);
    } else {
        write_folded(text, string, indent);
    }
}

/// Breaks long lines at single spaces.
fn write_folded(text: &mut String, string: &str, indent: usize) {
    let characters: Vec<char> = string.chars().collect();
    let mut column = text.len() - text.rfind('\n').map_or(0, |at| at + 1);
    for (at, character) in characters.iter().enumerate() {
        let around = [at.wrapping_sub(1), at + 1].map(|near| characters.get(near));
        let single = around.iter().all(|near| near.is_some_and(|near| *near != ' '));
        if *character == ' ' && single && column > WIDTH {
            text.push('\n');
            *text += &" ".repeat(indent);
            column = indent;
        } else {
            text.push(*character);
            column += 1;
        }
    }
}

fn is_printable(string: &str) -> bool {
    string.chars().all(|character| character == '\n' || !character.is_control())
}

fn is_plain(string: &str) -> bool {
    let indicated = string.starts_with([
        '#', ',', '[', ']', '{', '}', '&', '*', '!', '|', '>', '\'', '"', '%', '@', '`',
    ]);
    let begun = ["- ", "? ", ": ", "---", "..."].iter().any(|mark| string.starts_with(mark));
    let alone = ["-", "?", ":"].contains(&string);
    let spaced = string.starts_with(' ') || string.ends_with(' ');
    let marked = string.contains(": ") || string.ends_with(':') || string.contains(" #");
    !(indicated || begun || alone || spaced || marked)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        let long = "word ".repeat(40) + "end";
        let mapping = json!({
            "config": { "list": ["a", { "b": [[1, 2], "c"] }], "none": null, "yes": true },
            "texts": ["", "yes", "010", "a: b", "- a", "it's", "'q'", "a #b", "\u{e9}", "\r\n", "\t"],
            "lines": ["a\nb\n", "a\nb", "a\n\n", "a\n\nb\n"],
            "long": long,
            "path": "~/a$",
        });
        let mut text = String::new();
        write_mapping(&mut text, mapping.as_object().unwrap(), 0);
        assert_eq!(yaml::load(&text).unwrap(), mapping, "{text}");
        assert!(text.lines().all(|line| line.len() < 100), "{text}");
    }

    #[test]
    fn what_only_others_take_for_numbers_and_dates_is_plain() {
        let mut text = String::new();
        let list = ["0o17", "NaN", "2020-01-01", "y"].map(|text| json!(text));
        write_list(&mut text, &list, 0);
        assert_eq!(text, "- 0o17\n- NaN\n- 2020-01-01\n- y\n");
    }
}
