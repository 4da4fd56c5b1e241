//! The segments of an ELF core against each other, and their data.
//!
//! Knows ranges of addresses and of the file. Must not hold data: it is compared and read in pieces.

use super::Phdr;
use crate::{
    check::{Check, Findings, findings::Place, layers::Opened, rules::Rule},
    error::Result,
    source::store::StoreReader,
};

/// Read at once, bytes.
const PIECE: u64 = 1 << 20;
const PAGE: u64 = 4096;

/// Checks that memory that is in two segments is the same in both, and that no virtual address is.
pub(super) fn overlaps(check: &Check<'_>, opened: &Opened, loads: &[Phdr], findings: &mut Findings) -> Result<()> {
    let mut sorted: Vec<&Phdr> = loads.iter().filter(|load| load.memsz > 0).collect();
    sorted.sort_by_key(|load| load.vaddr);
    let mut end = 0;
    for load in &sorted {
        // Neither -1 nor what reaches past the last address is a place.
        let Some(next) = load.vaddr.checked_add(load.memsz) else { continue };
        findings.must(Rule::ElfLoadVirtual, load.vaddr >= end, || {
            Place::of(opened.input, format!("virtual address {:#x} again", load.vaddr)).at(load.at)
        });
        end = end.max(next);
    }
    sorted.retain(|load| load.paddr.checked_add(load.memsz).is_some());
    sorted.sort_by_key(|load| load.paddr);
    // What may be compared: a hostile file could ask for all of it for each of its headers.
    let mut budget = opened.store.size().saturating_mul(4).saturating_add(PIECE);
    let mut widest: Option<&Phdr> = None;
    for load in sorted {
        if let Some(other) = widest.filter(|other| end_of(other) > load.paddr) {
            match compare(check, opened, other, load, &mut budget)? {
                Compared::Same => {}
                Compared::DiffersAt(at) => {
                    let found = format!("address {at:#x} has other bytes in another PT_LOAD");
                    findings.broken(Rule::ElfLoadOverlap, Place::of(opened.input, found).at(load.at).pfn(at / PAGE));
                }
                Compared::NotFrom(at) => {
                    let cause =
                        format!("from address {at:#x} on more would have to be compared than four times the file");
                    findings.not_checked(Rule::ElfLoadOverlap, cause);
                }
            }
        }
        if widest.is_none_or(|other| end_of(load) > end_of(other)) {
            widest = Some(load);
        }
    }
    findings.looked(Rule::ElfLoadOverlap);
    Ok(())
}

fn end_of(load: &Phdr) -> u64 {
    load.paddr.saturating_add(load.memsz)
}

/// What came of comparing the memory that two segments share.
enum Compared {
    /// Both have the same bytes.
    Same,
    /// The first address whose bytes differ.
    DiffersAt(u64),
    /// The budget ended at this address; up to there they are the same.
    NotFrom(u64),
}

fn compare(check: &Check<'_>, opened: &Opened, one: &Phdr, other: &Phdr, budget: &mut u64) -> Result<Compared> {
    // Past the data of both there are only zeros.
    let data = |load: &Phdr| load.paddr.saturating_add(load.filesz);
    let end = end_of(one).min(end_of(other)).min(data(one).max(data(other)));
    let same_bytes = one.offset.wrapping_sub(one.paddr) == other.offset.wrapping_sub(other.paddr);
    if same_bytes && data(one).min(end) == data(other).min(end) {
        return Ok(Compared::Same);
    }
    let (mut ours, mut theirs) = (opened.store.reader(), opened.store.reader());
    let mut at = other.paddr;
    while at < end {
        check.go_on()?;
        let len = (end - at).min(PIECE);
        let Some(left) = budget.checked_sub(len) else { return Ok(Compared::NotFrom(at)) };
        *budget = left;
        // What cannot be read is reported where all data is read.
        if let (Some(one), Some(other)) = (memory(ours.as_mut(), one, at, len), memory(theirs.as_mut(), other, at, len))
            && let Some(index) = one.iter().zip(&other).position(|(one, other)| one != other)
        {
            return Ok(Compared::DiffersAt(at + index as u64));
        }
        at += len;
    }
    Ok(Compared::Same)
}

/// Memory of a segment: data, then zeros.
fn memory(reader: &mut dyn StoreReader, load: &Phdr, paddr: u64, len: u64) -> Option<Vec<u8>> {
    let from = paddr - load.paddr;
    let stored = load.filesz.saturating_sub(from).min(len) as usize;
    let mut bytes = Vec::with_capacity(len as usize);
    if stored > 0 {
        bytes.extend_from_slice(reader.read(load.offset.checked_add(from)?, stored).ok()?);
    }
    bytes.resize(len as usize, 0);
    Some(bytes)
}

/// Reads all data, unless that was done. Gives the number of pages.
pub(super) fn readable(
    check: &Check<'_>,
    opened: &Opened,
    loads: &[Phdr],
    was_read: bool,
    findings: &mut Findings,
) -> Result<u64> {
    let ranges = ranges(loads, opened.store.size());
    let pages = ranges.iter().map(|(start, end)| (end - start).div_ceil(PAGE)).sum();
    if was_read {
        return Ok(pages);
    }
    findings.looked(Rule::FileReadable);
    check.progress.start("read", pages);
    // Pieces in front of each range.
    let mut before = Vec::with_capacity(ranges.len());
    let mut pieces = 0;
    for (start, end) in &ranges {
        before.push(pieces);
        pieces += (end - start).div_ceil(PIECE);
    }
    let store = opened.store.as_ref();
    let work = |reader: &mut Box<dyn StoreReader + '_>, piece: u64, found: &mut Findings| {
        let index = before.partition_point(|first| *first <= piece).saturating_sub(1);
        let (Some((start, end)), Some(first)) = (ranges.get(index), before.get(index)) else { return };
        let at = start + (piece - first) * PIECE;
        let len = (end - at).min(PIECE);
        if reader.read(at, len as usize).is_err() {
            single_pages(opened.input, reader.as_mut(), at..at + len, loads, found);
        }
        check.progress.add(len.div_ceil(PAGE));
    };
    check.on_all(pieces, PIECE + store.memory().1, findings, || store.reader(), work)?;
    Ok(pages)
}

/// Finds the pages that cannot be read.
fn single_pages(
    input: usize,
    reader: &mut dyn StoreReader,
    range: std::ops::Range<u64>,
    loads: &[Phdr],
    findings: &mut Findings,
) {
    let mut at = range.start;
    while at < range.end {
        let len = (range.end - at).min(PAGE);
        if let Err(error) = reader.read(at, len as usize) {
            let load = loads.iter().find(|load| load.offset <= at && at - load.offset < load.filesz);
            let mut place = Place::of(input, error.to_string()).at(at);
            place.pfn = load.map(|load| load.paddr.saturating_add(at - load.offset) / PAGE);
            findings.broken(Rule::FileReadable, place);
        }
        at += len;
    }
}

/// The parts of the file with data, sorted and without overlaps.
fn ranges(loads: &[Phdr], size: u64) -> Vec<(u64, u64)> {
    let mut ranges: Vec<(u64, u64)> = loads
        .iter()
        .map(|load| (load.offset.min(size), load.offset.saturating_add(load.filesz).min(size)))
        .filter(|(start, end)| start < end)
        .collect();
    ranges.sort_unstable();
    let mut merged: Vec<(u64, u64)> = Vec::new();
    for (start, end) in ranges {
        match merged.last_mut() {
            Some(last) if start <= last.1 => last.1 = last.1.max(end),
            _ => merged.push((start, end)),
        }
    }
    merged
}
