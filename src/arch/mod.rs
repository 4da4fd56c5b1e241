//! The machines: one file for each holds everything that only it knows, from its page tables to the numbers that its kernels do
//! not export.
//!
//! Must not read a dump: whoever has one asks, and hands in what was read. Adding a machine is a file here and its line in
//! [`ALL`]; what only has a name is a line in `names`.

mod names;
mod words;
mod x86_64;

use std::{fmt::Debug, ops::RangeInclusive, sync::Arc};

use object::elf::Machine;

pub use names::{by_keys, by_uname, family, host, named, true_machine, uname};
pub use words::Words;

use crate::error::{Error, Result};

/// The machines whose kernels' memory is understood.
pub const ALL: [&dyn Arch; 1] = [&x86_64::X86_64];

/// The machine that an ELF core's `e_machine` names; `None` for one that is not understood.
#[must_use]
pub fn of(machine: Machine) -> Option<&'static dyn Arch> {
    ALL.into_iter().find(|arch| arch.machine() == machine)
}

/// One machine, whatever kernel runs on it.
pub trait Arch: Sync + Debug {
    /// Its `e_machine`.
    fn machine(&self) -> Machine;

    /// Finds out where the kernel's memory lies, from what it and its dump say.
    ///
    /// # Errors
    /// Something is missing, or cannot be.
    fn address_space(&self, told: &mut dyn Told) -> Result<Arc<dyn AddressSpace>>;

    /// Whether any kernel of the machine has its image at this virtual address, wherever it runs.
    fn is_image(&self, vaddr: u64) -> bool;

    /// As many CPUs as a kernel can have (`NR_CPUS`).
    fn most_cpus(&self) -> u64;

    /// Sizes that a task's kernel stack has (`THREAD_SIZE`), bytes, the usual one first.
    fn stack_sizes(&self) -> &'static [u64];

    /// Orders of free blocks where the kernel does not export how many there are.
    fn free_orders(&self) -> Usual;

    /// What the kernel's image consists of: a name for each part, and the symbols that bound it.
    fn image_parts(&self) -> &'static [(&'static str, Bounds)];

    /// The symbols that bound what is freed out of the middle of the image after boot.
    fn freed_in_image(&self) -> Option<Bounds>;

    /// The variable with the virtual address of the direct mapping's start, in kernels that have one.
    fn direct_mapping(&self) -> Option<&'static str>;

    /// Other variables that [`AddressSpace::page_areas`] asks for.
    fn variables(&self) -> &'static [&'static str];
}

/// The symbols at the first byte of something, and behind its last.
pub type Bounds = (&'static str, &'static str);

/// A number that a kernel has where it does not say it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Usual {
    /// The number.
    pub value: i64,
    /// Why it is this.
    pub why: &'static str,
}

/// What a crashed kernel and its dump say, for a machine to ask. Whoever answers notes what was asked and who said it.
pub trait Told {
    /// The first of VMCOREINFO's `keys` that there is; `name` is for people.
    fn first(&mut self, name: &'static str, keys: &[&str]) -> Option<i64>;

    /// None of `keys` is there.
    fn missing(&self, keys: &[&str]) -> Error;

    /// Notes a value that nobody said.
    fn assume(&mut self, name: &'static str, usual: Usual);

    /// What the dump's writer noted as the kernel's `phys_base`.
    fn recorded_phys_base(&mut self) -> Option<u64>;

    /// The first answer that `place` gives for a segment of the dump, from its virtual and its physical address.
    fn by_segment(&mut self, name: &'static str, place: &dyn Fn(u64, u64) -> Option<u64>) -> Option<u64>;

    /// As [`Told::first`], for what nothing goes without.
    ///
    /// # Errors
    /// None of `keys` is there.
    fn required(&mut self, name: &'static str, keys: &[&str]) -> Result<i64> {
        self.first(name, keys).ok_or_else(|| self.missing(keys))
    }
}

/// What a page table entry says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Entry {
    /// Nothing.
    Absent,
    /// Memory of a process that lies elsewhere now: it was swapped out, or is being moved.
    Elsewhere,
    /// What the architecture does not define.
    Broken,
    /// The page at a physical address, as large as one entry of this level covers.
    Page(u64),
    /// The next lower table at a physical address.
    Table(u64),
}

/// Where one kernel's memory lies: its page tables, and the parts of its address space.
pub trait AddressSpace: Send + Sync + Debug {
    /// The machine.
    fn arch(&self) -> &'static dyn Arch;

    /// How numbers lie in the kernel's memory.
    fn words(&self) -> Words;

    /// Physical address of the top table, and its level; 1 is the lowest.
    fn top(&self) -> (u64, u32);

    /// Log2 of the bytes that an entry of a table of `level` covers.
    fn shift(&self, level: u32) -> u32;

    /// Entries of a table of `level`.
    fn entries(&self, level: u32) -> u64;

    /// How an entry lies in a table: its `unsigned long`.
    fn table_words(&self) -> Words {
        self.words()
    }

    /// What `entry` of a table of `level` says.
    fn entry(&self, level: u32, entry: u64) -> Entry;

    /// The same for the memory of a process, whose pages may be there although nobody may use them.
    fn user_entry(&self, level: u32, entry: u64) -> Entry;

    /// The same kernel's memory as a process has it, whose top table lies at a physical address.
    fn of_process(&self, root: u64) -> Arc<dyn AddressSpace>;

    /// What the kernel calls a table of `level`.
    fn level_name(&self, level: u32) -> &'static str;

    /// The addresses that a process has, first and last.
    fn user_part(&self) -> RangeInclusive<u64>;

    /// The parts of the address space that hold the kernel's own memory, what is needed most first: first and last address.
    fn kernel_parts(&self) -> Vec<RangeInclusive<u64>>;

    /// Where every page that is mapped was given to the kernel as a page of its own, vmalloc's area and that of modules.
    /// `number` looks a value of VMCOREINFO up, `symbol` one of its addresses, `variable` reads a word of the kernel's.
    fn page_areas(
        &self,
        number: &dyn Fn(&str) -> Option<u64>,
        symbol: &dyn Fn(&str) -> Option<u64>,
        variable: &dyn Fn(&str) -> Option<u64>,
    ) -> Vec<RangeInclusive<u64>>;

    /// Whether the kernel, not a process, has this virtual address.
    fn is_kernel(&self, vaddr: u64) -> bool;

    /// The physical address of something in the kernel's image.
    fn image_paddr(&self, vaddr: u64) -> u64;

    /// The virtual address of something in the kernel's image.
    fn image_vaddr(&self, paddr: u64) -> u64;

    /// Whether entries of the page tables say that memory is encrypted.
    fn is_encrypted(&self) -> bool {
        false
    }

    /// What kdump's header notes as `phys_base`.
    fn phys_base(&self) -> u64;

    /// Virtual addresses at which the direct mapping may start in kernels without [`Arch::direct_mapping`]'s variable.
    fn direct_mapping_starts(&self) -> &'static [u64];

    /// `SECTION_SIZE_BITS` where the kernel does not export it.
    fn section_size_bits(&self) -> Usual;

    /// `MAX_PHYSMEM_BITS` where the kernel does not export it.
    fn physical_bits(&self) -> Usual;

    /// The stack pointer that a task had in user mode, from the bytes at the top of its kernel stack: the registers saved when
    /// it entered the kernel. `None` if they are not those of user mode.
    fn user_stack(&self, top: &[u8]) -> Option<u64>;

    /// Bits of a virtual address that the page tables translate; those above must be copies of the highest.
    fn address_bits(&self) -> u32 {
        self.shift(self.top().1 + 1)
    }
}
