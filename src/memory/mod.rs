//! The crashed kernel's memory as the kernel itself saw it: virtual addresses, and the `struct page` of each frame.
//!
//! Knows page tables and memory models. Must not know what a page is used for, nor any other structure of the kernel. The
//! struct pages go to `classify`, virtual reads to `kernel` and `klog`, all mappings to `plan`.

#[cfg(test)]
pub(crate) mod few_words;
mod mappings;
mod mem_map;
mod struct_pages;
mod tables;
mod virt;
pub mod window;

pub use mappings::{Bounds, Ended, Leaf, Mappings, Visit, Walked};
pub use mem_map::{MemMap, Problem, SectionFacts};
pub use struct_pages::StructPages;
pub use tables::{Mapping, WalkError};
pub use virt::{ReadVirt, ReadVirtError, VirtReader};
