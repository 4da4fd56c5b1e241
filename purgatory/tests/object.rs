//! The blob's instructions, as binutils see them, and what its build refuses.
//!
//! Knows what a freestanding blob must not contain. Must not run it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::compile;
use crate::flatten;
use crate::machine::{build, installed};

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

/// Instructions that use a register the blob must leave alone.
fn forbidden(object: &Path) -> Vec<String> {
    let text = tool("objdump", &["-d", "-M", "intel", "--no-show-raw-insn"], object);
    let instructions: Vec<&str> =
        text.lines().filter_map(|line| line.split_once(":\t")).map(|(_, code)| code).collect();
    assert!(instructions.len() > 500, "objdump shows {} instructions", instructions.len());
    let words =
        |code: &str| -> Vec<String> { code.split(|c: char| !c.is_ascii_alphanumeric()).map(str::to_owned).collect() };
    let bad = |word: &str| {
        ["xmm", "ymm", "zmm", "mm", "st"].iter().any(|register| {
            word.strip_prefix(register).is_some_and(|number| number.chars().all(|c| c.is_ascii_digit()))
        }) || word.starts_with("fx")
            || word.starts_with("xsave")
            || word == "cpuid"
    };
    // Loading the two with the flat segment is what the entry does; nothing may use them.
    let segment = |code: &str| {
        let code = code.split_whitespace().collect::<Vec<_>>().join(" ");
        words(&code).iter().any(|word| word == "fs" || word == "gs") && code != "mov fs,eax" && code != "mov gs,eax"
    };
    instructions
        .into_iter()
        .filter(|code| segment(code) || words(code).iter().any(|word| bad(word)))
        .map(str::to_owned)
        .collect()
}

#[test]
fn no_instruction_needs_more_than_general_registers() {
    if !installed("objdump") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(forbidden(&object(dir.path(), compile::NO_SSE)), [""; 0]);
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
