//! VMCOREINFO's text, as far as telling it from other bytes needs it. What it says is for `layout`.

use object::elf::Machine;

use crate::arch;

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

/// The machine whose kernel says this: by what only one architecture exports.
pub(super) fn machine(text: &[u8]) -> Machine {
    let has = |key: &str| {
        let value = |line: &[u8]| line.strip_prefix(key.as_bytes()).is_some_and(|rest| rest.starts_with(b"="));
        text.split(|byte| *byte == b'\n').any(value)
    };
    arch::by_keys(has)
}
