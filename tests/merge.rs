//! Merging: parts become one dump whose pages are the same bytes, streams become files.
//!
//! Knows specifications of files, and other people's tools. Must not know how pages are found. Fails with what was changed.

use std::fs;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::check;
use crate::harness::{Run, filter, run, temp_dir, vdump};
use crate::judge::{libkdumpfile, undisputed};
use crate::judges::installed;
use crate::read::kdump::{INCOMPLETE, Kdump};
use crate::split_output::numbered;
use crate::synth::Machine;
use crate::synth::kdump::{Spec, Stored};
use crate::synth::kernels::era;

const EVERY: [Stored; 5] = [Stored::Raw, Stored::Zlib, Stored::Lzo, Stored::Snappy, Stored::Zstd];

fn spec() -> Spec {
    let mut spec = Spec { level: 17, status: 1, ..Spec::new(6, 4096, 1000) };
    spec = spec.with_pages(1..300, &EVERY).with_pages(640..700, &EVERY).with_pages(998..1000, &EVERY);
    for pfn in [5, 6, 290, 690] {
        spec.pages.insert(pfn, (vec![0; 4096], Stored::Raw));
    }
    spec.excluded = (300..640).collect();
    spec
}

fn put(dir: &Path, name: &str, parts: &[Vec<u8>]) -> Vec<PathBuf> {
    let paths = numbered(&dir.join(name), parts.len());
    paths.iter().zip(parts).for_each(|(path, bytes)| fs::write(path, bytes).unwrap());
    paths
}

fn merge(options: &[&str], inputs: &[PathBuf], output: &Path) -> Run {
    run(vdump().args(["merge", "--force"]).args(options).args(inputs).arg(output))
}

/// The page as it is stored, and its codec.
fn stored(dump: &Kdump, pfn: u64) -> (u32, Vec<u8>) {
    let desc = dump.desc(pfn).unwrap();
    (desc.flags, dump.bytes[desc.offset as usize..][..desc.size as usize].to_vec())
}

#[test]
fn pages_are_copied_as_they_are() {
    let dir = temp_dir();
    let out = dir.path().join("out");
    let spec = Spec { eraseinfo: "erase jiffies 8\n".to_owned(), ..spec() };
    let whole = put(dir.path(), "whole", &[spec.build().0]);
    let before = Kdump::open(&whole[0]);
    let mut parts = put(dir.path(), "part", &spec.split(&[64, 320, 640, 1000]));
    let flat = flattened(&fs::read(&parts[1]).unwrap(), 5000);
    fs::write(&parts[1], flat).unwrap();
    parts.rotate_left(2);
    for (inputs, options) in [(&whole, &[][..]), (&parts, &["-j", "1"]), (&parts, &["--strict", "-j", "3"])] {
        let run = merge(options, inputs, &out).ok();
        assert!(!run.stderr.contains("note:"), "{}", run.stderr);
        let after = Kdump::open(&out);
        check::sound("merged", &after.faults());
        assert_eq!((after.kept(), after.ram()), (before.kept(), before.ram()));
        for pfn in after.kept() {
            assert!(stored(&after, pfn) == stored(&before, pfn), "{pfn:#x}");
        }
        let zeros: Vec<_> = [5, 6, 290, 690].iter().map(|pfn| after.desc(*pfn).unwrap().offset).collect();
        assert!(zeros.iter().all(|offset| *offset == zeros[0]), "zero pages are not shared: {zeros:?}");
        for field in ["tv_sec", "phys_base", "dump_level", "nr_cpus", "max_mapnr_64"] {
            assert_eq!(after.field(field), before.field(field), "{field}");
        }
        assert_eq!(after.field("status") & 1, 1, "the codec is not in the header");
        assert_eq!((after.uts(), after.vmcoreinfo()), (before.uts(), before.vmcoreinfo()));
        assert_eq!(after.erased(), spec.eraseinfo.as_bytes());
    }
}

/// Each of makedumpfile's parts lists what was erased in it.
#[test]
fn erased_data_is_still_listed() {
    let dir = temp_dir();
    let out = dir.path().join("out");
    let ends = [0..320, 320..1000];
    let lists = ["erase one 8\n", "erase two 16\n"];
    let parts = ends.iter().zip(lists).map(|(part, erased)| Spec {
        part: Some(part.clone()),
        eraseinfo: erased.to_owned(),
        ..spec()
    });
    let parts = put(dir.path(), "part", &parts.map(|part| part.build().0).collect::<Vec<_>>());
    merge(&[], &parts, &out).ok();
    assert_eq!(Kdump::open(&out).erased(), lists.concat().as_bytes());
    for (words, kept) in [(&["-c", "lzo"][..], true), (&["--split", "2"], true), (&["-f", "elf"], false)] {
        let to = dir.path().join("to");
        let run = run(vdump().args(["convert", "--force"]).args(words).arg(&out).arg(&to)).ok();
        assert_eq!(run.stderr.contains("erased on purpose"), !kept, "{words:?}: {}", run.stderr);
        if words[0] == "-c" {
            assert_eq!(Kdump::open(&to).erased(), lists.concat().as_bytes());
        }
    }
    // Of our own sets the first part has the list, so that whoever joins the parts' lists has it once.
    let set = numbered(&dir.path().join("to"), 2);
    assert_eq!(set.iter().map(|path| Kdump::open(path).erased().len()).collect::<Vec<_>>(), [lists.concat().len(), 0]);
    merge(&[], &set, &out).ok();
    assert_eq!(Kdump::open(&out).erased(), lists.concat().as_bytes());
}

#[test]
fn damaged_pages_are_copied_or_reported() {
    let dir = temp_dir();
    let out = dir.path().join("out");
    let spec = spec().with_pages(20..22, &[Stored::Broken]);
    let parts = put(dir.path(), "part", &spec.split(&[320, 1000]));
    let before = Kdump::open(&parts[0]);
    merge(&[], &parts, &out).ok();
    let after = Kdump::open(&out);
    for pfn in [20, 21] {
        assert!(after.page(pfn).is_err() && stored(&after, pfn) == stored(&before, pfn), "{pfn:#x}");
    }
    let strict = merge(&["--strict"], &parts, &dir.path().join("strict"));
    assert_eq!(strict.code(), Some(1));
    assert!(strict.stderr.contains("page 0x14") && strict.stderr.contains("zlib data"), "{}", strict.stderr);
    assert!(!dir.path().join("strict").exists());
    let ways = [Stored::Lost, Stored::Outside, Stored::TooLarge, Stored::Unknown];
    let spec = spec.with_pages(30..34, &ways);
    let parts = put(dir.path(), "bad", &spec.split(&[320, 1000]));
    let run = merge(&[], &parts, &out).ok();
    for says in ["page 0x1e", "page 0x1f", "page 0x20", "page 0x21", "4 pages could not be read"] {
        assert!(run.stderr.contains(says), "{says}: {}", run.stderr);
    }
    let after = Kdump::open(&out);
    let kept = spec.pages.keys().copied().filter(|pfn| !(30..34).contains(pfn)).collect();
    assert_eq!(after.kept(), kept);
}

#[test]
fn what_cannot_be_merged_is_named() {
    let dir = temp_dir();
    let fixture = Machine::small(era("6.12")).build(dir.path());
    let parts = put(dir.path(), "part", &spec().split(&[64, 320, 1000]));
    let theirs = put(dir.path(), "theirs", &Spec { tv_sec: 7, ..spec() }.split(&[64, 320, 1000]));
    let out = dir.path().join("out");
    let stdin = PathBuf::from("-");
    for (inputs, code, says) in [
        (vec![parts[0].clone(), theirs[1].clone(), parts[2].clone()], 1, "theirs-2"),
        (vec![parts[0].clone(), parts[0].clone(), parts[1].clone(), parts[2].clone()], 1, "part-1"),
        (vec![fixture.path.clone()], 2, "vdump convert"),
        (vec![parts[0].clone(), stdin.clone()], 2, "from standard input"),
        (vec![dir.path().join("none")], 1, "none"),
        (vec![stdin], 1, "does not begin like one"),
    ] {
        let run = merge(&[], &inputs, &out);
        assert_eq!(run.code(), Some(code), "{inputs:?}: {run:?}");
        assert!(run.stderr.lines().count() == 1 && run.stderr.contains(says), "{inputs:?}: {}", run.stderr);
        assert!(!out.exists() && !dir.path().join("out-incomplete").exists());
    }
    let to_pipe = merge(&[], &parts, Path::new("-"));
    assert_eq!((to_pipe.code(), to_pipe.stdout.as_str()), (Some(2), ""), "{}", to_pipe.stderr);
    let lacking = [parts[0].clone(), parts[2].clone()];
    let refused = merge(&["--strict"], &lacking, &out);
    assert!(refused.code() == Some(1) && refused.stderr.contains("a part of the split dump is missing"), "{refused:?}");
    let unseen = merge(&["--strict"], &["-".into()], &out);
    assert!(unseen.code() == Some(2) && unseen.stderr.contains("--strict"), "{unseen:?}");
    let own = merge(&[], &parts, &parts[1]);
    assert!(own.code() == Some(2) && own.stderr.contains("is an input"), "{own:?}");
}

fn record(offset: i64, data: &[u8]) -> Vec<u8> {
    [&offset.to_be_bytes(), &(data.len() as i64).to_be_bytes(), data].concat()
}

fn header() -> Vec<u8> {
    let mut block = [&b"makedumpfile\0\0\0\0"[..], &1i64.to_be_bytes(), &1i64.to_be_bytes()].concat();
    block.resize(4096, 0);
    block
}

const END: [u8; 16] = [0xff; 16];

/// The file's pieces as records, the last first.
fn flattened(bytes: &[u8], piece: usize) -> Vec<u8> {
    let pieces = bytes.chunks(piece).enumerate().collect::<Vec<_>>();
    let records = pieces.iter().rev().flat_map(|(n, data)| record((n * piece) as i64, data));
    header().into_iter().chain(records).chain(END).collect()
}

/// Runs `vdump merge - OUT` on a stream.
fn rearranged(stream: &[u8], options: &[&str], out: &Path) -> Run {
    let input = out.with_file_name("stream");
    fs::write(&input, stream).unwrap();
    let mut command = Command::new("sh");
    command.args(["-c", "cat \"$0\" | \"$@\""]).arg(&input).arg(vdump().get_program()).arg("merge");
    run(command.args(options).arg("-").arg(out))
}

#[test]
fn a_stream_becomes_the_file() {
    let dir = temp_dir();
    let out = dir.path().join("out");
    let bytes = spec().build().0;
    for piece in [777, 5000, 1 << 20] {
        rearranged(&flattened(&bytes, piece), &["--force"], &out).ok();
        assert!(fs::read(&out).unwrap() == bytes, "pieces of {piece}");
    }
    // Later records win, and what no record has is zeros.
    let twice = [header(), record(0, b"KDUMP   xxxxx"), record(20, b"end"), record(8, b"yy"), END.to_vec()].concat();
    rearranged(&twice, &["--force"], &out).ok();
    assert_eq!(fs::read(&out).unwrap(), b"KDUMP   yyxxx\0\0\0\0\0\0\0end");
    let report = rearranged(&twice, &["--force", "--json"], &out).ok().stdout;
    let report: serde_json::Value = serde_json::from_str(&report).unwrap();
    assert_eq!((&report["records"], &report["bytes_written"]), (&3.into(), &23.into()));
    let more = [&twice[..], b"more"].concat();
    let said = rearranged(&more, &["--force"], &out).ok().stderr;
    assert!(said.contains("something follows"), "{said}");
}

/// What a filtered dump left out exists all the same, also after it went through a pipe.
#[test]
fn a_filtered_dump_goes_through_a_pipe_unchanged() {
    let dir = temp_dir();
    let at = |name: &str| dir.path().join(name);
    fs::write(at("in"), spec().build().0).unwrap();
    let stream = fs::File::create(at("stream")).unwrap();
    let convert = || {
        let mut command = vdump();
        command.args(["convert", "-c", "lzo"]).arg(at("in"));
        command
    };
    assert!(convert().arg("-").stdout(stream).stderr(Stdio::null()).status().unwrap().success());
    run(convert().arg(at("file"))).ok();
    run(vdump().args(["merge", "-"]).arg(at("merged")).stdin(fs::File::open(at("stream")).unwrap())).ok();
    assert!(fs::read(at("merged")).unwrap() == fs::read(at("file")).unwrap());
}

#[test]
fn broken_streams_leave_what_came() {
    let dir = temp_dir();
    let (out, left) = (dir.path().join("out"), dir.path().join("out-incomplete"));
    let whole = flattened(&spec().build().0, 5000);
    let without_end = &whole[..whole.len() - 16];
    for (what, stream, says, stays) in [
        ("no end", without_end.to_vec(), "without the end mark", true),
        ("half an end", whole[..whole.len() - 8].to_vec(), "ends at byte", true),
        ("cut in a record", whole[..12_000].to_vec(), "in the middle of a record", true),
        ("a negative offset", [without_end, &record(-5, b"1234")].concat(), "impossible", true),
        ("an empty record", [without_end, &record(5, b"")].concat(), "impossible", true),
        ("an offset past any file", [without_end, &record(i64::MAX - 4096, b"1234")].concat(), "bytes at most", true),
        ("no records", [header(), END.to_vec()].concat(), "no records", false),
        ("nothing", Vec::new(), "nothing came", false),
        ("a dump", spec().build().0, "it is a dump already", false),
        ("half a header", header()[..2000].to_vec(), "does not begin like one", false),
    ] {
        let run = rearranged(&stream, &[], &out);
        assert_eq!(run.code(), Some(1), "{what}: {run:?}");
        assert!(run.stderr.lines().count() == 1 && run.stderr.contains(says), "{what}: {}", run.stderr);
        assert!(!out.exists() && left.exists() == stays, "{what}");
        assert!(run.stderr.contains("out-incomplete") == stays, "{what}: {}", run.stderr);
        let _ = fs::remove_file(&left);
    }
    fs::write(&out, "precious").unwrap();
    assert_eq!(rearranged(&whole, &[], &out).code(), Some(1));
    assert_eq!(fs::read(&out).unwrap(), b"precious");
    let limited = rearranged(&whole, &["--force", "--limit", "8K"], &out);
    assert!(limited.code() == Some(1) && limited.stderr.contains("limit"), "{limited:?}");
}

/// A stalled stream does not keep a signal from being seen, and what came until then stays.
#[test]
fn a_signal_ends_a_stalled_stream() {
    let dir = temp_dir();
    let out = dir.path().join("out");
    let mut command = vdump();
    command.arg("merge").arg("-").arg(&out).stdin(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    std::io::Write::write_all(&mut stdin, &[header(), record(0, b"KDUMP   ")].concat()).unwrap();
    let left = dir.path().join("out-incomplete");
    while fs::metadata(&left).map_or(0, |meta| meta.len()) < 8 {
        std::thread::yield_now();
    }
    run(Command::new("kill").args(["-TERM", &child.id().to_string()])).ok();
    let done = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&done.stderr);
    assert_eq!(done.status.code(), Some(143), "{said}");
    assert!(said.contains("stopped by SIGTERM") && said.contains("out-incomplete has"), "{said}");
    assert!(left.exists() && !out.exists());
    drop(stdin);
}

#[test]
fn makedumpfile_and_we_do_the_same_with_sets_and_streams() {
    use std::os::unix::process::CommandExt as _;
    if !installed("makedumpfile") {
        return;
    }
    let dir = temp_dir();
    let fixture = undisputed("6.1").build(dir.path());
    let at = |name: &str| dir.path().join(name);
    // Our set, put together by makedumpfile: the pages of the dump that was never split.
    filter(&["--split", "3", "-c", "zlib", "-d", "1"], &fixture.path, &at("ours")).ok();
    let parts = numbered(&at("ours"), 3);
    run(Command::new("makedumpfile").arg("--reassemble").args(&parts).arg(at("theirs"))).ok();
    let (theirs, first) = (Kdump::open(&at("theirs")), Kdump::open(&parts[0]));
    assert_eq!((theirs.kept(), theirs.ram()), (fixture.truth.kept(1), first.ram()));
    for pfn in theirs.kept() {
        assert!(theirs.page(pfn).as_ref() == Ok(&fixture.image.page(pfn)), "{pfn:#x}");
    }
    assert_eq!((theirs.vmcoreinfo(), theirs.notes()), (first.vmcoreinfo(), first.notes()));
    // Its set, put together by us: its own whole dump's pages, compressed as they were.
    let split: Vec<_> = (1..4).map(|n| at(&format!("split{n}"))).collect();
    let words = ["-l", "-d", "31", "--split", "--splitblock-size", "64"];
    run(Command::new("makedumpfile").args(words).arg(&fixture.path).args(&split)).ok();
    run(Command::new("makedumpfile").args(["-l", "-d", "31"]).arg(&fixture.path).arg(at("one"))).ok();
    run(Command::new("makedumpfile").arg("--reassemble").args(&split).arg(at("one2"))).ok();
    let called = |words: &[&str]| {
        let mut command = vdump();
        command.arg0("/usr/sbin/makedumpfile").args(words);
        command
    };
    run(called(&["--reassemble"]).args(&split).arg(at("merged"))).ok();
    let (merged, one) = (Kdump::open(&at("merged")), Kdump::open(&at("one2")));
    assert_eq!((merged.kept(), merged.ram()), (one.kept(), one.ram()));
    for pfn in merged.kept() {
        assert!(stored(&merged, pfn) == stored(&one, pfn), "{pfn:#x}");
    }
    // Streams of both, put in order by both.
    for (format, words) in [("kdump", &["-l", "-d", "31", "-F"][..]), ("ELF", &["-E", "-d", "31", "-F"])] {
        let stream = fs::File::create(at("stream")).unwrap();
        let made =
            Command::new("makedumpfile").args(words).arg(&fixture.path).stdout(stream).stderr(Stdio::null()).status();
        assert!(made.unwrap().success());
        let open = || fs::File::open(at("stream")).unwrap();
        run(Command::new("makedumpfile").args(["-f", "-R"]).arg(at("back")).stdin(open())).ok();
        run(called(&["-f", "-R"]).arg(at("ours-back")).stdin(open())).ok();
        assert!(fs::read(at("back")).unwrap() == fs::read(at("ours-back")).unwrap(), "{format}");
    }
}

/// makedumpfile's own spelling for what we do, with names that are no UTF-8.
#[test]
fn scripts_split_by_makedumpfiles_name() {
    use std::os::unix::process::CommandExt as _;
    let dir = temp_dir();
    let fixture = Machine::small(era("6.12")).build(dir.path());
    let odd = |name: &[u8]| dir.path().join(std::ffi::OsString::from_vec([name, b"\xff\xfe"].concat()));
    let names = [odd(b"a"), odd(b"b"), odd(b"c")];
    let called = |words: &[&str], files: &[PathBuf]| run(vdump().arg0("makedumpfile").args(words).args(files));
    let files = [vec![fixture.path.clone()], names.to_vec()].concat();
    called(&["--split", "-l", "-d31", "--splitblock-size", "64"], &files).ok();
    called(&["--reassemble"], &[names.to_vec(), vec![odd(b"whole")]].concat()).ok();
    check::sound("reassembled", &check::kdump(&fixture, 31, &odd(b"whole")));
    assert_eq!(Kdump::open(&names[0]).field("status") & INCOMPLETE, 0);
    called(&["-l", "-d", "1,31", "-L", "100M"], &[fixture.path.clone(), odd(b"first")]).ok();
    check::sound("-d 1,31", &check::kdump(&fixture, 1, &odd(b"first")));
    let limited = called(&["-d", "31", "-L", "70000"], &[fixture.path.clone(), odd(b"limited")]);
    assert!(limited.code() == Some(1) && limited.stderr.contains("limit"), "{limited:?}");
}

/// Reads each kept page from the set and from the whole dump; the set's files come in any order.
const SAME_PAGES: &str = "
import ctypes, os, sys
lib = ctypes.CDLL('libkdumpfile.so.10')
lib.kdump_new.restype = ctypes.c_void_p
lib.kdump_get_err.restype = ctypes.c_char_p
def opened(names):
    core = ctypes.c_void_p(lib.kdump_new())
    files = [os.open(name, os.O_RDONLY) for name in names]
    status = lib.kdump_open_fdset(core, len(files), (ctypes.c_int * len(files))(*files))
    assert status == 0, lib.kdump_get_err(core)
    return core
def read(core, pfn):
    page, size = ctypes.create_string_buffer(4096), ctypes.c_size_t(4096)
    status = lib.kdump_read(core, 1, ctypes.c_uint64(pfn << 12), page, ctypes.byref(size))
    return page.raw if status == 0 else status
whole, parts = opened(sys.argv[1:2]), opened(sys.argv[2:])
pages = 0
for pfn in map(int, sys.stdin):
    assert read(whole, pfn) == read(parts, pfn), hex(pfn)
    pages += isinstance(read(parts, pfn), bytes)
print(pages)
";

#[test]
fn libkdumpfile_reads_a_set_like_the_whole_dump() {
    if !libkdumpfile() {
        return;
    }
    let dir = temp_dir();
    let fixture = undisputed("6.12").build(dir.path());
    let whole = dir.path().join("whole");
    filter(&["-c", "lzo"], &fixture.path, &whole).ok();
    filter(&["-c", "lzo", "--split", "5"], &fixture.path, &dir.path().join("set")).ok();
    let kept = fixture.truth.kept(31);
    let some = fixture.truth.pfns().filter(|pfn| kept.contains(pfn) || pfn.is_multiple_of(61));
    let list = dir.path().join("list");
    fs::write(&list, some.map(|pfn| format!("{pfn}\n")).collect::<String>()).unwrap();
    let mut parts = numbered(&dir.path().join("set"), 5);
    parts.rotate_left(3);
    let mut command = Command::new("/usr/bin/python3");
    command.args(["-c", SAME_PAGES]).arg(&whole).args(&parts).stdin(fs::File::open(&list).unwrap());
    assert_eq!(run(&mut command).ok().stdout.trim(), kept.len().to_string());
}
