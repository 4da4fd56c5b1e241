//! Kernel memory for tests: a few words, and nothing else.

use std::collections::BTreeMap;

use super::{ReadVirt, ReadVirtError};
use crate::arch::Words;

/// Words by address; everything else is unreadable.
#[derive(Default)]
pub(crate) struct FewWords(BTreeMap<u64, u32>);

impl FewWords {
    /// Makes 8 bytes readable.
    pub(crate) fn put(&mut self, at: u64, value: u64) {
        self.put_half(at, value as u32);
        self.put_half(at.wrapping_add(4), (value >> 32) as u32);
    }

    /// Makes 4 bytes readable.
    pub(crate) fn put_half(&mut self, at: u64, value: u32) {
        self.0.insert(at, value);
    }
}

impl ReadVirt for FewWords {
    fn words(&self) -> Words {
        Words::LE64
    }

    fn read_virt(&self, vaddr: u64, buf: &mut [u8]) -> Result<(), ReadVirtError> {
        for (index, bytes) in buf.chunks_mut(4).enumerate() {
            let at = vaddr.wrapping_add(index as u64 * 4);
            let word = self.0.get(&at).ok_or(ReadVirtError::Unreadable { vaddr: at, cause: "a hole".into() })?;
            bytes.copy_from_slice(&word.to_le_bytes());
        }
        Ok(())
    }
}
