//! VMCOREINFO as other programs see it.

use crate::layout::VmcoreInfo;

/// What the kernel says about itself, line by line (Documentation/admin-guide/kdump/vmcoreinfo.rst), with what a vmlinux said that
/// was named besides.
#[derive(Clone, Copy, Debug)]
pub struct Vmcoreinfo<'a> {
    info: &'a VmcoreInfo,
    note: &'a [u8],
}

impl<'a> Vmcoreinfo<'a> {
    pub(super) fn new(info: &'a VmcoreInfo, note: &'a [u8]) -> Self {
        Self { info, note }
    }

    /// The note's text, byte for byte.
    #[must_use]
    pub fn as_bytes(&self) -> &'a [u8] {
        self.note
    }

    /// All keys and their values, sorted by key.
    pub fn lines(&self) -> impl Iterator<Item = (&'a str, &'a str)> + use<'a> {
        self.info.lines().map(|(key, value, _)| (key, value))
    }

    /// The value of any key as text, for example of `OSRELEASE` or `NUMBER(phys_base)`.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&'a str> {
        self.info.text(key)
    }

    /// `SYMBOL(name)`: a virtual address.
    #[must_use]
    pub fn symbol(&self, name: &str) -> Option<u64> {
        self.info.symbol(name)
    }

    /// `NUMBER(name)`.
    #[must_use]
    pub fn number(&self, name: &str) -> Option<i64> {
        self.info.number(name)
    }

    /// `SIZE(name)`: bytes.
    #[must_use]
    pub fn size(&self, name: &str) -> Option<u64> {
        self.info.size(name)
    }

    /// `OFFSET(name)`: bytes.
    #[must_use]
    pub fn offset(&self, name: &str) -> Option<u64> {
        self.info.offset(name)
    }

    /// `LENGTH(name)`: elements.
    #[must_use]
    pub fn length(&self, name: &str) -> Option<u64> {
        self.info.length(name)
    }
}
