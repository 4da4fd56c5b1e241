//! From the bitmap of kept frames to what will be written: batches of pages, ELF segments, shares of a split set, and the
//! memory for it.
//!
//! Knows sizes and order before anything is read. Must not write; only the planned ELF core reads, when somebody reads it.
//! Goes to `pipeline` and `sink`.

mod batches;
mod budget;
mod frame;
mod mapped;
mod planned;
mod segments;
mod shares;

pub use batches::{Batch, Batches};
pub use budget::{Budget, Needs};
pub use frame::FRAME;
pub use mapped::MappedLoads;
pub use planned::{PlannedElf, Stretches};
pub use segments::{ElfPlan, Extent, Mapped};
pub use shares::{Density, SHARE_FRAMES, shares};
