//! What the crashed kernel's memory says about its own types: the BTF that it carried, and what its free pages look like.
//!
//! Knows where the kernel keeps both. Must not know what the types are good for. The answers are joined with VMCOREINFO, for
//! kernels whose note leaves something out.

use super::{
    kallsyms::KallsymsError,
    symbols::Symbols,
    zones::{self, MAX_ZONES},
};
use crate::{
    layout::{VmcoreInfo, types::MAX_BTF},
    memory::{ReadVirt, ReadVirtError},
};

/// The bounds of the BTF in the kernel's image (include/asm-generic/vmlinux.lds.h, 5.2: 341dfcf8d78e).
const BTF_BOUNDS: (&str, &str) = ("__start_BTF", "__stop_BTF");
/// The symbols that [`own_btf`] needs.
pub(super) const SYMBOLS: &[&str] = &[BTF_BOUNDS.0, BTF_BOUNDS.1];

/// Looks up only what [`own_btf`] needs: where the address of another name cannot be read, these still may.
///
/// # Errors
/// The symbol table cannot be used.
pub fn symbols_of_btf(info: &VmcoreInfo, mem: &dyn ReadVirt) -> Result<Symbols, KallsymsError> {
    Symbols::find(info, mem, SYMBOLS)
}

/// The BTF that the kernel carried, read from its memory, if it has at most `most` bytes.
///
/// # Errors
/// Why there is none, in words: the kernel has no BTF, or too much of it, or it cannot be read.
pub fn own_btf(symbols: &Symbols, virt: &dyn ReadVirt, most: u64) -> Result<Vec<u8>, String> {
    let (start, stop) = symbols.pair(BTF_BOUNDS).ok_or("the kernel was built without BTF")?;
    let len = stop - start;
    if len > MAX_BTF.min(most) {
        return Err(format!("its BTF would lie from {start:#x} to {stop:#x}"));
    }
    let mut bytes = vec![0; len as usize];
    virt.read_virt(start, &mut bytes).map_err(|error| error.to_string())?;
    Ok(bytes)
}

/// As many free blocks as are looked at.
const MOST_BLOCKS: u32 = 256;
/// As many as must say the same.
const FEWEST_BLOCKS: u32 = 8;
/// More than any kernel has (`MIGRATE_TYPES`, `NR_PAGE_ORDERS`).
const MAX_LISTS: u64 = 16;
const MAX_ORDERS: u64 = 20;
/// What free blocks are marked with: before 4.18, up to 6.10, in 6.11, and since. Any other word was read at the wrong place:
/// -1 would be every page that is not mapped, and all of them would be dropped as free.
const BUDDY_WORDS: [u32; 4] = [0xffff_ff80, 0xffff_ff7f, 0xbfff_ffff, 0xf000_0000];

/// The word in `_mapcount` that this kernel marks free blocks with, found by following its lists of free blocks: from 4.18 to
/// 6.10 it is a macro, of which neither DWARF nor BTF know. `None` if the lists cannot be followed, are too short to be
/// sure, do not agree, or have what no kernel writes there.
#[must_use]
pub fn buddy_word(info: &VmcoreInfo, virt: &dyn ReadVirt) -> Option<u32> {
    let lists = FreeLists::of(info)?;
    let mut found = Found::default();
    for (_, node) in zones::nodes(info, virt) {
        for zone in 0..MAX_ZONES {
            let zone = node.wrapping_add(lists.zones).wrapping_add(zone.wrapping_mul(lists.zone_size));
            // A node has fewer zones than there could be: what follows them is no list, and says so.
            let _ = lists.look(zone, virt, &mut found);
            if found.disagree {
                return None;
            }
        }
    }
    found.word.filter(|word| found.blocks >= FEWEST_BLOCKS && BUDDY_WORDS.contains(word))
}

#[derive(Default)]
struct Found {
    word: Option<u32>,
    blocks: u32,
    disagree: bool,
}

/// Offsets and sizes on the way from a node to a free page, bytes.
struct FreeLists {
    zones: u64,
    zone_size: u64,
    areas: u64,
    area_size: u64,
    orders: u64,
    list: u64,
    lists: u64,
    head_size: u64,
    page_lru: u64,
    page_private: u64,
    page_mapcount: u64,
}

impl FreeLists {
    fn of(info: &VmcoreInfo) -> Option<Self> {
        Some(Self {
            zones: info.offset("pglist_data.node_zones")?,
            zone_size: info.size("zone")?,
            areas: info.offset("zone.free_area")?,
            area_size: info.size("free_area")?,
            orders: info.length("zone.free_area")?.min(MAX_ORDERS),
            list: info.offset("free_area.free_list")?,
            lists: info.length("free_area.free_list")?.min(MAX_LISTS),
            head_size: info.size("list_head")?,
            page_lru: info.offset("page.lru")?,
            page_private: info.offset("page.private")?,
            page_mapcount: info.offset("page._mapcount")?,
        })
    }

    /// Looks at the first free block of each list of a zone.
    fn look(&self, zone: u64, virt: &dyn ReadVirt, found: &mut Found) -> Result<(), ReadVirtError> {
        for order in 0..self.orders {
            for list in 0..self.lists {
                let area = zone.wrapping_add(self.areas).wrapping_add(order.wrapping_mul(self.area_size));
                let head = area.wrapping_add(self.list).wrapping_add(list.wrapping_mul(self.head_size));
                let next = virt.long(head)?;
                if next == head || found.blocks >= MOST_BLOCKS {
                    continue;
                }
                let page = next.wrapping_sub(self.page_lru);
                // A free block knows its order, and is linked from where it was found: else this is no list.
                let back = virt.long(next.wrapping_add(8))?;
                if virt.long(page.wrapping_add(self.page_private))? != order || back != head {
                    return Ok(());
                }
                let word = virt.u32(page.wrapping_add(self.page_mapcount))?;
                found.blocks += 1;
                found.disagree |= *found.word.get_or_insert(word) != word;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::few_words::FewWords;

    const TABLE: u64 = 0xffff_ffff_8200_0000;
    const NODE: u64 = 0xffff_8880_0100_0000;
    const PAGES: u64 = 0xffff_ea00_0000_0000;
    const LISTS: u64 = 2;
    const ORDERS: u64 = 11;
    const AREA: u64 = LISTS * 16 + 8;

    fn info() -> VmcoreInfo {
        VmcoreInfo::parse(
            format!(
                "SYMBOL(node_data)={TABLE:x}\nLENGTH(node_data)=1\nOFFSET(pglist_data.node_zones)=0\nSIZE(zone)=1024\n\
                 OFFSET(zone.free_area)=64\nSIZE(free_area)={AREA}\nLENGTH(zone.free_area)={ORDERS}\n\
                 OFFSET(free_area.free_list)=0\nLENGTH(free_area.free_list)={LISTS}\nSIZE(list_head)=16\n\
                 OFFSET(page.lru)=8\nOFFSET(page.private)=40\nOFFSET(page._mapcount)=48\n"
            )
            .as_bytes(),
        )
    }

    /// One node with one zone, whose first list of each of the first `filled` orders has one block.
    fn lists(filled: u64, word: u32) -> FewWords {
        let mut memory = FewWords::default();
        memory.put(TABLE, NODE);
        for order in 0..ORDERS {
            for list in 0..LISTS {
                let head = NODE + 64 + order * AREA + list * 16;
                let page = PAGES + (64 << order);
                let next = if list == 0 && order < filled { page + 8 } else { head };
                memory.put(head, next);
                if next != head {
                    memory.put(page + 8, head);
                    memory.put(page + 16, head);
                    memory.put(page + 40, order);
                    memory.put(page + 48, word.into());
                }
            }
        }
        memory
    }

    #[test]
    fn free_blocks_show_their_mark() {
        for word in BUDDY_WORDS {
            assert_eq!(buddy_word(&info(), &lists(ORDERS, word)), Some(word));
        }
        assert_eq!(buddy_word(&info(), &lists(u64::from(FEWEST_BLOCKS), BUDDY_WORDS[1])), Some(BUDDY_WORDS[1]));
    }

    #[test]
    fn what_is_not_sure_is_not_said() {
        let word = BUDDY_WORDS[1];
        assert_eq!(buddy_word(&info(), &lists(u64::from(FEWEST_BLOCKS) - 1, word)), None, "too few");
        let mut other = lists(ORDERS, word);
        other.put(PAGES + (64 << 3) + 48, BUDDY_WORDS[0].into());
        assert_eq!(buddy_word(&info(), &other), None, "they differ");
        let mut loose = lists(ORDERS, word);
        loose.put(PAGES + 64 + 16, 5);
        assert_eq!(buddy_word(&info(), &loose), None, "linked from elsewhere");
        let mut wrong = lists(ORDERS, word);
        wrong.put(PAGES + 64 + 40, 1);
        assert_eq!(buddy_word(&info(), &wrong), None, "of another order");
        assert_eq!(buddy_word(&info(), &FewWords::default()), None, "nothing can be read");
        assert_eq!(buddy_word(&VmcoreInfo::default(), &lists(ORDERS, word)), None, "nothing is known");
    }

    #[test]
    fn what_pages_in_use_have_too_is_no_mark() {
        // An offset that is wrong leads to other fields: a map count, a reference count, a pointer's half.
        for word in [u32::MAX, 0, 1, 0xffff_8880, 0xffff_fffe, 0x0100_0000] {
            assert_eq!(buddy_word(&info(), &lists(ORDERS, word)), None, "{word:#x}");
        }
    }

    #[test]
    fn lists_that_lead_anywhere_end() {
        let mut info = info();
        info.set("LENGTH(node_data)", u64::MAX.to_string(), crate::layout::Witness::Note);
        info.set("SIZE(zone)", i64::MAX.to_string(), crate::layout::Witness::Note);
        info.set("OFFSET(page.lru)", i64::MAX.to_string(), crate::layout::Witness::Note);
        info.set("SYMBOL(node_data)", "fffffffffffffff8", crate::layout::Witness::Note);
        assert_eq!(buddy_word(&info, &lists(ORDERS, BUDDY_WORDS[0])), None);
    }

    #[test]
    fn a_kernel_without_symbols_around_it_has_no_btf() {
        assert!(own_btf(&Symbols::default(), &FewWords::default(), MAX_BTF).unwrap_err().contains("without BTF"));
    }
}
