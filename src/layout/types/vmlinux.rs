//! A kernel's `vmlinux`, or the file with its debug information.
//!
//! Knows sections, symbols and the build ID, and reads DWARF unit after unit: nothing is held that is not asked for. Must
//! not know dumps. Gives [`Types`] and addresses.

use std::{
    collections::BTreeMap,
    ffi::{OsStr, OsString},
    fs::File,
    io::{self, Read, Take},
    os::unix::{ffi::OsStrExt as _, fs::FileExt as _},
    path::{Path, PathBuf},
    sync::Mutex,
};

use object::{
    Object as _, ObjectSection as _, ReadCache,
    elf::{
        ELFCOMPRESS_ZLIB, ELFCOMPRESS_ZSTD, FileHeader64, Machine, SHF_COMPRESSED, SHN_UNDEF, STB_LOCAL, STT_FUNC,
        STT_NOTYPE, STT_OBJECT, Sym64,
    },
    endian::LittleEndian,
    read::elf::ElfFile,
};

use super::{
    Btf, Types, Wanted,
    dwarf::{DwarfError, Sections, unit_types},
};
use crate::{
    error::{Error, Kind, Result},
    report::human_bytes,
    sys::file,
};

/// The largest unit believed, bytes; with link-time optimisation the whole kernel is in one of some hundred megabytes.
const MAX_UNIT: u64 = 1 << 30;
/// The largest of the sections that are held whole, bytes; Debian's have 1 to 6 million.
const MAX_HELD: u64 = 256 << 20;
/// `Elf64_Sym`
const SYMBOL: usize = size_of::<Sym64<LittleEndian>>();
/// Larger units are not handed on: then at most one is in memory, besides so many small ones.
const LARGE_UNIT: usize = 16 << 20;
/// Units on their way to a worker.
const WAITING: usize = 4;
/// What a file is read through, bytes, and what the decompressor of a section takes.
const BUFFER: u64 = 1 << 20;
const DECOMPRESSOR: u64 = 9 << 20;
/// Code, stacks and the C library, as in `plan`'s budget.
const BASE: u64 = 4 << 20;
/// What a thread takes besides units: parsed abbreviations, and the types that it has found. Debian's 6.12 takes half.
const WORKER: u64 = 1 << 20;
/// Least room for units, for each that is on its way or being read; the largest of Debian's 6.12 has 0.7 million bytes.
const UNIT: u64 = 256 << 10;

type Elf<'a> = ElfFile<'a, FileHeader64<LittleEndian>, &'a ReadCache<File>>;

/// One section's place in the file.
#[derive(Clone, Copy, Debug)]
struct Section {
    address: u64,
    offset: u64,
    size: u64,
    compressed: bool,
}

/// An opened vmlinux.
#[derive(Debug)]
pub struct Vmlinux {
    path: PathBuf,
    file: File,
    sections: BTreeMap<String, Section>,
    machine: Machine,
    build_id: Option<Vec<u8>>,
    /// The name that `.gnu_debuglink` gives.
    debug_link: Option<OsString>,
    /// How much memory reading it may take, bytes.
    limit: u64,
}

/// Where distributions put debug information.
const DEBUG_ROOT: &str = "/usr/lib/debug";
/// The longest text that a symbol stands for, bytes.
const MAX_TEXT: u64 = 4096;

impl Vmlinux {
    /// Opens `path` and finds its sections. To read them may take `limit` bytes of memory.
    ///
    /// # Errors
    /// It cannot be read or is not a 64-bit little-endian ELF file.
    pub fn open(path: &Path, limit: u64) -> Result<Self> {
        let opened = file::open_regular(path).and_then(|file| Ok((file.try_clone()?, file)));
        let (file, cached) = opened.map_err(|error| Error::io(path, "open", &error).or_next_step("check the path"))?;
        let cache = ReadCache::new(cached);
        let elf = Elf::parse(&cache).map_err(|_| not_a_vmlinux(path, "it is not a 64-bit ELF file"))?;
        let mut sections = BTreeMap::new();
        for section in elf.sections() {
            let header = section.elf_section_header();
            let (Ok(name), Some((offset, size))) = (section.name(), section.file_range()) else { continue };
            let compressed = header.sh_flags.get(LittleEndian).0 & SHF_COMPRESSED.0 != 0;
            sections.insert(name.to_owned(), Section { address: section.address(), offset, size, compressed });
        }
        let build_id = elf.build_id().ok().flatten().map(<[u8]>::to_vec);
        let debug_link = elf.gnu_debuglink().ok().flatten().map(|(name, _)| OsStr::from_bytes(name).to_owned());
        let machine = elf.elf_header().e_machine.get(LittleEndian);
        Ok(Self { path: path.to_owned(), file, sections, machine, build_id, debug_link, limit })
    }

    /// Makes sure that memory does for all that can be asked of it, one thing after the other.
    ///
    /// # Errors
    /// It does not; says how much it would take.
    pub fn check_memory(&self) -> Result<()> {
        let types = if self.has_dwarf() { self.for_dwarf(1) } else { 0 };
        let [symbols, btf] = [&[".symtab", ".strtab"][..], &[".BTF", ".BTF"]].map(|names| self.sizes(names));
        self.room(types.max(symbols).max(btf)).map(|_| ())
    }

    /// Bytes of memory that so many threads take to read its DWARF.
    fn for_dwarf(&self, threads: u64) -> u64 {
        let held = self.sizes(&[".debug_abbrev", ".debug_str", ".debug_line_str", ".debug_str_offsets"]);
        let stream = BUFFER + if self.is_compressed(".debug_info") { DECOMPRESSOR } else { 0 };
        held + stream + threads * WORKER + 2 * (WAITING as u64 + threads) * UNIT
    }

    /// The file with its debug information, where distributions and debuggers put it: by build ID, else by the name that it
    /// gives itself. It must have DWARF, and the same build ID.
    #[must_use]
    pub fn debug_file(&self) -> Option<Self> {
        let folder = self.path.parent()?;
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let by_id = self.build_id.as_deref().and_then(<[u8]>::split_first).map(|(first, rest)| {
            Path::new(DEBUG_ROOT).join(".build-id").join(hex(&[*first])).join(hex(rest)).with_extension("debug")
        });
        let by_name = self.debug_link.iter().flat_map(|name| {
            let below = folder.strip_prefix("/").unwrap_or(folder);
            [folder.join(name), folder.join(".debug").join(name), Path::new(DEBUG_ROOT).join(below).join(name)]
        });
        let is_ours = |found: &Self| found.has_dwarf() && (found.build_id.is_none() || found.build_id == self.build_id);
        by_id.into_iter().chain(by_name).filter_map(|path| Self::open(&path, self.limit).ok()).find(is_ours)
    }

    /// The text that starts at a symbol, up to its NUL.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn text(&self, symbol: &str) -> Result<Option<String>> {
        let Some(address) = self.symbols(&[symbol])?.get(symbol).copied() else { return Ok(None) };
        let holds = |section: &&Section| {
            section.address != 0 && address.checked_sub(section.address).is_some_and(|at| at < section.size)
        };
        let Some(section) = self.sections.values().find(holds).filter(|section| !section.compressed) else {
            return Ok(None);
        };
        let within = address - section.address;
        let mut bytes = vec![0; MAX_TEXT.min(section.size - within) as usize];
        let read = self.file.read_exact_at(&mut bytes, section.offset.saturating_add(within));
        read.map_err(|error| self.unreadable(symbol, &error))?;
        bytes.truncate(bytes.iter().position(|byte| *byte == 0).unwrap_or(0));
        Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
    }

    /// The build ID that the linker gave it.
    #[must_use]
    pub fn build_id(&self) -> Option<&[u8]> {
        self.build_id.as_deref()
    }

    /// The machine that it is a kernel for.
    #[must_use]
    pub fn machine(&self) -> Machine {
        self.machine
    }

    /// Whether it has debug information.
    #[must_use]
    pub fn has_dwarf(&self) -> bool {
        self.section(".debug_info").is_some_and(|(section, _)| section.size > 0)
    }

    /// Its BTF, if it has any.
    ///
    /// # Errors
    /// The section cannot be read, or memory does not do for it and the list of its types.
    pub fn btf(&self) -> Result<Option<Vec<u8>>> {
        self.room(2 * self.sizes(&[".BTF"]))?;
        if self.sections.contains_key(".BTF") { self.held(".BTF").map(Some) } else { Ok(None) }
    }

    /// The link addresses of `names`; what is not there is left out, and so is what several files of the kernel have a variable
    /// of their own for, unless one of them is the kernel's.
    ///
    /// # Errors
    /// The symbol table cannot be read, or memory does not do for it.
    pub fn symbols(&self, names: &[&str]) -> Result<BTreeMap<String, u64>> {
        self.room(self.sizes(&[".symtab", ".strtab"]))?;
        let (table, strings) = (self.held(".symtab")?, self.held(".strtab")?);
        let mut found: BTreeMap<String, (bool, Option<u64>)> = BTreeMap::new();
        let (symbols, _) = object::pod::slice_from_bytes::<Sym64<LittleEndian>>(&table, table.len() / SYMBOL)
            .map_err(|()| not_a_vmlinux(&self.path, "its symbol table cannot be read"))?;
        for symbol in symbols {
            let name = strings.get(symbol.st_name.get(LittleEndian) as usize..).unwrap_or_default();
            let Some(name) = names.iter().find(|wanted| super::is_string(name, wanted)) else { continue };
            let is_place = matches!(symbol.st_type(), STT_NOTYPE | STT_OBJECT | STT_FUNC);
            if !is_place || symbol.st_shndx.get(LittleEndian) == SHN_UNDEF {
                continue;
            }
            let (is_global, address) = (symbol.st_bind() != STB_LOCAL, symbol.st_value.get(LittleEndian));
            match found.get_mut(*name) {
                Some(known) if known.0 == is_global && known.1 != Some(address) => known.1 = None,
                Some(known) if known.0 >= is_global => {}
                _ => _ = found.insert((*name).to_owned(), (is_global, Some(address))),
            }
        }
        Ok(found.into_iter().filter_map(|(name, (_, address))| Some((name, address?))).collect())
    }

    /// What its DWARF says of `wanted`, read by `threads` threads, or fewer where memory does not do for them.
    ///
    /// # Errors
    /// The file cannot be read, or is damaged; or memory does not do for one thread.
    pub fn dwarf(&self, wanted: &Wanted<'_>, threads: usize) -> Result<Types> {
        let fits = |threads: &usize| self.room(self.for_dwarf(*threads as u64)).is_ok();
        let threads = (2..=threads).rev().find(fits).unwrap_or(1);
        let in_hand = WAITING + threads;
        let for_units = self.room(self.for_dwarf(threads as u64))? + 2 * in_hand as u64 * UNIT;
        // Half for those that are handed on, half for the one that is being read.
        let large = (for_units / 2 / in_hand as u64).min(LARGE_UNIT as u64) as usize;
        let sections = Sections {
            abbrev: self.held(".debug_abbrev")?,
            strings: self.held(".debug_str")?,
            line_strings: self.held(".debug_line_str")?,
            string_offsets: self.held(".debug_str_offsets")?,
        };
        let mut units = Units { stream: self.stream(".debug_info")?, most: for_units / 2 };
        let found = Mutex::new(Ok(Types::default()));
        std::thread::scope(|scope| {
            let (send, receive) = crossbeam_channel::bounded::<Vec<u8>>(WAITING);
            let mut started = 0;
            for _ in 0..threads {
                let (receive, sections, found) = (receive.clone(), &sections, &found);
                let thread = std::thread::Builder::new().spawn_scoped(scope, move || {
                    let mut own = Ok(Types::default());
                    for unit in receive {
                        join(&mut own, unit_types(&unit, sections, wanted));
                    }
                    join(&mut found.lock().unwrap_or_else(std::sync::PoisonError::into_inner), own);
                });
                started += usize::from(thread.is_ok());
            }
            drop(receive);
            while let Some(unit) = units.next(&self.path)? {
                // Where the system starts no thread, this one does the work.
                if started == 0 || unit.len() > large {
                    let types = unit_types(&unit, &sections, wanted);
                    join(&mut found.lock().unwrap_or_else(std::sync::PoisonError::into_inner), types);
                } else if send.send(unit).is_err() {
                    break;
                }
            }
            Ok(())
        })?;
        let found = found.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
        found.map(Types::settled).map_err(|error| {
            Error::input(format!("cannot use the debug information of {}", self.path.display()))
                .because(error)
                .next_step("the file is damaged: copy or install it again")
        })
    }

    /// What the limit leaves beside `bytes` and [`BASE`].
    ///
    /// # Errors
    /// They do not fit; says how much it would take.
    fn room(&self, bytes: u64) -> Result<u64> {
        let least = BASE.saturating_add(bytes);
        self.limit.checked_sub(least).ok_or_else(|| self.too_little_memory(least))
    }

    fn too_little_memory(&self, least: u64) -> Error {
        let path = self.path.display();
        Error::new(Kind::Memory, format!("not enough memory to read {path}: {} are needed", human_bytes(least)))
            .because(format!("the limit is {}", human_bytes(self.limit)))
            .next_step(format!(
                "give --memory-limit {}M or more; or make a layout file of it beforehand ('vdump layout') and give that (-i)",
                least.div_ceil(1 << 20)
            ))
    }

    /// Bytes of these sections in memory, decompressed. What is claimed is not believed beyond what can be read.
    fn sizes(&self, names: &[&str]) -> u64 {
        let size = |name: &&str| {
            let Some((section, is_gnu)) = self.section(name) else { return 0 };
            match (is_gnu, section.compressed) {
                (false, false) => section.size,
                (true, _) => self.number(section.offset.saturating_add(4)).map_or(0, u64::from_be_bytes),
                (false, true) => self.number(section.offset.saturating_add(8)).map_or(0, u64::from_le_bytes),
            }
            .min(MAX_HELD)
        };
        names.iter().map(size).sum()
    }

    fn number(&self, offset: u64) -> Option<[u8; 8]> {
        let mut bytes = [0; 8];
        self.file.read_exact_at(&mut bytes, offset).ok().map(|()| bytes)
    }

    fn is_compressed(&self, name: &str) -> bool {
        self.section(name).is_some_and(|(section, is_gnu)| is_gnu || section.compressed)
    }

    /// A section by its name, or by the one that it has when GNU tools compressed it.
    fn section(&self, name: &str) -> Option<(Section, bool)> {
        let gnu = || self.sections.get(&name.replacen(".debug", ".zdebug", 1)).map(|section| (*section, true));
        self.sections.get(name).map(|section| (*section, false)).or_else(gnu)
    }

    /// A whole section, empty if it is not there.
    fn held(&self, name: &str) -> Result<Vec<u8>> {
        if self.section(name).is_none() {
            return Ok(Vec::new());
        }
        let mut bytes = Vec::new();
        let mut stream = self.stream(name)?.take(MAX_HELD + 1);
        stream.read_to_end(&mut bytes).map_err(|error| self.unreadable(name, &error))?;
        if bytes.len() as u64 > MAX_HELD {
            return Err(Error::input(format!("cannot use the section {name} of {}", self.path.display()))
                .because(format!("it has more than {MAX_HELD} bytes")));
        }
        Ok(bytes)
    }

    /// A section from its first byte on, decompressed.
    fn stream(&self, name: &str) -> Result<Box<dyn Read + '_>> {
        /// `Elf64_Chdr`
        const HEADER: u64 = 24;
        /// "ZLIB" and the size, as GNU's older way has it in sections called `.zdebug_...`
        const GNU_HEADER: u64 = 12;
        let missing = || Error::input(format!("{} has no section {name}", self.path.display()));
        let (section, is_gnu) = self.section(name).ok_or_else(missing)?;
        let raw = |skip: u64| {
            let at = At { file: &self.file, offset: section.offset.saturating_add(skip) };
            io::BufReader::with_capacity(1 << 20, at.take(section.size.saturating_sub(skip)))
        };
        if is_gnu {
            return Ok(Box::new(flate2::bufread::ZlibDecoder::new(raw(GNU_HEADER))));
        }
        if !section.compressed {
            return Ok(Box::new(raw(0)));
        }
        let mut kind = [0; 4];
        self.file.read_exact_at(&mut kind, section.offset).map_err(|error| self.unreadable(name, &error))?;
        match u32::from_le_bytes(kind) {
            kind if kind == ELFCOMPRESS_ZLIB.0 => Ok(Box::new(flate2::bufread::ZlibDecoder::new(raw(HEADER)))),
            kind if kind == ELFCOMPRESS_ZSTD.0 => {
                let decoder = zstd::Decoder::with_buffer(raw(HEADER));
                Ok(Box::new(decoder.map_err(|error| self.unreadable(name, &error))?))
            }
            other => Err(Error::input(format!("cannot read the section {name} of {}", self.path.display()))
                .because(format!("it is compressed in an unknown way ({other})"))
                .next_step("decompress it with objcopy --decompress-debug-sections")),
        }
    }

    fn unreadable(&self, name: &str, error: &io::Error) -> Error {
        Error::input(format!("cannot read the section {name} of {}", self.path.display()))
            .because(crate::error::plain_io(error))
            .next_step("the file is damaged: copy or install it again")
    }
}

/// Adds what other units say. The first error counts.
fn join(all: &mut std::result::Result<Types, DwarfError>, more: std::result::Result<Types, DwarfError>) {
    match (more, &mut *all) {
        (Ok(more), Ok(all)) => all.join(more),
        (Err(error), Ok(_)) => *all = Err(error),
        (_, Err(_)) => {}
    }
}

fn not_a_vmlinux(path: &Path, cause: impl std::fmt::Display) -> Error {
    Error::input(format!("cannot use {} as a vmlinux", path.display()))
        .because(cause)
        .next_step("give the uncompressed kernel with debug information, usually /usr/lib/debug/boot/vmlinux-VERSION")
}

/// A file from some place on.
struct At<'a> {
    file: &'a File,
    offset: u64,
}

impl Read for At<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let got = self.file.read_at(buf, self.offset)?;
        self.offset = self.offset.saturating_add(got as u64);
        Ok(got)
    }
}

/// `.debug_info`, unit after unit.
struct Units<'a> {
    stream: Box<dyn Read + 'a>,
    /// The largest unit that memory does for, bytes.
    most: u64,
}

impl Units<'_> {
    fn next(&mut self, path: &Path) -> Result<Option<Vec<u8>>> {
        let bad = |cause: String| {
            Error::input(format!("cannot use the debug information of {}", path.display()))
                .because(cause)
                .next_step("the file is damaged: copy or install it again")
        };
        let mut unit = Vec::new();
        self.append(&mut unit, 4).map_err(|error| bad(crate::error::plain_io(&error)))?;
        if unit.is_empty() {
            return Ok(None);
        }
        let word = |bytes: &[u8]| bytes.iter().rev().fold(0u64, |word, byte| word << 8 | u64::from(*byte));
        let mut len = word(&unit);
        // Units of 64-bit DWARF say so first (DWARF 5, 7.4).
        if unit.len() == 4 && len == 0xffff_ffff {
            self.append(&mut unit, 8).map_err(|error| bad(crate::error::plain_io(&error)))?;
            len = word(&unit[4..]);
        }
        if len > MAX_UNIT {
            return Err(bad(format!("it claims a unit of {len} bytes")));
        }
        if len > self.most {
            let path = path.display();
            return Err(Error::new(Kind::Memory, format!("not enough memory to read {path}"))
                .because(format!("a unit of its debug information has {}", human_bytes(len)))
                .next_step(format!("give --memory-limit {}M more", (2 * (len - self.most)).div_ceil(1 << 20))));
        }
        let whole = unit.len() as u64 + len;
        self.append(&mut unit, len).map_err(|error| bad(crate::error::plain_io(&error)))?;
        if (unit.len() as u64) < whole || whole < 12 {
            return Err(bad("it ends within a unit".to_owned()));
        }
        Ok(Some(unit))
    }

    /// Appends up to `len` bytes: memory grows with what is there, not with what is claimed.
    fn append(&mut self, unit: &mut Vec<u8>, len: u64) -> io::Result<usize> {
        let mut part: Take<_> = (&mut self.stream).take(len);
        part.read_to_end(unit)
    }
}

/// Types of a file that is nothing but BTF (`bpftool btf dump`, `/sys/kernel/btf/vmlinux`).
///
/// # Errors
/// It cannot be read or is not BTF.
pub fn read_btf(path: &Path, wanted: &Wanted<'_>) -> Result<Types> {
    let bad = |cause: String| {
        Error::input(format!("cannot use {} as BTF", path.display()))
            .because(cause)
            .next_step("give /sys/kernel/btf/vmlinux of the crashed kernel, or its vmlinux with -x")
    };
    let read = file::open_regular(path).and_then(|opened| file::read_from(&opened, super::btf::MAX_BTF));
    let bytes = read.map_err(|error| Error::io(path, "read", &error).or_next_step("check the path"))?;
    Btf::parse(&bytes).and_then(|btf| btf.types(wanted)).map_err(|error| bad(error.to_string()))
}
