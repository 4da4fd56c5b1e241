//! The purgatory itself: the code that runs alone, between the crashed kernel and the capture kernel.
//!
//! Knows the table at its own end and the bare machine. Must not need anything else: no memory but its own, no library,
//! no relocation, no interrupt. Its way: entry -> check -> (stop) or (backup -> the capture kernel).
//!
//! `build.rs` compiles this file without cargo, flattens it, and refuses whatever would need a linker or a loader. So: no
//! statics but constant bytes, no indexing that can panic, no formatting, no 128-bit or floating-point numbers.

#![no_std]
#![no_builtins]

#[path = "../src/abi.rs"]
mod abi;
mod check;
mod console;
mod entry;
mod machine;
mod sha256;
mod sha_extensions;
