//! The purgatory, judged: in a process, in a machine without any operating system, and by a disassembler.
//!
//! Knows the crate's public face and the blob's bytes. Must not trust the blob's own digests: NIST, coreutils and the
//! sha2 crate say what is right. What is not installed is skipped and counted, or fails (`judges`).

// There is a blob for this architecture only.
#![cfg(target_arch = "x86_64")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may stop at the first surprise")]

#[path = "../build/compile.rs"]
mod compile;
#[path = "../build/flatten.rs"]
mod flatten;
#[path = "../../tests/judges.rs"]
mod judges;

mod boot;
mod machine;
mod object;
mod process;
mod refusal;
mod sys;
