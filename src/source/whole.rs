//! A dump inside a zstd or lz4 file without a seek table: it is decompressed as a whole.
//!
//! Knows how to unpack it beside the system's other temporary files. Must not know what is in it. The unpacked file is a
//! store again.

use std::{
    fs::File,
    io::{self, Read, Seek as _, SeekFrom, Write as _},
    path::Path,
};

use lz4_flex::frame::{Error as Lz4Error, FrameDecoder};

use super::{
    foreign::{self, RAW_MEMORY},
    store::{Sequential, Store, read_start},
};
use crate::{
    codec::frame::{FrameFormat, WINDOW_HEADER, window},
    error::{Error, Kind, Result},
    report::human_bytes,
};

/// Unpacked at a time; zero blocks of this size become holes.
const BLOCK: usize = 256 << 10;

/// Unpacks `store` into an unnamed temporary file (in `TMPDIR`, else /tmp) that disappears with the process. What is in it
/// must look like a dump unless it is `raw` memory. Decompression may take `limit` bytes of memory.
pub(super) fn decompress_to_temporary(
    path: &Path,
    format: FrameFormat,
    store: &dyn Store,
    (raw, limit): (bool, u64),
) -> Result<File> {
    let (plain, damage) = unpack_what(path, format, store, (raw, limit), || false)?;
    match damage {
        None => Ok(plain),
        Some(error) => {
            let next = if error.to_string().contains(TOO_LARGE_WINDOW) {
                "compress it again with 'zstd --long=27' or less"
            } else {
                "the file is damaged or truncated: copy it again"
            };
            Err(Error::io(path, "decompress", &error).next_step(next))
        }
    }
}

/// What zstd says of a frame whose window is larger than it may be, and where the system gives it no memory.
const TOO_LARGE_WINDOW: &str = "too much memory";
const OUT_OF_MEMORY: &str = "not enough memory";

/// The largest window that is borne whatever the memory, as `zstd -d` does without options: log2 of bytes.
const MOST_WINDOW_LOG: u32 = 27;
/// The smallest window that can be asked for (`ZSTD_WINDOWLOG_MIN`).
const LEAST_WINDOW_LOG: u32 = 10;
/// What decompression takes beside the window: blocks on their way in and out, ours of [`BLOCK`], and the program itself.
const BESIDE_WINDOW: u64 = 5 << 20;

/// The largest window that decompression may have, log2 of bytes, after making sure that `limit` bytes of memory do for the first
/// frame. A window is memory that the frame's maker chose: 128 MiB with `zstd --long`.
fn window_log(path: &Path, format: FrameFormat, store: &dyn Store, limit: u64) -> Result<u32> {
    let window = read_start(store, WINDOW_HEADER).ok().and_then(|start| window(&start)).unwrap_or(0);
    if format == FrameFormat::Lz4 || window > 1 << MOST_WINDOW_LOG {
        // lz4 has no more than its blocks of 4 MiB; a window that is larger is refused by zstd itself.
        return Ok(MOST_WINDOW_LOG);
    }
    let needed = window + BESIDE_WINDOW;
    if needed > limit {
        return Err(too_little(path, needed, limit, &format!("its zstd window has {}", human_bytes(window))));
    }
    let first = window.next_power_of_two().ilog2();
    Ok((limit - BESIDE_WINDOW).max(1).ilog2().max(first).clamp(LEAST_WINDOW_LOG, MOST_WINDOW_LOG))
}

fn too_little(path: &Path, needed: u64, limit: u64, cause: &str) -> Error {
    let what = format!("not enough memory to decompress {}: {} are needed", path.display(), human_bytes(needed));
    Error::new(Kind::Memory, what).because(format!("{cause}, and the limit is {}", human_bytes(limit))).next_step(format!(
        "give --memory-limit {}M or more; or decompress it elsewhere (zstd -d --long=27), or compress it with a smaller window \
         (zstd -19, without --long)",
        needed.div_ceil(1 << 20)
    ))
}

/// The same as far as the data goes, with what ended it before its end. `stop` is asked now and then.
///
/// # Errors
/// The temporary file cannot be written, or what was unpacked is no dump.
pub(crate) fn unpack(
    path: &Path,
    format: FrameFormat,
    store: &dyn Store,
    limit: u64,
    stop: impl Fn() -> bool,
) -> Result<(File, Option<io::Error>)> {
    unpack_what(path, format, store, (false, limit), stop)
}

fn unpack_what(
    path: &Path,
    format: FrameFormat,
    store: &dyn Store,
    (raw, limit): (bool, u64),
    stop: impl Fn() -> bool,
) -> Result<(File, Option<io::Error>)> {
    let window_log = window_log(path, format, store, limit)?;
    let room = std::env::temp_dir();
    let full = |error: &io::Error| {
        Error::output(&room, "unpack into", error)
            .because(format!("{} for the decompressed {}", crate::error::plain_io(error), path.display()))
            .next_step("set TMPDIR to a directory with more room")
    };
    let mut plain = tempfile::tempfile_in(&room).map_err(|error| full(&error))?;
    let mut decoder = match decoder(format, store, window_log) {
        Ok(decoder) => decoder,
        Err(error) => return Ok((plain, Some(error))),
    };
    let mut block = vec![0u8; BLOCK];
    let mut len = 0u64;
    let mut damage = None;
    while damage.is_none() && !stop() {
        let (got, error) = read_full(&mut decoder, &mut block);
        if let Some(error) = &error {
            check_memory(path, error, window_log, limit)?;
        }
        damage = error;
        if got == 0 {
            break;
        }
        // Unpacking terabytes of something else would only fail later.
        if len == 0 && !raw && !foreign::looks_like_a_dump(&block[..got]) {
            let cannot = Error::input(format!("cannot use {}", path.display()));
            if let Some(foreign) = foreign::known(&block[..got]) {
                let cause = format!("inside the compressed file is no dump: it is {}", foreign.name);
                return Err(cannot.because(cause).next_step(foreign.way_out));
            }
            return Err(cannot
                .because("there is no dump inside the compressed file")
                .next_step(format!("give /proc/vmcore, or a file copied from it; {RAW_MEMORY}")));
        }
        if block[..got].iter().all(|byte| *byte == 0) {
            plain.seek(SeekFrom::Current(got as i64)).map_err(|error| full(&error))?;
        } else {
            plain.write_all(&block[..got]).map_err(|error| full(&error))?;
        }
        len += got as u64;
    }
    plain.set_len(len).map_err(|error| full(&error))?;
    Ok((plain, damage))
}

/// Tells want of memory from damage.
fn check_memory(path: &Path, error: &io::Error, window_log: u32, limit: u64) -> Result<()> {
    let said = error.to_string();
    if said.contains(OUT_OF_MEMORY) || error.kind() == io::ErrorKind::OutOfMemory {
        let what = format!("not enough memory to decompress {}", path.display());
        return Err(Error::new(Kind::Memory, what)
            .because("the system gives no more")
            .next_step("raise the limit of this process (ulimit -v), or decompress it elsewhere and give that"));
    }
    if said.contains(TOO_LARGE_WINDOW) && window_log < MOST_WINDOW_LOG {
        // A later frame's.
        let needed = (2 << window_log) + BESIDE_WINDOW;
        return Err(too_little(path, needed, limit, "the zstd window of one of its frames is larger than that"));
    }
    Ok(())
}

/// Reads until `buf` is full, or the data ends, or cannot be read any further.
fn read_full(from: &mut impl io::Read, buf: &mut [u8]) -> (usize, Option<io::Error>) {
    let mut got = 0;
    while got < buf.len() {
        match from.read(&mut buf[got..]) {
            Ok(0) => break,
            Ok(more) => got += more,
            Err(error) => return (got, Some(error)),
        }
    }
    (got, None)
}

fn decoder<'a>(format: FrameFormat, store: &'a dyn Store, window_log: u32) -> io::Result<Box<dyn Read + 'a>> {
    let stored = Sequential::new(store);
    Ok(match format {
        FrameFormat::Zstd => {
            let mut decoder = zstd::Decoder::new(stored)?;
            decoder.window_log_max(window_log)?;
            Box::new(decoder)
        }
        FrameFormat::Lz4 => Box::new(Lz4Frames { decoder: FrameDecoder::new(stored) }),
    })
}

/// LZ4 frames one after the other, with skippable frames between them, which the decoder itself only reports.
struct Lz4Frames<'a> {
    decoder: FrameDecoder<Sequential<'a>>,
}

impl Read for Lz4Frames<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        loop {
            let before = self.decoder.get_ref().at();
            match self.decoder.read(buf) {
                // The end of a frame; with nothing read on the way it is the end of the file.
                Ok(0) if self.decoder.get_ref().at() > before => {}
                Err(error) => match skippable(&error) {
                    Some(len) => self.decoder.get_mut().skip(len),
                    None => return Err(error),
                },
                done => return done,
            }
        }
    }
}

fn skippable(error: &io::Error) -> Option<u64> {
    match error.get_ref()?.downcast_ref::<Lz4Error>()? {
        Lz4Error::SkippableFrame(len) => Some(u64::from(*len)),
        _ => None,
    }
}
