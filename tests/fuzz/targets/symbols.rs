//! The kernel's symbol table in memory: VMCOREINFO up to the first zero byte, then memory from an address on.
#![no_main]

use libfuzzer_sys::fuzz_target;
use vdump::internals::{Kallsyms, ReadVirt, ReadVirtError, VmcoreInfo, Words};

const BASE: u64 = 0xffff_ffff_8200_0000;

struct Memory<'a>(&'a [u8]);

impl ReadVirt for Memory<'_> {
    fn words(&self) -> Words {
        Words::LE64
    }

    fn read_virt(&self, vaddr: u64, buf: &mut [u8]) -> Result<(), ReadVirtError> {
        let missing = || ReadVirtError::Unreadable { vaddr, cause: "a hole".to_owned() };
        let at = usize::try_from(vaddr.wrapping_sub(BASE)).map_err(|_| missing())?;
        let end = at.checked_add(buf.len()).ok_or_else(missing)?;
        buf.copy_from_slice(self.0.get(at..end).ok_or_else(missing)?);
        Ok(())
    }
}

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
