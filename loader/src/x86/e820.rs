//! The memory map that a kernel is booted with.
//!
//! Knows e820's types and what a capture kernel may use. Makes the entries of the boot parameters.

use serde::{Deserialize, Serialize};

use crate::{
    host::{Host, iomem::Kind},
    range::{Range, merged, subtract},
};

/// One entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Entry {
    /// Where.
    pub range: Range,
    /// What.
    pub kind: Kind,
}

/// Entries that fit into the boot parameters; more go into an extension.
pub const IN_PARAMS: usize = 128;
/// Bytes of an entry.
pub const ENTRY: usize = 20;

impl Entry {
    /// Address, length, type, packed.
    #[must_use]
    pub fn bytes(&self) -> [u8; ENTRY] {
        let mut bytes = [0; ENTRY];
        bytes[..8].copy_from_slice(&self.range.start.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.range.len().to_le_bytes());
        bytes[16..].copy_from_slice(&number(self.kind).to_le_bytes());
        bytes
    }
}

fn number(kind: Kind) -> u32 {
    match kind {
        Kind::Ram => 1,
        Kind::Reserved => 2,
        Kind::Acpi => 3,
        Kind::Nvs => 4,
        Kind::Pmem => 7,
        Kind::Pram => 12,
    }
}

/// The map of a capture kernel: the lowest MiB, the crash memory but for `held`, and what the firmware keeps.
#[must_use]
pub fn for_capture(host: &Host, held: &[Range]) -> Vec<Entry> {
    let low = Range::new(0, 1 << 20);
    let mut ram: Vec<Range> = host.iomem.ram().iter().filter_map(|range| range.common(&low)).collect();
    ram.extend(host.iomem.crash_kernel());
    ram.extend(&host.crash_cma);
    sorted(&subtract(&merged(ram), held), &host.iomem.other())
}

/// The whole machine's map: what the firmware said, else what the running kernel shows, without what drivers added to it.
#[must_use]
pub fn whole(host: &Host) -> Vec<Entry> {
    if host.firmware_map.is_empty() {
        return sorted(&host.iomem.ram_of_the_machine(), &host.iomem.other());
    }
    host.firmware_map.iter().map(|(range, kind)| Entry { range: *range, kind: *kind }).collect()
}

/// Entries in order, none over another: what is not RAM wins over RAM, what is reserved over everything.
fn sorted(ram: &[Range], other: &[(Range, Kind)]) -> Vec<Entry> {
    let mut entries = Vec::new();
    let mut taken: Vec<Range> = Vec::new();
    for kind in [Kind::Reserved, Kind::Nvs, Kind::Acpi, Kind::Pmem, Kind::Pram] {
        let of_kind = merged(other.iter().filter(|(_, of)| *of == kind).map(|(range, _)| *range).collect());
        let free = subtract(&of_kind, &taken);
        entries.extend(free.iter().map(|range| Entry { range: *range, kind }));
        taken.extend(free);
    }
    entries.extend(subtract(&merged(ram.to_vec()), &taken).into_iter().map(|range| Entry { range, kind: Kind::Ram }));
    entries.sort_unstable_by_key(|entry| entry.range.start);
    entries
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_overlaps_and_the_reserved_wins() {
        let entries = sorted(
            &[Range::new(0x1000, 0xa0000), Range::new(0x3000_0000, 0x4000_0000)],
            &[(Range::new(0x9f000, 0x10_0000), Kind::Reserved), (Range::new(0xf0000, 0x11_0000), Kind::Acpi)],
        );
        let shown: Vec<_> = entries.iter().map(|entry| (entry.range.start, entry.range.end, entry.kind)).collect();
        assert_eq!(
            shown,
            [
                (0x1000, 0x9f000, Kind::Ram),
                (0x9f000, 0x10_0000, Kind::Reserved),
                (0x10_0000, 0x11_0000, Kind::Acpi),
                (0x3000_0000, 0x4000_0000, Kind::Ram)
            ]
        );
    }

    #[test]
    fn an_entry_is_twenty_bytes() {
        let entry = Entry { range: Range::new(0x1000, 0x3000), kind: Kind::Pram };
        assert_eq!(entry.bytes()[..9], [0, 0x10, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(entry.bytes()[16..], [12, 0, 0, 0]);
    }
}
