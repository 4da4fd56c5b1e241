//! Knows the three shapes of the kernel log (lockless ring, record buffer, plain characters) and which one a dump holds.
//! Must not know files, page tables or the terminal: it reads virtual memory through `ReadVirt` and VMCOREINFO only.
//! The records go to the `dmesg` writer here, to `vdump dmesg` and to the report.

use std::collections::{BTreeMap, VecDeque};

use crate::layout::VmcoreInfo;
use crate::memory::window::WindowError;
use crate::memory::{ReadVirt, ReadVirtError};

mod block;
mod dmesg;
mod fields;
mod records;
mod ringbuffer;
#[cfg(test)]
mod tests;

pub use dmesg::{CallerColumn, write_dmesg};

/// Most memory the kept records may take; bytes. The oldest records give way, as the last words of a crash matter most.
/// A log can be 2 GiB (`log_buf_len=`, LOG_BUF_LEN_MAX), a capture kernel has 256 MB.
const KEEP_BYTES: usize = 64 << 20;

/// One message of the kernel log.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Record {
    /// The kernel's own number of the message; before 5.10, where none is stored with it, counted from the oldest found.
    pub seq: u64,
    /// Nanoseconds since boot; `None` in a plain character log, whose stamps are part of the text.
    pub ts_nsec: Option<u64>,
    /// Thread id, or processor id with bit 31 set; `None` when the kernel does not store it.
    pub caller_id: Option<u32>,
    /// Syslog level, 0 (emergency) to 7 (debug), when the layout says where it is.
    pub level: Option<u8>,
    /// Syslog facility, when the layout says where it is.
    pub facility: Option<u8>,
    /// The message as stored, unescaped; may hold newlines, not at the end.
    pub text: Vec<u8>,
}

/// Why a record, or a part of the log, is not among the records or not as it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Loss {
    /// Its text was overwritten by newer messages; normal in a full ring.
    Overwritten,
    /// It was being written when the kernel stopped.
    Unfinished,
    /// The kernel had no room for its text.
    NoRoom,
    /// Its descriptor belongs to another round of the ring.
    WrongRound,
    /// Its header or block positions contradict each other.
    Damaged,
    /// Its text block carries the id of another record.
    WrongBlock,
    /// The memory behind it cannot be read.
    Unreadable,
    /// Kept, but the text is shorter than its header says.
    Truncated,
    /// Older than what fits the memory allowed for the log.
    OverBudget,
    /// The ends of the log are damaged: records were searched for, not followed.
    EndsDamaged,
}

impl Loss {
    /// The reason in words, for a sentence such as `3 records: ...`.
    #[must_use]
    pub fn reason(self) -> &'static str {
        match self {
            Self::Overwritten => "overwritten by newer messages",
            Self::Unfinished => "still being written when the kernel stopped",
            Self::NoRoom => "the kernel had no room for the text",
            Self::WrongRound => "the descriptor belongs to another round of the ring",
            Self::Damaged => "header or positions are damaged",
            Self::WrongBlock => "the text block belongs to another record",
            Self::Unreadable => "the memory cannot be read",
            Self::Truncated => "the text is truncated",
            Self::OverBudget => "older than what fits in memory",
            Self::EndsDamaged => "the ends of the log are damaged, records were searched for",
        }
    }

    /// Whether this points at damage; the others happen in a healthy log.
    #[must_use]
    pub fn is_damage(self) -> bool {
        !matches!(self, Self::Overwritten | Self::Unfinished | Self::NoRoom | Self::OverBudget)
    }
}

/// The log of the crashed kernel, oldest message first.
#[derive(Debug, Clone)]
pub struct KernelLog {
    /// The messages.
    pub records: Vec<Record>,
    /// How many records were lost or changed, by reason.
    pub losses: BTreeMap<Loss, u64>,
    /// Whether the kernel was built with CONFIG_PRINTK_CALLER; `None` when the dump does not tell (v5.10 and later
    /// store the caller in any case).
    pub caller_configured: Option<bool>,
}

/// Why no log can be read at all.
#[derive(Debug, thiserror::Error)]
pub enum KlogError {
    /// VMCOREINFO knows no kind of kernel log.
    #[error(
        "VMCOREINFO has none of SYMBOL(prb), SYMBOL(log_first_idx), SYMBOL(log_end); the kernel was built without \
         CONFIG_PRINTK, or the note is incomplete: check it with `strings` on the dump's PT_NOTE"
    )]
    NoLog,
    /// Layout keys are missing or impossible.
    #[error(
        "VMCOREINFO lacks, or has impossible values for: {}; name the kernel's vmlinux with debug info, so that they \
         can be read from it",
        .keys.join(", ")
    )]
    Layout {
        /// The keys, as VMCOREINFO spells them.
        keys: Vec<String>,
    },
    /// One of the few values everything else hangs on cannot be read.
    #[error("cannot read {what} of the kernel log: {cause}; the dump may be truncated")]
    Read {
        /// What was read.
        what: &'static str,
        /// The failed read.
        cause: ReadVirtError,
    },
    /// The control block of the log is damaged beyond use.
    #[error("the kernel log at {vaddr:#x} is damaged: {what} is {value:#x}")]
    Control {
        /// Address of the control block or buffer.
        vaddr: u64,
        /// The field.
        what: &'static str,
        /// Its value.
        value: u64,
    },
}

/// Reads the log of the crashed kernel, in whichever shape VMCOREINFO describes.
///
/// Damage costs the records it touches; they are counted in `KernelLog::losses`.
///
/// # Errors
/// `KlogError` when there is no log to be found, when layout keys are missing, or when its control block is unusable.
pub fn read_log(info: &VmcoreInfo, mem: &dyn ReadVirt) -> Result<KernelLog, KlogError> {
    // Newest first: the symbols of an older shape are never kept by a newer kernel.
    if info.symbol("prb").is_some() {
        ringbuffer::read(info, mem)
    } else if info.symbol("log_first_idx").is_some() {
        records::read(info, mem)
    } else if info.symbol("log_end").is_some() {
        records::read_characters(info, mem)
    } else {
        Err(KlogError::NoLog)
    }
}

/// Collects records within the memory allowed, and counts what was lost.
#[derive(Debug, Default)]
struct Collector {
    kept: VecDeque<Record>,
    bytes: usize,
    losses: BTreeMap<Loss, u64>,
}

impl Collector {
    fn push(&mut self, record: Record) {
        self.bytes = self.bytes.saturating_add(cost(&record));
        self.kept.push_back(record);
        while self.bytes > KEEP_BYTES {
            let Some(oldest) = self.kept.pop_front() else { break };
            self.bytes = self.bytes.saturating_sub(cost(&oldest));
            self.lose(Loss::OverBudget);
        }
    }

    fn lose(&mut self, reason: Loss) {
        self.lose_many(reason, 1);
    }

    fn lose_many(&mut self, reason: Loss, records: u64) {
        let count = self.losses.entry(reason).or_default();
        *count = count.saturating_add(records);
    }

    fn finish(self, caller_configured: Option<bool>) -> KernelLog {
        KernelLog { records: self.kept.into(), losses: self.losses, caller_configured }
    }
}

fn cost(record: &Record) -> usize {
    record.text.len().saturating_add(size_of::<Record>())
}

impl From<WindowError> for Loss {
    fn from(error: WindowError) -> Self {
        match error {
            WindowError::Outside { .. } => Self::Damaged,
            WindowError::Read(_) => Self::Unreadable,
        }
    }
}
