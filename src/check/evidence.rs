//! What real readers did with real dumps: the table behind the predictions of `vdump check`.
//!
//! A row says what was run and what came of it. What no row is about was not run, and the answer is *unknown*; broken rules
//! are added in `readers`. `tests/rules/readers.rs` runs the readers that are installed and fails where a row is not true.

use super::{
    layers::Kind,
    reader::{
        Opens::{self, No, Partly, Unknown, Yes},
        Reader::{self, Crash, Drgn, Gdb, Libkdumpfile, Makedumpfile},
    },
};

/// Major and minor number of a kernel's release.
pub(super) type Version = (u32, u32);

/// What one reader did with dumps of one kind.
pub(super) struct Row {
    reader: Reader,
    /// ELF cores, kdump-compressed files, or both.
    kinds: &'static [Kind],
    /// As in `uname -m`.
    machines: &'static [&'static str],
    /// First kernel that the row is about, and the first that it is not.
    kernels: (Version, Version),
    pub(super) opens: Opens,
    pub(super) since: Option<&'static str>,
    /// What stands in the way; empty where nothing does.
    pub(super) reason: &'static str,
    /// Which version was run, on what, and what happened.
    pub(super) evidence: &'static str,
}

const ELF: &[Kind] = &[Kind::Elf];
const KDUMP: &[Kind] = &[Kind::Kdump];
const BOTH: &[Kind] = &[Kind::Elf, Kind::Kdump];
const ANY: (Version, Version) = ((0, 0), (u32::MAX, 0));
const X86_64: &[&str] = &["x86_64"];
const I386: &[&str] = &["i386"];
const ARM64: &[&str] = &["aarch64"];
const RISCV64: &[&str] = &["riscv64"];
const PPC64LE: &[&str] = &["ppc64le"];
const S390X: &[&str] = &["s390x"];

const OTHER_BUILD: &str = "its x86_64 build does not open it; no other build was run";
const NO_TRANSLATION: &str = "physical memory only: it translates no addresses of this machine";
const NO_REGISTERS: &str = "a gdb that knows the machine (gdb-multiarch) shows registers too";

const fn row(
    (reader, kinds, machines): (Reader, &'static [Kind], &'static [&'static str]),
    kernels: (Version, Version),
    (opens, since, reason): (Opens, Option<&'static str>, &'static str),
    evidence: &'static str,
) -> Row {
    Row { reader, kinds, machines, kernels, opens, since, reason, evidence }
}

/// The first row that fits counts.
const ROWS: &[Row] = &[
    row(
        (Crash, BOTH, X86_64),
        ((0, 0), (6, 2)),
        (Yes, None, ""),
        "crash 8.0.2 opened 6.1 with its vmlinux: /proc/vmcore, ELF and kdump files",
    ),
    row(
        (Crash, BOTH, X86_64),
        ((6, 12), (6, 13)),
        (Yes, Some("9.0.2"), ""),
        "crash 9.0.2 opened 6.12 with its vmlinux: QEMU's ELF and kdump files; 8.0.2 said 'vmlinux and vmcore do not match'",
    ),
    row(
        (Crash, ELF, RISCV64),
        ((6, 12), (6, 13)),
        (Yes, Some("9.0.2"), "needs a build for riscv64"),
        "crash 9.0.2 for riscv64 opened 6.12's ELF core",
    ),
    row((Crash, BOTH, I386), ANY, (No, None, OTHER_BUILD), "crash 8.0.2 for x86_64 refused i386 dumps"),
    row(
        (Drgn, BOTH, X86_64),
        ANY,
        (Yes, None, ""),
        "drgn 0.3.0 opened 6.1 and 6.12 with their vmlinux: /proc/vmcore, QEMU's ELF, ELF and kdump files",
    ),
    row((Drgn, BOTH, ARM64), ANY, (Yes, None, ""), "drgn 0.3.0 opened 6.12: QEMU's ELF, ELF and kdump files"),
    row((Drgn, BOTH, RISCV64), ANY, (Partly, None, NO_TRANSLATION), "drgn 0.3.0 on 6.12: opened, no translation"),
    row((Drgn, ELF, PPC64LE), ANY, (Yes, None, ""), "drgn 0.3.0 opened 6.12's little-endian ELF core, radix MMU"),
    row(
        (Drgn, KDUMP, PPC64LE),
        ANY,
        (No, None, "the libkdumpfile in it does not open kdump files of ppc64le"),
        "drgn 0.3.0 did not open kdump files of 6.12, neither vdump's nor makedumpfile's",
    ),
    row((Drgn, ELF, S390X), ANY, (Yes, None, ""), "drgn 0.3.0 opened 6.12's ELF core"),
    row(
        (Drgn, KDUMP, S390X),
        ANY,
        (No, None, "the libkdumpfile in it does not open it"),
        "drgn 0.3.0 did not open a kdump file of 6.12",
    ),
    row(
        (Libkdumpfile, BOTH, X86_64),
        ANY,
        (Yes, None, ""),
        "libkdumpfile 0.5.1 read each page of 6.1 and 6.12: /proc/vmcore, QEMU's ELF, ELF and kdump files",
    ),
    row((Libkdumpfile, BOTH, I386), ANY, (Yes, None, ""), "libkdumpfile 0.5.1 read each page of synthetic i386 dumps"),
    row(
        (Libkdumpfile, BOTH, ARM64),
        ANY,
        (Yes, None, ""),
        "libkdumpfile 0.5.1 read each page of 6.12: QEMU's ELF, ELF and kdump files",
    ),
    row(
        (Libkdumpfile, BOTH, RISCV64),
        ANY,
        (Partly, None, NO_TRANSLATION),
        "libkdumpfile 0.5.1 read each page of 6.12, and does not know the architecture",
    ),
    row(
        (Libkdumpfile, KDUMP, PPC64LE),
        ANY,
        (No, None, "it does not open kdump files of ppc64le"),
        "the libkdumpfile of drgn 0.3.0 opened none of 6.12",
    ),
    row(
        (Libkdumpfile, ELF, S390X),
        ANY,
        (Unknown, None, "0.5.1 does not open QEMU's; no other was run"),
        "libkdumpfile 0.5.1 on QEMU's ELF core of 6.12: 'Cannot allocate ELF string table'",
    ),
    row((Gdb, ELF, X86_64), ANY, (Yes, None, ""), "gdb 13.1 opened 6.1 and 6.12: /proc/vmcore, QEMU's ELF, ELF files"),
    row((Gdb, ELF, I386), ANY, (Yes, None, ""), "gdb 13.1 for x86_64 opened synthetic ELF32 cores"),
    row(
        (Gdb, ELF, &["aarch64", "riscv64", "s390x"]),
        ANY,
        (Partly, None, NO_REGISTERS),
        "gdb 13.1 for x86_64 opened 6.12's ELF cores, without registers",
    ),
    row(
        (Makedumpfile, BOTH, X86_64),
        ((0, 0), (6, 2)),
        (Yes, None, ""),
        "makedumpfile 1.7.2 filtered 6.1's /proc/vmcore and ELF file again",
    ),
    row(
        (Makedumpfile, BOTH, X86_64),
        ((6, 2), (6, 17)),
        (Yes, Some("1.7.9"), ""),
        "makedumpfile 1.7.9 took the same pages as this program's tests expect; 1.7.2 opened 6.12, and took other ones",
    ),
    row((Makedumpfile, BOTH, I386), ANY, (No, None, OTHER_BUILD), "makedumpfile 1.7.2 for x86_64 refused i386 dumps"),
    row(
        (Makedumpfile, BOTH, ARM64),
        ((6, 12), (6, 13)),
        (No, None, "1.7.8 refuses 6.12; what comes after it opens 48-bit kernels only"),
        "makedumpfile 1.7.8 for arm64 refused 6.12; b7587f1 filtered the one with 48-bit addresses",
    ),
    row(
        (Makedumpfile, BOTH, RISCV64),
        ((6, 12), (6, 13)),
        (Partly, None, "it leaves out pages that are in use"),
        "makedumpfile 1.7.8 and b7587f1 for riscv64 filtered 6.12 and lost data",
    ),
    row(
        (Makedumpfile, ELF, PPC64LE),
        ((6, 12), (6, 13)),
        (Partly, None, "it leaves out pages that are in use where the MMU is radix"),
        "makedumpfile 1.7.8 and b7587f1 for ppc64le filtered 6.12 and lost data",
    ),
    row((Makedumpfile, ELF, S390X), ((6, 12), (6, 13)), (Yes, None, ""), "makedumpfile 1.7.8 for s390x filtered 6.12"),
];

/// What `reader` did with such dumps; `None` where nothing was run. A kernel that is not known is one of all.
pub(super) fn of(reader: Reader, kind: Kind, machine: &str, kernel: Option<Version>) -> Option<&'static Row> {
    ROWS.iter().find(|row| {
        let (first, end) = row.kernels;
        let about = kernel.is_none_or(|kernel| first <= kernel && kernel < end);
        row.reader == reader && row.kinds.contains(&kind) && row.machines.contains(&machine) && about
    })
}

/// `6.12.117+deb12-cloud-amd64` is 6.12.
pub(super) fn version(release: &str) -> Option<Version> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

/// One name for each machine, whatever a header calls it.
pub(super) fn machine(name: &str) -> &str {
    match name {
        "i486" | "i586" | "i686" => "i386",
        name if name.starts_with("arm") && name != "arm64" => "arm",
        name => name,
    }
}

/// The same for an ELF core's `e_machine`; little-endian, as all that are checked.
pub(super) fn elf_machine(number: u16) -> &'static str {
    match number {
        3 => "i386",
        21 => "ppc64le",
        22 => "s390x",
        40 => "arm",
        62 => "x86_64",
        183 => "aarch64",
        243 => "riscv64",
        258 => "loongarch64",
        _ => "unknown",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn opens(reader: Reader, kind: Kind, machine: &str, release: &str) -> Opens {
        of(reader, kind, machine, version(release)).map_or(Unknown, |row| row.opens)
    }

    #[test]
    fn what_readers_were_seen_to_refuse_is_not_promised() {
        for reader in [Drgn, Libkdumpfile] {
            assert_eq!(opens(reader, Kind::Kdump, "ppc64le", "6.12.107-powerpc64le"), No);
        }
        for reader in [Crash, Makedumpfile] {
            assert_eq!(opens(reader, Kind::Kdump, machine("i686"), "4.19.0"), No);
        }
        let since = of(Crash, Kind::Elf, "x86_64", Some((6, 12))).and_then(|row| row.since);
        assert_eq!(since, Some("9.0.2"), "Debian 12's 8.0.2 does not open them");
        assert_eq!(opens(Crash, Kind::Elf, "x86_64", "6.8.0-45-generic"), Unknown);
        assert_eq!(opens(Crash, Kind::Elf, "x86_64", "6.1.0-57-cloud-amd64"), Yes);
        assert_eq!(opens(Makedumpfile, Kind::Elf, "loongarch64", "6.12.0"), Unknown);
    }

    #[test]
    fn a_release_is_two_numbers_or_none() {
        assert_eq!(version("6.12.117+deb12"), Some((6, 12)));
        assert_eq!(version("5.14.0-synthetic"), Some((5, 14)));
        assert_eq!(version("next"), None);
        assert_eq!(version(""), None);
    }
}
