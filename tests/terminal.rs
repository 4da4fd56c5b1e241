//! Text from a dump never drives the terminal that shows it.
//!
//! Knows control characters. Must not know formats. Fails with what was printed.

use crate::harness::{Run, run, temp_dir, vdump};
use crate::synth::Machine;
use crate::synth::kernels::era;

/// Sets the title, clears the screen, rings, goes back, deletes, and the one-byte form of what ESC [ does.
const HOSTILE: &str = "6.12\u{1b}]0;owned\u{7}\u{1b}[2J\r\u{8}\u{7f}\u{9b}31m";

/// Keys whose values are shown, or quoted by an error.
const KEYS: [&str; 6] =
    ["OSRELEASE", "BUILD-ID", "CRASHTIME", "SIZE(page)", "NUMBER(SECTION_SIZE_BITS)", "SYMBOL(mem_section)"];

fn raw(run: &Run) -> Vec<char> {
    let mut controls: Vec<char> =
        (run.stdout.chars().chain(run.stderr.chars())).filter(|c| c.is_control() && *c != '\n').collect();
    controls.dedup();
    controls
}

#[test]
fn no_control_character_of_a_dump_is_printed() {
    let dir = temp_dir();
    let out = dir.path().join("out");
    let out = out.to_str().unwrap();
    let commands: [&[&str]; 6] = [
        &["info", "INPUT"],
        &["info", "--json", "INPUT"],
        &["filter", "-v", "--progress", "plain", "--force", "INPUT", out],
        &["filter", "--json", "--force", "INPUT", out],
        &["filter", "--dry-run", "INPUT"],
        &["dmesg", "INPUT"],
    ];
    let mut faults = Vec::new();
    for key in KEYS {
        let mut machine = Machine::small(era("6.12"));
        machine.info.push((key.into(), Some(HOSTILE.into())));
        let fixture = machine.build(dir.path());
        let input = fixture.path.to_str().unwrap();
        for command in commands {
            let args = command.iter().map(|arg| if *arg == "INPUT" { input } else { arg });
            let run = run(vdump().args(args));
            let raw = raw(&run);
            if !raw.is_empty() || !matches!(run.code(), Some(0 | 1)) {
                faults.push(format!("{key}, {command:?}: exit {:?}, printed {raw:?}: {run:?}", run.code()));
            }
        }
    }
    assert!(faults.is_empty(), "{} faults\n{}", faults.len(), faults.join("\n"));
}
