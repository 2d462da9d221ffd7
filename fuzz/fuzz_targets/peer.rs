//! cargo-fuzz's front end of `keelson_fuzz::peer`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| keelson_fuzz::peer::run(bytes));
