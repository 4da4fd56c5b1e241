//! Builds symbol tables as `scripts/kallsyms` writes them, in every arrangement, and reads them back.

use super::*;
use crate::{
    arch::Words,
    kernel::{asked, symbols_of_btf},
};

/// Segments of memory; everything else is unreadable.
#[derive(Default, Clone)]
struct Fake(Vec<(u64, Vec<u8>)>);

impl ReadVirt for Fake {
    fn words(&self) -> Words {
        Words::LE64
    }

    fn read_virt(&self, vaddr: u64, buf: &mut [u8]) -> Result<(), ReadVirtError> {
        for (base, bytes) in &self.0 {
            if let Some(at) = vaddr.checked_sub(*base)
                && let Some(end) = at.checked_add(buf.len() as u64)
                && end <= bytes.len() as u64
            {
                buf.copy_from_slice(&bytes[at as usize..end as usize]);
                return Ok(());
            }
        }
        Err(ReadVirtError::Unreadable { vaddr, cause: "a hole".into() })
    }
}

const NUM: u64 = 0xffff_ffff_8200_0000;
const BASE: u64 = NUM + 0x100;
const INDEX: u64 = NUM + 0x1000;
const TABLE: u64 = NUM + 0x2000;
const ADDRESSES: u64 = NUM + 0x10_0000;
const NAMES: u64 = NUM + 0x40_0000;
const STEXT: u64 = 0xffff_ffff_8100_0000;

/// What the tokens 0x80 and up stand for; all others stand for themselves.
const PAIRS: [&str; 4] = ["_st", "ext", "T_", "per_cpu"];

fn compress(symbol: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = symbol;
    while let Some(first) = rest.bytes().next() {
        let token = PAIRS.iter().position(|pair| rest.starts_with(pair));
        let (byte, len) = token.map_or((first, 1), |i| (0x80 + i as u8, PAIRS[i].len()));
        out.push(byte);
        rest = &rest[len..];
    }
    out
}

fn tokens() -> (Vec<u8>, Vec<u8>) {
    let (mut index, mut table) = (Vec::new(), Vec::new());
    for byte in 0..=255u8 {
        index.extend((table.len() as u16).to_le_bytes());
        match byte {
            0x20..=0x7e => table.push(byte),
            0x80..=0x83 => table.extend(PAIRS[usize::from(byte) - 0x80].bytes()),
            _ => {}
        }
        table.push(0);
    }
    (index, table)
}

/// `symbols`: type letter and name, address. `big`: lengths of v6.1 and later.
fn image(symbols: &[(String, u64)], arrangement: Addresses, big: bool) -> (VmcoreInfo, Fake) {
    let mut names = Vec::new();
    let mut addresses = Vec::new();
    let base = STEXT;
    for (i, (name, address)) in symbols.iter().enumerate() {
        let compressed = compress(name);
        if big && compressed.len() > 127 {
            names.extend([compressed.len() as u8 & 0x7f | 0x80, (compressed.len() >> 7) as u8]);
        } else {
            names.push(u8::try_from(compressed.len()).unwrap());
        }
        names.extend(compressed);
        let place = ADDRESSES + 4 * i as u64;
        let offset = match arrangement {
            Addresses::Absolute => {
                addresses.extend(address.to_le_bytes());
                continue;
            }
            Addresses::Relative => address - base,
            Addresses::AbsolutePercpu if *address < 0x10_0000 => *address,
            Addresses::AbsolutePercpu => base.wrapping_sub(1).wrapping_sub(*address),
            Addresses::PlaceRelative => address.wrapping_sub(place),
        };
        addresses.extend((offset as u32).to_le_bytes());
    }
    let (index, table) = tokens();
    let mem = Fake(vec![
        (NUM, (symbols.len() as u32).to_le_bytes().to_vec()),
        (BASE, base.to_le_bytes().to_vec()),
        (INDEX, index),
        (TABLE, table),
        (ADDRESSES, addresses),
        (NAMES, names),
    ]);
    let mut keys = format!(
        "SYMBOL(_stext)={STEXT:x}\nSYMBOL(kallsyms_names)={NAMES:x}\nSYMBOL(kallsyms_num_syms)={NUM:x}\n\
         SYMBOL(kallsyms_token_table)={TABLE:x}\nSYMBOL(kallsyms_token_index)={INDEX:x}\n"
    );
    let table = if arrangement == Addresses::Absolute { "addresses" } else { "offsets" };
    keys.push_str(&format!("SYMBOL(kallsyms_{table})={ADDRESSES:x}\n"));
    if matches!(arrangement, Addresses::Relative | Addresses::AbsolutePercpu) {
        keys.push_str(&format!("SYMBOL(kallsyms_relative_base)={BASE:x}\n"));
    }
    (VmcoreInfo::parse(keys.as_bytes()), mem)
}

fn symbols(percpu: bool) -> Vec<(String, u64)> {
    let mut all = Vec::new();
    if percpu {
        all.push(("D__per_cpu_start".into(), 0));
        all.push(("Drunqueues".into(), 0x2_1000));
    }
    all.push(("T_stext".into(), STEXT));
    all.push(("T_text".into(), STEXT));
    all.extend((0..3000).map(|i| (format!("tfunction_{i}_ext"), STEXT + 16 * i)));
    all.push(("btwice".into(), STEXT + 0x10_0000));
    all.push(("btwice".into(), STEXT + 0x20_0000));
    all.push(("B_end".into(), STEXT + 0x100_0000));
    all
}

const ARRANGEMENTS: [Addresses; 4] =
    [Addresses::Absolute, Addresses::Relative, Addresses::AbsolutePercpu, Addresses::PlaceRelative];

#[test]
fn every_arrangement_is_recognised() {
    for arrangement in ARRANGEMENTS {
        for big in [true, false] {
            let percpu = matches!(arrangement, Addresses::Absolute | Addresses::AbsolutePercpu);
            let mut all = symbols(percpu);
            // 130 and 200 tokens: in the length byte of before v6.1 the same as a first byte of two.
            all.push((format!("t{}", "q".repeat(129)), STEXT + 1));
            all.push((format!("t{}", "z".repeat(199)), STEXT + 2));
            all.push(("Tlast".into(), STEXT + 3));
            let (info, mem) = image(&all, arrangement, big);
            let kallsyms = Kallsyms::load(&info, &mem).unwrap();
            assert_eq!(kallsyms.addresses, arrangement);
            assert_eq!(kallsyms.lengths, if big { Lengths::Big } else { Lengths::Byte });
            assert_eq!(kallsyms.count as usize, all.len());
            let long = "z".repeat(199);
            let wanted =
                ["_end", "_stext", "nowhere", "function_2999_ext", "twice", "last", &long, "_end", "T_stext", ""];
            let at = |offset| Some(STEXT + offset);
            let found = Kallsyms::find(&info, &mem, &wanted).unwrap();
            let want =
                [at(0x100_0000), at(0), None, at(16 * 2999), at(0x10_0000), at(3), at(2), at(0x100_0000), None, None];
            assert_eq!(found, want, "{arrangement:?} big {big}");
            let cpu = Kallsyms::find(&info, &mem, &["__per_cpu_start", "runqueues"]).unwrap();
            assert_eq!(cpu, if percpu { [Some(0), Some(0x2_1000)] } else { [None, None] });
        }
    }
}

#[test]
fn names_across_pieces_are_whole() {
    let name = |i: u64| format!("{i}_{}", "q".repeat(195));
    for big in [true, false] {
        // So that pieces of 64 KiB end before, between and behind the bytes of a length, and everywhere in a name.
        for shift in 1..210 {
            let mut all = vec![(format!("t{}", "a".repeat(shift)), STEXT + 1), ("T_stext".into(), STEXT)];
            all.extend((0..700).map(|i| (format!("t{}", name(i)), STEXT + 16 * i)));
            let (info, mem) = image(&all, Addresses::Relative, big);
            let names: Vec<_> = (0..700).map(name).collect();
            let found = Kallsyms::find(&info, &mem, &names.iter().map(String::as_str).collect::<Vec<_>>()).unwrap();
            assert!(found.into_iter().eq((0..700).map(|i| Some(STEXT + 16 * i))), "big {big}, {shift} before");
        }
    }
}

#[test]
fn one_unreadable_address_leaves_the_types() {
    let mut all = symbols(false);
    all.push(("T__start_BTF".into(), STEXT + 0x1000));
    all.push(("T__stop_BTF".into(), STEXT + 0x2000));
    all.push(("T_etext".into(), STEXT + 0x3000));
    let (info, mut mem) = image(&all, Addresses::Relative, true);
    assert_eq!(asked::symbols(&info, &mem).unwrap().get("_etext"), Some(STEXT + 0x3000));
    let (_, addresses) = mem.0.iter_mut().find(|(at, _)| *at == ADDRESSES).unwrap();
    addresses.truncate(addresses.len() - 4);
    assert!(matches!(asked::symbols(&info, &mem), Err(KallsymsError::Read { .. })));
    let found = symbols_of_btf(&info, &mem).unwrap();
    assert_eq!(found.pair(("__start_BTF", "__stop_BTF")), Some((STEXT + 0x1000, STEXT + 0x2000)));
}

#[test]
fn names_up_to_the_kernels_limit() {
    let mut all = symbols(false);
    all.push((format!("t{}", "q".repeat(512)), STEXT + 1));
    all.push((format!("t{}", "q".repeat(5000)), STEXT + 2));
    all.push(("Tlast".into(), STEXT + 3));
    let (info, mem) = image(&all, Addresses::Relative, true);
    let found = Kallsyms::find(&info, &mem, &[&"q".repeat(512), &"q".repeat(5000), "last"]).unwrap();
    assert_eq!(found, [Some(STEXT + 1), None, Some(STEXT + 3)]);
}

#[test]
fn what_does_not_verify_is_not_used() {
    for arrangement in ARRANGEMENTS {
        let mut all = symbols(false);
        all[0].1 += 8;
        let (info, mem) = image(&all, arrangement, true);
        assert!(matches!(Kallsyms::load(&info, &mem), Err(KallsymsError::Unverified { expected: STEXT })));
        let (info, mem) = image(&symbols(false)[1..], arrangement, true);
        assert!(matches!(Kallsyms::load(&info, &mem), Err(KallsymsError::Unverified { .. })), "no _stext at all");
    }
}

#[test]
fn missing_tables_are_named() {
    let (info, mem) = image(&symbols(false), Addresses::Relative, true);
    let error = Kallsyms::load(&VmcoreInfo::parse(b"SYMBOL(_stext)=ffffffff81000000\n"), &mem).err().unwrap();
    assert!(error.to_string().contains("SYMBOL(kallsyms_names)"), "{error}");
    for hole in 0..mem.0.len() {
        let mut mem = mem.clone();
        mem.0.remove(hole);
        assert!(matches!(Kallsyms::load(&info, &mem), Err(KallsymsError::Read { .. })), "segment {hole}");
    }
}

#[test]
fn hostile_tables_are_refused() {
    let (info, mem) = image(&symbols(false), Addresses::Relative, true);
    let with = |segment: usize, bytes: Vec<u8>| {
        let mut mem = mem.clone();
        mem.0[segment].1 = bytes;
        Kallsyms::load(&info, &mem).err().unwrap()
    };
    for count in [0, (4 << 20) + 1, u32::MAX] {
        assert!(matches!(with(0, count.to_le_bytes().to_vec()), KallsymsError::Damaged { .. }));
    }
    let endless = with(3, vec![b'a'; 1 << 18]);
    assert!(endless.to_string().contains("does not end"), "{endless}");
    // Lengths that run out of memory, that take three bytes, and names without a letter.
    assert!(matches!(with(5, vec![0xff, 0x7f]), KallsymsError::Read { .. }));
    assert!(matches!(with(5, vec![0xff; 1 << 16]), KallsymsError::Damaged { .. }));
    assert!(matches!(with(5, vec![0; 1 << 20]), KallsymsError::Damaged { .. }));
}

#[test]
fn a_table_without_end_is_bounded() {
    /// Names of 2^14 - 1 tokens for ever: more than any bound on their bytes.
    struct Endless(Fake);
    impl ReadVirt for Endless {
        fn words(&self) -> Words {
            Words::LE64
        }

        fn read_virt(&self, vaddr: u64, buf: &mut [u8]) -> Result<(), ReadVirtError> {
            if vaddr < NAMES {
                return self.0.read_virt(vaddr, buf);
            }
            // Each name is two bytes of length and 2^14 - 1 tokens.
            buf.fill(b'T');
            let (into, len) = ((vaddr - NAMES) % ((1 << 14) + 1), buf.len() as u64);
            for start in (0..).map(|name| name * ((1 << 14) + 1)).take_while(|&at| at < into + len) {
                for (at, byte) in [(start, 0xff), (start + 1, 0x7f)] {
                    if let Some(slot) = at.checked_sub(into).and_then(|at| buf.get_mut(at as usize)) {
                        *slot = byte;
                    }
                }
            }
            Ok(())
        }
    }
    let (info, mut mem) = image(&symbols(false), Addresses::Relative, true);
    mem.0[0].1 = (4u32 << 20).to_le_bytes().to_vec();
    let error = Kallsyms::load(&info, &Endless(mem)).err().unwrap();
    assert!(error.to_string().contains("kallsyms_names is damaged: it does not end"), "{error}");
}

#[test]
fn random_damage_never_panics() {
    let (info, mem) = image(&symbols(false)[..40], Addresses::Relative, true);
    let mut rng = fastrand::Rng::with_seed(1);
    for _ in 0..3000 {
        let mut mem = mem.clone();
        for _ in 0..rng.usize(1..=4) {
            let segment = rng.usize(..mem.0.len());
            let bytes = &mut mem.0[segment].1;
            let at = rng.usize(..bytes.len());
            bytes[at] = rng.u8(..);
        }
        let _ = Kallsyms::find(&info, &mem, &["_text", "function_7_ext"]);
    }
}
