//! Compression: of pages, one file for each codec, all behind one trait; of whole frames (`frame`); and the way back.
//!
//! Knows how bytes shrink and grow again. Must not know pages' numbers or files. Used by the packer and by sources.

mod decode;
pub mod frame;
pub mod lzo;
mod none;
#[cfg(test)]
mod pages;
mod sample;
mod snappy;
mod zlib;
mod zstd;

use std::{fmt, str::FromStr};

pub use decode::Decoder;

/// A compression context, reused from page to page.
pub trait Codec: Send {
    /// `page_desc.flags` of what [`Codec::compress`] makes.
    fn flags(&self) -> u32;

    /// Compresses `page` into `out` and returns the length; `None` where it does not fit. The result depends on `page` alone.
    fn compress(&mut self, page: &[u8], out: &mut [u8]) -> Option<usize>;
}

/// A codec and its level.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Compression {
    /// Pages as they are.
    None,
    /// zlib streams made by libdeflate, level 1 to 12.
    Zlib(i32),
    /// zlib streams, the level chosen for each page, by nothing but its bytes.
    ZlibByPage,
    /// LZO1X-1.
    Lzo,
    /// Snappy.
    Snappy,
    /// Zstandard, level -7 to 22; 0 until it is known what is compressed.
    Zstd(i32),
    /// Zstandard, for pages only: the level is chosen for each page, by nothing but its bytes.
    ZstdByPage,
    /// LZ4, for frames only: no reader knows it in a kdump file.
    Lz4,
}

impl Compression {
    /// On 4 KiB kernel pages level -1 is almost twice as fast as level 1. Level 1 codes literals too, which is all the
    /// difference, and pays only where there are many: on these pages it is used.
    pub const DEFAULT_ZSTD: Self = Self::ZstdByPage;
    /// On frames of a mebibyte level 3 makes output 8 percent smaller than level 1 in a third more time, and as small as zstd
    /// makes of the whole file.
    pub const DEFAULT_FRAME_ZSTD: Self = Self::Zstd(3);
    /// libdeflate's level 1 throughout makes output larger than that of zlib's own level 1, which other tools write (by 1 to 3
    /// percent), its level 2 smaller (by 2 to 3 percent). By page it is no larger, in 10 to 20 percent less time than level 2.
    pub const DEFAULT_ZLIB: Self = Self::ZlibByPage;

    /// A context for one thread.
    #[must_use]
    pub fn codec(self) -> Box<dyn Codec> {
        match self {
            Self::None | Self::Lz4 => Box::new(none::None),
            Self::Zlib(level) => Box::new(zlib::Zlib::new(level)),
            Self::ZlibByPage => Box::new(zlib::Adaptive::new()),
            Self::Lzo => Box::new(lzo::Lzo::new()),
            Self::Snappy => Box::new(snappy::Snappy::new()),
            Self::Zstd(level) => Box::new(zstd::Zstd::new(level)),
            Self::ZstdByPage => Box::new(zstd::Adaptive::new()),
        }
    }

    /// Bytes that a context takes, for the memory budget; measured on pages of 4 KiB and rounded up.
    #[must_use]
    pub fn context_bytes(self) -> u64 {
        match self {
            Self::None | Self::Lzo | Self::Snappy | Self::Lz4 => 64 << 10,
            Self::Zlib(level) if level < 10 => 1 << 20,
            Self::Zlib(_) => 10 << 20,
            Self::ZlibByPage => 3 << 20,
            Self::Zstd(_) | Self::ZstdByPage => 2 << 20,
        }
    }

    /// The same for frames of a mebibyte.
    #[must_use]
    pub fn frame_context_bytes(self) -> u64 {
        match self {
            Self::Zstd(level) if level <= 4 => 4 << 20,
            Self::Zstd(level) if level <= 12 => 7 << 20,
            Self::Zstd(_) => 12 << 20,
            // The encoder's copy of the frame and its hash table.
            Self::Lz4 => 3 << 20,
            _ => 0,
        }
    }

    /// Whether it makes frames, for seekable files.
    #[must_use]
    pub fn makes_frames(self) -> bool {
        matches!(self, Self::Zstd(_) | Self::Lz4)
    }

    /// Gives a codec without a level the level of `default`, if that is the same codec.
    #[must_use]
    pub fn or_level_of(self, default: Self) -> Self {
        if self == Self::Zstd(0) { default } else { self }
    }
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("none"),
            Self::Zlib(level) => write!(f, "zlib:{level}"),
            Self::ZlibByPage => f.write_str("zlib"),
            Self::Lzo => f.write_str("lzo"),
            Self::Snappy => f.write_str("snappy"),
            Self::Zstd(level) => write!(f, "zstd:{level}"),
            Self::ZstdByPage => f.write_str("zstd"),
            Self::Lz4 => f.write_str("lz4"),
        }
    }
}

impl FromStr for Compression {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, level) = match text.split_once(':') {
            Some((name, level)) => (name, Some(level)),
            None => (text, None),
        };
        let within = |range: std::ops::RangeInclusive<i32>, default: i32| match level {
            None => Ok(default),
            Some(level) => Some(level)
                .filter(|level| !level.starts_with('+'))
                .and_then(|level| level.parse().ok())
                .filter(|level| range.contains(level))
                .ok_or_else(|| {
                    format!("'{level}' is not a level of {name}: give {} to {}", range.start(), range.end())
                }),
        };
        match (name, level) {
            ("zlib", None) => Ok(Self::DEFAULT_ZLIB),
            ("zlib", _) => within(1..=12, 0).map(Self::Zlib),
            ("zstd", None) => Ok(Self::Zstd(0)),
            ("zstd", _) => match within(-7..=22, 0)? {
                0 => Err("zstd has no level 0: give -7 to -1 or 1 to 22".to_owned()),
                level => Ok(Self::Zstd(level)),
            },
            ("none" | "lzo" | "snappy" | "lz4", Some(_)) => Err(format!("{name} has no levels")),
            ("none", _) => Ok(Self::None),
            ("lzo", _) => Ok(Self::Lzo),
            ("snappy", _) => Ok(Self::Snappy),
            ("lz4", _) => Ok(Self::Lz4),
            _ => Err(format!("'{name}' is not a codec: give none, zlib, lzo, snappy, zstd or lz4")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What real pages look like to a codec: repeated structures with pointers, text, and noise.
    fn pages() -> Vec<Vec<u8>> {
        let structs = (0..4096u32).map(|at| if at % 8 < 5 { (at / 64) as u8 } else { 0xff }).collect();
        let text = b"kernel: page allocation failure ".iter().copied().cycle().take(4096).collect();
        let mut state = 1u64;
        let noise = (0..4096)
            .map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (state >> 56) as u8
            })
            .collect();
        vec![structs, text, noise]
    }

    fn decode(flags: u32, data: &[u8]) -> Vec<u8> {
        use crate::format::diskdump::flags as f;
        let mut page = vec![0u8; 4096];
        let len = match flags {
            f::ZLIB => libdeflater::Decompressor::new().zlib_decompress(data, &mut page).unwrap(),
            f::SNAPPY => snap::raw::Decoder::new().decompress(data, &mut page).unwrap(),
            f::ZSTD => ::zstd::bulk::decompress_to_buffer(data, &mut page).unwrap(),
            f::LZO => lzo::decompress(data, &mut page).unwrap(),
            other => panic!("flags {other:#x}"),
        };
        assert_eq!(len, 4096);
        page
    }

    #[test]
    fn what_every_codec_makes_is_the_page_again() {
        for name in ["zlib", "zlib:2", "zlib:12", "lzo", "snappy", "zstd", "zstd:-7", "zstd:19"] {
            let codec = name.parse::<Compression>().unwrap();
            let mut codec = codec.or_level_of(Compression::DEFAULT_ZSTD).codec();
            let mut out = vec![0; 4095];
            let made: Vec<_> =
                pages().iter().map(|page| codec.compress(page, &mut out).map(|len| out[..len].to_vec())).collect();
            assert_eq!(made[2], None, "{name}: noise does not shrink");
            for (page, data) in pages().iter().zip(&made).take(2) {
                assert_eq!(&decode(codec.flags(), data.as_ref().unwrap()), page, "{name}");
            }
            let again: Vec<_> = pages()
                .iter()
                .rev()
                .map(|page| codec.compress(page, &mut out).map(|len| out[..len].to_vec()))
                .collect();
            assert!(made.iter().eq(again.iter().rev()), "{name}: depends on the pages before");
        }
    }

    #[test]
    fn wrong_spellings_say_what_is_right() {
        for (text, says) in [
            ("lz4:1", "no levels"),
            ("gzip", "not a codec"),
            ("zstd:23", "-7 to 22"),
            ("zstd:0", "no level 0"),
            ("lzo:9", "no levels"),
            ("zlib:x", "1 to 12"),
        ] {
            let error = text.parse::<Compression>().unwrap_err();
            assert!(error.contains(says), "{text}: {error}");
        }
    }
}
