//! Command lines: vdump's, makedumpfile's and kexec's. Words are apart by zero bytes.
#![no_main]

use std::{ffi::OsString, os::unix::ffi::OsStringExt as _};

use clap::Parser as _;
use libfuzzer_sys::fuzz_target;
use vdump::internals::{Cli, compat, kexec};

fuzz_target!(|data: &[u8]| {
    let words: Vec<OsString> = data.split(|byte| *byte == 0).map(|word| OsString::from_vec(word.to_vec())).collect();
    let _ = Cli::try_parse_from([OsString::from("vdump")].iter().chain(&words));
    let _ = compat::parse(words.clone());
    let _ = kexec::parse(words);
});
