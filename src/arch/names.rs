//! What machines are called, and what is fixed about a machine even where its kernels' memory is not understood.

use object::elf::{
    EM_386, EM_AARCH64, EM_ARM, EM_LOONGARCH, EM_MIPS, EM_NONE, EM_PPC64, EM_RISCV, EM_S390, EM_X86_64, Machine,
};

use super::x86_64;

/// A machine by its names.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Named {
    /// `e_machine` (include/uapi/linux/elf-em.h).
    pub machine: Machine,
    /// What `uname -m` prints on it, and kdump's header has. The first is given where nothing else is known; one that ends in
    /// `*` stands for all that begin so.
    unames: &'static [&'static str],
    /// What its users call it.
    words: &'static str,
    /// Addresses have 64 bits.
    pub is_wide: bool,
    /// Log2 of its page size, bytes, where it has only one.
    pub page_shift: Option<u32>,
    /// Its ELF files have no `e_flags` of their own.
    pub has_no_flags: bool,
    /// Where `is_wide` is false: crash reads its ELF cores with 64-bit headers too (`is_netdump`).
    pub crash_reads_elf64: bool,
    /// Keys of VMCOREINFO that only its kernels export (`arch_crash_save_vmcoreinfo`).
    keys: &'static [&'static str],
}

const fn named_as(machine: Machine, unames: &'static [&'static str], words: &'static str) -> Named {
    Named {
        machine,
        unames,
        words,
        is_wide: true,
        page_shift: None,
        has_no_flags: false,
        crash_reads_elf64: false,
        keys: &[],
    }
}

const MACHINES: [Named; 9] = [
    Named {
        page_shift: Some(12),
        has_no_flags: true,
        keys: &["NUMBER(phys_base)", "SYMBOL(phys_base)"],
        ..named_as(EM_X86_64, &["x86_64"], "x86_64")
    },
    Named {
        is_wide: false,
        page_shift: Some(12),
        has_no_flags: true,
        crash_reads_elf64: true,
        ..named_as(EM_386, &["i686", "i386", "i486", "i586"], "i386")
    },
    Named { is_wide: false, ..named_as(EM_ARM, &["armv7l", "armv*"], "32-bit ARM") },
    Named { has_no_flags: true, keys: &["NUMBER(kimage_voffset)"], ..named_as(EM_AARCH64, &["aarch64"], "arm64") },
    named_as(EM_PPC64, &["ppc64le", "ppc64"], "64-bit POWER"),
    Named { keys: &["NUMBER(va_kernel_pa_offset)"], ..named_as(EM_RISCV, &["riscv64"], "RISC-V") },
    named_as(EM_S390, &["s390x"], "s390x"),
    named_as(EM_MIPS, &[], "MIPS"),
    named_as(EM_LOONGARCH, &[], "LoongArch"),
];

/// What is fixed about a machine; `None` for one without a name here.
#[must_use]
pub fn named(machine: Machine) -> Option<&'static Named> {
    MACHINES.iter().find(|named| named.machine == machine)
}

/// The machine as its users call it, for messages.
#[must_use]
pub fn family(machine: Machine) -> String {
    match named(machine) {
        Some(named) => format!("{} (ELF machine {})", named.words, machine.0),
        None if machine == EM_NONE => "a machine that the dump does not name".to_owned(),
        None => format!("ELF machine {}", machine.0),
    }
}

/// What `uname -m` prints on the machine; `unknown` where nobody knows.
#[must_use]
pub fn uname(machine: Machine) -> &'static str {
    named(machine).and_then(|named| named.unames.first()).copied().unwrap_or("unknown")
}

/// The machine on which `uname -m` prints this; [`EM_NONE`] where nobody knows.
#[must_use]
pub fn by_uname(name: &[u8]) -> Machine {
    let is = |uname: &&str| match uname.strip_suffix('*') {
        Some(start) => name.starts_with(start.as_bytes()),
        None => name == uname.as_bytes(),
    };
    MACHINES.iter().find(|named| named.unames.iter().any(is)).map_or(EM_NONE, |named| named.machine)
}

/// The machine whose kernels alone export one of the keys that `has` says are there; [`EM_NONE`] where nothing tells.
#[must_use]
pub fn by_keys(has: impl Fn(&str) -> bool) -> Machine {
    MACHINES.iter().find(|named| named.keys.iter().any(|key| has(key))).map_or(EM_NONE, |named| named.machine)
}

/// The machine that a container says is `machine` and whose VMCOREINFO this is: kexec-tools writes `EM_386` into the 32-bit core
/// headers of an x86_64 kernel (`--elf32-core-headers`).
#[must_use]
pub fn true_machine(machine: Machine, vmcoreinfo: &[u8]) -> Machine {
    if machine == EM_386 && x86_64::is_of(vmcoreinfo) { EM_X86_64 } else { machine }
}

/// The machine that this program runs on.
#[must_use]
pub fn host() -> Machine {
    by_uname(std::env::consts::ARCH.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn machines_are_told_by_what_they_export() {
        assert_eq!(by_keys(|key| key == "NUMBER(phys_base)"), EM_X86_64);
        assert_eq!(by_keys(|key| key == "NUMBER(kimage_voffset)"), EM_AARCH64);
        assert_eq!(by_keys(|_| false), EM_NONE);
    }

    #[test]
    fn names_lead_to_machines_and_back() {
        for (name, machine) in [("x86_64", EM_X86_64), ("i586", EM_386), ("armv6l", EM_ARM), ("ppc64", EM_PPC64)] {
            assert_eq!(by_uname(name.as_bytes()), machine, "{name}");
        }
        assert_eq!((by_uname(b"Unknown"), by_uname(b"x86_64h"), by_uname(b"")), (EM_NONE, EM_NONE, EM_NONE));
        assert!(
            MACHINES
                .iter()
                .all(|named| named.unames.is_empty() || by_uname(uname(named.machine).as_bytes()) == named.machine)
        );
        assert_eq!((uname(EM_386), uname(EM_MIPS), uname(EM_NONE)), ("i686", "unknown", "unknown"));
        assert_eq!(family(EM_AARCH64), "arm64 (ELF machine 183)");
        if cfg!(target_arch = "x86_64") {
            assert_eq!(host(), EM_X86_64);
        }
    }
}
