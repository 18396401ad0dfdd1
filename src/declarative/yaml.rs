//! YAML as Kong reads it (lyaml over libyaml).

use std::collections::{HashMap, HashSet};
use std::str::Chars;

use yaml_rust2::Event;
use yaml_rust2::parser::{Parser, Tag};
use yaml_rust2::scanner::{Marker, ScanError, TScalarStyle};

use super::document::is_ours;
use super::json::{DEPTH, packed};
use super::scalar;
use super::unreadable::{Flaw, Place, Unreadable};
use super::value::{Map, Packed, Text, Value};
use crate::allowance::{Full, Room};

/// What anchors and aliases may repeat, in bytes of memory.
const REPEATED: usize = 64 * 1024 * 1024;
/// The key of what is merged.
const MERGE: &str = "<<";
/// The prefix of YAML's own tags.
const TAG: &str = "tag:yaml.org,2002:";
/// They are the ends of lines in YAML 1.1, which libyaml reads, and characters in YAML 1.2.
const SEPARATORS: [char; 3] = ['\u{85}', '\u{2028}', '\u{2029}'];

/// The only document of a text; null if there is none.
pub(super) fn read(text: &str, room: Room) -> Result<Value, Unreadable> {
    if let Some(at) = text.find(SEPARATORS) {
        return Err(Unreadable::At { place: Place::of(text, at), flaw: Flaw::Separator });
    }
    parsed(text, room)
}

/// The same of what libyaml wrote. There a separator is one of the text itself, as it is of
/// characters for the parser here; behind it libyaml indents, which the text does not have (but for
/// one of several lines that has spaces there itself: these are lost).
pub(super) fn read_exported(text: &str, room: Room) -> Result<Value, Unreadable> {
    if !text.contains(SEPARATORS) {
        return parsed(text, room);
    }
    let mut rest = text;
    let mut kept = Text::new(String::with_capacity(text.len()));
    while let Some(at) = rest.find(SEPARATORS) {
        let end = at + rest[at..].chars().next().map_or(0, char::len_utf8);
        kept.push_str(&rest[..end]);
        rest = rest[end..].trim_start_matches(' ');
    }
    kept.push_str(rest);
    parsed(&kept, room)
}

fn parsed(text: &str, room: Room) -> Result<Value, Unreadable> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    // The parser's own buffers are not wiped; what comes out of them is.
    let mut parser = Parser::new_from_str(text);
    let mut loader = Loader::within(room);
    while loader.take_next(&mut parser)? {}
    if loader.ends_in_block && !text.ends_with('\n') {
        return Err(Unreadable::At { place: Place::of(text, text.len()), flaw: Flaw::NoNewline });
    }
    Ok(loader.document.unwrap_or(Value::Null))
}

struct Loader {
    room: Room,
    document: Option<Value>,
    open: Vec<Open>,
    anchors: HashMap<usize, Anchored>,
    repeated: usize,
    /// The last scalar is a block that ends with a newline.
    ends_in_block: bool,
}

/// A list or mapping that is not at its end.
struct Open {
    anchor: usize,
    content: Content,
}

enum Content {
    List(Vec<Value>),
    /// Of the top level, and only passed on: each element is a tree while it is read, and no longer.
    Packed {
        texts: Vec<Text>,
        /// Without the one that is being read.
        room: Room,
    },
    Mapping {
        fields: Vec<Field>,
        /// The key whose value is yet to come, and where it began.
        key: Option<(Text, Place)>,
    },
}

struct Field {
    key: Text,
    value: Value,
    place: Place,
    is_merged: bool,
}

enum Stop {
    /// There is no room for more.
    Full,
    /// With where it is, if that is not where reading has come to.
    Flawed(Option<Place>, Flaw),
}

impl From<Full> for Stop {
    fn from(_: Full) -> Self {
        Self::Full
    }
}

impl From<Flaw> for Stop {
    fn from(flaw: Flaw) -> Self {
        Self::Flawed(None, flaw)
    }
}

struct Anchored {
    value: Value,
    weight: usize,
    /// Levels of lists and mappings.
    depth: usize,
}

impl Loader {
    fn within(room: Room) -> Self {
        Self {
            room,
            document: None,
            open: Vec::new(),
            anchors: HashMap::new(),
            repeated: 0,
            ends_in_block: false,
        }
    }

    /// False at the end.
    fn take_next(&mut self, parser: &mut Parser<Chars<'_>>) -> Result<bool, Unreadable> {
        let (event, mark) = parser.next_token().map_err(|error| syntax(&error))?;
        let place = place_of(mark);
        self.take(event, place).map_err(|stop| match stop {
            Stop::Full => Unreadable::TooLarge,
            Stop::Flawed(found, flaw) => Unreadable::At { place: found.unwrap_or(place), flaw },
        })
    }

    fn take(&mut self, event: Event, place: Place) -> Result<bool, Stop> {
        match event {
            Event::StreamEnd => return Ok(false),
            Event::DocumentStart if self.document.is_some() => {
                return Err(Flaw::SecondDocument.into());
            }
            Event::SequenceStart(anchor, tag) => {
                demand_tag(tag.as_ref(), "seq")?;
                let content = if anchor == 0 && self.packs() {
                    Content::Packed { texts: Vec::new(), room: self.room }
                } else {
                    Content::List(Vec::new())
                };
                self.open(anchor, content)?;
            }
            Event::MappingStart(anchor, tag) => {
                demand_tag(tag.as_ref(), "map")?;
                self.open(anchor, Content::Mapping { fields: Vec::new(), key: None })?;
            }
            Event::SequenceEnd | Event::MappingEnd => {
                if let Some(Open { anchor, content }) = self.open.pop() {
                    let value = match content {
                        Content::List(mut list) => {
                            list.shrink_to_fit();
                            Value::List(list)
                        }
                        Content::Packed { texts, .. } => Value::Packed(Packed::of(texts)),
                        Content::Mapping { fields, .. } => Value::Map(resolved(fields)?),
                    };
                    self.add(value, anchor, place)?;
                }
            }
            Event::Scalar(text, style, anchor, tag) => {
                let mut text = Text::new(text);
                // The parser's grew, to twice of what it holds.
                text.shrink_to_fit();
                self.room.take(text.len())?;
                self.ends_in_block = matches!(style, TScalarStyle::Literal | TScalarStyle::Folded)
                    && text.ends_with('\n');
                let value = match (tag, style) {
                    (Some(tag), _) => scalar::tagged(name_of(&tag).as_deref().unwrap_or(""), text)?,
                    (None, TScalarStyle::Plain) => scalar::plain(text)?,
                    (None, _) => Value::Text(text),
                };
                self.add(value, anchor, place)?;
            }
            Event::Alias(anchor) => {
                let anchored = self.anchors.get(&anchor).ok_or(Flaw::Alias)?;
                // What aliases stand for may hold aliases itself.
                demand_flat(self.open.len() + anchored.depth)?;
                self.repeated += anchored.weight;
                demand_few(self.repeated)?;
                self.room.take_whole(anchored.weight, 0)?;
                let value = anchored.value.clone();
                self.add(value, 0, place)?;
            }
            Event::StreamStart | Event::DocumentStart | Event::DocumentEnd | Event::Nothing => {}
        }
        Ok(true)
    }

    /// Whether a list that begins here is one of the top level that is only passed on.
    fn packs(&self) -> bool {
        match &self.open[..] {
            [Open { content: Content::Mapping { key: Some((key, _)), .. }, .. }] => {
                !is_ours(key) && key.as_str() != MERGE
            }
            _ => false,
        }
    }

    fn open(&mut self, anchor: usize, content: Content) -> Result<(), Stop> {
        demand_flat(self.open.len() + 1)?;
        self.room.take(0)?;
        self.open.push(Open { anchor, content });
        Ok(())
    }

    fn add(&mut self, value: Value, anchor: usize, place: Place) -> Result<(), Stop> {
        if anchor > 0 {
            let (weight, depth) = (value.weight(), depth(&value));
            self.repeated += weight;
            demand_few(self.repeated)?;
            self.room.take_whole(weight, 0)?;
            // It stays when what it is in is packed.
            if let Some(Open { content: Content::Packed { room, .. }, .. }) = self.open.get_mut(1) {
                room.take_whole(weight, 0)?;
            }
            self.anchors.insert(anchor, Anchored { value: value.clone(), weight, depth });
        }
        match self.open.last_mut().map(|open| &mut open.content) {
            None => self.document = Some(value),
            Some(Content::List(list)) => list.push(value),
            Some(Content::Packed { texts, room }) => {
                let text = packed(&value);
                room.take(text.len())?;
                self.room = *room;
                texts.push(text);
            }
            Some(Content::Mapping { fields, key }) => match (key.take(), value) {
                (None, Value::Text(text)) => *key = Some((text, place)),
                (None, _) => return Err(Flaw::KeyNotText.into()),
                // In quotes, too.
                (Some((key, place)), value) if key.as_str() == MERGE => {
                    merge(fields, value, place)?;
                }
                (Some((key, place)), value) => {
                    fields.push(Field { key, value, place, is_merged: false });
                }
            },
        }
        Ok(())
    }
}

fn merge(fields: &mut Vec<Field>, value: Value, place: Place) -> Result<(), Flaw> {
    match value {
        Value::Map(merged) => {
            let field = |(key, value): (&str, &Value)| Field {
                key: Text::new(key.to_owned()),
                value: value.clone(),
                place,
                is_merged: true,
            };
            fields.extend(merged.iter().map(field));
        }
        Value::List(list) if list.iter().all(|merged| merged.as_map().is_some()) => {
            list.into_iter().try_for_each(|merged| merge(fields, merged, place))?;
        }
        _ => return Err(Flaw::Merge),
    }
    Ok(())
}

/// What is written wins over what is merged, and of that the first.
fn resolved(fields: Vec<Field>) -> Result<Map, Stop> {
    let mut written = HashSet::new();
    for field in fields.iter().filter(|field| !field.is_merged) {
        if !written.insert(field.key.as_str()) {
            return Err(Stop::Flawed(Some(field.place), Flaw::KeyTwice));
        }
    }
    let mut merged = HashSet::new();
    let mut kept = Vec::with_capacity(fields.len());
    for field in &fields {
        let key = field.key.as_str();
        kept.push(!field.is_merged || (!written.contains(key) && merged.insert(key)));
    }
    let fields = fields.into_iter().zip(kept).filter(|(_, kept)| *kept);
    Ok(Map::of(fields.map(|(field, _)| (field.key, field.value)).collect()))
}

fn depth(value: &Value) -> usize {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Text(_) => 0,
        // Of the top level, with neither anchor nor alias.
        Value::Packed(_) => DEPTH,
        Value::List(list) => 1 + list.iter().map(depth).max().unwrap_or(0),
        Value::Map(map) => 1 + map.iter().map(|(_, value)| depth(value)).max().unwrap_or(0),
    }
}

const fn demand_flat(depth: usize) -> Result<(), Flaw> {
    if depth > DEPTH { Err(Flaw::TooDeep) } else { Ok(()) }
}

const fn demand_few(repeated: usize) -> Result<(), Flaw> {
    if repeated > REPEATED { Err(Flaw::TooManyAliases) } else { Ok(()) }
}

fn demand_tag(tag: Option<&Tag>, expected: &str) -> Result<(), Flaw> {
    match tag {
        Some(tag) if name_of(tag).as_deref() != Some(expected) => Err(Flaw::Tag),
        _ => Ok(()),
    }
}

/// `str` of `!!str`, however it is written.
fn name_of(tag: &Tag) -> Option<String> {
    format!("{}{}", tag.handle, tag.suffix).strip_prefix(TAG).map(str::to_owned)
}

fn place_of(mark: Marker) -> Place {
    Place { line: mark.line(), column: mark.col() + 1 }
}

fn syntax(error: &ScanError) -> Unreadable {
    // The one message that quotes the text, if only a character of it.
    let words = error.info().split(": `").next().unwrap_or_default();
    Unreadable::At { place: place_of(*error.marker()), flaw: Flaw::Syntax(words.to_owned()) }
}
