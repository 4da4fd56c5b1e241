//! An ELF core inside a zstd stream, as one whole file.
//!
//! Knows how to unpack it beside the system's other temporary files. Must not know what is in it. The unpacked file goes
//! to the ELF source.

use std::{
    fs::File,
    io::{self, Seek as _, SeekFrom, Write as _},
    path::Path,
};

use crate::error::{Error, Result};

/// Unpacked at a time; zero blocks of this size become holes.
const BLOCK: usize = 256 << 10;

/// Unpacks `file` into an unnamed temporary file (in `TMPDIR`, else /tmp) that disappears with the process.
pub(super) fn decompress_to_temporary(path: &Path, file: &File) -> Result<File> {
    let room = std::env::temp_dir();
    let broken = |error: &io::Error| {
        let next = if error.to_string().contains("too much memory") {
            "compress it again with 'zstd --long=27' or less"
        } else {
            "the file is damaged or cut short: copy it again"
        };
        Error::io(path, "decompress", error).next_step(next)
    };
    let full = |error: &io::Error| {
        Error::output(&room, "unpack into", error)
            .because(format!("{} for the decompressed {}", crate::error::plain_io(error), path.display()))
            .next_step("set TMPDIR to a directory with more room")
    };
    let mut plain = tempfile::tempfile_in(&room).map_err(|error| full(&error))?;
    let mut decoder = zstd::Decoder::new(file).map_err(|error| broken(&error))?;
    let mut block = vec![0u8; BLOCK];
    let mut len = 0u64;
    loop {
        let got = read_full(&mut decoder, &mut block).map_err(|error| broken(&error))?;
        if got == 0 {
            break;
        }
        // Unpacking terabytes of something else would only fail later.
        if len == 0 && !block.starts_with(b"\x7fELF") {
            return Err(Error::input(format!("cannot use {}", path.display()))
                .because("there is no ELF core inside the zstd stream")
                .next_step("give /proc/vmcore, or a file copied from it"));
        }
        if block[..got].iter().all(|byte| *byte == 0) {
            plain.seek(SeekFrom::Current(got as i64)).map_err(|error| full(&error))?;
        } else {
            plain.write_all(&block[..got]).map_err(|error| full(&error))?;
        }
        len += got as u64;
    }
    plain.set_len(len).map_err(|error| full(&error))?;
    Ok(plain)
}

fn read_full(from: &mut impl io::Read, buf: &mut [u8]) -> io::Result<usize> {
    let mut got = 0;
    while got < buf.len() {
        match from.read(&mut buf[got..])? {
            0 => break,
            more => got += more,
        }
    }
    Ok(got)
}
