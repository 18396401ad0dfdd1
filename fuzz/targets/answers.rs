#![no_main]

use kong_cert_reloader_fuzz::{answers, seeds};
use libfuzzer_sys::fuzz_target;

fuzz_target!(init: seeds::write("answers"), |input: &[u8]| answers::check(input));
