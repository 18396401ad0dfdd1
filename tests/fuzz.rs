//! What fuzzing begins with, held to what it asserts. What it has found is a test where it was mended.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test may panic, and read its files"
)]

#[path = "../fuzz/src/lib.rs"]
#[allow(dead_code, reason = "what writes them to files is for libFuzzer")]
mod targets;

use std::panic::{AssertUnwindSafe, catch_unwind};

use targets::{answers, bundles, declarative, seeds, settings};

fn hold(target: &str, check: impl Fn(&[u8])) {
    for (name, input) in seeds::of(target) {
        if catch_unwind(AssertUnwindSafe(|| check(&input))).is_err() {
            panic!("it was the seed {name}");
        }
    }
}

#[test]
fn bundles_are_taken_as_they_are_sent_and_no_error_tells_a_key() {
    hold("bundles", bundles::check);
}

#[test]
fn settings_are_understood_or_their_mistakes_are_named() {
    hold("settings", settings::check);
}

#[test]
fn whatever_the_admin_api_answers_passes_end_and_tell_nothing_secret() {
    hold("answers", answers::check);
}

#[test]
fn what_is_not_ours_in_a_configuration_stays_as_it_was() {
    hold("declarative", declarative::check);
}
