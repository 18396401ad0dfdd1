//! Whether a certificate has every part in its place, as OpenSSL insists on when it reads one.
//!
//! x509-parser is more tolerant: it passes over what follows the last expected part of a sequence,
//! and takes other tags and broken strings. Kong answers 200 to a chain with such a certificate
//! above the leaf, and then every handshake fails.

use super::der::{Element, each, elements, only, sequence, tag, tags};

/// Deeper nesting than any certificate has.
const DEEPEST: usize = 32;

/// Whether `input` is one certificate, and nothing beside or behind it.
pub(super) fn is_certificate(input: &[u8]) -> bool {
    is_well_formed(input, DEEPEST) && parts(input).is_some_and(|parts| are_certified(&parts))
}

/// The parts of the inner sequence, without the optional version; the outer ones are checked.
fn parts(input: &[u8]) -> Option<Vec<Element<'_>>> {
    let outer = sequence(input)?;
    let [body, algorithm, signature] = outer.as_slice() else {
        return None;
    };
    if body.tag != tag::SEQUENCE || !is_algorithm(algorithm) || signature.tag != tag::BIT_STRING {
        return None;
    }
    let mut parts = elements(body.content)?;
    let version = parts.first()?;
    if version.tag == tag::CONTEXT_0 {
        only(version.content, tag::INTEGER)?;
        parts.remove(0);
    }
    Some(parts)
}

fn are_certified(parts: &[Element<'_>]) -> bool {
    let [serial, algorithm, issuer, validity, subject, key, optional @ ..] = parts else {
        return false;
    };
    serial.tag == tag::INTEGER
        && is_algorithm(algorithm)
        && is_name(issuer)
        && is_validity(validity)
        && is_name(subject)
        && is_key(key)
        && are_optional(optional)
}

/// The identifiers that version 2 brought, and extensions, each at most once and in this order.
fn are_optional(parts: &[Element<'_>]) -> bool {
    const ISSUER_ID: u8 = 0x81;
    const SUBJECT_ID: u8 = 0x82;
    const EXTENSIONS: u8 = 0xa3;

    tags(parts).is_sorted_by(|one, next| one < next)
        && parts.iter().all(|part| match part.tag {
            ISSUER_ID | SUBJECT_ID => true,
            EXTENSIONS => are_extensions(part.content),
            _ => false,
        })
}

fn are_extensions(input: &[u8]) -> bool {
    const BOOLEAN: u8 = 0x01;
    sequence(input).is_some_and(|extensions| {
        extensions.iter().all(|extension| {
            let plain = [tag::OID, tag::OCTET_STRING];
            let critical = [tag::OID, BOOLEAN, tag::OCTET_STRING];
            is_sequence_of(extension, &plain) || is_sequence_of(extension, &critical)
        })
    })
}

fn is_algorithm(part: &Element<'_>) -> bool {
    part.tag == tag::SEQUENCE
        && elements(part.content)
            .is_some_and(|parts| matches!(tags(&parts).as_slice(), [tag::OID] | [tag::OID, _]))
}

fn is_key(part: &Element<'_>) -> bool {
    is_sequence_of(part, &[tag::SEQUENCE, tag::BIT_STRING])
        && elements(part.content).is_some_and(|parts| is_algorithm(&parts[0]))
}

fn is_validity(part: &Element<'_>) -> bool {
    const UTC_TIME: u8 = 0x17;
    const GENERALIZED_TIME: u8 = 0x18;
    let is_time = |time: &Element<'_>| [UTC_TIME, GENERALIZED_TIME].contains(&time.tag);
    part.tag == tag::SEQUENCE
        && elements(part.content).is_some_and(|dates| dates.len() == 2 && dates.iter().all(is_time))
}

/// A sequence of sets of pairs: the kind of attribute, and its text.
fn is_name(part: &Element<'_>) -> bool {
    let is_attribute = |attribute: &Element<'_>| {
        attribute.tag == tag::SEQUENCE
            && elements(attribute.content).is_some_and(|parts| match parts.as_slice() {
                [kind, text] => kind.tag == tag::OID && is_text(text),
                _ => false,
            })
    };
    part.tag == tag::SEQUENCE
        && elements(part.content).is_some_and(|sets| {
            sets.iter().all(|set| {
                set.tag == tag::SET
                    && elements(set.content)
                        .is_some_and(|pairs| !pairs.is_empty() && pairs.iter().all(is_attribute))
            })
        })
}

/// OpenSSL turns the text of names into UTF-8 while it reads them, and fails where it cannot.
fn is_text(part: &Element<'_>) -> bool {
    const UTF8: u8 = 0x0c;
    const NUMERIC: u8 = 0x12;
    const PRINTABLE: u8 = 0x13;
    const TELETEX: u8 = 0x14;
    const IA5: u8 = 0x16;
    const UNIVERSAL: u8 = 0x1c;
    const BMP: u8 = 0x1e;
    let is_character = |four: &[u8]| {
        let number = four.iter().fold(0, |number, &byte| number << 8 | u32::from(byte));
        char::from_u32(number).is_some()
    };
    match part.tag {
        UTF8 => std::str::from_utf8(part.content).is_ok(),
        NUMERIC | PRINTABLE | TELETEX | IA5 | tag::BIT_STRING => true,
        BMP => part.content.len().is_multiple_of(2),
        UNIVERSAL => {
            part.content.len().is_multiple_of(4) && part.content.chunks(4).all(is_character)
        }
        _ => false,
    }
}

fn is_sequence_of(part: &Element<'_>, expected: &[u8]) -> bool {
    part.tag == tag::SEQUENCE
        && elements(part.content).is_some_and(|elements| tags(&elements) == expected)
}

/// Whether all that may contain elements is made of whole ones, down to the plain values.
fn is_well_formed(input: &[u8], depth: usize) -> bool {
    const CONSTRUCTED: u8 = 0x20;
    let is_whole = |element: Element<'_>| {
        if element.tag & CONSTRUCTED == 0 {
            is_plain_value(&element)
        } else {
            depth > 0 && is_well_formed(element.content, depth - 1)
        }
    };
    each(input).all(|element| element.is_some_and(is_whole))
}

fn is_plain_value(element: &Element<'_>) -> bool {
    const BOOLEAN: u8 = 0x01;
    const NULL: u8 = 0x05;
    match element.tag {
        BOOLEAN => element.content.len() == 1,
        NULL => element.content.is_empty(),
        tag::INTEGER => is_shortest_integer(element.content),
        tag::BIT_STRING => element.content.first().is_some_and(|&unused| unused < 8),
        tag::OID => is_oid(element.content),
        _ => true,
    }
}

/// No first byte that only repeats the sign.
const fn is_shortest_integer(content: &[u8]) -> bool {
    !matches!(content, [] | [0, 0..=0x7f, ..] | [0xff, 0x80..=0xff, ..])
}

/// Numbers of seven bits a byte, the last byte of each below 0x80 and none padded.
fn is_oid(content: &[u8]) -> bool {
    content.last().is_some_and(|&last| last < 0x80)
        && content.split_inclusive(|&byte| byte < 0x80).all(|number| number[0] != 0x80)
}

#[cfg(test)]
mod tests {
    use testkit::{KeyKind, Pki};

    use super::*;

    #[test]
    fn a_certificate_with_anything_cut_off_or_added_is_not_whole() {
        let pair = Pki::new().pair(&["a.test"]);
        let der = pair.leaf_der();
        assert!(is_certificate(der));
        for length in 0..der.len() {
            assert!(!is_certificate(&der[..length]), "{length}");
        }
        assert!(!is_certificate(&[der, &[0]].concat()));
        assert!(!is_certificate(&[der, der].concat()));
    }

    #[test]
    fn a_fourth_part_is_one_too_many() {
        let pair = Pki::new().pair(&["a.test"]);
        let content = only(pair.leaf_der(), tag::SEQUENCE).expect("a sequence");
        let longer = [content, &[0x05, 0x00]].concat();
        let length = u16::try_from(longer.len()).expect("short").to_be_bytes();
        let der = [&[0x30, 0x82][..], &length, &longer].concat();
        assert!(sequence(&der).is_some());
        assert!(!is_certificate(&der));
    }

    #[test]
    fn data_behind_a_part_of_a_name_is_one_too_many() {
        let pair = Pki::new().pair(&["a.test"]);
        let mut der = pair.leaf_der().to_vec();
        let common_name = [0x06, 0x03, 0x55, 0x04, 0x03, 0x0c];
        let place = der.windows(6).rposition(|window| window == common_name);
        der[place.expect("a common name") + 6] -= 1;
        assert!(parts(&der).is_some_and(|parts| parts.len() == 7));
        assert!(!is_certificate(&der));
    }

    #[test]
    fn nesting_has_an_end() {
        let mut der = vec![0x05, 0x00];
        for _ in 0..40 {
            let length = u8::try_from(der.len()).expect("short");
            der.splice(0..0, [0x30, length]);
        }
        assert!(!is_well_formed(&der, DEEPEST));
    }

    /// What OpenSSL was seen to refuse to read, although x509-parser reads it.
    #[test]
    fn a_part_that_is_of_another_kind_makes_it_no_certificate() {
        let pair = Pki::new().leaf(&["a.test"]).kind(KeyKind::Rsa2048).self_signed().issue();
        let (oid, text) = ([0x06, 0x03, 0x55, 0x04, 0x03], [0x0c, 0x06]);
        let name = [&[0x31, 0x0f, 0x30, 0x0d][..], &oid, &text, b"a.test"].concat();
        let algorithm =
            [0x30, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0b];
        let rsa = [0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01, 0x05, 0x00];
        let version = [0xa0, 0x03, 0x02, 0x01, 0x02];
        let not_before = b"\x17\x0d200101000000Z";
        for (part, place, value) in [
            (&name[..], 0, 0x30),
            (&name, 0, 0xb1),
            (&name, 2, 0x31),
            (&name, 4, 0x07),
            (&name, 8, 0x83),
            (&name, 9, 0x1c),
            (&name, 9, 0x8c),
            (&name, 11, 0xe1),
            (&algorithm, 2, 0x07),
            (&rsa, 0, 0x16),
            (&rsa, 11, 0x01),
            (&version, 2, 0x42),
            (not_before, 0, 0x57),
        ] {
            let places = pair.leaf_der().windows(part.len()).enumerate();
            let found: Vec<_> = places.filter(|(_, window)| *window == part).collect();
            assert!(!found.is_empty(), "{part:x?}");
            for (start, _) in found {
                let mut der = pair.leaf_der().to_vec();
                der[start + place] = value;
                assert!(!is_certificate(&der), "{part:x?} {place}");
            }
        }
    }

    #[test]
    fn plain_values_have_one_form() {
        for (content, fine) in [
            (&[0x2a, 0x86, 0x48][..], true),
            (&[0x2a, 0x80, 0x01], false),
            (&[0x2a, 0x86], false),
            (&[], false),
        ] {
            assert_eq!(is_oid(content), fine, "{content:x?}");
        }
        for (content, fine) in [
            (&[0][..], true),
            (&[0, 0x80], true),
            (&[0xff, 0x7f], true),
            (&[0, 0x7f], false),
            (&[0xff, 0x80], false),
            (&[], false),
        ] {
            assert_eq!(is_shortest_integer(content), fine, "{content:x?}");
        }
        for (tag, content, fine) in [
            (0x05, &[][..], true),
            (0x05, &[0], false),
            (0x01, &[0xff], true),
            (0x01, &[], false),
            (tag::BIT_STRING, &[7, 0x80], true),
            (tag::BIT_STRING, &[8, 0x80], false),
        ] {
            assert_eq!(is_plain_value(&Element { tag, content }), fine, "{tag}");
        }
    }
}
