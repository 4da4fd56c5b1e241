//! Dumps made with losses: they say so inside themselves, and whoever reads them says so again.
//!
//! Knows odd kdump files and the readers of outputs. Must not know how the product finds a page unreadable. A file from which
//! nothing can be read makes no dump.

use std::fs;
use std::path::Path;

use crate::disks::full_of_kernel;
use crate::harness::{Run, run, temp_dir, vdump};
use crate::killed::killer;
use crate::read::elf::{Elf, Found};
use crate::read::kdump::{INCOMPLETE, Kdump};
use crate::refusal::{badly_failed, none_of};
use crate::synth::kdump::{Spec, Stored};

const GOOD: std::ops::Range<u64> = 16..24;
const BAD: u64 = 20;

/// A few pages, of which one is stored like this and can be read by nobody.
fn with_a_bad_page(bad: Stored) -> Spec {
    let mut spec = Spec::new(6, 4096, 64);
    spec.pages = GOOD.map(|pfn| (pfn, (vec![pfn as u8; 4096], if pfn == BAD { bad } else { Stored::Zlib }))).collect();
    spec
}

fn made(command: &str, options: &[&str], input: &Path, out: &Path) -> Run {
    run(vdump().args([command, "--force"]).args(options).arg(input).arg(out))
}

#[test]
fn a_lost_page_is_told_from_one_that_was_left_out() {
    let dir = temp_dir();
    let (input, out) = (dir.path().join("in"), dir.path().join("out"));
    for bad in [Stored::Broken, Stored::Outside, Stored::Lost] {
        fs::write(&input, with_a_bad_page(bad).build().0).unwrap();
        for (command, options) in [("convert", vec!["-f", "kdump"]), ("filter", vec!["-d", "0"])] {
            let said = made(command, &options, &input, &out).ok();
            assert!(said.stderr.contains("1 pages could not be read"), "{}", said.stderr);
            let dump = Kdump::open(&out);
            assert_eq!(dump.field("status") & INCOMPLETE, INCOMPLETE, "{command} {bad:?}: not marked");
            assert!(dump.bits().contains(&BAD) && !dump.kept().contains(&BAD), "{command} {bad:?}");
            assert_eq!(dump.kept().len() as u64, GOOD.end - GOOD.start - 1);
            let info = run(vdump().arg("info").arg(&out)).ok();
            assert!(info.stdout.contains("incomplete"), "{}", info.stdout);
            assert_eq!(run(vdump().arg("check").arg(&out)).code(), Some(1));
            // And so does what is made of that.
            let again = dir.path().join("again.elf");
            made("convert", &["-f", "elf"], &out, &again).ok();
            let core = Elf::open(&again);
            assert_eq!((core.flags(), core.page(BAD)), (1, Found::Absent));
        }
        let packed = dir.path().join("out.elf.zst");
        made("convert", &[], &input, &packed).ok();
        let info = run(vdump().arg("info").arg(&packed)).ok();
        assert!(info.stdout.contains("incomplete"), "{}", info.stdout);
    }
}

/// A file that somebody cuts while it is read: all that was there comes, and the rest is not made up.
#[test]
fn an_input_that_shrinks_makes_a_dump_that_says_so() {
    let dir = temp_dir();
    let library = killer(dir.path());
    let fixture = full_of_kernel(dir.path());
    let whole = fs::read(&fixture.path).unwrap();
    let left = fixture.placed.data_offset + (whole.len() as u64 - fixture.placed.data_offset) / 8 * 5;
    let kept = fixture.truth.kept(31);
    for (name, at) in [("out", 8), ("out.elf", 6), ("out.elf.zst", 3)] {
        fs::write(&fixture.path, &whole).unwrap();
        let out = dir.path().join(name);
        let mut command = vdump();
        command.env("LD_PRELOAD", &library).env("SHRINK_AT", at.to_string());
        command.env("SHRINK_FILE", &fixture.path).env("SHRINK_TO", left.to_string());
        let said = run(command.args(["filter", "-d", "31", "-j", "2"]).arg(&fixture.path).arg(&out));
        // In frames it ends there: the headers are written, and cannot be taken back.
        let ends = name.ends_with(".zst");
        assert_eq!(said.code(), Some(i32::from(ends)), "{name}: {}", said.stderr);
        assert!(said.stderr.contains(if ends { "cannot go on" } else { "could not be read" }), "{}", said.stderr);
        let out = if ends { dir.path().join("out.elf.zst-incomplete") } else { out };
        let copy = dir.path().join("copy");
        made("convert", &["-f", "kdump"], &out, &copy).ok();
        let dump = Kdump::open(&copy);
        assert_eq!(dump.field("status") & INCOMPLETE, INCOMPLETE, "{name}: not marked");
        for pfn in dump.kept() {
            assert!(kept.contains(&pfn) && dump.page(pfn) == Ok(fixture.image.page(pfn)), "{name}: page {pfn:#x}");
        }
        let count = dump.kept().len();
        assert!(count > kept.len() / 3 && count < kept.len(), "{name}: {count} of {} pages", kept.len());
        assert_eq!(run(vdump().arg("check").arg(&out)).code(), Some(1), "{name}: check calls it whole");
    }
}

#[test]
fn an_input_without_a_readable_page_makes_no_dump() {
    let dir = temp_dir();
    let input = dir.path().join("in");
    let mut spec = with_a_bad_page(Stored::Outside);
    spec.pages.retain(|pfn, _| *pfn == BAD);
    fs::write(&input, spec.build().0).unwrap();
    let mut faults = Vec::new();
    for options in [&["-f", "kdump"][..], &["-f", "elf"], &["-f", "elf", "-c", "zstd"], &["-f", "elf", "--dry-run"]] {
        for command in ["convert", "filter"] {
            if command == "convert" && options.contains(&"--dry-run") {
                continue;
            }
            let out = dir.path().join("out");
            let level = if command == "filter" { &["-d", "0"][..] } else { &[] };
            let said = if options.contains(&"--dry-run") {
                run(vdump().arg(command).args(level).args(options).arg(&input))
            } else {
                made(command, &[options, level].concat(), &input, &out)
            };
            faults.extend(badly_failed(&said, &out));
            if !said.stderr.contains("'vdump check'") || said.stderr.contains("device") {
                faults.push(format!("{command} {options:?}: {}", said.stderr));
            }
        }
    }
    none_of(&faults);
}
