//! Page descriptors, one after the other.

use crate::{
    format::diskdump::{Areas, PageDesc, flags},
    pipeline::Fate,
};

/// What a descriptor says of a page.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Described {
    /// It has so many bytes, with the codec that the flags name.
    Stored { len: u32, flags: u32 },
    /// It is all zeros.
    Zero,
    /// It could not be read.
    Lost,
}

impl From<&Fate> for Described {
    fn from(fate: &Fate) -> Self {
        match fate {
            Fate::Stored { len, flags } => Self::Stored { len: *len, flags: *flags },
            Fate::Zero => Self::Zero,
            Fate::Lost(_) => Self::Lost,
        }
    }
}

/// Makes descriptors of pages whose data follow each other.
#[derive(Debug)]
pub(super) struct Descs {
    /// Where the one page of zeros lies, and its size.
    zeros: (u64, u32),
    /// Where the next page's data lie.
    next: u64,
    /// The header can say that the dump is incomplete.
    marked: bool,
}

impl Descs {
    pub(super) fn new(areas: &Areas, marked: bool) -> Self {
        let zeros = (areas.data, areas.block_size as u32);
        Self { zeros, next: areas.data + areas.block_size, marked }
    }

    /// The next page's. A lost page keeps its bit: so readers tell it from pages that were left out, and later descriptors
    /// stay where they belong.
    pub(super) fn of(&mut self, page: Described) -> PageDesc {
        let (offset, size, flags) = match page {
            Described::Stored { len, flags } => {
                let offset = self.next;
                self.next += u64::from(len);
                (offset, len, flags)
            }
            Described::Zero => (self.zeros.0, self.zeros.1, 0),
            // As those that were not written yet.
            Described::Lost if self.marked => (0, 0, 0),
            // Where no mark tells readers to expect it, an empty page would show what they last read. The file's signature is
            // no zlib stream: there they fail.
            Described::Lost => (0, 8, flags::ZLIB),
        };
        PageDesc { offset: offset.into(), size: size.into(), flags: flags.into(), page_flags: 0.into() }
    }
}
