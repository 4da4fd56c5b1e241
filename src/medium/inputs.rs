//! The files that are read for an output, which must not be it.

use std::{
    fs::{self, File, Metadata},
    io,
    os::unix::fs::{FileTypeExt as _, MetadataExt as _},
    path::Path,
};

/// What a file is, whatever it is called: device and inode, of a block device its number.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Identity {
    File(u64, u64),
    Device(u64),
}

impl Identity {
    /// `None` for what holds nothing that a write could destroy, as a pipe.
    fn of(meta: io::Result<Metadata>) -> Option<Self> {
        let meta = meta.ok()?;
        let kind = meta.file_type();
        if kind.is_block_device() {
            return Some(Self::Device(meta.rdev()));
        }
        kind.is_file().then(|| Self::File(meta.dev(), meta.ino()))
    }
}

/// Whether `path` leads to `file`, whatever it is called.
pub(super) fn is_same(file: &File, path: &Path) -> bool {
    Identity::of(file.metadata()).is_some_and(|file| Identity::of(fs::metadata(path)) == Some(file))
}

/// The files that are read for an output.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Inputs(Vec<Identity>);

impl Inputs {
    /// Those that are open.
    #[must_use]
    pub fn opened(files: &[File]) -> Self {
        Self(files.iter().filter_map(|file| Identity::of(file.metadata())).collect())
    }

    /// And those at `paths`, which are read at other times. One that is not there cannot be overwritten.
    #[must_use]
    pub fn and<'p>(mut self, paths: impl IntoIterator<Item = &'p Path>) -> Self {
        self.0.extend(paths.into_iter().filter_map(|path| Identity::of(fs::metadata(path))));
        self
    }

    /// Whether `path` leads to one of them.
    #[must_use]
    pub fn have(&self, path: &Path) -> bool {
        self.have_file(fs::metadata(path))
    }

    /// Whether one of them is the file of `meta`.
    #[must_use]
    pub fn have_file(&self, meta: io::Result<Metadata>) -> bool {
        Identity::of(meta).is_some_and(|file| self.0.contains(&file))
    }
}
