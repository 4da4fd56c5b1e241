//! Bytes inside a flattened file: `makedumpfile -F` writes the parts of a dump to a pipe as records with an offset each.
//!
//! Knows where each record lies. Must not know what the bytes mean. What no record covers is zeros, as `makedumpfile -R`
//! would leave it.

use std::collections::BTreeMap;

use super::{Store, StoreError, StoreReader, read_all};
use crate::format::flattened::{HEADER, RECORD, Record, is_header};

/// As many as makedumpfile makes of a terabyte, 64 KiB each; bounds the memory for them.
pub(crate) const MOST_RECORDS: usize = 16 << 20;

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
    /// Reads all records' headers of `inner`.
    ///
    /// # Errors
    /// The file is cut short or no record could be so; says where.
    pub fn open(inner: Box<dyn Store>) -> Result<Self, String> {
        let header =
            read_all(inner.as_ref(), 0, HEADER).map_err(|error| format!("its header cannot be read: {error}"))?;
        if !is_header(&header) {
            return Err("its header has another type or version than makedumpfile's flattened format".to_owned());
        }
        let parts = records(inner.as_ref())?;
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

fn records(store: &dyn Store) -> Result<Vec<Part>, String> {
    let mut reader = store.reader();
    let mut parts: Vec<Part> = Vec::new();
    let mut at = HEADER;
    loop {
        let record = reader.read(at, RECORD as usize).map_err(|error| match error {
            StoreError::Truncated(_) => {
                format!("it ends at byte {} without the mark that makedumpfile puts there", store.size())
            }
            error @ StoreError::Failed(_) => format!("its record at byte {at} cannot be read: {error}"),
        })?;
        match Record::parse(record) {
            Some(Record::End) => return Ok(parts),
            Some(Record::Data { offset, len }) => {
                let data = at + RECORD;
                let end = data.checked_add(len).filter(|end| *end <= store.size());
                at = end.ok_or_else(|| {
                    format!("its record at byte {at} has {len} bytes, but the file ends at byte {}", store.size())
                })?;
                parts.push(Part { offset, len, at: data });
            }
            None => return Err(format!("its record at byte {at} has an impossible offset or size")),
        }
        if parts.len() > MOST_RECORDS {
            return Err(format!("it has more than {MOST_RECORDS} records"));
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

    fn open(bytes: &[u8]) -> Result<FlattenedStore, String> {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        FlattenedStore::open(Box::new(FileStore::new(file).unwrap()))
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
    fn broken_files_say_where() {
        let records: [(i64, &[u8]); 2] = [(0, b"abcd"), (4, b"efgh")];
        let whole = flattened(&records, &END);
        for cut in [0, 15, 4095, 4096, 4100, 4112, 4120, whole.len() - 1] {
            assert!(open(&whole[..cut]).is_err(), "cut at {cut}");
        }
        let says = |file: &[u8]| open(file).unwrap_err();
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
