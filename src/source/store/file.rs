//! Bytes of a file.
//!
//! Knows mapped windows, reads, and when to use which. Must not know formats. Used as it is for ELF cores, and below every
//! other store.

use std::{fs::File, os::fd::AsRawFd as _, sync::Mutex};

use super::{Store, StoreError, StoreReader};
use crate::sys::{
    file::read_some_at,
    map::{Window, is_proc_file},
};

/// Size of a mapped window of `/proc/vmcore`: large enough that the cost of mapping vanishes (makedumpfile measured 28
/// GiB/s at 512 KiB), small enough to be cheap where only a few pages of it are wanted.
const WINDOW: u64 = 4 << 20;
/// The largest page size of any host we run on; window offsets are multiples of it.
const HOST_PAGE: u64 = 64 << 10;

/// A file, read through mapped windows if it is `/proc/vmcore`, else through plain reads.
#[derive(Debug)]
pub struct FileStore {
    file: File,
    size: u64,
    mapped: bool,
    /// For readers that have no description of their own.
    turn: Mutex<()>,
}

impl FileStore {
    /// Takes the file as it is now.
    ///
    /// # Errors
    /// It cannot be inspected.
    pub fn new(file: File) -> std::io::Result<Self> {
        let size = file.metadata()?.len();
        let mapped = is_proc_file(&file);
        Ok(Self { file, size, mapped, turn: Mutex::new(()) })
    }
}

impl Store for FileStore {
    fn size(&self) -> u64 {
        self.size
    }

    fn next_data(&self, offset: u64) -> u64 {
        if self.mapped {
            return offset;
        }
        // Every other read says where, so that it does not matter where the file's own position is.
        match rustix::fs::seek(&self.file, rustix::fs::SeekFrom::Data(offset)) {
            Ok(data) => data.max(offset),
            Err(rustix::io::Errno::NXIO) => self.size.max(offset),
            Err(_) => offset,
        }
    }

    fn reader(&self) -> Box<dyn StoreReader + '_> {
        let windows = self.mapped.then(Windows::default);
        Box::new(FileReader { store: self, windows, own: None, buffer: Vec::new() })
    }
}

#[derive(Debug)]
struct FileReader<'a> {
    store: &'a FileStore,
    /// `None`: never map.
    windows: Option<Windows>,
    /// Another description of the same file of procfs, or that there is none to be had. /proc/kcore has one buffer for each
    /// description (fs/proc/kcore.c, `file->private_data`, since 4.9: df04abfd181a), and readers that share it get one another's bytes.
    own: Option<Option<File>>,
    buffer: Vec<u8>,
}

impl StoreReader for FileReader<'_> {
    fn read(&mut self, offset: u64, len: usize) -> Result<&[u8], StoreError> {
        if let Some(windows) = &mut self.windows
            && windows.hold(self.store, offset, len)
        {
            let held = windows.current.as_ref().and_then(|window| window.get(offset, len));
            return held.ok_or(StoreError::Truncated(0));
        }
        self.buffer.resize(len.max(self.buffer.len()), 0);
        let buffer = &mut self.buffer[..len];
        let store = self.store;
        let own = if store.mapped { self.own.get_or_insert_with(|| again(&store.file)).as_ref() } else { None };
        let turn = (store.mapped && own.is_none()).then(|| store.turn.lock());
        let got = read_some_at(own.unwrap_or(&store.file), buffer, offset);
        drop(turn);
        match got {
            Ok(got) if got == len => Ok(buffer),
            Ok(got) => Err(StoreError::Truncated(got)),
            Err(error) => Err(StoreError::system(&error)),
        }
    }
}

/// Opens the file once more, as a description of its own.
fn again(file: &File) -> Option<File> {
    File::open(format!("/proc/self/fd/{}", file.as_raw_fd())).ok()
}

#[derive(Debug, Default)]
struct Windows {
    current: Option<Window>,
    /// Start of the last window that could not be mapped, so that it is not tried again for each of its pages.
    refused: Option<u64>,
}

impl Windows {
    /// Makes sure that the current window covers the bytes; `false` where it cannot be mapped.
    fn hold(&mut self, store: &FileStore, offset: u64, len: usize) -> bool {
        if self.current.as_ref().is_some_and(|window| window.get(offset, len).is_some()) {
            return true;
        }
        let start = offset & !(HOST_PAGE - 1);
        if self.refused == Some(start) {
            return false;
        }
        let wanted = (offset - start + len as u64).max(WINDOW).min(store.size.saturating_sub(start));
        self.current = None;
        match Window::of_proc_file(&store.file, start, wanted as usize) {
            Ok(window) if window.get(offset, len).is_some() => {
                self.current = Some(window);
                true
            }
            _ => {
                self.refused = Some(start);
                false
            }
        }
    }
}
