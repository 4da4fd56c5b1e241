//! Builds BTF as Documentation/bpf/btf.rst describes it, and breaks it.

use super::*;

/// A blob under construction; shares nothing with the reader.
struct Builder {
    types: Vec<u8>,
    strings: Vec<u8>,
    last: u32,
}

impl Builder {
    fn new() -> Self {
        Self { types: Vec::new(), strings: vec![0], last: 0 }
    }

    fn name(&mut self, text: &str) -> u32 {
        if text.is_empty() {
            return 0;
        }
        let at = self.strings.len() as u32;
        self.strings.extend(text.as_bytes());
        self.strings.push(0);
        at
    }

    /// Name, kind (with bit 31 for the flag), number of parts, size or type, and what follows; gives the type's number.
    fn push(&mut self, name: &str, kind: u32, count: u32, size: u32, rest: &[u32]) -> u32 {
        let name = self.name(name);
        for word in [name, (kind & 0x1f) << 24 | kind & 1 << 31 | count, size].iter().chain(rest) {
            self.types.extend(word.to_le_bytes());
        }
        self.last += 1;
        self.last
    }

    /// Members: name, type, bit offset.
    fn structure(&mut self, name: &str, kind: u32, size: u32, members: &[(&str, u32, u32)]) -> u32 {
        let rest: Vec<u32> = members.iter().flat_map(|(name, of, bits)| [self.name(name), *of, *bits]).collect();
        self.push(name, kind, members.len() as u32, size, &rest)
    }

    fn finish(&self) -> Vec<u8> {
        let mut out = vec![0x9f, 0xeb, 1, 0];
        let types = self.types.len() as u32;
        for word in [24, 0, types, types, self.strings.len() as u32] {
            out.extend(word.to_le_bytes());
        }
        [out, self.types.clone(), self.strings.clone()].concat()
    }
}

const FLAG: u32 = 1 << 31;
const STRUCT: u32 = 4;
const UNION: u32 = 5;
const TYPEDEF: u32 = 8;

fn kernel() -> Vec<u8> {
    let mut btf = Builder::new();
    let long = btf.push("long", 1, 0, 8, &[64]);
    let array = btf.push("", 3, 0, 0, &[long, long, 11]);
    let constant = btf.push("", 10, 0, array, &[]);
    let inner = btf.structure("", STRUCT, 16, &[("lru", long, 0), ("private", long, 64)]);
    let either = btf.structure("", UNION, 16, &[("", inner, 0), ("compound_head", long, 0)]);
    btf.structure("page", STRUCT | FLAG, 64, &[("flags", long, 0), ("low", long, 3 << 24 | 70), ("", either, 128)]);
    btf.structure("zone", STRUCT, 512, &[("free_area", constant, 64 * 8), ("vm_stat", long, 8)]);
    let anonymous = btf.structure("", STRUCT, 8, &[("counter", long, 0)]);
    let middle = btf.push("atomic64_t", TYPEDEF, 0, anonymous, &[]);
    btf.push("atomic_long_t", TYPEDEF, 0, middle, &[]);
    let lru = btf.name("PG_lru");
    let head = btf.name("PG_head");
    btf.push("pageflags", 6, 2, 4, &[lru, 5, head, 6]);
    let below = btf.name("PGTY_buddy");
    btf.push("pagetype", 6 | FLAG, 1, 4, &[below, (-3i32).cast_unsigned()]);
    let wide = btf.name("NR_FREE_PAGES");
    btf.push("zone_stat_item", 19, 1, 8, &[wide, 7, 1]);
    btf.push("node_data", 14, 0, array, &[1]);
    // Kinds that say nothing here, each with what follows it.
    btf.push("f", 12, 0, 1, &[]);
    btf.push("", 13, 1, long, &[0, long]);
    btf.push(".data", 15, 1, 8, &[1, 0, 8]);
    btf.push("double", 16, 0, 8, &[]);
    btf.push("tag", 17, 0, long, &[u32::MAX]);
    btf.push("list_head", 7, 0, 0, &[]);
    btf.structure("list_head", STRUCT, 16, &[("next", long, 0), ("prev", long, 64)]);
    btf.finish()
}

fn types(bytes: &[u8]) -> Result<Types, BtfError> {
    Btf::parse(bytes).and_then(|btf| btf.types(&Wanted::kernel()))
}

#[test]
fn every_kind_is_read_or_passed_over() {
    let types = types(&kernel()).unwrap();
    assert_eq!(types.size("page"), Some(64));
    let offsets = ["flags", "low", "lru", "private", "compound_head"].map(|name| types.offset("page", name));
    assert_eq!(offsets, [Some(0), None, Some(16), Some(24), Some(16)]);
    assert_eq!(types.member("page", "low").unwrap().bit_offset, 70);
    assert_eq!(types.member("zone", "free_area").unwrap(), Member { bit_offset: 512, elements: Some(11) });
    assert_eq!(types.member("zone", "vm_stat").unwrap().elements, None);
    assert_eq!((types.size("atomic_long_t"), types.offset("atomic_long_t", "counter")), (Some(8), Some(0)));
    assert_eq!(types.enumerator("pageflags", "PG_head"), Some(6));
    assert_eq!(types.enumerator("pagetype", "PGTY_buddy"), Some(-3));
    assert_eq!(types.enumerator("zone_stat_item", "NR_FREE_PAGES"), Some(1 << 32 | 7));
    assert_eq!(types.array("node_data"), Some(11));
    // What is behind them all, and not what only says that there is one.
    assert_eq!((types.size("list_head"), types.offset("list_head", "prev")), (Some(16), Some(8)));
}

#[test]
fn what_is_no_btf_says_why() {
    let good = kernel();
    assert_eq!(types(b"").unwrap_err(), BtfError::NoBtf);
    assert_eq!(types(&[0xeb, 0x9f, 1, 0]).unwrap_err(), BtfError::BigEndian);
    for len in 2..good.len() {
        assert!(matches!(types(&good[..len]), Err(BtfError::Outside(..))), "{len} bytes");
    }
    let mut unknown = Builder::new();
    unknown.push("", 31, 0, 0, &[]);
    assert_eq!(types(&unknown.finish()).unwrap_err(), BtfError::UnknownKind(1, 31));
    for word in 1..6 {
        let mut outside = good.clone();
        outside[word * 4..word * 4 + 4].copy_from_slice(&u32::MAX.to_le_bytes());
        assert!(types(&outside).is_err(), "word {word}");
    }
}

#[test]
fn types_that_lead_in_circles_end() {
    let mut btf = Builder::new();
    // A typedef of itself, a structure with itself inside, an array of itself, and types that are not there.
    btf.push("atomic_long_t", TYPEDEF, 0, 1, &[]);
    btf.structure("page", STRUCT, 64, &[("", 3, 8), ("", 3, 16), ("lru", 4, 0)]);
    btf.structure("", STRUCT, 64, &[("", 3, 8), ("", 3, 16), ("flags", u32::MAX, u32::MAX)]);
    btf.push("", 3, 0, 0, &[4, 4, 9]);
    btf.push("node_data", 14, 0, 5, &[1]);
    assert_eq!(types(&btf.finish()).unwrap_err(), BtfError::Endless);
}

#[test]
fn the_same_members_over_and_over_are_refused() {
    let mut btf = Builder::new();
    let members: Vec<_> = (0..60_000).map(|_| ("", 0, 0)).collect();
    let large = btf.structure("", STRUCT, 64, &members);
    btf.structure("page", STRUCT, 64, &vec![("", large, 0); 100]);
    assert_eq!(types(&btf.finish()).unwrap_err(), BtfError::Endless);
}

#[test]
fn a_name_without_end_is_none() {
    let mut btf = Builder::new();
    btf.structure("page", STRUCT, 64, &[]);
    btf.strings.pop();
    btf.strings.extend(vec![b'x'; 1 << 20]);
    btf.strings.push(0);
    let types = types(&btf.finish()).unwrap();
    assert_eq!(types.size("page"), None);
}

#[test]
fn damaged_bytes_never_panic() {
    let good = kernel();
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut next = |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    };
    let mut read = 0;
    for _ in 0..20_000 {
        let mut bytes = good.clone();
        for _ in 0..=next(6) {
            let at = next(bytes.len());
            bytes[at] = [0, 0xff, 0x80, next(256) as u8][next(4)];
        }
        read += usize::from(types(&bytes).is_ok());
    }
    assert!(read > 100, "most of them are no BTF at all: {read}");
}
