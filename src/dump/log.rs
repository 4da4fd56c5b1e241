//! The kernel's log and its symbols: what is found by following the kernel's own structures.

use std::{
    cell::RefCell,
    fmt,
    io::{self, Write},
};

use super::{Dump, Error, ErrorKind, Reader};
use crate::{
    arch::Words,
    kernel::{Kallsyms, KallsymsError},
    klog::{self, CallerColumn, KernelLog, KlogError, Loss, Record},
    layout::VmcoreInfo,
    memory::{ReadVirt, ReadVirtError},
};

/// The kernel's log, oldest message first. Prints as `dmesg` does, with bytes that are not printable escaped.
#[derive(Clone, Debug)]
pub struct Log {
    log: KernelLog,
}

impl Log {
    /// The messages.
    #[must_use]
    pub fn records(&self) -> &[Record] {
        &self.log.records
    }

    /// How many records are not there, or not as they were, by reason. [`Loss::is_damage`] tells damage from what happens in every
    /// log that is full.
    pub fn losses(&self) -> impl Iterator<Item = (Loss, u64)> + '_ {
        self.log.losses.iter().map(|(loss, count)| (*loss, *count))
    }

    /// Writes the log as `dmesg` prints it, with a column for who printed.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn write(&self, callers: CallerColumn, out: &mut impl Write) -> io::Result<()> {
        klog::write_dmesg(&self.log, callers, out)
    }
}

impl fmt::Display for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        /// What is written is ASCII.
        struct Text<'a, 'b>(&'a mut fmt::Formatter<'b>);
        impl Write for Text<'_, '_> {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                self.0.write_str(&String::from_utf8_lossy(bytes)).map_err(io::Error::other)?;
                Ok(bytes.len())
            }

            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        self.write(CallerColumn::default(), &mut Text(f)).map_err(|_| fmt::Error)
    }
}

pub(super) fn read(dump: &Dump) -> Result<Log, Error> {
    let what = format!("cannot find the kernel log in {}", dump.source.path().display());
    let (info, words) = info(dump, &what)?;
    let memory = Memory::of(dump, words);
    match klog::read_log(info, &memory) {
        Ok(log) => Ok(Log { log }),
        Err(error @ KlogError::Read { .. }) => Err(memory.blame(what, &error)),
        Err(error @ KlogError::Control { .. }) => Err(Error::new(ErrorKind::Damaged, what, error)),
        Err(error) => Err(Error::new(ErrorKind::UnknownKernel, what, error)),
    }
}

pub(super) fn symbol(dump: &Dump, name: &str) -> Result<Option<u64>, Error> {
    let what = format!("cannot look up symbols in {}", dump.source.path().display());
    let (info, words) = info(dump, &what)?;
    if let Some(address) = info.symbol(name) {
        return Ok(Some(address));
    }
    let memory = Memory::of(dump, words);
    let found = Kallsyms::load(info, &memory).and_then(|symbols| symbols.lookup_one(&[name]));
    match found {
        Ok(found) => Ok(found.first().copied().flatten()),
        Err(error @ KallsymsError::Missing { .. }) => Err(Error::new(ErrorKind::UnknownKernel, what, error)),
        Err(error) => Err(memory.blame(what, &error)),
    }
}

/// What is known of the kernel, if its virtual addresses can be read.
fn info<'a>(dump: &'a Dump, what: &str) -> Result<(&'a VmcoreInfo, Words), Error> {
    let space = dump.space.as_ref().map_err(|error| error.clone().explaining(what))?;
    let info = dump.info.as_ref();
    info.map(|info| (info, space.words())).ok_or_else(|| Error::no_vmcoreinfo(&dump.source).explaining(what))
}

/// The kernel's memory, which remembers why it could not be read.
struct Memory<'a> {
    words: Words,
    reader: RefCell<Reader<'a>>,
    failed: RefCell<Option<Error>>,
}

impl<'a> Memory<'a> {
    fn of(dump: &'a Dump, words: Words) -> Self {
        Self { words, reader: RefCell::new(dump.reader()), failed: RefCell::default() }
    }

    /// The error of something that failed, perhaps because memory could not be read.
    fn blame(&self, what: String, error: &dyn fmt::Display) -> Error {
        let last = self.failed.borrow();
        let blamed = Error::new(last.as_ref().map_or(ErrorKind::Damaged, Error::kind), what, error);
        last.as_ref().and_then(Error::address).map_or(blamed.clone(), |at| blamed.at(at))
    }
}

impl ReadVirt for Memory<'_> {
    fn words(&self) -> Words {
        self.words
    }

    fn read_virt(&self, vaddr: u64, buf: &mut [u8]) -> Result<(), ReadVirtError> {
        self.reader.borrow_mut().read_virtual(vaddr, buf).map_err(|error| {
            let cause = error.cause().to_owned();
            *self.failed.borrow_mut() = Some(error);
            ReadVirtError::Unreadable { vaddr, cause }
        })
    }
}
