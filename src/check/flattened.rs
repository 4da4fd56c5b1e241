//! Flattened streams, record by record.
//!
//! Knows what crash, libkdumpfile and `makedumpfile -R` demand of records. Must not know the dump inside: its bytes go on as
//! a store, as far as the records go.

use std::path::Path;

use super::{Check, Findings, findings::Place, rules::Rule};
use crate::{
    error::{Error, Kind, Result},
    format::flattened::{HEADER, RECORD, Record, is_header},
    source::store::{FlattenedStore, Store, StoreReader, most_records, read_all},
};

/// What readers of flattened streams read at once, bytes.
const PAGE: u64 = 4096;

/// Offset in the dump, length, place of the data in the stream.
type Found = (u64, u64, u64);

/// Checks the stream in `inner`, and makes a store of what it has.
pub(super) fn check(
    check: &Check<'_>,
    input: usize,
    path: &Path,
    inner: Box<dyn Store>,
    findings: &mut Findings,
) -> Result<Box<dyn Store>> {
    let header = read_all(inner.as_ref(), 0, inner.size().min(HEADER)).unwrap_or_default();
    let whole = findings.must(Rule::FlattenedHeader, header.len() as u64 == HEADER, || {
        Place::of(input, format!("it ends after {} of {HEADER} bytes", header.len())).at(0)
    });
    if whole {
        findings.must(Rule::FlattenedVersion, is_header(&header), || Place::of(input, "other ones").at(16));
    }
    let mut records = walk(check, input, path, inner.as_ref(), findings)?;
    // In the order of the dump; of the same bytes the later ones count.
    records.sort_unstable_by_key(|(offset, _, at)| (*offset, *at));
    cover(input, &records, findings);
    Ok(Box::new(FlattenedStore::of_records(inner, records)))
}

/// All records up to the first that cannot be followed.
fn walk(
    check: &Check<'_>,
    input: usize,
    path: &Path,
    store: &dyn Store,
    findings: &mut Findings,
) -> Result<Vec<Found>> {
    // Sorting them takes as much again.
    let most = most_records(check.memory / 4);
    let mut reader = store.reader();
    let (mut records, mut at) = (Vec::new(), HEADER);
    while let Some((next, found)) = step(input, store.size(), reader.as_mut(), at, findings) {
        records.push(found);
        at = next;
        if records.len() % 1024 == 0 {
            check.go_on()?;
        }
        if records.len() >= most {
            return Err(Error::new(Kind::Memory, format!("not enough memory to check {}", path.display()))
                .because(format!("it has more than {most} records"))
                .next_step("put them in order first (vdump merge - OUTPUT), and check that"));
        }
    }
    Ok(records)
}

/// The record at `at` and where the next one is; `None` at the end mark, and where the record leads nowhere.
fn step(
    input: usize,
    size: u64,
    reader: &mut dyn StoreReader,
    at: u64,
    findings: &mut Findings,
) -> Option<(u64, Found)> {
    let Ok(bytes) = reader.read(at, RECORD as usize) else {
        // An end inside a record's header, or in front of one.
        let found = format!("the stream ends at byte {size} without it");
        findings.broken(Rule::FlattenedEndMark, Place::of(input, found).at(at.min(size)));
        return None;
    };
    match Record::parse(bytes) {
        Some(Record::End) => {
            findings.looked(Rule::FlattenedEndMark);
            let end = at + RECORD;
            findings.must(Rule::FlattenedTail, end == size, || {
                Place::of(input, format!("{} bytes follow it", size.saturating_sub(end))).at(end)
            });
            None
        }
        Some(Record::Data { offset, len }) => {
            findings.looked(Rule::FlattenedRecord);
            let data = at + RECORD;
            let end = data.saturating_add(len);
            let whole = findings.must(Rule::FlattenedRecordWhole, end <= size, || {
                Place::of(input, format!("{} of {len} bytes, then the stream ends", size.saturating_sub(data))).at(at)
            });
            if !whole {
                let found = format!("the stream ends at byte {size} without it");
                findings.broken(Rule::FlattenedEndMark, Place::of(input, found).at(size));
            }
            let len = len.min(size.saturating_sub(data));
            (len > 0).then_some((end, (offset, len, data)))
        }
        None => {
            let (offset, len) = bytes.split_at(8);
            let word = |bytes: &[u8]| i64::from_be_bytes(bytes.try_into().unwrap_or_default());
            let found = format!("offset {}, size {}", word(offset), word(len));
            findings.broken(Rule::FlattenedRecord, Place::of(input, found).at(at));
            None
        }
    }
}

/// Gaps and overlaps of the sorted records, where they make a difference.
fn cover(input: usize, records: &[Found], findings: &mut Findings) {
    let mut covered = 0u64;
    let mut before = None;
    for (offset, len, at) in records {
        let place = |found: String| Place::of(input, found).at(*at - RECORD);
        // Readers read whole pages: makedumpfile leaves out what fills up one.
        let gap = covered.next_multiple_of(PAGE) < *offset;
        findings.must(Rule::FlattenedContiguous, !gap, || {
            place(format!("bytes {covered:#x} to {offset:#x} of the dump are in no record"))
        });
        // Writing a part of another record again is what makedumpfile does with program headers; readers get that right.
        let end = offset.saturating_add(*len);
        findings.must(Rule::FlattenedOnce, before != Some(*offset), || {
            place(format!("byte {offset:#x} of the dump is the start of another record too"))
        });
        (covered, before) = (covered.max(end), Some(*offset));
    }
}
