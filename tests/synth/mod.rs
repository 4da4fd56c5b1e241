//! Builds crashed machines: a sparse ELF core and the truth about every page in it.
//!
//! Shares no code with the product: its byte layouts are its own, so that a wrong layout over
//! there cannot hide. Must not know what the product makes of a machine.
//! Goes to every test as a `Fixture`.

pub mod core;
pub mod elf;
pub mod encodings;
pub mod fixture;
pub mod image;
pub mod kallsyms;
pub mod kdump;
pub mod kernels;
pub mod kinds;
pub mod klog;
pub mod machine;
pub mod memmap;
pub mod odd;
pub mod odd_elf;
pub mod pagetable;
pub mod pcp;
pub mod raw;
pub mod segments;
pub mod spec;
pub mod structpage;
pub mod truth;
pub mod vmcoreinfo;
pub mod wrap;

pub use fixture::{CRASH_TIME, Fixture};
pub use machine::{Loads, Machine};
