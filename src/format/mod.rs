//! Byte layouts of dump files, shared by the rooms that read them and those that write them.
//!
//! Knows where each field lies and which values readers accept. Must not do I/O. Used by `source` and `sink`.

pub mod diskdump;
pub mod diskdump32;
pub mod elf;
pub mod flattened;
pub mod note;
pub mod seekable;

/// Rounds `value` up to a multiple of `unit` (a power of two); `None` on overflow.
#[must_use]
pub fn align_up(value: u64, unit: u64) -> Option<u64> {
    Some(value.checked_add(unit - 1)? & !(unit - 1))
}
