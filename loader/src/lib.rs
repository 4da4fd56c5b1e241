//! The room that arms the machine: it loads a capture kernel into the memory that `crashkernel=` reserved, or a kernel for
//! the next reboot.
//!
//! A load goes one way: a [`job::Job`] (paths, options) and its files become [`job::Prepared`]; what the machine says about
//! itself is a [`host::Host`]; both make a [`plan::Plan`], by a pure function; [`arm`] checks it once more and hands it to
//! the kernel. [`state`] remembers it, [`status`] compares it with the machine later.
//!
//! It must not know how a dump is filtered: the root crate does that after the crash.

pub mod arm;
pub mod cmdline;
pub mod corehdr;
pub mod digest;
pub mod errno;
pub mod error;
pub mod files;
mod handover;
pub mod host;
pub mod image;
pub mod job;
pub mod options;
pub mod place;
pub mod plan;
pub mod range;
pub mod state;
pub mod status;
mod sys;
pub mod x86;

pub use error::{Error, Kind, Result};
