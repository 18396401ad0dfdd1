//! Why Kong does not take a configuration (`kong/db/errors.lua`): by entity and place, or, where
//! it is asked to, as a list of the objects that are wrong. Both echo what was sent, keys too.

use serde_json::{Map, Value, json};

use super::declarative::as_list;
use super::entities;
use super::refusal::Refusal;
use super::schema::{self, Kind, Object};

/// What is wrong, by entity or field; of lists by place (null where nothing is) or by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Invalid(Map<String, Value>);

impl Invalid {
    /// A text that is no configuration.
    pub(super) fn text(error: &str) -> Self {
        let words = format!("failed parsing declarative configuration: {error}");
        Self(Object::from_iter([("error".to_owned(), json!(words))]))
    }

    /// What is wrong with each object by itself, and with the whole.
    pub(super) fn check(config: &Object, enterprise: bool, now: i64) -> Result<(), Self> {
        let mut wrong = Object::new();
        for (key, value) in config {
            let found = match key.as_str() {
                "_comment" | "_ignore" | "_transform" | "_format_version" => Value::Null,
                known if entities::is_known_to(enterprise, known) => section(known, value, now),
                _ => json!("unknown field"),
            };
            if !found.is_null() {
                wrong.insert(key.clone(), found);
            }
        }
        if let Err(words) = check_version(config.get("_format_version")) {
            wrong.insert("_format_version".to_owned(), json!(words));
        }
        if wrong.is_empty() { Ok(()) } else { Err(Self(wrong)) }
    }

    pub(super) fn is_none(&self) -> bool {
        self.0.is_empty()
    }

    /// An object that was there before.
    pub(super) fn add_twice(&mut self, entity: &str, at: usize, field: &str, value: &str) {
        let words = format!(
            "uniqueness violation: '{entity}' entity with {field} set to '{value}' already declared"
        );
        let list = self.0.entry(entity).or_insert_with(|| json!([]));
        if let Value::Array(list) = list {
            list.resize(list.len().max(at + 1), Value::Null);
            list[at] = json!(words);
        }
    }

    /// A reference to nothing. Kong tells it under the name of the object, not its place.
    pub(super) fn add_reference(
        &mut self,
        entity: &str,
        name: &str,
        field: &str,
        value: &Value,
        to: &str,
    ) {
        let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let words = format!("invalid reference '{field}: {value}' (no such entry in '{to}')");
        let objects = self.0.entry(entity).or_insert_with(|| json!({}));
        if let Value::Object(objects) = objects {
            let told = objects.entry(name).or_insert_with(|| json!([]));
            told.as_array_mut().unwrap().push(json!(words));
        }
    }

    pub(super) fn refusal(&self) -> Refusal {
        let message = format!("declarative config is invalid: {}", lua(&json!(self.0)));
        Refusal::declarative(&message, &json!(self.0))
    }

    /// With the objects that are wrong. What is told by name or as a bare text is lost on the way,
    /// and an empty list is Lua's empty table.
    pub(super) fn flattened(mut self, config: &Object) -> Refusal {
        let mut objects = Vec::new();
        for (entity, wrong) in std::mem::take(&mut self.0) {
            match (&wrong, config.get(&entity)) {
                (Value::Array(_) | Value::Object(_), Some(Value::Array(sent))) => {
                    let wrong = wrong.as_array().into_iter().flatten();
                    for (wrong, sent) in wrong.zip(sent) {
                        flatten(&entity, sent, wrong, &mut objects);
                    }
                }
                _ => drop(self.0.insert(entity, wrong)),
            }
        }
        let objects = if objects.is_empty() { json!({}) } else { json!(objects) };
        self.refusal().with("flattened_errors", objects)
    }
}

fn check_version(version: Option<&Value>) -> Result<(), &'static str> {
    match version {
        None | Some(Value::Null) => Err("required field missing"),
        Some(Value::String(version)) if ["1.1", "2.1", "3.0"].contains(&version.as_str()) => Ok(()),
        Some(Value::String(_)) => Err("expected one of: 1.1, 2.1, 3.0"),
        Some(_) => Err("expected a string"),
    }
}

/// Null where nothing is wrong.
fn section(entity: &str, value: &Value, now: i64) -> Value {
    let list = match value {
        Value::Array(list) => list,
        Value::Null => return Value::Null,
        Value::Object(empty) if empty.is_empty() => return Value::Null,
        _ => return json!("expected an array"),
    };
    let element = |element: &Value| match element.as_object() {
        Some(object) => object_wrong(entity, object, now),
        None => json!("expected a record"),
    };
    without_nulls_at_the_end(list.iter().map(element).collect())
}

fn without_nulls_at_the_end(mut list: Vec<Value>) -> Value {
    while list.last().is_some_and(Value::is_null) {
        list.pop();
    }
    if list.is_empty() { Value::Null } else { Value::Array(list) }
}

/// Null where nothing is wrong, or nothing is known of such an entity.
fn object_wrong(entity: &str, object: &Object, now: i64) -> Value {
    let Some(kind) = Kind::named(entity) else {
        return Value::Null;
    };
    let mut object = object.clone();
    object.retain(|field, value| {
        !matches!(field.as_str(), "_comment" | "_ignore") && !value.is_null()
    });
    as_list(&mut object, "tags");
    let names = object.remove("snis").filter(|_| kind == Kind::Certificates);
    if let Some(Value::String(id)) = object.get("certificate") {
        // By id; whether there is one is seen later.
        let id = if schema::is_uuid(id) { id.clone() } else { uuid::Uuid::nil().to_string() };
        object.insert("certificate".to_owned(), json!({ "id": id }));
    }
    let mut wrong = schema::violations(kind, &object, now).fields();
    if let Some(names) = names {
        let inside = names_wrong(&names, now);
        if !inside.is_null() {
            wrong["snis"] = inside;
        }
    }
    if wrong == json!({}) { Value::Null } else { wrong }
}

/// Of SNIs inside a certificate, which is theirs.
fn names_wrong(names: &Value, now: i64) -> Value {
    let mut names = names.clone();
    for name in names.as_array_mut().into_iter().flatten().filter_map(Value::as_object_mut) {
        name.insert("certificate".to_owned(), json!({ "id": uuid::Uuid::nil().to_string() }));
    }
    section(Kind::Snis.name(), &names, now)
}

/// Adds what is wrong with an object, and before it what is with those inside.
fn flatten(entity: &str, sent: &Value, wrong: &Value, objects: &mut Vec<Value>) {
    let (Value::Object(sent), Value::Object(wrong)) = (sent, wrong) else {
        return;
    };
    let (mut sent, mut wrong) = (sent.clone(), wrong.clone());
    for (child, field) in entities::children(entity) {
        let Some(Value::Array(inside)) = sent.get(child).cloned() else {
            continue;
        };
        sent.remove(child);
        let inside_wrong = wrong.remove(child).unwrap_or_default();
        for (item, wrong) in inside.iter().zip(inside_wrong.as_array().into_iter().flatten()) {
            let mut item = item.clone();
            if let (Some(item), Some(id)) = (item.as_object_mut(), sent.get("id")) {
                item.entry(field).or_insert_with(|| json!({ "id": id }));
            }
            flatten(child, &item, wrong, objects);
        }
    }
    let errors = errors("", &Value::Object(wrong));
    if errors.is_empty() {
        return;
    }
    let mut told = json!({
        "entity_type": entity.strip_suffix('s').unwrap_or(entity),
        "errors": errors,
    });
    for field in ["id", "name", "tags"] {
        let is_well = |value: &&Value| match field {
            "id" => value.as_str().is_some_and(schema::is_uuid),
            "name" => value.as_str().is_some_and(|name| !name.is_empty()),
            _ => value.as_array().is_some_and(|tags| tags.iter().all(Value::is_string)),
        };
        if let Some(value) = sent.get(field).filter(is_well) {
            told[format!("entity_{field}")] = value.clone();
        }
    }
    told["entity"] = Value::Object(sent);
    objects.push(told);
}

/// One entry a text, with the path to its field; Lua counts from one.
fn errors(path: &str, wrong: &Value) -> Vec<Value> {
    let below = |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
    match wrong {
        Value::String(text) => vec![json!({ "type": "field", "field": path, "message": text })],
        Value::Array(list) => {
            let element = |(at, wrong)| errors(&below(&usize::to_string(&(at + 1))), wrong);
            list.iter().enumerate().flat_map(element).collect()
        }
        Value::Object(fields) => {
            let field = |(field, wrong): (&String, &Value)| match (field.as_str(), wrong) {
                ("@entity", Value::Array(texts)) => {
                    let entry = |text| json!({ "type": "entity", "message": text });
                    texts.iter().map(entry).collect()
                }
                _ => errors(&below(field), wrong),
            };
            fields.iter().flat_map(field).collect()
        }
        _ => Vec::new(),
    }
}

/// A table as Penlight writes it.
fn lua(value: &Value) -> String {
    let quoted = |text: &str| format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""));
    let parts: Vec<String> = match value {
        Value::String(text) => return quoted(text),
        Value::Array(list) => {
            let dense = list.iter().position(Value::is_null).unwrap_or(list.len());
            let present = list.iter().enumerate().filter(|(_, element)| !element.is_null());
            let part = |(at, element)| match at < dense {
                true => lua(element),
                false => format!("[{}]={}", at + 1, lua(element)),
            };
            present.map(part).collect()
        }
        Value::Object(fields) => {
            let is_word = |key: &str| {
                !key.starts_with(|first: char| first.is_ascii_digit())
                    && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
            };
            let part = |(key, value): (&String, &Value)| match is_word(key) {
                true => format!("{key}={}", lua(value)),
                false => format!("[{}]={}", quoted(key), lua(value)),
            };
            fields.iter().map(part).collect()
        }
        other => return other.to_string(),
    };
    format!("{{{}}}", parts.join(","))
}
