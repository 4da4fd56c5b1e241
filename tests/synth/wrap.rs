//! What lies around a dump: records for a pipe, and compressed frames with or without a seek table.
//!
//! Knows the bytes of both. Must not share code with the product, nor know what is inside. Goes to the tests as bytes.

use std::io::Write;

/// A record's header.
pub fn record(offset: i64, len: i64) -> Vec<u8> {
    [offset.to_be_bytes(), len.to_be_bytes()].concat()
}

pub fn flat_header() -> Vec<u8> {
    let mut block = [&b"makedumpfile\0\0\0\0"[..], &1i64.to_be_bytes(), &1i64.to_be_bytes()].concat();
    block.resize(4096, 0);
    block
}

/// The parts of a file as records in the order given, each `part` bytes but the last.
pub fn flatten(bytes: &[u8], part: usize, order: impl Fn(usize) -> usize) -> Vec<u8> {
    let mut flat = flat_header();
    let count = bytes.len().div_ceil(part);
    for index in (0..count).map(order) {
        let data = &bytes[index * part..bytes.len().min((index + 1) * part)];
        // Zeros may be left out, as makedumpfile leaves out holes; but not the end.
        if index + 1 == count || data.iter().any(|byte| *byte != 0) {
            flat.extend(record((index * part) as i64, data.len() as i64));
            flat.extend(data);
        }
    }
    flat.extend(record(-1, -1));
    flat
}

/// The codec of frames.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Codec {
    Zstd,
    Lz4,
}

/// Independent frames of `size` bytes each, and the seek table of the Zstandard seekable format, where wanted with
/// checksums.
pub fn frames(bytes: &[u8], codec: Codec, size: usize, table: Option<bool>) -> Vec<u8> {
    let mut out = Vec::new();
    let mut entries = Vec::new();
    for part in bytes.chunks(size) {
        let frame = frame(part, codec);
        entries.extend((frame.len() as u32).to_le_bytes());
        entries.extend((part.len() as u32).to_le_bytes());
        if table == Some(true) {
            use std::hash::Hasher;
            let mut hasher = twox_hash::XxHash64::with_seed(0);
            hasher.write(part);
            entries.extend((hasher.finish() as u32).to_le_bytes());
        }
        out.extend(frame);
    }
    if let Some(checksums) = table {
        out.extend(0x184D_2A5Eu32.to_le_bytes());
        out.extend((entries.len() as u32 + 9).to_le_bytes());
        out.extend(entries);
        out.extend((bytes.len().div_ceil(size) as u32).to_le_bytes());
        out.push(if checksums { 0x80 } else { 0 });
        out.extend(0x8F92_EAB1u32.to_le_bytes());
    }
    out
}

/// One frame that says how much is in it.
fn frame(bytes: &[u8], codec: Codec) -> Vec<u8> {
    match codec {
        Codec::Zstd => zstd::bulk::compress(bytes, 1).unwrap(),
        Codec::Lz4 => {
            let info = lz4_flex::frame::FrameInfo::new().content_size(Some(bytes.len() as u64)).content_checksum(true);
            let mut encoder = lz4_flex::frame::FrameEncoder::with_frame_info(info, Vec::new());
            encoder.write_all(bytes).unwrap();
            encoder.finish().unwrap()
        }
    }
}

/// One frame that does not say so, as programs write it to a pipe.
pub fn stream(bytes: &[u8], codec: Codec) -> Vec<u8> {
    match codec {
        Codec::Zstd => zstd::encode_all(bytes, 1).unwrap(),
        Codec::Lz4 => {
            let mut encoder = lz4_flex::frame::FrameEncoder::new(Vec::new());
            encoder.write_all(bytes).unwrap();
            encoder.finish().unwrap()
        }
    }
}
