//! The room that will run between two kernels: after the crash and before the capture kernel.
//!
//! It will verify the SHA-256 of every loaded segment, copy the backup region and jump to the kernel's 64-bit entry.
//! It must not use anything but itself: `no_std`, no allocation, no relocation. The loader embeds its blob.
//!
//! The room is empty for now.

#![no_std]
#![forbid(unsafe_code)]
