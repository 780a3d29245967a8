//! Runs the target whose name the program has.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| fuzz::run(env!("CARGO_BIN_NAME"), input));
