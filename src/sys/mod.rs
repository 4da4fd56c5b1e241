//! The operating system: mapped windows, file space, named files, signals, the heap, and what the host has to give. The root crate's only unsafe room.
//!
//! Knows system calls and /proc. Must not know dumps. Used by `source`, `sink` and `cli`.

pub mod file;
pub mod heap;
pub mod host;
pub mod locks;
pub mod map;
pub mod out;
pub mod space;
pub mod stop;
