//! cargo-fuzz's front end of `keelson_fuzz::tokens`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| keelson_fuzz::tokens::run(bytes));
