//! Redaction rules.
#![no_main]

use libfuzzer_sys::fuzz_target;
use vdump::internals::Rules;

fuzz_target!(|text: &str| {
    if let Err(error) = Rules::parse(text) {
        assert!(!error.to_string().is_empty());
    }
});
