//! The memory of one process: its page tables, its mappings, and where the stack of a task lies in them.
//!
//! Knows how the kernel keeps the mappings (a maple tree since 6.1, a list before). Must not know why the memory is wanted.
//! The ranges are walked with [`crate::memory::Mappings`].

use std::ops::RangeInclusive;

use super::tasks::Task;
use crate::{
    layout::VmcoreInfo,
    memory::{ReadVirt as _, VirtReader},
};

/// What [`UserMemory`] must know of the kernel's types, as keys of VMCOREINFO.
pub const KEYS: [&str; 4] = [
    "OFFSET(mm_struct.pgd)",
    "OFFSET(mm_struct.start_stack)",
    "OFFSET(vm_area_struct.vm_start)",
    "OFFSET(vm_area_struct.vm_end)",
];

/// Stacks are looked for as far above the stack pointer as this, bytes: eight times the usual limit.
const STACK_ABOVE: u64 = 64 << 20;
/// And as far below: what was called before.
const STACK_BELOW: u64 = 8 << 20;
/// Where the registers of user mode end, at most so many bytes below the top of the kernel stack they begin.
const TOP: u64 = 256;
/// Mappings of a process that are followed in a list; a kernel allows 65530 unless told otherwise (`max_map_count`).
const MAX_MAPPINGS: u32 = 1 << 20;

/// Where the kernel has what of a process's memory.
pub struct UserMemory<'m, 'a> {
    virt: &'m VirtReader<'a>,
    pgd: u64,
    start_stack: u64,
    vm_start: u64,
    vm_end: u64,
    mappings: Mapped,
    kernel_stack: Option<u64>,
}

/// How mappings are linked.
#[derive(Clone, Copy, Debug)]
enum Mapped {
    /// `mm_struct.mm_mt` (524e00b36e8c, 6.1).
    Tree { root: u64, leaf: Node, inner: Node },
    /// `mm_struct.mmap`.
    List { first: u64, next: u64 },
    /// Nothing says how.
    Unknown,
}

/// A node of a maple tree: the offsets of its pivots and slots, and its slots.
#[derive(Clone, Copy, Debug)]
struct Node {
    pivots: u64,
    slots: u64,
    count: u64,
}

/// Where a stack lies.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Stack {
    /// First and last address.
    pub range: RangeInclusive<u64>,
    /// Its mapping could not be found: it was measured by what is mapped around it.
    pub is_guess: bool,
    /// The mapping is larger than any stack: some of it is left out.
    pub is_part: bool,
}

impl<'m, 'a> UserMemory<'m, 'a> {
    /// Finds where the kernel has what.
    ///
    /// # Errors
    /// What is missing, in words.
    pub fn find(info: &VmcoreInfo, virt: &'m VirtReader<'a>) -> Result<Self, String> {
        let offset = |name: &str| {
            let missing = || {
                format!("nothing says where a kernel structure has {name}: neither VMCOREINFO nor the kernel's own BTF")
            };
            info.offset(name).ok_or_else(missing)
        };
        Ok(Self {
            virt,
            pgd: offset("mm_struct.pgd")?,
            start_stack: offset("mm_struct.start_stack")?,
            vm_start: offset("vm_area_struct.vm_start")?,
            vm_end: offset("vm_area_struct.vm_end")?,
            mappings: Mapped::of(info),
            kernel_stack: info.size("thread_union").filter(|size| (TOP..=1 << 20).contains(size)),
        })
    }

    /// Physical address of the top page table of an `mm_struct`. With page table isolation it is the kernel's, which maps the
    /// process's memory too.
    ///
    /// # Errors
    /// It cannot be found, in words.
    pub fn top_table(&self, mm: u64) -> Result<u64, String> {
        let pgd = self.virt.long(mm.wrapping_add(self.pgd)).map_err(|error| error.to_string())?;
        let mapping = self.virt.translate(pgd).map_err(|error| format!("its page tables at {pgd:#x} are {error}"))?;
        Ok(mapping.paddr)
    }

    /// The stacks of a task: what surrounds the stack pointer that it entered the kernel with, and for the first thread of a
    /// process what the kernel gave it to begin with. Empty where neither can be found.
    #[must_use]
    pub fn stacks(&self, task: &Task) -> Vec<Stack> {
        let given = || self.virt.long(task.mm.wrapping_add(self.start_stack)).ok().filter(|at| *at != 0);
        let first = if task.is_leader() { given() } else { None };
        let part = self.virt.space().user_part();
        let pointers = self.stack_pointer(task).into_iter().chain(first).filter(|at| part.contains(at));
        let mut stacks: Vec<Stack> = Vec::new();
        for pointer in pointers {
            if !stacks.iter().any(|known| known.range.contains(&pointer)) {
                stacks.push(self.around(task.mm, pointer));
            }
        }
        stacks
    }

    /// The stack pointer with which a task entered the kernel from user mode.
    fn stack_pointer(&self, task: &Task) -> Option<u64> {
        let sizes = match &self.kernel_stack {
            Some(size) => std::slice::from_ref(size),
            // Where they were smaller only debug information tells, which has the size.
            None => self.virt.space().arch().stack_sizes(),
        };
        sizes.iter().find_map(|size| {
            let mut top = [0; TOP as usize];
            self.virt.read_virt(task.stack.wrapping_add(size - TOP), &mut top).ok()?;
            self.virt.space().user_stack(&top)
        })
    }

    fn around(&self, mm: u64, pointer: u64) -> Stack {
        let nearby = pointer.saturating_sub(STACK_BELOW) & !0xfff..=pointer.saturating_add(STACK_ABOVE) | 0xfff;
        match self.mapping(mm, pointer) {
            Some(mapping) => {
                let range = *mapping.start().max(nearby.start())..=*mapping.end().min(nearby.end());
                Stack { is_part: range != mapping, is_guess: false, range }
            }
            None => Stack { range: pointer & !0xfff..=*nearby.end(), is_guess: true, is_part: false },
        }
    }

    /// The mapping that has `address`: its first and last address.
    fn mapping(&self, mm: u64, address: u64) -> Option<RangeInclusive<u64>> {
        let vma = match self.mappings {
            Mapped::Tree { root, leaf, inner } => self.in_tree(mm.wrapping_add(root), leaf, inner, address)?,
            Mapped::List { first, next } => self.in_list(mm.wrapping_add(first), next, address)?,
            Mapped::Unknown => return None,
        };
        let (start, end) = self.bounds(vma)?;
        (start..end).contains(&address).then_some(start..=end - 1)
    }

    fn bounds(&self, vma: u64) -> Option<(u64, u64)> {
        let word = |offset: u64| self.virt.long(vma.wrapping_add(offset)).ok();
        Some((word(self.vm_start)?, word(self.vm_end)?))
    }

    fn in_list(&self, first: u64, next: u64, address: u64) -> Option<u64> {
        let mut vma = self.virt.long(first).ok()?;
        let mut least = 0;
        for _ in 0..MAX_MAPPINGS {
            let (start, end) = self.bounds(vma)?;
            // They are sorted: a list that goes back is none.
            if start < least || end <= start || start > address {
                return None;
            }
            if address < end {
                return Some(vma);
            }
            least = end;
            vma = self.virt.long(vma.wrapping_add(next)).ok()?;
        }
        None
    }

    /// Goes down a maple tree (Documentation/core-api/maple_tree.rst, include/linux/maple_tree.h): each slot has what lies up to
    /// its pivot, which is included.
    fn in_tree(&self, root: u64, leaf: Node, inner: Node, address: u64) -> Option<u64> {
        /// More levels than a tree of all addresses in pages can have.
        const MAX_DEPTH: u32 = 24;
        // Bit 1 says that the root is a node.
        let mut entry = self.virt.long(root).ok().filter(|entry| entry & 3 == 2)?;
        let mut last = u64::MAX;
        for _ in 0..MAX_DEPTH {
            // A node lies at a multiple of 256 and has its kind in bits 3 to 6.
            let (node, is_leaf) = match entry >> 3 & 0xf {
                1 => (leaf, true),
                2 => (leaf, false),
                3 => (inner, false),
                _ => return None,
            };
            let at = entry & !0xff;
            let word = |offset: u64, index: u64| self.virt.long(at.wrapping_add(offset + index * 8)).ok();
            let mut slot = 0;
            while slot + 1 < node.count {
                // 0 ends the node early, but before its first slot.
                match word(node.pivots, slot)? {
                    0 if slot > 0 => break,
                    pivot if pivot >= last => break,
                    pivot if address <= pivot => {
                        last = pivot;
                        break;
                    }
                    _ => slot += 1,
                }
            }
            entry = word(node.slots, slot)?;
            if is_leaf {
                return Some(entry).filter(|vma| *vma != 0);
            }
        }
        None
    }
}

impl Mapped {
    fn of(info: &VmcoreInfo) -> Self {
        let node = |name: &str| {
            /// A node is 256 bytes long.
            const MOST: u64 = 32;
            Some(Node {
                pivots: info.offset(&format!("{name}.pivot"))?,
                slots: info.offset(&format!("{name}.slot"))?,
                count: info.length(&format!("{name}.slot")).filter(|count| (2..=MOST).contains(count))?,
            })
        };
        let tree = || {
            let root = info.offset("mm_struct.mm_mt")?.checked_add(info.offset("maple_tree.ma_root")?)?;
            Some(Self::Tree { root, leaf: node("maple_range_64")?, inner: node("maple_arange_64")? })
        };
        let list =
            || Some(Self::List { first: info.offset("mm_struct.mmap")?, next: info.offset("vm_area_struct.vm_next")? });
        tree().or_else(list).unwrap_or(Self::Unknown)
    }
}
