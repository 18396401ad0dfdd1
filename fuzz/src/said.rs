//! What may be said of an input: in errors, in warnings, by `Debug`.

/// So many characters in a row of a key are a leak.
const RUN: usize = 24;
/// A sentence with all that it quotes, each cut at 300 characters, escaped perhaps.
const LONGEST: usize = 16 * 1024;

/// Fails where a sentence of ours is no single line of bounded length, or repeats PEM.
pub fn assert_is_a_line(text: &str) {
    assert!(!text.is_empty() && text.len() <= LONGEST, "{} bytes are said", text.len());
    assert!(!text.chars().any(char::is_control), "control characters are said: {text:?}");
    assert_has_no_pem(text);
}

/// Fails where PEM is repeated.
pub fn assert_has_no_pem(text: &str) {
    assert!(!text.contains("-----BEGIN"), "PEM is said: {text}");
}

/// A private part of an input.
#[derive(Clone, Copy)]
pub struct Secret<'a> {
    private: &'a [u8],
    /// What may be said.
    public: &'a [u8],
}

impl<'a> Secret<'a> {
    /// What looks like base64 in `private`, and is not in `public`, too.
    pub fn new(private: &'a [u8], public: &'a [u8]) -> Self {
        Self { private, public }
    }

    /// Fails where any of it is said.
    pub fn assert_is_not_in(self, text: &str) {
        let is_base64 = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/');
        // Labels of blocks are upper case, and may be said.
        let runs = text
            .as_bytes()
            .windows(RUN)
            .filter(|run| run.iter().all(is_base64) && run.iter().any(u8::is_ascii_lowercase));
        for run in runs {
            let is_leak = contains(self.private, run) && !contains(self.public, run);
            assert!(!is_leak, "a part of a secret is said: {text}");
        }
    }
}

pub fn contains(bytes: &[u8], run: &[u8]) -> bool {
    bytes.windows(run.len()).any(|window| window == run)
}
