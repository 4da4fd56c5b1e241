//! `vdump merge`: the parts of a split dump in one file, or a flattened stream put in order.
//!
//! Knows which of the two is asked for. Parts go the way of `vdump convert`, but for the pages, which are copied as they
//! are stored; a stream goes by itself, record by record as it comes.

use std::{
    fs::File,
    io::{self, IsTerminal as _, Read},
    os::fd::AsFd as _,
};

use serde::Serialize;
use zerocopy::FromBytes as _;

use super::filter;
use crate::{
    cli::{Merge, ProgressStyle},
    error::{Error, Kind, Result, plain_io, printable},
    format::{
        diskdump::{DESC_SIZE, Header, SIGNATURE, SubHeader},
        flattened::{HEADER, RECORD, Record, is_header},
    },
    medium::{Inputs, Target},
    report::{Head, human_bytes},
    sys::stop::{Stopped, until_readable},
};

pub(super) fn run(merge: &Merge) -> Result<()> {
    let standard_input = |name: &std::path::PathBuf| name.as_os_str() == "-";
    match merge.files.as_slice() {
        [input, output] if standard_input(input) => {
            if standard_input(output) {
                return Err(to_a_pipe());
            }
            if merge.strict {
                return Err(Error::new(Kind::Usage, "cannot look into the pages of a stream")
                    .because("they are written as they come")
                    .next_step("leave out --strict, and ask 'vdump check' when the dump is there"));
            }
            rearrange(merge)
        }
        [inputs @ .., _] if inputs.iter().any(standard_input) => {
            Err(Error::new(Kind::Usage, "cannot read a part of a split dump from standard input")
                .because("pages must be read in any order")
                .next_step("save it to a file, or give '-' alone for a flattened dump"))
        }
        [.., output] if standard_input(output) => Err(to_a_pipe()),
        _ => filter::run(&merge.as_filter()),
    }
}

fn to_a_pipe() -> Error {
    Error::new(Kind::Usage, "cannot merge to standard output")
        .because("the dump is not written from its start to its end")
        .next_step("name an output file, or use 'vdump convert PART... -'")
}

/// What came of a stream.
#[derive(Debug, Default, Serialize)]
struct Rearranged {
    output: String,
    records: u64,
    bytes_read: u64,
    bytes_written: u64,
    warnings: Vec<String>,
}

/// Read at a time, and held.
const BLOCK: usize = 1 << 20;
const DAMAGED: &str = "the stream was truncated or damaged on its way: send it again";

/// Writes each record where it belongs, as it comes: what a later one has again is overwritten, as `makedumpfile -R` does it.
fn rearrange(merge: &Merge) -> Result<()> {
    let [_, output] = merge.files.as_slice() else {
        return Ok(());
    };
    super::stop_on_signals()?;
    let mut stream = Stream::open()?;
    stream.header()?;
    let inputs = Inputs::opened(std::slice::from_ref(&stream.file));
    let mut target = Target::create(output, merge.force, &inputs)?.limited(merge.limit);
    let mut found = Rearranged { output: output.display().to_string(), ..Rearranged::default() };
    let done = copy(&mut stream, &mut target, &mut found).and_then(|()| target.finish());
    found.warnings.extend(target.remarks());
    if let Err(error) = done {
        // How long a stream is nobody knows before its end: all that came stays, and nothing that is nothing.
        if found.records == 0 {
            target.discard();
        }
        let partial = target.abandon(found.records > 0);
        let error = error.leaving(partial.as_slice());
        let left = match partial {
            Some(partial) => format!("{} has what came until then", partial.display()),
            None => "no dump was written".to_owned(),
        };
        return Err(match error.kind() {
            Kind::Input => error.next_step(format!("{DAMAGED}; {left}")),
            _ => error.or_next_step(left),
        });
    }
    found.bytes_read = stream.at;
    say(merge, &found)
}

fn say(merge: &Merge, found: &Rearranged) -> Result<()> {
    for warning in &found.warnings {
        super::note(warning);
    }
    if merge.report.json {
        return super::print_json(&Head::new("merge", &["-"]), found);
    }
    if merge.progress.progress != ProgressStyle::None {
        let Rearranged { output, records, bytes_written, .. } = found;
        let _ = io::Write::write_fmt(
            &mut io::stderr(),
            format_args!("{} has {} from {records} records\n", printable(output), human_bytes(*bytes_written)),
        );
    }
    Ok(())
}

fn copy(stream: &mut Stream, target: &mut Target, found: &mut Rearranged) -> Result<()> {
    let mut block = vec![0; BLOCK];
    let mut start = Vec::new();
    let mut most = MOST_FILE;
    loop {
        let at = stream.at;
        let mut header = [0; RECORD as usize];
        let got = stream.fill(&mut header)?;
        if got < header.len() {
            return Err(stream.ends_early(at));
        }
        let (offset, len) = match Record::parse(&header) {
            Some(Record::End) => break,
            Some(Record::Data { offset, len }) => (offset, len),
            None => {
                return Err(broken(format!("its record at byte {at} has an impossible offset or size")));
            }
        };
        let end = offset.checked_add(len).filter(|end| *end <= most);
        let Some(end) = end else {
            let cause =
                format!("its record at byte {at} belongs to byte {offset}, and the dump has {most} bytes at most");
            return Err(broken(cause));
        };
        let mut done = 0;
        while done < len {
            let part = (len - done).min(BLOCK as u64) as usize;
            let got = stream.fill(&mut block[..part])?;
            target.write(&block[..got], offset + done)?;
            if offset + done == 0 {
                start = block[..got.min(16)].to_vec();
                most = most_bytes(&block[..got]).map_or(MOST_FILE, |bytes| bytes.min(MOST_FILE));
            }
            done += got as u64;
            if got < part {
                return Err(stream.ends_early(at));
            }
        }
        target.settle();
        found.records += 1;
        found.bytes_written = found.bytes_written.max(end);
    }
    if found.bytes_written > most {
        // Its records came before the header.
        let bytes = found.bytes_written;
        return Err(broken(format!("it has {bytes} bytes, and by its header {most} bytes at most")));
    }
    if found.records == 0 {
        return Err(broken("it has no records".to_owned()));
    }
    if !start.starts_with(b"\x7fELF") && !start.starts_with(b"KDUMP   ") && !start.starts_with(b"DISKDUMP") {
        found.warnings.push("what came is neither an ELF core nor a kdump-compressed dump".to_owned());
    }
    if stream.fill(&mut [0])? > 0 {
        found.warnings.push("something follows the end of the dump on standard input: it was not read".to_owned());
    }
    Ok(())
}

/// More than any dump has: 64 TiB of memory, as much as Linux has run on, with what is around it.
const MOST_FILE: u64 = 65 << 40;

/// The most bytes that the dump which begins so can have: a kdump file has a descriptor and no more than a page of data for each
/// page frame, behind bitmaps and notes. `None`: that is not known.
fn most_bytes(start: &[u8]) -> Option<u64> {
    /// For notes, and for the list of what was erased at the end.
    const NOTES: u64 = 1 << 30;
    let (header, rest) = Header::read_from_prefix(start).ok()?;
    let block = u64::from(header.block_size.get());
    if header.signature != SIGNATURE || !block.is_power_of_two() {
        return None;
    }
    let sub = rest.get((block as usize).checked_sub(size_of::<Header>())?..).unwrap_or_default();
    let frames = match (header.max_mapnr.get(), SubHeader::read_from_prefix(sub)) {
        (frames, Ok((sub, _))) if header.header_version.get() >= 6 => sub.max_mapnr_64.get().max(frames.into()),
        // It did not fit.
        (u32::MAX, _) => return None,
        (frames, _) => frames.into(),
    };
    let front =
        (1 + u64::from(header.sub_hdr_size.get()) + u64::from(header.bitmap_blocks.get())).checked_mul(block)?;
    frames.checked_mul(block + DESC_SIZE)?.checked_add(front)?.checked_add(NOTES)
}

fn broken(cause: String) -> Error {
    Error::input("cannot put the flattened dump on standard input in order").because(cause)
}

/// Standard input, read once from its start to its end.
struct Stream {
    file: File,
    at: u64,
}

impl Stream {
    fn open() -> Result<Self> {
        let stdin = io::stdin();
        if stdin.is_terminal() {
            return Err(Error::new(Kind::Usage, "cannot read a dump from a terminal")
                .next_step("pipe it in, for example: vdump merge - vmcore < stream"));
        }
        let file = stdin.as_fd().try_clone_to_owned().map_err(|error| unreadable(&error))?;
        Ok(Self { file: file.into(), at: 0 })
    }

    fn header(&mut self) -> Result<()> {
        let mut block = vec![0; HEADER as usize];
        let got = self.fill(&mut block)?;
        if is_header(&block[..got]) && got == block.len() {
            return Ok(());
        }
        let next = match &block[..got.min(8)] {
            [] => "nothing came: see what the program that writes the dump says",
            b"KDUMP   " | [0x7f, b'E', b'L', b'F', ..] => "it is a dump already: save it as it is ('cat > vmcore')",
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x04, 0x22, 0x4d, 0x18, ..] => {
                "decompress it first: zstd -dc or lz4 -dc stream | vdump merge - vmcore"
            }
            [b'm', ..] => DAMAGED,
            _ => "give what 'makedumpfile -F' or 'vdump filter INPUT -' writes",
        };
        Err(broken("it does not begin like one".to_owned()).next_step(next))
    }

    /// Reads until `buf` is full or the stream ends; returns how many bytes there were.
    fn fill(&mut self, buf: &mut [u8]) -> Result<usize> {
        let mut got = 0;
        while got < buf.len() {
            until_readable(&self.file).map_err(|error| unreadable(&error))?;
            match self.file.read(&mut buf[got..]) {
                Ok(0) => break,
                Ok(more) => got += more,
                Err(error) if matches!(error.kind(), io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock) => {}
                Err(error) => return Err(unreadable(&error)),
            }
        }
        self.at += got as u64;
        Ok(got)
    }

    fn ends_early(&self, record: u64) -> Error {
        let whole = if self.at == record { "without the end mark" } else { "in the middle of a record" };
        broken(format!("it ends at byte {} {whole}", self.at))
    }
}

fn unreadable(error: &io::Error) -> Error {
    match Stopped::signal_in(error) {
        Some(signal) => Error::stopped(signal, "while the dump came"),
        None => Error::input("cannot read standard input").because(plain_io(error)),
    }
}
