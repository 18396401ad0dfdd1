//! What of a private key nobody else may know, in the shapes in which memory may hold it.

use std::ops::Range;

use sha2::{Digest as _, Sha512};
use testkit::{KeyKind, TestKey};

use crate::searcher::{RUN, Searcher, from_base64};

impl Searcher {
    /// The private numbers of a key, and no public ones: as they stand in files, and as they stand
    /// in the words of this machine.
    pub(crate) fn add_private_numbers(&mut self, name: &str, key: &TestKey) {
        for pem in key.pem_encodings() {
            let lines: Vec<&str> = pem.lines().filter(|line| !line.contains('-')).collect();
            let der = from_base64(&lines.concat());
            for Range { start, end } in private_numbers(&der) {
                let number = &der[start..end];
                self.add(name, number);
                self.add_form(name, number.iter().rev().copied().collect());
                // As in the file, but for what a neighbour has a part in.
                let text = start.div_ceil(3) * 4..end / 3 * 4;
                for end_of_line in ["\n", "\r\n", "\\n"] {
                    let before = |at: usize| at + at / 64 * end_of_line.len();
                    let all = lines.join(end_of_line);
                    let part = before(text.start)..before(text.end).min(all.len());
                    self.add_form(name, all.as_bytes()[part].to_vec());
                }
            }
        }
        if key.kind() == KeyKind::Ed25519 {
            let seed = private_numbers(key.pkcs8_der()).remove(0);
            self.add(name, &Sha512::digest(&key.pkcs8_der()[seed])[..32]);
        }
    }
}

/// Where in the DER of a private key the numbers are that nobody else may know.
fn private_numbers(der: &[u8]) -> Vec<Range<usize>> {
    let mut numbers = Vec::new();
    collect_numbers(der, 0, &mut numbers);
    // Of RSA the first is the modulus, which stands in the certificate.
    if numbers.len() > 1 {
        numbers.remove(0);
    }
    numbers
}

/// Integers and octet strings that are long enough to be told from others.
fn collect_numbers(der: &[u8], offset: usize, numbers: &mut Vec<Range<usize>>) {
    const INTEGER: u8 = 0x02;
    const OCTET_STRING: u8 = 0x04;
    const SEQUENCE: u8 = 0x30;
    let mut at = 0;
    while at + 2 <= der.len() {
        let (header, length) = match der[at + 1] {
            short @ 0..=0x7f => (2, usize::from(short)),
            0x81 => (3, usize::from(der[at + 2])),
            _ => (4, usize::from(der[at + 2]) << 8 | usize::from(der[at + 3])),
        };
        let content = at + header..at + header + length;
        let inner = &der[content.clone()];
        let place = offset + content.start..offset + content.end;
        match der[at] {
            SEQUENCE => collect_numbers(inner, place.start, numbers),
            OCTET_STRING if matches!(inner, [SEQUENCE | OCTET_STRING, ..]) && is_whole(inner) => {
                collect_numbers(inner, place.start, numbers);
            }
            INTEGER | OCTET_STRING if length >= RUN => numbers.push(place),
            _ => {}
        }
        at = content.end;
    }
}

/// Whether it is one element of DER, and no number that begins like one.
fn is_whole(der: &[u8]) -> bool {
    match der[1] {
        short @ 0..=0x7f => der.len() == 2 + usize::from(short),
        0x81 => der.len() == 3 + usize::from(der[2]),
        0x82 => der.len() == 4 + (usize::from(der[2]) << 8 | usize::from(der[3])),
        _ => false,
    }
}
