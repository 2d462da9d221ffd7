//! cargo-fuzz's front end of `keelson_fuzz::fast_path`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| keelson_fuzz::fast_path::run(bytes));
