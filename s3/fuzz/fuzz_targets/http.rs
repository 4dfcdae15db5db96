//! `s3/tests/fuzz/targets/http1.rs`, under libFuzzer.

#![no_main]

#[path = "../../tests/fuzz/targets/mod.rs"]
mod targets;

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    targets::target("http").measured(input);
});
