//! A configuration as a whole: read from JSON or YAML, written as JSON.

use std::fmt;

use zeroize::Zeroizing;

use super::entities::Entity;
use super::unreadable::Unreadable;
use super::value::{Map, Packed, Value};
use super::{json, yaml};
use crate::allowance::Room;

/// A declarative configuration: all of it, in its order, with what is not ours as it was.
#[derive(Clone, PartialEq, Eq)]
pub struct Document {
    pub(super) root: Map,
}

/// The entities that are written to.
pub(super) const LISTS: [&str; 4] = ["certificates", "snis", "ca_certificates", "licenses"];

/// Whether a field of the top level is one of these: the others are only passed on.
pub(super) fn is_ours(field: &str) -> bool {
    LISTS.contains(&field)
}

impl Document {
    /// Reads JSON, or else YAML, as Kong does. What Kong exported can be sent again: names that
    /// stand inside their certificate and beside it do so once.
    ///
    /// # Errors
    ///
    /// Says where it is none that Kong would take, or that can be sent on as it is meant; never
    /// what stands there.
    pub fn parse(text: &[u8]) -> Result<Self, Unreadable> {
        Self::parse_within(Room::WITHOUT_BOUNDS, text)
    }

    /// The same, if there is room for it.
    pub(crate) fn parse_within(room: Room, text: &[u8]) -> Result<Self, Unreadable> {
        let text = std::str::from_utf8(text).map_err(|_| Unreadable::NotText)?;
        let value = match json::read(text, room)? {
            Some(value) => value,
            None => yaml::read(text, room)?,
        };
        Self::of(value, room)
    }

    /// Reads what Kong exported, which is YAML as libyaml writes it.
    ///
    /// # Errors
    ///
    /// As [`Self::parse`].
    pub fn parse_exported(text: &[u8]) -> Result<Self, Unreadable> {
        let text = std::str::from_utf8(text).map_err(|_| Unreadable::NotText)?;
        Self::exported_within(Room::WITHOUT_BOUNDS, text)
    }

    fn exported_within(room: Room, text: &str) -> Result<Self, Unreadable> {
        Self::of(yaml::read_exported(text, room)?, room)
    }

    /// Reads Kong's answer to `GET /config`: what it exports, as a text in JSON. Either may be large:
    /// the answer is gone before the text is read. `None` if it is no such answer.
    pub(crate) fn exported(
        room: Room,
        answer: Zeroizing<Vec<u8>>,
    ) -> Option<Result<Self, Unreadable>> {
        let mut fields = match json::read(std::str::from_utf8(&answer).ok()?, room) {
            Ok(Some(Value::Map(fields))) => fields,
            Err(Unreadable::TooLarge) => return Some(Err(Unreadable::TooLarge)),
            _ => return None,
        };
        drop(answer);
        let Some(Value::Text(text)) = fields.remove("config") else { return None };
        Some(Self::exported_within(room, &text))
    }

    fn of(value: Value, mut room: Room) -> Result<Self, Unreadable> {
        let weight = value.weight();
        let Value::Map(root) = value else { return Err(Unreadable::NoMapping) };
        match root.get("_format_version") {
            Some(Value::Text(_)) => {}
            None | Some(Value::Null) => return Err(Unreadable::NoFormatVersion),
            Some(_) => return Err(Unreadable::FormatVersion),
        }
        for field in LISTS {
            if !root.get(field).is_none_or(holds_objects) {
                return Err(Unreadable::NoList { field });
            }
        }
        let objects = Entity::ALL.iter().map(|entity| root.elements(entity.list()).len()).sum();
        room.take_whole(weight, objects).map_err(|_| Unreadable::TooLarge)?;
        let mut document = Self { root };
        document.pack();
        document.drop_echoed_names();
        Ok(document)
    }

    /// Packs lists that are only passed on and were not packed as they were read: anchors stand for them.
    fn pack(&mut self) {
        let is_open =
            |(field, value): &(&str, &Value)| !is_ours(field) && matches!(value, Value::List(_));
        let open: Vec<String> =
            self.root.iter().filter(is_open).map(|(field, _)| field.to_owned()).collect();
        for field in open {
            if let Some(list) = self.root.get_mut(&field) {
                let texts = list.elements().iter().map(json::packed).collect();
                *list = Value::Packed(Packed::of(texts));
            }
        }
    }

    /// Whether there is anything in it besides its head.
    #[must_use]
    pub fn has_objects(&self) -> bool {
        self.root.iter().any(|(_, value)| match value {
            Value::Packed(packed) => !packed.texts().is_empty(),
            value => !value.elements().is_empty(),
        })
    }

    /// As JSON text: the same for the same configuration, byte by byte.
    #[must_use]
    pub fn to_json(&self) -> Zeroizing<Vec<u8>> {
        collected(|out| self.each_piece(out))
    }

    /// Hands over the same piece by piece: all of it may be large.
    pub fn each_piece(&self, out: &mut dyn FnMut(&str)) {
        json::write_map(&self.root, out);
    }

    /// As it is sent to Kong: its JSON as a text in JSON, because Kong takes the hash of a text alone.
    #[must_use]
    pub fn posted(&self) -> Zeroizing<Vec<u8>> {
        collected(|out| {
            out("{\"config\":\"");
            self.each_piece(&mut |piece| json::write_escaped(piece, out));
            out("\"}");
        })
    }
}

/// Prints nothing of what it holds.
impl fmt::Debug for Document {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Document").finish_non_exhaustive()
    }
}

/// Lua has one empty table for lists and mappings.
fn holds_objects(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Map(map) => map.is_empty(),
        Value::List(list) => list.iter().all(|element| element.as_map().is_some()),
        _ => false,
    }
}

/// All that is written, in a buffer of its size: one that grows leaves copies behind.
pub(super) fn collected(write: impl Fn(&mut dyn FnMut(&str))) -> Zeroizing<Vec<u8>> {
    let mut size = 0;
    write(&mut |piece| size += piece.len());
    let mut buffer = Zeroizing::new(Vec::with_capacity(size));
    write(&mut |piece| buffer.extend_from_slice(piece.as_bytes()));
    buffer
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

    use proptest::prelude::*;

    use super::*;

    fn json_of(text: &str) -> String {
        let document = Document::parse(text.as_bytes()).unwrap();
        String::from_utf8(document.to_json().to_vec()).unwrap()
    }

    fn error_of(text: impl AsRef<[u8]>) -> String {
        Document::parse(text.as_ref()).unwrap_err().to_string()
    }

    /// What a value in YAML is sent as.
    fn sent(value: &str) -> String {
        let json = json_of(&format!("_format_version: '3.0'\na: {value}\n"));
        let value = json.strip_prefix(r#"{"_format_version":"3.0","a":"#).unwrap();
        value.strip_suffix('}').unwrap().to_owned()
    }

    #[test]
    fn everything_is_kept_in_its_order() {
        let text = r#"{"z":{},"_format_version":"1.1","a":[[],null,false,12345678901234567890,1.50,"é\n"]}"#;
        assert_eq!(json_of(text), text);
        let yaml = "z: {}\n_format_version: \"1.1\"\na:\n- []\n- ~\n- no\n- 12345678901234567890\n- 1.50\n- \"é\\n\"\n";
        assert_eq!(json_of(yaml), text.replace("1.50", "1.5"));
        assert_eq!(json_of(&json_of(yaml)), json_of(yaml));
    }

    #[test]
    fn texts_reach_kong_as_they_are_in_every_style() {
        for (value, expected) in [
            ("0o17", r#""0o17""#),
            ("NaN", r#""NaN""#),
            ("2020-01-01", r#""2020-01-01""#),
            ("y", r#""y""#),
            ("'010'", r#""010""#),
            ("\"yes\"", r#""yes""#),
            ("it's", r#""it's""#),
            ("'it''s'", r#""it's""#),
            ("~/a$", r#""~/a$""#),
            ("a\n  b\n\n  c", r#""a b\nc""#),
            (
                "|\n  -----BEGIN X-----\n  a: 'b'\n  -----END X-----",
                r#""-----BEGIN X-----\na: 'b'\n-----END X-----\n""#,
            ),
            ("|-\n  a\n   b", r#""a\n b""#),
            ("|+\n  a\n", r#""a\n\n""#),
            (">\n  a\n  b", r#""a b\n""#),
            ("|2\n    a", r#""  a\n""#),
            ("\"\\x41\\u00e9\\N\\e\\\n  b\"", "\"Aé\u{85}\\u001bb\""),
            ("!!str 010", r#""010""#),
            ("!<tag:yaml.org,2002:str> 010", r#""010""#),
            ("!!int '010'", "8"),
            ("!!map {}", "{}"),
            ("yes", "true"),
            ("1:30", "90"),
            ("", "null"),
        ] {
            assert_eq!(sent(value), expected, "{value}");
        }
    }

    #[test]
    fn anchors_aliases_and_merges_are_followed() {
        assert_eq!(sent("[&a 010, *a, &a x, *a]"), r#"[8,8,"x","x"]"#);
        let base = "&base {x: 1, y: 2}\nb: {y: 3, <<: *base, z: 4}\nc:\n  \"<<\": [*base, {y: 9, w: 5}]\n  y: 6";
        assert_eq!(sent(base), r#"{"x":1,"y":2},"b":{"y":3,"x":1,"z":4},"c":{"x":1,"w":5,"y":6}"#);
    }

    #[test]
    fn what_there_is_no_room_for_is_not_read() {
        let many = |list: &str, one: &str| {
            let objects = vec![one; 1000];
            let json = format!(r#"{{"_format_version":"3.0","{list}":[{}]}}"#, objects.join(","));
            let yaml = format!("_format_version: '3.0'\n{list}:\n- {}\n", objects.join("\n- "));
            let anchors =
                format!("_format_version: '3.0'\n{list}:\n- &a {one}\n{}", "- *a\n".repeat(999));
            [json, yaml, anchors]
        };
        let small = r#"{"a":[1,2,3]}"#;
        for (list, one, room) in [
            // As texts, and as trees.
            ("services", small, 1000 * (64 + small.len())),
            ("snis", small, 1000 * (6 * 64 + 4)),
            // With what is made of them.
            ("certificates", small, 1000 * (6 * 64 + 1024 + 4)),
            ("certificates", "{}", 1000 * (64 + 1024)),
        ] {
            for text in many(list, one) {
                let shown = &text[..60];
                let read = |room| Document::parse_within(Room::of(room), text.as_bytes());
                assert!(read(room + room / 10 + 1000).is_ok(), "{shown}");
                assert!(read(room - room / 10).err() == Some(Unreadable::TooLarge), "{shown}");
            }
        }
        let one_object = format!(
            r#"{{"_format_version":"3.0","services":[{{"tags":[{}]}}]}}"#,
            ["1"; 1000].join(",")
        );
        let read = Document::parse_within(Room::of(40_000), one_object.as_bytes());
        assert!(read.err() == Some(Unreadable::TooLarge), "a tree while it is read");
    }

    #[test]
    fn what_anchors_stand_for_is_kept_as_if_it_were_written_out() {
        let text = "_format_version: '3.0'\na: &a [{b: [1]}, x]\nc: *a\nd: {e: *a}\n";
        let document = Document::parse(text.as_bytes()).unwrap();
        assert!(Document::parse(&document.to_json()).unwrap() == document);
    }

    #[test]
    fn a_small_text_does_not_grow_without_bounds() {
        let mut text = "_format_version: '3.0'\na: &a0 [lol, lol]\n".to_owned();
        for level in 1..100 {
            let before = format!("*a{}, ", level - 1).repeat(9);
            text += &format!("a{level}: &a{level} [{before}]\n");
        }
        assert!(error_of(text).contains("anchors and aliases repeat"), "bounded");
    }

    #[test]
    fn aliases_do_not_nest_deeper_than_what_is_written() {
        let (begin, end) = ("[".repeat(100), "]".repeat(100));
        let nested = |levels: usize| {
            let mut text = format!("_format_version: '3.0'\na0: &a0 {begin}{end}\n");
            for level in 1..levels {
                text += &format!("a{level}: &a{level} {begin}*a{}{end}\n", level - 1);
            }
            text
        };
        assert!(Document::parse(nested(1).as_bytes()).is_ok());
        for levels in [2, 400] {
            assert!(error_of(nested(levels)).contains("nested too deep"), "{levels}");
        }
    }

    #[test]
    fn what_kong_would_not_take_is_told_by_place_or_field() {
        let depth = "[".repeat(200) + &"]".repeat(200);
        let yaml_depth = "- ".repeat(10_000) + "a";
        let cases = [
            ("", "its top level is no mapping"),
            ("- a", "its top level is no mapping"),
            ("[]", "its top level is no mapping"),
            ("s3cret", "its top level is no mapping"),
            ("{}", "_format_version is missing"),
            ("_format_version: ~", "_format_version is missing"),
            ("_format_version: 3.0", "_format_version is not text; write it in quotes"),
            ("{\"_format_version\": 3.0}", "_format_version is not text; write it in quotes"),
            ("a: 1\na: s3cret", "2:1:"),
            ("a: 1\na: s3cret", "a key stands in one mapping twice"),
            ("{\"a\":1,\n\"a\":\"s3cret\"}", "2:1: a key stands in one mapping twice"),
            ("a: {yes: s3cret}", "1:5: a key is not text"),
            ("? [s3cret]\n: 1", "a key is not text"),
            ("a:\n  - .inf", "2:5: a number is not finite"),
            ("a: 1e400", "1:4: a number is not finite"),
            ("a: 010_", "1:4: a number is written in an unsafe way"),
            ("a: !!binary s3cret", "a tag is not known"),
            ("a: !s3cret b", "a tag is not known"),
            ("a: !!set {}", "a tag is not known"),
            ("a: !!int s3cret", "a value does not fit its tag"),
            ("a: {<<: s3cret}", "what is merged by << is not a mapping"),
            ("a: &a [*a]", "1:8: an alias stands within its own anchor"),
            ("a: *s3cret", "it is neither JSON nor YAML"),
            ("a: b: s3cret", "1:5: it is neither JSON nor YAML: mapping values are not allowed"),
            ("a: @s3cret", "1:4: it is neither JSON nor YAML: unexpected character"),
            ("a: [s3cret", "it is neither JSON nor YAML"),
            ("a: 1\n---\nb: s3cret", "a second YAML document begins"),
            ("b: a\na: |\n  s3cret", "3:9: a block of text ends without a newline"),
            ("a: s3\u{2028}cret", "1:6: a line separator"),
            (&depth, "nested too deep"),
            (&yaml_depth, "nested too deep"),
            ("_format_version: '3.0'\ncertificates: {a: s3cret}", "certificates is not a list"),
            ("_format_version: '3.0'\nsnis: [s3cret]", "snis is not a list of objects"),
        ];
        for (text, expected) in cases {
            let error = error_of(text);
            assert!(error.contains(expected), "{text}: {error}");
            assert!(!error.contains("s3cret"), "{error}");
        }
        assert_eq!(error_of(b"a: \xff"), "it is not UTF-8 text");
    }

    #[test]
    fn line_separators_in_an_export_are_the_texts_own() {
        // libyaml breaks no line there, and indents what follows as if it had.
        for (value, expected) in [
            ("'a\u{2028}  b'", "\"a\u{2028}b\""),
            ("|-\n  a\u{2029}  b\n  c", "\"a\u{2029}b\\nc\""),
            (r#""a\Nb\L  c""#, "\"a\u{85}b\u{2028}  c\""),
        ] {
            let text = format!("_format_version: '3.0'\na: {value}\n");
            let json = Document::parse_exported(text.as_bytes()).unwrap().to_json();
            let json = String::from_utf8(json.to_vec()).unwrap();
            assert_eq!(json, format!(r#"{{"_format_version":"3.0","a":{expected}}}"#));
        }
    }

    #[test]
    fn a_configuration_with_a_head_alone_has_no_objects() {
        for (text, expected) in [
            ("_format_version: '3.0'\n_transform: true\nservices:\n", false),
            ("_format_version: '3.0'\nservices: []\n", false),
            ("_format_version: '3.0'\nservices: [{name: a}]\n", true),
        ] {
            assert_eq!(Document::parse(text.as_bytes()).unwrap().has_objects(), expected, "{text}");
        }
    }

    #[test]
    fn a_file_may_begin_with_a_mark_and_end_as_it_likes() {
        for text in [
            "\u{feff}_format_version: '3.0'\n",
            "---\n_format_version: '3.0'\n...\n",
            "# a\r\n_format_version: '3.0'\r\n",
        ] {
            assert_eq!(json_of(text), r#"{"_format_version":"3.0"}"#, "{text:?}");
        }
    }

    #[test]
    fn nothing_of_it_is_printed() {
        let document = Document::parse(b"_format_version: s3cret").unwrap();
        assert_eq!(format!("{document:?}"), "Document { .. }");
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "[-?:,\\[\\]{}&*!|>'\"%@`# a1_.\n\t~<é]{0,60}") {
            let _ = Document::parse(text.as_bytes());
        }

        #[test]
        fn a_text_comes_back_from_json_and_from_double_quotes(text in any::<String>()) {
            let mut quoted = String::new();
            json::write_quoted(&text, &mut |piece| quoted.push_str(piece));
            let json = format!(r#"{{"_format_version":"3.0","a":{quoted}}}"#);
            prop_assert_eq!(json_of(&json), json);
        }
    }
}
