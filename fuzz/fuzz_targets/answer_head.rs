//! cargo-fuzz's front end of `keelson_fuzz::answer_head`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| keelson_fuzz::answer_head::run(bytes));
