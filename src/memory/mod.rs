//! The crashed kernel's memory as the kernel itself saw it: virtual addresses, symbols, and the `struct page` of each
//! frame.
//!
//! Knows page tables and memory models. Must not know what a page is used for. The struct pages go to `classify`, virtual
//! reads to `klog`, all mappings to `plan`.

pub mod arch;
pub mod counters;
mod kallsyms;
mod mappings;
mod mem_map;
pub mod pcp;
mod protect;
mod struct_pages;
mod symbols;
pub mod tasks;
pub mod user;
mod virt;
pub mod window;
pub mod witnessed;
pub mod witnesses;
#[cfg(test)]
mod words;
mod zones;

pub use arch::{Mapping, Walk, WalkError};
pub use counters::{Count, Counters};
pub use kallsyms::{Kallsyms, KallsymsError};
pub use mappings::{Leaf, Mappings, Visit, Walked};
pub use mem_map::{MemMap, Problem, SectionFacts};
pub use pcp::FreePcp;
pub use protect::Protected;
pub use struct_pages::StructPages;
pub use symbols::Symbols;
pub use tasks::{Task, Tasks};
pub use virt::{ReadVirt, ReadVirtError, VirtReader};
pub use witnessed::{Crashed, Gap, Part};
pub use zones::{Zone, zones};
