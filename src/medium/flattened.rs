//! makedumpfile's flattened stream: records that say where their bytes belong, in any other medium.
//!
//! So every offset may be written, once. `makedumpfile -R` makes the file of it; crash and libkdumpfile read it as it is.

use crate::{
    error::Result,
    format::flattened::{self, Record},
    sink::{Medium, Order, RandomWrites},
};

/// Zeros written at a time.
const PART: usize = 64 << 10;

/// The records in `M`.
#[derive(Debug)]
pub struct Flattened<M> {
    inner: M,
    begun: bool,
    /// Bytes that went to `inner`, and how many of them are no data.
    sent: u64,
    overhead: u64,
    /// What is still to come of the last record: where it goes on, and where it ends.
    record: (u64, u64),
}

impl<M: Medium> Flattened<M> {
    /// A stream that begins when something is announced.
    pub fn new(inner: M) -> Self {
        Self { inner, begun: false, sent: 0, overhead: 0, record: (0, 0) }
    }

    fn send(&mut self, bytes: &[u8]) -> Result<()> {
        self.inner.write(bytes, self.sent)?;
        self.sent += bytes.len() as u64;
        Ok(())
    }

    fn around(&mut self, bytes: &[u8]) -> Result<()> {
        self.overhead += bytes.len() as u64;
        self.send(bytes)
    }

    /// Zeros up to `offset` of the record.
    fn skip_to(&mut self, offset: u64) -> Result<()> {
        let zeros = [0; PART];
        while self.record.0 < offset {
            let part = (offset - self.record.0).min(PART as u64);
            self.send(&zeros[..part as usize])?;
            self.record.0 += part;
        }
        Ok(())
    }
}

impl<M: Medium + 'static> Medium for Flattened<M> {
    fn order(&self) -> Order {
        Order::Once
    }

    fn announce(&mut self, offset: u64, len: u64) -> Result<()> {
        if !std::mem::replace(&mut self.begun, true) {
            self.around(&flattened::header())?;
        }
        self.skip_to(self.record.1)?;
        if len > 0 {
            self.around(&Record::Data { offset, len }.encode())?;
            self.record = (offset, offset + len);
        }
        Ok(())
    }

    fn write(&mut self, bytes: &[u8], offset: u64) -> Result<()> {
        self.skip_to(offset)?;
        self.record.0 += bytes.len() as u64;
        self.send(bytes)
    }

    fn finish(&mut self) -> Result<()> {
        self.skip_to(self.record.1)?;
        self.around(&Record::End.encode())?;
        self.inner.finish()
    }

    fn overhead(&self) -> u64 {
        self.overhead
    }

    fn remarks(&mut self) -> Vec<String> {
        self.inner.remarks()
    }

    fn into_random(self: Box<Self>) -> Result<Box<dyn RandomWrites>, Box<dyn Medium>> {
        Err(self)
    }
}
