//! SHA-256 of what is loaded, and of the files that it came from.

use std::io::{self, Read};

use sha2::{Digest as _, Sha256};

/// A digest.
pub type Digest = [u8; 32];

/// Everything that a reader has left; needs no memory for it.
///
/// # Errors
/// When it cannot be read.
pub fn of_reader(from: impl Read) -> io::Result<Digest> {
    let mut hashing = Hashing::new(from);
    io::copy(&mut hashing, &mut io::sink())?;
    Ok(hashing.digest())
}

/// A digest in hexadecimal.
#[must_use]
pub fn hex(digest: &Digest) -> String {
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Passes bytes on, and digests them.
#[derive(Debug)]
pub struct Hashing<R> {
    inner: R,
    hash: Sha256,
}

impl<R: Read> Hashing<R> {
    /// Before the first byte.
    pub fn new(inner: R) -> Self {
        Self { inner, hash: Sha256::new() }
    }

    /// The digest of what was read so far.
    #[must_use]
    pub fn digest(self) -> Digest {
        self.hash.finalize().into()
    }
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.hash.update(&buffer[..read]);
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_digests() {
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(hex(&of_reader(b"abc".as_slice()).unwrap()), abc);
        let mut hashing = Hashing::new(b"abcd".as_slice());
        hashing.read_exact(&mut [0; 3]).unwrap();
        assert_eq!(hex(&hashing.digest()), abc);
    }
}
