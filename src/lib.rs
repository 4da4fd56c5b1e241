//! vdump turns a crashed Linux machine's memory into a small dump that engineers can debug, and reads any such dump.
//!
//! The program is most of this crate. What other programs can use is the reader, [`Dump`]:
//!
//! ```
//! # fn main() -> Result<(), vdump::Error> {
//! let dump = vdump::Dump::open("tests/data/vmcore-6.12.zst")?;
//! assert_eq!((dump.release(), dump.architecture()), (Some("6.12.117+deb12-cloud-amd64"), "x86_64"));
//!
//! let mut reader = dump.reader();
//! let mut page = vec![0; dump.page_size()];
//! reader.page(0x10, &mut page)?;
//!
//! let mut banner = [0; 14];
//! if let Some(address) = dump.symbol("linux_banner")? {
//!     reader.read_virtual(address, &mut banner)?;
//!     assert_eq!(&banner, b"Linux version ");
//! }
//! assert!(dump.log()?.to_string().contains("Linux version "));
//! # Ok(())
//! # }
//! ```
//!
//! A page that the dump does not have is never zeros: [`ErrorKind`] says whether it was excluded, lost, or never there.
//!
//! Data goes one way through the rooms: bytes, [`source`], [`layout`], [`memory`], [`kernel`], [`classify`], [`bitmap`], [`plan`],
//! [`pipeline`], [`sink`], bytes. [`klog`] reads the kernel's log for `kernel`, [`check`] looks at dumps
//! as files, [`redact`] finds what no output may show. A room uses only rooms before it and the
//! floor: [`format`](mod@format), [`codec`], [`error`], [`report`], [`sys`] and the crate `vdump_filters`. Only [`run`] sees them all.

pub mod bitmap;
pub mod check;
pub mod classify;
pub mod cli;
pub mod codec;
mod dump;
pub mod error;
pub mod format;
pub mod kernel;
pub mod klog;
pub mod layout;
pub mod memory;
pub mod pipeline;
pub mod plan;
pub mod redact;
pub mod report;
pub mod run;
pub mod sink;
pub mod source;
pub mod sys;

pub use dump::{Dump, Error, ErrorKind, Log, Note, Options, Page, PageState, Reader, Vmcoreinfo};
pub use klog::{Loss, Record as LogRecord};
