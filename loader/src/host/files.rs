//! Small files of /proc and /sys.
//!
//! Knows how numbers are spelled in them. A file that is not there is `None`: kernels differ in what they show.

use std::{fs::File, io::Read as _, path::Path};

use vdump_filters::number;

/// No file that we read whole is larger: /proc/iomem of a machine with thousands of ranges has a few hundred KiB.
const MOST: u64 = 16 << 20;

/// The whole file, up to 16 MiB.
#[must_use]
pub fn bytes(path: &Path) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path).ok()?.take(MOST).read_to_end(&mut bytes).ok()?;
    Some(bytes)
}

/// The whole file as text.
#[must_use]
pub fn text(path: &Path) -> Option<String> {
    bytes(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
}

/// A hexadecimal number, with or without `0x`.
#[must_use]
pub fn hex(path: &Path) -> Option<u64> {
    hex_of(&text(path)?)
}

/// The same of a text.
pub(super) fn hex_of(text: &str) -> Option<u64> {
    let text = text.trim();
    number::hex(text.strip_prefix("0x").unwrap_or(text))
}

/// A decimal number; also a hexadecimal one if it starts with `0x`.
#[must_use]
pub fn decimal(path: &Path) -> Option<u64> {
    number::number(text(path)?.trim())
}

/// The numbers N of the entries called `{prefix}N`, in order.
#[must_use]
pub fn numbered(folder: &Path, prefix: &str) -> Vec<u32> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let number = |entry: std::fs::DirEntry| entry.file_name().to_str()?.strip_prefix(prefix)?.parse().ok();
    let mut numbers: Vec<u32> = entries.filter_map(number).collect();
    numbers.sort_unstable();
    numbers
}
