//! Knows the logs before v5.10: the buffer of variable-length records (v3.5 to v5.9) and the ring of characters before it.
//! Must not know how records are printed, and believes no length before it is checked against the buffer.
//! The records go to [`KernelLog`].

use super::fields::{Keys, read_pointer, read_u32};
use super::{Collector, KernelLog, KlogError, Loss, Record};
use crate::{
    arch::Words,
    layout::VmcoreInfo,
    memory::{ReadVirt, window::Window},
};

/// `log_buf_len=` is limited to 2^31 bytes (LOG_BUF_LEN_MAX).
const MAX_LOG: u32 = 1 << 31;
/// Longest line believed in a character log; a longer one is broken.
const MAX_LINE: usize = 32 * 1024;

/// Where the fields of a record's header are; checked to lie within the header.
struct Header {
    size: usize,
    ts_nsec: usize,
    len: usize,
    text_len: usize,
    dict_len: Option<usize>,
    caller_id: Option<usize>,
    /// Facility and level follow `dict_len`, one byte each. `struct log` of v3.5 had a 16-bit level there, and the name
    /// `printk_log` came after that: kernel commit 62e32ac3505a ("printk: rename struct log to struct printk_log"), v3.11.
    syslog: Option<usize>,
}

impl Header {
    fn new(info: &VmcoreInfo, keys: &mut Keys<'_>) -> Self {
        let name = if info.size("printk_log").is_some() { "printk_log" } else { "log" };
        let key = |field: &str| format!("{name}.{field}");
        let size = keys.size(name);
        let dict_len = keys.optional_offset(&key("dict_len"), 2, size);
        Self {
            size,
            ts_nsec: keys.offset(&key("ts_nsec"), 8, size),
            len: keys.offset(&key("len"), 2, size),
            text_len: keys.offset(&key("text_len"), 2, size),
            dict_len,
            caller_id: keys.optional_offset(&key("caller_id"), 4, size),
            syslog: dict_len.filter(|_| name == "printk_log").map(|at| at + 2).filter(|&at| at + 2 <= size),
        }
    }
}

/// What stands at an index of the buffer.
enum Entry {
    /// The mark that the next record is at index 0: a header of zeros.
    Wrap,
    /// A record of `len` bytes, `text_len` of them text right behind the header.
    Record { len: u64, text_len: usize },
}

struct Buffer<'m> {
    words: Words,
    header: Header,
    window: Window<'m>,
    len: u64,
}

impl Buffer<'_> {
    /// The entry at `at`, which must end by `limit`.
    fn entry(&mut self, at: u64, limit: u64) -> Result<Entry, Loss> {
        let Header { size, len, text_len, dict_len, .. } = self.header;
        let header = self.window.get(at, size)?;
        let u16 = |at| self.words.u16_at(header, at).map(usize::from).ok_or(Loss::Damaged);
        let (len, text_len) = (u16(len)?, u16(text_len)?);
        if len == 0 {
            return if text_len == 0 { Ok(Entry::Wrap) } else { Err(Loss::Damaged) };
        }
        let needed = size + text_len + dict_len.map_or(Ok(0), u16)?;
        let fits = at.checked_add(len as u64).is_some_and(|end| end <= limit);
        // Records are aligned to 4 or 8 bytes (LOG_ALIGN), depending on the architecture.
        if needed > len || !len.is_multiple_of(4) || !fits {
            return Err(Loss::Damaged);
        }
        Ok(Entry::Record { len: len as u64, text_len })
    }

    fn record(&mut self, at: u64, text_len: usize, seq: u64) -> Result<Record, Loss> {
        let header = self.window.get(at, self.header.size)?;
        let byte = |at: usize| header.get(at).copied();
        let mut record = Record {
            seq,
            ts_nsec: self.words.u64_at(header, self.header.ts_nsec),
            caller_id: self.header.caller_id.and_then(|at| self.words.u32_at(header, at)),
            facility: self.header.syslog.and_then(byte),
            level: self.header.syslog.and_then(|at| byte(at + 1)).map(|bits| bits >> 5),
            text: Vec::new(),
        };
        record.text = self.window.get(at + self.header.size as u64, text_len)?.to_vec();
        Ok(record)
    }

    /// The next index from `from` on at which two records in a row, or one that ends at `limit`, could stand.
    fn resync(&mut self, from: u64, limit: u64) -> Option<u64> {
        let mut at = from.next_multiple_of(4);
        while at < limit {
            match self.entry(at, limit) {
                Ok(Entry::Record { len, .. }) if at + len == limit || self.entry(at + len, limit).is_ok() => {
                    return Some(at);
                }
                Err(Loss::Unreadable) => at += self.window.to_page_end(at).next_multiple_of(4),
                _ => at += 4,
            }
        }
        None
    }
}

/// Reads the record buffer of v3.5 to v5.9.
pub(super) fn read(info: &VmcoreInfo, mem: &dyn ReadVirt) -> Result<KernelLog, KlogError> {
    let mut keys = Keys::new(info);
    let (log_buf, log_buf_len) = (keys.symbol("log_buf"), keys.symbol("log_buf_len"));
    let (first, next) = (keys.symbol("log_first_idx"), keys.symbol("log_next_idx"));
    let header = Header::new(info, &mut keys);
    keys.done()?;

    let vaddr = read_pointer(info, mem, log_buf, "log_buf")?;
    let control = |what, value: u32| KlogError::Control { vaddr, what, value: value.into() };
    let len = read_u32(mem, log_buf_len, "log_buf_len")?;
    if len == 0 || len > MAX_LOG {
        return Err(control("log_buf_len", len));
    }
    let index = |at, what| read_u32(mem, at, what).and_then(|i| if i < len { Ok(i) } else { Err(control(what, i)) });
    let (first, next) = (index(first, "log_first_idx")?, index(next, "log_next_idx")?);
    let caller_configured = header.caller_id.is_some();
    let len = u64::from(len);
    let mut buffer = Buffer { words: mem.words(), header, window: Window::new(mem, vaddr, len), len };
    let mut collector = Collector::default();
    buffer.walk(first.into(), next.into(), &mut collector);
    // The field exists only with CONFIG_PRINTK_CALLER: kernel commit 15ff2069cb7f ("printk: Add caller information to
    // printk() output."), v5.1.
    Ok(collector.finish(Some(caller_configured)))
}

impl Buffer<'_> {
    /// Follows the records from `first` to `next`, at most once around: every step moves forward, and only one wraps.
    fn walk(&mut self, first: u64, next: u64, collector: &mut Collector) {
        let mut laps = if next < first { vec![(0, next), (first, self.len)] } else { vec![(first, next)] };
        let mut seq = 0;
        while let Some((mut at, limit)) = laps.pop() {
            while at < limit {
                match self.entry(at, limit) {
                    Ok(Entry::Wrap) if !laps.is_empty() => break,
                    Ok(Entry::Record { len, text_len }) => {
                        match self.record(at, text_len, seq) {
                            Ok(record) => collector.push(record),
                            Err(loss) => collector.lose(loss),
                        }
                        at += len;
                    }
                    damaged => {
                        collector.lose(damaged.err().unwrap_or(Loss::Damaged));
                        let Some(found) = self.resync(at + 4, limit) else { break };
                        at = found;
                    }
                }
                seq += 1;
            }
        }
    }
}

/// Reads the ring of characters of v3.4 and before; every line becomes a record.
pub(super) fn read_characters(info: &VmcoreInfo, mem: &dyn ReadVirt) -> Result<KernelLog, KlogError> {
    let mut keys = Keys::new(info);
    let (log_buf, log_buf_len) = (keys.symbol("log_buf"), keys.symbol("log_buf_len"));
    let log_end = keys.symbol("log_end");
    keys.done()?;

    let vaddr = read_pointer(info, mem, log_buf, "log_buf")?;
    let len = read_u32(mem, log_buf_len, "log_buf_len")?;
    if !len.is_power_of_two() || len > MAX_LOG {
        return Err(KlogError::Control { vaddr, what: "log_buf_len", value: len.into() });
    }
    // `log_end` counts every character ever logged. It is 32 bits wide since v2.6.25; before, it was a long, whose low
    // half is read here.
    let end = read_u32(mem, log_end, "log_end")?;
    let spans: [(u64, u64); 2] = if end < len {
        [(0, end.into()), (0, 0)]
    } else {
        let split = u64::from(end & (len - 1));
        [(split, len.into()), (0, split)]
    };
    let mut window = Window::new(mem, vaddr, len.into());
    let mut collector = Collector::default();
    let mut line = Vec::new();
    let mut seq = 0;
    for (from, to) in spans {
        let mut at = from;
        while at < to {
            let want = window.to_page_end(at).min(to - at);
            match window.get(at, want as usize) {
                Ok(piece) => piece.iter().for_each(|&byte| {
                    if byte != b'\n' {
                        line.push(byte);
                    }
                    if byte == b'\n' || line.len() >= MAX_LINE {
                        collector.push(characters(&mut line, &mut seq));
                    }
                }),
                Err(error) => collector.lose(error.into()),
            }
            at += want;
        }
    }
    if !line.is_empty() {
        collector.push(characters(&mut line, &mut seq));
    }
    Ok(collector.finish(None))
}

/// Makes a record of a line such as `<6>[    0.000000] text`; the level leaves the text, the time stamp stays in it.
fn characters(line: &mut Vec<u8>, seq: &mut u64) -> Record {
    let (level, skip) = match line.as_slice() {
        [b'<', digit @ b'0'..=b'7', b'>', ..] => (Some(digit - b'0'), 3),
        _ => (None, 0),
    };
    let text = line.get(skip..).unwrap_or_default().to_vec();
    line.clear();
    let record = Record { seq: *seq, ts_nsec: None, caller_id: None, level, facility: None, text };
    *seq += 1;
    record
}
