//! A tree that keeps what it was read from: the order of fields, and numbers digit by digit.

use zeroize::Zeroizing;

/// Wiped when dropped, because any of them may be a key.
pub(super) type Text = Zeroizing<String>;

/// No `Debug`: it may hold keys.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Value {
    Null,
    Bool(bool),
    /// As JSON writes it. A float would round integers of 64 bits.
    Number(Text),
    Text(Text),
    List(Vec<Value>),
    Map(Map),
}

impl Value {
    #[cfg(test)]
    pub(super) fn text(text: &str) -> Self {
        Self::Text(Text::new(text.to_owned()))
    }

    pub(super) const fn as_map(&self) -> Option<&Map> {
        match self {
            Self::Map(map) => Some(map),
            _ => None,
        }
    }
}

/// Fields in their order.
#[derive(Clone, Default, PartialEq, Eq)]
pub(super) struct Map(Vec<(Text, Value)>);

impl Map {
    /// Of fields with different names.
    pub(super) const fn of(fields: Vec<(Text, Value)>) -> Self {
        Self(fields)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.0.iter().map(|(key, value)| (key.as_str(), value))
    }

    pub(super) fn get(&self, key: &str) -> Option<&Value> {
        self.iter().find(|(found, _)| *found == key).map(|(_, value)| value)
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
