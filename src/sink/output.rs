//! Where a stream of bytes goes: a file, or standard output.
//!
//! Knows how to append and how each of them ends. Must not know formats. Used by the sinks that write in one pass.

use std::{
    fs::File,
    io::{self, IsTerminal as _, Write as _},
    os::fd::AsFd as _,
    path::PathBuf,
};

use super::Target;
use crate::{
    error::{Error, Kind, Result, plain_io},
    format::flattened::{self, Record},
};

/// Standard output as the place of a dump.
#[derive(Debug)]
pub struct Pipe {
    file: File,
    /// How many bytes may still follow.
    room: u64,
}

impl Pipe {
    /// Takes standard output, for so many bytes at most.
    ///
    /// # Errors
    /// It is a terminal, or closed.
    pub fn standard_output(limit: Option<u64>) -> Result<Self> {
        let stdout = io::stdout();
        if stdout.is_terminal() {
            return Err(Error::new(Kind::Usage, "cannot write a dump to a terminal")
                .next_step("pipe it into a program or name an output file"));
        }
        let file = stdout.as_fd().try_clone_to_owned().map_err(|error| failed(&error))?;
        Ok(Self { file: file.into(), room: limit.unwrap_or(u64::MAX) })
    }

    /// Writes all of `bytes`.
    ///
    /// # Errors
    /// The reader is gone, or the device behind it is full or fails, or the limit is reached.
    pub fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.room = self.room.checked_sub(bytes.len() as u64).ok_or_else(|| {
            Error::new(Kind::NoSpace, "cannot write to standard output")
                .because("the limit of its size is reached")
                .next_step("what was written so far is no dump")
        })?;
        self.file.write_all(bytes).map_err(|error| failed(&error))
    }
}

fn failed(error: &io::Error) -> Error {
    let base = match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => Kind::NoSpace,
        _ => Kind::Output,
    };
    let base = Error::new(base, "cannot write to standard output").because(plain_io(error));
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

/// Bytes one after the other.
#[derive(Debug)]
pub struct Stream {
    output: Output,
    len: u64,
    /// Bytes of the records around them, if there are any.
    records: Option<u64>,
}

impl Stream {
    /// An empty one.
    #[must_use]
    pub fn new(output: Output) -> Self {
        Self { output, len: 0, records: None }
    }

    /// An empty one in the records of a flattened stream, of which `makedumpfile -R` makes the bytes again.
    ///
    /// # Errors
    /// As [`Pipe::write`].
    pub fn flattened(mut pipe: Pipe) -> Result<Self> {
        let header = flattened::header();
        pipe.write(&header)?;
        Ok(Self { output: Output::Pipe(pipe), len: 0, records: Some(header.len() as u64) })
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
            self.record(Record::Data { offset: self.len, len: bytes.len() as u64 })?;
        }
        match &mut self.output {
            Output::File(target) => {
                target.write(bytes, self.len)?;
                target.settle();
            }
            Output::Pipe(pipe) => pipe.write(bytes)?,
        }
        self.len += bytes.len() as u64;
        Ok(())
    }

    /// Ends it. Returns its length with the records around it, bytes.
    ///
    /// # Errors
    /// As [`Target::finish`] and [`Pipe::write`].
    pub fn finish(&mut self) -> Result<u64> {
        self.record(Record::End)?;
        if let Output::File(target) = &mut self.output {
            target.finish()?;
        }
        Ok(self.len + self.records.unwrap_or(0))
    }

    /// Cuts a file back to `len` and appends `end`. A pipe cannot be cut.
    ///
    /// # Errors
    /// As [`Stream::append`].
    pub fn cut(&mut self, len: u64, end: &[u8]) -> Result<()> {
        if let Output::File(target) = &self.output {
            target.set_len(len)?;
            target.write(end, len)?;
            self.len = len + end.len() as u64;
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
