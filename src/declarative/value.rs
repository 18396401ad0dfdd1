//! A tree that keeps what it was read from: the order of fields, and numbers digit by digit.

use std::borrow::Cow;
use std::sync::Arc;

use zeroize::Zeroizing;

use super::json;
use crate::allowance::Room;

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
    /// A list that is only passed on.
    Packed(Packed),
}

impl Value {
    pub(super) fn text(text: &str) -> Self {
        Self::Text(Text::new(text.to_owned()))
    }

    pub(super) fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    pub(super) const fn as_map(&self) -> Option<&Map> {
        match self {
            Self::Map(map) => Some(map),
            _ => None,
        }
    }

    pub(super) const fn as_map_mut(&mut self) -> Option<&mut Map> {
        match self {
            Self::Map(map) => Some(map),
            _ => None,
        }
    }

    /// The fields; all else becomes a mapping without any.
    pub(super) fn map_mut(&mut self) -> &mut Map {
        if !matches!(self, Self::Map(_)) {
            *self = Self::Map(Map::default());
        }
        let Self::Map(map) = self else { unreachable!("it was made one") };
        map
    }

    /// The elements; all else becomes a list without any.
    fn list_mut(&mut self) -> &mut Vec<Self> {
        if !matches!(self, Self::List(_)) {
            *self = Self::List(Vec::new());
        }
        let Self::List(list) = self else { unreachable!("it was made one") };
        list
    }

    /// What it takes of the room for a configuration.
    pub(super) fn weight(&self) -> usize {
        Room::weight(match self {
            Self::Null | Self::Bool(_) => 0,
            Self::Number(text) | Self::Text(text) => text.len(),
            Self::List(list) => list.iter().map(Self::weight).sum(),
            Self::Map(map) => {
                map.iter().map(|(key, value)| Room::weight(key.len()) + value.weight()).sum()
            }
            Self::Packed(packed) => {
                packed.texts().iter().map(|text| Room::weight(text.len())).sum()
            }
        })
    }

    /// What is in a list; of all else nothing.
    pub(super) fn elements(&self) -> &[Self] {
        match self {
            Self::List(list) => list,
            _ => &[],
        }
    }

    /// The same, with what is in a list that is only passed on.
    pub(super) fn unpacked(&self) -> impl Iterator<Item = Cow<'_, Self>> {
        let packed = match self {
            Self::Packed(packed) => packed.texts(),
            _ => &[],
        };
        let packed = packed.iter().map(|text| Cow::Owned(json::unpacked(text)));
        self.elements().iter().map(Cow::Borrowed).chain(packed)
    }
}

/// What is in a list that is only passed on, each element as its JSON: as trees they would take many
/// times the memory. Copies share it.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Packed(Arc<Vec<Text>>);

impl Packed {
    pub(super) fn of(mut texts: Vec<Text>) -> Self {
        texts.shrink_to_fit();
        Self(Arc::new(texts))
    }

    pub(super) fn texts(&self) -> &[Text] {
        &self.0
    }
}

/// Fields in their order. Copies share them until one is changed: a configuration is large, and what
/// is sent differs little from what runs.
#[derive(Clone, Default, PartialEq, Eq)]
pub(super) struct Map(Arc<Vec<(Text, Value)>>);

impl Map {
    /// Of fields with different names.
    pub(super) fn of(mut fields: Vec<(Text, Value)>) -> Self {
        fields.shrink_to_fit();
        Self(Arc::new(fields))
    }

    fn fields_mut(&mut self) -> &mut Vec<(Text, Value)> {
        Arc::make_mut(&mut self.0)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.0.iter().map(|(key, value)| (key.as_str(), value))
    }

    pub(super) fn get(&self, key: &str) -> Option<&Value> {
        self.iter().find(|(found, _)| *found == key).map(|(_, value)| value)
    }

    pub(super) fn get_mut(&mut self, key: &str) -> Option<&mut Value> {
        self.fields_mut()
            .iter_mut()
            .find(|(found, _)| found.as_str() == key)
            .map(|(_, value)| value)
    }

    /// The text that stands there, if one does.
    pub(super) fn text(&self, key: &str) -> Option<&str> {
        self.get(key)?.as_text()
    }

    /// What is in the list that stands there.
    pub(super) fn elements(&self, key: &str) -> &[Value] {
        self.get(key).map_or(&[], Value::elements)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// In its place where there is such a field, else at the end.
    pub(super) fn set(&mut self, key: &str, value: Value) {
        match self.get_mut(key) {
            Some(present) => *present = value,
            None => self.fields_mut().push((Text::new(key.to_owned()), value)),
        }
    }

    /// The list that stands there, or a new one at the end: nothing else is where lists are.
    pub(super) fn list_mut(&mut self, key: &str) -> &mut Vec<Value> {
        let place = self.0.iter().position(|(found, _)| found.as_str() == key);
        let at = place.unwrap_or(self.0.len());
        if at == self.0.len() {
            self.fields_mut().push((Text::new(key.to_owned()), Value::Null));
        }
        self.fields_mut()[at].1.list_mut()
    }

    pub(super) fn move_to_end(&mut self, key: &str) {
        if let Some(at) = self.0.iter().position(|(found, _)| found.as_str() == key) {
            self.fields_mut()[at..].rotate_left(1);
        }
    }

    pub(super) fn remove(&mut self, key: &str) -> Option<Value> {
        let at = self.0.iter().position(|(found, _)| found.as_str() == key)?;
        Some(self.fields_mut().remove(at).1)
    }
}
