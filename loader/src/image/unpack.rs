//! Kernels that are compressed as a whole: gzip, zstd and xz.
//!
//! They are decompressed while they are read, so that the reader decides how much memory that may take. What follows a whole
//! member whose checksum is right is left alone, as zlib's gzread does: padding, a signature, an appended device tree.

use std::{
    fmt,
    io::{self, BufRead, Read},
};

/// Bytes that are read at once.
const BUFFER: usize = 64 << 10;
/// Bytes that tell what follows: the longest magic.
const MAGIC: usize = 6;
/// The largest dictionary of xz that is taken, in KiB: Linux itself uses 128 MiB at most (scripts/xz_wrap.sh).
const MOST_DICTIONARY: u32 = 256 << 10;
/// What its decoder takes beside that, in KiB.
const DECODER: u32 = 1 << 10;

/// By what a kernel is compressed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Compression {
    /// RFC 1952.
    Gzip,
    /// RFC 8878.
    Zstd,
    /// LZMA2 in the .xz format.
    Xz,
}

impl Compression {
    fn of(start: &[u8]) -> Option<Self> {
        let magics: [(&[u8], Self); 3] =
            [(b"\x1f\x8b", Self::Gzip), (b"\x28\xb5\x2f\xfd", Self::Zstd), (b"\xfd7zXZ\0", Self::Xz)];
        magics.into_iter().find_map(|(magic, compression)| start.starts_with(magic).then_some(compression))
    }

    /// Whether `start` begins another member, which belongs to the same file.
    fn goes_on(self, start: &[u8]) -> bool {
        // A frame of zstd that decoders skip may stand between others.
        let skippable = self == Self::Zstd && start.get(1..4) == Some(b"\x2a\x4d\x18") && start[0] >> 4 == 5;
        skippable || Self::of(start) == Some(self)
    }
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
            Self::Xz => "xz",
        })
    }
}

/// The plain bytes of a file, whether it is compressed or not.
pub struct Unpacked<R: Read> {
    state: State<R>,
    compression: Option<Compression>,
}

impl<R: Read> fmt::Debug for Unpacked<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Unpacked").field("compression", &self.compression).finish_non_exhaustive()
    }
}

enum State<R: Read> {
    Plain(Ahead<R>),
    Gzip(Box<flate2::bufread::GzDecoder<Ahead<R>>>),
    Zstd(zstd::stream::read::Decoder<'static, Ahead<R>>),
    Xz(Box<lzma_rust2::XzReader<Ahead<R>>>),
    /// Behind the last member.
    Rest(Ahead<R>),
    /// After an error.
    Failed,
}

impl<R: Read> Unpacked<R> {
    /// Looks at the first bytes.
    ///
    /// # Errors
    /// When they cannot be read, or ask for more memory than any kernel's do.
    pub fn new(file: R) -> io::Result<Self> {
        let mut file = Ahead::new(file);
        match Compression::of(file.peek(MAGIC)?) {
            None => Ok(Self { state: State::Plain(file), compression: None }),
            Some(compression) => Ok(Self { state: State::member(compression, file)?, compression: Some(compression) }),
        }
    }

    /// By what the file is compressed.
    #[must_use]
    pub fn compression(&self) -> Option<Compression> {
        self.compression
    }

    /// Reads on to the end of the file itself, behind what was decompressed; gives the reader back.
    ///
    /// # Errors
    /// When the file cannot be read, or reading it failed before.
    pub fn finish(self) -> io::Result<R> {
        let mut rest = self.state.into_rest().ok_or_else(|| io::Error::other("reading it failed before"))?;
        io::copy(&mut rest, &mut io::sink())?;
        Ok(rest.inner)
    }
}

impl<R: Read> State<R> {
    fn member(compression: Compression, file: Ahead<R>) -> io::Result<Self> {
        Ok(match compression {
            Compression::Gzip => Self::Gzip(Box::new(flate2::bufread::GzDecoder::new(file))),
            // Its own bound for a window is 128 MiB.
            Compression::Zstd => Self::Zstd(zstd::stream::read::Decoder::with_buffer(file)?.single_frame()),
            Compression::Xz => {
                Self::Xz(Box::new(lzma_rust2::XzReader::new_mem_limit(file, false, MOST_DICTIONARY + DECODER)))
            }
        })
    }

    fn into_rest(self) -> Option<Ahead<R>> {
        Some(match self {
            Self::Plain(file) | Self::Rest(file) => file,
            Self::Gzip(decoder) => decoder.into_inner(),
            Self::Zstd(decoder) => decoder.into_inner(),
            Self::Xz(decoder) => decoder.into_inner(),
            Self::Failed => return None,
        })
    }

    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(file) => file.read(buffer),
            Self::Gzip(decoder) => decoder.read(buffer),
            Self::Zstd(decoder) => decoder.read(buffer),
            Self::Xz(decoder) => decoder.read(buffer),
            Self::Rest(_) | Self::Failed => Ok(0),
        }
    }
}

impl<R: Read> Read for Unpacked<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let read = self.state.read(buffer)?;
            let Some(compression) = self.compression else { return Ok(read) };
            if read > 0 || buffer.is_empty() || matches!(self.state, State::Rest(_) | State::Failed) {
                return Ok(read);
            }
            // The member is whole.
            let Some(mut rest) = std::mem::replace(&mut self.state, State::Failed).into_rest() else { return Ok(0) };
            while compression == Compression::Xz && rest.peek(4)?.starts_with(&[0; 4]) {
                rest.consume(4);
            }
            self.state = match compression.goes_on(rest.peek(MAGIC)?) {
                true => State::member(compression, rest)?,
                false => State::Rest(rest),
            };
        }
    }
}

/// A reader whose next bytes can be looked at.
struct Ahead<R> {
    inner: R,
    buffer: Vec<u8>,
    at: usize,
    end: usize,
}

impl<R: Read> Ahead<R> {
    fn new(inner: R) -> Self {
        Self { inner, buffer: vec![0; BUFFER], at: 0, end: 0 }
    }

    /// The next bytes: at least `wanted` of them, if the file has so many.
    fn peek(&mut self, wanted: usize) -> io::Result<&[u8]> {
        while self.end - self.at < wanted.min(BUFFER) {
            self.buffer.copy_within(self.at..self.end, 0);
            (self.at, self.end) = (0, self.end - self.at);
            match self.inner.read(&mut self.buffer[self.end..]) {
                Ok(0) => break,
                Ok(read) => self.end += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(&self.buffer[self.at..self.end])
    }
}

impl<R: Read> Read for Ahead<R> {
    /// Whole where a few bytes are asked for: the reader of xz takes less for the end.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let bytes = self.peek(buffer.len().clamp(1, 64))?;
        let len = bytes.len().min(buffer.len());
        buffer[..len].copy_from_slice(&bytes[..len]);
        self.consume(len);
        Ok(len)
    }
}

impl<R: Read> BufRead for Ahead<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.peek(1)
    }

    fn consume(&mut self, len: usize) {
        self.at = (self.at + len).min(self.end);
    }
}
