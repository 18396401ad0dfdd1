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
        let text = text.as_bytes();
        for (at, block) in text.windows(STEP).enumerate() {
            for &(form, place) in self.blocks.get(block).into_iter().flatten() {
                let (name, form) = &self.forms[form];
                let before = text[..at].iter().rev().zip(form[..place].iter().rev());
                let after = text[at..].iter().zip(&form[place..]);
                let same = |pair: &(&u8, &u8)| pair.0 == pair.1;
                if before.take_while(same).count() + after.take_while(same).count() >= RUN {
                    return Some(name);
                }
            }
        }
        None
    }

    /// Fails, naming the secret and the line, without showing either.
    pub(crate) fn assert_finds_nothing(&self, text: &str) {
        if let Some(name) = self.finds(text) {
            let line = text.lines().find(|line| self.finds(line).is_some());
            panic!("{name} is in what was said: {}", line.unwrap_or(text));
        }
    }

    fn add(&mut self, name: &str, secret: &[u8]) {
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

    fn add_form(&mut self, name: &str, form: Vec<u8>) {
        for (number, block) in form.chunks_exact(STEP).enumerate() {
            let block = block.try_into().unwrap();
            self.blocks.entry(block).or_default().push((self.forms.len(), number * STEP));
        }
        self.forms.push((name.to_owned(), form));
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

fn from_base64(text: &str) -> Vec<u8> {
    let pem = format!("-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n");
    rustls_pemfile::certs(&mut pem.as_bytes()).next().unwrap().unwrap().to_vec()
}
