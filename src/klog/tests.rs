//! Builds logs byte by byte as the kernels write them, with layouts of its own, and reads them back.

use std::collections::VecDeque;

use super::block::{Block, locate};
use super::*;
use crate::{arch::Words, memory::ReadVirtError};

/// Segments of memory; everything else is unreadable.
#[derive(Default, Clone)]
struct Fake(Vec<(u64, Vec<u8>)>);

impl ReadVirt for Fake {
    fn words(&self) -> Words {
        Words::LE64
    }

    fn read_virt(&self, vaddr: u64, buf: &mut [u8]) -> Result<(), ReadVirtError> {
        for (base, bytes) in &self.0 {
            if let Some(at) = vaddr.checked_sub(*base)
                && let Some(end) = at.checked_add(buf.len() as u64)
                && end <= bytes.len() as u64
            {
                buf.copy_from_slice(&bytes[at as usize..end as usize]);
                return Ok(());
            }
        }
        Err(ReadVirtError::Unreadable { vaddr, cause: "a hole".into() })
    }
}

impl Fake {
    fn bytes(&mut self, base: u64) -> &mut Vec<u8> {
        &mut self.0.iter_mut().find(|(at, _)| *at == base).unwrap().1
    }

    fn put(&mut self, base: u64, at: u64, bytes: &[u8]) {
        self.bytes(base)[at as usize..at as usize + bytes.len()].copy_from_slice(bytes);
    }

    fn unmap(&mut self, base: u64) {
        self.0.retain(|(at, _)| *at != base);
    }
}

fn texts(log: &KernelLog) -> Vec<String> {
    log.records.iter().map(|r| String::from_utf8_lossy(&r.text).into_owned()).collect()
}

fn dmesg(log: &KernelLog, callers: CallerColumn) -> String {
    let mut out = Vec::new();
    write_dmesg(log, callers, &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

fn loss(log: &KernelLog, reason: Loss) -> u64 {
    log.losses.get(&reason).copied().unwrap_or(0)
}

const PRB: u64 = 0xffff_ffff_8100_0000;
const RING: u64 = PRB + 0x1000;
const DESCS: u64 = PRB + 0x10_0000;
const INFOS: u64 = PRB + 0x20_0000;
const TEXT: u64 = PRB + 0x30_0000;

/// The layout of v6.12 on x86-64, as `pahole` prints it.
const KEYS_64: &str = "SYMBOL(prb)=ffffffff81000000
SIZE(printk_ringbuffer)=88\nOFFSET(printk_ringbuffer.desc_ring)=0\nOFFSET(printk_ringbuffer.text_data_ring)=48
SIZE(prb_desc_ring)=48\nOFFSET(prb_desc_ring.count_bits)=0\nOFFSET(prb_desc_ring.descs)=8
OFFSET(prb_desc_ring.infos)=16\nOFFSET(prb_desc_ring.head_id)=24\nOFFSET(prb_desc_ring.tail_id)=32
SIZE(prb_desc)=24\nOFFSET(prb_desc.state_var)=0\nOFFSET(prb_desc.text_blk_lpos)=8
SIZE(prb_data_blk_lpos)=16\nOFFSET(prb_data_blk_lpos.begin)=0\nOFFSET(prb_data_blk_lpos.next)=8
SIZE(printk_info)=88\nOFFSET(printk_info.seq)=0\nOFFSET(printk_info.ts_nsec)=8\nOFFSET(printk_info.text_len)=16
OFFSET(printk_info.caller_id)=20\nSIZE(prb_data_ring)=32\nOFFSET(prb_data_ring.size_bits)=0
OFFSET(prb_data_ring.data)=8\nSIZE(atomic_long_t)=8\nOFFSET(atomic_long_t.counter)=0\n";

const KEYS_32: &str = "SYMBOL(prb)=ffffffff81000000
SIZE(printk_ringbuffer)=44\nOFFSET(printk_ringbuffer.desc_ring)=0\nOFFSET(printk_ringbuffer.text_data_ring)=24
SIZE(prb_desc_ring)=24\nOFFSET(prb_desc_ring.count_bits)=0\nOFFSET(prb_desc_ring.descs)=4
OFFSET(prb_desc_ring.infos)=8\nOFFSET(prb_desc_ring.head_id)=12\nOFFSET(prb_desc_ring.tail_id)=16
SIZE(prb_desc)=12\nOFFSET(prb_desc.state_var)=0\nOFFSET(prb_desc.text_blk_lpos)=4
SIZE(prb_data_blk_lpos)=8\nOFFSET(prb_data_blk_lpos.begin)=0\nOFFSET(prb_data_blk_lpos.next)=4
SIZE(printk_info)=88\nOFFSET(printk_info.seq)=0\nOFFSET(printk_info.ts_nsec)=8\nOFFSET(printk_info.text_len)=16
OFFSET(printk_info.caller_id)=20\nSIZE(prb_data_ring)=16\nOFFSET(prb_data_ring.size_bits)=0
OFFSET(prb_data_ring.data)=4\nSIZE(atomic_long_t)=4\nOFFSET(atomic_long_t.counter)=0\n";

/// A ring as a writer in the kernel fills it.
struct Writer {
    mem: Fake,
    /// Bytes of an unsigned long.
    w: u64,
    count: u64,
    size: u64,
    head_id: u64,
    tail_id: u64,
    head_lpos: u64,
    tail_lpos: u64,
    seq: u64,
    /// v6.19: blocks may end exactly at the end of the ring.
    tight: bool,
    /// What a perfect reader finds: id, begin, text.
    model: VecDeque<(u64, u64, Vec<u8>)>,
}

impl Writer {
    fn new(w: u64, count_bits: u32, size_bits: u32) -> Self {
        let (count, size) = (1 << count_bits, 1u64 << size_bits);
        let page = |at, len: u64| (at, vec![0; len as usize]);
        let segments = [(PRB, 8), (RING, 0x200), (DESCS, count * 3 * w), (INFOS, count * 88), (TEXT, size)];
        let mut this = Self {
            mem: Fake(segments.map(|(at, len)| page(at, len)).to_vec()),
            w,
            count,
            size,
            head_id: u64::from((count as u32 + 1).wrapping_neg()) & if w == 8 { u64::MAX >> 2 } else { 0x3fff_ffff },
            tail_id: 0,
            head_lpos: size.wrapping_neg(),
            tail_lpos: size.wrapping_neg(),
            seq: 0,
            tight: false,
            model: VecDeque::new(),
        };
        this.tail_id = this.head_id;
        this.set_desc(this.head_id, 3, 1, 1);
        this.control(count_bits, size_bits);
        this
    }

    fn word(&mut self, base: u64, at: u64, value: u64) {
        let bytes = value.to_le_bytes();
        self.mem.put(base, at, &bytes[..self.w as usize]);
    }

    fn control(&mut self, count_bits: u32, size_bits: u32) {
        let w = self.w;
        self.word(PRB, 0, if w == 8 { RING } else { RING & 0xffff_ffff });
        self.mem.put(RING, 0, &count_bits.to_le_bytes());
        self.word(RING, w, DESCS);
        self.word(RING, 2 * w, INFOS);
        self.mem.put(RING, 6 * w, &size_bits.to_le_bytes());
        self.word(RING, 7 * w, TEXT);
        self.ends();
    }

    fn ends(&mut self) {
        self.word(RING, 3 * self.w, self.head_id);
        self.word(RING, 4 * self.w, self.tail_id);
    }

    fn set_desc(&mut self, id: u64, state: u64, begin: u64, next: u64) {
        let (w, at) = (self.w, id % self.count * 3 * self.w);
        self.word(DESCS, at, state << (w * 8 - 2) | id);
        self.word(DESCS, at + w, begin);
        self.word(DESCS, at + 2 * w, next);
    }

    fn set_state(&mut self, id: u64, state: u64) {
        self.word(DESCS, id % self.count * 3 * self.w, state << (self.w * 8 - 2) | id);
    }

    fn mask(&self) -> u64 {
        if self.w == 8 { u64::MAX } else { 0xffff_ffff }
    }

    /// Adds a finalized record; returns its id.
    fn add(&mut self, text: &[u8]) -> u64 {
        let id = (self.head_id + 1) & (self.mask() >> 2);
        if id.wrapping_sub(self.tail_id) >= self.count {
            self.tail_id = (self.tail_id + 1) & (self.mask() >> 2);
            let gone = id.wrapping_sub(self.count) & (self.mask() >> 2);
            self.model.retain(|(old, ..)| *old != gone);
        }
        self.head_id = id;
        self.ends();

        let info = id % self.count * 88;
        self.mem.put(INFOS, info, &self.seq.to_le_bytes());
        self.mem.put(INFOS, info + 8, &(self.seq * 1_500_000_000 + 1234).to_le_bytes());
        self.mem.put(INFOS, info + 16, &(text.len() as u16).to_le_bytes());
        // facility 1, flags 0x11, level 6, caller T7
        self.mem.put(INFOS, info + 18, &[1, 6 << 5 | 0x11, 7, 0, 0, 0]);
        self.seq += 1;

        if text.is_empty() {
            self.set_desc(id, 2, 3, 3);
            self.model.push_back((id, u64::MAX, vec![]));
            return id;
        }
        let need = (self.w + text.len() as u64).next_multiple_of(self.w);
        let begin = self.head_lpos;
        let mut next = begin.wrapping_add(need);
        let last = if self.tight { next.wrapping_sub(1) } else { next };
        let wraps = begin / self.size != last / self.size;
        if wraps {
            next = last / self.size * self.size + need;
        }
        let mask = self.mask();
        // Blocks that the new one runs over lose their descriptors.
        while self.head_lpos_free(next) {
            let Some((old, at, _)) = self.model.iter().find(|(_, at, _)| *at != u64::MAX).cloned() else {
                break;
            };
            self.set_state(old, 3);
            self.model.retain(|(id, ..)| *id != old);
            self.tail_lpos = self.model.iter().find(|(_, at, _)| *at != u64::MAX).map_or(begin, |(_, at, _)| *at);
            assert_ne!(at, u64::MAX);
        }
        let index = begin % self.size;
        self.word(TEXT, index, id);
        let at = if wraps { 0 } else { index };
        self.word(TEXT, at, id);
        self.mem.put(TEXT, at + self.w, text);
        self.set_desc(id, 2, begin & mask, next & mask);
        self.head_lpos = next;
        self.model.push_back((id, begin, text.to_vec()));
        id
    }

    fn head_lpos_free(&self, next: u64) -> bool {
        let oldest = self.model.iter().find(|(_, at, _)| *at != u64::MAX).map_or(self.head_lpos, |(_, at, _)| *at);
        next.wrapping_sub(oldest) > self.size
    }

    fn read(&self) -> KernelLog {
        self.read_as(if self.w == 8 { KEYS_64 } else { KEYS_32 }).unwrap()
    }

    fn read_as(&self, keys: &str) -> Result<KernelLog, KlogError> {
        let mut mem = self.mem.clone();
        if self.w == 4 {
            // 32-bit pointers, so every segment but the variable moves below 4 GiB.
            mem.0.iter_mut().skip(1).for_each(|(at, _)| *at &= 0xffff_ffff);
        }
        read_log(&VmcoreInfo::parse(keys.as_bytes()), &mem)
    }
}

#[test]
fn a_ring_that_never_filled() {
    for w in [8, 4] {
        let mut ring = Writer::new(w, 4, 10);
        ring.add(b"Linux version");
        ring.add(b"second");
        let log = ring.read();
        assert_eq!(texts(&log), ["Linux version", "second"]);
        assert!(log.losses.is_empty(), "{:?}", log.losses);
        let second = Record {
            seq: 1,
            ts_nsec: Some(1_500_001_234),
            caller_id: Some(7),
            level: Some(6),
            facility: Some(1),
            text: b"second".to_vec(),
        };
        assert_eq!(log.records[1], second);
        assert_eq!(dmesg(&log, CallerColumn::AsKernel), "[    0.000001] Linux version\n[    1.500001] second\n");
        assert_eq!(
            dmesg(&log, CallerColumn::WhenStored),
            "[    0.000001][    T7] Linux version\n[    1.500001][    T7] second\n"
        );
    }
}

#[test]
fn an_empty_ring() {
    let log = Writer::new(8, 4, 10).read();
    assert!(log.records.is_empty() && log.losses.is_empty());
}

#[test]
fn many_laps_give_what_the_writer_left() {
    for (w, tight) in [(8, false), (8, true), (4, false), (4, true)] {
        for count_bits in [3, 5] {
            let mut ring = Writer::new(w, count_bits, 8);
            ring.tight = tight;
            let mut wrapped = 0;
            for step in 0..400usize {
                let text = vec![b'a' + (step % 26) as u8; step * 7 % 61];
                ring.add(&text);
                let log = ring.read();
                let want: Vec<_> =
                    ring.model.iter().map(|(.., text)| String::from_utf8_lossy(text).into_owned()).collect();
                assert_eq!(texts(&log), want, "step {step}, word {w}, tight {tight}");
                assert!(log.losses.keys().all(|reason| *reason == Loss::Overwritten), "{:?}", log.losses);
                wrapped += u32::from(ring.head_lpos < 0x100);
            }
            assert!(wrapped > 0, "the test must reach the first round");
        }
    }
}

#[test]
fn states_decide_what_is_shown() {
    let mut ring = Writer::new(8, 4, 10);
    let ids: Vec<u64> = (0..6).map(|i| ring.add(format!("record {i}").as_bytes())).collect();
    ring.set_state(ids[0], 3);
    ring.set_state(ids[1], 0);
    ring.set_state(ids[2], 1);
    ring.set_desc(ids[3], 2, 1, 1);
    ring.set_desc(ids[4], 2, 3, 3);
    let log = ring.read();
    assert_eq!(texts(&log), ["record 2", "", "record 5"]);
    assert_eq!(loss(&log, Loss::Overwritten), 1);
    assert_eq!(loss(&log, Loss::Unfinished), 1);
    assert_eq!(loss(&log, Loss::NoRoom), 1);
    // "record 4" lost its text to the empty-line position: its length says there was one.
    assert_eq!(loss(&log, Loss::Truncated), 1);
}

#[test]
fn damage_costs_one_record() {
    let build = || {
        let mut ring = Writer::new(8, 4, 10);
        let ids: Vec<u64> = (0..3).map(|i| ring.add(format!("record {i}").as_bytes())).collect();
        (ring, ids)
    };
    let check = |ring: &Writer, reason| {
        let log = ring.read();
        assert_eq!(texts(&log), ["record 0", "record 2"]);
        assert_eq!(log.losses.into_iter().collect::<Vec<_>>(), [(reason, 1)]);
        assert!(reason.is_damage() && !reason.reason().is_empty());
    };
    let (mut ring, _) = build();
    ring.word(TEXT, 16, 0x1234);
    check(&ring, Loss::WrongBlock);

    let (mut ring, ids) = build();
    ring.set_desc(ids[1], 2, 17, 48);
    check(&ring, Loss::Damaged);
    for (begin, next) in [(u64::MAX - 7, 8), (32, 32), (32, 16), (0, 1 << 40), (1 << 40, 0), (8, 16 + 1024), (4, 12)] {
        ring.set_desc(ids[1], 2, begin, next);
        let log = ring.read();
        assert_eq!(texts(&log), ["record 0", "record 2"], "{begin:#x} {next:#x}");
    }

    let (mut ring, ids) = build();
    ring.word(DESCS, ids[1] % 16 * 24, 2 << 62 | 5);
    check(&ring, Loss::WrongRound);
}

#[test]
fn a_length_beyond_the_block_is_cut() {
    let mut ring = Writer::new(8, 4, 10);
    let id = ring.add(b"12345678");
    ring.add(b"next");
    ring.mem.put(INFOS, id % 16 * 88 + 16, &60000u16.to_le_bytes());
    let log = ring.read();
    assert_eq!(texts(&log), ["12345678", "next"]);
    assert_eq!(loss(&log, Loss::Truncated), 1);
}

#[test]
fn damaged_ends_are_replaced_by_a_search() {
    let mut ring = Writer::new(8, 4, 10);
    for i in 0..40 {
        ring.add(format!("record {i}").as_bytes());
    }
    let want = texts(&ring.read());
    let tail = ring.tail_id;
    ring.tail_id = 0x1234_5678_9abc;
    ring.ends();
    let log = ring.read();
    assert_eq!(texts(&log), want);
    assert_eq!(loss(&log, Loss::EndsDamaged), 1);
    (ring.tail_id, ring.head_id) = (tail, 3);
    ring.ends();
    assert_eq!(texts(&ring.read()), want);
}

#[test]
fn impossible_control_blocks_are_errors() {
    for (at, value) in [(0u64, 27u32), (0, 0), (0, u32::MAX), (48, 32), (48, 0), (48, 63)] {
        let mut ring = Writer::new(8, 4, 10);
        ring.mem.put(RING, at, &value.to_le_bytes());
        let error = ring.read_as(KEYS_64).unwrap_err();
        assert!(matches!(error, KlogError::Control { .. }), "{error}");
    }
    let mut ring = Writer::new(8, 4, 10);
    ring.mem.unmap(RING);
    assert!(ring.read_as(KEYS_64).unwrap_err().to_string().contains("struct printk_ringbuffer"));
    ring.mem.unmap(PRB);
    assert!(ring.read_as(KEYS_64).unwrap_err().to_string().contains("cannot read prb"));
}

#[test]
fn missing_and_impossible_keys_are_named_together() {
    let ring = Writer::new(8, 4, 10);
    let keys = KEYS_64
        .replace("SIZE(printk_info)=88", "SIZE(printk_info)=99999999999")
        .replace("OFFSET(prb_desc.state_var)=0", "OFFSET(prb_desc.state_var)=20")
        .replace("OFFSET(prb_desc_ring.infos)=16\n", "");
    let error = ring.read_as(&keys).unwrap_err().to_string();
    for key in ["SIZE(printk_info)", "OFFSET(prb_desc.state_var)", "OFFSET(prb_desc_ring.infos)", "vmlinux"] {
        assert!(error.contains(key), "{error}");
    }
    assert!(!error.contains("SIZE(prb_desc)"), "{error}");
    assert!(matches!(ring.read_as("OSRELEASE=1\n"), Err(KlogError::NoLog)));
    let no_caller = KEYS_64.replace("OFFSET(printk_info.caller_id)=20\n", "");
    assert!(ring.read_as(&no_caller).is_ok(), "the caller is optional");
}

#[test]
fn holes_cost_their_records_and_no_time() {
    let mut ring = Writer::new(8, 10, 14);
    for i in 0..1000 {
        ring.add(format!("record {i}").as_bytes());
    }
    // The second page of descriptors is gone.
    let descs = ring.mem.bytes(DESCS).clone();
    ring.mem.unmap(DESCS);
    ring.mem.0.push((DESCS, descs[..4096].to_vec()));
    ring.mem.0.push((DESCS + 8192, descs[8192..].to_vec()));
    let log = ring.read();
    let lost = loss(&log, Loss::Unreadable);
    assert!((170..=175).contains(&lost), "{lost}");
    let overwritten = loss(&log, Loss::Overwritten);
    assert!(log.records.len() as u64 + lost + overwritten >= 1000);
    assert_eq!(texts(&log).last().unwrap(), "record 999");

    // 2^20 descriptors, none of them there.
    let mut ring = Writer::new(8, 4, 10);
    ring.mem.put(RING, 0, &20u32.to_le_bytes());
    [DESCS, INFOS, TEXT].iter().for_each(|at| ring.mem.unmap(*at));
    (ring.head_id, ring.tail_id) = ((1 << 20) - 1, 0);
    ring.ends();
    let log = ring.read();
    assert_eq!(loss(&log, Loss::Unreadable), 1 << 20);
    ring.tail_id = 1 << 40;
    ring.ends();
    assert_eq!(loss(&ring.read(), Loss::Unreadable), 1 << 20);
}

#[test]
fn blocks_lie_where_the_kernel_puts_them() {
    let at = |begin, next| locate(begin, next, 8, Words::LE64);
    let block = |id_at, text_at, room| Ok(Some(Block { id_at, text_at, room }));
    assert_eq!(at(0x100, 0x118), block(0, 8, 16));
    assert_eq!(at(0x1f0, 0x218), block(0xf0, 8, 16), "wrapped");
    assert_eq!(at(0x1f0, 0x200), block(0xf0, 0xf8, 8), "v6.19: ends with the ring");
    assert_eq!(at(0u64.wrapping_sub(16), 0), block(0xf0, 0xf8, 8), "and the position overflows");
    assert_eq!(at(0u64.wrapping_sub(16), 24), block(0xf0, 8, 16));
    assert_eq!(at(3, 3), Ok(None));
    assert_eq!(at(1, 1), Err(Loss::NoRoom));
    assert_eq!(at(5, 5), Err(Loss::NoRoom));
    assert_eq!(at(1, 0x18), Err(Loss::Damaged));
    assert_eq!(at(0x110, 0x110), Err(Loss::Damaged));
    assert_eq!(at(0x110, 0x220), Err(Loss::Damaged), "longer than the ring");
    assert_eq!(at(0x110, 0x318), Err(Loss::Damaged), "two rounds");
    let word = Words::LE64.narrow();
    assert_eq!(locate(0xffff_fff0, 0, 8, word), block(0xf0, 0xf4, 12));
    assert_eq!(locate(0xffff_fff0, 0x18, 8, word), block(0xf0, 4, 20));
}

#[test]
fn overlapping_blocks_do_not_multiply_work() {
    // Each of 1024 descriptors claims nearly the whole ring as its text.
    let mut ring = Writer::new(8, 10, 16);
    for _ in 0..1000 {
        let id = ring.add(b"12345678");
        let begin = (ring.head_lpos - 16) & ring.mask();
        ring.set_desc(id, 2, begin, ring.size.wrapping_neg() + 64000);
        ring.mem.put(INFOS, id % 1024 * 88 + 16, &60000u16.to_le_bytes());
    }
    let log = ring.read();
    assert!(log.records.iter().map(|r| r.text.len()).sum::<usize>() <= 1 << 16);
    assert!(loss(&log, Loss::Damaged) > 500);
    assert_eq!(log.records.len() as u64 + loss(&log, Loss::Damaged), 1000);
}

#[test]
fn the_text_form() {
    let mut ring = Writer::new(8, 4, 10);
    ring.add(b"two\nlines\there");
    ring.add("\x1b[2J\r\x7f\u{e9}\\x41".as_bytes());
    let mut log = ring.read();
    log.records[1].ts_nsec = Some(123_456_789_012_345_678);
    log.records[1].caller_id = Some(1 << 31 | 3);
    let text = "[    0.000001] two\n               lines\there\n[123456789.012345] \\x1b[2J\\x0d\\x7f\\xc3\\xa9\\x41\n";
    assert_eq!(dmesg(&log, CallerColumn::AsKernel), text);
    assert_eq!(dmesg(&log, CallerColumn::Never), text);
    let text = dmesg(&log, CallerColumn::WhenStored);
    assert!(text.starts_with("[    0.000001][    T7] two\n                       lines"), "{text}");
    assert!(text.contains("[123456789.012345][    C3] "), "{text}");
}

#[test]
fn the_oldest_records_give_way() {
    let mut collector = Collector::default();
    for seq in 0..5 {
        let text = vec![b'x'; 20 << 20];
        collector.push(Record { seq, ts_nsec: None, caller_id: None, level: None, facility: None, text });
    }
    let log = collector.finish(None);
    assert_eq!(log.records.iter().map(|r| r.seq).collect::<Vec<_>>(), [2, 3, 4]);
    assert_eq!(loss(&log, Loss::OverBudget), 2);
}

fn mutate(mem: &Fake, rng: &mut fastrand::Rng) -> Fake {
    let mut mem = mem.clone();
    for _ in 0..rng.usize(1..=8) {
        let segment = rng.usize(..mem.0.len());
        let bytes = &mut mem.0[segment].1;
        let at = rng.usize(..bytes.len());
        bytes[at] = rng.u8(..);
    }
    mem
}

#[test]
fn random_damage_never_panics() {
    // So that failures repeat.
    let mut rng = fastrand::Rng::with_seed(1);
    let mut ring = Writer::new(8, 4, 9);
    for i in 0..60 {
        ring.add(format!("record {i}").as_bytes());
    }
    let info = VmcoreInfo::parse(KEYS_64.as_bytes());
    let old = OldLog::new("printk_log", 20);
    let old_info = VmcoreInfo::parse(old.keys.as_bytes());
    for _ in 0..3000 {
        let _ = read_log(&info, &mutate(&ring.mem, &mut rng));
        let _ = read_log(&old_info, &mutate(&old.mem, &mut rng));
    }
}

const LOG_BUF: u64 = 0xffff_ffff_8200_0000;

/// The record buffer of v3.5 to v5.9 on x86-64, 1 KiB large.
struct OldLog {
    keys: String,
    mem: Fake,
    at: u64,
    header: u64,
    starts: Vec<u64>,
}

impl OldLog {
    fn new(name: &str, header: u64) -> Self {
        let mut keys = format!(
            "SYMBOL(log_buf)={:x}\nSYMBOL(log_buf_len)={:x}\nSYMBOL(log_first_idx)={:x}\nSYMBOL(log_next_idx)={:x}\n\
             SIZE({name})={header}\nOFFSET({name}.ts_nsec)=0\nOFFSET({name}.len)=8\nOFFSET({name}.text_len)=10\n\
             OFFSET({name}.dict_len)=12\n",
            PRB,
            PRB + 0x100,
            PRB + 0x200,
            PRB + 0x300
        );
        if header > 16 {
            keys.push_str(&format!("OFFSET({name}.caller_id)=16\n"));
        }
        let mut mem = Fake(vec![(PRB, vec![0; 0x400]), (LOG_BUF, vec![0; 1024])]);
        mem.put(PRB, 0, &LOG_BUF.to_le_bytes());
        mem.put(PRB, 0x100, &1024u32.to_le_bytes());
        let mut this = Self { keys, mem, at: 0, header, starts: Vec::new() };
        (0..6).for_each(|i| this.add(&format!("old {i}"), i));
        this.ends(0, this.at);
        this
    }

    fn ends(&mut self, first: u64, next: u64) {
        self.mem.put(PRB, 0x200, &(first as u32).to_le_bytes());
        self.mem.put(PRB, 0x300, &(next as u32).to_le_bytes());
    }

    fn add(&mut self, text: &str, second: u64) {
        let dict = b"SUBSYSTEM=usb";
        let len = (self.header + (text.len() + dict.len()) as u64).next_multiple_of(4);
        if self.at + len + self.header > 1024 {
            self.mem.put(LOG_BUF, self.at, &vec![0; self.header as usize]);
            self.at = 0;
        }
        let at = self.at;
        self.starts.push(at);
        self.mem.put(LOG_BUF, at, &(second * 1_000_000_000).to_le_bytes());
        self.mem.put(LOG_BUF, at + 8, &(len as u16).to_le_bytes());
        self.mem.put(LOG_BUF, at + 10, &(text.len() as u16).to_le_bytes());
        self.mem.put(LOG_BUF, at + 12, &(dict.len() as u16).to_le_bytes());
        self.mem.put(LOG_BUF, at + 14, &[3, 4 << 5 | 2]);
        if self.header > 16 {
            self.mem.put(LOG_BUF, at + 16, &(1u32 << 31 | 2).to_le_bytes());
        }
        self.mem.put(LOG_BUF, at + self.header, text.as_bytes());
        self.mem.put(LOG_BUF, at + self.header + text.len() as u64, dict);
        self.at += len;
    }

    fn read(&self) -> Result<KernelLog, KlogError> {
        read_log(&VmcoreInfo::parse(self.keys.as_bytes()), &self.mem)
    }
}

#[test]
fn the_record_buffer() {
    let log = OldLog::new("printk_log", 16).read().unwrap();
    assert_eq!(texts(&log), ["old 0", "old 1", "old 2", "old 3", "old 4", "old 5"]);
    assert_eq!(log.caller_configured, Some(false));
    let (level, facility) = (Some(4), Some(3));
    let text = b"old 2".to_vec();
    assert_eq!(log.records[2], Record { seq: 2, ts_nsec: Some(2_000_000_000), caller_id: None, level, facility, text });
    assert!(log.losses.is_empty());

    let log = OldLog::new("printk_log", 20).read().unwrap();
    assert!(dmesg(&log, CallerColumn::AsKernel).starts_with("[    0.000000][    C2] old 0\n"));

    let log = OldLog::new("log", 16).read().unwrap();
    assert_eq!((log.records.len(), log.records[0].level), (6, None));
}

#[test]
fn the_record_buffer_wraps() {
    let mut old = OldLog::new("printk_log", 16);
    (6..100).for_each(|i| old.add(&format!("old {i}"), i));
    let next = old.at;
    let first = *old.starts.iter().rev().skip(1).find(|&&at| at > next).unwrap();
    let kept = old.starts.iter().rev().position(|&at| at == first).unwrap() + 1;
    let first = old.starts[100 - kept];
    old.ends(first, next);
    let log = old.read().unwrap();
    let want: Vec<_> = (100 - kept..100).map(|i| format!("old {i}")).collect();
    assert_eq!(texts(&log), want);
    assert!(log.losses.is_empty() && first > next && kept > 3, "{:?}", log.losses);
}

#[test]
fn a_damaged_record_is_stepped_over() {
    for len in [0u16, 1, 3, 8, 21, 50, 1000, u16::MAX] {
        let mut old = OldLog::new("printk_log", 16);
        old.mem.put(LOG_BUF, old.starts[2] + 8, &len.to_le_bytes());
        let log = old.read().unwrap();
        let found = texts(&log);
        assert_eq!(found[..2], ["old 0", "old 1"], "length {len}");
        assert_eq!(found[found.len() - 3..], ["old 3", "old 4", "old 5"], "length {len}");
        assert_eq!(loss(&log, Loss::Damaged), 1);
    }
}

#[test]
fn hostile_record_buffers_end() {
    // Wraps that never come to an end.
    let mut old = OldLog::new("printk_log", 16);
    old.mem.put(LOG_BUF, 0, &[0; 1024]);
    old.ends(512, 256);
    assert!(old.read().unwrap().records.is_empty());
    // Ends outside the buffer, and a length that is none.
    for (first, next) in [(1024, 0), (0, 5000), (u64::from(u32::MAX), 4)] {
        old.ends(first, next);
        assert!(matches!(old.read(), Err(KlogError::Control { .. })));
    }
    old.ends(0, 512);
    for len in [0, u32::MAX] {
        old.mem.put(PRB, 0x100, &len.to_le_bytes());
        assert!(matches!(old.read(), Err(KlogError::Control { .. })));
    }
    // 64 MiB that are not there.
    let mut old = OldLog::new("printk_log", 16);
    old.mem.put(PRB, 0x100, &(1u32 << 26).to_le_bytes());
    old.mem.unmap(LOG_BUF);
    old.ends(4, (1 << 26) - 4);
    let log = old.read().unwrap();
    assert_eq!((log.records.len(), loss(&log, Loss::Unreadable)), (0, 1));
    let error = read_log(&VmcoreInfo::parse(b"SYMBOL(log_first_idx)=10\n"), &old.mem).unwrap_err().to_string();
    assert!(error.contains("SYMBOL(log_buf), SYMBOL(log_buf_len), SYMBOL(log_next_idx), SIZE(log)"), "{error}");
}

#[test]
fn the_ring_of_characters() {
    let keys =
        format!("SYMBOL(log_buf)={:x}\nSYMBOL(log_buf_len)={:x}\nSYMBOL(log_end)={:x}\n", PRB, PRB + 8, PRB + 12);
    let info = VmcoreInfo::parse(keys.as_bytes());
    let mut mem = Fake(vec![(PRB, vec![0; 16]), (LOG_BUF, vec![0; 64])]);
    mem.put(PRB, 0, &LOG_BUF.to_le_bytes());
    mem.put(PRB, 8, &64u32.to_le_bytes());
    let text = b"<6>[    0.000000] one\nplain\n<4>cut";
    mem.put(LOG_BUF, 0, text);
    mem.put(PRB, 12, &(text.len() as u32).to_le_bytes());
    let log = read_log(&info, &mem).unwrap();
    assert_eq!(dmesg(&log, CallerColumn::AsKernel), "[    0.000000] one\nplain\ncut\n");
    assert_eq!(log.records.iter().map(|r| r.level).collect::<Vec<_>>(), [Some(6), None, Some(4)]);

    // 80 characters written into 64: the first 16 are gone, the 16 newest are at the start.
    let all: Vec<u8> = (0..10).flat_map(|i| format!("<5>lin{i}\n").into_bytes()).collect();
    mem.put(LOG_BUF, 0, &all[16..]);
    mem.put(LOG_BUF, 0, &all[64..]);
    mem.put(LOG_BUF, 16, &all[16..64]);
    mem.put(PRB, 12, &80u32.to_le_bytes());
    let log = read_log(&info, &mem).unwrap();
    assert_eq!(texts(&log), (2..10).map(|i| format!("lin{i}")).collect::<Vec<_>>());

    mem.put(PRB, 8, &60u32.to_le_bytes());
    assert!(matches!(read_log(&info, &mem), Err(KlogError::Control { .. })));
    // 64 MiB that are not there cost one count per page.
    mem.put(PRB, 8, &(1u32 << 26).to_le_bytes());
    mem.put(PRB, 12, &u32::MAX.to_le_bytes());
    mem.unmap(LOG_BUF);
    let log = read_log(&info, &mem).unwrap();
    assert!(log.records.is_empty() && loss(&log, Loss::Unreadable) <= (1 << 14) + 1);
}
