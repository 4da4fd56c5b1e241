//! What is said of inputs that are no dumps, and of dumps that say too little: the cause, and a next step that helps there.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::harness::{Run, filter, run, temp_dir, vdump, vdump_with};
use crate::refusal::{badly_failed, none_of};
use crate::synth::core::Core;
use crate::synth::elf::{Note, note_bytes};
use crate::synth::kernels::era;
use crate::synth::{Fixture, Machine};

const RAW: [&str; 2] = ["--elfcorehdr", "--iomem"];

/// First bytes of files that people take for dumps, by other programs' sources, and what must be said of them.
fn foreign() -> Vec<(&'static str, Vec<u8>, &'static str, &'static str)> {
    let ranged = |magic: u32, version: u32| [magic.to_le_bytes(), version.to_le_bytes()].concat();
    let at = |at: usize, magic: &[u8]| [vec![0; at], magic.to_vec()].concat();
    vec![
        ("lime", ranged(0x4c69_4d45, 1), "LiME", "padded"),
        ("avml", ranged(0x4c4d_5641, 2), "AVML", "avml-convert"),
        ("save", b"LibvirtQemudSave".to_vec(), "libvirt", "virsh dump --memory-only"),
        ("qevm", b"QEVM\0\0\0\x03".to_vec(), "QEMU", "virsh dump --memory-only"),
        ("vmss", 0xbed2_bed2u32.to_le_bytes().to_vec(), "VMware", "vmss2core"),
        ("windows", b"PAGEDU64".to_vec(), "Windows", "WinDbg"),
        ("lkcd", 0xa819_0173_618f_23edu64.to_le_bytes().to_vec(), "LKCD", "crash"),
        ("hibernated", b"S1SUSPEND".to_vec(), "hibernation", "resumes"),
        ("swap", at(4086, b"S1SUSPEND\0"), "hibernation", "resumes"),
        ("gzip", b"\x1f\x8b\x08\0".to_vec(), "gzip", "gzip -d"),
        ("xz", b"\xfd7zXZ\0".to_vec(), "xz", "xz -d"),
        ("bzip2", b"BZh91AY&SY".to_vec(), "bzip2", "bzip2 -d"),
        ("tar", at(257, b"ustar"), "tar", "tar -x"),
    ]
}

#[test]
fn foreign_files_are_named_with_the_way_out() {
    let dir = temp_dir();
    let iomem = dir.path().join("iomem");
    fs::write(&iomem, "00000000-00001fff : System RAM\n").unwrap();
    for (name, magic, what, way_out) in foreign() {
        let (file, out) = (dir.path().join(name), dir.path().join("out"));
        fs::write(&file, [magic, vec![0; 8192]].concat()).unwrap();
        let packed = dir.path().join("packed.zst");
        let status = Command::new("zstd").args(["-q", "-f"]).arg(&file).arg("-o").arg(&packed).status();
        assert!(status.unwrap().success());
        for input in [&file, &packed] {
            for run in [filter(&[], input, &out), vdump_with(["info".as_ref(), input.as_os_str()])] {
                none_of(&badly_failed(&run, &out));
                assert!(run.stderr.contains(what) && run.stderr.contains(way_out), "{name}: {}", run.stderr);
                let hinted = way_out != "padded"
                    && way_out != "avml-convert"
                    && RAW.iter().any(|hint| run.stderr.contains(hint));
                assert!(!hinted, "{name}: {}", run.stderr);
            }
        }
        let checked = vdump_with(["check".as_ref(), file.as_os_str()]);
        assert!(checked.stderr.contains(what) && checked.stderr.contains(way_out), "{name}: {}", checked.stderr);
        // It has room for the RAM that is named.
        let raw = filter(&["--iomem", iomem.to_str().unwrap()], &file, &out);
        assert_eq!(raw.code(), Some(2), "{name}: {}", raw.stderr);
        assert!(raw.stderr.contains(what) && raw.stderr.contains(way_out) && !out.exists(), "{name}: {}", raw.stderr);
    }
    // What begins like nothing known may be memory.
    let file = dir.path().join("memory");
    fs::write(&file, vec![0; 8192]).unwrap();
    let said = filter(&[], &file, &dir.path().join("out")).stderr;
    assert!(RAW.iter().all(|hint| said.contains(hint)), "{said}");
}

const LOW_LEVELS: &str = "-d 0 or -d 1";

#[test]
fn an_unknown_machine_is_named_and_nothing_is_advised_that_cannot_help() {
    let dir = temp_dir();
    let core = dir.path().join("core");
    let text = b"OSRELEASE=6.1.0\nPAGESIZE=4096\nSYMBOL(swapper_pg_dir)=c1234000\n".to_vec();
    let notes = note_bytes(&Note { name: "VMCOREINFO", kind: 0, desc: text });
    for (machine, name) in [(3, "i386"), (183, "arm64"), (22, "s390x"), (0x4242, "ELF machine 16962")] {
        fs::write(&core, Core { machine, ..Core::new(notes.clone()) }.build()).unwrap();
        let dmesg = vdump_with(["dmesg".as_ref(), core.as_os_str()]);
        assert!(dmesg.code() == Some(1) && dmesg.stderr.contains(name), "{dmesg:?}");
        assert!(!dmesg.stderr.contains("damaged") && !dmesg.stderr.contains("-d 0"), "{}", dmesg.stderr);
        let info = vdump_with(["info".as_ref(), core.as_os_str()]).ok().stdout;
        assert!(info.contains(name) && !info.contains(LOW_LEVELS), "{info}");
        let out = dir.path().join("out");
        let kept = run(vdump().args(["filter", "-d", "0", "--force"]).arg(&core).arg(&out)).ok().stderr;
        assert!(!kept.contains(LOW_LEVELS), "{kept}");
        let refused = filter(&[], &core, &dir.path().join("never"));
        assert!(refused.code() == Some(1) && refused.stderr.contains(LOW_LEVELS), "{refused:?}");
        assert!(!refused.stderr.contains("-x"), "{}", refused.stderr);
    }
}

fn without(key: &str, dir: &Path) -> Fixture {
    Machine { info: vec![(key.to_owned(), None)], ..Machine::small(era("6.12")) }.build(dir)
}

/// Where VMCOREINFO leaves something out, a vmlinux may have it.
#[test]
fn missing_keys_advise_what_may_say_them() {
    let dir = temp_dir();
    let fixture = without("OFFSET(page.mapping)", dir.path());
    let asked = |command: &str| -> Run { run(vdump().arg(command).arg(&fixture.path)) };
    for said in [filter(&[], &fixture.path, &dir.path().join("never")).stderr, asked("classes").stderr] {
        assert!(said.contains("OFFSET(page.mapping)") && said.contains("(-x)") && said.contains("--btf"), "{said}");
        assert_eq!(said.matches(';').count(), 1 + usize::from(said.contains(LOW_LEVELS)), "one next step: {said}");
    }
    let said = filter(&["-d", "1"], &fixture.path, &dir.path().join("out")).ok().stderr;
    assert!(said.contains("OFFSET(page.mapping)") && !said.contains(LOW_LEVELS), "{said}");
}

#[test]
fn where_no_more_files_can_be_opened_no_name_is_blamed() {
    let dir = temp_dir();
    let fixture = Machine::small(era("6.12")).build(dir.path());
    let mut seen = 0;
    for most in 3..12 {
        let out = dir.path().join(format!("out{most}"));
        let binary = vdump().get_program().to_owned();
        let limited = format!("ulimit -n {most}; exec \"$0\" filter -j 1 \"$1\" \"$2\"");
        let said = run(Command::new("sh").args(["-c", &limited]).arg(binary).arg(&fixture.path).arg(&out)).stderr;
        if said.contains("Too many open files") {
            assert!(said.contains("ulimit -n") && !said.contains("another name"), "{most}: {said}");
            seen += 1;
        }
    }
    assert!(seen > 0);
}

/// What comes from a dump must not drive the terminal.
#[test]
fn control_characters_of_a_dump_are_shown_as_such() {
    let dir = temp_dir();
    let release = "6.12\x1b]0;title\x07";
    let info = vec![("OSRELEASE".to_owned(), Some(release.to_owned()))];
    let fixture = Machine { info, ..Machine::small(era("6.12")) }.build(dir.path());
    for words in
        [&["layout", "--from"][..], &["info"], &["classes"], &["explain", "--pfn", "0x1000"], &["filter", "--dry-run"]]
    {
        let said = run(vdump().args(words).arg(&fixture.path)).ok();
        let all = said.stdout + &said.stderr;
        assert!(!all.chars().any(|c| c.is_control() && c != '\n'), "{words:?}: {all:?}");
        assert!(all.contains("6.12\\u{1b}]0;title\\u{7}") || words[0] == "filter", "{words:?}: {all}");
    }
}
