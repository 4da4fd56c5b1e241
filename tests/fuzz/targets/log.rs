//! The kernel's log in memory: VMCOREINFO up to the first zero byte, then memory from an address on.
#![no_main]

use libfuzzer_sys::fuzz_target;
use vdump::internals::{ReadVirt, ReadVirtError, VmcoreInfo, Words, read_log};

/// Where the memory begins: what the seeds' VMCOREINFO says.
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
    if let Ok(log) = read_log(&VmcoreInfo::parse(info), &Memory(memory)) {
        let text: usize = log.records.iter().map(|record| record.text.len()).sum();
        assert!(text <= memory.len(), "more text than memory");
    }
});
