//! Opening the input: which format is it, and do several files make one dump.
//!
//! Knows the first bytes of each format. Must not know what follows them. Makes the [`Source`] with the format's own file.

use std::{
    fs::{File, OpenOptions},
    io,
    os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use object::elf::{EM_NONE, Machine};

use super::{
    InputFormat, Layer, Notes, Opening, RamGiven, RamMap, Source, Truncated, elf,
    foreign::{self, RAW_MEMORY},
    kdump, layers, live, raw,
    store::{DeviceStore, FileStore, Store},
};
use crate::{
    arch,
    error::{Error, Kind, Result},
    format::elf::Class,
};

/// The class of an ELF core of this machine.
fn default_class(machine: Machine) -> Class {
    if arch::named(machine).is_some_and(|named| !named.is_wide) { Class::Elf32 } else { Class::Elf64 }
}

/// A file without the layers around the dump in it, and the dump's first bytes.
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
        Self::open_one(path, Opening::usual_limit())
    }

    fn open_one(path: &Path, limit: u64) -> Result<Self> {
        let opened = Opened::new(path, false, limit)?;
        match opened.magic.as_slice() {
            [0x7f, b'E', b'L', b'F', ..] => Self::from_elf(opened),
            magic if kdump::is_kdump(magic) => Self::from_kdump(vec![opened]),
            start => Err(unknown_format(path, start)),
        }
    }

    /// Opens what `opening` names: one dump, the parts of a split one in any order, or raw memory.
    ///
    /// # Errors
    /// As [`Source::open`]; the files are not all the parts of one dump; what is said about raw memory does not fit it.
    pub fn open_all(opening: &Opening) -> Result<Self> {
        match (&opening.ram, opening.paths.as_slice()) {
            (None, [path]) => Self::open_one(path, opening.limit),
            (None, paths) => Self::from_parts(paths, opening.limit),
            (Some(ram), [path]) => Self::from_raw(Opened::new(path, true, opening.limit)?, ram),
            (Some(_), _) => Err(Error::new(Kind::Usage, "cannot use several inputs as raw memory")
                .because("raw memory is one file, in which a byte's offset is its physical address")
                .next_step("put the parts together first, each at its address")),
        }
    }

    fn from_parts(paths: &[PathBuf], limit: u64) -> Result<Self> {
        let mut parts = Vec::with_capacity(paths.len());
        for path in paths {
            let opened = Opened::new(path, false, limit).map_err(|error| {
                // Whoever names several files where one was wanted made a mistake on the command line.
                if path.exists() { error } else { several(path, "No such file or directory") }
            })?;
            if foreign::known(&opened.magic).is_some() {
                return Err(unknown_format(path, &opened.magic));
            }
            if !kdump::is_kdump(&opened.magic) {
                return Err(several(path, "it is not a part of a split kdump-compressed dump"));
            }
            parts.push(opened);
        }
        Self::from_kdump(parts)
    }

    fn from_elf(opened: Opened) -> Result<Self> {
        let core = elf::parse(&opened.path, opened.store.as_ref())?;
        let size = opened.store.size();
        let mut whole = RamMap::from_loads(&core.loads);
        let running = live::look(&opened.file, core.notes.held(), &mut whole);
        // The size of /proc/kcore is that of the address space.
        let is_live = running.as_ref().is_some_and(|(_, live)| *live);
        let (ram, existing, truncated) = match core.cut(size) {
            None => (whole, None, None),
            Some(_) if is_live => (whole, None, None),
            Some((ram, _)) if core.end() > size && !ram.pieces().any(|piece| piece.offset.is_some()) => {
                return Err(nothing_left(&opened.path, size, core.end()));
            }
            Some((ram, existing)) => {
                let wanted = core.end();
                (ram, Some(existing), (wanted > size).then_some(Truncated { size, wanted }))
            }
        };
        let elf::Elf { class, machine, loads, notes, remarks: said, incomplete, .. } = core;
        let bare = Self::bare(opened, InputFormat::Elf, machine, ram, notes);
        let (given, remarks) = running.map(|(given, _)| (given.by, given.remarks)).unzip();
        let remarks = [remarks.unwrap_or_default(), said].concat();
        Ok(Self { class, loads, existing, truncated, incomplete, given, remarks, live: is_live, ..bare })
    }

    fn from_raw(opened: Opened, ram: &RamGiven) -> Result<Self> {
        raw::check_raw(&opened.path, &opened.magic)?;
        let raw::Raw { machine, loads, ram, notes, given, files } =
            raw::read(&opened.path, opened.store.as_ref(), ram)?;
        let mut bare = Self::bare(opened, InputFormat::Raw, machine, ram, notes);
        bare.opened.extend(files);
        Ok(Self { loads, given: Some(given.by), remarks: given.remarks, ..bare })
    }

    fn from_kdump(parts: Vec<Opened>) -> Result<Self> {
        let path = parts.first().map(|part| part.path.clone()).unwrap_or_default();
        let layers = parts.first().map(|part| part.layers.clone()).unwrap_or_default();
        let (mut files, mut opened) = (Vec::with_capacity(parts.len()), Vec::with_capacity(parts.len()));
        for part in parts {
            files.push(kdump::File { path: part.path, store: part.store.into() });
            opened.push(part.file);
        }
        let kdump::Kdump { machine, store, ram, existing, missing, notes, remarks, recorded } = kdump::open(files)?;
        let (incomplete, truncated, given) = (recorded.incomplete, None, None);
        let (existing, recorded) = (Some(existing), Some(recorded));
        let (format, loads) = (InputFormat::Kdump, Vec::new());
        Ok(Self {
            path,
            opened,
            store,
            format,
            layers,
            class: default_class(machine),
            machine,
            machine_unsaid: machine == EM_NONE,
            loads,
            ram,
            existing,
            notes,
            found: None,
            undecided: Vec::new(),
            recorded,
            truncated,
            missing,
            incomplete,
            given,
            remarks,
            live: false,
        })
    }

    /// A dump of which no more is known.
    fn bare(opened: Opened, format: InputFormat, machine: Machine, ram: RamMap, notes: Notes) -> Self {
        let Opened { path, file, store, layers, .. } = opened;
        Self {
            path,
            opened: vec![file],
            store,
            format,
            layers,
            class: default_class(machine),
            machine,
            machine_unsaid: machine == EM_NONE,
            loads: Vec::new(),
            ram,
            existing: None,
            notes,
            found: None,
            undecided: Vec::new(),
            recorded: None,
            truncated: None,
            missing: None,
            incomplete: false,
            given: None,
            remarks: Vec::new(),
            live: false,
        }
    }
}

impl Opened {
    /// Opens `path` and takes off what lies around a dump, or around memory if it is `raw`, within `limit` bytes of memory.
    fn new(path: &Path, raw: bool, limit: u64) -> Result<Self> {
        let Bytes { file, store, is_device } = Bytes::open(path, raw)?;
        if is_device {
            // A device has memory as it is. Its first page may be a hole.
            let magic = layers::start(path, store.as_ref()).unwrap_or_default();
            return Ok(Self { path: path.to_owned(), file, store, layers: Vec::new(), magic });
        }
        let (store, layers) = layers::open(path, store, raw, limit)?;
        let magic = layers::start(path, store.as_ref())?;
        Ok(Self { path: path.to_owned(), file, store, layers, magic })
    }
}

/// What a name leads to, whatever is in it.
struct Bytes {
    file: File,
    store: Box<dyn Store>,
    is_device: bool,
}

impl Bytes {
    /// Opens a regular file, or a device if it is to be read as `raw` memory.
    fn open(path: &Path, raw: bool) -> Result<Self> {
        // Without O_NONBLOCK opening a FIFO waits for a writer that may never come.
        let nonblocking = rustix::fs::OFlags::NONBLOCK.bits() as i32;
        let file = OpenOptions::new().read(true).custom_flags(nonblocking).open(path);
        let file = file.map_err(|error| open_error(path, &error))?;
        let kind = file.metadata().map_err(|error| Error::io(path, "inspect", &error))?.file_type();
        let cannot = || Error::input(format!("cannot read {}", path.display()));
        if kind.is_dir() {
            return Err(cannot().because("it is a directory").next_step("name the dump file in it, usually 'vmcore'"));
        }
        let is_device = kind.is_char_device() || kind.is_block_device();
        if !(kind.is_file() || raw && is_device) {
            let refused = cannot().because("it is a device, a pipe or a socket, and pages must be read in any order");
            return Err(if is_device {
                refused.next_step(format!("write the dump to a file and give that; {RAW_MEMORY}"))
            } else {
                refused.next_step("write the dump to a file and give that")
            });
        }
        let opening = |error: io::Error| Error::io(path, "open", &error);
        let copy = file.try_clone().map_err(opening)?;
        let store: Box<dyn Store> = if is_device {
            Box::new(DeviceStore::new(copy, kind.is_block_device()).map_err(opening)?)
        } else {
            Box::new(FileStore::new(copy).map_err(opening)?)
        };
        if store.size() == 0 {
            return Err(cannot()
                .because("the file is empty")
                .next_step("the dump was never written; look for a file whose name ends in -incomplete"));
        }
        Ok(Self { file, store, is_device })
    }
}

/// Opens the regular file at `path`, whatever is in it.
///
/// # Errors
/// It cannot be opened, is empty, or is no regular file.
pub(crate) fn open_file(path: &Path) -> Result<Box<dyn Store>> {
    Bytes::open(path, false).map(|bytes| bytes.store)
}

/// Whether `path` is one part of a split dump, by its header; `false` also for what is no dump or not there.
#[must_use]
pub fn is_part(path: &Path) -> bool {
    let opened = Opened::new(path, false, Opening::usual_limit()).ok().filter(|opened| kdump::is_kdump(&opened.magic));
    opened.is_some_and(|opened| kdump::is_part(path, opened.store))
}

fn open_error(path: &Path, error: &io::Error) -> Error {
    let base = Error::io(path, "open", error);
    match error.kind() {
        io::ErrorKind::NotFound if path == Path::new("/proc/vmcore") => {
            base.next_step("it exists only in a capture kernel, booted by kexec after a crash")
        }
        io::ErrorKind::NotFound => base.or_next_step("check the path"),
        io::ErrorKind::PermissionDenied if path == Path::new("/proc/kcore") => {
            base.next_step("run as root with CAP_SYS_RAWIO; a kernel that is locked down shows its memory to nobody")
        }
        io::ErrorKind::PermissionDenied => base.next_step("run as root, or as the dump's owner"),
        _ => base,
    }
}

fn several(path: &Path, cause: &str) -> Error {
    Error::new(Kind::Usage, format!("cannot use {} as one of several inputs", path.display()))
        .because(cause)
        .next_step("several inputs are the parts of one split dump: name each of them once")
}

fn nothing_left(path: &Path, size: u64, wanted: u64) -> Error {
    Error::input(format!("cannot use {}", path.display()))
        .because(format!("its segments reach to byte {wanted}, but it has {size} bytes and no whole page of memory"))
        .next_step("the copy was truncated: copy the dump again")
}

/// What is said of a file that is no dump, by its first bytes.
pub(crate) fn unknown_format(path: &Path, start: &[u8]) -> Error {
    let cannot = Error::input(format!("cannot read {}", path.display()));
    if let Some(foreign) = foreign::known(start) {
        return cannot.because(format!("it is {}", foreign.name)).next_step(foreign.way_out);
    }
    cannot
        .because(
            "it is neither an ELF core nor a kdump-compressed dump, nor one that is flattened or inside zstd or lz4",
        )
        .next_step(format!("give /proc/vmcore, or a file copied or made from it; {RAW_MEMORY}"))
}
