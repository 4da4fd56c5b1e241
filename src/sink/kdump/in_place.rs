//! The pages of a kdump file where any offset may be written: their descriptors follow them, as soon as they are on the disk.

use zerocopy::IntoBytes as _;

use super::{
    body::Body,
    descs::{Described, Descs},
};
use crate::{
    error::{Error, Result},
    format::diskdump::{Areas, BITMAP_ALIGNMENT, DESC_SIZE, Header},
    sink::{
        medium::{Medium, RandomWrites},
        pages::{PAGE, Pages},
        publish::{Lead, Publisher},
    },
};

#[derive(Debug)]
pub(super) struct InPlace {
    file: Box<dyn RandomWrites>,
    descs: Descs,
    /// Descriptors that are not written yet, or lie in a page of which some are not; the first one goes to `held_at`.
    held: Vec<u8>,
    held_at: u64,
    /// One past the descriptors' area.
    end_descs: u64,
    publisher: Publisher,
    /// Where the next bytes of what is in front go.
    front: Pages,
    /// Where the next page's data goes.
    data: Pages,
}

impl InPlace {
    pub(super) fn new(mut file: Box<dyn RandomWrites>, areas: &Areas) -> Result<Self> {
        file.require(areas.data, "the dump's headers")?;
        let publisher = Publisher::new(file.syncer()?);
        // Reserved first, so that a full disk later costs data but never the way to the data before it.
        file.reserve(0, areas.data)?;
        file.set_len(areas.data)?;
        Ok(Self {
            file,
            descs: Descs::new(areas, true),
            held: Vec::new(),
            held_at: areas.descs,
            end_descs: areas.data,
            publisher,
            front: Pages::from(0),
            data: Pages::from(areas.data),
        })
    }

    /// Has the descriptors written that are held back, as soon as the data that they lead to is on the disk.
    fn publish(&mut self) -> Result<()> {
        let mut bytes = self.held.clone();
        bytes.resize(bytes.len().next_multiple_of(PAGE).min((self.end_descs - self.held_at) as usize), 0);
        let lead = Lead { offset: self.held_at, bytes };
        // The rest of the last page comes with the next ones.
        let whole = self.held.len() / PAGE * PAGE;
        self.held.drain(..whole);
        self.held_at += whole as u64;
        self.publisher.publish(vec![lead]).map_err(|error| self.file.failed(&error))
    }

    fn publish_all(&mut self) -> Result<()> {
        self.publish()?;
        self.publisher.settle().map_err(|error| self.file.failed(&error))
    }

    /// Brings everything to the disk but the mark that it is whole. Returns the size, bytes.
    pub(super) fn complete(&mut self) -> Result<u64> {
        self.publish_all()?;
        // At least as long as the largest page of an analysing host, which reads that much as the header.
        let size = self.data.at().max(BITMAP_ALIGNMENT);
        self.file.set_len(size)?;
        self.file.sync()?;
        Ok(size)
    }

    /// Writes the header again.
    pub(super) fn mark(&mut self, header: &Header) -> Result<()> {
        self.file.write_page(header.as_bytes(), 0)
    }

    pub(super) fn file(&mut self) -> &mut dyn RandomWrites {
        self.file.as_mut()
    }
}

impl Body for InPlace {
    fn put_front(&mut self, bytes: &[u8], at: u64) -> Result<()> {
        self.front.skip_to(at);
        self.front.append(self.file.as_mut(), bytes)
    }

    fn begin_data(&mut self, zeros: &[u8]) -> Result<()> {
        self.data.append(self.file.as_mut(), zeros)?;
        self.file.settle();
        Ok(())
    }

    fn append(&mut self, pages: &mut dyn ExactSizeIterator<Item = Described>, data: &[u8]) -> Result<()> {
        self.data.append(self.file.as_mut(), data)?;
        self.publisher.wrote(data.len() as u64);
        if self.held_at + self.held.len() as u64 + pages.len() as u64 * DESC_SIZE > self.end_descs {
            return Err(Error::unexpected("more pages than planned"));
        }
        for page in pages {
            self.held.extend_from_slice(self.descs.of(page).as_bytes());
        }
        let held = self.held.len() as u64;
        if self.publisher.is_due(held).map_err(|error| self.file.failed(&error))? { self.publish() } else { Ok(()) }
    }

    fn finish(&mut self, header: &Header) -> Result<u64> {
        // The mark goes only when everything else is on the disk.
        let size = self.complete()?;
        self.mark(header)?;
        self.file.finish()?;
        Ok(size)
    }

    fn medium(&mut self) -> &mut dyn Medium {
        self.file.as_mut()
    }

    fn end_early(&mut self, header: &Header) {
        let _ = self.publish_all();
        // It may say something else already, in a `finish` that failed.
        let _ = self.mark(header);
    }
}
