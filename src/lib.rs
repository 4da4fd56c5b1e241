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
//! Inside, data goes one way through the rooms: bytes, `source`, `layout`, `memory`, `klog`, `kernel`, `classify`, `bitmap`, `plan`,
//! `pipeline`, `sink`, `medium`, bytes. `check` looks at dumps as files, `redact` finds what no output may show, `dump` is the reader. A
//! room uses only rooms before it and the floor: `format`, `codec`, `error`, `report`, `sys` and the crate `vdump_filters`. Only
//! `run` sees them all.

mod arch;
mod bitmap;
mod check;
mod classify;
mod cli;
mod codec;
mod dump;
mod error;
mod format;
mod kernel;
mod klog;
mod layout;
mod medium;
mod memory;
mod pipeline;
mod plan;
mod redact;
mod report;
mod run;
mod sink;
mod source;
mod sys;

pub use dump::{Dump, Error, ErrorKind, Log, Note, Options, Page, PageState, Reader, Vmcoreinfo};
pub use klog::{CallerColumn, Loss, Record as LogRecord};

/// A door for those who belong to this crate and are built outside of it: the program, the benches and the fuzz targets. It has
/// what they use and nothing else, and promises nothing.
#[doc(hidden)]
pub mod internals {
    pub use crate::{
        arch::Words,
        bitmap::PageBitmap,
        classify::{BLOCK_PAGES, Classifier, Picks},
        cli::{Cli, compat, kexec},
        codec::{Codec, Compression, Decoder, frame::FrameCoder},
        kernel::{FreePcp, Kallsyms, Protected, own_btf, symbols, symbols_of_btf},
        klog::read_log,
        layout::{
            KernelLayout, VmcoreInfo, Witness, known,
            types::{Btf, Wanted},
        },
        medium::{Inputs, Target},
        memory::{MemMap, ReadVirt, ReadVirtError, StructPages, VirtReader},
        pipeline::{PackedBatch, is_zero, pack_page},
        plan::Batches,
        redact::Rules,
        report::Progress,
        run::{called, run},
        sink::{KdumpFacts, KdumpSink, Sink},
        source::{MAX_READ, OutputNotes, Source},
        sys::heap::keep_little,
    };
}
