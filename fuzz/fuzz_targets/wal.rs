//! cargo-fuzz's front end of `keelson_fuzz::wal`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| keelson_fuzz::wal::run(bytes));
