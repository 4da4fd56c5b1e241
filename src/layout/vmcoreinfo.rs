//! VMCOREINFO: lines of text that describe a kernel, from the dump's note and from other witnesses that are put into the
//! same words.
//!
//! Knows its syntax (Documentation/admin-guide/kdump/vmcoreinfo.rst), who said what, and who contradicted whom. Must not know
//! what a key is good for. Used by the rest of `layout` and by `klog`.

use std::{collections::BTreeMap, fmt};

/// Who said a line.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Witness {
    /// The dump's own note.
    Note,
    /// A layout file (`-i`).
    File,
    /// The debug information of a vmlinux (`-x`).
    Dwarf,
    /// The symbol table of a vmlinux (`-x`).
    Symbols,
    /// The BTF of a vmlinux or of a file (`--btf`).
    Btf,
    /// The BTF that the crashed kernel carried in its memory.
    KernelBtf,
    /// The crashed kernel's memory itself: what its free pages look like.
    FreePages,
}

impl fmt::Display for Witness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Note => "VMCOREINFO",
            Self::File => "the layout file",
            Self::Dwarf => "DWARF",
            Self::Symbols => "the symbol table",
            Self::Btf => "BTF",
            Self::KernelBtf => "the kernel's own BTF",
            Self::FreePages => "the kernel's free pages",
        })
    }
}

#[derive(Clone, PartialEq, Eq, Debug)]
struct Line {
    text: String,
    witness: Witness,
}

/// Two witnesses that say different things.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Disagreement {
    /// About what.
    pub key: String,
    /// Who is believed, and what it says.
    pub believed: (Witness, String),
    /// Who is not.
    pub other: (Witness, String),
}

impl fmt::Display for Disagreement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { key, believed: (one, value), other: (two, theirs) } = self;
        write!(f, "{one} says {key}={value}, but {two} says {theirs}")
    }
}

/// The parsed lines.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct VmcoreInfo {
    lines: BTreeMap<String, Line>,
    disagreements: Vec<Disagreement>,
}

/// Real notes have 3 to 8 KiB; a hostile one gets no further than this.
const MAX_TEXT: usize = 1 << 20;

impl VmcoreInfo {
    /// Parses the note's text; lines without `=` are skipped, and so are bytes from the first NUL on. Of a repeated key
    /// the first line counts: the kernel appends, it never corrects.
    #[must_use]
    pub fn parse(text: &[u8]) -> Self {
        Self::parse_of(text, Witness::Note)
    }

    /// The same for what another witness wrote.
    #[must_use]
    pub fn parse_of(text: &[u8], witness: Witness) -> Self {
        let text = &text[..text.len().min(MAX_TEXT)];
        let text = text.split(|byte| *byte == 0).next().unwrap_or(text);
        let mut lines = BTreeMap::new();
        for line in String::from_utf8_lossy(text).lines() {
            if let Some((key, value)) = line.split_once('=') {
                let line = || Line { text: value.trim().to_owned(), witness };
                lines.entry(key.trim().to_owned()).or_insert_with(line);
            }
        }
        Self { lines, disagreements: Vec::new() }
    }

    /// Adds what others say: for a key that is there already it counts only as a contradiction.
    pub fn add(&mut self, other: &Self) {
        for (key, line) in &other.lines {
            match self.lines.get(key) {
                None => _ = self.lines.insert(key.clone(), line.clone()),
                Some(known) if known.text == line.text || self.value(key) == other.value(key) => {}
                Some(known) => self.disagreements.push(Disagreement {
                    key: key.clone(),
                    believed: (known.witness, known.text.clone()),
                    other: (line.witness, line.text.clone()),
                }),
            }
        }
        self.disagreements.extend(other.disagreements.iter().cloned());
    }

    /// Who contradicted whom.
    #[must_use]
    pub fn disagreements(&self) -> &[Disagreement] {
        &self.disagreements
    }

    /// Who said a line.
    #[must_use]
    pub fn witness(&self, key: &str) -> Option<Witness> {
        self.lines.get(key).map(|line| line.witness)
    }

    /// Sets a key, whether it was there or not.
    pub fn set(&mut self, key: impl Into<String>, text: impl Into<String>, witness: Witness) {
        self.lines.insert(key.into(), Line { text: text.into(), witness });
    }

    /// Leaves out the lines that `keep` does not want.
    pub fn retain(&mut self, mut keep: impl FnMut(&str) -> bool) {
        self.lines.retain(|key, _| keep(key));
    }

    /// All keys, their texts and who said them, sorted by key.
    pub fn lines(&self) -> impl Iterator<Item = (&str, &str, Witness)> {
        self.lines.iter().map(|(key, line)| (key.as_str(), line.text.as_str(), line.witness))
    }

    /// The text of any key, for example `OSRELEASE` or `NUMBER(phys_base)`.
    #[must_use]
    pub fn text(&self, key: &str) -> Option<&str> {
        self.lines.get(key).map(|line| line.text.as_str())
    }

    /// The number of any key. `SYMBOL(...)` and `KERNELOFFSET` are hexadecimal without a prefix; everything else is decimal or,
    /// with `0x`, hexadecimal.
    #[must_use]
    pub fn value(&self, key: &str) -> Option<i64> {
        let text = self.text(key)?;
        let bare_hex = key.starts_with("SYMBOL(") || key == "KERNELOFFSET";
        match text.strip_prefix("0x") {
            Some(hex) => u64::from_str_radix(hex, 16).ok().map(u64::cast_signed),
            None if bare_hex => u64::from_str_radix(text, 16).ok().map(u64::cast_signed),
            None => text.parse().ok().or_else(|| text.parse().ok().map(u64::cast_signed)),
        }
    }

    /// `SYMBOL(name)`: a virtual address.
    #[must_use]
    pub fn symbol(&self, name: &str) -> Option<u64> {
        self.value(&format!("SYMBOL({name})")).map(i64::cast_unsigned)
    }

    /// `SIZE(name)`: bytes.
    #[must_use]
    pub fn size(&self, name: &str) -> Option<u64> {
        self.value(&format!("SIZE({name})")).and_then(|value| value.try_into().ok())
    }

    /// `OFFSET(name)`: bytes.
    #[must_use]
    pub fn offset(&self, name: &str) -> Option<u64> {
        self.value(&format!("OFFSET({name})")).and_then(|value| value.try_into().ok())
    }

    /// `LENGTH(name)`: elements.
    #[must_use]
    pub fn length(&self, name: &str) -> Option<u64> {
        self.value(&format!("LENGTH({name})")).and_then(|value| value.try_into().ok())
    }

    /// `NUMBER(name)`.
    #[must_use]
    pub fn number(&self, name: &str) -> Option<i64> {
        self.value(&format!("NUMBER({name})"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_kernels_spellings() {
        let info = VmcoreInfo::parse(
            b"OSRELEASE=6.12.1\nPAGESIZE=4096\nSYMBOL(prb)=ffffffff9a1b2c3d\nSIZE(page)=64\nNUMBER(phys_base)=-16777216\n\
              NUMBER(PAGE_BUDDY_MAPCOUNT_VALUE)=-268435456\nNUMBER(VMALLOC_START)=0xffffc90000000000\nKERNELOFFSET=1e000000\n\
              no equals sign\nOSRELEASE=second\n\0junk=1",
        );
        assert_eq!(info.text("OSRELEASE"), Some("6.12.1"));
        assert_eq!(info.symbol("prb"), Some(0xffff_ffff_9a1b_2c3d));
        assert_eq!(info.size("page"), Some(64));
        assert_eq!(info.number("phys_base"), Some(-16_777_216));
        assert_eq!(info.number("PAGE_BUDDY_MAPCOUNT_VALUE").map(|value| value as u32), Some(0xf000_0000));
        assert_eq!(info.number("VMALLOC_START"), Some(0xffff_c900_0000_0000_u64.cast_signed()));
        assert_eq!(info.value("KERNELOFFSET"), Some(0x1e00_0000));
        assert_eq!(info.text("junk"), None);
        assert_eq!(info.length("mem_section"), None);
    }

    #[test]
    fn the_first_witness_is_believed_and_the_others_are_heard() {
        let mut info = VmcoreInfo::parse(b"SIZE(page)=64\nNUMBER(x)=0x10\n");
        info.add(&VmcoreInfo::parse_of(b"SIZE(page)=56\nNUMBER(x)=16\nSIZE(zone)=8\n", Witness::Btf));
        assert_eq!((info.size("page"), info.size("zone")), (Some(64), Some(8)));
        assert_eq!(info.witness("SIZE(zone)"), Some(Witness::Btf));
        let said: Vec<_> = info.disagreements().iter().map(ToString::to_string).collect();
        assert_eq!(said, ["VMCOREINFO says SIZE(page)=64, but BTF says 56"]);
    }

    #[test]
    fn nonsense_is_absent() {
        let info = VmcoreInfo::parse(b"SIZE(page)=-5\nSYMBOL(x)=zz\nNUMBER(y)=\n");
        assert_eq!(info.size("page"), None);
        assert_eq!(info.symbol("x"), None);
        assert_eq!(info.number("y"), None);
    }
}
