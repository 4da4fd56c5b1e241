//! What the writer of a kdump file asks of whoever puts its bytes in order.

use super::descs::Described;
use crate::{error::Result, format::diskdump::Header, sink::medium::Medium};

/// The file behind its plan: what is in front of the descriptors, the descriptors, the data.
pub(super) trait Body: std::fmt::Debug + Send {
    /// Takes a piece of what is in front, in order of offset; what is left out is zeros.
    fn put_front(&mut self, bytes: &[u8], at: u64) -> Result<()>;

    /// The front is there. `zeros`: the page that all pages of zeros share.
    fn begin_data(&mut self, zeros: &[u8]) -> Result<()>;

    /// Takes the next pages and the data of those that are stored.
    fn append(&mut self, pages: &mut dyn ExactSizeIterator<Item = Described>, data: &[u8]) -> Result<()>;

    /// Ends the dump with this header. Returns its size, bytes.
    fn finish(&mut self, header: &Header) -> Result<u64>;

    /// Where it goes.
    fn medium(&mut self) -> &mut dyn Medium;

    /// Shows what is there, under this header, as far as that can be.
    fn end_early(&mut self, header: &Header);
}
