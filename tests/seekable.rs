//! Compressed ELF dumps: what `zstd -d` and `lz4 -d` make of them, and vdump as their reader.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::check;
use crate::harness::{filter, run, temp_dir, vdump};
use crate::outputs::filtered_twice;
use crate::read::kdump::Kdump;
use crate::synth::kernels::era;
use crate::synth::{Fixture, Machine};

/// The codec, its program, and the name that asks for it.
const CODECS: [(&str, &str, &str); 2] = [("zstd", "zstd", "out.elf.zst"), ("lz4", "lz4", "out.lz4")];

fn usual(dir: &Path) -> Fixture {
    Machine::new(era("6.12")).build(dir)
}

/// The program's own idea of what is in the file; it also checks every checksum.
fn unpacked(program: &str, packed: &Path) -> Vec<u8> {
    let done = Command::new(program).args(["-d", "-c"]).arg(packed).stdin(Stdio::null()).output().unwrap();
    assert!(done.status.success(), "{program}: {}", String::from_utf8_lossy(&done.stderr));
    done.stdout
}

fn plain(fixture: &Fixture, dir: &Path, level: &str) -> (PathBuf, Vec<u8>) {
    let path = dir.join("plain.elf");
    filter(&["-d", level, "--force"], &fixture.path, &path).ok();
    let bytes = fs::read(&path).unwrap();
    (path, bytes)
}

#[test]
fn other_programs_make_the_plain_elf_of_it() {
    let dir = temp_dir();
    let fixture = usual(dir.path());
    for level in ["0", "1", "31"] {
        let (_, plain) = plain(&fixture, dir.path(), level);
        for (_, program, name) in CODECS {
            let packed = dir.path().join(name);
            let run = filter(&["--json", "-d", level, "--force"], &fixture.path, &packed).ok();
            assert!(unpacked(program, &packed) == plain, "{program} -d {level}: another ELF");
            let report: Value = serde_json::from_str(&run.stdout).unwrap();
            assert_eq!(report["bytes_written"], fs::metadata(&packed).unwrap().len());
        }
    }
}

#[test]
fn the_table_tells_where_the_frames_are() {
    let dir = temp_dir();
    let fixture = usual(dir.path());
    let (_, plain) = plain(&fixture, dir.path(), "1");
    for (_, program, name) in CODECS {
        let packed = dir.path().join(name);
        filter(&["-d", "1"], &fixture.path, &packed).ok();
        let bytes = fs::read(&packed).unwrap();
        let word = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize;
        let end = bytes.len();
        assert_eq!((word(end - 4), bytes[end - 5]), (0x8F92_EAB1, 0), "{program}");
        let frames = word(end - 9);
        let table = end - 9 - frames * 8;
        assert_eq!((word(table - 8), word(table - 4)), (0x184D_2A5E, frames * 8 + 9), "{program}");
        let (mut stored, mut shown) = (0, 0);
        for frame in 0..frames {
            let (packed, len) = (word(table + frame * 8), word(table + frame * 8 + 4));
            let one = dir.path().join("frame");
            fs::write(&one, &bytes[stored..stored + packed]).unwrap();
            assert!(unpacked(program, &one) == plain[shown..shown + len], "{program}: frame {frame}");
            (stored, shown) = (stored + packed, shown + len);
        }
        assert_eq!((stored, shown), (table - 8, plain.len()), "{program}");
    }
}

#[test]
fn it_is_read_at_random_like_the_plain_elf() {
    let dir = temp_dir();
    let fixture = filtered_twice().build(dir.path());
    for (codec, _, name) in CODECS {
        let packed = dir.path().join(name);
        filter(&["-d", "0"], &fixture.path, &packed).ok();
        let out = dir.path().join("again");
        // There is no room for a temporary file: it must not be unpacked.
        let nowhere = dir.path().join("nowhere");
        let again = ["filter", "-f", "elf", "--force"];
        run(vdump().env("TMPDIR", &nowhere).args(again).arg(&packed).arg(&out)).ok();
        check::sound(codec, &check::elf(&fixture, 31, &out));
        let shown = run(vdump().arg("info").arg(&packed)).ok().stdout;
        assert!(shown.contains(&format!("seekable {codec}")), "{shown}");
    }
}

#[test]
fn files_without_a_table_are_unpacked_as_a_whole() {
    let dir = temp_dir();
    let fixture = Machine::small(era("6.12")).build(dir.path());
    for (codec, program, _) in CODECS {
        let packed = dir.path().join(codec);
        let mut made = Command::new(program);
        made.args(["-q", "-c"]).arg(&fixture.path).stdout(fs::File::create(&packed).unwrap());
        assert!(made.status().unwrap().success());
        // Something skippable and another frame behind it are part of the format.
        let empty = if codec == "zstd" { zstd::encode_all(&b""[..], 1).unwrap() } else { Vec::new() };
        let extra = [&0x184D_2A53u32.to_le_bytes()[..], &3u32.to_le_bytes(), b"abc", &empty].concat();
        fs::write(&packed, [fs::read(&packed).unwrap(), extra].concat()).unwrap();
        let out = dir.path().join("out");
        filter(&["--force"], &packed, &out).ok();
        check::sound(codec, &check::kdump(&fixture, 31, &out));
    }
}

#[test]
fn the_bytes_do_not_depend_on_threads_or_memory() {
    let dir = temp_dir();
    let fixture = usual(dir.path());
    for (codec, ..) in CODECS {
        let bytes = [["-j", "1", "--memory-limit", "40M"], ["-j", "7", "--memory-limit", "512M"]].map(|options| {
            let out = dir.path().join("out");
            filter(&[&["-f", "elf", "-c", codec, "-d", "1", "--force"], &options[..]].concat(), &fixture.path, &out)
                .ok();
            fs::read(&out).unwrap()
        });
        assert!(bytes[0] == bytes[1], "{codec}");
    }
}

#[test]
fn a_damaged_frame_costs_its_own_pages() {
    let dir = temp_dir();
    let fixture = Machine::small(era("6.12")).build(dir.path());
    for (codec, _, name) in CODECS {
        let packed = dir.path().join(name);
        filter(&["-d", "0", "--force"], &fixture.path, &packed).ok();
        let mut bytes = fs::read(&packed).unwrap();
        let end = bytes.len();
        let frames = u32::from_le_bytes(bytes[end - 9..end - 5].try_into().unwrap()) as usize;
        let table = end - 9 - frames * 8;
        // The end of the last frame of data: its checksum.
        bytes[table - 9] ^= 1;
        fs::write(&packed, &bytes).unwrap();
        let out = dir.path().join("out");
        let run = filter(&["-d", "0", "--json", "--force"], &packed, &out).ok();
        let report: Value = serde_json::from_str(&run.stdout).unwrap();
        let lost = report["unreadable_pages"].as_u64().unwrap();
        assert!((1..=256).contains(&lost), "{codec}: {lost} pages");
        assert!(run.stderr.contains("is damaged"), "{codec}: {}", run.stderr);
        let dump = Kdump::open(&out);
        assert_eq!(dump.kept().len() as u64 + lost, fixture.truth.kept(0).len() as u64);
        let wrong = dump.kept().into_iter().find(|pfn| dump.page(*pfn) != Ok(fixture.image.page(*pfn)));
        assert_eq!(wrong, None, "{codec}: a page differs");
        let strict = filter(&["-d", "0", "--strict", "--force"], &packed, &out);
        assert_eq!(strict.code(), Some(1));
        assert!(strict.stderr.contains("is damaged"), "{}", strict.stderr);
    }
}

/// A limit on the file's size ends the output like a full device does.
#[test]
fn what_a_full_device_leaves_is_a_prefix() {
    let dir = temp_dir();
    let fixture = usual(dir.path());
    let (_, plain) = plain(&fixture, dir.path(), "0");
    for (codec, program, name) in CODECS {
        let whole = dir.path().join("whole");
        filter(&["-f", "elf", "-c", codec, "-d", "0", "--force"], &fixture.path, &whole).ok();
        let half = (fs::metadata(&whole).unwrap().len() / 2 / 1024).to_string();
        let out = dir.path().join(name);
        let vdump = vdump().get_program().to_owned();
        let mut limited = Command::new("bash");
        limited.args(["-c", "ulimit -f \"$0\"; exec \"$@\"", &half]).arg(vdump);
        let run = run(limited.args(["filter", "-d", "0"]).arg(&fixture.path).arg(&out));
        assert_eq!(run.code(), Some(1), "{}", run.stderr);
        assert!(!out.exists());
        let left = dir.path().join(format!("{name}-incomplete"));
        let prefix = unpacked(program, &left);
        assert!(prefix.len() > 1 << 20 && plain.starts_with(&prefix), "{codec}: no prefix");
        let word = fs::read(&left).unwrap();
        assert_eq!(&word[word.len() - 4..], &0x8F92_EAB1u32.to_le_bytes(), "{codec}: no table");
    }
}

#[test]
fn a_dry_run_says_about_how_large_it_would_be() {
    let dir = temp_dir();
    let fixture = usual(dir.path());
    for (codec, ..) in CODECS {
        let sizes = [&["--dry-run"][..], &[]].map(|more| {
            let options = [&["--json", "-d", "0", "-f", "elf", "-c", codec], more].concat();
            let run = filter(&options, &fixture.path, &dir.path().join(codec)).ok();
            serde_json::from_str::<Value>(&run.stdout).unwrap()["bytes_written"].as_u64().unwrap()
        });
        assert!(sizes[0] / 2 < sizes[1] && sizes[1] < sizes[0] * 2, "{codec}: {sizes:?}");
    }
}
