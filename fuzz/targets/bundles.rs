#![no_main]

use kong_cert_reloader_fuzz::{bundles, seeds};
use libfuzzer_sys::fuzz_target;

fuzz_target!(init: seeds::write("bundles"), |input: &[u8]| bundles::check(input));
