//! x86's boot parameters ("zero page"), the command line behind them, and the chain of setup data.
//!
//! Knows offsets in `struct boot_params` (Documentation/arch/x86/zero-page.rst and boot.rst). Must not choose addresses.
//! One segment of the plan: the kernel's own loader builds it the same way.

use super::e820::{ENTRY, Entry, IN_PARAMS};
use crate::{
    host::{Host, firmware::Efi, iomem::Kind},
    image::{bzimage, le},
    range::Range,
};

/// Bytes of `struct boot_params`.
const PARAMS: usize = 4096;
/// Bytes of a setup data node's head: the next node, a type, a length.
const NODE: usize = 16;
/// Bytes of a descriptor in EFI's memory map, as the kernel keeps it.
const EFI_DESCRIPTOR: usize = 40;
/// Bytes of what `SETUP_EFI` holds: twelve addresses.
const EFI_DATA: usize = 96;
/// "Unknown, without an ID of its own", as every kexec loader says.
const LOADER_TYPE: u8 = 0xd0;

const SETUP_E820_EXT: u32 = 1;
const SETUP_EFI: u32 = 4;
const SETUP_RNG_SEED: u32 = 9;

mod at {
    //! Offsets in `struct boot_params`.
    pub(super) const EXT_MEM_K: usize = 0x02;
    pub(super) const SCREEN_INFO: std::ops::Range<usize> = 0x00..0x40;
    pub(super) const ACPI_RSDP: usize = 0x70;
    pub(super) const EXT_RAMDISK_IMAGE: usize = 0xc0;
    pub(super) const EXT_RAMDISK_SIZE: usize = 0xc4;
    pub(super) const EXT_CMD_LINE: usize = 0xc8;
    pub(super) const EFI_INFO: usize = 0x1c0;
    pub(super) const ALT_MEM_K: usize = 0x1e0;
    pub(super) const E820_ENTRIES: usize = 0x1e8;
    pub(super) const EDD_ENTRIES: std::ops::Range<usize> = 0x1e9..0x1eb;
    pub(super) const SECURE_BOOT: usize = 0x1ec;
    pub(super) const TYPE_OF_LOADER: usize = 0x210;
    pub(super) const LOAD_FLAGS: usize = 0x211;
    pub(super) const RAMDISK_IMAGE: usize = 0x218;
    pub(super) const RAMDISK_SIZE: usize = 0x21c;
    pub(super) const CMD_LINE: usize = 0x228;
    pub(super) const SUBARCH: std::ops::Range<usize> = 0x23c..0x240;
    pub(super) const SETUP_DATA: usize = 0x250;
    pub(super) const EDD_SIGNATURES: std::ops::Range<usize> = 0x290..0x2d0;
    pub(super) const E820_TABLE: usize = 0x2d0;
    pub(super) const EDD_BUFFER: std::ops::Range<usize> = 0xd00..0xeec;
}

/// Everything that goes into the segment.
#[derive(Debug)]
pub struct Params<'a> {
    /// The image's setup header; `None` for an ELF kernel, which has none.
    pub header: Option<&'a [u8]>,
    /// The whole command line.
    pub command_line: &'a str,
    /// Bytes kept for it, the NUL included.
    pub command_line_room: usize,
    /// Where the initrd is: its true length, not rounded.
    pub initrd: Option<Range>,
    /// The memory map.
    pub e820: &'a [Entry],
    /// EFI's tables, if the kernel shall go on with them.
    pub efi: Option<&'a Efi>,
    /// Whether the running kernel's firmware facts are passed on.
    pub host: &'a Host,
    /// A seed for the kernel's random numbers.
    pub seed: Option<[u8; 32]>,
}

/// Whether the running kernel's EFI facts can be passed on: its own boot parameters must have them.
#[must_use]
pub fn efi_can_go_on(host: &Host) -> bool {
    let info = |offset| host.boot_params.as_ref().and_then(|params| le::u32(params, at::EFI_INFO + offset));
    host.efi.is_some() && info(12) == Some(1) && info(20).is_some_and(|size| size != 0)
}

/// Bytes that the segment needs at most, with `entries` in the memory map.
#[must_use]
pub fn room(command_line_room: usize, entries: usize, efi: Option<&Efi>) -> u64 {
    let extension = NODE + entries.saturating_sub(IN_PARAMS) * ENTRY;
    let efi = efi.map_or(0, |efi| efi.map.len() * EFI_DESCRIPTOR + NODE + EFI_DATA);
    // Each of five parts begins at a multiple of 16.
    (PARAMS + command_line_room + extension + efi + NODE + 32 + 5 * 16) as u64
}

impl Params<'_> {
    /// The segment's bytes, for its address `base`.
    #[must_use]
    pub fn bytes(&self, base: u64) -> Vec<u8> {
        let mut segment = Builder { bytes: vec![0; PARAMS], base, last_node: at::SETUP_DATA };
        segment.header(self.header);
        segment.put_command_line(self.command_line, self.command_line_room);
        if let Some(initrd) = self.initrd {
            segment.put_split(at::RAMDISK_IMAGE, at::EXT_RAMDISK_IMAGE, initrd.start);
            segment.put_split(at::RAMDISK_SIZE, at::EXT_RAMDISK_SIZE, initrd.len());
        }
        if let Some(running) = &self.host.boot_params {
            segment.inherit(running);
        }
        let told = le::u64(&segment.bytes, at::ACPI_RSDP).is_some_and(|root| root != 0);
        if let Some(root) = self.host.acpi_root.filter(|_| !told) {
            segment.put(at::ACPI_RSDP, &root.to_le_bytes());
        }
        segment.map(self.e820);
        if let Some(efi) = self.efi {
            segment.efi(efi, self.host.boot_params.as_deref().unwrap_or(&[]));
        }
        if let Some(seed) = self.seed {
            segment.node(SETUP_RNG_SEED, &seed);
        }
        segment.bytes
    }
}

struct Builder {
    bytes: Vec<u8>,
    base: u64,
    /// Where the next node's address goes.
    last_node: usize,
}

impl Builder {
    fn put(&mut self, at: usize, bytes: &[u8]) {
        self.bytes[at..at + bytes.len()].copy_from_slice(bytes);
    }

    /// A 64-bit number in two fields.
    fn put_split(&mut self, low: usize, high: usize, value: u64) {
        self.put(low, &(value as u32).to_le_bytes());
        self.put(high, &((value >> 32) as u32).to_le_bytes());
    }

    /// Appends at the next multiple of 16; gives the offset.
    fn append(&mut self, bytes: &[u8]) -> usize {
        let at = self.bytes.len().next_multiple_of(16);
        self.bytes.resize(at, 0);
        self.bytes.extend_from_slice(bytes);
        at
    }

    fn header(&mut self, header: Option<&[u8]>) {
        match header {
            Some(header) => self.put(bzimage::HEADER, header),
            None => {
                // What the kernel asks of a header when no decompressor ran: the signs of a boot loader that knows it.
                self.put(0x1fe, &0xaa55u16.to_le_bytes());
                self.put(0x202, b"HdrS");
                self.put(0x206, &0x020fu16.to_le_bytes());
                self.put(at::LOAD_FLAGS, &[1]);
            }
        }
        self.put(at::TYPE_OF_LOADER, &[LOADER_TYPE]);
        // "Loaded high" is all that is true of a kernel that no boot loader touched.
        let flags = self.bytes[at::LOAD_FLAGS] & 1;
        self.put(at::LOAD_FLAGS, &[flags]);
        self.put(at::SETUP_DATA, &[0; 8]);
    }

    fn put_command_line(&mut self, line: &str, room: usize) {
        let mut buffer = line.as_bytes().to_vec();
        buffer.resize(room.max(line.len() + 1), 0);
        let at = self.append(&buffer);
        self.put_split(at::CMD_LINE, at::EXT_CMD_LINE, self.base + at as u64);
    }

    /// What the running kernel was told of the hardware, where its parameters are at hand.
    fn inherit(&mut self, running: &[u8]) {
        let acpi = at::ACPI_RSDP..at::ACPI_RSDP + 8;
        let secure = at::SECURE_BOOT..at::SECURE_BOOT + 1;
        for part in [at::SCREEN_INFO, acpi, secure, at::SUBARCH, at::EDD_ENTRIES, at::EDD_SIGNATURES, at::EDD_BUFFER] {
            if let Some(bytes) = running.get(part.clone()) {
                self.put(part.start, bytes);
            }
        }
        self.put(at::EXT_MEM_K, &[0; 2]);
        // The old command line's magic and place lie in the screen's information.
        self.put(0x20, &[0; 4]);
    }

    fn map(&mut self, entries: &[Entry]) {
        let (first, rest) = entries.split_at(entries.len().min(IN_PARAMS));
        self.put(at::E820_ENTRIES, &[first.len() as u8]);
        for (index, entry) in first.iter().enumerate() {
            self.put(at::E820_TABLE + index * ENTRY, &entry.bytes());
        }
        if !rest.is_empty() {
            let bytes: Vec<u8> = rest.iter().flat_map(Entry::bytes).collect();
            self.node(SETUP_E820_EXT, &bytes);
        }
        let spans =
            |entry: &&Entry| entry.kind == Kind::Ram && (entry.range.start..entry.range.end).contains(&0x10_0000);
        if let Some(entry) = entries.iter().find(spans) {
            let kib = (entry.range.end - 0x10_0000) >> 10;
            self.put(at::EXT_MEM_K, &(kib.min(0xfc00) as u16).to_le_bytes());
            self.put(at::ALT_MEM_K, &(kib.min(u32::MAX.into()) as u32).to_le_bytes());
        }
    }

    /// The runtime map and the tables' addresses, so that the next kernel does not enter EFI's virtual mode again.
    fn efi(&mut self, efi: &Efi, running: &[u8]) {
        let mut map = Vec::with_capacity(efi.map.len() * EFI_DESCRIPTOR);
        for entry in &efi.map {
            map.extend(u64::from(entry.kind).to_le_bytes());
            for word in [entry.physical, entry.virtual_address, entry.pages, entry.attribute] {
                map.extend(word.to_le_bytes());
            }
        }
        let at = self.append(&map);
        let address = self.base + at as u64;
        if let Some(info) = running.get(at::EFI_INFO..at::EFI_INFO + 32) {
            self.put(at::EFI_INFO, info);
        }
        self.put(at::EFI_INFO + 8, &(EFI_DESCRIPTOR as u32).to_le_bytes());
        self.put_split(at::EFI_INFO + 16, at::EFI_INFO + 28, address);
        self.put(at::EFI_INFO + 20, &(map.len() as u32).to_le_bytes());
        let mut data = [0; EFI_DATA];
        for (index, word) in [efi.vendor, efi.runtime, efi.tables, efi.smbios].into_iter().enumerate() {
            data[index * 8..index * 8 + 8].copy_from_slice(&word.to_le_bytes());
        }
        self.node(SETUP_EFI, &data);
    }

    /// Adds a node at the end of the chain.
    fn node(&mut self, kind: u32, data: &[u8]) {
        let mut node = vec![0; 8];
        node.extend(kind.to_le_bytes());
        node.extend((data.len() as u32).to_le_bytes());
        node.extend_from_slice(data);
        let at = self.append(&node);
        let address = self.base + at as u64;
        self.put(self.last_node, &address.to_le_bytes());
        self.last_node = at;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::firmware::EfiEntry;

    fn word(bytes: &[u8], at: usize) -> u64 {
        le::u64(bytes, at).unwrap()
    }

    fn host() -> Host {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(folder.path().join("proc")).unwrap();
        std::fs::write(folder.path().join("proc/iomem"), "00100000-3fffffff : System RAM\n").unwrap();
        let mut running = vec![0u8; 4096];
        running[at::EFI_INFO + 12] = 1;
        running[at::EFI_INFO + 20] = 48;
        running[at::SECURE_BOOT] = 3;
        let entry = EfiEntry { kind: 5, physical: 0x1000, virtual_address: 0x2000, pages: 1, attribute: 15 };
        let efi = Efi { vendor: 1, runtime: 2, tables: 3, smbios: 4, map: vec![entry; 3] };
        Host {
            boot_params: Some(running),
            efi: Some(efi),
            acpi_root: Some(0xabc),
            ..Host::read(folder.path()).unwrap()
        }
    }

    #[test]
    fn the_chain_leads_to_every_node() {
        let host = host();
        let e820: Vec<Entry> =
            (0..130u64).map(|n| Entry { range: Range::with_len(n << 20, 1 << 19), kind: Kind::Ram }).collect();
        let params = Params {
            header: Some(&[0xff; 0x70]),
            command_line: "quiet",
            command_line_room: 2048,
            initrd: Some(Range::new(0x1_2345_6000, 0x1_2345_6789)),
            e820: &e820,
            efi: host.efi.as_ref(),
            host: &host,
            seed: Some([7; 32]),
        };
        let base = 0x2_0000_0000;
        let bytes = params.bytes(base);
        assert!(bytes.len() as u64 <= room(2048, e820.len(), host.efi.as_ref()));
        assert_eq!(bytes[at::E820_ENTRIES], 128);
        assert_eq!(bytes[at::TYPE_OF_LOADER], LOADER_TYPE);
        assert_eq!((word(&bytes, at::ACPI_RSDP), bytes[at::SECURE_BOOT]), (0xabc, 3));
        let line = le::u32(&bytes, at::CMD_LINE).unwrap() as usize;
        assert_eq!((&bytes[line..line + 6], le::u32(&bytes, at::EXT_CMD_LINE)), (b"quiet\0".as_slice(), Some(2)));
        assert_eq!(le::u32(&bytes, at::EXT_RAMDISK_IMAGE), Some(1));
        let mut kinds = Vec::new();
        let mut next = word(&bytes, at::SETUP_DATA);
        while next != 0 {
            let at = (next - base) as usize;
            assert_eq!(at % 16, 0);
            kinds.push((le::u32(&bytes, at + 8).unwrap(), le::u32(&bytes, at + 12).unwrap()));
            next = word(&bytes, at);
        }
        assert_eq!(kinds, [(SETUP_E820_EXT, 40), (SETUP_EFI, 96), (SETUP_RNG_SEED, 32)]);
        assert_eq!(le::u32(&bytes, at::EFI_INFO + 20), Some(120));
    }
}
