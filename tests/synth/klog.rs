//! The kernel's log buffers: records one after the other (until 5.9) and the lockless ring (5.10 on).
//!
//! Knows how printk lays records out, wraps and forgets. Must not know who reads them.
//! Goes into the image; the symbols that lead to it go to `vmcoreinfo`.

use std::collections::VecDeque;

use super::encodings::KernelEra;
use super::image::{Image, PAGE};
use super::vmcoreinfo::{Pairs, symbol};

#[derive(Clone, Debug)]
pub struct Record {
    pub ts_nsec: u64,
    pub text: Vec<u8>,
}

impl Record {
    pub fn new(ts_nsec: u64, text: impl Into<Vec<u8>>) -> Record {
        Record { ts_nsec, text: text.into() }
    }
}

/// Puts the records into the kind of buffer that the era has. Returns the keys that lead to it, and
/// how many of the last records are still there.
pub fn write(
    era: &KernelEra,
    records: &[Record],
    image: &mut Image,
    page_offset: u64,
    run: &mut dyn FnMut(u64) -> u64,
) -> (Pairs, usize) {
    if era.old_log {
        write_old(era, records, image, page_offset, run)
    } else {
        write_ring(records, image, page_offset, run)
    }
}

fn offsets(out: &mut Pairs, of: &str, size: u64, fields: &[(&str, u64)]) {
    out.push((format!("SIZE({of})"), size.to_string()));
    out.extend(fields.iter().map(|(name, at)| (format!("OFFSET({of}.{name})"), at.to_string())));
}

const OLD_LEN: u64 = 4096;
const OLD_HEADER: u64 = 16;

/// A header before each text; a record that does not fit starts over at 0, behind an empty header.
fn write_old(
    era: &KernelEra,
    records: &[Record],
    image: &mut Image,
    page_offset: u64,
    run: &mut dyn FnMut(u64) -> u64,
) -> (Pairs, usize) {
    let buffer = run(OLD_LEN);
    let vars = run(PAGE);
    let (mut next, mut live): (u64, VecDeque<(u64, u64)>) = (0, VecDeque::new());
    for record in records {
        let len = (OLD_HEADER + record.text.len() as u64).next_multiple_of(4);
        if next + len + OLD_HEADER > OLD_LEN {
            image.poke(buffer + next, &[0; OLD_HEADER as usize]);
            live.retain(|(at, _)| *at < next);
            next = 0;
        }
        let end = next + len + OLD_HEADER;
        while live.front().is_some_and(|(at, size)| *at < end && at + size > next) {
            live.pop_front();
        }
        image.poke(buffer + next, &record.ts_nsec.to_le_bytes());
        image.poke(buffer + next + 8, &(len as u16).to_le_bytes());
        image.poke(buffer + next + 10, &(record.text.len() as u16).to_le_bytes());
        image.poke(buffer + next + 12, &[0, 0, 0, 0xc6]);
        image.poke(buffer + next + OLD_HEADER, &record.text);
        live.push_back((next, len));
        next += len;
    }
    let first = live.front().map_or(next, |(at, _)| *at);
    let values =
        [("log_buf", page_offset + buffer), ("log_buf_len", OLD_LEN), ("log_first_idx", first), ("log_next_idx", next)];
    let mut pairs = Pairs::new();
    for (n, (name, value)) in (0u64..).zip(values) {
        image.poke_u64(vars + n * 8, value);
        pairs.push(symbol(name, page_offset + vars + n * 8));
    }
    let name = if era.name == "3.10" { "log" } else { "printk_log" };
    offsets(&mut pairs, name, OLD_HEADER, &[("ts_nsec", 0), ("len", 8), ("text_len", 10), ("dict_len", 12)]);
    (pairs, live.len())
}

const COUNT_BITS: u32 = 6;
const TEXT_BITS: u32 = 11;
const DESC: u64 = 24;
const INFO: u64 = 88;
const RING: u64 = 88;
const STATE_SHIFT: u32 = 62;
const FINALIZED: u64 = 2;
const REUSABLE: u64 = 3;
/// Begin and next of a record without text.
const NO_LPOS: u64 = 3;

/// A record of the ring: its descriptor's id and where its block begins.
struct Block {
    id: u64,
    begin: u64,
}

/// Where a block that starts here ends: one that would cross the end starts over.
fn next_lpos(begin: u64, size: u64) -> u64 {
    let next = begin.wrapping_add(size);
    if begin >> TEXT_BITS == next >> TEXT_BITS { next } else { (next >> TEXT_BITS << TEXT_BITS).wrapping_add(size) }
}

fn write_ring(
    records: &[Record],
    image: &mut Image,
    page_offset: u64,
    run: &mut dyn FnMut(u64) -> u64,
) -> (Pairs, usize) {
    let (count, text_size) = (1u64 << COUNT_BITS, 1u64 << TEXT_BITS);
    let (ring, descs, infos, text) = (run(PAGE), run(count * DESC), run(count * INFO), run(text_size));
    let id_mask = u64::MAX >> 2;
    // Both start just below a wrap of their counters, as in a freshly booted kernel.
    let mut id = 0u64.wrapping_sub(count + 1) & id_mask;
    let mut lpos = 0u64.wrapping_sub(text_size);
    let mut live: VecDeque<Block> = VecDeque::new();
    for (seq, record) in (0u64..).zip(records) {
        id = id.wrapping_add(1) & id_mask;
        let empty = record.text.is_empty();
        let size = 8 + (record.text.len() as u64).next_multiple_of(8);
        let (begin, next) = if empty { (NO_LPOS, NO_LPOS) } else { (lpos, next_lpos(lpos, size)) };
        let full = |live: &VecDeque<Block>| {
            let oldest = live.iter().find(|b| b.begin != NO_LPOS);
            let text_full = !empty && oldest.is_some_and(|b| next.wrapping_sub(b.begin) > text_size);
            live.len() as u64 >= count - 1 || text_full
        };
        while full(&live) {
            let old = live.pop_front().unwrap();
            image.poke_u64(descs + old.id % count * DESC, old.id | REUSABLE << STATE_SHIFT);
        }
        let desc = descs + id % count * DESC;
        for (at, value) in [(0, id | FINALIZED << STATE_SHIFT), (8, begin), (16, next)] {
            image.poke_u64(desc + at, value);
        }
        let info = infos + id % count * INFO;
        image.poke_u64(info, seq);
        image.poke_u64(info + 8, record.ts_nsec);
        image.poke(info + 16, &(record.text.len() as u16).to_le_bytes());
        image.poke(info + 18, &[0, 0xc0]);
        if !empty {
            let wrapped = begin >> TEXT_BITS != next >> TEXT_BITS;
            let at = if wrapped { 0 } else { begin % text_size };
            // A wrapped block has its id at both ends.
            image.poke_u64(text + begin % text_size, id);
            image.poke_u64(text + at, id);
            image.poke(text + at + 8, &record.text);
            lpos = next;
        }
        live.push_back(Block { id, begin });
    }
    let tail_id = live.front().map_or(id, |b| b.id);
    let tail_lpos = live.iter().find(|b| b.begin != NO_LPOS).map_or(lpos, |b| b.begin);
    image.poke(ring, &COUNT_BITS.to_le_bytes());
    for (at, value) in [(8, page_offset + descs), (16, page_offset + infos), (24, id), (32, tail_id), (40, id)] {
        image.poke_u64(ring + at, value);
    }
    image.poke(ring + 48, &TEXT_BITS.to_le_bytes());
    for (at, value) in [(56, page_offset + text), (64, lpos), (72, tail_lpos)] {
        image.poke_u64(ring + at, value);
    }
    // The variable `prb` points to the ring.
    image.poke_u64(ring + RING, page_offset + ring);
    (ring_keys(page_offset + ring), live.len())
}

fn ring_keys(ring: u64) -> Pairs {
    let mut pairs = vec![symbol("prb", ring + RING), symbol("printk_rb_static", ring), symbol("clear_seq", ring + 96)];
    let out = &mut pairs;
    offsets(out, "printk_ringbuffer", RING, &[("desc_ring", 0), ("text_data_ring", 48), ("fail", 80)]);
    offsets(
        out,
        "prb_desc_ring",
        48,
        &[("count_bits", 0), ("descs", 8), ("infos", 16), ("head_id", 24), ("tail_id", 32)],
    );
    offsets(out, "prb_desc", DESC, &[("state_var", 0), ("text_blk_lpos", 8)]);
    offsets(out, "prb_data_blk_lpos", 16, &[("begin", 0), ("next", 8)]);
    let info = [("seq", 0), ("ts_nsec", 8), ("text_len", 16), ("caller_id", 20), ("dev_info", 24)];
    offsets(out, "printk_info", INFO, &info);
    offsets(out, "dev_printk_info", 64, &[("subsystem", 0), ("device", 16)]);
    offsets(out, "prb_data_ring", 32, &[("size_bits", 0), ("data", 8), ("head_lpos", 16), ("tail_lpos", 24)]);
    offsets(out, "atomic_long_t", 8, &[("counter", 0)]);
    offsets(out, "latched_seq", 24, &[("val", 8)]);
    pairs
}
