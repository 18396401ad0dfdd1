//! JSON, as Kong's reader (lua-cjson) takes it, and as it is sent.

use std::collections::HashSet;

use super::document::is_ours;
use super::unreadable::{Flaw, Place, Unreadable};
use super::value::{Map, Packed, Text, Value};
use crate::allowance::{Full, Room};

/// No configuration is nested deeper, and no stack is too small for so much.
pub(super) const DEPTH: usize = 128;

/// `None` if it is not JSON.
///
/// Errs if it is, with a value that readers take differently, or more than there is room for.
pub(super) fn read(text: &str, room: Room) -> Result<Option<Value>, Unreadable> {
    match (Reader { text, at: 0, room, packs: true }).whole() {
        Ok(value) => Ok(Some(value)),
        Err(Stop::NotJson) => Ok(None),
        Err(Stop::Full) => Err(Unreadable::TooLarge),
        Err(Stop::Flawed(at, flaw)) => Err(Unreadable::At { place: Place::of(text, at), flaw }),
    }
}

/// What [`packed`] made a text of.
pub(super) fn unpacked(text: &str) -> Value {
    let reader = Reader { text, at: 0, room: Room::WITHOUT_BOUNDS, packs: false };
    reader.whole().unwrap_or(Value::Null)
}

/// As a text of its size.
pub(super) fn packed(value: &Value) -> Text {
    let mut size = 0;
    write(value, &mut |piece| size += piece.len());
    let mut text = Text::new(String::with_capacity(size));
    write(value, &mut |piece| text.push_str(piece));
    text
}

enum Stop {
    NotJson,
    /// There is no room for more.
    Full,
    /// With the byte where it is.
    Flawed(usize, Flaw),
}

impl From<Full> for Stop {
    fn from(_: Full) -> Self {
        Self::Full
    }
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
    room: Room,
    /// Lists of the top level that are only passed on are packed.
    packs: bool,
}

impl<'a> Reader<'a> {
    fn whole(mut self) -> Result<Value, Stop> {
        let value = self.value(0)?;
        self.skip_space();
        if self.at == self.text.len() { Ok(value) } else { Err(Stop::NotJson) }
    }

    fn value(&mut self, depth: usize) -> Result<Value, Stop> {
        self.skip_space();
        if depth > DEPTH {
            return Err(Stop::Flawed(self.at, Flaw::TooDeep));
        }
        if !matches!(self.peek(), Some(b'"')) {
            self.room.take(0)?;
        }
        match self.peek() {
            Some(b'{') => self.map(depth).map(Value::Map),
            Some(b'[') => self.list(depth).map(Value::List),
            Some(b'"') => self.string().map(Value::Text),
            _ => self.word(),
        }
    }

    fn map(&mut self, depth: usize) -> Result<Map, Stop> {
        let mut fields: Vec<(Text, Value)> = Vec::new();
        let mut begins = Vec::new();
        self.at += 1;
        while let Some(begin) = self.next_of(b'}', fields.is_empty())? {
            if self.peek() != Some(b'"') {
                return Err(Stop::NotJson);
            }
            let key = self.string()?;
            self.skip_space();
            self.expect(b':')?;
            self.skip_space();
            let is_packed = self.packs && depth == 0 && !is_ours(&key) && self.peek() == Some(b'[');
            let value = if is_packed { self.packed_list()? } else { self.value(depth + 1)? };
            fields.push((key, value));
            begins.push(begin);
        }
        let mut seen = HashSet::with_capacity(fields.len());
        for ((key, _), begin) in fields.iter().zip(begins) {
            if !seen.insert(key.as_str()) {
                return Err(Stop::Flawed(begin, Flaw::KeyTwice));
            }
        }
        Ok(Map::of(fields))
    }

    fn list(&mut self, depth: usize) -> Result<Vec<Value>, Stop> {
        let mut list = Vec::new();
        self.at += 1;
        while self.next_of(b']', list.is_empty())?.is_some() {
            list.push(self.value(depth + 1)?);
        }
        list.shrink_to_fit();
        Ok(list)
    }

    /// A list of the top level. Each element is a tree while it is read, and no longer.
    fn packed_list(&mut self) -> Result<Value, Stop> {
        let mut texts = Vec::new();
        self.at += 1;
        while self.next_of(b']', texts.is_empty())?.is_some() {
            let room = self.room;
            let text = packed(&self.value(2)?);
            self.room = room;
            self.room.take(text.len())?;
            texts.push(text);
        }
        Ok(Value::Packed(Packed::of(texts)))
    }

    /// Where the next element begins; `None` behind the end.
    fn next_of(&mut self, end: u8, is_first: bool) -> Result<Option<usize>, Stop> {
        self.skip_space();
        if self.peek() == Some(end) {
            self.at += 1;
            return Ok(None);
        }
        if !is_first {
            self.expect(b',')?;
            self.skip_space();
        }
        Ok(Some(self.at))
    }

    /// Control characters may stand in it as they are: cjson takes them.
    fn string(&mut self) -> Result<Text, Stop> {
        let begin = self.at + 1;
        let mut end = begin;
        let bytes = self.text.as_bytes();
        loop {
            match bytes.get(end) {
                Some(b'"') => break,
                Some(b'\\') => end += 2,
                Some(0) | None => return Err(Stop::NotJson),
                Some(_) => end += 1,
            }
        }
        self.at = end + 1;
        self.room.take(end - begin)?;
        unescaped(&self.text[begin..end]).ok_or(Stop::NotJson)
    }

    /// A number, `true`, `false`, or `null`.
    fn word(&mut self) -> Result<Value, Stop> {
        let begin = self.at;
        let rest: &'a str = &self.text[begin..];
        let is_end = |byte: u8| byte.is_ascii_whitespace() || matches!(byte, b',' | b']' | b'}');
        let word = &rest[..rest.bytes().position(is_end).unwrap_or(rest.len())];
        self.at += word.len();
        match word {
            "null" => Ok(Value::Null),
            "true" => Ok(Value::Bool(true)),
            "false" => Ok(Value::Bool(false)),
            number if is_number(number) => Ok(Value::Number(Text::new(number.to_owned()))),
            // cjson takes it, and reads `010` as ten where YAML's eight would be read here.
            odd if is_odd_number(odd) => Err(Stop::Flawed(begin, Flaw::Number)),
            _ => Err(Stop::NotJson),
        }
    }

    fn skip_space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn expect(&mut self, byte: u8) -> Result<(), Stop> {
        if self.peek() != Some(byte) {
            return Err(Stop::NotJson);
        }
        self.at += 1;
        Ok(())
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }
}

/// RFC 8259's grammar.
fn is_number(word: &str) -> bool {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let unsigned = word.strip_prefix('-').unwrap_or(word);
    let (number, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((number, exponent)) => (number, exponent.strip_prefix(['+', '-']).unwrap_or(exponent)),
        None => (unsigned, "0"),
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    let is_whole = digits(whole) && (whole == "0" || !whole.starts_with('0'));
    is_whole && digits(fraction) && digits(exponent)
}

fn is_odd_number(word: &str) -> bool {
    let unsigned = word.strip_prefix(['+', '-']).unwrap_or(word);
    let hexadecimal = unsigned.strip_prefix("0x").or_else(|| unsigned.strip_prefix("0X"));
    let is_hexadecimal =
        hexadecimal.is_some_and(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()));
    is_hexadecimal || unsigned.parse::<f64>().is_ok()
}

fn unescaped(raw: &str) -> Option<Text> {
    // No escape is shorter than what it stands for: the buffer never grows, which left copies.
    let mut text = Text::new(String::with_capacity(raw.len()));
    let mut rest = raw;
    while let Some((before, escape)) = rest.split_once('\\') {
        text.push_str(before);
        let kind = escape.chars().next()?;
        rest = &escape[kind.len_utf8()..];
        text.push(match kind {
            '"' | '\\' | '/' => kind,
            'b' => '\u{8}',
            'f' => '\u{c}',
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'u' => code_point(&mut rest)?,
            _ => return None,
        });
    }
    text.push_str(rest);
    Some(text)
}

/// Of one escape, or of two that are a surrogate pair.
fn code_point(rest: &mut &str) -> Option<char> {
    let first = unit(rest)?;
    if !(0xd800..0xdc00).contains(&first) {
        return char::from_u32(first);
    }
    *rest = rest.strip_prefix("\\u")?;
    let second = unit(rest).filter(|second| (0xdc00..0xe000).contains(second))?;
    char::from_u32(0x1_0000 + ((first - 0xd800) << 10) + (second - 0xdc00))
}

/// Four digits.
fn unit(rest: &mut &str) -> Option<u32> {
    let (digits, behind) = rest.split_at_checked(4)?;
    *rest = behind;
    let is_hexadecimal = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_hexadecimal.then(|| u32::from_str_radix(digits, 16).ok())?
}

/// Hands the text to `out`, piece by piece.
pub(super) fn write(value: &Value, out: &mut dyn FnMut(&str)) {
    match value {
        Value::Null => out("null"),
        Value::Bool(true) => out("true"),
        Value::Bool(false) => out("false"),
        Value::Number(number) => out(number),
        Value::Text(text) => write_quoted(text, out),
        Value::List(list) => {
            out("[");
            for (at, element) in list.iter().enumerate() {
                out(if at == 0 { "" } else { "," });
                write(element, out);
            }
            out("]");
        }
        Value::Map(map) => write_map(map, out),
        Value::Packed(packed) => {
            out("[");
            for (at, text) in packed.texts().iter().enumerate() {
                out(if at == 0 { "" } else { "," });
                out(text);
            }
            out("]");
        }
    }
}

pub(super) fn write_map(map: &Map, out: &mut dyn FnMut(&str)) {
    out("{");
    for (at, (key, value)) in map.iter().enumerate() {
        out(if at == 0 { "" } else { "," });
        write_quoted(key, out);
        out(":");
        write(value, out);
    }
    out("}");
}

pub(super) fn write_quoted(text: &str, out: &mut dyn FnMut(&str)) {
    out("\"");
    write_escaped(text, out);
    out("\"");
}

/// What stands between the quotes.
pub(super) fn write_escaped(text: &str, out: &mut dyn FnMut(&str)) {
    let mut begin = 0;
    for (at, byte) in text.bytes().enumerate() {
        if byte >= b' ' && byte != b'"' && byte != b'\\' {
            continue;
        }
        out(&text[begin..at]);
        match byte {
            b'"' => out("\\\""),
            b'\\' => out("\\\\"),
            b'\n' => out("\\n"),
            b'\r' => out("\\r"),
            b'\t' => out("\\t"),
            other => out(&format!("\\u{other:04x}")),
        }
        begin = at + 1;
    }
    out(&text[begin..]);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

    use super::*;

    fn read(text: &str) -> Result<Option<Value>, Unreadable> {
        super::read(text, Room::WITHOUT_BOUNDS)
    }

    fn written(value: &Value) -> String {
        let mut text = String::new();
        write(value, &mut |piece| text.push_str(piece));
        text
    }

    #[test]
    fn what_is_read_is_written_again() {
        for text in [
            r#"{"b":[1,-0,0.10,1e5,1E+5,9223372036854775807,18446744073709551616],"a":{}}"#,
            r#"["",[],{},null,true,false,"a\"b\\c\n\r\t\u0001é😀/"]"#,
        ] {
            assert_eq!(written(&read(text).unwrap().unwrap()), text);
        }
    }

    #[test]
    fn escapes_mean_their_characters() {
        let text = r#""\u00e9\ud83d\ude00\/\b\f\u0000""#;
        assert!(read(text).unwrap() == Some(Value::text("é😀/\u{8}\u{c}\0")));
        assert!(read("\"a\nb\"").unwrap() == Some(Value::text("a\nb")), "cjson takes it");
    }

    #[test]
    fn what_is_not_json_is_left_to_yaml() {
        for text in [
            "",
            "a: b",
            "{",
            "[1,]",
            "{\"a\":1,}",
            "{a:1}",
            "[1 2]",
            "1 2",
            "\"a",
            "\"\\x\"",
            "\"\\ud800\"",
            "\"\\ud800\\u0041\"",
            "\"\\u00g0\"",
            "tru",
            "[12h]",
            "{\"a\" 1}",
            "\"\\",
            "\"\\ué\"",
        ] {
            assert!(read(text).unwrap().is_none(), "{text}");
        }
    }

    #[test]
    fn a_number_that_cjson_alone_takes_is_no_number() {
        for number in ["010", "+1", "1.", "NaN", "-Infinity", "0x1F", "nan"] {
            let text = format!("{{\n \"a\": {number}}}");
            let place = Place { line: 2, column: 7 };
            let error = read(&text).err().unwrap();
            assert_eq!(error, Unreadable::At { place, flaw: Flaw::Number }, "{number}");
        }
    }

    #[test]
    fn depth_is_bounded() {
        let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
        assert!(read(&nested(DEPTH)).unwrap().is_some());
        let error = read(&nested(100_000)).err().unwrap();
        assert!(error.to_string().contains("nested too deep"), "{error}");
    }
}
