//! Kernels that are compressed as a whole: gzip, zstd and xz.
//!
//! Knows the magics. Bounds what comes out, whatever the file claims. Gives the plain file to [`super::Image::parse`].

use std::io::Read;

use crate::error::{Error, Result};

/// Larger than any kernel with debug information in it.
pub const MOST: u64 = 2 << 30;

/// The file decompressed, and by what; a file that is not compressed stays what it is.
///
/// # Errors
/// When it is damaged, or too large.
pub fn unpack(name: &str, file: Vec<u8>) -> Result<(Vec<u8>, Option<&'static str>)> {
    let refuse = |what: &str, cause: String| {
        Error::input(format!("cannot decompress {name} ({what})"))
            .because(cause)
            .next_step("the file is damaged: get it again")
    };
    let (what, outcome) = if file.starts_with(&[0x1f, 0x8b]) {
        ("gzip", all(flate2::bufread::MultiGzDecoder::new(file.as_slice())))
    } else if file.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) {
        ("zstd", zstd::stream::read::Decoder::with_buffer(file.as_slice()).and_then(all))
    } else if file.starts_with(b"\xfd7zXZ\0") {
        ("xz", all(lzma_rust2::XzReader::new(file.as_slice(), true)))
    } else {
        return Ok((file, None));
    };
    let plain = outcome.map_err(|error| refuse(what, error.to_string()))?;
    Ok((plain, Some(what)))
}

fn all(from: impl Read) -> std::io::Result<Vec<u8>> {
    let mut plain = Vec::new();
    from.take(MOST + 1).read_to_end(&mut plain)?;
    if plain.len() as u64 > MOST {
        return Err(std::io::Error::other("it holds more than 2 GiB"));
    }
    Ok(plain)
}
