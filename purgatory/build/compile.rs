//! Compiles freestanding Rust into one object file.
//!
//! Knows the compiler's options. Must not use cargo, whose flags (`RUSTFLAGS`, profiles) are meant for programs. The
//! object goes to `flatten`.

use std::ffi::OsStr;
use std::path::Path;
use std::process::Command;

/// No unwinding, one object, nothing that asks for a library; position-independent; only what every x86_64 can do.
const FLAGS: [&str; 20] = [
    "--edition=2024",
    "--crate-type=lib",
    "--emit=obj",
    "-Awarnings",
    "-Cpanic=abort",
    "-Cforce-unwind-tables=no",
    "-Copt-level=2",
    "-Ccodegen-units=1",
    "-Crelocation-model=pic",
    "-Ccode-model=small",
    "-Ctarget-cpu=x86-64",
    "-Cdebuginfo=0",
    "-Cdebug-assertions=off",
    "-Coverflow-checks=off",
    "-Cembed-bitcode=no",
    "-Clinker-plugin-lto=no",
    "-Clto=off",
    "-Cinstrument-coverage=no",
    "-Cforce-frame-pointers=no",
    "-Cmetadata=vdump",
];

/// CR4.OSFXSR is off after a crash, so an SSE instruction is an invalid opcode.
pub const NO_SSE: &[&str] = &["-Ctarget-feature=-sse,-sse2,-avx"];

/// Compiles `source` for `target` into `object`. The error is the compiler's own text.
pub fn compile(rustc: &OsStr, target: &str, source: &Path, object: &Path, extra: &[&str]) -> Result<(), String> {
    let mut run = Command::new(rustc);
    run.args(FLAGS).args(extra).arg("--target").arg(target).arg("-o").arg(object).arg(source);
    let output = run.output().map_err(|error| format!("cannot run {}: {error}", rustc.display()))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("cannot compile {}:\n{}", source.display(), String::from_utf8_lossy(&output.stderr)))
}
