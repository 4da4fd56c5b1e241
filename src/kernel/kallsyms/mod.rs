//! Knows the kernel's own symbol table (kallsyms): its compressed names and its four ways to store addresses.
//! Must not know what a symbol is good for; keeps only the 64 KiB piece it is reading.
//! The addresses go to the layout's merge, which prefers VMCOREINFO and debug info where they have the symbol.

use std::collections::HashMap;

use crate::{
    layout::VmcoreInfo,
    memory::{
        ReadVirt, ReadVirtError,
        window::{Window, WindowError},
    },
};

/// Most symbols believed. Distribution kernels have 100 to 250 thousand.
const MAX_SYMBOLS: u32 = 4 << 20;
/// Most bytes of compressed names read; real tables have 10 to 16 bytes per symbol.
const MAX_NAMES: u64 = 64 << 20;
/// Longest name kept: KSYM_NAME_LEN, 512 since kernel commit b8a94bfb3395 ("kallsyms: increase maximum kernel symbol
/// length to 512"), v6.1. A longer one is skipped, not cut.
const MAX_NAME: usize = 512;
/// A token is at most a whole name.
const TOKENS: usize = 256;

/// Why kallsyms cannot be used; the caller then goes without.
#[derive(Debug, thiserror::Error)]
pub enum KallsymsError {
    /// The kernel does not say where its tables are.
    #[error(
        "VMCOREINFO lacks SYMBOL({symbol}), so the kernel's own symbol table cannot be used (kernels export it since \
         v6.0, with CONFIG_KALLSYMS); name the kernel's vmlinux instead"
    )]
    Missing {
        /// The missing symbol.
        symbol: &'static str,
    },
    /// A table cannot be read.
    #[error("cannot read {table}: {cause}")]
    Read {
        /// The table's symbol.
        table: &'static str,
        /// The failed read.
        cause: ReadVirtError,
    },
    /// A table holds what no kernel writes.
    #[error("{table} is damaged: {what}")]
    Damaged {
        /// The table's symbol.
        table: &'static str,
        /// What is wrong, in words.
        what: &'static str,
    },
    /// No way of decoding gives `_stext` the address that VMCOREINFO says.
    #[error("kallsyms gives _stext no address that equals VMCOREINFO's {expected:#x}; its arrangement is unknown")]
    Unverified {
        /// SYMBOL(_stext).
        expected: u64,
    },
}

/// How the addresses are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Addresses {
    /// One word per symbol in `kallsyms_addresses`. The only way before v4.6, one of several until kernel commit
    /// 64e166099b69 ("kallsyms: get rid of code for absolute kallsyms"), v6.11.
    Absolute,
    /// 32-bit offsets from `kallsyms_relative_base`: kernel commit 2213e9a66bb8 ("kallsyms: add support for relative
    /// offsets in kallsyms address table"), v4.6.
    Relative,
    /// As before, but a value that is not negative is an absolute (per-CPU) address, and a negative one counts from
    /// base - 1 downwards. x86-64 with SMP, from v4.6 until kernel commit 01157ddc58dc ("kallsyms: Remove
    /// KALLSYMS_ABSOLUTE_PERCPU"), v6.15.
    AbsolutePercpu,
    /// Signed 32-bit offsets from the place of the offset itself, and no base any more: kernel commit a081b5789255
    /// ("kallsyms: Get rid of kallsyms relative base"), v7.0.
    PlaceRelative,
}

/// How the length in front of each name is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lengths {
    /// One byte, up to 255 tokens.
    Byte,
    /// One byte, or two when bit 7 is set (low seven bits first): kernel commit 73bbb94466fd ("kallsyms: support "big"
    /// kernel symbols"), v6.1. Nothing in VMCOREINFO tells; for names below 128 tokens both are the same.
    Big,
}

/// The first of the names in a piece of the table.
enum First<'a> {
    /// It lies in the piece.
    Whole { compressed: &'a [u8], after: &'a [u8] },
    /// The piece would need as many bytes as this, at least.
    Needs(usize),
}

impl Lengths {
    /// A name is at most 2^14 bytes long, less than a piece.
    fn first_of(self, bytes: &[u8]) -> Result<First<'_>, KallsymsError> {
        let (head, len) = match *bytes {
            [] => return Ok(First::Needs(1)),
            [low, ref more @ ..] if self == Self::Big && low & 0x80 != 0 => match more.first() {
                None => return Ok(First::Needs(2)),
                Some(high) if high & 0x80 != 0 => return Err(damaged_names("a length of three bytes")),
                Some(high) => (2, usize::from(low & 0x7f) | usize::from(*high) << 7),
            },
            [len, ..] => (1, usize::from(len)),
        };
        Ok(match bytes.get(head..).and_then(|rest| rest.split_at_checked(len)) {
            Some((compressed, after)) => First::Whole { compressed, after },
            None => First::Needs(head + len),
        })
    }
}

/// The symbol table of the crashed kernel, verified against VMCOREINFO's `_stext`.
pub struct Kallsyms<'m> {
    mem: &'m dyn ReadVirt,
    names: u64,
    count: u32,
    tokens: Tokens,
    lengths: Lengths,
    table: u64,
    base: u64,
    word: usize,
    addresses: Addresses,
}

impl<'m> Kallsyms<'m> {
    /// Finds the tables and how they are arranged; reads all names once.
    ///
    /// # Errors
    /// `KallsymsError` when the tables are not exported, unreadable or damaged, or when no known arrangement gives
    /// `_stext` its address. The caller then goes without kallsyms.
    pub fn load(info: &VmcoreInfo, mem: &'m dyn ReadVirt) -> Result<Self, KallsymsError> {
        Self::load_looking_for(info, mem, &[]).map(|(this, _)| this)
    }

    /// The addresses of `names`, in their order; of a name that occurs more than once, the first in the table.
    ///
    /// All names are searched in the pass in which the arrangement is found. A symbol of a per-CPU variable has its offset in
    /// the per-CPU area as address up to v6.14 on x86-64.
    ///
    /// # Errors
    /// As [`Kallsyms::load`].
    pub fn find(info: &VmcoreInfo, mem: &'m dyn ReadVirt, names: &[&str]) -> Result<Vec<Option<u64>>, KallsymsError> {
        let (this, indices) = Self::load_looking_for(info, mem, names)?;
        indices.into_iter().map(|index| index.map(|i| this.address(i)).transpose()).collect()
    }

    /// The table, and the index of each name.
    fn load_looking_for(
        info: &VmcoreInfo,
        mem: &'m dyn ReadVirt,
        names: &[&str],
    ) -> Result<(Self, Vec<Option<u32>>), KallsymsError> {
        let wanted: Vec<&str> = [&["_stext"], names].concat();
        let symbol = |symbol| info.symbol(symbol).ok_or(KallsymsError::Missing { symbol });
        let expected = symbol("_stext")?;
        let names = symbol("kallsyms_names")?;
        let count = number(mem, symbol("kallsyms_num_syms")?, 4, "kallsyms_num_syms")? as u32;
        if count == 0 || count > MAX_SYMBOLS {
            return Err(KallsymsError::Damaged { table: "kallsyms_num_syms", what: "not between 1 and 4 Mi" });
        }
        let tokens = Tokens::load(mem, symbol("kallsyms_token_table")?, symbol("kallsyms_token_index")?)?;
        let word = if info.size("atomic_long_t") == Some(4) { 4 } else { 8 };
        let (table, base, arrangements): (_, _, &[_]) = match info.symbol("kallsyms_offsets") {
            None => (symbol("kallsyms_addresses")?, 0, &[Addresses::Absolute]),
            Some(table) => match info.symbol("kallsyms_relative_base") {
                // Where a 32-bit kernel cannot be relocated, the "offset" is the address itself.
                None => (table, 0, &[Addresses::PlaceRelative, Addresses::Relative]),
                Some(at) => {
                    let base = number(mem, at, word, "kallsyms_relative_base")?;
                    (table, base, &[Addresses::AbsolutePercpu, Addresses::Relative])
                }
            },
        };
        let addresses = Addresses::Absolute;
        let mut this = Self { mem, names, count, tokens, lengths: Lengths::Big, table, base, word, addresses };
        let mut damage = None;
        for lengths in [Lengths::Big, Lengths::Byte] {
            this.lengths = lengths;
            match this.indices(&wanted) {
                Ok(mut found) => {
                    let names = found.split_off(1);
                    let Some(index) = found.first().copied().flatten() else {
                        continue;
                    };
                    for &addresses in arrangements {
                        this.addresses = addresses;
                        if this.address(index)? == expected {
                            return Ok((this, names));
                        }
                    }
                }
                // The first failure is the telling one: `Big` fits every kernel that has names of both kinds.
                Err(error) => damage = damage.or(Some(error)),
            }
        }
        Err(damage.unwrap_or(KallsymsError::Unverified { expected }))
    }

    /// The address of each name that only one variable or function has, or only one that all files see: of several with one
    /// name nobody could say which is meant.
    ///
    /// # Errors
    /// A table is unreadable or damaged.
    pub fn lookup_one(&self, names: &[&str]) -> Result<Vec<Option<u64>>, KallsymsError> {
        // Of each name: how many are seen by their own file only, how many by all, and the first of the better kind.
        let mut found: HashMap<&[u8], [Vec<u32>; 2]> =
            names.iter().map(|name| (name.as_bytes(), Default::default())).collect();
        self.scan(&Shapes::of(names), &mut |name, kind, index| {
            if let Some([own, all]) = found.get_mut(name) {
                let side = if kind.is_ascii_uppercase() { all } else { own };
                // Two say as much as a thousand.
                if side.len() < 2 {
                    side.push(index);
                }
            }
        })?;
        let one = |name: &&str| match found.get(name.as_bytes()) {
            Some([_, all]) if all.len() == 1 => Some(all[0]),
            Some([own, all]) if all.is_empty() && own.len() == 1 => Some(own[0]),
            _ => None,
        };
        names.iter().map(|name| one(name).map(|index| self.address(index)).transpose()).collect()
    }

    /// The table index of each name. Reads all names, also after the last match: a wrong idea of the lengths shows in
    /// some later name.
    fn indices(&self, wanted: &[&str]) -> Result<Vec<Option<u32>>, KallsymsError> {
        let mut found: HashMap<&[u8], Option<u32>> = wanted.iter().map(|name| (name.as_bytes(), None)).collect();
        self.scan(&Shapes::of(wanted), &mut |name, _, index| {
            if let Some(slot) = found.get_mut(name) {
                slot.get_or_insert(index);
            }
        })?;
        Ok(wanted.iter().map(|name| found.get(name.as_bytes()).copied().flatten()).collect())
    }

    /// Hands over every name of these shapes with its type letter and index.
    fn scan(&self, shapes: &Shapes, each: &mut dyn FnMut(&[u8], u8, u32)) -> Result<(), KallsymsError> {
        let mut window = Window::new(self.mem, self.names, MAX_NAMES);
        let mut name = Vec::with_capacity(MAX_NAME);
        // Where the names lie that are not gone through, and how many bytes the first of them needs.
        let (mut at, mut needs) = (0, 1);
        let mut index = 0;
        while index < self.count {
            let held = window.at_least(at, needs).map_err(|e| failed("kallsyms_names", e))?;
            let mut rest = held;
            while index < self.count {
                match self.lengths.first_of(rest)? {
                    First::Whole { compressed, after } => {
                        self.hand_over(compressed, index, shapes, &mut name, each)?;
                        rest = after;
                        index += 1;
                    }
                    First::Needs(bytes) => {
                        needs = bytes;
                        break;
                    }
                }
            }
            at += (held.len() - rest.len()) as u64;
        }
        Ok(())
    }

    /// Expands a name into `name`, if it has one of these shapes.
    fn hand_over(
        &self,
        compressed: &[u8],
        index: u32,
        shapes: &Shapes,
        name: &mut Vec<u8>,
        each: &mut dyn FnMut(&[u8], u8, u32),
    ) -> Result<(), KallsymsError> {
        // The first character is nm's type letter. `?` stands for a section nm could not tell.
        let kind = self.tokens.first(compressed);
        let Some(kind) = kind.filter(|kind| kind.is_ascii_alphabetic() || *kind == b'?') else {
            return Err(damaged_names("a name without type letter"));
        };
        // Few of some hundred thousand names are worth making.
        let last = self.tokens.last(compressed);
        if shapes.end_in(last) && shapes.have(self.tokens.len(compressed) - 1, last) {
            self.tokens.expand(compressed, name);
            each(name.get(1..).unwrap_or_default(), kind, index);
        }
        Ok(())
    }

    fn address(&self, index: u32) -> Result<u64, KallsymsError> {
        let wide = self.addresses == Addresses::Absolute;
        let step = if wide { self.word as u64 } else { 4 };
        // Wrapping: an address out of range is caught when it is read.
        let place = self.table.wrapping_add(step * u64::from(index));
        if wide {
            return number(self.mem, place, self.word, "kallsyms_addresses");
        }
        let offset = (number(self.mem, place, 4, "kallsyms_offsets")? as u32).cast_signed();
        let (signed, unsigned) = (i64::from(offset), u64::from(offset.cast_unsigned()));
        let address = match self.addresses {
            Addresses::Absolute | Addresses::Relative => self.base.wrapping_add(unsigned),
            Addresses::AbsolutePercpu if offset >= 0 => unsigned,
            Addresses::AbsolutePercpu => self.base.wrapping_sub(1).wrapping_sub(signed.cast_unsigned()),
            Addresses::PlaceRelative => place.wrapping_add_signed(signed),
        };
        Ok(if self.word == 4 { address & u64::from(u32::MAX) } else { address })
    }
}

/// Lengths of names, each with the last characters that names of it have: a test that costs less than the name. And the
/// last characters of all: a test that costs less than the length.
struct Shapes {
    of_length: Vec<[u64; 4]>,
    all: [u64; 4],
}

impl Shapes {
    fn of(names: &[&str]) -> Self {
        let (mut of_length, mut all) = (vec![[0u64; 4]; MAX_NAME + 1], [0u64; 4]);
        for name in names.iter().filter(|name| name.len() <= MAX_NAME) {
            let last = name.bytes().last().unwrap_or(0);
            for lasts in [&mut of_length[name.len()], &mut all] {
                lasts[usize::from(last >> 6)] |= 1 << (last & 63);
            }
        }
        Self { of_length, all }
    }

    fn end_in(&self, last: u8) -> bool {
        self.all[usize::from(last >> 6)] >> (last & 63) & 1 == 1
    }

    fn have(&self, len: usize, last: u8) -> bool {
        self.of_length.get(len).is_some_and(|lasts| lasts[usize::from(last >> 6)] >> (last & 63) & 1 == 1)
    }
}

/// The 256 strings that the bytes of a compressed name stand for.
struct Tokens {
    table: Vec<u8>,
    ranges: Vec<std::ops::Range<usize>>,
    /// Length, first and last character of each; no character is 0, so that stands for none.
    briefs: [(u16, u8, u8); TOKENS],
}

impl Tokens {
    fn load(mem: &dyn ReadVirt, table: u64, index: u64) -> Result<Self, KallsymsError> {
        let raw: [u8; TOKENS * 2] = read(mem, index, "kallsyms_token_index")?;
        let starts = raw.as_chunks().0.iter().map(|&pair| usize::from(mem.words().u16(pair)));
        // The table's length is stored nowhere: it ends with the string that begins last.
        let last = starts.clone().max().unwrap_or(0);
        let mut window = Window::new(mem, table, (usize::from(u16::MAX) + MAX_NAME) as u64);
        let mut bytes = Vec::new();
        while bytes.len() <= last || bytes.last() != Some(&0) {
            if bytes.len() >= last + MAX_NAME {
                return Err(KallsymsError::Damaged {
                    table: "kallsyms_token_table",
                    what: "the last token does not end",
                });
            }
            let byte = window.get(bytes.len() as u64, 1).map_err(|e| failed("kallsyms_token_table", e))?;
            bytes.extend_from_slice(byte);
        }
        // No token is longer than a name; the bound also keeps a damaged table from being scanned for every byte.
        let end = |start: usize| bytes.iter().skip(start).take(MAX_NAME).take_while(|&&b| b != 0).count() + start;
        let ranges: Vec<_> = starts.map(|start| start..end(start)).collect();
        let mut briefs = [(0, 0, 0); TOKENS];
        for (brief, range) in briefs.iter_mut().zip(&ranges) {
            let token = bytes.get(range.clone()).unwrap_or_default();
            if let (Some(first), Some(last), Ok(len)) = (token.first(), token.last(), u16::try_from(token.len())) {
                *brief = (len, *first, *last);
            }
        }
        Ok(Self { table: bytes, ranges, briefs })
    }

    fn token(&self, byte: u8) -> &[u8] {
        self.ranges.get(usize::from(byte)).and_then(|range| self.table.get(range.clone())).unwrap_or_default()
    }

    /// The first character of a name: its type letter.
    fn first(&self, compressed: &[u8]) -> Option<u8> {
        compressed.iter().map(|byte| self.briefs[usize::from(*byte)].1).find(|first| *first != 0)
    }

    /// The last character of a name; 0 where there is none.
    fn last(&self, compressed: &[u8]) -> u8 {
        compressed.iter().rev().map(|byte| self.briefs[usize::from(*byte)].2).find(|last| *last != 0).unwrap_or(0)
    }

    /// Bytes of a name, its type letter included.
    fn len(&self, compressed: &[u8]) -> usize {
        compressed.iter().map(|byte| usize::from(self.briefs[usize::from(*byte)].0)).sum()
    }

    /// Expands a name, its type letter included, into `out`.
    fn expand(&self, compressed: &[u8], out: &mut Vec<u8>) {
        out.clear();
        compressed.iter().for_each(|byte| out.extend_from_slice(self.token(*byte)));
    }
}

fn damaged_names(what: &'static str) -> KallsymsError {
    KallsymsError::Damaged { table: "kallsyms_names", what }
}

fn failed(table: &'static str, error: WindowError) -> KallsymsError {
    match error {
        WindowError::Outside { .. } => KallsymsError::Damaged { table, what: "it does not end" },
        WindowError::Read(cause) => KallsymsError::Read { table, cause },
    }
}

fn number(mem: &dyn ReadVirt, vaddr: u64, size: usize, table: &'static str) -> Result<u64, KallsymsError> {
    mem.number(vaddr, size).map_err(|cause| KallsymsError::Read { table, cause })
}

fn read<const N: usize>(mem: &dyn ReadVirt, vaddr: u64, table: &'static str) -> Result<[u8; N], KallsymsError> {
    let mut bytes = [0; N];
    mem.read_virt(vaddr, &mut bytes).map_err(|cause| KallsymsError::Read { table, cause })?;
    Ok(bytes)
}

#[cfg(test)]
mod tests;
