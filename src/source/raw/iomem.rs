//! A saved /proc/iomem.
//!
//! Knows which of its lines a dump of the machine would have. Must not know what is in the RAM. The ranges go to `raw`.

use std::{fs::File, ops::Range, path::Path};

use vdump_filters::{iomem::Resource, ranges::Ranges};

use crate::{
    error::{Error, Result},
    sys::file::{open, read_from},
};

/// More than any machine's; bounds what is read of a wrong file.
const MOST_BYTES: u64 = 16 << 20;

/// The RAM that `file` describes, in order.
pub(super) fn read(file: &Path) -> Result<(File, Vec<Range<u64>>)> {
    let (opened, text) = text_of(file)?;
    let ranges = parse(&text).map_err(|cause| unusable(file, &cause))?;
    Ok((opened, ranges))
}

/// RAM of a running machine that no dump of it would have, as (start, end), in order.
pub(in crate::source) fn not_dumped(file: &Path) -> Result<Ranges<Range<u64>>> {
    let (_, text) = text_of(file)?;
    let (_, others) = ranges(&text).map_err(|cause| unusable(file, &cause))?;
    Ok(Ranges::new(others))
}

fn text_of(file: &Path) -> Result<(File, Vec<u8>)> {
    let reading = |error: &std::io::Error| Error::io(file, "read", error).or_next_step("save /proc/iomem as root");
    let opened = open(file).map_err(|error| reading(&error))?;
    let text = read_from(&opened, MOST_BYTES).map_err(|error| reading(&error))?;
    Ok((opened, text))
}

fn unusable(file: &Path, cause: &str) -> Error {
    Error::input(format!("cannot use {} as a saved /proc/iomem", file.display()))
        .because(cause)
        .next_step("as root: cat /proc/iomem > FILE, on the machine whose memory it is")
}

fn parse(text: &[u8]) -> Result<Vec<Range<u64>>, String> {
    let (ram, others) = ranges(text)?;
    // A range may be listed inside another one.
    let ram = Ranges::new(ram).without(&Ranges::new(others));
    if ram.is_empty() { Err("it has no 'System RAM'".to_owned()) } else { Ok(ram.into_vec()) }
}

type Listed = Vec<Range<u64>>;

/// The RAM, and what no dump has of it.
fn ranges(text: &[u8]) -> Result<(Listed, Listed), String> {
    let text = str::from_utf8(text).map_err(|_| "it is no text".to_owned())?;
    let (mut ram, mut others) = (Vec::new(), Vec::new());
    for (number, line) in (1..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty()) {
        // Nothing lies at the last byte of the address space.
        let line = Resource::parse(line)
            .filter(|line| line.end < u64::MAX)
            .ok_or_else(|| format!("line {number} has no 'START-END : NAME': '{line}'"))?;
        if line.ram().is_some() {
            if line.is_hidden() {
                return Err(format!("all its addresses are zero (line {number}): it was not saved by root"));
            }
            ram.push(line.start..line.end);
        } else if line.is_never_dumped() {
            others.push(line.start..line.end);
        }
    }
    Ok((ram, others))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ram_is_taken_from_every_depth_and_the_crash_kernel_out_of_it() {
        let text = "00000000-00000fff : Reserved\n\
                    00001000-0009fbff : System RAM\n\
                    000c0000-000dffff : PCI Bus 0000:00\n  000c0000-000c7fff : System ROM\n\
                    00100000-3ffdffff : System RAM\n  01000000-01ffffff : Kernel code\n  \
                    20000000-2fffffff : Crash kernel\n  3f000000-3fffffff : Reserved\n\
                    100000000-13fffffff : Persistent Memory\n  110000000-11fffffff : dax0.0\n    \
                    110000000-11fffffff : System RAM (kmem)\n\
                    140000000-14fffffff : System RAM (boot alias)\n";
        assert_eq!(
            parse(text.as_bytes()).unwrap(),
            [0x1000..0x9_fc00, 0x10_0000..0x2000_0000, 0x3000_0000..0x3ffe_0000, 0x1_1000_0000..0x1_2000_0000]
        );
    }

    #[test]
    fn what_is_no_iomem_says_why() {
        let says = |text: &[u8]| parse(text).unwrap_err();
        assert!(
            says(b"00000000-00000000 : System RAM\n  00000000-00000000 : Kernel code\n").contains("not saved by root")
        );
        assert!(says(b"").contains("no 'System RAM'"));
        assert!(says(b"0-fff : Reserved\n").contains("no 'System RAM'"));
        assert!(says(b"MemTotal: 5 kB\n").contains("line 1"));
        assert!(says(b"1000-1fff : System RAM\nfff-0 : System RAM\n").contains("line 2"));
        assert!(says(b"0-ffffffffffffffff : System RAM\n").contains("line 1"));
        assert!(says(b"+1000-1fff : System RAM\n").contains("line 1"));
        assert!(says(b"\xff\xfe").contains("no text"));
        assert!(says(b"1000-1fff : System RAM\n1000-1fff : Crash kernel\n").contains("no 'System RAM'"));
    }
}
