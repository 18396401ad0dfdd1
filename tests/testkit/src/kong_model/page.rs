//! Lists: pages of them, and the filter by tags.

use serde_json::{Value, json};

use super::refusal::Refusal;
use super::schema::Object;

const DEFAULT_SIZE: usize = 100;
const LARGEST_SIZE: usize = 1000;

/// What a query string asks of a list.
#[derive(Clone, Debug, Default)]
pub(super) struct Query {
    size: Option<String>,
    offset: Option<String>,
    tags: Option<String>,
}

impl Query {
    /// `query` is what stands behind the question mark. Parameters that Kong ignores are ignored.
    pub(super) fn parse(query: &str) -> Self {
        let mut parsed = Self::default();
        for (name, value) in query.split('&').filter_map(|pair| pair.split_once('=')) {
            let value = Some(unescape(value));
            match name {
                "size" => parsed.size = value,
                "offset" => parsed.offset = value,
                "tags" => parsed.tags = value,
                _ => {}
            }
        }
        parsed
    }

    /// One page of `rows`, which come in the order of their ids, as Kong answers at `path`.
    pub(super) fn page<'a>(
        &self,
        path: &str,
        rows: impl Iterator<Item = &'a Object>,
    ) -> Result<(Vec<&'a Object>, Next), Refusal> {
        let (size, after, tags) = (self.size()?, self.after()?, self.tags()?);
        let id = |row: &Object| row["id"].as_str().unwrap_or_default().to_owned();
        let mut rows = rows
            .filter(|row| after.as_ref().is_none_or(|after| id(row) > *after))
            .filter(|row| tags.as_ref().is_none_or(|tags| tags.match_row(row)));
        let page: Vec<&Object> = rows.by_ref().take(size).collect();
        let more = rows.next().is_some();
        let next = page.last().filter(|_| more).map(|last| self.next(path, &id(last)));
        Ok((page, Next(next)))
    }

    fn size(&self) -> Result<usize, Refusal> {
        let Some(size) = &self.size else {
            return Ok(DEFAULT_SIZE);
        };
        let size: f64 = size.parse().map_err(|_| Refusal::invalid_size("size must be a number"))?;
        let whole = (1..=LARGEST_SIZE).find(|whole| whole.to_string() == size.to_string());
        let words = format!("size must be an integer between 1 and {LARGEST_SIZE}");
        whole.ok_or_else(|| Refusal::invalid_size(&words))
    }

    /// The id after which the page begins.
    fn after(&self) -> Result<Option<String>, Refusal> {
        let Some(offset) = &self.offset else {
            return Ok(None);
        };
        let wrong = |why| Refusal::invalid_offset(offset, why);
        let json = unbase64(offset).ok_or_else(|| wrong("bad base64 encoding"))?;
        let json: Value = serde_json::from_slice(&json).map_err(|_| wrong("bad json encoding"))?;
        Ok(json[0].as_str().map(str::to_owned))
    }

    fn tags(&self) -> Result<Option<Tags>, Refusal> {
        self.tags.as_deref().map(Tags::parse).transpose()
    }

    fn next(&self, path: &str, last: &str) -> (String, String) {
        let offset = base64(json!([last]).to_string().as_bytes());
        let mut next = format!("{path}?offset={offset}");
        if let Some(tags) = &self.tags {
            next += &format!("&tags={}", escape(tags));
        }
        if let Some(size) = &self.size {
            next += &format!("&size={size}");
        }
        (offset, next)
    }
}

/// Where the list goes on: the offset, and a path with it.
pub(super) struct Next(Option<(String, String)>);

impl Next {
    pub(super) fn body(self, data: &[Value]) -> Value {
        match self.0 {
            Some((offset, next)) => json!({ "data": data, "next": next, "offset": offset }),
            None => json!({ "data": data, "next": null }),
        }
    }
}

enum Tags {
    All(Vec<String>),
    Any(Vec<String>),
}

impl Tags {
    fn parse(filter: &str) -> Result<Self, Refusal> {
        let split = |separator| filter.split(separator).map(str::to_owned).collect::<Vec<_>>();
        let (parsed, count) = match (filter.contains(','), filter.contains('/')) {
            _ if filter.is_empty() => return Err(Refusal::invalid_tags("cannot be null")),
            (true, true) => return Err(Refusal::invalid_tags("invalid filter syntax")),
            (false, true) => (Self::Any(split('/')), split('/').len()),
            (_, false) => (Self::All(split(',')), split(',').len()),
        };
        if count > 5 {
            return Err(Refusal::invalid_tags("cannot query more than 5 tags"));
        }
        Ok(parsed)
    }

    fn match_row(&self, row: &Object) -> bool {
        let has =
            |tag: &String| row["tags"].as_array().is_some_and(|tags| tags.contains(&json!(tag)));
        match self {
            Self::All(tags) => tags.iter().all(has),
            Self::Any(tags) => tags.iter().any(has),
        }
    }
}

/// Percent-decoding; what is no escape stays.
pub(super) fn unescape(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let escaped =
            if *first == b'%' { tail.get(..2).and_then(|two| hex::decode(two).ok()) } else { None };
        match escaped {
            Some(byte) => {
                bytes.extend(byte);
                rest = &tail[2..];
            }
            None => {
                bytes.push(if *first == b'+' { b' ' } else { *first });
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn escape(text: &str) -> String {
    text.bytes().fold(String::new(), |escaped, byte| match byte {
        b'-' | b'.' | b'_' | b'~' => escaped + &char::from(byte).to_string(),
        _ if byte.is_ascii_alphanumeric() => escaped + &char::from(byte).to_string(),
        _ => escaped + &format!("%{byte:02X}"),
    })
}

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Without padding, as Kong writes offsets.
pub(super) fn base64(bytes: &[u8]) -> String {
    let group = |chunk: &[u8]| {
        let bits = chunk.iter().fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte))
            << (8 * (3 - chunk.len()));
        let digit = move |at: usize| char::from(ALPHABET[(bits >> (18 - 6 * at)) as usize & 63]);
        (0..=chunk.len()).map(digit).collect::<String>()
    };
    bytes.chunks(3).map(group).collect()
}

fn unbase64(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    for chunk in text.trim_end_matches('=').as_bytes().chunks(4) {
        let mut bits = 0_u32;
        for digit in chunk {
            let value = ALPHABET.iter().position(|known| known == digit)?;
            bits = bits << 6 | u32::try_from(value).ok()?;
        }
        bits <<= 6 * (4 - chunk.len());
        bytes.extend(&bits.to_be_bytes()[1..chunk.len()]);
    }
    Some(bytes)
}
