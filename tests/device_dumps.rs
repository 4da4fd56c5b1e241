//! Notes that are larger than the memory: drivers' dumps of their devices (NT_VMCOREDD), which no dump may be lost for.

use std::fs::File;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::check;
use crate::harness::{run, temp_dir, vdump};
use crate::judges::installed;
use crate::synth::elf::{self, Note};
use crate::synth::kernels::era;
use crate::synth::{Fixture, Machine};

const NT_VMCOREDD: u32 = 0x700;
/// More than was read of notes before, and than the memory limit.
const DEVICE: usize = 36 << 20;

/// A machine with two device dumps in front of the other notes, as the kernel puts them.
fn with_device_dumps(dir: &Path) -> Fixture {
    let machine = Machine::small(era("6.1"));
    let mut fixture = machine.build(dir);
    let mut segments = machine.note_segments(fixture.info.as_bytes());
    for fill in [0xd1, 0xd2] {
        let desc = [&b"cxgb4"[..], &[0; 39], &vec![fill; DEVICE]].concat();
        segments[0].notes.insert(0, Note { name: "LINUX", kind: NT_VMCOREDD, desc });
    }
    fixture.placed = elf::write(&fixture.path, machine.style, &segments, &machine.pt_loads(), &fixture.image);
    fixture
}

#[test]
fn device_dumps_are_carried_and_cost_no_memory() {
    let dir = temp_dir();
    let fixture = with_device_dumps(dir.path());
    let at = |name: &str| dir.path().join(name);
    let filter = |words: &[&str], input: &Path, name: &str| -> Value {
        let words = [&["filter", "--force", "--json", "--memory-limit", "32M", "-j", "1"], words].concat();
        serde_json::from_str(&run(vdump().args(words).arg(input).arg(at(name))).ok().stdout).unwrap()
    };
    // From an ELF core, and from the kdump file that was made of it.
    filter(&["-d", "0"], &fixture.path, "whole");
    for input in [&fixture.path, &at("whole")] {
        let report = filter(&[], input, "out");
        let peak = report["peak_resident"].as_u64().unwrap();
        assert!(peak < 2 * DEVICE as u64, "{peak} bytes: {report}");
        check::sound("kdump", &check::kdump(&fixture, 31, &at("out")));
        filter(&["-d", "1"], input, "out.elf");
        check::sound("elf", &check::elf(&fixture, 1, &at("out.elf")));
        filter(&["-d", "1"], input, "out.zst");
        assert!(
            Command::new("zstd")
                .args(["-q", "-d", "-f"])
                .arg(at("out.zst"))
                .arg("-o")
                .arg(at("plain"))
                .status()
                .unwrap()
                .success()
        );
        check::sound("frames", &check::elf(&fixture, 1, &at("plain")));
        let flat = vdump()
            .args(["filter", "--progress", "none"])
            .arg(input)
            .arg("-")
            .stdout(File::create(at("flat")).unwrap())
            .status();
        assert!(flat.unwrap().success());
        run(vdump().args(["convert", "--force", "--progress", "none"]).arg(at("flat")).arg(at("again"))).ok();
        check::sound("flattened", &check::kdump(&fixture, 31, &at("again")));
        assert!(run(vdump().arg("info").arg(input)).ok().stdout.contains("CPUs saved      2"));
        assert!(run(vdump().args(["explain", "--pfn", "0x1000"]).arg(input)).ok().stdout.contains("class"));
        let checked = run(vdump().arg("check").arg(at("out")));
        assert!(!checked.stdout.contains("notes-"), "{}", checked.stdout);
    }
    // The notes are where other readers look for them.
    if installed("makedumpfile") {
        let again = at("judged");
        run(Command::new("makedumpfile").args(["-l", "-d", "31"]).arg(at("out.elf")).arg(&again)).ok();
        assert_eq!(crate::read::notes(crate::read::kdump::Kdump::open(&again).notes()).len(), 5);
    }
}
