//! Writing an ELF core as a stream: frames one after the other, then the seek table.
//!
//! Knows where frames end. Must not know what is in them. `zstd -d` or `lz4 -d` makes the plain ELF core of its bytes, and
//! the seekable store reads them at random.

use super::{Medium, Sink, Written, append::Appender};
use crate::{
    error::{Error, Kind, Result},
    format::seekable,
    pipeline::{Fate, PackedFrame, PackedPage},
    plan::FRAME,
};

/// An ELF core in the making, as a stream.
#[derive(Debug)]
pub struct FrameSink {
    stream: Appender,
    /// Stored and plain length of each frame so far; `None`: the frames are plain bytes, and no table follows.
    table: Option<Vec<(u32, u32)>>,
    /// Frames still to come.
    missing: u64,
    written: Written,
}

impl FrameSink {
    /// `size`: the plain file's size, bytes. `seekable`: the frames are compressed.
    ///
    /// # Errors
    /// There would be more frames than the table's format allows.
    pub fn create(medium: Box<dyn Medium>, size: u64, seekable: bool) -> Result<Self> {
        let missing = size.div_ceil(FRAME);
        if missing > seekable::MAX_FRAMES {
            return Err(Error::new(Kind::Output, "the dump would have more frames than a seek table can list")
                .next_step("write it uncompressed (-c none), or in the kdump format (-f kdump)"));
        }
        let stream = Appender::new(medium);
        Ok(Self { stream, table: seekable.then(Vec::new), missing, written: Written::default() })
    }

    /// Writes the table of the frames that are there. Where the device is full, the last frames make room for it.
    fn end_early(&mut self) {
        let Some(mut table) = self.table.take() else { return };
        loop {
            let len = table.iter().map(|(stored, _)| u64::from(*stored)).sum();
            if self.stream.cut(len, &seekable::encode(&table)).is_ok() || table.pop().is_none() {
                return;
            }
        }
    }
}

impl Sink<PackedFrame> for FrameSink {
    fn commit(&mut self, batch: &PackedFrame) -> Result<()> {
        if let Some(cause) = &batch.fault {
            return Err(Error::new(Kind::Memory, "cannot compress a part of the dump")
                .because(cause)
                .next_step("give fewer threads (-j) or a lower compression level"));
        }
        // Its place is in a segment that the headers promise, and they are written: a reader would see zeros.
        if let Some((pfn, cause)) = batch.pages.iter().find_map(PackedPage::lost) {
            return Err(Error::new(Kind::Output, format!("cannot go on with the dump at page {pfn:#x}")).because(
                format!("{cause}, and it could be read before; the kdump format (-f kdump) can leave it out"),
            ));
        }
        self.stream.append(&batch.data)?;
        if let Some(table) = &mut self.table {
            table.push((batch.data.len() as u32, batch.plain));
        }
        self.missing = self.missing.saturating_sub(1);
        for page in &batch.pages {
            match &page.fate {
                Fate::Stored { .. } => self.written.stored += 1,
                Fate::Zero => self.written.zero += 1,
                Fate::Lost(_) => {}
            }
        }
        Ok(())
    }

    fn written(&self) -> &Written {
        &self.written
    }

    fn is_whole(&self) -> bool {
        self.missing == 0
    }

    fn finish(&mut self) -> Result<u64> {
        if let Some(table) = &self.table {
            self.stream.append(&seekable::encode(table))?;
        }
        self.stream.finish()
    }

    fn remarks(&mut self) -> Vec<String> {
        self.stream.remarks()
    }

    /// What stays is a prefix of the core, with the table of the frames that it has.
    fn abandon(&mut self, keep: bool) -> Option<std::path::PathBuf> {
        let keep = keep && self.table.as_ref().is_none_or(|table| !table.is_empty());
        if self.stream.stays(keep) {
            self.end_early();
        }
        self.stream.abandon(keep)
    }

    fn discard(&mut self) {
        self.stream.discard();
    }
}
