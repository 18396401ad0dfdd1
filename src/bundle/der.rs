//! Just enough DER to take a certificate or a key apart.

use std::iter;

/// Tags that are met here.
pub(super) mod tag {
    pub(in super::super) const INTEGER: u8 = 0x02;
    pub(in super::super) const BIT_STRING: u8 = 0x03;
    pub(in super::super) const OCTET_STRING: u8 = 0x04;
    pub(in super::super) const OID: u8 = 0x06;
    pub(in super::super) const SEQUENCE: u8 = 0x30;
    pub(in super::super) const SET: u8 = 0x31;
    pub(in super::super) const CONTEXT_0: u8 = 0xa0;
}

/// One element: its tag and what is in it.
#[derive(Clone, Copy)]
pub(super) struct Element<'a> {
    pub(super) tag: u8,
    pub(super) content: &'a [u8],
}

/// The elements that `input` is made of; `None` unless it is made of whole ones.
pub(super) fn elements(input: &[u8]) -> Option<Vec<Element<'_>>> {
    each(input).collect()
}

/// The elements that `input` is made of, one after the other; `None`, and then no more, where it goes on
/// with something else than a whole one.
pub(super) fn each(mut input: &[u8]) -> impl Iterator<Item = Option<Element<'_>>> {
    iter::from_fn(move || {
        if input.is_empty() {
            return None;
        }
        let (element, rest) = first(input).unzip();
        input = rest.unwrap_or_default();
        Some(element)
    })
}

/// The content of the one element that `input` is, if it has this tag.
pub(super) fn only(input: &[u8], tag: u8) -> Option<&[u8]> {
    let (element, rest) = first(input)?;
    (rest.is_empty() && element.tag == tag).then_some(element.content)
}

/// Their tags.
pub(super) fn tags(elements: &[Element<'_>]) -> Vec<u8> {
    elements.iter().map(|element| element.tag).collect()
}

/// The elements of the one sequence that `input` is.
pub(super) fn sequence(input: &[u8]) -> Option<Vec<Element<'_>>> {
    elements(only(input, tag::SEQUENCE)?)
}

/// An unsigned integer's bytes without leading zeros; `None` if it is negative or empty.
pub(super) fn unsigned(element: &Element<'_>) -> Option<Vec<u8>> {
    let first = *element.content.first()?;
    if element.tag != tag::INTEGER || first >= 0x80 {
        return None;
    }
    let zeros = element.content.iter().take_while(|&&byte| byte == 0).count();
    Some(element.content[zeros..].to_vec())
}

/// Splits off the first element; `None` for indefinite lengths and for tags above 30.
fn first(input: &[u8]) -> Option<(Element<'_>, &[u8])> {
    let (&tag, rest) = input.split_first()?;
    if tag & 0x1f == 0x1f {
        return None;
    }
    let (&short, rest) = rest.split_first()?;
    let (length, rest) = if short < 0x80 {
        (usize::from(short), rest)
    } else {
        let count = usize::from(short & 0x7f);
        if !(1..=4).contains(&count) {
            return None;
        }
        let (bytes, rest) = rest.split_at_checked(count)?;
        let length = bytes.iter().fold(0, |length, &byte| length << 8 | usize::from(byte));
        (length, rest)
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((Element { tag, content }, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_not_trusted() {
        for input in [
            &[0x30][..],
            &[0x30, 0x01],
            &[0x30, 0x80],
            &[0x30, 0x84, 0xff, 0xff, 0xff, 0xff],
            &[0x30, 0x88, 0, 0, 0, 0, 0, 0, 0, 0],
            &[0x1f, 0x01, 0x00],
        ] {
            assert!(elements(input).is_none(), "{input:x?}");
        }
    }

    #[test]
    fn an_unsigned_integer_has_no_leading_zeros() {
        let read = |content: &[u8]| {
            let tag = tag::INTEGER;
            unsigned(&Element { tag, content })
        };
        assert_eq!(read(&[0, 0x80]), Some(vec![0x80]));
        assert_eq!(read(&[0]), Some(vec![]));
        assert_eq!(read(&[0x80]), None);
        assert_eq!(read(&[]), None);
    }
}
