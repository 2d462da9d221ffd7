//! cargo-fuzz's front end of `keelson_fuzz::discovery_url`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| keelson_fuzz::discovery_url::run(bytes));
