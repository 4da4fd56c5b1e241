//! Knows the text form of the log: time stamps, the caller column, continuation lines, escapes.
//! Must not know where records come from; what a crashed machine wrote must not drive the reader's terminal.
//! The lines go to whatever `Write` the caller gives.

use std::io::{self, Write};

use super::{KernelLog, Record};

/// Whether lines carry the `[    T1]` / `[    C0]` column (thread or processor that printed).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CallerColumn {
    /// Only when the dump proves that the crashed kernel's own `dmesg` had the column. v5.10 and later store and export
    /// the caller even without CONFIG_PRINTK_CALLER, so for them there is none: as vmcore-dmesg, drgn, and makedumpfile
    /// before 1.7.5 print.
    #[default]
    AsKernel,
    /// Whenever the log stores callers; makedumpfile 1.7.5 and later do so (two columns wider).
    WhenStored,
    /// Never.
    Never,
}

/// Writes the log as `dmesg` prints it: `[    1.234567] text`, one record after the other.
///
/// The second and later lines of a record are indented by the width of its prefix, as makedumpfile and crash do.
/// Bytes that are neither printable ASCII nor tab come out as `\xHH`, so that no escape sequence in the log reaches a
/// terminal; this includes UTF-8, which the kernel escapes in /dev/kmsg as well.
///
/// # Errors
/// Those of `out`.
pub fn write_dmesg(log: &KernelLog, callers: CallerColumn, out: &mut impl Write) -> io::Result<()> {
    let column = match callers {
        CallerColumn::AsKernel => log.caller_configured == Some(true),
        CallerColumn::WhenStored => true,
        CallerColumn::Never => false,
    };
    let mut line = Vec::new();
    for record in &log.records {
        line.clear();
        prefix(record, column, &mut line)?;
        let indent = line.len();
        for &byte in &record.text {
            match byte {
                b'\n' => {
                    line.push(b'\n');
                    line.resize(line.len().saturating_add(indent), b' ');
                }
                b'\t' | b' '..=b'~' => line.push(byte),
                _ => write!(line, "\\x{byte:02x}")?,
            }
        }
        line.push(b'\n');
        out.write_all(&line)?;
    }
    Ok(())
}

fn prefix(record: &Record, column: bool, line: &mut Vec<u8>) -> io::Result<()> {
    let caller = record.caller_id.filter(|_| column);
    if let Some(ns) = record.ts_nsec {
        write!(line, "[{:5}.{:06}]", ns / 1_000_000_000, ns % 1_000_000_000 / 1000)?;
    }
    if let Some(id) = caller {
        // Bit 31 tells a processor from a thread: kernel commit 15ff2069cb7f ("printk: Add caller information to
        // printk() output."), v5.1; also the width of six and that no space stands before the column.
        let kind = if id & (1 << 31) == 0 { 'T' } else { 'C' };
        write!(line, "[{:>6}]", format!("{kind}{}", id & !(1 << 31)))?;
    }
    if !line.is_empty() {
        line.push(b' ');
    }
    Ok(())
}
