//! Numbers as a kernel's memory has them: its byte order, and the width of its `unsigned long`.

/// How a kernel's numbers lie in memory. The order is the *kernel's*: the container of a dump may have another.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Words {
    big_endian: bool,
    /// Bytes of an `unsigned long` and of a pointer: 4 or 8.
    long: u8,
}

impl Words {
    /// Little-endian, 64 bits.
    pub const LE64: Self = Self { big_endian: false, long: 8 };

    /// The same order with an `unsigned long` of 32 bits.
    #[must_use]
    pub const fn narrow(self) -> Self {
        Self { long: 4, ..self }
    }

    /// The other order.
    #[must_use]
    pub const fn big_endian(self) -> Self {
        Self { big_endian: true, ..self }
    }

    /// Bytes of an `unsigned long`.
    #[must_use]
    #[inline]
    pub const fn long_size(self) -> usize {
        self.long as usize
    }

    /// All bits of an `unsigned long`.
    #[must_use]
    pub const fn long_mask(self) -> u64 {
        if self.long == 4 { u32::MAX as u64 } else { u64::MAX }
    }

    /// A number of 2 bytes.
    #[must_use]
    #[inline]
    pub const fn u16(self, bytes: [u8; 2]) -> u16 {
        if self.big_endian { u16::from_be_bytes(bytes) } else { u16::from_le_bytes(bytes) }
    }

    /// A number of 4 bytes.
    #[must_use]
    #[inline]
    pub const fn u32(self, bytes: [u8; 4]) -> u32 {
        if self.big_endian { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) }
    }

    /// A number of 8 bytes.
    #[must_use]
    #[inline]
    pub const fn u64(self, bytes: [u8; 8]) -> u64 {
        if self.big_endian { u64::from_be_bytes(bytes) } else { u64::from_le_bytes(bytes) }
    }

    /// A number of as many bytes as there are, at most 8.
    #[must_use]
    pub fn number(self, bytes: &[u8]) -> u64 {
        let next = |number: u64, byte: &u8| number << 8 | u64::from(*byte);
        if self.big_endian { bytes.iter().fold(0, next) } else { bytes.iter().rev().fold(0, next) }
    }

    /// The 2 bytes at `at`; `None` outside of `bytes`.
    #[must_use]
    pub fn u16_at(self, bytes: &[u8], at: usize) -> Option<u16> {
        array_at(bytes, at).map(|bytes| self.u16(bytes))
    }

    /// The 4 bytes at `at`; `None` outside of `bytes`.
    #[must_use]
    pub fn u32_at(self, bytes: &[u8], at: usize) -> Option<u32> {
        array_at(bytes, at).map(|bytes| self.u32(bytes))
    }

    /// The 8 bytes at `at`; `None` outside of `bytes`.
    #[must_use]
    pub fn u64_at(self, bytes: &[u8], at: usize) -> Option<u64> {
        array_at(bytes, at).map(|bytes| self.u64(bytes))
    }

    /// The `unsigned long` at `at`; `None` outside of `bytes`.
    #[must_use]
    #[inline]
    pub fn long_at(self, bytes: &[u8], at: usize) -> Option<u64> {
        if self.long == 4 { self.u32_at(bytes, at).map(u64::from) } else { self.u64_at(bytes, at) }
    }
}

#[inline]
fn array_at<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at.checked_add(N)?)?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_and_width_are_the_kernels() {
        let bytes = [1, 2, 3, 4, 5, 6, 7, 8, 9];
        let (le, be) = (Words::LE64, Words::LE64.big_endian());
        assert_eq!((le.u16_at(&bytes, 1), be.u16_at(&bytes, 1)), (Some(0x0302), Some(0x0203)));
        assert_eq!((le.u32_at(&bytes, 5), be.u32_at(&bytes, 5)), (Some(0x0908_0706), Some(0x0607_0809)));
        assert_eq!((le.u32_at(&bytes, 6), le.u32_at(&bytes, usize::MAX)), (None, None));
        assert_eq!(le.long_at(&bytes, 0), Some(0x0807_0605_0403_0201));
        assert_eq!(be.long_at(&bytes, 0), Some(0x0102_0304_0506_0708));
        assert_eq!(
            (le.narrow().long_at(&bytes, 0), be.narrow().long_at(&bytes, 0)),
            (Some(0x0403_0201), Some(0x0102_0304))
        );
        assert_eq!((le.narrow().long_size(), be.long_mask(), be.narrow().long_mask()), (4, u64::MAX, 0xffff_ffff));
        for width in 0..=8 {
            let number = bytes[..width].iter().fold(0, |number, byte| number << 8 | u64::from(*byte));
            assert_eq!(be.number(&bytes[..width]), number);
            assert_eq!(le.number(&bytes[..width]).swap_bytes() >> (64 - 8 * width.max(1)), number);
        }
    }
}
