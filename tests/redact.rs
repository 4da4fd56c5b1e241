//! Redaction: what rules name is gone from every kind of output, and every other byte is as it was.
//!
//! A C compiler and a linker lay out what is named and say where it is (redact.c). Must not know how the product finds it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::harness::{filter, run, temp_dir, vdump, vdump_with};
use crate::read;
use crate::read::elf::{Elf, Found};
use crate::read::kdump::{Kdump, set_faults};
use crate::split_output::numbered;
use crate::synth::image::{Image, PAGE};
use crate::synth::kallsyms::Addresses;
use crate::synth::kernels::era;
use crate::synth::machine::MIB;
use crate::synth::pagetable::Leaf;
use crate::synth::{Fixture, Machine};

/// Where the data lies in the kernel's image, and where the image's uts_namespace is.
const DATA: u64 = 3 * MIB;
const UTS: u64 = 2 * MIB + 64 * 1024;
/// A mapping of two pages that nothing else uses.
const FAR: u64 = 0xffff_c900_0000_0000;
const FAR_PAGES: [u64; 2] = [32 * MIB + 512 * 1024 + 5 * PAGE, 32 * MIB + 512 * 1024 + 2 * PAGE];

const RULES: &str = "\
# every way to name something
[vmlinux]
type init_uts_ns struct uts_namespace
erase init_uts_ns.name.nodename   # by member
for k in key_list.next within key:link
    erase k.data.payload
endfor
for k in key_list within key:link
    erase k.half
endfor
for c in chain via next
    erase c.data.payload
    erase c.name
    erase c.blob size c.blob_len
    erase c.blob nullify
    erase c.bytes size c.blob_len
endfor
for r in r0 via next
    erase r.id
endfor
for bucket in table
    for e in bucket within entry:node
        erase e.secret
    endfor
endfor
for p in pointers
    erase p.number
endfor
for row in grid
    erase row
endfor
erase aside.number
erase to_whole
erase two.id
erase pin.pin
erase anonymous.hidden
erase scalar size 0x8
erase opaque nullify
erase nothing size 1K
erase far
for nobody in empty within key:link
    erase nobody.id
endfor
for d in deep_list.prev within key:deep.inner.node
    erase d.deep.inner.pin.pin
endfor
";

struct Kernel {
    vmlinux: PathBuf,
    data: Vec<u8>,
    /// Address, length and what each byte becomes.
    truth: Vec<(u64, u64, u8)>,
}

fn tool(program: &str, words: &[&str]) -> String {
    let done = Command::new(program).args(words).output().unwrap_or_else(|e| panic!("{program}: {e}"));
    assert!(done.status.success(), "{program}: {}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8(done.stdout).unwrap()
}

impl Kernel {
    fn build(dir: &Path, options: &[&str]) -> Kernel {
        let path = |name: &str| dir.join(name).to_str().unwrap().to_owned();
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/redact.c");
        let object = path("kernel.o");
        let flags = ["-c", "-mcmodel=kernel", "-fno-pie", "-fno-common", "-O1", "-o", &object, source];
        tool("gcc", &[options, &flags].concat());
        let machine = Machine::small(era("6.12"));
        let symbol = |name: &str, at: u64| format!("--defsym={name}={:#x}", machine.image_va() + at);
        let data = format!("--section-start=.data={:#x}", machine.image_va() + DATA);
        let vmlinux = path("vmlinux");
        let words =
            ["-static", "-e", "0", &data, &symbol("_stext", 0), &symbol("init_uts_ns", UTS), "-o", &vmlinux, &object];
        tool("ld", &words);
        let section = |name: &str, flags: &str| {
            let out = path("section");
            tool("objcopy", &["-O", "binary", "-j", name, "--set-section-flags", flags, &vmlinux, &out]);
            fs::read(out).unwrap()
        };
        let truth = section(".truth", ".truth=alloc,load");
        let word = |bytes: &[u8]| u64::from_le_bytes(bytes.try_into().unwrap());
        let truth = truth.chunks_exact(24).map(|row| (word(&row[..8]), word(&row[8..16]), row[16])).collect();
        Kernel { data: section(".data", ".data=alloc,load"), truth, vmlinux: vmlinux.into() }
    }

    fn symbols(&self) -> Vec<(u64, &'static str)> {
        let base = Machine::small(era("6.12")).image_va();
        let named = tool("nm", &[self.vmlinux.to_str().unwrap()]);
        let one = |line: &str| {
            let [address, kind, name] = line.split(' ').collect::<Vec<_>>()[..] else { return None };
            let at = u64::from_str_radix(address, 16).unwrap().checked_sub(base).filter(|at| *at < 4 * MIB)?;
            ("dDbBaA".contains(kind)).then(|| (at, &*Box::leak(name.to_owned().into_boxed_str())))
        };
        named.lines().filter_map(one).collect()
    }

    fn machine(&self) -> Machine {
        let mut machine = Machine::small(era("6.12"));
        let at = machine.image_pa + DATA;
        let words = self.data.chunks(8).map(|chunk| {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            u64::from_le_bytes(word)
        });
        machine.pokes = (0u64..).zip(words).map(|(n, word)| (at + n * 8, word)).collect();
        machine.maps = (0u64..).zip(FAR_PAGES).map(|(n, pa)| (FAR + n * PAGE, pa, PAGE, Leaf::K4)).collect();
        let secret = u64::from_le_bytes(*b"SSSSSSSS");
        machine.pokes.extend([(FAR_PAGES[0] + 0xff8, secret), (FAR_PAGES[1], secret), (FAR_PAGES[1] + 8, 0x6b00)]);
        machine
    }

    /// The machine's memory with the rules over it.
    fn redacted(&self, machine: &Machine, fixture: &Fixture) -> Image {
        let mut image = fixture.image.clone();
        for (at, len, fill) in &self.truth {
            for va in *at..at + len {
                let pa = match va.checked_sub(FAR) {
                    Some(off) if off < 2 * PAGE => FAR_PAGES[(off / PAGE) as usize] + off % PAGE,
                    _ => machine.image_pa + (va - machine.image_va()),
                };
                image.poke(pa, &[*fill]);
            }
        }
        image
    }

    /// Bytes that are overwritten.
    fn bytes(&self) -> u64 {
        self.truth.iter().map(|(_, len, _)| len).sum()
    }
}

fn elf_page(elf: &Elf, pfn: u64) -> Option<Vec<u8>> {
    match elf.page(pfn) {
        Found::Absent => None,
        Found::Unstored => Some(vec![0; PAGE as usize]),
        Found::Stored(page) => Some(page),
    }
}

/// Every page that the level keeps is as it should be, and no run of the secret is left in what a reader sees.
#[track_caller]
fn is_redacted(label: &str, fixture: &Fixture, level: u8, expected: &Image, page: impl Fn(u64) -> Option<Vec<u8>>) {
    let mut seen = 0;
    for pfn in fixture.truth.kept(level) {
        let page = page(pfn).unwrap_or_else(|| panic!("{label}: page {pfn:#x} is missing"));
        let wrong = page.iter().zip(expected.page(pfn)).position(|(got, want)| *got != want);
        assert!(wrong.is_none(), "{label}: byte {:#x} of page {pfn:#x} is not as it should be", wrong.unwrap());
        assert!(!page.windows(6).any(|bytes| bytes == b"SSSSSS"), "{label}: page {pfn:#x} has the secret");
        seen += usize::from(page != fixture.image.page(pfn));
    }
    assert!(seen >= 5, "{label}: {seen} pages differ from the machine's");
}

fn rules(dir: &Path, text: &str) -> String {
    let path = dir.join("rules");
    fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn what_is_named_is_gone_from_every_output_and_nothing_else_is() {
    let dir = temp_dir();
    let kernel = Kernel::build(dir.path(), &["-gdwarf-5"]);
    let machine = kernel.machine();
    let fixture = machine.build(dir.path());
    let expected = kernel.redacted(&machine, &fixture);
    let (rules, vmlinux) = (rules(dir.path(), RULES), kernel.vmlinux.to_str().unwrap());
    let with = |more: &[&'static str]| [&["--force", "--redact", &rules, "-x", vmlinux][..], more].concat().join(" ");
    let go = |options: &str, out: &Path| filter(&options.split(' ').collect::<Vec<_>>(), &fixture.path, out).ok();
    let out = dir.path().join("out");

    for (codec, level) in [("none", 0), ("zlib", 31), ("lzo", 31), ("snappy", 31), ("zstd", 1), ("zstd", 31)] {
        let run = go(&format!("{} -c {codec} -d {level} --json", with(&[])), &out);
        let dump = Kdump::open(&out);
        is_redacted(codec, &fixture, level, &expected, |pfn| dump.page(pfn).ok());
        let mut uts = fixture.uts.clone();
        uts[1] = "(none)".into();
        assert_eq!(dump.uts(), uts, "the header names the machine too");
        let list = String::from_utf8(dump.erased().to_vec()).unwrap();
        assert!(
            list.starts_with("erase init_uts_ns.name.nodename size 65\nfor k in key_list.next within key:link\n"),
            "{list}"
        );
        assert!(
            list.contains("erase k.data.payload size 48\nendfor\n") && list.contains("erase opaque nullify\n"),
            "{list}"
        );
        let report: Value = serde_json::from_str(&run.stdout).unwrap();
        let said = &report["redaction"];
        assert_eq!((&said["bytes"], &said["incomplete"]), (&kernel.bytes().into(), &false.into()), "{said:#}");
        assert!(!report["warnings"].to_string().contains("may have left"), "{}", report["warnings"]);
        let rule =
            |text: &str| said["rules"].as_array().unwrap().iter().find(|rule| rule["rule"] == text).unwrap().clone();
        assert_eq!(rule("erase p.number")["places"], 3);
        assert_eq!(rule("erase far")["pages"], 2);
        assert_eq!(rule("erase nothing size 1K")["places"], 0);
        assert_eq!(rule("erase scalar size 0x8")["at"][0]["bytes"], 8);
    }
    let elf = dir.path().join("out.elf");
    for virtual_too in [&[][..], &["--virtual"]] {
        go(&with(virtual_too), &elf);
        let core = Elf::open(&elf);
        is_redacted("ELF", &fixture, 31, &expected, |pfn| elf_page(&core, pfn));
        let named = read::notes(core.notes());
        let (_, _, list) = named.iter().find(|(name, ..)| name == "ERASEINFO").expect("a note with what was erased");
        assert!(list.starts_with(b"erase init_uts_ns.name.nodename size 65\n"));
        if !virtual_too.is_empty() {
            assert!(
                matches!(core.virtual_page(FAR), Found::Stored(page) if page == expected.page(FAR_PAGES[0] / PAGE))
            );
        }
    }
    for (name, unpack) in [("out.elf.zst", "zstd"), ("out.elf.lz4", "lz4")] {
        let packed = dir.path().join(name);
        go(&with(&[]), &packed);
        let out = fs::File::create(&elf).unwrap();
        let unpacked = Command::new(unpack).args(["-d", "-c", "-q"]).arg(&packed).stdout(Stdio::from(out)).status();
        assert!(unpacked.unwrap().success(), "{unpack}");
        let core = Elf::open(&elf);
        is_redacted(name, &fixture, 31, &expected, |pfn| elf_page(&core, pfn));
    }

    // Through a pipe, in parts, and in one piece again.
    for kind in ["kdump", "elf"] {
        let stream = dir.path().join("stream");
        let words = format!("filter -f {kind} {} {} -", with(&[]), fixture.path.display());
        let mut piped = vdump();
        piped.args(words.split(' ')).stdout(Stdio::from(fs::File::create(&stream).unwrap())).stderr(Stdio::null());
        assert!(piped.status().unwrap().success());
        if kind == "elf" {
            let core = Elf::open(&stream);
            is_redacted("ELF stream", &fixture, 31, &expected, |pfn| elf_page(&core, pfn));
            continue;
        }
        run(vdump().args(["merge", "--force", "-"]).arg(&out).stdin(fs::File::open(&stream).unwrap())).ok();
        let dump = Kdump::open(&out);
        is_redacted("flattened", &fixture, 31, &expected, |pfn| dump.page(pfn).ok());
    }
    let set = dir.path().join("set");
    go(&with(&["--split", "3"]), &set);
    let parts: Vec<Kdump> = numbered(&set, 3).iter().map(|path| Kdump::open(path)).collect();
    assert_eq!(set_faults(&parts), [""; 0]);
    is_redacted("split", &fixture, 31, &expected, |pfn| {
        parts.iter().find_map(|part| part.own().contains(&pfn).then(|| part.page(pfn).ok())?)
    });
    run(vdump().args(["merge", "--force"]).args(numbered(&set, 3)).arg(&out)).ok();
    let dump = Kdump::open(&out);
    is_redacted("merged", &fixture, 31, &expected, |pfn| dump.page(pfn).ok());

    // What was redacted stays so, and says so.
    run(vdump().args(["convert", "--force"]).args([&out, &elf])).ok();
    let core = Elf::open(&elf);
    is_redacted("again", &fixture, 31, &expected, |pfn| elf_page(&core, pfn));
    let words = format!("convert {} {} {}", with(&[]), fixture.path.display(), out.display());
    vdump_with(words.split(' ')).ok();
    let dump = Kdump::open(&out);
    is_redacted("converted", &fixture, 0, &expected, |pfn| dump.page(pfn).ok());
}

/// DWARF 4, the kernel's own symbols with BTF, and makedumpfile's spelling find the same.
#[test]
fn every_witness_leads_to_the_same_places() {
    let dir = temp_dir();
    let out = dir.path().join("out");
    for witness in ["-gdwarf-4", "-gbtf", "makedumpfile"] {
        let kernel =
            Kernel::build(dir.path(), if witness == "makedumpfile" { &["-g"] } else { std::slice::from_ref(&witness) });
        let mut machine = kernel.machine();
        if witness == "-gbtf" {
            machine.symbols = Some((Addresses::AbsolutePercpu, kernel.symbols()));
        }
        let fixture = machine.build(dir.path());
        let expected = kernel.redacted(&machine, &fixture);
        let rules = rules(dir.path(), RULES);
        let vmlinux = kernel.vmlinux.to_str().unwrap();
        match witness {
            "-gbtf" => {
                let btf = dir.path().join("btf").to_str().unwrap().to_owned();
                tool("objcopy", &["--dump-section", &format!(".BTF={btf}"), vmlinux]);
                filter(&["--force", "--redact", &rules, "--btf", &btf], &fixture.path, &out).ok();
            }
            "makedumpfile" => {
                let link = dir.path().join("makedumpfile");
                std::os::unix::fs::symlink(vdump().get_program(), &link).unwrap();
                let words = ["-f", "-d", "31", "-x", vmlinux, "--config", &rules];
                run(Command::new(link).args(words).arg(&fixture.path).arg(&out)).ok();
            }
            _ => _ = filter(&["--force", "--redact", &rules, "-x", vmlinux], &fixture.path, &out).ok(),
        }
        let dump = Kdump::open(&out);
        is_redacted(witness, &fixture, 31, &expected, |pfn| dump.page(pfn).ok());
    }
}

/// What cannot be meant is refused before anything is written, with the place in the file.
#[test]
fn rules_that_cannot_be_followed_are_refused() {
    let dir = temp_dir();
    let kernel = Kernel::build(dir.path(), &["-g"]);
    let fixture = kernel.machine().build(dir.path());
    let out = dir.path().join("out");
    for (text, said) in [
        ("", "it has no rule"),
        ("erase", "line 1, column 6: expected a symbol"),
        ("\n  erase scalar sise 8", "line 2, column 16: expected 'size', 'nullify'"),
        ("erase scalar size 0", "line 1, column 19: 0 bytes"),
        ("erase scalar size 9999999M", "line 1, column 19: more than"),
        ("erase scalar nullify", "'scalar' is no pointer"),
        ("erase no_such_thing", "column 7: the kernel's symbols have no variable 'no_such_thing'"),
        ("erase whole.no_such_member", "column 13: 'key' has no member 'no_such_member'"),
        ("erase scalar.a", "'scalar' is no structure"),
        ("erase opaque", "'opaque' points to nobody knows what: give a size, or nullify"),
        ("erase whole.bytes", "points to bytes, and nobody says how many"),
        ("erase whole.flags", "'whole.flags' is a part of a byte"),
        ("erase grid.x", "'grid' is an array"),
        ("erase scalar size whole.name", "'whole.name' is no number"),
        ("[mymodule]\nerase x", "line 1, column 1: rules for modules are not supported ('mymodule')"),
        ("for k in key_list within key:link\nerase k.id", "line 1, column 5: this loop has no 'endfor'"),
        ("endfor", "no loop is open"),
        ("for k in scalar\nerase k\nendfor", "'scalar' is no array"),
        ("for k in key_list within key:next\nerase k.id\nendfor", "no link of a list"),
        ("for k in chain via link\nerase k.id\nendfor", "write 'within STRUCTURE:MEMBER' instead"),
        ("for k in whole within key:link\nerase k.id\nendfor", "'whole' is no head"),
        ("for k in key_list within no_struct:link\nerase k.id\nendfor", "no structure 'no_struct'"),
        ("drop everything", "line 1, column 1: expected 'erase'"),
    ] {
        let rules = rules(dir.path(), text);
        let run = filter(&["--redact", &rules, "-x", kernel.vmlinux.to_str().unwrap()], &fixture.path, &out);
        assert_eq!(run.code(), Some(2), "{text}: {}", run.stderr);
        assert!(run.stderr.contains(said), "{text}: {}", run.stderr);
        assert_eq!(
            fs::read_dir(dir.path()).unwrap().filter(|entry| entry.as_ref().unwrap().path().starts_with(&out)).count(),
            0
        );
    }
    // Without debug information nobody knows what a variable is.
    let rules = rules(dir.path(), "erase init_uts_ns.name.nodename");
    let run = filter(&["--redact", &rules], &fixture.path, &out);
    assert!(run.code() == Some(2) && run.stderr.contains("the type of 'init_uts_ns' is not known"), "{}", run.stderr);
}

/// Lists that lead in circles or nowhere cost themselves only: the dump says what may still be in it.
#[test]
fn what_could_not_be_followed_is_said() {
    let dir = temp_dir();
    let kernel = Kernel::build(dir.path(), &["-g"]);
    let fixture = kernel.machine().build(dir.path());
    let out = dir.path().join("out");
    let rules = rules(
        dir.path(),
        "erase lost\nfor k in broken within key:link\nerase k.id\nendfor\nfor h in circle via next\nerase h.id\nendfor\n\
         erase opaque size huge\nerase scalar\n",
    );
    let options = ["--redact", &rules, "-x", kernel.vmlinux.to_str().unwrap(), "--json"];
    let strict = filter(&[&options[..], &["--strict"]].concat(), &fixture.path, &out);
    assert_eq!(strict.code(), Some(1));
    assert!(
        strict.stderr.contains("cannot be sure that what the rules name is overwritten") && !out.exists(),
        "{}",
        strict.stderr
    );
    let run = filter(&options, &fixture.path, &out).ok();
    let report: Value = serde_json::from_str(&run.stdout).unwrap();
    let said = &report["redaction"];
    assert_eq!(said["incomplete"], true);
    let lines: Vec<_> =
        said["unfollowed"].as_array().unwrap().iter().map(|line| line["line"].as_u64().unwrap()).collect();
    assert_eq!(lines, [1, 2, 5, 8], "{said:#}");
    for (index, cause) in ["not mapped", "was never made", "comes back to", "is not believed"].into_iter().enumerate() {
        let causes = said["unfollowed"][index]["causes"].to_string();
        assert!(causes.contains(cause), "{causes}");
        assert!(run.stderr.contains(cause), "{}", run.stderr);
    }
    assert_eq!(said["rules"].as_array().unwrap().last().unwrap()["bytes"], 8);
}
