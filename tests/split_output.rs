//! Split sets as output: what is in the parts, what they are called, and what becomes of them when one fails.
//!
//! Knows fixtures and the reader of kdump files. Must not know how pages are shared out. Fails with the page that is missing.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::check;
use crate::disks::{full_of_kernel, in_namespace, names, one_line};
use crate::harness::{Run, filter, run, temp_dir, vdump};
use crate::read::kdump::{INCOMPLETE, Kdump, set_faults};
use crate::synth::kdump::{Spec, Stored};
use crate::synth::kernels::era;
use crate::synth::{Fixture, Machine};

pub fn numbered(name: &Path, count: usize) -> Vec<PathBuf> {
    (1..=count).map(|n| PathBuf::from(format!("{}-{n}", name.display()))).collect()
}

fn opened(paths: &[PathBuf]) -> Vec<Kdump> {
    paths.iter().map(|path| Kdump::open(path)).collect()
}

/// Every page that the level keeps is in its part.
fn all_pages(label: &str, fixture: &Fixture, level: u8, parts: &[Kdump]) {
    check::sound(label, &set_faults(parts));
    assert_eq!(parts[0].kept(), fixture.truth.kept(level), "{label}");
    assert_eq!(parts[0].field("status") & INCOMPLETE, 0, "{label}");
    for part in parts {
        let mut zeros = BTreeSet::new();
        for pfn in part.kept().range(part.own()) {
            assert!(part.page(*pfn).as_ref() == Ok(&fixture.image.page(*pfn)), "{label}: {pfn:#x}");
            if fixture.image.is_zero(*pfn) {
                zeros.insert(part.desc(*pfn).unwrap().offset);
            }
        }
        assert!(zeros.len() <= 1, "{label}: zero pages have {} blobs", zeros.len());
    }
}

#[test]
fn the_parts_are_the_dump() {
    let dir = temp_dir();
    let fixture = Machine::new(era("6.12")).build(dir.path());
    let (set, whole) = (dir.path().join("set"), dir.path().join("whole"));
    for (count, codec, level) in [(2, "zstd", 31), (3, "lzo", 31), (7, "none", 1), (64, "zlib", 31)] {
        let (count_word, level_word) = (count.to_string(), level.to_string());
        let options = ["--force", "--split", &count_word, "-c", codec, "-d", &level_word];
        let label = options.join(" ");
        let said = filter(&[&options[..], &["--json"]].concat(), &fixture.path, &set).ok().stdout;
        let paths = numbered(&set, count);
        let parts = opened(&paths);
        all_pages(&label, &fixture, level, &parts);
        let report: Value = serde_json::from_str(&said).unwrap();
        let bytes: Vec<u64> = paths.iter().map(|path| fs::metadata(path).unwrap().len()).collect();
        for (n, path) in paths.iter().enumerate() {
            let line = &report["parts"][n];
            assert_eq!((line["name"].as_str(), line["bytes"].as_u64()), (path.to_str(), Some(bytes[n])), "{label}");
        }
        assert_eq!(report["bytes_written"], bytes.iter().sum::<u64>(), "{label}");
        // Threads and memory change nothing.
        let before: Vec<_> = paths.iter().map(|path| fs::read(path).unwrap()).collect();
        for more in [["-j", "1"], ["-j", "5"], ["--memory-limit", "28M"]] {
            filter(&[&options[..], &more].concat(), &fixture.path, &set).ok();
            assert!(paths.iter().map(|path| fs::read(path).unwrap()).eq(before.iter().cloned()), "{label} {more:?}");
        }
        // Put together again it is the dump that was never split.
        filter(&["--force", "-c", codec, "-d", &level_word], &fixture.path, &whole).ok();
        let merged = dir.path().join("merged");
        run(vdump().args(["merge", "--force"]).args(paths.iter().rev()).arg(&merged)).ok();
        check::sound(&label, &check::kdump(&fixture, level, &merged));
        assert!(fs::read(&merged).unwrap() == fs::read(&whole).unwrap(), "{label}: merged is another file");
        paths.iter().for_each(|path| fs::remove_file(path).unwrap());
    }
}

#[test]
fn parts_are_about_equally_large() {
    let dir = temp_dir();
    let fixture = full_of_kernel(dir.path());
    let set = dir.path().join("set");
    filter(&["--split", "4"], &fixture.path, &set).ok();
    let sizes: Vec<u64> = numbered(&set, 4).iter().map(|path| fs::metadata(path).unwrap().len()).collect();
    let (least, most) = (sizes.iter().min().unwrap(), sizes.iter().max().unwrap());
    assert!(most - least < most / 10, "{sizes:?}");
}

#[test]
fn names_are_as_asked_for() {
    let dir = temp_dir();
    let fixture = Machine::small(era("6.12")).build(dir.path());
    let at = |name: &str| dir.path().join(name);
    let odd = dir.path().join(OsStr::from_bytes(b"odd\xff"));
    let run_in = |words: &[&OsStr]| run(vdump().arg("filter").args(words).current_dir(dir.path()));
    let o = OsStr::new;
    run_in(&[o("-o"), o("a"), o("-o"), odd.as_os_str(), fixture.path.as_os_str()]).ok();
    all_pages("-o", &fixture, 31, &opened(&[at("a"), odd]));
    run_in(&[o("--split"), o("2"), fixture.path.as_os_str(), o("vmcore-incomplete")]).ok();
    all_pages("-incomplete", &fixture, 31, &opened(&[at("vmcore-1-incomplete"), at("vmcore-2-incomplete")]));
    run_in(&[o("--split"), o("1"), fixture.path.as_os_str(), o("one")]).ok();
    check::sound("--split 1", &check::kdump(&fixture, 31, &at("one-1")));
    run_in(&[o("-o"), o("single.elf"), fixture.path.as_os_str()]).ok();
    assert!(fs::read(at("single.elf")).unwrap().starts_with(b"\x7fELF"));
}

#[test]
fn what_cannot_be_a_set_is_refused() {
    let dir = temp_dir();
    let fixture = Machine::small(era("6.12")).build(dir.path());
    std::os::unix::fs::symlink(".", dir.path().join("here")).unwrap();
    fs::write(dir.path().join("there-2"), "precious").unwrap();
    let before = names(dir.path());
    let input = fixture.path.to_str().unwrap();
    for (words, code, says) in [
        (&["--split", "2", input, "out.elf"][..], 2, "no reader"),
        (&["--split", "2", "-f", "elf", input, "out"], 2, "no reader"),
        (&["-o", "a", "-o", "b.elf.zst", input], 2, "no reader"),
        (&["--dry-run", "-f", "elf", "--split", "2", input], 2, "no reader"),
        (&["--split", "2", input, "-"], 2, "standard output"),
        (&["-o", "a", "-o", "-", input], 2, "standard output"),
        (&["-o", "a", "-o", "a", input], 2, "twice"),
        (&["-o", "a", "-o", "here/a", input], 2, "same file"),
        (&["-o", "a", "-o", "a-incomplete", input], 2, "same file"),
        (&["--force", "-o", "a-incomplete", "-o", "here/a", input], 2, "same file"),
        (&["-o", "a", "-o", input, input], 1, "exists already"),
        (&["--force", "-o", "a", "-o", input, input], 2, "is an input"),
        (&["--split", "2", input, "there"], 1, "there-2: it exists already"),
        (&["--split", "2", input, "here/"], 1, "cannot create here/"),
        (&["--split", "2", input, ".."], 1, "names no file"),
        (&["--split", "2", input, "/"], 1, "names no file"),
        (&["--split", "0", input, "out"], 2, "0"),
        (&["--split", "65", input, "out"], 2, "65"),
        (&["--split", "2", "-o", "a", input], 2, "cannot be given together with"),
        (&["-d", "1,31", input, "-"], 2, "cannot be taken back"),
    ] {
        let run = run(vdump().arg("filter").args(words).current_dir(dir.path()));
        assert_eq!(run.code(), Some(code), "{words:?}: {run:?}");
        assert!(run.stderr.contains(says), "{words:?}: {}", run.stderr);
        assert_eq!(names(dir.path()), before, "{words:?}");
    }
    assert_eq!(fs::read(dir.path().join("there-2")).unwrap(), b"precious");
}

#[test]
fn few_pages_and_few_frames() {
    let dir = temp_dir();
    let (input, set) = (dir.path().join("in"), dir.path().join("set"));
    let convert = |count: &str| run(vdump().args(["convert", "--split", count]).arg(&input).arg(&set));
    // One page, at either end.
    for pfn in [0, 999] {
        let mut spec = Spec::new(6, 4096, 1000).with_pages(pfn..pfn + 1, &[Stored::Zlib]);
        spec.excluded = (1..999).collect();
        fs::write(&input, spec.build().0).unwrap();
        convert("5").ok();
        let paths = numbered(&set, 5);
        let parts = opened(&paths);
        check::sound("one page", &set_faults(&parts));
        let owner = parts.iter().find(|part| part.own().contains(&pfn)).unwrap();
        assert_eq!(owner.page(pfn).as_ref(), Ok(&spec.pages[&pfn].0));
        let merged = dir.path().join("merged");
        run(vdump().args(["merge", "--force", "--strict"]).args(&paths).arg(&merged)).ok();
        assert_eq!(Kdump::open(&merged).page(pfn).as_ref(), Ok(&spec.pages[&pfn].0));
        paths.iter().for_each(|path| fs::remove_file(path).unwrap());
    }
    fs::write(&input, Spec::new(6, 4096, 129).with_pages(0..129, &[Stored::Raw]).build().0).unwrap();
    let run = convert("4");
    one_line(&run, 2);
    assert!(run.stderr.contains("129 page frames"), "{}", run.stderr);
    assert_eq!(names(dir.path()), ["in", "merged"]);
    convert("3").ok();
    check::sound("129 frames", &set_faults(&opened(&numbered(&set, 3))));
}

/// A page that cannot be read is missing in its part, and every part says so.
#[test]
fn all_parts_agree_about_lost_pages() {
    let dir = temp_dir();
    let (input, set) = (dir.path().join("in"), dir.path().join("set"));
    let mut spec = Spec::new(6, 4096, 2000).with_pages(0..2000, &[Stored::Zlib]);
    spec = spec.with_pages(70..72, &[Stored::Broken]).with_pages(1900..1901, &[Stored::Unknown]);
    fs::write(&input, spec.build().0).unwrap();
    let said = run(vdump().args(["convert", "--json", "--split", "3"]).arg(&input).arg(&set)).ok().stdout;
    assert_eq!(serde_json::from_str::<Value>(&said).unwrap()["unreadable_pages"], 3);
    let parts = opened(&numbered(&set, 3));
    check::sound("lost pages", &set_faults(&parts));
    let lost = [70, 71, 1900];
    for part in &parts {
        assert!(part.bits().into_iter().eq(spec.pages.keys().copied()), "a lost page keeps its bit");
        assert_ne!(part.field("status") & INCOMPLETE, 0, "all parts say that pages are lost");
        assert!(lost.iter().all(|pfn| !part.own().contains(pfn) || !part.kept().contains(pfn)));
    }
    for part in &parts {
        for pfn in part.kept().range(part.own()) {
            assert!(part.page(*pfn).as_ref() == Ok(&spec.pages[pfn].0), "{pfn:#x}");
        }
    }
    let strict =
        run(vdump().args(["convert", "--strict", "--force", "--split", "3"]).arg(&input).arg(dir.path().join("s")));
    one_line(&strict, 1);
    assert!(names(dir.path()).iter().all(|name| !name.starts_with("s-")), "{:?}", names(dir.path()));
}

/// Each page of a partial set is right or visibly lost, in parts that have the same header.
fn right_or_lost(fixture: &Fixture, paths: &[PathBuf]) -> Vec<(usize, usize)> {
    let parts = opened(paths);
    let count = |part: &Kdump| {
        assert!(part.bytes[..464] == parts[0].bytes[..464] && part.field("status") & INCOMPLETE != 0);
        let (mut right, mut lost) = (0, 0);
        for pfn in part.bits().range(part.own()) {
            match part.page(*pfn) {
                Ok(page) => {
                    assert!(page == fixture.image.page(*pfn), "page {pfn:#x} differs");
                    right += 1;
                }
                Err(why) => {
                    assert!(why.starts_with("lost"), "{pfn:#x}: {why}");
                    lost += 1;
                }
            }
        }
        (right, lost)
    };
    parts.iter().map(count).collect()
}

#[test]
fn one_full_disk_does_not_cost_the_others() {
    let dir = temp_dir();
    let fixture = full_of_kernel(dir.path());
    let script = r#"mount -t tmpfs -o size=8m none "$DIR" || exit 99
"$VDUMP" filter -c none -d 31 --progress none -o "$SAVE/a" -o "$DIR/b" -o "$SAVE/c" "$IN"
code=$?; cp "$DIR"/* "$SAVE"/; exit $code"#;
    let Some(run) = in_namespace(script, &fixture, dir.path()) else {
        return;
    };
    one_line(&run, 1);
    assert!(run.stderr.contains("No space left on device"), "{}", run.stderr);
    let saved = dir.path().join("saved");
    assert_eq!(names(&saved), ["a-incomplete", "b-incomplete", "c-incomplete"]);
    let paths = ["a", "b", "c"].map(|name| saved.join(format!("{name}-incomplete")));
    assert!(paths.iter().all(|path| run.stderr.contains(&path.file_name().unwrap().display().to_string())));
    let counts = right_or_lost(&fixture, &paths);
    assert!(counts[0].1 == 0 && counts[2].1 == 0 && counts[1].0 > 100 && counts[1].1 > 100, "{counts:?}");
    // And what there is can be put together.
    let merged = dir.path().join("merged");
    let run = crate::harness::run(vdump().arg("merge").args(&paths).arg(&merged)).ok();
    assert!(run.stderr.contains("the input is incomplete"), "{}", run.stderr);
    let there = counts.iter().map(|(right, _)| right).sum::<usize>();
    let merged = Kdump::open(&merged);
    assert_eq!((merged.kept().len(), merged.field("status") & INCOMPLETE), (there, INCOMPLETE));
}

fn limited(fixture: &Fixture, words: &[&str], out: &Path) -> Run {
    run(vdump().args(["filter", "--progress", "none", "-c", "none"]).args(words).arg(&fixture.path).arg(out))
}

#[test]
fn a_limit_is_a_full_device() {
    let dir = temp_dir();
    let fixture = full_of_kernel(dir.path());
    let out = dir.path().join("saved").join("out");
    fs::create_dir(out.parent().unwrap()).unwrap();
    for (words, left) in [
        (&["--limit", "8M"][..], &["out-incomplete"][..]),
        (&["--limit", "8M", "--split", "2"], &["out-1-incomplete", "out-2-incomplete"]),
        (&["--limit", "8M", "-f", "elf"], &["out-incomplete"]),
        (&["--limit", "8M", "-f", "elf", "-c", "zstd"], &[]),
        (&["--limit", "64K"], &[]),
    ] {
        let run = limited(&fixture, words, &out);
        if left.is_empty() && words.contains(&"zstd") {
            // It is smaller than that.
            continue;
        }
        one_line(&run, 1);
        assert!(run.stderr.contains("limit"), "{words:?}: {}", run.stderr);
        assert_eq!(names(out.parent().unwrap()), left, "{words:?}");
        for name in left {
            let path = out.with_file_name(name);
            let len = fs::metadata(&path).unwrap().len();
            assert!((1 << 20..=8 << 20).contains(&len), "{words:?}: {len} bytes");
            fs::remove_file(path).unwrap();
        }
    }
}

/// What does not fit at one level is written at the next.
#[test]
fn levels_are_tried_one_after_the_other() {
    let dir = temp_dir();
    let mut machine = Machine::small(era("6.12"));
    machine.ram = vec![1 << 20..256 << 20];
    machine.arenas = vec![100 << 20..180 << 20];
    machine.zoo = vec![(crate::synth::kinds::Kind::Kernel, 500), (crate::synth::kinds::Kind::Anon, 10_000)];
    let fixture = machine.build(dir.path());
    let room = dir.path().join("room");
    fs::create_dir(&room).unwrap();
    let out = room.join("out");
    for (words, level) in [(&["-d", "1,31"][..], 31), (&["-d", "1,8,31"], 8), (&["-d", "31"], 31)] {
        let run = limited(&fixture, &[words, &["--limit", "24M"]].concat(), &out).ok();
        check::sound(&format!("{words:?}"), &check::kdump(&fixture, level, &out));
        assert_eq!(run.stderr.contains("with dump level 1: "), words[1] != "31", "{}", run.stderr);
        assert_eq!(names(&room), ["out"]);
        fs::remove_file(&out).unwrap();
    }
    // A name of our own choice is used again, and a set too.
    limited(&fixture, &["-d", "1,31", "--limit", "24M"], &room.join("own-incomplete")).ok();
    limited(&fixture, &["-d", "1,31", "--limit", "12M", "--split", "2"], &out).ok();
    all_pages("a set", &fixture, 31, &opened(&numbered(&out, 2)));
    assert_eq!(names(&room), ["out-1", "out-2", "own-incomplete"]);
    let run = limited(&fixture, &["-d", "0,1", "--limit", "24M"], &out);
    one_line(&run, 1);
    assert!(names(&room).contains(&"out-incomplete".to_owned()), "{run:?}");
}

#[test]
fn a_dry_run_knows_the_limit() {
    let dir = temp_dir();
    let fixture = full_of_kernel(dir.path());
    let dry = |words: &[&str]| {
        let run =
            run(vdump().args(["filter", "--dry-run", "--json", "-c", "none"]).args(words).arg(&fixture.path)).ok();
        let report: Value = serde_json::from_str(&run.stdout).unwrap();
        (
            report["dump_level"].as_u64().unwrap(),
            report["warnings"].to_string(),
            report["bytes_written"].as_u64().unwrap(),
        )
    };
    let (all, kernel) = (dry(&["-d", "0"]).2, dry(&["-d", "31"]).2);
    assert!(kernel < all);
    let between = ((all + kernel) / 2).to_string();
    let (level, warnings, _) = dry(&["-d", "0,31", "--limit", &between]);
    assert!(level == 31 && warnings.contains("trying level 31") && !warnings.contains("would end"), "{warnings}");
    let half = (kernel / 2).to_string();
    let (level, warnings, _) = dry(&["-d", "0,31", "--limit", &half]);
    assert!(level == 31 && warnings.contains("would end there, incomplete"), "{warnings}");
    assert!(!dry(&["-d", "31", "--split", "3", "--limit", &half]).1.contains("would end"));
    assert!(dry(&["-d", "0,31"]).1.contains("without --limit"));
}

#[test]
fn a_dry_run_counts_every_parts_headers() {
    let dir = temp_dir();
    let fixture = Machine::small(era("6.12")).build(dir.path());
    let bytes = |words: &[&str]| {
        let said = run(vdump().args(["filter", "--dry-run", "--json"]).args(words).arg(&fixture.path)).ok().stdout;
        serde_json::from_str::<Value>(&said).unwrap()["bytes_written"].as_u64().unwrap()
    };
    assert!(bytes(&["--split", "4"]) >= bytes(&[]) + 3 * (64 << 10));
    assert_eq!(bytes(&["--split", "2"]), bytes(&["-o", "a", "-o", "b"]));
    assert!(!Path::new("a").exists());
}
