//! Writing kdump-compressed files to a pipe, flattened.
//!
//! Knows the one order of records that every reader takes: the front, page data, all descriptors, the end mark; no offset
//! comes twice. Must not seek. Its bytes are read by crash, drgn and `makedumpfile -R`.

use vdump_filters::PfnRange;
use zerocopy::IntoBytes as _;

use super::{KdumpFacts, Pipe, Sink, Written, front};
use crate::{
    bitmap::PageBitmap,
    error::{Error, Kind, Result},
    format::{
        diskdump::{Areas, DESC_SIZE, PageDesc, flags},
        flattened::{self, Record},
    },
    pipeline::{Fate, PackedBatch},
};

/// Bytes of page data in a record, at least: libkdumpfile walks through all records for each read.
const RECORD_BYTES: usize = 1 << 20;
/// Descriptors and zeros written at a time.
const PART: usize = 64 << 10;
/// What is remembered of each page until its descriptor is written: its length, or one of these.
const ZERO: u32 = u32::MAX;
const LOST: u32 = u32::MAX - 1;
/// Marks a page that is stored as it was.
const RAW: u32 = 1 << 31;

/// A flattened kdump file in the making.
#[derive(Debug)]
pub struct FlatSink {
    pipe: Pipe,
    areas: Areas,
    /// Page data that no record has yet; it begins at `next`.
    data: Vec<u8>,
    next: u64,
    pages: Vec<u32>,
    codec_flags: u32,
    written: Written,
    sent: u64,
}

impl FlatSink {
    /// Bytes of memory for each page until the end.
    pub const PAGE_BYTES: u64 = size_of::<u32>() as u64;

    /// Writes everything in front of the descriptors.
    ///
    /// # Errors
    /// The pipe's reader is gone, or the sizes leave the format's fields.
    pub fn create(
        pipe: Pipe,
        facts: &KdumpFacts<'_>,
        page_size: u64,
        ram: impl Iterator<Item = PfnRange>,
        dumped: &PageBitmap,
    ) -> Result<Self> {
        let areas = front::areas(page_size, facts, dumped, dumped.count())?;
        let mut sink = Self {
            pipe,
            areas,
            // All zero pages share this one.
            data: vec![0; page_size as usize],
            next: areas.data,
            pages: Vec::with_capacity(dumped.count() as usize),
            codec_flags: facts.codec_flags,
            written: Written::default(),
            sent: 0,
        };
        sink.send(&flattened::header())?;
        sink.send(&Record::Data { offset: 0, len: areas.descs }.encode())?;
        // It cannot be changed later: the dump is whole if its end mark is there.
        let header = front::header(facts, &areas, dumped.len(), false);
        let mut at = 0;
        front::write(&areas, &header, facts, None, ram, dumped, |bytes, offset| {
            sink.send_zeros(offset - at)?;
            at = offset + bytes.len() as u64;
            sink.send(bytes)
        })?;
        sink.send_zeros(areas.descs - at)?;
        Ok(sink)
    }

    fn send(&mut self, bytes: &[u8]) -> Result<()> {
        self.sent += bytes.len() as u64;
        self.pipe.write(bytes)
    }

    fn send_zeros(&mut self, mut len: u64) -> Result<()> {
        let zeros = [0; PART];
        while len > 0 {
            let part = len.min(PART as u64);
            self.send(&zeros[..part as usize])?;
            len -= part;
        }
        Ok(())
    }

    fn send_data(&mut self) -> Result<()> {
        let mut data = std::mem::take(&mut self.data);
        if !data.is_empty() {
            self.send(&Record::Data { offset: self.next, len: data.len() as u64 }.encode())?;
            self.send(&data)?;
            self.next += data.len() as u64;
        }
        data.clear();
        self.data = data;
        Ok(())
    }

    fn send_descs(&mut self) -> Result<()> {
        let len = self.areas.data - self.areas.descs;
        if self.pages.len() as u64 * DESC_SIZE != len {
            return Err(Error::new(Kind::Output, "internal error: not as many pages as planned")
                .next_step("please report this together with the output of 'vdump info'"));
        }
        if len == 0 {
            return Ok(());
        }
        self.send(&Record::Data { offset: self.areas.descs, len }.encode())?;
        let mut at = self.areas.data + self.areas.block_size;
        let pages = std::mem::take(&mut self.pages);
        for part in pages.chunks(PART / DESC_SIZE as usize) {
            let descs: Vec<PageDesc> = part.iter().map(|page| self.desc(*page, &mut at)).collect();
            self.send(descs.as_bytes())?;
        }
        Ok(())
    }

    fn desc(&self, page: u32, at: &mut u64) -> PageDesc {
        let (offset, size, flags) = match page {
            ZERO => (self.areas.data, self.areas.block_size as u32, flags::RAW),
            // No data: and the file's signature is no zlib stream, so that readers that look there all the same fail, where
            // an empty page would show what they last read.
            LOST => (0, 8, flags::ZLIB),
            page => {
                let (offset, len) = (*at, page & !RAW);
                *at += u64::from(len);
                (offset, len, if page & RAW == 0 { self.codec_flags } else { flags::RAW })
            }
        };
        PageDesc { offset: offset.into(), size: size.into(), flags: flags.into(), page_flags: 0.into() }
    }
}

impl Sink for FlatSink {
    fn commit(&mut self, batch: &PackedBatch) -> Result<()> {
        for page in &batch.pages {
            self.pages.push(match &page.fate {
                Fate::Stored { len, flags: codec } => {
                    self.written.stored += 1;
                    if *codec == flags::RAW { len | RAW } else { *len }
                }
                Fate::Zero => {
                    self.written.zero += 1;
                    ZERO
                }
                Fate::Lost(cause) => {
                    self.written.lose(page.pfn, cause);
                    LOST
                }
            });
        }
        self.data.extend_from_slice(&batch.data);
        if self.data.len() >= RECORD_BYTES { self.send_data() } else { Ok(()) }
    }

    fn written(&self) -> &Written {
        &self.written
    }

    fn finish(&mut self) -> Result<u64> {
        self.send_data()?;
        self.send_descs()?;
        self.send(&Record::End.encode())?;
        self.pipe.finish()?;
        Ok(self.sent)
    }

    fn remarks(&mut self) -> Vec<String> {
        self.pipe.remarks()
    }

    /// Without its end mark no reader takes it for a dump.
    fn abandon(&mut self, _keep: bool) -> Option<std::path::PathBuf> {
        None
    }

    fn discard(&mut self) {}
}
