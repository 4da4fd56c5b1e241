//! Knows the lockless printk ring (v5.10 and later): descriptors, their states, and where a text block lies.
//! Must not know how records are printed, and believes no position before it is checked against its ring.
//! The records go to [`KernelLog`].

use super::block::locate;
use super::fields::{Keys, read_pointer, words};
use super::{Collector, KernelLog, KlogError, Loss, Record};
use crate::{
    arch::Words,
    layout::VmcoreInfo,
    memory::{ReadVirt, window::Window},
};

/// `log_buf_len=` is limited to 2^31 bytes (LOG_BUF_LEN_MAX), and the ring has one descriptor per 2^5 (PRB_AVGBITS).
const MAX_SIZE_BITS: u32 = 31;
const MAX_COUNT_BITS: u32 = 26;

/// Two top bits of a descriptor's state word. Names and values of v5.10; "finalized" came in the same release.
const RESERVED: u64 = 0;
const REUSABLE: u64 = 3;

/// The bits of an id that every kernel has: 32 less the two of the state.
const DESC0_BITS: u64 = (1 << 30) - 1;

/// Sizes and offsets, all checked to lie within their structures.
struct Layout {
    words: Words,
    counter: usize,
    ring_size: usize,
    count_bits: usize,
    descs: usize,
    infos: usize,
    head_id: usize,
    tail_id: usize,
    size_bits: usize,
    data: usize,
    desc_size: usize,
    state: usize,
    begin: usize,
    next: usize,
    info_size: usize,
    seq: usize,
    ts_nsec: usize,
    text_len: usize,
    caller_id: Option<usize>,
}

impl Layout {
    fn new(info: &VmcoreInfo, words: Words) -> Result<(u64, Self), KlogError> {
        let w = words.long_size();
        let mut keys = Keys::new(info);
        let prb = keys.symbol("prb");
        let counter = keys.offset("atomic_long_t.counter", w, w);
        let ring_size = keys.size("printk_ringbuffer");
        let descs_size = keys.size("prb_desc_ring");
        let data_size = keys.size("prb_data_ring");
        let desc_size = keys.size("prb_desc");
        let lpos_size = keys.size("prb_data_blk_lpos");
        let info_size = keys.size("printk_info");
        let desc_ring = keys.offset("printk_ringbuffer.desc_ring", descs_size, ring_size);
        let data_ring = keys.offset("printk_ringbuffer.text_data_ring", data_size, ring_size);
        let lpos = keys.offset("prb_desc.text_blk_lpos", lpos_size, desc_size);
        let layout = Self {
            words,
            counter,
            ring_size,
            count_bits: desc_ring + keys.offset("prb_desc_ring.count_bits", 4, descs_size),
            descs: desc_ring + keys.offset("prb_desc_ring.descs", w, descs_size),
            infos: desc_ring + keys.offset("prb_desc_ring.infos", w, descs_size),
            head_id: desc_ring + keys.offset("prb_desc_ring.head_id", w, descs_size),
            tail_id: desc_ring + keys.offset("prb_desc_ring.tail_id", w, descs_size),
            size_bits: data_ring + keys.offset("prb_data_ring.size_bits", 4, data_size),
            data: data_ring + keys.offset("prb_data_ring.data", w, data_size),
            desc_size,
            state: keys.offset("prb_desc.state_var", w, desc_size),
            begin: lpos + keys.offset("prb_data_blk_lpos.begin", w, lpos_size),
            next: lpos + keys.offset("prb_data_blk_lpos.next", w, lpos_size),
            info_size,
            seq: keys.offset("printk_info.seq", 8, info_size),
            ts_nsec: keys.offset("printk_info.ts_nsec", 8, info_size),
            text_len: keys.offset("printk_info.text_len", 2, info_size),
            caller_id: keys.optional_offset("printk_info.caller_id", 4, info_size),
        };
        keys.done()?;
        Ok((prb, layout))
    }
}

/// The ring, with its control values read and checked.
struct Ring<'m> {
    layout: Layout,
    count_bits: u32,
    size_bits: u32,
    id_mask: u64,
    head: u64,
    tail: u64,
    descs: Window<'m>,
    infos: Window<'m>,
    blocks: Window<'m>,
    /// Blocks do not overlap, so all texts together fit the ring; bounds the work where blocks claim to overlap.
    text_left: usize,
}

pub(super) fn read(info: &VmcoreInfo, mem: &dyn ReadVirt) -> Result<KernelLog, KlogError> {
    let (prb, layout) = Layout::new(info, words(info, mem))?;
    let vaddr = read_pointer(info, mem, prb, "prb")?;
    let mut ring = Ring::open(layout, mem, vaddr)?;
    let mut collector = Collector::default();
    let (oldest, span) = ring.extent(&mut collector);
    let mut step = 0;
    while step < span {
        let id = oldest.wrapping_add(step) & ring.id_mask;
        let mut taken = 1;
        match ring.record(id) {
            Ok(Some((record, truncated))) => {
                if truncated {
                    collector.lose(Loss::Truncated);
                }
                collector.push(record);
            }
            Ok(None) => {}
            Err(loss) => {
                // A large hole is left page by page, or it would take a failed read per descriptor.
                taken = ring.unreadable_from(id).min(span - step).max(1);
                collector.lose_many(loss, taken);
            }
        }
        step += taken;
    }
    Ok(collector.finish(None))
}

impl<'m> Ring<'m> {
    fn open(layout: Layout, mem: &'m dyn ReadVirt, vaddr: u64) -> Result<Self, KlogError> {
        let words = layout.words;
        // Bounded: Keys let no structure be larger than a page.
        let mut control = vec![0; layout.ring_size];
        mem.read_virt(vaddr, &mut control)
            .map_err(|cause| KlogError::Read { what: "struct printk_ringbuffer", cause })?;
        let outside = |what| KlogError::Control { vaddr, what, value: 0 };
        let bits = |at, max, what| match words.u32_at(&control, at) {
            Some(bits) if bits > 0 && bits <= max => Ok(bits),
            value => Err(KlogError::Control { vaddr, what, value: value.unwrap_or(0).into() }),
        };
        let count_bits = bits(layout.count_bits, MAX_COUNT_BITS, "desc_ring.count_bits")?;
        let size_bits = bits(layout.size_bits, MAX_SIZE_BITS, "text_data_ring.size_bits")?;
        let pointer = |at, what| words.long_at(&control, at).ok_or(outside(what));
        let array = |at, size: usize, what| Ok(Window::new(mem, pointer(at, what)?, (size as u64) << count_bits));
        let id_mask = words.long_mask() >> 2;
        let id = |at: usize, what| pointer(at + layout.counter, what).map(|id| id & id_mask);
        Ok(Self {
            count_bits,
            size_bits,
            id_mask,
            head: id(layout.head_id, "desc_ring.head_id")?,
            tail: id(layout.tail_id, "desc_ring.tail_id")?,
            descs: array(layout.descs, layout.desc_size, "desc_ring.descs")?,
            infos: array(layout.infos, layout.info_size, "desc_ring.infos")?,
            blocks: Window::new(mem, pointer(layout.data, "text_data_ring.data")?, 1 << size_bits),
            text_left: 1 << size_bits,
            layout,
        })
    }

    fn count(&self) -> u64 {
        1 << self.count_bits
    }

    /// The id of the oldest record, and how many ids to walk from there; never more than there are descriptors.
    fn extent(&mut self, collector: &mut Collector) -> (u64, u64) {
        let distance = self.head.wrapping_sub(self.tail) & self.id_mask;
        if distance < self.count() {
            return (self.tail, distance + 1);
        }
        collector.lose(Loss::EndsDamaged);
        // Every descriptor still names its own id: the one with the highest sequence number is the head.
        let mut head = (0, self.head);
        let mut index = 0;
        while index < self.count() {
            if let (Some(id), Some(seq)) = (self.id_in_slot(index), self.seq_in_slot(index)) {
                head = head.max((seq, id));
            }
            index += self.unreadable_from(index).max(1);
        }
        (head.1.wrapping_sub(self.count() - 1) & self.id_mask, self.count())
    }

    /// The id in descriptor `index`, when it holds a message and the id belongs there.
    fn id_in_slot(&mut self, index: u64) -> Option<u64> {
        let state = self.state(index).ok()?;
        let id = state & self.id_mask;
        let held = !matches!(self.state_bits(state), RESERVED | REUSABLE);
        (held && id & (self.count() - 1) == index).then_some(id)
    }

    fn seq_in_slot(&mut self, index: u64) -> Option<u64> {
        let Layout { words, info_size: size, .. } = self.layout;
        words.u64_at(self.infos.get(index * size as u64, size).ok()?, self.layout.seq)
    }

    fn state(&mut self, index: u64) -> Result<u64, Loss> {
        let Layout { words, desc_size, state, counter, .. } = self.layout;
        words.long_at(self.descs.get(index * desc_size as u64, desc_size)?, state + counter).ok_or(Loss::Damaged)
    }

    /// How many descriptors from `id` on are on the same unreadable page; 0 when `id` is readable.
    fn unreadable_from(&mut self, id: u64) -> u64 {
        let index = id & (self.count() - 1);
        if !matches!(self.state(index), Err(Loss::Unreadable)) {
            return 0;
        }
        let size = self.layout.desc_size as u64;
        self.descs.to_page_end(index * size).div_ceil(size).min(self.count() - index)
    }

    fn state_bits(&self, state: u64) -> u64 {
        state >> self.id_mask.trailing_ones() & 3
    }

    /// The record of descriptor `id` and whether its text is truncated; `None` for the descriptor no record ever used.
    fn record(&mut self, id: u64) -> Result<Option<(Record, bool)>, Loss> {
        let index = id & (self.count() - 1);
        let state = self.state(index)?;
        if state & self.id_mask != id {
            return Err(Loss::WrongRound);
        }
        match self.state_bits(state) {
            RESERVED => return Err(Loss::Unfinished),
            // Until the ring is full its tail is DESC0_ID, a descriptor born reusable: -(count + 1), computed by the
            // kernel in 32 bits ("1U << bits") also where ids have 62, so only the bits common to all are compared.
            REUSABLE if (id ^ self.count().wrapping_add(1).wrapping_neg()) & DESC0_BITS == 0 => return Ok(None),
            REUSABLE => return Err(Loss::Overwritten),
            // Committed counts as well as finalized: a panic leaves the last message open for continuation
            // (LOG_CONT), and readers in the kernel would never show it.
            _ => {}
        }
        let layout = &self.layout;
        let desc = self.descs.get(index * layout.desc_size as u64, layout.desc_size)?;
        let lpos = |at| layout.words.long_at(desc, at).ok_or(Loss::Damaged);
        let (begin, next) = (lpos(layout.begin)?, lpos(layout.next)?);
        let info = self.infos.get(index * layout.info_size as u64, layout.info_size)?;
        let text_len = usize::from(layout.words.u16_at(info, layout.text_len).ok_or(Loss::Damaged)?);
        let (facility, level) = syslog_bytes(info, layout).unzip();
        let mut record = Record {
            seq: layout.words.u64_at(info, layout.seq).ok_or(Loss::Damaged)?,
            ts_nsec: layout.words.u64_at(info, layout.ts_nsec),
            caller_id: layout.caller_id.and_then(|at| layout.words.u32_at(info, at)),
            level,
            facility,
            text: Vec::new(),
        };
        let Some(block) = locate(begin, next, self.size_bits, layout.words)? else {
            return Ok(Some((record, text_len > 0)));
        };
        // The writer puts the id where the block begins, also when the text itself went to the start of the ring.
        let owner = layout.words.long_at(self.blocks.get(block.id_at, layout.words.long_size())?, 0);
        if owner != Some(id) {
            return Err(Loss::WrongBlock);
        }
        let room = usize::try_from(block.room).unwrap_or(usize::MAX);
        let len = text_len.min(room);
        self.text_left = self.text_left.checked_sub(len).ok_or(Loss::Damaged)?;
        record.text = self.blocks.get(block.text_at, len)?.to_vec();
        Ok(Some((record, text_len > room)))
    }
}

/// Facility and level. VMCOREINFO exports neither; they fill the gap of exactly two bytes between `text_len` and
/// `caller_id` (facility, then five flag bits and three level bits) in every release from v5.10 to v6.12.
fn syslog_bytes(info: &[u8], layout: &Layout) -> Option<(u8, u8)> {
    let at = layout.text_len + 2;
    if layout.caller_id != Some(at + 2) {
        return None;
    }
    Some((*info.get(at)?, info.get(at + 1)? >> 5))
}
