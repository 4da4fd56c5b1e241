//! The VMCOREINFO note: lines of text in which a kernel describes itself.
//!
//! Knows its syntax (Documentation/admin-guide/kdump/vmcoreinfo.rst). Must not know what a key is good for. Used by the
//! rest of `layout` and by `klog`.

use std::collections::BTreeMap;

/// The parsed note.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct VmcoreInfo {
    lines: BTreeMap<String, String>,
}

/// Real notes have 3 to 8 KiB; a hostile one gets no further than this.
const MAX_TEXT: usize = 1 << 20;

impl VmcoreInfo {
    /// Parses the note's text; lines without `=` are skipped, and so are bytes from the first NUL on. Of a repeated key
    /// the first line counts: the kernel appends, it never corrects.
    #[must_use]
    pub fn parse(text: &[u8]) -> Self {
        let text = &text[..text.len().min(MAX_TEXT)];
        let text = text.split(|byte| *byte == 0).next().unwrap_or(text);
        let mut lines = BTreeMap::new();
        for line in String::from_utf8_lossy(text).lines() {
            if let Some((key, value)) = line.split_once('=') {
                lines.entry(key.trim().to_owned()).or_insert_with(|| value.trim().to_owned());
            }
        }
        Self { lines }
    }

    /// Sets a key, whether it was there or not.
    pub fn set(&mut self, key: impl Into<String>, text: impl Into<String>) {
        self.lines.insert(key.into(), text.into());
    }

    /// All keys and their texts, sorted by key.
    pub fn lines(&self) -> impl Iterator<Item = (&str, &str)> {
        self.lines.iter().map(|(key, text)| (key.as_str(), text.as_str()))
    }

    /// The text of any key, for example `OSRELEASE` or `NUMBER(phys_base)`.
    #[must_use]
    pub fn text(&self, key: &str) -> Option<&str> {
        self.lines.get(key).map(String::as_str)
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
    fn nonsense_is_absent() {
        let info = VmcoreInfo::parse(b"SIZE(page)=-5\nSYMBOL(x)=zz\nNUMBER(y)=\n");
        assert_eq!(info.size("page"), None);
        assert_eq!(info.symbol("x"), None);
        assert_eq!(info.number("y"), None);
    }
}
