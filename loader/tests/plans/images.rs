//! Kernel images made here, byte by byte: small, but with every field that the formats demand.
//!
//! Shares no code with the loader.

/// A bzImage whose fields the caller may still change.
pub struct BzImage {
    pub version: u16,
    pub xloadflags: u16,
    pub init_size: u32,
    pub alignment: u32,
    pub preferred: u64,
    pub payload: Vec<u8>,
    pub command_line_size: u32,
}

impl Default for BzImage {
    fn default() -> Self {
        Self {
            version: 0x20f,
            // 64-bit, above 4 GiB, EFI kexec, five levels.
            xloadflags: 0b11_0011,
            init_size: 60 << 20,
            alignment: 2 << 20,
            preferred: 16 << 20,
            payload: (0..50_000u32).map(|n| (n * 7) as u8).collect(),
            command_line_size: 2047,
        }
    }
}

impl BzImage {
    pub fn bytes(&self) -> Vec<u8> {
        let mut file = vec![0; 5 * 512];
        let mut put = |at: usize, bytes: &[u8]| file[at..at + bytes.len()].copy_from_slice(bytes);
        put(0x1f1, &[4]);
        put(0x1f4, &((self.payload.len() / 16) as u32).to_le_bytes());
        put(0x1fe, &[0x55, 0xaa, 0xeb, 0x6a]);
        put(0x202, b"HdrS");
        put(0x206, &self.version.to_le_bytes());
        put(0x20e, &0x400u16.to_le_bytes());
        put(0x211, &[0x81]);
        put(0x230, &self.alignment.to_le_bytes());
        put(0x236, &self.xloadflags.to_le_bytes());
        put(0x238, &self.command_line_size.to_le_bytes());
        put(0x258, &self.preferred.to_le_bytes());
        put(0x260, &self.init_size.to_le_bytes());
        put(0x600, b"9.9.9-test (me@here) #1\0");
        file.extend(&self.payload);
        file
    }
}

/// An ELF kernel: text with file bytes at `paddr`, and a bss behind it.
pub fn vmlinux(paddr: u64, text: usize, bss: u64) -> Vec<u8> {
    let mut file = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    file.extend([2, 0, 62, 0, 1, 0, 0, 0]);
    [paddr + 0x40, 64, 0].iter().for_each(|word| file.extend(word.to_le_bytes()));
    file.extend([0, 0, 0, 0, 64, 0, 56, 0, 2, 0, 0, 0, 0, 0, 0, 0]);
    for (offset, address, filesz, memsz) in [(4096, paddr, text as u64, text as u64), (0, paddr + (4 << 20), 0, bss)] {
        file.extend([1, 0, 0, 0, 7, 0, 0, 0]);
        let words = [offset, address + 0xffff_ffff_8000_0000, address, filesz, memsz, 4096];
        words.iter().for_each(|word| file.extend(word.to_le_bytes()));
    }
    file.resize(4096, 0);
    file.extend((0..text).map(|n| (n * 13) as u8));
    file
}

/// An arm64 Image.
pub fn arm64(size: u64, text_offset: u64) -> Vec<u8> {
    let mut file = vec![0; 4096];
    file[8..16].copy_from_slice(&text_offset.to_le_bytes());
    file[16..24].copy_from_slice(&size.to_le_bytes());
    file[24] = 0b1010;
    file[56..60].copy_from_slice(b"ARM\x64");
    file
}
