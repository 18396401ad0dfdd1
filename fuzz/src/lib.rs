//! What is asserted of foreign input, whatever it is. libFuzzer looks for inputs of which it does not
//! hold, and tests/fuzz.rs holds the seeds to it.
#![allow(clippy::unwrap_used, reason = "a panic is a finding")]
#![allow(missing_docs, unreachable_pub, reason = "each target has one function, `check`")]
#![forbid(unsafe_code)]

pub mod answers;
pub mod bundles;
pub mod declarative;
pub mod said;
pub mod seeds;
pub mod settings;

/// Stands between the parts of an input, as between files.
pub const BETWEEN: &[u8] = b"\n%%%%\n";

/// The parts of an input; at least one.
pub fn parts(mut input: &[u8]) -> Vec<&[u8]> {
    let mut parts = Vec::new();
    while let Some(at) = input.windows(BETWEEN.len()).position(|window| window == BETWEEN) {
        parts.push(&input[..at]);
        input = &input[at + BETWEEN.len()..];
    }
    parts.push(input);
    parts
}
