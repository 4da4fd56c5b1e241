//! VMCOREINFO's text, as far as telling it from other bytes needs it. What it says is for `layout`.

use object::elf::{EM_AARCH64, EM_NONE, EM_RISCV, EM_X86_64, Machine};

/// The first key of every kernel since 2.6.24.
pub(super) const FIRST_KEY: &[u8] = b"OSRELEASE=";

/// Whether this is all of VMCOREINFO: lines of `KEY=VALUE` in plain characters, as the kernel prints them.
pub(super) fn is_whole(text: &[u8]) -> bool {
    let used = text.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    let text = &text[..used];
    let mut lines = text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    text.starts_with(FIRST_KEY)
        && text.iter().all(|byte| matches!(byte, b'\n' | b' '..=b'~'))
        && lines.clone().any(|line| line.starts_with(b"PAGESIZE="))
        && lines.all(|line| line.contains(&b'='))
}

/// The machine whose kernel says this: by what only one architecture exports (`arch_crash_save_vmcoreinfo`).
pub(super) fn machine(text: &[u8]) -> Machine {
    let exports = |key: &[u8]| text.split(|byte| *byte == b'\n').any(|line| line.starts_with(key));
    match () {
        () if exports(b"NUMBER(phys_base)=") || exports(b"SYMBOL(phys_base)=") => EM_X86_64,
        () if exports(b"NUMBER(kimage_voffset)=") => EM_AARCH64,
        () if exports(b"NUMBER(va_kernel_pa_offset)=") => EM_RISCV,
        () => EM_NONE,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn machines_are_told_by_what_they_export() {
        assert_eq!(machine(b"OSRELEASE=6.1.0\nPAGESIZE=4096\nNUMBER(phys_base)=4096\n"), EM_X86_64);
        assert_eq!(machine(b"OSRELEASE=6\nNUMBER(kimage_voffset)=0xffff\n"), EM_AARCH64);
        assert_eq!(machine(b"OSRELEASE=6\n"), EM_NONE);
    }
}
