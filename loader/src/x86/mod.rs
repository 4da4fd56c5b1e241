//! What only x86_64 has: boot parameters, e820, the backup of the lowest memory.
//!
//! Knows byte layouts of the boot protocol. Must not place anything. Fills the segments of a plan.

pub mod backup;
pub mod e820;
pub mod params;
