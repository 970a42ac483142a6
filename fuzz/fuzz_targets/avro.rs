//! Any bytes as a message in Avro of a source with a column of every type.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use tidemill_fuzz::decoded::verify;
use tidemill_fuzz::messages::{AVRO, Messages};

static MESSAGES: LazyLock<Messages> = LazyLock::new(|| Messages::new(AVRO));

fuzz_target!(|data: &[u8]| {
    let decoded = MESSAGES.read(data);
    assert_eq!(decoded.consumed, 2);
    verify(&decoded);
});
