//! The way back: pages as other programs, or we, compressed them.
//!
//! Knows the codecs that dumps use. Must not trust the data: a page comes back whole or not at all. Used by sources.

use std::fmt;

use libdeflater::Decompressor as Inflater;
use snap::raw::Decoder as Unsnapper;
use zstd::bulk::Decompressor as Unzstd;

use super::lzo;
use crate::format::diskdump::flags;

/// Why a page could not be decompressed.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum DecodeError {
    /// The flags name no codec that any dump uses.
    #[error("the page's flags {0:#x} name no known codec")]
    UnknownCodec(u32),
    /// The data is damaged; what the codec says.
    #[error("the page's {0} data is damaged: {1}")]
    Damaged(&'static str, String),
    /// The data makes fewer or more bytes than a page has.
    #[error("the page's data makes {0} bytes instead of {1}")]
    WrongSize(usize, usize),
}

/// Decompression contexts for one thread, made when first needed and reused.
#[derive(Default)]
pub struct Decoder {
    zlib: Option<Inflater>,
    zstd: Option<Unzstd<'static>>,
}

impl fmt::Debug for Decoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Decoder")
    }
}

impl Decoder {
    /// Decompresses `data` as `flags` (`format::diskdump::flags`) say into all of `page`.
    ///
    /// # Errors
    /// `DecodeError`; `page` then holds nothing of use.
    pub fn decode(&mut self, flags: u32, data: &[u8], page: &mut [u8]) -> Result<(), DecodeError> {
        let len = match flags {
            flags::RAW if data.len() == page.len() => {
                page.copy_from_slice(data);
                data.len()
            }
            flags::RAW => data.len(),
            flags::ZLIB => {
                let zlib = self.zlib.get_or_insert_with(Inflater::new);
                zlib.zlib_decompress(data, page).map_err(|error| damaged("zlib", error))?
            }
            flags::LZO => lzo::decompress(data, page).map_err(|error| damaged("lzo", error))?,
            flags::SNAPPY => {
                let len = snap::raw::decompress_len(data).map_err(|error| damaged("snappy", error))?;
                if len != page.len() {
                    return Err(DecodeError::WrongSize(len, page.len()));
                }
                Unsnapper::new().decompress(data, page).map_err(|error| damaged("snappy", error))?
            }
            flags::ZSTD => {
                let zstd = match &mut self.zstd {
                    Some(zstd) => zstd,
                    none => none.insert(Unzstd::new().map_err(|error| damaged("zstd", error))?),
                };
                zstd.decompress_to_buffer(data, page).map_err(|error| damaged("zstd", error))?
            }
            unknown => return Err(DecodeError::UnknownCodec(unknown)),
        };
        if len == page.len() { Ok(()) } else { Err(DecodeError::WrongSize(len, page.len())) }
    }
}

fn damaged(codec: &'static str, error: impl fmt::Display) -> DecodeError {
    DecodeError::Damaged(codec, error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::Compression;

    #[test]
    fn every_codec_comes_back_and_damage_is_an_error() {
        let page: Vec<u8> = (0..4096u32).map(|at| (at / 48) as u8).collect();
        let mut decoder = Decoder::default();
        for name in ["zlib", "lzo", "snappy", "zstd"] {
            let mut codec = name.parse::<Compression>().unwrap().codec();
            let mut data = vec![0; 4095];
            let len = codec.compress(&page, &mut data).unwrap();
            data.truncate(len);
            let mut back = vec![0; 4096];
            assert_eq!(decoder.decode(codec.flags(), &data, &mut back), Ok(()), "{name}");
            assert_eq!(back, page, "{name}");
            for cut in 0..len {
                assert!(decoder.decode(codec.flags(), &data[..cut], &mut back).is_err(), "{name} cut to {cut}");
            }
            assert!(decoder.decode(codec.flags(), &data, &mut back[..4000]).is_err(), "{name}: too much");
            assert!(decoder.decode(codec.flags(), &data, &mut vec![0; 8192]).is_err(), "{name}: too little");
        }
        assert_eq!(decoder.decode(flags::RAW, &page[1..], &mut vec![0; 4096]), Err(DecodeError::WrongSize(4095, 4096)));
        assert_eq!(decoder.decode(0x40, &page, &mut vec![0; 4096]), Err(DecodeError::UnknownCodec(0x40)));
    }
}
