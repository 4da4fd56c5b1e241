//! The kernel's nodes and zones: which frames each spans.
//!
//! Knows where the kernel keeps them. Must not know what their pages are used for. Goes to `vdump classes` and `explain`, and to
//! the lists of free pages (`pcp`).

use vdump_filters::PfnRange;

use crate::{layout::VmcoreInfo, memory::ReadVirt};

/// More than any kernel has (`MAX_NR_ZONES`, `MAX_NUMNODES`).
pub(super) const MAX_ZONES: u64 = 8;
const MAX_NODES: u64 = 1024;
/// The longest name of a zone, bytes (mm/page_alloc.c, `zone_names`: "Movable").
const MAX_NAME: usize = 16;

/// One zone of one node.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Zone {
    /// The node's number.
    pub node: u64,
    /// The kernel's name for it.
    pub name: String,
    /// What it spans; holes, and with several nodes frames of others, may lie inside.
    pub range: PfnRange,
}

/// Where a zone lies, and what it spans.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct ZonePlace {
    /// The node's number.
    pub(super) node: u64,
    /// The zone's number in it (`enum zone_type`).
    pub(super) number: u64,
    /// Virtual address of its `struct zone`.
    pub(super) at: u64,
    /// As [`Zone::range`].
    pub(super) range: PfnRange,
}

/// Nodes by number: where each `pglist_data` lies.
pub(super) fn nodes(info: &VmcoreInfo, virt: &dyn ReadVirt) -> Vec<(u64, u64)> {
    if let Some(table) = info.symbol("node_data") {
        let nodes = info.length("node_data").unwrap_or(1).min(MAX_NODES);
        let read = |node: u64| virt.long(table.wrapping_add(node * 8)).ok().filter(|at| *at != 0);
        return (0..nodes).filter_map(|node| Some((node, read(node)?))).collect();
    }
    info.symbol("contig_page_data").map(|node| (0, node)).into_iter().collect()
}

/// The offset of a member that zones are found by.
fn offset(info: &VmcoreInfo, name: &str) -> Result<u64, String> {
    info.offset(name).ok_or_else(|| unknown(&format!("where {name} is")))
}

fn unknown(what: &str) -> String {
    format!("the kernel does not say {what} (its BTF or --vmlinux would)")
}

/// All zones that span any frame, in the order of the kernel's tables.
///
/// # Errors
/// In words: the kernel does not say where its zones are, or none can be read.
pub fn zones(info: &VmcoreInfo, virt: &dyn ReadVirt) -> Result<Vec<Zone>, String> {
    let name = offset(info, "zone.name")?;
    let named = |ZonePlace { node, number, at, range }: ZonePlace| {
        let name = virt.long(at.wrapping_add(name)).ok().and_then(|at| read_name(virt, at));
        Zone { node, name: name.unwrap_or_else(|| format!("zone {number}")), range }
    };
    Ok(places(info, virt)?.into_iter().map(named).collect())
}

/// The same zones, by their places.
///
/// # Errors
/// As [`zones`].
pub(super) fn places(info: &VmcoreInfo, virt: &dyn ReadVirt) -> Result<Vec<ZonePlace>, String> {
    let offset = |name: &str| offset(info, name);
    let (first, start) = (offset("pglist_data.node_zones")?, offset("zone.zone_start_pfn")?);
    let spanned = offset("zone.spanned_pages")?;
    let size = info.size("zone").ok_or_else(|| unknown("how large a zone is"))?;
    let count = info.length("pglist_data.node_zones").ok_or_else(|| unknown("how many zones a node has"))?;
    let mut zones = Vec::new();
    for (node, at) in nodes(info, virt) {
        for number in 0..count.min(MAX_ZONES) {
            let at = at.wrapping_add(first).wrapping_add(number.wrapping_mul(size));
            let word = |offset: u64| virt.long(at.wrapping_add(offset)).ok();
            let (Some(start), Some(pages)) = (word(start), word(spanned)) else { continue };
            let Some(end) = start.checked_add(pages).filter(|end| *end > start && *end < 1 << 52) else { continue };
            zones.push(ZonePlace { node, number, at, range: PfnRange::new(start, end) });
        }
    }
    if zones.is_empty() { Err("no node's zones can be read".to_owned()) } else { Ok(zones) }
}

fn read_name(virt: &dyn ReadVirt, at: u64) -> Option<String> {
    let mut bytes = Vec::new();
    for offset in 0..MAX_NAME as u64 {
        let mut byte = [0];
        virt.read_virt(at.wrapping_add(offset), &mut byte).ok()?;
        match byte[0] {
            0 => break,
            letter if letter.is_ascii_alphanumeric() => bytes.push(letter),
            _ => return None,
        }
    }
    String::from_utf8(bytes).ok().filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::arch::Words;
    use crate::{layout::Witness, memory::ReadVirtError};

    /// Bytes by address; everything else is unreadable.
    #[derive(Default)]
    struct Bytes(BTreeMap<u64, u8>);

    impl Bytes {
        fn put(&mut self, at: u64, bytes: &[u8]) {
            self.0.extend((at..).zip(bytes.iter().copied()));
        }
    }

    impl ReadVirt for Bytes {
        fn words(&self) -> Words {
            Words::LE64
        }

        fn read_virt(&self, vaddr: u64, buf: &mut [u8]) -> Result<(), ReadVirtError> {
            for (at, byte) in (vaddr..).zip(buf) {
                let cause = || ReadVirtError::Unreadable { vaddr: at, cause: "a hole".into() };
                *byte = *self.0.get(&at).ok_or_else(cause)?;
            }
            Ok(())
        }
    }

    const TABLE: u64 = 0xffff_ffff_8200_0000;
    const NODE: u64 = 0xffff_8880_0100_0000;
    const NAMES: u64 = 0xffff_ffff_8210_0000;

    fn machine() -> (VmcoreInfo, Bytes) {
        let info = format!(
            "SYMBOL(node_data)={TABLE:x}\nLENGTH(node_data)=2\nOFFSET(pglist_data.node_zones)=0\nSIZE(zone)=64\n\
             LENGTH(pglist_data.node_zones)=3\nOFFSET(zone.zone_start_pfn)=8\nOFFSET(zone.spanned_pages)=16\n\
             OFFSET(zone.name)=24\n"
        );
        let mut memory = Bytes::default();
        memory.put(TABLE, &[0; 8]);
        memory.put(TABLE + 8, &NODE.to_le_bytes());
        for (zone, (start, pages)) in [(1u64, 4095u64), (4096, 0), (0x10_0000, 0x8000)].into_iter().enumerate() {
            let at = NODE + zone as u64 * 64;
            memory.put(at + 8, &start.to_le_bytes());
            memory.put(at + 16, &pages.to_le_bytes());
            memory.put(at + 24, &(NAMES + zone as u64 * 16).to_le_bytes());
        }
        memory.put(NAMES, b"DMA\0");
        memory.put(NAMES + 32, b"Nor\x1b[m\0");
        (VmcoreInfo::parse(info.as_bytes()), memory)
    }

    #[test]
    fn zones_that_span_anything_are_found_with_their_names() {
        let (info, memory) = machine();
        let zone = |name: &str, start, end| Zone { node: 1, name: name.into(), range: PfnRange::new(start, end) };
        // A name that would drive the terminal is none.
        let expected = vec![zone("DMA", 1, 4096), zone("zone 2", 0x10_0000, 0x10_8000)];
        assert_eq!(zones(&info, &memory), Ok(expected));
    }

    #[test]
    fn what_is_missing_is_said_and_lies_are_passed_over() {
        let (mut info, memory) = machine();
        let mut other = info.clone();
        other.retain(|key| key != "OFFSET(zone.zone_start_pfn)");
        assert!(zones(&other, &memory).unwrap_err().contains("zone_start_pfn"));
        assert!(zones(&info, &Bytes::default()).unwrap_err().contains("no node"));
        info.set("LENGTH(pglist_data.node_zones)", i64::MAX.to_string(), Witness::Note);
        info.set("SIZE(zone)", i64::MAX.to_string(), Witness::Note);
        // Zones of such a size lie over one another: what is found is of no use, but it is not much.
        let found = zones(&info, &memory);
        assert!(found.as_ref().is_ok_and(|zones| zones.len() <= 8), "{found:?}");
    }
}
