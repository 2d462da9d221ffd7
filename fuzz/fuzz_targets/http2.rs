//! cargo-fuzz's front end of `keelson_fuzz::http2`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| keelson_fuzz::http2::run(bytes));
