//! Finds secrets in what was said, in any encoding that a mistake could have given them.

use std::collections::HashMap;

/// So many bytes in a row of a secret are a leak.
pub(crate) const RUN: usize = 24;
/// Of any [`RUN`] bytes in a row, so many begin at a multiple of as many: those are looked up.
const STEP: usize = RUN / 2;

/// Knows secrets, and what they look like in hex, in base64 and in `Debug`.
#[derive(Default)]
pub(crate) struct Searcher {
    /// Name, and the bytes to look for.
    forms: Vec<(String, Vec<u8>)>,
    /// Where in which form a block stands.
    blocks: HashMap<[u8; STEP], Vec<(usize, usize)>>,
    /// How blocks begin: most of what is searched begins as none of them.
    slots: Slots,
}

impl Searcher {
    /// A token, or another text.
    pub(crate) fn add_text(&mut self, name: &str, text: &str) {
        self.add(name, text.as_bytes());
    }

    /// What is within a PEM block: its bytes, and its text as if it were some other text.
    pub(crate) fn add_pem(&mut self, name: &str, pem: &str) {
        let is_body = |line: &&str| !line.contains('-') && !line.contains(':');
        let lines: Vec<&str> = pem.lines().filter(is_body).collect();
        self.add(name, &from_base64(&lines.concat()));
        self.add(name, lines.join("\n").as_bytes());
    }

    /// The first secret of which `text` holds [`RUN`] bytes in a row.
    pub(crate) fn finds(&self, text: &str) -> Option<&str> {
        self.places(text.as_bytes()).next().map(|(_, name)| name)
    }

    /// Where `bytes` hold [`RUN`] bytes in a row of which secret.
    pub(crate) fn places<'a>(&'a self, bytes: &[u8]) -> impl Iterator<Item = (usize, &'a str)> {
        bytes.windows(STEP).enumerate().filter_map(|(at, block)| {
            if !self.slots.has(block) {
                return None;
            }
            let forms = self.blocks.get(block)?;
            let found = forms.iter().find(|(form, place)| {
                let form = &self.forms[*form].1;
                let before = bytes[..at].iter().rev().zip(form[..*place].iter().rev());
                let after = bytes[at..].iter().zip(&form[*place..]);
                let same = |pair: &(&u8, &u8)| pair.0 == pair.1;
                before.take_while(same).count() + after.take_while(same).count() >= RUN
            });
            found.map(|(form, _)| (at, self.forms[*form].0.as_str()))
        })
    }

    /// Fails, naming the secret and the line, without showing either.
    pub(crate) fn assert_finds_nothing(&self, text: &str) {
        if let Some(name) = self.finds(text) {
            let line = text.lines().find(|line| self.finds(line).is_some());
            panic!("{name} is in what was said: {}", line.unwrap_or(text));
        }
    }

    /// Bytes, and what they look like in other clothes.
    pub(crate) fn add(&mut self, name: &str, secret: &[u8]) {
        let hex = hex::encode(secret);
        let debug = format!("{secret:?}");
        let pretty = format!("{secret:#?}");
        self.add_form(name, secret.to_vec());
        self.add_form(name, hex.to_uppercase().into_bytes());
        self.add_form(name, hex.into_bytes());
        self.add_form(name, debug.into_bytes());
        self.add_form(name, pretty.into_bytes());
        for alignment in 0..3 {
            self.add_form(name, to_base64(&secret[alignment..]).into_bytes());
        }
    }

    /// Bytes as they are.
    pub(crate) fn add_form(&mut self, name: &str, form: Vec<u8>) {
        for (number, block) in form.chunks_exact(STEP).enumerate() {
            self.slots.insert(block);
            let block = block.try_into().unwrap();
            self.blocks.entry(block).or_default().push((self.forms.len(), number * STEP));
        }
        self.forms.push((name.to_owned(), form));
    }
}

/// A quick look before the thorough one: megabytes of memory are searched.
struct Slots(Vec<bool>);

impl Default for Slots {
    fn default() -> Self {
        Self(vec![false; 1 << Self::BITS])
    }
}

impl Slots {
    const BITS: u32 = 20;

    fn insert(&mut self, block: &[u8]) {
        self.0[Self::of(block)] = true;
    }

    fn has(&self, block: &[u8]) -> bool {
        self.0[Self::of(block)]
    }

    fn of(block: &[u8]) -> usize {
        let word = u32::from_le_bytes([block[0], block[1], block[2], block[3]]);
        (word.wrapping_mul(0x9e37_79b1) >> (32 - Self::BITS)) as usize
    }
}

/// One line, without padding.
fn to_base64(bytes: &[u8]) -> String {
    let pem = testkit::pem_block("", bytes);
    pem.lines()
        .filter(|line| !line.contains('-'))
        .flat_map(|line| line.chars())
        .filter(|c| *c != '=')
        .collect()
}

pub(crate) fn from_base64(text: &str) -> Vec<u8> {
    let pem = format!("-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n");
    rustls_pemfile::certs(&mut pem.as_bytes()).next().unwrap().unwrap().to_vec()
}
