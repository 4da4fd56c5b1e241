//! The kernel's symbol table in memory: VMCOREINFO up to the first zero byte, then memory from an address on.
#![no_main]

mod common;

use common::Memory;
use libfuzzer_sys::fuzz_target;
use vdump::internals::{Kallsyms, VmcoreInfo};

fuzz_target!(|data: &[u8]| {
    let end = data.iter().position(|byte| *byte == 0).unwrap_or(data.len());
    let (info, memory) = data.split_at(end);
    let info = VmcoreInfo::parse(info);
    let memory = Memory(memory);
    let names = ["_stext", "_etext", "init_task", "__per_cpu_offset"];
    let found = Kallsyms::find(&info, &memory, &names);
    if let (Ok(table), Ok(found)) = (Kallsyms::load(&info, &memory), &found) {
        assert_eq!(&table.lookup_one(&names).ok(), &Some(found.clone()), "one pass and two differ");
    }
    if let Ok(found) = found {
        assert_eq!(found[0], info.symbol("_stext"), "the table was believed without its proof");
    }
});
