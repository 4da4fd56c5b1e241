//! The operating system: mapped windows, file space, the heap, and what the host has to give. The root crate's only unsafe room.
//!
//! Knows system calls and /proc. Must not know dumps. Used by `source`, `sink` and `cli`.

pub mod heap;
pub mod host;
pub mod map;
pub mod space;
