//! Dumps as text: a few lines say what is in one, what is odd about it, and what its readers must find.
//!
//! Knows the words of `tests/specs`, which tests/specs/README.md explains, and builds the files. Must not share code with
//! the product. Goes to `tests/specs.rs` as files with expectations.

use std::collections::BTreeMap;
use std::ops::Range;

use super::kdump::{self, Layout, Order, Stored};
use super::odd_elf::{Byte, Notes, OddElf, Segment};
use super::wrap::{Codec, flatten, frames, stream};

/// Memory is compared in pieces of this size, whatever the pages are.
pub const PIECE: u64 = 4096;

/// What reading a piece of memory must give.
#[derive(Clone, Debug, PartialEq)]
pub enum Want {
    Bytes(Vec<u8>),
    /// Left out on purpose: it existed.
    Excluded,
    /// It should be there and is not.
    Lost,
    /// It never existed.
    Absent,
}

/// A specification, and the dump made of it.
#[derive(Debug)]
pub struct Case {
    pub name: String,
    /// The files' bytes: several for a split dump.
    pub files: Vec<Vec<u8>>,
    /// 4 KiB pieces by address.
    pub wants: BTreeMap<u64, Want>,
    /// Which of them the text itself lists.
    pub listed: Vec<u64>,
    /// What `vdump info` must say.
    pub info: Vec<String>,
    /// What `vdump convert` must say on standard error.
    pub says: Vec<String>,
    /// What the refusal must say; empty: it is read.
    pub refused: Vec<String>,
    /// Why libkdumpfile cannot be asked.
    pub no_judge: Option<String>,
    pub page: u64,
    pub machine: String,
    pub is_elf: bool,
}

enum Dump {
    Kdump(kdump::Spec),
    Elf(OddElf),
}

/// Memory that can be told from other memory, from its pattern and its address.
pub fn fill(pattern: &str, paddr: u64, len: usize) -> Vec<u8> {
    match pattern.split_once(':') {
        Some(("byte", hex)) => vec![u8::from_str_radix(hex, 16).unwrap(); len],
        _ => match pattern {
            "zero" => vec![0; len],
            "text" => {
                let first = paddr & !(PIECE - 1);
                let pieces = (first..paddr + len as u64).step_by(PIECE as usize);
                let text = pieces.flat_map(|at| {
                    let text = format!("memory at {at:#x} of an odd dump; ").repeat(PIECE as usize / 20);
                    text.into_bytes().into_iter().take(PIECE as usize)
                });
                text.skip((paddr - first) as usize).take(len).collect()
            }
            "random" => {
                let byte = |at: u64| {
                    let mut state = (at / 8).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x1234_5678_9abc_def1;
                    state = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
                    (state ^ (state >> 27)).to_le_bytes()[(at % 8) as usize]
                };
                (paddr..paddr + len as u64).map(byte).collect()
            }
            other => panic!("no pattern {other}"),
        },
    }
}

fn number(text: &str) -> u64 {
    let parsed = match text.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16),
        None => text.parse(),
    };
    parsed.unwrap_or_else(|_| panic!("{text:?} is no number"))
}

fn range(text: &str) -> Range<u64> {
    match text.split_once("..") {
        Some((from, to)) => number(from)..number(to),
        None => number(text)..number(text) + 1,
    }
}

fn stored(word: &str) -> Stored {
    match word {
        "raw" => Stored::Raw,
        "zlib" => Stored::Zlib,
        "lzo" => Stored::Lzo,
        "snappy" => Stored::Snappy,
        "zstd" => Stored::Zstd,
        "lost" => Stored::Lost,
        "outside" => Stored::Outside,
        "too-large" => Stored::TooLarge,
        "unknown" => Stored::Unknown,
        "broken" => Stored::Broken,
        "short" => Stored::Short,
        "long" => Stored::Long,
        other => panic!("no codec {other}"),
    }
}

fn codec(word: &str) -> Codec {
    match word {
        "zstd" => Codec::Zstd,
        "lz4" => Codec::Lz4,
        other => panic!("no codec {other}"),
    }
}

/// Words of a line; the first is its key.
type Line<'a> = Vec<&'a str>;

fn lines(text: &str) -> impl Iterator<Item = (Line<'_>, &str)> {
    let bare = text.lines().map(|line| line.split(" #").next().unwrap_or("").trim());
    bare.filter(|line| !line.is_empty() && !line.starts_with('#')).map(|line| {
        let rest = line.split_once(' ').map_or("", |(_, rest)| rest.trim());
        (line.split_whitespace().collect(), rest)
    })
}

/// Reads the text of the file `name`.
pub fn parse(name: &str, text: &str) -> Case {
    let mut case = Case {
        name: name.to_owned(),
        files: Vec::new(),
        wants: BTreeMap::new(),
        listed: Vec::new(),
        info: Vec::new(),
        says: Vec::new(),
        refused: Vec::new(),
        no_judge: None,
        page: PIECE,
        machine: "x86_64".to_owned(),
        is_elf: false,
    };
    let mut all = lines(text);
    let (first, _) = all.next().unwrap_or_else(|| panic!("{name} is empty"));
    let mut dump = match first[..] {
        ["kdump", version] => Dump::Kdump(kdump::Spec {
            info: "OSRELEASE=6.1.0-odd\nPAGESIZE=4096\n".into(),
            ..kdump::Spec::new(number(version) as u32, PIECE, 0x100)
        }),
        ["elf", class] => Dump::Elf(OddElf {
            class: number(class) as u32,
            big_endian: false,
            machine: 62,
            flags: 0,
            notes: Notes::Front,
            info: "OSRELEASE=6.1.0-odd\nPAGESIZE=4096\n".into(),
            segments: Vec::new(),
            align: 4096,
            xnum: false,
            headers_last: false,
        }),
        _ => panic!("{name}: the first line is neither `kdump VERSION` nor `elf CLASS`"),
    };
    let mut after: Vec<Line<'_>> = Vec::new();
    let mut reads = Vec::new();
    for (words, rest) in all {
        match (words[0], &words[1..]) {
            ("info", _) => case.info.push(rest.to_owned()),
            ("says", _) => case.says.push(rest.to_owned()),
            ("refused", _) => case.refused.push(rest.to_owned()),
            ("no-judge", _) => case.no_judge = Some(rest.to_owned()),
            ("read", [address, what]) => reads.push((number(address), what.to_owned())),
            ("split" | "wrap" | "cut" | "patch" | "append" | "order-files" | "drop-file", _) => after.push(words),
            (key, args) => match &mut dump {
                Dump::Kdump(spec) => kdump_line(spec, key, args, rest),
                Dump::Elf(elf) => elf_line(elf, key, args, rest),
            },
        }
    }
    build(&mut case, &dump, &after);
    for (address, what) in reads {
        let want = match what {
            "excluded" => Want::Excluded,
            "lost" => Want::Lost,
            "absent" => Want::Absent,
            pattern => Want::Bytes(fill(pattern, address, PIECE as usize)),
        };
        case.wants.insert(address, want);
        case.listed.push(address);
    }
    case
}

fn kdump_line(spec: &mut kdump::Spec, key: &str, args: &[&str], rest: &str) {
    match (key, args) {
        ("layout", ["packed"]) => spec.layout = Layout::Packed,
        ("layout", ["padded"]) => spec.layout = Layout::Padded,
        ("signature", ["diskdump"]) => spec.signature = *b"DISKDUMP",
        ("big-endian", []) => spec.big_endian = true,
        ("machine", [name]) => spec.machine = Box::leak((*name).to_owned().into_boxed_str()),
        ("block", [size]) => {
            spec.block = number(size);
            spec.info = format!("OSRELEASE=6.1.0-odd\nPAGESIZE={}\n", spec.block);
        }
        ("sub-blocks", [count]) => spec.sub_blocks = number(count),
        ("frames", [count]) => spec.max_mapnr = number(count),
        ("frames32", [count]) => spec.max32 = Some(number(count) as u32),
        ("bitmap-blocks-more", [count]) => spec.extra_blocks = number(count),
        ("bitmap-junk", []) => spec.junk = true,
        ("one-bitmap", []) => spec.one_plane = true,
        ("microseconds", [count]) => spec.tv_usec = number(count),
        ("status", [bits]) => spec.status = number(bits) as u32,
        ("level", [level]) => spec.level = number(level) as u32,
        ("vmcoreinfo", ["none"]) => spec.info.clear(),
        ("vmcoreinfo", _) => spec.info += &format!("{rest}\n"),
        ("note", [name, len]) => {
            let desc = fill("random", 0, number(len) as usize);
            spec.notes.extend(kdump::note(name, &desc));
        }
        ("notes", ["last"]) => spec.notes_last = true,
        ("eraseinfo", _) => rest.clone_into(&mut spec.eraseinfo),
        ("trailing", [bytes]) => spec.trailing = number(bytes) as usize,
        ("data", ["backwards"]) => spec.order = Order::Backwards,
        ("data", ["mixed"]) => spec.order = Order::Mixed,
        ("data", ["shared"]) => spec.share = true,
        ("data", ["gap", bytes]) => spec.gap = number(bytes) as usize,
        ("page", [pfns, pattern, ways]) => {
            let ways: Vec<Stored> = ways.split(',').map(stored).collect();
            for (pfn, way) in range(pfns).zip(ways.iter().cycle()) {
                let page = fill(pattern, pfn * spec.block, spec.block as usize);
                spec.pages.insert(pfn, (page, *way));
            }
        }
        ("excluded", [pfns]) => spec.excluded.extend(range(pfns)),
        _ => panic!("no line `{key} {rest}` for a kdump"),
    }
}

fn elf_line(elf: &mut OddElf, key: &str, args: &[&str], rest: &str) {
    match (key, args) {
        ("machine", [number_of]) => elf.machine = number(number_of) as u16,
        ("big-endian", []) => elf.big_endian = true,
        ("flags", [bits]) => elf.flags = number(bits) as u32,
        ("notes", ["last"]) => elf.notes = Notes::Back,
        ("notes", ["none"]) => elf.notes = Notes::None,
        ("vmcoreinfo", ["none"]) => elf.info.clear(),
        ("vmcoreinfo", _) => elf.info += &format!("{rest}\n"),
        ("block", [size]) => elf.info = format!("OSRELEASE=6.1.0-odd\nPAGESIZE={size}\n"),
        ("align", [bytes]) => elf.align = number(bytes) as usize,
        ("xnum", []) => elf.xnum = true,
        ("headers", ["last"]) => elf.headers_last = true,
        // load PADDR FILESZ PATTERN [memsz SIZE] [vaddr ADDRESS]
        ("load", [paddr, filesz, pattern, more @ ..]) => {
            let (paddr, filesz) = (number(paddr), number(filesz));
            let option = |name| more.chunks(2).find(|pair| pair[0] == name).map(|pair| number(pair[1]));
            let bytes = fill(pattern, paddr, filesz as usize);
            let (memsz, vaddr) = (option("memsz").unwrap_or(filesz), option("vaddr").unwrap_or(0));
            elf.segments.push(Segment { paddr, vaddr, bytes, memsz });
        }
        _ => panic!("no line `{key} {rest}` for an ELF core"),
    }
}

fn build(case: &mut Case, dump: &Dump, after: &[Line<'_>]) {
    let mut offsets = Vec::new();
    case.files = match dump {
        Dump::Kdump(spec) => {
            (case.page, case.machine) = (spec.block, spec.machine.to_owned());
            let ends = after.iter().find(|words| words[0] == "split");
            match ends {
                Some(words) => spec.split(&words[1..].iter().map(|end| number(end)).collect::<Vec<_>>()),
                None => vec![spec.build().0],
            }
        }
        Dump::Elf(elf) => {
            case.is_elf = true;
            case.machine = match elf.machine {
                3 => "i686",
                183 => "aarch64",
                _ => "x86_64",
            }
            .to_owned();
            let (bytes, places) = elf.build();
            offsets = places;
            vec![bytes]
        }
    };
    let mut plain = case.files.iter().map(|file| file.len() as u64).max().unwrap_or(0);
    for words in after {
        match words[..] {
            ["split", ..] => {}
            ["cut", bytes] => {
                let file = case.files.last_mut().unwrap();
                let len =
                    bytes.strip_prefix('-').map_or_else(|| number(bytes), |less| file.len() as u64 - number(less));
                file.truncate(len as usize);
                // Cut before it is wrapped, or by whole frames; what a cut in a frame leaves is listed by hand.
                plain = plain.min(len);
            }
            ["patch", offset, hex] => {
                let bytes = hex.as_bytes().chunks(2).map(|two| std::str::from_utf8(two).unwrap());
                for (at, byte) in (number(offset) as usize..).zip(bytes) {
                    case.files[0][at] = u8::from_str_radix(byte, 16).unwrap();
                }
            }
            ["append", count] => case.files.last_mut().unwrap().extend(fill("random", 0, number(count) as usize)),
            ["drop-file", index] => drop(case.files.remove(number(index) as usize)),
            ["order-files", "backwards"] => case.files.reverse(),
            ["wrap", ref how @ ..] => case.files = case.files.iter().map(|file| wrapped(file, how)).collect(),
            _ => panic!("{}: what is `{}`?", case.name, words.join(" ")),
        }
    }
    match dump {
        Dump::Kdump(spec) => case.wants = kdump_wants(spec),
        Dump::Elf(elf) => {
            case.page = elf.info.lines().find_map(|line| line.strip_prefix("PAGESIZE=")).map_or(PIECE, number);
            case.wants = elf_wants(elf.memory(&offsets, plain), case.page);
        }
    }
}

fn wrapped(file: &[u8], how: &[&str]) -> Vec<u8> {
    match how {
        ["flattened", part] => flatten(file, number(part) as usize, |index| index),
        ["flattened", part, "backwards"] => {
            let part = number(part) as usize;
            let last = file.len().div_ceil(part) - 1;
            flatten(file, part, |index| last - index)
        }
        ["flattened", part, "overwritten"] => {
            let garbage = flatten(&fill("random", 7, file.len()), number(part) as usize, |index| index);
            let right = flatten(file, number(part) as usize, |index| index);
            // The garbage without its end mark, the right records without their header.
            [&garbage[..garbage.len() - 16], &right[4096..]].concat()
        }
        [name, "stream"] => stream(file, codec(name)),
        [name, size] => frames(file, codec(name), number(size) as usize, Some(false)),
        [name, size, "checksums"] => frames(file, codec(name), number(size) as usize, Some(true)),
        [name, size, "no-table"] => frames(file, codec(name), number(size) as usize, None),
        _ => panic!("no way to wrap: {how:?}"),
    }
}

fn kdump_wants(spec: &kdump::Spec) -> BTreeMap<u64, Want> {
    let mut wants = BTreeMap::new();
    let pieces = |pfn: &u64| (pfn * spec.block..(pfn + 1) * spec.block).step_by(PIECE as usize);
    for (pfn, (page, way)) in &spec.pages {
        let sound = [Stored::Raw, Stored::Zlib, Stored::Lzo, Stored::Snappy, Stored::Zstd].contains(way);
        for (address, part) in pieces(pfn).zip(page.chunks(PIECE as usize)) {
            wants.insert(address, if sound { Want::Bytes(part.to_vec()) } else { Want::Lost });
        }
    }
    for pfn in &spec.excluded {
        wants.extend(pieces(pfn).map(|address| (address, Want::Excluded)));
    }
    wants
}

/// A page of which the dump has a byte is there, and zeros where it has none; one with a lost byte is lost.
fn elf_wants(memory: BTreeMap<u64, Vec<Byte>>, page: u64) -> BTreeMap<u64, Want> {
    let mut pages: BTreeMap<u64, Vec<Byte>> = BTreeMap::new();
    for (address, bytes) in memory {
        let whole = pages.entry(address / page * page).or_insert_with(|| vec![Byte::Absent; page as usize]);
        whole[(address % page) as usize..][..bytes.len()].clone_from_slice(&bytes);
    }
    let mut wants = BTreeMap::new();
    for (address, bytes) in pages {
        let lost = bytes.contains(&Byte::Lost);
        for (at, part) in (address..).step_by(PIECE as usize).zip(bytes.chunks(PIECE as usize)) {
            let byte = |byte: &Byte| if let Byte::Stored(byte) = byte { *byte } else { 0 };
            let want = if lost { Want::Lost } else { Want::Bytes(part.iter().map(byte).collect()) };
            wants.insert(at, want);
        }
    }
    wants
}
