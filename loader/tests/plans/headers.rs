//! Reads ELF core headers back, by the offsets of the ELF specification. Shares no code with the loader.

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Header {
    pub kind: u32,
    pub flags: u32,
    pub offset: u64,
    pub vaddr: u64,
    pub paddr: u64,
    pub filesz: u64,
    pub memsz: u64,
}

impl Header {
    pub fn is_load(&self) -> bool {
        self.kind == 1
    }
}

pub fn parse(bytes: &[u8]) -> Vec<Header> {
    let number = |at: usize, len: usize| {
        let mut word = [0; 8];
        word[..len].copy_from_slice(&bytes[at..at + len]);
        u64::from_le_bytes(word)
    };
    assert_eq!(&bytes[..4], b"\x7fELF");
    assert_eq!((bytes[5], bytes[6]), (1, 1), "little endian, version 1");
    assert_eq!((number(16, 2), number(18, 2), number(20, 4)), (4, 62, 1), "a core for x86_64");
    let wide = match bytes[4] {
        2 => true,
        1 => false,
        class => panic!("class {class}"),
    };
    let (start, entry, count) = if wide {
        (number(32, 8), number(54, 2), number(56, 2))
    } else {
        (number(28, 4), number(42, 2), number(44, 2))
    };
    assert_eq!((start, entry), if wide { (64, 56) } else { (52, 32) });
    assert_eq!(bytes.len() as u64, start + entry * count, "no header is missing or left over");
    (0..count)
        .map(|index| {
            let at = (start + index * entry) as usize;
            if wide {
                let word = |slot: usize| number(at + 8 + slot * 8, 8);
                let (kind, flags) = (number(at, 4) as u32, number(at + 4, 4) as u32);
                Header { kind, flags, offset: word(0), vaddr: word(1), paddr: word(2), filesz: word(3), memsz: word(4) }
            } else {
                let word = |slot: usize| number(at + slot * 4, 4);
                let (kind, flags) = (word(0) as u32, word(6) as u32);
                Header { kind, flags, offset: word(1), vaddr: word(2), paddr: word(3), filesz: word(4), memsz: word(5) }
            }
        })
        .collect()
}
