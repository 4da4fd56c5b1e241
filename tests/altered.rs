//! A kernel that nobody ships, crashed for real: struct page padded before its flags, flags renumbered, no huge page pool.
//! Nothing in the product knows it.
//!
//! Knows what drgn said of each page when the sample was made (`tests/vm/judge/truth_file.py`). Must not know how the
//! product finds it.

use std::collections::BTreeSet;
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::harness::{filter, run, temp_dir, vdump, vdump_with};
use crate::read::elf::{Elf, Found};
use crate::read::kdump::Kdump;

const LEVELS: [u8; 6] = [0, 2, 4, 8, 16, 31];
/// Lines of VMCOREINFO that a page's class comes from.
const PAGE_KEYS: [&str; 5] = ["OFFSET(page.", "SIZE(page)", "NUMBER(PG_", "NUMBER(PAGE_", "LENGTH(zone"];

struct Sample {
    packed: PathBuf,
    pages: Vec<(Range<u64>, String)>,
    planted: Vec<(Range<u64>, String, i64)>,
}

impl Sample {
    fn read() -> Self {
        let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data");
        let mut sample = Self { packed: data.join("altered-padded.zst"), pages: Vec::new(), planted: Vec::new() };
        for line in fs::read_to_string(data.join("altered-padded.truth")).unwrap().lines() {
            let words: Vec<&str> = line.split(' ').collect();
            let pfn = |index: usize| u64::from_str_radix(words[index], 16).unwrap();
            match words[..] {
                ["page", _, _, class] => sample.pages.push((pfn(1)..pfn(2), class.to_owned())),
                ["planted", _, _, kind, levels] => {
                    sample.planted.push((pfn(1)..pfn(2), kind.to_owned(), levels.parse().unwrap()));
                }
                _ => panic!("{line}"),
            }
        }
        sample
    }

    fn unpack(&self, dir: &Path) -> PathBuf {
        let plain = dir.join("vmcore");
        zstd::stream::copy_decode(fs::File::open(&self.packed).unwrap(), fs::File::create(&plain).unwrap()).unwrap();
        plain
    }

    fn ram(&self) -> BTreeSet<u64> {
        self.pages.iter().flat_map(|(range, _)| range.clone()).collect()
    }

    fn kept(&self, level: u8) -> BTreeSet<u64> {
        let stay = self.pages.iter().filter(|(_, class)| !is_dropped(levels_of(class), level));
        stay.flat_map(|(range, _)| range.clone()).collect()
    }

    /// From the first page of the kernel's image to its last, and what was freed between.
    fn image_span(&self) -> Range<u64> {
        let mut image = self.pages.iter().filter(|(_, class)| class == "image").map(|(range, _)| range);
        let first = image.next().unwrap();
        first.start..image.next_back().unwrap_or(first).end
    }

    #[track_caller]
    fn must_be(&self, dump: &Kdump, level: u8) {
        assert_eq!(dump.ram(), self.ram());
        let (kept, want) = (dump.kept(), self.kept(level));
        let named = |pfn: &u64| {
            let class = self.pages.iter().find(|(range, _)| range.contains(pfn)).map(|(_, class)| class.as_str());
            format!("{pfn:#x} {}", class.unwrap_or("no RAM"))
        };
        let lost: Vec<String> = want.difference(&kept).map(named).collect();
        let extra: Vec<String> = kept.difference(&want).map(named).collect();
        let show = |list: &[String]| format!("{} ({})", list.len(), list[..list.len().min(5)].join(", "));
        assert!(lost.is_empty() && extra.is_empty(), "-d {level}: lost {}, kept {}", show(&lost), show(&extra));
    }
}

/// The bits of the dump level that drop a class, -1 for every level (docs/using.md).
fn levels_of(class: &str) -> i64 {
    match class {
        "free" | "free-pcp" => 16,
        "anon" | "hugetlb" => 8,
        "cache" => 2 | 4,
        "cache-private" => 4,
        "offline" | "hwpoison" => -1,
        "slab" | "other" | "image" | "partial" | "none" => 0,
        _ => panic!("{class}"),
    }
}

fn is_dropped(levels: i64, level: u8) -> bool {
    levels == -1 || levels & i64::from(level) != 0
}

/// The vmcore without the lines of its note that begin with one of `keys`; nothing else moves.
fn forget(vmcore: &Path, keys: &[&str]) {
    let mut bytes = fs::read(vmcore).unwrap();
    let start = bytes.windows(10).position(|at| at == b"OSRELEASE=").unwrap();
    let end = start + bytes[start..].iter().position(|byte| *byte == 0).unwrap();
    let text = String::from_utf8(bytes[start..end].to_vec()).unwrap();
    let is_forgotten = |line: &str| keys.iter().any(|key| line.starts_with(key));
    assert!(text.lines().any(is_forgotten));
    let blank: Vec<String> =
        text.split('\n').map(|line| if is_forgotten(line) { "#".repeat(line.len()) } else { line.into() }).collect();
    bytes[start..end].copy_from_slice(blank.join("\n").as_bytes());
    fs::write(vmcore, bytes).unwrap();
}

#[test]
fn drops_what_the_struct_pages_say() {
    let (dir, sample) = (temp_dir(), Sample::read());
    let vmcore = sample.unpack(dir.path());
    assert!(sample.planted.len() > 10);
    for level in LEVELS {
        let out = dir.path().join(format!("out.{level}"));
        let run = filter(&["-d", &level.to_string(), "--json"], &vmcore, &out).ok();
        let dump = Kdump::open(&out);
        sample.must_be(&dump, level);
        let kept = dump.kept();
        for (range, kind, levels) in &sample.planted {
            let wrong = range.clone().find(|pfn| kept.contains(pfn) == is_dropped(*levels, level));
            assert_eq!(wrong, None, "{kind} at -d {level}");
        }
        let report: Value = serde_json::from_str(&run.stdout).unwrap();
        assert_eq!(report["warnings"].as_array().map(Vec::len), Some(0), "{report}");
    }
    let core = Elf::open(&vmcore);
    let dump = Kdump::open(&dir.path().join("out.31"));
    for pfn in dump.kept() {
        let Found::Stored(page) = core.page(pfn) else { panic!("page {pfn:#x} is not in the vmcore") };
        assert!(dump.page(pfn).unwrap() == page, "page {pfn:#x}");
    }
}

/// What is left is the BTF in the kernel's memory.
#[test]
fn needs_no_word_about_pages_in_the_note() {
    let (dir, sample) = (temp_dir(), Sample::read());
    let vmcore = sample.unpack(dir.path());
    forget(&vmcore, &PAGE_KEYS);
    let out = dir.path().join("out");
    filter(&["-d", "31"], &vmcore, &out).ok();
    sample.must_be(&Kdump::open(&out), 31);
}

/// With the symbols' tables hidden the BTF cannot be found: a file must say it, and is missed by name.
#[test]
fn is_told_by_a_layout_file_where_memory_says_nothing() {
    let (dir, sample) = (temp_dir(), Sample::read());
    let vmcore = sample.unpack(dir.path());
    let (layout, out) = (dir.path().join("layout"), dir.path().join("out"));
    let said = vdump_with([Path::new("layout"), Path::new("--from"), &vmcore]).ok().stdout;
    assert!(said.contains("\nSIZE(page)=80\n") && said.contains("\nOFFSET(page.flags)=16\n"), "{said}");
    fs::write(&layout, said).unwrap();
    forget(&vmcore, &[&PAGE_KEYS[..], &["SYMBOL(kallsyms"]].concat());
    let refused = filter(&["-d", "31"], &vmcore, &out);
    assert!(refused.code() == Some(1) && refused.stderr.contains("SIZE(page)"), "{}", refused.stderr);
    assert!(!out.exists());
    run(vdump().args(["filter", "-d", "31", "--layout"]).arg(&layout).arg(&vmcore).arg(&out)).ok();
    // Without symbols more of the kernel's image is kept.
    let (kept, want) = (Kdump::open(&out).kept(), sample.kept(31));
    let gap = sample.image_span();
    assert!(kept.is_superset(&want) && kept.difference(&want).all(|pfn| gap.contains(pfn)));
}
