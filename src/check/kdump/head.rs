//! The headers of a kdump-compressed file, with 64-bit or 32-bit fields, taken as they are.
//!
//! Knows where each field lies, and what cannot be true. Must not read bitmaps or pages. The [`Head`] leads to those.

use zerocopy::{FromBytes as _, little_endian::U64};

use super::super::{Findings, findings::Place, layers::Opened, rules::Rule};
use crate::{
    error::{Error, Result},
    format::{
        diskdump::{SIGNATURE_DISKDUMP, SubHeader, UTS_LEN, VERSION},
        diskdump32::{PackedSubHeader, PaddedSubHeader},
    },
    source::store::read_all,
};

/// Sizes that readers accept, bytes.
const BLOCK_SIZES: std::ops::RangeInclusive<u32> = 4096..=256 << 10;
/// Bytes of the larger header.
const HEADER: u64 = 464;
/// `utsname` in both layouts.
const UTSNAME: usize = 12;
/// Machines that kdump knows, as the kernel calls them.
const MACHINES: [&str; 16] = [
    "x86_64",
    "i386",
    "i486",
    "i586",
    "i686",
    "aarch64",
    "ppc64",
    "ppc64le",
    "ppc",
    "riscv64",
    "s390x",
    "ia64",
    "mips64",
    "loongarch64",
    "sparc64",
    "alpha",
];

/// Where the header's fields lie.
struct Layout {
    tv_usec: Option<usize>,
    /// `status`; the fields after it follow without gaps.
    status: usize,
}

const WIDE: Layout = Layout { tv_usec: Some(416), status: 424 };
const NARROW: Layout = Layout { tv_usec: None, status: 412 };

/// What the headers say.
#[derive(Clone, Debug, Default)]
pub(crate) struct Head {
    /// The header as it is, to compare parts.
    pub(super) bytes: Vec<u8>,
    pub(crate) version: u32,
    /// Bytes of a page.
    pub(crate) block: u64,
    /// First bytes of it: DISKDUMP, not KDUMP.
    pub(crate) diskdump: bool,
    /// The fields of a 32-bit machine.
    pub(crate) narrow: bool,
    pub(crate) machine: String,
    pub(super) status: u32,
    /// One past the last page frame.
    pub(super) frames: u64,
    pub(super) bitmap1: u64,
    pub(super) bitmap2: u64,
    /// Both bitmaps, bytes.
    pub(super) bitmaps_len: u64,
    pub(super) split: bool,
    /// First and one past the last page frame of a part.
    pub(super) start: u64,
    pub(super) end: u64,
    /// Offset and size of the VMCOREINFO text.
    pub(super) vmcoreinfo: (u64, u64),
    pub(super) notes: (u64, u64),
}

impl Head {
    /// Start of the descriptors.
    pub(super) fn descs(&self) -> u64 {
        self.bitmap1.saturating_add(self.bitmaps_len)
    }
}

fn word(bytes: &[u8], at: usize) -> u32 {
    let word = bytes.get(at..at + 4).and_then(|word| word.try_into().ok());
    word.map_or(0, u32::from_le_bytes)
}

fn is_block(size: u32) -> bool {
    size.is_power_of_two() && BLOCK_SIZES.contains(&size)
}

/// Reads the headers of an input. `None` where nothing more can be found with them.
pub(super) fn parse(opened: &Opened, findings: &mut Findings) -> Result<Option<Head>> {
    let (input, store) = (opened.input, opened.store.as_ref());
    let bytes = match read_all(store, 0, store.size().min(HEADER)) {
        Ok(bytes) => bytes,
        Err(error) => {
            findings.broken(Rule::FileReadable, Place::of(input, error.to_string()).at(0));
            return Ok(None);
        }
    };
    let whole = bytes.len() as u64 == HEADER;
    if !findings.must(Rule::KdumpHeader, whole, || {
        Place::of(input, format!("the file ends after {} of {HEADER} bytes", bytes.len())).at(0)
    }) {
        return Ok(None);
    }
    let version = word(&bytes, 8);
    if version > VERSION && is_big_endian(&bytes) {
        return Err(Error::input(format!("cannot check {}", opened.path.display()))
            .because("it is a dump of a big-endian machine")
            .next_step("dumps of s390x and big-endian POWER are not read"));
    }
    findings.must(Rule::KdumpVersion, version <= VERSION, || Place::of(input, format!("version {version}")).at(8));
    let narrow = !is_block(word(&bytes, WIDE.status + 4)) && is_block(word(&bytes, NARROW.status + 4));
    let layout = if narrow { NARROW } else { WIDE };
    let field = |index: usize| word(&bytes, layout.status + index * 4);
    let block = field(1);
    if !findings.must(Rule::KdumpBlockSize, is_block(block), || {
        Place::of(input, format!("{block} bytes")).at(layout.status as u64 + 4)
    }) {
        return Ok(None);
    }
    utsname(input, &bytes, findings);
    time(input, &bytes, &layout, findings);
    findings.must(Rule::KdumpCpus, field(9) > 0, || Place::of(input, "none").at(layout.status as u64 + 36));
    let block = u64::from(block);
    let sub_blocks = field(2);
    let mut head = Head {
        version,
        block,
        diskdump: bytes.starts_with(&SIGNATURE_DISKDUMP),
        narrow,
        machine: text(uts(&bytes, 4)),
        status: field(0),
        bitmap1: block * (1 + u64::from(sub_blocks)),
        bitmaps_len: u64::from(field(3)) * block,
        ..Head::default()
    };
    head.bytes = bytes.clone();
    let frames64 = if sub_blocks > 0 { sub_header(opened, &mut head, findings) } else { None };
    let frames32 = field(4);
    head.frames = frames64.filter(|frames| *frames > 0).unwrap_or_else(|| frames32.into());
    if let Some(frames) = frames64.filter(|frames| *frames > 0) {
        findings.must(Rule::KdumpFramesAgree, u64::from(frames32) == frames.min(u32::MAX.into()), || {
            Place::of(input, format!("{frames32:#x} and {frames:#x}")).at(layout.status as u64 + 16)
        });
    }
    Ok(placed(input, head, findings))
}

/// Where the bitmaps lie; `None` where they cannot be.
fn placed(input: usize, mut head: Head, findings: &mut Findings) -> Option<Head> {
    let (frames, block) = (head.frames, head.block);
    let possible = frames > 0 && frames <= u64::MAX >> block.trailing_zeros();
    if !findings.must(Rule::KdumpFrames, possible, || Place::of(input, format!("{frames:#x} page frames"))) {
        return None;
    }
    let (blocks, needed) = (head.bitmaps_len / block, frames.div_ceil(8).div_ceil(block));
    if !findings.must(Rule::KdumpBitmapSize, blocks >= needed, || {
        Place::of(input, format!("{blocks} blocks for {frames} page frames, which need {}", needed * 2))
    }) {
        return None;
    }
    let two = findings.must(Rule::KdumpTwoBitmaps, blocks / 2 >= needed, || {
        Place::of(input, format!("{blocks} blocks for {frames} page frames, which need {}", needed * 2))
    });
    if two {
        findings.must(Rule::KdumpBitmapEven, blocks.is_multiple_of(2), || Place::of(input, format!("{blocks} blocks")));
    }
    head.bitmap2 = if two { head.bitmap1 + head.bitmaps_len / 2 } else { head.bitmap1 };
    Some(head)
}

fn is_big_endian(bytes: &[u8]) -> bool {
    [WIDE.status + 4, NARROW.status + 4].iter().any(|at| is_block(word(bytes, *at).swap_bytes()))
}

fn uts(bytes: &[u8], index: usize) -> &[u8] {
    bytes.get(UTSNAME + index * UTS_LEN..UTSNAME + (index + 1) * UTS_LEN).unwrap_or_default()
}

fn text(field: &[u8]) -> String {
    let end = field.iter().position(|byte| *byte == 0).unwrap_or(field.len());
    String::from_utf8_lossy(&field[..end]).into_owned()
}

fn utsname(input: usize, bytes: &[u8], findings: &mut Findings) {
    for (index, name) in ["system name", "node name", "release", "version", "machine"].iter().enumerate() {
        let field = uts(bytes, index);
        let printable = text(field).bytes().all(|byte| (0x20..0x7f).contains(&byte));
        let place =
            || Place::of(input, format!("the {name} is {:?}", text(field))).at((UTSNAME + index * UTS_LEN) as u64);
        let given = field.first() != Some(&0);
        let needed = ["system name", "release", "version"].contains(name);
        if needed {
            findings.must(Rule::KdumpUtsGiven, given, place);
        }
        findings.must(Rule::KdumpUtsname, printable && field.contains(&0) && (given || needed), place);
    }
    let machine = text(uts(bytes, 4));
    let known = MACHINES.contains(&machine.as_str()) || machine.starts_with("arm") || machine.starts_with("mips");
    findings.must(Rule::KdumpMachine, known, || {
        Place::of(input, format!("the machine is {machine:?}")).at((UTSNAME + 4 * UTS_LEN) as u64)
    });
}

/// Whether libkdumpfile, which tries the 32-bit layout first, takes the header for one.
fn time(input: usize, bytes: &[u8], layout: &Layout, findings: &mut Findings) {
    let Some(at) = layout.tv_usec else { return };
    let micros = word(bytes, at);
    findings.must(Rule::KdumpTimeUsec, !is_block(micros), || {
        Place::of(input, format!("{micros} microseconds, which is where 32-bit headers have the block size"))
            .at(at as u64)
    });
}

/// Takes a sub header out of its bytes.
type Parse = fn(&[u8]) -> Option<SubHeader>;

/// Takes what the version has of the sub header. Gives its number of page frames.
fn sub_header(opened: &Opened, head: &mut Head, findings: &mut Findings) -> Option<u64> {
    if head.version == 0 || head.diskdump {
        return None;
    }
    let (input, store) = (opened.input, opened.store.as_ref());
    let (size, parse): (usize, Parse) = match head.machine.as_str() {
        _ if !head.narrow => (size_of::<SubHeader>(), |bytes| SubHeader::read_from_bytes(bytes).ok()),
        machine if machine.starts_with('i') && machine.ends_with("86") => {
            (size_of::<PackedSubHeader>(), |bytes| Some(PackedSubHeader::read_from_bytes(bytes).ok()?.widen()))
        }
        _ => (size_of::<PaddedSubHeader>(), |bytes| Some(PaddedSubHeader::read_from_bytes(bytes).ok()?.widen())),
    };
    let size = size as u64;
    let Some(sub) = read_all(store, head.block, size).ok().and_then(|bytes| parse(&bytes)) else {
        let found =
            format!("the file ends after {} of {size} bytes", store.size().saturating_sub(head.block).min(size));
        findings.broken(Rule::KdumpSubHeader, Place::of(input, found).at(head.block));
        return None;
    };
    findings.looked(Rule::KdumpSubHeader);
    let range = |since: u32, offset: U64, size: U64| {
        if head.version >= since { (offset.get(), size.get()) } else { (0, 0) }
    };
    let vmcoreinfo = range(3, sub.offset_vmcoreinfo, sub.size_vmcoreinfo);
    let notes = range(4, sub.offset_note, sub.size_note);
    let erased = range(5, sub.offset_eraseinfo, sub.size_eraseinfo);
    if head.version >= 2 {
        head.split = sub.split.get() != 0;
        let wide = head.version >= 6 && sub.end_pfn_64.get() != 0;
        let (start, end) = if wide { (sub.start_pfn_64, sub.end_pfn_64) } else { (sub.start_pfn, sub.end_pfn) };
        (head.start, head.end) = (start.get(), end.get());
    }
    (head.vmcoreinfo, head.notes) = (vmcoreinfo, notes);
    if erased.1 > 0 {
        let end = erased.0.checked_add(erased.1);
        findings.must(Rule::KdumpEraseinfo, end.is_some_and(|end| end <= store.size()), || {
            Place::of(input, format!("{} bytes at byte {}, and the file has {}", erased.1, erased.0, store.size()))
        });
    }
    Some(if head.version >= 6 { sub.max_mapnr_64.get() } else { 0 })
}
