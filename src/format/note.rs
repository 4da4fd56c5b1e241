//! ELF notes.
//!
//! Knows how notes follow one another and the names that matter here. Must not do I/O. Used by `source` and `sink`.

/// Name of the note with the crashed kernel's self-description, without its terminating zero.
pub const VMCOREINFO: &[u8] = b"VMCOREINFO";
/// Name of Xen's own notes in a dump of the machine that it runs on (xen/include/public/elfnote.h).
pub const XEN: &[u8] = b"Xen";
/// Name of the note with Xen's description of itself.
pub const VMCOREINFO_XEN: &[u8] = b"VMCOREINFO_XEN";
/// Name of the notes with register sets.
pub const CORE: &[u8] = b"CORE";
/// Type of a note with one CPU's registers (`NT_PRSTATUS`, include/uapi/linux/elf.h).
pub const NT_PRSTATUS: u32 = 1;

/// One note; offsets are into the bytes given to [`notes`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Note<'a> {
    /// The owner's name without its terminating zero.
    pub name: &'a [u8],
    /// The type, whose meaning depends on the name.
    pub kind: u32,
    /// The contents.
    pub desc: &'a [u8],
    /// Where the contents start.
    pub desc_offset: usize,
    /// Where the next note starts: past the padding.
    pub end: usize,
}

/// A note of which only the beginning was looked at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Head<'a> {
    /// The owner's name without its terminating zero.
    pub name: &'a [u8],
    /// The type.
    pub kind: u32,
    /// Where the contents start.
    pub desc_offset: usize,
    /// Length of the contents, bytes.
    pub desc_len: usize,
}

impl Head<'_> {
    /// All of the note with its padding, bytes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        (self.desc_offset as u64 + self.desc_len as u64).next_multiple_of(4)
    }
}

/// The beginning of the note in `bytes`; `None` if its name is not there, or it has none.
#[must_use]
pub fn head(bytes: &[u8]) -> Option<Head<'_>> {
    let word = |from: usize| -> Option<usize> {
        let raw: [u8; 4] = bytes.get(from..from.checked_add(4)?)?.try_into().ok()?;
        usize::try_from(u32::from_le_bytes(raw)).ok()
    };
    let (name_len, desc_len, kind) = (word(0)?, word(4)?, word(8)?);
    if name_len == 0 {
        return None;
    }
    let name = bytes.get(12..12usize.checked_add(name_len)?)?;
    let desc_offset = padded(12, name_len)?;
    Some(Head { name: name.strip_suffix(&[0]).unwrap_or(name), kind: kind as u32, desc_offset, desc_len })
}

fn padded(from: usize, len: usize) -> Option<usize> {
    Some(from.checked_add(len)?.checked_add(3)? & !3)
}

/// Walks little-endian notes with 4-byte padding (what kernels write in 64-bit cores too). Ends quietly at the first
/// note that does not fit, or at a note without a name (`/proc/vmcore` pads with those).
pub fn notes(bytes: &[u8]) -> impl Iterator<Item = Note<'_>> {
    let mut at = 0usize;
    std::iter::from_fn(move || {
        let Head { name, kind, desc_offset, desc_len } = head(bytes.get(at..)?)?;
        let desc_offset = at.checked_add(desc_offset)?;
        let desc = bytes.get(desc_offset..desc_offset.checked_add(desc_len)?)?;
        at = padded(desc_offset, desc_len)?.min(bytes.len());
        Some(Note { name, kind, desc, desc_offset, end: at })
    })
}

/// Appends one note, padded.
pub fn push(out: &mut Vec<u8>, name: &[u8], kind: u32, desc: &[u8]) {
    let pad = |out: &mut Vec<u8>| out.resize(out.len().next_multiple_of(4), 0);
    out.extend((name.len() as u32 + 1).to_le_bytes());
    out.extend((desc.len() as u32).to_le_bytes());
    out.extend(kind.to_le_bytes());
    out.extend(name);
    out.push(0);
    pad(out);
    out.extend(desc);
    pad(out);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn walks_what_was_pushed() {
        let mut bytes = Vec::new();
        push(&mut bytes, CORE, NT_PRSTATUS, &[7; 336]);
        push(&mut bytes, VMCOREINFO, 0, b"OSRELEASE=6.1\n");
        let all: Vec<_> = notes(&bytes).collect();
        assert_eq!(all.len(), 2);
        assert_eq!((all[0].name, all[0].kind, all[0].desc.len()), (CORE, NT_PRSTATUS, 336));
        assert_eq!(all[1].desc, b"OSRELEASE=6.1\n");
        assert_eq!(&bytes[all[1].desc_offset..][..9], b"OSRELEASE");
    }

    #[test]
    fn hostile_sizes_end_the_walk() {
        for len in [0, 4, 11, 12, 20] {
            assert_eq!(notes(&vec![0xff; len]).count(), 0);
        }
        let mut bytes = Vec::new();
        push(&mut bytes, CORE, 1, &[1; 8]);
        bytes.truncate(bytes.len() - 4);
        assert_eq!(notes(&bytes).count(), 0);
    }
}
