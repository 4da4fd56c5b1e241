#!/usr/bin/env python3
"""Makes the seeds of the fuzz targets: small inputs that reach deep. Run once; the files are in git.

usage: seeds.py VDUMP (a built vdump, which converts the small dump into its other formats)
"""
import gzip, os, pathlib, struct, subprocess, sys, tempfile, zlib

HERE = pathlib.Path(__file__).resolve().parent / "seeds"
PAGE = 4096
INFO = """OSRELEASE=6.12.1
PAGESIZE=4096
SYMBOL(init_uts_ns)=ffffffff82000100
OFFSET(uts_namespace.name)=0
SYMBOL(swapper_pg_dir)=ffffffff82001000
SYMBOL(_stext)=ffffffff82000000
SYMBOL(mem_section)=ffff888000002000
LENGTH(mem_section)=2048
SIZE(mem_section)=16
OFFSET(mem_section.section_mem_map)=0
SIZE(page)=64
OFFSET(page.flags)=0
OFFSET(page._refcount)=52
OFFSET(page.mapping)=24
OFFSET(page.lru)=8
OFFSET(page._mapcount)=48
OFFSET(page.private)=40
OFFSET(page.compound_head)=8
LENGTH(zone.free_area)=11
NUMBER(PG_lru)=4
NUMBER(PG_private)=14
NUMBER(PG_swapcache)=10
NUMBER(PG_head_mask)=64
NUMBER(PAGE_BUDDY_MAPCOUNT_VALUE)=-129
NUMBER(phys_base)=0
NUMBER(pgtable_l5_enabled)=0
CRASHTIME=1700000000
"""


def put(target, name, data):
    path = HERE / target
    path.mkdir(parents=True, exist_ok=True)
    (path / name).write_bytes(data)


def note(name, kind, desc):
    name += b"\0"
    pad = lambda b: b + bytes(-len(b) % 4)
    return struct.pack("<III", len(name), len(desc), kind) + pad(name) + pad(desc)


def elf(pages, notes, machine=62):
    """Two segments of memory, the first at 0."""
    data = b"".join(pages)
    half = len(pages) // 2 * PAGE
    start = 64 + 3 * 56
    notes_at, data_at = start, -(-(start + len(notes)) // PAGE) * PAGE
    ident = b"\x7fELF\x02\x01\x01" + bytes(9)
    head = struct.pack("<HHIQQQIHHHHHH", 4, machine, 1, 0, 64, 0, 0, 64, 56, 3, 0, 0, 0)
    phdr = lambda kind, off, va, pa, size: struct.pack("<IIQQQQQQ", kind, 7, off, va, pa, size, size, 0)
    heads = phdr(4, notes_at, 0, 0, len(notes))
    heads += phdr(1, data_at, 0xFFFF888000000000, 0, half)
    heads += phdr(1, data_at + half, 0xFFFF888000000000 + (1 << 19), 1 << 19, len(data) - half)
    return (ident + head + heads + notes).ljust(data_at, b"\0") + data


def small_dump():
    info = note(b"VMCOREINFO", 0, INFO.encode())
    notes = note(b"CORE", 1, bytes(range(256)) + bytes(80)) + info
    text = (b"init\0task\0" * 500)[:PAGE]
    pages = [bytes(PAGE), text, bytes(range(256)) * 16, bytes([7]) * PAGE, bytes(PAGE), text]
    return elf(pages, notes), notes


def dumps(vdump):
    core, notes = small_dump()
    put("dump", "core.elf", core)
    put("dump", "without-note.elf", elf([bytes(PAGE), notes.ljust(PAGE, b"\0")], b""))
    put("dump", "arm64.elf", elf([bytes(PAGE), b"\1" * PAGE], note(b"CORE", 1, bytes(392)), 183))
    with tempfile.TemporaryDirectory() as room:
        room = pathlib.Path(room)
        (room / "core").write_bytes(core)

        def convert(name, *options, stream=False):
            out = room / name
            command = [vdump, "convert", "--progress", "none", "--force", *options, room / "core"]
            if stream:
                out.write_bytes(subprocess.run([*command, "-"], check=True, stdout=subprocess.PIPE).stdout)
            else:
                subprocess.run([*command, out], check=True)
            put("dump", name, out.read_bytes())

        for codec in ["none", "zlib", "lzo", "snappy", "zstd"]:
            convert(f"{codec}.kdump", "-f", "kdump", "-c", codec)
        convert("flattened", "-f", "kdump", "-c", "zlib", stream=True)
        convert("frames.elf.zst", "-f", "elf", "-c", "zstd")
        convert("frames.elf.lz4", "-f", "elf", "-c", "lz4")
        whole = subprocess.run(["zstd", "-q", "-c", room / "core"], check=True, stdout=subprocess.PIPE).stdout
        put("dump", "whole.zst", whole)
        subprocess.run([vdump, "convert", "--progress", "none", "--split", "2", "-f", "kdump", room / "core", room / "set"], check=True)
        put("dump", "part.kdump", (room / "set-1").read_bytes())


def btf():
    """struct page { unsigned long flags; struct page *next; }; enum { PG_lru = 4 }."""
    strings = b"\0page\0flags\0next\0long unsigned int\0pageflags\0PG_lru\0"
    at = lambda name: strings.index(b"\0" + name + b"\0") + 1
    kind = lambda kind, members=0: kind << 24 | members
    types = struct.pack("<IIII", at(b"long unsigned int"), kind(1), 8, 64)
    types += struct.pack("<III", at(b"page"), kind(4, 2), 16)
    types += struct.pack("<III", at(b"flags"), 1, 0) + struct.pack("<III", at(b"next"), 3, 64)
    types += struct.pack("<III", 0, kind(2), 2)
    types += struct.pack("<III", at(b"pageflags"), kind(6, 1), 4) + struct.pack("<Ii", at(b"PG_lru"), 4)
    header = struct.pack("<HBBIIIII", 0xEB9F, 1, 0, 24, 0, len(types), len(types), len(strings))
    return header + types + strings


def vmlinux(sections):
    """An ELF file with these sections and nothing else."""
    names = b"\0" + b"\0".join(name for name, _, _ in sections) + b"\0.shstrtab\0"
    sections = [*sections, (b".shstrtab", 3, names)]
    body, heads = b"", bytes(64)
    for name, kind, data in sections:
        heads += struct.pack("<IIQQQQIIQQ", names.index(b"\0" + name + b"\0") + 1, kind, 0, 0, 64 + len(body), len(data), 0, 0, 1, 0)
        body += data
    ident = b"\x7fELF\x02\x01\x01" + bytes(9)
    head = struct.pack("<HHIQQQIHHHHHH", 2, 62, 1, 0, 0, 64 + len(body), 0, 64, 56, 0, 64, len(sections) + 1, len(sections))
    return ident + head + body + heads


def dwarf():
    """One unit with struct page { long flags; }, DWARF 4."""
    abbrev = bytes([1, 0x11, 1, 0, 0, 2, 0x13, 1, 3, 8, 0x0B, 0x0B, 0, 0, 3, 0x0D, 0, 3, 8, 0x49, 0x13, 0x38, 0x0B, 0, 0,
                    4, 0x24, 0, 3, 8, 0x0B, 0x0B, 0x3E, 0x0B, 0, 0, 0])
    dies = bytes([1]) + bytes([4]) + b"long\0" + bytes([8, 5]) + bytes([2]) + b"page\0" + bytes([64])
    dies += bytes([3]) + b"flags\0" + struct.pack("<I", 12) + bytes([0]) + bytes([0, 0])
    unit = struct.pack("<HIB", 4, 0, 8) + dies
    return abbrev, struct.pack("<I", len(unit)) + unit


def layouts():
    put("layout", "vmcoreinfo", INFO.encode())
    put("layout", "types.btf", btf())
    put("layout", "btf.elf", vmlinux([(b".BTF", 1, btf())]))
    abbrev, info = dwarf()
    put("layout", "dwarf.elf", vmlinux([(b".debug_abbrev", 1, abbrev), (b".debug_info", 1, info)]))


def memories():
    base = 0xFFFFFFFF82000000
    # The characters of a log before 3.5, and records of 3.5 to 5.9.
    info = f"SYMBOL(log_buf)={base + 1:x}\nSYMBOL(log_buf_len)={base + 9:x}\nSYMBOL(log_end)={base + 13:x}\n"
    text = b"<6>[    0.000000] Linux version\n"
    put("log", "characters", info.encode() + b"\0" + struct.pack("<QII", base + 64, 64, len(text)).ljust(63, b"\0") + text.ljust(64, b"\0"))
    info = "".join(f"SYMBOL({name})={base + at:x}\n" for name, at in [("log_buf", 1), ("log_buf_len", 9), ("log_first_idx", 13), ("log_next_idx", 17)])
    info += "SIZE(printk_log)=16\nOFFSET(printk_log.ts_nsec)=0\nOFFSET(printk_log.len)=8\nOFFSET(printk_log.text_len)=10\nOFFSET(printk_log.dict_len)=12\n"
    record = lambda text: struct.pack("<QHHHBB", 1, 16 + -(-len(text) // 4) * 4, len(text), 0, 0, 6) + text + bytes(-len(text) % 4)
    records = record(b"Linux version 4.19") + record(b"Kernel panic")
    put("log", "records", info.encode() + b"\0" + struct.pack("<QIII", base + 64, 128, 0, len(records)).ljust(63, b"\0") + records.ljust(128, b"\0"))
    fields = {"printk_ringbuffer": 80, "prb_desc_ring": 40, "prb_desc": 24, "prb_data_blk_lpos": 16, "printk_info": 88, "prb_data_ring": 32, "atomic_long_t": 8}
    info = f"SYMBOL(prb)={base + 1:x}\n" + "".join(f"SIZE({name})={size}\n" for name, size in fields.items())
    offsets = [("printk_ringbuffer.desc_ring", 0), ("printk_ringbuffer.text_data_ring", 40), ("printk_ringbuffer.fail", 72), ("prb_desc_ring.count_bits", 0),
               ("prb_desc_ring.descs", 8), ("prb_desc_ring.infos", 16), ("prb_desc_ring.head_id", 24), ("prb_desc_ring.tail_id", 32), ("prb_desc.state_var", 0),
               ("prb_desc.text_blk_lpos", 8), ("prb_data_blk_lpos.begin", 0), ("prb_data_blk_lpos.next", 8), ("printk_info.seq", 0), ("printk_info.ts_nsec", 8),
               ("printk_info.text_len", 16), ("printk_info.caller_id", 20), ("prb_data_ring.size_bits", 0), ("prb_data_ring.data", 8), ("prb_data_ring.head_lpos", 16),
               ("prb_data_ring.tail_lpos", 24), ("atomic_long_t.counter", 0)]
    info += "".join(f"OFFSET({name})={at}\n" for name, at in offsets)
    ring = struct.pack("<IIQQQQ", 1, 0, base + 0x100, base + 0x140, 0x8000000000000000 | 1, 0x8000000000000000 | 0)
    ring += struct.pack("<IIQQQ", 6, 0, base + 0x200, 32, 0) + bytes(8)
    descs = struct.pack("<QQQ", 0x4000000000000000, 0, 16) + struct.pack("<QQQ", 0x4000000000000001, 16, 32)
    infos = b"".join(struct.pack("<QQHBBI", seq, seq * 1000, 5, 0, 6, 1).ljust(88, b"\0") for seq in range(2))
    data = struct.pack("<Q", 0) + b"first\0\0\0" + struct.pack("<Q", 1) + b"again\0\0\0"
    memory = (bytes(1) + ring).ljust(0x100, b"\0") + descs.ljust(0x40, b"\0") + infos.ljust(0xC0, b"\0") + data.ljust(64, b"\0")
    put("log", "ring", info.encode() + memory)

    # Three symbols: T_stext, T_etext, Dinit_task; tokens are the characters themselves.
    names = [b"T_stext", b"T_etext", b"Dinit_task"]
    table, index = b"", []
    for byte in range(256):
        index.append(len(table))
        table += bytes([byte]) + b"\0" if 32 < byte < 127 else b"\0"
    compressed = b"".join(bytes([len(name)]) + name for name in names)
    places = {"kallsyms_num_syms": 0x10, "kallsyms_relative_base": 0x18, "kallsyms_offsets": 0x20, "kallsyms_names": 0x40,
              "kallsyms_token_table": 0x100, "kallsyms_token_index": 0x400}
    info = f"SYMBOL(_stext)={base + 0x1000:x}\n" + "".join(f"SYMBOL({name})={base + at:x}\n" for name, at in places.items())
    memory = bytes(0x10) + struct.pack("<IIQ", 3, 0, base) + struct.pack("<III", 0x1000, 0x2000, 0x3000).ljust(0x20, b"\0")
    memory = memory.ljust(0x40, b"\0") + compressed
    memory = memory.ljust(0x100, b"\0") + table
    memory = memory.ljust(0x400, b"\0") + struct.pack("<256H", *index)
    put("symbols", "table", info.encode() + memory)


def rest(vdump):
    put("memory", "nothing", b"")
    put("memory", "one", struct.pack("<HHB8s", 3, 64, 7, b"\xff" * 8))
    put("memory", "many", b"".join(struct.pack("<HHB8s", n * 37, n * 64, n % 8, bytes([n] * 8)) for n in range(40)))
    put("rules", "rules", b'# names\nfor task in init_task.tasks within task_struct:tasks\n  erase task.comm\nendfor\nerase some_key size 16 with 0x58\n')
    put("rules", "eppic", b"[vmlinux]\nerase modules\nerase cred.uid size 4\nfor m in modules.next within module:list\n\terase m.holders_dir.name\nendfor\n")
    put("host", "iomem", b"00000000-00000fff : Reserved\n00001000-0009ffff : System RAM\n00100000-3fffffff : System RAM\n  01000000-01ffffff : Kernel code\n"
        b"  30000000-3fffffff : Crash kernel\n100000000-13fffffff : System RAM (kmem)\nfed00000-fed003ff : GART\n")
    put("host", "numbers", b"0x1000 4096 1G 0.5 64M ffffffff81000000 18446744073709551615 -1 +5 1e3 5.K\n")
    setup = bytearray(0x1000)
    setup[0x1F1], setup[0x1FE:0x200] = 4, b"\x55\xaa"
    setup[0x202:0x206], setup[0x206:0x208] = b"HdrS", struct.pack("<H", 0x20F)
    setup[0x211], setup[0x236:0x238] = 1, struct.pack("<H", 3)
    setup[0x234], setup[0x230:0x234], setup[0x258:0x260], setup[0x260:0x264] = 1, struct.pack("<I", 2 << 20), struct.pack("<Q", 16 << 20), struct.pack("<I", 1 << 20)
    put("image", "bzimage", bytes(setup) + bytes(8192))
    put("image", "bzimage.gz", gzip.compress(bytes(setup) + bytes(512), mtime=0))
    arm64 = bytearray(4096)
    arm64[16:24], arm64[24:32], arm64[56:60] = struct.pack("<Q", 1 << 20), struct.pack("<Q", 0xA), b"ARMd"
    put("image", "arm64", bytes(arm64))
    ident = b"\x7fELF\x02\x01\x01" + bytes(9)
    head = struct.pack("<HHIQQQIHHHHHH", 2, 62, 1, 0x1000000, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    put("image", "vmlinux", (ident + head + struct.pack("<IIQQQQQQ", 1, 7, 4096, 0xFFFFFFFF81000000, 0x1000000, 64, 128, 4096)).ljust(4160, b"\x90"))
    put("codecs", "text", b"init task " * 50)
    put("codecs", "zlib", zlib.compress(bytes(4096)))
    put("options", "vdump", b"filter\0-d\00031\0-c\0zstd:3\0--limit\0002G\0vmcore\0out")
    put("options", "makedumpfile", b"-l\0--message-level\0007\0-d\00031\0/proc/vmcore\0vmcore")
    put("options", "kexec", b"-p\0--command-line=root=/dev/sda1 irqpoll\0--initrd=/boot/initrd\0/boot/vmlinuz")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    dumps(os.path.abspath(sys.argv[1]))
    layouts()
    memories()
    rest(sys.argv[1])
