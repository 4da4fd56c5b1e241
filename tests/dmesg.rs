//! `vdump dmesg`: the kernel's log as dmesg would print it, from both kinds of buffer.

use std::process::Command;

use crate::harness::{run, temp_dir, vdump};
use crate::judges::installed;
use crate::synth::encodings::KernelEra;
use crate::synth::kernels::era;
use crate::synth::klog::Record;
use crate::synth::{Fixture, Machine};

/// Enough records to wrap both buffers, some without text, some of several lines.
fn chatter() -> Vec<Record> {
    let mut records = vec![Record::new(0, "Linux version of a machine that crashed")];
    records.extend((1..300u64).map(|n| {
        let text = match n % 29 {
            7 => String::new(),
            11 => format!("first line of {n}\nsecond line of {n}"),
            _ => format!("message {n} {}", "x".repeat(n as usize % 23)),
        };
        Record::new(n * 37_000_123, text)
    }));
    records
}

fn machine(era: &'static KernelEra, log: Vec<Record>) -> Machine {
    Machine { log, ..Machine::small(era) }
}

/// A machine that has said a little.
pub fn talkative(era: &'static KernelEra, dir: &std::path::Path) -> Fixture {
    Machine { broken_sections: false, ..machine(era, chatter()[..6].to_vec()) }.build(dir)
}

/// `[    1.234567] text`; further lines of a record are indented or stamped, as printk itself varies.
fn expected(records: &[Record]) -> Vec<(String, String)> {
    let mut lines = Vec::new();
    for record in records {
        let (s, us) = (record.ts_nsec / 1_000_000_000, record.ts_nsec % 1_000_000_000 / 1000);
        let text = String::from_utf8_lossy(&record.text).into_owned();
        lines.extend(text.split('\n').map(|line| (format!("[{s:5}.{us:06}] "), line.to_owned())));
    }
    lines
}

fn check(fixture: &Fixture, records: &[Record], printed: &str) {
    let mut want = expected(&records[records.len() - fixture.log_kept..]);
    let mut got: Vec<&str> = printed.lines().collect();
    // Readers differ on whether a record without text is a line.
    want.retain(|(_, text)| !text.is_empty());
    got.retain(|line| !line.trim_end().ends_with(']'));
    assert_eq!(got.len(), want.len(), "first line: {:?}, last: {:?}", got.first(), got.last());
    let mut last_stamp = "";
    for (got, (stamp, text)) in got.iter().zip(&want) {
        let body = got.strip_prefix(stamp.as_str()).unwrap_or_else(|| {
            // Only a continuation may go without a stamp.
            assert_eq!(last_stamp, stamp, "{got:?}");
            got.trim_start()
        });
        assert_eq!(body.trim_end(), text.trim_end());
        last_stamp = stamp;
    }
}

#[test]
fn both_kinds_of_log_are_read() {
    for name in ["3.10", "4.4", "4.18", "5.15", "6.1", "6.12", "7.1"] {
        let dir = temp_dir();
        let fixture = machine(era(name), chatter()).build(dir.path());
        let printed = run(vdump().args(["dmesg", "--caller", "kernel"]).arg(&fixture.path)).ok().stdout;
        check(&fixture, &chatter(), &printed);
    }
}

#[test]
fn a_short_log_is_whole() {
    for name in ["4.18", "6.12"] {
        let dir = temp_dir();
        let records = chatter()[..6].to_vec();
        let fixture = machine(era(name), records.clone()).build(dir.path());
        assert_eq!(fixture.log_kept, 6);
        check(&fixture, &records, &run(vdump().args(["dmesg", "--caller", "kernel"]).arg(&fixture.path)).ok().stdout);
    }
}

/// As makedumpfile since 1.7.5 does; Linux has recorded it since 5.10.
#[test]
fn the_caller_is_shown_where_it_was_recorded() {
    let dir = temp_dir();
    for (name, recorded) in [("4.18", false), ("6.12", true)] {
        let fixture = machine(era(name), chatter()).build(dir.path());
        let shown = |words: &[&str]| run(vdump().arg("dmesg").args(words).arg(&fixture.path)).ok().stdout;
        let plain = shown(&["--caller", "never"]);
        let is_told = |text: &str| text.lines().next().is_some_and(|line| line[14..].starts_with("[    T0] "));
        assert_eq!((is_told(&shown(&[])), is_told(&plain)), (recorded, false), "{name}");
        assert_eq!(shown(&[]) == plain, !recorded);
    }
}

/// A log is untrusted text: nothing in it may reach the terminal as a control sequence.
#[test]
fn only_printable_bytes_are_printed() {
    let dir = temp_dir();
    let text = b"before \x1b[31mred\x1b[0m \x07bell \x00nul \xff\xfe\x9b after".to_vec();
    let fixture = machine(era("6.12"), vec![Record::new(1, text)]).build(dir.path());
    let out = vdump().args(["dmesg", "--caller", "kernel"]).arg(&fixture.path).output().unwrap();
    let printed = String::from_utf8(out.stdout).unwrap();
    assert!(printed.contains("before") && printed.contains("after"), "{printed:?}");
    assert!(printed.chars().all(|c| c == '\n' || !c.is_control()), "{printed:?}");
}

#[test]
fn a_broken_log_ends_cleanly() {
    let broken = [
        ("SYMBOL(prb)", "0"),
        ("SYMBOL(prb)", "ffffb0de00000000"),
        ("SIZE(printk_ringbuffer)", "0"),
        ("SIZE(prb_desc)", "0"),
        ("SIZE(prb_desc)", "4294967295"),
        ("SIZE(printk_info)", "1"),
        ("OFFSET(prb_desc_ring.descs)", "4096"),
        ("OFFSET(prb_desc_ring.count_bits)", "8"),
        ("OFFSET(prb_data_ring.size_bits)", "8"),
        ("OFFSET(printk_info.text_len)", "-2"),
        ("OFFSET(prb_desc.text_blk_lpos)", "100000"),
    ];
    for (key, value) in broken {
        let dir = temp_dir();
        let mut machine = machine(era("6.12"), chatter());
        machine.info.push((key.into(), Some(value.into())));
        let fixture = machine.build(dir.path());
        let run = run(vdump().args(["dmesg", "--caller", "kernel"]).arg(&fixture.path));
        assert!(matches!(run.code(), Some(0 | 1)), "{key}={value}: {run:?}");
        assert!(!run.stderr.contains("panicked"), "{key}={value}: {}", run.stderr);
        assert!(run.code() == Some(0) || run.stderr.starts_with("vdump: "), "{key}={value}: {}", run.stderr);
    }
}

/// The builder's logs are as real kernels write them, says makedumpfile.
#[test]
fn makedumpfile_reads_the_same_log() {
    if !installed("makedumpfile") {
        return;
    }
    for name in ["3.10", "4.4", "4.18", "5.15", "6.1"] {
        let dir = temp_dir();
        let fixture = machine(era(name), chatter()).build(dir.path());
        let out = dir.path().join("log");
        let done = Command::new("makedumpfile").arg("--dump-dmesg").arg(&fixture.path).arg(&out).output().unwrap();
        assert!(done.status.success(), "{name}: {}", String::from_utf8_lossy(&done.stderr));
        check(&fixture, &chatter(), &std::fs::read_to_string(&out).unwrap());
    }
}
