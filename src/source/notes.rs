//! The notes of a dump: small ones are held, large ones stay where they lie in the input, so that the device dumps of drivers
//! (NT_VMCOREDD) cost no memory.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use super::{
    MAX_READ,
    store::{Store, StoreError, StoreReader},
    vmcoreinfo,
};
use crate::{
    error::Result,
    format::note::{self, Note, VMCOREINFO},
};

/// Larger notes stay in the input, bytes: registers have hundreds of bytes, VMCOREINFO has a page.
const LARGE: usize = 256 << 10;
/// So much is held of all notes, bytes; 8192 CPUs need 3 MiB. VMCOREINFO is held all the same.
const MOST_HELD: usize = 16 << 20;
/// So many stretches of notes are told apart that are not held; bounds what a hostile file makes us hold.
const MOST_STRETCHES: usize = 4096;
/// Enough to see how large a note is, bytes.
const HEAD: u64 = 64;
/// So many bytes are looked through for notes, of large ones only where they begin; bounds the time that segments over one
/// another take.
const MOST_WALKED: u64 = 256 << 20;

/// Notes in the input, one after the other.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Stretch {
    /// How many of the held bytes come before it.
    before: usize,
    /// Where it lies in the input.
    offset: u64,
    len: u64,
}

/// All notes of a dump in their order.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Notes {
    held: Vec<u8>,
    /// Sorted by `before`.
    stretches: Vec<Stretch>,
}

impl Notes {
    /// Those that are held, one after the other: all that this program looks at.
    #[must_use]
    pub fn held(&self) -> &[u8] {
        &self.held
    }

    /// All together, bytes.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.held.len() as u64 + self.left()
    }

    /// Of that not held, bytes.
    #[must_use]
    pub fn left(&self) -> u64 {
        self.stretches.iter().map(|stretch| stretch.len).sum()
    }

    /// The place among all notes of the held byte at `at`.
    #[must_use]
    pub fn place(&self, at: usize) -> u64 {
        let before = self.stretches.iter().take_while(|stretch| stretch.before <= at);
        at as u64 + before.map(|stretch| stretch.len).sum::<u64>()
    }

    /// Adds a note behind all others.
    pub fn push(&mut self, name: &[u8], kind: u32, desc: &[u8]) {
        note::push(&mut self.held, name, kind, desc);
    }

    /// Takes off zeros behind the last note: readers end where padding begins.
    pub fn trim_zeros(&mut self) {
        let end = self.last_held().max(self.stretches.last().map_or(0, |stretch| stretch.before));
        if self.held[end..].iter().all(|byte| *byte == 0) {
            self.held.truncate(end);
        }
    }

    /// Takes off whatever is behind the last note.
    pub(super) fn trim(&mut self) {
        let end = self.last_held().max(self.stretches.last().map_or(0, |stretch| stretch.before));
        self.held.truncate(end);
        self.held.resize(end.next_multiple_of(4), 0);
    }

    fn last_held(&self) -> usize {
        note::notes(&self.held).last().map_or(0, |last| last.end)
    }

    /// Leaves out the held notes that `keep` does not want.
    pub(super) fn retain(&mut self, keep: impl Fn(&Note<'_>) -> bool) {
        let old = std::mem::take(&mut self.held);
        let mut stretches = self.stretches.iter_mut().peekable();
        let mut start = 0;
        for note in note::notes(&old) {
            while let Some(stretch) = stretches.next_if(|stretch| stretch.before <= start) {
                stretch.before = self.held.len();
            }
            if keep(&note) {
                self.held.extend_from_slice(&old[start..note.end]);
                self.held.resize(self.held.len().next_multiple_of(4), 0);
            }
            start = note.end;
        }
        let end = self.held.len();
        stretches.for_each(|stretch| stretch.before = end);
    }

    /// Of several VMCOREINFO notes those that are whole count, if there are any. Whether one was left out.
    fn prefer_whole(&mut self) -> bool {
        let info = |note: &Note<'_>| note.name == VMCOREINFO;
        let whole = |note: &Note<'_>| vmcoreinfo::is_whole(note.desc);
        let (mut any_whole, mut any_other) = (false, false);
        for note in note::notes(&self.held).filter(info) {
            any_whole |= whole(&note);
            any_other |= !whole(&note);
        }
        if any_whole && any_other {
            self.retain(|note| !info(note) || whole(note));
        }
        any_whole && any_other
    }

    /// The pieces in order, each with its place among all notes.
    fn pieces(&self) -> impl Iterator<Item = (u64, Piece<'_>)> {
        let held = |from: usize, to: usize| Piece::Held(self.held.get(from..to).unwrap_or_default());
        let mut pieces = Vec::with_capacity(2 * self.stretches.len() + 1);
        let mut at = 0;
        for stretch in &self.stretches {
            pieces.extend([held(at, stretch.before), Piece::Left(*stretch)]);
            at = stretch.before;
        }
        pieces.push(held(at, self.held.len()));
        let mut place = 0;
        let placed = pieces.into_iter().map(move |piece| {
            let at = place;
            place += piece.len();
            (at, piece)
        });
        placed.filter(|(_, piece)| piece.len() > 0)
    }
}

#[derive(Clone, Copy)]
enum Piece<'a> {
    Held(&'a [u8]),
    Left(Stretch),
}

impl Piece<'_> {
    fn len(&self) -> u64 {
        match self {
            Self::Held(bytes) => bytes.len() as u64,
            Self::Left(stretch) => stretch.len,
        }
    }
}

/// Reads notes, segment by segment.
#[derive(Debug)]
pub struct NotesReader {
    notes: Notes,
    /// Whether large notes may be left in the store that they are read from.
    may_leave: bool,
    /// Where the last note ends among the held bytes.
    end: usize,
    walked: u64,
    /// Bytes of notes that nobody gets.
    lost: u64,
    /// Bytes in which nobody looked for notes.
    unseen: u64,
    /// VMCOREINFO notes that end with their segment, before they should.
    clipped: u64,
    /// Where the first byte behind the last note of the last segment lies, and what follows there.
    rest: (u64, Vec<u8>),
}

impl NotesReader {
    /// `may_leave`: what is written from these notes can read the same store.
    #[must_use]
    pub fn new(may_leave: bool) -> Self {
        let rest = (0, Vec::new());
        Self { notes: Notes::default(), may_leave, end: 0, walked: 0, lost: 0, unseen: 0, clipped: 0, rest }
    }

    /// Adds the notes in `len` bytes of `store` at `offset`, as the capture kernel merges them (`merge_note_headers_elf64` in
    /// fs/proc/vmcore.c): what follows the last note of a segment is padding, and a CPU that saved nothing has no note.
    ///
    /// # Errors
    /// The store ends before, or cannot be read.
    pub fn append(&mut self, store: &dyn Store, offset: u64, len: u64) -> Result<(), StoreError> {
        let size = store.size();
        let end = offset.checked_add(len).filter(|end| *end <= size);
        let end = end.ok_or_else(|| StoreError::Truncated(size.saturating_sub(offset) as usize))?;
        let mut reader = store.reader();
        // Padding after the last note would hide the next segment's notes.
        self.notes.held.truncate(self.end);
        let mut at = offset;
        self.rest = (at, Vec::new());
        while at < end {
            let (head, want) = ((end - at).min(HEAD), (end - at).min(MAX_READ as u64));
            if self.walked.saturating_add(head + want) > MOST_WALKED {
                self.unseen = self.unseen.saturating_add(end - at);
                break;
            }
            self.walked += head;
            if let Some(len) = large_len(reader.read(at, head as usize)?).filter(|len| *len <= end - at) {
                self.leave(at, len);
                at += len;
                self.rest = (at, Vec::new());
                continue;
            }
            self.walked += want;
            let window = reader.read(at, want as usize)?;
            let (used, next) = self.walk(window, at, end);
            if let Some(next) = next {
                at = next;
                continue;
            }
            self.rest = (at + used as u64, window[used..].to_vec());
            self.clip(end);
            break;
        }
        self.end = self.notes.held.len();
        // What is padding here may be more to those who read the output.
        if self.rest.0 + self.rest.1.len() as u64 == end {
            self.notes.held.extend_from_slice(&self.rest.1);
            self.notes.held.resize(self.notes.held.len().next_multiple_of(4), 0);
        }
        Ok(())
    }

    /// Takes the notes that `window` has whole, the bytes at `at` of a segment that ends at `end`. Gives how many bytes they
    /// have, and where to go on; nowhere if no note follows.
    fn walk(&mut self, window: &[u8], at: u64, end: u64) -> (usize, Option<u64>) {
        let mut used = 0;
        for note in note::notes(window) {
            // The padding of a note that the window ends in.
            if note.end == window.len() && !note.end.is_multiple_of(4) && at + (note.end as u64) < end {
                break;
            }
            if used > 0 && large_len(&window[used..]).is_some() {
                return (used, Some(at + used as u64));
            }
            self.take(&note, &window[used..note.end], at + used as u64);
            used = note.end;
        }
        let from = at + used as u64;
        // What is left of a window in the middle of a segment is looked at again with what follows it.
        if used > 0 && at + (window.len() as u64) < end {
            return (used, Some(from));
        }
        (used, self.large(window, used, from, end))
    }

    /// Leaves a note in the store that no window holds. Where the next one begins.
    fn large(&mut self, window: &[u8], used: usize, from: u64, end: u64) -> Option<u64> {
        let head = note::head(&window[used..])?;
        let len = head.bytes();
        let next = from.checked_add(len).filter(|next| *next <= end)?;
        self.leave(from, len);
        Some(next)
    }

    fn take(&mut self, note: &Note<'_>, bytes: &[u8], offset: u64) {
        let held = &mut self.notes.held;
        let fits = bytes.len() <= LARGE && held.len() + bytes.len() <= MOST_HELD;
        if fits || note.name == VMCOREINFO && bytes.len() <= MAX_READ && held.len() < 2 * MOST_HELD {
            held.extend_from_slice(bytes);
            held.resize(held.len().next_multiple_of(4), 0);
        } else {
            self.leave(offset, bytes.len() as u64);
        }
    }

    fn leave(&mut self, offset: u64, len: u64) {
        let before = self.notes.held.len();
        let stretches = &mut self.notes.stretches;
        let full = stretches.len() >= MOST_STRETCHES;
        let follows = |last: &&mut Stretch| last.before == before && last.offset + last.len == offset;
        // A note without its padding would move what follows.
        if !self.may_leave || !len.is_multiple_of(4) {
            self.lost = self.lost.saturating_add(len);
        } else if let Some(last) = stretches.last_mut().filter(follows) {
            last.len += len;
        } else if full {
            self.lost = self.lost.saturating_add(len);
        } else {
            stretches.push(Stretch { before, offset, len });
        }
    }

    /// Takes as much of a VMCOREINFO note as its segment has, where its length says more.
    fn clip(&mut self, end: u64) {
        let (at, bytes) = (self.rest.0, &self.rest.1);
        let Some(head) = note::head(bytes).filter(|head| head.name == VMCOREINFO && at + bytes.len() as u64 == end)
        else {
            return;
        };
        let desc = bytes.get(head.desc_offset..).unwrap_or_default();
        let text = desc.split(|byte| *byte == 0).next().unwrap_or_default();
        if vmcoreinfo::is_whole(text) {
            note::push(&mut self.notes.held, VMCOREINFO, 0, text);
            self.clipped += 1;
            self.rest = (end, Vec::new());
        }
    }

    /// What follows the last note, and where that lies in the store: padding, or what is no note.
    #[must_use]
    pub fn rest(&self) -> (u64, &[u8]) {
        (self.rest.0, &self.rest.1)
    }

    /// Whether a VMCOREINFO note ended with its segment, before it should.
    #[must_use]
    pub fn is_clipped(&self) -> bool {
        self.clipped > 0
    }

    /// The notes, and what is to be said about them.
    #[must_use]
    pub fn finish(mut self) -> (Notes, Vec<String>) {
        let mut remarks = Vec::new();
        if self.lost > 0 {
            remarks.push(format!("notes of {} bytes were left out: there is no room for them", self.lost));
        }
        if self.unseen > 0 {
            remarks.push(format!(
                "{} bytes of notes were not looked at, as {} MiB of them were: what they had is missing",
                self.unseen,
                MOST_WALKED >> 20
            ));
        }
        if self.clipped > 0 {
            remarks.push(
                "the VMCOREINFO note says that it is longer than its segment: it was read as far as that goes"
                    .to_owned(),
            );
        }
        if self.notes.prefer_whole() {
            remarks.push("of several VMCOREINFO notes one is damaged and was left out".to_owned());
        }
        (self.notes, remarks)
    }
}

/// The length of a note that stays in the store whatever there is room for, with its padding, bytes.
fn large_len(bytes: &[u8]) -> Option<u64> {
    let head = note::head(bytes).filter(|head| head.desc_len > LARGE)?;
    let held = head.name == VMCOREINFO && head.bytes() <= MAX_READ as u64;
    (!held).then(|| head.bytes())
}

/// The notes that go into an output, with the input that has the large ones.
#[derive(Clone, Debug, Default)]
pub struct OutputNotes<'a> {
    notes: Notes,
    input: Option<Input<'a>>,
}

#[derive(Clone, Copy, Debug)]
struct Input<'a> {
    store: &'a dyn Store,
    /// Set where some of it could not be read.
    unread: &'a AtomicBool,
}

impl<'a> OutputNotes<'a> {
    /// What lies in `store` and cannot be read is zeros in the output; then `unread` is set.
    #[must_use]
    pub fn new(notes: Notes, store: &'a dyn Store, unread: &'a AtomicBool) -> Self {
        Self { notes, input: Some(Input { store, unread }) }
    }

    /// Only those that are held; the others are zeros.
    #[must_use]
    pub fn of_held(notes: Notes) -> Self {
        Self { notes, input: None }
    }

    /// All together, bytes.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.notes.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.notes.len() == 0
    }

    /// Hands everything to `put` in order, each piece with its place.
    ///
    /// # Errors
    /// Those of `put`.
    pub fn each(&self, put: &mut dyn FnMut(&[u8], u64) -> Result<()>) -> Result<()> {
        for (place, piece) in self.notes.pieces() {
            match piece {
                Piece::Held(bytes) => put(bytes, place)?,
                Piece::Left(Stretch { offset, len, .. }) => {
                    let mut done = 0;
                    let mut reader = self.input.map(|input| input.store.reader());
                    while done < len {
                        let part = (len - done).min(MAX_READ as u64) as usize;
                        match self.read(reader.as_deref_mut(), offset + done, part) {
                            Some(bytes) => put(bytes, place + done)?,
                            None => put(&vec![0; part], place + done)?,
                        }
                        done += part as u64;
                    }
                }
            }
        }
        Ok(())
    }

    /// Fills `out` with the bytes from `at` on, as far as there are any.
    pub fn fill(&self, at: u64, out: &mut [u8]) {
        let end = at + out.len() as u64;
        for (place, piece) in self.notes.pieces() {
            let (from, to) = (place.max(at), (place + piece.len()).min(end));
            if from >= to {
                continue;
            }
            let room = &mut out[(from - at) as usize..(to - at) as usize];
            let within = from - place;
            match piece {
                Piece::Held(bytes) => room.copy_from_slice(&bytes[within as usize..][..room.len()]),
                Piece::Left(stretch) => {
                    let mut reader = self.input.map(|input| input.store.reader());
                    for (part, from) in room.chunks_mut(MAX_READ).zip((stretch.offset + within..).step_by(MAX_READ)) {
                        if let Some(bytes) = self.read(reader.as_deref_mut(), from, part.len()) {
                            part.copy_from_slice(bytes);
                        }
                    }
                }
            }
        }
    }

    fn read<'r>(&self, reader: Option<&'r mut (dyn StoreReader + 'a)>, offset: u64, len: usize) -> Option<&'r [u8]> {
        let bytes = reader.and_then(|reader| reader.read(offset, len).ok());
        if let (None, Some(input)) = (bytes, self.input) {
            input.unread.store(true, Relaxed);
        }
        bytes
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;
    use crate::source::store::FileStore;

    const INFO: &[u8] = b"OSRELEASE=6.1\nPAGESIZE=4096\n";

    fn store(bytes: &[u8]) -> FileStore {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        FileStore::new(file).unwrap()
    }

    fn of(notes: &[(&[u8], Vec<u8>)]) -> Vec<u8> {
        let mut bytes = Vec::new();
        notes.iter().for_each(|(name, desc)| note::push(&mut bytes, name, 0, desc));
        bytes
    }

    fn read(store: &FileStore, segments: &[(u64, u64)]) -> (Notes, Vec<String>) {
        let mut reader = NotesReader::new(true);
        segments.iter().for_each(|(offset, len)| reader.append(store, *offset, *len).unwrap());
        reader.finish()
    }

    /// What an output gets, in one piece and in pieces of a mebibyte.
    fn written(notes: &Notes, store: &FileStore) -> Vec<u8> {
        let unread = AtomicBool::new(false);
        let output = OutputNotes::new(notes.clone(), store, &unread);
        let mut all = vec![0xee; output.len() as usize];
        let put = &mut |bytes: &[u8], at: u64| {
            all[at as usize..at as usize + bytes.len()].copy_from_slice(bytes);
            Ok(())
        };
        output.each(put).unwrap();
        let mut filled = vec![0xee; all.len()];
        for (part, at) in filled.chunks_mut(1 << 20).zip((0..).step_by(1 << 20)) {
            output.fill(at, part);
        }
        assert!(filled == all && !unread.into_inner());
        all
    }

    #[test]
    fn large_notes_stay_where_they_are_and_come_out_in_their_order() {
        let dump = |n: u8, len: usize| (&b"LINUX"[..], vec![n; len]);
        let small = |n: u8| (&b"CORE"[..], vec![n; 336]);
        let cases = [
            vec![small(1), dump(2, 3 << 20), small(3), (VMCOREINFO, INFO.to_vec())],
            vec![dump(1, 2 << 20), dump(2, 300 << 10), dump(3, 5 << 20), (VMCOREINFO, INFO.to_vec()), small(4)],
            vec![(VMCOREINFO, INFO.to_vec()), small(1), dump(2, (1 << 20) - 24), small(3), dump(4, 1 << 20)],
            vec![small(1); 5000],
        ];
        for notes in cases {
            let bytes = of(&notes);
            let store = store(&[&[9; 64], bytes.as_slice(), &[0; 100]].concat());
            let (read, remarks) = read(&store, &[(64, bytes.len() as u64 + 100)]);
            assert!(remarks.is_empty() && read.held().len() < 3 << 20);
            assert!(written(&read, &store) == [bytes.as_slice(), &[0; 100]].concat());
            let held: Vec<_> = notes.iter().filter(|(_, desc)| desc.len() < LARGE).map(|(name, _)| *name).collect();
            assert!(note::notes(read.held()).map(|note| note.name).eq(held));
            let found = note::notes(read.held()).find(|note| note.name == VMCOREINFO);
            assert!(found.is_none_or(|info| bytes[read.place(info.desc_offset) as usize..].starts_with(INFO)));
        }
    }

    /// More of them than is looked through, byte by byte; what follows them is seen.
    #[test]
    fn large_notes_are_stepped_over() {
        use std::os::unix::fs::FileExt as _;

        let file = tempfile::tempfile().unwrap();
        let head = of(&[(b"LINUX", vec![0; 900 << 10])]);
        let dumps = 300;
        for index in 0..dumps {
            file.write_all_at(&head[..20], index * head.len() as u64).unwrap();
        }
        let small = of(&[(b"CORE", vec![1; 336]), (VMCOREINFO, INFO.to_vec())]);
        let large = dumps * head.len() as u64;
        file.write_all_at(&small, large).unwrap();
        let store = FileStore::new(file).unwrap();
        let (notes, remarks) = read(&store, &[(0, large + small.len() as u64)]);
        assert_eq!((notes.held(), notes.left(), remarks.len()), (small.as_slice(), large, 0));
    }

    #[test]
    fn padding_hides_no_other_segment() {
        let (first, second) = (of(&[(b"CORE", vec![1; 8])]), of(&[(VMCOREINFO, INFO.to_vec())]));
        let bytes = [&first[..], &[0; 50], &second].concat();
        let store = store(&bytes);
        let (notes, _) = read(&store, &[(0, first.len() as u64 + 50), (first.len() as u64 + 50, second.len() as u64)]);
        assert_eq!(notes.held(), [first, second].concat());
    }

    #[test]
    fn a_vmcoreinfo_note_is_read_as_far_as_its_segment_goes() {
        let mut bytes = of(&[(b"CORE", vec![1; 8]), (VMCOREINFO, INFO.to_vec())]);
        let len = bytes.len() - INFO.len().next_multiple_of(4) - 20;
        bytes[len..len + 4].copy_from_slice(&u32::MAX.to_le_bytes());
        let store = store(&bytes);
        let (notes, remarks) = read(&store, &[(0, bytes.len() as u64)]);
        let info = note::notes(notes.held()).find(|note| note.name == VMCOREINFO).unwrap();
        assert_eq!(info.desc, INFO);
        assert!(remarks[0].contains("as far as"), "{remarks:?}");
    }

    #[test]
    fn of_several_the_whole_one_counts() {
        let bytes = of(&[(VMCOREINFO, b"OSREL".to_vec()), (b"LINUX", vec![7; 1 << 20]), (VMCOREINFO, INFO.to_vec())]);
        let store = store(&bytes);
        let (notes, remarks) = read(&store, &[(0, bytes.len() as u64)]);
        let found: Vec<_> = note::notes(notes.held()).map(|note| note.desc.to_vec()).collect();
        assert_eq!((found.as_slice(), remarks.len()), ([INFO.to_vec()].as_slice(), 1));
        let dropped = of(&[(VMCOREINFO, b"OSREL".to_vec())]).len();
        assert!(written(&notes, &store) == bytes[dropped..]);
    }

    #[test]
    fn what_claims_more_than_there_is_ends_the_notes() {
        let mut bytes = of(&[(b"CORE", vec![1; 8]), (b"LINUX", vec![2; 2 << 20])]);
        let whole = bytes.len();
        bytes.truncate(whole - 4096);
        let store = store(&bytes);
        let (notes, _) = read(&store, &[(0, bytes.len() as u64)]);
        assert_eq!(note::notes(notes.held()).count(), 1);
        assert!(NotesReader::new(true).append(&store, 0, whole as u64).is_err());
        assert!(NotesReader::new(true).append(&store, u64::MAX, 2).is_err());
    }
}
