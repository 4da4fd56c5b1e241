//! What lies around a dump: taken off as far as it goes, with every rule that it breaks.
//!
//! Knows layers by their first bytes. Must not know the dump inside. The innermost bytes go to `kdump` and `elf`.

use std::path::{Path, PathBuf};

use super::{
    Check, Findings,
    findings::Place,
    flattened,
    rules::Rule,
    seekable::{self, Frames},
};
use crate::{
    codec::frame::FrameFormat,
    error::{Error, Result, plain_io},
    format::diskdump::{SIGNATURE, SIGNATURE_DISKDUMP},
    source::{
        Layer, foreign, open_file,
        store::{FileStore, SeekableStore, Store, read_start},
        unknown_format, unpack,
    },
};

/// More than anybody wraps around a dump; bounds what a hostile file makes us unpack.
const MOST_LAYERS: usize = 3;
/// How every flattened stream starts, whole or not.
const FLATTENED: &[u8] = b"makedumpfile";

/// What a dump is by its first bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Kind {
    /// An ELF core.
    Elf,
    /// A kdump-compressed file, or one of diskdump, its ancestor.
    Kdump,
    /// Neither.
    #[default]
    Unknown,
}

/// An input without its layers.
pub(crate) struct Opened {
    pub(super) input: usize,
    pub(super) path: PathBuf,
    pub(super) store: Box<dyn Store>,
    pub(super) layers: Vec<Layer>,
    pub(super) kind: Kind,
}

impl Opened {
    /// Opens an input and checks its layers.
    ///
    /// # Errors
    /// It cannot be opened, is nothing like a dump, or cannot be unpacked for reasons of this machine; or a wish to stop.
    pub(super) fn open(check: &Check<'_>, input: usize, path: &Path, findings: &mut Findings) -> Result<Self> {
        let mut store = open_file(path)?;
        let mut layers = Vec::new();
        let (kind, start) = loop {
            let start = read_start(store.as_ref(), foreign::START)
                .map_err(|error| Error::input(format!("cannot read {}", path.display())).because(error))?;
            let compressed = FrameFormat::of(&start);
            if layers.len() >= MOST_LAYERS || !(start.starts_with(FLATTENED) || compressed.is_some()) {
                break (Kind::of(&start), start);
            }
            let layer;
            (store, layer) = match compressed {
                Some(format) => unpacked(check, input, path, format, store, findings)?,
                None => (flattened::check(check, input, path, store, findings)?, Layer::Flattened),
            };
            layers.push(layer);
        };
        if kind == Kind::Unknown && layers.is_empty() {
            return Err(unknown_format(path, &start));
        }
        findings.must(Rule::DumpInside, kind != Kind::Unknown, || {
            Place::of(input, format!("{} bytes that are neither an ELF core nor a kdump-compressed dump", store.size()))
        });
        Ok(Self { input, path: path.to_owned(), store, layers, kind })
    }
}

impl Kind {
    fn of(start: &[u8]) -> Self {
        if start.starts_with(b"\x7fELF") {
            Self::Elf
        } else if start.starts_with(&SIGNATURE) || start.starts_with(&SIGNATURE_DISKDUMP) {
            Self::Kdump
        } else {
            Self::Unknown
        }
    }
}

/// Takes off compression: at random where the seek table is right, else by unpacking all that there is.
fn unpacked(
    check: &Check<'_>,
    input: usize,
    path: &Path,
    format: FrameFormat,
    store: Box<dyn Store>,
    findings: &mut Findings,
) -> Result<(Box<dyn Store>, Layer)> {
    let table = seekable::table(check, input, path, store.as_ref(), findings)?;
    let store = match table {
        Some(table) if table.is_usable() => {
            Frames { input, format, store: store.as_ref(), table: &table }.check(check, findings)?;
            match SeekableStore::open(store, format, check.memory) {
                Ok(seekable) => return Ok((Box::new(seekable), Layer::Seekable(format))),
                Err(store) => store,
            }
        }
        _ => store,
    };
    let (plain, damage) = unpack(path, format, store.as_ref(), check.memory, || check.progress.stopped())?;
    check.go_on()?;
    findings.looked(Rule::CompressedData);
    if let Some(error) = damage {
        let len = plain.metadata().map_or(0, |meta| meta.len());
        let found = format!("after {len} decompressed bytes: {}", plain_io(&error));
        findings.broken(Rule::CompressedData, Place::of(input, found));
    }
    let plain = FileStore::new(plain).map_err(|error| Error::io(path, "unpack", &error))?;
    Ok((Box::new(plain), Layer::Whole(format)))
}
