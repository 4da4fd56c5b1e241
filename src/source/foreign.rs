//! What a file is by its first bytes: a dump that vdump reads, or one that people take for it, and what each of those wants.

use crate::codec::frame::FrameFormat;

/// A format that is not read here.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Foreign {
    at: usize,
    magic: &'static [u8],
    /// What a file with these bytes is, with its article.
    pub(crate) name: &'static str,
    /// What to do with it.
    pub(crate) way_out: &'static str,
}

/// As many first bytes as tell all of them apart.
pub(crate) const START: usize = 4096;

const fn foreign(at: usize, magic: &'static [u8], name: &'static str, way_out: &'static str) -> Foreign {
    Foreign { at, magic, name, way_out }
}

const GUEST: &str = "have the hypervisor dump the guest: 'virsh dump --memory-only DOMAIN FILE', or dump-guest-memory in \
                     QEMU's monitor";
const PADDED: &str = "make a padded raw image of it, in which a byte's offset is its physical address (LiME's format=padded, \
                      'avml-convert --format raw'), and give that with --iomem FILE, a saved /proc/iomem";
const CRASH: &str = "crash reads it as it is";

/// Where several begin alike the longer magic comes first.
const KNOWN: &[Foreign] = &[
    // Memory of Linux.
    foreign(0, b"EMiL\x01\0\0\0", "a LiME memory image", PADDED),
    foreign(0, b"AVML\x02\0\0\0", "a compressed AVML memory image", PADDED),
    foreign(0, b"LibvirtQemudSave", "a saved guest of libvirt ('virsh save')", GUEST),
    foreign(0, b"LibvirtQemudPart", "a saved guest of libvirt that was not written to its end", GUEST),
    foreign(0, b"QEVM", "a migration stream of QEMU (savevm, or the inside of 'virsh save')", GUEST),
    foreign(
        0,
        b"\xff\xff\xff\xff\xff\xff\xff\xffXENF",
        "a saved Xen guest",
        "dump the guest with 'xl dump-core', which crash reads",
    ),
    foreign(0, b"LinuxGuestRecord", "a saved Xen guest", "dump the guest with 'xl dump-core', which crash reads"),
    foreign(0, &[0xd2, 0xbe, 0xd2, 0xbe], "a suspended VMware guest (.vmss, .vmsn)", VMWARE),
    foreign(0, &[0xd3, 0xbe, 0xd3, 0xbe], "a suspended VMware guest (.vmss, .vmsn)", VMWARE),
    foreign(0, &[0xd0, 0xbe, 0xd0, 0xbe], "a suspended VMware guest (.vmss, .vmsn)", VMWARE),
    foreign(0, &[0xd1, 0xba, 0xd1, 0xba], "a suspended VMware guest (.vmss, .vmsn)", VMWARE),
    foreign(
        0,
        b"\x7fVirtualBox SavedState",
        "a saved VirtualBox guest",
        "dump the guest with 'VBoxManage debugvm NAME dumpvmcore'",
    ),
    foreign(0, &[0xed, 0x23, 0x8f, 0x61, 0x73, 0x01, 0x19, 0xa8], "an LKCD dump", CRASH),
    foreign(0, &[0xa8, 0x19, 0x01, 0x73, 0x61, 0x8f, 0x23, 0xed], "an LKCD dump of a big-endian machine", CRASH),
    foreign(
        0,
        &[0xa8, 0x19, 0x01, 0x73, 0x61, 0x8f, 0x23, 0xfd],
        "a stand-alone dump of s390x",
        "'zgetdump -f elf' makes an ELF core of it",
    ),
    foreign(0, b"S1SUSPEND", "a hibernation image", HIBERNATED),
    foreign(4086, b"S1SUSPEND\0", "swap space with a hibernation image", HIBERNATED),
    foreign(0, b"LINHIB0001", "a hibernation image", HIBERNATED),
    foreign(4086, b"LINHIB0001", "swap space with a hibernation image", HIBERNATED),
    // Memory of others.
    foreign(0, b"PAGEDU64", "a crash dump of Windows", WINDOWS),
    foreign(0, b"PAGEDUMP", "a crash dump of Windows", WINDOWS),
    foreign(0, b"MDMP", "a minidump of Windows", WINDOWS),
    // What lies around a file.
    foreign(0, &[0x1f, 0x8b, 8], "compressed with gzip", "decompress it: gzip -d"),
    foreign(0, b"\xfd7zXZ\0", "compressed with xz", "decompress it: xz -d"),
    foreign(4, b"1AY&SY", "compressed with bzip2", "decompress it: bzip2 -d"),
    foreign(0, b"\x89LZO\0\r\n\x1a\n", "compressed with lzop", "decompress it: lzop -d"),
    foreign(0, b"7z\xbc\xaf\x27\x1c", "a 7z archive", "unpack it"),
    foreign(0, b"PK\x03\x04", "a zip archive", "unpack it"),
    foreign(257, b"ustar", "a tar archive", "unpack it: tar -x"),
    foreign(0, b"age-encryption.org/", "encrypted with age", "decrypt it: age -d"),
    foreign(0, b"-----BEGIN AGE ENC", "encrypted with age", "decrypt it: age -d"),
    foreign(0, b"-----BEGIN PGP MES", "encrypted with PGP", "decrypt it: gpg -d"),
    foreign(0, b"QFI\xfb", "a disk image of QEMU (qcow2)", "copy the dump out of the guest's file system"),
];

const VMWARE: &str = "make an ELF core of it with VMware's vmss2core, or read it with crash as it is";
const HIBERNATED: &str = "it is no dump: the kernel reads it when it resumes";
const WINDOWS: &str = "it is not of a Linux kernel: WinDbg reads it";

/// What to do with raw memory, which nothing tells from anything else.
pub(super) const RAW_MEMORY: &str =
    "raw memory needs to be told what is RAM: --elfcorehdr ADDR, --elfcorehdr FILE or --iomem FILE";

/// Whether a file that starts so may be a dump, or something around one.
pub(super) fn looks_like_a_dump(start: &[u8]) -> bool {
    let known: [&[u8]; 4] = [b"\x7fELF", b"KDUMP   ", b"DISKDUMP", b"makedumpfile"];
    known.iter().any(|magic| start.starts_with(magic)) || FrameFormat::of(start).is_some()
}

/// What a file with these first bytes is, if it is one of them.
pub(crate) fn known(start: &[u8]) -> Option<&'static Foreign> {
    KNOWN.iter().find(|foreign| start.get(foreign.at..).is_some_and(|bytes| bytes.starts_with(foreign.magic)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_entry_hides_another_or_a_dump() {
        for foreign in KNOWN {
            let mut start = vec![0; START];
            start[foreign.at..foreign.at + foreign.magic.len()].copy_from_slice(foreign.magic);
            assert_eq!(known(&start), Some(foreign));
            // A short file.
            assert_eq!(known(&start[..foreign.at + foreign.magic.len() - 1]), None, "{}", foreign.name);
        }
        for own in
            [&b"\x7fELF\x02\x01\x01"[..], b"KDUMP   ", b"DISKDUMP", b"makedumpfile", &[0; 4096], &[0xff; 16], b""]
        {
            assert_eq!(known(own), None);
        }
    }
}
