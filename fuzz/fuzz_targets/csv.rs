//! Any bytes as CSV events of a source with a column of every type.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tidemill::source::csv;
use tidemill_fuzz::decoded::{decoder, verify};

fuzz_target!(|data: &[u8]| {
    let mut decoder = decoder();
    if csv::decode(data, &mut decoder).is_ok() {
        verify(&decoder.finish());
    }
});
