//! Opening the input: which format is it, and do several files make one dump.
//!
//! Knows the first bytes of each format. Must not know what follows them. Makes the [`Source`] with the format's own file.

use std::{
    fs::{File, OpenOptions},
    io,
    os::unix::fs::{FileExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use super::{
    InputFormat, Layer, RamMap, Source, elf, kdump, layers,
    store::{FileStore, Store},
};
use crate::error::{Error, Kind, Result};

/// A regular file without the layers around the dump in it, and the dump's first bytes.
struct Opened {
    path: PathBuf,
    file: File,
    store: Box<dyn Store>,
    layers: Vec<Layer>,
    magic: Vec<u8>,
}

impl Source {
    /// Opens `path`, finding its format by content.
    ///
    /// # Errors
    /// The file cannot be opened, is not a dump, is damaged, or is of a kind that is not read.
    pub fn open(path: &Path) -> Result<Self> {
        let opened = Opened::new(path)?;
        match opened.magic.as_slice() {
            [0x7f, b'E', b'L', b'F', ..] => Self::from_elf(opened),
            magic if kdump::is_kdump(magic) => Self::from_kdump(vec![opened]),
            _ => Err(unknown_format(path)),
        }
    }

    /// Opens the dump that lies in all of `paths`: one file, or the parts of a split dump in any order.
    ///
    /// # Errors
    /// As [`Source::open`], or the files are not all the parts of one dump.
    pub fn open_all(paths: &[PathBuf]) -> Result<Self> {
        if let [path] = paths {
            return Self::open(path);
        }
        let mut parts = Vec::with_capacity(paths.len());
        for path in paths {
            let opened = Opened::new(path).map_err(|error| {
                // Whoever names several files where one was wanted made a mistake on the command line.
                if path.exists() { error } else { several(path, "No such file or directory") }
            })?;
            if !kdump::is_kdump(&opened.magic) {
                return Err(several(path, "it is not a part of a split kdump-compressed dump"));
            }
            parts.push(opened);
        }
        Self::from_kdump(parts)
    }

    fn from_elf(opened: Opened) -> Result<Self> {
        let Opened { path, file, store, layers, .. } = opened;
        let elf::Elf { machine, loads, notes } = elf::parse(&path, store.as_ref())?;
        let ram = RamMap::from_loads(&loads);
        let (existing, recorded, format) = (None, None, InputFormat::Elf);
        Ok(Self { path, opened: vec![file], store, format, layers, machine, loads, ram, existing, notes, recorded })
    }

    fn from_kdump(parts: Vec<Opened>) -> Result<Self> {
        let path = parts.first().map(|part| part.path.clone()).unwrap_or_default();
        let layers = parts.first().map(|part| part.layers.clone()).unwrap_or_default();
        let (mut files, mut opened) = (Vec::with_capacity(parts.len()), Vec::with_capacity(parts.len()));
        for part in parts {
            files.push(kdump::File { path: part.path, store: part.store });
            opened.push(part.file);
        }
        let kdump::Kdump { machine, store, ram, existing, notes, recorded } = kdump::open(files)?;
        let (existing, recorded) = (Some(existing), Some(recorded));
        let (format, loads) = (InputFormat::Kdump, Vec::new());
        Ok(Self { path, opened, store, format, layers, machine, loads, ram, existing, notes, recorded })
    }
}

impl Opened {
    fn new(path: &Path) -> Result<Self> {
        let (file, store) = open_file(path)?;
        let (store, layers) = layers::open(path, Box::new(store))?;
        let magic = layers::start(path, store.as_ref())?;
        Ok(Self { path: path.to_owned(), file, store, layers, magic })
    }
}

/// Opens the regular file at `path`, whatever is in it.
///
/// # Errors
/// It cannot be opened, is empty, or is no regular file.
pub(crate) fn open_file(path: &Path) -> Result<(File, FileStore)> {
    // Without O_NONBLOCK opening a FIFO waits for a writer that may never come.
    let nonblocking = rustix::fs::OFlags::NONBLOCK.bits() as i32;
    let file = OpenOptions::new().read(true).custom_flags(nonblocking).open(path);
    let file = file.map_err(|error| open_error(path, &error))?;
    let meta = file.metadata().map_err(|error| Error::io(path, "inspect", &error))?;
    let cannot = || Error::input(format!("cannot read {}", path.display()));
    if meta.is_dir() {
        return Err(cannot().because("it is a directory").next_step("name the dump file in it, usually 'vmcore'"));
    }
    if !meta.is_file() {
        return Err(cannot()
            .because("it is a device, a pipe or a socket, and pages must be read in any order")
            .next_step("write the dump to a file and give that"));
    }
    let opening = |error: io::Error| Error::io(path, "open", &error);
    let store = FileStore::new(file.try_clone().map_err(opening)?).map_err(opening)?;
    if store.size() == 0 {
        return Err(cannot()
            .because("the file is empty")
            .next_step("the dump was never written; look for a file whose name ends in -incomplete"));
    }
    Ok((file, store))
}

/// Whether `path` is one part of a split dump, by its header; `false` also for what is no dump or not there.
#[must_use]
pub fn is_part(path: &Path) -> bool {
    let opened = Opened::new(path).ok().filter(|opened| kdump::is_kdump(&opened.magic));
    opened.is_some_and(|opened| kdump::is_part(path, opened.store))
}

/// Reads until `buf` is full or the file ends; returns how many bytes there were.
pub(super) fn read_some_at(file: &File, buf: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut got = 0;
    while got < buf.len() {
        match file.read_at(&mut buf[got..], offset + got as u64) {
            Ok(0) => break,
            Ok(more) => got += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(got)
}

fn open_error(path: &Path, error: &io::Error) -> Error {
    let base = Error::io(path, "open", error);
    match error.kind() {
        io::ErrorKind::NotFound if path == Path::new("/proc/vmcore") => {
            base.next_step("it exists only in a capture kernel, booted by kexec after a crash")
        }
        io::ErrorKind::NotFound => base.next_step("check the path"),
        io::ErrorKind::PermissionDenied => base.next_step("run as root, or as the dump's owner"),
        _ => base,
    }
}

fn several(path: &Path, cause: &str) -> Error {
    Error::new(Kind::Usage, format!("cannot use {} as one of several inputs", path.display()))
        .because(cause)
        .next_step("several inputs are the parts of one split dump: name each of them once")
}

/// What a file is told that is no dump.
pub(crate) fn unknown_format(path: &Path) -> Error {
    Error::input(format!("cannot read {}", path.display()))
        .because(
            "it is neither an ELF core nor a kdump-compressed dump, nor one that is flattened or inside zstd or lz4",
        )
        .next_step("give /proc/vmcore, or a file copied or made from it")
}
