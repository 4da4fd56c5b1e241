//! The blob's instructions, as binutils see them, and what its build refuses.
//!
//! Knows what a freestanding blob must not contain. Must not run it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::compile;
use crate::flatten;
use crate::judges::installed;
use crate::machine::build;

fn blob_source() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("blob/main.rs")
}

fn tool(program: &str, options: &[&str], file: &Path) -> String {
    let output = Command::new(program).args(options).arg(file).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// The object as build.rs makes it, with extra flags.
fn object(dir: &Path, extra: &[&str]) -> PathBuf {
    let object = dir.join("purgatory.o");
    let (rustc, target) = (env!("PURGATORY_RUSTC").as_ref(), env!("PURGATORY_TARGET"));
    compile::compile(rustc, target, &blob_source(), &object, extra).unwrap();
    object
}

/// The one section that may use SSE registers: it runs only where the loader saw the SHA extensions.
const EXTENSIONS: &str = ".text.sha_extensions";

/// Section and text of every instruction.
fn instructions(object: &Path) -> Vec<(String, String)> {
    let text = tool("objdump", &["-d", "-M", "intel", "--no-show-raw-insn"], object);
    let (mut section, mut found) = (String::new(), Vec::new());
    for line in text.lines() {
        if let Some(name) = line.strip_prefix("Disassembly of section ") {
            section = name.trim_end_matches(':').to_owned();
        } else if let Some((_, code)) = line.split_once(":\t") {
            found.push((section.clone(), code.split_whitespace().collect::<Vec<_>>().join(" ")));
        }
    }
    assert!(found.len() > 500, "objdump shows {} instructions", found.len());
    found
}

/// Whether a word is `register` with a number, or without.
fn is_one_of(word: &str, register: &str) -> bool {
    word.strip_prefix(register).is_some_and(|number| number.chars().all(|c| c.is_ascii_digit()))
}

/// Instructions that the blob must not contain.
fn forbidden(object: &Path) -> Vec<(String, String)> {
    let bad = |section: &str, code: &str| {
        // Loading the two with the flat segment is what the entry does; nothing may use them.
        let flat = section == ".head" && (code == "mov fs,eax" || code == "mov gs,eax");
        code.split(|c: char| !c.is_ascii_alphanumeric()).any(|word| {
            let vector = ["ymm", "zmm", "mm", "st"].iter().any(|register| is_one_of(word, register));
            let sse = is_one_of(word, "xmm") && section != EXTENSIONS;
            let segment = (word == "fs" || word == "gs") && !flat;
            vector || sse || segment || word == "cpuid" || word.starts_with("xsave") || word.starts_with("fx")
        })
    };
    instructions(object).into_iter().filter(|(section, code)| bad(section, code)).collect()
}

#[test]
fn no_instruction_needs_more_than_general_registers() {
    if !installed("objdump") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let object_without = object(dir.path(), compile::NO_SSE);
    assert_eq!(forbidden(&object_without), []);
    assert!(instructions(&object_without).iter().any(|(section, code)| section == EXTENSIONS && code.contains("xmm")));
    // With SSE the compiler uses it at once: the test can fail.
    assert!(!forbidden(&object(dir.path(), &[])).is_empty());
}

#[test]
fn every_relocation_is_a_distance_and_every_symbol_is_there() {
    if !installed("readelf") || !installed("nm") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let object = object(dir.path(), compile::NO_SSE);
    assert_eq!(tool("nm", &["-u"], &object), "");
    let relocations = tool("readelf", &["-rW"], &object);
    let kinds: Vec<&str> = relocations.split_whitespace().filter(|word| word.starts_with("R_X86_64_")).collect();
    assert!(kinds.len() > 20);
    assert!(kinds.iter().all(|kind| ["R_X86_64_PC32", "R_X86_64_PLT32"].contains(kind)), "{kinds:?}");
}

/// Why the build refuses a source.
fn refusal(code: &str) -> String {
    let dir = tempfile::tempdir().unwrap();
    let source = dir.path().join("wrong.rs");
    fs::write(&source, format!("#![no_std]\n{code}")).unwrap();
    build(&source, compile::NO_SSE).err().unwrap()
}

#[test]
fn the_build_refuses_what_would_need_a_linker() {
    let head = "#[unsafe(no_mangle)] pub extern \"C\" fn purgatory_main";
    let undefined = refusal(&format!("{head}(a: &[u32], at: usize) -> u32 {{ a[at] }}"));
    assert!(undefined.contains("undefined symbol") && undefined.contains("panic_bounds_check"), "{undefined}");
    let library = refusal(&format!("{head}(a: &mut [u8; 4096]) {{ *a = [1; 4096]; }}"));
    assert!(library.contains("undefined symbol memset"), "{library}");
    let variable = refusal(&format!(
        "use core::sync::atomic::*; static A: AtomicU32 = AtomicU32::new(3);\n{head}() {{ A.fetch_add(1, Ordering::Relaxed); }}"
    ));
    assert!(variable.contains("writable data"), "{variable}");
    let zeros = refusal(&format!(
        "use core::sync::atomic::*; static A: AtomicU32 = AtomicU32::new(0);\n{head}() {{ A.fetch_add(1, Ordering::Relaxed); }}"
    ));
    assert!(zeros.contains("writable data"), "{zeros}");
    let pointers = refusal(&format!(
        "static A: [&[u8]; 3] = [b\"a\", b\"bc\", b\"def\"];\n{head}() -> *const [&'static [u8]; 3] {{ &A }}"
    ));
    assert!(pointers.contains("writable data") || pointers.contains("not a plain distance"), "{pointers}");
    let absolute = refusal("core::arch::global_asm!(\".text\", \"1: .quad 1b\");");
    assert!(absolute.contains("not a plain distance"), "{absolute}");
    let large = refusal(&format!("core::arch::global_asm!(\".text\", \".zero {}\");", flatten::LARGEST + 1));
    assert!(large.contains("16385 bytes, more than 16384"), "{large}");
    let syntax = refusal("fn main( {");
    assert!(syntax.contains("cannot compile") && syntax.contains("error"), "{syntax}");
}
