//! Any bytes as NDJSON events of a source with a column of every type.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tidemill::source::json;
use tidemill_fuzz::decoded::{decoder, verify};

fuzz_target!(|data: &[u8]| {
    let mut decoder = decoder();
    json::decode(data, &mut decoder);
    verify(&decoder.finish());
});
