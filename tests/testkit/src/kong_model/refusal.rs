//! Kong's error bodies: `name`, `fields`, `message`, `code`.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::exchange::Answer;

/// Why Kong does not do what it is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    status: u16,
    body: Value,
}

impl Refusal {
    /// A bare message.
    pub(super) fn plain(status: u16, message: &str) -> Self {
        Self { status, body: json!({ "message": message }) }
    }

    /// Any failure of the database.
    pub(super) fn unexpected() -> Self {
        Self::plain(500, "An unexpected error occurred")
    }

    pub(super) fn schema(violations: &Violations) -> Self {
        let texts = violations.texts();
        let message = match texts.as_slice() {
            [only] => format!("schema violation ({only})"),
            several => format!("{} schema violations ({})", several.len(), several.join("; ")),
        };
        Self::new(400, "schema violation", 2, &message).with("fields", violations.fields())
    }

    /// Not recorded: an id that is no UUID, of an object that has no name.
    pub(super) fn invalid_id() -> Self {
        let why = "expected a valid UUID";
        let message = format!("invalid primary key: '{{id=\"{why}\"}}'");
        Self::new(400, "invalid primary key", 1, &message).with("fields", json!({ "id": why }))
    }

    pub(super) fn primary_key_taken(id: &str) -> Self {
        let message = format!("primary key violation on key '{{id=\"{id}\"}}'");
        Self::new(400, "primary key violation", 3, &message).with("fields", json!({ "id": id }))
    }

    pub(super) fn no_such_certificate(id: &str) -> Self {
        let message = format!(
            "the foreign key '{{id=\"{id}\"}}' does not reference an existing 'certificates' entity."
        );
        Self::new(400, "foreign key violation", 4, &message)
            .with("fields", json!({ "certificate": { "id": id } }))
    }

    pub(super) fn not_unique(field: &str, value: &str) -> Self {
        let message = format!("UNIQUE violation detected on '{{{field}=\"{value}\"}}'");
        Self::new(409, "unique constraint violation", 5, &message)
            .with("fields", json!({ field: value }))
    }

    pub(super) fn not_found(field: &str, value: &str) -> Self {
        let key = if field == "id" { "primary key " } else { "" };
        let message = format!("could not find the entity with {key}'{{{field}=\"{value}\"}}'");
        Self::new(404, "not found", 6, &message).with("fields", json!({ field: value }))
    }

    pub(super) fn invalid_offset(offset: &str, why: &str) -> Self {
        let message = format!("'{offset}' is not a valid offset: {why}");
        Self::new(400, "invalid offset", 7, &message)
    }

    pub(super) fn invalid_size(why: &str) -> Self {
        Self::new(400, "invalid size", 9, why)
    }

    /// An SNI that Kong does not take.
    pub(super) fn invalid_name(why: &str) -> Self {
        Self::new(400, "invalid unique name", 10, why)
    }

    pub(super) fn invalid_tags(why: &str) -> Self {
        let message = format!("invalid option (tags: {why})");
        Self::new(400, "invalid options", 11, &message).with("options", json!({ "tags": why }))
    }

    /// What a Kong without a database does not do, such as `create 'snis' entities`.
    pub(super) fn unsupported(what: &str) -> Self {
        let message = format!("cannot {what} when not using a database");
        Self::new(405, "operation unsupported", 12, &message)
    }

    /// Of a configuration.
    pub(super) fn declarative(message: &str, fields: &Value) -> Self {
        Self::new(400, "invalid declarative configuration", 14, message)
            .with("fields", fields.clone())
    }

    /// Not recorded: of a CA certificate that is to be deleted.
    pub(super) fn referred_to(id: &str, entity: &str, by: &str) -> Self {
        let message = format!("ca certificate {id} is still referenced by {entity} (id = {by})");
        Self::new(400, "referenced by others", 19, &message)
    }

    pub(super) fn answer(&self) -> Answer {
        Answer::json(self.status, &self.body)
    }

    fn new(status: u16, name: &str, code: u8, message: &str) -> Self {
        Self { status, body: json!({ "name": name, "code": code, "message": message }) }
    }

    pub(super) fn with(mut self, key: &str, value: Value) -> Self {
        self.body[key] = value;
        self
    }
}

/// What is wrong with an object: with the whole of it, and with fields.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Violations {
    entity: Vec<String>,
    fields: BTreeMap<String, Wrong>,
}

/// What is wrong with a field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Wrong {
    /// The whole of it.
    Whole(String),
    /// Elements of a list, counted from zero.
    Elements(BTreeMap<usize, String>),
    /// A key of a nested object.
    Nested(&'static str, String),
}

impl Wrong {
    pub(super) fn whole(text: &str) -> Self {
        Self::Whole(text.to_owned())
    }
}

impl Violations {
    /// One field that is wrong as a whole.
    pub(super) fn of(field: &str, text: &str) -> Self {
        let mut violations = Self::default();
        violations.add(field, Wrong::whole(text));
        violations
    }

    pub(super) fn add(&mut self, field: &str, wrong: Wrong) {
        self.fields.insert(field.to_owned(), wrong);
    }

    pub(super) fn add_to_entity(&mut self, text: &str) {
        self.entity.push(text.to_owned());
    }

    pub(super) fn concern(&self, field: &str) -> bool {
        self.fields.contains_key(field)
    }

    /// Refuses where anything is wrong.
    pub(super) fn none_or_refuse(&self) -> Result<(), Refusal> {
        if self.entity.is_empty() && self.fields.is_empty() {
            return Ok(());
        }
        Err(Refusal::schema(self))
    }

    fn texts(&self) -> Vec<String> {
        let mut texts = self.entity.clone();
        for (field, wrong) in &self.fields {
            match wrong {
                Wrong::Whole(text) => texts.push(format!("{field}: {text}")),
                Wrong::Elements(elements) => {
                    // Lua counts from one.
                    let text =
                        |(at, text): (&usize, &String)| format!("{field}.{}: {text}", at + 1);
                    texts.extend(elements.iter().map(text));
                }
                Wrong::Nested(key, text) => texts.push(format!("{field}.{key}: {text}")),
            }
        }
        texts
    }

    /// By field, and `@entity` for the whole.
    pub(super) fn fields(&self) -> Value {
        let mut fields = Map::new();
        if !self.entity.is_empty() {
            fields.insert("@entity".to_owned(), json!(self.entity));
        }
        for (field, wrong) in &self.fields {
            fields.insert(field.clone(), wrong.value());
        }
        Value::Object(fields)
    }
}

impl Wrong {
    fn value(&self) -> Value {
        match self {
            Self::Whole(text) => json!(text),
            Self::Nested(key, text) => json!({ *key: text }),
            Self::Elements(elements) => {
                let last = elements.keys().next_back().copied().unwrap_or_default();
                (0..=last).map(|at| json!(elements.get(&at))).collect()
            }
        }
    }
}
