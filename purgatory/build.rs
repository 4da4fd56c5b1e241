//! Builds the blob before the crate that embeds it: compile, flatten, write it and its offsets to OUT_DIR.
//!
//! Knows what the crate expects of the blob. A blob that could not run at any address fails the build.

#[path = "build/compile.rs"]
mod compile;
#[path = "build/flatten.rs"]
mod flatten;

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

fn main() {
    for path in ["build", "blob", "src/abi.rs"] {
        println!("cargo::rerun-if-changed={path}");
    }
    if let Err(why) = build() {
        println!("cargo::error=the purgatory cannot be built: {}", why.replace('\n', " | "));
        eprintln!("error: the purgatory cannot be built: {why}");
        std::process::exit(1);
    }
}

fn build() -> Result<(), String> {
    let out = PathBuf::from(variable("OUT_DIR")?);
    let target = variable("TARGET")?.into_string().map_err(|_| "TARGET is no text".to_owned())?;
    // For tests, which build code that must fail.
    println!("cargo::rustc-env=PURGATORY_RUSTC={}", variable("RUSTC")?.display());
    println!("cargo::rustc-env=PURGATORY_TARGET={target}");
    // The blob is for x86_64; elsewhere the crate builds without one and says so when it is asked.
    let (bytes, mem_size, entry, main, params) = if target.starts_with("x86_64-") {
        let flat = blob(&out, &target)?;
        let symbol = |name: &str| flat.symbols.get(name).copied().ok_or_else(|| format!("no symbol {name}"));
        let (entry, main, params) =
            (symbol("purgatory_entry")?, symbol("purgatory_main")?, symbol("purgatory_params")?);
        if params + abi_size() != flat.bytes.len() as u64 {
            return Err(format!("the table at {params:#x} is not the end of the {} bytes", flat.bytes.len()));
        }
        (flat.bytes, flat.mem_size, entry, main, params)
    } else {
        (Vec::new(), 0, 0, 0, 0)
    };
    write(&out.join("purgatory.bin"), &bytes)?;
    let layout = format!(
        "/// Bytes of memory that the blob needs.\npub const MEM_SIZE: u64 = {mem_size};\n\
         /// Offset of the first instruction.\npub const ENTRY: u64 = {entry};\n\
         /// Offset of `purgatory_main`, for tests.\npub const MAIN: u64 = {main};\n\
         /// Offset of the table, which ends the file.\npub const PARAMS: u64 = {params};\n"
    );
    write(&out.join("layout.rs"), layout.as_bytes())
}

/// The size of the table, from the one file that says so.
fn abi_size() -> u64 {
    #[path = "src/abi.rs"]
    mod abi;
    size_of::<abi::Params>() as u64
}

fn blob(out: &Path, target: &str) -> Result<flatten::Flat, String> {
    let object = out.join("purgatory.o");
    let (rustc, source) = (variable("RUSTC")?, Path::new("blob/main.rs"));
    if let Err(why) = compile::compile(&rustc, target, source, &object, compile::NO_SSE) {
        // rust-lang/rust#116344: a later compiler may insist on SSE2. The entry allows it, so the blob still works.
        compile::compile(&rustc, target, source, &object, &[]).map_err(|_| why)?;
        println!("cargo::warning=this compiler cannot leave SSE out of the purgatory");
    }
    let data = fs::read(&object).map_err(|error| format!("cannot read {}: {error}", object.display()))?;
    flatten::flatten(&data)
}

fn variable(name: &str) -> Result<OsString, String> {
    std::env::var_os(name).ok_or_else(|| format!("cargo does not say {name}"))
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), String> {
    fs::write(path, bytes).map_err(|error| format!("cannot write {}: {error}", path.display()))
}
