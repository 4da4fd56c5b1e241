//! Bytes inside a flattened file: `makedumpfile -F` writes the parts of a dump to a pipe as records with an offset each.
//!
//! Knows where each record lies. Must not know what the bytes mean. What no record covers is zeros, as `makedumpfile -R`
//! would leave it.

use std::collections::BTreeMap;

use super::{Store, StoreError, StoreReader, read_all};
use crate::format::flattened::{HEADER, RECORD, Record, is_header};

/// As many as makedumpfile makes of a terabyte, 64 KiB each; bounds the time for them.
const MOST_RECORDS: usize = 16 << 20;
/// What records that overlap take beside the list of them, bytes each: they are sorted into a tree.
const OVERLAPPING: u64 = 100;

/// Why a flattened file cannot be used.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Unusable {
    /// It is truncated, or no record could be so; says where.
    Damaged(String),
    /// The list of its records would take so many bytes.
    Memory(u64),
}

/// As many records as `limit` bytes of memory can hold, so that the list may double.
pub(crate) fn most_records(limit: u64) -> usize {
    usize::try_from(limit / (2 * size_of::<Part>() as u64)).map_or(MOST_RECORDS, |most| most.min(MOST_RECORDS))
}

/// A part of the bytes.
#[derive(Clone, Copy, Debug)]
struct Part {
    /// Where it goes.
    offset: u64,
    len: u64,
    /// Where it lies in the flattened file.
    at: u64,
}

impl Part {
    fn end(&self) -> u64 {
        self.offset + self.len
    }
}

/// A flattened file with the index of its records.
#[derive(Debug)]
pub struct FlattenedStore {
    inner: Box<dyn Store>,
    /// Sorted by offset, without overlaps.
    parts: Vec<Part>,
    size: u64,
}

impl FlattenedStore {
    /// Reads all records' headers of `inner`. The list of them may take `limit` bytes of memory.
    ///
    /// # Errors
    /// [`Unusable`]
    pub fn open(inner: Box<dyn Store>, limit: u64) -> Result<Self, Unusable> {
        let header = read_all(inner.as_ref(), 0, HEADER)
            .map_err(|error| Unusable::Damaged(format!("its header cannot be read: {error}")))?;
        if !is_header(&header) {
            let cause = "its header has another type or version than makedumpfile's flattened format";
            return Err(Unusable::Damaged(cause.to_owned()));
        }
        let parts = records(inner.as_ref(), limit)?;
        let sorting = parts.len() as u64 * OVERLAPPING;
        if sorting > limit && overlap(&parts) {
            return Err(Unusable::Memory(sorting));
        }
        Ok(Self::of_parts(inner, parts))
    }

    /// The bytes of records that were found some other way, each (offset, length, place of the data in `inner`).
    pub(crate) fn of_records(inner: Box<dyn Store>, records: impl IntoIterator<Item = (u64, u64, u64)>) -> Self {
        Self::of_parts(inner, records.into_iter().map(|(offset, len, at)| Part { offset, len, at }).collect())
    }

    fn of_parts(inner: Box<dyn Store>, parts: Vec<Part>) -> Self {
        let parts = resolve(parts);
        let size = parts.last().map_or(0, Part::end);
        Self { inner, parts, size }
    }
}

/// Sorts the parts. Of parts that overlap the later one wins, as for `makedumpfile -R`: makedumpfile itself writes an ELF
/// dump's program headers again when it knows them.
fn resolve(mut parts: Vec<Part>) -> Vec<Part> {
    parts.sort_by_key(|part| part.offset);
    if parts.windows(2).all(|pair| pair[0].end() <= pair[1].offset) {
        return parts;
    }
    parts.sort_by_key(|part| part.at);
    let mut free: BTreeMap<u64, Part> = BTreeMap::new();
    for part in parts {
        let before = free.range(..part.offset).next_back().map(|(_, before)| *before);
        if let Some(before) = before.filter(|before| before.end() > part.offset) {
            free.insert(before.offset, Part { len: part.offset - before.offset, ..before });
            put_rest(&mut free, before, part.end());
        }
        while let Some((at, covered)) = free.range(part.offset..part.end()).next().map(|(at, covered)| (*at, *covered))
        {
            free.remove(&at);
            put_rest(&mut free, covered, part.end());
        }
        free.insert(part.offset, part);
    }
    free.into_values().collect()
}

/// Puts what `part` has from `from` on.
fn put_rest(free: &mut BTreeMap<u64, Part>, part: Part, from: u64) {
    if part.end() > from {
        let cut = from - part.offset;
        free.insert(from, Part { offset: from, len: part.len - cut, at: part.at + cut });
    }
}

/// Whether records have the same bytes; `false` also for some that are in order but for one place.
fn overlap(parts: &[Part]) -> bool {
    let mut sorted: Vec<(u64, u64)> = parts.iter().map(|part| (part.offset, part.end())).collect();
    sorted.sort_unstable();
    sorted.windows(2).any(|pair| pair[0].1 > pair[1].0)
}

fn records(store: &dyn Store, limit: u64) -> Result<Vec<Part>, Unusable> {
    let most = most_records(limit);
    let damaged = |cause: String| Unusable::Damaged(cause);
    let mut reader = store.reader();
    let mut parts: Vec<Part> = Vec::new();
    let mut at = HEADER;
    loop {
        let record = reader.read(at, RECORD as usize).map_err(|error| match error {
            StoreError::Truncated(_) => {
                damaged(format!("it ends at byte {} without the mark that makedumpfile puts there", store.size()))
            }
            error @ StoreError::Failed(_) => damaged(format!("its record at byte {at} cannot be read: {error}")),
        })?;
        match Record::parse(record) {
            Some(Record::End) => return Ok(parts),
            Some(Record::Data { offset, len }) => {
                let data = at + RECORD;
                let end = data.checked_add(len).filter(|end| *end <= store.size());
                at = end.ok_or_else(|| {
                    damaged(format!(
                        "its record at byte {at} has {len} bytes, but the file ends at byte {}",
                        store.size()
                    ))
                })?;
                parts.push(Part { offset, len, at: data });
            }
            None => return Err(damaged(format!("its record at byte {at} has an impossible offset or size"))),
        }
        if parts.len() > MOST_RECORDS {
            return Err(damaged(format!("it has more than {MOST_RECORDS} records")));
        }
        if parts.len() > most {
            // If the rest of the file is like what was read.
            let all = u128::from(store.size()) * (2 * parts.len() * size_of::<Part>()) as u128 / u128::from(at.max(1));
            return Err(Unusable::Memory(u64::try_from(all).unwrap_or(u64::MAX)));
        }
    }
}

impl Store for FlattenedStore {
    fn size(&self) -> u64 {
        self.size
    }

    fn reader(&self) -> Box<dyn StoreReader + '_> {
        Box::new(FlattenedReader { store: self, inner: self.inner.reader(), buffer: Vec::new() })
    }

    fn next_data(&self, offset: u64) -> u64 {
        let next = self.parts.partition_point(|part| part.end() <= offset);
        self.parts.get(next).map_or(self.size, |part| part.offset).max(offset)
    }

    fn memory(&self) -> (u64, u64) {
        let (store, reader) = self.inner.memory();
        (store + (self.parts.capacity() * size_of::<Part>()) as u64, reader + super::MAX_READ as u64)
    }
}

#[derive(Debug)]
struct FlattenedReader<'a> {
    store: &'a FlattenedStore,
    inner: Box<dyn StoreReader + 'a>,
    /// For ranges that lie in several records.
    buffer: Vec<u8>,
}

impl StoreReader for FlattenedReader<'_> {
    fn read(&mut self, offset: u64, len: usize) -> Result<&[u8], StoreError> {
        let Self { store, inner, buffer } = self;
        let end = offset.saturating_add(len as u64);
        if end > store.size {
            return Err(StoreError::Truncated(store.size.saturating_sub(offset) as usize));
        }
        let first = store.parts.partition_point(|part| part.end() <= offset);
        if let Some(part) = store.parts.get(first).filter(|part| part.offset <= offset && end <= part.end()) {
            return inner.read(part.at + (offset - part.offset), len);
        }
        buffer.clear();
        buffer.resize(len, 0);
        for part in store.parts[first..].iter().take_while(|part| part.offset < end) {
            let (from, to) = (part.offset.max(offset), part.end().min(end));
            let bytes = inner.read(part.at + (from - part.offset), (to - from) as usize)?;
            buffer[(from - offset) as usize..(to - offset) as usize].copy_from_slice(bytes);
        }
        Ok(buffer)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;
    use crate::source::store::FileStore;

    fn flattened(records: &[(i64, &[u8])], end: &[u8]) -> Vec<u8> {
        let mut file = b"makedumpfile\0\0\0\0\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0\x01".to_vec();
        file.resize(4096, 0);
        for (offset, bytes) in records {
            file.extend(offset.to_be_bytes());
            file.extend((bytes.len() as i64).to_be_bytes());
            file.extend(*bytes);
        }
        file.extend(end);
        file
    }

    fn open(bytes: &[u8]) -> Result<FlattenedStore, Unusable> {
        open_within(bytes, u64::MAX)
    }

    fn open_within(bytes: &[u8], limit: u64) -> Result<FlattenedStore, Unusable> {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        FlattenedStore::open(Box::new(FileStore::new(file).unwrap()), limit)
    }

    const END: [u8; 16] = [0xff; 16];

    #[test]
    fn records_in_any_order_read_as_one_file() {
        let store = open(&flattened(&[(4, b"efgh"), (0, b"abcd"), (10, b"kl")], &END)).unwrap();
        assert_eq!(store.size(), 12);
        let mut reader = store.reader();
        assert_eq!(reader.read(0, 12).unwrap(), b"abcdefgh\0\0kl");
        assert_eq!(reader.read(5, 2).unwrap(), b"fg");
        assert_eq!(reader.read(8, 2).unwrap(), b"\0\0");
        assert_eq!(reader.read(11, 2), Err(StoreError::Truncated(1)));
    }

    #[test]
    fn later_records_win() {
        let records: [(i64, &[u8]); 6] =
            [(0, b"aaaaaaaaaa"), (2, b"bb"), (12, b"cccc"), (8, b"dddddd"), (0, b"e"), (3, b"f")];
        let store = open(&flattened(&records, &END)).unwrap();
        assert_eq!(store.reader().read(0, 16).unwrap(), b"eabfaaaaddddddcc");
        let store = open(&flattened(&[(0, b"a"), (2, b"c"), (0, b"xyz")], &END)).unwrap();
        assert_eq!(store.reader().read(0, 3).unwrap(), b"xyz");
    }

    #[test]
    fn a_list_of_records_that_memory_cannot_bear_is_refused_with_what_it_would_take() {
        let records: Vec<(i64, &[u8])> = (0..2000).map(|at| (at, &b"x"[..])).collect();
        let file = flattened(&records, &END);
        let whole = open_within(&file, 200 << 10).unwrap();
        assert_eq!(whole.size(), 2000);
        let Err(Unusable::Memory(wanted)) = open_within(&file, 20 << 10) else { panic!("it was opened") };
        assert!((60 << 10..200 << 10).contains(&wanted), "{wanted}");
        // Overlapping ones take more.
        let twice = flattened(&[&records[..], &records[..]].concat(), &END);
        assert_eq!(open_within(&twice, 300 << 10).unwrap_err(), Unusable::Memory(4000 * OVERLAPPING));
        assert_eq!(open_within(&twice, 400 << 10).unwrap().size(), 2000);
    }

    #[test]
    fn broken_files_say_where() {
        let records: [(i64, &[u8]); 2] = [(0, b"abcd"), (4, b"efgh")];
        let whole = flattened(&records, &END);
        for cut in [0, 15, 4095, 4096, 4100, 4112, 4120, whole.len() - 1] {
            assert!(open(&whole[..cut]).is_err(), "cut at {cut}");
        }
        let says = |file: &[u8]| match open(file) {
            Err(Unusable::Damaged(cause)) => cause,
            other => panic!("{other:?}"),
        };
        assert!(says(&flattened(&records, b"")).contains("ends at byte 4136 without the mark"));
        assert!(says(&flattened(&[(-2, b"a")], &END)).contains("impossible"));
        assert!(says(&flattened(&[(0, b"")], &END)).contains("impossible"));
        assert!(says(&flattened(&[(i64::MAX, b"a")], &END)).contains("impossible"));
        let huge = [&0i64.to_be_bytes()[..], &i64::MAX.to_be_bytes()].concat();
        assert!(
            says(&flattened(&[], &huge)).contains("impossible") || says(&flattened(&[], &huge)).contains("ends at")
        );
    }
}
