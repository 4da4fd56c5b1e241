//! What lies around a dump: compression with or without a seek table, and records for a pipe.
//!
//! Knows each layer by its first bytes, and stacks a store for it. Must not know the dump inside. The innermost store goes
//! to the containers' parsers.

use std::path::Path;

use super::{
    foreign,
    store::{FileStore, FlattenedStore, SeekableStore, Store, Unusable, read_start},
    whole,
};
use crate::{
    codec::frame::FrameFormat,
    error::{Error, Kind, Result},
    format::flattened::SIGNATURE,
    report::human_bytes,
};

/// One layer around a dump.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Layer {
    /// Compressed in frames that can be read at random.
    Seekable(FrameFormat),
    /// The same without the table of frames at the end: another program's file, or one that was truncated.
    Frames(FrameFormat),
    /// Compressed as a whole.
    Whole(FrameFormat),
    /// Records for a pipe, as `makedumpfile -F` writes them.
    Flattened,
}

impl Layer {
    /// The name used in reports.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Seekable(FrameFormat::Zstd) => "seekable zstd",
            Self::Seekable(FrameFormat::Lz4) => "seekable lz4",
            Self::Frames(FrameFormat::Zstd) => "zstd frames without a seek table",
            Self::Frames(FrameFormat::Lz4) => "lz4 frames without a seek table",
            Self::Whole(FrameFormat::Zstd) => "zstd-compressed",
            Self::Whole(FrameFormat::Lz4) => "lz4-compressed",
            Self::Flattened => "flattened",
        }
    }
}

/// More than anybody wraps around a dump; bounds what a hostile file makes us unpack.
const MOST_LAYERS: usize = 3;

/// Takes off the layers of `store`, the file at `path`, within `limit` bytes of memory; in it is a dump, or memory as it is if it
/// is `raw`.
pub(super) fn open(
    path: &Path,
    mut store: Box<dyn Store>,
    raw: bool,
    limit: u64,
) -> Result<(Box<dyn Store>, Vec<Layer>)> {
    let mut layers = Vec::new();
    while layers.len() < MOST_LAYERS {
        let start = start(path, store.as_ref())?;
        let layer = if start.starts_with(SIGNATURE) {
            store =
                Box::new(FlattenedStore::open(store, limit / 2).map_err(|cause| bad_flattened(path, cause, limit))?);
            Layer::Flattened
        } else if let Some(format) = FrameFormat::of(&start) {
            let (plain, layer) = compressed(path, store, format, (raw, limit))?;
            store = plain;
            layer
        } else {
            break;
        };
        layers.push(layer);
    }
    Ok((store, layers))
}

/// What is inside frames: read at random where that is possible, else unpacked.
fn compressed(
    path: &Path,
    store: Box<dyn Store>,
    format: FrameFormat,
    (raw, limit): (bool, u64),
) -> Result<(Box<dyn Store>, Layer)> {
    let store = match SeekableStore::open(store, format, limit) {
        Ok(seekable) => return Ok((Box::new(seekable), Layer::Seekable(format))),
        Err(store) => store,
    };
    match SeekableStore::rebuild(store, format, limit) {
        Ok(rebuilt) => Ok((Box::new(rebuilt), Layer::Frames(format))),
        Err(store) => {
            let plain = whole::decompress_to_temporary(path, format, store.as_ref(), (raw, limit))?;
            let plain = FileStore::new(plain).map_err(|error| Error::io(path, "unpack", &error))?;
            Ok((Box::new(plain), Layer::Whole(format)))
        }
    }
}

fn bad_flattened(path: &Path, cause: Unusable, limit: u64) -> Error {
    match cause {
        Unusable::Damaged(cause) => Error::input(format!("cannot use the flattened dump {}", path.display()))
            .because(cause)
            .next_step("the stream was truncated or damaged on its way: save it again, or look for another copy"),
        Unusable::Memory(bytes) => {
            // The list of records gets half.
            let wanted = bytes.saturating_mul(2);
            let what = format!("not enough memory to read {}: {} are needed", path.display(), human_bytes(wanted));
            Error::new(Kind::Memory, what).because(format!("the limit is {}", human_bytes(limit))).next_step(format!(
                "give --memory-limit {}M or more, or put its records in order first: vdump merge - OUTPUT < {}",
                wanted.div_ceil(1 << 20),
                path.display()
            ))
        }
    }
}

/// The first bytes of what is in `store`.
pub(super) fn start(path: &Path, store: &dyn Store) -> Result<Vec<u8>> {
    read_start(store, foreign::START)
        .map_err(|error| Error::input(format!("cannot read {}", path.display())).because(error))
}
