//! The room that will arm the machine: it loads the capture kernel into the memory that `crashkernel=` reserved.
//!
//! It knows kernel images, `/proc/iomem` under a given root, placement (a pure function from images and memory ranges
//! to a plan), the ELF core headers, the handover to the purgatory, and the two kexec system calls. It must not know
//! how a dump is filtered: the root crate does that after the crash.
//!
//! The room is empty for now; until it is furnished, `kexec-tools` loads the capture kernel.

#![forbid(unsafe_code)]
