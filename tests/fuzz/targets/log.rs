//! The kernel's log in memory: VMCOREINFO up to the first zero byte, then memory from an address on.
#![no_main]

mod common;

use common::Memory;
use libfuzzer_sys::fuzz_target;
use vdump::internals::{VmcoreInfo, read_log};

fuzz_target!(|data: &[u8]| {
    let end = data.iter().position(|byte| *byte == 0).unwrap_or(data.len());
    let (info, memory) = data.split_at(end);
    if let Ok(log) = read_log(&VmcoreInfo::parse(info), &Memory(memory)) {
        let text: usize = log.records.iter().map(|record| record.text.len()).sum();
        assert!(text <= memory.len(), "more text than memory");
    }
});
