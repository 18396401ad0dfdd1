#![no_main]

use kong_cert_reloader_fuzz::{declarative, seeds};
use libfuzzer_sys::fuzz_target;

fuzz_target!(init: seeds::write("declarative"), |input: &[u8]| declarative::check(input));
