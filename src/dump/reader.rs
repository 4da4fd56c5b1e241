//! Reading memory, physical and virtual, with errors that say what became of a page.

use super::{Dump, Error, ErrorKind};
use crate::{
    memory::{VirtReader, WalkError},
    source::{Cause, MAX_READ, PageReader, ReadError},
};

/// Reads the memory of a [`Dump`], for one thread.
///
/// A page that the dump does not have is an error and never zeros; it is zeros where the dump says so. A read takes about a MiB of
/// memory however long it is. After an error the buffer may be filled in part.
#[derive(Debug)]
pub struct Reader<'a> {
    dump: &'a Dump,
    pages: PageReader<'a>,
    /// Made when the first virtual address is read.
    virt: Option<VirtReader<'a>>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(dump: &'a Dump) -> Self {
        Self { dump, pages: dump.source.reader(), virt: None }
    }

    /// Fills `buf` from a physical address.
    ///
    /// # Errors
    /// [`ErrorKind::NotInDump`], [`ErrorKind::Excluded`], [`ErrorKind::Lost`], [`ErrorKind::Damaged`] or [`ErrorKind::Io`], with the
    /// first address that could not be read.
    pub fn read_physical(&mut self, address: u64, buf: &mut [u8]) -> Result<(), Error> {
        let len = buf.len();
        self.physical(address, buf).map_err(|error| {
            error.explaining(self.of_dump(&format!("cannot read {len} bytes at physical address {address:#x}")))
        })
    }

    /// Fills `buf` from a virtual address of the kernel, by the kernel's own page tables.
    ///
    /// # Errors
    /// As [`Reader::read_physical`]; also [`ErrorKind::NotMapped`], [`ErrorKind::Damaged`] page tables, [`ErrorKind::UnknownKernel`]
    /// and [`ErrorKind::Unsupported`].
    pub fn read_virtual(&mut self, address: u64, buf: &mut [u8]) -> Result<(), Error> {
        let all = buf.len();
        let mut done = 0;
        while done < all {
            let at = address.wrapping_add(done as u64);
            let failed = |this: &Self, error: Error| {
                let what = format!("cannot read {all} bytes at virtual address {address:#x}");
                error.explaining(this.of_dump(&what)).at(at)
            };
            let (paddr, len) = self.translated(at).map_err(|error| failed(self, error))?;
            let len = usize::try_from(len).unwrap_or(usize::MAX).min(all - done);
            if let Err(error) = self.physical(paddr, &mut buf[done..done + len]) {
                let within = error.address().unwrap_or(paddr).saturating_sub(paddr);
                return Err(failed(self, error).at(at.wrapping_add(within)));
            }
            done += len;
        }
        Ok(())
    }

    /// Fills `buf`, which has [`Dump::page_size`] bytes, from a page frame.
    ///
    /// # Errors
    /// As [`Reader::read_physical`]; [`ErrorKind::InvalidArgument`] if `buf` has another size.
    pub fn page(&mut self, pfn: u64, buf: &mut [u8]) -> Result<(), Error> {
        let what = |this: &Self| this.of_dump(&format!("cannot read page frame {pfn:#x}"));
        let size = self.dump.page_size();
        if buf.len() != size {
            let cause = format!("the buffer has {} bytes, and a page {size}", buf.len());
            return Err(Error::new(ErrorKind::InvalidArgument, what(self), cause));
        }
        match pfn.checked_mul(size as u64) {
            Some(paddr) => self.physical(paddr, buf).map_err(|error| error.explaining(what(self))),
            None => Err(Error::new(ErrorKind::NotInDump, what(self), "there is no such address")),
        }
    }

    /// The physical address that the kernel's page tables give a virtual one.
    ///
    /// # Errors
    /// As [`Reader::read_virtual`], but for what lies there.
    pub fn translate(&mut self, address: u64) -> Result<u64, Error> {
        let translated = self.translated(address);
        translated.map(|(paddr, _)| paddr).map_err(|error| {
            error.explaining(self.of_dump(&format!("cannot translate virtual address {address:#x}"))).at(address)
        })
    }

    /// The physical address of a virtual one, and how many bytes are mapped there together.
    fn translated(&mut self, vaddr: u64) -> Result<(u64, u64), Error> {
        let space = self.dump.space.as_ref().map_err(Clone::clone)?;
        let virt = self.virt.get_or_insert_with(|| VirtReader::new(&self.dump.source, space));
        let unused = 64 - space.address_bits().clamp(1, 64);
        if (vaddr << unused).cast_signed() >> unused != vaddr.cast_signed() {
            return Err(Error::new(ErrorKind::NotMapped, "", "no virtual address has these bits"));
        }
        virt.translate(vaddr).map(|mapping| (mapping.paddr, mapping.len.max(1))).map_err(|error| match &error {
            WalkError::NotMapped(_) => Error::new(ErrorKind::NotMapped, "", error),
            WalkError::Broken(..) => Error::new(ErrorKind::Damaged, "", error),
            WalkError::Read(read) => {
                let why = self.dump.why(read);
                Error::new(why.kind(), "", format!("page table: {}", why.cause()))
            }
        })
    }

    /// Fills `buf` from a physical address. The error has no more than a cause.
    fn physical(&mut self, address: u64, buf: &mut [u8]) -> Result<(), Error> {
        let page = self.dump.page_size();
        let (mut done, mut most) = (0, MAX_READ);
        while done < buf.len() {
            let at = address.checked_add(done as u64).ok_or_else(|| self.dump.why(&ReadError::Absent(u64::MAX)))?;
            let to_border = most - (at % most as u64) as usize;
            let part = &mut buf[done..];
            let len = part.len().min(to_border);
            match self.pages.read_whole(at, len) {
                Ok(bytes) => part[..len].copy_from_slice(bytes),
                // One of many pages: which one?
                Err(_) if len > page => {
                    most = page;
                    continue;
                }
                Err(error) => return Err(self.dump.why(&error)),
            }
            done += len;
        }
        Ok(())
    }

    fn of_dump(&self, what: &str) -> String {
        format!("{what} of {}", self.dump.source.path().display())
    }
}

impl Dump {
    /// What a failed read means to whoever uses the dump.
    pub(super) fn why(&self, error: &ReadError) -> Error {
        match error {
            ReadError::Absent(at) => self.why_absent(*at).at(*at),
            ReadError::Truncated(at) => Error::new(ErrorKind::Lost, "", error).at(*at),
            ReadError::Failed(at, failure) => {
                let kind = match failure.cause {
                    Cause::System => ErrorKind::Io,
                    Cause::Damaged => ErrorKind::Damaged,
                    Cause::Lost => ErrorKind::Lost,
                };
                Error::new(kind, "", error).at(*at)
            }
        }
    }

    /// Why the dump does not have an address.
    fn why_absent(&self, paddr: u64) -> Error {
        let pfn = paddr >> self.page_shift;
        let source = &self.source;
        let exists = source.existing().overlapping(paddr, paddr.saturating_add(1)).next().is_some();
        let in_missing_part =
            || source.missing_parts().is_some_and(|missing| missing.frames.iter().any(|frames| frames.contains(pfn)));
        if !exists {
            let cause = format!("the dump knows of no memory at physical address {paddr:#x}");
            return Error::new(ErrorKind::NotInDump, "", cause);
        }
        if in_missing_part() {
            let cause = format!("page frame {pfn:#x} is in a part of the split set that is not there");
            return Error::new(ErrorKind::Lost, "", cause);
        }
        match source.recorded() {
            Some(_) => {
                Error::new(ErrorKind::Excluded, "", format!("page frame {pfn:#x} was excluded when the dump was made"))
            }
            None => {
                Error::new(ErrorKind::Lost, "", format!("page frame {pfn:#x} was lost: the dump ends before its data"))
            }
        }
    }
}
