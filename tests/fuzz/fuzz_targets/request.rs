//! Any bytes of a peer, in any split. The invariant lives in the crate, where unit tests and properties use it too.
#![no_main]

libfuzzer_sys::fuzz_target!(|wire: &[u8]| minicorn::http::invariant::holds_for(wire));
