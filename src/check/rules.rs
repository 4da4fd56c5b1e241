//! The table of rules.
//!
//! Knows what each format's readers demand, and where that is known from. Must not look at a dump. Names are stable:
//! scripts depend on them.

use super::{
    reader::{
        Harm::{self, Refuses, Stumbles},
        Reader::{self, Crash, Drgn, Gdb, Libkdumpfile, Makedumpfile},
    },
    rule::{
        Info,
        Severity::{self, Error, Warning},
    },
};

macro_rules! rules {
    ($($id:ident $name:literal $severity:ident $says:literal, $source:literal, $harms:expr;)*) => {
        /// A rule by its identity.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        #[repr(usize)]
        pub enum Rule {
            $(#[doc = $says] $id,)*
        }

        /// All rules in the order of reports.
        pub const ALL: &[Rule] = &[$(Rule::$id,)*];
        /// How many there are.
        pub const COUNT: usize = ALL.len();

        impl Rule {
            /// What is fixed about it.
            #[must_use]
            pub fn info(self) -> Info {
                match self {
                    $(Self::$id => info($name, $severity, $says, $source, $harms),)*
                }
            }
        }
    };
}

type Harms = &'static [(Reader, Harm)];

const fn info(name: &'static str, severity: Severity, says: &'static str, source: &'static str, harms: Harms) -> Info {
    Info { name, severity, says, source, harms }
}

/// Every reader gives up.
const NOBODY: Harms =
    &[(Crash, Refuses), (Drgn, Refuses), (Gdb, Refuses), (Libkdumpfile, Refuses), (Makedumpfile, Refuses)];
/// Every reader opens the dump, without a part of the memory.
const ALL_MISS: Harms =
    &[(Crash, Stumbles), (Drgn, Stumbles), (Gdb, Stumbles), (Libkdumpfile, Stumbles), (Makedumpfile, Stumbles)];
/// crash and makedumpfile give up, libkdumpfile finds what it can.
const NOT_OPENED_ALIKE: Harms =
    &[(Crash, Refuses), (Drgn, Stumbles), (Libkdumpfile, Stumbles), (Makedumpfile, Refuses)];
/// They go through libkdumpfile alike.
const THROUGH_LIBKDUMPFILE: Harms = &[(Drgn, Refuses), (Libkdumpfile, Refuses)];
/// None.
const NO_HARM: Harms = &[];

rules! {
    FileReadable "file-readable" Error
        "every byte of the dump can be read from its device", "read(2)", ALL_MISS;
    DumpInside "dump-inside" Error
        "what is inside the outer layers starts like a dump", "ELF, KDUMP, DISKDUMP signatures", NOBODY;

    CompressedData "compressed-data" Error
        "a compressed dump decompresses to its end, its checksums right", "RFC 8878; LZ4 frame format 1.6.2", ALL_MISS;

    SeekableTable "seekable-table" Error
        "a seek table is in its skippable frame, with a known descriptor", "zstd contrib/seekable_format 0.1.0", NO_HARM;
    SeekableSizes "seekable-sizes" Error
        "the sizes in the seek table add up to the file in front of it", "zstd contrib/seekable_format 0.1.0", NO_HARM;
    SeekableFrameSize "seekable-frame-size" Warning
        "a frame is at most 1 GiB decompressed", "zstd contrib/seekable_format 0.1.0", NO_HARM;
    SeekableFrame "seekable-frame" Error
        "each entry of the seek table is exactly one frame, which decompresses to the size that the entry says",
        "zstd contrib/seekable_format 0.1.0", NO_HARM;
    SeekableFrameData "seekable-frame-data" Error
        "each frame decompresses, its own checksum right", "RFC 8878 3.1.1; LZ4 frame format 1.6.2", ALL_MISS;
    SeekableChecksum "seekable-checksum" Error
        "each frame's XXH64 is the one in the seek table", "zstd contrib/seekable_format 0.1.0", ALL_MISS;
    SeekableDictionary "seekable-dictionary" Error
        "no frame needs a dictionary", "RFC 8878 5", ALL_MISS;

    FlattenedHeader "flattened-header" Error
        "the flattened header is whole", "makedumpfile makedumpfile.h: makedumpfile_header", NOBODY;
    FlattenedVersion "flattened-version" Error
        "the flattened header has type 1 and version 1", "libkdumpfile flatmap.c; makedumpfile -R",
        &[(Drgn, Refuses), (Libkdumpfile, Refuses), (Makedumpfile, Refuses)];
    FlattenedRecord "flattened-record" Error
        "each record has an offset in a file and a size that is not zero", "makedumpfile write_buffer; libkdumpfile flatmap.c",
        &[(Crash, Stumbles), (Drgn, Refuses), (Gdb, Refuses), (Libkdumpfile, Refuses), (Makedumpfile, Refuses)];
    FlattenedRecordWhole "flattened-record-whole" Error
        "each record is whole", "makedumpfile -R", NOBODY;
    FlattenedEndMark "flattened-end-mark" Error
        "the end mark follows the last record", "crash makedumpfile.c: 'truncated'", NOBODY;
    FlattenedTail "flattened-tail" Warning
        "nothing follows the end mark", "makedumpfile -R ignores it", NO_HARM;
    FlattenedOnce "flattened-once" Warning
        "no two records start at the same byte", "crash makedumpfile.c: sorted by offset, equal ones in any order",
        &[(Crash, Stumbles)];
    FlattenedContiguous "flattened-contiguous" Warning
        "the records cover the dump from byte 0, without a gap in which a page of 4 KiB starts",
        "libkdumpfile flatmap.c: a read in a hole",
        NO_HARM;

    KdumpHeader "kdump-header" Error
        "the header is whole", "makedumpfile diskdump_mod.h", NOBODY;
    KdumpVersion "kdump-version" Warning
        "the header has a version up to 6", "makedumpfile diskdump_mod.h", NO_HARM;
    KdumpBlockSize "kdump-block-size" Error
        "the block size is a power of 2 from 4 KiB to 256 KiB", "libkdumpfile diskdump.c; kdumpfile-priv.h",
        NOBODY;
    KdumpTimeUsec "kdump-time-usec" Warning
        "the header does not look like a 32-bit one through a time stamp whose microseconds are a power of 2",
        "libkdumpfile diskdump.c tries the 32-bit layout first", THROUGH_LIBKDUMPFILE;
    KdumpUtsname "kdump-utsname" Warning
        "system name, node name, release, version and machine are texts",
        "libkdumpfile: uts sanity",
        NO_HARM;
    KdumpUtsGiven "kdump-uts-given" Warning
        "system name, release and version are given",
        "libkdumpfile takes no architecture from a header without one of them, as QEMU's, and drgn then refuses",
        &[(Drgn, Refuses), (Libkdumpfile, Stumbles)];
    KdumpMachine "kdump-machine" Warning
        "the machine is one that has kdump", "crash diskdump.c: machine_type", &[(Crash, Stumbles), (Drgn, Refuses)];
    KdumpCpus "kdump-cpus" Warning
        "the header counts a CPU or more", "crash diskdump.c: a warning", NO_HARM;
    KdumpFrames "kdump-frames" Error
        "there are page frames, no more than an address can name", "makedumpfile diskdump_mod.h", NOT_OPENED_ALIKE;
    KdumpFramesAgree "kdump-frames-agree" Warning
        "both fields with the number of page frames agree", "makedumpfile: max_mapnr is capped at 2^32-1", NO_HARM;
    KdumpBitmapSize "kdump-bitmap-size" Error
        "the bitmaps have a bit for each page frame", "crash diskdump.c; libkdumpfile diskdump.c", NOT_OPENED_ALIKE;
    KdumpTwoBitmaps "kdump-two-bitmaps" Warning
        "there are two bitmaps, each as large as all page frames need", "libkdumpfile diskdump.c: max_pfn <= bits / 2",
        &[(Drgn, Stumbles), (Libkdumpfile, Refuses)];
    KdumpBitmapEven "kdump-bitmap-even" Warning
        "both bitmaps together have an even number of blocks", "crash and libkdumpfile take half of it", NO_HARM;
    KdumpBitmapInFile "kdump-bitmap-in-file" Error
        "the bitmaps lie in the file", "crash diskdump.c refuses", NOT_OPENED_ALIKE;
    KdumpBitmapOffset "kdump-bitmap-offset" Warning
        "the bitmaps start at a multiple of the analysing machine's pages, 64 KiB on some arm64 and ppc64",
        "crash a334423 (8.0.1) maps them", &[(Crash, Stumbles)];
    KdumpFileLength "kdump-file-length" Warning
        "the file has a page of the analysing machine, 64 KiB on some arm64 and ppc64",
        "crash diskdump.c reads one as the header", &[(Crash, Stumbles)];
    KdumpBitmapTail "kdump-bitmap-tail" Warning
        "no bit is set past the last page frame", "crash counts whole words of it", NO_HARM;
    KdumpDumpedExist "kdump-dumped-exist" Warning
        "every dumped page frame exists in the first bitmap", "crash diskdump.c: page_is_ram", NO_HARM;
    KdumpPages "kdump-pages" Error
        "a page is dumped", "a dump without memory is none", NO_HARM;
    KdumpComplete "kdump-complete" Error
        "the status does not say incomplete", "makedumpfile DUMP_DH_COMPRESSED_INCOMPLETE", NO_HARM;
    KdumpVmemmap "kdump-vmemmap" Warning
        "the status does not say that struct pages were excluded", "makedumpfile -e, DUMP_DH_EXCLUDED_VMEMMAP; crash warns",
        &[(Crash, Stumbles)];
    KdumpSubHeader "kdump-sub-header" Error
        "the sub header is whole", "makedumpfile diskdump_mod.h", &[(Crash, Refuses), (Drgn, Refuses), (Libkdumpfile, Stumbles), (Makedumpfile, Refuses)];
    KdumpRange "kdump-range" Error
        "the page frames of a part lie between 0 and the last one", "makedumpfile diskdump_mod.h", NO_HARM;
    KdumpEraseinfo "kdump-eraseinfo" Warning
        "the list of erased symbols lies in the file", "makedumpfile diskdump_mod.h", NO_HARM;
    KdumpVmcoreinfo "kdump-vmcoreinfo" Warning
        "the sub header leads to the VMCOREINFO text, which lies in the notes",
        "crash uses the offset, libkdumpfile the note", &[(Crash, Stumbles)];
    KdumpDescsInFile "kdump-descs-in-file" Error
        "all descriptors lie in the file", "makedumpfile diskdump_mod.h", ALL_MISS;
    KdumpDescLost "kdump-desc-lost" Error
        "every descriptor leads to data", "a zero offset: the page was lost", ALL_MISS;
    KdumpDescInFile "kdump-desc-in-file" Error
        "page data lies in the file", "makedumpfile diskdump_mod.h", ALL_MISS;
    KdumpDescApart "kdump-desc-apart" Error
        "page data lies behind headers, bitmaps and descriptors", "makedumpfile IMPLEMENTATION", NO_HARM;
    KdumpDescSize "kdump-desc-size" Error
        "page data is 1 byte to a block long", "crash diskdump.c: 'size > block_size'", ALL_MISS;
    KdumpDescFlags "kdump-desc-flags" Error
        "a page's flags name one codec: 0x1, 0x2, 0x4, 0x20 or none",
        "crash diskdump.c copies others as they are: silent garbage", ALL_MISS;
    KdumpDescRawSize "kdump-desc-raw-size" Error
        "a page that is not compressed is exactly a block", "libkdumpfile diskdump.c", ALL_MISS;
    KdumpPageDecodes "kdump-page-decodes" Error
        "every page decompresses to exactly a block", "crash and libkdumpfile diskdump.c", ALL_MISS;

    SplitPart "split-part" Error
        "each of several inputs is a part of a split kdump-compressed dump", "makedumpfile --split",
        &[(Crash, Refuses), (Libkdumpfile, Stumbles), (Makedumpfile, Refuses)];
    SplitHeaders "split-headers" Error
        "all parts have the same header, byte for byte", "crash diskdump.c compares them", &[(Crash, Refuses)];
    SplitBitmaps "split-bitmaps" Error
        "all parts have the same bitmaps, at the same place", "makedumpfile --split", &[(Libkdumpfile, Stumbles)];
    SplitCovers "split-covers" Error
        "no part is missing", "makedumpfile --split",
        &[(Crash, Stumbles), (Libkdumpfile, Stumbles), (Makedumpfile, Stumbles)];
    SplitOverlap "split-overlap" Error
        "no page frame is in two parts", "makedumpfile --split", NO_HARM;
    SplitStart "split-start" Warning
        "a part starts at a multiple of 64 page frames, or where that makes no difference to crash",
        "crash diskdump.c counts whole words of 64 page frames, from the start in steps of 4096",
        &[(Crash, Stumbles)];
    SplitNotes "split-notes" Warning
        "the notes are at the same place in all parts", "libkdumpfile reads the first file's at the last one's offset",
        &[(Libkdumpfile, Stumbles)];

    ElfHeader "elf-header" Error
        "the ELF header is whole", "System V ABI", NOBODY;
    ElfCore "elf-core" Error
        "it is a little-endian core of 32 or 64 bits", "System V ABI", NOBODY;
    ElfEntry "elf-phentsize" Warning
        "program headers have the size that the class gives them", "System V ABI",
        &[(Gdb, Refuses), (Libkdumpfile, Refuses)];
    ElfMachine "elf-machine" Warning
        "the machine is one that has kdump", "crash netdump.c", &[(Crash, Refuses)];
    ElfPhdrs "elf-phdrs" Error
        "there are program headers, and all lie in the file", "crash netdump.c", NOBODY;
    ElfLoads "elf-loads" Error
        "there is a PT_LOAD", "a dump without memory is none",
        &[(Crash, Refuses), (Drgn, Stumbles), (Gdb, Stumbles), (Libkdumpfile, Refuses), (Makedumpfile, Refuses)];
    ElfLoadMemory "elf-load-memory" Error
        "a PT_LOAD has memory", "a dump without memory is none; makedumpfile 1.7.2 refuses it",
        &[(Crash, Stumbles), (Drgn, Stumbles), (Gdb, Stumbles), (Libkdumpfile, Stumbles), (Makedumpfile, Refuses)];
    ElfPhoff "elf-phoff" Warning
        "the program headers start at byte 192 or before", "crash netdump.c looks at 304 bytes",
        &[(Crash, Refuses)];
    ElfPhdrsFollow "elf-phdrs-follow" Warning
        "the program headers follow the ELF header",
        "makedumpfile elf_info.c looks for them there, whatever e_phoff says: 1.7.2, 1.7.8 and 1.7.9 fail on QEMU's cores",
        &[(Makedumpfile, Refuses)];
    ElfXnum "elf-xnum" Error
        "more than 65534 program headers are counted in the first section header, of which there is one or more",
        "System V ABI, extended numbering",
        &[(Crash, Refuses), (Drgn, Refuses), (Gdb, Refuses), (Libkdumpfile, Stumbles), (Makedumpfile, Refuses)];
    ElfNoteFirst "elf-note-first" Warning
        "the first program header is a PT_NOTE", "crash netdump.c skips it, whatever it is", &[(Crash, Refuses)];
    ElfNoteOnly "elf-note-only" Warning
        "there is one PT_NOTE", "crash netdump.c takes every later header for a PT_LOAD", &[(Crash, Stumbles)];
    ElfOnlyLoads "elf-only-loads" Warning
        "all other program headers are PT_LOAD", "crash netdump.c takes every later header for a PT_LOAD",
        &[(Crash, Stumbles)];
    ElfNoteAlign "elf-note-align" Warning
        "the PT_NOTE is not aligned to 8, for its notes are padded to 4", "libelf, which drgn uses", &[(Drgn, Stumbles), (Gdb, Refuses)];
    ElfNoteBeforeLoads "elf-note-before-loads" Warning
        "the notes lie before all data", "crash netdump.c: the header ends where data begins", &[(Crash, Stumbles)];
    ElfFirstOffset "elf-first-offset" Warning
        "the first PT_LOAD is not at byte 0 of the file, even if it has no data",
        "crash netdump.c: the header would have no bytes", &[(Crash, Refuses)];
    ElfLoadAlign "elf-load-align" Warning
        "the first PT_LOAD has p_align 0, or its data is not at a multiple of 4 KiB",
        "crash netdump.c takes it for a netdump, with other pages and without the panicking CPU", &[(Crash, Stumbles)];
    ElfLoadSizes "elf-load-sizes" Error
        "a PT_LOAD has no more data than memory, and does not reach past the last address", "System V ABI",
        ALL_MISS;
    ElfLoadInFile "elf-load-in-file" Error
        "the data of each PT_LOAD lies in the file", "System V ABI", ALL_MISS;
    ElfLoadAddress "elf-load-address" Warning
        "each PT_LOAD has a physical address", "-1 is none; libkdumpfile ignores them all if all are 0",
        &[(Crash, Stumbles), (Libkdumpfile, Stumbles), (Makedumpfile, Stumbles)];
    ElfLoadCongruent "elf-load-congruent" Warning
        "the virtual and the physical address of a PT_LOAD are at the same byte of a page", "System V ABI", NO_HARM;
    ElfLoadOverlap "elf-load-overlap" Error
        "where PT_LOADs share physical memory they have the same bytes",
        "crash takes the first, drgn the last, libkdumpfile the lowest", ALL_MISS;
    ElfLoadVirtual "elf-load-virtual" Warning
        "no two PT_LOADs have the same virtual addresses", "gdb shows one of them", &[(Gdb, Stumbles)];
    ElfLoadCount "elf-load-count" Warning
        "there are at most 8192 PT_LOADs", "crash and libkdumpfile look through all of them for each read",
        &[(Crash, Stumbles), (Libkdumpfile, Stumbles)];
    ElfLoadSingle "elf-load-single" Warning
        "there are two PT_LOADs or more", "crash netdump.c: one alone has every address",
        &[(Crash, Stumbles)];
    ElfComplete "elf-complete" Error
        "e_flags does not say incomplete", "makedumpfile: bit 0", NO_HARM;

    NotesInFile "notes-in-file" Error
        "the notes lie in the file", "makedumpfile diskdump_mod.h; System V ABI",
        &[(Crash, Refuses), (Drgn, Refuses), (Gdb, Refuses)];
    NotesWhole "notes-whole" Warning
        "notes follow one another to the end", "System V ABI", NO_HARM;
    NotesCpus "notes-cpus" Warning
        "there are at most 8192 register sets", "crash diskdump.c writes them into an array of NR_CPUS",
        &[(Crash, Refuses)];
    NotesVmcoreinfo "notes-vmcoreinfo" Warning
        "there is a VMCOREINFO", "kernel/vmcore_info.c; drgn program.c", &[(Drgn, Refuses)];
    VmcoreinfoRelease "vmcoreinfo-osrelease" Warning
        "VMCOREINFO has OSRELEASE", "drgn: VMCOREINFO parser", &[(Drgn, Refuses)];
    VmcoreinfoPageSize "vmcoreinfo-pagesize" Warning
        "VMCOREINFO has PAGESIZE", "drgn: VMCOREINFO parser", &[(Drgn, Refuses)];
    VmcoreinfoPower "vmcoreinfo-pagesize-power" Warning
        "PAGESIZE in VMCOREINFO is a power of 2", "drgn: VMCOREINFO parser; libkdumpfile", THROUGH_LIBKDUMPFILE;
    VmcoreinfoPageTable "vmcoreinfo-swapper-pg-dir" Warning
        "VMCOREINFO has SYMBOL(swapper_pg_dir)", "drgn: VMCOREINFO parser", &[(Drgn, Refuses)];
}
