//! Where a stream of bytes goes: a file, or standard output.
//!
//! Knows how to append and how each of them ends. Must not know formats. Used by the sinks that write in one pass.

use std::{
    io::{self, Write as _},
    path::PathBuf,
};

use super::{Inputs, Target, pages::PAGE, target::not_synced};
use crate::{
    error::{Error, Kind, Result, plain_io},
    format::flattened::{self, Record},
    sys::{out::StandardOutput, stop::Stopped},
};

/// Standard output as the place of a dump.
#[derive(Debug)]
pub struct Pipe {
    out: StandardOutput,
    /// How many bytes may still follow.
    room: u64,
    remarks: Vec<String>,
}

impl Pipe {
    /// Takes standard output, for so many bytes at most.
    ///
    /// # Errors
    /// It is a terminal, or closed, or one of the `inputs` (`1<>FILE`).
    pub fn standard_output(limit: Option<u64>, inputs: &Inputs) -> Result<Self> {
        let out = StandardOutput::open().map_err(|error| failed(&error))?;
        if out.is_terminal() {
            return Err(Error::new(Kind::Usage, "cannot write a dump to a terminal")
                .next_step("pipe it into a program or name an output file"));
        }
        if inputs.have_file(out.metadata()) {
            return Err(Error::new(Kind::Usage, "cannot write to standard output")
                .because("it is an input, which would be overwritten")
                .next_step("send it to another file"));
        }
        Ok(Self { out, room: limit.unwrap_or(u64::MAX), remarks: Vec::new() })
    }

    /// Writes all of `bytes`, however long the reader takes.
    ///
    /// # Errors
    /// The reader is gone, or the device behind it is full or fails, or the limit is reached, or a signal came meanwhile.
    pub fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.room = self.room.checked_sub(bytes.len() as u64).ok_or_else(|| {
            Error::new(Kind::NoSpace, "cannot write to standard output")
                .because("the limit of its size is reached")
                .next_step("what was written so far is no dump")
        })?;
        self.out.write_all(bytes).map_err(|error| failed(&error))
    }

    /// Brings what was written to the disk, if standard output is a file.
    ///
    /// # Errors
    /// The device is full or fails.
    pub fn finish(&mut self) -> Result<()> {
        let unsure = self.out.sync().map_err(|error| failed(&error))?;
        self.remarks.extend(unsure.map(|error| not_synced(&"the dump on standard output", &error)));
        Ok(())
    }

    /// What was done otherwise than it should be, and not told yet.
    pub fn remarks(&mut self) -> Vec<String> {
        std::mem::take(&mut self.remarks)
    }
}

fn failed(error: &io::Error) -> Error {
    let kind = match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => Kind::NoSpace,
        _ => Stopped::signal_in(error).map_or(Kind::Output, Kind::Interrupted),
    };
    let base = Error::new(kind, "cannot write to standard output").because(plain_io(error));
    match error.kind() {
        io::ErrorKind::BrokenPipe => base.next_step("the program that reads the dump ended first: see what it says"),
        _ => base.next_step("what was written so far is no dump"),
    }
}

/// Where a dump goes.
#[derive(Debug)]
pub enum Output {
    /// A file in the making.
    File(Target),
    /// Standard output.
    Pipe(Pipe),
}

/// Bytes one after the other. A file is written in whole pages, and never has more than was appended: one whose writer is
/// killed ends in the middle of its data and not in zeros.
#[derive(Debug)]
pub struct Stream {
    output: Output,
    written: u64,
    /// What follows that, and is not written yet: less than a page, and nothing of a pipe.
    held: Vec<u8>,
    /// Bytes of the records around them, if there are any.
    records: Option<u64>,
}

impl Stream {
    /// An empty one.
    #[must_use]
    pub fn new(output: Output) -> Self {
        Self { output, written: 0, held: Vec::new(), records: None }
    }

    /// An empty one in the records of a flattened stream, of which `makedumpfile -R` makes the bytes again.
    ///
    /// # Errors
    /// As [`Pipe::write`].
    pub fn flattened(mut pipe: Pipe) -> Result<Self> {
        let header = flattened::header();
        pipe.write(&header)?;
        Ok(Self { records: Some(header.len() as u64), ..Self::new(Output::Pipe(pipe)) })
    }

    fn record(&mut self, record: Record) -> Result<()> {
        if let (Some(sent), Output::Pipe(pipe)) = (&mut self.records, &mut self.output) {
            let bytes = record.encode();
            pipe.write(&bytes)?;
            *sent += bytes.len() as u64;
        }
        Ok(())
    }

    /// Appends all of `bytes`.
    ///
    /// # Errors
    /// As [`Target::write`] and [`Pipe::write`]; what a file then has besides is overwritten or cut off.
    pub fn append(&mut self, bytes: &[u8]) -> Result<()> {
        if !bytes.is_empty() {
            self.record(Record::Data { offset: self.written, len: bytes.len() as u64 })?;
        }
        let target = match &mut self.output {
            Output::File(target) => target,
            Output::Pipe(pipe) => {
                pipe.write(bytes)?;
                self.written += bytes.len() as u64;
                return Ok(());
            }
        };
        target.settle();
        let begun = self.held.len();
        let (first, rest) = bytes.split_at(if begun == 0 { 0 } else { bytes.len().min(PAGE - begun) });
        self.held.extend_from_slice(first);
        if begun > 0 {
            if self.held.len() < PAGE {
                return Ok(());
            }
            target.write(&self.held, self.written)?;
            self.written += PAGE as u64;
            self.held.clear();
        }
        let (whole, last) = rest.split_at(rest.len() / PAGE * PAGE);
        target.write(whole, self.written)?;
        self.written += whole.len() as u64;
        self.held.extend_from_slice(last);
        Ok(())
    }

    /// Ends it. Returns its length with the records around it, bytes.
    ///
    /// # Errors
    /// As [`Target::finish`] and [`Pipe::write`].
    pub fn finish(&mut self) -> Result<u64> {
        self.record(Record::End)?;
        match &mut self.output {
            Output::File(target) => {
                target.write(&self.held, self.written)?;
                self.written += self.held.len() as u64;
                self.held.clear();
                target.finish()?;
            }
            Output::Pipe(pipe) => pipe.finish()?,
        }
        Ok(self.written + self.records.unwrap_or(0))
    }

    /// What was done otherwise than it should be, and not told yet.
    pub fn remarks(&mut self) -> Vec<String> {
        match &mut self.output {
            Output::File(target) => target.remarks(),
            Output::Pipe(pipe) => pipe.remarks(),
        }
    }

    /// Cuts a file back to `len` and appends `end`. A pipe cannot be cut.
    ///
    /// # Errors
    /// As [`Stream::append`].
    pub fn cut(&mut self, len: u64, end: &[u8]) -> Result<()> {
        if let Output::File(target) = &self.output {
            let held = len.saturating_sub(self.written).min(self.held.len() as u64);
            target.write(&self.held[..held as usize], self.written)?;
            target.set_len(len)?;
            target.write(end, len)?;
            self.written = len + end.len() as u64;
            self.held.clear();
        }
        Ok(())
    }

    /// Gives up a file and leaves nothing of it.
    pub fn discard(&mut self) {
        if let Output::File(target) = &mut self.output {
            target.discard();
        }
    }

    /// Whether the file stays when it is given up.
    #[must_use]
    pub fn stays(&self, keep: bool) -> bool {
        matches!(&self.output, Output::File(target) if target.stays(keep))
    }

    /// Gives up; returns the file's name if it stays.
    pub fn abandon(&mut self, keep: bool) -> Option<PathBuf> {
        match &mut self.output {
            Output::File(target) => target.abandon(keep),
            Output::Pipe(_) => None,
        }
    }
}
