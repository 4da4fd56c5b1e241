//! Layouts of kernels from debug information: a C compiler lays structures out and says where it put what, and the product
//! must find the same in the program's DWARF.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::harness::{Run, filter, run, temp_dir, vdump_with};
use crate::synth::kernels::era;
use crate::synth::{Fixture, Machine};

/// A "kernel": types with the names that matter, and a program that prints their layout as VMCOREINFO would.
const KERNEL: &str = r#"
#include <stddef.h>
#include <stdio.h>
typedef struct { unsigned long bits[3]; } nodemask_t;
typedef struct { long counter; } atomic64_t;
typedef atomic64_t atomic_long_t;
struct list_head { struct list_head *next, *prev; };
struct before { char a; int b : 3; };
struct page {
    EXTRA
    unsigned long flags;
    union {
        struct { struct list_head lru; void *mapping; union { unsigned long index; struct { int x; }; }; unsigned long private; };
        struct { unsigned long compound_head; unsigned char compound_dtor, compound_order; };
    };
    union { int _mapcount; unsigned page_type; };
    int _refcount;
};
struct free_area { struct list_head free_list[5]; unsigned long nr_free; };
struct zone { unsigned long spanned_pages; struct free_area free_area[11]; long vm_stat[7]; };
struct mem_section { unsigned long section_mem_map; void *usage; };
typedef struct pglist_data { struct zone node_zones[4]; int nr_zones; unsigned long node_start_pfn, node_spanned_pages; int node_id; } pg_data_t;
enum pageflags { PG_locked, PG_lru = LRU, PG_private, PG_head, PG_swapcache = PG_head + 3, PG_swapbacked, PG_hwpoison };
enum pagetype { PGTY_buddy = 0xf0, PGTY_offline, PGTY_slab = 0xf4, PGTY_hugetlb };
struct pglist_data *node_data[64];
struct mem_section mem_section[32];
const char linux_banner[] = "Linux version 9.9.9-test (x@y) #1\n";
enum pageflags flag; enum pagetype type; struct page page; struct zone zone; nodemask_t nodes; atomic_long_t number; struct before before;
#define SIZE(x) printf("SIZE(" #x ")=%zu\n", sizeof(struct x));
#define OFFSET(s, m) printf("OFFSET(" #s "." #m ")=%zu\n", offsetof(struct s, m));
#define NUMBER(n, v) printf("NUMBER(" #n ")=%d\n", (int)(v));
int main(void) {
    SIZE(page) SIZE(list_head) SIZE(zone) SIZE(free_area) SIZE(mem_section) SIZE(pglist_data)
    printf("SIZE(nodemask_t)=%zu\nSIZE(atomic_long_t)=%zu\nOFFSET(atomic_long_t.counter)=0\n", sizeof nodes, sizeof number);
    OFFSET(page, flags) OFFSET(page, lru) OFFSET(page, mapping) OFFSET(page, private) OFFSET(page, compound_head)
    OFFSET(page, compound_dtor) OFFSET(page, compound_order) OFFSET(page, _mapcount) OFFSET(page, _refcount)
    OFFSET(zone, free_area) OFFSET(zone, spanned_pages) OFFSET(zone, vm_stat) OFFSET(free_area, free_list) OFFSET(free_area, nr_free)
    OFFSET(mem_section, section_mem_map) OFFSET(list_head, next) OFFSET(list_head, prev)
    OFFSET(pglist_data, node_zones) OFFSET(pglist_data, nr_zones) OFFSET(pglist_data, node_start_pfn)
    OFFSET(pglist_data, node_spanned_pages) OFFSET(pglist_data, node_id)
    printf("LENGTH(zone.free_area)=11\nLENGTH(free_area.free_list)=5\nLENGTH(node_data)=64\nLENGTH(mem_section)=32\n");
    NUMBER(PG_locked, PG_locked) NUMBER(PG_head, PG_head)
    NUMBER(PGTY_buddy, PGTY_buddy) NUMBER(PGTY_offline, PGTY_offline) NUMBER(PGTY_slab, PGTY_slab)
    NUMBER(PGTY_hugetlb, PGTY_hugetlb)
    printf("LENGTH(pglist_data.node_zones)=4\n");
    NUMBER(PG_lru, PG_lru) NUMBER(PG_private, PG_private) NUMBER(PG_head_mask, 1 << PG_head)
    NUMBER(PG_swapcache, PG_swapcache) NUMBER(PG_swapbacked, PG_swapbacked) NUMBER(PG_hwpoison, PG_hwpoison)
    NUMBER(PAGE_BUDDY_MAPCOUNT_VALUE, 0xf0u << 24) NUMBER(PAGE_OFFLINE_MAPCOUNT_VALUE, 0xf1u << 24)
    NUMBER(PAGE_SLAB_MAPCOUNT_VALUE, 0xf4u << 24) NUMBER(PAGE_HUGETLB_MAPCOUNT_VALUE, 0xf5u << 24)
    printf("OSRELEASE=9.9.9-test\nPAGESIZE=4096\n");
    return (int)(flag + type + page.flags + zone.spanned_pages) + before.b;
}
"#;

/// Another file of the same kernel, which knows `struct page` by name only, and a structure of the same name elsewhere.
const OTHER: &str =
    "struct page; struct page *other; struct zone *zones; enum pageflags; int unused(void) { return other != 0; }";

fn command(program: &str, words: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(words);
    command
}

fn compile(dir: &Path, name: &str, options: &[&str]) -> PathBuf {
    let (source, other, out) = (dir.join("kernel.c"), dir.join("other.c"), dir.join(name));
    fs::write(&source, KERNEL).unwrap();
    fs::write(&other, OTHER).unwrap();
    let mut gcc = command("gcc", &["-O1", "-Wl,--build-id=0x00112233445566778899aabbccddeeff00112233", "-DLRU=5"]);
    if !options.iter().any(|option| option.starts_with("-DEXTRA")) {
        gcc.arg("-DEXTRA=");
    }
    run(gcc.args(options).args([&other, &source]).arg("-o").arg(&out)).ok();
    out
}

fn lines(text: &str) -> BTreeMap<String, String> {
    text.lines()
        .filter_map(|line| line.split_once('='))
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect()
}

/// What the product found, without addresses.
fn found(run: Run) -> BTreeMap<String, String> {
    let mut found = lines(&run.ok().stdout);
    found.retain(|key, _| !key.starts_with("SYMBOL("));
    assert_eq!(found.remove("BUILD-ID").as_deref(), Some("00112233445566778899aabbccddeeff00112233"));
    found
}

#[test]
fn every_way_to_write_debug_information_says_what_the_compiler_says() {
    let dir = temp_dir();
    let ways: [&[&str]; 7] = [
        &["-gdwarf-5"],
        &["-gdwarf-4"],
        &["-gdwarf-5", "-gz=zlib"],
        &["-gdwarf-4", "-gz=zlib-gnu"],
        &["-gdwarf-5", "-gdwarf64"],
        &["-gdwarf-5", "-DLRU=7", "-DEXTRA=long inserted;"],
        &["-gdwarf-5", "-fdebug-types-section", "-gno-strict-dwarf"],
    ];
    for (index, way) in ways.into_iter().enumerate() {
        if way.contains(&"-fdebug-types-section") {
            // Types in units of their own lie behind signatures; no kernel is built so. Nothing wrong may be said.
            let path = compile(dir.path(), "types", way);
            let said = lines(&vdump_with(["layout".as_ref(), "-x".as_ref(), path.as_os_str()]).stdout);
            let expected = lines(&run(&mut Command::new(&path)).stdout);
            for (key, value) in said.iter().filter(|(key, _)| expected.contains_key(*key)) {
                assert_eq!(value, &expected[key], "{key}");
            }
            continue;
        }
        let path = compile(dir.path(), &format!("vmlinux{index}"), way);
        let expected = lines(&run(&mut Command::new(&path)).stdout);
        assert!(expected.len() > 40);
        let found = found(vdump_with(["layout".as_ref(), "-x".as_ref(), path.as_os_str()]));
        assert_eq!(found, expected, "{way:?}");
    }
}

#[test]
fn debug_information_in_a_file_of_its_own_is_found() {
    let dir = temp_dir();
    let whole = compile(dir.path(), "vmlinux", &["-g"]);
    let expected = lines(&run(&mut Command::new(&whole)).stdout);
    let (debug, stripped) = (dir.path().join("vmlinux.debug"), dir.path().join("stripped"));
    run(command("objcopy", &["--only-keep-debug"]).args([&whole, &debug])).ok();
    run(command("objcopy", &["--strip-debug", "--add-gnu-debuglink"]).args([&debug, &whole, &stripped])).ok();
    assert_eq!(found(vdump_with(["layout".as_ref(), "-x".as_ref(), stripped.as_os_str()])), expected);
    fs::create_dir(dir.path().join(".debug")).unwrap();
    fs::rename(&debug, dir.path().join(".debug/vmlinux.debug")).unwrap();
    assert_eq!(found(vdump_with(["layout".as_ref(), "-x".as_ref(), stripped.as_os_str()])), expected);
    // Another build's debug file is not believed, whatever its name.
    let other = compile(dir.path(), "other", &["-g", "-Wl,--build-id=0xff", "-DEXTRA=long inserted;"]);
    run(command("objcopy", &["--only-keep-debug"]).args([&other, &dir.path().join(".debug/vmlinux.debug")])).ok();
    let refused = vdump_with(["layout".as_ref(), "-x".as_ref(), stripped.as_os_str()]);
    assert_eq!(refused.code(), Some(1));
    assert!(refused.stderr.contains("neither DWARF nor BTF"), "{}", refused.stderr);
}

#[test]
fn a_layout_file_is_what_filter_takes_and_a_diff_shows_what_changed() {
    let dir = temp_dir();
    let one = compile(dir.path(), "one", &["-g"]);
    let two = compile(dir.path(), "two", &["-g", "-DLRU=9", "-DEXTRA=long inserted;"]);
    let file = dir.path().join("layout");
    vdump_with(["layout".as_ref(), "-x".as_ref(), one.as_os_str(), "-o".as_ref(), file.as_os_str()]).ok();
    let text = fs::read_to_string(&file).unwrap();
    assert!(text.starts_with("OSRELEASE=9.9.9-test\nPAGESIZE=4096\n"), "{text}");
    let same = vdump_with(["layout".as_ref(), "--diff".as_ref(), one.as_os_str(), file.as_os_str()]).ok();
    assert_eq!(same.stdout, "");
    let diff = vdump_with(["layout".as_ref(), "--diff".as_ref(), file.as_os_str(), two.as_os_str()]).ok().stdout;
    for line in ["-NUMBER(PG_lru)=5", "+NUMBER(PG_lru)=9", "-OFFSET(page.flags)=0", "+OFFSET(page.flags)=8"] {
        assert!(diff.lines().any(|found| found == line), "{line} is not in\n{diff}");
    }
    assert!(!diff.contains("SYMBOL("), "{diff}");
    let json = vdump_with(["layout".as_ref(), "--json".as_ref(), "-x".as_ref(), two.as_os_str()]).ok().stdout;
    let json: Value = serde_json::from_str(&json).unwrap();
    let is_lru = |value: &&Value| value["key"] == "NUMBER(PG_lru)";
    let lru = json["values"].as_array().unwrap().iter().find(is_lru).unwrap();
    assert_eq!((lru["value"].as_str(), lru["witness"].as_str()), (Some("9"), Some("DWARF")));
}

#[test]
fn what_is_no_kernel_is_refused_with_a_reason() {
    let dir = temp_dir();
    let (text, truncated, plain) = (dir.path().join("text"), dir.path().join("truncated"), dir.path().join("plain"));
    fs::write(&text, "hello\n").unwrap();
    let whole = fs::read(compile(dir.path(), "vmlinux", &["-g"])).unwrap();
    run(command("objcopy", &["--strip-all"]).arg(dir.path().join("vmlinux")).arg(&plain)).ok();
    for path in [&text, &plain, &dir.path().join("absent"), &dir.path().to_owned()] {
        let run = vdump_with(["layout".as_ref(), "-x".as_ref(), path.as_os_str()]);
        assert_eq!(run.code(), Some(1), "{}: {}", path.display(), run.stderr);
        assert!(run.stderr.contains(path.to_str().unwrap()) && run.stderr.contains("; "), "{}", run.stderr);
    }
    // Cut anywhere, it is an error or an answer, never a panic, and never a wrong answer.
    let expected = lines(&run(&mut Command::new(dir.path().join("vmlinux"))).stdout);
    for at in (1..40).map(|part| whole.len() * part / 40) {
        fs::write(&truncated, &whole[..at]).unwrap();
        let run = vdump_with(["layout".as_ref(), "-x".as_ref(), truncated.as_os_str()]);
        assert!(matches!(run.code(), Some(0 | 1)) && !run.stderr.contains("panicked"), "{at}: {}", run.stderr);
        for (key, value) in lines(&run.stdout).iter().filter(|(key, _)| expected.contains_key(*key)) {
            assert_eq!(value, &expected[key], "{key} of a file cut at {at}");
        }
    }
    assert_eq!(vdump_with(["layout"]).code(), Some(2));
}

/// A machine whose note lacks everything about struct pages.
fn forgetful(dir: &Path) -> (Fixture, PathBuf, PathBuf) {
    let fixture = Machine::small(era("6.12")).build(dir);
    let mut bytes = fs::read(&fixture.path).unwrap();
    let start = bytes.windows(10).position(|window| window == b"OSRELEASE=").unwrap();
    let end = start + bytes[start..].iter().position(|byte| *byte == 0).unwrap();
    let note = String::from_utf8(bytes[start..end].to_vec()).unwrap();
    let layout = dir.join("layout");
    let is_type = |line: &&str| {
        ["OFFSET(page.", "SIZE(page)", "NUMBER(PG_", "NUMBER(PAGE_"].iter().any(|kind| line.starts_with(kind))
    };
    fs::write(&layout, note.lines().filter(is_type).collect::<Vec<_>>().join("\n")).unwrap();
    let blank = |line: &str| if is_type(&line) { "#".repeat(line.len()) } else { line.to_owned() };
    let blanked = note.split('\n').map(blank).collect::<Vec<_>>().join("\n");
    bytes[start..end].copy_from_slice(blanked.as_bytes());
    let path = dir.join("forgetful");
    fs::write(&path, bytes).unwrap();
    (fixture, path, layout)
}

#[test]
fn a_layout_file_makes_up_for_what_the_note_lacks() {
    let dir = temp_dir();
    let (fixture, path, layout) = forgetful(dir.path());
    let out = |name: &str| dir.path().join(name);
    let refused = filter(&["-d", "31"], &path, &out("refused"));
    assert_eq!(refused.code(), Some(1));
    assert!(refused.stderr.contains("SIZE(page)") && !out("refused").exists(), "{}", refused.stderr);
    let options = ["-d", "31", "-f", "elf", "-i", layout.to_str().unwrap()];
    let mended = filter(&options, &path, &out("mended")).ok();
    assert!(mended.stderr.contains("nothing shows that"), "{}", mended.stderr);
    let strict = filter(&[&options[..], &["--strict"]].concat(), &path, &out("strict"));
    assert!(strict.code() == Some(1) && strict.stderr.contains("nothing shows that"), "{}", strict.stderr);
    let faults = crate::check::elf(&fixture, 31, &out("mended"));
    // The note itself is another: it says less.
    let faults: Vec<_> = faults.into_iter().filter(|fault| !fault.contains("note")).collect();
    assert!(faults.is_empty(), "{faults:?}");
}

#[test]
fn a_file_of_another_kernel_is_refused() {
    let dir = temp_dir();
    let (_, path, layout) = forgetful(dir.path());
    let text = fs::read_to_string(&layout).unwrap();
    fs::write(&layout, format!("{text}\nSIZE(list_head)=24\nSIZE(mem_section)=99\n")).unwrap();
    let options = ["-d", "31", "-i", layout.to_str().unwrap()];
    let refused = filter(&options, &path, &dir.path().join("out"));
    assert_eq!(refused.code(), Some(1), "{}", refused.stderr);
    assert!(refused.stderr.contains("does not belong to the crashed kernel"), "{}", refused.stderr);
    let vmlinux = compile(dir.path(), "vmlinux", &["-g"]);
    let refused = filter(&["-x", vmlinux.to_str().unwrap()], &path, &dir.path().join("out"));
    assert_eq!(refused.code(), Some(1));
    assert!(refused.stderr.contains("9.9.9-test"), "{}", refused.stderr);
}

#[test]
fn a_name_that_several_files_have_gives_no_address_unless_one_is_the_kernels() {
    let dir = temp_dir();
    let own = "static int prb __attribute__((used)) = 1; static int log_buf __attribute__((used)) = 2;";
    let (one, other) = (dir.path().join("one.c"), dir.path().join("other.c"));
    fs::write(&one, format!("{own} int node_data[4]; struct page {{ int x; }} page; int main(void) {{ return 0; }}"))
        .unwrap();
    fs::write(&other, "static int prb __attribute__((used)) = 3; static int node_data __attribute__((used)) = 4;")
        .unwrap();
    let path = dir.path().join("vmlinux");
    let sources = [one.to_str().unwrap(), other.to_str().unwrap(), "-o", path.to_str().unwrap()];
    assert!(command("gcc", &["-g", "-no-pie", "-fno-common"]).args(sources).status().unwrap().success());
    let nm = command("nm", &[path.to_str().unwrap()]).output().unwrap();
    let symbols = String::from_utf8(nm.stdout).unwrap();
    let addresses = |kinds: &str, name: &str| {
        let of = |line: &str| {
            let [address, kind, symbol] = line.split(' ').collect::<Vec<_>>()[..] else { return None };
            (symbol == name && kinds.contains(kind)).then(|| u64::from_str_radix(address, 16).unwrap())
        };
        symbols.lines().filter_map(of).collect::<Vec<_>>()
    };
    assert_eq!((addresses("d", "prb").len(), addresses("d", "node_data").len()), (2, 1));
    let said = lines(&vdump_with(["layout", "--vmlinux", path.to_str().unwrap()]).ok().stdout);
    let address = |name: &str| said.get(&format!("SYMBOL({name})")).map(|text| u64::from_str_radix(text, 16).unwrap());
    assert_eq!(address("prb"), None);
    assert_eq!(address("log_buf"), Some(addresses("d", "log_buf")[0]));
    assert_eq!(address("node_data"), Some(addresses("BD", "node_data")[0]));
}
