//! Everything that is found out about the crash: where the kernel's own structures are, what they show to be the kernel's, what
//! it counted, which pages its allocator has free, its tasks, and its end.
//!
//! Reads `memory` and `klog`. Must not know classes, dump levels or what was typed. The value [`Kernel`] goes to `classify`.

mod addresses;
mod asked;
pub mod counters;
mod crashed;
mod facts;
mod kallsyms;
pub mod keep;
pub mod known;
mod last_words;
mod opened;
pub mod panicked;
mod pcp;
mod protect;
mod symbols;
pub mod tasks;
pub mod user;
mod whole;
pub mod witnessed;
mod witnesses;
pub mod zones;

pub use addresses::segments;
pub use asked::{keys_of_own_structures, symbols};
pub use counters::{Count, Counters};
pub use facts::{NAME_VMCOREINFO, crash_time, no_vmcoreinfo, page_shift, utsname, vmcoreinfo};
pub use kallsyms::{Kallsyms, KallsymsError};
pub use known::NamedFiles;
pub use last_words::LastWords;
pub use opened::{open, open_quietly, open_unasked};
pub use pcp::FreePcp;
pub use protect::Protected;
pub use symbols::Symbols;
pub use tasks::{Task, Tasks};
pub use whole::Kernel;
pub use witnessed::{Gap, Part};
pub use witnesses::{own_btf, symbols_of_btf};
pub use zones::{Zone, zones};
