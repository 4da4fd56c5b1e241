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
    foreign, layers,
    open::RAW_MEMORY,
    store::{Sequential, Store},
};
use crate::{
    codec::frame::FrameFormat,
    error::{Error, Result},
};

/// Unpacked at a time; zero blocks of this size become holes.
const BLOCK: usize = 256 << 10;

/// Unpacks `store` into an unnamed temporary file (in `TMPDIR`, else /tmp) that disappears with the process. What is in it
/// must look like a dump unless it is `raw` memory.
pub(super) fn decompress_to_temporary(path: &Path, format: FrameFormat, store: &dyn Store, raw: bool) -> Result<File> {
    let (plain, damage) = unpack_what(path, format, store, raw, || false)?;
    match damage {
        None => Ok(plain),
        Some(error) => {
            let next = if error.to_string().contains("too much memory") {
                "compress it again with 'zstd --long=27' or less"
            } else {
                "the file is damaged or cut short: copy it again"
            };
            Err(Error::io(path, "decompress", &error).next_step(next))
        }
    }
}

/// The same as far as the data goes, with what ended it before its end. `stop` is asked now and then.
///
/// # Errors
/// The temporary file cannot be written, or what was unpacked is no dump.
pub(crate) fn unpack(
    path: &Path,
    format: FrameFormat,
    store: &dyn Store,
    stop: impl Fn() -> bool,
) -> Result<(File, Option<io::Error>)> {
    unpack_what(path, format, store, false, stop)
}

fn unpack_what(
    path: &Path,
    format: FrameFormat,
    store: &dyn Store,
    raw: bool,
    stop: impl Fn() -> bool,
) -> Result<(File, Option<io::Error>)> {
    let room = std::env::temp_dir();
    let full = |error: &io::Error| {
        Error::output(&room, "unpack into", error)
            .because(format!("{} for the decompressed {}", crate::error::plain_io(error), path.display()))
            .next_step("set TMPDIR to a directory with more room")
    };
    let mut plain = tempfile::tempfile_in(&room).map_err(|error| full(&error))?;
    let mut decoder = match decoder(format, store) {
        Ok(decoder) => decoder,
        Err(error) => return Ok((plain, Some(error))),
    };
    let mut block = vec![0u8; BLOCK];
    let mut len = 0u64;
    let mut damage = None;
    while damage.is_none() && !stop() {
        let (got, error) = read_full(&mut decoder, &mut block);
        damage = error;
        if got == 0 {
            break;
        }
        // Unpacking terabytes of something else would only fail later.
        if len == 0 && !raw && !layers::looks_like_a_dump(&block[..got]) {
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

fn decoder<'a>(format: FrameFormat, store: &'a dyn Store) -> io::Result<Box<dyn Read + 'a>> {
    let stored = Sequential::new(store);
    Ok(match format {
        FrameFormat::Zstd => Box::new(zstd::Decoder::new(stored)?),
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
