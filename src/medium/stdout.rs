//! Standard output: bytes one after the other, to whoever reads them.

use std::io::{self, Write as _};

use super::{Inputs, target::not_synced};
use crate::{
    error::{Error, Kind, Result, plain_io},
    sink::{Medium, Order, RandomWrites},
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
}

impl Medium for Pipe {
    fn order(&self) -> Order {
        Order::Forward
    }

    fn announce(&mut self, _offset: u64, _len: u64) -> Result<()> {
        Ok(())
    }

    /// However long the reader takes.
    fn write(&mut self, bytes: &[u8], _offset: u64) -> Result<()> {
        self.room = self.room.checked_sub(bytes.len() as u64).ok_or_else(|| {
            Error::new(Kind::NoSpace, "cannot write to standard output")
                .because("the limit of its size is reached")
                .next_step("what was written so far is no dump")
        })?;
        self.out.write_all(bytes).map_err(|error| failed(&error))
    }

    /// Brings what was written to the disk, if standard output is a file.
    fn finish(&mut self) -> Result<()> {
        let unsure = self.out.sync().map_err(|error| failed(&error))?;
        self.remarks.extend(unsure.map(|error| not_synced(&"the dump on standard output", &error)));
        Ok(())
    }

    fn remarks(&mut self) -> Vec<String> {
        std::mem::take(&mut self.remarks)
    }

    fn into_random(self: Box<Self>) -> Result<Box<dyn RandomWrites>, Box<dyn Medium>> {
        Err(self)
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
