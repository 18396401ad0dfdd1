//! PEM text into blocks and their DER, and DER into PEM.
//!
//! `rustls-pemfile` decodes. As it passes over labels that it does not know, and over lines that
//! only look like markers, the blocks are found here and each is handed over by itself.

use std::path::Path;

use rustls_pemfile::Item;
use zeroize::{Zeroize as _, Zeroizing};

use super::Invalid;
use crate::quote::Quoted;

/// Why a text is no PEM that could be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PemFlaw {
    /// No block at all.
    #[error("it has no BEGIN line: put PEM into it")]
    NoBlock,
    /// DER instead of PEM.
    #[error(
        "it is DER: convert it with `openssl x509 -inform der` (a key: `openssl pkey -inform der`)"
    )]
    Der,
    /// A PKCS#12 store.
    #[error("it is PKCS#12: convert it with `openssl pkcs12 -nodes`")]
    Pkcs12,
    /// PEM that was encoded once more.
    #[error("it is base64 of PEM: decode it once, a Secret's `data` takes it encoded only once")]
    EncodedTwice,
    /// Not text, or UTF-16.
    #[error("it holds binary data or UTF-16 text: save it as ASCII or UTF-8")]
    Binary,
    /// The text ends within a block, or the next one begins.
    #[error("the block {0} has no END line: the file was cut or is being written")]
    Unfinished(Quoted),
    /// An END line without the BEGIN that belongs to it.
    #[error("it has an END line without its BEGIN: the file was cut or is being written")]
    StrayEnd,
    /// A marker that does not stand alone on its line.
    #[error(
        "line {0} is no proper BEGIN or END line: put each on a line of its own, without indentation"
    )]
    Marker(usize),
    /// OpenSSL takes what stands before the blank line for a header.
    #[error("the block {0} has a blank line in it: remove it")]
    BlankLine(Quoted),
    /// Something else than base64 in a block.
    #[error("the block {0} is not base64: copy the file anew")]
    Base64(Quoted),
}

/// One block of a PEM text.
pub(super) struct Block<'a> {
    /// What stands in its BEGIN line.
    pub(super) label: &'a str,
    /// From the BEGIN line to the END line, both included.
    text: &'a [u8],
}

/// How a key is wrapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum KeyEncoding {
    Pkcs8,
    Pkcs1,
    Sec1,
}

impl KeyEncoding {
    /// `None` for a label that is no unencrypted private key of a type Kong serves.
    pub(super) fn of(label: &str) -> Option<Self> {
        [Self::Pkcs8, Self::Pkcs1, Self::Sec1]
            .into_iter()
            .find(|encoding| encoding.label() == label)
    }

    pub(super) const fn label(self) -> &'static str {
        match self {
            Self::Pkcs8 => "PRIVATE KEY",
            Self::Pkcs1 => "RSA PRIVATE KEY",
            Self::Sec1 => "EC PRIVATE KEY",
        }
    }
}

/// The label of a certificate.
pub(super) const CERTIFICATE: &str = "CERTIFICATE";
/// What `openssl ecparam -genkey` writes in front of a key; it tells nothing new.
pub(super) const EC_PARAMETERS: &str = "EC PARAMETERS";

/// All blocks, in order; at least one. Text around them is passed over, and so is a byte order mark.
pub(super) fn blocks<'a>(path: &Path, bytes: &'a [u8]) -> Result<Vec<Block<'a>>, Invalid> {
    let text = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    if text.iter().all(u8::is_ascii_whitespace) {
        return Err(Invalid::empty(path, "PEM"));
    }
    let blocks = scan(text).map_err(|flaw| Invalid::not_pem(path, flaw))?;
    if blocks.is_empty() {
        return Err(Invalid::not_pem(path, without_blocks(text)));
    }
    Ok(blocks)
}

impl Block<'_> {
    /// Whether it holds a private key, encrypted or of whatever type.
    pub(super) fn is_key(&self) -> bool {
        self.label.ends_with("PRIVATE KEY")
    }

    /// Whether a passphrase is needed to read it.
    pub(super) fn is_encrypted(&self) -> bool {
        self.label == "ENCRYPTED PRIVATE KEY"
            || lines(self.text).any(|line| {
                line.text.starts_with(b"Proc-Type:") && line.text.ends_with(b"ENCRYPTED")
            })
    }

    /// The DER of a block `CERTIFICATE`.
    pub(super) fn certificate(&self) -> Result<Vec<u8>, PemFlaw> {
        match self.decode()? {
            Item::X509Certificate(der) => Ok(der.to_vec()),
            _ => Err(PemFlaw::Base64(Quoted::new(self.label))),
        }
    }

    /// The DER of a block that [`KeyEncoding::of`] knows, wiped when dropped.
    pub(super) fn key(&self) -> Result<Zeroizing<Vec<u8>>, PemFlaw> {
        match self.decode()? {
            Item::Pkcs8Key(mut der) => {
                let copy = Zeroizing::new(der.secret_pkcs8_der().to_vec());
                der.zeroize();
                Ok(copy)
            }
            Item::Pkcs1Key(mut der) => {
                let copy = Zeroizing::new(der.secret_pkcs1_der().to_vec());
                der.zeroize();
                Ok(copy)
            }
            Item::Sec1Key(mut der) => {
                let copy = Zeroizing::new(der.secret_sec1_der().to_vec());
                der.zeroize();
                Ok(copy)
            }
            _ => Err(PemFlaw::Base64(Quoted::new(self.label))),
        }
    }

    fn decode(&self) -> Result<Item, PemFlaw> {
        if self.has_blank_line() {
            return Err(PemFlaw::BlankLine(Quoted::new(self.label)));
        }
        match rustls_pemfile::read_one_from_slice(&self.trimmed()) {
            Ok(Some((item, _))) => Ok(item),
            _ => Err(PemFlaw::Base64(Quoted::new(self.label))),
        }
    }

    /// `rustls-pemfile` takes no tab behind a marker; OpenSSL does.
    fn trimmed(&self) -> Zeroizing<Vec<u8>> {
        let mut text = Zeroizing::new(Vec::with_capacity(self.text.len() + 1));
        for line in lines(self.text) {
            text.extend_from_slice(line.text);
            text.push(b'\n');
        }
        text
    }

    /// A blank line right after BEGIN is harmless, to OpenSSL too.
    fn has_blank_line(&self) -> bool {
        lines(self.text).skip(2).any(|line| line.text.is_empty())
    }
}

/// PEM of one block: LF, 64 columns. Wiped when dropped, as the DER may be a key.
pub(super) fn encode(label: &str, der: &[u8]) -> Zeroizing<String> {
    const COLUMNS: usize = 64;
    const BYTES_A_LINE: usize = COLUMNS / 4 * 3;

    let lines = der.len().div_ceil(BYTES_A_LINE);
    // No growing: that would leave copies of a key behind.
    let room = 2 * (label.len() + 20) + lines * (COLUMNS + 1);
    let mut text = Zeroizing::new(Vec::with_capacity(room));
    for part in ["-----BEGIN ", label, "-----\n"] {
        text.extend_from_slice(part.as_bytes());
    }
    for line in der.chunks(BYTES_A_LINE) {
        for group in line.chunks(3) {
            text.extend_from_slice(&base64(group));
        }
        text.push(b'\n');
    }
    for part in ["-----END ", label, "-----\n"] {
        text.extend_from_slice(part.as_bytes());
    }
    // It is text, and stays where it is.
    Zeroizing::new(String::from_utf8(std::mem::take(&mut text)).unwrap_or_default())
}

/// Four characters for up to three bytes.
fn base64(group: &[u8]) -> [u8; 4] {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let byte = |place: usize| usize::from(group.get(place).copied().unwrap_or(0));
    let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
    std::array::from_fn(|place| {
        if place > group.len() { b'=' } else { ALPHABET[bits >> (18 - 6 * place) & 63] }
    })
}

fn scan(text: &[u8]) -> Result<Vec<Block<'_>>, PemFlaw> {
    let mut blocks = Vec::new();
    let mut open: Option<(&str, usize)> = None;
    for (index, line) in lines(text).enumerate() {
        let Some(marker) = Marker::of(line.text).map_err(|_| PemFlaw::Marker(index + 1))? else {
            continue;
        };
        match (marker, open.take()) {
            (Marker::Begin(label), None) => open = Some((label, line.start)),
            (Marker::End(label), Some((begun, start))) if begun == label => {
                let text = &text[start..line.end];
                blocks.push(Block { label, text });
            }
            (_, Some((begun, _))) => return Err(PemFlaw::Unfinished(Quoted::new(begun))),
            (Marker::End(_), None) => return Err(PemFlaw::StrayEnd),
        }
    }
    match open {
        Some((begun, _)) => Err(PemFlaw::Unfinished(Quoted::new(begun))),
        None if !blocks.is_empty() && text.contains(&0) => Err(PemFlaw::Binary),
        None => Ok(blocks),
    }
}

/// What a text without any block is instead.
fn without_blocks(text: &[u8]) -> PemFlaw {
    const BASE64_OF_BEGIN: &[u8] = b"LS0tLS1CRUdJTi";
    match text {
        // A sequence that begins with the integer 3, the version of PKCS#12.
        [0x30, 0x82, _, _, 0x02, 0x01, 0x03, ..] => PemFlaw::Pkcs12,
        [0x30, 0x80..=0x84, ..] => PemFlaw::Der,
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => PemFlaw::Binary,
        _ if text.contains(&0) => PemFlaw::Binary,
        _ if text.trim_ascii_start().starts_with(BASE64_OF_BEGIN) => PemFlaw::EncodedTwice,
        _ => PemFlaw::NoBlock,
    }
}

/// A line that begins or ends a block.
enum Marker<'a> {
    Begin(&'a str),
    End(&'a str),
}

/// Looks like a marker, but `OpenSSL` and `rustls-pemfile` may see another one in it, or none.
struct Ambiguous;

impl<'a> Marker<'a> {
    fn of(line: &'a [u8]) -> Result<Option<Self>, Ambiguous> {
        // Base64 has none: most lines need no other look.
        let may_be = line.contains(&b'-');
        if !may_be || !contains(line, b"-----BEGIN") && !contains(line, b"-----END") {
            return Ok(None);
        }
        let label = |begin: &[u8]| {
            let label = line.strip_prefix(begin)?.strip_suffix(b"-----")?;
            let label = std::str::from_utf8(label).ok()?;
            label.bytes().all(is_label).then_some(label)
        };
        match (label(b"-----BEGIN "), label(b"-----END ")) {
            (Some(label), _) => Ok(Some(Self::Begin(label))),
            (_, Some(label)) => Ok(Some(Self::End(label))),
            _ => Err(Ambiguous),
        }
    }
}

/// What labels are made of, all that OpenSSL writes: no base64 of a key passes for one in a message.
const fn is_label(byte: u8) -> bool {
    matches!(byte, b'A'..=b'Z' | b'0'..=b'9' | b' ' | b'.' | b'/')
}

/// A line without the white space at its end, and where it lies.
struct Line<'a> {
    text: &'a [u8],
    start: usize,
    end: usize,
}

/// Lines end with LF; a CR before it is white space, as for OpenSSL.
fn lines(text: &[u8]) -> impl Iterator<Item = Line<'_>> {
    let mut start = 0;
    text.split_inclusive(|&byte| byte == b'\n').map(move |whole| {
        let line = Line { text: whole.trim_ascii_end(), start, end: start + whole.len() };
        start = line.end;
        line
    })
}

fn contains(line: &[u8], part: &[u8]) -> bool {
    line.windows(part.len()).any(|window| window == part)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)] // a panic is how a test fails

    use proptest::prelude::*;

    use super::*;

    fn labels(text: &str) -> Result<Vec<&str>, PemFlaw> {
        scan(text.as_bytes()).map(|blocks| blocks.iter().map(|block| block.label).collect())
    }

    #[test]
    fn text_around_blocks_is_passed_over() {
        let text = "subject=a\n-----BEGIN A-----\nAAAA\n-----END A-----\n\r\n# b\n \
                    \n-----BEGIN B C----- \r\nAAAA\r\n-----END B C-----";
        assert_eq!(labels(text), Ok(vec!["A", "B C"]));
    }

    #[test]
    fn every_begin_needs_its_end() {
        let a = Quoted::new("A");
        for (text, flaw) in [
            ("-----BEGIN A-----\nAAAA", PemFlaw::Unfinished(a.clone())),
            ("-----BEGIN A-----\nAAAA\n-----END B-----", PemFlaw::Unfinished(a.clone())),
            ("-----BEGIN A-----\n-----BEGIN A-----\n-----END A-----", PemFlaw::Unfinished(a)),
            ("-----END A-----", PemFlaw::StrayEnd),
            ("x\n-----BEGIN A-----AAAA\n-----END A-----", PemFlaw::Marker(2)),
            (" -----BEGIN A-----\nAAAA\n-----END A-----", PemFlaw::Marker(1)),
            ("-----BEGIN A----\nAAAA\n-----END A-----", PemFlaw::Marker(1)),
            (
                "-----BEGIN A-----\nAAAA\n-----END A----------BEGIN A-----\nAAAA\n-----END A-----",
                PemFlaw::Marker(3),
            ),
            ("-----BEGIN Key=aBc-----\n-----END Key=aBc-----", PemFlaw::Marker(1)),
        ] {
            assert_eq!(labels(text), Err(flaw), "{text}");
        }
    }

    #[test]
    fn a_blank_line_within_base64_is_refused_as_openssl_does() {
        for (body, fine) in [
            ("AAAA\nAAAA", true),
            ("\nAAAA", true),
            (" AA AA \t\n\tAAAA", true),
            ("AAAA\n\nAAAA", false),
            ("AAAA\n", false),
        ] {
            let text = format!("-----BEGIN CERTIFICATE-----\n{body}\n-----END CERTIFICATE-----\n");
            let blocks = scan(text.as_bytes()).unwrap();
            assert_eq!(blocks[0].certificate().is_ok(), fine, "{body:?}");
        }
    }

    #[test]
    fn a_file_that_is_no_pem_is_told_what_it_is() {
        for (bytes, flaw) in [
            (&b"hello"[..], PemFlaw::NoBlock),
            (b"\x30\x82\x01\x0a\x30\x82", PemFlaw::Der),
            (b"\x30\x82\x0a\x0a\x02\x01\x03\x30", PemFlaw::Pkcs12),
            (b"\xff\xfe-\0-\0", PemFlaw::Binary),
            (b"-\0-\0-\0", PemFlaw::Binary),
            (b"\nLS0tLS1CRUdJTiBDRVJU", PemFlaw::EncodedTwice),
        ] {
            assert_eq!(without_blocks(bytes), flaw, "{bytes:?}");
        }
    }

    #[test]
    fn a_nul_beside_blocks_is_refused() {
        let text = b"-----BEGIN A-----\nAAAA\n-----END A-----\n\0";
        assert_eq!(scan(text).err(), Some(PemFlaw::Binary));
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded(der in proptest::collection::vec(any::<u8>(), 1..300)) {
            let text = encode(CERTIFICATE, &der);
            let blocks = scan(text.as_bytes()).unwrap();
            prop_assert_eq!(blocks[0].certificate(), Ok(der));
            prop_assert!(text.lines().all(|line| line.len() <= 64));
        }

        #[test]
        fn encoding_a_key_leaves_no_copies_behind(der in proptest::collection::vec(any::<u8>(), 0..3000)) {
            let text = encode(KeyEncoding::Sec1.label(), &der);
            let lines = der.len().div_ceil(48);
            prop_assert_eq!(text.capacity(), 2 * (14 + 20) + lines * 65);
        }
    }
}
