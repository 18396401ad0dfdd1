//! Text that is never shown.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;
use zeroize::Zeroizing;

/// A token or header value: visible ASCII, with spaces inside at most. Wiped when dropped, and
/// shown as `(secret)`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// The text, for the request that carries it and for nothing else.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

/// Drops one trailing newline, as files end with.
impl FromStr for Secret {
    type Err = SecretError;

    fn from_str(text: &str) -> Result<Self, SecretError> {
        let line = text.strip_suffix('\n').unwrap_or(text);
        let line = line.strip_suffix('\r').unwrap_or(line);
        if line.is_empty() {
            return Err(SecretError::Empty);
        }
        if line.trim() != line || !line.bytes().all(|byte| (b' '..=b'~').contains(&byte)) {
            return Err(SecretError::Illegal);
        }
        Ok(Self(Zeroizing::new(line.to_owned())))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}

/// Text that no header can carry. Does not tell the text.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum SecretError {
    /// Nothing, or just a newline.
    #[error("is empty")]
    Empty,
    /// Characters other than visible ASCII, or spaces around it.
    #[error(
        "holds what no header can carry; use visible ASCII on one line, without spaces around it"
    )]
    Illegal,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_a_legal_header_value_less_one_newline() {
        for (text, value) in [
            ("t0ken", Ok("t0ken")),
            ("t0ken\n", Ok("t0ken")),
            ("t0ken\r\n", Ok("t0ken")),
            ("Bearer t0ken", Ok("Bearer t0ken")),
            ("", Err(SecretError::Empty)),
            ("\n", Err(SecretError::Empty)),
            ("t0ken\n\n", Err(SecretError::Illegal)),
            ("a\nb", Err(SecretError::Illegal)),
            (" a", Err(SecretError::Illegal)),
            ("a\t", Err(SecretError::Illegal)),
            ("ä", Err(SecretError::Illegal)),
        ] {
            let secret = text.parse::<Secret>();
            assert_eq!(secret.as_ref().map(Secret::expose), value.as_ref().copied(), "{text:?}");
        }
    }

    #[test]
    fn a_secret_is_never_shown() {
        assert_eq!(format!("{:?}", "t0ken".parse::<Secret>()), "Ok((secret))");
    }
}
