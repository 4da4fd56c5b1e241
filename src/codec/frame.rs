//! Compression of large stretches, each a standard Zstandard or LZ4 frame of its own, and the way back.
//!
//! Knows frames of about a mebibyte, with their sizes and checksums in them. Must not know files. Used by the pipeline's
//! frame packer and by the stores that read compressed dumps.

use std::io::{self, Read as _, Write as _};

use lz4_flex::frame::{BlockMode, BlockSize, FrameDecoder, FrameEncoder, FrameInfo};
use zstd::{
    bulk::{Compressor, Decompressor},
    zstd_safe::{CParameter, compress_bound},
};

use super::Compression;

/// The kinds of frames that are read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FrameFormat {
    /// Zstandard (RFC 8878).
    Zstd,
    /// LZ4.
    Lz4,
}

impl FrameFormat {
    /// By a file's first bytes.
    #[must_use]
    pub fn of(start: &[u8]) -> Option<Self> {
        match start {
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Some(Self::Zstd),
            [0x04, 0x22, 0x4d, 0x18, ..] => Some(Self::Lz4),
            _ => None,
        }
    }

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Zstd => "zstd",
            Self::Lz4 => "lz4",
        }
    }
}

/// As many first bytes of a Zstandard frame as tell its window.
pub const WINDOW_HEADER: usize = 18;

/// The memory of earlier output that decompressing a Zstandard frame takes, bytes (RFC 8878, 3.1.1.1): its window, or all that it
/// makes where it says that it is one segment. `None`: these are not the first bytes of one.
#[must_use]
pub fn window(frame: &[u8]) -> Option<u64> {
    let (header, rest) = frame.strip_prefix(&[0x28, 0xb5, 0x2f, 0xfd])?.split_first()?;
    if header & 0x20 == 0 {
        let (exponent, mantissa) = (rest.first()? >> 3, u64::from(rest.first()? & 7));
        let base = 1u64 << (10 + exponent);
        return Some(base + base / 8 * mantissa);
    }
    let dictionary = [0, 1, 2, 4][usize::from(header & 3)];
    let (len, more) = [(1, 0), (2, 256), (4, 0), (8, 0)][usize::from(header >> 6)];
    let size = rest.get(dictionary..dictionary + len)?;
    let size = size.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte));
    Some(size.saturating_add(more))
}

/// One thread's way to make frames.
pub enum FrameCoder {
    /// The bytes as they are.
    None,
    /// Zstandard.
    Zstd(Box<Compressor<'static>>),
    /// LZ4.
    Lz4(Lz4Frames),
}

/// An LZ4 encoder that goes on from frame to frame: its buffers are three times as large as a frame, and to have them from the
/// system anew for each took longer than to compress it.
#[derive(Default)]
pub struct Lz4Frames {
    /// The plain bytes of its frames, and the encoder.
    encoder: Option<(usize, Box<FrameEncoder<Vec<u8>>>)>,
}

impl Lz4Frames {
    fn compress(&mut self, plain: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
        // An encoder writes the same length into the header of each of its frames. One that failed is not used again.
        let kept = self.encoder.take().filter(|(len, _)| *len == plain.len());
        let (_, mut encoder) = kept.unwrap_or_else(|| {
            let info = FrameInfo::new()
                .block_mode(BlockMode::Independent)
                .block_size(BlockSize::Max1MB)
                .content_size(Some(plain.len() as u64))
                .content_checksum(true);
            (plain.len(), Box::new(FrameEncoder::with_frame_info(info, Vec::new())))
        });
        std::mem::swap(encoder.get_mut(), out);
        let done = encoder.write_all(plain).and_then(|()| encoder.try_finish().map_err(io::Error::other));
        std::mem::swap(encoder.get_mut(), out);
        done?;
        self.encoder = Some((plain.len(), encoder));
        Ok(())
    }
}

impl FrameCoder {
    /// A coder for `compression`; codecs that know no frames leave the bytes as they are.
    ///
    /// # Errors
    /// The library could not give a context.
    pub fn new(compression: Compression) -> io::Result<Self> {
        Ok(match compression {
            Compression::Zstd(level) => {
                let mut context = Compressor::new(level)?;
                context.include_checksum(true)?;
                if let Some(bits) = hash_bits(level) {
                    context.set_parameter(CParameter::HashLog(bits))?;
                }
                Self::Zstd(Box::new(context))
            }
            Compression::Lz4 => Self::Lz4(Lz4Frames::default()),
            _ => Self::None,
        })
    }

    /// Makes one frame of `plain`; what `out` held is forgotten. The result depends on `plain` alone.
    ///
    /// # Errors
    /// The library fails, for example for want of memory.
    pub fn compress(&mut self, plain: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
        out.clear();
        match self {
            Self::None => out.extend_from_slice(plain),
            Self::Zstd(context) => {
                out.reserve(compress_bound(plain.len()));
                context.compress_to_buffer(plain, out)?;
            }
            Self::Lz4(frames) => frames.compress(plain, out)?,
        }
        Ok(())
    }
}

/// Log2 of the hash table's entries, where zstd's own for a mebibyte is larger than it has any use for. From level 13 on trees
/// find the matches, and 2^19 entries instead of 2^21 make frames of the same size to the byte (levels 16 to 20 on a real dump)
/// with 6 MB less for each thread. At the levels before, 2^20 cost 2 bytes in 10 000, and save as much.
fn hash_bits(level: i32) -> Option<u32> {
    match level {
        ..=8 => None,
        9..=12 => Some(20),
        13.. => Some(19),
    }
}

/// Decompresses the frames in `stored` to exactly `len` bytes; their checksums, where they have any, are verified.
///
/// # Errors
/// The data is damaged or has another length; says which.
pub fn decompress(format: FrameFormat, stored: &[u8], len: usize) -> Result<Vec<u8>, String> {
    let mut plain = Vec::with_capacity(len);
    match format {
        FrameFormat::Zstd => {
            let mut context = Decompressor::new().map_err(|error| error.to_string())?;
            context.decompress_to_buffer(stored, &mut plain).map_err(|error| error.to_string())?;
        }
        FrameFormat::Lz4 => {
            // One more than wanted, so that a longer frame is seen to be longer.
            let mut limited = FrameDecoder::new(stored).take(len as u64 + 1);
            limited.read_to_end(&mut plain).map_err(|error| error.to_string())?;
        }
    }
    if plain.len() == len {
        Ok(plain)
    } else {
        Err(format!("it has {} bytes decompressed, not the {len} that were announced", plain.len()))
    }
}

/// Why bytes are not the one frame that they should be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum FrameFault {
    /// They are no frame, not one, or one of another size.
    Other(String),
    /// The frame needs this dictionary.
    Dictionary(u32),
    /// The frame's data or its checksum is wrong.
    Damaged(String),
}

/// Decompresses `stored`, which must be exactly one frame that makes exactly `len` bytes.
///
/// # Errors
/// [`FrameFault`]
pub fn decompress_one(format: FrameFormat, stored: &[u8], len: usize) -> Result<Vec<u8>, FrameFault> {
    use zstd::zstd_safe;
    if FrameFormat::of(stored) != Some(format) {
        return Err(FrameFault::Other(format!("no {} frame starts here", format.name())));
    }
    let other_size = |made: u64| Err(FrameFault::Other(format!("it makes {made} bytes, not {len}")));
    match format {
        FrameFormat::Zstd => {
            if let Some(id) = zstd_safe::get_dict_id_from_frame(stored) {
                return Err(FrameFault::Dictionary(id.get()));
            }
            match zstd_safe::find_frame_compressed_size(stored) {
                Ok(size) if size == stored.len() => {}
                Ok(size) => return Err(FrameFault::Other(format!("it has {size} of {} bytes", stored.len()))),
                Err(code) => return Err(FrameFault::Damaged(zstd_safe::get_error_name(code).to_owned())),
            }
            if let Ok(Some(made)) = zstd_safe::get_frame_content_size(stored)
                && made != len as u64
            {
                return other_size(made);
            }
        }
        FrameFormat::Lz4 => {
            let mut decoder = FrameDecoder::new(stored);
            let mut plain = Vec::new();
            (&mut decoder)
                .take(len as u64 + 1)
                .read_to_end(&mut plain)
                .map_err(|error| FrameFault::Damaged(error.to_string()))?;
            if plain.len() != len {
                return other_size(plain.len() as u64);
            }
            let left = decoder.get_ref().len();
            return if left == 0 { Ok(plain) } else { Err(FrameFault::Other(format!("{left} bytes follow it"))) };
        }
    }
    decompress(format, stored, len).map_err(FrameFault::Damaged)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(compression: Compression, plain: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        FrameCoder::new(compression).unwrap().compress(plain, &mut out).unwrap();
        out
    }

    #[test]
    fn frames_come_back_and_damage_is_seen() {
        let plain: Vec<u8> = (0..1u32 << 18).flat_map(|word| (word / 7).to_le_bytes()).collect();
        for (compression, format) in [(Compression::Zstd(1), FrameFormat::Zstd), (Compression::Lz4, FrameFormat::Lz4)] {
            let frame = made(compression, &plain);
            assert_eq!(FrameFormat::of(&frame), Some(format));
            assert!(decompress(format, &frame, plain.len()).unwrap() == plain);
            assert!(decompress(format, &frame, plain.len() - 1).is_err());
            assert!(decompress(format, &frame, plain.len() + 1).is_err());
            assert!(decompress(format, &frame[..frame.len() - 1], plain.len()).is_err());
            let mut bad = frame.clone();
            let last = bad.len() - 1;
            bad[last] ^= 1;
            assert!(decompress(format, &bad, plain.len()).is_err(), "{format:?}: a wrong checksum");
        }
    }

    /// What an encoder has seen before must not show: frames are read one by one, and made on any thread.
    #[test]
    fn frames_depend_on_their_own_bytes_alone() {
        let words =
            |salt: u32, len: u32| (0..len).flat_map(move |word| (word / 7 * salt).to_le_bytes()).collect::<Vec<u8>>();
        let plains = [words(1, 1 << 18), words(3, 1 << 18), words(1, 1 << 18), words(5, 1000), words(3, 1 << 18)];
        for compression in [Compression::Zstd(3), Compression::Lz4] {
            let mut coder = FrameCoder::new(compression).unwrap();
            let mut out = vec![1, 2, 3];
            for plain in &plains {
                coder.compress(plain, &mut out).unwrap();
                assert!(out == made(compression, plain), "{compression:?}");
            }
        }
    }

    #[test]
    fn a_frame_tells_its_window() {
        let plain: Vec<u8> = (0..300_000u32).flat_map(u32::to_le_bytes).collect();
        for (len, log, window_of) in
            [(200, 10, 200), (70_000, 17, 70_000), (1_200_000, 20, 1 << 20), (1_200_000, 22, 1_200_000), (256, 10, 256)]
        {
            let mut context = Compressor::new(1).unwrap();
            context.set_parameter(CParameter::WindowLog(log)).unwrap();
            let frame = context.compress(&plain[..len]).unwrap();
            assert_eq!(window(&frame), Some(window_of), "{len} {log}");
        }
        assert_eq!(window(&[0x28, 0xb5, 0x2f, 0xfd, 0, 0x88]), Some(128 << 20));
        assert_eq!(window(&[0x28, 0xb5, 0x2f, 0xfd, 0, 0x8b]), Some(176 << 20));
        assert_eq!((window(&[0x28, 0xb5, 0x2f, 0xfd]), window(b"\x04\x22\x4d\x18\x60\x40")), (None, None));
    }

    #[test]
    fn contexts_take_no_more_than_the_budget_thinks() {
        let plain = vec![7u8; 1 << 20];
        for level in (-7..=22).filter(|level| *level != 0) {
            let compression = Compression::Zstd(level);
            let mut coder = FrameCoder::new(compression).unwrap();
            coder.compress(&plain, &mut Vec::new()).unwrap();
            let FrameCoder::Zstd(mut context) = coder else { panic!() };
            let size = context.context_mut().sizeof() as u64;
            assert!(size <= compression.frame_context_bytes(), "level {level}: {size} bytes");
        }
    }
}
