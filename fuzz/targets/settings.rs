#![no_main]

use kong_cert_reloader_fuzz::{seeds, settings};
use libfuzzer_sys::fuzz_target;

fuzz_target!(init: seeds::write("settings"), |input: &[u8]| settings::check(input));
